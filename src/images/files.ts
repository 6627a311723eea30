import { createHash, randomBytes } from 'node:crypto';
import { open, rename, rm, statfs } from 'node:fs/promises';
import { VmError } from '../util/errors.ts';

/** SHA-256 in hexadecimal. */
export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/**
 * Writes a file so that it is either the old one or all of the new one: to a temporary name, to the disk, then renamed.
 *
 * @throws VmError ERR_DISK_FULL or ERR_FILE_UNREADABLE; nothing is left behind.
 */
export async function writeAtomically(path: string, bytes: Uint8Array | string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(path, cause);
  }
}

/** A failed write as the error that the user sees; a VmError stays as it is. */
export function writeError(path: string, cause: unknown): VmError {
  if (cause instanceof VmError) return cause;
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new VmError('ERR_DISK_FULL', `no space left to write ${path}`, {
      hint: 'Free some space (an image needs about 100 MB while it is made), or name another folder in $TSVISOR_CACHE.',
      cause,
    });
  }
  return new VmError('ERR_FILE_UNREADABLE', `cannot write ${path}: ${code ?? String(cause)}`, {
    hint: 'Check the permissions of the folder, or name another one in $TSVISOR_CACHE.',
    cause,
  });
}

/** Bytes that are free on the disk of a folder; infinite where that cannot be told. */
export async function freeSpace(folder: string): Promise<number> {
  return statfs(folder).then(
    s => s.bavail * s.bsize,
    () => Number.POSITIVE_INFINITY,
  );
}

/**
 * Refuses to begin what cannot end well.
 *
 * @throws VmError ERR_DISK_FULL when the folder's disk has less than `bytes` left.
 */
export async function requireSpace(folder: string, bytes: number): Promise<void> {
  if ((await freeSpace(folder)) < bytes) {
    throw writeError(folder, Object.assign(new Error(`less than ${bytes} bytes left`), { code: 'ENOSPC' }));
  }
}
