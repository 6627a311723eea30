/** The AdvSIMD floating-point instructions, vector and scalar: DDI 0487 C7.2. */
import {
  FP_V_ACROSS, FP_V_ELEMENT, FP_V_FCVTL, FP_V_FCVTN, FP_V_FCVTXN, FP_V_FMOV, FP_V_FROM_FIXED, FP_V_PAIR,
  FP_V_PAIRWISE, FP_V_SAME, FP_V_TO_FIXED, FP_V_UNARY, LANE_FABD, LANE_FABS, LANE_FACGE, LANE_FACGT, LANE_FADD,
  LANE_FCMEQ, LANE_FCMEQ0, LANE_FCMGE, LANE_FCMGE0, LANE_FCMGT, LANE_FCMGT0, LANE_FCMLE0, LANE_FCMLT0, LANE_FCVTS,
  LANE_FCVTU, LANE_FDIV, LANE_FMAX, LANE_FMAXNM, LANE_FMIN, LANE_FMINNM, LANE_FMLA, LANE_FMLS, LANE_FMUL, LANE_FMULX,
  LANE_FNEG, LANE_FRECPE, LANE_FRECPS, LANE_FRECPX, LANE_FRINT, LANE_FRSQRTE, LANE_FRSQRTS, LANE_FSQRT, LANE_FSUB,
  LANE_SCVTF, LANE_UCVTF, LANE_URECPE, LANE_URSQRTE,
} from './fp-ops';
import {
  add, div, expandImmediate, fromInteger, getLane, isFast, mul, mulAdd, rd, rm, rn, setLane, setScalar, squareRoot,
  sub, toInteger, widen,
} from './fp-scalar';
import { VREGS } from './layout';
import { ODD, ZERO, fpMul, fpStep, magnitude, roundingMode, signBit } from './softfloat';
import {
  fpCompareEQ, fpCompareGE, fpCompareGT, fpConvert, fpFromFixed, fpMax, fpMaxNum, fpRSqrtEstimate, fpRecipEstimate,
  fpRecpX, fpRoundInt, fpToFixed, unsignedRSqrtEstimate, unsignedRecipEstimate,
} from './softfloat-convert';

const SCALAR: u32 = 1 << 28;
const Q: u32 = 1 << 30;
const U: u32 = 1 << 29;
const SZ: u32 = 1 << 22;

/** Result of a comparison: all ones or zero. */
// @ts-ignore: decorator
@inline
function mask<T>(holds: bool): u64 {
  return holds ? (signBit<T>() << 1) - 1 : 0;
}

/** Bytes of the operands: the element in the scalar forms, else half or all of the register. */
// @ts-ignore: decorator
@inline
function operandBytes<T>(insn: u32): u32 {
  return (insn & SCALAR) != 0 ? <u32>sizeof<T>() : (insn & Q) != 0 ? 16 : 8;
}

/** Clears what lies behind a result of `bytes` in Vd. */
// @ts-ignore: decorator
@inline
function clearRest(insn: u32, bytes: u32): void {
  if (bytes == 4) store<u32>(rd(insn), 0, VREGS + 4);
  if (bytes < 16) store<u64>(rd(insn), 0, VREGS + 8);
}

