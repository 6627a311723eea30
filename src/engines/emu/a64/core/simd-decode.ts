/**
 * Decoder of the AdvSIMD integer, permute, copy and immediate instructions and the crypto extension of Armv8.0
 * (DDI 0487, C4.1 "Data Processing -- Scalar Floating-Point and Advanced SIMD"). Floating-point operations of the same
 * encoding groups are not decoded here: for this file they are unallocated.
 */
import { isU } from './simd-lanes';
import { ACROSS, Across, LONG, Long, Op, SATURATE, SHIFT, Saturate, Shift } from './simd-ops';

/** Number of the operation for execSimd(), 0 if `insn` is unallocated or none of the AdvSIMD integer instructions. */
export function decodeSimd(insn: u32): u32 {
  // Bit 28 tells scalar from vector; in both, 27:25 = 111. Bit 30 is set in every scalar form: without it the word
  // belongs to the floating-point instructions.
  const vector = (insn & 0x9e00_0000) == 0x0e00_0000;
  const scalar = (insn & 0xde00_0000) == 0x5e00_0000;
  if (!vector && !scalar) return 0;
  if ((insn & (1 << 24)) != 0) {
    if ((insn & (1 << 10)) == 0) return decodeByElement(insn, scalar);
    if ((insn & (1 << 23)) != 0) return 0;
    if ((insn & (15 << 19)) != 0) return decodeShift(insn, scalar);
    return scalar ? 0 : decodeImmediate(insn);
  }
  if ((insn & (1 << 21)) != 0) {
    if ((insn & (1 << 10)) != 0) return decodeThreeSame(insn, scalar);
    if ((insn & (1 << 11)) == 0) return decodeThreeDifferent(insn, scalar);
    switch ((insn >> 17) & 15) {
      case 0: return decodeTwoRegMisc(insn, scalar);
      case 4: return decodeCrypto(insn);
      case 8: return decodeAcross(insn, scalar);
      default: return 0;
    }
  }
  // Bit 21 clear: copy, permute, table, extract and SHA with three registers.
  if ((insn & (1 << 15)) != 0) return 0;
  if ((insn & (1 << 10)) != 0) return (insn & 0x00c0_0000) == 0 ? decodeCopy(insn, scalar) : 0;
  if (scalar) return decodeSha(insn);
  if ((insn & (1 << 29)) != 0) {
    // EXT. A 64-bit form takes an index below 8.
    if ((insn & 0x00c0_0000) != 0) return 0;
    return (insn & (1 << 30)) != 0 || (insn & (1 << 14)) == 0 ? Op.EXT : 0;
  }
  if ((insn & (1 << 11)) != 0) return decodePermute(insn);
  if ((insn & 0x00c0_0000) != 0) return 0;
  if ((insn & (1 << 12)) != 0) return Op.TBX;
  return (insn & (3 << 13)) == 0 ? Op.TBL1 : Op.TBL;
}

/** A vector of D elements exists only with Q = 1. */
// @ts-ignore: decorator
@inline
function fits(insn: u32, size: u32): bool {
  return size != 3 || (insn & (1 << 30)) != 0;
}

// @ts-ignore: decorator
@inline
function row(range: u32, index: u32, size: u32): u32 {
  return range + (index << 2) + size;
}

