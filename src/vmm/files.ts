import { readFile, stat } from 'node:fs/promises';
import { VmError } from '../util/errors.ts';
import { formatSize } from './units.ts';

/**
 * Reads a file that goes into the guest, whole.
 * @param what names the file in messages: 'kernel', 'initrd'.
 * @throws VmError ERR_FILE_NOT_FOUND, ERR_FILE_IS_DIRECTORY, ERR_FILE_UNREADABLE, or ERR_MEMORY_TOO_SMALL when the file is
 *   larger than `limit` bytes (it is not read then).
 */
export async function readGuestFile(
  path: string,
  what: 'kernel' | 'initrd',
  limit: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const details = { option: what, path };
  try {
    const s = await stat(path);
    if (s.isDirectory()) {
      throw new VmError('ERR_FILE_IS_DIRECTORY', `${what}: ${path} is a directory`, {
        hint: `name the ${what} file inside it`,
        details,
      });
    }
    if (s.size > limit) {
      throw new VmError(
        'ERR_MEMORY_TOO_SMALL',
        `${what}: ${path} (${formatSize(s.size)}) is larger than the guest's RAM (${formatSize(limit)})`,
        { hint: 'give the guest more memory (-m)', details: { ...details, size: s.size, memory: limit } },
      );
    }
    return await readFile(path, signal === undefined ? {} : { signal });
  } catch (e) {
    if (e instanceof VmError || signal?.aborted) throw e;
    const errno = (e as NodeJS.ErrnoException).code;
    if (errno === 'ENOENT' || errno === 'ENOTDIR') {
      throw new VmError('ERR_FILE_NOT_FOUND', `${what}: ${path} does not exist`, {
        hint: 'check the path; `tsvisor pull debian-arm64` fetches a kernel, `tsvisor images` lists what is there',
        cause: e,
        details,
      });
    }
    throw new VmError('ERR_FILE_UNREADABLE', `${what}: ${path} cannot be read (${errno ?? String(e)})`, {
      hint: errno === 'EACCES' || errno === 'EPERM' ? "check the file's permissions" : 'check the file and its disk',
      cause: e,
      details: { ...details, errno },
    });
  }
}

/** What a small Linux needs beside its image and initrd before it can unpack the initrd and start a process. */
const LINUX_WORKING_MEMORY = 20 * 2 ** 20;

/**
 * Refuses RAM in which a Linux would be loaded, and die at once. Only an uncompressed Image tells its size beforehand
 * (Documentation/arch/arm64/booting.rst, "Call the kernel image"); what does not fit at all the loader finds out.
 * @throws VmError ERR_MEMORY_TOO_SMALL
 */
export function checkLinuxFits(kernel: Uint8Array, initrd: Uint8Array | undefined, memory: number): void {
  if (kernel.length < 64) return;
  const header = new DataView(kernel.buffer, kernel.byteOffset, 64);
  // "ARM\x64"
  if (header.getUint32(56, true) !== 0x644d5241) return;
  const image = Math.max(Number(header.getBigUint64(16, true)), kernel.length);
  const needed = image + (initrd?.length ?? 0) + LINUX_WORKING_MEMORY;
  if (needed <= memory || image > 2 ** 32) return;
  throw new VmError('ERR_MEMORY_TOO_SMALL', `memory: ${formatSize(memory)} is too small for this kernel`, {
    hint: `it needs ${Math.ceil(needed / 2 ** 20)}M at the very least, and is happier with 128M or more`,
    details: { memory, minimum: needed },
  });
}
