import type { Hypercall } from '../../../bus/hypercall.ts';
import { createGuestMemory } from '../../../memory/guest-memory.ts';
import type { PlugListener } from '../../../memory/pin-types.ts';
import type { Gpa, GuestMemory, MemorySlots, Region } from '../../../memory/types.ts';
import type { CounterPair, DrivenClock, VirtualClock } from '../../../time/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { CpuInterface, Engine, ExitSink, HostMemory, Vcpu, VcpuBoot } from '../../engine.ts';
import * as L from './core/layout.ts';
import { type Core, createCore } from './core-instance.ts';
import { CoreMemorySlots } from './memory-slots.ts';
import { readRegisters, writeRegisters } from './registers.ts';
import { CoreWriteTracker } from './write-tracker.ts';

/** Instructions of a slice: what passes at least between two looks at the timers. About 0.2 ms. */
const SLICE = 50_000;
/** The same where several vCPUs take turns: shorter, so that one that waits for another does not wait long. */
const SMP_SLICE = 20_000;
/** INTIDs of the private interrupts, as Arm's Base System Architecture and QEMU's virt board have them. */
const PPI_PMU = 23;
const PPI_VIRTUAL_TIMER = 27;
const PPI_PHYSICAL_TIMER = 30;
/** A machine in which every vCPU waits by WFE looks again after this long, as the timer's event stream would make it. */
const EVENT_STREAM_NS = 100_000;

/** The deadline of a timer that is not armed. */
const NEVER = 0xffff_ffff_ffff_ffffn;
/** Bytes of the pages that guest memory is given back in. */
const PAGE = 4096;
/** Bytes that are plugged and unplugged at a time. */
const HOTPLUG_BLOCK = 2 * 2 ** 20;

/** Options of {@link A64Engine}. */
export interface A64EngineOptions {
  readonly cpus: number;
  readonly ramBase: number;
  readonly ramBytes: number;
  /** More RAM behind that, unplugged at first. Whole 2 MiB, and so is its distance from `ramBase`. */
  readonly hotplug?: { readonly base: Gpa; readonly size: number } | undefined;
  readonly counterHz: number;
  readonly hostMemory: HostMemory;
  readonly clock:
    | { readonly kind: 'host'; readonly clock: DrivenClock }
    | { readonly kind: 'virtual'; readonly clock: VirtualClock };
}

/** What {@link A64Engine.save} gives: the core's words of each vCPU, and those that they share (core/layout.ts). */
interface A64State {
  readonly engine: 'a64';
  readonly vcpus: readonly Uint8Array[];
  /** From IRQ_LINES to the counter's offset. */
  readonly shared: Uint8Array;
  readonly next: number;
}

/** What the machine connects to the engine before the first step. */
export interface A64Wiring {
  readonly sink: ExitSink;
  readonly interrupts: CpuInterface;
  /** The interrupt controller has system registers (GICv3). */
  readonly gicSysregs: boolean;
  log(line: string): void;
}

/**
 * The emulated A64 engine: an interpreter in Wasm that runs the vCPUs in turn on the caller's thread. Guest RAM and
 * the vCPUs' state are one shared Wasm memory, see core/layout.ts.
 */
export class A64Engine implements Engine, PlugListener {
  readonly kind = 'emu';
  readonly arch = 'aarch64';
  readonly counterHz: number;
  readonly memory: GuestMemory;
  readonly slots: MemorySlots;
  readonly writeTracker: CoreWriteTracker;
  readonly returnsMemory: boolean;
  readonly vcpus: readonly Vcpu[];
  readonly clock: DrivenClock;
  /** Set element 0 to 1 (atomically) to end the running step soon. */
  readonly kickWord: Int32Array;
  readonly #core: Core;
  readonly #hostMemory: HostMemory;
  readonly #ramBase: Gpa;
  readonly #virtual: VirtualClock | undefined;
  #wiring: A64Wiring | undefined;
  #next = 0;
  #idleUntil = Number.POSITIVE_INFINITY;
  #lastTicks = 0;