function decodeThreeSame(insn: u32, scalar: bool): u32 {
  const u = isU(insn);
  const size = (insn >> 22) & 3;
  if (!fits(insn, size) && ((insn >> 11) & 31) != 3) return 0;
  switch ((insn >> 11) & 31) {
    case 1: return row(SATURATE, u ? Saturate.UQADD : Saturate.SQADD, size);
    case 5: return row(SATURATE, u ? Saturate.UQSUB : Saturate.SQSUB, size);
    case 9: return row(SATURATE, Saturate.SQSHL_REG, size);
    case 11: return row(SATURATE, Saturate.SQRSHL_REG, size);
    case 22:
      if (size == 0 || size == 3) return 0;
      return row(SATURATE, u ? Saturate.SQRDMULH : Saturate.SQDMULH, size);
    default: break;
  }
  // The rest has D elements only in scalar form, if it has one.
  if (scalar && size != 3) return 0;
  switch ((insn >> 11) & 31) {
    case 6: return (u ? Op.CMHI_B : Op.CMGT_B) + size;
    case 7: return (u ? Op.CMHS_B : Op.CMGE_B) + size;
    case 8: return row(SHIFT, Shift.SHL_REG, size);
    case 10: return row(SHIFT, Shift.RSHL_REG, size);
    case 16: return (u ? Op.SUB_B : Op.ADD_B) + size;
    case 17: return (u ? Op.CMEQ_B : Op.CMTST_B) + size;
    default: break;
  }
  if (scalar) return 0;
  switch ((insn >> 11) & 31) {
    case 3: return (u ? Op.EOR : Op.AND) + size;
    case 23: return u ? 0 : Op.ADDP_B + size;
    default: break;
  }
  if (size == 3) return 0;
  switch ((insn >> 11) & 31) {
    case 0: return (u ? Op.UHADD_B : Op.SHADD_B) + size;
    case 2: return (u ? Op.URHADD_B : Op.SRHADD_B) + size;
    case 4: return (u ? Op.UHSUB_B : Op.SHSUB_B) + size;
    case 12: return (u ? Op.UMAX_B : Op.SMAX_B) + size;
    case 13: return (u ? Op.UMIN_B : Op.SMIN_B) + size;
    case 14: return (u ? Op.UABD_B : Op.SABD_B) + size;
    case 15: return (u ? Op.UABA_B : Op.SABA_B) + size;
    case 18: return (u ? Op.MLS_B : Op.MLA_B) + size;
    case 19: return !u ? Op.MUL_B + size : size == 0 ? Op.PMUL : 0;
    case 20: return (u ? Op.UMAXP_B : Op.SMAXP_B) + size;
    case 21: return (u ? Op.UMINP_B : Op.SMINP_B) + size;
    default: return 0;
  }
}

function decodeThreeDifferent(insn: u32, scalar: bool): u32 {
  const u = isU(insn);
  const size = (insn >> 22) & 3;
  const opcode = (insn >> 12) & 15;
  if (opcode == 14) return !u && !scalar && (size == 0 || size == 3) ? row(LONG, Long.PMULL, size) : 0;
  if (size == 3) return 0;
  switch (opcode) {
    case 9: return u || size == 0 ? 0 : row(SATURATE, Saturate.SQDMLAL, size);
    case 11: return u || size == 0 ? 0 : row(SATURATE, Saturate.SQDMLSL, size);
    case 13: return u || size == 0 ? 0 : row(SATURATE, Saturate.SQDMULL, size);
    default: break;
  }
  if (scalar) return 0;
  switch (opcode) {
    case 0: return row(LONG, Long.ADDL, size);
    case 1: return row(LONG, Long.ADDW, size);
    case 2: return row(LONG, Long.SUBL, size);
    case 3: return row(LONG, Long.SUBW, size);
    case 4: return row(LONG, u ? Long.RADDHN : Long.ADDHN, size);
    case 5: return row(LONG, Long.ABAL, size);
    case 6: return row(LONG, u ? Long.RSUBHN : Long.SUBHN, size);
    case 7: return row(LONG, Long.ABDL, size);
    case 8: return (u ? Op.UMLAL_B : Op.SMLAL_B) + size;
    case 10: return row(LONG, Long.MLSL, size);
    case 12: return (u ? Op.UMULL_B : Op.SMULL_B) + size;
    default: return 0;
  }
}

function decodeByElement(insn: u32, scalar: bool): u32 {
  const u = isU(insn);
  const size = (insn >> 22) & 3;
  if (size == 0 || size == 3) return 0;
  switch ((insn >> 12) & 15) {
    case 3: return u ? 0 : row(SATURATE, Saturate.SQDMLAL, size);
    case 7: return u ? 0 : row(SATURATE, Saturate.SQDMLSL, size);
    case 11: return u ? 0 : row(SATURATE, Saturate.SQDMULL, size);
    case 12: return u ? 0 : row(SATURATE, Saturate.SQDMULH, size);
    case 13: return u ? 0 : row(SATURATE, Saturate.SQRDMULH, size);
    default: break;
  }
  if (scalar) return 0;
  switch ((insn >> 12) & 15) {
    case 0: return u ? Op.MLA_EL_H + size - 1 : 0;
    case 2: return (u ? Op.UMLAL_B : Op.SMLAL_B) + size;
    case 4: return u ? Op.MLS_EL_H + size - 1 : 0;
    case 6: return row(LONG, Long.MLSL, size);
    case 8: return u ? 0 : Op.MUL_EL_H + size - 1;
    case 10: return (u ? Op.UMULL_B : Op.SMULL_B) + size;
    default: return 0;
  }
}

