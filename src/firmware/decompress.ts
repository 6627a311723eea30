import { constants, gunzipSync } from 'node:zlib';
import { decompress as zstdDecompress } from 'fzstd';
import { VmError } from '../util/errors.ts';

/** Room for a gzip header with a file name and a comment in it, bytes. */
const GZIP_HEADER = 4096;

/** True when the bytes start a gzip member (RFC 1952, section 2.3.1: ID1, ID2 and the only method, deflate). */
export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b && bytes[2] === 8;
}

/** True when the bytes start a Zstandard frame (RFC 8878, section 3.1.1). */
export function isZstd(bytes: Uint8Array): boolean {
  return bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd;
}

/**
 * Unpacks gzip, to at most `limit` bytes. `what` names the thing in messages.
 *
 * @throws VmError ERR_KERNEL_CORRUPT when the stream is truncated or damaged, ERR_DOES_NOT_FIT when it unpacks to more.
 */
export function gunzip(bytes: Uint8Array, limit: number, what: string): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: limit, finishFlush: constants.Z_FINISH });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ERR_BUFFER_TOO_LARGE' || cause instanceof RangeError) throw tooLarge(what, limit);
    if (code === 'Z_BUF_ERROR')
      throw corrupt(what, `its gzip data ends too early (after ${bytes.length} bytes)`, cause);
    throw corrupt(what, 'its gzip data is damaged', cause);
  }
}

/**
 * The first bytes of what a gzip file holds, at most `length` of them and fewer where the file is damaged or cut off: for a
 * look at what it is. Never throws.
 */
export function gunzipStart(bytes: Uint8Array, length: number): Uint8Array {
  // Deflate makes data longer by 5 bytes in 64 KiB at worst (RFC 1951, section 3.2.4); the header has names in it.
  const input = bytes.subarray(0, length + GZIP_HEADER);
  try {
    return gunzipSync(input, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, length);
  } catch {
    return new Uint8Array(0);
  }
}

/**
 * Unpacks the first Zstandard frame, to at most `limit` bytes. `size` is the exact size of the result where the container
 * tells it (EFI zboot does); what follows the frame is ignored.
 *
 * @throws VmError ERR_KERNEL_CORRUPT when the frame is truncated or damaged, ERR_DOES_NOT_FIT when it unpacks to more.
 */
export function unzstd(bytes: Uint8Array, limit: number, what: string, size?: number): Uint8Array {
  const frame = walkZstdFrame(bytes, what);
  const exact = frame.contentSize ?? size;
  if ((exact ?? frame.atMost) > limit || frame.atLeast > limit) throw tooLarge(what, limit);
  if (exact !== undefined && (exact > frame.atMost || exact < frame.atLeast)) {
    throw corrupt(what, `its zstd data cannot unpack to ${exact} bytes`);
  }
  try {
    const input = bytes.subarray(0, frame.length);
    // With the size known there is one buffer and no copying; otherwise the decoder moves a whole window per block.
    return exact === undefined ? zstdDecompress(input) : zstdDecompress(input, new Uint8Array(exact));
  } catch (cause) {
    throw corrupt(what, 'its zstd data is damaged', cause);
  }
}

/**
 * Where a Zstandard frame ends and between which sizes its content must lie, from the headers of the frame and of its
 * blocks (RFC 8878, sections 3.1.1.1 and 3.1.1.2), so that nothing has to be allocated before it is known to be sane.
 */
export function walkZstdFrame(
  bytes: Uint8Array,
  what: string,
): { length: number; contentSize: number | undefined; atLeast: number; atMost: number } {
  const truncated = () => corrupt(what, `its zstd data ends too early (after ${bytes.length} bytes)`);
  const byte = (at: number): number => bytes[at] ?? fail(truncated());
  const little = (at: number, n: number): number => {
    let v = 0;
    for (let i = n - 1; i >= 0; i--) v = v * 256 + byte(at + i);
    return v;
  };
  if (!isZstd(bytes)) throw corrupt(what, 'there is no zstd frame');
  const descriptor = byte(4);
  const single = (descriptor >> 5) & 1;
  const fcsFlag = descriptor >> 6;
  let at = 5 + (1 - single) + ([0, 1, 2, 4][descriptor & 3] ?? 0);
  const fcsBytes = fcsFlag === 0 ? single : 1 << fcsFlag;
  const contentSize = fcsBytes === 0 ? undefined : little(at, fcsBytes) + (fcsBytes === 2 ? 256 : 0);
  at += fcsBytes;
  let [atLeast, atMost, last] = [0, 0, 0];
  while (last === 0) {
    const header = little(at, 3);
    const [type, size] = [(header >> 1) & 3, header >> 3];
    last = header & 1;
    at += 3;
    if (type === 3 || (type !== 1 && size > 131072)) throw corrupt(what, 'its zstd data has a block of no known kind');
    if (type !== 2) atLeast += size;
    atMost += type === 2 ? 131072 : size;
    at += type === 1 ? 1 : size;
    if (at > bytes.length) throw truncated();
  }
  at += descriptor & 4 ? 4 : 0;
  if (at > bytes.length) throw truncated();
  return { length: at, contentSize, atLeast, atMost };
}

function fail(e: VmError): never {
  throw e;
}

function tooLarge(what: string, limit: number): VmError {
  return new VmError('ERR_DOES_NOT_FIT', `${what} unpacks to more than ${limit} bytes`, {
    hint: 'Check that the file is what you think it is; a kernel is a few tens of MiB.',
    details: { limit },
  });
}

function corrupt(what: string, why: string, cause?: unknown): VmError {
  return new VmError('ERR_KERNEL_CORRUPT', `${what} is damaged: ${why}`, {
    hint: 'Download or copy the file again.',
    ...(cause === undefined ? {} : { cause }),
  });
}
