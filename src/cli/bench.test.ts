import { describe, expect, test } from 'vitest';
import { type BenchPinFlags, benchPinOptions, formatBench, jsonRow } from './bench.ts';

const refused = (flags: BenchPinFlags): unknown => {
  try {
    return benchPinOptions(flags);
  } catch (e) {
    return (e as { code?: string }).code;
  }
};

describe('flags of bench pin', () => {
  test("have gup_test's defaults, and all modes that can be compared", () => {
    expect(benchPinOptions({})).toEqual({
      modes: ['GET_FAST', 'PIN_FAST', 'PIN_LONGTERM'],
      memoryMiB: 128,
      pagesPerCall: 1,
      repeats: 1,
      write: false,
      threads: 1,
    });
  });

  test('are what was asked for', () => {
    const flags = { pinBasic: true, getFast: true, memory: '4', pages: '16', repeats: '3', threads: '2', write: true };
    expect(benchPinOptions(flags)).toEqual({
      modes: ['GET_FAST', 'PIN_BASIC'],
      memoryMiB: 4,
      pagesPerCall: 16,
      repeats: 3,
      write: true,
      threads: 2,
    });
    expect(benchPinOptions({ huge: true }).pagesPerCall).toBe(512);
    expect(benchPinOptions({ huge: true, pages: '1024' }).pagesPerCall).toBe(1024);
  });

  test('must be numbers in their range', () => {
    for (const text of ['0', '-1', '1.5', '', 'x', '1e3', ' 1', '99999999999']) {
      for (const flag of ['memory', 'pages', 'repeats', 'threads'] as const) {
        expect([flag, text, refused({ [flag]: text })]).toEqual([flag, text, 'ERR_USAGE']);
      }
    }
    expect(refused({ threads: '64' })).toBe('ERR_USAGE');
    expect(refused({ memory: '4096' })).toBe('ERR_USAGE');
    expect(refused({ memory: '1', pages: '513' })).toBe('ERR_USAGE');
  });

  test('-H goes with whole blocks only', () => {
    expect(refused({ huge: true, pages: '100' })).toBe('ERR_USAGE');
    expect(refused({ huge: true, memory: '3' })).toBe('ERR_USAGE');
  });
});

describe('output of bench pin', () => {
  const options = benchPinOptions({ memory: '1', write: true });
  const row = { mode: 'PIN_FAST', thread: 0, repeat: 0, pages: 256, getNs: 25_600, putNs: 12_800 } as const;

  test('has the times of getting and putting apart, of the whole pass and of a page', () => {
    expect(jsonRow(row, options)).toEqual({
      mode: 'PIN_FAST',
      thread: 0,
      repeat: 0,
      pages: 256,
      pagesPerCall: 1,
      write: true,
      threads: 1,
      getUs: 26,
      putUs: 13,
      getNsPerPage: 100,
      putNsPerPage: 50,
    });
    expect(formatBench([row], options)).toBe(
      [
        '1 MiB, 1 page a call, with FOLL_WRITE, 1 thread, 1 repeat',
        'MODE      THREAD  REPEAT  GET us  PUT us  GET ns/page  PUT ns/page',
        'PIN_FAST       0       0      26      13          100           50',
        '',
      ].join('\n'),
    );
  });
});
