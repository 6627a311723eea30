/**
 * Saturating operations. They may set FPSR.QC only for lanes that take part, so operands of 64-bit and scalar
 * forms are cleared outside those lanes first: zero never saturates, and yields the zeros that the result needs there.
 */
import { FPSR_QC, raiseFp } from './fpstate';
import {
  activeLanes, elementH, elementS, halfM, halfN, isU, putNarrow, putV, shiftLeftBy, shiftRightBy, vAdd, vd, vEq, vGtS,
  vGtU, vm, vn, vShiftRight, vShl, vShrS, vShrU, vSignBit, vSub, vTruncate,
} from './simd-lanes';
import { VREGS } from './layout';
import { Saturate } from './simd-ops';
import { shiftByRegister } from './simd-shift';

/** Performs row and size `op` of Saturate. */
export function execSaturate(op: u32, insn: u32): void {
  const size = op & 3;
  const kind = <i32>(op >> 2);
  if (kind >= Saturate.SQXTN) return narrow(kind, size, insn);
  if (kind >= Saturate.SQDMULL && kind <= Saturate.SQDMLSL) return doublingLong(kind, size, insn);
  const active = activeLanes(insn, size);
  const a = v128.and(vn(insn), active);
  const b = v128.and(vm(insn), active);
  switch (kind) {
    case Saturate.SQADD: return putV(insn, addS(size, a, b));
    case Saturate.UQADD: return putV(insn, addU(size, a, b));
    case Saturate.SQSUB: return putV(insn, subS(size, a, b));
    case Saturate.UQSUB: return putV(insn, subU(size, a, b));
    case Saturate.SUQADD: {
      // Biased by the sign bit, signed saturation at the top is unsigned saturation.
      const sign = vSignBit(size);
      const d = v128.and(vd(insn), active);
      return putV(insn, v128.xor(addU(size, v128.xor(d, sign), a), sign));
    }
    case Saturate.USQADD: {
      const negative = vShrS(size, a, (8 << size) - 1);
      const d = v128.and(vd(insn), active);
      const up = addU(size, d, v128.andnot(a, negative));
      return putV(insn, subU(size, up, v128.and(vSub(size, i64x2.splat(0), a), negative)));
    }
    case Saturate.SQABS: {
      const negative = vShrS(size, a, (8 << size) - 1);
      const minus = subS(size, i64x2.splat(0), v128.and(a, negative));
      return putV(insn, v128.bitselect(minus, a, negative));
    }
    case Saturate.SQNEG: return putV(insn, subS(size, i64x2.splat(0), a));
    case Saturate.SQDMULH: return putV(insn, multiplyHigh(size, a, factor(insn, size, b), false));
    case Saturate.SQRDMULH: return putV(insn, multiplyHigh(size, a, factor(insn, size, b), true));
    case Saturate.SQSHL_REG: return noteSaturation(shiftByRegister(insn, size, isU(insn), false, true));
    case Saturate.SQRSHL_REG: return noteSaturation(shiftByRegister(insn, size, isU(insn), true, true));
    case Saturate.SQSHL: {
      const s = shiftLeftBy(insn, size);
      const r = vShl(size, a, s);
      const fits = vEq(size, vShrS(size, r, s), a);
      note(v128.not(fits));
      return putV(insn, v128.bitselect(r, limitS(size, a), fits));
    }
    case Saturate.UQSHL: {
      const s = shiftLeftBy(insn, size);
      const r = vShl(size, a, s);
      const lost = v128.not(vEq(size, vShrU(size, r, s), a));
      note(lost);
      return putV(insn, v128.or(r, lost));
    }
    default: {
      // SQSHLU: signed to unsigned.
      const s = shiftLeftBy(insn, size);
      const negative = vShrS(size, a, (8 << size) - 1);
      const r = vShl(size, a, s);
      const lost = v128.not(vEq(size, vShrU(size, r, s), a));
      note(v128.or(lost, negative));
      return putV(insn, v128.andnot(v128.or(r, lost), negative));
    }
  }
}

function noteSaturation(saturated: bool): void {
  if (saturated) raiseFp(FPSR_QC);
}

/** Sets FPSR.QC if any bit of `lost` is set. */
function note(lost: v128): void {
  if (v128.any_true(lost)) raiseFp(FPSR_QC);
}

/** The largest or smallest signed value, by the sign of each lane of `a`. */
function limitS(size: u32, a: v128): v128 {
  return v128.xor(vShrS(size, a, (8 << size) - 1), v128.not(vSignBit(size)));
}

function addS(size: u32, a: v128, b: v128): v128 {
  const r = vAdd(size, a, b);
  const lost = vShrS(size, v128.and(v128.xor(a, r), v128.xor(b, r)), (8 << size) - 1);
  note(lost);
  return v128.bitselect(limitS(size, a), r, lost);
}

function subS(size: u32, a: v128, b: v128): v128 {
  const r = vSub(size, a, b);
  const lost = vShrS(size, v128.and(v128.xor(a, b), v128.xor(a, r)), (8 << size) - 1);
  note(lost);
  return v128.bitselect(limitS(size, a), r, lost);
}

