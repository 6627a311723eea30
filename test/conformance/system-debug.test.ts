// Breakpoints, watchpoints and software step through real instruction sequences (DDI 0487 chapter D2).
import { beforeEach, describe, expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { CODE, DATA, Guest, PAGE, STOP, USER_CODE, VECTORS } from './system-guest.ts';

const SS = 1n;
const KDE = 1n << 13n;
const MDE = 1n << 15n;
const SPSR_SS = 1 << 21;
/** DAIF with PSTATE.D clear. */
const OPEN = 0x1c0;

let g: Guest;
beforeEach(() => {
  g = new Guest();
  g.identity((1n << 14n) | (1n << 26n));
  g.sysreg('OSLAR_EL1', 0n);
  g.sysreg('CPACR_EL1', 3n << 20n);
});

describe('software step', () => {
  const STEPPED = (1 << 24) | 0x22;
  const EX = 1 << 6;

  it('stops behind one instruction and says what it was', () => {
    const cases: [string, number, number][] = [
      ['nop', 4, STEPPED],
      ['b .+16', 16, STEPPED],
      ['cbz x9, .+8', 8, STEPPED],
      ['bl .+0x1000', 0x1000, STEPPED],
      ['ldr x0, [x1]', 4, STEPPED],
      ['ldxr x0, [x1]', 4, STEPPED | EX],
      ['ldaxrb w0, [x1]', 4, STEPPED | EX],
      ['ldxp x0, x2, [x1]', 4, STEPPED | EX],
      ['ldaxp w0, w2, [x1]', 4, STEPPED | EX],
      ['stxr w0, x2, [x1]', 4, STEPPED],
      ['ldar x0, [x1]', 4, STEPPED],
      ['.word 0x48227c24 // casp x2, x3, x4, x5, [x1]', 4, STEPPED],
      ['.word 0x08627c24 // caspa w2, w3, w4, w5, [x1]', 4, STEPPED],
      ['cmp x0, #1\nb.ne .+64', 4, STEPPED],
      ['add x0, x0, #1\ncmp x0, x1', 4, STEPPED],
      ['ldp x0, x2, [x1], #16', 4, STEPPED],
      ['br x10 // to where nothing can be fetched: the step comes first', 2, STEPPED],
    ];
    g.sysreg('MDSCR_EL1', SS);
    for (const [source, next, iss] of cases) {
      g.code(source, USER_CODE);
      g.code('nop', USER_CODE + 0x1000);
      for (const budget of [1, 10_000]) {
        g.pstate(0x3c0 | SPSR_SS);
        g.setX(1, DATA);
        g.setX(9, 0);
        g.setX(10, USER_CODE + 2);
        expect([source, g.take(USER_CODE, budget)]).toMatchObject([
          source,
          { ec: 0x32, iss, elr: BigInt(USER_CODE + next), vector: 0x400 },
        ]);
        expect(g.get(L.SPSR_EL1) & 0xfff_ffffn).toBe(0x3c0n);
      }
    }
  });

  it('of EL1 needs KDE and PSTATE.D clear', () => {
    g.code(`nop\nnop\nhvc #${STOP}`);
    for (const [mdscr, daif, stepped] of [
      [SS, OPEN, false],
      [SS | KDE, 0x3c0, false],
      [SS | KDE, OPEN, true],
    ] as const) {
      g.sysreg('MDSCR_EL1', mdscr);
      g.pstate(daif | 5 | SPSR_SS);
      if (stepped) expect(g.take(CODE)).toMatchObject({ ec: 0x33, iss: STEPPED, elr: BigInt(CODE + 4), vector: 0x200 });
      else expect(g.run(CODE)).toBe(BigInt(CODE + 8));
    }
  });

  it('pends without having stepped: PSTATE.SS = 0, by ERET and by MSR DAIF', () => {
    g.code('nop', USER_CODE);
    g.sysreg('MDSCR_EL1', SS);
    g.code('eret');
    g.set(L.ELR_EL1, BigInt(USER_CODE));
    g.set(L.SPSR_EL1, 0x3c0n);
    expect(g.take(CODE)).toMatchObject({ ec: 0x32, iss: 0x22, elr: BigInt(USER_CODE) });
    // ERET with SPSR.SS: one instruction, which counts.
    g.pstate(0x3c5);
    g.set(L.ELR_EL1, BigInt(USER_CODE));
    g.set(L.SPSR_EL1, BigInt(0x3c0 | SPSR_SS));
    expect(g.take(CODE)).toMatchObject({ ec: 0x32, iss: STEPPED, elr: BigInt(USER_CODE + 4) });
    g.sysreg('MDSCR_EL1', SS | KDE);
    for (const source of ['msr daifclr, #8', 'msr daif, x0']) {
      g.code(`nop\n${source}\nnop\nnop\nwfi`);
      g.pstate(0x3c5);
      g.setX(0, OPEN);
      expect([source, g.take(CODE)]).toMatchObject([source, { ec: 0x33, iss: 0x22, elr: BigInt(CODE + 8) }]);
    }
  });

  it('over SVC stops behind it, after the handler', () => {
    g.sysreg('MDSCR_EL1', SS);
    g.code(
      `mrs x9, esr_el1\nlsr x9, x9, #26\ncmp x9, #0x15\nb.ne 1f\nadd x10, x10, #1\neret\n1: hvc #${STOP}`,
      VECTORS + 0x400,
    );
    g.code('svc #3\nnop', USER_CODE);
    g.pstate(0x3c0 | SPSR_SS);
    g.setX(10, 0);
    g.run(USER_CODE);
    expect([g.x(10), g.get(L.ELR_EL1), g.get(L.ESR_EL1)]).toEqual([
      1n,
      BigInt(USER_CODE + 4),
      (0x32n << 26n) | (1n << 25n) | 0x22n,
    ]);
  });

  it('of a load that faults is not done: SPSR keeps SS', () => {
    g.sysreg('MDSCR_EL1', SS);
    g.page(DATA, undefined);
    g.code('ldr x0, [x1]', USER_CODE);
    g.pstate(0x3c0 | SPSR_SS);
    g.setX(1, DATA);
    expect(g.take(USER_CODE)).toMatchObject({ ec: 0x24, elr: BigInt(USER_CODE), spsr: BigInt(0x3c0 | SPSR_SS) });
  });

  it('comes before the fetch of what is next', () => {
    g.sysreg('MDSCR_EL1', SS);
    g.code('nop', USER_CODE + 0xffc);
    g.page(USER_CODE + 0x1000, undefined);
    g.pstate(0x3c0 | SPSR_SS);
    expect(g.take(USER_CODE + 0xffc)).toMatchObject({ ec: 0x32, iss: STEPPED, elr: BigInt(USER_CODE + 0x1000) });
  });
});

describe('breakpoints', () => {
  /** E, PMC: EL1 and EL0 as given, BAS. */
  const bcr = (pmc: number) => BigInt(1 | (pmc << 1) | 0x1e0);

  it('stop before the instruction, at the level they name', () => {
    for (const [at, mode] of [
      [USER_CODE, 0],
      [CODE, 5],
    ] as const) {
      g.code(`add x0, x0, #1\nadd x0, x0, #1\nb .+8\nnop\nadd x0, x0, #1\nhvc #${STOP}\nsvc #1`, at);
      for (const [pmc, kde] of [
        [1, true],
        [2, true],
        [3, true],
        [3, false],
      ] as const) {
        for (const where of [0, 4, 16]) {
          g.sysreg('MDSCR_EL1', MDE | (kde ? KDE : 0n));
          g.sysreg('DBGBVR0_EL1', BigInt(at + where));
          g.sysreg('DBGBCR0_EL1', bcr(pmc));
          g.pstate(OPEN | mode);
          g.setX(0, 0);
          const hit = mode === 0 ? (pmc & 2) !== 0 : (pmc & 1) !== 0 && kde;
          const end = g.run(at, 10_000);
          expect([mode, pmc, kde, where, g.x(0)]).toEqual([
            mode,
            pmc,
            kde,
            where,
            hit ? { 0: 0n, 4: 1n, 16: 2n }[where] : 3n,
          ]);
          if (hit) {
            expect(end).toBe(BigInt(VECTORS + (mode === 0 ? 0x400 : 0x200)));
            expect([g.get(L.ESR_EL1), g.get(L.ELR_EL1)]).toEqual([
              (BigInt(mode === 0 ? 0x30 : 0x31) << 26n) | (1n << 25n) | 0x22n,
              BigInt(at + where),
            ]);
          }
        }
      }
    }
  });

  it('come behind instruction aborts', () => {
    g.sysreg('MDSCR_EL1', MDE);
    g.sysreg('DBGBVR1_EL1', BigInt(DATA));
    g.sysreg('DBGBCR1_EL1', bcr(3));
    g.code('br x1', USER_CODE);
    g.pstate(0x3c0);
    g.setX(1, DATA);
    expect(g.take(USER_CODE)).toMatchObject({ ec: 0x20, iss: 0x0f, elr: BigInt(DATA) });
  });
});

describe('watchpoints', () => {
  const LOAD = 1;
  const STORE = 2;
  /** E, PAC: both levels, LSC, BAS. */
  const watch = (va: number, lsc: number, bas = 0xff, pac = 3) => {
    g.sysreg('MDSCR_EL1', MDE | KDE);
    g.sysreg('DBGWVR0_EL1', BigInt(va));
    g.sysreg('DBGWCR0_EL1', BigInt(1 | (pac << 1) | (lsc << 3) | (bas << 5)));
  };
  const WNR = 0x40;
  const CM = 0x100;
  const TAG = 0x1122_3344_5566_7788n;

  /** `source` with X1 = va at EL0, then SVC. */
  const at = (source: string, va: number, mode = 0) => {
    const pc = mode === 0 ? USER_CODE : CODE;
    g.code(`${source}\nsvc #1`, pc);
    g.pstate(OPEN | mode);
    g.setX(0, 7);
    g.setX(1, va);
    g.setX(2, 7);
    g.store64(DATA + 0x100, TAG);
    g.store64(DATA + 0x108, TAG);
    return g.take(pc);
  };

  it('catch accesses to the bytes they cover, and nothing is done', () => {
    const cases: [string, number, number, number | undefined, number?][] = [
      // source, offset, LSC, WnR of the hit, FAR's offset
      ['ldr x0, [x1]', 0x100, LOAD, 0],
      ['ldr x0, [x1]', 0x100, STORE, undefined],
      ['str x0, [x1]', 0x100, STORE, WNR],
      ['str x0, [x1]', 0x100, LOAD, undefined],
      ['ldr x0, [x1]', 0x108, LOAD | STORE, undefined],
      ['ldr x0, [x1]', 0xfc, LOAD, 0, 0x100],
      ['ldrb w0, [x1]', 0x107, LOAD, 0, 0x107],
      ['ldr x0, [x1], #8', 0x100, LOAD, 0],
      ['str x0, [x1, #8]!', 0xf8, STORE, WNR, 0x100],
      ['stp x0, x2, [x1]', 0xf8, STORE, WNR, 0x100],
      ['stp x0, x2, [x1], #16', 0xf8, STORE, WNR, 0x100],
      ['ldp x0, x2, [x1]', 0xf8, LOAD, 0, 0x100],
      ['ldp w3, w4, [x1]', 0x100, LOAD, 0],
      ['str q0, [x1]', 0xf8, STORE, WNR, 0x100],
      ['stp q0, q1, [x1]', 0xe0, STORE, undefined],
      ['stp q0, q1, [x1]', 0xe8, STORE, WNR, 0x100],
      ['ldadd x0, x3, [x1]', 0x100, STORE, WNR],
      ['ldadd x0, x3, [x1]', 0x100, LOAD, 0],
      ['ldadd x0, x3, [x1]', 0x100, LOAD | STORE, 0],
      ['swpal w0, w3, [x1]', 0x104, STORE, WNR, 0x104],
      ['cas x0, x3, [x1]', 0x100, STORE, WNR],
      ['.word 0x48227c24 // casp x2, x3, x4, x5, [x1]', 0xf0, STORE, undefined],
      ['.word 0x48227c24 // casp x2, x3, x4, x5, [x1]', 0x100, STORE, WNR],
      ['ldxr x3, [x1]', 0x100, LOAD, 0],
      ['stlr x0, [x1]', 0x100, STORE, WNR],
      ['dc zva, x1', 0x100, STORE, WNR],
      ['dc zva, x1', 0xff, STORE, undefined],
      ['dc zva, x1', 0x100, LOAD, undefined],
      ['dc cvac, x1', 0x100, LOAD | STORE, undefined],
      ['dc civac, x1', 0x100, LOAD | STORE, undefined],
      ['ic ivau, x1', 0x100, LOAD | STORE, undefined],
      ['prfm pldl1keep, [x1]', 0x100, LOAD | STORE, undefined],
    ];
    for (const [source, offset, lsc, wnr, far = offset] of cases) {
      watch(DATA + 0x100, lsc);
      const t = at(source, DATA + offset);
      const about = `${source} ${offset.toString(16)} ${lsc}`;
      if (wnr === undefined) expect([about, t.ec]).toEqual([about, 0x15]);
      else {
        expect([about, t]).toMatchObject([
          about,
          { ec: 0x34, iss: 0x22 | wnr, far: BigInt(DATA + far), elr: BigInt(USER_CODE), vector: 0x400 },
        ]);
        expect([about, g.load64(DATA + 0x100), g.x(1), g.x(0)]).toEqual([about, TAG, BigInt(DATA + offset), 7n]);
      }
    }
  });

  it('select bytes, levels, and LDTR as EL0', () => {
    watch(DATA + 0x100, LOAD, 0x10);
    expect(at('ldr w0, [x1]', DATA + 0x100).ec).toBe(0x15);
    expect(at('ldrb w0, [x1]', DATA + 0x104)).toMatchObject({ ec: 0x34, far: BigInt(DATA + 0x104) });
    for (const [source, mode, pac, ec] of [
      ['ldr x0, [x1]', 5, 2, 0x15],
      ['ldr x0, [x1]', 5, 1, 0x35],
      ['ldtr x0, [x1]', 5, 1, 0x15],
      ['ldtr x0, [x1]', 5, 2, 0x35],
      ['ldr x0, [x1]', 0, 1, 0x15],
      ['ldr x0, [x1]', 0, 2, 0x34],
    ] as const) {
      watch(DATA + 0x100, LOAD, 0xff, pac);
      expect([source, mode, pac, at(source, DATA + 0x100, mode).ec]).toEqual([source, mode, pac, ec]);
    }
  });

  it('DC IVAC counts as a store of its line', () => {
    for (const [lsc, ec] of [
      [STORE, 0x35],
      [LOAD, 0x15],
    ] as const) {
      watch(DATA + 0x120, lsc);
      const t = at('dc ivac, x1', DATA + 0x104, 5);
      expect(t.ec).toBe(ec);
      if (ec === 0x35) expect([t.iss, t.far]).toEqual([0x22 | WNR | CM, BigInt(DATA + 0x120)]);
    }
  });

  it('come behind alignment, translation and permission faults', () => {
    watch(DATA + 0x100, LOAD | STORE);
    g.page(DATA, PAGE.readOnly);
    for (const [source, iss] of [
      ['str x0, [x1]', 0x4f],
      ['ldadd x0, x3, [x1]', 0x4f],
      ['dc zva, x1', 0x4f],
      ['cas x0, x3, [x1]', 0x4f],
      ['stp x0, x2, [x1]', 0x4f],
    ] as const) {
      expect([source, at(source, DATA + 0x100)]).toMatchObject([source, { ec: 0x24, iss }]);
    }
    g.page(DATA, undefined);
    expect(at('ldr x0, [x1]', DATA + 0x100)).toMatchObject({ ec: 0x24, iss: 0x07 });
    g.page(DATA, PAGE.device);
    expect(at('ldr x0, [x1]', DATA + 0x101)).toMatchObject({ ec: 0x24, iss: 0x21 });
    // The second page of a pair comes before a watchpoint on the first.
    g.page(DATA, PAGE.data);
    g.page(DATA + 0x1000, undefined);
    watch(DATA + 0xff8, STORE);
    expect(at('stp x0, x2, [x1]', DATA + 0xff8)).toMatchObject({ ec: 0x24, iss: 0x47, far: BigInt(DATA + 0x1000) });
    expect(at('str x0, [x1]', DATA + 0xffc)).toMatchObject({ ec: 0x24, iss: 0x47, far: BigInt(DATA + 0x1000) });
    g.page(DATA + 0x1000, PAGE.data);
    expect(at('str x0, [x1]', DATA + 0xff4)).toMatchObject({ ec: 0x34, far: BigInt(DATA + 0xff8) });
  });

  it('see data in a page that code runs from', () => {
    g.page(USER_CODE, 1n << 6n);
    watch(USER_CODE + 0x800, LOAD | STORE);
    for (const source of ['ldr x0, [x1]', 'str x0, [x1]']) {
      expect(at(`nop\n${source}`, USER_CODE + 0x800)).toMatchObject({ ec: 0x34, far: BigInt(USER_CODE + 0x800) });
    }
  });
});
