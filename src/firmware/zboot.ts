import { VmError } from '../util/errors.ts';
import { gunzip, isZstd, unzstd, walkZstdFrame } from './decompress.ts';

/**
 * The header of an EFI zboot image (drivers/firmware/efi/libstub/zboot-header.S): a PE file whose DOS header carries
 *
 *     0: "MZ\0\0"  4: "zimg"  8: u32 payload offset  12: u32 payload size  24: compression, NUL-terminated  60: u32 PE header
 */
const COMPRESSION_AT = 24;
const COMPRESSION_MAX = 32;
const HEADER = 64;

/** Where the kernel lies in a zboot image. */
export interface ZbootHeader {
  /** Bytes from the start of the file. */
  readonly payloadOffset: number;
  /** Bytes. */
  readonly payloadSize: number;
  /** gzip, zstd, zstd22, or another method of the kernel's Makefile. */
  readonly compression: string;
}

/** True for an EFI zboot image. */
export function isZboot(bytes: Uint8Array): boolean {
  return bytes.length >= HEADER && ascii(bytes, 0, 2) === 'MZ' && ascii(bytes, 4, 8) === 'zimg';
}

/**
 * Reads the header.
 *
 * @throws VmError ERR_NOT_A_KERNEL when there is none, ERR_KERNEL_CORRUPT when the payload lies outside the file.
 */
export function readZbootHeader(bytes: Uint8Array): ZbootHeader {
  if (!isZboot(bytes)) throw new VmError('ERR_NOT_A_KERNEL', 'there is no EFI zboot header');
  const d = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [payloadOffset, payloadSize] = [d.getUint32(8, true), d.getUint32(12, true)];
  const name = ascii(bytes, COMPRESSION_AT, COMPRESSION_AT + COMPRESSION_MAX);
  const end = name.indexOf('\0');
  const compression = end < 0 ? name : name.slice(0, end);
  if (payloadOffset < HEADER || payloadOffset + payloadSize > bytes.length) {
    throw new VmError(
      'ERR_KERNEL_CORRUPT',
      `the EFI zboot image is cut off: its payload ends at ${payloadOffset + payloadSize}, the file at ${bytes.length}`,
      { hint: 'Download or copy the kernel again.' },
    );
  }
  return { payloadOffset, payloadSize, compression };
}

/**
 * The kernel inside a zboot image, of at most `limit` bytes.
 *
 * @throws VmError ERR_KERNEL_CORRUPT when it is damaged, ERR_DOES_NOT_FIT when it is larger, ERR_NOT_A_KERNEL when it is
 *   compressed with a method other than gzip and zstd.
 */
export function unpackZboot(bytes: Uint8Array, limit: number): Uint8Array {
  const { payloadOffset, payloadSize, compression } = readZbootHeader(bytes);
  const payload = bytes.subarray(payloadOffset, payloadOffset + payloadSize);
  const what = 'the EFI zboot kernel';
  if (compression === 'gzip') return gunzip(payload, limit, what);
  if (compression === 'zstd' || compression === 'zstd22') {
    // The kernel's build appends the unpacked size behind the frame, inside or outside of the payload's size.
    const end = isZstd(payload) ? payloadOffset + walkZstdFrame(payload, what).length : bytes.length;
    const size = end + 4 <= bytes.length ? new DataView(bytes.buffer, bytes.byteOffset + end, 4).getUint32(0, true) : 0;
    return unzstd(payload, limit, what, size > 0 ? size : undefined);
  }
  throw new VmError(
    'ERR_NOT_A_KERNEL',
    `the EFI zboot image is compressed with '${compression.replace(/[^\x20-\x7e]/g, '?')}'`,
    {
      hint: 'Only gzip and zstd are supported; unpack the kernel and give the file Image.',
    },
  );
}

function ascii(bytes: Uint8Array, from: number, to: number): string {
  return String.fromCharCode(...bytes.subarray(from, to));
}
