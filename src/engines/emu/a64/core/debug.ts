/** Self-hosted debug: breakpoints, watchpoints and software step (DDI 0487 chapter D2). */

/**
 * Recomputes DEBUG_ACTIVE and WATCH_ACTIVE. Call after every change of the level, PSTATE.D or a debug register;
 * writeSysreg() and msrImmediate() have done so. Returns whether WATCH_ACTIVE changed.
 */
export function debugUpdate(): bool {
  return false;
}

/** Whether the instruction at `pc` takes a Breakpoint exception. Ask after its fetch was translated without a fault. */
export function checkBreakpoint(pc: u64): bool {
  return false;
}

/**
 * Whether an access takes a Watchpoint exception. Ask after it was translated without a fault. `user`: LDTR, STTR.
 */
export function checkWatchpoint(va: u64, size: u32, isWrite: bool, user: bool = false): bool {
  return false;
}

/** Software step is active: MDSCR_EL1.SS is set and debug exceptions are enabled from this level. */
export function stepActive(): bool {
  return false;
}

/** Active-pending: the Software Step exception comes before the next instruction. */
export function stepPending(): bool {
  return false;
}

/** SSAdvance(): call when an instruction has completed, and before SVC or HVC builds SPSR_EL1. */
export function stepAdvance(): void {}

/** DebugExceptionReturnSS(): the PSTATE.SS that ERET sets from `spsr`. Call before the level changes. */
export function exceptionReturnSS(spsr: u64): u32 {
  return 0;
}
