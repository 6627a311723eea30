/**
 * IEEE 754 arithmetic as DDI 0487 J1.3 (shared/functions/float) defines it, in integers: every rounding mode,
 * flush-to-zero, default NaN, NaN propagation and the cumulative flags of FPSR.
 *
 * Functions are generic in T, an unsigned integer as wide as the format: u16 half, u32 single, u64 double. Operands and
 * results are the encodings, carried in u64. A finite non-zero number is taken apart into sign, exponent and
 * significand, value = significand * 2^(exponent - 63), the significand normalised to have bit 63 set.
 */
import { FPSR_DZC, FPSR_IDC, FPSR_IOC, FPSR_IXC, FPSR_OFC, FPSR_UFC, raiseFp } from './fpstate';
import { FPCR } from './layout';

export const FPCR_FZ: u32 = 1 << 24;
export const FPCR_DN: u32 = 1 << 25;
export const FPCR_AHP: u32 = 1 << 26;

/** Rounding modes: the first four are FPCR.RMode's encoding. */
export const TIEEVEN: u32 = 0;
export const POSINF: u32 = 1;
export const NEGINF: u32 = 2;
export const ZERO: u32 = 3;
export const TIEAWAY: u32 = 4;
export const ODD: u32 = 5;

/** FPType of DDI 0487, in an order that lets comparisons find NaNs and non-finite numbers. */
export const TYPE_ZERO: u32 = 0;
export const TYPE_NONZERO: u32 = 1;
export const TYPE_INFINITY: u32 = 2;
export const TYPE_NAN: u32 = 3;

// --- Parameters of a format; all fold to constants. ---

// @ts-ignore: decorator
@inline
export function fractionBits<T>(): u64 {
  return sizeof<T>() == 8 ? 52 : sizeof<T>() == 4 ? 23 : 10;
}

// @ts-ignore: decorator
@inline
export function exponentMax<T>(): u32 {
  return sizeof<T>() == 8 ? 0x7ff : sizeof<T>() == 4 ? 0xff : 0x1f;
}

// @ts-ignore: decorator
@inline
export function bias<T>(): i32 {
  return i32(exponentMax<T>() >> 1);
}

// @ts-ignore: decorator
@inline
export function signBit<T>(): u64 {
  return (<u64>1) << (<u64>sizeof<T>() * 8 - 1);
}

// @ts-ignore: decorator
@inline
export function quietBit<T>(): u64 {
  return (<u64>1) << (fractionBits<T>() - 1);
}

// @ts-ignore: decorator
@inline
export function infinity<T>(): u64 {
  return (<u64>exponentMax<T>()) << fractionBits<T>();
}

// @ts-ignore: decorator
@inline
export function minNormal<T>(): u64 {
  return (<u64>1) << fractionBits<T>();
}

// @ts-ignore: decorator
@inline
export function defaultNaN<T>(): u64 {
  return infinity<T>() | quietBit<T>();
}

// @ts-ignore: decorator
@inline
export function magnitude<T>(v: u64): u64 {
  return v & (signBit<T>() - 1);
}

// @ts-ignore: decorator
@inline
export function isNaN<T>(v: u64): bool {
  return magnitude<T>(v) > infinity<T>();
}

// @ts-ignore: decorator
@inline
export function isSNaN<T>(v: u64): bool {
  return isNaN<T>(v) && (v & quietBit<T>()) == 0;
}

// @ts-ignore: decorator
@inline
export function fpcr(): u32 {
  return load<u32>(0, FPCR);
}

/** FPRoundingMode(). */
// @ts-ignore: decorator
@inline
export function roundingMode(): u32 {
  return (load<u32>(0, FPCR) >> 22) & 3;
}

/** Sign of an exact zero that comes from operands of opposite sign. */
// @ts-ignore: decorator
@inline
function zeroOfDifference<T>(): u64 {
  return roundingMode() == NEGINF ? signBit<T>() : 0;
}

// --- NaNs ---

/** The default NaN, with Invalid Operation. */
export function invalid<T>(): u64 {
  raiseFp(FPSR_IOC);
  return defaultNaN<T>();
}

/** FPProcessNaN(). */
export function processNaN<T>(v: u64): u64 {
  if ((v & quietBit<T>()) == 0) raiseFp(FPSR_IOC);
  return (fpcr() & FPCR_DN) != 0 ? defaultNaN<T>() : v | quietBit<T>();
}

