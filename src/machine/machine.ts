/**
 * The seam between a machine (buses, devices, engine) and what drives it: machine-worker.ts inside the VM's Worker,
 * or a test. A machine has one thread; none of these methods may be called from two.
 */

/** Why a machine ended. 'reset' and 'shutdown' are the guest's own wish (PSCI), 'killed' is the host's. */
export type ExitReason = 'shutdown' | 'reset' | 'crash' | 'killed';

/** A machine's configuration after every default and every `auto` has been resolved. */
export interface MachineConfig {
  readonly machine: 'arm-virt';
  readonly engine: 'emu';
  /** A kernel in any format that the loader knows; undefined starts the machine with nothing loaded. */
  readonly kernel: Uint8Array | undefined;
  readonly initrd: Uint8Array | undefined;
  /** The kernel's command line. */
  readonly params: string;
  readonly memoryBytes: number;
  /** Number of vCPUs, 1 to 8. */
  readonly cpus: number;
  /** 'virtual' takes all time from the instruction count: two runs with the same input are bit-identical. */
  readonly clock: 'host' | 'virtual';
  /** Version of the Generic Interrupt Controller. */
  readonly gic: 3 | 2;
  /** Seed of everything random that the guest can see; without it the host's entropy is used. */
  readonly seed?: number;
  /** Topics to report through {@link MachineEvents.trace}, e.g. 'mmio', 'hypercall'. */
  readonly trace: readonly string[];
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
}

/** State of one vCPU, see {@link MachineInfo}. */
export interface VcpuInfo {
  readonly id: number;
  readonly state: 'on' | 'off' | 'idle';
  /** Instructions retired. */
  readonly instructions: number;
  readonly pc: number;
}

/** A snapshot of a machine's vital signs. */
export interface MachineInfo {
  readonly machine: 'arm-virt';
  readonly engine: 'emu' | 'kvm';
  readonly memoryBytes: number;
  readonly clock: 'host' | 'virtual';
  readonly gic: 3 | 2;
  /** Ticks per second of the guest's system counter. */
  readonly counterHz: number;
  /** Nanoseconds that the guest's counter has run. */
  readonly timeNs: number;
  /** Instructions retired by all vCPUs. */
  readonly instructions: number;
  readonly vcpus: readonly VcpuInfo[];
}

/** A whole virtual machine, ready to be stepped. */
export interface Machine {
  /** Runs about 1 ms of guest. 'idle': nothing to do until input arrives or {@link idleMs} has passed. */
  step(): 'yield' | 'idle' | 'stopped';
  /** Milliseconds of host time (fractions count) until a timer of an idle guest fires; Infinity: only input wakes it. */
  idleMs(): number;
  /** Offers console input; returns how many bytes were taken. After a short count wait for {@link onConsoleRoom}. */
  consoleInput(bytes: Uint8Array): number;
  /** `f` is called whenever the console has room again after it had taken less than it was offered. */
  onConsoleRoom(f: () => void): void;
  /** Ends the machine with reason 'killed', once the running step is over. */
  stop(): void;
  /** Puts CPUs, devices and memory back to where createMachine() left them. */
  reset(): void;
  /** SHA-256 (hex) of guest memory, the proof that two deterministic runs ended alike. */
  memoryHash(): string;
  info(): MachineInfo;
  /** A word in shared memory; any thread that stores 1 into element 0 ends the running step soon. */
  readonly kickWord?: Int32Array;
}

/**
 * Builds a machine and loads the guest into it.
 * @throws VmError when the guest's files are no such thing or do not fit.
 */
export type CreateMachine = (config: MachineConfig, events: MachineEvents) => Promise<Machine>;
