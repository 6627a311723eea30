/** Executes the floating-point instructions that decodeFp() recognises: DDI 0487 C7.2. */
import { conditionHolds, setNZCV } from './flags';
import {
  FP_FABS, FP_FADD, FP_FCCMP, FP_FCMP, FP_FCSEL, FP_FCVT_DH, FP_FCVT_DS, FP_FCVT_HD, FP_FCVT_HS, FP_FCVT_SD,
  FP_FCVT_SH, FP_FDIV, FP_FMADD, FP_FMAX, FP_FMAXNM, FP_FMIN, FP_FMINNM, FP_FMOV, FP_FMOV_D1X, FP_FMOV_DX,
  FP_FMOV_IMMEDIATE, FP_FMOV_SW, FP_FMOV_WS, FP_FMOV_XD, FP_FMOV_XD1, FP_FMSUB, FP_FMUL, FP_FNEG, FP_FNMADD,
  FP_FNMSUB, FP_FNMUL, FP_FRINT, FP_FROM_FIXED, FP_FROM_INTEGER, FP_FSQRT, FP_FSUB, FP_TO_FIXED, FP_TO_INTEGER, FP_V,
} from './fp-ops';
import {
  add, compareFast, div, expandImmediate, fromInteger, getLane, getX, isFast, mul, mulAdd, ra, rd, rm, rn, setScalar,
  setX, shorten, squareRoot, sub, vm, vn, toInteger, widen,
} from './fp-scalar';
import { execFpVector } from './fp-vector';
import { VREGS } from './layout';
import { TIEAWAY, ZERO, magnitude, roundingMode, signBit } from './softfloat';
import { fpCompare, fpConvert, fpFromFixed, fpMax, fpMaxNum, fpRoundInt, fpToFixed } from './softfloat-convert';

// @ts-ignore: decorator
@inline
function multiplyAdd<T>(insn: u32, negateAddend: bool, negateProduct: bool): void {
  const addend = getLane<T>(ra(insn)) ^ (negateAddend ? signBit<T>() : 0);
  const a = vn<T>(insn) ^ (negateProduct ? signBit<T>() : 0);
  setScalar<T>(insn, mulAdd<T>(addend, a, vm<T>(insn)));
}

/** FCMP and FCMPE; bit 3 compares with zero, bit 4 signals all NaNs. */
// @ts-ignore: decorator
@inline
function compare<T>(insn: u32): void {
  const a = vn<T>(insn);
  const b = (insn & 8) != 0 ? 0 : vm<T>(insn);
  setNZCV(isFast() ? compareFast<T>(a, b, (insn & 16) != 0) : fpCompare<T>(a, b, (insn & 16) != 0));
}

// @ts-ignore: decorator
@inline
function conditionalCompare<T>(insn: u32): void {
  if (!conditionHolds((insn >> 12) & 15)) setNZCV(insn & 15);
  else setNZCV(fpCompare<T>(vn<T>(insn), vm<T>(insn), (insn & 16) != 0));
}

// @ts-ignore: decorator
@inline
function select<T>(insn: u32): void {
  setScalar<T>(insn, getLane<T>(conditionHolds((insn >> 12) & 15) ? rn(insn) : rm(insn)));
}

/** FRINTN, P, M, Z, A, -, X, I by bits 15..17. */
// @ts-ignore: decorator
@inline
function roundIntegral<T>(insn: u32): void {
  const opcode = (insn >> 15) & 7;
  setScalar<T>(insn, fpRoundInt<T>(vn<T>(insn), opcode > 4 ? roundingMode() : opcode, opcode == 6));
}

/** Bit 16: unsigned; bit 18: ties away; bits 19..20: the other rounding modes; bit 31: 64 bits. */
// @ts-ignore: decorator
@inline
function convertToInteger<T>(insn: u32): void {
  const mode = (insn & 0x40000) != 0 ? TIEAWAY : (insn >> 19) & 3;
  setX(insn, toInteger<T>(vn<T>(insn), 32 + ((insn >> 31) << 5), (insn & 0x10000) != 0, mode));
}

// @ts-ignore: decorator
@inline
function convertToFixed<T>(insn: u32): void {
  const fbits = 64 - i32((insn >> 10) & 63);
  setX(insn, fpToFixed<T>(vn<T>(insn), fbits, 32 + ((insn >> 31) << 5), (insn & 0x10000) != 0, ZERO));
}

