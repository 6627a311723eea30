import type { DoorbellEvents } from '../../bus/doorbell.ts';
import type { Hypercall } from '../../bus/hypercall.ts';
import { createGuestMemory } from '../../memory/guest-memory.ts';
import type { PlugListener } from '../../memory/pin-types.ts';
import type { Gpa, GuestMemory, MemorySlots, Region } from '../../memory/types.ts';
import type { DrivenClock } from '../../time/types.ts';
import { VmError } from '../../util/errors.ts';
import { hex } from '../../util/hex.ts';
import type { Architecture, Engine, ExitSink, HostMemory, SystemEvent, Vcpu } from '../engine.ts';
import type { VcpuRunner } from '../host/addon.ts';
import * as kvm from './abi/common.generated.ts';
import { needCapabilities } from './capabilities.ts';
import { DirtyRings } from './dirty-ring.ts';
import { KvmDoorbells } from './doorbells.ts';
import { CoalescedRing, ExitState } from './exit-state.ts';
import { BitmapLog } from './page-log.ts';
import { KvmRam } from './ram.ts';
import { KvmMemorySlots, SlotTable } from './slots.ts';
import { STUCK_MS, vcpuStuck } from './stuck.ts';
import type { KvmHost } from './system.ts';
import type { KvmVm } from './vm.ts';

/** Result of the runner from which on it is a doorbell: -1000 - tag. */
const DOORBELL = -1000;
/** Columns of the runner's counters, of 8 for each vCPU; see Addon.runnerCounters. */
const COUNTERS = 8;
const COUNTER_EXITS = 1;
const COUNTER_GUEST_NS = 2;
const COUNTER_WAIT_NS = 3;
const COUNTER_ERRNO = 5;
const COUNTER_STATE = 6;
/** Values of {@link COUNTER_STATE}: inside of KVM_RUN, and an exit that run() has not returned. */
const STATE_RUNNING = 1;
const STATE_EXIT = 2;

/** The longest time between two turns of an event loop that nobody waits for, ns. */
const ALONE_NS = 100_000_000;
/** How long writes may be kept back, ns, when nothing happens; see KvmEngine.coalesce(). */
const LINGER_NS = { first: 2_000_000, factor: 8, longest: 1_000_000_000 };

/** A vCPU's file descriptor with what only its architecture knows. No method may be called while it runs. */
export interface KvmCpu {
  readonly fd: number;
  readonly state: 'on' | 'off' | 'idle';
  /** Program counter, a virtual address. */
  readonly pc: bigint;
  /** Registers by name, for people who look for what went wrong. */
  describe(): string;
  /** All registers by the architecture's names. */
  registers(): Record<string, bigint>;
  /** @throws VmError ERR_USAGE for a name that is none. */
  setRegisters(values: Readonly<Record<string, bigint>>): void;
}

/** What differs between the architectures of a VM. */
export interface KvmArchitecture {
  readonly arch: Architecture;
  /** KVM_CREATE_VM's argument. */
  readonly vmType: number;
  /**
   * Makes the interrupt controller and the vCPUs of a new VM, in the order that its kernel wants. Called again for every reset.
   * @throws VmError when the host cannot have what was asked for; close() is called then, too.
   */
  build(vm: KvmVm): readonly KvmCpu[];
  /** Notes the guest's time while no vCPU runs; the result lets it go on from there. */
  holdTime(): () => void;
  /** The call that a KVM_EXIT_HYPERCALL stands for, where its arguments are not in kvm_run; see ExitState.hypercall. */
  hypercall?(cpu: number, nr: number): Hypercall;
  /** Ticks per second of the guest's counter, where it is not the one that all guests share (Addon.counterHz). */
  readonly counterHz?: number;
  /** Closes what build() opened, but for the vCPUs. */
  close(): void;
}

/** Options of {@link KvmEngine}. */
export interface KvmEngineOptions {
  readonly vm: KvmVm;
  readonly architecture: KvmArchitecture;
  /** The guest's RAM, from guestRam(). */
  readonly ram: readonly Region[];
  /** One more region, unplugged at first. */
  readonly hotplug: Region | undefined;
  readonly hostMemory: HostMemory;
  readonly clock: DrivenClock;
  readonly counterHz: number;
  /** Doorbells by ioeventfd: default where vCPUs have threads of their own. An inline vCPU is faster with the exit. */
  readonly ioeventfd?: boolean | undefined;
  /** Entries of each vCPU's dirty ring, a power of two; on a host without rings, and by default, it is the dirty log (PageLog). */
  readonly dirtyRing?: number | undefined;
}

