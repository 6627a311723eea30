/** The Worker's side of a device whose program is a closure on the user's thread. See inline-protocol.ts. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { AccessSize } from '../bus/types.ts';
import { DeviceFunction } from '../devices/kit/function.ts';
import { allOnes, type DeviceProgram } from '../devices/kit/program.ts';
import type { MemorySlots } from '../memory/types.ts';
import type { BuiltDevice, DeviceEnvironment } from './devices/build.ts';
import {
  type FromProgram,
  type InlineConfig,
  Mailbox,
  READ,
  READ64,
  RESET,
  SETUP,
  TIMER,
  type ToProgram,
  UNPLUG,
  WRITE,
  WRITE64,
} from './inline-protocol.ts';
import type { MachineEvents } from './machine.ts';

/** What a {@link RemoteProgram} needs of its machine. */
export type InlineEnvironment = Pick<DeviceEnvironment, 'pins' | 'clock'> & {
  readonly slots?: MemorySlots;
  readonly events: Pick<MachineEvents, 'wake'>;
};

/** Builds the device of an {@link InlineConfig}. */
export async function buildInlineDevice(config: InlineConfig, env: DeviceEnvironment): Promise<BuiltDevice> {
  return {
    name: config.name,
    function: createInlineFunction(config, env),
    close: async () => config.port.close(),
  };
}

/** The function of an {@link InlineConfig}; its program's setup has run on return. */
export function createInlineFunction(config: InlineConfig, env: InlineEnvironment): DeviceFunction {
  const f = new DeviceFunction(config.spec, config.name, env.slots);
  const program = new RemoteProgram(config, f, env);
  f.connect(program);
  program.start();
  return f;
}

/** A program on another thread. Each call is a question that this thread sleeps on. */
class RemoteProgram implements DeviceProgram {
  readonly #function: DeviceFunction;
  readonly #env: InlineEnvironment;
  readonly #port: MessagePort;
  readonly #mailbox: Mailbox;
  readonly #announce: () => void;
  readonly #timers = new Map<number, Disposable>();
  /** Messages that have been done. */
  #done = 0;
  #failed = false;

  constructor(config: InlineConfig, f: DeviceFunction, env: InlineEnvironment) {
    this.#function = f;
    this.#env = env;
    this.#port = config.port;
    this.#mailbox = new Mailbox(config.mailbox);
    this.#announce = () => this.#port.postMessage(null satisfies ToProgram);
    this.#port.on('message', (m: FromProgram) => {
      this.#do(m);
      env.events.wake?.();
    });
    // Of themselves, messages that might still come keep no machine alive.
    this.#port.unref();
  }

  start(): void {
    const { pins } = this.#env;
    const { regions } = pins.memory;
    const { memories } = this.#function;
    this.#port.postMessage({ type: 'attach', regions, pins: pins.share(), memories } satisfies ToProgram);
    this.#ask(SETUP);
  }

  read(bar: number, offset: number, size: AccessSize): number {
    const value = this.#ask(READ, bar, offset, size);
    return this.#failed ? allOnes(size) : value;
  }

  write(bar: number, offset: number, size: AccessSize, value: number): void {
    this.#ask(WRITE, bar, offset, size, value);
  }

  read64(bar: number, offset: number): bigint {
    this.#ask(READ64, bar, offset);
    return this.#failed ? 0xffff_ffff_ffff_ffffn : this.#mailbox.wide;
  }

  write64(bar: number, offset: number, value: bigint): void {
    this.#mailbox.wide = value;
    this.#ask(WRITE64, bar, offset);
  }

  reset(): void {
    this.#ask(RESET);
  }

  unplugged(): void {
    this.#ask(UNPLUG);
    this.#dropTimers();
  }

  masterChanged(allowed: boolean): void {
    this.#mailbox.config.set(this.#function.config.bytes);
    this.#mailbox.allowMaster(allowed);
  }

  /** The answer, after everything that the handler has asked for. */
  #ask(operation: number, bar?: number, offset?: number, size?: number, value?: number): number {
    if (this.#failed) return 0;
    this.#mailbox.config.set(this.#function.config.bytes);
    const answer = this.#mailbox.ask(this.#announce, operation, bar, offset, size, value);
    while (this.#done !== this.#mailbox.posted) {
      const received = receiveMessageOnPort(this.#port) as { message: FromProgram } | undefined;
      if (received === undefined) break;
      this.#do(received.message);
    }
    return answer;
  }

  #do(m: FromProgram): void {
    this.#done = (this.#done + 1) | 0;
    if (this.#failed) return;
    switch (m.type) {
      case 'trigger':
        this.#function.trigger(m.vector);
        break;
      case 'intx':
        this.#function.setIntx(m.level);
        break;
      case 'after':
        this.#after(m.id, m.ns);
        break;
      case 'cancel':
        this.#timers.get(m.id)?.[Symbol.dispose]();
        this.#timers.delete(m.id);
        break;
      case 'masterAborted':
        this.#function.masterAborted();
        break;
      case 'failed':
        this.#failed = true;
        this.#dropTimers();
        this.#function.setIntx(false);
        break;
    }
  }

  #after(id: number, ns: number): void {
    const { clock } = this.#env;
    const timer = clock.at(clock.nowNs() + ns, () => {
      this.#timers.delete(id);
      this.#ask(TIMER, id);
    });
    this.#timers.set(id, timer);
  }

  #dropTimers(): void {
    for (const t of this.#timers.values()) t[Symbol.dispose]();
    this.#timers.clear();
  }
}
