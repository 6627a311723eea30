import { Bounds } from './bounds.ts';
import type { HostTime } from './host-clock.ts';
import { performanceNs } from './monotonic.ts';

/**
 * Reads two clocks of the host at one moment and stores, in ns: [0] a monotonic clock, [1] CLOCK_REALTIME since 1970, [2] the width of
 * the bracket: [0] is its middle, and [1] was read somewhere in it.
 */
export type ReadClocks = (into: BigInt64Array) => void;

/** Readings at creation, some 0.3 ms; every later one may still narrow the bounds. */
const FIRST_READINGS = 50;

/**
 * The host's time from native code (specification of ptp, ACC-2). The machine's counters go on reading `monotonicNs`, which is cheaper
 * than any call of native code. What it is behind the native clock, the thread's time origin, is read nowhere to the ns; but
 * every native reading lies between two of `monotonicNs`, which bounds it. What these bounds leave open, some 300 ns at first and 100
 * when V8 has optimized the caller, is part of errorNs.
 *
 * @param read whose monotonic clock runs as `monotonicNs` does.
 * @param monotonicNs ns since any moment; the default is the clock of `performance.now()`.
 */
export function nativeTime(read: ReadClocks, monotonicNs: () => number = performanceNs): HostTime {
  const into = new BigInt64Array(3);
  const origin = new Bounds();
  read(into);
  // As a difference the native clock fits a double, whatever the host's uptime.
  const base = into[0]!;

  const pair = () => {
    const before = monotonicNs();
    read(into);
    const after = monotonicNs();
    const native = Number(into[0]! - base);
    const half = Number(into[2]!) / 2;
    // Both ends of the bracket are readings. Two clocks that run alike cannot contradict these bounds; were they to, the newest
    // reading would count.
    origin.narrow(native + half - after, native - half - before);
    return {
      wallNs: into[1]!,
      // Within [before, after], as these are among the bounds.
      monotonicNs: native - origin.middle,
      // And 1 ns for what was rounded.
      errorNs: half + origin.halfWidth + 1,
    };
  };

  for (let n = 0; n < FIRST_READINGS; n++) pair();
  return { source: 'native', monotonicNs, pair };
}
