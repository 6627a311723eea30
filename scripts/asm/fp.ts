// Floating point and a part of AdvSIMD: Arm ARM C4.1.96. What bare-metal tests use; the rest is refused by name.
import { type Encoder, type Encoders, type Instruction, word } from './context.ts';
import type { List, Register } from './operands.ts';

export const fp: Encoders = {};

/** The field ftype of a scalar register. */
function ftype(r: Register): number {
  return { s: 0, d: 1, h: 3 }[r.cls as string]!;
}

function scalar(c: Instruction, i: number, like?: Register): Register {
  const r = c.register(i, 'hsd');
  if (like !== undefined) c.same(r, like);
  return r;
}

/** size and Q of a vector arrangement. */
function arrangement(c: Instruction, r: Register): readonly [size: number, q: number] {
  const found = {
    '8b': [0, 0],
    '16b': [0, 1],
    '4h': [1, 0],
    '8h': [1, 1],
    '2s': [2, 0],
    '4s': [2, 1],
    '1d': [3, 0],
    '2d': [3, 1],
  }[r.arrangement ?? ''] as readonly [number, number] | undefined;
  if (found === undefined || r.lane !== undefined) throw c.error(`'${r.text}' must be a whole vector such as v0.4s`);
  return found;
}

/** A vector of the arrangement of another. */
function vector(c: Instruction, i: number, like?: Register): Register {
  const r = c.register(i, 'v');
  if (like !== undefined && r.arrangement !== like.arrangement) {
    throw c.error(`'${r.text}' is not arranged as '${like.text}'`);
  }
  return r;
}

/** Three vectors of floating-point numbers: the field sz in bit 22. */
function vectorFp3(c: Instruction, base: number): number {
  const rd = vector(c, 0);
  const [size, q] = arrangement(c, rd);
  if (size < 2 || (size === 3 && q === 0)) throw c.error(`'${rd.text}' is no vector of floats`);
  return word(base, [q, 30], [size & 1, 22], [vector(c, 2, rd).n, 16], [vector(c, 1, rd).n, 5], [rd.n, 0]);
}

// Two sources: opcode of the scalar form, word of the vector form.
for (const [name, opcode, vectorBase] of [
  ['fmul', 0, 0x2e20dc00],
  ['fdiv', 1, 0x2e20fc00],
  ['fadd', 2, 0x0e20d400],
  ['fsub', 3, 0x0ea0d400],
  ['fmax', 4, 0x0e20f400],
  ['fmin', 5, 0x0ea0f400],
  ['fmaxnm', 6, 0x0e20c400],
  ['fminnm', 7, 0x0ea0c400],
  ['fnmul', 8, undefined],
  ['fmla', undefined, 0x0e20cc00],
  ['fmls', undefined, 0x0ea0cc00],
] as const) {
  fp[name] = c => {
    c.count(3);
    if (vectorBase !== undefined && c.register(0, 'hsdv').cls === 'v') return vectorFp3(c, vectorBase);
    if (opcode === undefined) throw c.error('takes vectors');
    const rd = scalar(c, 0);
    const [rn, rm] = [scalar(c, 1, rd).n, scalar(c, 2, rd).n];
    return word(0x1e200800, [ftype(rd), 22], [rm, 16], [opcode, 12], [rn, 5], [rd.n, 0]);
  };
}

for (const [name, opcode] of [
  ['fabs', 1],
  ['fneg', 2],
  ['fsqrt', 3],
  ['frintn', 8],
  ['frintp', 9],
  ['frintm', 10],
  ['frintz', 11],
  ['frinta', 12],
  ['frintx', 14],
  ['frinti', 15],
] as const) {
  fp[name] = c => {
    c.count(2);
    const rd = scalar(c, 0);
    return word(0x1e204000, [ftype(rd), 22], [opcode, 15], [scalar(c, 1, rd).n, 5], [rd.n, 0]);
  };
}

fp.fcvt = c => {
  c.count(2);
  const [rd, rn] = [scalar(c, 0), scalar(c, 1)];
  if (rd.cls === rn.cls) throw c.error('both registers have the same size');
  return word(0x1e224000, [ftype(rn), 22], [ftype(rd), 15], [rn.n, 5], [rd.n, 0]);
};

for (const [name, o1, o0] of [
  ['fmadd', 0, 0],
  ['fmsub', 0, 1],
  ['fnmadd', 1, 0],
  ['fnmsub', 1, 1],
] as const) {
  fp[name] = c => {
    c.count(4);
    const rd = scalar(c, 0);
    const [rn, rm, ra] = [1, 2, 3].map(i => scalar(c, i, rd).n) as [number, number, number];
    return word(0x1f000000, [ftype(rd), 22], [o1, 21], [rm, 16], [o0, 15], [ra, 10], [rn, 5], [rd.n, 0]);
  };
}

