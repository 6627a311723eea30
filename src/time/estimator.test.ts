import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SimulatedHost } from '../../test/support/simulated-host.ts';
import { estimatedTime } from './estimator.ts';
import type { HostPair, HostTime } from './host-clock.ts';

const MS = 1e6;
const SECOND = 1e9;
const NTP = 500e-6;

/** A pair, and by how much it misses the truth, ns. */
function measure(time: HostTime, host: SimulatedHost): HostPair & { missed: number; realNs: number } {
  const pair = time.pair();
  expect(pair.monotonicNs).toBe(host.last.monotonicNs);
  expect(Number.isFinite(pair.errorNs)).toBe(true);
  const realNs = SimulatedHost.realNs(pair.wallNs);
  return { ...pair, realNs, missed: Math.abs(realNs - host.last.realNs) };
}

const clocks = fc.record({
  readNs: fc.integer({ min: 20, max: 3000 }),
  gapNs: fc.integer({ min: 0, max: 50 * MS }),
  gaps: fc.constantFrom(0, 0.0001, 0.001, 0.1),
  seed: fc.integer({ min: 1 }),
});
/** What the host does between two calls: time passes, and realtime drifts so. */
const pause = fc.record({
  ns: fc.oneof(fc.nat(1000), fc.nat(MS), fc.nat(400 * MS), fc.nat(3600 * SECOND)),
  drift: fc.constantFrom(0, NTP, -NTP, NTP / 7, -NTP / 3),
});

describe('estimatedTime', () => {
  it('ACC-3: knows the time to what two looks at the clock take, without an interruption', () => {
    const host = new SimulatedHost({ readNs: 50 });
    const time = estimatedTime(host, 1e-6);
    for (let n = 0; n < 20; n++) {
      const { missed, errorNs } = measure(time, host);
      expect(missed).toBeLessThanOrEqual(errorNs);
      expect(errorNs).toBeLessThan(500);
      host.advance(37 * MS);
    }
  });

  it('waits for an edge only when the last one is older than 250 ms, and then 1.1 ms at most', () => {
    const host = new SimulatedHost({ readNs: 50 });
    const time = estimatedTime(host, NTP);
    const cost = () => {
      const [before, readings] = [host.last.monotonicNs, host.readings];
      time.pair();
      return { ns: host.last.monotonicNs - before, readings: host.readings - readings };
    };
    const first = cost();
    expect(first.readings).toBeGreaterThan(100);
    host.advance(240 * MS);
    expect(cost().readings).toBe(3);
    host.advance(20 * MS);
    const { ns, readings } = cost();
    expect(readings).toBeGreaterThan(3);
    expect(ns - 20 * MS).toBeLessThan(1.2 * MS);
    expect(cost().readings).toBe(3);
  });

  it('ACC-3: the truth lies within errorNs, and the estimate has no jumps, whatever interrupts it and however realtime drifts', () => {
    fc.assert(
      fc.property(
        clocks,
        fc.array(pause, { minLength: 1, maxLength: 12 }),
        fc.nat(2 ** 50),
        (behaviour, pauses, from) => {
          const host = new SimulatedHost(behaviour, from);
          const time = estimatedTime(host, NTP);
          let last = measure(time, host);
          for (const { ns, drift } of pauses) {
            host.drift = drift;
            host.advance(ns);
            const pair = measure(time, host);
            expect(pair.missed).toBeLessThanOrEqual(pair.errorNs);
            const went = pair.monotonicNs - last.monotonicNs;
            expect(pair.wallNs >= last.wallNs).toBe(true);
            expect(Math.abs(pair.realNs - last.realNs - went)).toBeLessThanOrEqual(went * 0.001 + 2);
            last = pair;
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it('follows a step of the host clock at once, forth and back, and a sleep of the host', () => {
    // More than the gaps in a look may hide.
    const step = fc.oneof(fc.integer({ min: 300 * MS, max: 3600 * SECOND }), fc.constantFrom(SECOND, 86_400 * SECOND));
    const steps = fc.array(fc.record({ step, back: fc.boolean(), pause }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(clocks, steps, (behaviour, steps) => {
        const host = new SimulatedHost(behaviour);
        const time = estimatedTime(host, NTP);
        measure(time, host);
        for (const { step, back, pause } of steps) {
          host.drift = pause.drift;
          // The bounds of an hour ago are seconds wide.
          host.advance(Math.min(pause.ns, SECOND));
          host.step(back ? -step : step);
          const { missed, errorNs } = measure(time, host);
          expect(missed).toBeLessThanOrEqual(errorNs);
          // A fresh estimate is an edge's, or what interruptions made of it.
          if (behaviour.gaps === 0) expect(errorNs).toBeLessThan(4 * behaviour.readNs + 3000);
        }
      }),
      { numRuns: 100 },
    );
  });

  it.each([2 * MS, -2 * MS])('sees a step of %i ns in the next call', ns => {
    const host = new SimulatedHost();
    const time = estimatedTime(host, NTP);
    time.pair();
    host.step(ns);
    host.advance(1000);
    const { missed, errorNs } = measure(time, host);
    expect(missed).toBeLessThanOrEqual(errorNs);
    expect(errorNs).toBeLessThan(1000);
  });

  it.each([300_000, -300_000, 5000, -5000])('sees a small step, of %i ns, with the next edge', ns => {
    const host = new SimulatedHost();
    const time = estimatedTime(host, 1e-6);
    time.pair();
    host.step(ns);
    host.advance(251 * MS);
    const { missed, errorNs } = measure(time, host);
    expect(missed).toBeLessThanOrEqual(errorNs);
    expect(errorNs).toBeLessThan(1000);
  });

  it('gives numbers, and soon, when a clock stands', () => {
    let monotonic = 0;
    for (const goes of [0, 1000]) {
      const stands = {
        monotonicNs: () => (monotonic += goes),
        wallMs: () => 1_700_000_000_000,
      };
      const time = estimatedTime(stands, NTP);
      for (let n = 0; n < 3; n++) {
        const { wallNs, errorNs } = time.pair();
        expect(Number.isFinite(errorNs)).toBe(true);
        expect(wallNs / 1_000_000_000n).toBe(1_700_000_000n);
      }
    }
  });
});
