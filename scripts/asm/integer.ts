// Data processing, immediate and register: Arm ARM C4.1.86 and C4.1.91. `word(base, [field, position], ...)`.
import { bitmask, type Encoder, type Encoders, type Instruction, sf, word } from './context.ts';
import type { Register } from './operands.ts';

const EXTENSIONS = ['uxtb', 'uxth', 'uxtw', 'uxtx', 'sxtb', 'sxth', 'sxtw', 'sxtx'];
const SHIFTS = ['lsl', 'lsr', 'asr', 'ror'];
const ZERO = 31;

export const integer: Encoders = {};

// --- Addition and subtraction ---

/** `op` 0 adds, 1 subtracts; `s` sets flags. Operands from `i` on are the second source. */
function addSub(c: Instruction, op: number, s: number, rd: number, rn: Register, i: number): number {
  const size = sf(rn);
  const base = word(0, [size, 31], [op, 30], [s, 29], [rn.n, 5], [rd, 0]);
  if (c.kind(i) === 'immediate') {
    const wide = c.has(i + 1) ? shiftOf12(c, i + 1) : undefined;
    let v = c.value(i);
    // A negative number is the opposite operation on its magnitude.
    const flip = v < 0n && wide === undefined;
    if (flip) v = -v;
    const shifted = wide ?? (v > 0xfffn && (v & 0xfffn) === 0n);
    if (shifted && wide === undefined) v >>= 12n;
    if (v < 0n || v > 0xfffn) throw c.error(`${c.value(i)} is no 12-bit number, shifted by 12 or not`);
    const w = word(base, [0b100010, 23], [shifted ? 1 : 0, 22], [Number(v), 10]);
    return flip ? (w ^ (1 << 30)) >>> 0 : w;
  }
  const rm = c.general(i);
  const hasShift = c.has(i + 1);
  const type = hasShift ? c.shift(i + 1).type : 'lsl';
  const extended = EXTENSIONS.includes(type) || rn.sp || rm.cls !== rn.cls || (rd === 31 && s === 0 && isSp(c, 0));
  const amount = hasShift ? c.shift(i + 1).amount : undefined;
  if (extended) {
    let option = EXTENSIONS.indexOf(type);
    // `lsl` beside the stack pointer is the extension that changes nothing.
    if (option < 0 && type === 'lsl') option = size === 1 ? 3 : 2;
    if (option < 0) throw c.error(`'${type}' is no extension`);
    if ((rm.cls === 'x') !== (size === 1 && option % 4 === 3)) throw c.error(`'${type}' does not go with '${rm.text}'`);
    const by = amount === undefined ? 0 : c.limited(amount, 0, 4);
    return word(base, [0b01011001, 21], [rm.n, 16], [option, 13], [by, 10]);
  }
  const kind = SHIFTS.indexOf(type);
  if (kind < 0 || kind === 3) throw c.error(`'${type}' is not possible here`);
  const by = amount === undefined ? 0 : c.limited(amount, 0, size === 1 ? 63 : 31);
  return word(base, [0b01011, 24], [kind, 22], [c.same(rm, rn), 16], [by, 10]);
}

function isSp(c: Instruction, i: number): boolean {
  const o = c.operands[i];
  return o?.kind === 'register' && o.sp;
}

function shiftOf12(c: Instruction, i: number): boolean {
  const { type, amount } = c.shift(i);
  const by = amount === undefined ? 0 : c.limited(amount, 0, 12, 12);
  if (type !== 'lsl') throw c.error('the number can only be shifted by lsl');
  return by === 12;
}

/** add, adds, sub, subs: the immediate and extended forms can use the stack pointer. */
function arithmetic(op: number, s: number): Encoder {
  return c => {
    c.count(3, 4);
    const rd = s === 1 ? c.general(0) : c.register(0, 'xw');
    const rn = c.register(1, 'xw');
    c.same(rn, rd);
    const spAllowed = c.kind(2) === 'immediate' || rd.sp || rn.sp || (c.has(3) && EXTENSIONS.includes(c.shift(3).type));
    if (spAllowed && ((rn.n === ZERO && !rn.sp) || (s === 0 && rd.n === ZERO && !rd.sp))) {
      throw c.error('the zero register cannot be used here');
    }
    return addSub(c, op, s, rd.n, rn, 2);
  };
}
Object.assign(integer, {
  add: arithmetic(0, 0),
  adds: arithmetic(0, 1),
  sub: arithmetic(1, 0),
  subs: arithmetic(1, 1),
});

