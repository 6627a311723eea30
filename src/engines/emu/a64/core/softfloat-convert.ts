/**
 * Comparison, minimum and maximum, conversions between formats and to and from integers, rounding to integral values
 * and the reciprocal estimates of DDI 0487 J1.3 (shared/functions/float). Conventions as in softfloat.ts.
 */
import { FPSR_DZC, FPSR_IDC, FPSR_IOC, FPSR_IXC, FPSR_OFC, FPSR_UFC, raiseFp } from './fpstate';
import {
  FPCR_AHP, FPCR_DN, FPCR_FZ, NEGINF, POSINF, TIEEVEN, TYPE_INFINITY, TYPE_NAN, TYPE_ZERO, ZERO, bias, defaultNaN,
  exponentMax, fpcr, fractionBits, infinity, invalid, isNaN, magnitude, minNormal, processNaN, processNaNs, quietBit,
  round, roundingMode, signBit, unpack, unpackedExponent, unpackedSignificand,
} from './softfloat';

/** The operand as the comparisons see it: a subnormal is flushed if FPCR.FZ says so. */
// @ts-ignore: decorator
@inline
function flushed<T>(v: u64): u64 {
  if ((fpcr() & FPCR_FZ) != 0 && magnitude<T>(v) - 1 < minNormal<T>() - 1) {
    raiseFp(FPSR_IDC);
    return v & signBit<T>();
  }
  return v;
}

// @ts-ignore: decorator
@inline
function less<T>(a: u64, b: u64): bool {
  if (sizeof<T>() == 8) return reinterpret<f64>(a) < reinterpret<f64>(b);
  return reinterpret<f32>(<u32>a) < reinterpret<f32>(<u32>b);
}

// @ts-ignore: decorator
@inline
function equal<T>(a: u64, b: u64): bool {
  if (sizeof<T>() == 8) return reinterpret<f64>(a) == reinterpret<f64>(b);
  return reinterpret<f32>(<u32>a) == reinterpret<f32>(<u32>b);
}

/** True if an operand is a NaN; raises Invalid Operation if it is signalling, or for any NaN if `signalling`. */
function unordered<T>(a: u64, b: u64, signalling: bool): bool {
  if (!isNaN<T>(a) && !isNaN<T>(b)) return false;
  if (
    signalling ||
    (isNaN<T>(a) && (a & quietBit<T>()) == 0) ||
    (isNaN<T>(b) && (b & quietBit<T>()) == 0)
  ) {
    raiseFp(FPSR_IOC);
  }
  return true;
}

/** FPCompare(): NZCV, N in bit 3. */
export function fpCompare<T>(a: u64, b: u64, signalling: bool): u32 {
  a = flushed<T>(a);
  b = flushed<T>(b);
  if (equal<T>(a, b)) return 6;
  if (less<T>(a, b)) return 8;
  return unordered<T>(a, b, signalling) ? 3 : 2;
}

/** FPCompareEQ(). */
export function fpCompareEQ<T>(a: u64, b: u64): bool {
  return fpCompare<T>(a, b, false) == 6;
}

/** FPCompareGE(). */
export function fpCompareGE<T>(a: u64, b: u64): bool {
  return (fpCompare<T>(a, b, true) & 9) == 0;
}

/** FPCompareGT(). */
export function fpCompareGT<T>(a: u64, b: u64): bool {
  return fpCompare<T>(a, b, true) == 2;
}

/** FPMax(), or FPMin() if `minimum`. */
export function fpMax<T>(a: u64, b: u64, minimum: bool): u64 {
  a = flushed<T>(a);
  b = flushed<T>(b);
  if (isNaN<T>(a) || isNaN<T>(b)) return processNaNs<T>(a, b);
  if (((a | b) & (signBit<T>() - 1)) == 0) return minimum ? a | b : a & b;
  return less<T>(a, b) == minimum ? a : b;
}

/** FPMaxNum(), or FPMinNum() if `minimum`: a single quiet NaN loses against a number. */
export function fpMaxNum<T>(a: u64, b: u64, minimum: bool): u64 {
  const quietA = isNaN<T>(a) && (a & quietBit<T>()) != 0;
  const quietB = isNaN<T>(b) && (b & quietBit<T>()) != 0;
  if (quietA != quietB) {
    const loser = infinity<T>() | (minimum ? 0 : signBit<T>());
    if (quietA) a = loser;
    else b = loser;
  }
  return fpMax<T>(a, b, minimum);
}

