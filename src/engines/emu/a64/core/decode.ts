// long: one function for each group of encodings, in the order of the manual's tables.
/**
 * From an instruction word to a decoded operation (layout: exec.template.ts). Everything that depends on the encoding
 * alone is settled here, once: which registers, immediates expanded, branch distances, unallocated encodings.
 * The order follows DDI 0487, chapter C4.1.
 */
import { conditionHolds, conditionMask } from './flags';
import { decodeFp } from './fp-decode';
import {
  ELR_EL1, ESR_EL1, FAR_EL1, PAGE_OPS, SPSR_EL1, STEP_OPS, TPIDR_EL1, TRASH_SLOT, XREGS, ZERO_SLOT,
} from './layout';
import * as op from './ops';
import { first, pairOf } from './pairs';
import { PAGE_HOST } from './page';
import { decodeSimd } from './simd-decode';
import { decodeSimdMemory } from './simd-memory';

// The operation being written.
let at: u32 = 0;
let pageOffset: u32 = 0; // of the instruction, in bytes
let nextWord: u32 = 0; // the instruction behind it, 0 when that is not to be fused

// @ts-ignore: decorator
@inline
function emit(code: u32, rd: u32, rn: u32, rm: u32, imm: u64): void {
  store<u16>(at, <u16>code);
  store<u16>(at, <u16>rd, 2);
  store<u16>(at, <u16>rn, 4);
  store<u16>(at, <u16>rm, 6);
  store<u64>(at, imm, 8);
}

/** Byte offset of a source register, XZR for 31. */
// @ts-ignore: decorator
@inline
function src(n: u32): u32 {
  return (n == 31 ? ZERO_SLOT : n) << 3;
}

/** Byte offset of a destination register; 31 discards. */
// @ts-ignore: decorator
@inline
function dst(n: u32): u32 {
  return (n == 31 ? TRASH_SLOT : n) << 3;
}

/** Byte offset of a register where 31 is SP. */
// @ts-ignore: decorator
@inline
function sp(n: u32): u32 {
  return n << 3;
}

function undefined_(): void {
  emit(op.UNDEFINED, 0, 0, 0, 0);
}

/** An operation that works from the encoding. */
function raw(code: u32, insn: u32): void {
  emit(code, 0, 0, 0, <u64>insn);
}

/** Distance in decoded operations of a branch by `offset` bytes, when it stays in the page; else -1 << 31. */
const FAR: i32 = i32.MIN_VALUE;
function within(offset: i64): i32 {
  const to = <i64>pageOffset + offset;
  return to >= 0 && to < 4096 ? <i32>(offset << 2) : FAR;
}

/** DecodeBitMasks() for logical immediates. 0: reserved (no valid mask is 0). */
function bitMask(n: u32, imms: u32, immr: u32, wide: bool): u64 {
  if (!wide && n != 0) return 0;
  const combined = (n << 6) | (~imms & 63);
  if (combined < 2) return 0;
  const len = 31 - clz<u32>(combined);
  const size: u32 = 1 << len;
  const levels = size - 1;
  const s = imms & levels;
  const r = immr & levels;
  if (s == levels) return 0;
  let element: u64 = (<u64>1 << (s + 1)) - 1;
  if (r != 0) {
    const mask: u64 = size == 64 ? ~(<u64>0) : (<u64>1 << size) - 1;
    element = ((element >> r) | (element << (size - r))) & mask;
  }
  for (let w = size; w < 64; w <<= 1) element |= element << w;
  return wide ? element : element & 0xffff_ffff;
}

/**
 * The fused operation's number offset for a B.cond in the next word, in the order of gen-exec.ts's CONDITIONS; -1: none.
 */
function fusedCondition(): i32 {
  if ((nextWord & 0xff00_0010) != 0x5400_0000) return -1;
  switch (nextWord & 15) {
    case 0: return 0;
    case 1: return 1;
    case 2: return 2;
    case 3: return 3;
    case 8: return 4;
    case 9: return 5;
    case 10: return 6;
    case 11: return 7;
    case 12: return 8;
    case 13: return 9;
    default: return -1;
  }
}

/** Distance of the fused branch from this operation; FAR when it leaves the page. */
function fusedDistance(): i32 {
  const offset = <i64>(<i32>(nextWord << 8) >> 13) << 2;
  return within(offset + 4);
}

/** SUBS and CMP: fused with a B.cond behind it where possible. `low` is the immediate, `fused` the EQ variant. */
function compare(plain: u32, fused: u32, rd: u32, rn: u32, rm: u32, low: u32): void {
  const c = fusedCondition();
  const distance = c >= 0 ? fusedDistance() : FAR;
  if (distance != FAR) emit(fused + c, rd, rn, rm, (<u64><u32>distance << 32) | <u64>low);
  else emit(plain, rd, rn, rm, <u64>low);
}

/** ANDS and TST: fused with B.EQ and B.NE. */
function test(plain: u32, fused: u32, rd: u32, rn: u32, rm: u32, imm: u64): void {
  const c = fusedCondition();
  // The fused form holds 32 bits of immediate, sign-extended.
  const fits = imm == <u64><i64><i32>imm;
  const distance = (c == 0 || c == 1) && fits ? fusedDistance() : FAR;
  if (distance != FAR) emit(fused + c, rd, rn, rm, (<u64><u32>distance << 32) | (imm & 0xffff_ffff));
  else emit(plain, rd, rn, rm, imm);
}

// --- Data processing, immediate -----------------------------------------------------------------------------------

