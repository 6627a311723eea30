import type { HostTime } from '../../src/time/host-clock.ts';

/** A host whose clocks show what a test says. */
export function hostTime(monotonicNs: () => number, wallNs: () => bigint): HostTime {
  return {
    source: 'native',
    monotonicNs,
    pair: () => ({ monotonicNs: monotonicNs(), wallNs: wallNs(), errorNs: 0 }),
  };
}