/** The general register operand of a conversion, extended to 64 bits. */
// @ts-ignore: decorator
@inline
function integerOperand(insn: u32): u64 {
  const v = getX(insn);
  if (insn >> 31 != 0) return v;
  return (insn & 0x10000) != 0 ? <u64><u32>v : <u64><i64><i32>v;
}

// @ts-ignore: decorator
@inline
function convertFromInteger<T>(insn: u32): void {
  setScalar<T>(insn, fromInteger<T>(integerOperand(insn), (insn & 0x10000) != 0));
}

// @ts-ignore: decorator
@inline
function convertFromFixed<T>(insn: u32): void {
  const fbits = 64 - i32((insn >> 10) & 63);
  setScalar<T>(insn, fpFromFixed<T>(integerOperand(insn), fbits, (insn & 0x10000) != 0));
}

/**
 * Executes `insn`, for which decodeFp() gave `op`. The caller has checked that FP/SIMD is enabled.
 */
export function execFp(op: u32, insn: u32): void {
  if (op >= FP_V) {
    execFpVector(op, insn);
    return;
  }
  switch (op) {
    case FP_FADD: setScalar<u32>(insn, add<u32>(vn<u32>(insn), vm<u32>(insn))); break;
    case FP_FADD + 1: setScalar<u64>(insn, add<u64>(vn<u64>(insn), vm<u64>(insn))); break;
    case FP_FSUB: setScalar<u32>(insn, sub<u32>(vn<u32>(insn), vm<u32>(insn))); break;
    case FP_FSUB + 1: setScalar<u64>(insn, sub<u64>(vn<u64>(insn), vm<u64>(insn))); break;
    case FP_FMUL: setScalar<u32>(insn, mul<u32>(vn<u32>(insn), vm<u32>(insn))); break;
    case FP_FMUL + 1: setScalar<u64>(insn, mul<u64>(vn<u64>(insn), vm<u64>(insn))); break;
    case FP_FDIV: setScalar<u32>(insn, div<u32>(vn<u32>(insn), vm<u32>(insn))); break;
    case FP_FDIV + 1: setScalar<u64>(insn, div<u64>(vn<u64>(insn), vm<u64>(insn))); break;
    case FP_FMADD: multiplyAdd<u32>(insn, false, false); break;
    case FP_FMADD + 1: multiplyAdd<u64>(insn, false, false); break;
    case FP_FMSUB: multiplyAdd<u32>(insn, false, true); break;
    case FP_FMSUB + 1: multiplyAdd<u64>(insn, false, true); break;
    case FP_FNMADD: multiplyAdd<u32>(insn, true, true); break;
    case FP_FNMADD + 1: multiplyAdd<u64>(insn, true, true); break;
    case FP_FNMSUB: multiplyAdd<u32>(insn, true, false); break;
    case FP_FNMSUB + 1: multiplyAdd<u64>(insn, true, false); break;
    case FP_FNMUL: setScalar<u32>(insn, mul<u32>(vn<u32>(insn), vm<u32>(insn)) ^ signBit<u32>()); break;
    case FP_FNMUL + 1: setScalar<u64>(insn, mul<u64>(vn<u64>(insn), vm<u64>(insn)) ^ signBit<u64>()); break;
    case FP_FMOV: setScalar<u32>(insn, vn<u32>(insn)); break;
    case FP_FMOV + 1: setScalar<u64>(insn, vn<u64>(insn)); break;
    case FP_FABS: setScalar<u32>(insn, magnitude<u32>(vn<u32>(insn))); break;
    case FP_FABS + 1: setScalar<u64>(insn, magnitude<u64>(vn<u64>(insn))); break;
    case FP_FNEG: setScalar<u32>(insn, vn<u32>(insn) ^ signBit<u32>()); break;
    case FP_FNEG + 1: setScalar<u64>(insn, vn<u64>(insn) ^ signBit<u64>()); break;
    case FP_FSQRT: setScalar<u32>(insn, squareRoot<u32>(vn<u32>(insn))); break;
    case FP_FSQRT + 1: setScalar<u64>(insn, squareRoot<u64>(vn<u64>(insn))); break;
    case FP_FMAX: setScalar<u32>(insn, fpMax<u32>(vn<u32>(insn), vm<u32>(insn), false)); break;
    case FP_FMAX + 1: setScalar<u64>(insn, fpMax<u64>(vn<u64>(insn), vm<u64>(insn), false)); break;
    case FP_FMIN: setScalar<u32>(insn, fpMax<u32>(vn<u32>(insn), vm<u32>(insn), true)); break;
    case FP_FMIN + 1: setScalar<u64>(insn, fpMax<u64>(vn<u64>(insn), vm<u64>(insn), true)); break;
    case FP_FMAXNM: setScalar<u32>(insn, fpMaxNum<u32>(vn<u32>(insn), vm<u32>(insn), false)); break;
    case FP_FMAXNM + 1: setScalar<u64>(insn, fpMaxNum<u64>(vn<u64>(insn), vm<u64>(insn), false)); break;
    case FP_FMINNM: setScalar<u32>(insn, fpMaxNum<u32>(vn<u32>(insn), vm<u32>(insn), true)); break;
    case FP_FMINNM + 1: setScalar<u64>(insn, fpMaxNum<u64>(vn<u64>(insn), vm<u64>(insn), true)); break;
    case FP_FCMP: compare<u32>(insn); break;
    case FP_FCMP + 1: compare<u64>(insn); break;
    case FP_FCCMP: conditionalCompare<u32>(insn); break;
    case FP_FCCMP + 1: conditionalCompare<u64>(insn); break;
    case FP_FCSEL: select<u32>(insn); break;
    case FP_FCSEL + 1: select<u64>(insn); break;
    case FP_FMOV_IMMEDIATE: setScalar<u32>(insn, expandImmediate<u32>(<u64>((insn >> 13) & 0xff))); break;
    case FP_FMOV_IMMEDIATE + 1: setScalar<u64>(insn, expandImmediate<u64>(<u64>((insn >> 13) & 0xff))); break;
    case FP_FRINT: roundIntegral<u32>(insn); break;
    case FP_FRINT + 1: roundIntegral<u64>(insn); break;
    case FP_TO_INTEGER: convertToInteger<u32>(insn); break;
    case FP_TO_INTEGER + 1: convertToInteger<u64>(insn); break;
    case FP_TO_FIXED: convertToFixed<u32>(insn); break;
    case FP_TO_FIXED + 1: convertToFixed<u64>(insn); break;
    case FP_FROM_INTEGER: convertFromInteger<u32>(insn); break;
    case FP_FROM_INTEGER + 1: convertFromInteger<u64>(insn); break;
    case FP_FROM_FIXED: convertFromFixed<u32>(insn); break;
    case FP_FROM_FIXED + 1: convertFromFixed<u64>(insn); break;
    case FP_FCVT_DS: setScalar<u64>(insn, widen(vn<u32>(insn))); break;
    case FP_FCVT_SD: setScalar<u32>(insn, shorten(vn<u64>(insn))); break;
    case FP_FCVT_SH: setScalar<u32>(insn, fpConvert<u16, u32>(vn<u16>(insn), roundingMode())); break;
    case FP_FCVT_DH: setScalar<u64>(insn, fpConvert<u16, u64>(vn<u16>(insn), roundingMode())); break;
    case FP_FCVT_HS: setScalar<u16>(insn, fpConvert<u32, u16>(vn<u32>(insn), roundingMode())); break;
    case FP_FCVT_HD: setScalar<u16>(insn, fpConvert<u64, u16>(vn<u64>(insn), roundingMode())); break;
    case FP_FMOV_WS: setX(insn, vn<u32>(insn)); break;
    case FP_FMOV_XD: setX(insn, vn<u64>(insn)); break;
    case FP_FMOV_XD1: setX(insn, getLane<u64>(rn(insn) + 8)); break;
    case FP_FMOV_SW: setScalar<u32>(insn, <u64><u32>getX(insn)); break;
    case FP_FMOV_DX: setScalar<u64>(insn, getX(insn)); break;
    case FP_FMOV_D1X: store<u64>(rd(insn), getX(insn), VREGS + 8); break;
    default: break;
  }
}