for (const [name, signalling] of [
  ['fcmp', 0],
  ['fcmpe', 1],
] as const) {
  fp[name] = c => {
    c.count(2);
    const rn = scalar(c, 0);
    const zero = c.kind(1) === 'immediate';
    if (zero && floatOf(c, 1) !== 0) throw c.error('the only number to compare with is 0.0');
    const rm = zero ? 0 : scalar(c, 1, rn).n;
    return word(0x1e202000, [ftype(rn), 22], [rm, 16], [rn.n, 5], [signalling, 4], [zero ? 1 : 0, 3]);
  };
}
fp.fcsel = c => {
  c.count(4);
  const rd = scalar(c, 0);
  const [rn, rm] = [scalar(c, 1, rd).n, scalar(c, 2, rd).n];
  return word(0x1e200c00, [ftype(rd), 22], [rm, 16], [c.condition(3), 12], [rn, 5], [rd.n, 0]);
};
for (const [name, signalling] of [
  ['fccmp', 0],
  ['fccmpe', 1],
] as const) {
  fp[name] = c => {
    c.count(4);
    const rn = scalar(c, 0);
    const fields = word(0x1e200400, [ftype(rn), 22], [scalar(c, 1, rn).n, 16], [c.condition(3), 12]);
    return word(fields, [rn.n, 5], [signalling, 4], [c.number(2, 0, 15), 0]);
  };
}

/** Between a general register and a scalar: sf, ftype, rmode:opcode. */
function convert(general: Register, float: Register, rmodeOpcode: number, rn: number, rd: number): number {
  return word(0x1e200000, [general.cls === 'x' ? 1 : 0, 31], [ftype(float), 22], [rmodeOpcode, 16], [rn, 5], [rd, 0]);
}
for (const [name, field] of [
  ['fcvtns', 0b00000],
  ['fcvtnu', 0b00001],
  ['fcvtas', 0b00100],
  ['fcvtau', 0b00101],
  ['fcvtps', 0b01000],
  ['fcvtpu', 0b01001],
  ['fcvtms', 0b10000],
  ['fcvtmu', 0b10001],
  ['fcvtzs', 0b11000],
  ['fcvtzu', 0b11001],
] as const) {
  fp[name] = c => {
    c.count(2);
    const [rd, rn] = [c.general(0), scalar(c, 1)];
    return convert(rd, rn, field, rn.n, rd.n);
  };
}
for (const [name, field] of [
  ['scvtf', 0b00010],
  ['ucvtf', 0b00011],
] as const) {
  fp[name] = c => {
    c.count(2);
    const [rd, rn] = [scalar(c, 0), c.general(1)];
    return convert(rn, rd, field, rn.n, rd.n);
  };
}

function floatOf(c: Instruction, i: number): number {
  const v = Number(c.immediate(i).text);
  if (Number.isNaN(v)) throw c.error(`operand ${i + 1} must be a floating-point constant`);
  return v;
}

/** The 8-bit form of a floating-point constant: (-1)^a * 2^e * (16..31)/16, e from -3 to 4 (Arm ARM, VFPExpandImm). */
function imm8(c: Instruction, i: number): number {
  const v = floatOf(c, i);
  for (let n = 0; n < 256; n++) {
    const exponent = ((n >> 4) & 7) ^ 4;
    const magnitude = ((16 + (n & 15)) / 16) * 2 ** (exponent - 3);
    if ((n & 0x80 ? -magnitude : magnitude) === v) return n;
  }
  throw c.error(`${v} has no 8-bit form`);
}

