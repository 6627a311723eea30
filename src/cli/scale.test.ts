import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decimals, formatNs, formatSignedNs, ticks, timeUnit } from './scale.ts';

test('a time is in the largest unit of which it has one', () => {
  const texts = [0, 7, 999, 1000, 12_345, 999_900, 1e6, -2.5e6, 1e9, 3600e9].map(formatNs);
  expect(texts).toEqual([
    '0 ns',
    '7 ns',
    '999 ns',
    '1.0 us',
    '12.3 us',
    '999.9 us',
    '1.0 ms',
    '-2.5 ms',
    '1.000 s',
    '3600.000 s',
  ]);
  expect([5, 0, -0, -5e3].map(formatSignedNs)).toEqual(['+5 ns', '0 ns', '0 ns', '-5.0 us']);
});

test('an axis of a long time is in minutes or hours', () => {
  expect([59e9, 60e9, 3600e9, 1e15].map(ns => timeUnit(ns, 'h').name)).toEqual(['s', 'min', 'h', 'h']);
  expect(timeUnit(-3600e9).name).toBe('s');
});

test('ticks are round, in the range, and about as many as asked for', () => {
  expect(ticks(-283, 291, 5)).toEqual({ values: [-200, 0, 200], step: 200 });
  expect(ticks(0, 1, 4)).toEqual({ values: [0, 0.5, 1], step: 0.5 });
  expect(ticks(0, 83.3, 8).values).toEqual([0, 20, 40, 60, 80]);
  const range = fc.record({
    low: fc.double({ min: -1e9, max: 1e9, noNaN: true }),
    size: fc.double({ min: 1e-3, max: 1e9, noNaN: true }),
    count: fc.integer({ min: 2, max: 12 }),
  });
  fc.assert(
    fc.property(range, ({ low, size, count }) => {
      const high = low + size;
      fc.pre(high - low > size / 2);
      const { values, step } = ticks(low, high, count);
      // A step is the wish or up to 2.5 times of it.
      expect(values.length).toBeGreaterThanOrEqual(Math.floor(count / 2.5) - 1);
      expect(values.length).toBeLessThanOrEqual(count + 2);
      const rounding = step * 1e-6 + Math.max(Math.abs(low), Math.abs(high)) * 1e-12;
      for (const v of values) {
        expect(v).toBeGreaterThanOrEqual(low - rounding);
        expect(v).toBeLessThanOrEqual(high + rounding);
      }
      // They differ as they are written.
      const written = values.map(v => v.toFixed(decimals(step)));
      expect(new Set(written).size).toBe(values.length);
    }),
  );
});