/** One lane of an operation on two operands; `d` is the lane of the destination. */
function lane2<T>(operation: u32, a: u64, b: u64, d: u64): u64 {
  switch (operation) {
    case LANE_FADD: return add<T>(a, b);
    case LANE_FSUB: return sub<T>(a, b);
    case LANE_FMUL: return mul<T>(a, b);
    case LANE_FDIV: return div<T>(a, b);
    case LANE_FMLA: return mulAdd<T>(d, a, b);
    case LANE_FMLS: return mulAdd<T>(d, a ^ signBit<T>(), b);
    case LANE_FMULX: return fpMul<T>(a, b, true);
    case LANE_FMAX: return fpMax<T>(a, b, false);
    case LANE_FMIN: return fpMax<T>(a, b, true);
    case LANE_FMAXNM: return fpMaxNum<T>(a, b, false);
    case LANE_FMINNM: return fpMaxNum<T>(a, b, true);
    case LANE_FCMEQ: return mask<T>(fpCompareEQ<T>(a, b));
    case LANE_FCMGE: return mask<T>(fpCompareGE<T>(a, b));
    case LANE_FCMGT: return mask<T>(fpCompareGT<T>(a, b));
    case LANE_FACGE: return mask<T>(fpCompareGE<T>(magnitude<T>(a), magnitude<T>(b)));
    case LANE_FACGT: return mask<T>(fpCompareGT<T>(magnitude<T>(a), magnitude<T>(b)));
    case LANE_FRECPS: return fpStep<T>(a, b, false);
    case LANE_FRSQRTS: return fpStep<T>(a, b, true);
    default: return magnitude<T>(sub<T>(a, b)); // LANE_FABD
  }
}

/** One lane of an operation on one operand. */
function lane1<T>(operation: u32, a: u64): u64 {
  const width: u32 = <u32>sizeof<T>() * 8;
  switch (operation) {
    case LANE_FABS: return magnitude<T>(a);
    case LANE_FNEG: return a ^ signBit<T>();
    case LANE_FSQRT: return squareRoot<T>(a);
    case LANE_FRINT + 5: return fpRoundInt<T>(a, roundingMode(), true);
    case LANE_FRINT + 6: return fpRoundInt<T>(a, roundingMode(), false);
    case LANE_SCVTF: return fromInteger<T>(sizeof<T>() == 4 ? <u64><i64><i32>a : a, false);
    case LANE_UCVTF: return fromInteger<T>(a, true);
    case LANE_FCMEQ0: return mask<T>(fpCompareEQ<T>(a, 0));
    case LANE_FCMGE0: return mask<T>(fpCompareGE<T>(a, 0));
    case LANE_FCMGT0: return mask<T>(fpCompareGT<T>(a, 0));
    case LANE_FCMLE0: return mask<T>(fpCompareGE<T>(0, a));
    case LANE_FCMLT0: return mask<T>(fpCompareGT<T>(0, a));
    case LANE_FRECPE: return fpRecipEstimate<T>(a);
    case LANE_FRSQRTE: return fpRSqrtEstimate<T>(a);
    case LANE_FRECPX: return fpRecpX<T>(a);
    case LANE_URECPE: return unsignedRecipEstimate(<u32>a);
    case LANE_URSQRTE: return unsignedRSqrtEstimate(<u32>a);
    default: break;
  }
  if (operation < LANE_FCVTS) return fpRoundInt<T>(a, operation - LANE_FRINT, false);
  if (operation < LANE_FCVTU) return toInteger<T>(a, width, false, operation - LANE_FCVTS);
  return fpToFixed<T>(a, 0, width, true, operation - LANE_FCVTU);
}

/**
 * A whole register of additions, subtractions, multiplications or divisions by the host's vector unit, while FP_FAST
 * is set. False if some lane may need the general operation (see fp-fast.ts); Vd is then untouched.
 */
// @ts-ignore: decorator
@inline
function sameByHost<T>(operation: u32, insn: u32): bool {
  const a = load<v128>(rn(insn), VREGS);
  const b = load<v128>(rm(insn), VREGS);
  let r: v128;
  let low: v128;
  let high: v128;
  if (sizeof<T>() == 8) {
    switch (operation) {
      case LANE_FADD: r = f64x2.add(a, b); break;
      case LANE_FSUB: r = f64x2.sub(a, b); break;
      case LANE_FMUL: r = f64x2.mul(a, b); break;
      default: r = f64x2.div(a, b); break;
    }
    const size = f64x2.abs(r);
    low = f64x2.gt(size, f64x2.splat(2.2250738585072014e-308));
    high = f64x2.lt(size, f64x2.splat(Infinity));
  } else {
    switch (operation) {
      case LANE_FADD: r = f32x4.add(a, b); break;
      case LANE_FSUB: r = f32x4.sub(a, b); break;
      case LANE_FMUL: r = f32x4.mul(a, b); break;
      default: r = f32x4.div(a, b); break;
    }
    const size = f32x4.abs(r);
    low = f32x4.gt(size, f32x4.splat(reinterpret<f32>(0x00800000)));
    high = f32x4.lt(size, f32x4.splat(<f32>Infinity));
  }
  // Sums do not underflow.
  if (operation >= LANE_FMUL) high = v128.and(high, low);
  if (!i64x2.all_true(i64x2.eq(high, i64x2.splat(-1)))) return false;
  store<v128>(rd(insn), r, VREGS);
  return true;
}

