import type { Hypercall } from '../bus/hypercall.ts';
import { createHypercallBus } from '../bus/hypercall-bus.ts';
import type { AddressBus } from '../bus/types.ts';
import { createPtp } from '../devices/kvm-hypervisor/ptp.ts';
import { createPvTime } from '../devices/kvm-hypervisor/pv-time.ts';
import { createKvmHypervisor } from '../devices/kvm-hypervisor/service.ts';
import { createPsci, type PowerController } from '../devices/psci/psci.ts';
import { createSmccc } from '../devices/psci/smccc.ts';
import { createTrng } from '../devices/psci/trng.ts';
import type { CounterReading } from '../devices/vmclock/device.ts';
import { A64Engine } from '../engines/emu/a64/engine.ts';
import { createGicV2 } from '../engines/emu/gic/gicv2.ts';
import { createGicV3 } from '../engines/emu/gic/gicv3.ts';
import type { CpuInterface, CpuInterruptWires, VcpuBoot } from '../engines/engine.ts';
import { hostMemory } from '../engines/host/host-memory.ts';
import type { InterruptController } from '../irq/types.ts';
import { createHostClock } from '../time/host-clock.ts';
import { createVirtualClock } from '../time/virtual-clock.ts';
import { type AddressRange, ARM_VIRT, ARM_VIRT_SPI, ARM_VIRT_SPIS } from './address-map.ts';
import type { ArmCpus } from './arm-cpus.ts';
import type { BoardContext } from './board.ts';
import type { PtpInfo } from './clock-info.ts';
import { createHostTime } from './host-time.ts';

/** The guest's system counter: 62.5 MHz, 16 ns a tick, as on QEMU's board. */
const COUNTER_HZ = 62_500_000;
/** Wall-clock time at which a machine with a virtual clock starts: 2020-01-01, ns since 1970. */
const VIRTUAL_EPOCH = 1_577_836_800_000_000_000n;
/** Bytes of a redistributor's two frames. */
const GICR_SIZE = 0x2_0000;

/** A frame of registers and where it is. */
type Frame = readonly [AddressRange, Parameters<AddressBus['map']>[2]];

/** arm-virt on the emulated engine: the interrupt controller and the hypercalls are ours, too. */
export class EmulatedArmCpus implements ArmCpus {
  readonly engine: A64Engine;
  readonly interrupts: InterruptController & CpuInterface;
  readonly pmu = true;
  readonly #ptp: PtpInfo;
  #ptpCalls = 0;
  readonly #context: BoardContext;
  readonly #hypercalls = createHypercallBus();
  readonly #frames: Frame[] = [];

  constructor(context: BoardContext, hotplug: AddressRange | undefined) {
    this.#context = context;
    const { config } = context;
    this.engine = new A64Engine({
      cpus: config.cpus,
      ramBase: ARM_VIRT.ram.base,
      ramBytes: config.memoryBytes,
      hotplug,
      counterHz: COUNTER_HZ,
      hostMemory: hostMemory(),
      clock:
        config.clock === 'virtual'
          ? { kind: 'virtual', clock: createVirtualClock({ startWall: VIRTUAL_EPOCH }) }
          : { kind: 'host', clock: createHostClock(createHostTime(), config.startNs) },
    });
    this.interrupts = config.gic === 3 ? this.#gicV3() : this.#gicV2();
    this.#ptp =
      config.ptp === false ? { answeredBy: 'nobody', reason: 'switched off (ptp: false)' } : { answeredBy: 'tsvisor' };
    this.#addHypercalls();
  }

