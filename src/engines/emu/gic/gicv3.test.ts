import { describe, expect, it } from 'vitest';
import { GicRig } from '../../../../test/support/gic-rig.ts';
import { VmError } from '../../../util/errors.ts';
import * as regs from './regs.ts';

const {
  ICC_AP1R0_EL1,
  ICC_BPR1_EL1,
  ICC_CTLR_EL1,
  ICC_DIR_EL1,
  ICC_EOIR0_EL1,
  ICC_EOIR1_EL1,
  ICC_HPPIR0_EL1,
  ICC_HPPIR1_EL1,
  ICC_IAR0_EL1,
  ICC_IAR1_EL1,
  ICC_IGRPEN1_EL1,
  ICC_PMR_EL1,
  ICC_RPR_EL1,
  ICC_SGI0R_EL1,
  ICC_SGI1R_EL1,
  ICC_SRE_EL1,
} = regs;

/** State of `intid` (an SPI): [pending, active]. */
function state(rig: GicRig, intid: number): [boolean, boolean] {
  const bit = 1 << (intid & 31);
  const w = 4 * (intid >> 5);
  return [(rig.gicd(regs.GICD_ISPENDR + w) & bit) !== 0, (rig.gicd(regs.GICD_ISACTIVER + w) & bit) !== 0];
}

