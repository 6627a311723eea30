import type { Hypercall } from '../bus/hypercall.ts';
import type { X86VcpuBoot } from '../engines/engine.ts';
import { hostClocksource, whyKvmCannotPair } from '../engines/host/clocksource.ts';
import type { KvmEngine } from '../engines/kvm/engine.ts';
import { X86Architecture } from '../engines/kvm/x86/architecture.ts';
import { type AddressRange, X86_PC, X86_PC_PORT } from './address-map.ts';
import type { BoardContext } from './board.ts';
import type { PtpInfo } from './clock-info.ts';
import { createKvmEngine } from './kvm-engine.ts';
import type { X86Cpus } from './x86-cpus.ts';

/** -KVM_ENOSYS (Documentation/virt/kvm/x86/hypercalls.rst). */
const NO_SUCH_CALL = -1000n;

/** x86-pc on KVM: PICs, I/O APIC, local APICs, interval timer and KVM's own hypercalls are the kernel's. */
export class KvmX86Cpus implements X86Cpus {
  readonly engine: KvmEngine;
  readonly interrupts: X86Architecture;
  readonly #context: BoardContext;

  /** @throws VmError ERR_ENGINE_UNAVAILABLE. */
  constructor(context: BoardContext, ram: readonly AddressRange[], hotplug: AddressRange | undefined) {
    this.#context = context;
    const { cpus, invariantTsc = false, startNs } = context.config;
    this.interrupts = new X86Architecture({ cpus, invariantTsc, reserved: X86_PC.kvmReserved.base });
    this.engine = createKvmEngine(this.interrupts, ram, hotplug, startNs);
  }

  get physicalAddressBits(): number {
    return this.interrupts.physicalAddressBits;
  }

  connect(): void {
    // THR: Linux looks at LSR once for each 16 characters.
    this.engine.coalesce('io', X86_PC_PORT.com1.base, 1);
    this.engine.attach(this.#context.sink());
  }

  /** The kernel answers, whatever it is told: user space cannot take this call from it (specification of ptp, 2.1). */
  get ptp(): PtpInfo {
    const reason = whyKvmCannotPair('x86_64', hostClocksource());
    if (reason !== undefined) return { answeredBy: 'nobody', reason };
    if (this.#context.config.invariantTsc !== true) return { answeredBy: 'kernel' };
    // X86-1: the driver's pairs are of kvmclock.
    return {
      answeredBy: 'kernel',
      reason: 'with an invariant TSC Linux does not run on kvmclock, and refuses precise readings (ENODEV)',
    };
  }

  start(boot: X86VcpuBoot): void {
    this.interrupts.bootCpu.start(boot);
  }

  hypercall(call: Hypercall): void {
    // The kernel answers those that it knows; only what it was asked to hand over comes here, and that is none.
    call.result(0, NO_SUCH_CALL);
  }

  vcpu(id: number): { instructions: undefined; pc: number } {
    return { instructions: undefined, pc: Number(this.engine.cpu(id).pc) };
  }
}
