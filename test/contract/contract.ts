import assert from 'node:assert/strict';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { createAddressBus } from '../../src/bus/address-bus.ts';
import type { Hypercall } from '../../src/bus/hypercall.ts';
import type { AddressBus } from '../../src/bus/types.ts';
import type { Architecture, EngineKind, ExitSink, SystemEvent } from '../../src/engines/engine.ts';
import type { InterruptController } from '../../src/irq/types.ts';
import type { MachineEngine } from '../../src/machine/board.ts';
import type { ExitReason } from '../../src/machine/machine.ts';

// What every engine must do alike: tiny guests, and the bus accesses, registers and memory that they must come to. The
// expected values are those of the architectures' manuals, never those of an engine. See docs/testing.md.

/**
 * What not every host can do beside running an engine of the case's architecture. A host that fails the need's probe (index.ts)
 * skips the case.
 */
export type Need = 'long mode' | 'IRET in protected mode' | 'sign-extending loads of devices';

/** A guest and what must come of it. */
export interface ContractCase {
  readonly title: string;
  readonly arch: Architecture;
  /** Assembler source; it is at CODE of its architecture. */
  readonly code: string;
  /** x86: the mode that the guest starts in. */
  readonly mode?: 'real' | 'protected' | 'long';
  readonly needs?: readonly Need[];
  /** vCPUs; default 1. */
  readonly cpus?: number;
  /** Bytes of memory that can be plugged; default none. */
  readonly hotplug?: number;
  /** Part of what continuous integration runs in the lab. */
  readonly smoke?: boolean;
  /** What reads give, by address or port; everything else is all ones. A list is taken in turn, its last value for ever. */
  readonly reads?: Readonly<Record<number, number | bigint | readonly (number | bigint)[]>>;
  /** RAM at the start: 64-bit words by address. */
  readonly words?: Readonly<Record<number, number | bigint>>;
  /** What the host does; by default it starts the guest and waits for its end. */
  readonly run?: (rig: Rig) => Promise<void> | void;
  /** Every access that reaches a device, in its order; see {@link read} and the others. */
  readonly trace: readonly string[];
  /** Registers at the end, of the first vCPU. */
  readonly registers?: Readonly<Record<string, number | bigint>>;
  /** 64-bit words of RAM at the end, by address. */
  readonly memory?: Readonly<Record<number, number | bigint>>;
}

/** An engine with its interrupt controller, as a machine has them. */
export interface Subject extends AsyncDisposable {
  readonly kind: EngineKind;
  readonly engine: MachineEngine;
  readonly interrupts: InterruptController;
  /** Where guest code is loaded, and a page that nothing else uses. */
  readonly code: number;
  /** Where a guest's last write goes: an address, or a port of x86. */
  readonly end: number;
  /** Puts on the bus what is not inside of the engine. Once. */
  connect(bus: AddressBus): void;
  /** Powers the first vCPU on, after a reset again. */
  start(entry: number, mode: ContractCase['mode']): void;
  hypercall(call: Hypercall): void;
  /** Lets writes wait for the next exit; undefined: this engine never does. */
  coalesce?(space: 'memory' | 'io', address: number, size: number): void;
}

/** What a {@link Subject} is made for. */
export interface SubjectOptions {
  readonly cpus: number;
  readonly hotplug: number;
  readonly sink: ExitSink;
  /** The guest ends the machine by a hypercall that the engine does not answer itself. */
  readonly onEnd: (reason: ExitReason) => void;
  /** An interrupt has come. */
  readonly onWake: () => void;
  /** The vCPU whose access is on the bus. */
  readonly currentCpu: () => number;
}

/** @throws VmError ERR_ENGINE_UNAVAILABLE. */
export type SubjectFactory = (o: SubjectOptions) => Subject;

/** What a run came to; two engines' are equal. */
export interface Outcome {
  readonly trace: readonly string[];
  /** Those that the case names. */
  readonly registers: Readonly<Record<string, bigint>>;
}

const hex = (v: number | bigint) => `0x${v.toString(16)}`;
/** The line of a trace for a read of `size` bytes that gave `value`. */
export const read = (size: number, address: number, value: number | bigint, cpu = 0): string =>
  `cpu ${cpu}: read${size} ${hex(address)} -> ${hex(value)}`;