describe('GICv3 registers', () => {
  it('identifies itself as the drivers expect', () => {
    const rig = new GicRig({ cpus: 3 });
    expect(rig.gicd(regs.GICD_PIDR2) & 0xf0).toBe(0x30);
    expect(rig.gicr(1, 0xffe8) & 0xf0).toBe(0x30);
    expect(rig.gits(0xffe8) & 0xf0).toBe(0x30);
    const typer = rig.gicd(regs.GICD_TYPER);
    expect(typer & 0x1f).toBe(2); // (2 + 1) * 32 INTIDs
    expect((typer >> 17) & 1).toBe(1); // LPIS
    expect((typer >> 19) & 0x1f).toBe(15); // IDbits
    expect((typer >> 11) & 0x1f).toBe(0); // num_LPIs: from IDbits
    expect(rig.gicd(regs.GICD_CTLR)).toBe(0x50); // DS and ARE
  });

  it.each([
    // offset, written, read back
    ['CTLR: enables only, DS and ARE stay', regs.GICD_CTLR, 0xffff_ffff, 0x53],
    ['TYPER2 is RAZ', regs.GICD_TYPER2, 0xffff_ffff, 0],
    ['STATUSR is RAZ', regs.GICD_STATUSR, 0xffff_ffff, 0],
    ['IGROUPR0 is RAZ with ARE', regs.GICD_IGROUPR, 0xffff_ffff, 0],
    ['IGROUPR1', regs.GICD_IGROUPR + 4, 0x1234_5678, 0x1234_5678],
    ['IGROUPR beyond ITLinesNumber', regs.GICD_IGROUPR + 12, 0x1234_5678, 0],
    ['IPRIORITYR keeps 5 bits', regs.GICD_IPRIORITYR + 32, 0xffa5_1f07, 0xf8a0_1800],
    ['IPRIORITYR0 is RAZ with ARE', regs.GICD_IPRIORITYR, 0xffff_ffff, 0],
    ['ITARGETSR is RAZ with ARE', regs.GICD_ITARGETSR + 32, 0xffff_ffff, 0],
    ['ICFGR: the low bit of each pair is RES0', regs.GICD_ICFGR + 8, 0xffff_ffff, 0xaaaa_aaaa],
    ['ICFGR of single interrupts', regs.GICD_ICFGR + 8, 0x8000_0006, 0x8000_0002],
    ['IGRPMODR is RAZ with DS', regs.GICD_IGRPMODR + 4, 0xffff_ffff, 0],
    ['SPENDSGIR is RAZ with ARE', regs.GICD_SPENDSGIR, 0xffff_ffff, 0],
  ])('GICD %s', (_, offset, written, read) => {
    const rig = new GicRig();
    rig.gicd(offset, written);
    expect(rig.gicd(offset)).toBe(read);
  });

  it('routes through GICD_IROUTER by halves and as a whole, keeping Aff3, IRM and Aff2..0', () => {
    const rig = new GicRig();
    const at = regs.GICD_IROUTER + 8 * 40;
    rig.gic.distributor.write64!(at, 0xffff_ffff_ffff_ffffn);
    expect(rig.gic.distributor.read64!(at)).toBe(0xff_80ff_ffffn);
    rig.gicd(at, 0x8000_0001);
    expect(rig.gic.distributor.read64!(at)).toBe(0xff_8000_0001n);
    rig.gicd(at + 4, 0);
    expect(rig.gic.distributor.read64!(at)).toBe(0x8000_0001n);
    expect(rig.gic.distributor.read64!(regs.GICD_IROUTER)).toBe(0n); // INTIDs below 32 have none
  });

  it('walks redistributors by GICR_TYPER until Last', () => {
    const rig = new GicRig({ cpus: 3, mpidr: cpu => 0x12_8034_5600n | BigInt(cpu) });
    const typers = [0, 1, 2].map(cpu => rig.gicr64(cpu, regs.GICR_TYPER));
    expect(typers.map(t => t >> 32n)).toEqual([0x1234_5600n, 0x1234_5601n, 0x1234_5602n]);
    expect(typers.map(t => Number((t >> 8n) & 0xffffn))).toEqual([0, 1, 2]);
    expect(typers.map(t => Number((t >> 4n) & 1n))).toEqual([0, 0, 1]);
    expect(typers.map(t => Number(t & 0xfn))).toEqual([1, 1, 1]); // PLPIS, no VLPIS, no DirectLPI
    expect(rig.gicr64(3, regs.GICR_TYPER)).toBe(0n);
  });

  it('is awake from reset on: firmware that runs below Secure firmware does not wake it', () => {
    const rig = new GicRig();
    expect(rig.gicr(0, regs.GICR_WAKER)).toBe(0);
    rig.gicr(0, regs.GICR_WAKER, 2);
    rig.gic.reset();
    expect(rig.gicr(0, regs.GICR_WAKER)).toBe(0);
  });

  it('wakes: ChildrenAsleep follows ProcessorSleep, and a sleeping CPU gets nothing', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40);
    rig.gicr(0, regs.GICR_WAKER, 2);
    expect(rig.gicr(0, regs.GICR_WAKER)).toBe(6);
    rig.gic.line(8).set(true);
    expect(rig.irq[0]).toBe(false);
    rig.gicr(0, regs.GICR_WAKER, 0);
    expect(rig.gicr(0, regs.GICR_WAKER)).toBe(0);
    expect(rig.irq[0]).toBe(true);
  });

  it('keeps SGIs edge-triggered and lets PPIs be configured', () => {
    const rig = new GicRig();
    rig.sgi(0, regs.GICD_ICFGR, 0);
    expect(rig.sgi(0, regs.GICD_ICFGR)).toBe(0xaaaa_aaaa);
    rig.sgi(0, regs.GICD_ICFGR + 4, 0x0000_0008);
    expect(rig.sgi(0, regs.GICD_ICFGR + 4)).toBe(8);
    expect(rig.sgi(1, regs.GICD_ICFGR + 4)).toBe(0);
  });

  it('keeps GICR_PROPBASER and GICR_PENDBASER as written, PTZ and reserved bits apart, until LPIs are on', () => {
    const rig = new GicRig();
    rig.gicr64(0, regs.GICR_PROPBASER, 0xffff_ffff_ffff_ffffn);
    expect(rig.gicr64(0, regs.GICR_PROPBASER)).toBe(0x070f_ffff_ffff_ff9fn);
    rig.gicr64(0, regs.GICR_PENDBASER, 0xffff_ffff_ffff_ffffn);
    expect(rig.gicr64(0, regs.GICR_PENDBASER)).toBe(0x070f_ffff_ffff_0f80n);
    rig.gicr(0, regs.GICR_CTLR, 1);
    expect(rig.gicr(0, regs.GICR_CTLR)).toBe(7); // EnableLPIs, CES, IR; RWP and UWP clear
    rig.gicr64(0, regs.GICR_PROPBASER, 0n);
    expect(rig.gicr64(0, regs.GICR_PROPBASER)).toBe(0x070f_ffff_ffff_ff9fn);
  });

  it('has no LPIs without an ITS', () => {
    const rig = new GicRig({ its: false });
    expect(rig.gic.its).toBeUndefined();
    expect((rig.gicd(regs.GICD_TYPER) >> 17) & 1).toBe(0);
    expect(rig.gicr64(0, regs.GICR_TYPER) & 1n).toBe(0n);
    rig.gicr(0, regs.GICR_CTLR, 1);
    expect(rig.gicr(0, regs.GICR_CTLR)).toBe(0);
  });

  it.each([
    ['PMR keeps 5 bits', ICC_PMR_EL1, 0xff, 0xf8],
    ['BPR1 has a smallest value', ICC_BPR1_EL1, 0, 3],
    ['BPR0 has a smallest value', regs.ICC_BPR0_EL1, 0, 2],
    ['BPR1', ICC_BPR1_EL1, 5, 5],
    ['SRE is RAO/WI', ICC_SRE_EL1, 0, 7],
    ['CTLR: CBPR and EOImode only', ICC_CTLR_EL1, 0xffff_ffff, 0x4_8403],
    ['AP1R0', ICC_AP1R0_EL1, 0x8000_0001, 0x8000_0001],
    ['IGRPEN1', ICC_IGRPEN1_EL1, 3, 1],
  ])('ICC %s', (_, reg, written, read) => {
    const rig = new GicRig();
    expect(rig.icc(1, reg, written)).toBe(written);
    expect(rig.icc(1, reg)).toBe(read);
    // Banked: the other CPU's register has its reset value.
    expect(rig.icc(0, reg)).toBe(new GicRig().icc(0, reg));
  });

  it('answers UNDEFINED for what is not there, read-only or write-only', () => {
    const rig = new GicRig();
    for (const reg of [ICC_EOIR1_EL1, ICC_DIR_EL1, ICC_SGI1R_EL1, 0, regs.ICC_AP1R0_EL1 + 1, 0xffff]) {
      expect(rig.icc(0, reg)).toBeUndefined();
    }
    for (const reg of [ICC_IAR1_EL1, ICC_HPPIR1_EL1, ICC_RPR_EL1, regs.ICC_AP0R0_EL1 + 1, 0]) {
      expect(rig.icc(0, reg, 0)).toBeUndefined();
    }
  });

  it('lets Linux see Group 0 registers (gic_has_group0): the lowest priority bit of PMR sticks', () => {
    const rig = new GicRig();
    const priorityBits = (((rig.icc(0, ICC_CTLR_EL1) ?? 0) >> 8) & 7) + 1;
    rig.icc(0, ICC_PMR_EL1, 1 << (8 - priorityBits));
    expect(rig.icc(0, ICC_PMR_EL1)).not.toBe(0);
  });
});