function compare(op: number): Encoder {
  return c => {
    c.count(2, 3);
    return addSub(c, op, 1, ZERO, c.register(0, 'xw'), 1);
  };
}
integer.cmp = compare(1);
integer.cmn = compare(0);

function negate(s: number): Encoder {
  return c => {
    c.count(2, 3);
    const rd = c.general(0);
    return addSub(c, 1, s, rd.n, { ...rd, n: ZERO, sp: false }, 1);
  };
}
integer.neg = negate(0);
integer.negs = negate(1);

/** Three registers of one size: sf, base, and the number of sources that are the zero register. */
function threeRegisters(base: number): Encoder {
  return c => {
    c.count(3);
    const rd = c.general(0);
    return word(base, [sf(rd), 31], [c.same(c.general(2), rd), 16], [c.same(c.general(1), rd), 5], [rd.n, 0]);
  };
}
function twoRegisters(base: number, positionOfSource: number): Encoder {
  return c => {
    c.count(2);
    const rd = c.general(0);
    return word(base, [sf(rd), 31], [c.same(c.general(1), rd), positionOfSource], [rd.n, 0]);
  };
}
for (const [name, base] of [
  ['adc', 0x1a000000],
  ['adcs', 0x3a000000],
  ['sbc', 0x5a000000],
  ['sbcs', 0x7a000000],
  ['udiv', 0x1ac00800],
  ['sdiv', 0x1ac00c00],
  ['lslv', 0x1ac02000],
  ['lsrv', 0x1ac02400],
  ['asrv', 0x1ac02800],
  ['rorv', 0x1ac02c00],
  ['mul', 0x1b007c00],
  ['mneg', 0x1b00fc00],
] as const) {
  integer[name] = threeRegisters(base);
}
integer.ngc = twoRegisters(0x5a0003e0, 16);
integer.ngcs = twoRegisters(0x7a0003e0, 16);
integer.rbit = twoRegisters(0x5ac00000, 5);
integer.rev16 = twoRegisters(0x5ac00400, 5);
integer.clz = twoRegisters(0x5ac01000, 5);
integer.cls = twoRegisters(0x5ac01400, 5);
integer.rev = c => (c.general(0).cls === 'x' ? twoRegisters(0x5ac00c00, 5) : twoRegisters(0x5ac00800, 5))(c);
integer.rev32 = c => {
  c.general(0, 'x');
  return twoRegisters(0x5ac00800, 5)(c);
};

// --- Logic ---

/** opc:N of the register forms; the immediate form has N = 0 only. */
const LOGIC: Readonly<Record<string, readonly [opc: number, n: number]>> = {
  and: [0, 0],
  bic: [0, 1],
  orr: [1, 0],
  orn: [1, 1],
  eor: [2, 0],
  eon: [2, 1],
  ands: [3, 0],
  bics: [3, 1],
};

function logic(c: Instruction, opc: number, n: number, rd: number, rn: Register, i: number): number {
  const size = sf(rn);
  const base = word(0, [size, 31], [opc, 29], [rn.n, 5], [rd, 0]);
  if (c.kind(i) === 'immediate') {
    const v = c.value(i);
    const field = bitmask(n === 1 ? ~v : v, size === 1 ? 64 : 32);
    if (field === undefined) throw c.error(`0x${BigInt.asUintN(64, v).toString(16)} is no bitmask immediate`);
    return word(base, [0b100100, 23], [field, 10]);
  }
  const rm = c.general(i);
  const [kind, by] = shiftOf(c, i + 1, size);
  return word(base, [0b01010, 24], [kind, 22], [n, 21], [c.same(rm, rn), 16], [by, 10]);
}

