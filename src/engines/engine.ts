import type { Hypercall } from '../bus/hypercall.ts';
import type { DirtySource } from '../memory/pin-types.ts';
import type { Gpa, GuestMemory, MemorySlots } from '../memory/types.ts';
import type { Clock } from '../time/types.ts';

export type { Hypercall } from '../bus/hypercall.ts';

export type Architecture = 'aarch64' | 'x86_64';
export type EngineKind = 'kvm' | 'emu';

/** Why a vCPU asks the whole machine to change state. */
export type SystemEvent = 'shutdown' | 'reset' | 'crash' | 'suspend';

/** Where an engine delivers guest exits. Implemented once, by machine/; called only on the machine's thread. */
export interface ExitSink {
  /** `size` 1, 2, 4 returns a number, 8 returns a bigint. */
  mmioRead(cpu: number, address: Gpa, size: number): number | bigint;
  mmioWrite(cpu: number, address: Gpa, size: number, value: number | bigint): void;
  /** An x86 port; `size` 1, 2 or 4. Other architectures have none. */
  portIn(cpu: number, port: number, size: number): number;
  portOut(cpu: number, port: number, size: number, value: number): void;
  hypercall(call: Hypercall): void;
  /** A vCPU asks for a change of the whole machine where the kernel answers such calls itself (KVM on arm64: PSCI). */
  system(event: SystemEvent, cpu: number): void;
  /** The engine met something that it cannot emulate, with the state that explains it. */
  failed(cpu: number, why: string): void;
}

/** The state that a vCPU starts in. */
export interface VcpuBoot {
  readonly pc: Gpa;
  /** X0 (arm64). */
  readonly x0: bigint;
}

/**
 * The state that the first x86-64 vCPU starts in. Segments are flat, with the selectors of Documentation/arch/x86/boot.rst
 * (CS 0x10, the others 0x18), interrupts are off, and registers that are not named here are 0.
 */
export interface X86VcpuBoot {
  /** 'long': 64-bit mode, paging by `cr3`; 'protected': 32-bit, paging off; 'real': CS base 0, the state of no real reset. */
  readonly mode: 'long' | 'protected' | 'real';
  readonly rip: Gpa;
  readonly rsp: Gpa;
  /** boot_params for Linux. */
  readonly rsi: Gpa;
  /** hvm_start_info for PVH. */
  readonly rbx: Gpa;
  /** PML4; 'long' only, else 0. */
  readonly cr3: Gpa;
  /** GDTR: base, and limit in bytes. */
  readonly gdt: { readonly base: Gpa; readonly limit: number };
}

/** Interrupt controller inputs and outputs of one vCPU, as the machine wires them. */
export interface CpuInterruptWires {
  /** nIRQ / nFIQ of the vCPU's interrupt controller interface. */
  setIrq(cpu: number, irq: boolean, fiq: boolean): void;
}

/** GICv3 CPU interface system registers (ICC_*), which the core hands to the interrupt controller. */
export interface CpuInterface {
  /** `reg` is op0:op1:CRn:CRm:op2 packed as (op0<<14)|(op1<<11)|(CRn<<7)|(CRm<<3)|op2. undefined: UNDEFINED. */
  readRegister(cpu: number, reg: number): bigint | undefined;
  /** false: UNDEFINED. */
  writeRegister(cpu: number, reg: number, value: bigint): boolean;
  /** Level of a private peripheral interrupt, INTID 16..31. */
  setPpi(cpu: number, intid: number, level: boolean): void;
}

/** One guest CPU. */
export interface Vcpu {
  readonly id: number;
  readonly state: 'on' | 'off' | 'idle';
  /** Powers the vCPU on at `boot`; MMU off, interrupts masked (PSCI 1.1 section 6.4). */
  start(boot: VcpuBoot): void;
  stop(): void;
  /**
   * Registers by the architecture's names in lower case, between two steps. arm64: `x0` to `x30`, `sp_el0`, `sp_el1`, `pc`, `pstate`
   * and the registers of arm64-registers.ts; x86-64: the names of KVM's structures.
   */
  registers(): Record<string, bigint>;
  /**
   * Sets some of them, between two steps; all or none. A vCPU that waits for an interrupt goes on.
   * @throws VmError ERR_USAGE for a name that is none, or a value that the register cannot have.
   */
  setRegisters(values: Readonly<Record<string, bigint>>): void;
  /** Where its time has gone since the last reset; undefined where nobody measures it. */
  readonly counters?: VcpuCounters | undefined;
}

