import * as fs from 'node:fs';
import { performance } from 'node:perf_hooks';
import { type Completion, lengthOf, sliceParts } from '../../devices/virtio/blk/disk.ts';
import { Pace } from './pace.ts';

/** What of Node's file system a {@link HostFile} uses; tests put a misbehaving one in its place. */
export type FileCalls = Pick<
  typeof fs,
  | 'readSync'
  | 'readvSync'
  | 'writeSync'
  | 'writevSync'
  | 'readv'
  | 'writev'
  | 'fsync'
  | 'fsyncSync'
  | 'fdatasync'
  | 'fdatasyncSync'
  | 'closeSync'
>;

/** How a {@link HostFile} works. */
export interface HostFileOptions {
  /** Every call is finished when it returns, flushes too. For machines whose runs are bit-identical. */
  readonly synchronous?: boolean;
  readonly calls?: FileCalls;
  /** Milliseconds, monotonic. */
  now?(): number;
}

/** Larger transfers always go to the thread pool. Bytes. */
const MAX_SYNC = 128 * 1024;
/** Bytes of one system call: a request of a guest may have 4 GiB, Node's limit is 2^31 - 1. */
const MAX_CALL = 64 * 1024 * 1024;
/** Transfers of one file that Node's thread pool, which has four threads and other work, gets at a time. */
const MAX_IN_FLIGHT = 16;
/** A call that is interrupted this often does not get through. */
const MAX_RETRIES = 100;

/**
 * An open file or block device with scattered reads and writes, which may be views of shared memory. Small transfers
 * are done in place, since the host's page cache answers in microseconds and a promise costs as much; when that turns
 * out slow, or for large ones, the thread pool does it (see {@link Pace}). Errors are Node's own.
 */
export class HostFile {
  readonly #fd: number;
  readonly #synchronous: boolean;
  readonly #fs: FileCalls;
  readonly #now: () => number;
  readonly #readPace = new Pace();
  readonly #writePace = new Pace();

  #inFlight = 0;
  /** Transfers that wait until fewer than MAX_IN_FLIGHT are at the thread pool. */
  readonly #waiting: (() => void)[] = [];
  /** close() waits for the last one in flight. */
  readonly #idle: (() => void)[] = [];
  /** End of the file as far as known; a write beyond changes metadata that fdatasync need not save on every host. */
  #end: number;
  #grew = false;
  #closed = false;
  /** Why the host could not make data durable: it may have dropped it, so no later sync() can promise anything. */
  #lost: unknown;

