import type { Hypercall } from '../bus/hypercall.ts';
import type { X86VcpuBoot } from '../engines/engine.ts';
import type { InterruptController } from '../irq/types.ts';
import type { AddressRange } from './address-map.ts';
import type { BoardContext, MachineEngine } from './board.ts';
import type { PtpInfo } from './clock-info.ts';

/** The vCPUs and the interrupt controllers of x86-pc, on one of the engines. */
export interface X86Cpus {
  readonly engine: MachineEngine;
  /** Lines are global system interrupts. */
  readonly interrupts: InterruptController;
  /** Bits of guest-physical addresses. */
  readonly physicalAddressBits: number;
  /** Connects the engine to the buses. Once. */
  connect(): void;
  /** Starts the first vCPU. */
  start(boot: X86VcpuBoot): void;
  /** See Board.ptp. */
  readonly ptp: PtpInfo;
  hypercall(call: Hypercall): void;
  /** See Board.vcpu(). */
  vcpu(id: number): { readonly instructions: number | undefined; readonly pc: number };
}

export type MakeX86Cpus = (
  context: BoardContext,
  ram: readonly AddressRange[],
  hotplug: AddressRange | undefined,
) => X86Cpus;
