/** Bytes of one block of a {@link ReceiveBuffer}. */
const BLOCK = 16384;

/**
 * What the guest has sent and the host does not take yet. It copies into blocks, so that a guest that sends single
 * bytes cannot make the host keep an object for each.
 */
export class ReceiveBuffer {
  readonly #blocks: Uint8Array[] = [];
  /** Bytes of the last block that are in use. */
  #used = BLOCK;
  #length = 0;

  /** Bytes in the buffer. */
  get length(): number {
    return this.#length;
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#used === BLOCK) {
        this.#blocks.push(new Uint8Array(BLOCK));
        this.#used = 0;
      }
      const n = Math.min(BLOCK - this.#used, bytes.length - at);
      this.#blocks.at(-1)!.set(bytes.subarray(at, at + n), this.#used);
      this.#used += n;
      this.#length += n;
      at += n;
    }
  }

  /** Takes the oldest bytes out, a block at most; the array is the caller's to keep. Empty when there are none. */
  shift(): Uint8Array {
    const block = this.#blocks.shift();
    if (!block) return new Uint8Array(0);
    const last = this.#blocks.length === 0;
    const bytes = last ? block.subarray(0, this.#used) : block;
    if (last) this.#used = BLOCK;
    this.#length -= bytes.length;
    return bytes;
  }

  clear(): void {
    this.#blocks.length = 0;
    this.#used = BLOCK;
    this.#length = 0;
  }
}

/** What the host has written and the guest has no room for yet: the host's own arrays, in order, without a copy. */
export class SendQueue {
  #chunks: Uint8Array[] = [];
  /** Chunks before this index are sent; they are cut off now and then. */
  #first = 0;
  #length = 0;

  /** Bytes in the queue. */
  get length(): number {
    return this.#length;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.#length += bytes.length;
  }

  /** Takes the oldest `length` bytes out, or all, in pieces. */
  take(length: number): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    while (length > 0 && this.#length > 0) {
      const chunk = this.#chunks[this.#first]!;
      const piece = chunk.length <= length ? chunk : chunk.subarray(0, length);
      if (piece === chunk) this.#first++;
      else this.#chunks[this.#first] = chunk.subarray(length);
      pieces.push(piece);
      length -= piece.length;
      this.#length -= piece.length;
    }
    if (this.#length === 0) this.clear();
    else if (this.#first > 64 && this.#first * 2 > this.#chunks.length) {
      this.#chunks = this.#chunks.slice(this.#first);
      this.#first = 0;
    }
    return pieces;
  }

  clear(): void {
    this.#chunks = [];
    this.#first = 0;
    this.#length = 0;
  }
}