  /** Takes over `fd`; `end` is the file's size in bytes. */
  constructor(fd: number, end: number, options: HostFileOptions = {}) {
    this.#fd = fd;
    this.#end = end;
    this.#synchronous = options.synchronous ?? false;
    this.#fs = options.calls ?? fs;
    this.#now = options.now?.bind(options) ?? (() => performance.now());
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Fills `into` from `offset` on; what is behind the end of the file is 'zeroes' or an 'error'. */
  read(offset: number, into: readonly Uint8Array[], behindEnd: 'zeroes' | 'error' = 'zeroes'): Completion {
    const atEnd = behindEnd === 'zeroes' ? fillWithZeroes : fileTooShort;
    if (this.#inPlace(this.#readPace, lengthOf(into))) {
      return this.#timed(this.#readPace, () => this.#transferSync('read', offset, into, atEnd));
    }
    return this.#queue(() => this.#transfer('read', offset, into, atEnd));
  }

  /** As {@link read}, always in place: for small metadata. */
  readSync(offset: number, into: Uint8Array): void {
    if (this.#closed) throw new Error('the file is closed');
    this.#transferSync('read', offset, [into], fillWithZeroes);
  }

  write(offset: number, from: readonly Uint8Array[]): Completion {
    const length = lengthOf(from);
    if (offset + length > this.#end) {
      this.#end = offset + length;
      this.#grew = true;
    }
    if (this.#inPlace(this.#writePace, length)) {
      return this.#timed(this.#writePace, () => this.#transferSync('write', offset, from, wroteNothing));
    }
    return this.#queue(() => this.#transfer('write', offset, from, wroteNothing));
  }

  /**
   * Makes what was written durable. After one failure every later call fails too: kernels report an error once and
   * forget the data, so a second attempt would succeed without it.
   */
  sync(): Completion {
    if (this.#closed) throw new Error('the file is closed');
    if (this.#lost !== undefined) throw this.#lost;
    const grew = this.#grew;
    this.#grew = false;
    if (this.#synchronous) {
      try {
        if (grew) this.#fs.fsyncSync(this.#fd);
        else this.#fs.fdatasyncSync(this.#fd);
      } catch (error) {
        this.#lost = error;
        throw error;
      }
      return undefined;
    }
    return this.#queue(
      () =>
        new Promise((resolve, reject) => {
          const done = (error: Error | null) => {
            if (!error) return resolve();
            this.#lost = error;
            reject(error);
          };
          if (grew) this.#fs.fsync(this.#fd, done);
          else this.#fs.fdatasync(this.#fd, done);
        }),
    );
  }

  /** Waits for what is in flight and closes the file; later transfers throw. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#inFlight > 0) await new Promise<void>(resolve => this.#idle.push(resolve));
    this.#fs.closeSync(this.#fd);
  }

  #inPlace(pace: Pace, length: number): boolean {
    if (this.#closed) throw new Error('the file is closed');
    return this.#synchronous || (length <= MAX_SYNC && pace.mayBlock());
  }

  #timed(pace: Pace, action: () => void): undefined {
    if (this.#synchronous) {
      action();
      return;
    }
    const start = this.#now();
    try {
      action();
    } finally {
      pace.took(this.#now() - start);
    }
  }

  /** Runs `action` when a place at the thread pool is free. */
  async #queue(action: () => Promise<void>): Promise<void> {
    this.#inFlight++;
    try {
      if (this.#inFlight > MAX_IN_FLIGHT) await new Promise<void>(resolve => this.#waiting.push(resolve));
      await action();
    } finally {
      this.#inFlight--;
      this.#waiting.shift()?.();
      if (this.#inFlight === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  /** Hosts may transfer less than they were asked to: a signal, the end of the file, more parts than IOV_MAX. */
  #transferSync(kind: 'read' | 'write', offset: number, parts: readonly Uint8Array[], atEnd: AtEnd): void {
    const length = lengthOf(parts);
    let retries = 0;
    for (let done = 0; done < length; ) {
      const rest = done === 0 && length <= MAX_CALL ? parts : sliceParts(parts, done, MAX_CALL);
      let count: number;
      try {
        count = this.#callSync(kind, offset + done, rest);
      } catch (error) {
        if (isTransient(error) && ++retries < MAX_RETRIES) continue;
        throw error;
      }
      if (count === 0) {
        atEnd(sliceParts(parts, done, length - done));
        return;
      }
      done += count;
    }
  }

  #callSync(kind: 'read' | 'write', offset: number, parts: readonly Uint8Array[]): number {
    const only = parts.length === 1 ? parts[0] : undefined;
    if (kind === 'read') {
      if (only !== undefined) return this.#fs.readSync(this.#fd, only, 0, only.length, offset);
      return this.#fs.readvSync(this.#fd, parts, offset);
    }
    if (only !== undefined) return this.#fs.writeSync(this.#fd, only, 0, only.length, offset);
    return this.#fs.writevSync(this.#fd, parts, offset);
  }

  async #transfer(kind: 'read' | 'write', offset: number, parts: readonly Uint8Array[], atEnd: AtEnd): Promise<void> {
    const length = lengthOf(parts);
    let retries = 0;
    for (let done = 0; done < length; ) {
      const rest = done === 0 && length <= MAX_CALL ? parts : sliceParts(parts, done, MAX_CALL);
      let count: number;
      try {
        count = await this.#call(kind, offset + done, rest);
      } catch (error) {
        if (isTransient(error) && ++retries < MAX_RETRIES) continue;
        throw error;
      }
      if (count === 0) {
        atEnd(sliceParts(parts, done, length - done));
        return;
      }
      done += count;
    }
  }

  #call(kind: 'read' | 'write', offset: number, parts: readonly Uint8Array[]): Promise<number> {
    return new Promise((resolve, reject) => {
      const done = (error: Error | null, count: number) => (error ? reject(error) : resolve(count));
      if (kind === 'read') this.#fs.readv(this.#fd, parts, offset, done);
      else this.#fs.writev(this.#fd, parts, offset, done);
    });
  }
}

/** What to do when a call transfers no more bytes, with the parts that are left. */
type AtEnd = (rest: readonly Uint8Array[]) => void;

function fillWithZeroes(rest: readonly Uint8Array[]): void {
  for (const part of rest) part.fill(0);
}

function fileTooShort(): never {
  throw new Error('the file is shorter than it was');
}

function wroteNothing(): never {
  throw new Error('the host wrote nothing');
}

function isTransient(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EINTR' || code === 'EAGAIN';
}