function bitfield(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const n = (insn >> 22) & 1;
  const immr = (insn >> 16) & 63;
  const imms = (insn >> 10) & 63;
  const size: u32 = wide ? 64 : 32;
  const rd = dst(insn & 31);
  const rn = src((insn >> 5) & 31);
  const opc = (insn >> 29) & 3;
  if (n != u32(wide) || (!wide && (immr > 31 || imms > 31)) || opc == 3) return undefined_();
  const extract = imms >= immr;
  const width = extract ? imms - immr + 1 : imms + 1;
  const mask: u64 = width == 64 ? ~(<u64>0) : (<u64>1 << width) - 1;
  const left = size - immr; // shift of an insertion
  if (opc == 2) {
    if (extract) emit(op.UBFX, rd, rn, immr, mask);
    else emit(op.UBFIZ, rd, rn, left, mask);
  } else if (opc == 0) {
    const up = size - 1 - imms;
    const down = extract ? up + immr : immr - imms - 1;
    emit(wide ? op.SBFM_X : op.SBFM_W, rd, rn, 0, (<u64>down << 32) | <u64>up);
  } else {
    const keep = insn & 31;
    const target = keep == 31 ? dst(31) : keep << 3;
    if (extract) emit(wide ? op.BFXIL_X : op.BFXIL_W, target, rn, immr, mask);
    else emit(wide ? op.BFI_X : op.BFI_W, target, rn, left, mask << left);
  }
}

function dataImmediate(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const rd = insn & 31;
  const rn = (insn >> 5) & 31;
  switch ((insn >> 23) & 7) {
    case 0:
    case 1: {
      const imm = <i64>((<u64><i64>(<i32>(insn << 8) >> 13) << 2) | <u64>((insn >> 29) & 3));
      if (wide) emit(op.ADRP, dst(rd), 0, 0, <u64>(imm << 12));
      else emit(op.ADR, dst(rd), 0, 0, <u64>imm);
      return;
    }
    case 2: {
      const imm = <u64>((insn >> 10) & 0xfff) << (((insn >> 22) & 1) != 0 ? 12 : 0);
      const sub = ((insn >> 30) & 1) != 0;
      if (((insn >> 29) & 1) == 0) {
        emit(wide ? op.ADD_IMM_X : op.ADD_IMM_W, sp(rd), sp(rn), 0, sub ? 0 - imm : imm);
      } else if (sub) {
        if (wide) compare(op.SUBS_IMM_X, op.SUBS_IMM_X_B_EQ, dst(rd), sp(rn), 0, <u32>imm);
        else compare(op.SUBS_IMM_W, op.SUBS_IMM_W_B_EQ, dst(rd), sp(rn), 0, <u32>imm);
      } else emit(wide ? op.ADDS_IMM_X : op.ADDS_IMM_W, dst(rd), sp(rn), 0, imm);
      return;
    }
    case 4: {
      const imm = bitMask((insn >> 22) & 1, (insn >> 10) & 63, (insn >> 16) & 63, wide);
      if (imm == 0) return undefined_();
      switch ((insn >> 29) & 3) {
        case 0: return emit(op.AND_IMM, sp(rd), src(rn), 0, imm);
        case 1:
          if (rn == 31) return emit(op.MOV_IMM, sp(rd), 0, 0, imm);
          return emit(wide ? op.ORR_IMM_X : op.ORR_IMM_W, sp(rd), src(rn), 0, imm);
        case 2: return emit(wide ? op.EOR_IMM_X : op.EOR_IMM_W, sp(rd), src(rn), 0, imm);
        default:
          if (wide) test(op.ANDS_IMM_X, op.ANDS_IMM_X_B_EQ, dst(rd), src(rn), 0, imm);
          else test(op.ANDS_IMM_W, op.ANDS_IMM_W_B_EQ, dst(rd), src(rn), 0, <u64><i64><i32>imm);
          return;
      }
    }
    case 5: {
      const hw = (insn >> 21) & 3;
      const imm = <u64>((insn >> 5) & 0xffff);
      if (!wide && hw > 1) return undefined_();
      switch ((insn >> 29) & 3) {
        case 0: return emit(op.MOV_IMM, dst(rd), 0, 0, wide ? ~(imm << (hw << 4)) : ~(imm << (hw << 4)) & 0xffff_ffff);
        case 2: return emit(op.MOV_IMM, dst(rd), 0, 0, imm << (hw << 4));
        case 3:
          if (wide) emit(op.MOVK_X, dst(rd), 0, hw << 1, imm);
          else emit(op.MOVK_W, dst(rd), 0, hw << 4, imm << (hw << 4));
          return;
        default: return undefined_();
      }
    }
    case 6:
      return bitfield(insn);
    case 7: {
      const lsb = (insn >> 10) & 63;
      if (((insn >> 29) & 3) != 0 || ((insn >> 21) & 1) != 0 || ((insn >> 22) & 1) != u32(wide) || (!wide && lsb > 31)) return undefined_();
      return emit(wide ? op.EXTR_X : op.EXTR_W, dst(rd), src(rn), src((insn >> 16) & 31), <u64>lsb);
    }
    default:
      return undefined_(); // ADDG, SUBG: FEAT_MTE
  }
}

// --- Branches, exceptions, system ---------------------------------------------------------------------------------

function conditionalFar(insn: u32, offset: i64): void {
  emit(op.BCOND_FAR, 0, 0, 0, (<u64>insn << 32) | (<u64>offset & 0xffff_ffff));
}

/** For BCOND_FAR: whether B.cond, CBZ, CBNZ, TBZ or TBNZ is taken. */
export function branchTaken(insn: u32): bool {
  const top = (insn >> 25) & 0x3f;
  if (top == 0x2a) return conditionHolds(insn & 15);
  const rt = insn & 31;
  let v: u64 = rt == 31 ? 0 : load<u64>(rt << 3, XREGS);
  const invert = ((insn >> 24) & 1) != 0;
  if (top == 0x1a) {
    if ((insn >> 31) == 0) v &= 0xffff_ffff;
    return (v == 0) != invert;
  }
  const bit = ((insn >> 26) & 0x20) | ((insn >> 19) & 31);
  return (((v >> bit) & 1) == 0) != invert;
}