// --- Integers ---

/** Whether a value with fraction `rest` / 2^64 (bit 0 sticky) and the integer part `int` is rounded away from zero. */
// @ts-ignore: decorator
@inline
function roundsUp(mode: u32, negative: bool, int: u64, rest: u64): bool {
  const half: u64 = 0x8000000000000000;
  switch (mode) {
    case TIEEVEN: return rest > half || (rest == half && (int & 1) != 0);
    case POSINF: return rest != 0 && !negative;
    case NEGINF: return rest != 0 && negative;
    case ZERO: return false;
    default: return rest >= half;
  }
}

/** The part below the binary point of the unpacked number, in units of 2^-64 with a sticky bit 0; exponent < 63. */
// @ts-ignore: decorator
@inline
function fractionBelow(exponent: i32, significand: u64): u64 {
  if (exponent >= 0) return significand << u64(exponent + 1);
  return exponent == -1 ? significand : 1 | (significand >> u64(min(-1 - exponent, 63)));
}

/** FPRoundInt(): rounds to an integral value in the same format; raises Inexact only if `exact`. */
export function fpRoundInt<T>(v: u64, mode: u32, exact: bool): u64 {
  const type = unpack<T>(v);
  if (type == TYPE_NAN) return processNaN<T>(v);
  const sign = v & signBit<T>();
  if (type == TYPE_ZERO) return sign;
  const exponent = unpackedExponent;
  if (type == TYPE_INFINITY || exponent >= i32(fractionBits<T>())) return v;
  const int = exponent < 0 ? 0 : unpackedSignificand >> u64(63 - exponent);
  const rest = fractionBelow(exponent, unpackedSignificand);
  const up = roundsUp(mode, sign != 0, int, rest);
  if (rest != 0 && exact) raiseFp(FPSR_IXC);
  if (exponent < 0) return up ? sign | (<u64>bias<T>() << fractionBits<T>()) : sign;
  // In place: a carry out of the fraction is the next power of two.
  const unit = (<u64>1) << (fractionBits<T>() - <u64>exponent);
  return (v & ~(unit - 1)) + (up ? unit : 0);
}

/** FPToFixed(): saturates to `width` bits (32 or 64), of which `fbits` are fraction; zero-extended to 64 bits. */
export function fpToFixed<T>(v: u64, fbits: i32, width: u32, unsigned: bool, mode: u32): u64 {
  const type = unpack<T>(v);
  if (type == TYPE_ZERO) return 0;
  if (type == TYPE_NAN) {
    raiseFp(FPSR_IOC);
    return 0;
  }
  const negative = (v & signBit<T>()) != 0;
  const exponent = unpackedExponent + fbits;
  const mask: u64 = 0xffffffffffffffff >> (64 - width);
  // The largest magnitude that the integer can hold.
  const limit = unsigned ? (negative ? 0 : mask) : (mask >> 1) + u64(negative);
  if (type == TYPE_INFINITY || exponent > 63) {
    raiseFp(FPSR_IOC);
    return limit;
  }
  let int: u64 = exponent < 0 ? 0 : unpackedSignificand >> u64(63 - exponent);
  const rest = exponent == 63 ? 0 : fractionBelow(exponent, unpackedSignificand);
  if (roundsUp(mode, negative, int, rest)) int++;
  if (int > limit) {
    raiseFp(FPSR_IOC);
    return limit; // the most negative number is its own magnitude
  }
  if (rest != 0) raiseFp(FPSR_IXC);
  return (negative ? 0 - int : int) & mask;
}

/** FixedToFP() of a 64-bit integer with `fbits` fraction bits (a narrower one is extended by the caller). */
export function fpFromFixed<T>(v: u64, fbits: i32, unsigned: bool): u64 {
  if (v == 0) return 0;
  const negative = !unsigned && <i64>v < 0;
  return round<T>(u64(negative), 63 - fbits, negative ? 0 - v : v, roundingMode());
}

// --- Between formats ---

