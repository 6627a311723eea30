/** Which A64 instructions are floating point: DDI 0487 C4.1 (Data Processing -- Scalar Floating-Point and AdvSIMD). */
import {
  FP_FADD, FP_FCCMP, FP_FCMP, FP_FCSEL, FP_FCVT_DH, FP_FCVT_DS, FP_FCVT_HD, FP_FCVT_HS, FP_FCVT_SD, FP_FCVT_SH,
  FP_FDIV, FP_FMADD, FP_FMAX, FP_FMOV, FP_FMOV_D1X, FP_FMOV_DX, FP_FMOV_IMMEDIATE, FP_FMOV_SW, FP_FMOV_WS, FP_FMOV_XD,
  FP_FMOV_XD1, FP_FMUL, FP_FNMUL, FP_FRINT, FP_FROM_FIXED, FP_FROM_INTEGER, FP_FSUB, FP_TO_FIXED, FP_TO_INTEGER,
  FP_V_ACROSS, FP_V_ELEMENT, FP_V_FCVTL, FP_V_FCVTN, FP_V_FCVTXN, FP_V_FMOV, FP_V_FROM_FIXED, FP_V_PAIR,
  FP_V_PAIRWISE, FP_V_SAME, FP_V_TO_FIXED, FP_V_UNARY, LANE_FABD, LANE_FABS, LANE_FACGE, LANE_FACGT, LANE_FADD,
  LANE_FCMEQ, LANE_FCMEQ0, LANE_FCMGE, LANE_FCMGE0, LANE_FCMGT, LANE_FCMGT0, LANE_FCMLE0, LANE_FCMLT0, LANE_FCVTS,
  LANE_FCVTU, LANE_FDIV, LANE_FMAX, LANE_FMAXNM, LANE_FMIN, LANE_FMINNM, LANE_FMLA, LANE_FMLS, LANE_FMUL, LANE_FMULX,
  LANE_FNEG, LANE_FRECPE, LANE_FRECPS, LANE_FRECPX, LANE_FRINT, LANE_FRSQRTE, LANE_FRSQRTS, LANE_FSQRT, LANE_FSUB,
  LANE_SCVTF, LANE_UCVTF, LANE_URECPE, LANE_URSQRTE,
} from './fp-ops';

const NONE: u32 = 0xffffffff;

/** The sub-operation for execFp(), or 0 for what is unallocated in ARMv8.0 or not floating point. */
export function decodeFp(insn: u32): u32 {
  if ((insn & 0x5f000000) == 0x1e000000) return decodeScalar(insn);
  if ((insn & 0xff000000) == 0x1f000000) return decodeMultiplyAdd(insn);
  // The scalar AdvSIMD forms differ from the vector forms in bits 30 and 28 only.
  if ((insn & 0x9e000000) == 0x0e000000 || (insn & 0xde000000) == 0x5e000000) return decodeAdvSimd(insn);
  return 0;
}

function decodeMultiplyAdd(insn: u32): u32 {
  const type = (insn >> 22) & 3;
  if (type > 1) return 0;
  // o1:o0 in the order FMADD, FMSUB, FNMADD, FNMSUB.
  return FP_FMADD + (((insn >> 21) & 1) << 2) + (((insn >> 15) & 1) << 1) + type;
}

/** Bits 31 (sf or M) and 22..23 (type) vary, S is clear. */
function decodeScalar(insn: u32): u32 {
  if ((insn & 0x20000000) != 0) return 0;
  const type = (insn >> 22) & 3;
  if ((insn & 0x00200000) == 0) return decodeFixed(insn, type);
  if ((insn & 0xfc00) == 0) return decodeInteger(insn, type);
  if (insn >> 31 != 0) return 0;
  if ((insn & 0x7c00) == 0x4000) return decodeOneSource(insn, type);
  if (type > 1) return 0;
  switch ((insn >> 10) & 3) {
    case 1: return FP_FCCMP + type;
    case 2: return decodeTwoSource(insn, type);
    case 3: return FP_FCSEL + type;
    default: break;
  }
  if ((insn & 0x1c00) == 0x1000) return (insn & 0x3e0) == 0 ? FP_FMOV_IMMEDIATE + type : 0;
  return (insn & 0xfc07) == 0x2000 ? FP_FCMP + type : 0;
}

function decodeTwoSource(insn: u32, type: u32): u32 {
  const opcode = (insn >> 12) & 15;
  switch (opcode) {
    case 0: return FP_FMUL + type;
    case 1: return FP_FDIV + type;
    case 2: return FP_FADD + type;
    case 3: return FP_FSUB + type;
    case 8: return FP_FNMUL + type;
    default: return opcode < 8 ? FP_FMAX + (opcode - 4) * 2 + type : 0;
  }
}