describe('GICv3 interrupt states', () => {
  it('level: pending with the line, active and pending after the acknowledge, again after EOI', () => {
    const rig = new GicRig().up();
    const line = rig.gic.line(8);
    rig.enable(0, 40);
    line.set(true);
    expect(rig.irq).toEqual([true, false]);
    expect(rig.icc(0, ICC_HPPIR1_EL1)).toBe(40);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(40);
    expect(state(rig, 40)).toEqual([true, true]);
    expect(rig.irq[0]).toBe(false);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(1023);
    rig.icc(0, ICC_EOIR1_EL1, 40);
    expect(rig.irq[0]).toBe(true); // The device still asserts it.
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(40);
    line.set(false);
    expect(state(rig, 40)).toEqual([false, true]);
    rig.icc(0, ICC_EOIR1_EL1, 40);
    expect(state(rig, 40)).toEqual([false, false]);
    expect(rig.irq[0]).toBe(false);
  });

  it('level: a line that falls before the acknowledge leaves nothing, and ICPENDR cannot clear a line', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40);
    rig.gic.line(8).set(true);
    rig.gicd(regs.GICD_ICPENDR + 4, 1 << 8);
    expect(state(rig, 40)).toEqual([true, false]);
    rig.gic.line(8).set(false);
    expect(rig.irq[0]).toBe(false);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(1023);
  });

  it('edge: one pulse is one interrupt, one more while active is one more', () => {
    const rig = new GicRig().up();
    const line = rig.gic.line(8);
    rig.enable(0, 40, 0xa0, true);
    line.set(true);
    line.set(false);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(40);
    expect(state(rig, 40)).toEqual([false, true]);
    line.set(true);
    line.set(false);
    line.set(true);
    expect(state(rig, 40)).toEqual([true, true]);
    expect(rig.irq[0]).toBe(false);
    rig.icc(0, ICC_EOIR1_EL1, 40);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(40);
    rig.icc(0, ICC_EOIR1_EL1, 40);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(1023); // The line is still high, but that is no edge.
  });

  it('edge: ICPENDR clears, ISPENDR sets', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40, 0xa0, true);
    rig.gicd(regs.GICD_ISPENDR + 4, 1 << 8);
    expect(rig.irq[0]).toBe(true);
    rig.gicd(regs.GICD_ICPENDR + 4, 1 << 8);
    expect(rig.irq[0]).toBe(false);
  });

  it('message-based SPIs: a level stays until CLRSPI_NSR, an edge until the acknowledge; 16-bit writes work', () => {
    const rig = new GicRig({ distributorAddress: 0x800_0000 }).up();
    rig.enable(0, 40);
    rig.enable(0, 41, 0xb0, true);
    rig.gic.distributor.write(regs.GICD_SETSPI_NSR, 2, 40);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(40);
    expect(state(rig, 40)).toEqual([true, true]);
    rig.gicd(regs.GICD_CLRSPI_NSR, 40);
    expect(state(rig, 40)).toEqual([false, true]);
    rig.icc(0, ICC_EOIR1_EL1, 40);
    expect(rig.gic.signalMsi({ address: 0x800_0040, data: 41 })).toBe(true);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(41);
    expect(state(rig, 41)).toEqual([false, true]);
  });

  it('does not signal what is disabled, in a disabled group or behind the mask', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40, 0xa0);
    rig.gic.line(8).set(true);
    const gates: [() => unknown, () => unknown][] = [
      [() => rig.gicd(regs.GICD_ICENABLER + 4, 1 << 8), () => rig.gicd(regs.GICD_ISENABLER + 4, 1 << 8)],
      [() => rig.gicd(regs.GICD_CTLR, 1), () => rig.gicd(regs.GICD_CTLR, 3)],
      [() => rig.icc(0, ICC_IGRPEN1_EL1, 0), () => rig.icc(0, ICC_IGRPEN1_EL1, 1)],
      [() => rig.icc(0, ICC_PMR_EL1, 0xa0), () => rig.icc(0, ICC_PMR_EL1, 0xa8)],
      [() => rig.gicd(regs.GICD_ISACTIVER + 4, 1 << 8), () => rig.gicd(regs.GICD_ICACTIVER + 4, 1 << 8)],
    ];
    for (const [close, open] of gates) {
      close();
      expect(rig.irq[0]).toBe(false);
      expect(rig.icc(0, ICC_IAR1_EL1)).toBe(1023);
      open();
      expect(rig.irq[0]).toBe(true);
    }
  });

  it('takes a PPI on its own CPU only', () => {
    const rig = new GicRig().up();
    rig.enable(0, 27);
    rig.enable(1, 27);
    rig.gic.setPpi(1, 27, true);
    expect(rig.irq).toEqual([false, true]);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(1023);
    expect(rig.icc(1, ICC_IAR1_EL1)).toBe(27);
    rig.gic.setPpi(1, 27, false);
    rig.icc(1, ICC_EOIR1_EL1, 27);
    expect(rig.irq).toEqual([false, false]);
  });

  it('tells the wires only what changed', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40);
    const before = rig.calls;
    rig.gic.line(8).set(true);
    rig.gic.line(8).set(true);
    rig.gicd(regs.GICD_ISENABLER + 4, 1 << 9);
    expect(rig.calls).toBe(before + 1);
  });
});