/** FPProcessNaNs(): at least one of the operands is a NaN. */
export function processNaNs<T>(a: u64, b: u64): u64 {
  if (isSNaN<T>(a)) return processNaN<T>(a);
  if (isSNaN<T>(b)) return processNaN<T>(b);
  return processNaN<T>(isNaN<T>(a) ? a : b);
}

/** FPProcessNaNs3(): at least one of the operands is a NaN. */
function processNaNs3<T>(a: u64, b: u64, c: u64): u64 {
  if (isSNaN<T>(a)) return processNaN<T>(a);
  if (isSNaN<T>(b)) return processNaN<T>(b);
  if (isSNaN<T>(c)) return processNaN<T>(c);
  return processNaN<T>(isNaN<T>(a) ? a : isNaN<T>(b) ? b : c);
}

// --- Taking apart and rounding ---

/** Exponent and significand of the number that unpack() last found to be TYPE_NONZERO. */
export let unpackedExponent: i32 = 0;
export let unpackedSignificand: u64 = 0;

/** FPUnpack() and, for half precision, FPUnpackCV(): the operand's type, flushing a subnormal if FPCR.FZ says so. */
export function unpack<T>(v: u64): u32 {
  const exponent = u32(v >> fractionBits<T>()) & exponentMax<T>();
  const fraction = v & (minNormal<T>() - 1);
  if (exponent == 0) {
    if (fraction == 0) return TYPE_ZERO;
    if (sizeof<T>() != 2 && (fpcr() & FPCR_FZ) != 0) {
      raiseFp(FPSR_IDC);
      return TYPE_ZERO;
    }
    const shift = clz(fraction);
    unpackedSignificand = fraction << shift;
    unpackedExponent = 64 - i32(shift) - bias<T>() - i32(fractionBits<T>());
    return TYPE_NONZERO;
  }
  if (exponent == exponentMax<T>() && (sizeof<T>() != 2 || (fpcr() & FPCR_AHP) == 0)) {
    return fraction == 0 ? TYPE_INFINITY : TYPE_NAN;
  }
  unpackedSignificand = (fraction | minNormal<T>()) << (63 - fractionBits<T>());
  unpackedExponent = i32(exponent) - bias<T>();
  return TYPE_NONZERO;
}

/** v >> n, with bit 0 set if a one was shifted out. */
// @ts-ignore: decorator
@inline
function shiftRightJam(v: u64, n: u32): u64 {
  if (n == 0) return v;
  return n < 64 ? (v >> n) | u64(v << (64 - n) != 0) : u64(v != 0);
}

/**
 * FPRound() of significand * 2^(exponent - 63), which is not zero; the significand need not be normalised and its
 * bit 0 may stand for any lower bits. `sign` is 0 or 1.
 */
export function round<T>(sign: u64, exponent: i32, significand: u64, mode: u32): u64 {
  const leading = clz(significand);
  let rest = significand << leading;
  let biased = exponent - i32(leading) + bias<T>();
  sign <<= <u64>sizeof<T>() * 8 - 1;
  if (biased < 1) {
    if (sizeof<T>() != 2 && (fpcr() & FPCR_FZ) != 0) {
      raiseFp(FPSR_UFC);
      return sign;
    }
    rest = shiftRightJam(rest, u32(1 - biased));
    biased = 0;
  }
  const drop = 63 - fractionBits<T>();
  const half = (<u64>1) << (drop - 1);
  const error = rest & (half + half - 1);
  // The integer bit of a normal number adds one to the exponent field.
  let result = (u64(biased - i32(biased != 0)) << fractionBits<T>()) + (rest >> drop);
  let flags: u32 = 0;
  let toInfinity = mode == TIEEVEN || mode == TIEAWAY;
  if (mode == POSINF) toInfinity = sign == 0;
  else if (mode == NEGINF) toInfinity = sign != 0;
  if (error != 0) {
    flags = biased == 0 ? FPSR_IXC | FPSR_UFC : FPSR_IXC;
    if (mode == TIEEVEN) result += u64(error > half || (error == half && (result & 1) != 0));
    else if (mode == ODD) result |= 1;
    else if (mode == TIEAWAY) result += u64(error >= half);
    else result += u64(toInfinity);
  }
  if (sizeof<T>() == 2 && (fpcr() & FPCR_AHP) != 0) {
    if (result > 0x7fff) {
      result = 0x7fff;
      flags = FPSR_IOC;
    }
  } else if (result >= infinity<T>()) {
    result = infinity<T>() - u64(!toInfinity);
    flags = FPSR_OFC | FPSR_IXC;
  }
  if (flags != 0) raiseFp(flags);
  return sign | result;
}

