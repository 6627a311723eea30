/** Where a machine takes its time from: the host's clocks, or the virtual clock of a deterministic run. */
export interface Clock {
  /** Monotonic nanoseconds since the machine was created. A double: exact below 2^53 ns (104 days), rounded to 2 ns beyond. */
  nowNs(): number;
  /** Wall-clock time (CLOCK_REALTIME) in whole seconds and nanoseconds since 1970. */
  wall(): { readonly sec: bigint; readonly nsec: number };
  /** Calls `f` once when nowNs() reaches `ns`; disposing the result cancels it. Callbacks run in time order. */
  at(ns: number, f: () => void): Disposable;
}
