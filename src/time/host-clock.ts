import { TimerQueue } from './timer-queue.ts';
import type { DrivenClock } from './types.ts';
import { toWall } from './wall.ts';

/** Where a host clock reads the host's time. */
export interface HostTime {
  /** Nanoseconds since any fixed moment; never goes back. */
  monotonicNs(): number;
  /** CLOCK_REALTIME in ns since 1970; may jump when the host's clock is set. */
  wallNs(): bigint;
}

/**
 * `performance.now()` is the cheapest monotonic clock of Node (some 30 ns a call against 100 ns for
 * `process.hrtime.bigint()`) and fine enough in a double. `Date.now()` follows the host when its clock is set, which
 * `performance.timeOrigin` does not, but has steps of a millisecond.
 */
const nodeTime: HostTime = {
  monotonicNs: () => performance.now() * 1e6,
  wallNs: () => BigInt(Date.now()) * 1_000_000n,
};

/** The clock of a machine that runs in the host's time; it is at `startNs` now. */
export function createHostClock(host: HostTime = nodeTime, startNs = 0): DrivenClock {
  const timers = new TimerQueue();
  let start = host.monotonicNs() - startNs;
  let held: number | undefined;
  const nowNs = () => held ?? Math.floor(host.monotonicNs() - start);
  return {
    nowNs,
    wall: () => toWall(host.wallNs()),
    at: (ns, f) => timers.at(ns, f),
    nextDeadline: () => timers.nextDeadline(),
    runDue: () => timers.runDue(nowNs()),
    hold: () => {
      held ??= nowNs();
    },
    release: () => {
      if (held === undefined) return;
      start = host.monotonicNs() - held;
      held = undefined;
    },
  };
}