// --- Addition, multiplication, division, square root ---

/** FPAdd(), or FPSub() if `negate` is the format's sign bit. */
export function fpAdd<T>(a: u64, b: u64, negate: u64): u64 {
  const typeA = unpack<T>(a);
  let ea = unpackedExponent;
  let sa = unpackedSignificand;
  const typeB = unpack<T>(b);
  let eb = unpackedExponent;
  let sb = unpackedSignificand;
  if (typeA == TYPE_NAN || typeB == TYPE_NAN) return processNaNs<T>(a, b);
  b ^= negate;
  const differ = ((a ^ b) & signBit<T>()) != 0;
  if (typeA == TYPE_INFINITY || typeB == TYPE_INFINITY) {
    if (typeA == typeB && differ) return invalid<T>();
    return typeA == TYPE_INFINITY ? a : b;
  }
  if (typeA == TYPE_ZERO) {
    if (typeB != TYPE_ZERO) return b;
    return differ ? zeroOfDifference<T>() : a & signBit<T>();
  }
  if (typeB == TYPE_ZERO) return a;
  if (ea < eb || (ea == eb && sa < sb)) {
    const e = ea;
    ea = eb;
    eb = e;
    const s = sa;
    sa = sb;
    sb = s;
    a = b;
  }
  // One bit of headroom for the carry; the significand leaves at least ten bits for the guards.
  sa >>= 1;
  sb = shiftRightJam(sb >> 1, u32(ea - eb));
  const sum = differ ? sa - sb : sa + sb;
  if (sum == 0) return zeroOfDifference<T>();
  return round<T>(u64((a & signBit<T>()) != 0), ea + 1, sum, roundingMode());
}

/** Upper half of the 128-bit product. */
function multiplyHigh(a: u64, b: u64): u64 {
  const a0 = a & 0xffffffff;
  const a1 = a >> 32;
  const b0 = b & 0xffffffff;
  const b1 = b >> 32;
  const middle = a1 * b0 + ((a0 * b0) >> 32);
  return a1 * b1 + (middle >> 32) + ((a0 * b1 + (middle & 0xffffffff)) >> 32);
}

/** FPMul(), or FPMulX() if `extended`: then infinity times zero is 2. */
export function fpMul<T>(a: u64, b: u64, extended: bool): u64 {
  const typeA = unpack<T>(a);
  const ea = unpackedExponent;
  const sa = unpackedSignificand;
  const typeB = unpack<T>(b);
  if (typeA == TYPE_NAN || typeB == TYPE_NAN) return processNaNs<T>(a, b);
  const sign = (a ^ b) & signBit<T>();
  if (typeA == TYPE_INFINITY || typeB == TYPE_INFINITY) {
    if (typeA != TYPE_ZERO && typeB != TYPE_ZERO) return sign | infinity<T>();
    return extended ? sign | (u64(bias<T>() + 1) << fractionBits<T>()) : invalid<T>();
  }
  if (typeA == TYPE_ZERO || typeB == TYPE_ZERO) return sign;
  let product: u64;
  if (sizeof<T>() == 8) {
    product = multiplyHigh(sa, unpackedSignificand) | u64(sa * unpackedSignificand != 0);
  } else {
    product = (sa >> 32) * (unpackedSignificand >> 32);
  }
  return round<T>(u64(sign != 0), ea + unpackedExponent + 1, product, roundingMode());
}

/**
 * a * 2^63 / b with a sticky bit 0; both have bit 63 set and a's bit 0 is clear. Two digits of 32 bits, each estimated
 * from the divisor's upper half and corrected (Knuth's algorithm D).
 */
function divideSignificands(a: u64, b: u64): u64 {
  const b1 = b >> 32;
  const b0 = b & 0xffffffff;
  const high = a >> 1;
  let q1 = high / b1;
  let r = high - q1 * b1;
  while (q1 >> 32 != 0 || q1 * b0 > r << 32) {
    q1--;
    r += b1;
    if (r >> 32 != 0) break;
  }
  const middle = (high << 32) - q1 * b;
  let q0 = middle / b1;
  r = middle - q0 * b1;
  while (q0 >> 32 != 0 || q0 * b0 > r << 32) {
    q0--;
    r += b1;
    if (r >> 32 != 0) break;
  }
  const remainder = (middle << 32) - q0 * b;
  return (q1 << 32) | q0 | u64(remainder != 0);
}