describe('GICv3 priorities', () => {
  it('delivers the most urgent first, the lower INTID of two equals', () => {
    const rig = new GicRig().up();
    for (const [intid, priority] of [
      [40, 0xa0],
      [41, 0x80],
      [42, 0x80],
      [70, 0x60],
      [27, 0x80],
    ] as const) {
      rig.enable(0, intid, priority);
    }
    for (const gsi of [8, 9, 10, 38]) rig.gic.line(gsi).set(true);
    rig.gic.setPpi(0, 27, true);
    const order: (number | undefined)[] = [];
    for (let n = 0; n < 5; n++) {
      const intid = rig.icc(0, ICC_IAR1_EL1)!;
      order.push(intid);
      if (intid >= 32 && intid < 1020) rig.gic.line(intid - 32).set(false);
      if (intid === 27) rig.gic.setPpi(0, 27, false);
      rig.icc(0, ICC_EOIR1_EL1, intid);
    }
    expect(order).toEqual([70, 27, 41, 42, 40]);
  });

  it('preempts by group priority: the binary point hides the lower bits', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40, 0xa8);
    rig.enable(0, 41, 0xa0);
    rig.gic.line(8).set(true);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(40);
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0xa8);
    rig.gic.line(9).set(true);
    expect(rig.irq[0]).toBe(true); // BPR1 = 3: bits [7:3] count
    rig.icc(0, ICC_BPR1_EL1, 4);
    expect(rig.irq[0]).toBe(false); // bits [7:4]: 0xa0 against 0xa0
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(1023);
    expect(rig.icc(0, ICC_HPPIR1_EL1)).toBe(41); // HPPIR ignores the running priority
    rig.icc(0, ICC_BPR1_EL1, 3);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(41);
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0xa0);
    expect(rig.icc(0, ICC_AP1R0_EL1)).toBe((1 << 20) | (1 << 21));
    rig.icc(0, ICC_EOIR1_EL1, 41);
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0xa8);
    rig.icc(0, ICC_EOIR1_EL1, 40);
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0xff);
  });

  it('CBPR: Group 1 uses BPR0, BPR1 reads as BPR0 + 1 and ignores writes', () => {
    const rig = new GicRig();
    rig.icc(0, regs.ICC_BPR0_EL1, 4);
    rig.icc(0, ICC_CTLR_EL1, 1);
    expect(rig.icc(0, ICC_BPR1_EL1)).toBe(5);
    rig.icc(0, ICC_BPR1_EL1, 3);
    rig.icc(0, regs.ICC_BPR0_EL1, 7);
    expect(rig.icc(0, ICC_BPR1_EL1)).toBe(7);
    rig.icc(0, ICC_CTLR_EL1, 0);
    expect(rig.icc(0, ICC_BPR1_EL1)).toBe(3);
  });

  it('EOImode 1: EOIR drops the priority, DIR deactivates', () => {
    const rig = new GicRig().up();
    rig.icc(0, ICC_CTLR_EL1, 2);
    rig.enable(0, 40);
    rig.gic.line(8).set(true);
    rig.icc(0, ICC_IAR1_EL1);
    rig.icc(0, ICC_EOIR1_EL1, 40);
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0xff);
    expect(state(rig, 40)).toEqual([true, true]);
    expect(rig.irq[0]).toBe(false);
    rig.icc(1, ICC_CTLR_EL1, 2);
    rig.icc(1, ICC_DIR_EL1, 40); // from any CPU
    expect(state(rig, 40)).toEqual([true, false]);
    expect(rig.irq[0]).toBe(true);
  });

  it('EOImode 0: DIR does nothing', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40);
    rig.gic.line(8).set(true);
    rig.icc(0, ICC_IAR1_EL1);
    rig.icc(0, ICC_DIR_EL1, 40);
    expect(state(rig, 40)).toEqual([true, true]);
  });

  it('Group 0 is FIQ and preempts Group 1; each group has its own acknowledge and EOI', () => {
    const rig = new GicRig().up();
    rig.gicd(regs.GICD_IGROUPR + 4, ~(1 << 9) >>> 0);
    rig.enable(0, 40, 0xa0);
    rig.enable(0, 41, 0x80);
    rig.gic.line(8).set(true);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(40);
    rig.gic.line(9).set(true);
    expect([rig.irq[0], rig.fiq[0]]).toEqual([false, true]);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(1023);
    expect(rig.icc(0, ICC_HPPIR1_EL1)).toBe(1023);
    expect(rig.icc(0, ICC_HPPIR0_EL1)).toBe(41);
    expect(rig.icc(0, ICC_IAR0_EL1)).toBe(41);
    expect(rig.fiq[0]).toBe(false);
    rig.icc(0, ICC_EOIR1_EL1, 40); // The running one is of Group 0: ignored.
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0x80);
    rig.gic.line(9).set(false);
    rig.icc(0, ICC_EOIR0_EL1, 41);
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0xa0);
    rig.icc(0, ICC_EOIR0_EL1, 1023);
    expect(rig.icc(0, ICC_RPR_EL1)).toBe(0xa0);
  });
});

