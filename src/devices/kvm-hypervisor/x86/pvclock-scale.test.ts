import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { guestTscKhz } from '../../../../test/support/pvclock-guest.ts';
import { VmError } from '../../../util/errors.ts';
import { pvclockScale, ticksToNs } from './pvclock-scale.ts';

/** Specification of ptp, 2.2. */
const VECTORS: readonly (readonly [hz: number, shift: number, mul: number])[] = [
  [1_000_000_000, 1, 0x8000_0000],
  [2_000_000_000, 0, 0x8000_0000],
  [2_100_000_000, -1, 0xf3cf_3cf3],
  [2_400_000_000, -1, 0xd555_5555],
  [3_000_000_000, -1, 0xaaaa_aaaa],
  [3_600_000_000, -1, 0x8e38_e38e],
  [5_000_000_000, -2, 0xcccc_cccc],
  [24_000_000, 6, 0xa6aa_aaaa],
  [62_500_000, 5, 0x8000_0000],
  [1_193_182, 10, 0xd186_1649],
];

const frequency = fc.integer({ min: 1_000_000, max: 40_000_000_000 });

const inKhz = fc.integer({ min: 1000, max: 16_000_000 }).map(khz => khz * 1000);

describe('pvclockScale', () => {
  it.each(VECTORS)('2.2: %d Hz has shift %d and multiplier %d', (hz, shift, mul) => {
    expect(pvclockScale(hz)).toEqual({ shift, mul });
  });

  it.each(VECTORS)('2.2: a second of %d Hz has 999999999 or 1000000000 ns', hz => {
    expect([999_999_999n, 1_000_000_000n]).toContain(ticksToNs(BigInt(hz), pvclockScale(hz)));
  });

  it('2.2: the fields fit, and a guest finds the frequency within some kHz', () => {
    fc.assert(
      fc.property(frequency, hz => {
        const { mul, shift } = pvclockScale(hz);
        expect(mul).toBeGreaterThanOrEqual(0x8000_0000);
        expect(mul).toBeLessThan(2 ** 32);
        expect(Math.abs(shift)).toBeLessThan(32);
        // What rounding loses: a kHz, shifted, and one for a frequency that is no multiple of it.
        const error = Math.abs(Number(guestTscKhz({ mul, shift })) - hz / 1000);
        expect(error).toBeLessThanOrEqual(2 ** Math.max(0, -shift) + 1);
      }),
    );
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('refuses a TSC of %d Hz', hz => {
    expect(() => pvclockScale(hz)).toThrow(VmError);
  });
});

describe('ticksToNs', () => {
  it('2.2: is behind by less than one part in 2^31 and 2 ticks, ahead by one in 10^9 at most; products have 96 bits', () => {
    // Up to years of ticks: beyond 2^32 of them, a product does not fit in 64 bits.
    fc.assert(
      fc.property(fc.oneof(frequency, inKhz), fc.bigInt({ min: 0n, max: 2n ** 61n }), (hz, ticks) => {
        const scale = pvclockScale(hz);
        fc.pre(scale.shift < 0 || ticks << BigInt(scale.shift) < 2n ** 64n);
        const exact = (ticks * 1_000_000_000n) / BigInt(hz);
        const behind = exact - ticksToNs(ticks, scale);
        // A frequency in kHz loses no bits: it is never ahead.
        const ahead = hz % 1000 === 0 && hz < 16e9 ? 0n : exact / 1_000_000_000n + 1n;
        expect(behind).toBeGreaterThanOrEqual(-ahead);
        expect(behind).toBeLessThanOrEqual((exact >> 30n) + 2n ** BigInt(Math.max(0, -scale.shift)) + 1n);
      }),
    );
  });

  it('wraps as the 64-bit registers of a guest do', () => {
    expect(ticksToNs(2n ** 64n - 1n, { mul: 0x8000_0000, shift: 1 })).toBe(2n ** 63n - 1n);
    expect(ticksToNs(2n ** 64n - 1n, { mul: 0xffff_ffff, shift: 0 })).toBe(2n ** 64n - 2n ** 32n - 1n);
  });
});
