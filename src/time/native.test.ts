import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SimulatedHost } from '../../test/support/simulated-host.ts';
import { nativeTime } from './native.ts';

const MS = 1e6;

it('ACC-2: relates the native clocks to the cheap one within errorNs, and never to a moment outside of the call', () => {
  const clocks = fc.record({
    readNs: fc.integer({ min: 20, max: 3000 }),
    gapNs: fc.integer({ min: 0, max: 50 * MS }),
    gaps: fc.constantFrom(0, 0.001, 0.1, 0.9),
    seed: fc.integer({ min: 1 }),
  });
  // Up to 292 years of uptime.
  const origin = fc.oneof(fc.bigInt(0n, 2n ** 40n), fc.bigInt(0n, 2n ** 63n - 2n ** 53n), fc.constant(0n));
  const pauses = fc.array(fc.nat(60_000 * MS), { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(clocks, origin, fc.nat(2 ** 48), pauses, (behaviour, origin, from, pauses) => {
      const host = new SimulatedHost(behaviour, from);
      const time = nativeTime(into => host.pair(into, origin), host.monotonicNs);
      let least = Number.POSITIVE_INFINITY;
      for (const ns of pauses) {
        host.advance(ns);
        const before = time.monotonicNs();
        const { wallNs, monotonicNs, errorNs } = time.pair();
        // Realtime less the monotonic clock is the same at all times here.
        const { last } = host;
        const truth = monotonicNs + (last.realNs - last.monotonicNs);
        expect(Math.abs(SimulatedHost.realNs(wallNs) - truth)).toBeLessThanOrEqual(errorNs);
        expect(monotonicNs).toBeGreaterThanOrEqual(before);
        expect(monotonicNs).toBeLessThanOrEqual(time.monotonicNs());
        least = Math.min(least, errorNs);
      }
      // Half of a reading of both, and half of what lies between two readings of the cheap clock.
      if (behaviour.gaps === 0) expect(least).toBeLessThan(10 * behaviour.readNs);
    }),
  );
});

it('follows a step of realtime at once', () => {
  const host = new SimulatedHost();
  const time = nativeTime(into => host.pair(into, 0n), host.monotonicNs);
  const first = time.pair();
  host.step(-3600e9);
  const { wallNs, errorNs } = time.pair();
  expect(SimulatedHost.realNs(wallNs) - SimulatedHost.realNs(first.wallNs)).toBeLessThan(-3599e9);
  expect(errorNs).toBeLessThan(1000);
});
