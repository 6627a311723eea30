/** MRS and MSR: which system registers exist, who may touch them and what that does (DDI 0487 section D17). */
import { debugUpdate, MDSCR_KDE, MDSCR_MDE, MDSCR_SS, OSLSR_OSLK } from './debug';
import { setDaif, setSpSel } from './exception';
import { getNZCV, setNZCV } from './flags';
import { updateFp } from './fpstate';
import { iccRead, iccWrite, trace, TRACE_SYSREG } from './host';
import { BREAKPOINTS, ccsidr, CLIDR, CTR, dczid, idRegister, MIDR, mpidr, WATCHPOINTS } from './idregs';
import {
  ACTLR_EL1, AFSR0_EL1, AFSR1_EL1, AMAIR_EL1, CNTFRQ, CNTKCTL_EL1, CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTV_CTL_EL0,
  CNTV_CVAL_EL0, CONTEXTIDR_EL1, CPACR_EL1, CPU_ID, CSSELR_EL1, DAIF, DBGBCR, DBGBVR, DBGCLAIM, DBGPRCR_EL1,
  DBGWCR, DBGWVR, EL, ELR_EL1, ESR_EL1, EXCLUSIVE_SIZE, FAR_EL1, FPCR, FPSR, FP_ENABLED, GIC_SYSREGS, ICOUNT,
  IRQ_LINES, MAILBOX, MAIR_EL1, MDCCINT_EL1, MDSCR_EL1, MPIDR_EL1, OSDLR_EL1, OSDTRRX_EL1, OSDTRTX_EL1, OSECCR_EL1,
  OSLSR_EL1, PAN, PAR_EL1, PMCCNTR_BASE, PMU_ACTIVE, PMU_LINE, PSTATE_IL, PSTATE_SS, SCTLR_EL1, SPSEL, SPSR_EL1,
  SP_EL0, SP_EL1, SP_SLOT, TCR_EL1, TIMER_LINES, TPIDRRO_EL0, TPIDR_EL0, TPIDR_EL1, TTBR0_EL1, TTBR1_EL1, VBAR_EL1,
  XREGS,
} from './layout';
import { asidChanged, regimeChanged, selectTables } from './mmu';
import { isPmuRegister, pmuRead, pmuSync, pmuWrite } from './pmu';
import * as K from './regs';
import { SYS_CONTEXT, SYS_OK, SYS_POLL, SYS_TRAP, SYS_TRAP_FP, SYS_UNDEFINED } from './status';
import { readCounter, readVirtualCounter, timerControl, timerUpdate } from './timer';

export * from './status';

const SCTLR_DZE_UCT_UMA_UCI: u64 = (1 << 14) | (1 << 15) | (1 << 9) | (1 << 26);
/** M, A, C, SA, SA0, UMA, I, DZE, UCT, nTWI, nTWE, WXN, SPAN, UCI. Big-endian data and AArch32 do not exist. */
const SCTLR_MASK: u64 = 0x1f | SCTLR_DZE_UCT_UMA_UCI | (1 << 12) | (1 << 16) | (1 << 18) | (1 << 19) | (1 << 23);
/** LSMAOE, nTLSMD, EIS, TSCXT, EOS, SED, ITD. */
const SCTLR_RES1: u64 = (1 << 29) | (1 << 28) | (1 << 22) | (1 << 20) | (1 << 11) | (1 << 8) | (1 << 7);
const SCTLR_UMA: u64 = 1 << 9;
const SCTLR_UCT: u64 = 1 << 15;
/** All of ARMv8.0: T0SZ..TG1, IPS, AS, TBI0, TBI1; bit 6 and the later extensions are RES0. */
const TCR_MASK: u64 = 0x77_ffff_ffbf;
const FPCR_MASK: u64 = 0x07c0_0000; // AHP, DN, FZ, RMode
const FPSR_MASK: u64 = 0x0800_009f; // QC, IDC, IXC, UFC, OFC, DZC, IOC

const MDSCR_TDCC: u64 = 1 << 12;
const MDSCR_MASK: u64 = MDSCR_SS | MDSCR_TDCC | MDSCR_KDE | MDSCR_MDE;
/** RXfull, TXfull, RXO, TXU, INTdis, HDE, ERR: an external debugger's, writable to restore them under the OS Lock. */
const MDSCR_LOCKED_MASK: u64 = (3 << 29) | (3 << 26) | (3 << 22) | (1 << 14) | (1 << 6);
/** The OS Lock is implemented. */
const OSLSR_OSLM: u64 = 8;
const BCR_MASK: u64 = 0x00ff_e1e7;
const BCR_BAS: u64 = 0x1e0; // RES1 without AArch32
const WCR_MASK: u64 = 0x1f1f_ffff;

