import type { ForkAnswer, ForkCall } from '../machine/machine.ts';
import { VmError } from '../util/errors.ts';

/** Asks the machine about one fork. */
export type AskFork = (call: ForkCall) => Promise<ForkAnswer>;

/**
 * A VM's memory as it was when `vm.memory.fork()` resolved, while the VM runs on. Pages are shared with it until one of the two
 * writes them. Everything rejects with VmError ERR_STATE after {@link close}, and when the VM has ended.
 */
export class MemoryImage implements AsyncDisposable {
  readonly #ask: AskFork;

  /** @internal */
  constructor(ask: AskFork) {
    this.#ask = ask;
  }

  /**
   * A copy of `length` bytes, 64 MiB at most, at a guest-physical address.
   * @throws VmError ERR_GUEST_ADDRESS for what is not wholly in memory, ERR_BAD_SIZE.
   */
  async read(address: number, length: number): Promise<Uint8Array> {
    return (await this.#ask({ act: 'read', base: address, length })) as Uint8Array;
  }

  /** Changes the image; the VM does not see it. @throws VmError ERR_GUEST_ADDRESS. */
  async write(address: number, bytes: Uint8Array): Promise<void> {
    // A copy: what the caller does with its bytes meanwhile must not matter, and a view may be of something much larger.
    await this.#ask({ act: 'write', base: address, bytes: Uint8Array.from(bytes) });
  }

  /** SHA-256 (hex) of all of it, as the event `memory` has that of a VM. */
  async hash(): Promise<string> {
    return (await this.#ask({ act: 'hash' })) as string;
  }

  /**
   * Writes all of it into a file: RAM from its first byte, regions one after the other, zeros as holes of the file.
   * @returns the length of the file, bytes. @throws VmError ERR_DISK_FULL, ERR_FILE_UNREADABLE.
   */
  async save(path: string): Promise<number> {
    return (await this.#ask({ act: 'save', path })) as number;
  }

  /** Bytes that have had to be copied so far. */
  async ownBytes(): Promise<number> {
    return (await this.#ask({ act: 'own' })) as number;
  }

  /** Gives the copies up. Once is enough, and it may come after the VM's end. */
  async close(): Promise<void> {
    try {
      await this.#ask({ act: 'close' });
    } catch (e) {
      if (!(e instanceof VmError && e.code === 'ERR_STATE')) throw e;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
