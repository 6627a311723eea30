import { type FileHandle, open } from 'node:fs/promises';
import type { WriteGate } from '../memory/memory-fork.ts';
import type { PinTable } from '../memory/pin-table.ts';
import type { Gpa, Region } from '../memory/types.ts';
import { WriteBack } from '../memory/write-back.ts';
import { VmError } from '../util/errors.ts';

/** The error for a file of memory that cannot be written. */
export function cannotWrite(path: string, cause: unknown): VmError {
  const { code: errno, message } = cause as NodeJS.ErrnoException;
  const full = errno === 'ENOSPC' || errno === 'EDQUOT';
  return new VmError(full ? 'ERR_DISK_FULL' : 'ERR_FILE_UNREADABLE', `cannot write ${path}: ${message}`, {
    hint: full ? 'make room, or write elsewhere' : 'name a file that you may write',
    cause,
    details: { path, errno },
  });
}

/** Writes all of `bytes` at a place of a file; zeros in a new file are holes already. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/** RAM in a file: the regions one after the other, holes between them left out. */
interface MemoryFile {
  readonly path: string;
  readonly file: FileHandle;
  readonly back: WriteBack;
  /** What was asked last; flushes and the close come one after the other. */
  last: Promise<unknown>;
  /** The file has no zeros yet that would have to be overwritten. */
  fresh: boolean;
}

/** The files that a machine's RAM is written back to, by number. */
export class MemoryFiles {
  readonly #pins: PinTable;
  readonly #gate: WriteGate;
  readonly #ram: readonly Region[];
  readonly #files = new Map<number, MemoryFile>();
  #next = 1;

  constructor(pins: PinTable, gate: WriteGate) {
    this.#pins = pins;
    this.#gate = gate;
    this.#ram = pins.memory.regions.filter(r => r.kind === 'ram');
  }

  /**
   * Makes the file, or empties it; what flush() writes is tracked from here on. @returns the file's number.
   * @throws VmError ERR_DISK_FULL, ERR_FILE_UNREADABLE; ERR_STATE when too many are open.
   */
  async open(path: string): Promise<number> {
    const back = new WriteBack(this.#pins, this.#gate);
    try {
      const file = await open(path, 'w');
      const number = this.#next++;
      this.#files.set(number, { path, file, back, last: Promise.resolve(), fresh: true });
      return number;
    } catch (e) {
      back[Symbol.dispose]();
      throw cannotWrite(path, e);
    }
  }

  /**
   * Brings the file up to date: with this moment's memory, all of it on the host's disk. When the host dies meanwhile, the file may
   * have pages of two moments.
   * @param limitMs how long short pins may take to go.
   * @returns pages written. @throws VmError ERR_PINNED, ERR_PIN_UNSUPPORTED, ERR_DISK_FULL, ERR_STATE.
   */
  flush(number: number, limitMs: number): Promise<number> {
    const f = this.#files.get(number);
    if (f === undefined) return Promise.reject(new VmError('ERR_STATE', 'this file of memory has been closed'));
    const flushed = f.last.then(async () => {
      const sink = async (base: Gpa, bytes: Uint8Array) => {
        if (f.fresh && bytes.every(b => b === 0)) return;
        try {
          await writeAll(f.file, bytes, this.#offset(base));
        } catch (e) {
          throw cannotWrite(f.path, e);
        }
      };
      const pages = await f.back.flush(sink, { timeoutMs: limitMs });
      f.fresh = false;
      try {
        await f.file.truncate(this.#ram.reduce((sum, r) => sum + r.size, 0));
        await f.file.sync();
      } catch (e) {
        throw cannotWrite(f.path, e);
      }
      return pages;
    });
    f.last = flushed.catch(() => undefined);
    return flushed;
  }

  /** Ends one; without a flush. */
  async close(number: number): Promise<void> {
    const f = this.#files.get(number);
    if (f === undefined) return;
    this.#files.delete(number);
    await f.last;
    f.back[Symbol.dispose]();
    await f.file.close();
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#files.keys()].map(n => this.close(n)));
  }

  #offset(base: Gpa): number {
    let at = 0;
    for (const r of this.#ram) {
      if (base >= r.base && base < r.base + r.size) return at + base - r.base;
      at += r.size;
    }
    throw new VmError('ERR_INTERNAL', `no RAM at ${base}`);
  }
}
