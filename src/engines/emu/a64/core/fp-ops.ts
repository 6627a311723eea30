/**
 * The sub-operation numbers that decodeFp() gives and execFp() takes. Scalar operations come in pairs: single precision
 * at the number given here, double precision at the next. AdvSIMD operations, scalar and vector, follow from FP_V on;
 * they take precision and number of lanes from the instruction.
 */
export const FP_FADD: u32 = 1;
export const FP_FSUB: u32 = 3;
export const FP_FMUL: u32 = 5;
export const FP_FDIV: u32 = 7;
export const FP_FMADD: u32 = 9;
export const FP_FMSUB: u32 = 11;
export const FP_FNMADD: u32 = 13;
export const FP_FNMSUB: u32 = 15;
export const FP_FNMUL: u32 = 17;
export const FP_FMOV: u32 = 19;
export const FP_FABS: u32 = 21;
export const FP_FNEG: u32 = 23;
export const FP_FSQRT: u32 = 25;
export const FP_FMAX: u32 = 27;
export const FP_FMIN: u32 = 29;
export const FP_FMAXNM: u32 = 31;
export const FP_FMINNM: u32 = 33;
export const FP_FCMP: u32 = 35; // FCMPE and comparison with zero included
export const FP_FCCMP: u32 = 37;
export const FP_FCSEL: u32 = 39;
export const FP_FMOV_IMMEDIATE: u32 = 41;
export const FP_FRINT: u32 = 43; // all rounding modes
export const FP_TO_INTEGER: u32 = 45; // FCVT{N,P,M,Z,A}{S,U} to a general register
export const FP_TO_FIXED: u32 = 47;
export const FP_FROM_INTEGER: u32 = 49;
export const FP_FROM_FIXED: u32 = 51;
// Single numbers from here.
export const FP_FCVT_DS: u32 = 53; // destination first: double from single
export const FP_FCVT_SD: u32 = 54;
export const FP_FCVT_SH: u32 = 55;
export const FP_FCVT_DH: u32 = 56;
export const FP_FCVT_HS: u32 = 57;
export const FP_FCVT_HD: u32 = 58;
export const FP_FMOV_WS: u32 = 59; // general register from S
export const FP_FMOV_XD: u32 = 60;
export const FP_FMOV_XD1: u32 = 61; // from V.D[1]
export const FP_FMOV_SW: u32 = 62;
export const FP_FMOV_DX: u32 = 63;
export const FP_FMOV_D1X: u32 = 64;

/** First AdvSIMD operation. */
export const FP_V: u32 = 65;

// What a lane operation does. Two operands (and the destination, for FMLA and FMLS):
export const LANE_FADD: u32 = 0;
export const LANE_FSUB: u32 = 1;
export const LANE_FMUL: u32 = 2;
export const LANE_FDIV: u32 = 3;
export const LANE_FMLA: u32 = 4;
export const LANE_FMLS: u32 = 5;
export const LANE_FMULX: u32 = 6;
export const LANE_FMAX: u32 = 7;
export const LANE_FMIN: u32 = 8;
export const LANE_FMAXNM: u32 = 9;
export const LANE_FMINNM: u32 = 10;
export const LANE_FCMEQ: u32 = 11;
export const LANE_FCMGE: u32 = 12;
export const LANE_FCMGT: u32 = 13;
export const LANE_FACGE: u32 = 14;
export const LANE_FACGT: u32 = 15;
export const LANE_FRECPS: u32 = 16;
export const LANE_FRSQRTS: u32 = 17;
export const LANE_FABD: u32 = 18;
const LANE2_COUNT: u32 = 19;

// One operand:
export const LANE_FABS: u32 = 0;
export const LANE_FNEG: u32 = 1;
export const LANE_FSQRT: u32 = 2;
export const LANE_FRINT: u32 = 3; // + rounding mode 0..4, 5 FRINTX, 6 FRINTI
export const LANE_FCVTS: u32 = 10; // + rounding mode 0..4
export const LANE_FCVTU: u32 = 15;
export const LANE_SCVTF: u32 = 20;
export const LANE_UCVTF: u32 = 21;
export const LANE_FCMEQ0: u32 = 22;
export const LANE_FCMGE0: u32 = 23;
export const LANE_FCMGT0: u32 = 24;
export const LANE_FCMLE0: u32 = 25;
export const LANE_FCMLT0: u32 = 26;
export const LANE_FRECPE: u32 = 27;
export const LANE_FRSQRTE: u32 = 28;
export const LANE_FRECPX: u32 = 29;
export const LANE_URECPE: u32 = 30;
export const LANE_URSQRTE: u32 = 31;
const LANE1_COUNT: u32 = 32;

/** Lanes of Vn with lanes of Vm: + a two-operand lane operation. */
export const FP_V_SAME: u32 = FP_V;
/** Lanes of Vn with one element of Vm: + a two-operand lane operation. */
export const FP_V_ELEMENT: u32 = FP_V_SAME + LANE2_COUNT;
/** Adjacent pairs of Vm:Vn: + a two-operand lane operation. */
export const FP_V_PAIRWISE: u32 = FP_V_ELEMENT + LANE2_COUNT;
/** The two elements of Vn, scalar result. */
export const FP_V_PAIR: u32 = FP_V_PAIRWISE + LANE2_COUNT;
/** All four lanes of Vn folded into one. */
export const FP_V_ACROSS: u32 = FP_V_PAIR + LANE2_COUNT;
/** Lanes of Vn: + a one-operand lane operation. */
export const FP_V_UNARY: u32 = FP_V_ACROSS + LANE2_COUNT;
export const FP_V_FCVTN: u32 = FP_V_UNARY + LANE1_COUNT;
export const FP_V_FCVTXN: u32 = FP_V_FCVTN + 1;
export const FP_V_FCVTL: u32 = FP_V_FCVTN + 2;
/** Shift-immediate forms: SCVTF and UCVTF, then FCVTZS and FCVTZU, with fraction bits. */
export const FP_V_FROM_FIXED: u32 = FP_V_FCVTN + 3;
export const FP_V_TO_FIXED: u32 = FP_V_FCVTN + 4;
/** FMOV (vector, immediate), single and double. */
export const FP_V_FMOV: u32 = FP_V_FCVTN + 5;