describe('GICv3 routing', () => {
  /** CPUs with SGI `intid` pending. */
  const pendingSgi = (rig: GicRig, intid: number) =>
    [...rig.irq.keys()].filter(cpu => rig.sgi(cpu, regs.GICD_ISPENDR) & (1 << intid));

  const eight = () => new GicRig({ cpus: 8, mpidr: cpu => BigInt(((cpu >> 2) << 8) | (cpu & 3)) }).up();

  it('SGIs go to the listed CPUs of the named cluster', () => {
    const rig = eight();
    rig.icc(0, ICC_SGI1R_EL1, (5n << 24n) | (1n << 16n) | 0xan);
    expect(pendingSgi(rig, 5)).toEqual([5, 7]);
    rig.icc(7, ICC_SGI1R_EL1, (6n << 24n) | 0xfn);
    expect(pendingSgi(rig, 6)).toEqual([0, 1, 2, 3]);
    for (let n = 0; n < 16; n++) rig.sgi(2, regs.GICD_ISENABLER, 1 << n);
    expect(rig.irq[2]).toBe(true);
    expect(rig.icc(2, ICC_IAR1_EL1)).toBe(6);
    expect(pendingSgi(rig, 6)).toEqual([0, 1, 3]);
  });

  it('SGIs with IRM go to everyone else; unknown affinities to nobody', () => {
    const rig = eight();
    rig.icc(3, ICC_SGI1R_EL1, (1n << 40n) | (2n << 24n));
    expect(pendingSgi(rig, 2)).toEqual([0, 1, 2, 4, 5, 6, 7]);
    for (const where of [2n << 16n, 1n << 32n, 1n << 48n, 1n << 44n]) {
      rig.icc(3, ICC_SGI1R_EL1, where | (4n << 24n) | 0xffffn);
    }
    expect(pendingSgi(rig, 4)).toEqual([]);
  });

  it('SGI range selector: CPUs with Aff0 above 15', () => {
    const rig = new GicRig({ cpus: 4, mpidr: cpu => BigInt(cpu * 16 + 1) });
    rig.icc(0, ICC_SGI1R_EL1, (2n << 44n) | (3n << 24n) | 2n);
    expect(pendingSgi(rig, 3)).toEqual([2]);
  });

  it('ICC_SGI0R_EL1 generates Group 0 SGIs only', () => {
    const rig = new GicRig().up();
    rig.sgi(1, regs.GICD_IGROUPR, ~(1 << 3) >>> 0);
    rig.icc(0, ICC_SGI0R_EL1, (3n << 24n) | 3n);
    expect(pendingSgi(rig, 3)).toEqual([1]);
  });

  it('SPIs follow GICD_IROUTER, also while pending; an unknown affinity keeps them', () => {
    const rig = eight();
    rig.enable(0, 40);
    rig.gic.line(8).set(true);
    const to = (affinity: bigint) => rig.gic.distributor.write64!(regs.GICD_IROUTER + 8 * 40, affinity);
    const asked = () => [...rig.irq.keys()].filter(cpu => rig.irq[cpu]);
    expect(asked()).toEqual([0]);
    to(0x102n);
    expect(asked()).toEqual([6]);
    to(0x1_0000_0000n);
    expect(asked()).toEqual([]);
    to(0x3n);
    expect(asked()).toEqual([3]);
  });

  it('1-of-N: one CPU that takes the group', () => {
    const rig = new GicRig({ cpus: 4 }).up();
    rig.enable(0, 40);
    rig.gic.distributor.write64!(regs.GICD_IROUTER + 8 * 40, 1n << 31n);
    rig.gic.line(8).set(true);
    expect(rig.irq).toEqual([true, false, false, false]);
    rig.icc(0, ICC_IGRPEN1_EL1, 0);
    expect(rig.irq).toEqual([false, true, false, false]);
    rig.gicr(1, regs.GICR_WAKER, 2);
    expect(rig.irq).toEqual([false, false, true, false]);
    expect(rig.icc(2, ICC_IAR1_EL1)).toBe(40);
    expect(rig.irq).toEqual([false, false, false, false]);
    rig.icc(2, ICC_EOIR1_EL1, 40);
    expect(rig.irq).toEqual([false, false, true, false]);
  });
});

