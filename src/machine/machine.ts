import type { MessagePort } from 'node:worker_threads';
import type { BalloonStatistics } from '../devices/virtio/balloon/statistics.ts';
import type { PinLeak } from '../memory/pin-types.ts';
import type { BarMove } from '../pci/bar-mapper.ts';
import type { PciFunctionInfo } from '../pci/report.ts';
import type { ClockInfo, ClockSample } from './clock-info.ts';
import type { InlineConfig } from './inline-protocol.ts';
import type { MachineState, RamRegion } from './machine-fork.ts';
import type { ForkAnswer, ForkCall } from './memory-forks.ts';
import type { MemoryMap, PinReport } from './pin-report.ts';
import type { MachineStats } from './stats.ts';

export type { BalloonStatistics } from '../devices/virtio/balloon/statistics.ts';
export type { PinInfo, PinLeak, PinStats } from '../memory/pin-types.ts';
export type { ClockInfo, ClockSample, PtpInfo } from './clock-info.ts';
export type { AccessStats } from './exit-meter.ts';
export type { MachineState, RamRegion } from './machine-fork.ts';
export type { ForkAnswer, ForkCall } from './memory-forks.ts';
export type { MemoryCell, MemoryMap, MemoryMapRegion, PinReport } from './pin-report.ts';
export type { MachineStats, ThreadStats, VcpuCounters, VcpuStats } from './stats.ts';

/**
 * The seam between a machine (buses, devices, engine) and what drives it: machine-worker.ts inside the VM's Worker,
 * or a test. A machine has one thread; none of these methods may be called from two.
 */

/** Why a machine ended. 'reset' and 'shutdown' are the guest's own wish (PSCI), 'killed' is the host's. */
export type ExitReason = 'shutdown' | 'reset' | 'crash' | 'killed';

/** A disk: a raw image, or an overlay over one. */
export interface DiskConfig {
  readonly kind: 'disk';
  readonly name: string;
  readonly path: string;
  readonly readOnly: boolean;
  /** Copy-on-write file that takes all changes; `path` stays as it is. */
  readonly cow: string | undefined;
}

/** A connection of a host's port to a guest's. */
export interface ForwardConfig {
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  /** 0: any free one. */
  readonly hostPort: number;
  readonly guestPort: number;
}

/** A network interface. */
export type NetConfig = { readonly kind: 'net'; readonly name: string; readonly mac: string } & (
  | { readonly backend: 'user'; readonly forwards: readonly ForwardConfig[] }
  | { readonly backend: 'tap'; readonly interface: string }
);

/** A socket between host and guest. */
export interface VsockConfig {
  readonly kind: 'vsock';
  readonly name: string;
  /** The guest's context id, 3 or more. */
  readonly cid: number;
}

/** A virtio-console with named ports. */
export interface ConsoleConfig {
  readonly kind: 'console';
  readonly name: string;
  /** Names of the ports beside the terminal. */
  readonly channels: readonly string[];
}

/** A folder of the host. */
export interface ShareConfig {
  readonly kind: 'share';
  readonly name: string;
  readonly directory: string;
  readonly tag: string;
  readonly readOnly: boolean;
}

/** A device of the user's, or one of the test devices by name. */
export interface ModuleConfig {
  readonly kind: 'module';
  readonly name: string;
  /** 'edu', 'pci-testdev', or a path. */
  readonly module: string;
  readonly options: unknown;
}

/** Memory that is plugged later; one at most, and there from the start. */
export interface MemConfig {
  readonly kind: 'mem';
  readonly name: string;
  /** Bytes, a multiple of {@link HOTPLUG_ALIGNMENT}. */
  readonly size: number;
}

/** Everything that can be plugged into the PCI bus. */
export type DeviceConfig =
  | DiskConfig
  | NetConfig
  | VsockConfig
  | ConsoleConfig
  | ShareConfig
  | MemConfig
  | ModuleConfig
  | InlineConfig
  | { readonly kind: 'rng'; readonly name: string }
  | { readonly kind: 'balloon'; readonly name: string };

/** A machine that was forked: its state, and the number of the fork of its memory. */
export interface ForkedMachine {
  readonly fork: number;
  readonly state: MachineState;
}

/** The boards that there are. */
export type MachineName = 'arm-virt' | 'x86-pc';

