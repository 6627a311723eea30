/** The records that describe a block of A64 instructions before and after it ran, and the memory that it sees. */

/**
 * First instruction of a block: in the middle of the code memory, which is BRK elsewhere, and eight instructions
 * before the end of a page, so that longer blocks cross it.
 */
export const BLOCK = 0x4010_7fe0;
export const CODE = 0x4010_0000;
export const CODE_SIZE = 0x1_0000;
/** Two pages of data with unmapped pages on both sides. */
export const DATA = 0x4001_0000;
export const DATA_SIZE = 0x2000;
export const MAX_WORDS = 32;
/** BRK #0xe000: what code memory holds outside the block. */
export const BRK_FILL = 0xd43c_0000;

export const SIGILL = 4;
export const SIGTRAP = 5;
export const SIGBUS = 7;
export const SIGSEGV = 11;
export const SIGALRM = 14;

/** State before a block. */
export interface Input {
  /** 1..32 instructions, placed at {@link BLOCK}. */
  words: number[];
  /** Seed of the data memory, see {@link dataImage}. */
  seed: number;
  fpcr: number;
  fpsr: number;
  /** N is bit 3, V is bit 0. */
  nzcv: number;
  tpidr: bigint;
  /** X0..X30, then SP. */
  x: BigUint64Array;
  /** V0..V31, low half first. */
  v: BigUint64Array;
}

/** State after a block. */
export interface Result {
  /** Linux signal that an instruction of the block raised, 0 if the block was left by its end or by a branch. */
  signal: number;
  /** si_code of that signal. */
  code: number;
  fpcr: number;
  fpsr: number;
  nzcv: number;
  tpidr: bigint;
  /** Where the block was left, or the instruction that raised the signal. */
  pc: bigint;
  /** si_addr of the signal. */
  address: bigint;
  x: BigUint64Array;
  v: BigUint64Array;
  /** Offset of the first changed doubleword of the data memory, and the new contents up to the last changed one. */
  changed: number;
  bytes: Uint8Array;
}

/** Size of an input record in bytes, see README.md. */
export const INPUT_SIZE = 24 + 8 + 32 * 8 + 64 * 8 + MAX_WORDS * 4;
/** Size of an output record without the changed bytes that follow it. */
export const OUTPUT_SIZE = 32 + 24 + 32 * 8 + 64 * 8;

/** Contents of the data memory for `seed`: xorshift32 (Marsaglia), little-endian words; all zero for seed 0. */
export function dataImage(seed: number): Uint8Array {
  const image = new Uint32Array(DATA_SIZE / 4);
  let s = seed | 0;
  for (let i = 0; i < image.length; i++) {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    image[i] = s;
  }
  return new Uint8Array(image.buffer);
}

/** Writes `input` as an input record at `offset`. */
export function encodeInput(input: Input, to: DataView, offset: number): void {
  to.setUint32(offset, input.words.length, true);
  to.setUint32(offset + 4, input.seed, true);
  to.setUint32(offset + 8, input.fpcr, true);
  to.setUint32(offset + 12, input.fpsr, true);
  to.setUint32(offset + 16, input.nzcv, true);
  to.setBigUint64(offset + 24, input.tpidr, true);
  for (let i = 0; i < 32; i++) to.setBigUint64(offset + 32 + 8 * i, input.x[i]!, true);
  for (let i = 0; i < 64; i++) to.setBigUint64(offset + 288 + 8 * i, input.v[i]!, true);
  for (let i = 0; i < MAX_WORDS; i++) to.setUint32(offset + 800 + 4 * i, input.words[i] ?? 0, true);
}

/** Length in bytes of the output record at `offset`, or 0 if its fixed part is not complete. */
export function outputLength(from: DataView, offset: number): number {
  if (from.byteLength - offset < OUTPUT_SIZE) return 0;
  return OUTPUT_SIZE + from.getUint32(offset + 24, true);
}

/** Reads the complete output record at `offset`. */
export function decodeOutput(from: DataView, offset: number): Result {
  const u32 = (at: number) => from.getUint32(offset + at, true);
  const u64 = (at: number) => from.getBigUint64(offset + at, true);
  const start = from.byteOffset + offset + OUTPUT_SIZE;
  return {
    signal: u32(0),
    code: u32(4),
    fpcr: u32(8),
    fpsr: u32(12),
    nzcv: u32(16),
    tpidr: u64(32),
    pc: u64(40),
    address: u64(48),
    x: BigUint64Array.from({ length: 32 }, (_, i) => u64(56 + 8 * i)),
    v: BigUint64Array.from({ length: 64 }, (_, i) => u64(312 + 8 * i)),
    changed: u32(20),
    bytes: new Uint8Array(from.buffer.slice(start, start + u32(24))),
  };
}

/** An input with all registers zero, SP and nothing else pointing into the data memory. */
export function emptyInput(words: number[]): Input {
  const x = new BigUint64Array(32);
  x[31] = BigInt(DATA + 0x1000);
  return { words, seed: 1, fpcr: 0, fpsr: 0, nzcv: 0, tpidr: 0n, x, v: new BigUint64Array(64) };
}