function addU(size: u32, a: v128, b: v128): v128 {
  const r = vAdd(size, a, b);
  const lost = vGtU(size, a, r);
  note(lost);
  return v128.or(r, lost);
}

function subU(size: u32, a: v128, b: v128): v128 {
  const lost = vGtU(size, b, a);
  note(lost);
  return v128.andnot(vSub(size, a, b), lost);
}

/** The second factor: `b`, or by element (bit 24 set) the indexed element of Vm. */
function factor(insn: u32, size: u32, b: v128): v128 {
  if ((insn & (1 << 24)) == 0) return b;
  return size == 1 ? elementH(insn) : elementS(insn);
}

/** SQDMULH, SQRDMULH. Only the square of the smallest value saturates: its product is the one that does not fit. */
function multiplyHigh(size: u32, a: v128, b: v128, round: bool): v128 {
  const sign = vSignBit(size);
  const lost = v128.and(vEq(size, a, sign), vEq(size, b, sign));
  note(lost);
  let r: v128;
  if (size == 1) {
    let low = i32x4.extmul_low_i16x8_s(a, b);
    let high = i32x4.extmul_high_i16x8_s(a, b);
    if (round) {
      low = i32x4.add(low, i32x4.splat(1 << 14));
      high = i32x4.add(high, i32x4.splat(1 << 14));
    }
    low = i32x4.shr_s(low, 15);
    high = i32x4.shr_s(high, 15);
    r = i16x8.shuffle(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
  } else {
    let low = i64x2.extmul_low_i32x4_s(a, b);
    let high = i64x2.extmul_high_i32x4_s(a, b);
    if (round) {
      low = i64x2.add(low, i64x2.splat(1 << 30));
      high = i64x2.add(high, i64x2.splat(1 << 30));
    }
    low = i64x2.shr_s(low, 31);
    high = i64x2.shr_s(high, 31);
    r = i32x4.shuffle(low, high, 0, 2, 4, 6);
  }
  // 0x8000... becomes 0x7fff...
  return v128.xor(r, lost);
}

/** SQDMULL, SQDMLAL, SQDMLSL of H or S elements; a scalar form takes element 0, a vector form the half Q selects. */
function doublingLong(kind: i32, size: u32, insn: u32): void {
  const wide = size + 1;
  const scalar = (insn & (1 << 28)) != 0;
  const active = activeLanes(insn, size);
  const a = v128.load_zero<u64>(scalar ? (insn >> 1) & 0x1f0 : halfN(insn), VREGS);
  const b = factor(insn, size, v128.load_zero<u64>(scalar ? (insn >> 12) & 0x1f0 : halfM(insn), VREGS));
  const x = scalar ? v128.and(a, active) : a;
  const product = size == 1 ? i32x4.extmul_low_i16x8_s(x, b) : i64x2.extmul_low_i32x4_s(x, b);
  const doubled = vShl(wide, product, 1);
  // Only 2 * min * min is too large, and doubling turns it into the smallest value.
  const lost = vEq(wide, doubled, vSignBit(wide));
  note(lost);
  const r = v128.xor(doubled, lost);
  if (kind == Saturate.SQDMULL) return putV(insn, r);
  const d = scalar ? v128.and(vd(insn), activeLanes(insn, wide)) : vd(insn);
  putV(insn, kind == Saturate.SQDMLAL ? addS(wide, d, r) : subS(wide, d, r));
}

/** Narrowing, with or without a shift before it. `size` is that of the result. */
function narrow(kind: i32, size: u32, insn: u32): void {
  const wide = size + 1;
  // All lanes of the source take part, but for scalars.
  let v = (insn & (1 << 28)) == 0 ? vn(insn) : v128.and(vn(insn), activeLanes(insn, wide));
  const form = (kind - Saturate.SQXTN) % 3;
  if (kind >= Saturate.SQSHRN) {
    // Right by 1 to the width of the result, which is below the width of the source.
    v = vShiftRight(wide, v, shiftRightBy(insn, size), form == 1, kind >= Saturate.SQRSHRN);
  }
  const ones = i64x2.splat(-1);
  const bits: u32 = 8 << size;
  let low: v128;
  let high: v128;
  if (form == 1) {
    // Unsigned to unsigned: only the top can be exceeded.
    const top = vShrU(wide, ones, bits);
    const over = vGtU(wide, v, top);
    note(over);
    return putNarrow(insn, vTruncate(size, v128.bitselect(top, v, over)));
  }
  if (form == 0) {
    high = vShrU(wide, ones, bits + 1);
    low = v128.not(high);
  } else {
    high = vShrU(wide, ones, bits);
    low = i64x2.splat(0);
  }
  const over = vGtS(wide, v, high);
  const under = vGtS(wide, low, v);
  note(v128.or(over, under));
  putNarrow(insn, vTruncate(size, v128.bitselect(high, v128.bitselect(low, v, under), over)));
}
