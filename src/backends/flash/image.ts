import * as fs from 'node:fs';
import { VmError } from '../../util/errors.ts';

/** Names the file in messages: the option that it was given with. */
export type FlashOption = 'firmware' | 'flash';

/** What is read at a time, bytes. */
export const CHUNK = 256 * 1024;
const ZEROES = new Uint8Array(CHUNK);

const ADVICE: Readonly<
  Record<FlashOption, { readonly wanted: string; readonly missing: string; readonly denied: string }>
> = {
  firmware: {
    wanted: "name the code of a firmware for QEMU's virt board, such as AAVMF_CODE.fd",
    missing: 'check the path; Debian has one in the package qemu-efi-aarch64, in /usr/share/AAVMF',
    denied: "check the file's permissions",
  },
  flash: {
    wanted: 'name a file with the variables of a firmware, such as a copy of AAVMF_VARS.fd',
    missing: 'copy the file with variables that comes with the firmware, or make an empty file: that is erased flash',
    denied: 'the guest stores its variables there: it must be writable',
  },
};

/**
 * Opens an image of flash and checks that it fits.
 * @param limit size of the bank, bytes.
 * @throws VmError ERR_FILE_NOT_FOUND, ERR_FILE_IS_DIRECTORY, ERR_FILE_UNREADABLE, ERR_DOES_NOT_FIT.
 */
export function openImage(
  path: string,
  option: FlashOption,
  limit: number,
): { readonly fd: number; readonly size: number } {
  let fd: number | undefined;
  try {
    // A pipe would wait for its other end to be opened.
    checkKind(path, option, fs.statSync(path));
    fd = fs.openSync(path, option === 'flash' ? 'r+' : 'r');
    const { size } = fs.fstatSync(fd);
    checkSize(option, size, limit, path);
    return { fd, size };
  } catch (e) {
    if (fd !== undefined) fs.closeSync(fd);
    throw imageError(path, option, e);
  }
}

/** @throws VmError ERR_DOES_NOT_FIT when `size` bytes are more than the bank has. */
export function checkSize(option: FlashOption, size: number, limit: number, path?: string): void {
  if (size <= limit) return;
  throw new VmError(
    'ERR_DOES_NOT_FIT',
    `${option}: ${path ?? 'the image'} has ${size} bytes, the bank of flash ${limit}`,
    {
      hint: ADVICE[option].wanted,
      details: { option, path, size, limit },
    },
  );
}

/** Fills a bank that is all zeroes with an open image; what is behind the image's end is erased: ones. */
export function readImage(fd: number, bank: Uint8Array): void {
  const chunk = new Uint8Array(CHUNK);
  let at = 0;
  while (at < bank.length) {
    const count = fs.readSync(fd, chunk, 0, Math.min(CHUNK, bank.length - at), at);
    if (count === 0) break;
    put(bank, at, chunk.subarray(0, count));
    at += count;
  }
  bank.fill(0xff, at);
}

/** As {@link readImage}, from memory. */
export function copyImage(image: Uint8Array, bank: Uint8Array): void {
  for (let at = 0; at < image.length; at += CHUNK) put(bank, at, image.subarray(at, at + CHUNK));
  bank.fill(0xff, image.length);
}

/** Images are mostly zeroes, and memory that stays zero costs the host nothing until it is touched. */
function put(bank: Uint8Array, offset: number, bytes: Uint8Array): void {
  if (Buffer.compare(bytes, ZEROES.subarray(0, bytes.length)) !== 0) bank.set(bytes, offset);
}

function checkKind(path: string, option: FlashOption, stats: fs.Stats): void {
  if (stats.isFile()) return;
  const folder = stats.isDirectory();
  throw new VmError(
    folder ? 'ERR_FILE_IS_DIRECTORY' : 'ERR_FILE_UNREADABLE',
    `${option}: ${path} is ${folder ? 'a directory' : 'no file'}`,
    { hint: ADVICE[option].wanted, details: { option, path } },
  );
}

/** What to tell the user of an error of the host's; a VmError stays what it is. */
export function imageError(path: string, option: FlashOption, e: unknown): VmError {
  if (e instanceof VmError) return e;
  const errno = (e as NodeJS.ErrnoException).code;
  const { missing, denied } = ADVICE[option];
  const more = { cause: e, details: { option, path, errno } };
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    return new VmError('ERR_FILE_NOT_FOUND', `${option}: ${path} does not exist`, { hint: missing, ...more });
  }
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new VmError('ERR_DISK_FULL', `${option}: no space left for ${path}`, { hint: 'free some space', ...more });
  }
  const refused = errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS';
  return new VmError('ERR_FILE_UNREADABLE', `${option}: ${path} cannot be used (${errno ?? String(e)})`, {
    hint: refused ? denied : 'check the file and its disk',
    ...more,
  });
}