describe('GICv3 as a part of the machine', () => {
  it('goes on after save and restore through JSON', () => {
    const rig = new GicRig().up();
    rig.enable(0, 40);
    rig.enable(0, 41, 0x80, true);
    rig.gic.line(8).set(true);
    rig.gic.line(9).set(true);
    expect(rig.icc(0, ICC_IAR1_EL1)).toBe(41);
    const saved: unknown = JSON.parse(JSON.stringify(rig.gic.save()));
    const other = new GicRig();
    other.gic.restore(saved);
    expect(other.gic.save()).toEqual(rig.gic.save());
    expect(other.irq).toEqual([false, false]);
    other.icc(0, ICC_EOIR1_EL1, 41);
    expect(other.irq).toEqual([true, false]);
    expect(other.icc(0, ICC_IAR1_EL1)).toBe(40);
  });

  it('drops its signals at reset, but not the wires of the devices', () => {
    const rig = new GicRig().up();
    const fresh = new GicRig().gic.save();
    rig.enable(0, 40);
    rig.gic.line(8).set(true);
    rig.gic.reset();
    expect(rig.irq).toEqual([false, false]);
    rig.gic.line(8).set(false);
    expect(rig.gic.save()).toEqual(fresh);
    rig.gic.line(8).set(true);
    rig.up();
    rig.enable(0, 40);
    expect(rig.irq).toEqual([true, false]);
  });

  it('refuses what the host gets wrong with a VmError', () => {
    const rig = new GicRig();
    expect(() => rig.gic.line(64)).toThrow(VmError);
    expect(() => new GicRig({ cpus: 9 })).toThrow(VmError);
    expect(() => new GicRig({ spis: 40 })).toThrow(VmError);
    expect(() => rig.gic.restore(new GicRig({ cpus: 1 }).gic.save())).toThrow(VmError);
    expect(() => rig.gic.restore(null)).toThrow(VmError);
    expect(rig.gic.signalMsi({ address: 0x1234, data: 40 })).toBe(false);
  });
});
