import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../../time/virtual-clock.ts';
import { Tsc } from './tsc.ts';

const M = 2n ** 64n;

function rig(hz = 2_100_000_000, cpus = 2) {
  const clock = createVirtualClock({ startWall: 0n });
  return { clock, tsc: new Tsc({ hz, cpus, clock }) };
}

describe('Tsc', () => {
  it('EMU-X4: counts exactly at its frequency, the same on all vCPUs', () => {
    const { clock, tsc } = rig();
    clock.advanceTo(1);
    expect([tsc.read(0), tsc.read(1)]).toEqual([2n, 2n]);
    clock.advanceTo(10);
    expect([tsc.read(0), tsc.read(1)]).toEqual([21n, 21n]);
    // 104 days: 2^53 ns, where doubles of ticks would have lost their low bits.
    expect(tsc.countAt(2 ** 53 - 1)).toBe(((2n ** 53n - 1n) * 21n) / 10n);
  });

  it('EMU-X4: never goes back, whatever the frequency', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000_000_000 }), fc.array(fc.nat(), { minLength: 2 }), (hz, steps) => {
        const { clock, tsc } = rig(hz);
        let [now, last] = [0, 0n];
        for (const [i, step] of steps.entries()) {
          now += step;
          clock.advanceTo(now);
          const tick = tsc.read(i % 2);
          expect(tick).toBeGreaterThanOrEqual(last);
          last = tick;
        }
      }),
    );
  });

  it('a write of IA32_TSC is read back, is one vCPU’s own, and moves IA32_TSC_ADJUST', () => {
    const { clock, tsc } = rig();
    clock.advanceTo(1000);
    tsc.write(1, 5n);
    expect([tsc.read(0), tsc.read(1), tsc.adjust(0), tsc.adjust(1)]).toEqual([2100n, 5n, 0n, M - 2095n]);
    clock.advanceTo(1010);
    expect([tsc.read(0), tsc.read(1)]).toEqual([2121n, 26n]);
  });

  it('a write of IA32_TSC_ADJUST moves IA32_TSC', () => {
    const { clock, tsc } = rig();
    clock.advanceTo(1000);
    tsc.writeAdjust(0, 100n);
    tsc.writeAdjust(0, 70n);
    expect([tsc.read(0), tsc.adjust(0), tsc.read(1)]).toEqual([2170n, 70n, 2100n]);
    tsc.writeAdjust(0, M - 1n);
    expect([tsc.read(0), tsc.adjust(0)]).toEqual([2099n, M - 1n]);
  });

  it('EMU-X4: tells whether all vCPUs read the same, and of changes', () => {
    const { tsc } = rig();
    const seen: boolean[] = [];
    const listener = tsc.onChange(() => seen.push(tsc.synchronized));
    tsc.writeAdjust(0, 7n);
    tsc.writeAdjust(1, 7n);
    tsc.writeAdjust(1, 8n);
    tsc.reset();
    expect(seen).toEqual([false, true, false, true]);
    listener[Symbol.dispose]();
    tsc.writeAdjust(0, 7n);
    expect(seen).toHaveLength(4);
  });

  it('EMU-X6: goes on in another process where it was', () => {
    const a = rig();
    a.clock.advanceTo(1000);
    a.tsc.write(1, 9n);
    const b = rig();
    b.clock.advanceTo(1000);
    b.tsc.restore(structuredClone(a.tsc.save()));
    a.clock.advanceTo(2000);
    b.clock.advanceTo(2000);
    for (const cpu of [0, 1]) {
      expect([b.tsc.read(cpu), b.tsc.adjust(cpu)]).toEqual([a.tsc.read(cpu), a.tsc.adjust(cpu)]);
    }
    expect(b.tsc.synchronized).toBe(false);
  });
});
