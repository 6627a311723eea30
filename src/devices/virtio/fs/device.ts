import type { AccessSize } from '../../../bus/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { Chain, VirtioDevice, VirtioHost, VirtQueue } from '../device.ts';
import type { FileServer } from './file-server.ts';
import { FuseSession } from './session.ts';

/** Bytes of the tag in the configuration (section 5.11.4). */
const TAG_SIZE = 36;
const NUM_REQUEST_QUEUES = 1;

/** What a {@link VirtioFs} is made of. */
export interface VirtioFsOptions {
  /** Name by which the guest mounts it: 1 to 36 bytes of UTF-8, no zero. */
  readonly tag: string;
  readonly server: FileServer;
}

/**
 * File system device (section 5.11): a high priority queue (0) and one request queue (1), which carry requests of the FUSE
 * protocol. There is no notification queue and no shared memory window (DAX).
 */
export class VirtioFs implements VirtioDevice {
  readonly name = 'virtio-fs';
  readonly type = 26;
  /** Linux asks for as many pages in a request as the queue has descriptors; 1024 leave room for the 1 MiB of max_write. */
  readonly queueSizes = [128, 1024];
  readonly features = 0n;
  /** tag and num_request_queues; notify_buf_size is there with VIRTIO_FS_F_NOTIFICATION only. */
  readonly configSize = TAG_SIZE + 4;
  readonly #config: DataView;
  readonly #session: FuseSession;
  #host: VirtioHost | undefined;
  /** Requests that still use guest memory. */
  readonly #pending = new Set<Promise<void>>();

  /** Whether the server works on requests. */
  get busy(): boolean {
    return this.#pending.size > 0;
  }

  /** @throws VmError ERR_USAGE for a tag that does not fit */
  constructor({ tag, server }: VirtioFsOptions) {
    const bytes = new TextEncoder().encode(tag);
    if (bytes.length < 1 || bytes.length > TAG_SIZE || bytes.includes(0)) {
      throw new VmError('ERR_USAGE', `'${tag}' cannot be the tag of a shared folder`, {
        hint: `Choose 1 to ${TAG_SIZE} bytes; the guest mounts it with: mount -t virtiofs TAG DIRECTORY`,
        details: { tag },
      });
    }
    // The tag is padded with zeroes, and ends without one if it takes all the room.
    const config = new Uint8Array(TAG_SIZE + 4);
    config.set(bytes);
    this.#config = new DataView(config.buffer);
    this.#config.setUint32(TAG_SIZE, NUM_REQUEST_QUEUES, true);
    this.#session = new FuseSession(server);
  }

  readConfig(offset: number, size: AccessSize): number {
    if (size === 4) return this.#config.getUint32(offset, true);
    return size === 2 ? this.#config.getUint16(offset, true) : this.#config.getUint8(offset);
  }

  /** All fields are read-only for the driver (section 5.11.4.1). */
  writeConfig(): void {}

  activate(host: VirtioHost): void {
    this.#host = host;
  }

  /** Both queues are served alike: what is on the high priority queue does not wait for the other one. */
  notify(index: number): void {
    const host = this.#host;
    const queue = host?.queues[index];
    if (host === undefined || queue === undefined) return;
    let answered = false;
    // As many as fit into the queue: an answer may go over the ring and make it look full again, without end.
    for (let n = 0; n < queue.size; n++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      const written = this.#session.handle(chain);
      if (typeof written === 'number') {
        queue.push(chain, written);
        answered = true;
      } else this.#finishLater(host, queue, chain, written);
    }
    if (answered) queue.notifyDriver();
  }

  reset(): void | Promise<void> {
    this.#host = undefined;
    this.#session.reset();
    if (this.#pending.size > 0) return Promise.all(this.#pending).then(() => undefined);
  }

  #finishLater(host: VirtioHost, queue: VirtQueue, chain: Chain, written: Promise<number>): void {
    const pending = written.then(bytes => {
      this.#pending.delete(pending);
      if (this.#host !== host) return; // a request from before the last reset
      queue.push(chain, bytes);
      queue.notifyDriver();
    });
    this.#pending.add(pending);
  }
}
