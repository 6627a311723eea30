import type { Hypercall } from '../bus/hypercall.ts';
import type { AddressBus } from '../bus/types.ts';
import type { CounterReading } from '../devices/vmclock/device.ts';
import type { VcpuBoot } from '../engines/engine.ts';
import type { InterruptController } from '../irq/types.ts';
import type { AddressRange } from './address-map.ts';
import type { BoardContext, MachineEngine } from './board.ts';
import type { PtpInfo } from './clock-info.ts';

/** The vCPUs and the interrupt controller of arm-virt, on one of the engines. */
export interface ArmCpus {
  readonly engine: MachineEngine;
  readonly interrupts: InterruptController;
  /** Whether guests have performance counters. */
  readonly pmu: boolean;
  /** Puts what of the interrupt controller is not in the kernel on the bus, and connects the engine. Once. */
  connect(bus: AddressBus): void;
  /** Starts the first vCPU. */
  start(boot: VcpuBoot): void;
  /** See Board.ptp. */
  readonly ptp: PtpInfo;
  hypercall(call: Hypercall): void;
  /** The guest's virtual counter, between two steps; not there where only the guest can read it. */
  readCounter?(): CounterReading;
  /** See Board.vcpu(). */
  vcpu(id: number): { readonly instructions: number | undefined; readonly pc: number };
}

export type MakeArmCpus = (context: BoardContext, hotplug: AddressRange | undefined) => ArmCpus;
