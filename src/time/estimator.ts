import { Bounds } from './bounds.ts';
import type { HostPair, HostTime } from './host-clock.ts';
import { performanceNs } from './monotonic.ts';

/** The clocks that an estimator looks at. */
export interface CoarseClocks {
  /** ns since any moment, a double; never goes back. */
  monotonicNs(): number;
  /** Wall-clock time in whole milliseconds since 1970, rounded down, as Date.now() gives it. */
  wallMs(): number;
}

const MS = 1e6;
/** How long an edge of the wall clock is good, ns: a small step of the host's clock is noticed within that time. */
const EDGE_AGE = 250 * MS;
/** Bounds as narrow as this need no further edge, ns on either side. An edge that nobody interrupts gives some 100. */
const GOOD = 2000;
/** Edges that are waited for in one call at most. */
const EDGES = 4;
/** Longest wait for an edge, ns; by then a clock of 1 ms steps has come to one, or is not running. */
const EDGE_WAIT = 1.1 * MS;
/** The same in looks, for clocks that both stand (a test may have replaced them). */
const EDGE_LOOKS = 1e5;

/**
 * How fast realtime and the monotonic clock may drift apart. The kernel's clock discipline changes a clock's rate by 500 ppm at most
 * (Linux, include/linux/timex.h: MAXFREQ). On Linux it changes the rate of both alike: CLOCK_REALTIME is CLOCK_MONOTONIC and an offset
 * that only steps change (kernel/time/timekeeping.c: wall_to_monotonic); 1 ppm is for systems that imitate it. A clock that drifts
 * faster counts as stepped.
 */
const MAX_DRIFT = process.platform === 'linux' ? 1e-6 : 500e-6;
/** How fast the estimate goes to the middle of its bounds: faster than any drift. */
const MAX_SLOPE = 1000e-6;

/**
 * The host's time in TypeScript alone (specification of ptp, ACC-3). Date.now() has steps of a millisecond, but each look at it between
 * two of the monotonic clock bounds what realtime is ahead of that clock: it is d ms or more, and less than d + 1 ms, at one moment between
 * the two. Looks just before and just after a step of Date.now(), an edge, bound it to the time that they took. So pair() waits for
 * an edge, up to 1.1 ms, when the last one is older than 250 ms, and for some at first.
 *
 * The bounds of all looks are intersected, the older ones widened by what the clocks may have drifted apart since: each look matters until
 * newer ones are better, which is a window that slides by itself. A look that contradicts them tells that the host's clock was
 * set, or that the host slept (CLOCK_MONOTONIC stands then); all starts anew from that look, at once. Steps of more than 1 ms are seen by
 * the next call, smaller ones by the next edge. Between steps the estimate has no jumps: it goes to the middle of the bounds by a limited slope.
 */
export function estimatedTime(clocks: CoarseClocks = nodeClocks, maxDrift = MAX_DRIFT): HostTime {
  const estimator = new Estimator(clocks, maxDrift);
  return { source: 'estimated', monotonicNs: clocks.monotonicNs, pair: () => estimator.pair() };
}

const nodeClocks: CoarseClocks = { monotonicNs: performanceNs, wallMs: () => Date.now() };

class Estimator {
  readonly #clocks: CoarseClocks;
  readonly #maxDrift: number;
  /** Where all began (anew), by each clock. Of differences from there a double holds parts of a ns, of those from 1970 it does not. */
  #epochMs = 0;
  #epochNow = 0;
  /** Of what realtime has gone more since then than the monotonic clock, ns; as of #now. */
  #bounds = new Bounds();
  /** The last reading of each clock. */
  #now = 0;
  #ms = 0;
  #edgeAt = Number.NEGATIVE_INFINITY;
  /** The estimate of the same at #followedAt; NaN: there is none, or a step has made it void. */
  #offset = Number.NaN;
  #followedAt = 0;

  constructor(clocks: CoarseClocks, maxDrift: number) {
    this.#clocks = clocks;
    this.#maxDrift = maxDrift;
    const before = clocks.monotonicNs();
    this.#startAnew(clocks.wallMs(), before, clocks.monotonicNs());
  }

  pair(): HostPair {
    this.#look(this.#clocks.monotonicNs());
    if (this.#now - this.#edgeAt > EDGE_AGE) this.#seekEdges();
    this.#follow();
    return {
      wallNs: BigInt(this.#epochMs) * 1_000_000n + BigInt(Math.floor(this.#now - this.#epochNow + this.#offset)),
      monotonicNs: this.#now,
      // And 1 ns for what was rounded.
      errorNs: Math.max(this.#bounds.high - this.#offset, this.#offset - this.#bounds.low) + 1,
    };
  }

  /** Looks at Date.now() once. `before`: the monotonic clock, read just before. */
  #look(before: number): void {
    const ms = this.#clocks.wallMs();
    const after = this.#clocks.monotonicNs();
    const wall = (ms - this.#epochMs) * MS;
    const low = wall - (after - this.#epochNow);
    // The clock may have been read right after `before`, and drifted since.
    const high = wall + MS - (before - this.#epochNow) + (after - before) * this.#maxDrift;
    this.#bounds.widen((after - this.#now) * this.#maxDrift);
    if (!this.#bounds.narrow(low, high)) this.#startAnew(ms, before, after);
    this.#ms = ms;
    this.#now = after;
  }

  #startAnew(ms: number, before: number, after: number): void {
    this.#epochMs = ms;
    this.#epochNow = after;
    this.#bounds = new Bounds();
    this.#bounds.narrow(0, MS + (after - before) * (1 + this.#maxDrift));
    this.#ms = ms;
    this.#now = after;
    this.#edgeAt = Number.NEGATIVE_INFINITY;
    this.#offset = Number.NaN;
  }

  #seekEdges(): void {
    for (let n = 0; n < EDGES; n++) {
      this.#seekEdge();
      if (this.#bounds.halfWidth <= GOOD) break;
    }
    this.#edgeAt = this.#now;
  }

  /** Looks until Date.now() changes. */
  #seekEdge(): void {
    const ms = this.#ms;
    const end = this.#now + EDGE_WAIT;
    for (let n = 0; n < EDGE_LOOKS && this.#ms === ms && this.#now < end; n++) this.#look(this.#now);
  }

  #follow(): void {
    const { middle } = this.#bounds;
    const most = (this.#now - this.#followedAt) * MAX_SLOPE;
    if (Number.isNaN(this.#offset)) this.#offset = middle;
    else this.#offset += Math.min(Math.max(middle - this.#offset, -most), most);
    this.#followedAt = this.#now;
  }
}