// --- Access from EL0. ---

/** SYS_OK, or why EL0 may not access `key`. Registers of the PMU are decided in pmu.ts. */
function statusAtEl0(key: u32): u32 {
  let allowed: bool = false;
  switch (key) {
    case K.TPIDR_EL0:
    case K.TPIDRRO_EL0:
    case K.NZCV:
    case K.FPCR:
    case K.FPSR:
    case K.DCZID_EL0:
      return SYS_OK;
    case K.CNTVCT_EL0:
      allowed = (load<u32>(0, CNTKCTL_EL1) & 2) != 0;
      break;
    case K.CNTPCT_EL0:
      allowed = (load<u32>(0, CNTKCTL_EL1) & 1) != 0;
      break;
    case K.CNTFRQ_EL0:
      allowed = (load<u32>(0, CNTKCTL_EL1) & 3) != 0;
      break;
    case K.CNTV_CTL_EL0:
    case K.CNTV_CVAL_EL0:
    case K.CNTV_TVAL_EL0:
      allowed = (load<u32>(0, CNTKCTL_EL1) & 0x100) != 0;
      break;
    case K.CNTP_CTL_EL0:
    case K.CNTP_CVAL_EL0:
    case K.CNTP_TVAL_EL0:
      allowed = (load<u32>(0, CNTKCTL_EL1) & 0x200) != 0;
      break;
    case K.CTR_EL0:
      allowed = (load<u64>(0, SCTLR_EL1) & SCTLR_UCT) != 0;
      break;
    case K.DAIF:
      allowed = (load<u64>(0, SCTLR_EL1) & SCTLR_UMA) != 0;
      break;
    case K.MDCCSR_EL0:
    case K.DBGDTR_EL0:
    case K.DBGDTRRX_EL0:
      allowed = (load<u64>(0, MDSCR_EL1) & MDSCR_TDCC) == 0;
      break;
    default:
      return isPmuRegister(key) ? SYS_OK : SYS_UNDEFINED;
  }
  return allowed ? SYS_OK : SYS_TRAP;
}

// --- Registers that only keep a value. ---

/** Address of a register that reads as it is stored; 0: not one of those. */
function place(key: u32): u32 {
  switch (key) {
    case K.TPIDR_EL0: return TPIDR_EL0;
    case K.ESR_EL1: return ESR_EL1;
    case K.ELR_EL1: return ELR_EL1;
    case K.SPSR_EL1: return SPSR_EL1;
    case K.FAR_EL1: return FAR_EL1;
    case K.TPIDR_EL1: return TPIDR_EL1;
    case K.TPIDRRO_EL0: return TPIDRRO_EL0;
    case K.TTBR0_EL1: return TTBR0_EL1;
    case K.TTBR1_EL1: return TTBR1_EL1;
    case K.CNTV_CVAL_EL0: return CNTV_CVAL_EL0;
    case K.CONTEXTIDR_EL1: return CONTEXTIDR_EL1;
    case K.MDSCR_EL1: return MDSCR_EL1;
    case K.CPACR_EL1: return CPACR_EL1;
    case K.PAR_EL1: return PAR_EL1;
    case K.SCTLR_EL1: return SCTLR_EL1;
    case K.TCR_EL1: return TCR_EL1;
    case K.MAIR_EL1: return MAIR_EL1;
    case K.VBAR_EL1: return VBAR_EL1;
    case K.ACTLR_EL1: return ACTLR_EL1;
    case K.AFSR0_EL1: return AFSR0_EL1;
    case K.AFSR1_EL1: return AFSR1_EL1;
    case K.AMAIR_EL1: return AMAIR_EL1;
    case K.CNTKCTL_EL1: return CNTKCTL_EL1;
    case K.CNTP_CVAL_EL0: return CNTP_CVAL_EL0;
    case K.CSSELR_EL1: return CSSELR_EL1;
    case K.MDCCINT_EL1: return MDCCINT_EL1;
    case K.OSDTRRX_EL1: return OSDTRRX_EL1;
    case K.OSDTRTX_EL1: return OSDTRTX_EL1;
    case K.OSECCR_EL1: return OSECCR_EL1;
    case K.OSLSR_EL1: return OSLSR_EL1;
    case K.OSDLR_EL1: return OSDLR_EL1;
    case K.DBGPRCR_EL1: return DBGPRCR_EL1;
    case K.DBGCLAIMCLR_EL1: return DBGCLAIM;
    default: return breakOrWatch(key);
  }
}