  constructor(options: A64EngineOptions) {
    this.counterHz = options.counterHz;
    this.clock = options.clock.clock;
    this.#virtual = options.clock.kind === 'virtual' ? options.clock.clock : undefined;
    const { ramBase, ramBytes, hotplug } = options;
    this.#core = createCore({ ramBytes, ramBase, hotplug, imports: this.#imports() });
    this.#hostMemory = options.hostMemory;
    this.#ramBase = ramBase;
    this.returnsMemory = options.hostMemory.available;
    // It is private memory: a fork would copy its page tables, and whole pages that are pinned (pinning, section 3).
    options.hostMemory.keepFromChildren(new Uint8Array(this.#core.memory.buffer));
    const ram = (base: Gpa, size: number): Region => {
      return { base, size, kind: 'ram', bytes: this.#core.ram.subarray(base - ramBase, base - ramBase + size) };
    };
    this.memory = createGuestMemory([
      ram(ramBase, ramBytes),
      ...(hotplug === undefined ? [] : [ram(hotplug.base, hotplug.size)]),
    ]);
    this.slots = new CoreMemorySlots(this.#core);
    this.writeTracker = new CoreWriteTracker(this.#core, ramBase);
    if (hotplug !== undefined) this.unplug(hotplug.base, hotplug.size);
    this.kickWord = new Int32Array(this.#core.memory.buffer, L.KICK, 1);
    this.vcpus = Array.from({ length: options.cpus }, (_, id) => this.#vcpu(id));
    this.reset();
  }

  /** Connects buses and interrupts; once, before the first vCPU starts. */
  attach(wiring: A64Wiring): void {
    this.#wiring = wiring;
    this.#core.view.setUint32(L.GIC_SYSREGS, wiring.gicSysregs ? 1 : 0, true);
  }

  /** nIRQ and nFIQ of a vCPU, from the interrupt controller. */
  setIrq(cpu: number, irq: boolean, fiq: boolean): void {
    this.#core.view.setUint32(L.IRQ_LINES + 4 * cpu, (irq ? 1 : 0) | (fiq ? 2 : 0), true);
    this.#poll();
  }

  /** MPIDR_EL1 of a vCPU: Aff0 counts them (core/idregs.ts). */
  mpidr(cpu: number): bigint {
    return 0x8000_0000n | BigInt(cpu);
  }

  step(budgetNs: number): 'yield' | 'idle' | 'stopped' {
    const { exports } = this.#core;
    const cpus = this.vcpus.length;
    const end = performance.now() + budgetNs / 1e6;
    Atomics.store(this.kickWord, 0, 0);
    do {
      let running = 0;
      let events = 0;
      for (let n = 0; n < cpus; n++) {
        const cpu = this.#next;
        this.#next = cpu + 1 === cpus ? 0 : cpu + 1;
        exports.switchTo(cpu);
        const why = exports.run(this.#budget(cpus));
        if (this.#virtual !== undefined) this.#advance();
        if (why === L.EXIT_STOP) return 'stopped';
        if (why === L.EXIT_BUDGET) running++;
        else if (why === L.EXIT_WFE) events++;
      }
      if (running === 0) {
        // A vCPU that ran first may have woken one that was asked before: look at the lines once more.
        if (this.#anyoneCanRun()) continue;
        const until = this.#deadlineNs();
        if (this.#virtual !== undefined && until !== Number.POSITIVE_INFINITY) {
          if (events === 0) this.#skipTo(until);
          else this.#skipTo(Math.min(until, this.clock.nowNs() + EVENT_STREAM_NS));
          return 'yield';
        }
        this.#idleUntil = events === 0 ? until : Math.min(until, this.clock.nowNs() + EVENT_STREAM_NS);
        return 'idle';
      }
    } while (performance.now() < end && Atomics.load(this.kickWord, 0) === 0);
    return 'yield';
  }

  idleUntilNs(): number {
    return this.#idleUntil;
  }

  discard(base: Gpa, length: number): void {
    const offset = base - this.#ramBase;
    const whole = offset % PAGE === 0 && length % PAGE === 0;
    if (!whole || !(offset >= 0 && length >= 0 && offset + length <= this.#core.ram.length)) {
      throw new VmError('ERR_GUEST_ADDRESS', `${length} bytes at 0x${base.toString(16)} are not whole pages of RAM`, {
        details: { base, length },
      });
    }
    this.writeTracker.beforeHostWrite(offset, length);
    this.#hostMemory.discard(this.#core.ram, offset, length);
  }

  /** vCPUs reach [base, base + length) of {@link A64EngineOptions.hotplug}; whole blocks. */
  plug(base: Gpa, length: number): void {
    for (const [at, bit] of this.#blocks(base, length))
      this.#core.view.setUint8(at, this.#core.view.getUint8(at) & ~bit);
  }

  /** They no longer do: what they read and write there is on the bus, where nothing is. */
  unplug(base: Gpa, length: number): void {
    for (const [at, bit] of this.#blocks(base, length))
      this.#core.view.setUint8(at, this.#core.view.getUint8(at) | bit);
    this.#core.exports.regionsChanged();
  }

  /** The bits of a range in the core's map of what is unplugged: address and mask of each. */
  *#blocks(base: Gpa, length: number): Generator<readonly [number, number]> {
    const first = (base - this.#ramBase) / HOTPLUG_BLOCK;
    const end = first + length / HOTPLUG_BLOCK;
    if (!Number.isInteger(first) || !Number.isInteger(end)) {
      throw new VmError('ERR_INTERNAL', `${length} bytes at 0x${base.toString(16)} are not whole blocks`);
    }
    for (let n = first; n < end; n++) yield [L.UNPLUGGED + (n >>> 3), 1 << (n & 7)];
  }

  pause(): void {}

  holdTime(): void {
    this.clock.hold();
  }

  releaseTime(): void {
    this.clock.release();
  }

  kick(): void {
    Atomics.store(this.kickWord, 0, 1);
    this.#poll();
  }

  stop(): void {
    this.#core.view.setUint32(L.STOP, 1, true);
    this.#poll();
  }

  /** Powers every vCPU off and forgets translations and decoded code. Guest RAM is the machine's to restore. */
  reset(): void {
    const { view, exports } = this.#core;
    view.setUint32(L.STOP, 0, true);
    view.setUint32(L.CNTFRQ, this.counterHz, true);
    view.setUint32(L.CLOCK_VIRTUAL, this.#virtual === undefined ? 0 : 1, true);
    for (let cpu = 0; cpu < L.MAX_CPUS; cpu++) view.setUint32(L.IRQ_LINES + 4 * cpu, 0, true);
    exports.initialize(this.vcpus.length);
    this.#next = 0;
  }

  save(): A64State {
    const bytes = new Uint8Array(this.#core.memory.buffer);
    const length = L.CPU_END - L.CPU;
    const vcpus = this.vcpus.map(({ id }) => {
      const at = this.#state(id, L.CPU);
      return bytes.slice(at, at + length);
    });
    return { engine: 'a64', vcpus, shared: bytes.slice(L.IRQ_LINES, L.CNTVOFF + 8), next: this.#next };
  }

  restore(state: unknown): void {
    const s = state as A64State | null;
    if (s?.engine !== 'a64' || s.vcpus.length !== this.vcpus.length) {
      throw new VmError('ERR_STATE', 'the saved vCPUs are not those of such an engine', {
        hint: 'restore into a machine with the same engine and number of CPUs',
      });
    }
    const { memory, exports } = this.#core;
    this.reset();
    const bytes = new Uint8Array(memory.buffer);
    for (const [cpu, words] of s.vcpus.entries()) bytes.set(words, L.SAVED_CPUS + cpu * L.CPU_SIZE);
    bytes.set(s.shared, L.IRQ_LINES);
    exports.restored();
    this.#next = s.next;
    if (this.#virtual !== undefined) this.#advance();
  }

  /** Instructions that `cpu` has retired. */
  instructions(cpu: number): number {
    return Number(this.#core.view.getBigUint64(this.#state(cpu, L.ICOUNT), true));
  }

  /** Program counter of `cpu`, as of its last slice. */
  pc(cpu: number): bigint {
    return this.#core.view.getBigUint64(this.#state(cpu, L.PC), true);
  }

  /** General register n (0..30) of `cpu`. */
  x(cpu: number, n: number): bigint {
    return this.#core.view.getBigUint64(this.#state(cpu, L.XREGS + 8 * n), true);
  }

  /** A 64-bit field of `cpu`'s state by its offset in core/layout.ts; for debuggers and tests. */
  field(cpu: number, offset: number): bigint {
    return this.#core.view.getBigUint64(this.#state(cpu, offset), true);
  }

  /**
   * Wall-clock time and the counter that all vCPUs share, of one moment during the call: what a vCPU has read before is not
   * greater, and what one will read is not less (specification of ptp, ARM-7 and EMU-A2).
   */
  counterPair(): CounterPair {
    const { wallNs, ns, errorNs } = this.clock.pair();
    const ticks = this.#virtual === undefined ? BigInt(this.#counterAt(ns)) : this.#core.exports.readCounter();
    const physical = BigInt.asUintN(64, ticks);
    // The counter came to this value up to a tick before that moment, and its guest computes with whole ticks.
    const sinceTick = ns - (Number(physical) * 1e9) / this.counterHz;
    return {
      wallNs: wallNs - BigInt(Math.round(sinceTick)),
      physical,
      virtual: BigInt.asUintN(64, physical - this.#core.view.getBigUint64(L.CNTVOFF, true)),
      errorNs,
    };
  }

  #registers(cpu: number): Record<string, bigint> {
    this.#core.exports.switchTo(cpu);
    return readRegisters(this.#core);
  }

  #setRegisters(cpu: number, values: Readonly<Record<string, bigint>>): void {
    const { exports, memory, view } = this.#core;
    exports.switchTo(cpu);
    writeRegisters(this.#core, values);
    // WFI and WFE may complete for any reason (DDI 0487, D1.6): the vCPU goes on where it has been put.
    if (view.getUint32(L.POWER, true) !== L.POWER_OFF) view.setUint32(L.POWER, L.POWER_ON, true);
    new Uint8Array(memory.buffer).copyWithin(L.SAVED_CPUS + cpu * L.CPU_SIZE, L.CPU, L.CPU_END);
    exports.restored();
  }

  /** Suspends the vCPU that makes the current hypercall until an interrupt comes, as WFI does. */
  waitForInterrupt(cpu: number): void {
    this.#core.view.setUint32(this.#state(cpu, L.POWER), L.POWER_WFI, true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
  }

  #vcpu(id: number): Vcpu {
    const engine = this;
    return {
      id,
      get state() {
        const power = engine.#core.view.getUint32(engine.#state(id, L.POWER), true);
        return power === L.POWER_OFF ? 'off' : power === L.POWER_ON ? 'on' : 'idle';
      },
      start(boot: VcpuBoot) {
        // A hypercall may start another vCPU while its own runs: the current one comes back.
        const { view, exports } = engine.#core;
        const current = view.getUint32(L.CPU_ID, true);
        exports.switchTo(id);
        exports.powerOn(BigInt(boot.pc), boot.x0);
        exports.switchTo(current);
      },
      stop() {
        engine.#core.view.setUint32(engine.#state(id, L.POWER), L.POWER_OFF, true);
        engine.#poll();
      },
      registers: () => engine.#registers(id),
      setRegisters: values => engine.#setRegisters(id, values),
    };
  }

  /** Address of a state field: the current vCPU's state is at its own addresses, the others' are saved. */
  #state(cpu: number, field: number): number {
    return this.#core.view.getUint32(L.CPU_ID, true) === cpu ? field : L.SAVED_CPUS + cpu * L.CPU_SIZE + field - L.CPU;
  }

  /** Makes the running slice look at interrupts at its next taken branch. */
  #poll(): void {
    this.#core.view.setInt32(L.LIMIT, -0x8000_0000, true);
  }

  /** Instructions that the current vCPU may run: with a virtual clock not beyond its next timer. */
  #budget(cpus: number): number {
    const slice = cpus === 1 ? SLICE : SMP_SLICE;
    if (this.#virtual === undefined) return slice;
    const { exports } = this.#core;
    const deadline = this.#timerDeadline();
    if (deadline === NEVER) return slice;
    // One instruction is one nanosecond (core/timer.ts).
    const ns = (Number(deadline - exports.readCounter()) * 1e9) / this.counterHz;
    return Math.max(1, Math.min(slice, Math.ceil(ns)));
  }

  /** Counter value at which the current vCPU's next timer fires. An i64 of Wasm comes as a signed BigInt. */
  #timerDeadline(): bigint {
    return BigInt.asUintN(64, this.#core.exports.timerDeadline());
  }

  #anyoneCanRun(): boolean {
    const { view } = this.#core;
    return (
      this.vcpus.some(
        v => v.state !== 'off' && (v.state === 'on' || view.getUint32(L.IRQ_LINES + 4 * v.id, true) !== 0),
      ) && this.vcpus.every(v => v.state !== 'on' || view.getUint32(this.#state(v.id, L.POWER), true) !== L.POWER_WFE)
    );
  }

  /** Clock time at which the first timer of a vCPU fires. */
  #deadlineNs(): number {
    const { exports } = this.#core;
    let first = NEVER;
    for (const { id, state } of this.vcpus) {
      if (state === 'off') continue;
      exports.switchTo(id);
      const at = this.#timerDeadline();
      if (at < first) first = at;
    }
    return first === NEVER ? Number.POSITIVE_INFINITY : Math.ceil((Number(first) * 1e9) / this.counterHz);
  }

  /** The physical counter at a time of the host's clock that is not before the last one; never backwards, whatever that clock does. */
  #counterAt(ns: number): number {
    const ticks = Math.floor((ns * this.counterHz) / 1e9);
    if (ticks > this.#lastTicks) this.#lastTicks = ticks;
    return this.#lastTicks;
  }

  /** Virtual clock: brings the devices' clock up to the counter. */
  #advance(): void {
    this.#virtual?.advanceTo((Number(this.#core.exports.readCounter()) * 1e9) / this.counterHz);
  }

  /** Virtual clock: nobody runs, so time jumps to the next event. */
  #skipTo(ns: number): void {
    const { view, exports } = this.#core;
    const target = BigInt(Math.ceil((ns * this.counterHz) / 1e9));
    const now = exports.readCounter();
    if (target > now) view.setBigUint64(L.CLOCK_SKEW, view.getBigUint64(L.CLOCK_SKEW, true) + target - now, true);
    this.#advance();
  }

  #imports() {
    const wiring = (): A64Wiring => this.#wiring!;
    const setMailbox = (v: number | bigint): void => {
      const { view } = this.#core;
      if (typeof v === 'bigint') view.setBigUint64(L.MAILBOX, v, true);
      else {
        view.setUint32(L.MAILBOX, v, true);
        view.setUint32(L.MAILBOX + 4, 0, true);
      }
    };
    return {
      counter: () => this.#counterAt(this.clock.nowNs()),
      iccRead: (cpu: number, key: number) => {
        const v = wiring().interrupts.readRegister(cpu, key);
        if (v === undefined) return 0;
        setMailbox(v);
        return 1;
      },
      iccWrite: (cpu: number, key: number) =>
        wiring().interrupts.writeRegister(cpu, key, this.#core.view.getBigUint64(L.MAILBOX, true)) ? 1 : 0,
      setTimerLines: (cpu: number, bits: number) => {
        this.#wiring?.interrupts.setPpi(cpu, PPI_VIRTUAL_TIMER, (bits & 1) !== 0);
        this.#wiring?.interrupts.setPpi(cpu, PPI_PHYSICAL_TIMER, (bits & 2) !== 0);
      },
      setPmuLine: (cpu: number, level: number) => this.#wiring?.interrupts.setPpi(cpu, PPI_PMU, level !== 0),
      mmioRead: (cpu: number, hi: number, lo: number, size: number) => {
        if (this.#virtual !== undefined) this.#advance();
        setMailbox(wiring().sink.mmioRead(cpu, (hi >>> 0) * 2 ** 32 + (lo >>> 0), size));
        return 1;
      },
      mmioWrite: (cpu: number, hi: number, lo: number, size: number) => {
        if (this.#virtual !== undefined) this.#advance();
        const { view } = this.#core;
        const value = size === 8 ? view.getBigUint64(L.MAILBOX, true) : view.getUint32(L.MAILBOX, true);
        wiring().sink.mmioWrite(cpu, (hi >>> 0) * 2 ** 32 + (lo >>> 0), size, value);
        return 1;
      },
      firstWrite: (page: number) => this.writeTracker.firstWrite(page),
      hypercall: (cpu: number, imm: number) => {
        if (this.#virtual !== undefined) this.#advance();
        const { view } = this.#core;
        // SMCCC 1.1, 2.5.3: other immediates than 0 are reserved; an unknown call answers for them.
        const call: Hypercall = {
          abi: 'smccc',
          cpu,
          id: imm === 0 ? view.getUint32(L.XREGS, true) : 0xffff_ffff,
          arg: n => view.getBigUint64(L.XREGS + 8 * n, true),
          result: (n, value) => view.setBigUint64(L.XREGS + 8 * n, BigInt.asUintN(64, value), true),
        };
        wiring().sink.hypercall(call);
      },
      trace: (cpu: number, kind: number, a: number, b: number) => {
        if (kind === 0) {
          const f = (shift: number, mask: number) => (a >> shift) & mask;
          const name = `S${f(14, 3)}_${f(11, 7)}_C${f(7, 15)}_C${f(3, 15)}_${f(0, 7)}`;
          wiring().log(`cpu ${cpu}: ${b === 1 ? 'write to' : 'read of'} unknown system register ${name}`);
        }
      },
    };
  }
}
