/** What the scalar and the AdvSIMD instructions share: register access and the operations on one lane. */
import {
  f32AddFast, f32DivFast, f32MulAddFast, f32MulFast, f32SqrtFast, f32SubFast, f64AddFast, f64DivFast, f64MulAddFast,
  f64MulFast, f64SqrtFast, f64SubFast, isSafe,
} from './fp-fast';
import { FP_FAST, TRASH_SLOT, VREGS, XREGS, ZERO_SLOT } from './layout';
import {
  TIEEVEN, ZERO, bias, fpAdd, fpDiv, fpMul, fpMulAdd, fpSqrt, fractionBits, roundingMode, signBit,
} from './softfloat';
import { fpCompare, fpConvert, fpFromFixed, fpToFixed } from './softfloat-convert';

// --- Registers: byte offsets from VREGS of the instruction's fields ---

// @ts-ignore: decorator
@inline
export function rd(insn: u32): u32 {
  return (insn << 4) & 0x1f0;
}

// @ts-ignore: decorator
@inline
export function rn(insn: u32): u32 {
  return (insn >> 1) & 0x1f0;
}

// @ts-ignore: decorator
@inline
export function rm(insn: u32): u32 {
  return (insn >> 12) & 0x1f0;
}

// @ts-ignore: decorator
@inline
export function ra(insn: u32): u32 {
  return (insn >> 6) & 0x1f0;
}

/** A lane at a byte offset from VREGS, zero-extended. */
// @ts-ignore: decorator
@inline
export function getLane<T>(at: u32): u64 {
  return <u64>load<T>(at, VREGS);
}

// @ts-ignore: decorator
@inline
export function setLane<T>(at: u32, v: u64): void {
  store<T>(at, <T>v, VREGS);
}

/** The scalar operand in Vn. */
// @ts-ignore: decorator
@inline
export function vn<T>(insn: u32): u64 {
  return getLane<T>(rn(insn));
}

/** The scalar operand in Vm. */
// @ts-ignore: decorator
@inline
export function vm<T>(insn: u32): u64 {
  return getLane<T>(rm(insn));
}

/** Writes a scalar result to Vd; the rest of the register is cleared. */
// @ts-ignore: decorator
@inline
export function setScalar<T>(insn: u32, v: u64): void {
  store<u64>(rd(insn), v, VREGS);
  store<u64>(rd(insn), 0, VREGS + 8);
}

/** Xn, or zero for XZR. */
// @ts-ignore: decorator
@inline
export function getX(insn: u32): u64 {
  const n = (insn >> 5) & 31;
  return load<u64>((n == 31 ? ZERO_SLOT : n) << 3, XREGS);
}

// @ts-ignore: decorator
@inline
export function setX(insn: u32, v: u64): void {
  const d = insn & 31;
  store<u64>((d == 31 ? TRASH_SLOT : d) << 3, v, XREGS);
}

// --- Operations that have a fast form ---

// @ts-ignore: decorator
@inline
export function isFast(): bool {
  return load<u32>(0, FP_FAST) != 0;
}

// @ts-ignore: decorator
@inline
export function add<T>(a: u64, b: u64): u64 {
  if (!isFast()) return fpAdd<T>(a, b, 0);
  return sizeof<T>() == 8 ? f64AddFast(a, b) : <u64>f32AddFast(<u32>a, <u32>b);
}

// @ts-ignore: decorator
@inline
export function sub<T>(a: u64, b: u64): u64 {
  if (!isFast()) return fpAdd<T>(a, b, signBit<T>());
  return sizeof<T>() == 8 ? f64SubFast(a, b) : <u64>f32SubFast(<u32>a, <u32>b);
}

// @ts-ignore: decorator
@inline
export function mul<T>(a: u64, b: u64): u64 {
  if (!isFast()) return fpMul<T>(a, b, false);
  return sizeof<T>() == 8 ? f64MulFast(a, b) : <u64>f32MulFast(<u32>a, <u32>b);
}

