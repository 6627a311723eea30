import { beforeEach, describe, expect, it } from 'vitest';
import { GicRig, ITS_ADDRESS, RAM_BASE, RAM_SIZE } from '../../../../test/support/gic-rig.ts';
import * as regs from './regs.ts';

const { ICC_EOIR1_EL1, ICC_IAR1_EL1, ICC_RPR_EL1, GITS_BASER, GITS_CBASER, GITS_CREADR, GITS_CTLR, GITS_CWRITER } =
  regs;

const CONFIG = RAM_BASE + 0x10_0000; // LPI configuration table
const PENDING = RAM_BASE + 0x12_0000; // one 64 KiB pending table for each CPU
const QUEUE = RAM_BASE + 0x18_0000; // 64 KiB
const DEVICES = RAM_BASE + 0x19_0000; // 512 KiB flat, or level 1
const COLLECTIONS = RAM_BASE + 0x22_0000;
const LEVEL2 = RAM_BASE + 0x23_0000;
const ITT = RAM_BASE + 0x26_0000;
const VALID = 1n << 63n;
const INDIRECT = 1n << 62n;
const PAGE_64K = 2n << 8n;

/** A driver of the ITS that does what Linux's does: tables, LPIs, command queue. */
class ItsDriver extends GicRig {
  #tail = 0;

  constructor(indirect = false, cpus = 2) {
    super({ cpus });
    this.up();
    for (let cpu = 0; cpu < cpus; cpu++) {
      this.gicr64(cpu, regs.GICR_PROPBASER, BigInt(CONFIG) | 0x78fn); // IDbits 15, shareable, write-back
      this.gicr64(cpu, regs.GICR_PENDBASER, BigInt(PENDING + 0x1_0000 * cpu) | 0x780n);
      this.gicr(cpu, regs.GICR_CTLR, 1);
    }
    const devices = indirect ? INDIRECT | PAGE_64K : PAGE_64K | 7n;
    this.gits64(GITS_BASER, VALID | BigInt(DEVICES) | devices);
    this.gits64(GITS_BASER + 8, VALID | BigInt(COLLECTIONS) | PAGE_64K);
    this.gits64(GITS_CBASER, VALID | BigInt(QUEUE) | 15n);
    this.gits(GITS_CTLR, 1);
    for (let cpu = 0; cpu < cpus; cpu++) this.mapc(cpu, cpu);
  }

  /** Puts a command of four doublewords into the queue without telling the ITS. */
  queue(command: number, dw0 = 0n, dw1 = 0n, dw2 = 0n, dw3 = 0n): void {
    const at = QUEUE + this.#tail;
    for (const [n, dw] of [BigInt(command) | dw0, dw1, dw2, dw3].entries()) this.memory.setU64(at + 8 * n, dw);
    this.#tail = (this.#tail + 32) % 0x1_0000;
  }