/** A machine's configuration after every default and every `auto` has been resolved. */
export interface MachineConfig {
  readonly machine: MachineName;
  readonly engine: 'emu' | 'kvm';
  /** A kernel in any format that the loader knows; undefined starts the machine with nothing loaded. */
  readonly kernel: Uint8Array | undefined;
  /** Path or contents of what is in bank 0 of the flash. Without a kernel the machine starts there. */
  readonly firmware?: string | Uint8Array | undefined;
  /** Path of the contents of bank 1, where a firmware keeps its variables. */
  readonly flash?: string | undefined;
  readonly initrd: Uint8Array | undefined;
  /** The kernel's command line. */
  readonly params: string;
  readonly memoryBytes: number;
  /** Number of vCPUs, 1 to 8. */
  readonly cpus: number;
  /** 'virtual' takes all time from the instruction count: two runs with the same input are bit-identical. */
  readonly clock: 'host' | 'virtual';
  /** Version of the Generic Interrupt Controller; arm-virt only. */
  readonly gic: 3 | 2;
  /** Seed of everything random that the guest can see; without it the host's entropy is used. */
  readonly seed?: number;
  /** Topics to report through {@link MachineEvents.trace}, e.g. 'mmio', 'hypercall'. */
  readonly trace: readonly string[];
  /** On the root bus, in this order. */
  readonly devices: readonly DeviceConfig[];
  /** PCI Express slots for devices that come later, 0 to 16. */
  readonly pciSlots: number;
  /** Whether virtio devices have the legacy interface, too, where virtio has one for them. Default 'modern'. */
  readonly virtio?: 'modern' | 'transitional';
  /** How guests reach configuration space; default 'ecam'. */
  readonly pciHost?: 'ecam' | 'cam';
  /** For a machine that restore() makes another's: what its clock shows, ns. It starts with nothing loaded. */
  readonly startNs?: number;
  /** x86-pc: whether guests see that their TSC is invariant (specification of ptp, X86-1). Default false. */
  readonly invariantTsc?: boolean;
  /** Whether the guest finds the clock of ptp_kvm (specification of ptp, EMU-X7). Default true. */
  readonly ptp?: boolean;
  /** Bytes that devices may pin long-term; left out: as many as there are. */
  readonly pinLimitBytes?: number;
}

/** What a machine tells its driver; all of it is called on the machine's thread, during create() or step(). */
export interface MachineEvents {
  /** Bytes that the guest wrote to its console. The array may be reused after the call. */
  console(bytes: Uint8Array): void;
  /** The machine ended; the next step() returns 'stopped'. */
  exit(reason: ExitReason, detail?: string): void;
  /** One line for the host's user, e.g. about a guest that uses something unimplemented. */
  log(line: string): void;
  trace?(line: string): void;
  /** An interrupt is waiting that was raised between two steps: an idle machine has something to run. */
  wake?(): void;
  /** What a program may want to follow. */
  report?(event: MachineReport): void;
}

/** Something that happened in a machine. Plain data. */
export type MachineReport =
  | ({ readonly type: 'bar-moved' } & BarMove)
  /** A device's own code threw; it answers nothing any more. */
  | {
      readonly type: 'device-failed';
      readonly name: string;
      readonly message: string;
      readonly stack: string | undefined;
    }
  /** The machine's devices are closed and somebody still holds guest memory: a defect of that device (PIN-5). */
  | {
      readonly type: 'pins-leaked';
      /** Base pages so far. */
      readonly acquired: number;
      readonly released: number;
      readonly leaks: readonly PinLeak[];
    }
  /** A port of the host leads into the guest. */
  | { readonly type: 'forward'; readonly name: string; readonly forward: ForwardConfig };

/** State of one vCPU, see {@link MachineInfo}. */
export interface VcpuInfo {
  readonly id: number;
  readonly state: 'on' | 'off' | 'idle';
  /** Instructions retired; undefined where nobody counts them (KVM). */
  readonly instructions: number | undefined;
  readonly pc: number;
}

/** A snapshot of a machine's vital signs. */
export interface MachineInfo {
  readonly machine: MachineName;
  readonly engine: 'emu' | 'kvm';
  readonly memoryBytes: number;
  readonly clock: ClockInfo;
  /** Version of the interrupt controller; arm-virt only. */
  readonly gic: 3 | 2 | undefined;
  /** Ticks per second of the guest's system counter. */
  readonly counterHz: number;
  /** Nanoseconds that the guest's counter has run. */
  readonly timeNs: number;
  /** Instructions retired by all vCPUs; undefined where nobody counts them (KVM). */
  readonly instructions: number | undefined;
  readonly vcpus: readonly VcpuInfo[];
}