function decodeTwoRegMisc(insn: u32, scalar: bool): u32 {
  const u = isU(insn);
  const size = (insn >> 22) & 3;
  const opcode = (insn >> 12) & 31;
  switch (opcode) {
    case 18:
    case 20:
      if (size == 3) return 0;
      if (opcode == 20) return row(SATURATE, u ? Saturate.UQXTN : Saturate.SQXTN, size);
      if (u) return row(SATURATE, Saturate.SQXTUN, size);
      return scalar ? 0 : Op.XTN_B + size;
    case 19: return u && !scalar && size != 3 ? Op.SHLL_B + size : 0;
    default: break;
  }
  if (!fits(insn, size)) return 0;
  switch (opcode) {
    case 3: return row(SATURATE, u ? Saturate.USQADD : Saturate.SUQADD, size);
    case 7: return row(SATURATE, u ? Saturate.SQNEG : Saturate.SQABS, size);
    default: break;
  }
  if (scalar && size != 3) return 0;
  switch (opcode) {
    case 8: return (u ? Op.CMGE0_B : Op.CMGT0_B) + size;
    case 9: return (u ? Op.CMLE0_B : Op.CMEQ0_B) + size;
    case 10: return u ? 0 : Op.CMLT0_B + size;
    case 11: return (u ? Op.NEG_B : Op.ABS_B) + size;
    default: break;
  }
  if (scalar || size == 3) return 0;
  switch (opcode) {
    case 0: return !u ? Op.REV64_B + size : size < 2 ? Op.REV32_B + size : 0;
    case 1: return !u && size == 0 ? Op.REV16_B : 0;
    case 2: return (u ? Op.UADDLP_B : Op.SADDLP_B) + size;
    case 4: return (u ? Op.CLZ_B : Op.CLS_B) + size;
    case 5: return !u ? (size == 0 ? Op.CNT : 0) : size == 0 ? Op.NOT : size == 1 ? Op.RBIT : 0;
    case 6: return (u ? Op.UADALP_B : Op.SADALP_B) + size;
    default: return 0;
  }
}

/** Across lanes; of the scalar pairwise group only ADDP is an integer operation. */
function decodeAcross(insn: u32, scalar: bool): u32 {
  const u = isU(insn);
  const size = (insn >> 22) & 3;
  const opcode = (insn >> 12) & 31;
  if (scalar) return !u && size == 3 && opcode == 27 ? Op.ADDP_SCALAR : 0;
  // Two S elements are a pair, not a reduction.
  if (size == 3 || (size == 2 && (insn & (1 << 30)) == 0)) return 0;
  switch (opcode) {
    case 3: return row(ACROSS, Across.ADDLV, size);
    case 10: return row(ACROSS, u ? Across.UMAXV : Across.SMAXV, size);
    case 26: return row(ACROSS, u ? Across.UMINV : Across.SMINV, size);
    case 27: return u ? 0 : row(ACROSS, Across.ADDV, size);
    default: return 0;
  }
}

function decodeCopy(insn: u32, scalar: bool): u32 {
  const imm5 = (insn >> 16) & 31;
  if ((imm5 & 15) == 0) return 0;
  const size = ctz<u32>(imm5);
  const imm4 = (insn >> 11) & 15;
  if (scalar) return !isU(insn) && imm4 == 0 ? Op.DUP_SCALAR_B + size : 0;
  const q = (insn & (1 << 30)) != 0;
  if (isU(insn)) return q ? Op.INS_EL_B + size : 0;
  switch (imm4) {
    case 0: return fits(insn, size) ? Op.DUP_EL_B + size : 0;
    case 1: return fits(insn, size) ? Op.DUP_GEN_B + size : 0;
    case 3: return q ? Op.INS_GEN_B + size : 0;
    case 5:
      if (q) return size < 3 ? Op.SMOV_X_B + size : 0;
      return size < 2 ? Op.SMOV_W_B + size : 0;
    case 7: return q == (size == 3) ? Op.UMOV_B + size : 0;
    default: return 0;
  }
}