/** Address of DBGBVR<n>, DBGBCR<n>, DBGWVR<n> or DBGWCR<n>_EL1, n in CRm; 0: not one of those, or not implemented. */
function breakOrWatch(key: u32): u32 {
  const n = (key - K.DBGBVR0_EL1) >> 3;
  if (key < <u32>K.DBGBVR0_EL1 || n > 15) return 0;
  switch (key & 7) {
    case 4: return n < BREAKPOINTS ? DBGBVR + (n << 3) : 0;
    case 5: return n < BREAKPOINTS ? DBGBCR + (n << 3) : 0;
    case 6: return n < WATCHPOINTS ? DBGWVR + (n << 3) : 0;
    case 7: return n < WATCHPOINTS ? DBGWCR + (n << 3) : 0;
    default: return 0;
  }
}

function isGicRegister(key: u32): bool {
  // op1 = 0 and CRn = 12, CRm = 8..12, or CRn = 4, CRm = 6.
  return load<u32>(0, GIC_SYSREGS) != 0 &&
    ((key >= <u32>K.ICC_IAR0_EL1 && key <= <u32>K.ICC_IGRPEN1_EL1) || key == K.ICC_PMR_EL1);
}

/** IRQ and FIQ lines of the current vCPU: bit 0, bit 1. */
// @ts-ignore: decorator
@inline
function interruptLines(): u32 {
  return load<u32>(load<u32>(0, CPU_ID) << 2, IRQ_LINES);
}

function undefined(key: u32, isWrite: bool): u32 {
  // EL0 could flood the log.
  if (load<u32>(0, EL) != 0) trace(load<u32>(0, CPU_ID), TRACE_SYSREG, <f64>key, <f64>u32(isWrite));
  return SYS_UNDEFINED;
}

// --- MRS. ---

/** Reads system register `key` into slot `rt` of XREGS. Returns SYS_*; `rt` is untouched unless SYS_OK. */
export function readSysreg(key: u32, rt: u32): u32 {
  if (load<u32>(0, EL) == 0) {
    const status = statusAtEl0(key);
    if (status != SYS_OK) return status;
  }
  const to = rt << 3;
  const at = place(key);
  if (at != 0) {
    store<u64>(to, load<u64>(at), XREGS);
    return SYS_OK;
  }
  let v: u64;
  switch (key) {
    case K.CNTVCT_EL0: v = readVirtualCounter(); break;
    case K.SP_EL0:
      // While SPSel is 0 it is the stack pointer itself and its register is UNDEFINED.
      if (load<u32>(0, SPSEL) == 0) return SYS_UNDEFINED;
      v = load<u64>(0, SP_EL0);
      break;
    case K.DAIF: v = <u64>load<u32>(0, DAIF); break;
    case K.NZCV: v = <u64>getNZCV() << 28; break;
    case K.CurrentEL: v = <u64>load<u32>(0, EL) << 2; break;
    case K.PAN: v = <u64>load<u32>(0, PAN) << 22; break;
    case K.SPSel: v = <u64>load<u32>(0, SPSEL); break;
    case K.FPCR:
      if (load<u32>(0, FP_ENABLED) == 0) return SYS_TRAP_FP;
      v = <u64>load<u32>(0, FPCR);
      break;
    case K.FPSR:
      if (load<u32>(0, FP_ENABLED) == 0) return SYS_TRAP_FP;
      v = <u64>load<u32>(0, FPSR);
      break;
    case K.CNTV_CTL_EL0:
      v = timerControl(load<u64>(0, CNTV_CTL_EL0), load<u64>(0, CNTV_CVAL_EL0), readVirtualCounter());
      break;
    case K.CNTV_TVAL_EL0: v = (load<u64>(0, CNTV_CVAL_EL0) - readVirtualCounter()) & 0xffff_ffff; break;
    case K.CNTPCT_EL0: v = readCounter(); break;
    case K.CNTP_CTL_EL0:
      v = timerControl(load<u64>(0, CNTP_CTL_EL0), load<u64>(0, CNTP_CVAL_EL0), readCounter());
      break;
    case K.CNTP_TVAL_EL0: v = (load<u64>(0, CNTP_CVAL_EL0) - readCounter()) & 0xffff_ffff; break;
    case K.CNTFRQ_EL0: v = <u64>load<u32>(0, CNTFRQ); break;
    case K.CTR_EL0: v = CTR; break;
    case K.DCZID_EL0: v = dczid(); break;
    case K.ISR_EL1: {
      const lines = interruptLines();
      v = <u64>(((lines & 1) << 7) | ((lines & 2) << 5));
      break;
    }
    case K.MIDR_EL1: v = MIDR; break;
    case K.MPIDR_EL1: v = mpidr(); break;
    case K.REVIDR_EL1:
    case K.AIDR_EL1: v = 0; break;
    case K.CCSIDR_EL1: v = ccsidr(); break;
    case K.CLIDR_EL1: v = CLIDR; break;
    // No debugger is attached: the debug communications channel is empty and takes everything.
    case K.MDCCSR_EL0:
    case K.DBGDTR_EL0:
    case K.DBGDTRRX_EL0:
    case K.MDRAR_EL1: v = 0; break;
    case K.DBGCLAIMSET_EL1: v = 0xff; break;
    case K.DBGAUTHSTATUS_EL1: v = 0xf; break; // Non-secure debug, invasive or not: implemented and enabled
    default:
      if (key - K.MIDR_EL1 >= 8 && key - K.MIDR_EL1 < 64) {
        v = idRegister(key);
        break;
      }
      if (isGicRegister(key)) {
        if (iccRead(load<u32>(0, CPU_ID), key) == 0) return undefined(key, false);
        v = load<u64>(0, MAILBOX);
        break;
      }
      if (isPmuRegister(key)) return pmuRead(key, to + XREGS);
      return undefined(key, false);
  }
  store<u64>(to, v, XREGS);
  return SYS_OK;
}

