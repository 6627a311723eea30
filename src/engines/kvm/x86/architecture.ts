import type { InterruptController, InterruptLine, MsiMessage } from '../../../irq/types.ts';
import { VmError } from '../../../util/errors.ts';
import { KVM_CAP_IRQ_ROUTING, KVM_CAP_SIGNAL_MSI } from '../abi/common.generated.ts';
import {
  KVM_CAP_GET_TSC_KHZ,
  KVM_CAP_PIT2,
  KVM_CAP_SET_IDENTITY_MAP_ADDR,
  KVM_CAP_SET_TSS_ADDR,
  KVM_CAP_TSC_DEADLINE_TIMER,
  KVM_CREATE_PIT2,
  KVM_GET_TSC_KHZ,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
  KVM_PIT_SPEAKER_DUMMY,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_TSS_ADDR,
  kvm_pit_config,
} from '../abi/x86_64.generated.ts';
import type { KvmArchitecture } from '../engine.ts';
import { IrqRoutes, Wires } from '../irqs.ts';
import { Struct } from '../structs.ts';
import type { IrqRoute, KvmVm } from '../vm.ts';
import { holdKvmclock } from './clock.ts';
import { X86Cpu } from './cpu.ts';
import { type CpuidLeaf, guestCpuid, physicalAddressBits, supportedCpuid } from './cpuid.ts';

/** Pins of KVM's I/O APIC and of each of its PICs. */
const IOAPIC_PINS = 24;
const PIC_PINS = 8;
const PAGE = 4096;

/** Options of {@link X86Architecture}. */
export interface X86Options {
  readonly cpus: number;
  /** See CpuidPolicy. */
  readonly invariantTsc: boolean;
  /** Four pages of guest-physical addresses that Intel's processors need; neither RAM nor a device may be there. */
  readonly reserved: number;
}

/**
 * An x86-64 VM with KVM's PICs, I/O APIC, local APICs and interval timer. As interrupt controller: line(gsi) is a pin of the I/O APIC
 * (and of a PIC below 16), messages go to the local APICs.
 */
export class X86Architecture implements KvmArchitecture, InterruptController {
  readonly arch = 'x86_64';
  readonly vmType = 0;
  readonly #o: X86Options;
  readonly #wires = new Wires((irq, level) => this.#vm!.irqLine(irq, level));
  #vm: KvmVm | undefined;
  #cpus: readonly X86Cpu[] = [];
  #supported: readonly CpuidLeaf[] | undefined;
  #signalsMsi = false;
  #counterHz = 0;

  constructor(o: X86Options) {
    this.#o = o;
  }

  /** Of the TSC, which is known once the VM is built: to a kHz, as KVM has it; 0 where it does not tell. */
  get counterHz(): number {
    return this.#counterHz;
  }

  /** Routes for events that raise interrupts in the kernel. */
  routes(vm: KvmVm): IrqRoutes {
    return new IrqRoutes(vm, pinRoutes(), false);
  }

  /** The vCPU that the guest starts on. */
  get bootCpu(): X86Cpu {
    const [cpu] = this.#cpus;
    if (cpu === undefined) throw new VmError('ERR_INTERNAL', 'the VM has not been built');
    return cpu;
  }

  /** Bits of guest-physical addresses that the VM's processors have. */
  get physicalAddressBits(): number {
    return physicalAddressBits(this.#supported ?? []);
  }

  build(vm: KvmVm): readonly X86Cpu[] {
    this.#vm = vm;
    this.#signalsMsi = vm.check(KVM_CAP_SIGNAL_MSI) > 0;
    this.#supported ??= supportedCpuid(vm.system);
    const { reserved, cpus, invariantTsc } = this.#o;
    // 4.42 and 4.35; both before the first vCPU.
    if (vm.check(KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
      vm.ioctl(KVM_SET_IDENTITY_MAP_ADDR, new Struct(8).u64(0, reserved).bytes);
    }
    if (vm.check(KVM_CAP_SET_TSS_ADDR) > 0) vm.ioctl(KVM_SET_TSS_ADDR, reserved + PAGE);
    vm.createIrqchip();
    if (vm.check(KVM_CAP_IRQ_ROUTING) > 0) vm.setRouting(pinRoutes(), false);
    if (vm.check(KVM_CAP_PIT2) > 0) {
      // 4.71: with a speaker that says nothing, so that port 0x61 stays in the kernel.
      vm.ioctl(
        KVM_CREATE_PIT2,
        new Struct(kvm_pit_config.sizeof).u32(kvm_pit_config.flags, KVM_PIT_SPEAKER_DUMMY).bytes,
      );
    }
    const tscDeadline = vm.check(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    const supported = this.#supported;
    this.#cpus = Array.from({ length: cpus }, (_, apicId) => {
      const cpu = new X86Cpu(vm.host, vm.createVcpu(apicId));
      cpu.initialize(guestCpuid(supported, { cpus, apicId, invariantTsc, tscDeadline }), true);
      return cpu;
    });
    // 4.56, KVM_GET_TSC_KHZ.
    if (vm.check(KVM_CAP_GET_TSC_KHZ) > 0) this.#counterHz = vm.host.ioctl(this.bootCpu.fd, KVM_GET_TSC_KHZ, 0) * 1000;
    this.#wires.renew();
    return this.#cpus;
  }

  holdTime(): () => void {
    const fds = this.#cpus.map(c => c.fd);
    return holdKvmclock(this.#vm!, fds);
  }

  close(): void {
    this.#cpus = [];
  }

  line(gsi: number): InterruptLine {
    return this.#wires.line(gsi);
  }

  signalMsi(m: MsiMessage): boolean {
    // SDM volume 3, 11.11.1: the upper twelve bits of a message's address.
    if (m.address >= 2 ** 32 || Math.floor(m.address / 2 ** 20) !== 0xfee) return false;
    if (!this.#signalsMsi) return false;
    this.#vm!.signalMsi(m, false);
    return true;
  }

  /** The engine's reset makes the VM anew. */
  reset(): void {}

  save(): never {
    throw new VmError('ERR_STATE', "the state of KVM's interrupt controllers is not saved yet");
  }

  restore(): never {
    return this.save();
  }
}

/**
 * GSI n is pin n of the I/O APIC, and below 16 of the PICs, too, as on a PC: the timer of ISA IRQ 0 arrives at pin 2 (MADT: interrupt
 * source override), whose ISA namesake is the cascade of the PICs.
 */
function pinRoutes(): IrqRoute[] {
  const routes: IrqRoute[] = [];
  for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) {
    if (gsi === 2) continue;
    routes.push({ gsi, irqchip: KVM_IRQCHIP_IOAPIC, pin: gsi === 0 ? 2 : gsi });
    if (gsi < PIC_PINS) routes.push({ gsi, irqchip: KVM_IRQCHIP_PIC_MASTER, pin: gsi });
    else if (gsi < 2 * PIC_PINS) routes.push({ gsi, irqchip: KVM_IRQCHIP_PIC_SLAVE, pin: gsi - PIC_PINS });
  }
  return routes;
}
