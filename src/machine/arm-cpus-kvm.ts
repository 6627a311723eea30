import type { Hypercall } from '../bus/hypercall.ts';
import { createHypercallBus } from '../bus/hypercall-bus.ts';
import type { AddressBus } from '../bus/types.ts';
import { createPtp } from '../devices/kvm-hypervisor/ptp.ts';
import { createKvmHypervisor } from '../devices/kvm-hypervisor/service.ts';
import { V2mFrame } from '../engines/emu/gic/v2m.ts';
import type { VcpuBoot } from '../engines/engine.ts';
import { hostClocksource } from '../engines/host/clocksource.ts';
import { Arm64Architecture } from '../engines/kvm/arm64/architecture.ts';
import { counterPair } from '../engines/kvm/arm64/counter-pair.ts';
import type { KvmEngine } from '../engines/kvm/engine.ts';
import { type AddressRange, ARM_VIRT, ARM_VIRT_SPI, ARM_VIRT_SPIS } from './address-map.ts';
import type { ArmCpus } from './arm-cpus.ts';
import type { BoardContext } from './board.ts';
import type { PtpInfo } from './clock-info.ts';
import { createKvmEngine } from './kvm-engine.ts';

/** First INTID of the shared peripheral interrupts. */
const FIRST_SPI = 32;
/** Offset of a PL011's data register, whose writes may wait, and its width. */
const UARTDR = { offset: 0, size: 4 };

/**
 * arm-virt on KVM: interrupt controller, timers, PSCI and the other calls of the SMCCC are the kernel's. But ptp_kvm is ours where KVM
 * could not answer it and lets us (specification of ptp, ARM-6).
 */
export class KvmArmCpus implements ArmCpus {
  readonly engine: KvmEngine;
  readonly interrupts: Arm64Architecture;
  readonly #context: BoardContext;
  readonly #hypercalls = createHypercallBus();
  /** The vCPU whose call is answered. */
  #caller = 0;
  #ptpCalls = 0;

  /** @throws VmError ERR_ENGINE_UNAVAILABLE. */
  constructor(context: BoardContext, hotplug: AddressRange | undefined) {
    this.#context = context;
    const { config } = context;
    const { gicd, gicc, gicr, its, gicv2m } = ARM_VIRT;
    this.interrupts = new Arm64Architecture({
      cpus: config.cpus,
      gic: config.gic,
      spis: ARM_VIRT_SPIS,
      gicd: gicd.base,
      gicc: gicc.base,
      gicr: gicr.base,
      its: its.base,
      gicv2m: { address: gicv2m.base, base: ARM_VIRT_SPI.v2m + FIRST_SPI, count: ARM_VIRT_SPI.v2mCount },
      ptp: config.ptp ?? true,
      clocksource: hostClocksource(),
    });
    const ram = { base: ARM_VIRT.ram.base, size: config.memoryBytes };
    const ptp = createPtp(() => {
      this.#ptpCalls++;
      return counterPair(this.interrupts.cpu(this.#caller), this.engine.clock, this.engine.counterHz);
    });
    for (const service of [createKvmHypervisor([ptp]), ptp]) this.#hypercalls.add(service);
    this.engine = createKvmEngine(this.interrupts, [ram], hotplug, config.startNs);
  }

  get pmu(): boolean {
    return this.interrupts.pmu;
  }

  connect(bus: AddressBus): void {
    const { gicv2m, pl011 } = ARM_VIRT;
    if (this.#context.config.gic === 2) {
      const { v2m, v2mCount } = ARM_VIRT_SPI;
      const frame = new V2mFrame(v2m + FIRST_SPI, v2mCount, intid => this.interrupts.pulse(intid));
      bus.map(gicv2m.base, gicv2m.size, frame);
    }
    this.engine.coalesce('memory', pl011.base + UARTDR.offset, UARTDR.size);
    this.engine.attach(this.#context.sink());
  }

  start(boot: VcpuBoot): void {
    this.interrupts.bootCpu.start(boot);
  }

  get ptp(): PtpInfo {
    const { ptp } = this.interrupts;
    return ptp.answeredBy === 'tsvisor' ? { ...ptp, calls: this.#ptpCalls } : ptp;
  }

  /** What KVM was told to hand over: Arm64Architecture.ptp. */
  hypercall(call: Hypercall): void {
    this.#caller = call.cpu;
    this.#hypercalls.handle(call);
  }

  vcpu(id: number): { instructions: undefined; pc: number } {
    return { instructions: undefined, pc: Number(this.engine.cpu(id).pc) };
  }
}