function decodeOneSource(insn: u32, type: u32): u32 {
  const opcode = (insn >> 15) & 0x3f;
  switch ((type << 6) | opcode) {
    case 0x05: return FP_FCVT_DS;
    case 0x07: return FP_FCVT_HS;
    case 0x44: return FP_FCVT_SD;
    case 0x47: return FP_FCVT_HD;
    case 0xc4: return FP_FCVT_SH;
    case 0xc5: return FP_FCVT_DH;
    default: break;
  }
  if (type > 1) return 0;
  if (opcode < 4) return FP_FMOV + opcode * 2 + type;
  return opcode >= 8 && opcode < 16 && opcode != 13 ? FP_FRINT + type : 0;
}

function decodeFixed(insn: u32, type: u32): u32 {
  if (type > 1) return 0;
  if (insn >> 31 == 0 && (insn & 0x8000) == 0) return 0; // more than 32 fraction bits
  const opcode = (insn >> 16) & 31; // rmode:opcode
  if (opcode == 2 || opcode == 3) return FP_FROM_FIXED + type;
  return opcode == 24 || opcode == 25 ? FP_TO_FIXED + type : 0;
}

function decodeInteger(insn: u32, type: u32): u32 {
  const opcode = (insn >> 16) & 7;
  const rmode = (insn >> 19) & 3;
  if (opcode >= 6) {
    const general = opcode == 6; // is the destination
    switch (((insn >> 31) << 4) | (type << 2) | rmode) {
      case 0: return general ? FP_FMOV_WS : FP_FMOV_SW;
      case 0x14: return general ? FP_FMOV_XD : FP_FMOV_DX;
      case 0x19: return general ? FP_FMOV_XD1 : FP_FMOV_D1X;
      default: return 0;
    }
  }
  if (type > 1 || (opcode > 1 && rmode != 0)) return 0;
  return (opcode == 2 || opcode == 3 ? FP_FROM_INTEGER : FP_TO_INTEGER) + type;
}

// --- AdvSIMD ---

function decodeAdvSimd(insn: u32): u32 {
  const scalar = (insn & 0x10000000) != 0;
  const u = (insn >> 29) & 1;
  const a = (insn >> 23) & 1;
  // Two doubles do not fit half a register.
  const half = !scalar && (insn & 0x40000000) == 0;
  const halfOfDouble = half && (insn & 0x00400000) != 0;
  if ((insn & 0x01000000) != 0) {
    if ((insn & 0x400) == 0) return halfOfDouble ? 0 : decodeElement(insn, u);
    if (a != 0) return 0;
    return (insn & 0x00780000) == 0 ? decodeImmediate(insn, scalar, u, half) : decodeShift(insn, half);
  }
  if ((insn & 0x00200400) == 0x00200400) {
    const lane = decodeSame(u, a, (insn >> 11) & 31);
    if (lane == NONE || halfOfDouble) return 0;
    if (!scalar) return lane >= FP_V_PAIRWISE ? lane : FP_V_SAME + lane;
    const allowed: u32 = (1 << LANE_FMULX) | (1 << LANE_FCMEQ) | (1 << LANE_FCMGE) | (1 << LANE_FCMGT) |
      (1 << LANE_FACGE) | (1 << LANE_FACGT) | (1 << LANE_FRECPS) | (1 << LANE_FRSQRTS) | (1 << LANE_FABD);
    return lane < 32 && ((allowed >> lane) & 1) != 0 ? FP_V_SAME + lane : 0;
  }
  const opcode = (insn >> 12) & 31;
  if ((insn & 0x003e0c00) == 0x00200800) return decodeUnary(insn, scalar, u, a, opcode, halfOfDouble);
  if ((insn & 0x003e0c00) != 0x00300800 || u == 0) return 0;
  const lane = decodePair(a, opcode);
  if (lane == NONE) return 0;
  if (scalar) return FP_V_PAIR + lane;
  return lane == LANE_FADD || half || (insn & 0x00400000) != 0 ? 0 : FP_V_ACROSS + lane;
}

/** Three registers of the same type: a lane operation, or a whole sub-operation for the pairwise ones. */
function decodeSame(u: u32, a: u32, opcode: u32): u32 {
  switch ((u << 6) | (a << 5) | opcode) {
    case 0x18: return LANE_FMAXNM;
    case 0x19: return LANE_FMLA;
    case 0x1a: return LANE_FADD;
    case 0x1b: return LANE_FMULX;
    case 0x1c: return LANE_FCMEQ;
    case 0x1e: return LANE_FMAX;
    case 0x1f: return LANE_FRECPS;
    case 0x38: return LANE_FMINNM;
    case 0x39: return LANE_FMLS;
    case 0x3a: return LANE_FSUB;
    case 0x3e: return LANE_FMIN;
    case 0x3f: return LANE_FRSQRTS;
    case 0x58: return FP_V_PAIRWISE + LANE_FMAXNM;
    case 0x5a: return FP_V_PAIRWISE + LANE_FADD;
    case 0x5b: return LANE_FMUL;
    case 0x5c: return LANE_FCMGE;
    case 0x5d: return LANE_FACGE;
    case 0x5e: return FP_V_PAIRWISE + LANE_FMAX;
    case 0x5f: return LANE_FDIV;
    case 0x78: return FP_V_PAIRWISE + LANE_FMINNM;
    case 0x7a: return LANE_FABD;
    case 0x7c: return LANE_FCMGT;
    case 0x7d: return LANE_FACGT;
    case 0x7e: return FP_V_PAIRWISE + LANE_FMIN;
    default: return NONE;
  }
}

