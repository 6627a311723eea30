/** System instructions, exception generation and return: what may change the context that instructions run in. */
import { xzr } from './dp';
import {
  EC_BRK, EC_MSR_TRAP, EC_FP_ACCESS, EC_SVC64, EC_WFX, exceptionReturn, raise, raiseUndefined, requestPoll, takeFault,
} from './exception';
import { stepAdvance } from './debug';
import { hypercall } from './host';
import {
  CLOCK_VIRTUAL, CPU, CPU_COUNT, CPU_ID, CPU_SIZE, EL, EVENT, EXCLUSIVE_SIZE, IRQ_LINES, PAR_EL1, PC, POWER, POWER_WFE, POWER_WFI,
  SAVED_CPUS, SCTLR_EL1, TRASH_SLOT, WALK_PA, WATCH_ACTIVE,
} from './layout';
import { noteRetired, syncClock } from './clock';
import {
  ACCESS_READ, ACCESS_WRITE, FSC_EXTERNAL_ON_WALK, asidChanged, fault, physical, probe, regimeChanged, selectTables, tlbiAll,
  tlbiAsid, tlbiVa, translate, walkAttributes,
} from './mmu';
import { watched } from './mem';
import { flushDecoded, forgetLine } from './page';
import { isPmuRegister } from './pmu';
import * as K from './regs';
import { readSysreg, writeSysreg, msrImmediate } from './sysreg';
import { SYS_CONTEXT, SYS_OK, SYS_POLL, SYS_TRAP, SYS_TRAP_FP } from './status';

// What the run loop does next. The first of them is not a reason to leave the switch.
export const CONTINUE: u32 = 0;
export const TAKE_FAULT: u32 = 1;
export const JUMP_TO: u32 = 2; // to `target`, by a plain branch
export const RESYNC: u32 = 3; // on behind the instruction, in a context that may be another one
export const LEAVE_AT: u32 = 4; // out of the loop, at `target`
export const LEAVE_HERE: u32 = 5; // out of the loop, at the current operation, which has not run
export const JUMP_TARGETED: u32 = 6; // to jumpTarget, in another context
export const COLD_OP: u32 = 7; // hot() leaves the operation to cold()
export const AGAIN: u32 = 8; // the operation was decoded only now
export const CONTINUE_FUSED: u32 = 9; // CONTINUE behind a fused pair
export const TOOK: u32 = 10; // cold() took a branch within the page

/** Where JUMP_TARGETED goes. */
export let jumpTarget: u64 = 0;

export function raiseFpAccess(): void {
  // ISS: CV = 1, COND = 0b1110.
  raise(EC_FP_ACCESS, 0x1e0_0000);
}

/** A trapped MSR, MRS or system instruction (EC 0x18); its ISS restates the encoding. */
function raiseSystemTrap(insn: u32): void {
  const iss = (((insn >> 19) & 3) << 20) | (((insn >> 5) & 7) << 17) | (((insn >> 16) & 7) << 14) | (((insn >> 12) & 15) << 10) |
    ((insn & 31) << 5) | (((insn >> 8) & 15) << 1) | ((insn >> 21) & 1);
  raise(EC_MSR_TRAP, iss);
}

/** SCTLR_EL1.DZE: whether EL0 may DC ZVA. False: the trap is raised. */
export function zeroAllowed(insn: u32): bool {
  if (((load<u64>(0, SCTLR_EL1) >> 14) & 1) != 0) return true;
  raiseSystemTrap(insn);
  return false;
}

function status(s: u32, insn: u32): u32 {
  switch (s & 0xff) {
    case SYS_OK:
      break;
    case SYS_TRAP:
      raiseSystemTrap(insn);
      return TAKE_FAULT;
    case SYS_TRAP_FP:
      raiseFpAccess();
      return TAKE_FAULT;
    default:
      raiseUndefined();
      return TAKE_FAULT;
  }
  return (s & (SYS_CONTEXT | SYS_POLL)) != 0 ? RESYNC : CONTINUE;
}

