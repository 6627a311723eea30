import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PROTECTED, RAM, TRACKING, WRITTEN } from './core/layout.ts';
import { CoreWriteTracker } from './write-tracker.ts';

// The host's half, on a core that does nothing; what the core notes: test/conformance/written-pages.test.ts.

const PAGES = 64;
const BASE = 0x4000_0000;

function setUp() {
  const memory = new WebAssembly.Memory({ initial: RAM / 65536 + PAGES / 16, maximum: 65536, shared: true });
  const view = new DataView(memory.buffer);
  const counts = { withheld: 0 };
  const exports = { withholdWrites: () => counts.withheld++ };
  const ram = new Uint8Array(memory.buffer, RAM, PAGES * 4096);
  const tracker = new CoreWriteTracker({ memory, view, ram, exports }, BASE);
  const collect = () => {
    const runs: [number, number][] = [];
    tracker.collectCpu({ markDirty: (base, length) => runs.push([(base - BASE) / 4096, length / 4096]) });
    return runs;
  };
  return { tracker, view, counts, collect };
}

/** The set bits as runs: the plain way. */
function runsOf(pages: ReadonlySet<number>): [number, number][] {
  const runs: [number, number][] = [];
  for (let p = 0; p < PAGES; p++) {
    const last = runs.at(-1);
    if (!pages.has(p)) continue;
    if (last !== undefined && last[0] + last[1] === p) last[1]++;
    else runs.push([p, 1]);
  }
  return runs;
}

const pageSet = fc.uniqueArray(fc.integer({ min: 0, max: PAGES - 1 })).map(a => new Set(a));

describe('collecting', () => {
  it('reports each written page once, neighbours in one call, after the tags are gone', () => {
    const { tracker, view, counts, collect } = setUp();
    tracker.start();
    fc.assert(
      fc.property(pageSet, pages => {
        for (const p of pages) view.setUint8(WRITTEN + (p >> 3), view.getUint8(WRITTEN + (p >> 3)) | (1 << (p & 7)));
        const before = counts.withheld;
        expect(collect()).toEqual(runsOf(pages));
        expect(counts.withheld).toBe(before + 1);
        expect(collect()).toEqual([]);
      }),
    );
  });

  it('is for those who started: start() forgets what was before, and a second one does not', () => {
    const { tracker, view, collect } = setUp();
    view.setUint8(WRITTEN, 1);
    expect(collect()).toEqual([]);
    tracker.start();
    expect(view.getUint32(TRACKING, true)).toBe(1);
    expect(collect()).toEqual([]);
    view.setUint8(WRITTEN, 2);
    tracker.start();
    expect(collect()).toEqual([[1, 1]]);
    tracker.stop();
    tracker.stop();
    expect(view.getUint32(TRACKING, true)).toBe(0);
  });
});

describe('protecting', () => {
  it('tells each who asked of each page once, whoever writes first: a vCPU, or a discard', () => {
    const { tracker, view, collect } = setUp();
    const writes = fc.array(fc.tuple(fc.boolean(), fc.nat(PAGES - 8), fc.integer({ min: 1, max: 8 })));
    fc.assert(
      fc.property(writes, writes, (first, second) => {
        const told: [Set<number>, Set<number>] = [new Set(), new Set()];
        const protect = (who: 0 | 1) =>
          tracker.protect((base, length) => {
            for (let p = (base - BASE) / 4096; p < (base - BASE + length) / 4096; p++) {
              expect(told[who].has(p)).toBe(false);
              told[who].add(p);
            }
          });
        const expected: [Set<number>, Set<number>] = [new Set(), new Set()];
        const write = (list: typeof first, who: readonly (0 | 1)[]) => {
          for (const [cpu, page, count] of list) {
            if (cpu) tracker.firstWrite(page);
            else tracker.beforeHostWrite(page * 4096, count * 4096);
            for (const w of who) for (let p = page; p < page + (cpu ? 1 : count); p++) expected[w].add(p);
          }
        };
        const a = protect(0);
        expect(view.getUint8(PROTECTED + PAGES / 8 - 1)).toBe(0xff);
        write(first, [0]);
        const b = protect(1);
        write(second, [0, 1]);
        a[Symbol.dispose]();
        write(first, [1]);
        expect(told).toEqual(expected);
        expect(view.getUint32(TRACKING, true)).toBe(1);
        b[Symbol.dispose]();
        write(first, []);
        expect(told).toEqual(expected);
        expect([view.getUint32(TRACKING, true), view.getUint8(PROTECTED)]).toEqual([0, 0]);
      }),
    );
    expect(collect()).toEqual([]);
  });

  it('does not concern the memory of devices, which lies behind RAM', () => {
    const { tracker } = setUp();
    const told: number[] = [];
    tracker.protect(base => told.push(base));
    tracker.firstWrite(PAGES);
    tracker.firstWrite(PAGES - 1);
    expect(told).toEqual([BASE + (PAGES - 1) * 4096]);
  });

  it('a discard is a write for the log, too', () => {
    const { tracker, collect } = setUp();
    tracker.beforeHostWrite(0, 4096);
    tracker.start();
    tracker.beforeHostWrite(3 * 4096, 2 * 4096);
    expect(collect()).toEqual([[3, 2]]);
  });
});
