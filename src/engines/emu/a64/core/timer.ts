/**
 * The generic timer (DDI 0487 chapter D11): the counter, and the virtual and physical timers of EL1.
 *
 * The event stream (CNTKCTL_EL1.EVNTEN) is approximate: WFE never outlasts the run loop's slice, so a waiter is woken
 * at least as often as the stream would, which D1.6.1 permits ("WFE can complete for any reason").
 */
import { counter, setTimerLines } from './host';
import {
  CLOCK_SKEW, CLOCK_VIRTUAL, CNTFRQ, CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTVOFF, CNTV_CTL_EL0, CNTV_CVAL_EL0, CPU_ID,
  GLOBAL_ICOUNT, TIMER_LINES,
} from './layout';

export const CTL_ENABLE: u64 = 1;
export const CTL_IMASK: u64 = 2;
export const CTL_ISTATUS: u64 = 4;

const NS_PER_S: u64 = 1_000_000_000;

/** The physical counter, in ticks of CNTFRQ. With CLOCK_VIRTUAL, GLOBAL_ICOUNT must be up to date. */
export function readCounter(): u64 {
  if (load<u32>(0, CLOCK_VIRTUAL) == 0) return <u64>counter();
  // One instruction is one nanosecond. Whole seconds apart, so that the product stays below 2^62: exact and monotonic.
  const ns = load<u64>(0, GLOBAL_ICOUNT);
  const hz = <u64>load<u32>(0, CNTFRQ);
  return (ns / NS_PER_S) * hz + ((ns % NS_PER_S) * hz) / NS_PER_S + load<u64>(0, CLOCK_SKEW);
}

/** With CLOCK_VIRTUAL: instructions until readCounter() reaches `count`; 0: it has, u64.MAX_VALUE: never. */
export function instructionsUntil(count: u64): u64 {
  if (count == u64.MAX_VALUE) return count;
  const skew = load<u64>(0, CLOCK_SKEW);
  if (count <= skew) return 0;
  const hz = <u64>load<u32>(0, CNTFRQ);
  const ticks = count - skew;
  // Beyond 2^62 ns the product below would wrap; nobody waits that long.
  if (ticks / hz >= 4_000_000_000) return u64.MAX_VALUE;
  const ns = (ticks / hz) * NS_PER_S + ((ticks % hz) * NS_PER_S + hz - 1) / hz;
  const now = load<u64>(0, GLOBAL_ICOUNT);
  return ns > now ? ns - now : 0;
}

/** CNTVCT_EL0. */
export function readVirtualCounter(): u64 {
  return readCounter() - load<u64>(0, CNTVOFF);
}

/** A timer's control register as it reads: ISTATUS is the condition now, whether or not it is masked. */
export function timerControl(ctl: u64, cval: u64, now: u64): u64 {
  return (ctl & CTL_ENABLE) != 0 && now >= cval ? ctl | CTL_ISTATUS : ctl;
}

/** 1 while a timer's output is asserted. */
// @ts-ignore: decorator
@inline
function output(ctl: u64, cval: u64, now: u64): u32 {
  return u32((ctl & (CTL_ENABLE | CTL_IMASK)) == CTL_ENABLE && now >= cval);
}

/**
 * Recomputes both timers' outputs of the current vCPU, tells the host when they change, and returns them: bit 0
 * virtual, bit 1 physical. Call when a slice starts, when timerDeadline() is reached and after a write of a timer.
 */
export function timerUpdate(): u32 {
  const v = load<u64>(0, CNTV_CTL_EL0);
  const p = load<u64>(0, CNTP_CTL_EL0);
  let lines: u32 = 0;
  if (((v | p) & CTL_ENABLE) != 0) {
    const now = readCounter();
    lines = output(v, load<u64>(0, CNTV_CVAL_EL0), now - load<u64>(0, CNTVOFF)) |
      (output(p, load<u64>(0, CNTP_CVAL_EL0), now) << 1);
  }
  if (lines != load<u32>(0, TIMER_LINES)) {
    store<u32>(0, lines, TIMER_LINES);
    setTimerLines(load<u32>(0, CPU_ID), lines);
  }
  return lines;
}

/**
 * Physical counter value at which the next output of the current vCPU rises; u64.MAX_VALUE: none is armed. An output
 * that timerUpdate() has reported as asserted does not count, one whose time has passed since then does.
 */
export function timerDeadline(): u64 {
  const lines = load<u32>(0, TIMER_LINES);
  let deadline: u64 = u64.MAX_VALUE;
  if ((load<u64>(0, CNTV_CTL_EL0) & (CTL_ENABLE | CTL_IMASK)) == CTL_ENABLE && (lines & 1) == 0) {
    const offset = load<u64>(0, CNTVOFF);
    const at = load<u64>(0, CNTV_CVAL_EL0) + offset;
    // A sum that wraps lies beyond the end of the counter.
    if (<i64>offset < 0 || at >= offset) deadline = at;
  }
  if ((load<u64>(0, CNTP_CTL_EL0) & (CTL_ENABLE | CTL_IMASK)) == CTL_ENABLE && (lines & 2) == 0) {
    const at = load<u64>(0, CNTP_CVAL_EL0);
    if (at < deadline) deadline = at;
  }
  return deadline;
}
