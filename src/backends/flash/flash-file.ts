import * as fs from 'node:fs';
import type { FlashStore } from '../../devices/cfi-flash/device.ts';
import { VmError } from '../../util/errors.ts';
import { type ImageLock, lockImage } from '../disk/lock.ts';
import { CHUNK, imageError, openImage, readImage } from './image.ts';

/** What {@link FlashFile.open} opens. */
export interface FlashFileOptions {
  readonly path: string;
  /** The contents of the bank, all zeroes: they become those of the file, and ones behind its end (erased flash). */
  readonly bank: Uint8Array;
  /** One line for the host's user: the file could not be written. */
  log?(line: string): void;
  /** Node's write; tests put one in its place that fails. */
  readonly writeSync?: WriteSync;
}

/** Writes `length` bytes of `bytes` from `start` on to `position`; gives how many it did. */
export type WriteSync = (fd: number, bytes: Uint8Array, start: number, length: number, position: number) => number;

/** Host errors that are worth a line each. */
const LOGGED_ERRORS = 10;

/**
 * The file with the contents of a flash bank. Every change is written before the guest sees that it is done, and so
 * outlives this process however it ends; close() saves it from the end of the host, too. An erase that is cut short leaves
 * a part of its block as it was, as a power cut does, which the format of the guest's data is made for.
 *
 * The file grows when something is programmed behind its end. It is locked until close().
 */
export class FlashFile implements FlashStore {
  readonly #path: string;
  readonly #fd: number;
  readonly #lock: ImageLock;
  readonly #log: ((line: string) => void) | undefined;
  readonly #writeSync: WriteSync;
  /** Bytes. */
  #size: number;
  #errors = 0;
  #closed = false;

  private constructor(options: FlashFileOptions, fd: number, size: number, lock: ImageLock) {
    this.#path = options.path;
    this.#fd = fd;
    this.#size = size;
    this.#lock = lock;
    this.#log = options.log?.bind(options);
    this.#writeSync = options.writeSync ?? fs.writeSync;
  }

  /**
   * Opens and locks the file and reads it into the bank.
   * @throws VmError ERR_FILE_NOT_FOUND, ERR_FILE_IS_DIRECTORY, ERR_FILE_UNREADABLE, ERR_DOES_NOT_FIT when it is larger than
   *   the bank, ERR_DISK when it is in use.
   */
  static open(options: FlashFileOptions): FlashFile {
    const { path, bank } = options;
    const { fd, size } = openImage(path, 'flash', bank.length);
    let lock: ImageLock | undefined;
    try {
      lock = lockFile(path, fd);
      readImage(fd, bank);
      return new FlashFile(options, fd, size, lock);
    } catch (e) {
      lock?.release();
      fs.closeSync(fd);
      throw imageError(path, 'flash', e);
    }
  }

  write(offset: number, bytes: Uint8Array): boolean {
    try {
      this.#write(offset, bytes);
      return true;
    } catch (e) {
      const { code, message } = e as NodeJS.ErrnoException;
      if (++this.#errors <= LOGGED_ERRORS) {
        this.#log?.(`flash: ${this.#path} cannot be written (${code ?? message}); the guest sees an error`);
      }
      return false;
    }
  }

  /**
   * Makes everything durable and lets go of the file.
   * @throws VmError when the host cannot.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      fs.fsyncSync(this.#fd);
    } catch (e) {
      throw imageError(this.#path, 'flash', e);
    } finally {
      this.#lock.release();
      fs.closeSync(this.#fd);
    }
  }

  #write(offset: number, bytes: Uint8Array): void {
    // Erased already, and the file need not grow to say so.
    if (offset >= this.#size && bytes.every(b => b === 0xff)) return;
    if (offset > this.#size) {
      const erased = new Uint8Array(CHUNK).fill(0xff);
      while (this.#size < offset) this.#writeAll(this.#size, erased.subarray(0, offset - this.#size));
    }
    this.#writeAll(offset, bytes);
  }

  /** Hosts may write less than they were asked to. */
  #writeAll(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const count = this.#writeSync(this.#fd, bytes, done, bytes.length - done, offset + done);
      if (count === 0) throw new Error('the host wrote nothing');
      done += count;
      this.#size = Math.max(this.#size, offset + done);
    }
  }
}

function lockFile(path: string, fd: number): ImageLock {
  try {
    return lockImage(fs.realpathSync(path), fd);
  } catch (e) {
    if (!(e instanceof VmError)) throw e;
    // What the lock says names a disk.
    throw new VmError(e.code, e.message.replace(/^disk: /, 'flash: '), {
      hint: 'give each VM a file of its own: what one guest stores is not for another',
      cause: e,
      details: { ...e.details, option: 'flash' },
    });
  }
}