/** FPDiv(). */
export function fpDiv<T>(a: u64, b: u64): u64 {
  const typeA = unpack<T>(a);
  const ea = unpackedExponent;
  const sa = unpackedSignificand;
  const typeB = unpack<T>(b);
  if (typeA == TYPE_NAN || typeB == TYPE_NAN) return processNaNs<T>(a, b);
  const sign = (a ^ b) & signBit<T>();
  if (typeA == typeB && typeA != TYPE_NONZERO) return invalid<T>();
  if (typeA == TYPE_INFINITY) return sign | infinity<T>();
  if (typeB == TYPE_ZERO) {
    raiseFp(FPSR_DZC);
    return sign | infinity<T>();
  }
  if (typeA == TYPE_ZERO || typeB == TYPE_INFINITY) return sign;
  const exponent = ea - unpackedExponent;
  if (sizeof<T>() == 8) {
    return round<T>(u64(sign != 0), exponent, divideSignificands(sa, unpackedSignificand), roundingMode());
  }
  const divisor = unpackedSignificand >> 40;
  const dividend = sa >> 1;
  const quotient = dividend / divisor;
  return round<T>(u64(sign != 0), exponent + 24, quotient | u64(quotient * divisor != dividend), roundingMode());
}

/** FPSqrt(). */
export function fpSqrt<T>(v: u64): u64 {
  const type = unpack<T>(v);
  if (type == TYPE_NAN) return processNaN<T>(v);
  if (type == TYPE_ZERO) return v & signBit<T>();
  if ((v & signBit<T>()) != 0) return invalid<T>();
  if (type == TYPE_INFINITY) return v;
  // The host's root is right to half a unit in the last of its 53 bits; the sign of the remainder tells on which side
  // of it the true root lies, which is all that rounding needs to know.
  const odd = unpackedExponent & 1;
  const radicand = unpackedSignificand >> (11 - <u64>odd); // 2^52 <= radicand < 2^54, scaled by an even power
  const root = <u64>sqrt<f64>(<f64>radicand * 4503599627370496.0); // below 2^53
  const difference = (radicand << 52) - root * root; // far smaller than 2^63, so the low half suffices
  let significand = root << 11;
  if (difference != 0) significand = <i64>difference > 0 ? significand | 1 : significand - 1;
  return round<T>(0, (unpackedExponent - odd) / 2, significand, roundingMode());
}

// --- Fused multiply-add ---

let wideHigh: u64 = 0;
let wideLow: u64 = 0;

/** wideHigh:wideLow = high:low >> n with a sticky bit 0. */
function wideShiftRightJam(high: u64, low: u64, n: u32): void {
  if (n >= 64) {
    const sticky = u64(low != 0);
    low = n >= 128 ? u64(high != 0) : shiftRightJam(high, n - 64);
    low |= sticky;
    high = 0;
  } else if (n != 0) {
    low = (low >> n) | (high << (64 - n)) | u64(low << (64 - n) != 0);
    high >>= n;
  }
  wideHigh = high;
  wideLow = low;
}

/**
 * Rounds c + a * b, divided by 2^halve; all three are finite, not zero and taken apart. `sign*` are 0 or 1.
 * An exact zero has the sign that the rounding mode gives it.
 */
