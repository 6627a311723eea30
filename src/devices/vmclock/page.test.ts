import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { guestTime } from '../../../test/support/vmclock.ts';
import { counterPeriod, fracSec, VmClockPage } from './page.ts';
import * as R from './regs.ts';

const SECOND = 1_000_000_000n;
const FIELDS = {
  disruptionMarker: 0x1122_3344_5566_7788n,
  flags: R.FLAG_VM_GEN_COUNTER_PRESENT,
  clockStatus: R.STATUS_FREERUNNING,
  counterValue: 0x0102_0304_0506_0708n,
  counterPeriod: { fracSec: 0xf0e0_d0c0_b0a0_9080n, shift: 25 },
  counterPeriodMaxError: 3n,
  timeNs: 1_700_000_000_500_000_000n,
  timeMaxErrorNs: 77n,
  vmGenerationCounter: 0xffff_ffff_ffff_ffffn,
};

describe('the period of a counter', () => {
  it("of 1 GHz is the specification's example", () => {
    expect(counterPeriod(1e9)).toEqual({ fracSec: 0x8970_5f41_36b4_a597n, shift: 29 });
  });

  it.each([2, 3, 4, 5, 24e6, 62.5e6, 1_193_182, 2 ** 32, 2 ** 53])('of %d Hz has 64 significant bits', hz => {
    const { fracSec, shift } = counterPeriod(hz);
    expect([fracSec >> 63n, shift >= 0 && shift < 64]).toEqual([1n, true]);
    // The product of period and frequency is a second but for less than one unit a tick.
    const missing = (1n << BigInt(64 + shift)) - fracSec * BigInt(hz);
    expect(missing >= 0n && missing < BigInt(hz)).toBe(true);
  });
});

it('a fraction of a second comes back from 2^-64 s as it was', () => {
  for (const ns of [0n, 1n, 500_000_000n, 999_999_999n]) expect((fracSec(ns) * SECOND) >> 64n).toBe(ns);
  expect(fracSec(500_000_000n)).toBe(1n << 63n);
});

describe('the page', () => {
  it('has its fields where struct vmclock_abi has them', () => {
    const bytes = new Uint8Array(4096);
    new VmClockPage(bytes, R.COUNTER_ARM_VCNT).update(FIELDS);
    const le = (v: bigint, size: number) =>
      Array.from({ length: size }, (_, i) => Number((v >> BigInt(8 * i)) & 0xffn));
    expect([...bytes.subarray(0, 0x70)]).toEqual([
      ...Buffer.from('VCLK'),
      ...le(4096n, 4),
      ...[1, 0, 0, 0], // version, counter_id, time_type
      ...le(2n, 4),
      ...le(FIELDS.disruptionMarker, 8),
      ...le(0x100n, 8),
      ...[0, 0, 3, 0, 0, 0, 0, 25], // padding, clock_status, hint, tai_offset_sec, leap_indicator, counter_period_shift
      ...le(FIELDS.counterValue, 8),
      ...le(FIELDS.counterPeriod.fracSec, 8),
      ...le(0n, 8),
      ...le(3n, 8),
      ...le(1_700_000_000n, 8),
      ...le(1n << 63n, 8),
      ...le(0n, 8),
      ...le(77n, 8),
      ...le(FIELDS.vmGenerationCounter, 8),
    ]);
    expect(bytes.subarray(0x70).every(b => b === 0)).toBe(true);
  });

  it('seq_count is odd while fields change, and even and new afterwards, also when it wraps', () => {
    const bytes = new Uint8Array(4096);
    const page = new VmClockPage(bytes, R.COUNTER_INVALID);
    for (const [before, odd, after] of [
      [0, 1, 2],
      [0xffff_fffe, 0xffff_ffff, 0],
    ] as const) {
      page.seqCount = before;
      const during: number[] = [];
      const store = vi
        .spyOn(Atomics, 'store')
        .mockImplementation((array: BigInt64Array | BigUint64Array, at, value) => {
          if (array instanceof BigUint64Array) during.push(page.seqCount);
          array[at] = value;
          return value;
        });
      page.update(FIELDS);
      store.mockRestore();
      expect([new Set(during), page.seqCount]).toEqual([new Set([odd]), after]);
    }
  });

  it('a guest that computes the time by the formula gets it within 1 ns for an hour', () => {
    const hz = fc.oneof(fc.constantFrom(62.5e6, 24e6, 19.2e6, 1e9), fc.integer({ min: 1e6, max: 5e9 }));
    const time = fc.bigInt({ min: 0n, max: 1n << 62n });
    const counter = fc.oneof(
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc.constant((1n << 64n) - 1n), // wraps within the hour
    );
    fc.assert(
      fc.property(hz, time, counter, fc.double({ min: 0, max: 1, noNaN: true }), (hz, timeNs, counterValue, part) => {
        const bytes = new Uint8Array(4096);
        const period = counterPeriod(hz);
        new VmClockPage(bytes, R.COUNTER_ARM_VCNT).update({ ...FIELDS, counterPeriod: period, counterValue, timeNs });
        const ticks = BigInt(Math.floor(part * 3600 * hz));
        const right = timeNs + (ticks * SECOND) / BigInt(hz);
        const error = guestTime(bytes, BigInt.asUintN(64, counterValue + ticks)) - right;
        expect(error >= -1n && error <= 1n).toBe(true);
      }),
    );
  });
});
