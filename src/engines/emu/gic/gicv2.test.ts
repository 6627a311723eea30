import { describe, expect, it } from 'vitest';
import { VmError } from '../../../util/errors.ts';
import { createGicV2, type GicV2 } from './gicv2.ts';
import * as regs from './regs.ts';

const { GICC_CTLR, GICC_EOIR, GICC_HPPIR, GICC_IAR, GICC_PMR, GICC_RPR, GICD_ISENABLER, GICD_ITARGETSR, GICD_SGIR } =
  regs;
const V2M = 0x0802_0000;

/** A GICv2 driven through its registers from a CPU of choice. */
class Rig {
  cpu = 0;
  readonly irq: boolean[];
  readonly fiq: boolean[];
  readonly gic: GicV2;

  constructor(cpus = 2) {
    this.irq = new Array<boolean>(cpus).fill(false);
    this.fiq = new Array<boolean>(cpus).fill(false);
    this.gic = createGicV2({
      cpus,
      spis: 64,
      currentCpu: () => this.cpu,
      v2m: { base: 80, count: 16, address: V2M },
      wires: {
        setIrq: (cpu, irq, fiq) => {
          this.irq[cpu] = irq;
          this.fiq[cpu] = fiq;
        },
      },
    });
  }

  /** As Linux leaves it: everything Group 0, signalled as IRQ. */
  up(): this {
    this.gicd(regs.GICD_CTLR, 1);
    for (const cpu of this.irq.keys()) {
      this.gicc(cpu, GICC_PMR, 0xf0);
      this.gicc(cpu, GICC_CTLR, 1);
    }
    return this;
  }

  gicd(offset: number, value?: number, size: 1 | 4 = 4): number {
    if (value === undefined) return this.gic.distributor.read(offset, size);
    this.gic.distributor.write(offset, size, value);
    return value;
  }

  gicc(cpu: number, offset: number, value?: number): number {
    this.cpu = cpu;
    if (value === undefined) return this.gic.cpuInterface.read(offset, 4);
    this.gic.cpuInterface.write(offset, 4, value);
    return value;
  }

  enable(intid: number, targets: number, priority = 0xa0): void {
    this.gicd(GICD_ITARGETSR + intid, targets, 1);
    this.gicd(regs.GICD_IPRIORITYR + intid, priority, 1);
    this.gicd(GICD_ISENABLER + 4 * (intid >> 5), 1 << (intid & 31));
  }
}