function same<T>(operation: u32, insn: u32): void {
  const bytes = operandBytes<T>(insn);
  if (operation <= LANE_FDIV && bytes == 16 && isFast() && sameByHost<T>(operation, insn)) return;
  const d = rd(insn);
  const n = rn(insn);
  const m = rm(insn);
  for (let i: u32 = 0; i < bytes; i += <u32>sizeof<T>()) {
    setLane<T>(d + i, lane2<T>(operation, getLane<T>(n + i), getLane<T>(m + i), getLane<T>(d + i)));
  }
  clearRest(insn, bytes);
}

function element<T>(operation: u32, insn: u32): void {
  const bytes = operandBytes<T>(insn);
  const d = rd(insn);
  const n = rn(insn);
  // Index H for doubles, H:L for singles.
  const h = (insn >> 11) & 1;
  const at: u32 = sizeof<T>() == 8 ? h << 3 : ((h << 1) | ((insn >> 21) & 1)) << 2;
  const b = getLane<T>(rm(insn) + at);
  for (let i: u32 = 0; i < bytes; i += <u32>sizeof<T>()) {
    setLane<T>(d + i, lane2<T>(operation, getLane<T>(n + i), b, getLane<T>(d + i)));
  }
  clearRest(insn, bytes);
}

function unary<T>(operation: u32, insn: u32): void {
  const bytes = operandBytes<T>(insn);
  const d = rd(insn);
  const n = rn(insn);
  for (let i: u32 = 0; i < bytes; i += <u32>sizeof<T>()) {
    setLane<T>(d + i, lane1<T>(operation, getLane<T>(n + i)));
  }
  clearRest(insn, bytes);
}

/** The operation on two neighbours. */
// @ts-ignore: decorator
@inline
function pair<T>(operation: u32, at: u32): u64 {
  return lane2<T>(operation, getLane<T>(at), getLane<T>(at + <u32>sizeof<T>()), 0);
}

function pairwise<T>(operation: u32, insn: u32): void {
  const n = rn(insn);
  const m = rm(insn);
  let low = pair<T>(operation, n);
  let high = pair<T>(operation, m);
  if (sizeof<T>() == 4) {
    if ((insn & Q) != 0) {
      low |= pair<T>(operation, n + 8) << 32;
      high |= pair<T>(operation, m + 8) << 32;
    } else {
      low |= high << 32;
      high = 0;
    }
  }
  setLane<u64>(rd(insn), low);
  setLane<u64>(rd(insn) + 8, high);
}

/** FCVTN and FCVTXN: into the lower half of Vd, or into the upper half, which keeps the lower. */
function narrow<F, T>(insn: u32, mode: u32): void {
  const n = rn(insn);
  let r = fpConvert<F, T>(getLane<F>(n), mode);
  if ((insn & SCALAR) != 0) {
    setScalar<T>(insn, r);
    return;
  }
  for (let i: u32 = 1; i < 16 / <u32>sizeof<F>(); i++) {
    r |= fpConvert<F, T>(getLane<F>(n + i * <u32>sizeof<F>()), mode) << <u64>(i * <u32>sizeof<T>() * 8);
  }
  if ((insn & Q) != 0) setLane<u64>(rd(insn) + 8, r);
  else setScalar<u64>(insn, r);
}