fp.fmov = c => {
  c.count(2);
  const rd = c.register(0, 'xwhsdv');
  if (c.kind(1) === 'immediate') {
    if (rd.cls !== 'v') return word(0x1e201000, [ftype(scalar(c, 0)), 22], [imm8(c, 1), 13], [rd.n, 0]);
    const [size, q] = arrangement(c, rd);
    if (size < 2) throw c.error(`'${rd.text}' is no vector of floats`);
    const n = imm8(c, 1);
    return word(0x0f00f400, [q, 30], [size & 1, 29], [n >> 5, 16], [n & 31, 5], [rd.n, 0]);
  }
  const rn = c.register(1, 'xwhsdv');
  const isGeneral = (r: Register) => r.cls === 'x' || r.cls === 'w';
  // The upper half: fmov x0, v1.d[1] and back.
  if (rn.cls === 'v' && rd.cls === 'x' && rn.lane === 1) return word(0x9eae0000, [rn.n, 5], [rd.n, 0]);
  if (rd.cls === 'v' && rn.cls === 'x' && rd.lane === 1) return word(0x9eaf0000, [rn.n, 5], [rd.n, 0]);
  if (rn.cls === 'v' || rd.cls === 'v') throw c.error('of a vector only d[1] can be moved');
  const fits = (g: Register, f: Register) => f.cls === 'h' || (g.cls === 'x') === (f.cls === 'd');
  if (isGeneral(rd) && !isGeneral(rn) && fits(rd, rn)) return convert(rd, rn, 0b00110, rn.n, rd.n);
  if (isGeneral(rn) && !isGeneral(rd) && fits(rn, rd)) return convert(rn, rd, 0b00111, rn.n, rd.n);
  if (rn.cls !== rd.cls || isGeneral(rn)) throw c.error(`'${rd.text}' and '${rn.text}' do not go together`);
  return word(0x1e204000, [ftype(rd), 22], [rn.n, 5], [rd.n, 0]);
};

// --- AdvSIMD ---

/** Mnemonics that integer instructions have too: vectors here, the others there. */
export const vectors: Encoders = {};

function three(base: number): Encoder {
  return c => {
    c.count(3);
    const rd = vector(c, 0);
    const [size, q] = arrangement(c, rd);
    return word(base, [q, 30], [size, 22], [vector(c, 2, rd).n, 16], [vector(c, 1, rd).n, 5], [rd.n, 0]);
  };
}
for (const [name, base] of [
  ['add', 0x0e208400],
  ['sub', 0x2e208400],
  ['mul', 0x0e209c00],
  ['cmeq', 0x2e208c00],
  ['cmgt', 0x0e203400],
  ['cmhi', 0x2e203400],
  ['smax', 0x0e206400],
  ['umax', 0x2e206400],
  ['smin', 0x0e206c00],
  ['umin', 0x2e206c00],
  ['addp', 0x0e20bc00],
  ['sshl', 0x0e204400],
  ['ushl', 0x2e204400],
] as const) {
  vectors[name] = three(base);
}
/** Bytes whatever they mean: size is part of the opcode. */
for (const [name, base] of [
  ['and', 0x0e201c00],
  ['bic', 0x0e601c00],
  ['orr', 0x0ea01c00],
  ['orn', 0x0ee01c00],
  ['eor', 0x2e201c00],
] as const) {
  vectors[name] = c => {
    c.count(3);
    const rd = vector(c, 0);
    const [size, q] = arrangement(c, rd);
    if (size !== 0) throw c.error('takes vectors of bytes');
    return word(base, [q, 30], [vector(c, 2, rd).n, 16], [vector(c, 1, rd).n, 5], [rd.n, 0]);
  };
}
for (const [name, base] of [
  ['cnt', 0x0e205800],
  ['addv', 0x0e31b800],
  ['neg', 0x2e20b800],
  ['abs', 0x0e20b800],
] as const) {
  vectors[name] = c => {
    c.count(2);
    const rn = vector(c, 1);
    const rd = name === 'addv' ? c.register(0, 'bhs') : vector(c, 0, rn);
    const [size, q] = arrangement(c, rn);
    return word(base, [q, 30], [size, 22], [rn.n, 5], [rd.n, 0]);
  };
}

