import type { AccessSize } from '../../bus/types.ts';
import { VmError } from '../../util/errors.ts';
import { upper32 } from '../../util/words.ts';
import { msiVectors, type PciDeviceDefinition } from './definition.ts';
import type { BarHandlers, DeviceBar, DeviceVector, PciDevice } from './device.ts';
import { type DmaPort, ProgramDma } from './dma.ts';

/** What a function needs of the program behind its registers, on whichever thread that runs. Nothing of it throws. */
export interface DeviceProgram {
  read(bar: number, offset: number, size: AccessSize): number;
  write(bar: number, offset: number, size: AccessSize, value: number): void;
  read64(bar: number, offset: number): bigint;
  write64(bar: number, offset: number, value: bigint): void;
  /** A promise while the device still uses guest memory for what was before. */
  reset(): void | Promise<void>;
  unplugged(): void;
  /** The function may master the bus from now on, or no longer. */
  masterChanged?(allowed: boolean): void;
}

/** The way from a device's program to its function. */
export interface DevicePort {
  /** The device's name among those of its machine. */
  readonly name: string;
  trigger(vector: number): void;
  setIntx(level: boolean): void;
  readonly dma: DmaPort;
  configRead(offset: number, size: AccessSize): number;
  /** The bytes of a BAR of memory. */
  memory(bar: number): Uint8Array;
  after(ns: number, f: () => void): Disposable;
  log(line: string): void;
  /** The program has thrown; it will not be called any more. */
  failed(failure: DeviceFailure): void;
  /** Whether a handler may be asynchronous. A guest cannot wait for it in any case: an access is over when it returns. */
  readonly asynchronous: boolean;
}

/** How a device's program ended. Plain data. */
export interface DeviceFailure {
  readonly name: string;
  /** One line: the device, what it was doing, the error. */
  readonly message: string;
  readonly stack: string | undefined;
}

/** All ones of `size` bytes: the answer of what is not there. */
export function allOnes(size: AccessSize): number {
  return 2 ** (8 * size) - 1;
}

/**
 * A device's program at work. Whatever it throws ends the device, not the machine: from then on its registers read all ones,
 * writes are dropped, and it neither interrupts nor reaches memory.
 */
export class RunningProgram implements DeviceProgram {
  readonly #port: DevicePort;
  readonly #name: string;
  readonly #handlers: (BarHandlers | undefined)[] = [];
  readonly #timers = new Set<Disposable>();
  readonly #onReset: (() => void)[] = [];
  readonly #onUnplug: (() => void)[] = [];
  readonly #dma: ProgramDma;
  #failed = false;

  /** Runs the setup of `definition` at once. */
  constructor(definition: PciDeviceDefinition, port: DevicePort, options: Readonly<Record<string, unknown>>) {
    this.#port = port;
    this.#name = port.name;
    this.#dma = new ProgramDma(port.dma, line => port.log(`${port.name}: ${line}`));
    const dev = this.#context(definition, options);
    this.#run('setup', () => definition.setup(dev));
  }

  get failed(): boolean {
    return this.#failed;
  }

