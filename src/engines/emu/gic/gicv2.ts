import type { BusDevice } from '../../../bus/types.ts';
import type { InterruptController, InterruptLine, MsiMessage } from '../../../irq/types.ts';
import type { Gpa } from '../../../memory/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { CpuInterface, CpuInterruptWires } from '../../engine.ts';
import { type BankState, InterruptBank } from './bank.ts';
import { Gicc, type GiccHost, type GiccState } from './gicc.ts';
import {
  GICC_CTLR_EnableGrp0,
  GICC_CTLR_EnableGrp1,
  GICD_CPENDSGIR,
  GICD_CTLR,
  GICD_CTLR_EnableGrp0,
  GICD_CTLR_EnableGrp1,
  GICD_ICENABLER,
  GICD_ICFGR,
  GICD_ICPENDR,
  GICD_IGROUPR,
  GICD_IIDR,
  GICD_IPRIORITYR,
  GICD_ISPENDR,
  GICD_ITARGETSR,
  GICD_SGIR,
  GICD_SPENDSGIR,
  GICD_TYPER,
  IIDR,
  INTID_SPURIOUS,
  identification,
  MSI_SETSPI_NS,
  PPI_BASE,
  PRIORITY_IDLE,
  SPI_BASE,
} from './regs.ts';
import { V2mFrame } from './v2m.ts';
import { RegisterFrame } from './wide.ts';
import { checkConfig, InterruptSignals, spiLine } from './wiring.ts';

export interface GicV2Config {
  /** 1..8. */
  readonly cpus: number;
  /** Shared peripheral interrupts: a multiple of 32 up to 960. */
  readonly spis: number;
  readonly wires: CpuInterruptWires;
  /** The CPU whose access is being handled: the distributor and the CPU interface are banked. */
  currentCpu(): number;
  /**
   * SPIs of the GICv2m frame: first INTID and number. With `address`, the frame's guest-physical address,
   * MSI_SETSPI_NS is a doorbell of signalMsi().
   */
  readonly v2m: { readonly base: number; readonly count: number; readonly address?: Gpa };
}

/** A GICv2's saved state: plain JSON. */
export interface GicV2State {
  readonly version: 2;
  readonly ctlr: number;
  readonly spis: BankState;
  readonly targets: number[];
  readonly privates: BankState[];
  readonly interfaces: GiccState[];
}

/** GICv2's distributor registers (IHI 0048 section 4.3), 4 KiB, banked by the accessing CPU. */
class GicV2Distributor extends RegisterFrame {
  readonly name = 'GICD';
  enables = 0;
  readonly bank: InterruptBank;
  /** GICD_ITARGETSR of each SPI: a bitmap of CPUs. */
  readonly targets: Uint8Array;
  readonly #typer: number;

  constructor(
    spis: number,
    private readonly cpus: readonly Gicc[],
    private readonly currentCpu: () => number,
    private readonly changed: () => void,
  ) {
    super();
    this.bank = new InterruptBank(1, spis >> 5);
    this.targets = new Uint8Array(spis);
    this.#typer = (spis >> 5) | ((cpus.length - 1) << 5);
  }

  reset(): void {
    this.enables = 0;
    this.bank.reset();
    // One processor has no GICD_ITARGETSR: everything goes to it (section 4.3.12).
    this.targets.fill(this.cpus.length === 1 ? 1 : 0);
  }

  protected override read32(offset: number): number {
    const cpu = this.cpus[this.currentCpu()]!;
    if (offset >= GICD_ITARGETSR && offset < GICD_ICFGR) return this.bytes(offset, o => this.target(o));
    // Each bank reads as zero outside its INTIDs.
    if (offset >= GICD_IGROUPR && offset < GICD_ICFGR + 0x100) return cpu.bank.read(offset) | this.bank.read(offset);
    if (offset >= GICD_CPENDSGIR && offset < GICD_SPENDSGIR + 16) {
      return this.bytes(offset, o => cpu.sgiSources[o & 0xf]!);
    }
    switch (offset) {
      case GICD_CTLR:
        return this.enables;
      case GICD_TYPER:
        return this.#typer;
      case GICD_IIDR:
        return IIDR;
      default:
        return offset >= 0xfd0 && offset < 0x1000 ? identification(offset - 0xfd0, 2) : 0;
    }
  }