  connect(bus: AddressBus): void {
    for (const [{ base, size }, device] of this.#frames) bus.map(base, size, device);
    this.engine.attach({
      sink: this.#context.sink(),
      interrupts: this.interrupts,
      gicSysregs: this.#context.config.gic === 3,
      log: line => this.#context.events.log(line),
    });
  }

  start(boot: VcpuBoot): void {
    this.engine.vcpus[0]?.start(boot);
  }

  get ptp(): PtpInfo {
    return this.#ptp.answeredBy === 'tsvisor' ? { ...this.#ptp, calls: this.#ptpCalls } : this.#ptp;
  }

  hypercall(call: Hypercall): void {
    this.#hypercalls.handle(call);
  }

  readCounter(): CounterReading {
    const { wallNs, virtual, errorNs } = this.engine.counterPair();
    return { wallNs, counter: virtual, errorNs };
  }

  vcpu(id: number): { instructions: number; pc: number } {
    return { instructions: this.engine.instructions(id), pc: Number(this.engine.pc(id)) };
  }

  #wires(): CpuInterruptWires {
    return {
      setIrq: (cpu, irq, fiq) => {
        this.engine.setIrq(cpu, irq, fiq);
        if (irq || fiq) this.#context.wake();
      },
    };
  }

  #gicV3(): InterruptController & CpuInterface {
    const { cpus } = this.#context.config;
    const gic = createGicV3({
      cpus,
      spis: ARM_VIRT_SPIS,
      memory: this.engine.memory,
      wires: this.#wires(),
      mpidr: cpu => this.engine.mpidr(cpu),
      its: true,
      itsAddress: ARM_VIRT.its.base,
      distributorAddress: ARM_VIRT.gicd.base,
    });
    this.#frames.push([ARM_VIRT.gicd, gic.distributor]);
    this.#frames.push([{ base: ARM_VIRT.gicr.base, size: cpus * GICR_SIZE }, gic.redistributors]);
    if (gic.its !== undefined) this.#frames.push([ARM_VIRT.its, gic.its]);
    return gic;
  }

  #gicV2(): InterruptController & CpuInterface {
    const gic = createGicV2({
      cpus: this.#context.config.cpus,
      spis: ARM_VIRT_SPIS,
      wires: this.#wires(),
      currentCpu: () => this.#context.currentCpu,
      v2m: { base: ARM_VIRT_SPI.v2m + 32, count: ARM_VIRT_SPI.v2mCount, address: ARM_VIRT.gicv2m.base },
    });
    this.#frames.push([ARM_VIRT.gicd, gic.distributor]);
    this.#frames.push([ARM_VIRT.gicc, gic.cpuInterface]);
    this.#frames.push([ARM_VIRT.gicv2m, gic.v2m]);
    // A GICv2 has no system registers.
    return Object.assign(gic, { readRegister: () => undefined, writeRegister: () => false });
  }

  #addHypercalls(): void {
    const { engine } = this;
    const mpidrs = engine.vcpus.map(v => engine.mpidr(v.id) & 0xff_00ff_ffffn);
    const power: PowerController = {
      cpus: mpidrs.map(mpidr => ({ mpidr })),
      state: cpu => (engine.vcpus[cpu]?.state === 'off' ? 'off' : 'on'),
      start: (cpu, pc, x0) => {
        const vcpu = engine.vcpus[cpu];
        if (vcpu === undefined || vcpu.state !== 'off') return 'already-on';
        vcpu.start({ pc, x0 });
        return 'ok';
      },
      stop: cpu => engine.vcpus[cpu]?.stop(),
      suspend: cpu => engine.waitForInterrupt(cpu),
      system: (event, cause) => this.#context.end(event, cause),
    };
    const { seed } = this.#context.config;
    this.#hypercalls.add(createPsci(power));
    this.#hypercalls.add(createSmccc());
    this.#hypercalls.add(createTrng(this.#context.entropy(`trng ${seed ?? 0}`)));
    this.#hypercalls.add(createPvTime());
    const pair = () => {
      this.#ptpCalls++;
      return engine.counterPair();
    };
    const services = this.#ptp.answeredBy === 'tsvisor' ? [createPtp(pair)] : [];
    for (const service of [createKvmHypervisor(services), ...services]) this.#hypercalls.add(service);
  }
}
