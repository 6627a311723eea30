import { type Expression, parseExpression } from './expression.ts';
import type { TokenReader } from './tokens.ts';

/** A register. `sp` tells 31 as stack pointer from 31 as zero. */
export interface Register {
  readonly kind: 'register';
  readonly text: string;
  readonly cls: 'x' | 'w' | 'b' | 'h' | 's' | 'd' | 'q' | 'v';
  readonly n: number;
  readonly sp: boolean;
  /** Vector registers: `16b`, `4s`, `d`, ... and the lane in `v0.s[1]`. */
  readonly arrangement?: string;
  readonly lane?: number;
}

/** A shift or extension: `lsl #3`, `uxtw`, `msl #8`. */
export interface Shift {
  readonly kind: 'shift';
  readonly text: string;
  readonly type: string;
  readonly amount: Expression | undefined;
}

/** A number, a label or a name such as `eq`, `sy`, `VBAR_EL1`; `text` is as written, for the latter. */
export interface Immediate {
  readonly kind: 'immediate';
  readonly text: string;
  readonly value: Expression;
}

/** `[base]`, `[base, #offset]`, `[base, #offset]!`, `[base, index, shift]`. */
export interface Memory {
  readonly kind: 'memory';
  readonly text: string;
  readonly base: Register;
  readonly offset: Expression | undefined;
  readonly index: Register | undefined;
  readonly shift: Shift | undefined;
  readonly pre: boolean;
}

/** `{v0.16b, v1.16b}`, `{v0.4s-v3.4s}`, `{v0.s}[1]`. */
export interface List {
  readonly kind: 'list';
  readonly text: string;
  readonly registers: readonly Register[];
  readonly lane: number | undefined;
}

/** `=expression` of `ldr`. */
export interface Literal {
  readonly kind: 'literal';
  readonly text: string;
  readonly value: Expression;
}

export type Operand = Register | Shift | Immediate | Memory | List | Literal;

const SHIFTS = ['lsl', 'lsr', 'asr', 'ror', 'msl', 'uxtb', 'uxth', 'uxtw', 'uxtx', 'sxtb', 'sxth', 'sxtw', 'sxtx'];
const SPECIAL: Readonly<Record<string, readonly [Register['cls'], number, boolean]>> = {
  sp: ['x', 31, true],
  wsp: ['w', 31, true],
  xzr: ['x', 31, false],
  wzr: ['w', 31, false],
  lr: ['x', 30, false],
  fp: ['x', 29, false],
};

/** The register that a name stands for, without lane. */
function registerOf(text: string): Register | undefined {
  const name = text.toLowerCase();
  const special = SPECIAL[name];
  if (special !== undefined) return { kind: 'register', text, cls: special[0], n: special[1], sp: special[2] };
  const m = /^([xwbhsdqv])(\d{1,2})(?:\.(\d*[bhsdq]))?$/.exec(name);
  if (m === null) return undefined;
  const cls = m[1] as Register['cls'];
  const n = Number(m[2]);
  if (n > (cls === 'x' || cls === 'w' ? 30 : 31) || (m[3] !== undefined && cls !== 'v')) return undefined;
  return { kind: 'register', text, cls, n, sp: false, ...(m[3] === undefined ? {} : { arrangement: m[3] }) };
}

/** Parses all operands of an instruction. */
export function parseOperands(r: TokenReader): Operand[] {
  const operands: Operand[] = [];
  while (!r.done) {
    if (operands.length > 0) r.expect(',');
    operands.push(parseOperand(r));
  }
  return operands;
}

function parseOperand(r: TokenReader): Operand {
  const token = r.peek();
  if (token?.kind === 'name') {
    const register = registerOf(token.text);
    if (register !== undefined) return parseRegister(r);
    if (SHIFTS.includes(token.text.toLowerCase())) return parseShift(r);
  }
  if (r.accept('[')) return parseMemory(r);
  if (r.accept('{')) return parseList(r);
  if (r.accept('=')) return { kind: 'literal', text: '=', value: parseExpression(r) };
  r.accept('#');
  const first = r.peek();
  // The sign belongs to the text too, for floating-point constants.
  const text = first?.text === '-' ? `-${r.peek(1)?.text}` : (first?.text ?? '');
  return { kind: 'immediate', text, value: parseExpression(r) };
}

function parseRegister(r: TokenReader): Register {
  const token = r.next();
  const register = registerOf(token.text);
  if (register === undefined) throw r.error(`expected a register, not '${token.text}'`);
  if (register.cls !== 'v' || !r.accept('[')) return register;
  return { ...register, lane: parseLane(r) };
}

function parseLane(r: TokenReader): number {
  r.accept('#');
  const token = r.next();
  if (token.kind !== 'number') throw r.error(`expected the number of a lane, not '${token.text}'`);
  r.expect(']');
  return Number(token.value);
}

function parseShift(r: TokenReader): Shift {
  const text = r.next().text;
  const amount = r.done || r.peek()?.text === ',' || r.peek()?.text === ']' ? undefined : parseAmount(r);
  return { kind: 'shift', text, type: text.toLowerCase(), amount };
}

function parseAmount(r: TokenReader): Expression {
  r.accept('#');
  return parseExpression(r);
}

function parseMemory(r: TokenReader): Memory {
  const base = parseRegister(r);
  let offset: Expression | undefined;
  let index: Register | undefined;
  let shift: Shift | undefined;
  if (r.accept(',')) {
    const name = r.peek();
    if (name?.kind === 'name' && registerOf(name.text) !== undefined) {
      index = parseRegister(r);
      if (r.accept(',')) shift = parseShift(r);
    } else {
      offset = parseAmount(r);
    }
  }
  r.expect(']');
  return { kind: 'memory', text: '[', base, offset, index, shift, pre: r.accept('!') };
}

function parseList(r: TokenReader): List {
  const registers = [parseRegister(r)];
  const first = registers[0]!;
  if (r.accept('-')) {
    const last = parseRegister(r);
    for (let n = first.n; n !== last.n; ) {
      n = (n + 1) % 32;
      registers.push({ ...first, n });
    }
  } else {
    while (r.accept(',')) registers.push(parseRegister(r));
  }
  r.expect('}');
  return { kind: 'list', text: '{', registers, lane: r.accept('[') ? parseLane(r) : undefined };
}
