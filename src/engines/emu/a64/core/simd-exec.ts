/**
 * Executes AdvSIMD integer and crypto instructions (DDI 0487, C7.2). Every case below is one arrangement in one or two
 * Wasm SIMD operations on the whole register; the common end clears what a 64-bit or scalar form does not write.
 * Cases that write something else return.
 */
import { aesd, aese, aesimc, aesmc, execSha } from './crypto';
import { SP_SLOT, VREGS, XREGS } from './layout';
import { execAcross } from './simd-across';
import {
  elementH, elementS, gtU64, halfM, halfN, isFull, offD, offN, putLanes, putNarrow, putV, shiftLeftBy, shiftRightBy, vd,
  vm, vn,
} from './simd-lanes';
import { execLong } from './simd-long';
import { byteMask, clsLanes, clzLanes, evens, mulB, odds, pmulB, rbit, tableLookup, tableLookup1 } from './simd-misc';
import { ACROSS, LONG, Op, SATURATE, SHIFT } from './simd-ops';
import { execSaturate } from './simd-saturate';
import { execShift } from './simd-shift';

/** Xn of a copy instruction; 31 is XZR. */
// @ts-ignore: decorator
@inline
function xn(insn: u32): u64 {
  const n = (insn >> 5) & 31;
  return n == SP_SLOT ? 0 : load<u64>(n << 3, XREGS);
}

// @ts-ignore: decorator
@inline
function putX(insn: u32, r: u64): void {
  const d = insn & 31;
  if (d != SP_SLOT) store<u64>(d << 3, r, XREGS);
}

/** Address behind VREGS of element imm5 of register Vn (DUP, SMOV, UMOV) or Vd (INS); imm5 is index : 1 : zeros. */
// @ts-ignore: decorator
@inline
function element(register: u32, insn: u32, size: u32): u32 {
  return register + ((insn >> 17) & 15 & ~((1 << size) - 1));
}

/** The same of the source of INS (element): index in imm4, whose low bits are ignored. */
// @ts-ignore: decorator
@inline
function sourceElement(insn: u32, size: u32): u32 {
  return offN(insn) + ((insn >> 11) & 15 & ~((1 << size) - 1));
}

// @ts-ignore: decorator
@inline
function imm8(insn: u32): u32 {
  return ((insn >> 11) & 0xe0) | ((insn >> 5) & 31);
}

/** imm8 shifted by cmode<2:1> (32-bit forms) or cmode<1> (16-bit forms) bytes. */
// @ts-ignore: decorator
@inline
function immS(insn: u32): u32 {
  return imm8(insn) << ((insn >> 10) & 24);
}

// @ts-ignore: decorator
@inline
function immH(insn: u32): u16 {
  return <u16>(imm8(insn) << ((insn >> 10) & 8));
}

/** imm8 shifted by 8 or 16 bits with ones shifted in. */
// @ts-ignore: decorator
@inline
function immMsl(insn: u32): u32 {
  return (insn & (1 << 12)) != 0 ? (imm8(insn) << 16) | 0xffff : (imm8(insn) << 8) | 0xff;
}

/**
 * First operand of a pairwise operation, the second being Vm. The pairs of a 64-bit form come from Vm:Vn, 64 bits each:
 * both in one register, evens() and odds() then yield the result in the low half.
 */
// @ts-ignore: decorator
@inline
function pairs(insn: u32, a: v128, b: v128): v128 {
  return (insn & (1 << 30)) != 0 ? a : i64x2.shuffle(a, b, 0, 2);
}

/** A 64-bit ZIP2 is the upper half of the interleaved low halves. */
// @ts-ignore: decorator
@inline
function upper(v: v128): v128 {
  return i64x2.shuffle(v, v, 1, 1);
}

/** Halves that lengthening multiplications read; bit 24 marks the form by element. */
// @ts-ignore: decorator
@inline
function longN(insn: u32): v128 {
  return v128.load_zero<u64>(halfN(insn), VREGS);
}

// @ts-ignore: decorator
@inline
function longM(insn: u32): v128 {
  return v128.load_zero<u64>(halfM(insn), VREGS);
}

// @ts-ignore: decorator
@inline
function longH(insn: u32): v128 {
  return (insn & (1 << 24)) != 0 ? elementH(insn) : longM(insn);
}

// @ts-ignore: decorator
@inline
function longS(insn: u32): v128 {
  return (insn & (1 << 24)) != 0 ? elementS(insn) : longM(insn);
}

