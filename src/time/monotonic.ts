/**
 * The cheapest monotonic clock of Node (some 30 ns a call against 100 ns for `process.hrtime.bigint()`), fine enough in a
 * double: both read CLOCK_MONOTONIC, this one less the thread's time origin.
 */
export function performanceNs(): number {
  return performance.now() * 1e6;
}
