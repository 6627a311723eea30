import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromRegisters, nextAlarm, toRegisters } from './calendar.ts';

const format = fc.constantFrom(0x00, 0x02, 0x04, 0x06);

describe('calendar', () => {
  it('gives back each second of the years 0 to 9999 in each format', () => {
    const seconds = fc.integer({
      min: Date.UTC(0, 0, 1) / 1000 - 1900 * 31_556_952,
      max: Date.UTC(9999, 11, 31) / 1000,
    });
    fc.assert(
      fc.property(seconds, format, (s, b) => {
        expect(fromRegisters(toRegisters(s, b), b)).toBe(s);
      }),
    );
  });

  it('makes some time of any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), format, (bytes, b) => {
        const s = fromRegisters(bytes, b);
        expect(Number.isSafeInteger(s * 32_768)).toBe(true);
      }),
    );
  });

  it('finds the alarm that a search second by second finds', () => {
    const part = (n: number) => fc.option(fc.nat(n), { nil: 0xc0 });
    const parts = fc.tuple(part(61), part(61), part(25));
    fc.assert(
      fc.property(fc.nat(4e9), parts, (from, alarm) => {
        const b = 0x06;
        let expected = Number.POSITIVE_INFINITY;
        for (let s = from + 1; s <= from + 86_400 && expected === Number.POSITIVE_INFINITY; s++) {
          const time = [s % 60, Math.floor(s / 60) % 60, Math.floor(s / 3600) % 24];
          if (alarm.every((a, i) => a === 0xc0 || a === time[i])) expected = s;
        }
        expect(nextAlarm(from, alarm, b)).toBe(expected);
      }),
      { numRuns: 60 },
    );
  });
});