export const write = (size: number, address: number, value: number | bigint, cpu = 0): string =>
  `cpu ${cpu}: write${size} ${hex(address)} <- ${hex(value)}`;
export const portIn = (size: number, port: number, value: number, cpu = 0): string =>
  `cpu ${cpu}: in${size} ${hex(port)} -> ${hex(value)}`;
export const portOut = (size: number, port: number, value: number, cpu = 0): string =>
  `cpu ${cpu}: out${size} ${hex(port)} <- ${hex(value)}`;
/** The guest has ended the machine. */
export const ended = (event: SystemEvent): string => `the machine ends: ${event}`;

/** A guest that is not where it should be after this long has gone astray, ms. Nothing takes a thousandth of it. */
const LIMIT_MS = 20_000;
/** Host time of a step, ns: short, so that every guest is kicked many times. */
const STEP_NS = 2_000_000;

/** A case at work: the guest, its devices, and the hands of the host. */
export class Rig implements AsyncDisposable {
  readonly subject: Subject;
  readonly trace: string[] = [];
  /** The case that it is for. */
  readonly case: ContractCase;
  /** How many times the guest has made its last write. */
  ends = 0;
  /** What ended the machine, if anything has. */
  event: SystemEvent | undefined;
  readonly #bus = createAddressBus();
  readonly #reads = new Map<number, (number | bigint)[]>();
  readonly #hooks = new Map<number, (value: number | bigint, cpu: number) => void>();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #code: Uint8Array;
  #currentCpu = 0;
  #failure: Error | undefined;