function systemAllocated(insn: u32): bool {
  const op0 = (insn >> 19) & 3;
  if (op0 != 0) return true;
  const isRead = ((insn >> 21) & 1) != 0;
  const op1 = (insn >> 16) & 7;
  const crn = (insn >> 12) & 15;
  const crm = (insn >> 8) & 15;
  const op2 = (insn >> 5) & 7;
  if (isRead || (insn & 31) != 31) return false;
  if (crn == 2) return op1 == 3;
  if (crn == 3) return op1 == 3 && (op2 == 2 || (op2 >= 4 && op2 <= 6));
  return crn == 4;
}

/** The few system instructions that hot() does; imm is the encoding, for what it leaves to cold(). */
function hotSystem(insn: u32): bool {
  const rt = dst(insn & 31);
  let field: u32 = 0;
  switch (insn & 0xffff_ffe0) {
    case 0xd538_d080: field = TPIDR_EL1; break;
    case 0xd538_5200: field = ESR_EL1; break;
    case 0xd538_6000: field = FAR_EL1; break;
    case 0xd538_4020: field = ELR_EL1; break;
    case 0xd538_4000: field = SPSR_EL1; break;
    case 0xd53b_d040: emit(op.MRS_TPIDR_EL0, rt, 0, 0, <u64>insn); return true;
    case 0xd538_4100: emit(op.MRS_SP_EL0, rt, 0, 0, <u64>insn); return true;
    case 0xd53b_4220: emit(op.MRS_DAIF, rt, 0, 0, <u64>insn); return true;
    case 0xd51b_4220: emit(op.MSR_DAIF, src(insn & 31), 0, 0, <u64>insn); return true;
    default: break;
  }
  if (field != 0) {
    emit(op.MRS_FIELD, rt, field, 0, <u64>insn);
    return true;
  }
  // MSR DAIFSet, DAIFClr without PSTATE.D: #imm is CRm.
  const crm = (insn >> 8) & 15;
  if (crm >= 8) return false;
  if ((insn & 0xffff_f0ff) == 0xd503_40df) emit(op.MSR_DAIFSET, 0, 0, crm << 6, <u64>insn);
  else if ((insn & 0xffff_f0ff) == 0xd503_40ff) emit(op.MSR_DAIFCLR, 0, 0, crm << 6, <u64>insn);
  else return false;
  return true;
}

function branches(insn: u32): void {
  const top = insn >> 24;
  switch (top >> 5) {
    case 0:
    case 4: {
      if ((top & 0x1c) != 0x14 && (top & 0x1c) != 0x16) break;
      const offset = <i64>(<i32>(insn << 6) >> 6) << 2;
      const d = within(offset);
      const link = (insn >> 31) != 0;
      if (d == FAR) emit(link ? op.BL_FAR : op.B_FAR, 0, 0, 0, <u64>offset);
      else emit(link ? op.BL : op.B, 0, 0, 0, <u64><u32>d);
      return;
    }
    case 1:
    case 5: {
      const rt = src(insn & 31);
      if ((top & 0x02) == 0) {
        const offset = <i64>(<i32>(insn << 8) >> 13) << 2;
        const d = within(offset);
        if (d == FAR) return conditionalFar(insn, offset);
        const wide = (insn >> 31) != 0;
        if ((top & 1) == 0) emit(wide ? op.CBZ_X : op.CBZ_W, 0, rt, 0, <u64><u32>d);
        else emit(wide ? op.CBNZ_X : op.CBNZ_W, 0, rt, 0, <u64><u32>d);
        return;
      }
      const offset = <i64>(<i32>(insn << 13) >> 18) << 2;
      const d = within(offset);
      if (d == FAR) return conditionalFar(insn, offset);
      const bit = ((insn >> 26) & 0x20) | ((insn >> 19) & 31);
      return emit((top & 1) == 0 ? op.TBZ : op.TBNZ, 0, rt, bit, <u64><u32>d);
    }
    case 2: {
      if (top != 0x54 || ((insn >> 4) & 1) != 0) break;
      const offset = <i64>(<i32>(insn << 8) >> 13) << 2;
      const d = within(offset);
      if ((insn & 14) == 14) {
        // AL and NV both always hold.
        if (d == FAR) emit(op.B_FAR, 0, 0, 0, <u64>offset);
        else emit(op.B, 0, 0, 0, <u64><u32>d);
        return;
      }
      if (d == FAR) return conditionalFar(insn, offset);
      return emit(op.BCOND, 0, 0, 0, (<u64>conditionMask(insn & 15) << 32) | <u64><u32>d);
    }
    case 6: {
      if (top == 0xd4) {
        // Exception generation: bits 4:2 zero; SVC HVC SMC, BRK, HLT, DCPS.
        const opc = (insn >> 21) & 7;
        const ll = insn & 3;
        const ok = ((insn >> 2) & 7) == 0 && ((opc == 0 && ll != 0) || ((opc == 1 || opc == 2) && ll == 0) || (opc == 5 && ll != 0));
        return ok ? raw(op.SYSTEM, insn) : undefined_();
      }
      if (top == 0xd5) {
        if ((insn & 0x00c0_0000) != 0 || !systemAllocated(insn)) return undefined_();
        const crn = (insn >> 12) & 15;
        const op0 = (insn >> 19) & 3;
        // Barriers and hints other than WFE, WFI, SEV, SEVL do nothing here; CLREX does.
        if (op0 == 0 && crn == 3 && ((insn >> 5) & 7) != 2) return emit(op.NOP, 0, 0, 0, 0);
        if (op0 == 0 && crn == 2) {
          const h = (insn >> 5) & 0x7f;
          return h >= 2 && h <= 5 ? raw(op.SYSTEM, insn) : emit(op.NOP, 0, 0, 0, 0);
        }
        if (hotSystem(insn)) return;
        if ((insn & 0xffff_ffe0) == 0xd50b_7420) return emit(op.DC_ZVA, 0, src(insn & 31), 0, <u64>insn);
        return raw(op.SYSTEM, insn);
      }
      if ((top & 0xfe) == 0xd6) {
        const opc = (insn >> 21) & 15;
        if (((insn >> 16) & 31) != 31 || ((insn >> 10) & 63) != 0 || (insn & 31) != 0) return undefined_();
        const rn = (insn >> 5) & 31;
        if (opc == 0 || opc == 2) return emit(op.BR, 0, src(rn), 0, 0);
        if (opc == 1) return emit(op.BLR, 0, src(rn), 0, 0);
        if (opc == 4 && rn == 31) return raw(op.SYSTEM, insn);
        return undefined_(); // DRPS outside debug state
      }
      break;
    }
    default:
      break;
  }
  undefined_();
}

