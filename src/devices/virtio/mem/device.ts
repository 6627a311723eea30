import type { AccessSize } from '../../../bus/types.ts';
import type { Gpa } from '../../../memory/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { Chain, VirtioDevice, VirtioHost } from '../device.ts';
import { gather, readBytes, Scatter } from '../pieces.ts';
import * as R from './regs.ts';

/** The memory that a {@link VirtioMem} lets come and go: the machine's table of pins, which knows what is in use. */
export interface PluggableMemory {
  /** Gives the guest [base, base + length), all of which is unplugged. Not done: somebody who was asked said no. */
  plug(base: Gpa, length: number): { readonly done: boolean };
  /**
   * Takes [base, base + length) away, parts of which may be unplugged already, and its memory goes back to the host. Not done, and
   * nothing changed: some of it is pinned.
   */
  unplug(base: Gpa, length: number): { readonly done: boolean };
}

/** Options of a {@link VirtioMem}. */
export interface VirtioMemOptions {
  /** Guest-physical address of the device-managed region, a multiple of the block size. All of it is unplugged. */
  readonly base: Gpa;
  /** Bytes of it, a multiple of the block size. */
  readonly size: number;
  readonly memory: PluggableMemory;
  /** Bytes of a block, a power of two; 2 MiB by default, the huge page of arm64 and x86-64. */
  readonly blockSize?: number;
}

/** Which blocks are plugged, and bytes that were requested. */
interface VirtioMemState {
  readonly blocks: Uint8Array;
  readonly requested: number;
}

/** What the memory of a block is to the guest. */
const UNPLUGGED = 0;
const PLUGGED = 1;

const QUEUE_SIZE = 128;
const BLOCK = 2 * 2 ** 20;

/**
 * The memory device of virtio 1.2 section 5.15: a region of guest-physical address space in blocks, of which the guest's driver plugs
 * and unplugs as many as the host asks for. All of the region is usable at any time; how much of it may be plugged is bounded by
 * what was requested. Unplugged blocks are out of reach, so the driver has to accept VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE.
 */
