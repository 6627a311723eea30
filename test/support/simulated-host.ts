import type { CoarseClocks } from '../../src/time/estimator.ts';

/** Wall-clock time at which a simulated host starts, ns since 1970. */
const EPOCH = 1_700_000_000_123_456_789n;

/** How the clocks of a simulated host behave. */
export interface SimulatedClocks {
  /** What reading a clock takes, ns, and what it takes the more when the host is busy: a fraction of the readings. */
  readonly readNs: number;
  readonly gapNs: number;
  readonly gaps: number;
  /** Of the pseudo-random numbers by which readings are spread and interrupted. */
  readonly seed: number;
}

/** A host whose clocks go on only by being read and by {@link advance}; what realtime is in truth it knows to the ns. */
export class SimulatedHost implements CoarseClocks {
  /** What realtime gains on the monotonic clock, a fraction. */
  drift = 0;
  /** How many times a clock was read. */
  readings = 0;
  /** At the last reading of the monotonic clock: that clock, and what realtime was, ns from {@link realNs}'s 0. */
  last = { monotonicNs: 0, realNs: 0 };
  #monotonic: number;
  #stepped = 0;
  #drifted = 0;
  #state: number;
  readonly #clocks: SimulatedClocks;

  constructor(clocks: Partial<SimulatedClocks> = {}, monotonicNs = 5e9) {
    this.#clocks = { readNs: 50, gapNs: 0, gaps: 0, seed: 1, ...clocks };
    this.#monotonic = monotonicNs;
    this.#state = this.#clocks.seed | 1;
  }

  /** Realtime of a pair, ns from the same moment as {@link last}'s. */
  static realNs(wallNs: bigint): number {
    return Number(wallNs - EPOCH);
  }

  advance(ns: number): void {
    this.#monotonic += Math.round(ns);
    this.#drifted += Math.round(ns) * this.drift;
  }

  /** Somebody sets the clock; or the host sleeps, for so long. */
  step(ns: number): void {
    this.#stepped += ns;
  }

  monotonicNs = (): number => {
    this.#reading();
    const now = this.#monotonic;
    this.last = { monotonicNs: now, realNs: now + this.#stepped + this.#drifted };
    this.#reading();
    return now;
  };

  wallMs = (): number => {
    this.#reading();
    const ns = EPOCH + BigInt(Math.floor(this.#monotonic + this.#stepped + this.#drifted));
    this.#reading();
    return Number(ns / 1_000_000n);
  };

  /** What native code reads: its monotonic clock is `origin` ahead. */
  pair(into: BigInt64Array, origin: bigint): void {
    const before = this.monotonicNs();
    this.#reading();
    into[1] = EPOCH + BigInt(Math.floor(this.#monotonic + this.#stepped + this.#drifted));
    this.#reading();
    const width = BigInt(this.monotonicNs() - before);
    into[0] = BigInt(before) + width / 2n + origin;
    into[2] = width;
  }

  /** Half of what a reading takes. */
  #reading(): void {
    this.readings += 0.5;
    const { readNs, gapNs, gaps } = this.#clocks;
    this.advance(readNs * (0.25 + this.#random() / 2));
    if (gaps > 0 && this.#random() < gaps) this.advance(gapNs * this.#random());
  }

  /** xorshift32, in [0, 1). */
  #random(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) / 2 ** 32;
  }
}
