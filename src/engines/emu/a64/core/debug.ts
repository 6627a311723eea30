/**
 * Self-hosted debug from EL1: breakpoints, watchpoints and software step (DDI 0487 chapter D2 and its pseudocode). The
 * PE is Non-secure, without EL2 and EL3. Where the architecture is CONSTRAINED UNPREDICTABLE, a reserved setting
 * disables its breakpoint or watchpoint.
 */
import { BREAKPOINTS, CONTEXT_BREAKPOINTS, WATCHPOINTS } from './idregs';
import {
  CONTEXTIDR_EL1, DAIF, DBGBCR, DBGBVR, DBGPRCR_EL1, DBGWCR, DBGWVR, DEBUG_ACTIVE, EL, MDSCR_EL1, OSDLR_EL1,
  OSLSR_EL1, PSTATE_SS, WATCH_ACTIVE,
} from './layout';

export const MDSCR_SS: u64 = 1;
export const MDSCR_KDE: u64 = 1 << 13;
export const MDSCR_MDE: u64 = 1 << 15;
export const OSLSR_OSLK: u64 = 2;

/** Breakpoint types, DBGBCR<n>_EL1.BT. */
const BT_ADDRESS: u32 = 0;
const BT_LINKED_ADDRESS: u32 = 1;
const BT_CONTEXT: u32 = 2;
const BT_LINKED_CONTEXT: u32 = 3;

/** Address bits that are compared: bits 63..49 of DBGBVR and DBGWVR copy bit 48, and so do those of a valid address. */
const VA_MASK: u64 = (1 << 49) - 1;

/** The OS Lock, or DoubleLockStatus(). */
function debugLocked(): bool {
  return (load<u64>(0, OSLSR_EL1) & OSLSR_OSLK) != 0 ||
    ((load<u64>(0, OSDLR_EL1) & 1) != 0 && (load<u64>(0, DBGPRCR_EL1) & 1) == 0);
}

/** AArch64.GenerateDebugExceptionsFrom(): whether debug exceptions other than BRK are taken from level `el`. */
function debugEnabledFrom(el: u32, masked: bool): bool {
  if (debugLocked()) return false;
  return el == 0 || ((load<u64>(0, MDSCR_EL1) & MDSCR_KDE) != 0 && !masked);
}

function debugEnabled(): bool {
  return debugEnabledFrom(load<u32>(0, EL), (load<u32>(0, DAIF) & 0x200) != 0);
}

/**
 * Recomputes DEBUG_ACTIVE and WATCH_ACTIVE. Call after every change of the level, PSTATE.D or PSTATE.SS;
 * writeSysreg() and msrImmediate() do so themselves. Returns whether WATCH_ACTIVE changed, which only a write of a
 * debug register can do: it holds at all levels while a watchpoint may hit at one, so that no TLB entry made at another
 * level hides an access. checkWatchpoint() has the last word.
 */
export function debugUpdate(): bool {
  const mdscr = load<u64>(0, MDSCR_EL1);
  let active: u32 = 0;
  let watch: u32 = 0;
  if ((mdscr & (MDSCR_SS | MDSCR_MDE)) != 0) {
    const enabled = debugEnabled();
    // PSTATE.SS alone is enough: SSAdvance() clears it even where no exception can follow.
    if ((mdscr & MDSCR_SS) != 0 && (enabled || load<u32>(0, PSTATE_SS) != 0)) active = 1;
    if ((mdscr & MDSCR_MDE) != 0) {
      if (enabled) for (let n: u32 = 0; n < BREAKPOINTS; n++) active |= load<u32>(n << 3, DBGBCR) & 1;
      if (!debugLocked()) for (let n: u32 = 0; n < WATCHPOINTS; n++) watch |= load<u32>(n << 3, DBGWCR) & 1;
    }
  }
  store<u32>(0, active, DEBUG_ACTIVE);
  if (watch == load<u32>(0, WATCH_ACTIVE)) return false;
  store<u32>(0, watch, WATCH_ACTIVE);
  return true;
}

// --- Breakpoints and watchpoints (D2.8, D2.9). ---

/** Whether the context-aware breakpoint `n`, which another links to, matches. */
function linkedContextMatches(n: u32): bool {
  if (n >= BREAKPOINTS || n < BREAKPOINTS - CONTEXT_BREAKPOINTS) return false;
  const bcr = load<u32>(n << 3, DBGBCR);
  return (bcr & 1) != 0 && ((bcr >> 20) & 15) == BT_LINKED_CONTEXT &&
    load<u32>(n << 3, DBGBVR) == load<u32>(0, CONTEXTIDR_EL1);
}

/** AArch64.StateMatch() but for the link: HMC, SSC and PMC or PAC lie alike in DBGBCR and DBGWCR. */
function stateMatches(cr: u32, el: u32): bool {
  const ssc = (cr >> 14) & 3;
  // 10: Secure only; 11 needs HMC.
  if (ssc == 2 || (ssc == 3 && (cr & (1 << 13)) == 0)) return false;
  return ((cr >> (el == 0 ? 2 : 1)) & 1) != 0;
}

