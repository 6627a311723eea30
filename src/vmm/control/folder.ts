import { lstat, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VmError } from '../../util/errors.ts';

/**
 * The folder of the control sockets, one socket for each running VM: below $XDG_RUNTIME_DIR, else in the folder for temporary
 * files. Windows has named pipes in one place of its own.
 */
export function controlFolder(env: NodeJS.ProcessEnv = process.env, platform = process.platform): string {
  if (platform === 'win32') return '\\\\.\\pipe\\';
  if (env.XDG_RUNTIME_DIR) return join(env.XDG_RUNTIME_DIR, 'tsvisor');
  return join(tmpdir(), `tsvisor-${process.getuid?.() ?? 'user'}`);
}

/** The address of a VM's control socket. `name` is made fit for a file: other characters than letters, digits, . _ - become -. */
export function controlPath(name: string, folder = controlFolder(), platform = process.platform): string {
  const file = name.replace(/[^\w.-]/g, '-').slice(0, 60);
  return platform === 'win32' ? `${folder}tsvisor-${file}` : join(folder, `${file}.sock`);
}

/**
 * Makes the folder, for its owner alone. In a folder that others may write to it could be somebody else's trap.
 * @throws VmError ERR_HOST_CALL when it is not ours, or cannot be made.
 */
export async function makeControlFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const s = await lstat(folder);
    const mine =
      process.getuid === undefined || (s.isDirectory() && s.uid === process.getuid() && (s.mode & 0o077) === 0);
    if (mine) return;
  } catch (e) {
    throw unusable(folder, (e as NodeJS.ErrnoException).code ?? String(e), e);
  }
  throw unusable(folder, 'it belongs to somebody else, or others may write to it');
}

function unusable(folder: string, why: string, cause?: unknown): VmError {
  return new VmError('ERR_HOST_CALL', `the folder for control sockets ${folder} cannot be used: ${why}`, {
    hint: 'set XDG_RUNTIME_DIR to a folder of your own with mode 0700',
    cause,
    details: { path: folder },
  });
}
