import { describe, expect, test } from 'vitest';
import { createGuestMemory } from '../memory/guest-memory.ts';
import { PinTable } from '../memory/pin-table.ts';
import { PIN_PAGE } from '../memory/pin-types.ts';
import { PIN_BENCH_MODES, type PinBenchMode, pass } from './pin-passes.ts';

const PAGES = 20;

function rig() {
  const bytes = new Uint8Array(new SharedArrayBuffer(PAGES * PIN_PAGE));
  return new PinTable({ memory: createGuestMemory([{ base: 0, size: bytes.length, kind: 'ram', bytes }]) });
}

/** What a pass asks of the table, in order, and the times that it says it took. */
function watch(mode: PinBenchMode, write: boolean, pagesPerCall = 8) {
  const table = rig();
  const log = table.dirty.start();
  let long = 0;
  let pinned = 0;
  let clock = 0;
  const times = pass(table, { mode, pages: PAGES, pagesPerCall, write }, new Float64Array(PAGES), () => {
    const { current, currentLong } = table.stats();
    pinned = Math.max(pinned, current);
    long = Math.max(long, currentLong);
    clock += 100;
    return clock;
  });
  const dirty = log.collect(0, PAGES * PIN_PAGE, new Uint32Array(1));
  return { table, times, pinned, long, dirty };
}

describe('a pass of bench pin', () => {
  test('pins every page and releases it, short or long as the mode says', () => {
    for (const mode of ['PIN_FAST', 'PIN_BASIC'] as const) {
      expect(watch(mode, false)).toMatchObject({ pinned: PAGES, long: 0, times: { getNs: 100, putNs: 100 } });
    }
    expect(watch('PIN_LONGTERM', false)).toMatchObject({ pinned: PAGES, long: PAGES });
  });

  test('borrows pin nothing and have nothing to release', () => {
    for (const mode of ['GET_FAST', 'GET_BASIC'] as const) {
      expect(watch(mode, false)).toMatchObject({ pinned: 0, times: { getNs: 100, putNs: 0 } });
    }
  });

  test('FOLL_WRITE is honoured in every mode', () => {
    for (const mode of PIN_BENCH_MODES) {
      expect([mode, watch(mode, false).dirty, watch(mode, true).dirty]).toEqual([mode, 0, PAGES]);
    }
  });

  test('counters balance afterwards, also when the last call has fewer pages', () => {
    for (const mode of PIN_BENCH_MODES) {
      for (const pagesPerCall of [1, 8, PAGES, 512]) {
        const { table } = watch(mode, true, pagesPerCall);
        const { pinAcquired, pinReleased } = table.stats();
        expect([pinAcquired, pinReleased]).toEqual(mode.startsWith('PIN') ? [PAGES, PAGES] : [0, 0]);
        expect(table.maybePinned(0, PAGES * PIN_PAGE)).toBe(false);
      }
    }
  });

  test('GET_BASIC finds a page that somebody has pinned, PIN_BASIC a table that denies its pins', () => {
    const table = rig();
    const options = { pages: PAGES, pagesPerCall: 1, write: false };
    const handle = table.pin(3 * PIN_PAGE, 1, 0x4_0000, table.owner('somebody'));
    expect(() => pass(table, { ...options, mode: 'GET_BASIC' }, new Float64Array(PAGES), () => 0)).toThrow(/0x3000/);
    table.unpin(handle);
    Object.defineProperty(table, 'maybePinned', { value: (base: number) => base !== 5 * PIN_PAGE });
    expect(() => pass(table, { ...options, mode: 'PIN_BASIC' }, new Float64Array(PAGES), () => 0)).toThrow(/0x5000/);
  });
});
