// Loads and stores: Arm ARM C4.1.94.
import { type Encoder, type Encoders, type Instruction, word } from './context.ts';
import type { Memory, Register } from './operands.ts';

export const memory: Encoders = {};

/** size, V and opc of a load or store, and log2 of the bytes that it moves. */
interface Access {
  readonly size: number;
  readonly v: number;
  readonly opc: number;
  readonly scale: number;
}

/** By register class: what plain ldr and str access. */
function plain(c: Instruction, load: boolean): Access {
  const rt = c.register(0, 'xwbhsdq');
  const l = load ? 1 : 0;
  switch (rt.cls) {
    case 'x':
      return { size: 3, v: 0, opc: l, scale: 3 };
    case 'w':
      return { size: 2, v: 0, opc: l, scale: 2 };
    case 'q':
      return { size: 0, v: 1, opc: 2 + l, scale: 4 };
    default: {
      const scale = 'bhsd'.indexOf(rt.cls);
      return { size: scale, v: 1, opc: l, scale };
    }
  }
}

/** Narrow accesses; those that extend the sign have their target's size in opc. */
function narrow(name: string): ((c: Instruction) => Access) | undefined {
  const m = /^(ld|st)(u|t)?r(s)?([bhw])$/.exec(name);
  if (m === null || (m[4] === 'w' && m[3] === undefined) || (m[1] === 'st' && m[3] !== undefined)) return undefined;
  const scale = 'bhw'.indexOf(m[4]!);
  return c => {
    if (m[3] === undefined) c.general(0, 'w');
    const rt = c.general(0, scale === 2 ? 'x' : 'xw');
    const opc = m[3] === undefined ? (m[1] === 'ld' ? 1 : 0) : rt.cls === 'x' ? 2 : 3;
    return { size: scale, v: 0, opc, scale };
  };
}

function checked(c: Instruction, rt: Register): number {
  if (rt.sp) throw c.error('the stack pointer cannot be loaded or stored');
  return rt.n;
}

function signed(c: Instruction, m: Memory, bits: number, scale: number): number {
  const half = 2 ** (bits - 1);
  const unit = 2 ** scale;
  const v = m.offset === undefined ? 0 : c.limited(m.offset, -half * unit, (half - 1) * unit, unit);
  return (v / unit) & (2 ** bits - 1);
}

/** ldr, str and their narrow forms: every addressing mode. */
function access(c: Instruction, a: Access): number {
  const rt = checked(c, c.register(0, 'xwbhsdq'));
  const base = word(0x38000000, [a.size, 30], [a.v, 26], [a.opc, 22], [rt, 0]);
  const m = c.memory(1);
  const at = word(base, [m.base.n, 5]);
  if (c.has(2)) {
    if (m.offset !== undefined || m.index !== undefined || m.pre) throw c.error('an offset before and one after');
    return word(at, [c.number(2, -256, 255) & 0x1ff, 12], [1, 10]);
  }
  if (m.index !== undefined) {
    if (m.pre) throw c.error("'!' does not go with an index register");
    const type = m.shift?.type ?? 'lsl';
    const option = { uxtw: 2, lsl: 3, sxtw: 6, sxtx: 7 }[type];
    if (option === undefined || (m.index.cls === 'x') !== (option % 4 === 3) || m.index.sp) {
      throw c.error(`'${m.index.text}' cannot be an index with '${type}'`);
    }
    const amount = m.shift?.amount === undefined ? undefined : c.limited(m.shift.amount, 0, a.scale);
    if (amount !== undefined && amount !== 0 && amount !== a.scale) throw c.error(`the shift can be 0 or ${a.scale}`);
    // With bytes, a shift that is written (#0) counts.
    const s = a.scale === 0 ? amount !== undefined && m.shift !== undefined : amount === a.scale;
    return word(at, [1, 21], [m.index.n, 16], [option, 13], [s ? 1 : 0, 12], [0b10, 10]);
  }
  if (m.pre) return word(at, [signed(c, m, 9, 0), 12], [0b11, 10]);
  const offset = m.offset === undefined ? 0n : m.offset(c.scope);
  const unit = BigInt(1 << a.scale);
  if (offset >= 0n && offset % unit === 0n && offset / unit < 4096n) {
    return word(at, [1, 24], [Number(offset / unit), 10]);
  }
  if (offset < -256n || offset > 255n)
    throw c.error(`the offset ${offset} is out of reach or not a multiple of ${unit}`);
  return word(at, [Number(offset) & 0x1ff, 12]);
}