/**
 * Whether the instruction at `pc` takes a Breakpoint exception. Ask after its fetch was translated without a fault,
 * which comes first (D1.3.5.3). DBGBCR.BAS is RES1 without AArch32.
 */
export function checkBreakpoint(pc: u64): bool {
  if ((load<u64>(0, MDSCR_EL1) & MDSCR_MDE) == 0 || !debugEnabled()) return false;
  const el = load<u32>(0, EL);
  for (let n: u32 = 0; n < BREAKPOINTS; n++) {
    const bcr = load<u32>(n << 3, DBGBCR);
    if ((bcr & 1) == 0 || !stateMatches(bcr, el)) continue;
    const type = (bcr >> 20) & 15;
    let match: bool = false;
    if (type <= BT_LINKED_ADDRESS) {
      match = ((load<u64>(n << 3, DBGBVR) ^ pc) & VA_MASK & ~(<u64>3)) == 0 &&
        (type == BT_ADDRESS || linkedContextMatches((bcr >> 16) & 15));
    } else if (type == BT_CONTEXT && n >= BREAKPOINTS - CONTEXT_BREAKPOINTS) {
      match = load<u32>(n << 3, DBGBVR) == load<u32>(0, CONTEXTIDR_EL1);
    }
    if (match) return true;
  }
  return false;
}

/** The first byte of the last access for which checkWatchpoint() was true that its watchpoint covers: for FAR_EL1. */
export let watchAddress: u64 = 0;

/** AArch64.WatchpointByteMatch() for any byte of an access. */
function watchpointCovers(wvr: u64, wcr: u32, va: u64, size: u32): bool {
  let bas = (wcr >> 5) & 0xff;
  const mask = (wcr >> 24) & 31;
  let bottom: u64 = (wvr & 4) != 0 ? 2 : 3;
  if (mask != 0) {
    if (mask < 3 || bas != 0xff) return false; // reserved
    bottom = <u64>mask;
  } else if (bottom == 2) {
    bas &= 15;
  }
  const inside: u64 = (<u64>1 << bottom) - 1;
  for (let i: u32 = 0; i < size; i++) {
    const byte = va + i;
    if (((byte ^ wvr) & VA_MASK & ~inside) == 0 && (mask != 0 || ((bas >> <u32>(byte & inside)) & 1) != 0)) {
      watchAddress = byte;
      return true;
    }
  }
  return false;
}

/**
 * Whether an access of `size` bytes at `va` takes a Watchpoint exception. Ask after it was translated without a
 * fault, which comes first. `user`: LDTR and STTR, which count as accesses from EL0. An atomic read-modify-write asks
 * as a read and as a write.
 */
export function checkWatchpoint(va: u64, size: u32, isWrite: bool, user: bool): bool {
  if ((load<u64>(0, MDSCR_EL1) & MDSCR_MDE) == 0 || !debugEnabled()) return false;
  const el = user ? 0 : load<u32>(0, EL);
  for (let n: u32 = 0; n < WATCHPOINTS; n++) {
    const wcr = load<u32>(n << 3, DBGWCR);
    if ((wcr & 1) == 0 || (wcr & (isWrite ? 1 << 4 : 1 << 3)) == 0 || !stateMatches(wcr, el)) continue;
    if (!watchpointCovers(load<u64>(n << 3, DBGWVR), wcr, va, size)) continue;
    if ((wcr & (1 << 20)) == 0 || linkedContextMatches((wcr >> 16) & 15)) return true;
  }
  return false;
}

// --- Software step (D2.10): inactive, active-not-pending (PSTATE.SS = 1) or active-pending (PSTATE.SS = 0). ---

/** Software step is active: MDSCR_EL1.SS is set and debug exceptions are enabled from this level. */
export function stepActive(): bool {
  return (load<u64>(0, MDSCR_EL1) & MDSCR_SS) != 0 && debugEnabled();
}

/** CheckSoftwareStep(): the Software Step exception comes before the next instruction, and before its fetch. */
export function stepPending(): bool {
  return load<u32>(0, PSTATE_SS) == 0 && stepActive();
}

/** SSAdvance(): call when an instruction has completed, and before SVC or HVC builds SPSR_EL1. */
export function stepAdvance(): void {
  if ((load<u64>(0, MDSCR_EL1) & MDSCR_SS) != 0) store<u32>(0, 0, PSTATE_SS);
}

/**
 * DebugExceptionReturnSS(): the PSTATE.SS that ERET sets from `spsr`. Call it before the level or PSTATE.D changes; an
 * illegal return stays at its level, which must be EL1.
 */
export function exceptionReturnSS(spsr: u64): u32 {
  if ((load<u64>(0, MDSCR_EL1) & MDSCR_SS) == 0 || debugEnabled()) return 0;
  return debugEnabledFrom(u32((spsr & 0x1f) != 0), (spsr & 0x200) != 0) ? u32(spsr >> 21) & 1 : 0;
}
