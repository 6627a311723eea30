import type { AccessSize } from '../../bus/types.ts';

/** A register: where it begins and how wide it is, bytes. */
export type RegisterLayout = readonly (readonly [offset: number, size: AccessSize])[];

/**
 * A block of little-endian registers that drivers should access by their natural width, and that answers sensibly when they do
 * not: an access covers parts of one register, or several registers, in the order of their addresses.
 */
export class RegisterBlock {
  /** Offset and size of the register that each byte belongs to; size 0: none. */
  readonly #start: Uint8Array;
  readonly #size: Uint8Array;
  readonly #read: (register: number) => number;
  readonly #write: (register: number, value: number) => void;

  /** @param layout registers below offset 256. */
  constructor(layout: RegisterLayout, read: (register: number) => number, write: (r: number, value: number) => void) {
    const length = Math.max(...layout.map(([offset, size]) => offset + size));
    this.#start = new Uint8Array(length);
    this.#size = new Uint8Array(length);
    for (const [offset, size] of layout) {
      this.#start.fill(offset, offset, offset + size);
      this.#size.fill(size, offset, offset + size);
    }
    this.#read = read;
    this.#write = write;
  }

  /** Bytes without a register read 0. */
  read(offset: number, size: AccessSize): number {
    if (this.#start[offset] === offset && this.#size[offset] === size) return this.#read(offset) >>> 0;
    let value = 0;
    for (let i = 0; i < size; ) {
      const width = this.#size[offset + i] ?? 0;
      if (width === 0) {
        i++;
        continue;
      }
      const start = this.#start[offset + i]!;
      const skip = offset + i - start;
      const bytes = Math.min(width - skip, size - i);
      value += ((this.#read(start) >>> (8 * skip)) & mask(bytes)) * 2 ** (8 * i);
      i += bytes;
    }
    return (value % 2 ** 32) >>> 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (this.#start[offset] === offset && this.#size[offset] === size) {
      this.#write(offset, (value & mask(size)) >>> 0);
      return;
    }
    for (let i = 0; i < size; ) {
      const width = this.#size[offset + i] ?? 0;
      if (width === 0) {
        i++;
        continue;
      }
      const start = this.#start[offset + i]!;
      const skip = offset + i - start;
      const bytes = Math.min(width - skip, size - i);
      let part = (value >>> (8 * i)) & mask(bytes);
      // A part of a register keeps the rest of it.
      if (bytes < width) part = (this.#read(start) & ~(mask(bytes) << (8 * skip))) | (part << (8 * skip));
      this.#write(start, part >>> 0);
      i += bytes;
    }
  }
}

function mask(bytes: number): number {
  return bytes === 4 ? -1 : (1 << (8 * bytes)) - 1;
}
