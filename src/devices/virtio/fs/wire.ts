import { FileError } from './errno.ts';
import { NAME_MAX } from './protocol.ts';

/** Parts of `parts` that hold `length` bytes from `offset` on, fewer where the parts end; no bytes are copied. */
export function slice(parts: readonly Uint8Array[], offset: number, length: number): Uint8Array[] {
  const result: Uint8Array[] = [];
  let skip = offset;
  let left = length;
  for (const part of parts) {
    if (left <= 0) break;
    if (skip >= part.length) {
      skip -= part.length;
      continue;
    }
    const piece = part.subarray(skip, skip + left);
    skip = 0;
    left -= piece.length;
    if (piece.length > 0) result.push(piece);
  }
  return result;
}

/** A copy of the first `length` bytes, so that the guest cannot change them after they were checked. */
export function copyIn(parts: readonly Uint8Array[], offset: number, length: number): Uint8Array {
  const pieces = slice(parts, offset, length);
  const result = new Uint8Array(pieces.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const piece of pieces) {
    result.set(piece, at);
    at += piece.length;
  }
  return result;
}

/** Writes `bytes` at `offset` of the parts; what does not fit is dropped. */
export function copyOut(parts: readonly Uint8Array[], offset: number, bytes: Uint8Array): void {
  let at = 0;
  for (const piece of slice(parts, offset, bytes.length)) {
    piece.set(bytes.subarray(at, at + piece.length));
    at += piece.length;
  }
}

/** Reads little-endian structures one field after another. What lies behind the end reads as EINVAL. */
export class Decoder {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** As a number: exact below 2^53; above that it is no node, handle, offset or count that anybody has. */
  u64(): number {
    return Number(this.#view.getBigUint64(this.#take(8), true));
  }

  bigU64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** Signed, as seconds since 1970 are. */
  bigI64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  skip(bytes: number): void {
    this.#take(bytes);
  }

  /** A zero-terminated string as a string of bytes. @throws FileError EINVAL without the zero, ENAMETOOLONG */
  string(maximum: number = NAME_MAX): string {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end < 0) throw new FileError('EINVAL');
    if (end - this.#at > maximum) throw new FileError('ENAMETOOLONG');
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end + 1;
    return String.fromCharCode(...bytes);
  }

  /** Nothing may follow: a name with a zero inside would be another name. @throws FileError EINVAL */
  end(): void {
    if (this.#at !== this.#bytes.length) throw new FileError('EINVAL');
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#bytes.length) throw new FileError('EINVAL');
    this.#at = at + bytes;
    return at;
  }
}

/** Writes little-endian structures one field after another into `size` bytes; what is not written is 0. */
export class Encoder {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Bytes written. */
  get length(): number {
    return this.#at;
  }

  u16(value: number): this {
    this.#view.setUint16(this.#at, value, true);
    this.#at += 2;
    return this;
  }

  u32(value: number): this {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
    return this;
  }

  u64(value: number | bigint): this {
    this.#view.setBigUint64(this.#at, BigInt.asUintN(64, BigInt(value)), true);
    this.#at += 8;
    return this;
  }

  /** A string of bytes. */
  string(bytes: string): this {
    for (let i = 0; i < bytes.length; i++) this.bytes[this.#at + i] = bytes.charCodeAt(i);
    this.#at += bytes.length;
    return this;
  }

  skip(bytes: number): this {
    this.#at += bytes;
    return this;
  }
}
