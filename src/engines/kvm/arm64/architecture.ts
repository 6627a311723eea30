import type { Hypercall } from '../../../bus/hypercall.ts';
import type { InterruptController, InterruptLine, MsiMessage } from '../../../irq/types.ts';
import type { Gpa } from '../../../memory/types.ts';
import { VmError } from '../../../util/errors.ts';
import {
  KVM_ARM_IRQ_TYPE_SHIFT,
  KVM_ARM_IRQ_TYPE_SPI,
  KVM_ARM_PREFERRED_TARGET,
  KVM_CAP_ARM_PMU_V3,
  KVM_CAP_ARM_PTRAUTH_ADDRESS,
  KVM_CAP_ARM_PTRAUTH_GENERIC,
  KVM_DEV_ARM_VGIC_CTRL_INIT,
  KVM_DEV_ARM_VGIC_GRP_ADDR,
  KVM_DEV_ARM_VGIC_GRP_CTRL,
  KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
  KVM_DEV_TYPE_ARM_VGIC_ITS,
  KVM_DEV_TYPE_ARM_VGIC_V2,
  KVM_DEV_TYPE_ARM_VGIC_V3,
  KVM_VGIC_ITS_ADDR_TYPE,
  KVM_VGIC_V2_ADDR_TYPE_CPU,
  KVM_VGIC_V2_ADDR_TYPE_DIST,
  KVM_VGIC_V3_ADDR_TYPE_DIST,
  KVM_VGIC_V3_ADDR_TYPE_REDIST,
  kvm_vcpu_init,
} from '../abi/aarch64.generated.ts';
import { KVM_CAP_IRQ_ROUTING, KVM_CAP_MSI_DEVID } from '../abi/common.generated.ts';
import type { KvmArchitecture } from '../engine.ts';
import { IrqRoutes, Wires } from '../irqs.ts';
import { Struct } from '../structs.ts';
import type { IrqRoute, KvmDevice, KvmVm } from '../vm.ts';
import { Arm64Cpu } from './cpu.ts';
import { type Arm64Ptp, connectPtp } from './ptp.ts';

/** Private interrupts come before the shared ones. */
const FIRST_SPI = 32;
/** GITS_TRANSLATER in the ITS's second frame, and MSI_SETSPI_NS of a GICv2m frame. */
const GITS_TRANSLATER = 0x1_0040;
const MSI_SETSPI_NS = 0x40;

/** Options of {@link Arm64Architecture}. */
export interface Arm64Options {
  readonly cpus: number;
  readonly gic: 3 | 2;
  /** Shared peripheral interrupts, a multiple of 32. */
  readonly spis: number;
  /** Where the interrupt controller's frames are. */
  readonly gicd: Gpa;
  readonly gicc: Gpa;
  readonly gicr: Gpa;
  readonly its: Gpa;
  readonly gicv2m: { readonly address: Gpa; readonly base: number; readonly count: number };
  /** Whether guests have the clock of ptp_kvm, and what the host's own time comes from (clocksource.ts). */
  readonly ptp: boolean;
  readonly clocksource: string | undefined;
}

/** An arm64 VM with KVM's GIC: version 3 with an ITS, or version 2 with the machine's GICv2m frame. */
export class Arm64Architecture implements KvmArchitecture, InterruptController {
  readonly arch = 'aarch64';
  /** Guest-physical addresses of 40 bits. */
  readonly vmType = 0;
  readonly #o: Arm64Options;
  readonly #wires = new Wires((irq, level) => this.#vm!.irqLine(irq, level));
  #vm: KvmVm | undefined;
  #cpus: readonly Arm64Cpu[] = [];
  #devices: KvmDevice[] = [];
  #pmu = false;
  #ptp: Arm64Ptp = { answeredBy: 'nobody' };

  constructor(o: Arm64Options) {
    this.#o = o;
  }

  /** Whether guests have performance counters; known once the VM is built. */
  get pmu(): boolean {
    return this.#pmu;
  }

  /** Who answers the guest's ptp_kvm; known once the VM is built. */
  get ptp(): Arm64Ptp {
    return this.#ptp;
  }

  /** The vCPU with this number. It must not run. */
  cpu(id: number): Arm64Cpu {
    return this.#cpus[id]!;
  }

  get bootCpu(): Arm64Cpu {
    const [cpu] = this.#cpus;
    if (cpu === undefined) throw new VmError('ERR_INTERNAL', 'the VM has not been built');
    return cpu;
  }