export class VirtioMem implements VirtioDevice {
  readonly name = 'virtio-mem';
  readonly type = R.VIRTIO_ID_MEM;
  readonly queueSizes = [QUEUE_SIZE];
  readonly features = 1n << BigInt(R.VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
  readonly configSize = R.CONFIG_SIZE;

  readonly #memory: PluggableMemory;
  readonly #base: Gpa;
  readonly #size: number;
  readonly #blockSize: number;
  /** State of each block. */
  readonly #blocks: Uint8Array;
  readonly #config = new Uint8Array(R.CONFIG_SIZE);
  readonly #request = new DataView(new ArrayBuffer(R.REQ_SIZE));
  readonly #response = new DataView(new ArrayBuffer(R.RESP_SIZE));
  #requested = 0;
  #plugged = 0;
  #host: VirtioHost | undefined;

  /** @throws VmError ERR_INTERNAL when the region is not whole blocks. */
  constructor({ base, size, memory, blockSize = BLOCK }: VirtioMemOptions) {
    if (base % blockSize !== 0 || size % blockSize !== 0 || !(size >= 0)) {
      throw new VmError('ERR_INTERNAL', `virtio-mem: ${size} bytes at 0x${base.toString(16)} are not whole blocks`);
    }
    this.#memory = memory;
    this.#base = base;
    this.#size = size;
    this.#blockSize = blockSize;
    this.#blocks = new Uint8Array(size / blockSize);
    this.#set(R.BLOCK_SIZE, blockSize);
    this.#set(R.ADDR, base);
    this.#set(R.REGION_SIZE, size);
    this.#set(R.USABLE_REGION_SIZE, size);
  }

  /** Bytes that the guest is asked to have plugged (requested_size). */
  get requested(): number {
    return this.#requested;
  }

  /**
   * Asks the driver to plug or unplug until so many bytes are plugged; it does so in its own time. Asking for the same once more
   * makes a driver try again at once that has met pinned blocks (Linux otherwise waits for up to 5 minutes).
   * @throws VmError ERR_BAD_SIZE when `bytes` is no whole number of blocks, negative, or more than the region has.
   */
  set requested(bytes: number) {
    if (!Number.isInteger(bytes / this.#blockSize) || bytes < 0 || bytes > this.#size) {
      const unit = this.#blockSize / 2 ** 20;
      throw new VmError('ERR_BAD_SIZE', `${bytes} bytes cannot be plugged`, {
        hint: `give a multiple of ${unit} MiB up to ${this.#size / 2 ** 20} MiB, which is what the VM was made with`,
        details: { requested: bytes, maximum: this.#size },
      });
    }
    this.#requested = bytes;
    this.#set(R.REQUESTED_SIZE, bytes);
    this.#host?.configChanged();
  }

  /** Bytes that are plugged (plugged_size). */
  get plugged(): number {
    return this.#plugged;
  }

  readConfig(offset: number, size: AccessSize): number {
    return readBytes(this.#config, offset, size);
  }

  writeConfig(): void {
    // All fields are read-only (section 5.15.4).
  }

  activate(host: VirtioHost): void {
    // Section 5.15.5: a device may fail to operate then. Unplugged memory cannot be read here, as such a driver expects.
    if (host.has(R.VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE)) this.#host = host;
    else host.fail('its driver does not know that unplugged memory is inaccessible');
  }

  notify(_index: number): void {
    const queue = this.#host?.queues[R.GUEST_REQUEST];
    if (queue === undefined) return;
    let answered = 0;
    // Not more than were waiting: a driver on another thread could go on adding.
    for (; answered < queue.size; answered++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      if (chain.writableLength < R.RESP_SIZE) {
        this.#host?.fail('a request without room for the response');
        return;
      }
      this.#answer(chain);
      queue.push(chain, R.RESP_SIZE);
    }
    if (answered > 0) queue.notifyDriver();
  }

  save(): VirtioMemState {
    return { blocks: this.#blocks.slice(), requested: this.#requested };
  }

  /** Plugs what was plugged; what is already stays. @throws VmError ERR_STATE when memory cannot be plugged. */
  restore(state: unknown): void {
    const { blocks, requested } = state as VirtioMemState;
    this.#requested = requested;
    this.#set(R.REQUESTED_SIZE, requested);
    for (const [n, s] of blocks.entries()) {
      if (s !== PLUGGED || this.#blocks[n] === PLUGGED) continue;
      if (!this.#memory.plug(...this.#range(n, n + 1)).done) {
        throw new VmError('ERR_STATE', 'virtio-mem: memory that was plugged cannot be plugged again');
      }
      this.#change(n, n + 1, PLUGGED);
    }
  }

  /** Forgets the driver. Blocks keep their state and contents (section 5.15.5). */
  reset(): void {
    this.#host = undefined;
  }

  /**
   * The machine is reset: everything is unplugged, but for blocks that a device of the host has pinned. What is requested stays, for
   * the driver that comes next.
   */
  systemReset(): void {
    if (this.#unplugAll() === R.VIRTIO_MEM_RESP_ACK) return;
    for (const [n, state] of this.#blocks.entries()) if (state === PLUGGED) this.#unplug(n, n + 1);
  }

  #answer(chain: Chain): void {
    const response = this.#response;
    response.setUint16(R.RESP_STATE, 0, true);
    const whole = gather(chain.readable, new Uint8Array(this.#request.buffer)) === R.REQ_SIZE;
    response.setUint16(0, whole ? this.#handle() : R.VIRTIO_MEM_RESP_ERROR, true);
    new Scatter(chain.writable).write(new Uint8Array(response.buffer));
  }

  /** Does what the request says and gives the type of the response; that of STATE has more, which is set. */
  #handle(): number {
    const request = this.#request;
    const type = request.getUint16(0, true);
    if (type === R.VIRTIO_MEM_REQ_UNPLUG_ALL) return this.#unplugAll();
    // Addresses that a double rounds are far outside of the region.
    const first = (Number(request.getBigUint64(R.REQ_ADDR, true)) - this.#base) / this.#blockSize;
    const count = request.getUint16(R.REQ_NB_BLOCKS, true);
    const end = first + count;
    if (!Number.isInteger(first) || count === 0 || first < 0 || end > this.#blocks.length) {
      return R.VIRTIO_MEM_RESP_ERROR;
    }
    switch (type) {
      case R.VIRTIO_MEM_REQ_PLUG:
        return this.#all(first, end, UNPLUGGED) ? this.#plug(first, end) : R.VIRTIO_MEM_RESP_ERROR;
      case R.VIRTIO_MEM_REQ_UNPLUG:
        return this.#all(first, end, PLUGGED) ? this.#unplug(first, end) : R.VIRTIO_MEM_RESP_ERROR;
      case R.VIRTIO_MEM_REQ_STATE:
        this.#response.setUint16(R.RESP_STATE, this.#state(first, end), true);
        return R.VIRTIO_MEM_RESP_ACK;
      default:
        return R.VIRTIO_MEM_RESP_ERROR;
    }
  }

  /** Blocks [first, end), all of which are unplugged. */
  #plug(first: number, end: number): number {
    const [base, length] = this.#range(first, end);
    // Section 5.15: beyond what is requested, requests to plug are rejected.
    if (this.#plugged + length > this.#requested) return R.VIRTIO_MEM_RESP_NACK;
    if (!this.#memory.plug(base, length).done) return R.VIRTIO_MEM_RESP_NACK;
    this.#change(first, end, PLUGGED);
    return R.VIRTIO_MEM_RESP_ACK;
  }

  /** Blocks [first, end), all of them or nothing. */
  #unplug(first: number, end: number): number {
    if (!this.#memory.unplug(...this.#range(first, end)).done) return R.VIRTIO_MEM_RESP_BUSY;
    this.#change(first, end, UNPLUGGED);
    return R.VIRTIO_MEM_RESP_ACK;
  }

  #unplugAll(): number {
    const first = this.#blocks.indexOf(PLUGGED);
    return first < 0 ? R.VIRTIO_MEM_RESP_ACK : this.#unplug(first, this.#blocks.lastIndexOf(PLUGGED) + 1);
  }

  #state(first: number, end: number): number {
    if (this.#all(first, end, PLUGGED)) return R.VIRTIO_MEM_STATE_PLUGGED;
    return this.#all(first, end, UNPLUGGED) ? R.VIRTIO_MEM_STATE_UNPLUGGED : R.VIRTIO_MEM_STATE_MIXED;
  }

  #all(first: number, end: number, state: number): boolean {
    return this.#blocks.subarray(first, end).every(s => s === state);
  }

  #range(first: number, end: number): [base: Gpa, length: number] {
    return [this.#base + first * this.#blockSize, (end - first) * this.#blockSize];
  }

  /** Section 5.15.4: of the size that is plugged the driver knows by itself, and is not told. */
  #change(first: number, end: number, state: number): void {
    this.#blocks.fill(state, first, end);
    this.#plugged = this.#blocks.reduce((sum, s) => sum + s, 0) * this.#blockSize;
    this.#set(R.PLUGGED_SIZE, this.#plugged);
  }

  #set(offset: number, value: number): void {
    new DataView(this.#config.buffer).setBigUint64(offset, BigInt(value), true);
  }
}
