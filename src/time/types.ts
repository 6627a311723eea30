/** Where a machine takes its time from: the host's clocks, or the virtual clock of a deterministic run. */
export interface Clock {
  /** Monotonic nanoseconds since the machine was created. A double: exact below 2^53 ns (104 days), rounded to 2 ns beyond. */
  nowNs(): number;
  /** Wall-clock time (CLOCK_REALTIME) in whole seconds and nanoseconds since 1970. */
  wall(): { readonly sec: bigint; readonly nsec: number };
  /** Calls `f` once when nowNs() reaches `ns`; disposing the result cancels it. Callbacks run in time order. */
  at(ns: number, f: () => void): Disposable;
}

/** A clock as its machine drives it: timers run only when the machine says so, between two steps of the engine. */
export interface DrivenClock extends Clock {
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