function shiftOf(c: Instruction, i: number, size: number): readonly [kind: number, amount: number] {
  if (!c.has(i)) return [0, 0];
  const { type, amount } = c.shift(i);
  const kind = SHIFTS.indexOf(type);
  if (kind < 0 || amount === undefined) throw c.error(`'${type}' is not possible here`);
  return [kind, c.limited(amount, 0, size === 1 ? 63 : 31)];
}

for (const [name, [opc, n]] of Object.entries(LOGIC)) {
  integer[name] = c => {
    c.count(3, 4);
    const spAllowed = c.kind(2) === 'immediate' && opc !== 3;
    const rd = spAllowed ? c.register(0, 'xw') : c.general(0);
    const rn = c.general(1);
    c.same(rn, rd);
    return logic(c, opc, n, rd.n, rn, 2);
  };
}
integer.tst = c => {
  c.count(2, 3);
  return logic(c, 3, 0, ZERO, c.general(0), 1);
};
integer.mvn = c => {
  c.count(2, 3);
  const rd = c.general(0);
  return logic(c, 1, 1, rd.n, { ...rd, n: ZERO, sp: false }, 1);
};

// --- Moves ---

function moveWide(opc: number): Encoder {
  return c => {
    c.count(2, 3);
    const rd = c.general(0);
    const shift = c.has(2) ? c.shift(2).amount : undefined;
    const by = shift === undefined ? 0 : c.limited(shift, 0, sf(rd) === 1 ? 48 : 16, 16);
    const v = c.number(1, 0, 0xffff);
    return word(0b100101 * 2 ** 23, [sf(rd), 31], [opc, 29], [by / 16, 21], [v, 5], [rd.n, 0]);
  };
}
integer.movn = moveWide(0);
integer.movz = moveWide(2);
integer.movk = moveWide(3);

integer.mov = c => {
  c.count(2);
  const rd = c.register(0, 'xw');
  const size = sf(rd);
  if (c.kind(1) === 'register') {
    const rn = c.register(1, 'xw');
    c.same(rn, rd);
    if (rd.sp || rn.sp) return word(0x11000000, [size, 31], [rn.n, 5], [rd.n, 0]);
    return word(0x2a0003e0, [size, 31], [rn.n, 16], [rd.n, 0]);
  }
  const bits = size === 1 ? 64 : 32;
  const given = c.value(1);
  if (given >= 1n << BigInt(bits) || given < -(1n << BigInt(bits - 1))) throw c.error(`${given} has too many bits`);
  const v = BigInt.asUintN(bits, given);
  if (!rd.sp) {
    for (const [opc, part] of [
      [2, v],
      [0, BigInt.asUintN(bits, ~v)],
    ] as const) {
      for (let at = 0; at < bits; at += 16) {
        if ((part & ~(0xffffn << BigInt(at))) !== 0n) continue;
        const imm = Number(part >> BigInt(at));
        return word(0b100101 * 2 ** 23, [size, 31], [opc, 29], [at / 16, 21], [imm, 5], [rd.n, 0]);
      }
    }
  }
  const field = bitmask(v, bits);
  if (field === undefined) throw c.error(`0x${v.toString(16)} needs more than one instruction: use ldr with '='`);
  return word(0x320003e0, [size, 31], [field, 10], [rd.n, 0]);
};

// --- Bit fields and shifts ---

function bitfield(opc: number, rd: Register, rn: number, immr: number, imms: number): number {
  const size = sf(rd);
  return word(0b100110 * 2 ** 23, [size, 31], [opc, 29], [size, 22], [immr, 16], [imms, 10], [rn, 5], [rd.n, 0]);
}
const SBFM = 0;
const BFM = 1;
const UBFM = 2;

