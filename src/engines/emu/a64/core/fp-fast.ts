/**
 * Arithmetic by the host's own f64 and f32 operations. Those round to nearest, so they serve while FP_FAST is set; what
 * could raise a flag other than Inexact, and every NaN, is recognised by the result and goes to softfloat.ts.
 */
import { fpAdd, fpDiv, fpMul, fpMulAdd, fpSqrt, infinity, magnitude, minNormal, signBit } from './softfloat';

// --- The general operations on double and single precision encodings ---

/** FPAdd() of DDI 0487 for double precision. */
export function f64Add(a: u64, b: u64): u64 { return fpAdd<u64>(a, b, 0); }
/** FPSub() for double precision. */
export function f64Sub(a: u64, b: u64): u64 { return fpAdd<u64>(a, b, signBit<u64>()); }
/** FPMul() for double precision. */
export function f64Mul(a: u64, b: u64): u64 { return fpMul<u64>(a, b, false); }
/** FPDiv() for double precision. */
export function f64Div(a: u64, b: u64): u64 { return fpDiv<u64>(a, b); }
/** FPSqrt() for double precision. */
export function f64Sqrt(a: u64): u64 { return fpSqrt<u64>(a); }
/** FPMulAdd() for double precision: addend + a * b. */
export function f64MulAdd(addend: u64, a: u64, b: u64): u64 { return fpMulAdd<u64>(addend, a, b); }
/** FPAdd() for single precision. */
export function f32Add(a: u32, b: u32): u32 { return <u32>fpAdd<u32>(a, b, 0); }
/** FPSub() for single precision. */
export function f32Sub(a: u32, b: u32): u32 { return <u32>fpAdd<u32>(a, b, signBit<u32>()); }
/** FPMul() for single precision. */
export function f32Mul(a: u32, b: u32): u32 { return <u32>fpMul<u32>(a, b, false); }
/** FPDiv() for single precision. */
export function f32Div(a: u32, b: u32): u32 { return <u32>fpDiv<u32>(a, b); }
/** FPSqrt() for single precision. */
export function f32Sqrt(a: u32): u32 { return <u32>fpSqrt<u32>(a); }
/** FPMulAdd() for single precision: addend + a * b. */
export function f32MulAdd(addend: u32, a: u32, b: u32): u32 { return <u32>fpMulAdd<u32>(addend, a, b); }

// --- When the host's result is the architected one ---

/** Neither infinite nor NaN. */
// @ts-ignore: decorator
@inline
export function isOrdinary<T>(v: u64): bool {
  return magnitude<T>(v) < infinity<T>();
}

/**
 * Finite and above the smallest normal number: no underflow, which is detected before rounding. Exact zeros and
 * subnormals fail this too and take the long way.
 */
// @ts-ignore: decorator
@inline
export function isSafe<T>(v: u64): bool {
  return magnitude<T>(v) - (minNormal<T>() + 1) < infinity<T>() - (minNormal<T>() + 1);
}

// --- Double precision; valid only while FP_FAST is set ---

/** f64Add() while FP_FAST is set. A subnormal sum is exact. */
// @ts-ignore: decorator
@inline
export function f64AddFast(a: u64, b: u64): u64 {
  const r = reinterpret<u64>(reinterpret<f64>(a) + reinterpret<f64>(b));
  return isOrdinary<u64>(r) ? r : f64Add(a, b);
}

/** f64Sub() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f64SubFast(a: u64, b: u64): u64 {
  const r = reinterpret<u64>(reinterpret<f64>(a) - reinterpret<f64>(b));
  return isOrdinary<u64>(r) ? r : f64Sub(a, b);
}

/** f64Mul() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f64MulFast(a: u64, b: u64): u64 {
  const r = reinterpret<u64>(reinterpret<f64>(a) * reinterpret<f64>(b));
  return isSafe<u64>(r) ? r : f64Mul(a, b);
}

/** f64Div() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f64DivFast(a: u64, b: u64): u64 {
  const r = reinterpret<u64>(reinterpret<f64>(a) / reinterpret<f64>(b));
  return isSafe<u64>(r) ? r : f64Div(a, b);
}

/** f64Sqrt() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f64SqrtFast(a: u64): u64 {
  const r = reinterpret<u64>(sqrt<f64>(reinterpret<f64>(a)));
  return isOrdinary<u64>(r) ? r : f64Sqrt(a);
}

/** Biased exponents of 2^-400 .. 2^400: no error term of f64MulAddFast() leaves the normal range. */
// @ts-ignore: decorator
@inline
function isModerate(v: u64): bool {
  return ((v >> 52) & 0x7ff) - 623 <= 800;
}