// --- Loads and stores ---------------------------------------------------------------------------------------------

// Offsets of the addressing modes from a load's _IMM operation, in the order of gen-exec.ts; each is followed by its twin
// for SP as the base.
const MODE_IMM: u32 = 0;
const MODE_POST: u32 = 2;
const MODE_PRE: u32 = 4;
const MODE_LSL: u32 = 6;
const MODE_UXTW: u32 = 8;
const MODE_SXTW: u32 = 10;

/** The hot operation for size and opc of an integer load or store; 0: none (PRFM or unallocated). */
function integerAccess(size: u32, opc: u32): u32 {
  switch ((size << 2) | opc) {
    case 0: return op.STRB_IMM;
    case 1: return op.LDRB_IMM;
    case 2: return op.LDRSB_X_IMM;
    case 3: return op.LDRSB_W_IMM;
    case 4: return op.STRH_IMM;
    case 5: return op.LDRH_IMM;
    case 6: return op.LDRSH_X_IMM;
    case 7: return op.LDRSH_W_IMM;
    case 8: return op.STR_W_IMM;
    case 9: return op.LDR_W_IMM;
    case 10: return op.LDRSW_IMM;
    case 12: return op.STR_X_IMM;
    case 13: return op.LDR_X_IMM;
    default: return 0;
  }
}

/** The hot operation for a SIMD&FP access; 0: B and H go through execFpMemory(). */
function vectorAccess(size: u32, opc: u32): u32 {
  const isLoad = (opc & 1) != 0;
  if (size == 0 && opc >= 2) return isLoad ? op.LDR_Q_IMM : op.STR_Q_IMM;
  if (size == 2) return isLoad ? op.LDR_S_IMM : op.STR_S_IMM;
  if (size == 3) return isLoad ? op.LDR_D_IMM : op.STR_D_IMM;
  return 0;
}

function single(insn: u32): void {
  const size = insn >> 30;
  const opc = (insn >> 22) & 3;
  const vector = ((insn >> 26) & 1) != 0;
  const rt = insn & 31;
  const rn = (insn >> 5) & 31;
  const onSp = u32(rn == 31);
  const unsignedOffset = ((insn >> 24) & 1) != 0;
  // Here the bits of opc are A and R: all four combinations exist for every size.
  if (!vector && !unsignedOffset && ((insn >> 21) & 1) != 0 && ((insn >> 10) & 3) == 0) return atomic(insn);
  let base: u32;
  let scale: u32 = size;
  let data: u32;
  if (!vector && !unsignedOffset && (insn & 0x0020_0c00) == 0x0020_0000) return atomic(insn);
  if (vector) {
    if (opc >= 2) {
      if (size != 0) return undefined_();
      scale = 4;
    }
    base = vectorAccess(size, opc);
    data = rt << 4;
  } else {
    base = integerAccess(size, opc);
    data = (opc == 0 ? src(rt) : dst(rt));
    if (base == 0) {
      // PRFM and PRFUM; size 11 opc 10 only.
      if (size != 3 || opc != 2) return undefined_();
      const mode = (insn >> 10) & 3;
      const ok = unsignedOffset || (((insn >> 21) & 1) == 0 ? mode == 0 : mode == 2 && ((insn >> 14) & 1) != 0);
      return ok ? emit(op.NOP, 0, 0, 0, 0) : undefined_();
    }
  }
  if (unsignedOffset) {
    if (base == 0) return raw(op.FP_MEM, insn);
    return emit(base + MODE_IMM + onSp, data, sp(rn), 0, <u64>((insn >> 10) & 0xfff) << scale);
  }
  if (((insn >> 21) & 1) != 0) {
    const option = (insn >> 13) & 7;
    const kind = (insn >> 10) & 3;
    if (kind != 2 || (option & 2) == 0) return undefined_();
    if (base == 0) return raw(op.FP_MEM, insn);
    const shift: u64 = ((insn >> 12) & 1) != 0 ? <u64>scale : 0;
    const mode = option == 2 ? MODE_UXTW : option == 6 ? MODE_SXTW : MODE_LSL;
    return emit(base + mode + onSp, data, sp(rn), src((insn >> 16) & 31), shift);
  }
  const imm = <u64><i64>(<i32>(insn << 11) >> 23);
  const index = (insn >> 10) & 3;
  if (index == 2) return vector ? undefined_() : raw(op.MEM, insn); // unprivileged
  if (base == 0) return raw(op.FP_MEM, insn);
  emit(base + (index == 0 ? MODE_IMM : index == 1 ? MODE_POST : MODE_PRE) + onSp, data, sp(rn), 0, imm);
}

/** LSE atomics: opc 0-7 with o3 = 0, SWP with o3 = 1. LDAPR is FEAT_LRCPC: not here. */
function atomic(insn: u32): void {
  const o3 = (insn >> 15) & 1;
  const opc = (insn >> 12) & 7;
  if (o3 != 0 && opc != 0) return undefined_();
  raw(op.ATOMIC, insn);
}

