/**
 * Numbers of the AdvSIMD integer and crypto operations. decodeSimd() hands them out, execSimd() switches on them.
 *
 * `Op` is one number for each arrangement: the suffix is the element size (_B 8, _H 16, _S 32, _D 64 bits) and the
 * sizes of one operation follow each other, so that the decoder writes `Op.ADD_B + size`. What is rare enough to work
 * on any size at run time lives in the ranges behind it: `range + (row << 2) + size`.
 */
export const enum Op {
  NONE,
  // Three same.
  ADD_B, ADD_H, ADD_S, ADD_D, SUB_B, SUB_H, SUB_S, SUB_D,
  CMTST_B, CMTST_H, CMTST_S, CMTST_D, CMEQ_B, CMEQ_H, CMEQ_S, CMEQ_D,
  CMGT_B, CMGT_H, CMGT_S, CMGT_D, CMHI_B, CMHI_H, CMHI_S, CMHI_D,
  CMGE_B, CMGE_H, CMGE_S, CMGE_D, CMHS_B, CMHS_H, CMHS_S, CMHS_D,
  AND, BIC, ORR, ORN, EOR, BSL, BIT, BIF,
  SHADD_B, SHADD_H, SHADD_S, UHADD_B, UHADD_H, UHADD_S,
  SRHADD_B, SRHADD_H, SRHADD_S, URHADD_B, URHADD_H, URHADD_S,
  SHSUB_B, SHSUB_H, SHSUB_S, UHSUB_B, UHSUB_H, UHSUB_S,
  SMAX_B, SMAX_H, SMAX_S, UMAX_B, UMAX_H, UMAX_S,
  SMIN_B, SMIN_H, SMIN_S, UMIN_B, UMIN_H, UMIN_S,
  SABD_B, SABD_H, SABD_S, UABD_B, UABD_H, UABD_S,
  SABA_B, SABA_H, SABA_S, UABA_B, UABA_H, UABA_S,
  MUL_B, MUL_H, MUL_S, MLA_B, MLA_H, MLA_S, MLS_B, MLS_H, MLS_S, PMUL,
  SMAXP_B, SMAXP_H, SMAXP_S, UMAXP_B, UMAXP_H, UMAXP_S,
  SMINP_B, SMINP_H, SMINP_S, UMINP_B, UMINP_H, UMINP_S,
  ADDP_B, ADDP_H, ADDP_S, ADDP_D, ADDP_SCALAR,
  // By element, first operation for H.
  MUL_EL_H, MUL_EL_S, MLA_EL_H, MLA_EL_S, MLS_EL_H, MLS_EL_S,
  // Two-register miscellaneous.
  REV64_B, REV64_H, REV64_S, REV32_B, REV32_H, REV16_B, CNT, NOT, RBIT,
  CLS_B, CLS_H, CLS_S, CLZ_B, CLZ_H, CLZ_S,
  SADDLP_B, SADDLP_H, SADDLP_S, UADDLP_B, UADDLP_H, UADDLP_S,
  SADALP_B, SADALP_H, SADALP_S, UADALP_B, UADALP_H, UADALP_S,
  CMGT0_B, CMGT0_H, CMGT0_S, CMGT0_D, CMGE0_B, CMGE0_H, CMGE0_S, CMGE0_D,
  CMEQ0_B, CMEQ0_H, CMEQ0_S, CMEQ0_D, CMLE0_B, CMLE0_H, CMLE0_S, CMLE0_D,
  CMLT0_B, CMLT0_H, CMLT0_S, CMLT0_D, ABS_B, ABS_H, ABS_S, ABS_D, NEG_B, NEG_H, NEG_S, NEG_D,
  XTN_B, XTN_H, XTN_S, SHLL_B, SHLL_H, SHLL_S,
  // Copy.
  DUP_EL_B, DUP_EL_H, DUP_EL_S, DUP_EL_D, DUP_SCALAR_B, DUP_SCALAR_H, DUP_SCALAR_S, DUP_SCALAR_D,
  DUP_GEN_B, DUP_GEN_H, DUP_GEN_S, DUP_GEN_D, INS_GEN_B, INS_GEN_H, INS_GEN_S, INS_GEN_D,
  INS_EL_B, INS_EL_H, INS_EL_S, INS_EL_D, UMOV_B, UMOV_H, UMOV_S, UMOV_D,
  SMOV_W_B, SMOV_W_H, SMOV_X_B, SMOV_X_H, SMOV_X_S,
  // Modified immediate; the decoder has told the shapes of AdvSIMDExpandImm() apart.
  MOVI_ZERO, MOVI_B, MOVI_D, MOVI_H, MVNI_H, ORR_H, BIC_H, MOVI_S, MVNI_S, ORR_S, BIC_S, MOVI_MSL, MVNI_MSL,
  // Permute, table lookup.
  ZIP1_B, ZIP1_H, ZIP1_S, ZIP1_D, ZIP2_B, ZIP2_H, ZIP2_S, ZIP2_D,
  UZP1_B, UZP1_H, UZP1_S, UZP1_D, UZP2_B, UZP2_H, UZP2_S, UZP2_D,
  TRN1_B, TRN1_H, TRN1_S, TRN1_D, TRN2_B, TRN2_H, TRN2_S, TRN2_D,
  EXT, TBL1, TBL, TBX,
  // Shift by immediate.
  SHL_B, SHL_H, SHL_S, SHL_D, SSHR_B, SSHR_H, SSHR_S, SSHR_D, USHR_B, USHR_H, USHR_S, USHR_D,
  SSRA_B, SSRA_H, SSRA_S, SSRA_D, USRA_B, USRA_H, USRA_S, USRA_D,
  SHRN_B, SHRN_H, SHRN_S, SSHLL_B, SSHLL_H, SSHLL_S, USHLL_B, USHLL_H, USHLL_S,
  // Three different, those that compilers use most.
  SMULL_B, SMULL_H, SMULL_S, UMULL_B, UMULL_H, UMULL_S,
  SMLAL_B, SMLAL_H, SMLAL_S, UMLAL_B, UMLAL_H, UMLAL_S,
  // Crypto.
  AESE, AESD, AESMC, AESIMC,
  SHA1C, SHA1P, SHA1M, SHA1SU0, SHA256H, SHA256H2, SHA256SU1, SHA1H, SHA1SU1, SHA256SU0,
  /** One more than the last. */
  END,
}