/** What is counted of a vCPU on KVM. */
export interface VcpuCounters {
  /** Exits that were answered here. */
  readonly exits: number;
  /** ns inside KVM_RUN; waiting for an interrupt in the kernel is a part of it. */
  readonly guestNs: number;
  /** ns that it waited for answers; with one vCPU the time between two calls of KVM_RUN. */
  readonly waitNs: number;
}

/** What the host can do with the memory that guest RAM is made of; `host/host-memory.ts` implements it. */
export interface HostMemory {
  /** Whether {@link discard} gives memory back to the host. If not, it only makes zeros. */
  readonly available: boolean;
  /** [offset, offset + length) of `bytes` reads as zeros from here on; its memory goes back if {@link available}. */
  discard(bytes: Uint8Array, offset: number, length: number): void;
  /** Child processes get no copy of `bytes`, whole pages of the host. Nothing happens where the host cannot. */
  keepFromChildren(bytes: Uint8Array): void;
}

/** Which pages of RAM the vCPUs write. Called on the machine's thread, between two steps or from an exit. */
export interface WriteTracker extends DirtySource {
  /**
   * Until the result is disposed, calls `beforeWrite` once for each page of RAM before a vCPU writes it or
   * {@link Engine.discard} gives it back, with its guest-physical address and a length in bytes: several pages may come
   * in one call. The old contents are still there then. It must not throw, run a vCPU, or wait. What devices write is
   * not seen here: they say so to the memory.
   */
  protect(beforeWrite: (base: Gpa, length: number) => void): Disposable;
}

/** One of the two ways to run guests. */
export interface Engine extends AsyncDisposable {
  /** Any thread that stores 1 into element 0 ends the running step() soon; undefined where an event of the loop does. */
  readonly kickWord?: Int32Array | undefined;
  readonly kind: EngineKind;
  readonly arch: Architecture;
  readonly memory: GuestMemory;
  /** For device memory that guests reach without an exit. */
  readonly slots: MemorySlots;
  readonly writeTracker: WriteTracker;
  /** Whether {@link discard} gives memory back to the host, and does not only make zeros. */
  readonly returnsMemory: boolean;
  readonly clock: Clock;
  /** Ticks per second of the guest's system counter. */
  readonly counterHz: number;
  readonly vcpus: readonly Vcpu[];
  /**
   * Runs the guest for about `budgetNs` of host time. 'yield': call again after an event-loop turn;
   * 'idle': every vCPU waits, `idleUntilNs` says until when; 'stopped': stop() was called.
   * @param alone no device waits for a turn of the event loop: a guest that needs nobody may run on for longer.
   */
  step(budgetNs: number, alone?: boolean): 'yield' | 'idle' | 'stopped';
  /** Clock time at which a timer of an idle guest fires; Infinity when only an outside event can wake it. */
  idleUntilNs(): number;
  /**
   * Gives the memory of [base, base + length) back to the host: it reads as zeros from here on, for everybody, and
   * comes back page by page where it is written. For {@link writeTracker} the range has been written.
   * @param base of RAM, as the length in bytes a multiple of 4096.
   * @throws VmError ERR_GUEST_ADDRESS for anything else.
   */
  discard(base: Gpa, length: number): void;
  /** What the vCPUs are, between two steps; without memory. Plain data, for {@link restore} of an engine of the same kind. */
  save(): unknown;
  /** @throws VmError ERR_STATE for the state of another kind of engine, or another number of vCPUs. */
  restore(state: unknown): void;
  /** No vCPU runs from its return until the next step(). Emulated ones run in step() only. @throws VmError ERR_VCPU_STUCK. */
  pause(): void;
  /**
   * The guest's time stands from here until {@link releaseTime}: its counter, and the machine's clock; wall-clock time goes on.
   * No vCPU may run meanwhile.
   */
  holdTime(): void;
  releaseTime(): void;
  /** Ends the running step() soon. Any thread. */
  kick(): void;
  stop(): void;
  reset(): void;
}