for (const [name, opc] of [
  ['sbfm', SBFM],
  ['bfm', BFM],
  ['ubfm', UBFM],
] as const) {
  integer[name] = c => {
    c.count(4);
    const rd = c.general(0);
    const top = sf(rd) === 1 ? 63 : 31;
    return bitfield(opc, rd, c.same(c.general(1), rd), c.number(2, 0, top), c.number(3, 0, top));
  };
}
/** Extraction: from bit `lsb`, `width` bits. */
for (const [name, opc] of [
  ['sbfx', SBFM],
  ['bfxil', BFM],
  ['ubfx', UBFM],
] as const) {
  integer[name] = c => {
    c.count(4);
    const rd = c.general(0);
    const bits = sf(rd) === 1 ? 64 : 32;
    const lsb = c.number(2, 0, bits - 1);
    return bitfield(opc, rd, c.same(c.general(1), rd), lsb, lsb + c.number(3, 1, bits - lsb) - 1);
  };
}
/** Insertion: to bit `lsb`. */
for (const [name, opc] of [
  ['sbfiz', SBFM],
  ['bfi', BFM],
  ['ubfiz', UBFM],
] as const) {
  integer[name] = c => {
    c.count(4);
    const rd = c.general(0);
    const bits = sf(rd) === 1 ? 64 : 32;
    const lsb = c.number(2, 0, bits - 1);
    return bitfield(opc, rd, c.same(c.general(1), rd), (bits - lsb) % bits, c.number(3, 1, bits - lsb) - 1);
  };
}
integer.bfc = c => {
  c.count(3);
  const rd = c.general(0);
  const bits = sf(rd) === 1 ? 64 : 32;
  const lsb = c.number(1, 0, bits - 1);
  return bitfield(BFM, rd, ZERO, (bits - lsb) % bits, c.number(2, 1, bits - lsb) - 1);
};
for (const [name, opc, imms] of [
  ['sxtb', SBFM, 7],
  ['sxth', SBFM, 15],
  ['sxtw', SBFM, 31],
  ['uxtb', UBFM, 7],
  ['uxth', UBFM, 15],
] as const) {
  integer[name] = c => {
    c.count(2);
    const rd = c.general(0, opc === UBFM ? 'w' : name === 'sxtw' ? 'x' : 'xw');
    return bitfield(opc, rd, c.general(1, 'w').n, 0, imms);
  };
}
for (const [kind, name] of SHIFTS.entries()) {
  integer[name] = c => {
    c.count(3);
    if (c.kind(2) === 'register') return threeRegisters(0x1ac02000 + (kind << 10))(c);
    const rd = c.general(0);
    const bits = sf(rd) === 1 ? 64 : 32;
    const rn = c.same(c.general(1), rd);
    const by = c.number(2, 0, bits - 1);
    if (name === 'lsl') return bitfield(UBFM, rd, rn, (bits - by) % bits, bits - 1 - by);
    if (name === 'ror') return extract(rd, rn, rn, by);
    return bitfield(name === 'lsr' ? UBFM : SBFM, rd, rn, by, bits - 1);
  };
}
function extract(rd: Register, rn: number, rm: number, lsb: number): number {
  return word(0x13800000, [sf(rd), 31], [sf(rd), 22], [rm, 16], [lsb, 10], [rn, 5], [rd.n, 0]);
}
integer.extr = c => {
  c.count(4);
  const rd = c.general(0);
  const lsb = c.number(3, 0, sf(rd) === 1 ? 63 : 31);
  return extract(rd, c.same(c.general(1), rd), c.same(c.general(2), rd), lsb);
};

// --- Multiplication ---