// @ts-ignore: decorator
@inline
export function div<T>(a: u64, b: u64): u64 {
  if (!isFast()) return fpDiv<T>(a, b);
  return sizeof<T>() == 8 ? f64DivFast(a, b) : <u64>f32DivFast(<u32>a, <u32>b);
}

// @ts-ignore: decorator
@inline
export function squareRoot<T>(a: u64): u64 {
  if (!isFast()) return fpSqrt<T>(a);
  return sizeof<T>() == 8 ? f64SqrtFast(a) : <u64>f32SqrtFast(<u32>a);
}

/** addend + a * b */
// @ts-ignore: decorator
@inline
export function mulAdd<T>(addend: u64, a: u64, b: u64): u64 {
  if (!isFast()) return fpMulAdd<T>(addend, a, b);
  return sizeof<T>() == 8 ? f64MulAddFast(addend, a, b) : <u64>f32MulAddFast(<u32>addend, <u32>a, <u32>b);
}

/** To an integer of `width` bits; the host truncates when that is asked for and the value is in range. */
// @ts-ignore: decorator
@inline
export function toInteger<T>(v: u64, width: u32, unsigned: bool, mode: u32): u64 {
  if (mode == ZERO && !unsigned && isFast()) {
    const x = sizeof<T>() == 8 ? reinterpret<f64>(v) : <f64>reinterpret<f32>(<u32>v);
    if (width == 32) {
      if (abs(x) < 2147483648.0) return <u64><u32>i32(x);
    } else if (abs(x) < 9223372036854775808.0) {
      return <u64>i64(x);
    }
  }
  return fpToFixed<T>(v, 0, width, unsigned, mode);
}

/** From a 64-bit integer, which a narrower one was extended to. */
// @ts-ignore: decorator
@inline
export function fromInteger<T>(v: u64, unsigned: bool): u64 {
  if (!isFast()) return fpFromFixed<T>(v, 0, unsigned);
  if (sizeof<T>() == 8) return reinterpret<u64>(unsigned ? <f64>v : <f64><i64>v);
  return <u64>reinterpret<u32>(unsigned ? <f32>v : <f32><i64>v);
}

/** Single to double; the host quietens NaNs in its own way. */
// @ts-ignore: decorator
@inline
export function widen(v: u64): u64 {
  if (isFast() && (v & 0x7f800000) != 0x7f800000) return reinterpret<u64>(<f64>reinterpret<f32>(<u32>v));
  return fpConvert<u32, u64>(v, TIEEVEN);
}

/** Double to single in the mode of FPCR. */
// @ts-ignore: decorator
@inline
export function shorten(v: u64): u64 {
  if (isFast()) {
    const r = <u64>reinterpret<u32>(<f32>reinterpret<f64>(v));
    if (isSafe<u32>(r)) return r;
  }
  return fpConvert<u64, u32>(v, roundingMode());
}

/** fpCompare() while nothing is flushed: numbers raise no flag. */
// @ts-ignore: decorator
@inline
export function compareFast<T>(a: u64, b: u64, signalling: bool): u32 {
  const x = sizeof<T>() == 8 ? reinterpret<f64>(a) : <f64>reinterpret<f32>(<u32>a);
  const y = sizeof<T>() == 8 ? reinterpret<f64>(b) : <f64>reinterpret<f32>(<u32>b);
  if (x < y) return 8;
  if (x > y) return 2;
  return x == y ? 6 : fpCompare<T>(a, b, signalling);
}

/** VFPExpandImm(): abcdefgh is sign, three bits of exponent and four of fraction. */
export function expandImmediate<T>(imm8: u64): u64 {
  const exponent = <u64>(bias<T>() + ((imm8 & 0x40) != 0 ? -3 : 1)) + ((imm8 >> 4) & 3);
  return ((imm8 >> 7) * signBit<T>()) | (exponent << fractionBits<T>()) | ((imm8 & 15) << (fractionBits<T>() - 4));
}
