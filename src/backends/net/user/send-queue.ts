/** Bytes that a connection has from the host and that the guest has not acknowledged, as the arrays in which they came. */
export class SendQueue {
  readonly #chunks: Uint8Array[] = [];
  /** Bytes of the first chunk that are acknowledged. */
  #skip = 0;
  #length = 0;

  /** Bytes in the queue. */
  get length(): number {
    return this.#length;
  }

  /** Arrays in the queue: what they cost beside their bytes. */
  get chunks(): number {
    return this.#chunks.length;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.#length += bytes.length;
  }

  /** Drops the first `count` bytes, at most all. */
  shift(count: number): void {
    let rest = Math.min(count, this.#length) + this.#skip;
    this.#length -= rest - this.#skip;
    let whole = 0;
    while (whole < this.#chunks.length && rest >= this.#chunks[whole]!.length) rest -= this.#chunks[whole++]!.length;
    if (whole > 0) this.#chunks.splice(0, whole);
    this.#skip = rest;
  }

  /** Appends `[start, start + count)` to `pieces`, without a copy; the range is in the queue. */
  slices(start: number, count: number, pieces: Uint8Array[]): void {
    let skip = this.#skip + start;
    let rest = count;
    for (const chunk of this.#chunks) {
      if (rest === 0) return;
      if (skip >= chunk.length) {
        skip -= chunk.length;
        continue;
      }
      const n = Math.min(rest, chunk.length - skip);
      pieces.push(n === chunk.length ? chunk : chunk.subarray(skip, skip + n));
      rest -= n;
      skip = 0;
    }
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#length = this.#skip = 0;
  }
}