  protected override write32(offset: number, value: number): void {
    const sender = this.currentCpu();
    const cpu = this.cpus[sender]!;
    if (offset >= GICD_ITARGETSR && offset < GICD_ICFGR) {
      for (let n = 0; n < 4; n++) this.setTarget(offset + n, (value >>> (8 * n)) & 0xff);
    } else if (offset >= GICD_IGROUPR && offset < GICD_ICFGR + 0x100) {
      // SGIs become pending through GICD_SGIR and GICD_SPENDSGIR only (section 4.3.7).
      const ofSgis = offset === GICD_ISPENDR || offset === GICD_ICPENDR;
      cpu.bank.write(offset, ofSgis ? value & ~0xffff : value);
      if (offset === GICD_ICENABLER) cpu.bank.enabled[0]! |= 0xffff;
      this.bank.write(offset, value);
    } else if (offset >= GICD_CPENDSGIR && offset < GICD_SPENDSGIR + 16) {
      for (let n = 0; n < 4; n++) this.pendSgi(cpu, offset + n, (value >>> (8 * n)) & 0xff);
    } else if (offset === GICD_SGIR) {
      this.sendSgi(sender, value);
    } else if (offset === GICD_CTLR) {
      this.enables = value & (GICD_CTLR_EnableGrp0 | GICD_CTLR_EnableGrp1);
    } else return;
    this.changed();
  }

  protected override readNarrow(offset: number, size: 1 | 2): number {
    if (size !== 1 || !isByteRegister(offset)) return 0;
    return (this.read32(offset & ~3) >>> (8 * (offset & 3))) & 0xff;
  }

  protected override writeNarrow(offset: number, size: 1 | 2, value: number): void {
    if (size !== 1 || !isByteRegister(offset)) return;
    const cpu = this.cpus[this.currentCpu()]!;
    if (offset < GICD_ITARGETSR) {
      cpu.bank.writePriority(offset, value);
      this.bank.writePriority(offset, value);
    } else if (offset < GICD_ICFGR) this.setTarget(offset, value);
    else this.pendSgi(cpu, offset, value);
    this.changed();
  }

  private bytes(offset: number, byte: (offset: number) => number): number {
    return byte(offset) | (byte(offset + 1) << 8) | (byte(offset + 2) << 16) | (byte(offset + 3) << 24);
  }

  /** GICD_ITARGETSR0..7 tell a CPU its own number, as a bit (section 4.3.12). */
  private target(offset: number): number {
    const intid = offset - GICD_ITARGETSR;
    if (this.cpus.length === 1) return 0;
    return intid < SPI_BASE ? 1 << this.currentCpu() : (this.targets[intid - SPI_BASE] ?? 0);
  }

  private setTarget(offset: number, mask: number): void {
    const i = offset - GICD_ITARGETSR - SPI_BASE;
    if (i < 0 || i >= this.targets.length || this.cpus.length === 1) return;
    this.targets[i] = mask & ((1 << this.cpus.length) - 1);
  }

  /** GICD_CPENDSGIR and GICD_SPENDSGIR: one byte an SGI, one bit a source CPU. */
  private pendSgi(cpu: Gicc, offset: number, mask: number): void {
    const intid = offset & 0xf;
    const sources = mask & ((1 << this.cpus.length) - 1);
    if (offset >= GICD_SPENDSGIR) cpu.sgiSources[intid]! |= sources;
    else cpu.sgiSources[intid]! &= ~sources;
    latchSgi(cpu, intid);
  }

  /** GICD_SGIR (section 4.3.15): TargetListFilter 0 the list, 1 all but the sender, 2 the sender. */
  private sendSgi(sender: number, value: number): void {
    const all = (1 << this.cpus.length) - 1;
    const lists = [(value >>> 16) & all, all & ~(1 << sender), 1 << sender, 0];
    const list = lists[(value >>> 24) & 3]!;
    const intid = value & 0xf;
    for (const [n, cpu] of this.cpus.entries()) {
      if ((list & (1 << n)) === 0) continue;
      cpu.sgiSources[intid]! |= 1 << sender;
      latchSgi(cpu, intid);
    }
  }
}

const isByteRegister = (offset: number) =>
  (offset >= GICD_IPRIORITYR && offset < GICD_ICFGR) || (offset >= GICD_CPENDSGIR && offset < GICD_SPENDSGIR + 16);

/** An SGI is pending while any CPU's is. */
function latchSgi(cpu: Gicc, intid: number): void {
  const bit = 1 << intid;
  if (cpu.sgiSources[intid] !== 0) cpu.bank.latch[0]! |= bit;
  else cpu.bank.latch[0]! &= ~bit;
}