function decodePermute(insn: u32): u32 {
  const size = (insn >> 22) & 3;
  if (!fits(insn, size)) return 0;
  switch ((insn >> 12) & 7) {
    case 1: return Op.UZP1_B + size;
    case 2: return Op.TRN1_B + size;
    case 3: return Op.ZIP1_B + size;
    case 5: return Op.UZP2_B + size;
    case 6: return Op.TRN2_B + size;
    case 7: return Op.ZIP2_B + size;
    default: return 0;
  }
}

/** MOVI, MVNI, ORR and BIC; cmode 1111 is FMOV, and 1110 with op = 1 the 64-bit MOVI. */
function decodeImmediate(insn: u32): u32 {
  if ((insn & (1 << 11)) != 0) return 0;
  const op = isU(insn);
  const cmode = (insn >> 12) & 15;
  if (cmode == 15) return 0;
  if (cmode == 14) {
    // Zero, by far the most common constant, needs no expansion.
    if ((insn & 0x0007_03e0) == 0) return Op.MOVI_ZERO;
    return op ? Op.MOVI_D : Op.MOVI_B;
  }
  if (cmode >= 12) return op ? Op.MVNI_MSL : Op.MOVI_MSL;
  const logical = (cmode & 1) != 0;
  if (cmode >= 8) return logical ? (op ? Op.BIC_H : Op.ORR_H) : op ? Op.MVNI_H : Op.MOVI_H;
  return logical ? (op ? Op.BIC_S : Op.ORR_S) : op ? Op.MVNI_S : Op.MOVI_S;
}

function decodeShift(insn: u32, scalar: bool): u32 {
  const u = isU(insn);
  const size: u32 = 31 - clz<u32>((insn >> 19) & 15);
  const opcode = (insn >> 11) & 31;
  // Narrowing and lengthening: `size` is that of the narrow side.
  if (opcode >= 16 && opcode <= 20) {
    if (size == 3) return 0;
    switch (opcode) {
      case 16:
        if (u) return row(SATURATE, Saturate.SQSHRUN, size);
        return scalar ? 0 : Op.SHRN_B + size;
      case 17:
        if (u) return row(SATURATE, Saturate.SQRSHRUN, size);
        return scalar ? 0 : row(SHIFT, Shift.RSHRN, size);
      case 18: return row(SATURATE, u ? Saturate.UQSHRN : Saturate.SQSHRN, size);
      case 19: return row(SATURATE, u ? Saturate.UQRSHRN : Saturate.SQRSHRN, size);
      default: return scalar ? 0 : (u ? Op.USHLL_B : Op.SSHLL_B) + size;
    }
  }
  if (!fits(insn, size)) return 0;
  switch (opcode) {
    case 12: return u ? row(SATURATE, Saturate.SQSHLU, size) : 0;
    case 14: return row(SATURATE, u ? Saturate.UQSHL : Saturate.SQSHL, size);
    default: break;
  }
  if (scalar && size != 3) return 0;
  switch (opcode) {
    case 0: return (u ? Op.USHR_B : Op.SSHR_B) + size;
    case 2: return (u ? Op.USRA_B : Op.SSRA_B) + size;
    case 4: return row(SHIFT, Shift.RSHR, size);
    case 6: return row(SHIFT, Shift.RSRA, size);
    case 8: return u ? row(SHIFT, Shift.SRI, size) : 0;
    case 10: return u ? row(SHIFT, Shift.SLI, size) : Op.SHL_B + size;
    default: return 0;
  }
}

/** AES, and SHA with two registers: both lie beside the two-register miscellaneous group with U and size zero. */
function decodeCrypto(insn: u32): u32 {
  if ((insn & 0x00c0_0000) != 0) return 0;
  const opcode = (insn >> 12) & 31;
  if (insn >> 24 == 0x4e) return opcode >= 4 && opcode <= 7 ? Op.AESE + opcode - 4 : 0;
  if (insn >> 24 == 0x5e) return opcode <= 2 ? Op.SHA1H + opcode : 0;
  return 0;
}

/** SHA with three registers. */
function decodeSha(insn: u32): u32 {
  if (insn >> 24 != 0x5e || (insn & 0x00c0_0c00) != 0) return 0;
  const opcode = (insn >> 12) & 7;
  return opcode != 7 ? Op.SHA1C + opcode : 0;
}