function pair(insn: u32): void {
  const opc = insn >> 30;
  const vector = ((insn >> 26) & 1) != 0;
  const index = (insn >> 23) & 3; // 0 non-temporal, 1 post, 2 offset, 3 pre
  const isLoad = ((insn >> 22) & 1) != 0;
  const rt = insn & 31;
  const rn = (insn >> 5) & 31;
  const rt2 = (insn >> 10) & 31;
  if (opc == 3) return undefined_();
  const imm7 = <i64>(<i32>(insn << 10) >> 25);
  const mode: u32 = (index == 1 ? MODE_POST : index == 3 ? MODE_PRE : MODE_IMM) + u32(rn == 31);
  if (vector) {
    if (opc != 2) return raw(op.FP_MEM, insn);
    return emit((isLoad ? op.LDP_Q_IMM : op.STP_Q_IMM) + mode, rt << 4, sp(rn), rt2 << 4, <u64>(imm7 << 4));
  }
  if (opc == 1) {
    if (!isLoad || index == 0) return undefined_();
    return raw(op.MEM, insn);
  }
  const wide = opc == 2;
  const base = isLoad ? (wide ? op.LDP_X_IMM : op.LDP_W_IMM) : wide ? op.STP_X_IMM : op.STP_W_IMM;
  const a = isLoad ? dst(rt) : src(rt);
  const b = isLoad ? dst(rt2) : src(rt2);
  emit(base + mode, a, sp(rn), b, <u64>(imm7 << (wide ? 3 : 2)));
}

function exclusive(insn: u32): void {
  const o2 = ((insn >> 23) & 1) != 0;
  const o1 = ((insn >> 21) & 1) != 0;
  const size = insn >> 30;
  const rs = (insn >> 16) & 31;
  const rt = insn & 31;
  const rt2 = (insn >> 10) & 31;
  if (!o2 && o1 && size < 2) {
    // CASP: even registers.
    if (rt2 != 31 || (rs & 1) != 0 || (rt & 1) != 0) return undefined_();
  } else if (o2 && o1 && rt2 != 31) return undefined_();
  // LDLAR and STLLR: FEAT_LOR.
  else if (o2 && !o1 && ((insn >> 15) & 1) == 0) return undefined_();
  if (o2 && !o1 && size >= 2) {
    const isLoad = ((insn >> 22) & 1) != 0;
    if (isLoad) emit(size == 3 ? op.LDAR_X : op.LDAR_W, dst(rt), sp((insn >> 5) & 31), 0, <u64>insn);
    else emit(size == 3 ? op.STLR_X : op.STLR_W, src(rt), sp((insn >> 5) & 31), 0, <u64>insn);
    return;
  }
  raw(op.ATOMIC, insn);
}

function literal(insn: u32): void {
  const opc = insn >> 30;
  const offset = <u64><i64>((<i32>(insn << 8) >> 13) << 2);
  const rt = dst(insn & 31);
  if (((insn >> 26) & 1) != 0) return opc == 3 ? undefined_() : raw(op.FP_MEM, insn);
  switch (opc) {
    case 0: return emit(op.LDR_LIT_W, rt, 0, 0, offset);
    case 1: return emit(op.LDR_LIT_X, rt, 0, 0, offset);
    case 2: return emit(op.LDR_LIT_SW, rt, 0, 0, offset);
    default: return emit(op.NOP, 0, 0, 0, 0); // PRFM (literal)
  }
}

function loadStore(insn: u32): void {
  switch ((insn >> 27) & 7) {
    case 1: {
      if (((insn >> 26) & 1) == 0) return ((insn >> 24) & 1) == 0 ? exclusive(insn) : undefined_();
      const sub = decodeSimdMemory(insn);
      if (sub == 0) return undefined_();
      return emit(op.SIMD_MEM, sub, 0, 0, <u64>insn);
    }
    case 3:
      return ((insn >> 24) & 1) == 0 ? literal(insn) : undefined_();
    case 5:
      return pair(insn);
    case 7:
      return single(insn);
    default:
      return undefined_();
  }
}

// --- Data processing, register ------------------------------------------------------------------------------------

function logical(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const type = (insn >> 22) & 3;
  const amount = (insn >> 10) & 63;
  const rd = dst(insn & 31);
  const rnField = (insn >> 5) & 31;
  const rn = src(rnField);
  const rm = src((insn >> 16) & 31);
  const which = (((insn >> 29) & 3) << 1) | ((insn >> 21) & 1); // opc, N
  if (!wide && amount > 31) return undefined_();
  if (amount == 0) {
    switch (which) {
      case 0: return emit(wide ? op.AND_X : op.AND_W, rd, rn, rm, 0);
      case 1: return emit(wide ? op.BIC_X : op.BIC_W, rd, rn, rm, 0);
      case 2:
        if (rnField == 31) return emit(wide ? op.MOV_X : op.MOV_W, rd, 0, rm, 0);
        return emit(wide ? op.ORR_X : op.ORR_W, rd, rn, rm, 0);
      case 3: return emit(wide ? op.ORN_X : op.ORN_W, rd, rn, rm, 0);
      case 4: return emit(wide ? op.EOR_X : op.EOR_W, rd, rn, rm, 0);
      case 6:
        if (wide) test(op.ANDS_X, op.ANDS_X_B_EQ, rd, rn, rm, 0);
        else test(op.ANDS_W, op.ANDS_W_B_EQ, rd, rn, rm, 0);
        return;
      default: break;
    }
  } else if (type == 0 && which == 2) return emit(wide ? op.ORR_LSL_X : op.ORR_LSL_W, rd, rn, rm, <u64>amount);
  else if (type == 0 && which == 4) return emit(wide ? op.EOR_LSL_X : op.EOR_LSL_W, rd, rn, rm, <u64>amount);
  else if (type == 1 && which == 4) return emit(wide ? op.EOR_LSR_X : op.EOR_LSR_W, rd, rn, rm, <u64>amount);
  else if (type == 3 && which == 4) return emit(wide ? op.EOR_ROR_X : op.EOR_ROR_W, rd, rn, rm, <u64>amount);
  else if (type == 1 && which == 2) return emit(wide ? op.ORR_LSR_X : op.ORR_LSR_W, rd, rn, rm, <u64>amount);
  else if (wide && type == 1 && which == 0) return emit(op.AND_LSR_X, rd, rn, rm, <u64>amount);
  else if (wide && type == 0 && which == 0) return emit(op.AND_LSL_X, rd, rn, rm, <u64>amount);
  else if (wide && type == 0 && which == 1) return emit(op.BIC_LSL_X, rd, rn, rm, <u64>amount);
  else if (wide && type == 2 && which == 4) return emit(op.EOR_ASR_X, rd, rn, rm, <u64>amount);
  raw(op.DP, insn);
}

