/** A structure of the kernel's, filled by the offsets in abi/*.generated.ts. */
export class Struct {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  /** @param size bytes, zeros at first. */
  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Writes 8, 16 or 32 bits at an offset in bytes. */
  u8(at: number, v: number): this {
    this.#view.setUint8(at, v);
    return this;
  }

  u16(at: number, v: number): this {
    this.#view.setUint16(at, v, true);
    return this;
  }

  u32(at: number, v: number): this {
    this.#view.setUint32(at, v, true);
    return this;
  }

  /** Writes 64 bits; a number must be whole, and may be an address. */
  u64(at: number, v: number | bigint): this {
    this.#view.setBigUint64(at, BigInt.asUintN(64, BigInt(v)), true);
    return this;
  }

  getU8(at: number): number {
    return this.#view.getUint8(at);
  }

  getU16(at: number): number {
    return this.#view.getUint16(at, true);
  }

  getU32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  getU64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }
}
