import { expect, test } from 'vitest';
import { formatSize, parseDuration, parseSize } from './units.ts';

test.each([
  ['512M', 2 ** 29],
  ['512m', 2 ** 29],
  ['2G', 2 ** 31],
  ['2GiB', 2 ** 31],
  ['1.5GB', 1.5 * 2 ** 30],
  [' 64 K ', 65536],
  ['4096', 4096],
  ['10B', 10],
  [12345, 12345],
  ['0', 0],
])('size %s', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each([
  '',
  'M',
  '12Q',
  '-1',
  '1e9',
  '0x10',
  '1.5',
  '512 M B',
  'NaN',
  Number.NaN,
  -5,
  1.5,
  Number.POSITIVE_INFINITY,
  '9999999T',
])('%s is no size', text => {
  expect(() => parseSize(text, 'memory')).toThrow(
    expect.objectContaining({ code: 'ERR_BAD_SIZE', message: expect.stringContaining('memory: ') }),
  );
});

test('sizes for people', () => {
  expect([0, 1023, 1024, 1536, 2 ** 29, 2 ** 30 * 1.25].map(formatSize)).toEqual([
    '0 bytes',
    '1023 bytes',
    '1 KiB',
    '1.5 KiB',
    '512 MiB',
    '1.3 GiB',
  ]);
});

test('durations', () => {
  expect(['500ms', '30s', '1.5m', '1h', 250, '7', Number.POSITIVE_INFINITY].map(d => parseDuration(d))).toEqual([
    500,
    30_000,
    90_000,
    3_600_000,
    250,
    7,
    Number.POSITIVE_INFINITY,
  ]);
  for (const bad of ['soon', '', '-1', '5 minutes', Number.NaN, -1]) {
    expect(() => parseDuration(bad)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  }
});