/** MRS and MSR (register). */
function moveSysreg(insn: u32): u32 {
  const key = (insn >> 5) & 0xffff;
  const rt = insn & 31;
  syncClock();
  if (((insn >> 21) & 1) != 0) return status(readSysreg(key, rt == 31 ? TRASH_SLOT : rt), insn);
  const watch = load<u32>(0, WATCH_ACTIVE);
  const s = writeSysreg(key, xzr(rt));
  // While a watchpoint is set, no access may hit the TLB.
  if (load<u32>(0, WATCH_ACTIVE) != watch) regimeChanged();
  if ((s & 0xff) == SYS_OK && (s & SYS_CONTEXT) != 0) {
    // TTBR0_EL1 and TTBR1_EL1 (and CONTEXTIDR, PAN) keep the TLB; SCTLR_EL1, TCR_EL1 and MAIR_EL1 do not.
    if (key == 0xc100 || key == 0xc101) asidChanged();
    else if (key == 0xc080 || key == 0xc102 || key == 0xc510) regimeChanged();
    else selectTables();
  }
  // run() computes anew how far it may go: a counter of instructions has a deadline that it must not miss.
  if ((s & SYS_POLL) != 0 && (isPmuRegister(key) || (load<u32>(0, CLOCK_VIRTUAL) != 0 && isTimerRegister(key)))) requestPoll();
  return status(s, insn);
}

/** CNTP_* and CNTV_*: S3_3_C14_C2_n and S3_3_C14_C3_n. */
function isTimerRegister(key: u32): bool {
  return key >> 4 == <u32>K.CNTP_TVAL_EL0 >> 4;
}

/** WFE and WFI. One that would not wait does not trap either. */
function wait(wfe: bool): u32 {
  if (wfe && load<u32>(0, EVENT) != 0) {
    store<u32>(0, 0, EVENT);
    return CONTINUE;
  }
  if (!wfe && load<u32>(load<u32>(0, CPU_ID) << 2, IRQ_LINES) != 0) return CONTINUE;
  const allowed: u64 = wfe ? 1 << 18 : 1 << 16;
  if (load<u32>(0, EL) == 0 && (load<u64>(0, SCTLR_EL1) & allowed) == 0) {
    raise(EC_WFX, 0x1e0_0000 | u32(wfe));
    return TAKE_FAULT;
  }
  store<u32>(0, wfe ? POWER_WFE : POWER_WFI, POWER);
  return LEAVE_AT;
}

function hint(insn: u32): u32 {
  switch ((insn >> 5) & 0x7f) {
    case 2:
      return wait(true);
    case 3:
      return wait(false);
    case 4: {
      const n = load<u32>(0, CPU_COUNT);
      for (let c: u32 = 0; c < n; c++) store<u32>(SAVED_CPUS + c * CPU_SIZE + (EVENT - CPU), 1);
      store<u32>(0, 1, EVENT);
      return CONTINUE;
    }
    case 5:
      store<u32>(0, 1, EVENT);
      return CONTINUE;
    default:
      return CONTINUE;
  }
}

/** AT S1E1R, S1E1W, S1E0R, S1E0W. PAR_EL1: bit 11 is RES1, NS (bit 9) means nothing here and is 1 as in hardware. */
function addressTranslate(va: u64, op2: u32): u32 {
  const code = probe(va, (op2 & 1) != 0 ? ACCESS_WRITE : ACCESS_READ, op2 >= 2);
  if (code == 0) {
    store<u64>(0, (load<u64>(0, WALK_PA) & 0x0000_ffff_ffff_f000) | 0xa00 | walkAttributes, PAR_EL1);
    return CONTINUE;
  }
  // Tables that are not in memory abort the instruction itself (AArch64.AT()).
  if ((code & 0x3c) == FSC_EXTERNAL_ON_WALK) {
    fault(va, ACCESS_READ, true, code & 0x3f);
    return TAKE_FAULT;
  }
  store<u64>(0, 0x801 | (<u64>(code & 0x3f) << 1), PAR_EL1);
  return CONTINUE;
}

/** A DC or IC operation by address from EL0 needs SCTLR_EL1.UCI. */
function cacheAllowed(insn: u32): bool {
  if (load<u32>(0, EL) != 0 || ((load<u64>(0, SCTLR_EL1) >> 26) & 1) != 0) return true;
  raiseSystemTrap(insn);
  return false;
}

/** Caches do not exist here: what is left of DC by address is that it may fault. */
function cacheByAddress(va: u64): u32 {
  const user = load<u32>(0, EL) == 0;
  return translate(va, ACCESS_READ, user, true) ? CONTINUE : TAKE_FAULT;
}

