/** The generic timer (DDI 0487 chapter D11). */

/** The physical counter, in ticks of CNTFRQ. GLOBAL_ICOUNT must be up to date. */
export function readCounter(): u64 {
  return 0;
}

/** Recomputes both timers' outputs of the current vCPU, tells the host when they change, and returns them. */
export function timerUpdate(): u32 {
  return 0;
}

/** Physical counter value at which the next output of the current vCPU rises; u64.MAX_VALUE: none is armed. */
export function timerDeadline(): u64 {
  return u64.MAX_VALUE;
}
