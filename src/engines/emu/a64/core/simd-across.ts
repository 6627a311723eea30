/** Reductions across the lanes of Vn to a scalar (DDI 0487, C4.1 "Advanced SIMD across lanes"). */
import { isU, putV, vAdd, vn } from './simd-lanes';
import { Across } from './simd-ops';

/** Performs row and size `op` of Across. */
export function execAcross(op: u32, insn: u32): void {
  const size = op & 3;
  const q = (insn & (1 << 30)) != 0;
  let v = vn(insn);
  if (op >> 2 == Across.ADDLV) {
    return putV(insn, i64x2.replace_lane(i64x2.splat(0), 0, addLong(v, size, q, !isU(insn))));
  }
  // Fold halves until one lane is left; a 64-bit form starts with its single half. What lies above the lane that
  // counts is garbage, and it never moves down.
  if (q) v = fold(op, v, i64x2.shuffle(v, v, 1, 1));
  if (size < 2) {
    v = fold(op, v, i64x2.shr_u(v, 32));
    v = fold(op, v, i64x2.shr_u(v, 16));
    if (size == 0) v = fold(op, v, i64x2.shr_u(v, 8));
  } else {
    v = fold(op, v, i64x2.shr_u(v, 32));
  }
  const mask = <u64>-1 >> (64 - (8 << size));
  putV(insn, i64x2.replace_lane(i64x2.splat(0), 0, i64x2.extract_lane(v, 0) & mask));
}

function fold(op: u32, a: v128, b: v128): v128 {
  switch (op) {
    case (Across.SMAXV << 2): return i8x16.max_s(a, b);
    case (Across.SMAXV << 2) + 1: return i16x8.max_s(a, b);
    case (Across.SMAXV << 2) + 2: return i32x4.max_s(a, b);
    case (Across.UMAXV << 2): return i8x16.max_u(a, b);
    case (Across.UMAXV << 2) + 1: return i16x8.max_u(a, b);
    case (Across.UMAXV << 2) + 2: return i32x4.max_u(a, b);
    case (Across.SMINV << 2): return i8x16.min_s(a, b);
    case (Across.SMINV << 2) + 1: return i16x8.min_s(a, b);
    case (Across.SMINV << 2) + 2: return i32x4.min_s(a, b);
    case (Across.UMINV << 2): return i8x16.min_u(a, b);
    case (Across.UMINV << 2) + 1: return i16x8.min_u(a, b);
    case (Across.UMINV << 2) + 2: return i32x4.min_u(a, b);
    default: return vAdd(op & 3, a, b);
  }
}

/** SADDLV and UADDLV: the sum in an element of twice the width. */
function addLong(a: v128, size: u32, q: bool, signed: bool): u64 {
  let v = q ? a : i64x2.replace_lane(a, 1, 0);
  if (signed) {
    if (size == 0) v = i16x8.extadd_pairwise_i8x16_s(v);
    if (size < 2) v = i32x4.extadd_pairwise_i16x8_s(v);
    v = i64x2.add(i64x2.extend_low_i32x4_s(v), i64x2.extend_high_i32x4_s(v));
  } else {
    if (size == 0) v = i16x8.extadd_pairwise_i8x16_u(v);
    if (size < 2) v = i32x4.extadd_pairwise_i16x8_u(v);
    v = i64x2.add(i64x2.extend_low_i32x4_u(v), i64x2.extend_high_i32x4_u(v));
  }
  const sum = i64x2.extract_lane(v, 0) + i64x2.extract_lane(v, 1);
  return size == 2 ? sum : sum & ((<u64>1 << (16 << size)) - 1);
}
