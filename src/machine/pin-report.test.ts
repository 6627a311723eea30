import { describe, expect, test } from 'vitest';
import type { PageState, PageUse, PinInfo, PinStats } from '../memory/pin-types.ts';
import type { Region } from '../memory/types.ts';
import { MAX_CELLS, MAX_REPORTED_PINS, memoryMap, type PinSource, pinReport } from './pin-report.ts';

const STATS: PinStats = {
  pinAcquired: 5,
  pinReleased: 2,
  current: 3,
  currentLong: 1,
  discarded: 0,
  queued: 0,
  cancelled: 0,
  skippedPinned: 0,
  revoked: 0,
};

function pin(base: number, sinceNs = 0): PinInfo {
  return { owner: 'disk0', base, length: 4096, write: false, longterm: false, revocable: false, sinceNs };
}

function source(
  pins: readonly PinInfo[],
  uses: Readonly<Record<number, PageUse>> = {},
  states: Readonly<Record<number, PageState>> = {},
): PinSource {
  return {
    pins: () => pins,
    stats: () => STATS,
    page: a => ({ short: 0, long: 0, write: 0, ...uses[a], state: states[a] ?? 'present' }),
  };
}

function region(size: number, base = 0x4000_0000): Region {
  return { base, size, kind: 'ram', bytes: new Uint8Array(0) };
}

describe('report of pins', () => {
  test('is sorted by address, the older first', () => {
    const { pins, omitted } = pinReport(source([pin(0x3000), pin(0x1000, 9), pin(0x1000, 7)]), 10, undefined);
    expect(pins.map(p => [p.base, p.sinceNs])).toEqual([
      [0x1000, 7],
      [0x1000, 9],
      [0x3000, 0],
    ]);
    expect(omitted).toBe(0);
  });

  test('is bounded, and says what it leaves out', () => {
    const many = Array.from({ length: MAX_REPORTED_PINS + 3 }, (_, n) => pin(n * 4096));
    const report = pinReport(source(many), 10, 2 ** 20);
    expect(report.pins).toHaveLength(MAX_REPORTED_PINS);
    expect(report).toMatchObject({ omitted: 3, nowNs: 10, pinLimitBytes: 2 ** 20, stats: STATS });
  });
});

describe('map of memory', () => {
  test('counts the pages of each cell by what holds them and by what they are doing', () => {
    const size = MAX_CELLS * 8192;
    const base = 0x4000_0000;
    const uses = {
      [base]: { short: 2, long: 0, write: 0 },
      [base + 4096]: { short: 1, long: 3, write: 1 },
    };
    const states = {
      [base + 8192]: 'queued',
      [base + 12288]: 'discarded',
      [base + 16384]: 'unplugged',
      [base + 20480]: 'unplugging',
    } as const;
    const [r] = memoryMap(source([], uses, states), [region(size)]).regions;
    expect(r).toMatchObject({ base, size, kind: 'ram', cellBytes: 8192 });
    expect(r!.cells).toHaveLength(MAX_CELLS);
    const none = { short: 0, long: 0, write: 0, discarded: 0, unplugged: 0 };
    expect(r!.cells[0]).toEqual({ ...none, short: 2, long: 1, write: 1 });
    expect(r!.cells[1]).toEqual({ ...none, discarded: 2 });
    expect(r!.cells[2]).toEqual({ ...none, unplugged: 2 });
    expect(r!.cells[3]).toEqual(none);
  });

  test('a region whose size is no power of two has a smaller cell at its end', () => {
    const size = MAX_CELLS * 4096 + 4096;
    const last = 0x4000_0000 + size - 4096;
    const [r] = memoryMap(source([], { [last]: { short: 0, long: 1, write: 0 } }), [region(size)]).regions;
    expect(r!.cellBytes).toBe(8192);
    expect(r!.cells).toHaveLength(MAX_CELLS / 2 + 1);
    expect(r!.cells.at(-1)).toMatchObject({ long: 1 });
  });
});