/** Scalar pairwise and across lanes. */
function decodePair(a: u32, opcode: u32): u32 {
  switch (opcode) {
    case 12: return a != 0 ? LANE_FMINNM : LANE_FMAXNM;
    case 13: return a != 0 ? NONE : LANE_FADD;
    case 15: return a != 0 ? LANE_FMIN : LANE_FMAX;
    default: return NONE;
  }
}

/** Two registers, miscellaneous. */
function decodeUnary(insn: u32, scalar: bool, u: u32, a: u32, opcode: u32, halfOfDouble: bool): u32 {
  const double = (insn & 0x00400000) != 0;
  if (opcode == 22 && a == 0) {
    if (u != 0) return double ? FP_V_FCVTXN : 0;
    return scalar ? 0 : FP_V_FCVTN;
  }
  if (opcode == 23) return u == 0 && a == 0 && !scalar ? FP_V_FCVTL : 0;
  if (halfOfDouble) return 0;
  let lane = NONE;
  let scalarToo = true;
  switch ((a << 5) | opcode) {
    case 0x18: case 0x19: case 0x38: case 0x39: { // FRINT
      scalarToo = false;
      // N, M, P, Z, then A, X, -, I.
      const index = (u << 2) | (a << 1) | (opcode & 1);
      if (index != 6) lane = LANE_FRINT + ((0x6054_3120 >> (index * 4)) & 7);
      break;
    }
    case 0x1a: lane = 0; break; // FCVTN, M, P, Z, A
    case 0x1b: lane = 2; break;
    case 0x3a: lane = 1; break;
    case 0x3b: lane = 3; break;
    case 0x1c: lane = 4; break;
    case 0x1d: lane = u != 0 ? LANE_UCVTF : LANE_SCVTF; break;
    case 0x2c: lane = u != 0 ? LANE_FCMGE0 : LANE_FCMGT0; break;
    case 0x2d: lane = u != 0 ? LANE_FCMLE0 : LANE_FCMEQ0; break;
    case 0x2e: if (u == 0) lane = LANE_FCMLT0; break;
    case 0x2f: lane = u != 0 ? LANE_FNEG : LANE_FABS; scalarToo = false; break;
    case 0x3c: if (!double) lane = u != 0 ? LANE_URSQRTE : LANE_URECPE; scalarToo = false; break;
    case 0x3d: lane = u != 0 ? LANE_FRSQRTE : LANE_FRECPE; break;
    case 0x3f:
      if (u != 0) {
        lane = LANE_FSQRT;
        scalarToo = false;
      } else if (scalar) {
        lane = LANE_FRECPX;
      }
      break;
    default: break;
  }
  if (lane == NONE || (scalar && !scalarToo)) return 0;
  const key = (a << 5) | opcode;
  if (key == 0x1a || key == 0x1b || key == 0x3a || key == 0x3b || key == 0x1c) {
    lane += u != 0 ? LANE_FCVTU : LANE_FCVTS;
  }
  return FP_V_UNARY + lane;
}

/** Vector by element: size 10 is single, 11 double with L clear. */
function decodeElement(insn: u32, u: u32): u32 {
  if ((insn & 0x00800000) == 0 || (insn & 0x00600000) == 0x00600000) return 0;
  switch ((u << 4) | ((insn >> 12) & 15)) {
    case 0x01: return FP_V_ELEMENT + LANE_FMLA;
    case 0x05: return FP_V_ELEMENT + LANE_FMLS;
    case 0x09: return FP_V_ELEMENT + LANE_FMUL;
    case 0x19: return FP_V_ELEMENT + LANE_FMULX;
    default: return 0;
  }
}

/** Shift by immediate: immh is 01xx for single, 1xxx for double. */
function decodeShift(insn: u32, half: bool): u32 {
  const immh = (insn >> 19) & 15;
  if (immh < 4 || (half && immh >= 8)) return 0;
  const opcode = (insn >> 11) & 31;
  return opcode == 0x1c ? FP_V_FROM_FIXED : opcode == 0x1f ? FP_V_TO_FIXED : 0;
}

/** Modified immediate: cmode 1111 and o2 clear; op set means double. */
function decodeImmediate(insn: u32, scalar: bool, u: u32, half: bool): u32 {
  if (scalar || (insn & 0xf800) != 0xf000 || (u != 0 && half)) return 0;
  return FP_V_FMOV;
}
