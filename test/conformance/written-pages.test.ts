// What the core notes of stores: every page that one changes, no page that none does, nothing that a guest could tell.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { unpackVectors } from '../../scripts/vectors/file.ts';
import { DATA as VECTOR_DATA } from '../../scripts/vectors/record.ts';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { CoreWriteTracker } from '../../src/engines/emu/a64/write-tracker.ts';
import { embeddedGuest } from '../../src/images/embedded-guest.ts';
import type { EmulatedArmCpus } from '../../src/machine/arm-cpus-emu.ts';
import { createMachine } from '../../src/machine/create.ts';
import type { GuestMachine } from '../../src/machine/guest-machine.ts';
import { CoreHarness, compare } from './harness.ts';
import { CODE, DATA, Guest, PAGE, RAM_BASE, RAM_SIZE, STOP, USER_CODE } from './system-guest.ts';

const EDGE = DATA + 0x1000;
/** SCTLR_EL1: DZE and UCI let EL0 use DC ZVA and the cache's maintenance; M, A. */
const FOR_EL0 = (1n << 14n) | (1n << 26n);
const [M, A] = [1n, 2n];

let g: Guest;
let tracker: CoreWriteTracker;
beforeEach(() => setUp(1));

function setUp(cpus: number): void {
  g = new Guest({ cpus });
  for (let cpu = cpus - 1; cpu >= 0; cpu--) {
    g.exports.switchTo(cpu);
    g.identity(FOR_EL0);
    g.sysreg('CPACR_EL1', 3n << 20n);
  }
  const ram = new Uint8Array(g.memory.buffer, L.RAM, RAM_SIZE);
  tracker = new CoreWriteTracker({ memory: g.memory, view: g.view, ram, exports: g.exports }, RAM_BASE);
  g.onFirstWrite = page => tracker.firstWrite(page);
}

/** The pages written since the last call, each by its address. */
function written(of: CoreWriteTracker = tracker): number[] {
  const pages: number[] = [];
  of.collectCpu({
    markDirty: (base, length) => {
      for (let a = base; a < base + length; a += 0x1000) pages.push(a);
    },
  });
  return pages;
}

/** Runs `source` at EL0 with X1 = va, SP = va. */
function at(source: string, va: number): void {
  g.code(`${source}\nsvc #1`, USER_CODE);
  go(va);
}

function go(va: number): void {
  g.pstate(0x3c0);
  for (const n of [0, 2, 3, 4, 5]) g.setX(n, 0x0101_0101_0101_0101n * BigInt(n + 1));
  g.setX(1, va);
  g.setX(6, 0);
  g.set(L.XREGS + 31 * 8, BigInt(va));
  for (let i = 0; i < 64; i++) g.set(L.VREGS + 8 * i, 0x7777_7777_7777_7777n);
  expect(g.take(USER_CODE).ec).toBe(0x15);
}

/** Stores and the bytes that they write from X1 on, or from SP. */
const STORES: [string, number][] = [
  ['str x0, [x1]', 8],
  ['str w0, [x1]', 4],
  ['strh w0, [x1]', 2],
  ['strb w0, [x1]', 1],
  ['stur x0, [x1, #0]', 8],
  ['str x0, [x1], #8', 8],
  ['strb w0, [x1, #0]!', 1],
  ['str x0, [x1, x6]', 8],
  ['str w0, [x1, x6, lsl #2]', 4],
  ['strh w0, [x1, w6, uxtw]', 2],
  ['strb w0, [x1, w6, sxtw]', 1],
  ['stp x0, x2, [x1]', 16],
  ['stp w0, w2, [x1], #8', 8],
  ['stp x0, x2, [x1, #0]!', 16],
  ['stnp x0, x2, [x1]', 16],
  ['str q0, [x1]', 16],
  ['str d0, [x1]', 8],
  ['str s0, [x1], #4', 4],
  ['str h0, [x1]', 2],
  ['str b0, [x1]', 1],
  ['str q0, [x1, x6]', 16],
  ['stp q0, q1, [x1]', 32],
  ['stp d0, d1, [x1]', 16],
  ['stp s0, s1, [x1, #0]!', 8],
  ['st1 {v0.16b}, [x1]', 16],
  ['st1 {v0.8h, v1.8h, v2.8h, v3.8h}, [x1]', 64],
  ['sttr x0, [x1]', 8],
  ['sttrb w0, [x1]', 1],
];
/** These must be aligned, and so cross no page. */
const ALIGNED = [
  'stlr x0, [x1]',
  'stlr w0, [x1]',
  'stlrh w0, [x1]',
  'stlrb w0, [x1]',
  'ldxr x3, [x1]\nstxr w4, x0, [x1]',
  'ldaxrb w3, [x1]\nstlxrb w4, w0, [x1]',
  'ldxp x3, x4, [x1]\nstxp w5, x0, x2, [x1]',
  'ldr x3, [x1]\ncas x3, x0, [x1]',
  'ldrb w3, [x1]\ncasalb w3, w0, [x1]',
  'swp x0, x3, [x1]',
  'ldadd w0, w3, [x1]',
  'steor x0, [x1]',
  'ldsmaxh w0, w3, [x1]',
  'dc zva, x1',
];
const NOTHING = [
  'ldr x0, [x1]',
  'ldp x0, x2, [x1]',
  'ldr q0, [x1]',
  'ld1 {v0.16b}, [x1]',
  'ldtr x0, [x1]',
  'ldaxr x0, [x1]',
  'ldar x0, [x1]',
  'prfm pstl1keep, [x1]',
  'dc cvac, x1',
  'dc civac, x1',
  'ic ivau, x1',
  // The monitor is open; the memory is not what was expected.
  'clrex\nstxr w4, x0, [x1]',
  'mov x3, #-1\ncas x3, x0, [x1]',
];

