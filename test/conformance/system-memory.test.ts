// Loads and stores that stop half way: alignment, Device memory, and accesses that cross into a page that faults.
import { beforeEach, describe, expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { CODE, DATA, Guest, PAGE, USER_CODE } from './system-guest.ts';

const A = 2n;
let g: Guest;
beforeEach(() => {
  g = new Guest();
  g.identity(1n << 14n);
  g.sysreg('CPACR_EL1', 3n << 20n);
});

/** Runs `source` at EL0 with X1 = va. EC 0x15 when it went through to the SVC behind it. */
function at(source: string, va: number) {
  g.code(`${source}\nsvc #1`, USER_CODE);
  g.pstate(0x3c0);
  for (const n of [0, 2, 3, 4, 5]) g.setX(n, 0x0101_0101_0101_0101n * BigInt(n + 1));
  g.setX(1, va);
  for (let i = 0; i < 64; i++) g.set(L.VREGS + 8 * i, 0x7777_7777_7777_7777n);
  return g.take(USER_CODE);
}

const PLAIN: [string, number, 'r' | 'w'][] = [
  ['ldr x0, [x1]', 8, 'r'],
  ['ldr w0, [x1]', 4, 'r'],
  ['ldrsh x0, [x1]', 2, 'r'],
  ['str x0, [x1]', 8, 'w'],
  ['str w0, [x1]', 4, 'w'],
  ['strh w0, [x1]', 2, 'w'],
  ['ldr d0, [x1]', 8, 'r'],
  ['str s0, [x1]', 4, 'w'],
  ['ldr q0, [x1]', 16, 'r'],
  ['str q0, [x1]', 16, 'w'],
  ['ldp q0, q1, [x1]', 16, 'r'],
  ['stp q0, q1, [x1]', 16, 'w'],
  ['ldp x0, x2, [x1]', 8, 'r'],
  ['stp w0, w2, [x1]', 4, 'w'],
  ['ldr x0, [x1], #8', 8, 'r'],
  ['str x0, [x1, #0]!', 8, 'w'],
];
const STRICT: [string, number, 'r' | 'w'][] = [
  ['ldxr x0, [x1]', 8, 'r'],
  ['ldaxr w0, [x1]', 4, 'r'],
  ['ldxp x0, x2, [x1]', 16, 'r'],
  ['stxr w0, x2, [x1]', 8, 'w'],
  ['ldar x0, [x1]', 8, 'r'],
  ['ldarh w0, [x1]', 2, 'r'],
  ['stlr w0, [x1]', 4, 'w'],
  // What reads and writes reports a read: that would have faulted by itself (D17.2.37, WnR).
  ['ldadd x0, x2, [x1]', 8, 'r'],
  ['swp w0, w2, [x1]', 4, 'r'],
  ['cas x0, x2, [x1]', 8, 'r'],
];

describe('alignment', () => {
  it('of plain accesses is asked for by SCTLR_EL1.A and by Device memory', () => {
    for (const [source, size, kind] of PLAIN) {
      for (const offset of [0, 1, size / 2, size - 1, size]) {
        for (const [sctlr, page] of [
          [0n, PAGE.data],
          [A, PAGE.data],
          [0n, PAGE.device],
        ] as const) {
          g.sysreg('SCTLR_EL1', 1n | sctlr);
          g.page(DATA, page);
          const t = at(source, DATA + 0x100 + offset);
          const faults = offset % size !== 0 && (sctlr !== 0n || page === PAGE.device);
          const about = [source, offset, sctlr, page === PAGE.device];
          expect([...about, t.ec]).toEqual([...about, faults ? 0x24 : 0x15]);
          if (faults)
            expect([t.iss, t.far, g.x(1)]).toEqual([
              0x21 | (kind === 'w' ? 0x40 : 0),
              BigInt(DATA + 0x100 + offset),
              BigInt(DATA + 0x100 + offset),
            ]);
        }
      }
    }
  });

  it('of exclusive, ordered and atomic accesses is always asked for, before translation', () => {
    for (const [source, size, kind] of STRICT) {
      for (const page of [PAGE.data, undefined]) {
        g.page(DATA, page);
        for (const offset of [0, 1, size / 2, size]) {
          const t = at(source, DATA + 0x100 + offset);
          const about = [source, offset, page === undefined];
          // A store-exclusive without a monitor does nothing.
          if (offset % size === 0)
            expect([...about, t.ec]).toEqual([
              ...about,
              page === undefined && !source.startsWith('stxr') ? 0x24 : 0x15,
            ]);
          else
            expect([...about, t]).toMatchObject([
              ...about,
              { ec: 0x24, iss: 0x21 | (kind === 'w' ? 0x40 : 0), far: BigInt(DATA + 0x100 + offset) },
            ]);
        }
      }
    }
  });

  it('fails DC ZVA on Device memory, and so with the MMU off', () => {
    g.page(DATA, PAGE.device);
    expect(at('dc zva, x1', DATA + 0x100)).toMatchObject({ ec: 0x24, iss: 0x61, far: BigInt(DATA + 0x100) });
    g.page(DATA, PAGE.data);
    for (let i = 0; i < 0x200; i += 8) g.store64(DATA + i, ~0n);
    expect(at('dc zva, x1', DATA + 0x123).ec).toBe(0x15);
    for (let i = 0; i < 0x200; i += 8)
      expect([i, g.load64(DATA + i)]).toEqual([i, i >= 0x100 && i < 0x140 ? 0n : (1n << 64n) - 1n]);
    g.sysreg('SCTLR_EL1', 0n);
    g.code('dc zva, x1');
    g.pstate(0x3c5);
    g.setX(1, DATA);
    expect(g.take(CODE)).toMatchObject({ ec: 0x25, iss: 0x61 });
  });

  it('of SCTLR_EL1.A holds in a page that code runs from', () => {
    g.sysreg('SCTLR_EL1', 1n | A);
    expect(at('ldr x0, [x1]', USER_CODE + 0x101)).toMatchObject({ ec: 0x24, iss: 0x21 });
  });
});

describe('across pages', () => {
  const EDGE = DATA + 0x1000;
  /** Accesses, how far before the edge they start, whether they write. */
  const cases: [string, number, boolean][] = [
    ['ldr x0, [x1]', 4, false],
    ['ldr w0, [x1]', 1, false],
    ['ldrh w0, [x1]', 1, false],
    ['ldr x0, [x1], #8', 7, false],
    ['ldr x0, [x1, #8]!', 12, false],
    ['ldp x0, x2, [x1]', 8, false],
    ['ldp x0, x2, [x1], #16', 3, false],
    ['ldp w0, w2, [x1]', 4, false],
    ['ldpsw x0, x2, [x1]', 4, false],
    ['ldr q0, [x1]', 8, false],
    ['ldp q0, q1, [x1]', 16, false],
    ['ldp q0, q1, [x1], #32', 24, false],
    ['ldp d0, d1, [x1]', 8, false],
    ['str x0, [x1]', 4, true],
    ['str w0, [x1]', 3, true],
    ['strh w0, [x1]', 1, true],
    ['str x0, [x1], #8', 1, true],
    ['str x0, [x1, #8]!', 12, true],
    ['stp x0, x2, [x1]', 8, true],
    ['stp x0, x2, [x1], #16', 5, true],
    ['stp w0, w2, [x1, #-8]!', -4, true],
    ['str q0, [x1]', 8, true],
    ['stp q0, q1, [x1]', 16, true],
    ['stp q0, q1, [x1], #32', 8, true],
    ['stp d0, d1, [x1]', 8, true],
    ['stp s0, s1, [x1]', 4, true],
    ['str d0, [x1]', 4, true],
  ];
  const snapshot = () => [
    ...[0, 1, 2].map(g.x),
    ...Array.from({ length: 8 }, (_, i) => g.get(L.VREGS + 8 * i)),
    ...Array.from({ length: 16 }, (_, i) => g.load64(EDGE - 64 + 8 * i)),
  ];

  it('change nothing when one of them faults, and report the first byte that did', () => {
    for (const [source, before, write] of cases) {
      for (const [first, second, status] of [
        [PAGE.data, undefined, 0x07],
        [PAGE.data, PAGE.el1Data, 0x0f],
        [PAGE.data, write ? PAGE.readOnly : PAGE.el1Data, 0x0f],
        [undefined, PAGE.data, 0x07],
      ] as const) {
        g.page(DATA, first);
        g.page(EDGE, second);
        for (let i = 0; i < 16; i++) g.store64(EDGE - 64 + 8 * i, 0x8877_6655_4433_2200n + BigInt(i));
        const va = EDGE - before;
        g.code(`${source}\nsvc #1`, USER_CODE);
        g.pstate(0x3c0);
        g.setX(0, 1);
        g.setX(1, va);
        g.setX(2, 2);
        const start = snapshot();
        const t = g.take(USER_CODE);
        const pre = /#(-?\d+)\]!/.exec(source);
        const address = va + Number(pre?.[1] ?? 0);
        const about = [source, status, first === undefined];
        expect([...about, t]).toMatchObject([
          ...about,
          {
            ec: 0x24,
            iss: status | (write ? 0x40 : 0),
            far: BigInt(first === undefined ? address : EDGE),
            elr: BigInt(USER_CODE),
          },
        ]);
        expect([...about, ...snapshot()]).toEqual([...about, ...start]);
      }
    }
  });

  it('go to both pages, wherever these are', () => {
    // The second page maps the memory before the first.
    g.page(DATA, PAGE.data, DATA + 0x5000);
    g.page(EDGE, PAGE.data, DATA + 0x4000);
    for (const [source, before, write] of cases) {
      const size = source.includes('q1') ? 32 : source.includes('q0') || /[xd]0, [xd][12]/.test(source) ? 16 : 8;
      for (let i = 0; i < 64; i++) {
        g.ram.setUint8(DATA + 0x5fc0 + i - 0x4000_0000, i + 1);
        g.ram.setUint8(DATA + 0x4000 + i - 0x4000_0000, i + 65);
      }
      expect([source, at(source, EDGE - before).ec]).toEqual([source, 0x15]);
      if (write) continue;
      const pre = Number(/#(-?\d+)\]!/.exec(source)?.[1] ?? 0);
      const low = g.ram.getUint8(DATA + 0x6000 - before + pre - 0x4000_0000);
      const got = /q0|d0/.test(source) ? g.get(L.VREGS) : g.x(0);
      expect([source, size > 0, Number(got & 255n)]).toEqual([source, true, low]);
    }
    g.store64(DATA + 0x5ff8, 0n);
    g.store64(DATA + 0x4000, 0n);
    at('str x0, [x1]', EDGE - 3);
    expect([g.load64(DATA + 0x5ff8), g.load64(DATA + 0x4000)]).toEqual([0x0101_0100_0000_0000n, 0x01_0101_0101n]);
  });
});
