import { uptime } from 'node:os';

/**
 * How long the host has been suspended, ns, beside a constant of this thread. On Linux: its uptime (CLOCK_BOOTTIME) goes on then,
 * and CLOCK_MONOTONIC, which the clocks of machines come from, does not. Elsewhere no difference need show.
 *
 * Fine to some 10 ms, and dear (30 us, a file of /proc): for once a second.
 */
export function hostSleepNs(): number {
  return uptime() * 1e9 - performance.now() * 1e6;
}