// --- MSR. ---

/** Writes PSTATE.DAIF; polls only if that lets something in. */
function writeDaif(daif: u32): u32 {
  const opened = load<u32>(0, DAIF) & ~daif;
  setDaif(daif);
  // An interrupt that waits, or (D, bit 9) the debug exceptions that setDaif() has switched on.
  return ((opened & 0xc0) != 0 && interruptLines() != 0) ||
    ((opened & 0x200) != 0 && (load<u32>(0, MDSCR_EL1) & <u32>(MDSCR_SS | MDSCR_MDE)) != 0)
    ? SYS_POLL : SYS_OK;
}

function writePan(v: u32): u32 {
  if (load<u32>(0, PAN) == v) return SYS_OK;
  store<u32>(0, v, PAN);
  selectTables();
  return SYS_CONTEXT;
}

/** Stores a register of the translation regime and forgets what was translated under its old value. */
function writeRegime(at: u32, value: u64): u32 {
  if (load<u64>(at) == value) return SYS_OK;
  store<u64>(at, value);
  regimeChanged();
  return SYS_CONTEXT;
}

function writeTtbr(at: u32, value: u64): u32 {
  if (load<u64>(at) == value) return SYS_OK;
  store<u64>(at, value);
  asidChanged();
  return SYS_CONTEXT;
}

function writeTimer(at: u32, value: u64): u32 {
  store<u64>(at, value);
  timerUpdate();
  return SYS_POLL;
}

/** A debug register: watchpoints need an empty TLB to see the first access. */
function writeDebug(at: u32, value: u64): u32 {
  store<u64>(at, value);
  if (!debugUpdate()) return SYS_POLL;
  regimeChanged();
  return SYS_POLL | SYS_CONTEXT;
}

function writeMdscr(value: u64): u32 {
  const mask = (load<u64>(0, OSLSR_EL1) & OSLSR_OSLK) != 0 ? MDSCR_MASK | MDSCR_LOCKED_MASK : MDSCR_MASK;
  return writeDebug(MDSCR_EL1, (load<u64>(0, MDSCR_EL1) & ~mask) | (value & mask));
}