/** imm5: the size's lowest bit set, the lane above it. */
function laneField(c: Instruction, r: Register, lane: number): readonly [imm5: number, size: number] {
  const size = ['b', 'h', 's', 'd'].indexOf(r.arrangement?.at(-1) ?? '');
  if (size < 0 || lane * 2 ** size >= 16) throw c.error(`'${r.text}' has no lane ${lane}`);
  return [(lane * 2 + 1) << size, size];
}
vectors.dup = c => {
  c.count(2);
  const rd = vector(c, 0);
  const [, q] = arrangement(c, rd);
  const rn = c.register(1, 'xwv');
  const fromLane = rn.cls === 'v';
  const [imm5] = laneField(c, fromLane ? rn : rd, fromLane ? (rn.lane ?? 0) : 0);
  return word(fromLane ? 0x0e000400 : 0x0e000c00, [q, 30], [imm5, 16], [rn.n, 5], [rd.n, 0]);
};
vectors.umov = c => {
  c.count(2);
  const [rd, rn] = [c.general(0), vector(c, 1)];
  const [imm5, size] = laneField(c, rn, rn.lane ?? 0);
  if ((rd.cls === 'x') !== (size === 3)) throw c.error(`'${rd.text}' is not of the size of a lane`);
  return word(0x0e003c00, [size === 3 ? 1 : 0, 30], [imm5, 16], [rn.n, 5], [rd.n, 0]);
};
vectors.ins = c => {
  c.count(2);
  const rd = vector(c, 0);
  const [imm5, size] = laneField(c, rd, rd.lane ?? 0);
  const rn = c.register(1, 'xwv');
  if (rn.cls !== 'v') return word(0x4e001c00, [imm5, 16], [rn.n, 5], [rd.n, 0]);
  return word(0x6e000400, [imm5, 16], [(rn.lane ?? 0) << size, 11], [rn.n, 5], [rd.n, 0]);
};
vectors.mov = c => {
  c.count(2);
  const rd = c.register(0, 'xwv');
  if (rd.cls !== 'v') return vectors.umov!(c);
  if (rd.lane !== undefined) return vectors.ins!(c);
  const [, q] = arrangement(c, rd);
  const rn = vector(c, 1, rd).n;
  return word(0x0ea01c00, [q, 30], [rn, 16], [rn, 5], [rd.n, 0]);
};

/** movi and mvni: 8 bits in every lane, shifted; or, for .2d and d, a mask of bytes. */
function moveImmediate(op: number): Encoder {
  return c => {
    c.count(2, 3);
    const rd = c.register(0, 'dv');
    const put = (q: number, o: number, cmode: number, n: number) =>
      word(0x0f000400, [q, 30], [o, 29], [n >> 5, 16], [cmode, 12], [n & 31, 5], [rd.n, 0]);
    const [size, q] = rd.cls === 'd' ? [3, 0] : arrangement(c, rd);
    if (size === 3) {
      const v = BigInt.asUintN(64, c.value(1));
      let n = 0;
      for (let byte = 0; byte < 8; byte++) {
        const b = (v >> BigInt(8 * byte)) & 0xffn;
        if (b !== 0n && b !== 0xffn) throw c.error('each byte must be 0x00 or 0xff');
        if (b !== 0n) n |= 1 << byte;
      }
      if (op === 1) throw c.error('takes no 64-bit lanes');
      return put(q, 1, 0b1110, n);
    }
    const n = c.number(1, 0, 255);
    const shift = c.has(2) ? c.shift(2) : undefined;
    const amount = shift?.amount === undefined ? 0 : c.limited(shift.amount, 0, 24, 8);
    if (size === 0) {
      if (op === 1 || amount !== 0) throw c.error('bytes cannot be shifted or inverted');
      return put(q, 0, 0b1110, n);
    }
    if (shift?.type === 'msl') {
      if (size !== 2 || (amount !== 8 && amount !== 16)) throw c.error('msl takes 8 or 16, with 32-bit lanes');
      return put(q, op, 0b1100 | (amount >> 4), n);
    }
    if (size === 1 && amount > 8) throw c.error('the shift is larger than a lane');
    return put(q, op, (size === 1 ? 0b1000 : 0) | ((amount / 8) << 1), n);
  };
}
vectors.movi = moveImmediate(0);
vectors.mvni = moveImmediate(1);

/** ld1 and st1 of one to four whole registers. */
function structure(load: number): Encoder {
  return c => {
    c.count(2, 3);
    const list = c.operand(0) as List;
    const m = c.memory(1);
    const first = list.registers?.[0];
    if (list.kind !== 'list' || first === undefined || list.lane !== undefined || list.registers.length > 4) {
      throw c.error('takes a list of one to four whole vectors');
    }
    for (const [i, r] of list.registers.entries()) {
      if (r.n !== (first.n + i) % 32 || r.arrangement !== first.arrangement) throw c.error('the list is not in order');
    }
    const [size, q] = arrangement(c, first);
    const opcode = [0b0111, 0b1010, 0b0110, 0b0010][list.registers.length - 1]!;
    const fields = word(0x0c000000, [q, 30], [load, 22], [opcode, 12], [size, 10], [m.base.n, 5], [first.n, 0]);
    if (!c.has(2)) return fields;
    if (c.kind(2) === 'register') return word(fields, [1, 23], [c.general(2, 'x').n, 16]);
    const bytes = list.registers.length * (q === 1 ? 16 : 8);
    c.number(2, bytes, bytes);
    return word(fields, [1, 23], [31, 16]);
  };
}
vectors.ld1 = structure(1);
vectors.st1 = structure(0);
