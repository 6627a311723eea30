/** The Internet checksum (RFC 1071). Sums here are 16-bit one's complement sums in network order, not yet complemented. */

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Below this many bytes a view of 32-bit words costs more than it saves. */
const WORDS_FROM = 64;

/** Adds the carries back in; `sum` is below 2^53. */
export function fold(sum: number): number {
  let s = sum > 0xffff_ffff ? Math.floor(sum / 0x1_0000_0000) + (sum % 0x1_0000_0000) : sum;
  s = Math.floor(s / 0x1_0000) + (s % 0x1_0000);
  s = (s >>> 16) + (s & 0xffff);
  return (s >>> 16) + (s & 0xffff);
}

/** The sum as seen from an odd offset: RFC 1071 section 2 (B), byte order independence. */
export function swap(sum: number): number {
  return ((sum & 0xff) << 8) | (sum >>> 8);
}

/** Sum of `bytes[start, end)` as 16-bit words, with a zero byte behind an odd end. 0 to 0xffff. */
export function sumBytes(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  let sum = 0;
  if (end - start < WORDS_FROM) {
    for (; at + 1 < end; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
    if (at < end) sum += bytes[at]! << 8;
    return fold(sum);
  }
  // The words are taken as the host has them; only the folded sum is turned to network order.
  const odd = (bytes.byteOffset + at) & 1;
  if (odd) at++;
  let head = 0;
  if ((bytes.byteOffset + at) & 2) {
    head = (bytes[at]! << 8) | bytes[at + 1]!;
    at += 2;
  }
  const count = (end - at) >> 2;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + at, count);
  for (let i = 0; i < count; i++) sum += words[i]!;
  let folded = fold(sum);
  if (LITTLE_ENDIAN) folded = swap(folded);
  at += count << 2;
  folded += head;
  for (; at + 1 < end; at += 2) folded += (bytes[at]! << 8) | bytes[at + 1]!;
  if (at < end) folded += bytes[at]! << 8;
  folded = fold(folded);
  return odd ? fold(swap(folded) + (bytes[start]! << 8)) : folded;
}

/** The checksum field of `bytes[start, end)`, in which the field itself is 0. */
export function checksum(bytes: Uint8Array, start: number, end: number): number {
  return ~sumBytes(bytes, start, end) & 0xffff;
}

/** Sum of the pseudo header of TCP and UDP over IPv4 (RFC 9293 section 3.1); `length` in bytes with the header. */
export function pseudoHeaderSum(source: number, destination: number, protocol: number, length: number): number {
  return fold((source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length);
}