/** ldr from a label or a literal pool. */
function literal(c: Instruction, opc: number, v: number): number {
  const target = c.literal ?? c.value(1);
  const rt = checked(c, c.register(0, 'xwsdq'));
  return word(0x18000000, [opc, 30], [v, 26], [c.target(target, 19, 2), 5], [rt, 0]);
}

memory.ldr = c => {
  c.count(2, 3);
  if (c.kind(1) === 'memory') return access(c, plain(c, true));
  const rt = c.register(0, 'xwsdq');
  return literal(c, { w: 0, s: 0, x: 1, d: 1 }[rt.cls as string] ?? 2, 'xw'.includes(rt.cls) ? 0 : 1);
};
memory.str = c => {
  c.count(2, 3);
  return access(c, plain(c, false));
};
for (const name of ['ldrb', 'ldrh', 'ldrsb', 'ldrsh', 'ldrsw', 'strb', 'strh']) {
  const shape = narrow(name)!;
  memory[name] = c => {
    c.count(2, 3);
    if (name === 'ldrsw' && c.kind(1) !== 'memory') return literal(c, 2, 0);
    return access(c, shape(c));
  };
}

/** ldur and stur (`mode` 0), ldtr and sttr (2): a 9-bit offset in bytes. */
function unscaled(shape: (c: Instruction) => Access, mode: number): Encoder {
  return c => {
    c.count(2);
    const a = shape(c);
    const m = c.memory(1);
    if (m.index !== undefined || m.pre) throw c.error('the address can only be a register and an offset');
    const rt = checked(c, c.register(0, mode === 2 ? 'xw' : 'xwbhsdq'));
    const offset = signed(c, m, 9, 0);
    return word(0x38000000, [a.size, 30], [a.v, 26], [a.opc, 22], [offset, 12], [mode, 10], [m.base.n, 5], [rt, 0]);
  };
}
for (const [letter, mode] of [
  ['u', 0],
  ['t', 2],
] as const) {
  memory[`ld${letter}r`] = unscaled(c => plain(c, true), mode);
  memory[`st${letter}r`] = unscaled(c => plain(c, false), mode);
  for (const suffix of ['b', 'h', 'sb', 'sh', 'sw']) {
    memory[`ld${letter}r${suffix}`] = unscaled(narrow(`ld${letter}r${suffix}`)!, mode);
    if (suffix.length === 1) memory[`st${letter}r${suffix}`] = unscaled(narrow(`st${letter}r${suffix}`)!, mode);
  }
}

// --- Pairs ---

function pair(load: number, hint: boolean, signedWords = false): Encoder {
  return c => {
    c.count(3, 4);
    const a = c.register(0, signedWords ? 'x' : 'xwsdq');
    const b = checked(c, c.register(1, a.cls));
    const v = 'sdq'.includes(a.cls) ? 1 : 0;
    const opc = signedWords ? 1 : { w: 0, s: 0, d: 1, x: 2, q: 2 }[a.cls as string]!;
    const scale = signedWords ? 2 : { w: 2, s: 2, d: 3, x: 3, q: 4 }[a.cls as string]!;
    const m = c.memory(2);
    if (m.index !== undefined) throw c.error('pairs have no index register');
    const post = c.has(3);
    if (hint && (post || m.pre)) throw c.error('writeback is not possible');
    if (post && (m.offset !== undefined || m.pre)) throw c.error('an offset before and one after');
    const mode = hint ? 0 : post ? 1 : m.pre ? 3 : 2;
    const offset = signed(c, post ? { ...m, offset: c.immediate(3).value } : m, 7, scale);
    const fields = word(0x28000000, [opc, 30], [v, 26], [mode, 23], [load, 22], [offset, 15]);
    return word(fields, [b, 10], [m.base.n, 5], [checked(c, a), 0]);
  };
}
memory.ldp = pair(1, false);
memory.stp = pair(0, false);
memory.ldnp = pair(1, true);
memory.stnp = pair(0, true);
memory.ldpsw = pair(1, false, true);

// --- Exclusive, acquire and release ---

