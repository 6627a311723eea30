/**
 * Files of vectors: the instructions, and what the block changed. Inputs are not stored, makeInput() forms them from a
 * seed. After gunzip, little-endian:
 *
 *   u32 length of the header, header (JSON, see {@link Header}), vectors
 *
 * A vector is u8 count, count x u32 words, u8 flags, and for each bit of the flags:
 *   bit 0  u64 PC, if it is not the end of the block
 *   bit 1  u8 NZCV            bit 2  u32 FPSR          bit 3  u32 FPCR
 *   bit 4  u64 TPIDR_EL0      bit 5  u16 offset, u16 length, bytes: changed memory
 *   bit 6  u8 signal, u64 si_addr
 *   bit 7  u32 mask of changed X registers, u64 each; u32 mask of changed V registers, 16 bytes each
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import { makeInput } from './inputs.ts';
import { BLOCK, type Input, type Result } from './record.ts';

/** What the vectors of a file are. */
export interface Header {
  /** QEMU's CPU model. */
  readonly cpu: string;
  /** Seed of the first vector's input, see {@link vectorSeed}. */
  readonly seed: number;
  /** Names of encoding rows and how many vectors each has, in order. */
  readonly rows: [name: string, count: number][];
}

/** An input and what QEMU made of it. */
export interface Vector {
  readonly name: string;
  readonly input: Input;
  readonly result: Result;
}

/** The seed of the vector at `index` of a file. */
export function vectorSeed(seed: number, index: number): number {
  return (seed + Math.imul(index + 1, 0x9e37_79b1)) >>> 0;
}

/** Packs the vectors, in the order of `header.rows`. */
export function packVectors(header: Header, vectors: readonly Omit<Vector, 'name'>[]): Uint8Array {
  const w = new Writer();
  const json = new TextEncoder().encode(JSON.stringify(header));
  w.u32(json.length);
  w.bytes(json);
  for (const { input, result } of vectors) {
    w.u8(input.words.length);
    for (const word of input.words) w.u32(word);
    const xs = changes(input.x, result.x, 1);
    const vs = changes(input.v, result.v, 2);
    const end = BigInt(BLOCK + 4 * input.words.length);
    const flags = [
      result.pc !== end,
      result.nzcv !== input.nzcv,
      result.fpsr !== input.fpsr,
      result.fpcr !== input.fpcr,
      result.tpidr !== input.tpidr,
      result.bytes.length > 0,
      result.signal !== 0,
      xs !== 0 || vs !== 0,
    ];
    w.u8(flags.reduce((sum, f, bit) => sum | (f ? 1 << bit : 0), 0));
    if (flags[0]) w.u64(result.pc);
    if (flags[1]) w.u8(result.nzcv);
    if (flags[2]) w.u32(result.fpsr);
    if (flags[3]) w.u32(result.fpcr);
    if (flags[4]) w.u64(result.tpidr);
    if (flags[5]) {
      w.u16(result.changed);
      w.u16(result.bytes.length);
      w.bytes(result.bytes);
    }
    if (flags[6]) {
      w.u8(result.signal);
      w.u64(result.address);
    }
    if (flags[7]) {
      w.u32(xs);
      for (let i = 0; i < 32; i++) if ((xs >>> i) & 1) w.u64(result.x[i]!);
      w.u32(vs);
      for (let i = 0; i < 32; i++) {
        if (((vs >>> i) & 1) === 0) continue;
        w.u64(result.v[2 * i]!);
        w.u64(result.v[2 * i + 1]!);
      }
    }
  }
  return gzipSync(w.done(), { level: 9 });
}

/** Reads a file of vectors one by one; the inputs are formed anew. */
export function* unpackVectors(file: Uint8Array): Generator<Vector> {
  const data = gunzipSync(file);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  const u8 = () => view.getUint8(at++);
  const skip = (n: number) => {
    at += n;
    return at - n;
  };
  const u16 = () => view.getUint16(skip(2), true);
  const u32 = () => view.getUint32(skip(4), true);
  const u64 = () => view.getBigUint64(skip(8), true);
  const length = u32();
  const header = JSON.parse(new TextDecoder().decode(data.subarray(at, at + length))) as Header;
  at += length;
  let index = 0;
  for (const [name, count] of header.rows) {
    for (let n = 0; n < count; n++) {
      const words = Array.from({ length: u8() }, u32);
      const input = makeInput(words, vectorSeed(header.seed, index++));
      const flags = u8();
      const pc = flags & 1 ? u64() : BigInt(BLOCK + 4 * words.length);
      const nzcv = flags & 2 ? u8() : input.nzcv;
      const fpsr = flags & 4 ? u32() : input.fpsr;
      const fpcr = flags & 8 ? u32() : input.fpcr;
      const tpidr = flags & 16 ? u64() : input.tpidr;
      let changed = 0;
      let bytes: Uint8Array = new Uint8Array(0);
      if (flags & 32) {
        changed = u16();
        const size = u16();
        bytes = data.subarray(at, at + size);
        at += size;
      }
      const signal = flags & 64 ? u8() : 0;
      const address = flags & 64 ? u64() : 0n;
      const x = input.x.slice();
      const v = input.v.slice();
      if (flags & 128) {
        const xs = u32();
        for (let i = 0; i < 32; i++) if ((xs >>> i) & 1) x[i] = u64();
        const vs = u32();
        for (let i = 0; i < 32; i++) {
          if (((vs >>> i) & 1) === 0) continue;
          v[2 * i] = u64();
          v[2 * i + 1] = u64();
        }
      }
      const result = { signal, code: 0, fpcr, fpsr, nzcv, tpidr, pc, address, x, v, changed, bytes };
      yield { name, input, result };
    }
  }
}

/** Mask of the registers, `width` elements each, that differ. */
function changes(before: BigUint64Array, after: BigUint64Array, width: number): number {
  let mask = 0;
  for (let i = 0; i < before.length; i++) if (before[i] !== after[i]) mask |= 1 << Math.floor(i / width);
  return mask >>> 0;
}

class Writer {
  private data = new Uint8Array(1 << 20);
  private view = new DataView(this.data.buffer);
  private at = 0;

  u8(v: number): void {
    this.view.setUint8(this.room(1), v);
  }
  u16(v: number): void {
    this.view.setUint16(this.room(2), v, true);
  }
  u32(v: number): void {
    this.view.setUint32(this.room(4), v, true);
  }
  u64(v: bigint): void {
    this.view.setBigUint64(this.room(8), v, true);
  }
  bytes(b: Uint8Array): void {
    this.data.set(b, this.room(b.length));
  }
  done(): Uint8Array {
    return this.data.subarray(0, this.at);
  }

  private room(n: number): number {
    while (this.at + n > this.data.length) {
      const bigger = new Uint8Array(this.data.length * 2);
      bigger.set(this.data);
      this.data = bigger;
      this.view = new DataView(bigger.buffer);
    }
    this.at += n;
    return this.at - n;
  }
}