describe('GICv2', () => {
  it('identifies itself as the drivers expect', () => {
    const rig = new Rig(3);
    expect(rig.gicd(0xfe8) & 0xf0).toBe(0x20);
    expect(rig.gicd(regs.GICD_TYPER)).toBe(2 | (2 << 5));
    expect((rig.gicc(0, regs.GICC_IIDR) >> 16) & 0xf).toBe(2);
    // gic_get_cpumask(): a CPU finds its own mask in GICD_ITARGETSR0.
    for (const cpu of [0, 1, 2]) {
      rig.cpu = cpu;
      expect(rig.gicd(GICD_ITARGETSR)).toBe((0x0101_0101 << cpu) >>> 0);
    }
    expect(rig.gic.readRegister(0, regs.ICC_IAR1_EL1)).toBeUndefined();
    expect(rig.gic.writeRegister(0, regs.ICC_PMR_EL1, 0n)).toBe(false);
  });

  it.each([
    ['CTLR', regs.GICD_CTLR, 0xffff_ffff, 3],
    ['IGROUPR1', regs.GICD_IGROUPR + 4, 0x1234_5678, 0x1234_5678],
    ['ITARGETSR keeps the CPUs there are', GICD_ITARGETSR + 32, 0xff02_0103, 0x0302_0103],
    ['ITARGETSR0 is read-only', GICD_ITARGETSR, 0xffff_ffff, 0x0101_0101],
    ['IPRIORITYR keeps 5 bits', regs.GICD_IPRIORITYR + 40, 0xffa5_1f07, 0xf8a0_1800],
    ['SGIs cannot be disabled', regs.GICD_ICENABLER, 0xffff_ffff, 0xffff],
    ['SGIs cannot be made pending by ISPENDR', regs.GICD_ISPENDR, 0xffff_ffff, 0xffff_0000],
    ['SPENDSGIR', regs.GICD_SPENDSGIR + 4, 0x0002_00ff, 0x0002_0003],
  ])('GICD %s', (_, offset, written, read) => {
    const rig = new Rig();
    rig.gicd(offset, written);
    expect(rig.gicd(offset)).toBe(read);
  });

  it.each([
    ['CTLR', GICC_CTLR, 0xffff_ffff, 0x21f],
    ['PMR', GICC_PMR, 0xff, 0xf8],
    ['BPR', regs.GICC_BPR, 0, 2],
    ['ABPR', regs.GICC_ABPR, 0, 3],
    ['APR0', regs.GICC_APR0, 0x8000_0000, 0x8000_0000],
    ['IAR is read-only', GICC_IAR, 5, 1023],
  ])('GICC %s', (_, offset, written, read) => {
    const rig = new Rig();
    rig.gicc(1, offset, written);
    expect(rig.gicc(1, offset)).toBe(read);
  });

  it('has no targets on a uniprocessor: everything goes to CPU 0', () => {
    const rig = new Rig(1).up();
    rig.enable(40, 0);
    expect(rig.gicd(GICD_ITARGETSR + 40)).toBe(0);
    rig.gic.line(8).set(true);
    expect(rig.irq).toEqual([true]);
  });

  it('takes a level SPI, the first of two targets gets it', () => {
    const rig = new Rig().up();
    rig.enable(40, 3);
    rig.gic.line(8).set(true);
    expect(rig.irq).toEqual([true, true]);
    expect(rig.gicc(1, GICC_HPPIR)).toBe(40);
    expect(rig.gicc(1, GICC_IAR)).toBe(40);
    expect(rig.irq).toEqual([false, false]);
    expect(rig.gicc(0, GICC_IAR)).toBe(1023);
    expect(rig.gicc(1, GICC_RPR)).toBe(0xa0);
    rig.gicc(1, GICC_EOIR, 40);
    expect(rig.irq).toEqual([true, true]);
    rig.gic.line(8).set(false);
    expect(rig.irq).toEqual([false, false]);
  });

  it('SGIs carry their source, one acknowledge for each; filters 1 and 2', () => {
    const rig = new Rig(8).up();
    rig.cpu = 3;
    rig.gicd(GICD_SGIR, (0x01 << 16) | 5);
    rig.cpu = 6;
    rig.gicd(GICD_SGIR, (0x01 << 16) | 5);
    rig.cpu = 0;
    expect(rig.gicd(regs.GICD_SPENDSGIR + 4)).toBe(((1 << 3) | (1 << 6)) << 8);
    expect(rig.gicc(0, GICC_IAR)).toBe((3 << 10) | 5);
    expect(rig.gicc(0, GICC_IAR)).toBe(1023); // active: the other source waits
    rig.gicc(0, GICC_EOIR, (3 << 10) | 5);
    expect(rig.gicc(0, GICC_IAR)).toBe((6 << 10) | 5);
    rig.gicc(0, GICC_EOIR, (6 << 10) | 5);
    expect(rig.irq.some(Boolean)).toBe(false);
    rig.cpu = 2;
    rig.gicd(GICD_SGIR, (1 << 24) | 1);
    expect(rig.irq).toEqual([true, true, false, true, true, true, true, true]);
    rig.gicd(GICD_SGIR, (2 << 24) | 1);
    expect(rig.irq[2]).toBe(true);
  });

  it('CPENDSGIR takes single sources away', () => {
    const rig = new Rig().up();
    for (const cpu of [0, 1]) {
      rig.cpu = cpu;
      rig.gicd(GICD_SGIR, (1 << 16) | 2);
    }
    rig.cpu = 0;
    rig.gicd(regs.GICD_CPENDSGIR + 2, 1, 1);
    expect(rig.gicc(0, GICC_HPPIR)).toBe((1 << 10) | 2);
    rig.gicd(regs.GICD_CPENDSGIR + 2, 2, 1);
    expect(rig.irq[0]).toBe(false);
  });

  it('banks PPIs', () => {
    const rig = new Rig().up();
    rig.cpu = 1;
    rig.gicd(GICD_ISENABLER, 1 << 27);
    rig.gic.setPpi(0, 27, true);
    rig.gic.setPpi(1, 27, true);
    expect(rig.irq).toEqual([false, true]);
  });

  it('Group 1 needs AckCtl or the alias; FIQEn makes Group 0 an FIQ', () => {
    const rig = new Rig().up();
    rig.gicd(regs.GICD_CTLR, 3);
    rig.gicd(regs.GICD_IGROUPR + 4, 1 << 8);
    rig.enable(40, 1);
    rig.enable(41, 1, 0x80);
    rig.gicc(0, GICC_CTLR, 3 | regs.GICC_CTLR_FIQEn);
    rig.gic.line(8).set(true);
    expect([rig.irq[0], rig.fiq[0]]).toEqual([true, false]);
    expect(rig.gicc(0, GICC_IAR)).toBe(1022);
    expect(rig.gicc(0, GICC_HPPIR)).toBe(1022);
    expect(rig.gicc(0, regs.GICC_AHPPIR)).toBe(40);
    rig.gic.line(9).set(true);
    expect([rig.irq[0], rig.fiq[0]]).toEqual([false, true]);
    expect(rig.gicc(0, regs.GICC_AIAR)).toBe(1023);
    expect(rig.gicc(0, GICC_IAR)).toBe(41);
    rig.gic.line(9).set(false);
    rig.gicc(0, GICC_EOIR, 41);
    expect(rig.gicc(0, regs.GICC_AIAR)).toBe(40);
    rig.gicc(0, regs.GICC_AEOIR, 40);
    rig.gicc(0, GICC_CTLR, 3 | regs.GICC_CTLR_AckCtl);
    expect(rig.gicc(0, GICC_IAR)).toBe(40);
  });

  it('EOImode: EOIR drops the priority, GICC_DIR deactivates', () => {
    const rig = new Rig().up();
    rig.gicc(0, GICC_CTLR, 1 | regs.GICC_CTLR_EOImode);
    rig.enable(40, 1);
    rig.gic.line(8).set(true);
    rig.gicc(0, GICC_IAR);
    rig.gicc(0, GICC_EOIR, 40);
    expect(rig.gicc(0, GICC_RPR)).toBe(0xff);
    expect(rig.irq[0]).toBe(false);
    rig.gicc(0, regs.GICC_DIR, 40);
    expect(rig.irq[0]).toBe(true);
  });

  it('goes on after save and restore, and resets', () => {
    const rig = new Rig().up();
    rig.enable(40, 1);
    rig.cpu = 1;
    rig.gicd(GICD_SGIR, (1 << 16) | 7);
    rig.gic.line(8).set(true);
    const other = new Rig();
    other.gic.restore(JSON.parse(JSON.stringify(rig.gic.save())));
    expect(other.irq).toEqual([true, false]);
    expect(other.gicc(0, GICC_IAR)).toBe((1 << 10) | 7);
    rig.gic.line(8).set(false);
    rig.gic.reset();
    expect(rig.irq).toEqual([false, false]);
    expect(rig.gic.save()).toEqual(new Rig().gic.save());
    expect(() => rig.gic.restore(new Rig(1).gic.save())).toThrow(VmError);
  });
});