  /** @param code the case's, assembled. @throws VmError ERR_ENGINE_UNAVAILABLE. */
  constructor(c: ContractCase, code: Uint8Array, make: SubjectFactory) {
    this.case = c;
    this.#code = code;
    for (const [address, v] of Object.entries(c.reads ?? {})) {
      this.#reads.set(Number(address), typeof v === 'object' ? [...v] : [v]);
    }
    this.subject = make({
      cpus: c.cpus ?? 1,
      hotplug: c.hotplug ?? 0,
      sink: this.#sink(),
      onEnd: reason => this.#end(reason === 'killed' ? 'crash' : reason),
      onWake: () => undefined,
      currentCpu: () => this.#currentCpu,
    });
    this.subject.connect(this.#bus);
    this.load();
  }

  get engine(): MachineEngine {
    return this.subject.engine;
  }

  /** The first vCPU's, by name. */
  registers(): Record<string, bigint> {
    return this.engine.vcpus[0]!.registers();
  }

  /** Calls `f` a little later by the event loop, unless the case is over by then. */
  later(f: () => void): void {
    this.#timers.push(globalThis.setTimeout(f, 10));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const t of this.#timers) clearTimeout(t);
    await this.subject[Symbol.asyncDispose]();
  }

  /** Calls `hook` for every write to an address or port, after it has been noted. */
  onWrite(address: number, hook: (value: number | bigint, cpu: number) => void): void {
    this.#hooks.set(address, hook);
  }

  /** Code and words of the case, into RAM. */
  load(): void {
    const { memory } = this.engine;
    memory.write(this.subject.code, this.#code);
    for (const [address, v] of Object.entries(this.case.words ?? {})) memory.setU64(Number(address), BigInt(v));
  }

  start(entry = this.subject.code): void {
    this.subject.start(entry, this.case.mode);
  }

  /** One step, with whatever is due before. */
  step(budgetNs = STEP_NS): 'yield' | 'idle' | 'stopped' {
    this.engine.clock.runDue();
    const result = this.engine.step(budgetNs);
    if (this.#failure !== undefined) throw this.#failure;
    return result;
  }

  /** Runs the guest until something is so. @throws Error when it does not become so. */
  async until(what: string, done: () => boolean): Promise<void> {
    const limit = performance.now() + LIMIT_MS;
    // A timer of the event loop brings a guest without exits out of KVM: without one, step() would wait for the guest.
    using _ = heartbeat();
    while (!done()) {
      const result = this.step();
      if (done()) return;
      if (result === 'stopped') throw new Error(`the engine stopped before ${what}${this.#state()}`);
      if (performance.now() > limit) throw new Error(`after ${LIMIT_MS} ms: not yet ${what}${this.#state()}`);
      // Interrupts come by the event loop.
      if (result === 'idle') await setTimeout(1);
      else await setImmediate();
    }
  }

  /** Runs the guest to its last write; `times` counts from the start of the case. */
  async finish(times = 1): Promise<void> {
    await this.until(`the guest's end`, () => this.ends >= times);
  }

  /** As a machine resets, its devices first: memory is the machine's to restore, and stays here. */
  reset(): void {
    this.engine.reset();
    this.subject.interrupts.reset();
    this.event = undefined;
  }

  /** Compares what came out to what must. */
  check(): Outcome {
    const { trace, registers = {}, memory = {} } = this.case;
    assert.deepEqual(this.trace, trace);
    const all = this.registers();
    const found = Object.fromEntries(Object.keys(registers).map(n => [n, all[n] ?? -1n]));
    const text = (r: Readonly<Record<string, number | bigint>>) =>
      Object.fromEntries(Object.entries(r).map(([n, v]) => [n, hex(v)]));
    assert.deepEqual(text(found), text(registers));
    const words = Object.fromEntries(Object.keys(memory).map(a => [a, this.engine.memory.u64(Number(a))]));
    assert.deepEqual(text(words), text(memory));
    return { trace: this.trace, registers: found };
  }

  #sink(): ExitSink {
    return {
      mmioRead: (cpu, address, size) => {
        this.#currentCpu = cpu;
        if (this.#bus.at(address) !== undefined) {
          return size === 8 ? this.#bus.read64(address) : this.#bus.read(address, size as 1 | 2 | 4);
        }
        const value = this.#answer(address, size);
        this.trace.push(read(size, address, value, cpu));
        return value;
      },
      mmioWrite: (cpu, address, size, value) => {
        this.#currentCpu = cpu;
        if (this.#bus.at(address) !== undefined) {
          if (size === 8) this.#bus.write64(address, BigInt(value));
          else this.#bus.write(address, size as 1 | 2 | 4, Number(value));
          return;
        }
        if (address === this.subject.end && this.case.arch === 'aarch64') this.#lastWrite();
        else this.#written(write(size, address, value, cpu), address, value, cpu);
      },
      portIn: (cpu, port, size) => {
        const value = Number(this.#answer(port, size));
        this.trace.push(portIn(size, port, value, cpu));
        return value;
      },
      portOut: (cpu, port, size, value) => {
        if (port === this.subject.end && this.case.arch === 'x86_64') this.#lastWrite();
        else this.#written(portOut(size, port, value, cpu), port, value, cpu);
      },
      hypercall: call => this.subject.hypercall(call),
      system: event => this.#end(event),
      failed: (cpu, why) => {
        this.#failure = new Error(`cpu ${cpu}: ${why}`);
        this.engine.stop();
      },
    };
  }

  #written(line: string, address: number, value: number | bigint, cpu: number): void {
    this.trace.push(line);
    this.#hooks.get(address)?.(value, cpu);
  }

  #lastWrite(): void {
    this.ends++;
    this.engine.kick();
  }

  #answer(address: number, size: number): number | bigint {
    const answers = this.#reads.get(address);
    const value = (answers !== undefined && answers.length > 1 ? answers.shift() : answers?.[0]) ?? -1n;
    const wrapped = BigInt.asUintN(8 * size, BigInt(value));
    return size === 8 ? wrapped : Number(wrapped);
  }

  #end(event: SystemEvent): void {
    this.event = event;
    this.trace.push(ended(event));
    this.engine.stop();
  }

  #state(): string {
    const { pc, rip } = this.registers();
    return ` (at ${hex(pc ?? rip ?? -1n)}, trace: ${this.trace.slice(-5).join('; ') || 'empty'})`;
  }
}

/** A timer that is due every few milliseconds. */
function heartbeat(): Disposable {
  const timer = setInterval(() => undefined, 5);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Runs a case on an engine. @throws Error for whatever is not as it must be. */
export async function runCase(c: ContractCase, code: Uint8Array, make: SubjectFactory): Promise<Outcome> {
  await using rig = new Rig(c, code, make);
  if (c.run !== undefined) await c.run(rig);
  else {
    rig.start();
    await rig.finish();
  }
  return rig.check();
}
