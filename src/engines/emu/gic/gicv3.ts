import type { AccessSize, BusDevice } from '../../../bus/types.ts';
import type { InterruptController, InterruptLine, MsiMessage } from '../../../irq/types.ts';
import type { Gpa, GuestMemory } from '../../../memory/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { CpuInterface, CpuInterruptWires } from '../../engine.ts';
import { type CpuInterfaceHost, type CpuInterfaceState, CpuInterfaceUnit } from './cpu-interface.ts';
import { affinityOf, Distributor, type DistributorState, TARGET_ANY } from './distributor.ts';
import { Its, type ItsState } from './its.ts';
import { Redistributor, type RedistributorState } from './redistributor.ts';
import {
  GICD_SETSPI_NSR,
  GITS_TRANSLATER,
  INTID_SPURIOUS,
  LPI_BASE,
  PPI_BASE,
  PRIORITY_IDLE,
  SPI_BASE,
} from './regs.ts';
import { checkConfig, InterruptSignals, spiLine } from './wiring.ts';

export interface GicV3Config {
  /** 1..8. */
  readonly cpus: number;
  /** Shared peripheral interrupts: a multiple of 32 up to 960. */
  readonly spis: number;
  /** Where the guest's LPI and ITS tables are. */
  readonly memory: GuestMemory;
  readonly wires: CpuInterruptWires;
  /** MPIDR_EL1 of a CPU: its affinity. */
  mpidr(cpu: number): bigint;
  /** LPIs and an ITS. */
  readonly its: boolean;
  /** Guest-physical address of the ITS's control frame: makes GITS_TRANSLATER a doorbell of signalMsi(). */
  readonly itsAddress?: Gpa;
  /** Guest-physical address of the distributor: makes GICD_SETSPI_NSR a doorbell of signalMsi(). */
  readonly distributorAddress?: Gpa;
}

/** A GICv3's saved state: plain JSON. */
export interface GicV3State {
  readonly version: 3;
  readonly distributor: DistributorState;
  readonly redistributors: RedistributorState[];
  readonly interfaces: CpuInterfaceState[];
  readonly its: ItsState | null;
}

/** Bytes of one redistributor: RD_base and SGI_base frames. */
const REDISTRIBUTOR_SIZE = 0x2_0000;

/** All redistributors as one device, a contiguous region as GICR_TYPER.Last ends it. */
class RedistributorRegion implements BusDevice {
  readonly name = 'GICR';
  constructor(private readonly all: readonly Redistributor[]) {}

  read(offset: number, size: AccessSize): number {
    return this.all[Math.floor(offset / REDISTRIBUTOR_SIZE)]?.read(offset % REDISTRIBUTOR_SIZE, size) ?? 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.all[Math.floor(offset / REDISTRIBUTOR_SIZE)]?.write(offset % REDISTRIBUTOR_SIZE, size, value);
  }

  read64(offset: number): bigint {
    return this.all[Math.floor(offset / REDISTRIBUTOR_SIZE)]?.read64(offset % REDISTRIBUTOR_SIZE) ?? 0n;
  }

  write64(offset: number, value: bigint): void {
    this.all[Math.floor(offset / REDISTRIBUTOR_SIZE)]?.write64(offset % REDISTRIBUTOR_SIZE, value);
  }
}

/**
 * A GICv3 with one security state (GICD_CTLR.DS = 1), affinity routing only and 5 priority bits: Arm IHI 0069.
 * A state machine without clock or threads: every access takes effect at once, and `wires` hears of each change of
 * nIRQ and nFIQ before the call returns.
 */
export class GicV3 implements InterruptController, CpuInterface, CpuInterfaceHost {
  /** 64 KiB. */
  readonly distributor: BusDevice;
  /** 128 KiB for each CPU. */
  readonly redistributors: BusDevice;
  /** 128 KiB; undefined without an ITS. */
  readonly its: BusDevice | undefined;

  readonly #dist: Distributor;
  readonly #redists: Redistributor[] = [];
  readonly #interfaces: CpuInterfaceUnit[] = [];
  readonly #its: Its | undefined;
  readonly #affinities: number[];
  readonly #signals: InterruptSignals;
  readonly #lines: (InterruptLine | undefined)[] = [];
  /** CPU that 1-of-N interrupts of Group 0 and Group 1 go to, -1 for none. */
  readonly #anyTarget = [-1, -1];
  readonly #translater: Gpa | undefined;
  readonly #setSpi: Gpa | undefined;

