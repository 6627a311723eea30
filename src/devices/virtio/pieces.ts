/**
 * Bytes that lie in several pieces, as the parts of a descriptor chain do. How a driver cuts a request into descriptors says
 * nothing about its contents (virtio 1.2 section 2.7.4), so devices read structures through these functions only.
 */

/** The pieces without their first `skip` bytes, and without empty pieces; nothing is copied. */
export function skipBytes(pieces: readonly Uint8Array[], skip: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  for (const piece of pieces) {
    if (skip >= piece.length) skip -= piece.length;
    else {
      rest.push(skip > 0 ? piece.subarray(skip) : piece);
      skip = 0;
    }
  }
  return rest;
}

/** Copies bytes from the start of `pieces` into `into` and returns how many: its length, or all that there are. */
export function gather(pieces: readonly Uint8Array[], into: Uint8Array): number {
  let at = 0;
  for (const piece of pieces) {
    const n = Math.min(piece.length, into.length - at);
    if (n === 0 && at === into.length) break;
    into.set(n < piece.length ? piece.subarray(0, n) : piece, at);
    at += n;
  }
  return at;
}

/** Writes bytes into pieces one after the other, wherever the borders between the pieces are. */
export class Scatter {
  readonly #pieces: readonly Uint8Array[];
  #piece = 0;
  #offset = 0;

  constructor(pieces: readonly Uint8Array[]) {
    this.#pieces = pieces;
  }

  /** Writes `bytes` behind what was written before and returns how many of them had room. */
  write(bytes: Uint8Array): number {
    let taken = 0;
    while (taken < bytes.length) {
      const piece = this.#pieces[this.#piece];
      if (piece === undefined) break;
      const n = Math.min(piece.length - this.#offset, bytes.length - taken);
      piece.set(n < bytes.length ? bytes.subarray(taken, taken + n) : bytes, this.#offset);
      taken += n;
      this.#offset += n;
      if (this.#offset === piece.length) {
        this.#piece++;
        this.#offset = 0;
      }
    }
    return taken;
  }
}

/** `size` bytes at `offset` of a device configuration, little-endian; bytes behind its end read as zero. */
export function readBytes(config: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + (config[offset + i] ?? 0);
  return value;
}