/** First number of each range of rows; a row takes four numbers. */
export const LONG: u32 = 512;
export const SHIFT: u32 = 576;
export const ACROSS: u32 = 640;
export const SATURATE: u32 = 704;

/** Three different; bit 29 of the instruction tells signed from unsigned, bit 24 the form by element. */
export const enum Long { ADDL, ADDW, SUBL, SUBW, ABAL, ABDL, MLSL, ADDHN, RADDHN, SUBHN, RSUBHN, PMULL }

/** Shifts that round, insert or take the amount from a register. */
export const enum Shift { SHL_REG, RSHL_REG, RSHR, RSRA, SRI, SLI, RSHRN }

export const enum Across { ADDV, ADDLV, SMAXV, UMAXV, SMINV, UMINV }

/** Whatever can set FPSR.QC. */
export const enum Saturate {
  SQADD, UQADD, SQSUB, UQSUB, SUQADD, USQADD, SQABS, SQNEG,
  SQDMULH, SQRDMULH, SQDMULL, SQDMLAL, SQDMLSL,
  SQSHL_REG, SQRSHL_REG, SQSHL, UQSHL, SQSHLU,
  SQXTN, UQXTN, SQXTUN, SQSHRN, UQSHRN, SQSHRUN, SQRSHRN, UQRSHRN, SQRSHRUN,
}