function addSubtract(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const sub = ((insn >> 30) & 1) != 0;
  const flags = ((insn >> 29) & 1) != 0;
  const rd = insn & 31;
  const rn = (insn >> 5) & 31;
  const rm = src((insn >> 16) & 31);
  if (((insn >> 21) & 1) != 0) {
    const option = (insn >> 13) & 7;
    const shift = (insn >> 10) & 7;
    if (((insn >> 22) & 3) != 0 || shift > 4) return undefined_();
    if (wide && !flags) {
      if (option == 2) return emit(sub ? op.SUB_UXTW : op.ADD_UXTW, sp(rd), sp(rn), rm, <u64>shift);
      if (option == 6) return emit(sub ? op.SUB_SXTW : op.ADD_SXTW, sp(rd), sp(rn), rm, <u64>shift);
      if (option == 4 && !sub) return emit(op.ADD_SXTB, sp(rd), sp(rn), rm, <u64>shift);
      if (option == 5 && !sub) return emit(op.ADD_SXTH, sp(rd), sp(rn), rm, <u64>shift);
      if ((option & 3) == 3) return emit(sub ? op.SUB_UXTX : op.ADD_UXTX, sp(rd), sp(rn), rm, <u64>shift);
    }
    if (wide && sub) {
      if (option == 2) return emit(op.SUBS_UXTW, dst(rd), sp(rn), rm, <u64>shift);
      if (option == 6) return emit(op.SUBS_SXTW, dst(rd), sp(rn), rm, <u64>shift);
    }
    return raw(op.DP, insn);
  }
  const type = (insn >> 22) & 3;
  const amount = (insn >> 10) & 63;
  if (type == 3 || (!wide && amount > 31)) return undefined_();
  if (amount == 0) {
    if (!flags) {
      if (sub) emit(wide ? op.SUB_X : op.SUB_W, dst(rd), src(rn), rm, 0);
      else emit(wide ? op.ADD_X : op.ADD_W, dst(rd), src(rn), rm, 0);
    } else if (sub) {
      if (wide) compare(op.SUBS_X, op.SUBS_X_B_EQ, dst(rd), src(rn), rm, 0);
      else compare(op.SUBS_W, op.SUBS_W_B_EQ, dst(rd), src(rn), rm, 0);
    } else emit(wide ? op.ADDS_X : op.ADDS_W, dst(rd), src(rn), rm, 0);
    return;
  }
  if (type == 0 && !flags) {
    if (!sub) return emit(wide ? op.ADD_LSL_X : op.ADD_LSL_W, dst(rd), src(rn), rm, <u64>amount);
    return emit(wide ? op.SUB_LSL_X : op.SUB_LSL_W, dst(rd), src(rn), rm, <u64>amount);
  }
  if (wide && flags && sub && type == 0) return emit(op.SUBS_LSL_X, dst(rd), src(rn), rm, <u64>amount);
  if (!flags && type == 1) {
    if (!sub) return emit(wide ? op.ADD_LSR_X : op.ADD_LSR_W, dst(rd), src(rn), rm, <u64>amount);
    if (wide) return emit(op.SUB_LSR_X, dst(rd), src(rn), rm, <u64>amount);
  }
  if (wide && !flags && !sub && type == 2) return emit(op.ADD_ASR_X, dst(rd), src(rn), rm, <u64>amount);
  raw(op.DP, insn);
}

function conditionalSelect(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const o2 = (insn >> 10) & 3;
  if (((insn >> 29) & 1) != 0 || o2 > 1) return undefined_();
  const negate = ((insn >> 30) & 1) != 0;
  let code: u32;
  if (!negate) code = o2 == 0 ? (wide ? op.CSEL_X : op.CSEL_W) : wide ? op.CSINC_X : op.CSINC_W;
  else code = o2 == 0 ? (wide ? op.CSINV_X : op.CSINV_W) : wide ? op.CSNEG_X : op.CSNEG_W;
  emit(code, dst(insn & 31), src((insn >> 5) & 31), src((insn >> 16) & 31), <u64>conditionMask((insn >> 12) & 15));
}

function conditionalCompare(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const sub = ((insn >> 30) & 1) != 0;
  const imm = (<u64>conditionMask((insn >> 12) & 15) << 32) | <u64>(insn & 15);
  const rn = src((insn >> 5) & 31);
  const field = (insn >> 16) & 31;
  if (((insn >> 11) & 1) != 0) {
    if (sub) emit(wide ? op.CCMP_IMM_X : op.CCMP_IMM_W, 0, rn, field, imm);
    else emit(wide ? op.CCMN_IMM_X : op.CCMN_IMM_W, 0, rn, field, imm);
  } else if (sub) emit(wide ? op.CCMP_X : op.CCMP_W, 0, rn, src(field), imm);
  else emit(wide ? op.CCMN_X : op.CCMN_W, 0, rn, src(field), imm);
}

function twoSource(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const rd = dst(insn & 31);
  const rn = src((insn >> 5) & 31);
  const rm = src((insn >> 16) & 31);
  switch ((insn >> 10) & 63) {
    case 2: return emit(wide ? op.UDIV_X : op.UDIV_W, rd, rn, rm, 0);
    case 3: return emit(wide ? op.SDIV_X : op.SDIV_W, rd, rn, rm, 0);
    case 8: return emit(wide ? op.LSLV_X : op.LSLV_W, rd, rn, rm, 0);
    case 9: return emit(wide ? op.LSRV_X : op.LSRV_W, rd, rn, rm, 0);
    case 10: return emit(wide ? op.ASRV_X : op.ASRV_W, rd, rn, rm, 0);
    case 11: return emit(wide ? op.RORV_X : op.RORV_W, rd, rn, rm, 0);
    default: {
      // CRC32: the X form has sz = 11, the others do not.
      const crc = (insn >> 10) & 63;
      if (crc < 16 || crc > 23 || wide != ((crc & 3) == 3)) return undefined_();
      return raw(op.DP, insn);
    }
  }
}