/** Writes system register `key`. Returns SYS_OK, or'ed with SYS_CONTEXT and SYS_POLL, or an error of SYS_*. */
export function writeSysreg(key: u32, value: u64): u32 {
  if (load<u32>(0, EL) == 0) {
    if (key == K.TPIDR_EL0) {
      store<u64>(0, value, TPIDR_EL0);
      return SYS_OK;
    }
    // Read-only at EL0, or at every level: no control makes them trap.
    if (key == K.TPIDRRO_EL0 || isReadOnly(key)) return SYS_UNDEFINED;
    const status = statusAtEl0(key);
    if (status != SYS_OK) return status;
  } else if (isReadOnly(key)) return undefined(key, true);
  switch (key) {
    case K.SP_EL0:
      if (load<u32>(0, SPSEL) == 0) return SYS_UNDEFINED;
      store<u64>(0, value, SP_EL0);
      return SYS_OK;
    case K.DAIF: return writeDaif(<u32>value & 0x3c0);
    case K.NZCV:
      setNZCV(<u32>(value >> 28) & 15);
      return SYS_OK;
    case K.TTBR0_EL1: return writeTtbr(TTBR0_EL1, value);
    case K.TTBR1_EL1: return writeTtbr(TTBR1_EL1, value);
    case K.CNTV_CVAL_EL0: return writeTimer(CNTV_CVAL_EL0, value);
    case K.CNTV_CTL_EL0: return writeTimer(CNTV_CTL_EL0, value & 3);
    case K.CNTV_TVAL_EL0: return writeTimer(CNTV_CVAL_EL0, readVirtualCounter() + <u64><i64><i32>value);
    case K.CNTP_CVAL_EL0: return writeTimer(CNTP_CVAL_EL0, value);
    case K.CNTP_CTL_EL0: return writeTimer(CNTP_CTL_EL0, value & 3);
    case K.CNTP_TVAL_EL0: return writeTimer(CNTP_CVAL_EL0, readCounter() + <u64><i64><i32>value);
    case K.PAN: return writePan(<u32>(value >> 22) & 1);
    case K.SPSel:
      setSpSel(<u32>value & 1);
      return SYS_OK;
    case K.FPCR:
      if (load<u32>(0, FP_ENABLED) == 0) return SYS_TRAP_FP;
      store<u32>(0, <u32>(value & FPCR_MASK), FPCR);
      updateFp();
      return SYS_OK;
    case K.FPSR:
      if (load<u32>(0, FP_ENABLED) == 0) return SYS_TRAP_FP;
      store<u32>(0, <u32>(value & FPSR_MASK), FPSR);
      updateFp();
      return SYS_OK;
    case K.CPACR_EL1:
      store<u64>(0, value & (3 << 20), CPACR_EL1);
      updateFp();
      return SYS_OK;
    case K.SCTLR_EL1: return writeRegime(SCTLR_EL1, (value & SCTLR_MASK) | SCTLR_RES1);
    case K.TCR_EL1: return writeRegime(TCR_EL1, value & TCR_MASK);
    case K.MAIR_EL1: return writeRegime(MAIR_EL1, value);
    case K.MDSCR_EL1: return writeMdscr(value);
    case K.OSLAR_EL1: return writeDebug(OSLSR_EL1, OSLSR_OSLM | ((value & 1) << 1));
    case K.OSDLR_EL1: return writeDebug(OSDLR_EL1, value & 1);
    case K.DBGPRCR_EL1: return writeDebug(DBGPRCR_EL1, value & 1);
    case K.DBGCLAIMSET_EL1:
      store<u64>(0, load<u64>(0, DBGCLAIM) | (value & 0xff), DBGCLAIM);
      return SYS_OK;
    case K.DBGCLAIMCLR_EL1:
      store<u64>(0, load<u64>(0, DBGCLAIM) & ~value, DBGCLAIM);
      return SYS_OK;
    case K.DBGDTR_EL0:
    case K.DBGDTRRX_EL0: // as a write: DBGDTRTX_EL0
      return SYS_OK;
    default: return writeOther(key, value);
  }
}

/** Registers that MSR cannot write, which place() or a trap at EL0 would let through. */
function isReadOnly(key: u32): bool {
  switch (key) {
    case K.CNTVCT_EL0:
    case K.CNTPCT_EL0:
    case K.CNTFRQ_EL0: // belongs to EL2, which this guest does not see
    case K.CTR_EL0:
    case K.DCZID_EL0:
    case K.MDCCSR_EL0:
    case K.OSLSR_EL1:
      return true;
    default:
      return false;
  }
}

function writeOther(key: u32, value: u64): u32 {
  const debug = breakOrWatch(key);
  if (debug != 0) {
    switch (key & 7) {
      case 5: return writeDebug(debug, (value & BCR_MASK) | BCR_BAS);
      case 6: return writeDebug(debug, value & ~(<u64>3));
      case 7: return writeDebug(debug, value & WCR_MASK);
      default: return writeDebug(debug, value);
    }
  }
  const at = place(key);
  if (at != 0) {
    store<u64>(at, value & writable(key));
    return SYS_OK;
  }
  if (isGicRegister(key)) {
    store<u64>(0, value, MAILBOX);
    return iccWrite(load<u32>(0, CPU_ID), key) == 0 ? undefined(key, true) : SYS_POLL;
  }
  if (isPmuRegister(key)) return pmuWrite(key, value);
  return undefined(key, true);
}