/** GICC of the accessing CPU, 8 KiB with GICC_DIR. */
class GicV2CpuInterface extends RegisterFrame {
  readonly name = 'GICC';
  constructor(
    private readonly cpus: readonly Gicc[],
    private readonly currentCpu: () => number,
  ) {
    super();
  }

  protected override read32(offset: number): number {
    return this.cpus[this.currentCpu()]!.read(offset);
  }

  protected override write32(offset: number, value: number): void {
    this.cpus[this.currentCpu()]!.write(offset, value);
  }
}

/**
 * A GICv2 without Security Extensions (Arm IHI 0048) and a GICv2m frame for message-signalled interrupts.
 * A state machine without clock or threads, like {@link GicV3}.
 */
export class GicV2 implements InterruptController, CpuInterface, GiccHost {
  /** 4 KiB. */
  readonly distributor: BusDevice;
  /** 8 KiB. */
  readonly cpuInterface: BusDevice;
  /** 4 KiB. */
  readonly v2m: BusDevice;

  readonly #dist: GicV2Distributor;
  readonly #cpus: Gicc[];
  readonly #signals: InterruptSignals;
  readonly #frame: V2mFrame;
  readonly #doorbell: Gpa | undefined;
  readonly #lines: (InterruptLine | undefined)[] = [];