/** A whole virtual machine, ready to be stepped. */
export interface Machine {
  /** Runs about 1 ms of guest. 'idle': nothing to do until input arrives or {@link idleMs} has passed. */
  step(): 'yield' | 'idle' | 'stopped';
  /**
   * An eventfd that becomes readable when step() hangs in the host's kernel, for another thread to watch and to close; undefined: it
   * cannot. Asked for after creation and after each reset. See stuck-watch.ts.
   */
  watchdog?(): number | undefined;
  /** Milliseconds of host time (fractions count) until a timer of an idle guest fires; Infinity: only input wakes it. */
  idleMs(): number;
  /** Offers console input; returns how many bytes were taken. After a short count wait for {@link onConsoleRoom}. */
  consoleInput(bytes: Uint8Array): number;
  /** `f` is called whenever the console has room again after it had taken less than it was offered. */
  onConsoleRoom(f: () => void): void;
  /** Ends the machine with reason 'killed', once the running step is over. */
  stop(): void;
  /** Puts CPUs, devices and memory back to where createMachine() left them. */
  reset(): Promise<void>;
  /** SHA-256 (hex) of guest memory, the proof that two deterministic runs ended alike. */
  memoryHash(): string;
  info(): MachineInfo;
  /** What the clocks show. */
  clock(): ClockSample;
  /**
   * No vCPU runs from here until {@link resume}, and the guest's time stands; what devices have under way goes on.
   * @throws VmError ERR_STATE when it is paused, or has ended.
   */
  pause(): void;
  /** @throws VmError ERR_STATE when it is not paused. */
  resume(): void;
  /** Registers of a vCPU, see Vcpu.registers(). @throws VmError ERR_USAGE for a vCPU that is none. */
  registers(vcpu: number): Record<string, bigint>;
  /** Sets some. @throws VmError ERR_STATE unless it is paused or has not run yet, ERR_USAGE. */
  setRegisters(vcpu: number, values: Readonly<Record<string, bigint>>): void;
  /** What was counted so far; the first call switches the counting of accesses on. @param idleNs how long its thread slept. */
  stats(idleNs: number): MachineStats;
  /** Every function of the PCI bus. */
  pci(): PciFunctionInfo[];
  /** Who holds guest memory now. */
  pins(): PinReport;
  /** The same as a map; looks at every page. */
  memoryMap(): MemoryMap;
  /**
   * Forks memory, copy-on-write, once its short pins are gone; waits for that up to `limitMs`. The result names the fork.
   * @throws VmError ERR_PINNED, ERR_PIN_UNSUPPORTED.
   */
  forkMemory(limitMs: number): Promise<number>;
  /**
   * Stands still, copies the disks to `copies` (by name), and gives the machine's state and the number of a fork of its memory.
   * @throws VmError ERR_STATE for a device that cannot be doubled, ERR_USAGE, ERR_DISK, and as forkMemory().
   */
  forkMachine(copies: ReadonlyMap<string, string>, limitMs: number): Promise<ForkedMachine>;
  /** The memory itself, to be filled before {@link restore}. */
  ram(): readonly RamRegion[];
  /** Goes on where another machine of the same configuration was. @throws VmError ERR_STATE when it is not the same. */
  restore(state: MachineState): void;
  /** Begins to write memory back to a file, whose number it gives. @throws VmError ERR_DISK_FULL, ERR_FILE_UNREADABLE. */
  writeBackMemory(path: string): Promise<number>;
  /** Brings such a file up to date; gives the pages written. @throws as forkMemory(), and for the file. */
  flushMemory(file: number, limitMs: number): Promise<number>;
  closeMemory(file: number): Promise<void>;
  /** Asks about a fork. @throws VmError ERR_STATE for one that is closed, and what the call can. */
  forked(fork: number, call: ForkCall): Promise<ForkAnswer>;
  /**
   * Plugs a device into a free slot of a running machine.
   * @throws VmError ERR_PCI_SLOT without one; what the device's host side says.
   */
  plug(device: DeviceConfig): Promise<void>;
  /**
   * Asks the guest to let go of a device and resolves when it has.
   * @throws VmError ERR_PCI_SLOT when no slot has it.
   */
  unplug(name: string): Promise<void>;
  /**
   * Connects a port of messages to a port of the guest, see stream-port.ts.
   * @throws VmError ERR_STATE without a socket device or its driver; as VirtioVsock.connect().
   */
  vsockConnect(port: number, stream: MessagePort): void;
  /**
   * Takes the guest's connections to a port of the host until `control` is closed.
   * @throws VmError ERR_STATE without a socket device; as VirtioVsock.listen().
   */
  vsockListen(port: number, control: MessagePort): void;
  /** Connects a port of messages to a port of a console. @throws VmError ERR_STATE when none has that name. */
  channel(name: string, stream: MessagePort): void;
  /** Bytes in the balloon. @throws VmError ERR_STATE without one. */
  balloon(): number;
  /** How many bytes shall be in the balloon. @throws VmError ERR_STATE without one, ERR_BAD_SIZE. */
  setBalloon(bytes: number): void;
  /** New statistics of the guest. @throws VmError ERR_STATE without a balloon or its driver, ERR_TIMEOUT. */
  balloonStatistics(limitMs: number): Promise<BalloonStatistics>;
  /** Bytes of memory that are plugged. @throws VmError ERR_STATE without any that could be. */
  hotplugged(): number;
  /** How many bytes of memory the guest shall have plugged. @throws VmError ERR_STATE without any that could be, ERR_BAD_SIZE. */
  requestHotplug(bytes: number): void;
  /** True while files or sockets may answer at any moment: the event loop must not be held up then. */
  expectsIo(): boolean;
  /** Writes out and closes what the devices have open on the host; the machine has ended. */
  close(): Promise<void>;
  /** A word in shared memory; any thread that stores 1 into element 0 ends the running step soon. */
  readonly kickWord?: Int32Array | undefined;
}

/**
 * Builds a machine and loads the guest into it.
 * @throws VmError when the guest's files are no such thing or do not fit.
 */
export type CreateMachine = (config: MachineConfig, events: MachineEvents) => Promise<Machine>;