/**
 * The KVM engine: guests run in the kernel's KVM, and what they do to devices comes back here. One vCPU runs on the caller's
 * thread, several on threads of their own (native/vcpu.h); all exits are answered on the caller's thread.
 */
export class KvmEngine implements Engine, PlugListener {
  readonly kind = 'kvm';
  readonly arch: Architecture;
  readonly memory: GuestMemory;
  readonly slots: MemorySlots;
  readonly writeTracker: KvmRam;
  readonly returnsMemory: boolean;
  readonly clock: DrivenClock;
  readonly vcpus: readonly Vcpu[];
  readonly vm: KvmVm;
  readonly doorbells: DoorbellEvents | undefined;
  readonly #host: KvmHost;
  readonly #o: KvmEngineOptions;
  readonly #table: SlotTable;
  readonly #bells: KvmDoorbells | undefined;
  /** undefined: KVM has the dirty log of each slot. */
  readonly #rings: DirtyRings | undefined;
  /** Writes that may wait: [space, address, size]. */
  readonly #coalesced: ['memory' | 'io', number, number][] = [];
  #cpus: readonly KvmCpu[] = [];
  #states: ExitState[] = [];
  #ring: CoalescedRing | undefined;
  #runner: VcpuRunner | undefined;
  #counters: Float64Array = new Float64Array(0);
  #sink: ExitSink | undefined;
  /** The longest time that a write may be kept back without an exit. */
  #lingerNs = Number.POSITIVE_INFINITY;
  #stopped = false;
  #closed = false;
  /** Lets the guest's time go on. */
  #releaseTime: (() => void) | undefined;