describe('written pages', () => {
  it('are those that a store changes, whatever the TLB holds and whichever instruction it is', () => {
    for (const source of [...STORES.map(([s]) => s), ...ALIGNED]) {
      for (const before of ['nothing', 'a load', 'a store', 'a fetch']) {
        for (const tracked of [false, true]) {
          g.page(DATA, PAGE.data);
          tracker.stop();
          if (tracked) tracker.start();
          if (before === 'a load') at('ldr x0, [x1]', DATA);
          if (before === 'a store') at('str xzr, [x1]', DATA);
          if (before === 'a fetch') {
            g.page(DATA, 1n << 6n);
            g.code('svc #1', DATA);
            g.pstate(0x3c0);
            g.take(DATA);
          }
          tracker.start();
          // Loads and fetches leave nothing to collect, and no tag that would hide the store.
          if (before === 'a store') written();
          g.store64(DATA + 0x80, 0x55n);
          at(source, DATA + 0x80);
          expect([source, before, g.load64(DATA + 0x80)]).not.toEqual([source, before, 0x55n]);
          expect([source, before, written()]).toEqual([source, before, [DATA]]);
          expect([source, before, written()]).toEqual([source, before, []]);
          // The same once more: the tags that it left must be gone.
          go(DATA + 0x80);
          expect([source, before, written()]).toEqual([source, before, [DATA]]);
        }
      }
    }
  });

  it('are both when a store crosses from one to another', () => {
    tracker.start();
    for (const [source, size] of STORES) {
      for (const va of [EDGE - size, EDGE - (size >> 1), EDGE - 1]) {
        const expected = [va, va + size - 1].map(a => a & ~0xfff).filter((p, i, all) => all.indexOf(p) === i);
        for (const known of [false, true]) {
          if (known) at('ldr x0, [x1]\nldr x0, [x1, #8]', va);
          else g.exports.tlbiAll(true);
          written();
          at(source, va);
          expect([source, va - EDGE, known, written()]).toEqual([source, va - EDGE, known, expected]);
        }
      }
    }
  });

  it('are also those of EL1, with PAN and without, of SP, and with the MMU or the TLB out of use', () => {
    tracker.start();
    for (const [page, pstate] of [
      [PAGE.data, 0x3c5],
      [PAGE.el1Data, 0x3c5 | (1 << 22)],
    ] as const) {
      g.page(DATA, page);
      for (const source of ['str x0, [x1]', 'str x0, [sp, #16]', 'stp x0, x2, [sp, #-16]!', 'stp q0, q1, [sp]']) {
        g.code(`${source}\nhvc #${STOP}`);
        for (let times = 0; times < 2; times++) {
          g.pstate(pstate);
          g.setX(1, DATA + 0x80);
          g.set(L.XREGS + 31 * 8, BigInt(DATA + 0x80));
          g.run(CODE);
          expect([source, written()]).toEqual([source, [DATA]]);
        }
      }
    }
    g.page(DATA, PAGE.data);
    g.code(`sttr x0, [x1]\nhvc #${STOP}`);
    g.pstate(0x3c5);
    g.setX(1, DATA);
    g.run(CODE);
    expect(written()).toEqual([DATA]);
    // SCTLR_EL1.A, and Device memory: nothing of these gets a tag.
    g.sysreg('SCTLR_EL1', M | A | FOR_EL0);
    for (let times = 0; times < 2; times++) {
      at('str x0, [x1]', DATA);
      expect(written()).toEqual([DATA]);
    }
    g.sysreg('SCTLR_EL1', M | FOR_EL0);
    g.page(DATA, PAGE.device);
    at('str x0, [x1]', DATA);
    expect(written()).toEqual([DATA]);
    g.sysreg('SCTLR_EL1', 0n);
    g.code(`str x0, [x1]\nhvc #${STOP}`);
    g.pstate(0x3c5);
    g.setX(1, DATA);
    g.run(CODE);
    expect(written()).toEqual([DATA]);
  });

  it('are none for loads, fetches, cache maintenance, stores that fail, and table walks', () => {
    tracker.start();
    g.store64(DATA, 0x1234n);
    for (const source of NOTHING) {
      g.exports.tlbiAll(true);
      at(source, DATA);
      expect([source, written()]).toEqual([source, []]);
    }
    g.code(`at s1e1w, x1\nat s1e0w, x1\nhvc #${STOP}`);
    g.pstate(0x3c5);
    g.setX(1, DATA);
    g.run(CODE);
    expect(written()).toEqual([]);
    g.page(DATA, PAGE.readOnly);
    g.code('str x0, [x1]\nsvc #1', USER_CODE);
    g.pstate(0x3c0);
    g.setX(1, DATA);
    expect(g.take(USER_CODE).ec).toBe(0x24);
    // The second page of a pair faults: nothing of the first is written.
    g.page(DATA, PAGE.data);
    g.page(EDGE, undefined);
    g.code('stp x0, x2, [x1]\nsvc #1', USER_CODE);
    g.pstate(0x3c0);
    g.setX(1, EDGE - 8);
    expect(g.take(USER_CODE).ec).toBe(0x24);
    expect(written()).toEqual([]);
  });

  it('are those of all vCPUs, and of an address that several of their tables and banks hold', () => {
    setUp(3);
    tracker.start();
    g.code('str x0, [x1]\nsvc #1', USER_CODE);
    for (let times = 0; times < 3; times++) {
      for (const cpu of [2, 0, 1]) {
        g.exports.switchTo(cpu);
        go(DATA + cpu * 0x1000);
        go(DATA + 0x8000);
      }
      expect(written()).toEqual([DATA, DATA + 0x1000, DATA + 0x2000, DATA + 0x8000]);
    }
    // Tags of one ASID are taken away while another one is current.
    for (const asid of [1n, 2n, 1n, 2n]) {
      g.sysreg('TTBR0_EL1', (g.get(L.TTBR0_EL1) & 0xffff_ffff_ffffn) | (asid << 48n));
      go(DATA);
      expect(written()).toEqual([DATA]);
    }
  });

  it('are kept until they are collected, over a TLB flush and a reset of the vCPU, and forgotten by start()', () => {
    at('str x0, [x1]', DATA);
    expect(written()).toEqual([]);
    tracker.start();
    expect(written()).toEqual([]);
    at('str x0, [x1]', DATA);
    g.exports.tlbiAll(true);
    at('str x0, [x1]', EDGE);
    g.exports.initialize(1);
    expect(written()).toEqual([DATA, EDGE]);
    tracker.stop();
    setUp(1);
    tracker.start();
    at('str x0, [x1]', DATA);
    tracker.stop();
    at('str x0, [x1]', EDGE);
    tracker.start();
    expect(written()).toEqual([]);
  });

  it('are exactly those whose bytes change, wherever the guest is interrupted to collect', () => {
    // Pseudo-random stores of every width over 16 pages; each writes a number that was not there before.
    g.code(
      `
      1: eor x7, x7, x7, lsl #13
      eor x7, x7, x7, lsr #7
      eor x7, x7, x7, lsl #17
      add x0, x0, #1
      orr x14, x0, x0, lsl #32
      and x8, x7, #0xfff8
      add x9, x1, x8
      ubfx x10, x7, #20, #3
      cmp x10, #1
      b.eq 2f
      cmp x10, #2
      b.eq 3f
      cmp x10, #3
      b.eq 4f
      cmp x10, #4
      b.eq 5f
      str x14, [x9]
      b 6f
      2: str x14, [x9, #4]
      b 6f
      3: stp x14, x14, [x9]
      b 6f
      4: dup v0.2d, x14
      str q0, [x9]
      b 6f
      5: ldxr x11, [x9]
      stxr w12, x14, [x9]
      cbnz w12, 5b
      6: ldr x13, [x1, x8]
      b 1b
    `,
      USER_CODE,
    );
    const ram = new Uint8Array(g.memory.buffer, L.RAM + DATA - RAM_BASE, 0x1_1000);
    tracker.start();
    let collected = 0;
    let first = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 1 }),
        fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 20 }),
        (seed, runs) => {
          g.pstate(0x3c0);
          // No number comes twice.
          g.setX(0, first);
          first += 0x1_0000;
          g.setX(1, DATA);
          g.setX(7, seed);
          g.set(L.PC, BigInt(USER_CODE));
          g.setU32(L.POWER, L.POWER_ON);
          written();
          for (const budget of runs) {
            const before = ram.slice();
            g.exports.run(budget);
            const changed: number[] = [];
            for (let p = 0; p < ram.length; p += 0x1000) {
              if (Buffer.compare(before.subarray(p, p + 0x1000), ram.subarray(p, p + 0x1000)) !== 0)
                changed.push(DATA + p);
            }
            expect(written()).toEqual(changed);
            collected += changed.length;
          }
        },
      ),
      { numRuns: 60 },
    );
    expect(collected).toBeGreaterThan(1000);
  });
});