  /** Routes for events that raise interrupts in the kernel. */
  routes(vm: KvmVm): IrqRoutes {
    return new IrqRoutes(vm, this.#pinRoutes(), vm.check(KVM_CAP_MSI_DEVID) > 0);
  }

  build(vm: KvmVm): readonly Arm64Cpu[] {
    this.#vm = vm;
    const init = new Struct(kvm_vcpu_init.sizeof);
    vm.ioctl(KVM_ARM_PREFERRED_TARGET, init.bytes);
    const target = init.getU32(kvm_vcpu_init.target);
    const pointerAuthentication =
      vm.check(KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0 && vm.check(KVM_CAP_ARM_PTRAUTH_GENERIC) > 0;
    this.#pmu = vm.check(KVM_CAP_ARM_PMU_V3) > 0;
    this.#cpus = Array.from({ length: this.#o.cpus }, (_, id) => {
      const cpu = new Arm64Cpu(vm.host, vm.createVcpu(id));
      cpu.initialize(target, { pmu: this.#pmu, pointerAuthentication }, id > 0);
      return cpu;
    });
    if (this.#o.gic === 3) this.#gicV3(vm);
    else this.#gicV2(vm);
    this.#ptp = connectPtp(vm, this.bootCpu, this.#o.ptp, this.#o.clocksource);
    if (this.#pmu) for (const cpu of this.#cpus) cpu.initializePmu();
    if (vm.check(KVM_CAP_IRQ_ROUTING) > 0) vm.setRouting(this.#pinRoutes(), false);
    this.#wires.renew();
    return this.#cpus;
  }

  close(): void {
    for (const d of this.#devices.reverse()) d[Symbol.dispose]();
    this.#devices = [];
    this.#cpus = [];
  }

  line(gsi: number): InterruptLine {
    return this.#wires.line((KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT) | (FIRST_SPI + gsi));
  }

  signalMsi(m: MsiMessage): boolean {
    const { gic, its, gicv2m } = this.#o;
    if (gic === 2) {
      if (m.address !== gicv2m.address + MSI_SETSPI_NS) return false;
      this.pulse(m.data & 0x3ff);
      return true;
    }
    if (m.address !== its + GITS_TRANSLATER) return false;
    // An event that the guest has not mapped is dropped, as by hardware.
    this.#vm!.signalMsi(m, true);
    return true;
  }

  /** Pulses an edge-triggered SPI of the GICv2m frame. @param intid from 32 on. */
  pulse(intid: number): void {
    const { base, count } = this.#o.gicv2m;
    if (intid < base || intid >= base + count) return;
    const irq = (KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT) | intid;
    this.#vm!.irqLine(irq, true);
    this.#vm!.irqLine(irq, false);
  }

  /** Puts the counter back by the time that the guest was held. Its offset is the VM's: one vCPU sets it for all. */
  holdTime(): () => void {
    const counter = this.bootCpu.counter;
    return () => {
      this.bootCpu.counter = counter;
    };
  }

  /**
   * KVM_EXIT_HYPERCALL (api.rst, section 5): a call that the filter forwards. Arguments and results are in the vCPU's registers, and its
   * PC is at the next instruction already.
   */
  hypercall(cpu: number, nr: number): Hypercall {
    const vcpu = this.cpu(cpu);
    return { abi: 'smccc', cpu, id: nr >>> 0, arg: n => vcpu.x(n), result: (n, value) => vcpu.setX(n, value) };
  }

  /** The engine's reset makes the VM anew. */
  reset(): void {}

  save(): never {
    throw new VmError('ERR_STATE', "the state of KVM's interrupt controller is not saved yet");
  }

  restore(): never {
    return this.save();
  }

  /** Documentation/virt/kvm/devices/arm-vgic-v3.rst and arm-vgic-its.rst. */
  #gicV3(vm: KvmVm): void {
    const gic = this.#device(vm, KVM_DEV_TYPE_ARM_VGIC_V3, 'GICv3', '--gic 2');
    gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, BigUint64Array.of(BigInt(this.#o.gicd)));
    gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, BigUint64Array.of(BigInt(this.#o.gicr)));
    this.#initialize(gic);
    const its = this.#device(vm, KVM_DEV_TYPE_ARM_VGIC_ITS, 'ITS', '--gic 2');
    its.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, BigUint64Array.of(BigInt(this.#o.its)));
    its.set(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT);
  }

  /** Documentation/virt/kvm/devices/arm-vgic.rst. */
  #gicV2(vm: KvmVm): void {
    const gic = this.#device(vm, KVM_DEV_TYPE_ARM_VGIC_V2, 'GICv2', '--gic 3');
    gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V2_ADDR_TYPE_DIST, BigUint64Array.of(BigInt(this.#o.gicd)));
    gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V2_ADDR_TYPE_CPU, BigUint64Array.of(BigInt(this.#o.gicc)));
    this.#initialize(gic);
  }

  #initialize(gic: KvmDevice): void {
    gic.set(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, Uint32Array.of(FIRST_SPI + this.#o.spis));
    gic.set(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT);
  }

  #device(vm: KvmVm, type: number, what: string, instead: string): KvmDevice {
    const device = vm.createDevice(type);
    if (device === undefined) {
      throw new VmError('ERR_ENGINE_UNAVAILABLE', `this host's KVM cannot give a guest a ${what}`, {
        hint: `its processor has another interrupt controller: use ${instead}, or --engine emu`,
        details: { device: what },
      });
    }
    this.#devices.push(device);
    return device;
  }

  /** What KVM has by itself: GSI n is SPI n. */
  #pinRoutes(): IrqRoute[] {
    return Array.from({ length: this.#o.spis }, (_, pin) => ({ gsi: pin, irqchip: 0, pin }));
  }
}
