import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createHostClock, type HostTime } from '../time/host-clock.ts';
import { clockOffset } from './clock-info.ts';

const START = 1_700_000_000_000_000_000n;

/** A host whose two clocks a test sets. */
function simulatedHost() {
  const host = { wallNs: START, now: 5e9 };
  const time: HostTime = {
    source: 'native',
    monotonicNs: () => host.now,
    pair: () => ({ wallNs: host.wallNs, monotonicNs: host.now, errorNs: 40 }),
  };
  const pass = (ns: number) => {
    host.wallNs += BigInt(ns);
    host.now += ns;
  };
  return { host, pass, clock: createHostClock(time) };
}

describe('how far a guest is late', () => {
  test('not at all while both clocks run alike', () => {
    const { pass, clock } = simulatedHost();
    const start = clock.pair();
    pass(3600e9);
    expect(clockOffset(start, clock.pair())).toEqual({ offsetNs: 0, offsetErrorNs: 80 });
  });

  test('by a step of the host, either way', () => {
    const { host, pass, clock } = simulatedHost();
    const start = clock.pair();
    pass(1e9);
    host.wallNs += 250n;
    expect(clockOffset(start, clock.pair()).offsetNs).toBe(250);
    host.wallNs -= 1_000_000_250n;
    expect(clockOffset(start, clock.pair()).offsetNs).toBe(-1e9);
  });

  test('EMU-X6: by the length of a pause, and by more while it lasts', () => {
    const { pass, clock } = simulatedHost();
    const start = clock.pair();
    clock.hold();
    pass(2e9);
    expect(clockOffset(start, clock.pair()).offsetNs).toBe(2e9);
    pass(1e9);
    clock.release();
    pass(7e9);
    expect(clockOffset(start, clock.pair()).offsetNs).toBe(3e9);
  });

  test('exactly to the ns, whatever the year and however long it runs', () => {
    const days = fc.integer({ min: 0, max: 100 * 86_400 * 1e9 });
    const ahead = fc.integer({ min: -1e12, max: 1e12 });
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 63n }), days, days, ahead, (wallNs, ns, passed, by) => {
        const start = { wallNs, ns: Math.floor(ns / 100), errorNs: 1 };
        const now = { wallNs: wallNs + BigInt(passed + by), ns: start.ns + passed, errorNs: 2 };
        fc.pre(Number.isSafeInteger(passed + by) && Number.isSafeInteger(now.ns));
        expect(clockOffset(start, now)).toEqual({ offsetNs: by, offsetErrorNs: 3 });
      }),
    );
  });
});