describe('protected pages', () => {
  it('are told of once, before they change, with the contents that they had', () => {
    const told: [number, number, bigint][] = [];
    const protect = () => tracker.protect((base, length) => told.push([base, length, g.load64(base + 0x80)]));
    g.store64(DATA + 0x80, 7n);
    at('str x0, [x1]', DATA + 0x80);
    g.store64(DATA + 0x80, 7n);
    const first = protect();
    for (const source of NOTHING) at(source, DATA + 0x80);
    expect(told).toEqual([]);
    at('str x0, [x1]\nstr x0, [x1]\nstrb w0, [x1]', DATA + 0x80);
    go(DATA + 0x80);
    expect(told).toEqual([[DATA, 0x1000, 7n]]);
    expect(g.load64(DATA + 0x80)).toBe(0x0101_0101_0101_0101n);
    // Both pages of one store, before either changes.
    at('stp q0, q1, [x1]', EDGE + 0xff0);
    expect(told.slice(1).map(([base]) => base)).toEqual([EDGE, EDGE + 0x1000]);
    first[Symbol.dispose]();
    at('str x0, [x1]', DATA + 0x5000);
    expect(told.length).toBe(3);
  });

  it('are told of by each who asked, for the time since it asked', () => {
    const told: string[] = [];
    const a = tracker.protect(base => told.push(`a ${(base - DATA) / 0x1000}`));
    at('str x0, [x1]', DATA);
    const b = tracker.protect(base => told.push(`b ${(base - DATA) / 0x1000}`));
    at('str x0, [x1]', DATA);
    at('str x0, [x1]', EDGE);
    a[Symbol.dispose]();
    at('str x0, [x1]', DATA + 0x2000);
    b[Symbol.dispose]();
    at('str x0, [x1]', DATA + 0x3000);
    expect(told).toEqual(['a 0', 'b 0', 'a 1', 'b 1', 'b 2']);
    expect(g.view.getUint32(L.TRACKING, true)).toBe(0);
  });

  it('and a log do not disturb each other; whoever is told may collect, and protect anew', () => {
    const told: number[] = [];
    const inside: number[][] = [];
    let second: Disposable | undefined;
    tracker.start();
    const first = tracker.protect(base => {
      told.push(base);
      inside.push(written());
      second ??= tracker.protect(again => told.push(again + 1));
    });
    at('str x0, [x1]', DATA);
    expect(told).toEqual([DATA, DATA + 1]);
    expect(inside).toEqual([[]]);
    // The store came after what was collected inside.
    expect(written()).toEqual([DATA]);
    at('str x0, [x1]', DATA);
    expect([told.length, written()]).toEqual([2, [DATA]]);
    first[Symbol.dispose]();
    second?.[Symbol.dispose]();
    at('str x0, [x1]', DATA);
    expect(written()).toEqual([DATA]);
    expect(told.length).toBe(2);
  });

  it('give a fork that is exact: old contents from before, whatever is written later', () => {
    g.code(
      `
      1: str x0, [x1, x2]
      add x0, x0, #1
      add x2, x2, #0x138
      and x2, x2, #0x1ffff
      b 1b
    `,
      USER_CODE,
    );
    const ram = new Uint8Array(g.memory.buffer, L.RAM, RAM_SIZE);
    g.pstate(0x3c0);
    g.setX(1, DATA);
    g.setX(2, 3);
    g.set(L.PC, BigInt(USER_CODE));
    g.setU32(L.POWER, L.POWER_ON);
    for (let fork = 0; fork < 5; fork++) {
      g.exports.run(1777);
      const expected = ram.slice();
      const kept = new Map<number, Uint8Array>();
      const protection = tracker.protect(base => {
        expect(kept.has(base)).toBe(false);
        kept.set(base, ram.slice(base - RAM_BASE, base - RAM_BASE + 0x1000));
      });
      g.exports.run(5000);
      protection[Symbol.dispose]();
      const child = ram.slice();
      for (const [base, bytes] of kept) child.set(bytes, base - RAM_BASE);
      expect(Buffer.compare(child, expected)).toBe(0);
      expect(Buffer.compare(ram, expected)).not.toBe(0);
    }
  });
});

