import { createGicV3, type GicV3, type GicV3Config } from '../../src/engines/emu/gic/gicv3.ts';
import * as regs from '../../src/engines/emu/gic/regs.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import type { GuestMemory } from '../../src/memory/types.ts';

export const RAM_BASE = 0x4000_0000;
export const RAM_SIZE = 0x40_0000;
export const ITS_ADDRESS = 0x0808_0000;
const REDISTRIBUTOR = 0x2_0000;
const SGI_FRAME = 0x1_0000;

/** A GICv3 with RAM and recorded wires, driven through its registers as a guest drives it. */
export class GicRig {
  readonly memory: GuestMemory;
  readonly gic: GicV3;
  readonly irq: boolean[];
  readonly fiq: boolean[];
  /** Calls of wires.setIrq so far. */
  calls = 0;

  constructor(config: Partial<GicV3Config> = {}) {
    const cpus = config.cpus ?? 2;
    this.irq = new Array<boolean>(cpus).fill(false);
    this.fiq = new Array<boolean>(cpus).fill(false);
    this.memory = createGuestMemory([
      { base: 0, size: 0x1_0000, kind: 'rom', bytes: new Uint8Array(0x1_0000) },
      { base: RAM_BASE, size: RAM_SIZE, kind: 'ram', bytes: new Uint8Array(RAM_SIZE) },
    ]);
    this.gic = createGicV3({
      spis: 64,
      memory: this.memory,
      wires: {
        setIrq: (cpu, irq, fiq) => {
          this.calls++;
          this.irq[cpu] = irq;
          this.fiq[cpu] = fiq;
        },
      },
      mpidr: cpu => BigInt(cpu) | 0x8000_0000n,
      its: true,
      itsAddress: ITS_ADDRESS,
      ...config,
      cpus,
    });
  }

  /** Wakes the CPUs and enables both groups everywhere, all interrupts in Group 1, as Linux leaves it. */
  up(): this {
    this.gicd(regs.GICD_CTLR, 3);
    for (let n = 0; n < 64 / 32; n++) this.gicd(regs.GICD_IGROUPR + 4 + 4 * n, 0xffff_ffff);
    for (const cpu of this.irq.keys()) {
      this.gicr(cpu, regs.GICR_WAKER, 0);
      this.sgi(cpu, regs.GICD_IGROUPR, 0xffff_ffff);
      this.icc(cpu, regs.ICC_PMR_EL1, 0xf0);
      this.icc(cpu, regs.ICC_IGRPEN0_EL1, 1);
      this.icc(cpu, regs.ICC_IGRPEN1_EL1, 1);
    }
    return this;
  }

  /** Reads a distributor register, or writes it. */
  gicd(offset: number, value?: number): number {
    if (value === undefined) return this.gic.distributor.read(offset, 4);
    this.gic.distributor.write(offset, 4, value);
    return value;
  }

  /** A register of a redistributor's RD_base frame. */
  gicr(cpu: number, offset: number, value?: number): number {
    const at = cpu * REDISTRIBUTOR + offset;
    if (value === undefined) return this.gic.redistributors.read(at, 4);
    this.gic.redistributors.write(at, 4, value);
    return value;
  }

  /** A register of a redistributor's SGI_base frame. */
  sgi(cpu: number, offset: number, value?: number): number {
    return this.gicr(cpu, SGI_FRAME + offset, value);
  }

  gicr64(cpu: number, offset: number, value?: bigint): bigint {
    const at = cpu * REDISTRIBUTOR + offset;
    if (value === undefined) return this.gic.redistributors.read64!(at);
    this.gic.redistributors.write64!(at, value);
    return value;
  }

  gits(offset: number, value?: number): number {
    if (value === undefined) return this.gic.its!.read(offset, 4);
    this.gic.its!.write(offset, 4, value);
    return value;
  }

  gits64(offset: number, value?: bigint): bigint {
    if (value === undefined) return this.gic.its!.read64!(offset);
    this.gic.its!.write64!(offset, value);
    return value;
  }

  /** A CPU interface register; undefined when the access is UNDEFINED. */
  icc(cpu: number, reg: number, value?: number | bigint): number | undefined {
    if (value !== undefined) return this.gic.writeRegister(cpu, reg, BigInt(value)) ? Number(value) : undefined;
    const read = this.gic.readRegister(cpu, reg);
    return read === undefined ? undefined : Number(read);
  }

  /** Enables INTID `intid` with `priority`, as seen from `cpu`; an SPI is routed to it. */
  enable(cpu: number, intid: number, priority = 0xa0, edge = false): void {
    const [w, bit] = [4 * (intid >> 5), 1 << (intid & 31)];
    const config = regs.GICD_ICFGR + 4 * (intid >> 4);
    const mask = 2 << (2 * (intid & 15));
    if (intid < 32) {
      this.gic.redistributors.write(cpu * REDISTRIBUTOR + SGI_FRAME + regs.GICD_IPRIORITYR + intid, 1, priority);
      const old = this.sgi(cpu, config);
      this.sgi(cpu, config, edge ? old | mask : old & ~mask);
      this.sgi(cpu, regs.GICD_ISENABLER, bit);
    } else {
      this.gic.distributor.write(regs.GICD_IPRIORITYR + intid, 1, priority);
      const old = this.gicd(config);
      this.gicd(config, edge ? old | mask : old & ~mask);
      this.gic.distributor.write64!(regs.GICD_IROUTER + 8 * intid, BigInt(cpu));
      this.gicd(regs.GICD_ISENABLER + w, bit);
    }
  }
}
