/** Where a machine takes its time from: the host's clocks, or the virtual clock of a deterministic run. */
export interface Clock {
  /** Monotonic nanoseconds since the machine was created. A double: exact below 2^53 ns (104 days), rounded to 2 ns beyond. */
  nowNs(): number;
  /** Wall-clock time (CLOCK_REALTIME) in whole seconds and nanoseconds since 1970. */
  wall(): { readonly sec: bigint; readonly nsec: number };
  /** Calls `f` once when nowNs() reaches `ns`; disposing the result cancels it. Callbacks run in time order. */
  at(ns: number, f: () => void): Disposable;
}

/** Wall-clock time and a machine's own time, both of one moment. */
export interface ClockPair {
  /** CLOCK_REALTIME, ns since 1970. */
  readonly wallNs: bigint;
  /** {@link Clock.nowNs} at that moment. */
  readonly ns: number;
  /** By how much the two may miss each other at most, ns: half of the time that it took to read both, or what an estimate leaves open. */
  readonly errorNs: number;
}

/** Wall-clock time and an arm64 guest's counter, both of one moment; 64 bits each. */
export interface CounterPair {
  /** CLOCK_REALTIME, ns since 1970, at the moment when the counter came to this value. */
  readonly wallNs: bigint;
  /** What the guest reads as CNTPCT_EL0. */
  readonly physical: bigint;
  /** What the guest reads as CNTVCT_EL0: the physical counter less CNTVOFF_EL2. */
  readonly virtual: bigint;
  /** See {@link ClockPair.errorNs}. */
  readonly errorNs: number;
}

/**
 * Where wall-clock time comes from: read by native code together with the monotonic clock, estimated in TypeScript (ACC-3), or made
 * up by a virtual clock.
 */
export type ClockSource = 'native' | 'estimated' | 'virtual';

/** A clock as its machine drives it: timers run only when the machine says so, between two steps of the engine. */
export interface DrivenClock extends Clock {
  readonly source: ClockSource;
  /** Both clocks at one moment during the call. While the clock is held, `ns` stands and `wallNs` does not. */
  pair(): ClockPair;
  /** Time of the next timer in ns; Infinity without one. */
  nextDeadline(): number;
  /** Runs the timers that are due, in time order. */
  runDue(): void;
  /** nowNs() stands from here until {@link release}; wall() goes on. */
  hold(): void;
  release(): void;
}

/** A clock that stands still until its engine moves it: time as a function of the guest's own progress. */
export interface VirtualClock extends DrivenClock {
  /** Moves the time on to `ns`, or leaves it where it is when that is in the past. Runs no timer. */
  advanceTo(ns: number): void;
}
