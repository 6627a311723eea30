/**
 * Random instructions and random states for them, from a seed. The stored vectors hold seeds instead of inputs:
 * after a change in {@link makeInput} or what it calls they must be generated again.
 */
import { findRow, ROWS, type Row } from './encodings.ts';
import { BLOCK, DATA, DATA_SIZE, dataImage, emptyInput, type Input } from './record.ts';

/** xoshiro128** (Blackman, Vigna), seeded by splitmix32. */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  constructor(seed: number) {
    let s = seed | 0;
    const next = () => {
      s = (s + 0x9e37_79b9) | 0;
      let z = s;
      z = Math.imul(z ^ (z >>> 16), 0x85eb_ca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2_ae35);
      return z ^ (z >>> 16);
    };
    this.a = next();
    this.b = next();
    this.c = next();
    this.d = next() | 1;
  }

  /** A uniform u32. */
  u32(): number {
    const m = Math.imul(this.b, 5);
    const result = Math.imul((m << 7) | (m >>> 25), 9);
    const t = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= t;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result >>> 0;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** Uniform in 0..n-1. */
  below(n: number): number {
    return Math.floor((this.u32() / 0x1_0000_0000) * n);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

const U64 = (v: bigint) => BigInt.asUintN(64, v);

/** An integer of `bits` bits, often on an edge. */
function integer(r: Random, bits: number): bigint {
  const n = BigInt(bits);
  const one = 1n;
  let v: bigint;
  switch (r.below(9)) {
    case 0:
      v = r.pick([0n, 0n, 1n, 2n, -1n, -1n, -2n]);
      break;
    case 1:
      v = r.pick([one << (n - 1n), (one << (n - 1n)) - 1n, (one << (n - 1n)) + 1n]);
      break;
    case 2:
      v = (one << BigInt(r.below(bits))) + BigInt(r.below(3) - 1);
      break;
    case 3:
      v = -(one << BigInt(r.below(bits))) + BigInt(r.below(3) - 1);
      break;
    case 4:
      v = BigInt(r.below(256)) - 128n;
      break;
    case 5:
      // The edges of the 32-bit view.
      v = r.pick([0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, -0x8000_0000n, -0x8000_0001n]);
      break;
    case 6:
      v = r.u64() >> BigInt(r.below(64));
      break;
    default:
      v = r.u64();
  }
  return BigInt.asUintN(bits, v);
}

interface Format {
  readonly bits: number;
  readonly fraction: number;
  readonly bias: number;
}
const HALF: Format = { bits: 16, fraction: 10, bias: 15 };
const SINGLE: Format = { bits: 32, fraction: 23, bias: 127 };
const DOUBLE: Format = { bits: 64, fraction: 52, bias: 1023 };

/**
 * Where the exponents of a record's numbers lie: anywhere with many special values; or all around one point, so that
 * sums cancel and round (0), products and quotients underflow (-0.5, -1) or overflow (0.5, 1), in units of the bias.
 */
type Center = 'special' | number;

/** A floating-point number in `f`. */
function float(r: Random, f: Format, center: Center): bigint {
  const fraction = BigInt(f.fraction);
  const all = (1n << fraction) - 1n;
  const quiet = 1n << (fraction - 1n);
  const maxExponent = 2 * f.bias + 1;
  // Fractions with few ones or few zeros make halfway cases and carries likely.
  const mantissa = () => {
    switch (r.below(6)) {
      case 0:
        return r.pick([0n, 1n, all, all - 1n, quiet, quiet - 1n, quiet + 1n]);
      case 1:
        return 1n << BigInt(r.below(f.fraction));
      case 2:
        return (all << BigInt(r.below(f.fraction))) & all;
      case 3:
        return all >> BigInt(r.below(f.fraction));
      default:
        return r.u64() & all;
    }
  };
  let exponent: number;
  let m = mantissa();
  switch (center === 'special' ? r.below(16) : 16) {
    case 0:
      exponent = 0;
      m = 0n;
      break;
    case 1:
      exponent = 0;
      break;
    case 2:
      exponent = 1;
      break;
    case 3:
      exponent = maxExponent;
      m = 0n;
      break;
    case 4:
      exponent = maxExponent;
      m |= quiet;
      break;
    case 5:
      exponent = maxExponent;
      m = (m & (quiet - 1n)) | (r.chance(50) ? 1n : 0n);
      break;
    case 6:
      exponent = maxExponent - 1;
      break;
    case 7:
      // Around the limits of the integer formats and of the next narrower format.
      exponent = f.bias + r.pick([7, 8, 14, 15, 16, 30, 31, 32, 62, 63, 64, -14, -15, -24, -25, -126, -149, 127, 128]);
      break;
    case 8:
      exponent = f.bias + f.fraction + r.below(3) - 1;
      break;
    case 9:
      exponent = 1 + r.below(maxExponent - 1);
      break;
    case 16:
      exponent = Math.min(maxExponent - 1, f.bias + Math.round(f.bias * Number(center)) + r.below(9) - 4);
      break;
    default:
      exponent = f.bias + r.below(7) - 3;
  }
  exponent = Math.max(0, Math.min(maxExponent, exponent));
  const sign = r.chance(50) ? 1n << BigInt(f.bits - 1) : 0n;
  return sign | (BigInt(exponent) << fraction) | m;
}

type LaneMode = 'f16' | 'f32' | 'f64' | 'i8' | 'i16' | 'i32' | 'i64';

function vectorHalf(r: Random, mode: LaneMode, center: Center): bigint {
  const bits = Number(mode.slice(1));
  const format = bits === 16 ? HALF : bits === 32 ? SINGLE : DOUBLE;
  let v = 0n;
  for (let at = 0; at < 64; at += bits) {
    v |= (mode.startsWith('f') ? float(r, format, center) : integer(r, bits)) << BigInt(at);
  }
  return v;
}

/** The element type that a word probably works on. */
function laneMode(r: Random, word: number, row: Row | undefined): LaneMode {
  if (r.chance(10)) return r.pick(['f16', 'f32', 'f64', 'i8', 'i16', 'i32', 'i64'] as const);
  if (row?.kind === 'fp') {
    const half = (word & 0xffe0_0000) >>> 0 === 0x1ee0_0000 || (word & 0xbfff_fc00) >>> 0 === 0x0e21_7800;
    if (half) return 'f16';
    if (row.name.includes('CVTF')) return (word & 0x0040_0000) !== 0 ? 'i64' : 'i32';
    if (row.name.startsWith('FCVTL')) return 'f32';
    return (word & 0x0040_0000) !== 0 ? 'f64' : 'f32';
  }
  return r.pick(['i8', 'i16', 'i32', 'i64'] as const);
}

/** An address for a memory access: mostly inside the data, sometimes across or beyond an edge. */
function dataAddress(r: Random, aligned: boolean): bigint {
  let a: bigint;
  const mask = aligned ? ~15 : ~0;
  const k = r.below(100);
  if (k < 50) a = BigInt(DATA + (r.below(DATA_SIZE - 64) & ~15));
  else if (k < 76) a = BigInt(DATA + (r.below(DATA_SIZE - 64) & mask));
  else if (k < 86) a = BigInt(DATA + 0x1000 + ((r.below(72) - 64) & mask));
  else if (k < 93) a = BigInt(DATA + DATA_SIZE + ((r.below(72) - 64) & mask));
  else if (k < 96) a = BigInt(DATA + ((r.below(32) - 24) & mask));
  else if (k < 98) a = BigInt(DATA + (r.below(DATA_SIZE - 64) & mask)) | (BigInt(r.below(256)) << 56n);
  else a = r.pick([0x10n, 0x1_0000_0000_0000n, 0xffff_8000_0000_0000n, -16n, -1n]);
  return U64(a);
}

const bits = (word: number, high: number, low: number) => (word >>> low) & ((1 << (high - low + 1)) - 1);
const signed = (value: number, width: number) => (value << (32 - width)) >> (32 - width);

/** How a load or store forms its address. `offset` is what the address has beyond the base register. */
interface Addressing {
  readonly base: number;
  readonly offset: number;
  readonly index?: number;
  readonly option?: number;
  readonly shift?: number;
  readonly exclusive?: boolean;
}

function addressing(word: number): Addressing | undefined {
  const base = bits(word, 9, 5);
  const simd = bits(word, 26, 26) === 1;
  const size = bits(word, 31, 30);
  if ((word & 0x3f00_0000) >>> 0 === 0x0800_0000) return { base, offset: 0, exclusive: true };
  if ((word & 0x3a00_0000) >>> 0 === 0x2800_0000) {
    const scale = simd ? 4 << size : size === 2 ? 8 : 4;
    return { base, offset: bits(word, 24, 23) === 1 ? 0 : signed(bits(word, 21, 15), 7) * scale };
  }
  const scale = simd && size === 0 && bits(word, 23, 23) === 1 ? 4 : size;
  if ((word & 0x3b00_0000) >>> 0 === 0x3900_0000) return { base, offset: bits(word, 21, 10) << scale };
  if ((word & 0x3b20_0000) >>> 0 === 0x3800_0000) {
    return { base, offset: bits(word, 11, 10) === 1 ? 0 : signed(bits(word, 20, 12), 9) };
  }
  if ((word & 0x3b20_0c00) >>> 0 === 0x3820_0800) {
    const shift = bits(word, 12, 12) === 1 ? scale : 0;
    return { base, offset: 0, index: bits(word, 20, 16), option: bits(word, 15, 13), shift };
  }
  if ((word & 0x3b20_0c00) >>> 0 === 0x3820_0000) return { base, offset: 0, exclusive: true };
  if ((word & 0xbe00_0000) >>> 0 === 0x0c00_0000) return { base, offset: 0 };
  if ((word & 0xfff8_0000) >>> 0 === 0xd508_0000) return { base: bits(word, 4, 0), offset: 0 };
  return undefined;
}

/** Points the registers of the load or store `word` at the data memory. */
function aim(r: Random, word: number, input: Input): void {
  const mode = addressing(word);
  if (mode === undefined) return;
  const cacheOp = (word & 0xfff8_0000) >>> 0 === 0xd508_0000;
  const aligned = cacheOp || (mode.exclusive === true && r.chance(85));
  let address = dataAddress(r, aligned);
  // A store-exclusive with the monitor open may fault or just fail; QEMU does the latter.
  const storeExclusive = (word & 0x3fc0_0000) >>> 0 === 0x0800_0000 && (word & 0x8020_0000) >>> 0 !== 0x0020_0000;
  if (storeExclusive) address = BigInt(DATA + (r.below(DATA_SIZE) & ~15));
  // QEMU's user mode does not translate the addresses of cache maintenance.
  if (cacheOp && (word & 0x0000_0f00) !== 0x0400) address = BigInt(DATA + r.below(DATA_SIZE));
  let offset = BigInt(mode.offset);
  if (mode.index !== undefined && mode.index !== mode.base) {
    const index = r.chance(70) ? BigInt(r.below(512) - 256) : integer(r, 64);
    if (mode.index !== 31) input.x[mode.index] = U64(index);
    const rm = mode.index === 31 ? 0n : index;
    const extended =
      mode.option === 2 ? BigInt.asUintN(32, rm) : mode.option === 6 ? BigInt.asIntN(32, rm) : BigInt.asIntN(64, rm);
    offset = extended << BigInt(mode.shift!);
  }
  if (cacheOp && mode.base === 31) return;
  input.x[mode.base] = U64(address - offset);
  if (!mode.exclusive) return;
  // Let compare-and-swap succeed half of the time.
  const at = Number(address) - DATA;
  if ((word & 0x3fa0_0000) >>> 0 === 0x08a0_0000 || (word & 0xbfa0_0000) >>> 0 === 0x0820_0000) {
    const rs = bits(word, 20, 16);
    if (rs === mode.base || at < 0 || at + 16 > DATA_SIZE || r.chance(40)) return;
    const image = new DataView(dataImage(input.seed).buffer);
    const pair = (word & 0x0080_0000) === 0;
    if (pair && bits(word, 30, 30) === 0) {
      input.x[rs] = BigInt(image.getUint32(at, true)) | (r.u64() << 32n);
      if (rs < 30 && r.chance(80)) input.x[rs + 1] = BigInt(image.getUint32(at + 4, true));
    } else {
      input.x[rs] = image.getBigUint64(at, true);
      if (pair && rs < 30 && r.chance(80)) input.x[rs + 1] = image.getBigUint64(at + 8, true);
    }
  }
}

const FPSR_ALL = 0x0800_009f;

/** The state in which the instructions `words` run, fully determined by its arguments. */
export function makeInput(words: number[], seed: number): Input {
  const r = new Random(seed);
  const word = words[0]!;
  const row = findRow(word);
  const input = emptyInput(words);
  input.seed = 1 + r.below(15);
  input.nzcv = r.below(16);
  if (!r.chance(40)) {
    input.fpcr = (r.below(4) << 22) | (r.below(100) < 40 ? 1 << 24 : 0) | (r.below(100) < 35 ? 1 << 25 : 0);
    if (r.chance(25)) input.fpcr |= 1 << 26;
  }
  const k = r.below(10);
  input.fpsr = k < 3 ? 0 : k < 7 ? 0x10 : k < 9 ? FPSR_ALL : r.u32() & FPSR_ALL;
  input.tpidr = r.u64();
  for (let i = 0; i < 32; i++) input.x[i] = i > 0 && r.chance(6) ? input.x[r.below(i)]! : integer(r, 64);
  const mode = laneMode(r, word, row);
  const center = r.chance(50) ? 'special' : r.pick([0, 0, 0, -0.5, -1, 0.5, 1]);
  for (let i = 0; i < 64; i++) input.v[i] = i > 1 && r.chance(5) ? input.v[i - 2]! : vectorHalf(r, mode, center);

  if (words.length > 1) {
    // Blocks use these as bases, see randomBlock().
    input.x[26] = BigInt(DATA + 0x0ff8);
    input.x[27] = BigInt(DATA + 0x0800 + r.below(64));
    input.x[28] = BigInt(DATA + 0x1000);
    input.x[31] = BigInt(DATA + 0x1800);
    return input;
  }
  if (row?.kind === 'mem') aim(r, word, input);
  else if (row === undefined || row.kind === 'undefined') {
    for (let i = 0; i < 32; i++) input.x[i] = BigInt(DATA + 0x800 + 16 * i);
  }
  if (row?.name === 'BR' || row?.name === 'BLR' || row?.name === 'RET') {
    let target = BigInt(BLOCK + 4 * (1 + r.below(2000)) * (r.chance(50) ? 1 : -1));
    if (r.chance(5)) target |= 0x5a00_0000_0000_0000n;
    if (r.chance(5)) target = r.pick([0x4001_0002n, 0x3000_0000n, 0x4010_7fe6n, 0xffff_8000_0000_1000n]);
    const rn = bits(word, 9, 5);
    if (rn !== 31) input.x[rn] = target;
  }
  return input;
}

/** Words that act on QEMU itself or wait: SVC, HLT #0xf000, WFE, WFI. */
export function forbidden(word: number): boolean {
  return (
    (word & 0xffe0_001f) >>> 0 === 0xd400_0001 ||
    (word & 0xffe0_0000) >>> 0 === 0xd440_0000 ||
    word === 0xd503_205f ||
    word === 0xd503_207f
  );
}

/** Loads and stores whose result is CONSTRAINED UNPREDICTABLE because registers coincide (DDI 0487, K1.1.3). */
export function unpredictable(word: number): boolean {
  const rt = bits(word, 4, 0);
  const rn = bits(word, 9, 5);
  const rt2 = bits(word, 14, 10);
  const rs = bits(word, 20, 16);
  const load = bits(word, 22, 22) === 1;
  const simd = bits(word, 26, 26) === 1;
  if ((word & 0x3a00_0000) >>> 0 === 0x2800_0000) {
    const writeback = bits(word, 23, 23) === 1;
    if (load && rt === rt2) return true;
    return writeback && !simd && rn !== 31 && (rn === rt || rn === rt2);
  }
  if ((word & 0x3b20_0400) >>> 0 === 0x3800_0400) return !simd && rn !== 31 && rn === rt;
  if ((word & 0x3fa0_0000) >>> 0 === 0x0800_0000 || (word & 0xbfa0_0000) >>> 0 === 0x8820_0000) {
    const pair = bits(word, 21, 21) === 1;
    if (load) return pair && rt === rt2;
    return rs === rt || (pair && rs === rt2) || (rs === rn && rn !== 31);
  }
  return false;
}

/** A random instance of `row`. */
export function randomWord(r: Random, row: Row): number {
  for (;;) {
    let free = r.u32();
    // Register 31 and equal registers, where a field at that place is free.
    const place = (shift: number, value: number) => {
      if (((row.mask >>> shift) & 31) === 0) free = (free & ~(31 << shift)) | (value << shift);
    };
    for (const shift of [0, 5, 10, 16]) if (r.chance(8)) place(shift, 31);
    if (r.chance(15)) place(16, bits(free, 9, 5));
    if (r.chance(12)) place(0, bits(free, 9, 5));
    if (r.chance(6)) place(0, bits(free, 20, 16));
    let word = ((row.value & row.mask) | (free & ~row.mask)) >>> 0;
    word = near(r, word, row);
    // CASP of an odd register is UNDEFINED.
    if (row.name.startsWith('CASP') && r.chance(85)) word = (word & ~0x0001_0001) >>> 0;
    // Address 0 for maintenance that QEMU's user mode does not translate.
    const zero = row.kind === 'mem' && (word & 0xfff8_001f) >>> 0 === 0xd508_001f && (word & 0xf00) !== 0x400;
    if (!forbidden(word) && !unpredictable(word) && !zero) return word;
  }
}

/** Gives branches and literal loads a useful distance. */
function near(r: Random, word: number, row: Row): number {
  const field = (low: number, width: number, offset: number) => {
    const mask = ((2 ** width - 1) << low) >>> 0;
    return ((word & ~mask) | ((offset << low) & mask)) >>> 0;
  };
  if (row.name.includes('literal')) {
    const address = Number(BigInt.asUintN(56, dataAddress(r, false)));
    const inside = address > DATA - 0x1000 && address < DATA + DATA_SIZE + 0x1000;
    return field(5, 19, r.chance(15) ? r.below(64) - 32 : inside ? (address - BLOCK) >> 2 : -(2 ** 18));
  }
  if (row.kind !== 'branch' || row.name === 'BR' || row.name === 'BLR' || row.name === 'RET') return word;
  const width = row.name === 'B' || row.name === 'BL' ? 26 : row.name.includes('TB') ? 14 : 19;
  let offset = r.chance(50) ? 1 + r.below(64) : -1 - r.below(64);
  if (r.chance(20)) offset = r.pick([2 ** (width - 1) - 1, -(2 ** (width - 1)), 2, -1, 0x1000]);
  return field(width === 26 ? 0 : 5, width, offset);
}

const BLOCK_ROWS = ROWS.filter(r => !r.lse && (r.kind === 'int' || r.kind === 'fp' || r.kind === 'simd'));
const INT_ROWS = ROWS.filter(r => r.kind === 'int');
const BRANCH_ROWS = ROWS.filter(r => r.kind === 'branch' && !['B', 'BL', 'BR', 'BLR', 'RET'].includes(r.name));
const BLOCK_MEM_ROWS = ROWS.filter(
  r =>
    r.kind === 'mem' &&
    !r.lse &&
    (r.value & 0x3a00_0000) !== 0x1800_0000 &&
    addressing(r.value) !== undefined &&
    !/XR|XP|DC|IC|PRF/.test(r.name),
);
const EXCLUSIVE_ROWS = ROWS.filter(r => r.kind === 'mem' && /XR|XP/.test(r.name));
const FLAG_ROWS = ROWS.filter(r => /\b(ADDS|SUBS|ANDS|BICS|CCMP|CCMN|ADCS|SBCS|FCMPE?|FCCMPE?)\b/.test(r.name));

/**
 * A block of instructions that runs in one go: data processing on X0..X15 and all V registers, comparisons followed by
 * branches forward, loads and stores based on X26..X28 and SP. It finds what depends on the neighbours of an instruction.
 */
export function randomBlock(r: Random): number[] {
  const count = 6 + r.below(19);
  const style = r.below(4);
  const words: number[] = [];
  // A store-exclusive whose size is not its load-exclusive's is CONSTRAINED UNPREDICTABLE (DDI 0487, B2.9.5).
  const same = r.pick(EXCLUSIVE_ROWS).value;
  const exclusives = EXCLUSIVE_ROWS.filter(row => ((row.value ^ same) & 0xc020_0000) === 0);
  const setField = (word: number, low: number, value: number) => ((word & ~(31 << low)) | (value << low)) >>> 0;
  const restrict = (word: number, row: Row) => {
    if ((row.mask & 31) !== 0) return word;
    let w = setField(word, 0, bits(word, 4, 0) === 31 && row.kind === 'int' ? 31 : r.below(16));
    // Flag-setting instructions keep XZR; ADD, SUB and logical ones with an immediate or extended register write SP.
    const extended = (w & 0x1f20_0000) >>> 0 === 0x0b20_0000;
    // ANDS is opc 11 (ORR is 01); ADDS and SUBS have bit 29.
    const setsFlags = bits(w, 28, 23) === 0x24 ? bits(w, 30, 29) === 3 : bits(w, 29, 29) === 1;
    if (bits(w, 4, 0) === 31 && (extended || bits(w, 28, 26) === 4) && !setsFlags) w = setField(w, 0, 7);
    return w;
  };
  while (words.length < count) {
    const k = r.below(100);
    if (style === 3 && k < 40) {
      // An exclusive, on one of two nearby locations.
      let w = randomWord(r, r.pick(exclusives));
      w = setField(w, 5, r.chance(80) ? 28 : 31);
      for (const low of [0, 10, 16]) {
        const isField = low === 0 || bits(w, low + 4, low) !== 31;
        if (isField) w = setField(w, low, r.below(16));
      }
      if (!unpredictable(w)) words.push(w);
    } else if (k < 30) {
      const row = r.pick(FLAG_ROWS);
      words.push(restrict(randomWord(r, row), row));
      if (r.chance(70)) {
        const b = randomWord(r, r.pick(BRANCH_ROWS));
        words.push(forward(b, 1 + r.below(4)));
      }
    } else if (k < 36) {
      words.push(forward(randomWord(r, r.pick(BRANCH_ROWS)), 1 + r.below(4)));
    } else if (k < 50 && style !== 3) {
      const row = r.pick(BLOCK_MEM_ROWS);
      let w = setField(randomWord(r, row), 5, r.pick([26, 27, 28, 31]));
      if ((w & 0x0400_0000) === 0) {
        w = setField(w, 0, r.below(16));
        if ((w & 0x3a00_0000) >>> 0 === 0x2800_0000) w = setField(w, 10, r.below(16));
      }
      if ((w & 0x3b00_0000) >>> 0 === 0x3900_0000) w = (w & ~(0xe0 << 14)) >>> 0;
      // Register offsets and post-indexes are random numbers: only #imm forms stay inside the data.
      const indexed = (w & 0x3b20_0c00) >>> 0 === 0x3820_0800 || (w & 0xbe80_0000) >>> 0 === 0x0c80_0000;
      if (!indexed && !unpredictable(w)) words.push(w);
    } else {
      const row = r.pick(style === 0 ? INT_ROWS : BLOCK_ROWS);
      words.push(restrict(randomWord(r, row), row));
    }
  }
  return words.slice(0, 32).filter(w => !forbidden(w) && !invalidOperand(w));
}

/** Integer instructions of the table that are UNDEFINED by an operand (DDI 0487, C4.1.65 and C4.1.94). */
function invalidOperand(word: number): boolean {
  const wide = bits(word, 31, 31) === 1;
  if ((word & 0x1fe0_0000) >>> 0 === 0x0b20_0000) return bits(word, 12, 10) > 4;
  if ((word & 0x1f80_0000) >>> 0 === 0x1280_0000) return !wide && bits(word, 22, 22) === 1;
  if ((word & 0x1f80_0000) >>> 0 !== 0x1200_0000) return false;
  // DecodeBitMasks()
  const n = bits(word, 22, 22);
  const imms = bits(word, 15, 10);
  const pattern = (n << 6) | (~imms & 63);
  if (pattern < 2 || (!wide && n === 1)) return true;
  const levels = (1 << (31 - Math.clz32(pattern))) - 1;
  return (imms & levels) === levels;
}

/** The conditional branch `word` with a distance of `offset` instructions. */
function forward(word: number, offset: number): number {
  const width = (word & 0x7e00_0000) >>> 0 === 0x3600_0000 ? 14 : 19;
  const mask = (((1 << width) - 1) << 5) >>> 0;
  return ((word & ~mask) | (offset << 5)) >>> 0;
}