/** Performs the operation that decodeSimd() numbered. FP and SIMD must be enabled. */
export function execSimd(op: u32, insn: u32): void {
  const a = vn(insn);
  const b = vm(insn);
  let r: v128;
  switch (op) {
    case Op.ADD_B: r = i8x16.add(a, b); break;
    case Op.ADD_H: r = i16x8.add(a, b); break;
    case Op.ADD_S: r = i32x4.add(a, b); break;
    case Op.ADD_D: r = i64x2.add(a, b); break;
    case Op.SUB_B: r = i8x16.sub(a, b); break;
    case Op.SUB_H: r = i16x8.sub(a, b); break;
    case Op.SUB_S: r = i32x4.sub(a, b); break;
    case Op.SUB_D: r = i64x2.sub(a, b); break;
    case Op.CMTST_B: r = i8x16.ne(v128.and(a, b), i8x16.splat(0)); break;
    case Op.CMTST_H: r = i16x8.ne(v128.and(a, b), i16x8.splat(0)); break;
    case Op.CMTST_S: r = i32x4.ne(v128.and(a, b), i32x4.splat(0)); break;
    case Op.CMTST_D: r = i64x2.ne(v128.and(a, b), i64x2.splat(0)); break;
    case Op.CMEQ_B: r = i8x16.eq(a, b); break;
    case Op.CMEQ_H: r = i16x8.eq(a, b); break;
    case Op.CMEQ_S: r = i32x4.eq(a, b); break;
    case Op.CMEQ_D: r = i64x2.eq(a, b); break;
    case Op.CMGT_B: r = i8x16.gt_s(a, b); break;
    case Op.CMGT_H: r = i16x8.gt_s(a, b); break;
    case Op.CMGT_S: r = i32x4.gt_s(a, b); break;
    case Op.CMGT_D: r = i64x2.gt_s(a, b); break;
    case Op.CMHI_B: r = i8x16.gt_u(a, b); break;
    case Op.CMHI_H: r = i16x8.gt_u(a, b); break;
    case Op.CMHI_S: r = i32x4.gt_u(a, b); break;
    case Op.CMHI_D: r = gtU64(a, b); break;
    case Op.CMGE_B: r = i8x16.ge_s(a, b); break;
    case Op.CMGE_H: r = i16x8.ge_s(a, b); break;
    case Op.CMGE_S: r = i32x4.ge_s(a, b); break;
    case Op.CMGE_D: r = i64x2.ge_s(a, b); break;
    case Op.CMHS_B: r = i8x16.ge_u(a, b); break;
    case Op.CMHS_H: r = i16x8.ge_u(a, b); break;
    case Op.CMHS_S: r = i32x4.ge_u(a, b); break;
    case Op.CMHS_D: r = v128.not(gtU64(b, a)); break;
    case Op.AND: r = v128.and(a, b); break;
    case Op.BIC: r = v128.andnot(a, b); break;
    case Op.ORR: r = v128.or(a, b); break;
    case Op.ORN: r = v128.or(a, v128.not(b)); break;
    case Op.EOR: r = v128.xor(a, b); break;
    case Op.BSL: r = v128.bitselect(a, b, vd(insn)); break;
    case Op.BIT: r = v128.bitselect(a, vd(insn), b); break;
    case Op.BIF: r = v128.bitselect(vd(insn), a, b); break;
    // Halving without a wider type: a + b = 2(a & b) + (a ^ b), a - b = (a ^ b) - 2(~a & b).
    case Op.SHADD_B: r = i8x16.add(v128.and(a, b), i8x16.shr_s(v128.xor(a, b), 1)); break;
    case Op.SHADD_H: r = i16x8.add(v128.and(a, b), i16x8.shr_s(v128.xor(a, b), 1)); break;
    case Op.SHADD_S: r = i32x4.add(v128.and(a, b), i32x4.shr_s(v128.xor(a, b), 1)); break;
    case Op.UHADD_B: r = i8x16.add(v128.and(a, b), i8x16.shr_u(v128.xor(a, b), 1)); break;
    case Op.UHADD_H: r = i16x8.add(v128.and(a, b), i16x8.shr_u(v128.xor(a, b), 1)); break;
    case Op.UHADD_S: r = i32x4.add(v128.and(a, b), i32x4.shr_u(v128.xor(a, b), 1)); break;
    case Op.SRHADD_B: r = i8x16.sub(v128.or(a, b), i8x16.shr_s(v128.xor(a, b), 1)); break;
    case Op.SRHADD_H: r = i16x8.sub(v128.or(a, b), i16x8.shr_s(v128.xor(a, b), 1)); break;
    case Op.SRHADD_S: r = i32x4.sub(v128.or(a, b), i32x4.shr_s(v128.xor(a, b), 1)); break;
    case Op.URHADD_B: r = i8x16.avgr_u(a, b); break;
    case Op.URHADD_H: r = i16x8.avgr_u(a, b); break;
    case Op.URHADD_S: r = i32x4.sub(v128.or(a, b), i32x4.shr_u(v128.xor(a, b), 1)); break;
    case Op.SHSUB_B: r = i8x16.sub(i8x16.shr_s(v128.xor(a, b), 1), v128.andnot(b, a)); break;
    case Op.SHSUB_H: r = i16x8.sub(i16x8.shr_s(v128.xor(a, b), 1), v128.andnot(b, a)); break;
    case Op.SHSUB_S: r = i32x4.sub(i32x4.shr_s(v128.xor(a, b), 1), v128.andnot(b, a)); break;
    case Op.UHSUB_B: r = i8x16.sub(i8x16.shr_u(v128.xor(a, b), 1), v128.andnot(b, a)); break;
    case Op.UHSUB_H: r = i16x8.sub(i16x8.shr_u(v128.xor(a, b), 1), v128.andnot(b, a)); break;
    case Op.UHSUB_S: r = i32x4.sub(i32x4.shr_u(v128.xor(a, b), 1), v128.andnot(b, a)); break;
    case Op.SMAX_B: r = i8x16.max_s(a, b); break;
    case Op.SMAX_H: r = i16x8.max_s(a, b); break;
    case Op.SMAX_S: r = i32x4.max_s(a, b); break;
    case Op.UMAX_B: r = i8x16.max_u(a, b); break;
    case Op.UMAX_H: r = i16x8.max_u(a, b); break;
    case Op.UMAX_S: r = i32x4.max_u(a, b); break;
    case Op.SMIN_B: r = i8x16.min_s(a, b); break;
    case Op.SMIN_H: r = i16x8.min_s(a, b); break;
    case Op.SMIN_S: r = i32x4.min_s(a, b); break;
    case Op.UMIN_B: r = i8x16.min_u(a, b); break;
    case Op.UMIN_H: r = i16x8.min_u(a, b); break;
    case Op.UMIN_S: r = i32x4.min_u(a, b); break;
    case Op.SABD_B: r = i8x16.sub(i8x16.max_s(a, b), i8x16.min_s(a, b)); break;
    case Op.SABD_H: r = i16x8.sub(i16x8.max_s(a, b), i16x8.min_s(a, b)); break;
    case Op.SABD_S: r = i32x4.sub(i32x4.max_s(a, b), i32x4.min_s(a, b)); break;
    case Op.UABD_B: r = i8x16.sub(i8x16.max_u(a, b), i8x16.min_u(a, b)); break;
    case Op.UABD_H: r = i16x8.sub(i16x8.max_u(a, b), i16x8.min_u(a, b)); break;
    case Op.UABD_S: r = i32x4.sub(i32x4.max_u(a, b), i32x4.min_u(a, b)); break;
    case Op.SABA_B: r = i8x16.add(vd(insn), i8x16.sub(i8x16.max_s(a, b), i8x16.min_s(a, b))); break;
    case Op.SABA_H: r = i16x8.add(vd(insn), i16x8.sub(i16x8.max_s(a, b), i16x8.min_s(a, b))); break;
    case Op.SABA_S: r = i32x4.add(vd(insn), i32x4.sub(i32x4.max_s(a, b), i32x4.min_s(a, b))); break;
    case Op.UABA_B: r = i8x16.add(vd(insn), i8x16.sub(i8x16.max_u(a, b), i8x16.min_u(a, b))); break;
    case Op.UABA_H: r = i16x8.add(vd(insn), i16x8.sub(i16x8.max_u(a, b), i16x8.min_u(a, b))); break;
    case Op.UABA_S: r = i32x4.add(vd(insn), i32x4.sub(i32x4.max_u(a, b), i32x4.min_u(a, b))); break;
    case Op.MUL_B: r = mulB(a, b); break;
    case Op.MUL_H: r = i16x8.mul(a, b); break;
    case Op.MUL_S: r = i32x4.mul(a, b); break;
    case Op.MLA_B: r = i8x16.add(vd(insn), mulB(a, b)); break;
    case Op.MLA_H: r = i16x8.add(vd(insn), i16x8.mul(a, b)); break;
    case Op.MLA_S: r = i32x4.add(vd(insn), i32x4.mul(a, b)); break;
    case Op.MLS_B: r = i8x16.sub(vd(insn), mulB(a, b)); break;
    case Op.MLS_H: r = i16x8.sub(vd(insn), i16x8.mul(a, b)); break;
    case Op.MLS_S: r = i32x4.sub(vd(insn), i32x4.mul(a, b)); break;
    case Op.MUL_EL_H: r = i16x8.mul(a, elementH(insn)); break;
    case Op.MUL_EL_S: r = i32x4.mul(a, elementS(insn)); break;
    case Op.MLA_EL_H: r = i16x8.add(vd(insn), i16x8.mul(a, elementH(insn))); break;
    case Op.MLA_EL_S: r = i32x4.add(vd(insn), i32x4.mul(a, elementS(insn))); break;
    case Op.MLS_EL_H: r = i16x8.sub(vd(insn), i16x8.mul(a, elementH(insn))); break;
    case Op.MLS_EL_S: r = i32x4.sub(vd(insn), i32x4.mul(a, elementS(insn))); break;
    case Op.PMUL: r = pmulB(a, b); break;
    case Op.SMAXP_B: case Op.SMAXP_H: case Op.SMAXP_S: {
      const p = pairs(insn, a, b);
      const size = op - Op.SMAXP_B;
      const e = evens(size, p, b);
      const o = odds(size, p, b);
      r = size == 0 ? i8x16.max_s(e, o) : size == 1 ? i16x8.max_s(e, o) : i32x4.max_s(e, o);
      break;
    }
    case Op.SMINP_B: case Op.SMINP_H: case Op.SMINP_S: {
      const p = pairs(insn, a, b);
      const size = op - Op.SMINP_B;
      const e = evens(size, p, b);
      const o = odds(size, p, b);
      r = size == 0 ? i8x16.min_s(e, o) : size == 1 ? i16x8.min_s(e, o) : i32x4.min_s(e, o);
      break;
    }
    case Op.UMAXP_B: { const p = pairs(insn, a, b); r = i8x16.max_u(evens(0, p, b), odds(0, p, b)); break; }
    case Op.UMAXP_H: { const p = pairs(insn, a, b); r = i16x8.max_u(evens(1, p, b), odds(1, p, b)); break; }
    case Op.UMAXP_S: { const p = pairs(insn, a, b); r = i32x4.max_u(evens(2, p, b), odds(2, p, b)); break; }
    case Op.UMINP_B: { const p = pairs(insn, a, b); r = i8x16.min_u(evens(0, p, b), odds(0, p, b)); break; }
    case Op.UMINP_H: { const p = pairs(insn, a, b); r = i16x8.min_u(evens(1, p, b), odds(1, p, b)); break; }
    case Op.UMINP_S: { const p = pairs(insn, a, b); r = i32x4.min_u(evens(2, p, b), odds(2, p, b)); break; }
    case Op.ADDP_B: { const p = pairs(insn, a, b); r = i8x16.add(evens(0, p, b), odds(0, p, b)); break; }
    case Op.ADDP_H: { const p = pairs(insn, a, b); r = i16x8.add(evens(1, p, b), odds(1, p, b)); break; }
    case Op.ADDP_S: { const p = pairs(insn, a, b); r = i32x4.add(evens(2, p, b), odds(2, p, b)); break; }
    case Op.ADDP_D: r = i64x2.add(i64x2.shuffle(a, b, 0, 2), i64x2.shuffle(a, b, 1, 3)); break;
    case Op.ADDP_SCALAR: r = i64x2.add(a, upper(a)); break;

    case Op.REV64_B: r = i8x16.shuffle(a, a, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8); break;
    case Op.REV64_H: r = i16x8.shuffle(a, a, 3, 2, 1, 0, 7, 6, 5, 4); break;
    case Op.REV64_S: r = i32x4.shuffle(a, a, 1, 0, 3, 2); break;
    case Op.REV32_B: r = i8x16.shuffle(a, a, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12); break;
    case Op.REV32_H: r = i16x8.shuffle(a, a, 1, 0, 3, 2, 5, 4, 7, 6); break;
    case Op.REV16_B: r = i8x16.shuffle(a, a, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14); break;
    case Op.CNT: r = i8x16.popcnt(a); break;
    case Op.NOT: r = v128.not(a); break;
    case Op.RBIT: r = rbit(a); break;
    case Op.CLS_B: case Op.CLS_H: case Op.CLS_S: r = clsLanes(op - Op.CLS_B, a); break;
    case Op.CLZ_B: case Op.CLZ_H: case Op.CLZ_S: r = clzLanes(op - Op.CLZ_B, a); break;
    case Op.SADDLP_B: r = i16x8.extadd_pairwise_i8x16_s(a); break;
    case Op.SADDLP_H: r = i32x4.extadd_pairwise_i16x8_s(a); break;
    case Op.SADDLP_S: r = i64x2.add(i64x2.shr_s(a, 32), i64x2.shr_s(i64x2.shl(a, 32), 32)); break;
    case Op.UADDLP_B: r = i16x8.extadd_pairwise_i8x16_u(a); break;
    case Op.UADDLP_H: r = i32x4.extadd_pairwise_i16x8_u(a); break;
    case Op.UADDLP_S: r = i64x2.add(i64x2.shr_u(a, 32), v128.and(a, i64x2.splat(0xffff_ffff))); break;
    case Op.SADALP_B: r = i16x8.add(vd(insn), i16x8.extadd_pairwise_i8x16_s(a)); break;
    case Op.SADALP_H: r = i32x4.add(vd(insn), i32x4.extadd_pairwise_i16x8_s(a)); break;
    case Op.SADALP_S:
      r = i64x2.add(vd(insn), i64x2.add(i64x2.shr_s(a, 32), i64x2.shr_s(i64x2.shl(a, 32), 32)));
      break;
    case Op.UADALP_B: r = i16x8.add(vd(insn), i16x8.extadd_pairwise_i8x16_u(a)); break;
    case Op.UADALP_H: r = i32x4.add(vd(insn), i32x4.extadd_pairwise_i16x8_u(a)); break;
    case Op.UADALP_S:
      r = i64x2.add(vd(insn), i64x2.add(i64x2.shr_u(a, 32), v128.and(a, i64x2.splat(0xffff_ffff))));
      break;
    case Op.CMGT0_B: r = i8x16.gt_s(a, i8x16.splat(0)); break;
    case Op.CMGT0_H: r = i16x8.gt_s(a, i16x8.splat(0)); break;
    case Op.CMGT0_S: r = i32x4.gt_s(a, i32x4.splat(0)); break;
    case Op.CMGT0_D: r = i64x2.gt_s(a, i64x2.splat(0)); break;
    case Op.CMGE0_B: r = i8x16.ge_s(a, i8x16.splat(0)); break;
    case Op.CMGE0_H: r = i16x8.ge_s(a, i16x8.splat(0)); break;
    case Op.CMGE0_S: r = i32x4.ge_s(a, i32x4.splat(0)); break;
    case Op.CMGE0_D: r = i64x2.ge_s(a, i64x2.splat(0)); break;
    case Op.CMEQ0_B: r = i8x16.eq(a, i8x16.splat(0)); break;
    case Op.CMEQ0_H: r = i16x8.eq(a, i16x8.splat(0)); break;
    case Op.CMEQ0_S: r = i32x4.eq(a, i32x4.splat(0)); break;
    case Op.CMEQ0_D: r = i64x2.eq(a, i64x2.splat(0)); break;
    case Op.CMLE0_B: r = i8x16.le_s(a, i8x16.splat(0)); break;
    case Op.CMLE0_H: r = i16x8.le_s(a, i16x8.splat(0)); break;
    case Op.CMLE0_S: r = i32x4.le_s(a, i32x4.splat(0)); break;
    case Op.CMLE0_D: r = i64x2.le_s(a, i64x2.splat(0)); break;
    case Op.CMLT0_B: r = i8x16.shr_s(a, 7); break;
    case Op.CMLT0_H: r = i16x8.shr_s(a, 15); break;
    case Op.CMLT0_S: r = i32x4.shr_s(a, 31); break;
    case Op.CMLT0_D: r = i64x2.shr_s(a, 63); break;
    case Op.ABS_B: r = i8x16.abs(a); break;
    case Op.ABS_H: r = i16x8.abs(a); break;
    case Op.ABS_S: r = i32x4.abs(a); break;
    case Op.ABS_D: r = i64x2.abs(a); break;
    case Op.NEG_B: r = i8x16.neg(a); break;
    case Op.NEG_H: r = i16x8.neg(a); break;
    case Op.NEG_S: r = i32x4.neg(a); break;
    case Op.NEG_D: r = i64x2.neg(a); break;
    case Op.XTN_B: return putNarrow(insn, evens(0, a, a));
    case Op.XTN_H: return putNarrow(insn, evens(1, a, a));
    case Op.XTN_S: return putNarrow(insn, evens(2, a, a));
    case Op.SHLL_B: return putV(insn, i16x8.shl(v128.load_ext<u8>(halfN(insn), VREGS), 8));
    case Op.SHLL_H: return putV(insn, i32x4.shl(v128.load_ext<u16>(halfN(insn), VREGS), 16));
    case Op.SHLL_S: return putV(insn, i64x2.shl(v128.load_ext<u32>(halfN(insn), VREGS), 32));

    case Op.DUP_EL_B: r = v128.load_splat<u8>(element(offN(insn), insn, 0), VREGS); break;
    case Op.DUP_EL_H: r = v128.load_splat<u16>(element(offN(insn), insn, 1), VREGS); break;
    case Op.DUP_EL_S: r = v128.load_splat<u32>(element(offN(insn), insn, 2), VREGS); break;
    case Op.DUP_EL_D: r = v128.load_splat<u64>(element(offN(insn), insn, 3), VREGS); break;
    case Op.DUP_SCALAR_B: r = i64x2.splat(load<u8>(element(offN(insn), insn, 0), VREGS)); break;
    case Op.DUP_SCALAR_H: r = i64x2.splat(load<u16>(element(offN(insn), insn, 1), VREGS)); break;
    case Op.DUP_SCALAR_S: r = i64x2.splat(load<u32>(element(offN(insn), insn, 2), VREGS)); break;
    case Op.DUP_SCALAR_D: r = i64x2.splat(load<u64>(element(offN(insn), insn, 3), VREGS)); break;
    case Op.DUP_GEN_B: r = i8x16.splat(<i8>xn(insn)); break;
    case Op.DUP_GEN_H: r = i16x8.splat(<i16>xn(insn)); break;
    case Op.DUP_GEN_S: r = i32x4.splat(<i32>xn(insn)); break;
    case Op.DUP_GEN_D: r = i64x2.splat(xn(insn)); break;
    case Op.INS_GEN_B: store<u8>(element(offD(insn), insn, 0), <u8>xn(insn), VREGS); return;
    case Op.INS_GEN_H: store<u16>(element(offD(insn), insn, 1), <u16>xn(insn), VREGS); return;
    case Op.INS_GEN_S: store<u32>(element(offD(insn), insn, 2), <u32>xn(insn), VREGS); return;
    case Op.INS_GEN_D: store<u64>(element(offD(insn), insn, 3), xn(insn), VREGS); return;
    case Op.INS_EL_B: store<u8>(element(offD(insn), insn, 0), load<u8>(sourceElement(insn, 0), VREGS), VREGS); return;
    case Op.INS_EL_H: store<u16>(element(offD(insn), insn, 1), load<u16>(sourceElement(insn, 1), VREGS), VREGS); return;
    case Op.INS_EL_S: store<u32>(element(offD(insn), insn, 2), load<u32>(sourceElement(insn, 2), VREGS), VREGS); return;
    case Op.INS_EL_D: store<u64>(element(offD(insn), insn, 3), load<u64>(sourceElement(insn, 3), VREGS), VREGS); return;
    case Op.UMOV_B: return putX(insn, load<u8>(element(offN(insn), insn, 0), VREGS));
    case Op.UMOV_H: return putX(insn, load<u16>(element(offN(insn), insn, 1), VREGS));
    case Op.UMOV_S: return putX(insn, load<u32>(element(offN(insn), insn, 2), VREGS));
    case Op.UMOV_D: return putX(insn, load<u64>(element(offN(insn), insn, 3), VREGS));
    case Op.SMOV_W_B: return putX(insn, <u32><i32>load<i8>(element(offN(insn), insn, 0), VREGS));
    case Op.SMOV_W_H: return putX(insn, <u32><i32>load<i16>(element(offN(insn), insn, 1), VREGS));
    case Op.SMOV_X_B: return putX(insn, <i64>load<i8>(element(offN(insn), insn, 0), VREGS));
    case Op.SMOV_X_H: return putX(insn, <i64>load<i16>(element(offN(insn), insn, 1), VREGS));
    case Op.SMOV_X_S: return putX(insn, <i64>load<i32>(element(offN(insn), insn, 2), VREGS));

    case Op.MOVI_ZERO: return putV(insn, i64x2.splat(0));
    case Op.MOVI_B: r = i8x16.splat(<i8>imm8(insn)); break;
    case Op.MOVI_D: r = byteMask(imm8(insn)); break;
    case Op.MOVI_H: r = i16x8.splat(immH(insn)); break;
    case Op.MVNI_H: r = v128.not(i16x8.splat(immH(insn))); break;
    case Op.ORR_H: r = v128.or(vd(insn), i16x8.splat(immH(insn))); break;
    case Op.BIC_H: r = v128.andnot(vd(insn), i16x8.splat(immH(insn))); break;
    case Op.MOVI_S: r = i32x4.splat(immS(insn)); break;
    case Op.MVNI_S: r = v128.not(i32x4.splat(immS(insn))); break;
    case Op.ORR_S: r = v128.or(vd(insn), i32x4.splat(immS(insn))); break;
    case Op.BIC_S: r = v128.andnot(vd(insn), i32x4.splat(immS(insn))); break;
    case Op.MOVI_MSL: r = i32x4.splat(immMsl(insn)); break;
    case Op.MVNI_MSL: r = i32x4.splat(~immMsl(insn)); break;

    case Op.ZIP1_B: r = i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); break;
    case Op.ZIP1_H: r = i16x8.shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11); break;
    case Op.ZIP1_S: r = i32x4.shuffle(a, b, 0, 4, 1, 5); break;
    case Op.ZIP1_D: case Op.UZP1_D: case Op.TRN1_D: r = i64x2.shuffle(a, b, 0, 2); break;
    case Op.ZIP2_B:
      r = isFull(insn)
        ? i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
        : upper(i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
      break;
    case Op.ZIP2_H:
      r = isFull(insn)
        ? i16x8.shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
        : upper(i16x8.shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
      break;
    case Op.ZIP2_S:
      r = isFull(insn) ? i32x4.shuffle(a, b, 2, 6, 3, 7) : upper(i32x4.shuffle(a, b, 0, 4, 1, 5));
      break;
    case Op.ZIP2_D: case Op.UZP2_D: case Op.TRN2_D: r = i64x2.shuffle(a, b, 1, 3); break;
    case Op.UZP1_B: r = evens(0, pairs(insn, a, b), b); break;
    case Op.UZP1_H: r = evens(1, pairs(insn, a, b), b); break;
    case Op.UZP1_S: r = evens(2, pairs(insn, a, b), b); break;
    case Op.UZP2_B: r = odds(0, pairs(insn, a, b), b); break;
    case Op.UZP2_H: r = odds(1, pairs(insn, a, b), b); break;
    case Op.UZP2_S: r = odds(2, pairs(insn, a, b), b); break;
    case Op.TRN1_B: r = i8x16.shuffle(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30); break;
    case Op.TRN1_H: r = i16x8.shuffle(a, b, 0, 8, 2, 10, 4, 12, 6, 14); break;
    case Op.TRN1_S: r = i32x4.shuffle(a, b, 0, 4, 2, 6); break;
    case Op.TRN2_B: r = i8x16.shuffle(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31); break;
    case Op.TRN2_H: r = i16x8.shuffle(a, b, 1, 9, 3, 11, 5, 13, 7, 15); break;
    case Op.TRN2_S: r = i32x4.shuffle(a, b, 1, 5, 3, 7); break;
    case Op.EXT: {
      // Byte i is byte i + index of Vm:Vn; a swizzle yields zero for every index outside its register.
      const lanes = i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      const from = i8x16.add(lanes, i8x16.splat(<i8>((insn >> 11) & 15)));
      r = isFull(insn)
        ? v128.or(i8x16.swizzle(a, from), i8x16.swizzle(b, i8x16.sub(from, i8x16.splat(16))))
        : i8x16.swizzle(i64x2.shuffle(a, b, 0, 2), from);
      break;
    }
    case Op.TBL1: r = tableLookup1(insn, b); break;
    case Op.TBL: r = tableLookup(insn, b); break;
    case Op.TBX: {
      const size: u32 = ((insn >> 9) & 0x30) + 16;
      r = v128.bitselect(tableLookup(insn, b), vd(insn), i8x16.lt_u(b, i8x16.splat(<i8>size)));
      break;
    }

    // Right shifts take two steps, see vShiftRight().
    case Op.SHL_B: r = i8x16.shl(a, shiftLeftBy(insn, 0)); break;
    case Op.SHL_H: r = i16x8.shl(a, shiftLeftBy(insn, 1)); break;
    case Op.SHL_S: r = i32x4.shl(a, shiftLeftBy(insn, 2)); break;
    case Op.SHL_D: r = i64x2.shl(a, shiftLeftBy(insn, 3)); break;
    case Op.SSHR_B: r = i8x16.shr_s(i8x16.shr_s(a, shiftRightBy(insn, 0) - 1), 1); break;
    case Op.SSHR_H: r = i16x8.shr_s(i16x8.shr_s(a, shiftRightBy(insn, 1) - 1), 1); break;
    case Op.SSHR_S: r = i32x4.shr_s(i32x4.shr_s(a, shiftRightBy(insn, 2) - 1), 1); break;
    case Op.SSHR_D: r = i64x2.shr_s(i64x2.shr_s(a, shiftRightBy(insn, 3) - 1), 1); break;
    case Op.USHR_B: r = i8x16.shr_u(i8x16.shr_u(a, shiftRightBy(insn, 0) - 1), 1); break;
    case Op.USHR_H: r = i16x8.shr_u(i16x8.shr_u(a, shiftRightBy(insn, 1) - 1), 1); break;
    case Op.USHR_S: r = i32x4.shr_u(i32x4.shr_u(a, shiftRightBy(insn, 2) - 1), 1); break;
    case Op.USHR_D: r = i64x2.shr_u(i64x2.shr_u(a, shiftRightBy(insn, 3) - 1), 1); break;
    case Op.SSRA_B: r = i8x16.add(vd(insn), i8x16.shr_s(i8x16.shr_s(a, shiftRightBy(insn, 0) - 1), 1)); break;
    case Op.SSRA_H: r = i16x8.add(vd(insn), i16x8.shr_s(i16x8.shr_s(a, shiftRightBy(insn, 1) - 1), 1)); break;
    case Op.SSRA_S: r = i32x4.add(vd(insn), i32x4.shr_s(i32x4.shr_s(a, shiftRightBy(insn, 2) - 1), 1)); break;
    case Op.SSRA_D: r = i64x2.add(vd(insn), i64x2.shr_s(i64x2.shr_s(a, shiftRightBy(insn, 3) - 1), 1)); break;
    case Op.USRA_B: r = i8x16.add(vd(insn), i8x16.shr_u(i8x16.shr_u(a, shiftRightBy(insn, 0) - 1), 1)); break;
    case Op.USRA_H: r = i16x8.add(vd(insn), i16x8.shr_u(i16x8.shr_u(a, shiftRightBy(insn, 1) - 1), 1)); break;
    case Op.USRA_S: r = i32x4.add(vd(insn), i32x4.shr_u(i32x4.shr_u(a, shiftRightBy(insn, 2) - 1), 1)); break;
    case Op.USRA_D: r = i64x2.add(vd(insn), i64x2.shr_u(i64x2.shr_u(a, shiftRightBy(insn, 3) - 1), 1)); break;
    case Op.SHRN_B: {
      const t = i16x8.shr_u(a, shiftRightBy(insn, 0));
      return putNarrow(insn, evens(0, t, t));
    }
    case Op.SHRN_H: {
      const t = i32x4.shr_u(a, shiftRightBy(insn, 1));
      return putNarrow(insn, evens(1, t, t));
    }
    case Op.SHRN_S: {
      const t = i64x2.shr_u(a, shiftRightBy(insn, 2));
      return putNarrow(insn, evens(2, t, t));
    }
    case Op.SSHLL_B: return putV(insn, i16x8.shl(v128.load_ext<i8>(halfN(insn), VREGS), shiftLeftBy(insn, 0)));
    case Op.SSHLL_H: return putV(insn, i32x4.shl(v128.load_ext<i16>(halfN(insn), VREGS), shiftLeftBy(insn, 1)));
    case Op.SSHLL_S: return putV(insn, i64x2.shl(v128.load_ext<i32>(halfN(insn), VREGS), shiftLeftBy(insn, 2)));
    case Op.USHLL_B: return putV(insn, i16x8.shl(v128.load_ext<u8>(halfN(insn), VREGS), shiftLeftBy(insn, 0)));
    case Op.USHLL_H: return putV(insn, i32x4.shl(v128.load_ext<u16>(halfN(insn), VREGS), shiftLeftBy(insn, 1)));
    case Op.USHLL_S: return putV(insn, i64x2.shl(v128.load_ext<u32>(halfN(insn), VREGS), shiftLeftBy(insn, 2)));

    case Op.SMULL_B: return putV(insn, i16x8.extmul_low_i8x16_s(longN(insn), longM(insn)));
    case Op.SMULL_H: return putV(insn, i32x4.extmul_low_i16x8_s(longN(insn), longH(insn)));
    case Op.SMULL_S: return putV(insn, i64x2.extmul_low_i32x4_s(longN(insn), longS(insn)));
    case Op.UMULL_B: return putV(insn, i16x8.extmul_low_i8x16_u(longN(insn), longM(insn)));
    case Op.UMULL_H: return putV(insn, i32x4.extmul_low_i16x8_u(longN(insn), longH(insn)));
    case Op.UMULL_S: return putV(insn, i64x2.extmul_low_i32x4_u(longN(insn), longS(insn)));
    case Op.SMLAL_B: return putV(insn, i16x8.add(vd(insn), i16x8.extmul_low_i8x16_s(longN(insn), longM(insn))));
    case Op.SMLAL_H: return putV(insn, i32x4.add(vd(insn), i32x4.extmul_low_i16x8_s(longN(insn), longH(insn))));
    case Op.SMLAL_S: return putV(insn, i64x2.add(vd(insn), i64x2.extmul_low_i32x4_s(longN(insn), longS(insn))));
    case Op.UMLAL_B: return putV(insn, i16x8.add(vd(insn), i16x8.extmul_low_i8x16_u(longN(insn), longM(insn))));
    case Op.UMLAL_H: return putV(insn, i32x4.add(vd(insn), i32x4.extmul_low_i16x8_u(longN(insn), longH(insn))));
    case Op.UMLAL_S: return putV(insn, i64x2.add(vd(insn), i64x2.extmul_low_i32x4_u(longN(insn), longS(insn))));

    case Op.AESE: r = aese(vd(insn), a); break;
    case Op.AESD: r = aesd(vd(insn), a); break;
    case Op.AESMC: r = aesmc(a); break;
    case Op.AESIMC: r = aesimc(a); break;
    default:
      if (op >= SATURATE) return execSaturate(op - SATURATE, insn);
      if (op >= ACROSS) return execAcross(op - ACROSS, insn);
      if (op >= SHIFT) return execShift(op - SHIFT, insn);
      if (op >= LONG) return execLong(op - LONG, insn);
      return execSha(op, insn);
  }
  putLanes(insn, r);
}
