import type { Hypercall } from '../bus/hypercall.ts';
import type { AddressBus } from '../bus/types.ts';
import type { Entropy } from '../devices/psci/entropy.ts';
import type { Engine, ExitSink } from '../engines/engine.ts';
import type { InterruptController } from '../irq/types.ts';
import type { PlugListener } from '../memory/pin-types.ts';
import type { DoorbellEvents } from '../pci/bar.ts';
import type { DrivenClock } from '../time/types.ts';
import type { AddressRange } from './address-map.ts';
import type { PtpInfo } from './clock-info.ts';
import type { ExitReason, MachineConfig, MachineEvents, MachineName } from './machine.ts';
import type { MachineMemory } from './machine-memory.ts';
import type { PciRoot } from './pci-root.ts';

/** An engine as a machine drives it. */
export interface MachineEngine extends Engine, PlugListener {
  readonly clock: DrivenClock;
  /** Doorbells without an exit, where the engine has them. */
  readonly doorbells?: DoorbellEvents | undefined;
  /**
   * An eventfd that becomes readable when step() hangs because a vCPU does not come out of the guest: another thread watches it, and
   * closes it. undefined: step() cannot hang. Called anew after each reset.
   */
  watchdog?(): number | undefined;
}

/** What a board may use of its machine. */
export interface BoardContext {
  readonly config: MachineConfig;
  readonly events: MachineEvents;
  /** The guest ends the machine. */
  end(reason: ExitReason, detail?: string): void;
  /** An interrupt has come that an idle machine must look at. */
  wake(): void;
  /** The console has room again. */
  consoleRoom(): void;
  /** What answers the guest's accesses. */
  sink(): ExitSink;
  /** The vCPU whose access is on the bus. */
  readonly currentCpu: number;
  /** A source of randomness: the host's, or in a deterministic run one by `seed`. */
  entropy(seed: string): Entropy;
  /** One for a guest's start: every start has another. */
  bootEntropy(): Entropy;
}

/** The UART that is the guest's console. */
export interface ConsoleDevice {
  /** Offers input; returns how many bytes were taken. */
  receive(bytes: Uint8Array): number;
  /** Hands over what the guest has written. */
  flush(): void;
}

/** A board: an engine with its vCPUs, buses, an interrupt controller, and the devices that are soldered on. */
export interface Board {
  readonly name: MachineName;
  readonly engine: MachineEngine;
  readonly memory: MachineMemory;
  /** Where memory is plugged and unplugged. */
  readonly hotplug: AddressRange | undefined;
  readonly bus: AddressBus;
  /** x86: I/O ports. */
  readonly ports?: AddressBus | undefined;
  readonly interrupts: InterruptController;
  readonly console: ConsoleDevice;
  readonly pci: PciRoot;
  /** Whether there is flash, which is connected to a file. */
  readonly flash: boolean;
  /** Who answers the guest's ptp_kvm. */
  readonly ptp: PtpInfo;
  /** Calls of the guest that the engine does not answer itself. */
  hypercall(call: Hypercall): void;
  /** What is known of a vCPU beside its state. */
  vcpu(id: number): { readonly instructions: number | undefined; readonly pc: number };
  /** What takes time before devices are built. @throws VmError. */
  prepare(): Promise<void>;
  /** Loads the guest and powers the first vCPU on. @throws VmError when it does not fit. */
  boot(): void;
  /** Brings up to date what guests read without an exit, before they run; the machine's clock is at `nowNs`. */
  refresh(nowNs: number): void;
  /** The guest's time goes on after it was held. */
  timeReleased(): void;
  /** Puts interrupts and the board's own devices back to where they were at first. */
  reset(): void;
  /** The state of the board's own devices, and back. Plain data. */
  save(): unknown;
  restore(state: unknown): void;
  close(): void;
}

export type MakeBoard = (context: BoardContext) => Board;