  read(bar: number, offset: number, size: AccessSize): number {
    const handlers = this.#handlers[bar];
    if (this.#failed || handlers?.read === undefined) return allOnes(size);
    try {
      const value: unknown = handlers.read(offset, size);
      if (value === undefined) return allOnes(size);
      const low = Number(typeof value === 'bigint' ? BigInt.asUintN(32, value) : checkNumber(value)) >>> 0;
      return size === 4 ? low : low & allOnes(size);
    } catch (e) {
      this.#fail(`a read of BAR ${bar}`, e);
      return allOnes(size);
    }
  }

  write(bar: number, offset: number, size: AccessSize, value: number): void {
    const handlers = this.#handlers[bar];
    if (this.#failed || handlers?.write === undefined) return;
    try {
      // A plain call: what a guest does most, it does here.
      const result: unknown = handlers.write(offset, value, size);
      if (result !== undefined) this.#returned(`a write of BAR ${bar}`, result);
    } catch (e) {
      this.#fail(`a write of BAR ${bar}`, e);
    }
  }

  read64(bar: number, offset: number): bigint {
    const handlers = this.#handlers[bar];
    if (this.#failed || handlers?.read64 === undefined) {
      const low = BigInt(this.read(bar, offset, 4));
      return (BigInt(this.read(bar, offset + 4, 4)) << 32n) | low;
    }
    try {
      const value: unknown = handlers.read64(offset);
      return BigInt.asUintN(
        64,
        value === undefined ? -1n : typeof value === 'bigint' ? value : BigInt(checkNumber(value)),
      );
    } catch (e) {
      this.#fail(`a read of BAR ${bar}`, e);
      return BigInt.asUintN(64, -1n);
    }
  }

  write64(bar: number, offset: number, value: bigint): void {
    const handlers = this.#handlers[bar];
    if (this.#failed || handlers?.write64 === undefined) {
      this.write(bar, offset, 4, Number(BigInt.asUintN(32, value)));
      this.write(bar, offset + 4, 4, upper32(value));
      return;
    }
    this.#run(`a write of BAR ${bar}`, () => handlers.write64!(offset, value));
  }

  reset(): void | Promise<void> {
    return this.#leave('a reset', this.#onReset);
  }

  unplugged(): void {
    this.#dropTimers();
    void this.#leave('an unplug', this.#onUnplug.splice(0));
  }

  /** Calls handlers, after which nothing that was pinned before may be left; a promise while they are at work. */
  #leave(when: string, handlers: readonly (() => unknown)[]): void | Promise<void> {
    const pins = this.#dma.open;
    const busy = handlers.map(f => this.#run(when, f)).filter(isPromise);
    const release = () => this.#dma.release(pins, when);
    if (busy.length > 0) return Promise.allSettled(busy).then(release);
    release();
  }

  #context(definition: PciDeviceDefinition, options: Readonly<Record<string, unknown>>): PciDevice {
    const port = this.#port;
    const bars = new Map(
      (definition.spec.bars ?? []).map(b => [b.index as number, this.#bar(b.index, b.memory === true)]),
    );
    const vectors = Math.max(msiVectors(definition.spec), definition.spec.msix ?? 0);
    const messages = Array.from(
      { length: vectors },
      (_, n): DeviceVector => ({
        trigger: () => {
          if (!this.#failed) port.trigger(n);
        },
      }),
    );
    return {
      name: this.#name,
      options,
      bar: index => bars.get(index) ?? this.#missing(`BAR ${index}`, 'bars'),
      msi: vector => messages[vector] ?? this.#missing(`interrupt vector ${vector}`, 'msi or msix'),
      intx: {
        set: level => {
          if (!definition.spec.intx) this.#missing('INTx wire', 'intx');
          if (!this.#failed) port.setIntx(level);
        },
      },
      dma: this.#dma,
      config: {
        read: (offset, size) => {
          const valid = Number.isInteger(offset) && offset >= 0 && (offset & 3) + size <= 4 && offset + size <= 4096;
          return valid ? port.configRead(offset, size) : allOnes(size);
        },
      },
      log: line => port.log(`${this.#name}: ${line}`),
      after: (ns, f) => this.#after(ns, f),
      onReset: f => void this.#onReset.push(f),
      onUnplug: f => void this.#onUnplug.push(f),
    };
  }

  #bar(index: number, isMemory: boolean): DeviceBar {
    const port = this.#port;
    const wrong = (why: string, hint: string) =>
      new VmError('ERR_DEVICE', `${this.#name}: BAR ${index} ${why}`, {
        hint,
        details: { device: this.#name, bar: index },
      });
    return {
      on: handlers => {
        if (isMemory) throw wrong('is memory and has no handlers', "leave 'memory' out of its spec to answer accesses");
        const slow = Object.entries(handlers).find(([, f]) => !port.asynchronous && isAsync(f));
        if (slow !== undefined) throw synchronous(this.#name, `'${slow[0]}' of BAR ${index}`);
        this.#handlers[index] = handlers;
      },
      get memory() {
        if (!isMemory) throw wrong('is no memory', "say 'memory: true' in its spec");
        return port.memory(index);
      },
    };
  }

  #after(ns: number, f: () => void): Disposable {
    if (!(ns >= 0 && ns < Number.POSITIVE_INFINITY)) {
      throw new VmError('ERR_DEVICE', `${this.#name}: a timer cannot be ${ns} ns away`, { hint: 'give 0 or more' });
    }
    if (this.#failed) return { [Symbol.dispose]: () => {} };
    const timer = this.#port.after(ns, () => {
      this.#timers.delete(timer);
      this.#run('a timer', f);
    });
    this.#timers.add(timer);
    return {
      [Symbol.dispose]: () => {
        if (this.#timers.delete(timer)) timer[Symbol.dispose]();
      },
    };
  }

  /** Calls a part of the program and gives what it returns. */
  #run(what: string, f: () => unknown): unknown {
    if (this.#failed) return undefined;
    try {
      const result = f();
      if (result !== undefined) this.#returned(what, result);
      return result;
    } catch (e) {
      this.#fail(what, e);
      return undefined;
    }
  }

  /** A handler that returns a promise goes on by itself; how that ends is the device's affair, too. */
  #returned(what: string, result: unknown): void {
    if (!isPromise(result)) return;
    result.then(undefined, e => this.#fail(what, e));
    if (!this.#port.asynchronous) this.#fail(what, synchronous(this.#name, what));
  }

  #fail(what: string, e: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#dropTimers();
    this.#dma.end();
    const why = e instanceof Error ? `${e.name}: ${e.message}` : String(e);
    this.#port.failed({
      name: this.#name,
      message: `device ${this.#name} failed in ${what}: ${why.split('\n')[0]}`,
      stack: e instanceof Error ? e.stack : undefined,
    });
  }

  #dropTimers(): void {
    for (const t of this.#timers) t[Symbol.dispose]();
    this.#timers.clear();
  }

  #missing(what: string, field: string): never {
    throw new VmError('ERR_DEVICE', `${this.#name}: there is no ${what}`, {
      hint: `add it to '${field}' of definePciDevice()`,
      details: { device: this.#name },
    });
  }
}

function checkNumber(value: unknown): number {
  if (typeof value === 'number') return value;
  if (isPromise(value)) {
    // What becomes of it no longer matters, but nobody else will look.
    value.then(undefined, () => {});
    throw new TypeError('a read handler must return its number at once, not a promise');
  }
  throw new TypeError(`a read handler returned ${value === null ? 'null' : `a ${typeof value}`}, not a number`);
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as PromiseLike<unknown>).then === 'function';
}

function isAsync(f: unknown): boolean {
  return typeof f === 'function' && f.constructor.name === 'AsyncFunction';
}

function synchronous(device: string, what: string): VmError {
  return new VmError('ERR_DEVICE', `${device}: ${what} must be synchronous`, {
    hint: 'the guest waits for a closure on your thread: answer at once, or put the device into a module of its own',
    details: { device },
  });
}