/** SYS: DC, IC, AT, TLBI (DDI 0487, C5.3 to C5.5). */
function execSys(insn: u32): u32 {
  const op1 = (insn >> 16) & 7;
  const crn = (insn >> 12) & 15;
  const crm = (insn >> 8) & 15;
  const op2 = (insn >> 5) & 7;
  const x = xzr(insn & 31);
  const el0 = load<u32>(0, EL) == 0;
  if (((insn >> 21) & 1) != 0) {
    raiseUndefined(); // no SYSL is allocated
    return TAKE_FAULT;
  }
  if (crn == 7 && op1 == 3) {
    const known = (crm == 10 && op2 == 1) || (crm == 11 && op2 == 1) || (crm == 14 && op2 == 1) || (crm == 5 && op2 == 1);
    if (known) {
      if (!cacheAllowed(insn)) return TAKE_FAULT;
      if (crm != 5) return cacheByAddress(x);
      if (!translate(x, ACCESS_READ, el0, true)) return TAKE_FAULT;
      const host = physical(load<u64>(0, WALK_PA) & ~(<u64>63), 64, false);
      if (host != 0) forgetLine(host);
      return CONTINUE;
    }
  }
  if (!el0 && op1 == 0) {
    if (crn == 7) {
      if (op2 == 0 && (crm == 1 || crm == 5)) {
        flushDecoded();
        return RESYNC;
      }
      if (crm == 6 && op2 == 1) {
        // DC IVAC: the one cache operation that counts as a store, for rights and watchpoints (D2.9.6).
        if (!translate(x, ACCESS_WRITE, false, true)) return TAKE_FAULT;
        return watched(x & ~(<u64>63), 64, true, false, true) ? TAKE_FAULT : CONTINUE;
      }
      if (op2 == 2 && (crm == 6 || crm == 10 || crm == 14)) return CONTINUE; // by set and way
      if (crm == 8 && op2 < 4) {
        return addressTranslate(x, op2);
      }
    }
    if (crn == 8 && (crm == 3 || crm == 7)) {
      const all = crm == 3;
      // Bits 43:0 name VA[55:12].
      const va = (x & 0xfff_ffff_ffff) << 12;
      switch (op2) {
        case 0:
          tlbiAll(all);
          return RESYNC;
        case 2:
          tlbiAsid(<u32>(x >> 48), all);
          return RESYNC;
        case 1:
        case 3:
        case 5:
        case 7:
          tlbiVa(va, all);
          return RESYNC;
        default:
          break;
      }
    }
  }
  raiseUndefined();
  return TAKE_FAULT;
}

/** SVC, HVC, SMC, BRK, HLT, DCPS. */
function generateException(insn: u32, pc: u64): u32 {
  const imm = (insn >> 5) & 0xffff;
  const el = load<u32>(0, EL);
  const which = (insn & 3) | (((insn >> 21) & 7) << 4);
  if (which == 0x01) {
    stepAdvance();
    noteRetired();
    raise(EC_SVC64, imm);
    jumpTarget = takeFault(pc + 4);
    return JUMP_TARGETED;
  }
  if (which == 0x02 && el != 0) {
    syncClock();
    store<u64>(0, pc + 4, PC);
    hypercall(load<u32>(0, CPU_ID), imm);
    requestPoll();
    return LEAVE_AT;
  }
  // SMC without EL3, HLT without halting debug, DCPS in non-debug state: UNDEFINED.
  if (which == 0x10) raise(EC_BRK, imm);
  else raiseUndefined();
  return TAKE_FAULT;
}

/** Executes the system instruction at `pc`; the result is one of the actions above. */
export function execSystem(insn: u32, pc: u64): u32 {
  if (insn >>> 24 == 0xd4) return generateException(insn, pc);
  if (insn == 0xd69f_03e0) {
    if (load<u32>(0, EL) == 0) {
      raiseUndefined();
      return TAKE_FAULT;
    }
    noteRetired();
    jumpTarget = exceptionReturn();
    return JUMP_TARGETED;
  }
  const op0 = (insn >> 19) & 3;
  if (op0 >= 2) return moveSysreg(insn);
  if (op0 == 1) return execSys(insn);
  const crn = (insn >> 12) & 15;
  const op1 = (insn >> 16) & 7;
  if (crn == 2) return hint(insn);
  if (crn == 3) {
    if (((insn >> 5) & 7) == 2) store<u32>(0, 0, EXCLUSIVE_SIZE);
    return CONTINUE;
  }
  const s = msrImmediate(op1, (insn >> 8) & 15, (insn >> 5) & 7);
  if ((s & SYS_CONTEXT) != 0) selectTables();
  return status(s, insn);
}