describe('a guest cannot tell', () => {
  const GROUPS = ['integer', 'branch', 'memory', 'lse', 'float', 'simd', 'blocks'] as const;
  for (const group of GROUPS) {
    it(`${group}: every encoding does what QEMU does, and the pages that it changes are those that are noted`, () => {
      const harness = new CoreHarness();
      const of = new CoreWriteTracker(harness.core, 0x4000_0000);
      of.start();
      const bytes = readFileSync(new URL(`../vectors/${group}.bin.gz`, import.meta.url));
      /** By row: whether QEMU's memory changed, and whether a page was noted. */
      const rows = new Map<string, { stores: boolean; noted: boolean }>();
      const wrong: string[] = [];
      let n = 0;
      for (const { name, input, result } of unpackVectors(bytes)) {
        written(of);
        const actual = harness.execute(input, n++ % 2 === 0 ? 'run' : 'step');
        wrong.push(...compare(input, result, actual).map(line => `${name}: ${line}`));
        const pages = written(of);
        const row = rows.get(name) ?? { stores: false, noted: false };
        rows.set(name, row);
        row.stores ||= actual.bytes.length > 0;
        row.noted ||= pages.length > 0;
        for (let i = 0; i < actual.bytes.length; i += 0x1000) {
          // The range from the first change to the last: its ends have changed.
          for (const at of [actual.changed + i, actual.changed + actual.bytes.length - 1]) {
            const page = (VECTOR_DATA + at) & ~0xfff;
            if (!pages.includes(page)) wrong.push(`${name}: a store to page 0x${page.toString(16)} was lost`);
          }
        }
      }
      for (const [name, row] of rows) {
        // One of CASP found what it expected, and stored the same.
        if (row.noted && !row.stores && !name.startsWith('CASP')) wrong.push(`${name}: noted, and changes nothing`);
      }
      expect(wrong.slice(0, 20), `${wrong.length} failures`).toEqual([]);
    });
  }

  it('with a virtual clock: the same instructions, console and memory, tracked or not', async () => {
    const run = async (track: boolean) => {
      let text = '';
      let pages = 0;
      const machine = await createMachine(
        {
          machine: 'arm-virt',
          engine: 'emu',
          kernel: embeddedGuest(),
          initrd: undefined,
          params: '',
          memoryBytes: 64 << 20,
          cpus: 2,
          clock: 'virtual',
          gic: 3,
          seed: 1,
          trace: [],
          devices: [],
          pciSlots: 0,
        },
        {
          console: bytes => {
            text += Buffer.from(bytes).toString('latin1');
          },
          exit: () => undefined,
          log: () => undefined,
        },
      );
      const { writeTracker } = (machine as GuestMachine).board.engine as EmulatedArmCpus['engine'];
      if (track) writeTracker.start();
      for (let steps = 0; steps < 2000; steps++) {
        const protection = track ? writeTracker.protect(() => pages++) : undefined;
        const state = machine.step();
        protection?.[Symbol.dispose]();
        if (track) pages += written(writeTracker).length;
        if (state === 'stopped') break;
      }
      return { text, pages, hash: machine.memoryHash(), instructions: machine.info().instructions };
    };
    const plain = await run(false);
    const tracked = await run(true);
    expect(tracked.pages).toBeGreaterThan(10);
    expect(plain.text.length).toBeGreaterThan(100);
    expect({ ...tracked, pages: 0 }).toEqual(plain);
  });
});