describe('GICv2m', () => {
  it('describes its interrupts in MSI_TYPER', () => {
    const { gic } = new Rig();
    const typer = gic.v2m.read(regs.MSI_TYPER, 4);
    expect([(typer >> 16) & 0x3ff, typer & 0x3ff]).toEqual([80, 16]);
  });

  it('makes an edge-triggered SPI of its own pending, by a write and by signalMsi()', () => {
    const rig = new Rig().up();
    rig.gicd(regs.GICD_ICFGR + 20, 0xaaaa_aaaa); // INTIDs 80..95
    rig.enable(80, 2);
    rig.enable(95, 1);
    rig.enable(79, 1);
    rig.gic.v2m.write(regs.MSI_SETSPI_NS, 4, 80);
    expect(rig.irq).toEqual([false, true]);
    expect(rig.gicc(1, GICC_IAR)).toBe(80);
    rig.gicc(1, GICC_EOIR, 80);
    expect(rig.irq).toEqual([false, false]);
    rig.gic.v2m.write(regs.MSI_SETSPI_NS, 4, 79);
    expect(rig.gic.signalMsi({ address: V2M + 0x44, data: 95 })).toBe(false);
    expect(rig.irq).toEqual([false, false]);
    expect(rig.gic.signalMsi({ address: V2M + 0x40, data: 95 })).toBe(true);
    expect(rig.irq).toEqual([true, false]);
  });

  it('refuses a frame outside the SPIs', () => {
    const wires = { setIrq() {} };
    const make = (base: number, count: number) => () =>
      createGicV2({ cpus: 1, spis: 64, currentCpu: () => 0, wires, v2m: { base, count } });
    expect(make(31, 4)).toThrow(VmError);
    expect(make(90, 16)).toThrow(VmError);
    expect(make(80, 16)).not.toThrow();
  });
});
