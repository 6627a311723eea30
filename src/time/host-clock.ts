import { estimatedTime } from './estimator.ts';
import { TimerQueue } from './timer-queue.ts';
import type { DrivenClock } from './types.ts';
import { toWall } from './wall.ts';

/** Wall-clock time and monotonic time of the host, both of one moment. */
export interface HostPair {
  /** CLOCK_REALTIME in ns since 1970; may jump when the host's clock is set. */
  readonly wallNs: bigint;
  /** {@link HostTime.monotonicNs} at that moment. */
  readonly monotonicNs: number;
  /** See ClockPair.errorNs. */
  readonly errorNs: number;
}

/** Where a host clock reads the host's time. */
export interface HostTime {
  readonly source: 'native' | 'estimated';
  /** Nanoseconds since any fixed moment; never goes back. */
  monotonicNs(): number;
  /** Both clocks at one moment during the call. */
  pair(): HostPair;
}

/** The clock of a machine that runs in the host's time; it is at `startNs` now. */
export function createHostClock(host: HostTime = estimatedTime(), startNs = 0): DrivenClock {
  const timers = new TimerQueue();
  let start = host.monotonicNs() - startNs;
  let held: number | undefined;
  const at = (monotonicNs: number) => held ?? Math.floor(monotonicNs - start);
  const nowNs = () => at(host.monotonicNs());
  return {
    source: host.source,
    nowNs,
    wall: () => toWall(host.pair().wallNs),
    pair: () => {
      const { wallNs, monotonicNs, errorNs } = host.pair();
      return { wallNs, ns: at(monotonicNs), errorNs };
    },
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