/** FCVTL: from the lower or the upper half of Vn. */
function lengthen(insn: u32): void {
  const source = getLane<u64>(rn(insn) + ((insn & Q) != 0 ? 8 : 0));
  const d = rd(insn);
  if ((insn & SZ) != 0) {
    setLane<u64>(d, widen(source & 0xffffffff));
    setLane<u64>(d + 8, widen(source >> 32));
    return;
  }
  for (let i: u32 = 0; i < 4; i++) {
    setLane<u32>(d + i * 4, fpConvert<u16, u32>((source >> <u64>(i * 16)) & 0xffff, roundingMode()));
  }
}

function fixed<T>(insn: u32, from: bool): void {
  const bytes = operandBytes<T>(insn);
  const d = rd(insn);
  const n = rn(insn);
  const unsigned = (insn & U) != 0;
  const width: u32 = <u32>sizeof<T>() * 8;
  const fbits = i32(2 * width) - i32((insn >> 16) & 0x7f);
  for (let i: u32 = 0; i < bytes; i += <u32>sizeof<T>()) {
    let v = getLane<T>(n + i);
    if (from) {
      if (sizeof<T>() == 4 && !unsigned) v = <u64><i64><i32>v;
      v = fpFromFixed<T>(v, fbits, unsigned);
    } else {
      v = fpToFixed<T>(v, fbits, width, unsigned, ZERO);
    }
    setLane<T>(d + i, v);
  }
  clearRest(insn, bytes);
}

function moveImmediate(insn: u32): void {
  const imm8 = <u64>(((insn >> 11) & 0xe0) | ((insn >> 5) & 0x1f));
  let v: u64;
  if ((insn & U) != 0) {
    v = expandImmediate<u64>(imm8);
  } else {
    v = expandImmediate<u32>(imm8);
    v |= v << 32;
  }
  setScalar<u64>(insn, v);
  if ((insn & Q) != 0) setLane<u64>(rd(insn) + 8, v);
}

/** execFp() for the operations from FP_V on. */
export function execFpVector(op: u32, insn: u32): void {
  const double = (insn & SZ) != 0;
  if (op < FP_V_ELEMENT) {
    if (double) same<u64>(op - FP_V_SAME, insn);
    else same<u32>(op - FP_V_SAME, insn);
  } else if (op < FP_V_PAIRWISE) {
    if (double) element<u64>(op - FP_V_ELEMENT, insn);
    else element<u32>(op - FP_V_ELEMENT, insn);
  } else if (op < FP_V_PAIR) {
    if (double) pairwise<u64>(op - FP_V_PAIRWISE, insn);
    else pairwise<u32>(op - FP_V_PAIRWISE, insn);
  } else if (op < FP_V_ACROSS) {
    if (double) setScalar<u64>(insn, pair<u64>(op - FP_V_PAIR, rn(insn)));
    else setScalar<u32>(insn, pair<u32>(op - FP_V_PAIR, rn(insn)));
  } else if (op < FP_V_UNARY) {
    const operation = op - FP_V_ACROSS;
    const low = pair<u32>(operation, rn(insn));
    const high = pair<u32>(operation, rn(insn) + 8);
    setScalar<u32>(insn, lane2<u32>(operation, low, high, 0));
  } else if (op < FP_V_FCVTN) {
    if (double) unary<u64>(op - FP_V_UNARY, insn);
    else unary<u32>(op - FP_V_UNARY, insn);
  } else {
    switch (op) {
      case FP_V_FCVTN:
        if (double) narrow<u64, u32>(insn, roundingMode());
        else narrow<u32, u16>(insn, roundingMode());
        break;
      case FP_V_FCVTXN: narrow<u64, u32>(insn, ODD); break;
      case FP_V_FCVTL: lengthen(insn); break;
      case FP_V_FROM_FIXED:
      case FP_V_TO_FIXED: {
        const from = op == FP_V_FROM_FIXED;
        if (double) fixed<u64>(insn, from);
        else fixed<u32>(insn, from);
        break;
      }
      case FP_V_FMOV: moveImmediate(insn); break;
      default: break;
    }
  }
}