function oneSource(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const code = (insn >> 10) & 63;
  if (((insn >> 16) & 31) != 0 || code > 5 || (!wide && code == 3)) return undefined_();
  const rd = dst(insn & 31);
  const rn = src((insn >> 5) & 31);
  if (code == 4) return emit(wide ? op.CLZ_X : op.CLZ_W, rd, rn, 0, 0);
  if (code == 3 || (code == 2 && !wide)) return emit(wide ? op.REV_X : op.REV_W, rd, rn, 0, 0);
  raw(op.DP, insn);
}

function threeSource(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const op31 = (insn >> 21) & 7;
  const o0 = (insn >> 15) & 1;
  if (((insn >> 29) & 3) != 0) return undefined_();
  const rd = dst(insn & 31);
  const rn = src((insn >> 5) & 31);
  const rm = src((insn >> 16) & 31);
  const ra = <u64>src((insn >> 10) & 31);
  if (op31 == 0) {
    if (o0 == 0) emit(wide ? op.MADD_X : op.MADD_W, rd, rn, rm, ra);
    else emit(wide ? op.MSUB_X : op.MSUB_W, rd, rn, rm, ra);
    return;
  }
  if (!wide) return undefined_();
  if (op31 == 1 && o0 == 0) return emit(op.SMADDL, rd, rn, rm, ra);
  if (op31 == 5 && o0 == 0) return emit(op.UMADDL, rd, rn, rm, ra);
  if (op31 == 6 && o0 == 0) return emit(op.UMULH, rd, rn, rm, 0);
  if (op31 == 1 || op31 == 5 || ((op31 == 2 || op31 == 6) && o0 == 0)) return raw(op.DP, insn);
  undefined_();
}

function dataRegister(insn: u32): void {
  switch ((insn >> 24) & 31) {
    case 0x0a: return logical(insn);
    case 0x0b: return addSubtract(insn);
    case 0x1b: return threeSource(insn);
    case 0x1a: break;
    default: return undefined_();
  }
  const s = (insn >> 29) & 1;
  switch ((insn >> 21) & 7) {
    case 0: return ((insn >> 10) & 63) == 0 ? raw(op.DP, insn) : undefined_();
    case 2: return s == 1 && (insn & 0x0000_0410) == 0 ? conditionalCompare(insn) : undefined_();
    case 4: return conditionalSelect(insn);
    case 6:
      if (s != 0) return undefined_();
      if (((insn >> 30) & 1) != 0) oneSource(insn);
      else twoSource(insn);
      return;
    default: return undefined_();
  }
}

// --- Floating point and SIMD --------------------------------------------------------------------------------------