  constructor(config: GicV2Config) {
    const { cpus, spis, v2m } = config;
    checkConfig(cpus, spis);
    if (v2m.base < SPI_BASE || v2m.count < 0 || v2m.base + v2m.count > SPI_BASE + spis) {
      throw new VmError('ERR_USAGE', `a GICv2m frame for INTIDs ${v2m.base} to ${v2m.base + v2m.count - 1}`, {
        hint: `Its interrupts must be shared ones: 32 to ${SPI_BASE + spis - 1}.`,
      });
    }
    this.#signals = new InterruptSignals(cpus, config.wires);
    this.#cpus = Array.from({ length: cpus }, (_, cpu) => new Gicc(cpu, this));
    const currentCpu = () => config.currentCpu();
    this.#dist = new GicV2Distributor(spis, this.#cpus, currentCpu, () => this.updateAll());
    this.#frame = new V2mFrame(v2m.base, v2m.count, intid => this.pulse(intid - SPI_BASE));
    this.#doorbell = v2m.address === undefined ? undefined : v2m.address + MSI_SETSPI_NS;
    this.distributor = this.#dist;
    this.cpuInterface = new GicV2CpuInterface(this.#cpus, currentCpu);
    this.v2m = this.#frame;
    this.reset();
  }

  /** A GICv2 has no system registers: always UNDEFINED. */
  readRegister(_cpu: number, _reg: number): undefined {
    return undefined;
  }

  writeRegister(_cpu: number, _reg: number, _value: bigint): boolean {
    return false;
  }

  setPpi(cpu: number, intid: number, level: boolean): void {
    if (intid < PPI_BASE || intid >= SPI_BASE) return;
    if (this.#cpus[cpu]!.bank.setLine(intid, level)) this.update(cpu);
  }

  /** @throws VmError ERR_USAGE when the controller has no such SPI. */
  line(gsi: number): InterruptLine {
    this.#lines[gsi] ??= spiLine(gsi, this.#dist.targets.length, level => {
      if (this.#dist.bank.setLine(gsi, level)) this.updateTargets(gsi);
    });
    return this.#lines[gsi];
  }

  signalMsi(m: MsiMessage): boolean {
    if (m.address !== this.#doorbell) return false;
    this.#frame.raise(m.data & 0x3ff);
    return true;
  }

  /** Input wires keep their level: they are the devices'. */
  reset(): void {
    this.#dist.reset();
    for (const cpu of this.#cpus) cpu.reset();
    this.updateAll();
  }

  save(): GicV2State {
    return {
      version: 2,
      ctlr: this.#dist.enables,
      spis: this.#dist.bank.save(),
      targets: Array.from(this.#dist.targets),
      privates: this.#cpus.map(cpu => cpu.bank.save()),
      interfaces: this.#cpus.map(cpu => cpu.save()),
    };
  }

  /** @throws VmError ERR_STATE when the state is of another controller or number of CPUs or interrupts. */
  restore(state: unknown): void {
    const s = state as GicV2State | null;
    if (
      s?.version !== 2 ||
      s.interfaces.length !== this.#cpus.length ||
      s.targets.length !== this.#dist.targets.length
    ) {
      throw new VmError('ERR_STATE', 'the saved interrupt controller is not of this kind and size', {
        hint: 'Restore into a machine with the same number of CPUs, interrupts and the same GIC version.',
      });
    }
    this.#dist.enables = s.ctlr;
    this.#dist.bank.restore(s.spis);
    this.#dist.targets.set(s.targets);
    for (const [n, cpu] of this.#cpus.entries()) {
      cpu.bank.restore(s.privates[n]!);
      cpu.restore(s.interfaces[n]!);
    }
    this.#signals.forget();
    this.updateAll();
  }

  // --- GiccHost ---

  activate(cpu: number, intid: number): void {
    if (intid < SPI_BASE) {
      const unit = this.#cpus[cpu]!;
      unit.bank.activate(intid);
      if (intid < PPI_BASE) latchSgi(unit, intid); // Other CPUs' SGIs of that number stay pending.
      this.update(cpu);
    } else {
      this.#dist.bank.activate(intid - SPI_BASE);
      this.updateTargets(intid - SPI_BASE);
    }
  }

  deactivate(cpu: number, intid: number): void {
    if (intid < SPI_BASE) {
      this.#cpus[cpu]!.bank.deactivate(intid);
    } else if (intid - SPI_BASE < this.#dist.targets.length) {
      this.#dist.bank.deactivate(intid - SPI_BASE);
      this.updateTargets(intid - SPI_BASE);
    }
    this.update(cpu);
  }

  groupOf(cpu: number, intid: number): number | undefined {
    if (intid >= SPI_BASE + this.#dist.targets.length) return undefined;
    const group1 =
      intid < SPI_BASE ? this.#cpus[cpu]!.bank.isGroup1(intid) : this.#dist.bank.isGroup1(intid - SPI_BASE);
    return group1 ? 1 : 0;
  }

  /** Chooses the CPU's highest priority pending interrupt and tells the wires. */
  update(cpu: number): void {
    const unit = this.#cpus[cpu]!;
    unit.pending = INTID_SPURIOUS;
    unit.pendingPriority = PRIORITY_IDLE;
    unit.pendingGroup = 0;
    const enables = this.#dist.enables;
    const m0 = enables & GICD_CTLR_EnableGrp0 && unit.ctlr & GICC_CTLR_EnableGrp0 ? -1 : 0;
    const m1 = enables & GICD_CTLR_EnableGrp1 && unit.ctlr & GICC_CTLR_EnableGrp1 ? -1 : 0;
    if ((m0 | m1) !== 0) {
      const own = unit.bank;
      const i = own.highest(0, own.deliverable(0) & ((own.group[0]! & m1) | (~own.group[0]! & m0)), PRIORITY_IDLE);
      if (i >= 0) this.offer(unit, i, own.priority[i]!, own.isGroup1(i));
      const spis = this.#dist.bank;
      for (let w = 0; w < spis.words; w++) {
        const group = spis.group[w]!;
        let candidates = spis.deliverable(w) & ((group & m1) | (~group & m0));
        for (let left = candidates; left !== 0; left &= left - 1) {
          const bit = left & -left;
          const target = this.#dist.targets[(w << 5) + 31 - Math.clz32(bit)]!;
          if ((target & (1 << cpu)) === 0) candidates &= ~bit;
        }
        const n = spis.highest(w, candidates, unit.pendingPriority);
        if (n >= 0) this.offer(unit, SPI_BASE + n, spis.priority[n]!, spis.isGroup1(n));
      }
    }
    this.#signals.set(cpu, unit.signals);
  }

  private offer(unit: Gicc, intid: number, priority: number, group1: boolean): void {
    unit.pending = intid;
    unit.pendingPriority = priority;
    unit.pendingGroup = group1 ? 1 : 0;
  }

  private updateAll(): void {
    for (let cpu = 0; cpu < this.#cpus.length; cpu++) this.update(cpu);
  }

  /** The 1-N model: every target is asked, the first to acknowledge gets the SPI (section 3.1.4). */
  private updateTargets(i: number): void {
    for (let cpu = 0; cpu < this.#cpus.length; cpu++) if (this.#dist.targets[i]! & (1 << cpu)) this.update(cpu);
  }

  /** A message is a pulse of the wire: it leaves the pending state of an edge-triggered SPI. */
  private pulse(i: number): void {
    const { bank } = this.#dist;
    bank.setLine(i, true);
    bank.setLine(i, false);
    this.updateTargets(i);
  }
}

/**
 * Makes a GICv2 with a GICv2m frame. See {@link GicV2}.
 * @throws VmError ERR_USAGE for CPUs, SPIs or a frame that it cannot have.
 */
export function createGicV2(config: GicV2Config): GicV2 {
  return new GicV2(config);
}
