import { readFile } from 'node:fs/promises';
import { VmError } from '../util/errors.ts';

/**
 * Reads a file that the user named. `what` says what for, e.g. 'the kernel'.
 *
 * @throws VmError ERR_FILE_NOT_FOUND, ERR_FILE_IS_DIRECTORY or ERR_FILE_UNREADABLE, with a hint.
 */
export async function readInputFile(path: string, what: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const details = { path, what };
    switch (code) {
      case 'ENOENT':
      case 'ENOTDIR':
        throw new VmError('ERR_FILE_NOT_FOUND', `${what} ${path} does not exist`, {
          hint: `Check the path; it is relative to ${process.cwd()}.`,
          cause,
          details,
        });
      case 'EISDIR':
        throw new VmError('ERR_FILE_IS_DIRECTORY', `${what} ${path} is a directory`, {
          hint: 'Name a file inside of it.',
          cause,
          details,
        });
      case 'EACCES':
      case 'EPERM':
        throw new VmError('ERR_FILE_UNREADABLE', `no permission to read ${what} ${path}`, {
          hint: 'Kernels below /boot are often readable by root only: copy the file, or change its permissions.',
          cause,
          details,
        });
      default:
        throw new VmError('ERR_FILE_UNREADABLE', `cannot read ${what} ${path}: ${code ?? String(cause)}`, {
          hint: 'Check that the path names a regular file of less than 2 GiB on a working disk.',
          cause,
          details,
        });
    }
  }
}
