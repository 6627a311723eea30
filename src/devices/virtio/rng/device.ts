import type { AccessSize } from '../../../bus/types.ts';
import type { VirtioDevice, VirtioHost } from '../device.ts';
import { Scatter } from '../pieces.ts';

/** What a {@link VirtioRng} is connected to. */
export interface VirtioRngOptions {
  /** Fills all of `into`, which is plain memory of at most 4 KiB, with random bytes. */
  fill(into: Uint8Array): void;
}

/**
 * Requests that may wait. With {@link LONGEST_ANSWER} it bounds what one notification can cost: 512 KiB of random bytes,
 * milliseconds even for a source made of hashes.
 */
const QUEUE_SIZE = 8;
/** Bytes that one request gets at most; drivers must cope with less than they asked for (section 5.4.6.1). */
const LONGEST_ANSWER = 64 * 1024;

/** The entropy device of virtio 1.2 section 5.4: one queue of buffers, returned full of random bytes. */
export class VirtioRng implements VirtioDevice {
  readonly name = 'virtio-rng';
  readonly type = 4;
  readonly queueSizes = [QUEUE_SIZE];
  readonly features = 0n;
  readonly configSize = 0;
  readonly #fill: (into: Uint8Array) => void;
  /** Random sources of the host refuse memory that is shared, as guest RAM is. */
  readonly #bounce = new Uint8Array(4096);
  #host: VirtioHost | undefined;

  constructor(options: VirtioRngOptions) {
    this.#fill = into => options.fill(into);
  }

  readConfig(_offset: number, _size: AccessSize): number {
    return 0;
  }

  writeConfig(_offset: number, _size: AccessSize, _value: number): void {}

  activate(host: VirtioHost): void {
    this.#host = host;
  }

  /** It has none. */
  save(): undefined {
    return undefined;
  }

  reset(): void {
    this.#host = undefined;
  }

  notify(_index: number): void {
    const queue = this.#host?.queues[0];
    if (queue === undefined) return;
    let answered = 0;
    // Not more than were waiting: a driver on another thread could go on adding.
    for (; answered < queue.size; answered++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      queue.push(chain, this.#answer(chain.writable, Math.min(chain.writableLength, LONGEST_ANSWER)));
    }
    if (answered > 0) queue.notifyDriver();
  }

  #answer(writable: readonly Uint8Array[], length: number): number {
    const out = new Scatter(writable);
    for (let done = 0; done < length; ) {
      const part = this.#bounce.subarray(0, Math.min(this.#bounce.length, length - done));
      this.#fill(part);
      done += out.write(part);
    }
    // Numbers that went to a guest are nobody else's to see.
    this.#bounce.fill(0);
    return length;
  }
}
