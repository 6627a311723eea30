import { TimerQueue } from './timer-queue.ts';
import type { VirtualClock } from './types.ts';
import { toWall } from './wall.ts';

/**
 * The clock of a deterministic run: it starts at 0 and moves only through `advanceTo`. Its wall clock shows
 * `startWall` (ns since 1970) plus the virtual time, whatever the host's clocks do.
 */
export function createVirtualClock(options: { readonly startWall: bigint }): VirtualClock {
  const timers = new TimerQueue();
  let now = 0;
  const wallNs = () => options.startWall + BigInt(Math.floor(now));
  return {
    source: 'virtual',
    nowNs: () => now,
    pair: () => ({ wallNs: wallNs(), ns: now, errorNs: 0 }),
    wall: () => toWall(wallNs()),
    at: (ns, f) => timers.at(ns, f),
    nextDeadline: () => timers.nextDeadline(),
    runDue: () => timers.runDue(now),
    // Time passes with the guest only, and a guest that is held does not run.
    hold: () => undefined,
    release: () => undefined,
    advanceTo(ns) {
      if (ns > now && ns < Number.POSITIVE_INFINITY) now = ns;
    },
  };
}
