import { VmError } from '../util/errors.ts';
import type { WaitOptions } from './console.ts';
import { parseDuration } from './units.ts';

/** What a {@link MemoryFile} asks of the machine. */
export interface MemoryFileCalls {
  flush(limitMs: number): Promise<number>;
  close(): Promise<void>;
}

/** A file that a VM's RAM is written back to: the regions of RAM one after the other. */
export class MemoryFile implements AsyncDisposable {
  readonly #calls: MemoryFileCalls;

  /** @internal */
  constructor(calls: MemoryFileCalls) {
    this.#calls = calls;
  }

  /**
   * Brings the file up to date and onto the host's disk: everything at first, then what has been written since. It is the memory of
   * one moment, while the VM runs on. Pages that a device has pinned for writing are written each time.
   * @param options.timeout how long requests of devices may take: 10 s unless told.
   * @returns how many pages of 4 KiB were written.
   * @throws VmError ERR_PINNED with `details.owners`, ERR_PIN_UNSUPPORTED, ERR_DISK_FULL, after which the next flush has what is
   *   missing; ERR_STATE after close() and when the VM has ended.
   */
  async flush(options: Pick<WaitOptions, 'timeout'> = {}): Promise<number> {
    return await this.#calls.flush(parseDuration(options.timeout ?? '10s'));
  }

  /** Ends it, as it was after the last flush. Once is enough, and it may come after the VM's end. */
  async close(): Promise<void> {
    try {
      await this.#calls.close();
    } catch (e) {
      if (!(e instanceof VmError && e.code === 'ERR_STATE')) throw e;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
