import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { forkMemory, type MemoryFork, type WriteGate } from '../memory/memory-fork.ts';
import type { PinTable } from '../memory/pin-table.ts';
import type { Gpa } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import type { RamRegion } from './machine-fork.ts';
import { cannotWrite, writeAll } from './memory-files.ts';

/** What is asked of a fork. */
export type ForkCall =
  | { readonly act: 'read'; readonly base: Gpa; readonly length: number }
  | { readonly act: 'write'; readonly base: Gpa; readonly bytes: Uint8Array }
  | { readonly act: 'hash' | 'own' | 'close' }
  /** Into the memory of a machine that has the same regions. */
  | { readonly act: 'copy'; readonly to: readonly RamRegion[] }
  /** All of it into a file: the regions one after the other, holes left out, pages of zeros as holes of the file. */
  | { readonly act: 'save'; readonly path: string };

/** The answers: bytes that were read, the hash, or how many bytes are the fork's own. */
export type ForkAnswer = Uint8Array | string | number | undefined;

/** Bytes at a time; between two of them the guest runs. */
const CHUNK = 1 << 20;
/** The most that one read gives: it becomes a message. */
const MAX_READ = 64 << 20;

/** The forks of a machine's memory, by number. They end with the machine. */
export class MemoryForks {
  readonly #pins: PinTable;
  readonly #gate: WriteGate;
  readonly #forks = new Map<number, MemoryFork>();
  #next = 1;
  #closed = false;

  constructor(pins: PinTable, gate: WriteGate) {
    this.#pins = pins;
    this.#gate = gate;
  }

  /**
   * Forks memory, when its short pins are gone. @param limitMs how long to wait for that.
   * @param before see forkMemory(); memory is kept from everybody until it is done.
   * @returns the fork's number. @throws as forkMemory(); VmError ERR_STATE when the machine ends meanwhile.
   */
  async fork(limitMs: number, before?: () => Promise<void>): Promise<number> {
    const exclusive = before !== undefined;
    const fork = await forkMemory(this.#pins, this.#gate, { timeoutMs: limitMs, exclusive }, before);
    if (this.#closed) {
      fork.close();
      throw new VmError('ERR_STATE', 'the VM has ended');
    }
    this.#forks.set(this.#next, fork);
    return this.#next++;
  }

  /** @throws VmError ERR_STATE for a fork that is closed, ERR_GUEST_ADDRESS, ERR_BAD_SIZE, and what files of the host give. */
  async call(number: number, c: ForkCall): Promise<ForkAnswer> {
    const fork = this.#forks.get(number);
    if (fork === undefined) {
      if (c.act === 'close') return undefined;
      throw new VmError('ERR_STATE', 'this fork of memory has been closed');
    }
    switch (c.act) {
      case 'read': {
        if (!(c.length >= 0 && c.length <= MAX_READ)) {
          throw new VmError('ERR_BAD_SIZE', `${c.length} bytes at once`, { hint: `read at most ${MAX_READ} bytes` });
        }
        const bytes = new Uint8Array(c.length);
        fork.read(c.base, bytes);
        return bytes;
      }
      case 'write':
        fork.write(c.base, c.bytes);
        return undefined;
      case 'hash': {
        const hash = createHash('sha256');
        await this.#each(fork, bytes => void hash.update(bytes));
        return hash.digest('hex');
      }
      case 'copy':
        await this.#each(fork, (bytes, base) => {
          const to = c.to.find(r => base >= r.base && base + bytes.length <= r.base + r.bytes.length);
          // Memory that nobody has used yet is zeros already, and stays the host's.
          if (bytes.some(b => b !== 0)) to?.bytes.set(bytes, base - to.base);
        });
        return undefined;
      case 'own':
        return fork.ownBytes;
      case 'close':
        fork.close();
        this.#forks.delete(number);
        return undefined;
      case 'save':
        return await this.#save(fork, c.path);
    }
  }

  close(): void {
    this.#closed = true;
    for (const fork of this.#forks.values()) fork.close();
    this.#forks.clear();
  }

  async #save(fork: MemoryFork, path: string): Promise<number> {
    let file: FileHandle | undefined;
    let at = 0;
    try {
      file = await open(path, 'w');
      await this.#each(fork, async bytes => {
        if (bytes.some(b => b !== 0)) await writeAll(file!, bytes, at);
        at += bytes.length;
      });
      await file.truncate(at);
      await file.sync();
      return at;
    } catch (e) {
      throw e instanceof VmError ? e : cannotWrite(path, e);
    } finally {
      await file?.close();
    }
  }

  /** Calls `f` with all memory in order. `bytes` is used again for the next chunk. */
  async #each(fork: MemoryFork, f: (bytes: Uint8Array, base: Gpa) => void | Promise<void>): Promise<void> {
    const chunk = new Uint8Array(CHUNK);
    for (const { base, size } of this.#pins.memory.regions) {
      for (let at = 0; at < size; at += CHUNK) {
        const bytes = chunk.subarray(0, Math.min(CHUNK, size - at));
        fork.read(base + at, bytes);
        await f(bytes, base + at);
        await new Promise(resolve => setImmediate(resolve));
      }
    }
  }
}