/** Whether f64MulAddExact() serves for these operands. */
// @ts-ignore: decorator
@inline
export function f64MulAddIsFast(addend: u64, a: u64, b: u64): bool {
  return isModerate(a) && isModerate(b) && isModerate(addend);
}

/**
 * f64MulAdd() while FP_FAST is set and f64MulAddIsFast(): error-free transformations, then one rounding to odd and one
 * to nearest (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE Trans. Computers 57(4), 2008).
 */
// @ts-ignore: decorator
@inline
export function f64MulAddExact(addend: u64, a: u64, b: u64): u64 {
  const x = reinterpret<f64>(a);
  const y = reinterpret<f64>(b);
  const c = reinterpret<f64>(addend);
  // ph + pl = x * y (Dekker, with Veltkamp's splitting).
  const xs = x * 134217729.0;
  const ys = y * 134217729.0;
  const xh = xs - (xs - x);
  const yh = ys - (ys - y);
  const xl = x - xh;
  const yl = y - yh;
  const ph = x * y;
  const pl = xl * yl - (((ph - xh * yh) - xl * yh) - xh * yl);
  // th + tl = c + pl and vh + vl = ph + th (Knuth).
  const th = c + pl;
  const t = th - c;
  const tl = (c - (th - t)) + (pl - t);
  const vh = ph + th;
  const v = vh - ph;
  const vl = (ph - (vh - v)) + (th - v);
  // zh + zl = tl + vl, then zh is made odd if that is not exact.
  let zh = tl + vl;
  const z = zh - tl;
  const zl = (tl - (zh - z)) + (vl - z);
  if (zl != 0) {
    const bits = reinterpret<u64>(zh);
    if ((bits & 1) == 0) zh = reinterpret<f64>((zl > 0) == (zh > 0) ? bits + 1 : bits - 1);
  }
  return reinterpret<u64>(vh + zh);
}

/** f64MulAdd() while FP_FAST is set. */
export function f64MulAddFast(addend: u64, a: u64, b: u64): u64 {
  return f64MulAddIsFast(addend, a, b) ? f64MulAddExact(addend, a, b) : f64MulAdd(addend, a, b);
}

// --- Single precision; valid only while FP_FAST is set ---

/** f32Add() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f32AddFast(a: u32, b: u32): u32 {
  const r = reinterpret<u32>(reinterpret<f32>(a) + reinterpret<f32>(b));
  return isOrdinary<u32>(r) ? r : f32Add(a, b);
}

/** f32Sub() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f32SubFast(a: u32, b: u32): u32 {
  const r = reinterpret<u32>(reinterpret<f32>(a) - reinterpret<f32>(b));
  return isOrdinary<u32>(r) ? r : f32Sub(a, b);
}

/** f32Mul() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f32MulFast(a: u32, b: u32): u32 {
  const r = reinterpret<u32>(reinterpret<f32>(a) * reinterpret<f32>(b));
  return isSafe<u32>(r) ? r : f32Mul(a, b);
}

/** f32Div() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f32DivFast(a: u32, b: u32): u32 {
  const r = reinterpret<u32>(reinterpret<f32>(a) / reinterpret<f32>(b));
  return isSafe<u32>(r) ? r : f32Div(a, b);
}

/** f32Sqrt() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f32SqrtFast(a: u32): u32 {
  const r = reinterpret<u32>(sqrt<f32>(reinterpret<f32>(a)));
  return isOrdinary<u32>(r) ? r : f32Sqrt(a);
}

/**
 * Whether f32MulAddExact() serves for these operands: the product is exact in double precision; the sum is rounded
 * twice, which differs from rounding once only where the first result lies half way between two single precision numbers.
 */
// @ts-ignore: decorator
@inline
export function f32MulAddIsFast(addend: u32, a: u32, b: u32): bool {
  const sum = <f64>reinterpret<f32>(a) * <f64>reinterpret<f32>(b) + <f64>reinterpret<f32>(addend);
  return isSafe<u32>(reinterpret<u32>(<f32>sum)) && (reinterpret<u64>(sum) & 0x1fffffff) != 0x10000000;
}

/** f32MulAdd() while FP_FAST is set and f32MulAddIsFast(). */
// @ts-ignore: decorator
@inline
export function f32MulAddExact(addend: u32, a: u32, b: u32): u32 {
  return reinterpret<u32>(<f32>(<f64>reinterpret<f32>(a) * <f64>reinterpret<f32>(b) + <f64>reinterpret<f32>(addend)));
}

/** f32MulAdd() while FP_FAST is set. */
// @ts-ignore: decorator
@inline
export function f32MulAddFast(addend: u32, a: u32, b: u32): u32 {
  return f32MulAddIsFast(addend, a, b) ? f32MulAddExact(addend, a, b) : f32MulAdd(addend, a, b);
}
