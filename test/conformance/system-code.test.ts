// Code that changes: by the guest's stores or behind its back, seen after the maintenance that the architecture asks for
// (DDI 0487 B2.7.4), whatever the core made of the old instructions.
import { beforeEach, describe, expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { CODE, DATA, Guest, STOP, wordOf } from './system-guest.ts';

let g: Guest;
beforeEach(() => {
  g = new Guest();
  g.identity();
});

/** Where the patched sequences lie: EL1 may write there and execute. */
const AT = CODE + 0x2000;

/** Two instructions that the core may do as one. */
const SEQUENCES: [name: string, first: string, second: string][] = [
  ['compare and branch', 'cmp x1, #1', 'b.eq taken'],
  ['test and branch', 'tst x1, #2', 'b.eq taken'],
  ['compare registers and branch', 'cmp w1, w2', 'b.ne taken'],
  // With the ADD before them, these may be one operation of three instructions.
  ['compare and branch behind an add', 'cmp x1, #2', 'b.ne taken'],
  ['compare registers and branch behind an add', 'cmp w1, w2', 'b.eq taken'],
  ['add and add', 'add x0, x0, #1', 'add x0, x0, #2'],
  ['move and move', 'mov x0, #1', 'mov x3, #2'],
  ['load and branch', 'ldr x3, [x4]', 'cbz x3, taken'],
  ['load byte and branch', 'ldrb w3, [x4]', 'cbnz w3, taken'],
  ['adrp and add', 'adrp x3, .', 'add x3, x3, #8'],
  ['move and call', 'mov x0, x1', 'bl taken'],
  ['multiply twice', 'madd x3, x1, x2, x0', 'madd x0, x1, x2, x0'],
  ['stack', 'ldp x29, x30, [sp]', 'ldp x5, x6, [sp]'],
];

/** The pair between what goes before it and what shows where it went. */
function source(before: string, first: string, second: string): string {
  return `${before}\n${first}\n${second}\nadd x0, x0, #0x100\nhvc #${STOP}\ntaken: add x0, x0, #0x200\nhvc #${STOP}`;
}

function go(at: number): bigint {
  g.pstate(0x3c5);
  for (const [n, v] of [
    [0, 0n],
    [1, 1n],
    [2, 1n],
    [3, 7n],
    [4, BigInt(DATA)],
  ] as const)
    g.setX(n, v);
  g.set(L.XREGS + 31 * 8, BigInt(DATA + 0x100));
  g.run(at);
  return g.x(0);
}

/** What a sequence does on a core that has never seen another one. */
function fresh(at: number, text: string): bigint {
  g.code(text, at);
  return go(at);
}

const MAINTENANCE: [string, string][] = [
  ['IC IVAU', 'dc cvau, x10\ndsb ish\nic ivau, x10\ndsb ish\nisb'],
  ['IC IALLU', 'dsb ish\nic iallu\ndsb ish\nisb'],
  ['IC IALLUIS', 'dsb ish\nic ialluis\ndsb ish\nisb'],
];

describe('self-modifying code', () => {
  for (const [how, maintenance] of MAINTENANCE) {
    it(`is seen after ${how}: either half of what may be one operation, at every place of a line and page`, () => {
      for (const [name, first, second] of SEQUENCES) {
        // `first` at the start, in the middle and at the end of a line; the pair across lines and across pages.
        for (const offset of [0x40, 0x60, 0x74, 0x78, 0x7c, 0xff4, 0xff8, 0xffc]) {
          const pair = AT + offset;
          for (const which of [0, 1]) {
            const halves: [string, string] = [first, second];
            halves[which] = 'eor x0, x0, #0x10';
            const at = pair - 8;
            const before = 'mov x9, #3\nadd x8, x8, #1';
            const expected = fresh(at, source(before, ...halves));
            g.code(`str w11, [x10]\n${maintenance}\nbr x12`);
            const original = fresh(at, source(before, first, second));
            g.code(`str w11, [x10]\n${maintenance}\nbr x12`);
            // code() forgets what is decoded: once more, so that the core holds the old pair.
            expect(go(at)).toBe(original);
            g.setX(10, pair + 4 * which);
            g.setX(11, wordOf('eor x0, x0, #0x10'));
            g.setX(12, at);
            g.pstate(0x3c5);
            for (const [n, v] of [
              [0, 0n],
              [1, 1n],
              [2, 1n],
              [3, 7n],
              [4, BigInt(DATA)],
            ] as const)
              g.setX(n, v);
            g.run(CODE);
            expect([name, how, offset.toString(16), which, g.x(0)]).toEqual([
              name,
              how,
              offset.toString(16),
              which,
              expected,
            ]);
          }
        }
      }
    });
  }

  it('leaves alone what is paired in the line before', () => {
    // Six loads of pairs, two of which may be one operation; the core forgets what the last two before the line are to do.
    for (const before of [3, 4, 5, 6]) {
      const line = AT + 0x80;
      const at = line - 4 * before;
      const registers = [5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 19, 20].slice(0, 2 * before);
      const loads = Array.from({ length: before }, (_, n) => {
        return `ldp x${registers[2 * n]}, x${registers[2 * n + 1]}, [sp, #${16 * n}]`;
      });
      g.code(`str w11, [x10]\n${MAINTENANCE[0]![1]}\nbr x12`);
      g.code(`${loads.join('\n')}\nmov x21, #1\nhvc #${STOP}`, at);
      for (let n = 0; n < registers.length; n++) g.store64(DATA + 0x100 + 8 * n, BigInt(100 + n));
      go(at);
      for (const r of [0, ...registers]) g.setX(r, 0n);
      g.setX(10, line);
      g.setX(11, wordOf('mov x21, #2'));
      g.setX(12, at);
      g.run(CODE);
      expect([g.x(21), g.x(0)]).toEqual([2n, 0n]);
      expect(registers.map(r => g.x(r))).toEqual(registers.map((_, n) => BigInt(100 + n)));
    }
  });

  it('is seen in the line that runs, by what branches and by what falls into it', () => {
    // Patches the instruction behind the maintenance, in the same line.
    g.code(
      `
      adr x10, 1f
      ldr w11, 2f
      str w11, [x10]
      dc cvau, x10
      dsb ish
      ic ivau, x10
      dsb ish
      isb
      mov x0, #0
    1: add x0, x0, #1
      hvc #${STOP}
    2: add x0, x0, #64
    `,
      AT,
    );
    g.pstate(0x3c5);
    // The first run decodes the old instruction on its way only if it comes before the patch: run the tail alone first.
    g.run(AT + 8 * 4);
    expect(g.x(0)).toBe(1n);
    g.run(AT);
    expect(g.x(0)).toBe(64n);
  });

  it('of a loop that runs hot changes at once', () => {
    g.code(
      `
      mov x0, #0
      mov x5, #2000
      adr x10, 2f
      ldr w11, 4f
    1: add x0, x0, #1
    2: add x0, x0, #1
      subs x5, x5, #1
      b.eq 3f
      cmp x5, #1000
      b.ne 1b
      str w11, [x10]
      dc cvau, x10
      dsb ish
      ic ivau, x10
      dsb ish
      isb
      b 1b
    3: hvc #${STOP}
    4: add x0, x0, #3
    `,
      AT,
    );
    g.pstate(0x3c5);
    g.run(AT, 1_000_000);
    expect(g.x(0)).toBe(1000n * 2n + 1000n * 4n);
  });
});

describe('code that the host wrote', () => {
  it('is seen after IC IVAU of its lines, and where it was never executed', () => {
    for (const [name, first, second] of SEQUENCES) {
      for (const offset of [0x40, 0x7c, 0xffc]) {
        const at = AT + offset - 8;
        const before = 'mov x9, #3\nadd x8, x8, #1';
        const other = source(before, 'eor x0, x0, #0x20', 'eor x0, x0, #0x40');
        const expected = fresh(at, other);
        const bytes = Array.from({ length: 9 }, (_, i) => g.load32(at + 4 * i));
        g.code(`1: ic ivau, x10\nadd x10, x10, #64\ncmp x10, x11\nb.lo 1b\ndsb ish\nisb\nbr x12`);
        const original = fresh(at, source(before, first, second));
        g.code(`1: ic ivau, x10\nadd x10, x10, #64\ncmp x10, x11\nb.lo 1b\ndsb ish\nisb\nbr x12`);
        expect(go(at)).toBe(original);
        for (const [i, w] of bytes.entries()) g.store32(at + 4 * i, w);
        g.setX(10, at & ~63);
        g.setX(11, at + 36);
        g.setX(12, at);
        g.setX(0, 0);
        g.pstate(0x3c5);
        g.run(CODE);
        expect([name, offset, g.x(0)]).toEqual([name, offset, expected]);
      }
    }
  });
});
