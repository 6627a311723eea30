/** The user's side of a device whose program is a closure. See inline-protocol.ts. */
import type { MessagePort } from 'node:worker_threads';
import type { AccessSize } from '../bus/types.ts';
import type { PciDeviceDefinition } from '../devices/kit/definition.ts';
import { type DeviceFailure, RunningProgram } from '../devices/kit/program.ts';
import { createGuestMemory } from '../memory/guest-memory.ts';
import type { GuestMemory } from '../memory/types.ts';
import {
  type FromProgram,
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

/** What an {@link InlineProgram} is connected to. */
export interface InlineProgramOptions {
  readonly name: string;
  readonly definition: PciDeviceDefinition;
  readonly options: Readonly<Record<string, unknown>>;
  readonly port: MessagePort;
  readonly mailbox: SharedArrayBuffer;
  /** Called after each message: the Worker may be asleep. */
  wake(): void;
  log(line: string): void;
  failed(failure: DeviceFailure): void;
}

/** Runs a device's program on this thread and answers the Worker's questions with it. */
export class InlineProgram {
  readonly #options: InlineProgramOptions;
  readonly #mailbox: Mailbox;
  readonly #timers = new Map<number, () => void>();
  #memory: GuestMemory = createGuestMemory([]);
  #memories: ReadonlyMap<number, Uint8Array> = new Map();
  #program: RunningProgram | undefined;
  #nextTimer = 1;

  constructor(options: InlineProgramOptions) {
    this.#options = options;
    this.#mailbox = new Mailbox(options.mailbox);
    options.port.on('message', (m: ToProgram) => {
      if (m === null) this.#answer();
      else {
        this.#memory = createGuestMemory(m.regions);
        this.#memories = m.memories;
      }
    });
    // The VM's Worker keeps the process alive, or nothing does.
    options.port.unref();
  }

  #answer(): void {
    let value = 0;
    try {
      value = this.#call();
    } finally {
      this.#mailbox.answer(value);
    }
  }

  /** Does what the question asks for; the answer, if it is a number. */
  #call(): number {
    const { operation, bar, offset, size, value } = this.#mailbox.question;
    if (operation === SETUP) this.#program = this.#start();
    const program = this.#program!;
    switch (operation) {
      case READ:
        return program.read(bar, offset, size as AccessSize);
      case WRITE:
        program.write(bar, offset, size as AccessSize, value);
        break;
      case READ64:
        this.#mailbox.wide = program.read64(bar, offset);
        break;
      case WRITE64:
        program.write64(bar, offset, this.#mailbox.wide);
        break;
      case TIMER: {
        const f = this.#timers.get(bar);
        this.#timers.delete(bar);
        f?.();
        break;
      }
      case RESET:
        program.reset();
        break;
      case UNPLUG:
        program.unplugged();
        break;
    }
    return 0;
  }

  #start(): RunningProgram {
    const mailbox = this.#mailbox;
    const { name, definition, options, log, failed } = this.#options;
    const config = new DataView(mailbox.config.buffer, mailbox.config.byteOffset, mailbox.config.length);
    return new RunningProgram(
      definition,
      {
        name,
        // The guest is held up by this thread, not by what this thread waits for.
        asynchronous: false,
        trigger: vector => this.#post({ type: 'trigger', vector }),
        setIntx: level => this.#post({ type: 'intx', level }),
        dma: (address, length, access, use) =>
          mailbox.whileMaster(() => {
            const bytes = this.#reach(address, length, access);
            if (bytes !== undefined) return use(bytes);
            this.#post({ type: 'masterAborted' });
            return undefined;
          }),
        configRead: (offset, size) => {
          if (size === 4) return config.getUint32(offset, true);
          return size === 2 ? config.getUint16(offset, true) : config.getUint8(offset);
        },
        memory: bar => this.#memories.get(bar)!,
        after: (ns, f) => this.#after(ns, f),
        log,
        failed: failure => {
          this.#post({ type: 'failed' });
          failed(failure);
        },
      },
      options,
    );
  }

  /** As PciFunction.dma(): one region of memory, no writes into ROM. */
  #reach(address: number, length: number, access: 'r' | 'w'): Uint8Array | undefined {
    const { regions } = this.#memory;
    const rom = regions.some(r => r.kind === 'rom' && address < r.base + r.size && address + length > r.base);
    return access === 'w' && rom ? undefined : this.#memory.view(address, length);
  }

  #after(ns: number, f: () => void): Disposable {
    const id = this.#nextTimer++;
    this.#timers.set(id, f);
    this.#post({ type: 'after', id, ns });
    return {
      [Symbol.dispose]: () => {
        if (this.#timers.delete(id)) this.#post({ type: 'cancel', id });
      },
    };
  }

  #post(m: FromProgram): void {
    this.#options.port.postMessage(m);
    this.#mailbox.countPosted();
    this.#options.wake();
  }
}
