import { describe, expect, test } from 'vitest';
import type { PinInfo, PinReport } from '../vmm/index.ts';
import { formatAge, formatPins, picturedNotes } from './pins.ts';

function pin(owner: string, base: number, length: number, more: Partial<PinInfo> = {}): PinInfo {
  return { owner, base, length, write: false, longterm: false, revocable: false, sinceNs: 0, ...more };
}

function report(pins: readonly PinInfo[], more: Partial<PinReport> = {}): PinReport {
  const stats = {
    pinAcquired: 300,
    pinReleased: 42,
    current: 258,
    currentLong: 256,
    discarded: 9,
    queued: 3,
    cancelled: 1,
    skippedPinned: 7,
    revoked: 2,
  };
  return { nowNs: 3_012_000_000, pins, omitted: 0, stats, pinLimitBytes: undefined, ...more };
}

const TOTALS = [
  'pages so far: 300 pinned, 42 released',
  'discards: 9 pages done, 3 waited for a pin (1 of them cancelled), 7 left to a pin; 2 pins revoked',
  '',
];

describe('the table of pins', () => {
  test('says who holds which range, how, and for how long', () => {
    const pins = [
      pin('disk0 queue 0', 0x4000_1000, 4096, { write: true, sinceNs: 3_000_000_000 }),
      pin('edu0 DMA', 0x4800_0000, 2 ** 20, { longterm: true }),
      pin('adder0', 0x5000_0004, 12, { longterm: true, revocable: true, write: true, sinceNs: 1_000_000_000 }),
    ];
    expect(formatPins(report(pins, { pinLimitBytes: 256 * 2 ** 20 }))).toBe(
      [
        'OWNER          ADDRESS         SIZE  KIND       FOR    AGE',
        'disk0 queue 0  0x40001000     4 KiB  short      write  12 ms',
        'edu0 DMA       0x48000000     1 MiB  long       read   3.0 s',
        'adder0         0x50000004  12 bytes  revocable  write  2.0 s',
        'pinned: 1 MiB; long-term of that: 1 MiB of 256 MiB',
        ...TOTALS,
      ].join('\n'),
    );
  });

  test('is its sums alone when nothing is pinned', () => {
    expect(formatPins(report([]))).toBe(['pinned: 1 MiB; long-term of that: 1 MiB', ...TOTALS].join('\n'));
  });

  test('says how many pins a report has left out', () => {
    expect(formatPins(report([pin('a', 0, 1)], { omitted: 3 }))).toContain('\nand 3 more\n');
  });

  test('an age is never negative, and readable at any length', () => {
    const ages = [-5, 0, 999e6, 1e9, 59.9e9, 60e9, 3599e9, 3600e9, 90_000e9].map(formatAge);
    expect(ages).toEqual(['0 ms', '0 ms', '999 ms', '1.0 s', '59.9 s', '1 min', '59 min', '1 h 0 min', '25 h 0 min']);
  });
});

describe('the notes of the picture', () => {
  test('name those who hold most first, in whole pages', () => {
    const pins = [pin('little', 0xfff, 2), pin('most', 0, 2 ** 21), pin('little', 0, 1)];
    expect(picturedNotes(report(pins)).slice(-2)).toEqual(['most: 2 MiB', 'little: 12 KiB']);
  });

  test('are bounded', () => {
    const many = Array.from({ length: 500 }, (_, n) => pin(`net0 queue ${n}`, 0, 1));
    const notes = picturedNotes(report(many));
    expect(notes.length).toBeLessThan(20);
    expect(notes.at(-1)).toBe('and 488 more owners');
  });
});
