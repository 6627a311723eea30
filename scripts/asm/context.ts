import type { Expression, Scope } from './expression.ts';
import type { Immediate, Memory, Operand, Register, Shift } from './operands.ts';
import { AsmError } from './tokens.ts';

/** Encodes one instruction into its 32-bit word. */
export type Encoder = (c: Instruction) => number;

/** Encoders by mnemonic, in lower case. */
export type Encoders = Record<string, Encoder>;

/** The conditions in the order of their encoding (Arm ARM C1.2.4). */
const CONDITIONS = ['eq', 'ne', 'cs', 'cc', 'mi', 'pl', 'vs', 'vc', 'hi', 'ls', 'ge', 'lt', 'gt', 'le', 'al', 'nv'];

/** One instruction with its operands, and checks for what its encoder reads from them. */
export class Instruction {
  readonly mnemonic: string;
  readonly operands: readonly Operand[];
  readonly scope: Scope;
  /** Address of the literal that `ldr =` put into a pool. */
  readonly literal: bigint | undefined;

  constructor(mnemonic: string, operands: readonly Operand[], scope: Scope, literal?: bigint) {
    this.mnemonic = mnemonic;
    this.operands = operands;
    this.scope = scope;
    this.literal = literal;
  }

  error(reason: string): AsmError {
    return new AsmError(this.scope.line, `${this.mnemonic}: ${reason}`);
  }

  /** Checks the number of operands. */
  count(least: number, most = least): number {
    const n = this.operands.length;
    if (n < least || n > most) {
      throw this.error(`takes ${least === most ? least : `${least} to ${most}`} operands, not ${n}`);
    }
    return n;
  }

  has(i: number): boolean {
    return i < this.operands.length;
  }

  kind(i: number): Operand['kind'] | undefined {
    return this.operands[i]?.kind;
  }

  operand(i: number): Operand {
    const o = this.operands[i];
    if (o === undefined) throw this.error(`operand ${i + 1} is missing`);
    return o;
  }

  /** A register of one of these classes. */
  register(i: number, classes: string): Register {
    const o = this.operand(i);
    if (o.kind !== 'register' || !classes.includes(o.cls)) {
      throw this.error(`operand ${i + 1} ('${o.text}') must be a register of class ${[...classes].join(', ')}`);
    }
    return o;
  }

  /** A general register where 31 is the zero register. */
  general(i: number, classes = 'xw'): Register {
    const r = this.register(i, classes);
    if (r.sp) throw this.error(`operand ${i + 1} cannot be the stack pointer`);
    return r;
  }

  /** A general register where 31 is the stack pointer. */
  generalSp(i: number, classes = 'xw'): Register {
    const r = this.register(i, classes);
    if (r.n === 31 && !r.sp) throw this.error(`operand ${i + 1} cannot be the zero register`);
    return r;
  }

  /** Checks that a register has the size of the first operand. */
  same(r: Register, first: Register): number {
    if (r.cls !== first.cls) throw this.error(`'${r.text}' is not of the size of '${first.text}'`);
    return r.n;
  }

  immediate(i: number): Immediate {
    const o = this.operand(i);
    if (o.kind !== 'immediate') throw this.error(`operand ${i + 1} ('${o.text}') must be a number`);
    return o;
  }

  /** A number within limits, both included. */
  number(i: number, least: number, most: number): number {
    return this.limited(this.immediate(i).value, least, most);
  }

  limited(e: Expression, least: number, most: number, step = 1): number {
    const v = e(this.scope);
    if (v < BigInt(least) || v > BigInt(most) || v % BigInt(step) !== 0n) {
      const steps = step === 1 ? '' : `, a multiple of ${step}`;
      throw this.error(`${v} is not in ${least} to ${most}${steps}`);
    }
    return Number(v);
  }

  value(i: number): bigint {
    return this.immediate(i).value(this.scope);
  }

  /** A name in lower case, such as a condition or a system register. */
  name(i: number): string {
    return this.immediate(i).text.toLowerCase();
  }

  condition(i: number): number {
    return this.conditionOf(this.name(i));
  }

  conditionOf(name: string): number {
    const c = name === 'hs' ? 2 : name === 'lo' ? 3 : CONDITIONS.indexOf(name);
    if (c < 0) throw this.error(`'${name}' is no condition`);
    return c;
  }

  shift(i: number): Shift {
    const o = this.operand(i);
    if (o.kind !== 'shift') throw this.error(`operand ${i + 1} ('${o.text}') must be a shift or extension`);
    return o;
  }

  memory(i: number): Memory {
    const o = this.operand(i);
    if (o.kind !== 'memory') throw this.error(`operand ${i + 1} ('${o.text}') must be an address in brackets`);
    if (o.base.cls !== 'x' || (o.base.n === 31 && !o.base.sp)) throw this.error(`'${o.base.text}' cannot be a base`);
    return o;
  }

  /** An address that is a base register and nothing else. */
  plainBase(i: number): number {
    const m = this.memory(i);
    if (m.index !== undefined || m.pre || (m.offset !== undefined && m.offset(this.scope) !== 0n)) {
      throw this.error('the address can only be a register');
    }
    return m.base.n;
  }

  /** Distance from this instruction to a label, in units of `1 << scale` bytes, as a field of `bits` bits. */
  target(value: bigint, bits: number, scale: number): number {
    const distance = value - this.scope.here;
    const unit = 1n << BigInt(scale);
    if (distance % unit !== 0n) throw this.error(`the target is not aligned to ${unit} bytes`);
    const units = distance / unit;
    const limit = 1n << BigInt(bits - 1);
    if (units < -limit || units >= limit) throw this.error(`the target is too far away (${distance} bytes)`);
    return Number(BigInt.asUintN(bits, units));
  }
}

/** 1 for a 64-bit general register, 0 for a 32-bit one: the field `sf`. */
export function sf(r: Register): number {
  return r.cls === 'x' ? 1 : 0;
}

/** Joins [value, position] fields to a word. */
export function word(base: number, ...fields: readonly (readonly [number, number])[]): number {
  let w = base;
  for (const [value, at] of fields) w += value * 2 ** at;
  return w >>> 0;
}

/**
 * The field N:immr:imms that stands for a logical immediate, or undefined when none does (Arm ARM, DecodeBitMasks): a run of
 * ones, rotated, in an element of 2 to 64 bits that repeats.
 */
export function bitmask(value: bigint, bits: 32 | 64): number | undefined {
  let v = BigInt.asUintN(bits, value);
  if (bits === 32) {
    // 32-bit operations see the pattern twice; sign-extended numbers are welcome.
    if (value >= 1n << 32n || value < -(1n << 31n)) return undefined;
    v |= v << 32n;
  }
  if (v === 0n || v === (1n << 64n) - 1n) return undefined;
  let size = 64;
  while (size > 2) {
    const half = size / 2;
    const mask = (1n << BigInt(half)) - 1n;
    if ((v & mask) !== ((v >> BigInt(half)) & mask)) break;
    size = half;
  }
  const mask = (1n << BigInt(size)) - 1n;
  const element = v & mask;
  const ones = element.toString(2).replaceAll('0', '').length;
  const run = (1n << BigInt(ones)) - 1n;
  for (let r = 0; r < size; r++) {
    const rotated = ((run >> BigInt(r)) | (run << BigInt(size - r))) & mask;
    if (rotated !== element) continue;
    const imms = ((~(size * 2 - 1) & 0x3f) | (ones - 1)) & 0x3f;
    return ((size === 64 ? 1 : 0) << 12) | (r << 6) | imms;
  }
  return undefined;
}