function fusedFinite<T>(
  signC: u64, ec: i32, sc: u64, signP: u64, ea: i32, sa: u64, eb: i32, sb: u64, halve: i32,
): u64 {
  // Both terms keep one bit of headroom. The larger exponent, e, is then that of bit 63 (of bit 127 in double width).
  let e = ea + eb + 2;
  const distance = e - (ec + 1);
  if (distance < 0) e = ec + 1;
  let high: u64;
  let low: u64;
  let sign = signP;
  if (sizeof<T>() == 8) {
    const product = multiplyHigh(sa, sb);
    wideShiftRightJam(product, sa * sb, distance < 0 ? u32(1 - distance) : 1);
    const ph = wideHigh;
    const pl = wideLow;
    wideShiftRightJam(sc >> 1, 0, distance > 0 ? u32(distance) : 0);
    if (signC == signP) {
      low = pl + wideLow;
      high = ph + wideHigh + u64(low < pl);
    } else if (ph > wideHigh || (ph == wideHigh && pl >= wideLow)) {
      low = pl - wideLow;
      high = ph - wideHigh - u64(pl < wideLow);
    } else {
      low = wideLow - pl;
      high = wideHigh - ph - u64(wideLow < pl);
      sign = signC;
    }
    if (high == 0) {
      high = low;
      low = 0;
      e -= 64;
    }
    const leading = clz(high);
    if (leading != 0) {
      high = (high << leading) | (low >> (64 - leading));
      low <<= leading;
      e -= i32(leading);
    }
    high |= u64(low != 0);
  } else {
    const p = shiftRightJam(((sa >> 40) * (sb >> 40)) << 15, distance < 0 ? u32(-distance) : 0);
    const c = shiftRightJam(sc >> 1, distance > 0 ? u32(distance) : 0);
    if (signC == signP) {
      high = p + c;
    } else if (p >= c) {
      high = p - c;
    } else {
      high = c - p;
      sign = signC;
    }
  }
  if (high == 0) return zeroOfDifference<T>();
  return round<T>(sign, e - halve, high, roundingMode());
}

/** FPMulAdd(): addend + a * b. */
export function fpMulAdd<T>(addend: u64, a: u64, b: u64): u64 {
  const typeC = unpack<T>(addend);
  const ec = unpackedExponent;
  const sc = unpackedSignificand;
  const typeA = unpack<T>(a);
  const ea = unpackedExponent;
  const sa = unpackedSignificand;
  const typeB = unpack<T>(b);
  const signP = (a ^ b) & signBit<T>();
  const signC = addend & signBit<T>();
  const infinityTimesZero =
    (typeA == TYPE_INFINITY && typeB == TYPE_ZERO) || (typeA == TYPE_ZERO && typeB == TYPE_INFINITY);
  if (typeC == TYPE_NAN || typeA == TYPE_NAN || typeB == TYPE_NAN) {
    if (infinityTimesZero && !isSNaN<T>(addend)) return invalid<T>();
    return processNaNs3<T>(addend, a, b);
  }
  if (infinityTimesZero) return invalid<T>();
  if (typeA == TYPE_INFINITY || typeB == TYPE_INFINITY) {
    if (typeC == TYPE_INFINITY && signC != signP) return invalid<T>();
    return signP | infinity<T>();
  }
  if (typeC == TYPE_INFINITY) return addend;
  if (typeA == TYPE_ZERO || typeB == TYPE_ZERO) {
    if (typeC != TYPE_ZERO) return addend;
    return signC == signP ? signC : zeroOfDifference<T>();
  }
  if (typeC == TYPE_ZERO) {
    const product = multiplyHigh(sa, unpackedSignificand) | u64(sa * unpackedSignificand != 0);
    return round<T>(u64(signP != 0), ea + unpackedExponent + 1, product, roundingMode());
  }
  return fusedFinite<T>(
    u64(signC != 0), ec, sc, u64(signP != 0), ea, sa, unpackedExponent, unpackedSignificand, 0,
  );
}

/** FPRecipStepFused(), 2 - a * b, or if `rsqrt` FPRSqrtStepFused(), (3 - a * b) / 2. */
export function fpStep<T>(a: u64, b: u64, rsqrt: bool): u64 {
  a ^= signBit<T>(); // before NaNs are processed: a propagated NaN shows it
  const typeA = unpack<T>(a);
  const ea = unpackedExponent;
  const sa = unpackedSignificand;
  const typeB = unpack<T>(b);
  if (typeA == TYPE_NAN || typeB == TYPE_NAN) return processNaNs<T>(a, b);
  const sign = (a ^ b) & signBit<T>();
  if (typeA == TYPE_ZERO || typeB == TYPE_ZERO) {
    const two = u64(bias<T>() + 1) << fractionBits<T>();
    return rsqrt ? two - quietBit<T>() : two;
  }
  if (typeA == TYPE_INFINITY || typeB == TYPE_INFINITY) return sign | infinity<T>();
  const constant: u64 = rsqrt ? 0xc000000000000000 : 0x8000000000000000;
  return fusedFinite<T>(
    0, 1, constant, u64(sign != 0), ea, sa, unpackedExponent, unpackedSignificand, i32(rsqrt),
  );
}