/** FPConvert() from format F to format T. */
export function fpConvert<F, T>(v: u64, mode: u32): u64 {
  const type = unpack<F>(v);
  const sign = u64((v & signBit<F>()) != 0);
  const signT = sign * signBit<T>();
  if (type == TYPE_ZERO) return signT;
  const alternative = sizeof<T>() == 2 && (fpcr() & FPCR_AHP) != 0;
  if (type == TYPE_NAN) {
    if (alternative || (v & quietBit<F>()) == 0) raiseFp(FPSR_IOC);
    if (alternative) return signT;
    if ((fpcr() & FPCR_DN) != 0) return defaultNaN<T>();
    // FPConvertNaN(): the top of the payload survives.
    const payload = v << (64 - fractionBits<F>());
    return signT | defaultNaN<T>() | (payload >> (64 - fractionBits<T>()));
  }
  if (type == TYPE_INFINITY) {
    if (!alternative) return signT | infinity<T>();
    raiseFp(FPSR_IOC);
    return signT | 0x7fff;
  }
  return round<T>(sign, unpackedExponent, unpackedSignificand, mode);
}

// --- Estimates ---

/** RecipEstimate(): 256 <= a < 512, in units of 1/512. */
function recipEstimate(a: u32): u32 {
  return ((1 << 19) / (a * 2 + 1) + 1) >> 1;
}

/** RecipSqrtEstimate(): 128 <= a < 512. */
function recipSqrtEstimate(a: u32): u32 {
  a = a < 256 ? a * 2 + 1 : ((a >> 1) * 2 + 1) * 2;
  let b: u32 = 512;
  while (a * (b + 1) * (b + 1) < 1 << 28) b++;
  return (b + 1) >> 1;
}

/** FPRecipEstimate(). */
export function fpRecipEstimate<T>(v: u64): u64 {
  const type = unpack<T>(v);
  if (type == TYPE_NAN) return processNaN<T>(v);
  const sign = v & signBit<T>();
  if (type == TYPE_INFINITY) return sign;
  if (type == TYPE_ZERO) {
    raiseFp(FPSR_DZC);
    return sign | infinity<T>();
  }
  if (unpackedExponent < -1 - bias<T>()) {
    const mode = roundingMode();
    raiseFp(FPSR_OFC | FPSR_IXC);
    const toInfinity = mode == TIEEVEN || (mode == POSINF && sign == 0) || (mode == NEGINF && sign != 0);
    return sign | (infinity<T>() - u64(!toInfinity));
  }
  if ((fpcr() & FPCR_FZ) != 0 && unpackedExponent >= bias<T>() - 1) {
    raiseFp(FPSR_UFC);
    return sign;
  }
  const estimate = <u64>recipEstimate(u32(unpackedSignificand >> 55));
  const exponent = bias<T>() - 1 - unpackedExponent;
  // A subnormal result shows the integer bit in its fraction.
  let fraction = (estimate & 0xff) << (fractionBits<T>() - 8);
  if (exponent <= 0) fraction = (fraction | minNormal<T>()) >> u64(1 - exponent);
  return sign | (u64(max(exponent, 0)) << fractionBits<T>()) | fraction;
}

/** FPRSqrtEstimate(). */
export function fpRSqrtEstimate<T>(v: u64): u64 {
  const type = unpack<T>(v);
  if (type == TYPE_NAN) return processNaN<T>(v);
  const sign = v & signBit<T>();
  if (type == TYPE_ZERO) {
    raiseFp(FPSR_DZC);
    return sign | infinity<T>();
  }
  if (sign != 0) return invalid<T>();
  if (type == TYPE_INFINITY) return 0;
  // Nine bits for an even biased exponent, eight for an odd one.
  const odd = (unpackedExponent + bias<T>()) & 1;
  const estimate = <u64>recipSqrtEstimate(u32(unpackedSignificand >> u64(55 + odd)));
  const exponent = (3 * bias<T>() - 1 - (unpackedExponent + bias<T>())) >> 1;
  return (<u64>exponent << fractionBits<T>()) | ((estimate & 0xff) << (fractionBits<T>() - 8));
}

/** FPRecpX(). */
export function fpRecpX<T>(v: u64): u64 {
  const type = unpack<T>(v);
  if (type == TYPE_NAN) return processNaN<T>(v);
  const all = <u64>exponentMax<T>();
  const exponent = (v >> fractionBits<T>()) & all;
  return (v & signBit<T>()) | ((exponent == 0 ? all - 1 : exponent ^ all) << fractionBits<T>());
}

/** UnsignedRecipEstimate(). */
export function unsignedRecipEstimate(v: u32): u32 {
  return v >> 31 == 0 ? 0xffffffff : recipEstimate(v >> 23) << 23;
}

/** UnsignedRSqrtEstimate(). */
export function unsignedRSqrtEstimate(v: u32): u32 {
  return v >> 30 == 0 ? 0xffffffff : recipSqrtEstimate(v >> 23) << 23;
}
