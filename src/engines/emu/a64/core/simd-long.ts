/** Three different: operations between lanes of different widths (DDI 0487, C4.1 "Advanced SIMD three different"). */
import { VREGS } from './layout';
import {
  elementH, elementS, halfM, halfN, isU, putNarrow, putV, vAdd, vd, vExtend, vm, vn, vShl, vShrU, vSub, vTruncate,
} from './simd-lanes';
import { Long } from './simd-ops';

/** Performs row and size `op` of Long. Bit 29 makes the lengthening rows unsigned. */
export function execLong(op: u32, insn: u32): void {
  const size = op & 3;
  const wide = size + 1;
  const unsigned = isU(insn);
  switch (op >> 2) {
    case Long.ADDL: return putV(insn, vAdd(wide, left(insn, size, unsigned), right(insn, size, unsigned)));
    case Long.ADDW: return putV(insn, vAdd(wide, vn(insn), right(insn, size, unsigned)));
    case Long.SUBL: return putV(insn, vSub(wide, left(insn, size, unsigned), right(insn, size, unsigned)));
    case Long.SUBW: return putV(insn, vSub(wide, vn(insn), right(insn, size, unsigned)));
    case Long.ABDL: return putV(insn, distance(insn, size, unsigned));
    case Long.ABAL: return putV(insn, vAdd(wide, vd(insn), distance(insn, size, unsigned)));
    case Long.MLSL: return putV(insn, vSub(wide, vd(insn), product(insn, size, unsigned)));
    case Long.ADDHN: return putNarrow(insn, highHalf(size, vAdd(wide, vn(insn), vm(insn)), false));
    case Long.RADDHN: return putNarrow(insn, highHalf(size, vAdd(wide, vn(insn), vm(insn)), true));
    case Long.SUBHN: return putNarrow(insn, highHalf(size, vSub(wide, vn(insn), vm(insn)), false));
    case Long.RSUBHN: return putNarrow(insn, highHalf(size, vSub(wide, vn(insn), vm(insn)), true));
    default: return size == 0 ? pmull8(insn) : pmull64(insn);
  }
}

/** The half of Vn that Q selects, extended. */
function left(insn: u32, size: u32, unsigned: bool): v128 {
  return vExtend(size, v128.load_zero<u64>(halfN(insn), VREGS), unsigned);
}

/** The same of Vm. */
function right(insn: u32, size: u32, unsigned: bool): v128 {
  return vExtend(size, v128.load_zero<u64>(halfM(insn), VREGS), unsigned);
}

function distance(insn: u32, size: u32, unsigned: bool): v128 {
  const d = vSub(size + 1, left(insn, size, unsigned), right(insn, size, unsigned));
  // The difference fits the wide lane with its sign.
  switch (size) {
    case 0: return i16x8.abs(d);
    case 1: return i32x4.abs(d);
    default: return i64x2.abs(d);
  }
}

function product(insn: u32, size: u32, unsigned: bool): v128 {
  const a = left(insn, size, unsigned);
  const byElement = (insn & (1 << 24)) != 0;
  switch (size) {
    case 0: return i16x8.mul(a, right(insn, 0, unsigned));
    case 1: return i32x4.mul(a, byElement ? vExtend(1, elementH(insn), unsigned) : right(insn, 1, unsigned));
    default: return i64x2.mul(a, byElement ? vExtend(2, elementS(insn), unsigned) : right(insn, 2, unsigned));
  }
}

/** The upper halves of wide lanes, rounded if asked, packed into the low 64 bits. */
function highHalf(size: u32, v: v128, round: bool): v128 {
  const half = <u32>8 << size;
  if (!round) return vTruncate(size, vShrU(size + 1, v, half));
  const one = vShrU(size + 1, i64x2.splat(-1), 2 * half - 1);
  return vTruncate(size, vShrU(size + 1, vAdd(size + 1, v, vShl(size + 1, one, half - 1)), half));
}

/** PMULL of bytes: polynomials over {0, 1}. */
function pmull8(insn: u32): void {
  const a = left(insn, 0, true);
  const b = right(insn, 0, true);
  let r = i16x8.splat(0);
  for (let i = 0; i < 8; i++) {
    r = v128.xor(r, v128.and(i16x8.shr_s(i16x8.shl(a, 15 - i), 15), i16x8.shl(b, i)));
  }
  putV(insn, r);
}

/** PMULL of doublewords by Karatsuba's three products of 32 bits. */
function pmull64(insn: u32): void {
  const a = load<u64>(halfN(insn), VREGS);
  const b = load<u64>(halfM(insn), VREGS);
  const low = pmull32(<u32>a, <u32>b);
  const high = pmull32(<u32>(a >> 32), <u32>(b >> 32));
  const middle = pmull32(<u32>a ^ <u32>(a >> 32), <u32>b ^ <u32>(b >> 32)) ^ low ^ high;
  putV(insn, i64x2.replace_lane(i64x2.splat(low ^ (middle << 32)), 1, high ^ (middle >> 32)));
}

/**
 * Product of two polynomials of 32 bits. Of each operand every fourth bit is kept: then ordinary products
 * cannot carry into the next kept bit (at most 8 ones add up in 4 bits), and the lowest of the four is their parity.
 */
function pmull32(a: u32, b: u32): u64 {
  const a0 = <u64>(a & 0x1111_1111);
  const a1 = <u64>(a & 0x2222_2222);
  const a2 = <u64>(a & 0x4444_4444);
  const a3 = <u64>(a & 0x8888_8888);
  const b0 = <u64>(b & 0x1111_1111);
  const b1 = <u64>(b & 0x2222_2222);
  const b2 = <u64>(b & 0x4444_4444);
  const b3 = <u64>(b & 0x8888_8888);
  const r0 = (a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1);
  const r1 = (a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2);
  const r2 = (a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3);
  const r3 = (a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0);
  return (
    (r0 & 0x1111_1111_1111_1111) |
    (r1 & 0x2222_2222_2222_2222) |
    (r2 & 0x4444_4444_4444_4444) |
    (r3 & 0x8888_8888_8888_8888)
  );
}
