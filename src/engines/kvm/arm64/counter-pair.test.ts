import fc from 'fast-check';
import { expect, it } from 'vitest';
import { counterPair } from './counter-pair.ts';

const HZ = 25_000_000;
const WALL = 1_700_000_000_000_000_000n;
/** CNTVOFF: the virtual counter began a second after the physical one. */
const OFFSET = BigInt(HZ);

/** A host on which each look at a clock takes some time, ns, before it and after it. */
function simulate(delays: readonly number[]) {
  let now = 5e9;
  let looks = 0;
  const pass = () => {
    now += delays[looks++ % delays.length]!;
  };
  const look = <T>(read: () => T): T => {
    pass();
    const value = read();
    pass();
    return value;
  };
  const ticks = () => BigInt(Math.floor((now * HZ) / 1e9));
  const cpu = {
    get counter() {
      return look(() => ticks() - OFFSET);
    },
    get physicalCounter() {
      return look(ticks);
    },
  };
  const clock = { pair: () => look(() => ({ wallNs: WALL + BigInt(Math.floor(now)), ns: now, errorNs: 1 })) };
  return { cpu, clock, now: () => now };
}

it('ARM-7: both counters are of the call, and the host’s time is theirs within the error that is told', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 200_000 }), { minLength: 1, maxLength: 40 }), delays => {
      const { cpu, clock, now } = simulate(delays);
      const before = now();
      const { wallNs, virtual, physical, errorNs } = counterPair(cpu, clock, HZ);
      for (const ticks of [virtual + OFFSET, physical]) {
        const ns = (Number(ticks) * 1e9) / HZ;
        expect(ns).toBeGreaterThanOrEqual(before - 1e9 / HZ);
        expect(ns).toBeLessThanOrEqual(now());
        expect(Math.abs(Number(wallNs - WALL) - ns)).toBeLessThanOrEqual(errorNs);
      }
    }),
  );
});

it('takes the closest of some tries, and no more of them than it needs', () => {
  const quiet = simulate([100]);
  const started = quiet.now();
  expect(counterPair(quiet.cpu, quiet.clock, HZ).errorNs).toBeLessThan(1000);
  expect(quiet.now() - started).toBe(1000);
  // Somebody comes between for 1 ms in the first two tries; ten looks are a try.
  const busy = simulate([...Array.from({ length: 20 }, (_, n) => (n % 10 === 5 ? 1e6 : 100)), ...Array(20).fill(100)]);
  expect(counterPair(busy.cpu, busy.clock, HZ).errorNs).toBeLessThan(1000);
});