  ring(): void {
    this.gits64(GITS_CWRITER, BigInt(this.#tail));
  }

  command(command: number, dw0 = 0n, dw1 = 0n, dw2 = 0n, dw3 = 0n): void {
    this.queue(command, dw0, dw1, dw2, dw3);
    this.ring();
    expect(this.gits64(GITS_CREADR)).toBe(BigInt(this.#tail));
  }

  mapd(device: number, bits = 5, valid = true): void {
    const itt = BigInt(ITT + 0x1000 * (device & 0xf));
    this.command(regs.MAPD, BigInt(device) << 32n, BigInt(bits - 1), itt | (valid ? VALID : 0n));
  }

  mapc(icid: number, cpu: number, valid = true): void {
    this.command(regs.MAPC, 0n, 0n, BigInt(icid) | (BigInt(cpu) << 16n) | (valid ? VALID : 0n));
  }

  mapti(device: number, event: number, intid: number, icid: number): void {
    this.command(regs.MAPTI, BigInt(device) << 32n, BigInt(event) | (BigInt(intid) << 32n), BigInt(icid));
  }

  on(command: number, device: number, event: number, icid = 0): void {
    this.command(command, BigInt(device) << 32n, BigInt(event), BigInt(icid));
  }

  /** Writes an LPI's configuration byte; the caches do not hear of it. */
  configure(intid: number, priority: number, enable = true): void {
    this.memory.setU8(CONFIG + intid - 8192, priority | (enable ? 1 : 0));
  }

  msi(device: number, event: number): void {
    expect(this.gic.signalMsi({ address: ITS_ADDRESS + 0x1_0040, data: event, deviceId: device })).toBe(true);
  }

  counters() {
    return (this.gic.its as unknown as { counters: { commands: number; ignored: number } }).counters;
  }
}

describe('ITS registers', () => {
  it('describe what Linux probes', () => {
    const rig = new GicRig();
    const typer = rig.gits64(regs.GITS_TYPER);
    expect(typer & 3n).toBe(1n); // physical, no virtual LPIs
    expect((typer >> 4n) & 0xfn).toBe(7n); // 8-byte ITT entries
    expect((typer >> 8n) & 0x1fn).toBe(15n);
    expect((typer >> 13n) & 0x1fn).toBe(15n);
    expect((typer >> 19n) & 1n).toBe(0n); // PTA
    expect(rig.gits(GITS_CTLR)).toBe(0x8000_0000); // Quiescent
    rig.gits(GITS_CTLR, 1);
    expect(rig.gits(GITS_CTLR)).toBe(1);
  });

  it('GITS_BASER: Type and Entry_Size stay, all else reads back, every page size can be had', () => {
    const rig = new GicRig();
    const types = Array.from({ length: 8 }, (_, n) => Number((rig.gits64(GITS_BASER + 8 * n) >> 56n) & 7n));
    expect(types).toEqual([1, 4, 0, 0, 0, 0, 0, 0]);
    for (const n of [0, 1]) {
      const at = GITS_BASER + 8 * n;
      const fixed = rig.gits64(at);
      expect((fixed >> 48n) & 0x1fn).toBe(7n);
      for (const page of [0n, 1n, 2n]) {
        // Valid, Indirect, RaWaWb inner, same-as-inner outer, inner shareable, size
        const value = VALID | INDIRECT | (7n << 59n) | BigInt(RAM_BASE) | (1n << 10n) | (page << 8n) | 0x3fn;
        rig.gits64(at, value);
        expect(rig.gits64(at)).toBe(value | fixed);
      }
      rig.gits64(at, 3n << 8n);
      expect((rig.gits64(at) >> 8n) & 3n).toBe(2n);
    }
    rig.gits64(GITS_BASER + 16, ~0n);
    expect(rig.gits64(GITS_BASER + 16)).toBe(0n);
  });

  it('GITS_CBASER: reads back, empties the queue, is fixed while enabled; halves work', () => {
    const rig = new GicRig();
    rig.gits(GITS_CBASER, 0x4018_040f);
    rig.gits(GITS_CBASER + 4, 0xb800_0000);
    expect(rig.gits64(GITS_CBASER)).toBe(0xb800_0000_4018_040fn);
    rig.gits64(GITS_CWRITER, 0x1_0000n); // beyond 16 pages
    expect(rig.gits64(GITS_CWRITER)).toBe(0n);
    rig.gits64(GITS_CWRITER, 0xffffn);
    expect(rig.gits64(GITS_CWRITER)).toBe(0xffe0n);
    rig.gits64(GITS_CBASER, 0xb800_0000_4018_040fn);
    expect(rig.gits64(GITS_CWRITER)).toBe(0n);
    rig.gits(GITS_CTLR, 1);
    rig.gits64(GITS_CBASER, 0n);
    rig.gits64(GITS_BASER, 0n);
    expect(rig.gits64(GITS_CBASER)).toBe(0xb800_0000_4018_040fn);
  });
});

describe.each([
  ['flat', false],
  ['two-level', true],
])('LPIs through the ITS, %s device table', (_, indirect) => {
  let d: ItsDriver;

  beforeEach(() => {
    d = new ItsDriver(indirect);
    // Two pages of level 2, for devices 0..8191 and 16384..24575.
    if (indirect) {
      d.memory.setU64(DEVICES, VALID | BigInt(LEVEL2));
      d.memory.setU64(DEVICES + 16, VALID | BigInt(LEVEL2 + 0x1_0000));
    }
    d.mapd(0x4008);
    d.mapti(0x4008, 3, 8200, 1);
    d.configure(8200, 0xa0);
  });

  it('delivers a message as Group 1 LPI without active state', () => {
    d.msi(0x4008, 3);
    expect(d.irq).toEqual([false, true]);
    expect(d.icc(1, ICC_IAR1_EL1)).toBe(8200);
    expect(d.icc(1, ICC_RPR_EL1)).toBe(0xa0);
    d.msi(0x4008, 3); // Again pending at once; delivered after the priority drop.
    expect(d.irq[1]).toBe(false);
    d.icc(1, ICC_EOIR1_EL1, 8200);
    expect(d.irq[1]).toBe(true);
    expect(d.icc(1, ICC_IAR1_EL1)).toBe(8200);
    d.icc(1, ICC_EOIR1_EL1, 8200);
    expect(d.icc(1, ICC_IAR1_EL1)).toBe(1023);
    expect(d.counters().ignored).toBe(0);
  });

  it('drops messages of unmapped devices, events and CPU writes to GITS_TRANSLATER', () => {
    d.msi(0x4009, 3);
    d.msi(0x4008, 4);
    d.msi(0x4008, 32);
    d.msi(0x1_4008, 3);
    d.gits(regs.GITS_TRANSLATER, 3);
    expect(d.irq).toEqual([false, false]);
    d.gits(GITS_CTLR, 0);
    d.msi(0x4008, 3);
    expect(d.irq).toEqual([false, false]);
  });

  it('reads the configuration once and again after INV, INVALL or GICR_INVLPIR', () => {
    d.configure(8200, 0xa0, false);
    d.msi(0x4008, 3);
    expect(d.irq[1]).toBe(false);
    d.configure(8200, 0xa0, true);
    d.msi(0x4008, 3);
    expect(d.irq[1]).toBe(false); // cached
    d.on(regs.INV, 0x4008, 3);
    expect(d.irq[1]).toBe(true);
    d.configure(8200, 0xa0, false);
    expect(d.irq[1]).toBe(true);
    d.command(regs.INVALL, 0n, 0n, 1n);
    expect(d.irq[1]).toBe(false);
    d.configure(8200, 0xa0, true);
    d.gicr64(1, regs.GICR_INVLPIR, 8200n);
    expect(d.irq[1]).toBe(true);
    expect(d.gicr(1, regs.GICR_SYNCR)).toBe(0);
    d.configure(8200, 0xa0, false);
    d.gicr64(1, regs.GICR_INVALLR, 0n);
    expect(d.irq[1]).toBe(false);
  });

  it('MOVI takes the pending state along, and later messages', () => {
    d.msi(0x4008, 3);
    d.on(regs.MOVI, 0x4008, 3, 0);
    expect(d.irq).toEqual([true, false]);
    expect(d.icc(0, ICC_IAR1_EL1)).toBe(8200);
    d.icc(0, ICC_EOIR1_EL1, 8200);
    d.msi(0x4008, 3);
    expect(d.irq).toEqual([true, false]);
  });

  it('DISCARD takes the mapping and the pending state away', () => {
    d.msi(0x4008, 3);
    d.on(regs.DISCARD, 0x4008, 3);
    expect(d.irq).toEqual([false, false]);
    d.msi(0x4008, 3);
    expect(d.irq).toEqual([false, false]);
  });

  it('INT and CLEAR', () => {
    d.on(regs.INT, 0x4008, 3);
    expect(d.irq).toEqual([false, true]);
    d.on(regs.CLEAR, 0x4008, 3);
    expect(d.irq).toEqual([false, false]);
  });

  it('MOVALL moves everything that is pending', () => {
    d.mapti(0x4008, 4, 65535, 1);
    d.configure(65535, 0x80);
    d.msi(0x4008, 3);
    d.msi(0x4008, 4);
    d.command(regs.MOVALL, 0n, 0n, 1n << 16n, 0n);
    expect(d.irq).toEqual([true, false]);
    expect(d.icc(0, ICC_IAR1_EL1)).toBe(65535);
  });

  it('MAPC moves a collection, MAPC and MAPD with V = 0 unmap; a cached translation does not survive', () => {
    d.msi(0x4008, 3);
    d.icc(1, ICC_IAR1_EL1);
    d.icc(1, ICC_EOIR1_EL1, 8200);
    d.mapc(1, 0);
    d.msi(0x4008, 3);
    expect(d.irq).toEqual([true, false]);
    d.icc(0, ICC_IAR1_EL1);
    d.icc(0, ICC_EOIR1_EL1, 8200);
    d.mapc(1, 0, false);
    d.msi(0x4008, 3);
    expect(d.irq).toEqual([false, false]);
    d.mapc(1, 1);
    d.mapd(0x4008, 5, false);
    d.msi(0x4008, 3);
    expect(d.irq).toEqual([false, false]);
  });

  it('keeps its tables in guest memory: another ITS over the same bytes and registers goes on', () => {
    d.msi(0x4008, 3);
    const other = new GicRig();
    other.memory.write(RAM_BASE, d.memory.view(RAM_BASE, RAM_SIZE)!);
    other.gic.restore(JSON.parse(JSON.stringify(d.gic.save())));
    expect(other.irq).toEqual([false, true]);
    expect(other.icc(1, ICC_IAR1_EL1)).toBe(8200);
    other.icc(1, ICC_EOIR1_EL1, 8200);
    other.gic.signalMsi({ address: ITS_ADDRESS + 0x1_0040, data: 3, deviceId: 0x4008 });
    expect(other.icc(1, ICC_IAR1_EL1)).toBe(8200);
  });
});

describe('ITS commands', () => {
  it('delivers the most urgent LPI first, among SPIs too', () => {
    const d = new ItsDriver();
    d.mapd(1);
    for (const [event, intid, priority] of [
      [0, 8192, 0xa0],
      [1, 8300, 0x60],
      [2, 8301, 0x60],
      [3, 40000, 0x90],
    ] as const) {
      d.mapti(1, event, intid, 0);
      d.configure(intid, priority);
      d.msi(1, event);
    }
    d.enable(0, 40, 0x98, true);
    d.gic.line(8).set(true);
    const order: (number | undefined)[] = [];
    for (let n = 0; n < 6; n++) {
      order.push(d.icc(0, ICC_IAR1_EL1));
      d.icc(0, ICC_EOIR1_EL1, order[n]!);
    }
    expect(order).toEqual([8300, 8301, 40000, 40, 8192, 1023]);
  });

  it('MAPI: the EventID is the INTID', () => {
    const d = new ItsDriver();
    d.mapd(2, 14);
    d.on(regs.MAPI, 2, 8195, 1);
    d.configure(8195, 0);
    d.msi(2, 8195);
    expect(d.irq).toEqual([false, true]);
  });

  it('ignores what is malformed, counts it and goes on', () => {
    const d = new ItsDriver();
    d.mapd(1);
    const bad: (() => void)[] = [
      () => d.command(0x77),
      () => d.mapd(0x1_0000),
      () => d.mapd(3, 17), // more EventID bits than GITS_TYPER has
      () => d.mapc(0, 2), // no such CPU
      () => d.mapc(0x4000, 0), // beyond the collection table
      () => d.mapti(1, 0, 8191, 0), // no LPI
      () => d.mapti(1, 0, 65536, 0),
      () => d.mapti(1, 32, 8192, 0), // beyond the ITT
      () => d.mapti(5, 0, 8192, 0), // device not mapped
      () => d.on(regs.MOVI, 1, 0, 0),
      () => d.on(regs.DISCARD, 1, 0),
      () => d.on(regs.INT, 1, 0),
      () => d.on(regs.INV, 9, 0),
      () => d.command(regs.INVALL, 0n, 0n, 9n),
      () => d.command(regs.MOVALL, 0n, 0n, 7n << 16n, 0n),
    ];
    for (const [n, command] of bad.entries()) {
      command();
      expect(d.counters().ignored).toBe(n + 1);
    }
  });

  it('does not write outside RAM, whatever a table address says', () => {
    const d = new ItsDriver(true);
    d.memory.setU64(DEVICES, VALID); // level 2 in ROM at 0
    d.mapd(0);
    expect(d.counters().ignored).toBe(1);
    d.memory.setU64(DEVICES, VALID | 0xf_ffff_ffff_0000n);
    d.mapd(0);
    expect(d.counters().ignored).toBe(2);
    expect(d.memory.view(0, 0x1_0000)!.every(b => b === 0)).toBe(true);
  });

  it('stalls on a queue outside memory until it is moved', () => {
    const rig = new GicRig();
    rig.gits64(GITS_CBASER, VALID | 0xf000_0000n);
    rig.gits(GITS_CTLR, 1);
    rig.gits64(GITS_CWRITER, 0x20n);
    expect(rig.gits64(GITS_CREADR)).toBe(1n);
    rig.gits(GITS_CTLR, 0);
    rig.gits64(GITS_CBASER, VALID | BigInt(RAM_BASE));
    rig.gits(GITS_CTLR, 1);
    rig.gits64(GITS_CWRITER, 0x20n);
    expect(rig.gits64(GITS_CREADR)).toBe(0x20n);
  });

  it('wraps the queue, and waits while disabled', () => {
    const d = new ItsDriver();
    for (let n = 0; n < 5000; n++) d.command(regs.SYNC);
    const done = d.counters().commands;
    d.gits(GITS_CTLR, 0);
    const before = d.gits64(GITS_CREADR);
    d.queue(regs.SYNC);
    d.ring();
    expect(d.gits64(GITS_CREADR)).toBe(before);
    d.gits(GITS_CTLR, 1);
    expect(d.counters().commands).toBe(done + 1);
  });

  it('bounds the commands of one access; polling GITS_CREADR does the rest', () => {
    const rig = new GicRig();
    rig.gits64(GITS_CBASER, VALID | BigInt(RAM_BASE) | 0xffn); // 32768 commands, all zero: ignored
    rig.gits(GITS_CTLR, 1);
    rig.gits64(GITS_CWRITER, 0xf_ffe0n);
    const seen: bigint[] = [];
    while (seen.at(-1) !== 0xf_ffe0n) {
      seen.push(rig.gits64(GITS_CREADR));
      expect(seen.length).toBeLessThan(20);
    }
    expect(seen.length).toBeGreaterThan(1);
  });
});

describe('LPI tables', () => {
  it('reads the pending table when LPIs are enabled, unless PTZ, and writes it back', () => {
    const rig = new GicRig().up();
    rig.memory.setU8(PENDING + (8192 >> 3) + 1, 0x10); // INTID 8204
    rig.memory.setU8(CONFIG + 12, 0xa1);
    rig.gicr64(0, regs.GICR_PROPBASER, BigInt(CONFIG) | 13n); // 14 bits: 8192..16383
    rig.gicr64(0, regs.GICR_PENDBASER, BigInt(PENDING));
    rig.gicr(0, regs.GICR_CTLR, 1);
    expect(rig.irq[0]).toBe(true);
    rig.memory.setU8(PENDING + (8192 >> 3) + 1, 0);
    rig.gicr(0, regs.GICR_CTLR, 0);
    expect(rig.irq[0]).toBe(false);
    expect(rig.memory.u8(PENDING + (8192 >> 3) + 1)).toBe(0x10);
    rig.gicr64(0, regs.GICR_PENDBASER, BigInt(PENDING) | regs.GICR_PENDBASER_PTZ);
    rig.gicr(0, regs.GICR_CTLR, 1);
    expect(rig.irq[0]).toBe(false);
  });

  it('respects GICR_PROPBASER.IDbits, and survives tables outside memory', () => {
    const d = new ItsDriver();
    d.gicr(0, regs.GICR_CTLR, 0);
    d.gicr64(0, regs.GICR_PROPBASER, BigInt(CONFIG) | 13n);
    d.gicr(0, regs.GICR_CTLR, 1);
    d.mapd(1);
    d.mapti(1, 0, 16384, 0);
    d.mapti(1, 1, 16383, 0);
    d.configure(16384, 0);
    d.configure(16383, 0);
    d.msi(1, 0);
    expect(d.irq[0]).toBe(false);
    d.msi(1, 1);
    expect(d.irq[0]).toBe(true);
    d.gicr(0, regs.GICR_CTLR, 0);
    for (const at of [0n, 0xf_ffff_ffff_0000n]) {
      d.gicr64(0, regs.GICR_PROPBASER, at | 15n);
      d.gicr64(0, regs.GICR_PENDBASER, at);
      d.gicr(0, regs.GICR_CTLR, 1);
      d.msi(1, 1);
      d.gicr(0, regs.GICR_CTLR, 0);
    }
    expect(d.memory.view(0, 0x1_0000)!.every(b => b === 0)).toBe(true);
  });
});