/** The few vector operations that the loop does itself; false: none of them. */
function hotVector(insn: u32): bool {
  const rd = (insn & 31) << 4;
  const rn = ((insn >> 5) & 31) << 4;
  const rm = ((insn >> 16) & 31) << 4;
  let code: u32 = 0;
  switch (insn & 0xffe0_fc00) {
    case 0x1e60_2800: code = op.FADD_D; break;
    case 0x1e60_3800: code = op.FSUB_D; break;
    case 0x1e60_0800: code = op.FMUL_D; break;
    case 0x1e60_1800: code = op.FDIV_D; break;
    case 0x1e20_2800: code = op.FADD_S; break;
    case 0x1e20_3800: code = op.FSUB_S; break;
    case 0x1e20_0800: code = op.FMUL_S; break;
    case 0x1e20_1800: code = op.FDIV_S; break;
    case 0x4e20_1c00: code = op.AND_V; break;
    case 0x4ea0_1c00: code = op.ORR_V; break;
    case 0x6e20_1c00: code = op.EOR_V; break;
    case 0x4e20_8400: code = op.ADD_16B; break;
    case 0x4ea0_8400: code = op.ADD_4S; break;
    case 0x4ee0_8400: code = op.ADD_2D; break;
    case 0x6e20_8c00: code = op.CMEQ_16B; break;
    case 0x4e60_d400: code = op.FADD_2D; break;
    case 0x4ee0_d400: code = op.FSUB_2D; break;
    case 0x6e60_dc00: code = op.FMUL_2D; break;
    case 0x4e60_cc00: code = op.FMLA_2D; break;
    case 0x4ee0_cc00: code = op.FMLS_2D; break;
    default: break;
  }
  if (code != 0) {
    // The general operation's number, for operands that need it.
    emit(code, rd, rn, rm, (<u64>decodeFp(insn) << 32) | <u64>insn);
    return true;
  }
  if ((insn & 0xffa0_0c00) == 0x1e20_0c00) {
    emit(((insn >> 22) & 1) != 0 ? op.FCSEL_D : op.FCSEL_S, rd, rn, rm, <u64>conditionMask((insn >> 12) & 15));
    return true;
  }
  switch (insn & 0xffe0_fc1f) {
    case 0x1e60_2000: emit(op.FCMP_D, 0, rn, rm, 0); return true;
    case 0x1e60_2010: emit(op.FCMP_D, 0, rn, rm, 1); return true;
    case 0x1e20_2000: emit(op.FCMP_S, 0, rn, rm, 0); return true;
    case 0x1e20_2010: emit(op.FCMP_S, 0, rn, rm, 1); return true;
    case 0x1e60_2008: emit(op.FCMP_ZERO_D, 0, rn, 0, 0); return true;
    case 0x1e60_2018: emit(op.FCMP_ZERO_D, 0, rn, 0, 1); return true;
    case 0x1e20_2008: emit(op.FCMP_ZERO_S, 0, rn, 0, 0); return true;
    case 0x1e20_2018: emit(op.FCMP_ZERO_S, 0, rn, 0, 1); return true;
    default: break;
  }
  switch (insn & 0xffe0_8000) {
    case 0x1f40_0000: code = op.FMADD_D; break;
    case 0x1f40_8000: code = op.FMSUB_D; break;
    case 0x1f00_0000: code = op.FMADD_S; break;
    case 0x1f00_8000: code = op.FMSUB_S; break;
    default: break;
  }
  if (code != 0) {
    emit(code, rd, rn, rm, <u64>(((insn >> 10) & 31) << 4) << 32);
    return true;
  }
  const general = decodeFp(insn);
  const xn = src((insn >> 5) & 31);
  switch (insn & 0xffff_fc00) {
    case 0x1e60_4000: code = op.FMOV_D; break;
    case 0x1e20_4000: code = op.FMOV_S; break;
    case 0x1e60_c000: code = op.FABS_D; break;
    case 0x1e20_c000: code = op.FABS_S; break;
    case 0x1e61_4000: code = op.FNEG_D; break;
    case 0x1e21_4000: code = op.FNEG_S; break;
    case 0x1e61_c000: code = op.FSQRT_D; break;
    case 0x1e21_c000: code = op.FSQRT_S; break;
    case 0x9e62_0000: emit(op.SCVTF_D_X, rd, xn, general, <u64>insn); return true;
    case 0x1e62_0000: emit(op.SCVTF_D_W, rd, xn, general, <u64>insn); return true;
    case 0x9e22_0000: emit(op.SCVTF_S_X, rd, xn, general, <u64>insn); return true;
    case 0x1e22_0000: emit(op.SCVTF_S_W, rd, xn, general, <u64>insn); return true;
    case 0x9e78_0000: emit(op.FCVTZS_X_D, dst(insn & 31), rn, general, <u64>insn); return true;
    case 0x1e78_0000: emit(op.FCVTZS_W_D, dst(insn & 31), rn, general, <u64>insn); return true;
    case 0x9e66_0000: emit(op.FMOV_X_D, dst(insn & 31), rn, 0, 0); return true;
    case 0x9e67_0000: emit(op.FMOV_D_X, rd, xn, 0, 0); return true;
    case 0x1e26_0000: emit(op.FMOV_W_S, dst(insn & 31), rn, 0, 0); return true;
    case 0x1e27_0000: emit(op.FMOV_S_W, rd, xn, 0, 0); return true;
    case 0x4e08_0c00: emit(op.DUP_2D_X, rd, xn, 0, 0); return true;
    case 0x4e08_3c00: emit(op.UMOV_X, dst(insn & 31), rn, 0, 0); return true;
    case 0x4e18_3c00: emit(op.UMOV_X, dst(insn & 31), rn, 0, 8); return true;
    case 0x0e04_3c00: emit(op.UMOV_W, dst(insn & 31), rn, 0, 0); return true;
    case 0x0e0c_3c00: emit(op.UMOV_W, dst(insn & 31), rn, 0, 4); return true;
    case 0x0e14_3c00: emit(op.UMOV_W, dst(insn & 31), rn, 0, 8); return true;
    case 0x0e1c_3c00: emit(op.UMOV_W, dst(insn & 31), rn, 0, 12); return true;
    default: break;
  }
  if (code != 0) {
    emit(code, rd, rn, 0, 0);
    return true;
  }
  // MOVI Vd.16B and Vd.2D with all bytes alike: zero above all.
  if ((insn & 0xfff8_fc00) == 0x4f00_e400) {
    const byte = <u64>(((insn >> 11) & 0xe0) | ((insn >> 5) & 31));
    emit(op.MOVI_V, rd, 0, 0, byte * 0x0101_0101_0101_0101);
    return true;
  }
  if ((insn & 0xffff_ffe0) == 0x6f00_e400) {
    emit(op.MOVI_V, rd, 0, 0, 0);
    return true;
  }
  return false;
}

function vector(insn: u32): void {
  if (hotVector(insn)) return;
  const fp = decodeFp(insn);
  if (fp != 0) return emit(op.FP, fp, 0, 0, <u64>insn);
  const simd = decodeSimd(insn);
  if (simd != 0) return emit(op.SIMD, simd, 0, 0, <u64>insn);
  undefined_();
}

/** Decodes `insn`, which lies `offset` bytes into its page, to the operation at `to`; `next` may be fused with it. */
function decode(insn: u32, offset: u32, next: u32, to: u32): void {
  at = to;
  pageOffset = offset;
  nextWord = next;
  switch ((insn >> 25) & 15) {
    case 8:
    case 9: return dataImmediate(insn);
    case 10:
    case 11: return branches(insn);
    case 4:
    case 6:
    case 12:
    case 14: return loadStore(insn);
    case 5:
    case 13: return dataRegister(insn);
    case 7:
    case 15: return vector(insn);
    default: return undefined_();
  }
}

/** Decodes the instruction at `offset` of the page whose operations are at `page` in place. */
function decodeOne(page: u32, offset: u32): void {
  const host = load<u32>(page + PAGE_HOST);
  const next: u32 = offset < 4092 ? load<u32>(host + offset + 4) : 0;
  decode(load<u32>(host + offset), offset, next, page + (offset << 2));
}

/** Decodes the operation at `ip` of the current page in place, and pairs it with the next one where that is worth it. */
export function decodeAt(ip: u32): void {
  const page = load<u32>(0, PAGE_OPS);
  const offset = (ip - page) >> 2;
  decodeOne(page, offset);
  if (offset >= 4092) return;
  if (load<u16>(ip, 16) == op.DECODE) decodeOne(page, offset + 4);
  store<u16>(ip, <u16>pairOf(load<u16>(ip), first(load<u16>(ip, 16))));
}

/** Decodes the instruction of operation `ip` of the current page alone, to STEP_OPS. */
export function decodeStep(ip: u32): void {
  const page = load<u32>(0, PAGE_OPS);
  const offset = (ip - page) >> 2;
  decode(load<u32>(load<u32>(page + PAGE_HOST) + offset), offset, 0, STEP_OPS);
  store<u16>(STEP_OPS + 16, <u16>op.STEP_END);
}
