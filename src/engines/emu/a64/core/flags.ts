/**
 * NZCV, computed when it is read. An instruction that sets flags leaves what it compared in FLAG_A and FLAG_B,
 * 32-bit operands shifted left by 32 so that one 64-bit rule serves both widths (DDI 0487, AddWithCarry()).
 */
import { FLAG_A, FLAG_B, FLAG_KIND } from './layout';

/** A - B was computed. */
export const FLAGS_SUB: u32 = 0;
/** A + B was computed. A logical result r is A = r, B = 0: C and V come out clear, as they should. */
export const FLAGS_ADD: u32 = 1;
/** FLAG_A holds NZCV itself, N in bit 3. */
export const FLAGS_LITERAL: u32 = 2;

// @ts-ignore: decorator
@inline
export function setFlags(kind: u32, a: u64, b: u64): void {
  store<u64>(0, a, FLAG_A);
  store<u64>(0, b, FLAG_B);
  store<u32>(0, kind, FLAG_KIND);
}

/** Sets NZCV; N is bit 3, V is bit 0. */
// @ts-ignore: decorator
@inline
export function setNZCV(nzcv: u32): void {
  store<u64>(0, <u64>nzcv, FLAG_A);
  store<u32>(0, FLAGS_LITERAL, FLAG_KIND);
}

/** NZCV with N in bit 3 and V in bit 0. */
export function getNZCV(): u32 {
  const kind = load<u32>(0, FLAG_KIND);
  const a = load<u64>(0, FLAG_A);
  if (kind == FLAGS_LITERAL) return <u32>a;
  const b = load<u64>(0, FLAG_B);
  let r: u64;
  let c: u32;
  let v: u64;
  if (kind == FLAGS_SUB) {
    r = a - b;
    c = u32(a >= b);
    v = (a ^ b) & (a ^ r);
  } else {
    r = a + b;
    c = u32(r < a);
    v = ~(a ^ b) & (a ^ r);
  }
  return (u32(r >> 63) << 3) | (u32(r == 0) << 2) | (c << 1) | u32(v >> 63);
}

/** getNZCV() without a branch but one, for the interpreter loop. */
// @ts-ignore: decorator
@inline
export function nzcvNow(): u32 {
  const kind = load<u32>(0, FLAG_KIND);
  const a = load<u64>(0, FLAG_A);
  if (kind == FLAGS_LITERAL) return <u32>a;
  const b = load<u64>(0, FLAG_B);
  const sub = kind == FLAGS_SUB;
  const r = sub ? a - b : a + b;
  const c = u32(sub ? a >= b : r < a);
  const v = (sub ? a ^ b : ~(a ^ b)) & (a ^ r);
  return (u32(r >> 63) << 3) | (u32(r == 0) << 2) | (c << 1) | u32(v >> 63);
}

/** For each condition the set of NZCV values for which it holds, as a mask of 16 bits. */
export function conditionMask(cond: u32): u32 {
  let mask: u32 = 0;
  for (let f: u32 = 0; f < 16; f++) if (holds(cond, f)) mask |= 1 << f;
  return mask;
}

/** ConditionHolds() of DDI 0487 for the 4-bit condition `cond`. */
export function conditionHolds(cond: u32): bool {
  if (load<u32>(0, FLAG_KIND) == FLAGS_SUB) {
    const a = load<u64>(0, FLAG_A);
    const b = load<u64>(0, FLAG_B);
    switch (cond) {
      case 0: return a == b;
      case 1: return a != b;
      case 2: return a >= b;
      case 3: return a < b;
      case 4: return <i64>(a - b) < 0;
      case 5: return <i64>(a - b) >= 0;
      case 8: return a > b;
      case 9: return a <= b;
      case 10: return <i64>a >= <i64>b;
      case 11: return <i64>a < <i64>b;
      case 12: return <i64>a > <i64>b;
      case 13: return <i64>a <= <i64>b;
      default: break;
    }
  }
  return holds(cond, getNZCV());
}

/** Whether the condition holds for NZCV = `f`. */
function holds(cond: u32, f: u32): bool {
  let yes: bool;
  switch (cond >> 1) {
    case 0: yes = (f & 4) != 0; break;
    case 1: yes = (f & 2) != 0; break;
    case 2: yes = (f & 8) != 0; break;
    case 3: yes = (f & 1) != 0; break;
    case 4: yes = (f & 6) == 2; break;
    case 5: yes = ((f >> 3) & 1) == (f & 1); break;
    case 6: yes = ((f >> 3) & 1) == (f & 1) && (f & 4) == 0; break;
    default: return true;
  }
  return (cond & 1) != 0 ? !yes : yes;
}
