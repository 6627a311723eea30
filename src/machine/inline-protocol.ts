/**
 * How a device whose program is a closure on the user's thread talks to its function in the machine Worker. The Worker asks by
 * the mailbox and sleeps until it is answered, since the guest's access is not over before; the program tells by messages.
 */
import type { MessagePort } from 'node:worker_threads';
import type { PciDeviceSpec } from '../devices/kit/definition.ts';
import type { PinTableState } from '../memory/shared-state.ts';
import type { Region } from '../memory/types.ts';

/** A device whose program stays on the user's thread, as the Worker gets it. `port` has to be transferred. */
export interface InlineConfig {
  readonly kind: 'inline';
  readonly name: string;
  readonly spec: PciDeviceSpec;
  readonly port: MessagePort;
  readonly mailbox: SharedArrayBuffer;
}

/** Worker to user. A question in the mailbox is announced by null. */
export type ToProgram =
  | null
  /** Comes first, once: what the program can reach without asking. All of it is shared. */
  | {
      readonly type: 'attach';
      readonly regions: readonly Region[];
      /** The program has a table of pins of its own, which shares this. */
      readonly pins: PinTableState;
      /** Bytes of the BARs of memory. */
      readonly memories: ReadonlyMap<number, Uint8Array>;
    };

/** User to Worker; done in order, those of a handler before the guest goes on. */
export type FromProgram =
  | { readonly type: 'trigger'; readonly vector: number }
  | { readonly type: 'intx'; readonly level: boolean }
  /** Ask for timer `id` in `ns` nanoseconds. */
  | { readonly type: 'after'; readonly id: number; readonly ns: number }
  | { readonly type: 'cancel'; readonly id: number }
  | { readonly type: 'masterAborted' }
  /** The program has failed and answers nothing any more. */
  | { readonly type: 'failed' };

/** What the Worker can ask. `bar` is the timer's id for TIMER. */
export const READ = 0;
export const WRITE = 1;
export const READ64 = 2;
export const WRITE64 = 3;
export const SETUP = 4;
export const TIMER = 5;
export const RESET = 6;
export const UNPLUG = 7;

// Words of the mailbox.
const STATE = 0;
const MASTER = 1;
const TRANSFER = 2;
const POSTED = 3;
const OPERATION = 4;
const BAR = 5;
const SIZE = 6;
/** Doubles, then a bigint, then the configuration space; bytes. */
const DOUBLES = 32;
const WIDE = 48;
const CONFIG = 64;
const CONFIG_BYTES = 4096;

const ASKED = 1;
const ANSWERED = 2;

/** The memory that both sides share: one question at a time, and what the program may look at between two. */
export class Mailbox {
  static readonly bytes = CONFIG + CONFIG_BYTES;
  /** The configuration space as of the last question or change of bus mastering. */
  readonly config: Uint8Array;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #wide: BigUint64Array;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared, 0, DOUBLES / 4);
    this.#doubles = new Float64Array(shared, DOUBLES, 2);
    this.#wide = new BigUint64Array(shared, WIDE, 1);
    this.config = new Uint8Array(shared, CONFIG, CONFIG_BYTES);
  }

  // --- The Worker's side. ---

  /** Asks and sleeps until the answer is there; `announce` wakes the other side. Values of 64 bits go by {@link wide}. */
  ask(announce: () => void, operation: number, bar = 0, offset = 0, size = 0, value = 0): number {
    const words = this.#words;
    words[OPERATION] = operation;
    words[BAR] = bar;
    words[SIZE] = size;
    this.#doubles[0] = offset;
    this.#doubles[1] = value;
    Atomics.store(words, STATE, ASKED);
    announce();
    while (Atomics.load(words, STATE) === ASKED) Atomics.wait(words, STATE, ASKED);
    return this.#doubles[1]!;
  }

  /** Says whether the program may reach the guest's memory. On return of `false` it no longer does. */
  allowMaster(allowed: boolean): void {
    Atomics.store(this.#words, MASTER, allowed ? 1 : 0);
    if (allowed) return;
    // A copy that has begun is as long as a memcpy.
    while (Atomics.load(this.#words, TRANSFER) !== 0) Atomics.wait(this.#words, TRANSFER, 1);
  }

  /** Messages that the program has posted so far, modulo 2^32. */
  get posted(): number {
    return Atomics.load(this.#words, POSTED);
  }

  // --- The user's side. ---

  /** The question; meaningful from its announcement to the answer. */
  get question(): { operation: number; bar: number; offset: number; size: number; value: number } {
    const [offset, value] = this.#doubles as unknown as [number, number];
    return { operation: this.#words[OPERATION]!, bar: this.#words[BAR]!, offset, size: this.#words[SIZE]!, value };
  }

  answer(value: number): void {
    this.#doubles[1] = value;
    Atomics.store(this.#words, STATE, ANSWERED);
    Atomics.notify(this.#words, STATE);
  }

  /** Whether the program may reach memory, at this moment. */
  get mayMaster(): boolean {
    return Atomics.load(this.#words, MASTER) === 1;
  }

  /** Runs `use` while the program may reach memory; otherwise gives undefined. */
  whileMaster<T>(use: () => T): T | undefined {
    const words = this.#words;
    // The flag goes up before the permission is looked at, and the Worker does the two the other way round.
    Atomics.store(words, TRANSFER, 1);
    try {
      return Atomics.load(words, MASTER) === 1 ? use() : undefined;
    } finally {
      Atomics.store(words, TRANSFER, 0);
      Atomics.notify(words, TRANSFER);
    }
  }

  /** One more message is in the port. */
  countPosted(): void {
    Atomics.add(this.#words, POSTED, 1);
  }

  // --- Both. ---

  get wide(): bigint {
    return this.#wide[0]!;
  }

  set wide(value: bigint) {
    this.#wide[0] = value;
  }
}
