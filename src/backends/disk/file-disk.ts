import { type Completion, type Disk, lengthOf } from '../../devices/virtio/blk/disk.ts';
import type { HostFile } from './host-file.ts';
import type { ImageLock } from './lock.ts';
import { InFlight, repeat } from './sequence.ts';

/** 64 KiB of zeroes; nobody writes to it. */
export const ZEROES: Uint8Array = new Uint8Array(64 * 1024);
/** Bytes of zeroes that one call writes. */
const ZEROES_AT_ONCE = 1024 * 1024;

/** As many views of {@link ZEROES} as make `length` bytes. */
export function zeroes(length: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let left = length; left > 0; left -= ZEROES.length) parts.push(ZEROES.subarray(0, left));
  return parts;
}

/** A raw image, or a block device of the host: byte n of the disk is byte n of the file. */
export class FileDisk implements Disk {
  readonly size: number;
  readonly readOnly: boolean;
  /** Blocks of usual file systems and of the page cache. */
  readonly granularity = 4096;
  readonly #file: HostFile;
  readonly #lock: ImageLock | undefined;
  readonly #requests = new InFlight();

  /** Takes over `file`, of `size` bytes, and `lock`. Without a lock the disk is read-only. */
  constructor(file: HostFile, size: number, lock?: ImageLock) {
    this.#file = file;
    this.size = size;
    this.readOnly = lock === undefined;
    this.#lock = lock;
  }

  get inFlight(): number {
    return this.#requests.count;
  }

  read(offset: number, into: readonly Uint8Array[]): Completion {
    return this.#requests.track(this.#file.read(offset, into));
  }

  write(offset: number, from: readonly Uint8Array[]): Completion {
    // The device sees to it; this is what stands between a fault there and a file that grows.
    if (offset + lengthOf(from) > this.size) throw new RangeError('write behind the end of the disk');
    return this.#requests.track(this.#file.write(offset, from));
  }

  flush(): Completion {
    return this.readOnly ? undefined : this.#requests.track(this.#file.sync());
  }

  /** Nothing: Node has no call that gives a file's blocks back. */
  discard(): undefined {}

  writeZeroes(offset: number, length: number): Completion {
    const end = offset + length;
    let at = offset;
    const written = repeat(() => {
      if (at >= end) return 'end';
      const count = Math.min(end - at, ZEROES_AT_ONCE);
      at += count;
      return this.write(at - count, zeroes(count));
    });
    return this.#requests.track(written);
  }

  async close(): Promise<void> {
    await this.#requests.idle();
    try {
      await this.flush();
    } finally {
      await this.#file.close();
      this.#lock?.release();
    }
  }
}