  /** The VM and its system are the engine's from here on. @throws VmError ERR_ENGINE_UNAVAILABLE, ERR_HOST_CALL; they are closed then. */
  constructor(o: KvmEngineOptions) {
    this.#o = o;
    this.vm = o.vm;
    this.#host = o.vm.host;
    this.arch = o.architecture.arch;
    this.clock = o.clock;
    this.returnsMemory = o.hostMemory.available;
    try {
      needCapabilities(this.arch, c => o.vm.check(c));
      const regions = o.hotplug === undefined ? o.ram : [...o.ram, o.hotplug];
      // It is private memory: a fork would copy its page tables, and whole pages that are pinned (pinning, section 3).
      for (const r of regions) o.hostMemory.keepFromChildren(r.bytes);
      this.memory = createGuestMemory(regions);
      this.#table = new SlotTable(o.vm, o.vm.check(kvm.KVM_CAP_NR_MEMSLOTS) || 32);
      this.slots = new KvmMemorySlots(this.#table, o.vm.check(kvm.KVM_CAP_READONLY_MEM) > 0);
      const pause = () => this.pause();
      const entries = o.dirtyRing ?? 0;
      this.#rings = entries > 0 ? DirtyRings.open({ vm: o.vm, slots: this.#table, entries, pause }) : undefined;
      this.#build();
      this.writeTracker = new KvmRam({
        slots: this.#table,
        log: this.#rings ?? new BitmapLog(o.vm, this.#table),
        regions,
        hotplug: o.hotplug,
        hostMemory: o.hostMemory,
        pause,
      });
    } catch (e) {
      this.#close();
      throw e;
    }
    this.vcpus = this.#cpus.map((_, id) => this.#vcpu(id));
    const bells = o.ioeventfd ?? this.#cpus.length > 1;
    if (bells && o.vm.check(kvm.KVM_CAP_IOEVENTFD) > 0) {
      this.#bells = new KvmDoorbells(o.vm, {
        watch: (fd, tag) => this.#host.runnerWatch(this.#runner!, fd, tag),
        unwatch: fd => this.#runner !== undefined && this.#host.runnerUnwatch(this.#runner, fd),
      });
    }
    this.doorbells = this.#bells;
  }

  /** Connects the buses; once, before the first step. */
  attach(sink: ExitSink): void {
    this.#sink = sink;
  }

  /** Lets writes to [address, address + size) wait until the next exit, where the host can. */
  coalesce(space: 'memory' | 'io', address: number, size: number): void {
    if (this.vm.check(space === 'io' ? kvm.KVM_CAP_COALESCED_PIO : kvm.KVM_CAP_COALESCED_MMIO) === 0) return;
    this.#coalesced.push([space, address, size]);
    this.vm.coalesce(space, address, size, true);
    this.#lingerNs = LINGER_NS.first;
  }

  /** See MachineEngine.watchdog: this thread hangs with its vCPU, while vCPUs with threads of their own are told of by step(). */
  watchdog(): number | undefined {
    return this.#cpus.length > 1 ? undefined : this.#host.runnerWatchdog(this.#runner!, STUCK_MS);
  }

  /**
   * Runs the guest until `budgetNs` have passed since its first exit. A guest that needs nobody runs on until the event loop
   * or a timer of the machine does.
   */
  step(budgetNs: number, alone = false): 'yield' | 'idle' | 'stopped' {
    const runner = this.#runner;
    const sink = this.#sink;
    if (runner === undefined || sink === undefined || this.#stopped) return 'stopped';
    let who = this.#host.run(runner, Math.min(this.#quietNs(budgetNs, alone), this.#lingerNs));
    for (let first = true; ; first = false) {
      this.#drain(sink, who === -1);
      if (who === -1) return this.#stopped ? 'stopped' : 'yield';
      if (who >= 0) this.#answer(who, sink);
      else if (who <= DOORBELL) this.#bells?.ring(DOORBELL - who);
      else this.#stuck(-2 - who);
      if (this.#stopped) return 'stopped';
      if (first) {
        const left = Math.min(budgetNs, this.#nextTimerNs());
        if (left <= 0) return 'yield';
        who = this.#host.run(runner, left);
      } else {
        // Native code keeps the time: a look at the clock from here costs as much as the rest of an exit.
        who = this.#host.run(runner);
      }
    }
  }

  /**
   * Makes the writes that KVM has kept back. It says nothing when there are some, so a guest that makes no exit is looked at:
   * soon after its last one, when they are likely, and later and later.
   */
  #drain(sink: ExitSink, quiet: boolean): void {
    if (this.#coalesced.length === 0 || this.#ring === undefined) return;
    const written = this.#ring.drain(sink);
    const longer = Math.min(LINGER_NS.longest, this.#lingerNs * LINGER_NS.factor);
    this.#lingerNs = written || !quiet ? LINGER_NS.first : longer;
  }

  /** A KVM engine waits in step(). */
  idleUntilNs(): number {
    return Number.POSITIVE_INFINITY;
  }

  discard(base: Gpa, length: number): void {
    this.writeTracker.discard(base, length);
  }

  plug(base: Gpa, length: number): void {
    this.writeTracker.plug(base, length);
  }

  unplug(base: Gpa, length: number): void {
    this.writeTracker.unplug(base, length);
  }

  pause(): void {
    if (this.#runner !== undefined && !this.#host.pause(this.#runner, STUCK_MS)) this.#stuck(this.#running());
  }

  holdTime(): void {
    if (this.#runner === undefined || this.#releaseTime !== undefined) return;
    this.pause();
    this.clock.hold();
    this.#releaseTime = this.#o.architecture.holdTime();
  }

  releaseTime(): void {
    this.#releaseTime?.();
    this.#releaseTime = undefined;
    this.clock.release();
  }

  kick(): void {
    if (this.#runner !== undefined) this.#host.kick(this.#runner);
  }

  stop(): void {
    this.#stopped = true;
    this.kick();
  }

  /** A new VM takes the place of the old one: nothing of the old guest's CPUs and interrupts can stay. */
  reset(): void {
    this.writeTracker.keepLog();
    this.#tearDown();
    this.vm.renew();
    this.#stopped = false;
    this.#rings?.enable();
    this.#build();
    this.#table.renew();
    this.#bells?.renew();
    for (const [space, address, size] of this.#coalesced) this.vm.coalesce(space, address, size, true);
    // The new guest's time, not that of the one before.
    if (this.#releaseTime !== undefined) this.#releaseTime = this.#o.architecture.holdTime();
  }

  save(): never {
    throw new VmError('ERR_STATE', 'a VM that runs on KVM cannot be doubled yet', {
      hint: 'use --engine emu for vm.fork()',
    });
  }

  restore(): never {
    return this.save();
  }

  /** A vCPU with its architecture's registers; no vCPU runs until the next step. */
  cpu(id: number): KvmCpu {
    this.pause();
    return this.#cpus[id]!;
  }

  /**
   * No vCPU is in the middle of an instruction: exits that wait are answered, and the kernel has taken the answers in (api.rst,
   * section 5, "immediate_exit"). Nothing of the registers is in kvm_run then.
   */
  #settle(): void {
    this.pause();
    const runner = this.#runner;
    if (runner === undefined || this.#sink === undefined) return;
    for (const cpu of this.#cpus.keys()) {
      if (this.#counters[cpu * COUNTERS + COUNTER_STATE] === STATE_EXIT) this.#answer(cpu, this.#sink);
      // 0: the instruction goes on with a further exit, as string instructions of x86 do.
      while (this.#host.completeExit(runner, cpu) === 0) this.#answer(cpu, this.#sink);
    }
    this.#ring?.drain(this.#sink);
  }

  get counterHz(): number {
    return this.#o.architecture.counterHz ?? this.#o.counterHz;
  }

  /** What the runner counts: a row of 8 numbers for each vCPU, see Addon.runnerCounters. */
  get counters(): Float64Array {
    return this.#counters;
  }

  /** Ends the vCPUs and closes everything. Memory stays with whoever holds it. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopped = true;
    this.#close();
  }

  #close(): void {
    this.#tearDown();
    this.vm[Symbol.dispose]();
    this.vm.system[Symbol.dispose]();
    this.#bells?.[Symbol.dispose]();
  }

  #build(): void {
    try {
      this.#cpus = this.#o.architecture.build(this.vm);
      const fds = this.#cpus.map(c => c.fd);
      this.#runner = this.#host.runnerCreate(fds, this.vm.system.vcpuMapSize, fds.length > 1, this.#rings?.size);
    } catch (e) {
      this.#tearDown();
      throw e;
    }
    const runner = this.#runner;
    this.#states = this.#cpus.map((_, id) => new ExitState(id, this.#host.runnerState(runner, id)));
    this.#rings?.attach(this.#cpus.map((_, id) => this.#host.runnerRing(runner, id)));
    this.#counters = this.#host.runnerCounters(runner);
    const page = this.vm.check(kvm.KVM_CAP_COALESCED_MMIO);
    this.#ring = page === 0 ? undefined : new CoalescedRing(this.#host.runnerState(runner, 0), page);
  }

  #tearDown(): void {
    if (this.#runner !== undefined) this.#host.runnerDestroy(this.#runner, STUCK_MS);
    this.#runner = undefined;
    this.#rings?.attach([]);
    this.#ring = undefined;
    this.#states = [];
    this.#cpus = [];
    this.vm.closeVcpus();
    this.#o.architecture.close();
  }

  /** How long a guest without exits may run: until a timer of the machine's or of the event loop's is due. */
  #quietNs(budgetNs: number, alone: boolean): number {
    const loop = this.#host.loopTimeoutNs();
    // Something waits for its turn already, and gets it after the usual time. The immediate that this is called from looks the
    // same, and is all there is when no device waits; what ends run() by itself, timers of the loop too, is still seen.
    if (loop === 0) return alone ? Math.min(ALONE_NS, this.#nextTimerNs()) : budgetNs;
    return Math.min(loop, this.#nextTimerNs());
  }

  #nextTimerNs(): number {
    return Math.max(0, this.clock.nextDeadline() - this.clock.nowNs());
  }

  #answer(cpu: number, sink: ExitSink): void {
    const state = this.#states[cpu]!;
    const errno = this.#counters[cpu * COUNTERS + COUNTER_ERRNO]!;
    if (errno !== 0) throw this.#failed(cpu, `KVM_RUN failed with errno ${errno}`, runHint(errno));
    switch (state.reason) {
      case kvm.KVM_EXIT_MMIO:
        state.mmio(sink);
        return;
      case kvm.KVM_EXIT_IO:
        state.io(sink);
        return;
      case kvm.KVM_EXIT_SYSTEM_EVENT:
        this.#system(cpu, state.systemEvent, sink);
        return;
      case kvm.KVM_EXIT_SHUTDOWN:
        // x86: a triple fault, which a PC answers by a reset.
        sink.system('reset', cpu);
        return;
      case kvm.KVM_EXIT_HYPERCALL: {
        const { nr, arg, result } = state.hypercall;
        sink.hypercall(
          this.#o.architecture.hypercall?.(cpu, nr) ?? {
            abi: 'kvm-x86',
            cpu,
            id: nr,
            arg,
            result: (_, v) => result(v),
          },
        );
        return;
      }
      case kvm.KVM_EXIT_HLT:
        // Without an interrupt controller in the kernel nothing could wake it.
        sink.failed(cpu, `cpu ${cpu} halted, and nothing can wake it`);
        return;
      case kvm.KVM_EXIT_DIRTY_RING_FULL:
        this.#rings?.full(cpu, this.writeTracker.kept);
        return;
      case kvm.KVM_EXIT_IRQ_WINDOW_OPEN:
      case kvm.KVM_EXIT_INTR:
        return;
      default:
        throw this.#failed(cpu, describeExit(state), undefined);
    }
  }

  #system(cpu: number, type: number, sink: ExitSink): void {
    const events: Readonly<Record<number, SystemEvent>> = {
      [kvm.KVM_SYSTEM_EVENT_SHUTDOWN]: 'shutdown',
      [kvm.KVM_SYSTEM_EVENT_RESET]: 'reset',
      [kvm.KVM_SYSTEM_EVENT_CRASH]: 'crash',
      [kvm.KVM_SYSTEM_EVENT_SUSPEND]: 'suspend',
    };
    const event = events[type];
    if (event === undefined) throw this.#failed(cpu, `an unknown system event (${type})`, undefined);
    sink.system(event, cpu);
  }

  #failed(cpu: number, why: string, hint: string | undefined): VmError {
    this.#stopped = true;
    let registers = '';
    try {
      registers = this.cpu(cpu).describe();
    } catch {
      // What failed may have no registers to show.
    }
    return new VmError('ERR_VCPU_FAILED', `KVM cannot run vCPU ${cpu} any further: ${why}`, {
      hint: hint ?? 'see dmesg | grep -i kvm; the emulator (--engine emu) shows what the guest does',
      details: { cpu, registers },
    });
  }

  #stuck(cpu: number): never {
    this.#stopped = true;
    throw vcpuStuck(cpu);
  }

  /** The first vCPU that has not parked. */
  #running(): number {
    const n = this.#cpus.findIndex((_, id) => this.#counters[id * COUNTERS + COUNTER_STATE] === STATE_RUNNING);
    return Math.max(0, n);
  }

  #vcpu(id: number): Vcpu {
    const engine = this;
    return {
      id,
      get state() {
        return engine.#closed || engine.#runner === undefined ? 'off' : engine.cpu(id).state;
      },
      start() {
        throw new VmError('ERR_INTERNAL', 'vCPUs of KVM are started by their architecture');
      },
      stop() {
        throw new VmError('ERR_INTERNAL', 'vCPUs of KVM are stopped by their guest');
      },
      registers() {
        engine.#settle();
        return engine.cpu(id).registers();
      },
      setRegisters(values) {
        engine.#settle();
        engine.cpu(id).setRegisters(values);
      },
      get counters() {
        const row = id * COUNTERS;
        const column = (n: number) => engine.#counters[row + n] ?? 0;
        return {
          exits: column(COUNTER_EXITS),
          guestNs: column(COUNTER_GUEST_NS),
          waitNs: column(COUNTER_WAIT_NS),
        };
      },
    };
  }
}

function describeExit(state: ExitState): string {
  switch (state.reason) {
    case kvm.KVM_EXIT_FAIL_ENTRY:
      return `the processor refuses the guest's state (reason ${hex(Number(state.hardwareReason))})`;
    case kvm.KVM_EXIT_UNKNOWN:
      return `the processor gave an unknown reason (${hex(Number(state.hardwareReason))})`;
    case kvm.KVM_EXIT_INTERNAL_ERROR: {
      const { suberror, data } = state.internalError;
      const what =
        suberror === kvm.KVM_INTERNAL_ERROR_EMULATION
          ? 'an instruction that KVM cannot emulate'
          : `internal error ${suberror}`;
      return data.length === 0 ? what : `${what} (${data.map(d => `0x${d.toString(16)}`).join(' ')})`;
    }
    case kvm.KVM_EXIT_ARM_NISV: {
      const { iss, address } = state.nisv;
      return `an access to a device at ${hex(address)} by an instruction that hardware does not decode (ISS 0x${iss.toString(16)})`;
    }
    default:
      return `an exit that tsvisor does not know (${state.reason})`;
  }
}

/** What helps against an errno of KVM_RUN. */
function runHint(errno: number): string | undefined {
  if (errno === 12) return 'the host has no memory left for the guest';
  if (errno === 14) return "the guest's memory is gone from this process, or its file is too short";
  return undefined;
}
