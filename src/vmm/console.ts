import { Duplex } from 'node:stream';
import type { ConsoleMatch, Transcript } from './transcript.ts';
import { parseDuration } from './units.ts';

/** How long, and until when, to wait; see {@link VmConsole.waitFor}. */
export interface WaitOptions {
  /** Milliseconds, or a string such as '30s'. Default: no limit. */
  readonly timeout?: number | string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What the console needs from its Vm. */
export interface ConsoleBackend {
  /** Sends input to the guest; `done` is called when the guest has taken it, or when the guest has ended. */
  input(bytes: Uint8Array, done: () => void): void;
  /** This much output has found its reader. */
  consumed(bytes: number): void;
}

/** Output kept for a reader that may still come. */
const BACKLOG = 1024 * 1024;

/**
 * The guest's console as a Node stream: what the guest prints is readable, what is written becomes its input.
 *
 * A reader that falls behind holds the guest back. As long as nobody reads, the last 1 MiB is kept for a
 * later reader and the guest runs on. {@link waitFor} works with and without a reader. Ending the writable
 * side means nothing to the guest; the readable side ends when the guest does.
 */
export class VmConsole extends Duplex {
  readonly #backend: ConsoleBackend;
  readonly #transcript: Transcript;
  readonly #queue: Uint8Array[] = [];
  #queued = 0;
  /** Bytes of #queue for which the guest is being held back. */
  #held = 0;
  #wanted = false;
  #over = false;

  constructor(backend: ConsoleBackend, transcript: Transcript) {
    super({ allowHalfOpen: true, emitClose: true });
    this.#backend = backend;
    this.#transcript = transcript;
  }

  /** All text that the guest has printed, the last 4 Mi characters of it at least. */
  get text(): string {
    return this.#transcript.text;
  }

  /**
   * Waits until the guest has printed `pattern`. Each wait begins where the previous match ended, so text that came
   * before the call is never missed and one prompt is not found twice. Line ends are as the guest prints them (CR LF
   * from Linux). A match is at most 64 Ki characters long.
   *
   * @throws VmError ERR_TIMEOUT with the last lines of output; ERR_STATE when the guest ends first; ERR_USAGE for a bad
   *   timeout; the signal's reason when it is aborted.
   */
  async waitFor(pattern: string | RegExp, options: WaitOptions = {}): Promise<ConsoleMatch> {
    const { signal } = options;
    const ms = options.timeout === undefined ? Number.POSITIVE_INFINITY : parseDuration(options.timeout);
    signal?.throwIfAborted();
    const { match, cancel } = this.#transcript.wait(pattern);
    this.#release();
    const timer =
      ms > 0x7fff_ffff ? undefined : setTimeout(() => cancel(this.#transcript.timeoutError(pattern, ms)), ms);
    const onAbort = () => cancel(signal!.reason as Error);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await match;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Called by the Vm with output of the guest. @internal */
  receive(bytes: Uint8Array): void {
    this.#transcript.append(bytes);
    if (this.#over || this.destroyed) {
      this.#backend.consumed(bytes.length);
      return;
    }
    this.#queue.push(bytes);
    this.#queued += bytes.length;
    this.#held += bytes.length;
    if (this.#wanted) this.#flush();
    this.#release();
  }

  /** Called by the Vm when there will be no more output. @internal */
  finish(): void {
    this.#over = true;
    this.#release();
    if (this.#wanted) this.#flush();
  }

  override _read(): void {
    this.#wanted = true;
    this.#flush();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (e?: Error | null) => void): void {
    if (this.#over) done();
    // A copy: the sender may reuse its buffer as soon as `done` was called, or before.
    else this.#backend.input(new Uint8Array(chunk), done);
  }

  override _destroy(error: Error | null, done: (e?: Error | null) => void): void {
    this.#queue.length = 0;
    this.#queued = 0;
    this.#consume(this.#held);
    done(error);
  }

  #flush(): void {
    while (this.#wanted && this.#queue.length > 0) {
      const b = this.#queue.shift()!;
      this.#queued -= b.length;
      this.#consume(Math.min(b.length, Math.max(0, this.#held - this.#queued)));
      this.#wanted = this.push(Buffer.from(b.buffer, b.byteOffset, b.length));
    }
    if (this.#over && this.#queue.length === 0 && this.#wanted) {
      this.#wanted = false;
      this.push(null);
    }
  }

  /** Lets the guest run on where nobody is slow: without a reader, while someone waits for text, and at the end. */
  #release(): void {
    if (this.readableFlowing !== null && !this.#transcript.waiting && !this.#over) return;
    this.#consume(this.#held);
    if (this.readableFlowing !== null) return;
    while (this.#queued > BACKLOG) this.#queued -= this.#queue.shift()!.length;
  }

  #consume(n: number): void {
    if (n === 0) return;
    this.#held -= n;
    this.#backend.consumed(n);
  }
}