function multiplyAdd(base: number): Encoder {
  return c => {
    c.count(4);
    const rd = c.general(0);
    const [rn, rm, ra] = [1, 2, 3].map(i => c.same(c.general(i), rd)) as [number, number, number];
    return word(base, [sf(rd), 31], [rm, 16], [ra, 10], [rn, 5], [rd.n, 0]);
  };
}
integer.madd = multiplyAdd(0x1b000000);
integer.msub = multiplyAdd(0x1b008000);
/** 64 bits from 32 by 32; without an accumulator it is XZR. */
function multiplyLong(base: number, accumulator: boolean): Encoder {
  return c => {
    c.count(accumulator ? 4 : 3);
    const ra = accumulator ? c.general(3, 'x').n : ZERO;
    return word(base, [c.general(2, 'w').n, 16], [ra, 10], [c.general(1, 'w').n, 5], [c.general(0, 'x').n, 0]);
  };
}
for (const [prefix, base] of [
  ['s', 0x9b200000],
  ['u', 0x9ba00000],
] as const) {
  integer[`${prefix}maddl`] = multiplyLong(base, true);
  integer[`${prefix}msubl`] = multiplyLong(base + 0x8000, true);
  integer[`${prefix}mull`] = multiplyLong(base, false);
  integer[`${prefix}mnegl`] = multiplyLong(base + 0x8000, false);
  integer[`${prefix}mulh`] = c => {
    c.count(3);
    const [rd, rn, rm] = [0, 1, 2].map(i => c.general(i, 'x').n) as [number, number, number];
    return word(base + 0x207c00, [rm, 16], [rn, 5], [rd, 0]);
  };
}

// --- Conditions ---

function select(base: number): Encoder {
  return c => {
    c.count(4);
    const rd = c.general(0);
    const [rn, rm] = [c.same(c.general(1), rd), c.same(c.general(2), rd)];
    return word(base, [sf(rd), 31], [rm, 16], [c.condition(3), 12], [rn, 5], [rd.n, 0]);
  };
}
const CSINC = 0x1a800400;
const CSINV = 0x5a800000;
const CSNEG = 0x5a800400;
integer.csel = select(0x1a800000);
integer.csinc = select(CSINC);
integer.csinv = select(CSINV);
integer.csneg = select(CSNEG);
/** Aliases take the condition under which they act, the instruction has the opposite. */
function selectAlias(base: number, sources: 0 | 1): Encoder {
  return c => {
    c.count(2 + sources);
    const rd = c.general(0);
    const rn = sources === 0 ? ZERO : c.same(c.general(1), rd);
    const condition = c.condition(1 + sources);
    if (condition >= 14) throw c.error('al and nv are not possible here');
    return word(base, [sf(rd), 31], [rn, 16], [condition ^ 1, 12], [rn, 5], [rd.n, 0]);
  };
}
integer.cset = selectAlias(CSINC, 0);
integer.csetm = selectAlias(CSINV, 0);
integer.cinc = selectAlias(CSINC, 1);
integer.cinv = selectAlias(CSINV, 1);
integer.cneg = selectAlias(CSNEG, 1);

function conditionalCompare(base: number): Encoder {
  return c => {
    c.count(4);
    const rn = c.general(0);
    const common = word(base, [sf(rn), 31], [c.condition(3), 12], [rn.n, 5], [c.number(2, 0, 15), 0]);
    if (c.kind(1) === 'immediate') return word(common, [1, 11], [c.number(1, 0, 31), 16]);
    return word(common, [c.same(c.general(1), rn), 16]);
  };
}
integer.ccmn = conditionalCompare(0x3a400000);
integer.ccmp = conditionalCompare(0x7a400000);

// --- CRC ---

for (const [n, size] of ['b', 'h', 'w', 'x'].entries()) {
  for (const castagnoli of [0, 1]) {
    integer[`crc32${castagnoli === 1 ? 'c' : ''}${size}`] = c => {
      c.count(3);
      const [rd, rn, rm] = [c.general(0, 'w').n, c.general(1, 'w').n, c.general(2, size === 'x' ? 'x' : 'w').n];
      return word(0x1ac04000, [n === 3 ? 1 : 0, 31], [rm, 16], [castagnoli, 12], [n, 10], [rn, 5], [rd, 0]);
    };
  }
}

// --- Addresses ---

integer.adr = c => {
  c.count(2);
  return address(0x10000000, c.general(0, 'x').n, c.target(c.value(1), 21, 0));
};
integer.adrp = c => {
  c.count(2);
  const pages = (c.value(1) >> 12n) - (c.scope.here >> 12n);
  const field = c.target(c.scope.here + pages, 21, 0);
  return address(0x90000000, c.general(0, 'x').n, field);
};
function address(base: number, rd: number, field: number): number {
  return word(base, [field & 3, 29], [field >>> 2, 5], [rd, 0]);
}