  constructor(config: GicV3Config) {
    const { cpus, spis, memory } = config;
    checkConfig(cpus, spis);
    this.#signals = new InterruptSignals(cpus, config.wires);
    this.#affinities = Array.from({ length: cpus }, (_, cpu) => affinityOf(config.mpidr(cpu)));
    const updateAll = () => this.groupsChanged();
    this.#dist = new Distributor(spis, this.#affinities, config.its, updateAll);
    for (let cpu = 0; cpu < cpus; cpu++) {
      const identity = { cpu, affinity: this.#affinities[cpu]!, last: cpu === cpus - 1, lpis: config.its };
      this.#redists.push(new Redistributor(identity, memory, updateAll));
      this.#interfaces.push(new CpuInterfaceUnit(cpu, this));
    }
    const lpis = this.#redists.map(r => r.lpi);
    this.#its = config.its ? new Its(memory, lpis, cpu => this.update(cpu)) : undefined;
    this.distributor = this.#dist;
    this.redistributors = new RedistributorRegion(this.#redists);
    this.its = this.#its;
    this.#translater = this.#its && config.itsAddress !== undefined ? config.itsAddress + GITS_TRANSLATER : undefined;
    this.#setSpi = config.distributorAddress === undefined ? undefined : config.distributorAddress + GICD_SETSPI_NSR;
  }

  readRegister(cpu: number, reg: number): bigint | undefined {
    return this.#interfaces[cpu]!.read(reg);
  }

  writeRegister(cpu: number, reg: number, value: bigint): boolean {
    return this.#interfaces[cpu]!.write(reg, value);
  }

  setPpi(cpu: number, intid: number, level: boolean): void {
    if (intid < PPI_BASE || intid >= SPI_BASE) return;
    if (this.#redists[cpu]!.bank.setLine(intid, level)) this.update(cpu);
  }

  /** @throws VmError ERR_USAGE when the controller has no such SPI. */
  line(gsi: number): InterruptLine {
    this.#lines[gsi] ??= spiLine(gsi, this.#dist.target.length, level => {
      if (this.#dist.bank.setLine(gsi, level)) this.updateSpi(gsi);
    });
    return this.#lines[gsi];
  }

  signalMsi(m: MsiMessage): boolean {
    if (m.address === this.#translater) {
      this.#its?.signal(m.deviceId ?? 0, m.data);
      return true;
    }
    if (m.address !== this.#setSpi) return false;
    this.#dist.message(m.data, true);
    return true;
  }

  /** Input wires keep their level: they are the devices'. */
  reset(): void {
    this.#dist.reset();
    for (const r of this.#redists) r.reset();
    for (const i of this.#interfaces) i.reset();
    this.#its?.reset();
    this.groupsChanged();
  }

  save(): GicV3State {
    return {
      version: 3,
      distributor: this.#dist.save(),
      redistributors: this.#redists.map(r => r.save()),
      interfaces: this.#interfaces.map(i => i.save()),
      its: this.#its?.save() ?? null,
    };
  }

  /**
   * Guest memory, which holds the tables, must be restored first.
   * @throws VmError ERR_STATE when the state is of another controller or number of CPUs or interrupts.
   */
  restore(state: unknown): void {
    const s = state as GicV3State | null;
    if (
      s?.version !== 3 ||
      s.redistributors.length !== this.#redists.length ||
      s.distributor.affinity.length !== this.#dist.target.length ||
      (s.its === null) !== (this.#its === undefined)
    ) {
      throw new VmError('ERR_STATE', 'the saved interrupt controller is not of this kind and size', {
        hint: 'Restore into a machine with the same number of CPUs, interrupts and the same GIC version.',
      });
    }
    this.#dist.restore(s.distributor);
    for (const [cpu, r] of this.#redists.entries()) r.restore(s.redistributors[cpu]!);
    for (const [cpu, i] of this.#interfaces.entries()) i.restore(s.interfaces[cpu]!);
    if (s.its !== null) this.#its?.restore(s.its);
    this.#signals.forget();
    this.groupsChanged();
  }

  // --- CpuInterfaceHost ---

  activate(cpu: number, intid: number): void {
    const r = this.#redists[cpu]!;
    if (intid >= LPI_BASE) r.lpi.clearPending(intid);
    else if (intid < SPI_BASE) r.bank.activate(intid);
    else this.#dist.bank.activate(intid - SPI_BASE);
    // The interrupt was this CPU's to take, so nobody else's choice changes.
    this.update(cpu);
  }

  deactivate(cpu: number, intid: number): void {
    if (intid < SPI_BASE) {
      this.#redists[cpu]!.bank.deactivate(intid);
      this.update(cpu);
    } else if (intid - SPI_BASE < this.#dist.target.length) {
      this.#dist.bank.deactivate(intid - SPI_BASE);
      this.updateSpi(intid - SPI_BASE);
    }
  }

  /** Affinity routing of SGIs (section 12.2.20, ICC_SGI1R_EL1): targets that name no CPU are ignored. */
  sendSgi(cpu: number, value: bigint, group1: boolean): void {
    const low = Number(BigInt.asUintN(32, value));
    const high = Number((value >> 32n) & 0xffff_ffffn);
    const intid = (low >>> 24) & 0xf;
    const all = (high & 0x100) !== 0; // IRM: everyone but the sender
    const cluster = (((high >>> 16) & 0xff) << 16) | ((high & 0xff) << 8) | ((low >>> 16) & 0xff);
    const range = (high >>> 12) & 0xf;
    for (let to = 0; to < this.#redists.length; to++) {
      const affinity = this.#affinities[to]!;
      const aff0 = affinity & 0xff;
      const listed = affinity >>> 8 === cluster && aff0 >> 4 === range && ((low >>> (aff0 & 0xf)) & 1) !== 0;
      if (all ? to === cpu : !listed) continue;
      const { bank } = this.#redists[to]!;
      // ICC_SGI0R_EL1 generates Group 0 SGIs only, ICC_SGI1R_EL1 either kind (section 4.7.4, DS = 1).
      if (!group1 && bank.isGroup1(intid)) continue;
      bank.latch[0]! |= 1 << intid;
      this.update(to);
    }
  }

  signal(cpu: number): void {
    this.#signals.set(cpu, this.#interfaces[cpu]!.signals);
  }

  groupsChanged(): void {
    // 1-of-N: the lowest CPU that is awake and takes the group (section 3.2.1 leaves the choice to us).
    const takes = (cpu: number) => !this.#redists[cpu]!.asleep;
    this.#anyTarget[0] = this.#interfaces.findIndex((i, cpu) => i.enableGroup0 && takes(cpu));
    this.#anyTarget[1] = this.#interfaces.findIndex((i, cpu) => i.enableGroup1 && takes(cpu));
    for (let cpu = 0; cpu < this.#redists.length; cpu++) this.update(cpu);
  }

  private updateSpi(i: number): void {
    const target = this.#dist.target[i]!;
    if (target >= 0) this.update(target);
    else if (target === TARGET_ANY) {
      if (this.#anyTarget[0]! >= 0) this.update(this.#anyTarget[0]!);
      if (this.#anyTarget[1]! >= 0 && this.#anyTarget[1] !== this.#anyTarget[0]) this.update(this.#anyTarget[1]!);
    }
  }

  /** Chooses the CPU's highest priority pending interrupt (section 4.8) and tells the wires. */
  private update(cpu: number): void {
    const unit = this.#interfaces[cpu]!;
    const redist = this.#redists[cpu]!;
    const dist = this.#dist;
    unit.pending = INTID_SPURIOUS;
    unit.pendingPriority = PRIORITY_IDLE;
    unit.pendingGroup = 1;
    const group0 = dist.enableGroup0 && unit.enableGroup0;
    const group1 = dist.enableGroup1 && unit.enableGroup1;
    if (!redist.asleep && (group0 || group1)) {
      const m0 = group0 ? -1 : 0;
      const m1 = group1 ? -1 : 0;
      const own = redist.bank;
      const mine = own.deliverable(0);
      if (mine !== 0) {
        const i = own.highest(0, mine & ((own.group[0]! & m1) | (~own.group[0]! & m0)), PRIORITY_IDLE);
        if (i >= 0) this.offer(unit, i, own.priority[i]!, own.isGroup1(i));
      }
      const spis = dist.bank;
      const routed = dist.routed[cpu]!;
      const any0 = this.#anyTarget[0] === cpu ? m0 : 0;
      const any1 = this.#anyTarget[1] === cpu ? m1 : 0;
      for (let w = 0; w < spis.words; w++) {
        const shared = spis.deliverable(w);
        if (shared === 0) continue;
        const group = spis.group[w]!;
        const one = routed[w]! & ((group & m1) | (~group & m0));
        const any = dist.anyCpu[w]! & ((group & any1) | (~group & any0));
        const i = spis.highest(w, shared & (one | any), unit.pendingPriority);
        if (i >= 0) this.offer(unit, SPI_BASE + i, spis.priority[i]!, spis.isGroup1(i));
      }
      if (group1 && redist.lpi.enabled) {
        redist.lpi.settle();
        const { intid, priority } = redist.lpi;
        if (priority < unit.pendingPriority) this.offer(unit, intid, priority, true);
      }
    }
    this.signal(cpu);
  }

  private offer(unit: CpuInterfaceUnit, intid: number, priority: number, group1: boolean): void {
    unit.pending = intid;
    unit.pendingPriority = priority;
    unit.pendingGroup = group1 ? 1 : 0;
  }
}

/**
 * Makes a GICv3. See {@link GicV3}.
 * @throws VmError ERR_USAGE for a number of CPUs or SPIs that it cannot have.
 */
export function createGicV3(config: GicV3Config): GicV3 {
  return new GicV3(config);
}