/** Size field of a suffix b or h, otherwise of the register. */
function sizeOf(suffix: string, rt: Register): number {
  return suffix === 'b' ? 0 : suffix === 'h' ? 1 : rt.cls === 'x' ? 3 : 2;
}
for (const suffix of ['', 'b', 'h']) {
  const classes = suffix === '' ? 'xw' : 'w';
  for (const [name, base] of [
    ['ldxr', 0x085f7c00],
    ['ldaxr', 0x085ffc00],
    ['ldar', 0x08dffc00],
    ['ldlar', 0x08df7c00],
    ['stlr', 0x089ffc00],
    ['stllr', 0x089f7c00],
  ] as const) {
    memory[name + suffix] = c => {
      c.count(2);
      const rt = c.general(0, classes);
      return word(base, [sizeOf(suffix, rt), 30], [c.plainBase(1), 5], [rt.n, 0]);
    };
  }
  for (const [name, base] of [
    ['stxr', 0x08007c00],
    ['stlxr', 0x0800fc00],
  ] as const) {
    memory[name + suffix] = c => {
      c.count(3);
      const rt = c.general(1, classes);
      return word(base, [sizeOf(suffix, rt), 30], [c.general(0, 'w').n, 16], [c.plainBase(2), 5], [rt.n, 0]);
    };
  }
}
for (const [name, base] of [
  ['ldxp', 0x887f0000],
  ['ldaxp', 0x887f8000],
] as const) {
  memory[name] = c => {
    c.count(3);
    const rt = c.general(0);
    const rt2 = c.same(c.general(1), rt);
    return word(base, [rt.cls === 'x' ? 1 : 0, 30], [rt2, 10], [c.plainBase(2), 5], [rt.n, 0]);
  };
}
for (const [name, base] of [
  ['stxp', 0x88200000],
  ['stlxp', 0x88208000],
] as const) {
  memory[name] = c => {
    c.count(4);
    const rt = c.general(1);
    const [rs, rt2] = [c.general(0, 'w').n, c.same(c.general(2), rt)];
    return word(base, [rt.cls === 'x' ? 1 : 0, 30], [rs, 16], [rt2, 10], [c.plainBase(3), 5], [rt.n, 0]);
  };
}

// --- Atomics (FEAT_LSE) ---

const ATOMICS = ['add', 'clr', 'eor', 'set', 'smax', 'smin', 'umax', 'umin'];
for (const suffix of ['', 'b', 'h']) {
  const classes = suffix === '' ? 'xw' : 'w';
  for (const order of ['', 'a', 'l', 'al']) {
    const acquire = order.startsWith('a') ? 1 : 0;
    const release = order.endsWith('l') ? 1 : 0;
    const atomic =
      (opc: number, store: boolean): Encoder =>
      c => {
        c.count(store ? 2 : 3);
        const rs = c.general(0, classes);
        const rt = store ? 31 : c.same(c.general(1, classes), rs);
        const fields = word(0x38200000, [sizeOf(suffix, rs), 30], [acquire, 23], [release, 22], [rs.n, 16]);
        return word(fields, [opc, 12], [c.plainBase(store ? 1 : 2), 5], [rt, 0]);
      };
    for (const [n, operation] of ATOMICS.entries()) {
      memory[`ld${operation}${order}${suffix}`] = atomic(n, false);
      if (acquire === 0) memory[`st${operation}${order}${suffix}`] = atomic(n, true);
    }
    memory[`swp${order}${suffix}`] = atomic(8, false);
    memory[`cas${order}${suffix}`] = c => {
      c.count(3);
      const rs = c.general(0, classes);
      const rt = c.same(c.general(1, classes), rs);
      const fields = word(0x08a07c00, [sizeOf(suffix, rs), 30], [acquire, 22], [rs.n, 16], [release, 15]);
      return word(fields, [c.plainBase(2), 5], [rt, 0]);
    };
  }
}

// --- Prefetch ---

memory.prfm = c => {
  c.count(2);
  const m = /^(pld|pli|pst)l([123])(keep|strm)$/.exec(c.name(0));
  const hint =
    m === null
      ? c.number(0, 0, 31)
      : ['pld', 'pli', 'pst'].indexOf(m[1]!) * 8 + (Number(m[2]) - 1) * 2 + (m[3] === 'strm' ? 1 : 0);
  const { base, offset, index } = c.memory(1);
  if (index !== undefined) throw c.error('an index register is not supported');
  const scaled = offset === undefined ? 0 : c.limited(offset, 0, 32760, 8) / 8;
  return word(0xf9800000, [scaled, 10], [base.n, 5], [hint, 0]);
};
