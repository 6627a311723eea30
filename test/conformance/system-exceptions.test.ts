// Exceptions between EL0 and EL1: entry, return, interrupts, traps (DDI 0487 D1.10 to D1.13).
import { beforeEach, describe, expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { CODE, DATA, Guest, STOP, USER_CODE, VECTORS } from './system-guest.ts';

let g: Guest;
beforeEach(() => {
  g = new Guest();
  g.identity();
});

const LEVELS = [
  { name: 'EL1h', mode: 5, offset: 0x200, at: CODE },
  { name: 'EL1t', mode: 4, offset: 0, at: CODE },
  { name: 'EL0', mode: 0, offset: 0x400, at: USER_CODE },
] as const;

describe('synchronous exceptions', () => {
  // source, EC and ISS, whether ELR is behind the instruction.
  const UNDEFINED = [0x00, 0] as const;
  const cases: [string, readonly [number, number], boolean?][] = [
    ['svc #0x1234', [0x15, 0x1234], true],
    ['brk #0xffff', [0x3c, 0xffff]],
    ['hlt #1', UNDEFINED],
    ['smc #0', UNDEFINED],
    ['.word 0', UNDEFINED],
    ['.word 0xffffffff', UNDEFINED],
    ['.word 0xd4a00001', UNDEFINED], // DCPS1
    ['mrs x0, s3_0_c15_c15_7', UNDEFINED],
    ['msr s3_6_c1_c0_0, x0', UNDEFINED], // SCTLR_EL3
    ['mrs x0, sp_el1', UNDEFINED],
  ];
  for (const [source, [ec, iss], behind = false] of cases) {
    for (const { name, mode, offset, at } of LEVELS) {
      it(`${source} at ${name}`, () => {
        g.code(source, at);
        for (const flags of [0x3c0, 0xa000_0080, 0x5000_0000]) {
          g.pstate((flags | mode) >>> 0);
          expect(g.take(at)).toMatchObject({
            vector: offset,
            ec,
            iss,
            elr: BigInt(behind ? at + 4 : at),
            spsr: BigInt((flags | mode) >>> 0),
          });
          expect([L.EL, L.SPSEL, L.DAIF, L.PSTATE_SS, L.PSTATE_IL].map(g.u32)).toEqual([1, 1, 0x3c0, 0, 0]);
        }
      });
    }
  }

  it('are UNDEFINED or trapped for EL0 where only EL1 may', () => {
    for (const source of [
      'eret',
      'hvc #0',
      'mrs x0, sctlr_el1',
      'msr vbar_el1, x0',
      'tlbi vmalle1',
      'msr spsel, #1',
      'at s1e1r, x0',
      'dc isw, x0',
      'ic iallu',
      'dc ivac, x0',
    ]) {
      g.code(source, USER_CODE);
      g.pstate(0x3c0);
      expect([source, g.take(USER_CODE)]).toMatchObject([source, { ec: 0, iss: 0, vector: 0x400 }]);
    }
    // ISS of EC 0x18: Op0, Op2, Op1, CRn, Rt, CRm, direction (D17.2.37).
    const trapped: [string, number][] = [
      ['mrs x3, ctr_el0', (3 << 20) | (1 << 17) | (3 << 14) | (0 << 10) | (3 << 5) | (0 << 1) | 1],
      ['dc cvau, x5', (1 << 20) | (1 << 17) | (3 << 14) | (7 << 10) | (5 << 5) | (11 << 1)],
      ['dc civac, x5', (1 << 20) | (1 << 17) | (3 << 14) | (7 << 10) | (5 << 5) | (14 << 1)],
      ['ic ivau, x6', (1 << 20) | (1 << 17) | (3 << 14) | (7 << 10) | (6 << 5) | (5 << 1)],
      ['dc zva, x7', (1 << 20) | (1 << 17) | (3 << 14) | (7 << 10) | (7 << 5) | (4 << 1)],
      ['msr daifset, #2', (0 << 20) | (6 << 17) | (3 << 14) | (4 << 10) | (31 << 5) | (2 << 1)],
    ];
    for (const [source, iss] of trapped) {
      g.code(source, USER_CODE);
      g.pstate(0x3c0);
      expect([source, g.take(USER_CODE)]).toMatchObject([source, { ec: 0x18, iss, vector: 0x400 }]);
    }
  });

  it('HVC calls the host and goes on', () => {
    g.code('hvc #7\nwfi');
    expect(g.run(CODE)).toBe(BigInt(CODE + 4));
    expect(g.calls).toEqual([7]);
  });

  it('sets PSTATE.PAN unless SCTLR_EL1.SPAN', () => {
    for (const { mode, at } of LEVELS) {
      for (const span of [0n, 1n << 23n]) {
        for (const pan of [0, 1]) {
          g.sysreg('SCTLR_EL1', 1n | span);
          g.code('svc #0', at);
          g.pstate(0x3c0 | mode | (pan << 22));
          expect((g.take(at).spsr >> 22n) & 1n).toBe(BigInt(pan));
          expect(g.u32(L.PAN)).toBe(span === 0n ? 1 : pan);
        }
      }
    }
  });

  it('traps WFI and WFE of EL0 that would wait', () => {
    for (const [source, allow, ti] of [
      ['wfi', 1n << 16n, 0],
      ['wfe', 1n << 18n, 1],
    ] as const) {
      g.code(`${source}\nsvc #1`, USER_CODE);
      g.sysreg('SCTLR_EL1', 1n);
      g.setU32(L.EVENT, 0);
      g.pstate(0x3c0);
      expect(g.take(USER_CODE)).toMatchObject({ ec: 1, iss: 0x1e0_0000 | ti, elr: BigInt(USER_CODE) });
      // An interrupt that waits, though masked, or the event: nothing to wait for, nothing to trap.
      g.setU32(L.EVENT, 1);
      g.setU32(L.IRQ_LINES, 1);
      g.pstate(0x3c0);
      g.set(L.PC, BigInt(USER_CODE));
      g.setU32(L.POWER, L.POWER_ON);
      g.exports.run(2);
      expect(g.get(L.ESR_EL1) >> 26n).toBe(0x15n);
      g.setU32(L.IRQ_LINES, 0);
      g.sysreg('SCTLR_EL1', 1n | allow);
      g.setU32(L.EVENT, 0);
      g.pstate(0x3c0);
      g.set(L.PC, BigInt(USER_CODE));
      g.setU32(L.POWER, L.POWER_ON);
      expect(g.exports.run(100)).toBe(source === 'wfi' ? L.EXIT_WFI : L.EXIT_WFE);
    }
  });
});

describe('stack pointers', () => {
  it('are banked by SPSel, MSR SPSel and levels', () => {
    g.code('mov x0, sp\nmsr spsel, #0\nmov x1, sp\nadd sp, sp, #16\nmsr spsel, #1\nmov x2, sp\nmrs x3, sp_el0\nwfi');
    g.set(L.SP_EL0, 0x1000n);
    g.set(L.XREGS + 31 * 8, 0x2000n);
    g.run(CODE);
    expect([0, 1, 2, 3].map(g.x)).toEqual([0x2000n, 0x1000n, 0x2000n, 0x1010n]);
    g.code('sub sp, sp, #32\nsvc #0', USER_CODE);
    g.pstate(0x3c0);
    g.take(USER_CODE);
    expect(g.get(L.XREGS + 31 * 8)).toBe(0x2000n);
    expect(g.get(L.SP_EL0)).toBe(0x1010n - 32n);
  });

  const uses = [
    'ldr x0, [sp]',
    'str x0, [sp]',
    'ldp x0, x1, [sp]',
    'stp x0, x1, [sp, #-16]!',
    'ldrb w0, [sp, #1]',
    'ldr q0, [sp]',
    'str q0, [sp], #16',
    'ldxr x0, [sp]',
    'stlr x0, [sp]',
    'ldadd x0, x1, [sp]',
    'ldtr x0, [sp]',
    'ld1 {v0.16b}, [sp]',
    'ldur x0, [sp, #8]',
    'ldpsw x0, x1, [sp]',
    'ldp q0, q1, [sp]',
    'cas x0, x1, [sp]',
    'ldr b0, [sp]',
    'ldnp x0, x1, [sp]',
    'ldr x0, [sp, x1]',
    'strb w0, [sp, w1, uxtw]',
    'ldr d0, [sp, w1, sxtw]',
    '.word 0x0d4007e0',
  ];
  for (const { name, mode, offset, at } of LEVELS) {
    it(`must be aligned where SCTLR_EL1.${mode === 0 ? 'SA0' : 'SA'} says so (${name})`, () => {
      g.sysreg('CPACR_EL1', 3n << 20n);
      const check = mode === 0 ? 16n : 8n;
      const missed: string[] = [];
      for (const source of uses) {
        g.code(`${source}\nsvc #0`, at);
        for (const [sctlr, sp, faults] of [
          [check, 8n, true],
          [check, 0n, false],
          [check ^ 24n, 8n, false],
        ] as const) {
          g.sysreg('SCTLR_EL1', 1n | sctlr);
          g.pstate(0x3c0 | mode);
          g.set(L.XREGS + 31 * 8, BigInt(DATA) + 0x100n + sp);
          g.setX(1, 0);
          const t = g.take(at);
          if (t.ec !== (faults ? 0x26 : 0x15)) {
            missed.push(`${source}: EC ${t.ec}`);
            continue;
          }
          expect(t.vector).toBe(offset);
          if (!faults) continue;
          expect([t.iss, t.elr]).toEqual([0, BigInt(at)]);
          expect(g.get(mode === 5 ? L.XREGS + 31 * 8 : L.SP_EL0)).toBe(BigInt(DATA) + 0x108n);
        }
      }
      expect(missed).toEqual([]);
    });
  }
});

describe('ERET', () => {
  it('restores PSTATE and goes to ELR', () => {
    g.code('eret');
    g.code('mov x5, sp\nmrs x6, nzcv\nsvc #1', USER_CODE);
    for (const [mode, at] of [
      [0, USER_CODE],
      [4, CODE + 0x100],
      [5, CODE + 0x100],
    ] as const) {
      g.code('mov x5, sp\nmrs x6, nzcv\nsvc #1', at);
      g.code('eret');
      g.pstate(0x3c5);
      g.set(L.SP_EL0, 0x100n);
      g.set(L.XREGS + 31 * 8, 0x200n);
      g.set(L.ELR_EL1, BigInt(at));
      g.set(L.SPSR_EL1, BigInt((0x6000_0240 | mode | (1 << 22)) >>> 0));
      g.setU32(L.EXCLUSIVE_SIZE, 8);
      g.setU32(L.EVENT, 0);
      const t = g.take(CODE);
      expect(t).toMatchObject({ ec: 0x15, elr: BigInt(at + 12), spsr: BigInt((0x6000_0240 | mode | (1 << 22)) >>> 0) });
      expect(t.vector).toBe(mode === 0 ? 0x400 : mode === 4 ? 0 : 0x200);
      expect([g.x(5), g.x(6)]).toEqual([mode === 5 ? 0x200n : 0x100n, 0x6000_0000n]);
      expect([g.u32(L.EXCLUSIVE_SIZE), g.u32(L.EVENT)]).toEqual([0, 1]);
    }
  });

  it('to a state that does not exist sets PSTATE.IL and stays', () => {
    g.code('nop\nnop\nnop', CODE + 0x100);
    for (let mode = 0; mode < 32; mode++) {
      if ([0, 4, 5].includes(mode)) continue;
      for (const sp of [4, 5]) {
        g.code('eret');
        g.pstate(0x3c0 | sp);
        g.set(L.ELR_EL1, BigInt(CODE + 0x100));
        g.set(L.SPSR_EL1, BigInt((0x9000_0140 | mode) >>> 0));
        const t = g.take(CODE);
        expect([mode, t]).toMatchObject([
          mode,
          { ec: 0x0e, iss: 0, elr: BigInt(CODE + 0x100), vector: sp === 5 ? 0x200 : 0 },
        ]);
        expect(t.spsr).toBe(BigInt((0x9010_0140 | sp) >>> 0));
        expect(g.u32(L.PSTATE_IL)).toBe(0);
      }
    }
  });

  it('with SPSR_EL1.IL set, too, at the new level; faults of the fetch come first', () => {
    g.code('eret');
    g.set(L.ELR_EL1, BigInt(USER_CODE));
    g.set(L.SPSR_EL1, BigInt(0x3c0 | (1 << 20)));
    expect(g.take(CODE)).toMatchObject({ ec: 0x0e, vector: 0x400, spsr: BigInt(0x3c0 | (1 << 20)) });
    for (const [target, ec] of [
      [USER_CODE + 2, 0x22],
      [CODE, 0x20],
    ] as const) {
      g.pstate(0x3c5);
      g.set(L.ELR_EL1, BigInt(target));
      g.set(L.SPSR_EL1, BigInt(0x3c0 | (1 << 20)));
      expect(g.take(CODE)).toMatchObject({
        ec,
        vector: 0x400,
        far: BigInt(target),
        elr: BigInt(target),
        spsr: BigInt(0x3c0 | (1 << 20)),
      });
    }
  });
});

describe('interrupts', () => {
  it('FIQ before IRQ, each by its mask, to the vector of the level', () => {
    for (const { mode, offset, at } of LEVELS) {
      g.code('svc #9', at);
      for (let lines = 0; lines < 4; lines++) {
        for (const mask of [0, 0x40, 0x80, 0xc0]) {
          g.pstate(0x300 | mask | mode);
          g.setU32(L.IRQ_LINES, lines);
          g.set(L.ESR_EL1, 0n);
          const t = g.take(at);
          const open = lines & ~((mask & 0x80 ? 1 : 0) | (mask & 0x40 ? 2 : 0));
          const vector = (open & 2) !== 0 ? 0x100 : (open & 1) !== 0 ? 0x80 : 0;
          expect([lines, mask, t.vector]).toEqual([lines, mask, offset + vector]);
          expect(t.elr).toBe(BigInt(open === 0 ? at + 4 : at));
          expect(t.spsr).toBe(BigInt(0x300 | mask | mode));
          if (open !== 0) expect(g.get(L.ESR_EL1)).toBe(0n);
          g.setU32(L.IRQ_LINES, 0);
        }
      }
    }
  });

  it('are taken right behind what unmasks them', () => {
    for (const source of ['msr daifclr, #2', 'msr daif, xzr', 'eret']) {
      g.code(`nop\n${source}\nmov x0, #1\nmov x0, #2\nwfi`);
      g.pstate(0x3c5);
      g.setX(0, 0);
      g.setU32(L.IRQ_LINES, 1);
      g.set(L.ELR_EL1, BigInt(CODE + 8));
      g.set(L.SPSR_EL1, 5n);
      expect([source, g.take(CODE)]).toMatchObject([source, { vector: 0x280, elr: BigInt(CODE + 8) }]);
      expect(g.x(0)).toBe(0n);
    }
  });
});

describe('virtual time', () => {
  it('does not go back within a slice, and a timer set in it fires when it is due', () => {
    g.setU32(L.CLOCK_VIRTUAL, 1);
    g.onLine = () => g.setU32(L.IRQ_LINES, (g.timerLines.at(-1) ?? 0) !== 0 ? 1 : 0);
    g.code(`mrs x10, cntvct_el0\nhvc #${STOP}`, VECTORS + 0x280);
    // 1000 ticks of 16 ns: 16000 instructions, in a slice of a million.
    g.code(`
      msr daifclr, #2
      mrs x0, cntvct_el0
      mov x1, #1000
      msr cntv_tval_el0, x1
      mov x1, #1
      msr cntv_ctl_el0, x1
      isb
    1: add x2, x2, #1
      b 1b`);
    g.setX(2, 0);
    expect(g.run(CODE, 1_000_000)).toBe(BigInt(VECTORS + 0x284));
    const late = g.x(10) - g.x(0) - 1000n;
    expect([late >= 0n, late < 4n]).toEqual([true, true]);
    expect(g.x(2) > 7900n && g.x(2) < 8100n).toBe(true);

    // Interrupts that are taken leave exec() and come back: the counter must still only grow.
    g.setU32(L.IRQ_LINES, 0);
    g.sysreg('CNTV_CTL_EL0', 0n);
    g.code(`
      mov x4, #0
      mov x5, #200
    1: mrs x0, cntvct_el0
      cmp x0, x4
      cinc x6, x6, lo
      mov x4, x0
      msr cntv_cval_el0, xzr
      mov x3, #50
    2: subs x3, x3, #1
      b.ne 2b
      subs x5, x5, #1
      b.ne 1b
      wfi`);
    g.setX(6, 0);
    g.pstate(0x3c5);
    g.run(CODE, 1_000_000);
    expect(g.x(6)).toBe(0n);
  });
});

describe('performance monitors', () => {
  it('count instructions of one level only, and interrupt within a slice', () => {
    for (const [filter, expected] of [
      [0n, 100n + 30n],
      [1n << 31n, 101n],
      [1n << 30n, 29n],
    ] as const) {
      g.pstate(0x3c5);
      g.code('svc #0', USER_CODE + 4 * 100);
      g.code(`${'nop\n'.repeat(100)}svc #0`, USER_CODE);
      g.code(`${'nop\n'.repeat(20)}msr pmcntenclr_el0, x2\nwfi`, VECTORS + 0x400);
      // From the instruction behind the write: seven and ERET, then 101 of EL0, then 20.
      g.code(`
        mov x2, #1
        msr pmevtyper0_el0, x1
        msr pmevcntr0_el0, xzr
        mov x3, #1
        msr pmcr_el0, x3
        msr pmcntenset_el0, x2
        nop\nnop\nnop\nnop\nnop\nnop\nnop
        eret`);
      g.setX(1, 8n | filter);
      g.set(L.ELR_EL1, BigInt(USER_CODE));
      g.set(L.SPSR_EL1, 0x3c0n);
      g.run(CODE, 1_000_000);
      // Give or take the instruction that enables and the one that disables.
      const counted = g.get(L.PMEVCNTR);
      const low = filter === 1n << 31n ? expected : expected - 2n;
      const high = filter === 1n << 31n ? expected : expected + 2n;
      expect([filter, counted >= low && counted <= high, counted]).toEqual([filter, true, counted]);
    }
  });

  it('overflow is seen soon after it, not at the end of the slice', () => {
    g.onLine = () => g.setU32(L.IRQ_LINES, (g.pmuLines.at(-1) ?? 0) !== 0 ? 1 : 0);
    g.code(`
      mov x2, #1
      mov x1, #8
      msr pmevtyper0_el0, x1
      mov x1, #-1000
      msr pmevcntr0_el0, x1
      msr pmintenset_el1, x2
      msr pmcr_el0, x2
      msr daifclr, #2
      msr pmcntenset_el0, x2
    1: add x5, x5, #1
      b 1b`);
    g.setX(5, 0);
    g.pstate(0x3c5);
    expect(g.take(CODE, 1_000_000).vector).toBe(0x280);
    expect([g.x(5) >= 498n, g.x(5) <= 505n]).toEqual([true, true]);
  });
});

it('vectors that cannot be fetched do not hold the host', () => {
  g.code('svc #0');
  g.sysreg('VBAR_EL1', BigInt(DATA));
  g.pstate(0x3c5);
  g.set(L.PC, BigInt(CODE));
  expect(g.exports.run(1000)).toBe(L.EXIT_BUDGET);
  expect(g.get(L.ELR_EL1)).toBe(BigInt(DATA + 0x200));
});

it('the harness finds no exception where there is none', () => {
  g.code('nop\nwfi');
  expect(() => g.take(CODE)).toThrow('no exception');
});