/** The bits that are not RES0 of a register that only keeps its value. */
function writable(key: u32): u64 {
  switch (key) {
    case K.ESR_EL1:
    case K.SPSR_EL1:
    case K.CONTEXTIDR_EL1:
    case K.OSDTRRX_EL1:
    case K.OSDTRTX_EL1:
    case K.OSECCR_EL1:
      return 0xffff_ffff;
    case K.VBAR_EL1: return ~(<u64>0x7ff);
    case K.CNTKCTL_EL1: return 0x3ff;
    case K.CSSELR_EL1: return 0xf;
    case K.MDCCINT_EL1: return 3 << 29;
    // Nothing IMPLEMENTATION DEFINED is in these.
    case K.ACTLR_EL1:
    case K.AFSR0_EL1:
    case K.AFSR1_EL1:
    case K.AMAIR_EL1:
      return 0;
    default: return ~(<u64>0);
  }
}

/** MSR (immediate): `op1`, `crm` (the immediate) and `op2` as encoded. Returns as writeSysreg(). */
export function msrImmediate(op1: u32, crm: u32, op2: u32): u32 {
  const el0 = load<u32>(0, EL) == 0;
  switch ((op1 << 3) | op2) {
    case (3 << 3) | 6: // DAIFSet
      if (el0 && (load<u64>(0, SCTLR_EL1) & SCTLR_UMA) == 0) return SYS_TRAP;
      return writeDaif(load<u32>(0, DAIF) | (crm << 6));
    case (3 << 3) | 7: // DAIFClr
      if (el0 && (load<u64>(0, SCTLR_EL1) & SCTLR_UMA) == 0) return SYS_TRAP;
      return writeDaif(load<u32>(0, DAIF) & ~(crm << 6));
    case 4: // PAN
      return el0 ? SYS_UNDEFINED : writePan(crm & 1);
    case 5: // SPSel
      if (el0) return SYS_UNDEFINED;
      setSpSel(crm & 1);
      return SYS_OK;
    default:
      return SYS_UNDEFINED;
  }
}

/**
 * Sets PSTATE and the system registers of the current vCPU to their values after a warm reset into EL1 (D1.9, PSCI 1.1
 * section 6.4): MMU off, all interrupts masked, OS Lock set. Registers that reset to UNKNOWN values become 0. General
 * and vector registers, the PC and the TLB are the caller's.
 */
export function resetSysregs(): void {
  const timerLines = load<u32>(0, TIMER_LINES);
  const pmuLine = load<u32>(0, PMU_LINE);
  memory.fill(SCTLR_EL1, 0, PMU_LINE + 4 - SCTLR_EL1);
  memory.fill(PMU_ACTIVE, 0, DBGPRCR_EL1 + 8 - PMU_ACTIVE);
  store<u64>(0, SCTLR_RES1, SCTLR_EL1);
  store<u64>(0, OSLSR_OSLM | OSLSR_OSLK, OSLSR_EL1);
  store<u64>(0, mpidr(), MPIDR_EL1);
  for (let n: u32 = 0; n < BREAKPOINTS; n++) store<u64>(n << 3, BCR_BAS, DBGBCR);
  store<u64>(0, load<u64>(0, ICOUNT), PMCCNTR_BASE);
  store<u32>(0, 1, EL);
  store<u32>(0, 1, SPSEL);
  store<u32>(0, 0x3c0, DAIF);
  store<u32>(0, 0, PAN);
  store<u32>(0, 0, PSTATE_SS);
  store<u32>(0, 0, PSTATE_IL);
  store<u32>(0, 0, FPCR);
  store<u32>(0, 0, FPSR);
  store<u64>(0, 0, SP_EL0);
  store<u64>(0, 0, SP_EL1);
  store<u64>(SP_SLOT << 3, 0, XREGS);
  store<u32>(0, 0, EXCLUSIVE_SIZE);
  setNZCV(0);
  // The outputs fall, and the host hears of it.
  store<u32>(0, timerLines, TIMER_LINES);
  store<u32>(0, pmuLine, PMU_LINE);
  timerUpdate();
  pmuSync();
  updateFp();
  debugUpdate();
}
