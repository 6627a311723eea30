/** The user's side of a device whose program is a closure. See inline-protocol.ts. */
import type { MessagePort } from 'node:worker_threads';
import type { AccessSize } from '../bus/types.ts';
import type { PciDeviceDefinition } from '../devices/kit/definition.ts';
import type { DmaPort } from '../devices/kit/dma.ts';
import { type DeviceFailure, RunningProgram } from '../devices/kit/program.ts';
import { createGuestMemory } from '../memory/guest-memory.ts';
import { PinTable } from '../memory/pin-table.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE, type PinInfo } from '../memory/pin-types.ts';
import { isMasterAbort } from '../pci/dma.ts';
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
  /** This thread's; attached before the program starts, and until the Worker closes the port. */
  #pins: PinTable | undefined;
  #memories: ReadonlyMap<number, Uint8Array> = new Map();
  #program: RunningProgram | undefined;
  #nextTimer = 1;

  constructor(options: InlineProgramOptions) {
    this.#options = options;
    this.#mailbox = new Mailbox(options.mailbox);
    options.port.on('message', (m: ToProgram) => {
      if (m === null) this.#answer();
      else {
        this.#pins = new PinTable({ memory: createGuestMemory(m.regions), state: m.pins });
        this.#memories = m.memories;
      }
    });
    options.port.on('close', () => this.#end());
    // The VM's Worker keeps the process alive, or nothing does.
    options.port.unref();
  }

  /** The machine is gone. What the program still does on its own finds no memory. */
  #end(): void {
    this.#mailbox.allowMaster(false);
    this.#pins?.detach();
    this.#pins = undefined;
  }

  /** What the device has pinned now. The Worker's table knows how much that is, and not of whom. */
  pins(): PinInfo[] {
    return this.#pins?.pins() ?? [];
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
        dma: this.#dmaPort(),
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

  /** What DmaGate is to a program in the Worker, over this thread's own table of pins. */
  #dmaPort(): DmaPort {
    const mailbox = this.#mailbox;
    const pins = this.#pins!;
    const owner = pins.owner(`${this.#options.name} DMA`);
    return {
      get mayMaster() {
        return mailbox.mayMaster;
      },
      borrow: (address, length, access, use) =>
        mailbox.whileMaster(() => {
          const bytes = pins.borrow(address, length, access);
          if (bytes !== undefined) return use(bytes);
          this.#post({ type: 'masterAborted' });
          return undefined;
        }),
      pin: (address, length, access, longterm) => {
        const flags = FOLL_PIN | (access === 'w' ? FOLL_WRITE : 0) | (longterm ? FOLL_LONGTERM : 0);
        const handle = mailbox.whileMaster(() => {
          const pinned = pins.tryPin(address, length, flags, owner);
          if (pinned === 0 && isMasterAbort(pins.lastErrno)) this.#post({ type: 'masterAborted' });
          return pinned;
        });
        return handle ?? 0;
      },
      pinned: handle => pins.view(handle),
      unpin: handle => {
        if (this.#pins !== undefined) pins.unpin(handle);
      },
    };
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
