import type { AccessSize } from '../../../bus/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { Chain, VirtioDevice, VirtioHost, VirtQueue } from '../device.ts';
import { type Completion, type Disk, lengthOf, sliceParts } from './disk.ts';
import * as R from './regs.ts';

/** What a {@link VirtioBlk} is made of. */
export interface VirtioBlkOptions {
  readonly disk: Disk;
  /** Answer to GET_ID, /sys/block/vda/serial in Linux: at most 20 printable ASCII characters. */
  readonly serial?: string;
  /** Number of request queues, 1 to 64; without it one for each CPU, at most 4. */
  readonly queues?: number;
  /** The guest's CPUs, for the default of `queues`. */
  readonly cpus?: number;
  /** Told why a request ended with VIRTIO_BLK_S_IOERR, when the disk was the reason. */
  onError?(error: unknown): void;
}

/** Descriptors of a queue; two of a request's are its header and its status. */
const QUEUE_SIZE = 256;
/** More requests than this wait in their queue. Bounds what a guest can make the host keep. */
const MAX_IN_FLIGHT = 128;
/**
 * Bytes of an answer without data that are cleared. A chain may name the same memory a thousand times, 4 GiB in all, and clearing
 * that would keep the machine's thread for seconds.
 */
const MAX_CLEARED = 2 ** 20;
/** Sectors are 512 bytes; the host's page cache works in 4096, so smaller writes may cost a read. */
const PHYSICAL_BLOCK_EXP = 3;
/** 1 GiB a segment, so that discarding a whole disk takes few requests. */
const MAX_DISCARD_SECTORS = 2 ** 30 / R.SECTOR_SIZE;
const MAX_DISCARD_SEG = 16;
/** 64 MiB: a disk that has to write zeroes answers long before a driver's timeout. */
const MAX_WRITE_ZEROES_SECTORS = 2 ** 26 / R.SECTOR_SIZE;
const MAX_WRITE_ZEROES_SEG = 1;

/** A range of a discard or of zeroes, in bytes. */
interface Segment {
  readonly offset: number;
  readonly length: number;
  readonly unmap: boolean;
}

/**
 * virtio-blk, a disk (Virtual I/O Device 1.2, section 5.2). What the guest asks wrongly it gets back with an error
 * status and without an effect; only a request that has no room for a status cannot be answered and stops the device.
 */
export class VirtioBlk implements VirtioDevice {
  readonly name = 'virtio-blk';
  readonly type = R.VIRTIO_ID_BLOCK;
  readonly queueSizes: readonly number[];
  readonly features: bigint;
  readonly configSize = R.CONFIG_SIZE;

  readonly #disk: Disk;
  readonly #serial: Uint8Array;
  readonly #onError: ((error: unknown) => void) | undefined;
  readonly #config = new DataView(new ArrayBuffer(R.CONFIG_SIZE));

  #host: VirtioHost | undefined;
  /** The disk's requests that have not come back, of any driver. */
  #inFlight = 0;
  /** Queues that were left with requests because too many were in flight. */
  readonly #starved = new Set<VirtQueue>();
  /** A request could not be answered; nothing is processed until the reset. */
  #failed = false;
  /** reset() is waiting for the last request in flight. */
  #idle: (() => void) | undefined;

  /** @throws VmError ERR_USAGE for a serial or a number of queues that is out of range. */
  constructor(options: VirtioBlkOptions) {
    const { disk, serial = '', cpus = 1, queues = Math.min(cpus, 4) } = options;
    if (!/^[ -~]{0,20}$/.test(serial)) {
      throw new VmError('ERR_USAGE', `disk: the serial '${serial}' is not one that virtio can carry`, {
        hint: `use at most ${R.ID_SIZE} printable ASCII characters`,
      });
    }
    if (!Number.isInteger(queues) || queues < 1 || queues > 64) {
      throw new VmError('ERR_USAGE', `disk: ${queues} queues`, { hint: 'use 1 to 64' });
    }
    this.#disk = disk;
    this.#onError = options.onError?.bind(options);
    this.#serial = new Uint8Array(R.ID_SIZE);
    for (let i = 0; i < serial.length; i++) this.#serial[i] = serial.charCodeAt(i);
    this.queueSizes = new Array<number>(queues).fill(QUEUE_SIZE);
    this.features = featuresOf(disk);
    this.#fillConfig();
  }

  /** Requests that the disk has not finished: while there are some, the machine must let its event loop turn. */
  get inFlight(): number {
    return this.#inFlight;
  }

  readConfig(offset: number, size: AccessSize): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--)
      value = value * 256 + (offset + i < R.CONFIG_SIZE ? this.#config.getUint8(offset + i) : 0);
    return value;
  }

  /** Only `writeback` can be written (section 5.2.4). */
  writeConfig(offset: number, size: AccessSize, value: number): void {
    const byte = R.CONFIG_WRITEBACK - offset;
    if (byte >= 0 && byte < size) this.#config.setUint8(R.CONFIG_WRITEBACK, (value >>> (8 * byte)) & 1);
  }

  activate(host: VirtioHost): void {
    this.#host = host;
  }

  notify(index: number): void {
    const queue = this.#host?.queues[index];
    if (queue !== undefined && queue.size > 0 && this.#drain(queue)) queue.notifyDriver();
  }

  /** Whether there is a write cache is all that a driver changes. */
  save(): number {
    return this.#config.getUint8(R.CONFIG_WRITEBACK);
  }

  restore(state: unknown): void {
    this.#config.setUint8(R.CONFIG_WRITEBACK, state as number);
  }

  reset(): void | Promise<void> {
    this.#host = undefined;
    this.#failed = false;
    this.#starved.clear();
    this.#config.setUint8(R.CONFIG_WRITEBACK, 1);
    if (this.#inFlight === 0) return;
    return new Promise(resolve => {
      const earlier = this.#idle;
      this.#idle = () => {
        earlier?.();
        resolve();
      };
    });
  }

  #fillConfig(): void {
    const c = this.#config;
    c.setBigUint64(R.CONFIG_CAPACITY, BigInt(this.#disk.size / R.SECTOR_SIZE), true);
    c.setUint32(R.CONFIG_SEG_MAX, QUEUE_SIZE - 2, true);
    c.setUint32(R.CONFIG_BLK_SIZE, R.SECTOR_SIZE, true);
    c.setUint8(R.CONFIG_PHYSICAL_BLOCK_EXP, PHYSICAL_BLOCK_EXP);
    c.setUint16(R.CONFIG_MIN_IO_SIZE, 1 << PHYSICAL_BLOCK_EXP, true);
    const granularity = this.#disk.granularity / R.SECTOR_SIZE;
    c.setUint32(R.CONFIG_OPT_IO_SIZE, granularity, true);
    c.setUint8(R.CONFIG_WRITEBACK, 1);
    c.setUint16(R.CONFIG_NUM_QUEUES, this.queueSizes.length, true);
    if (this.#disk.readOnly) return;
    c.setUint32(R.CONFIG_MAX_DISCARD_SECTORS, MAX_DISCARD_SECTORS, true);
    c.setUint32(R.CONFIG_MAX_DISCARD_SEG, MAX_DISCARD_SEG, true);
    c.setUint32(R.CONFIG_DISCARD_SECTOR_ALIGNMENT, granularity, true);
    c.setUint32(R.CONFIG_MAX_WRITE_ZEROES_SECTORS, MAX_WRITE_ZEROES_SECTORS, true);
    c.setUint32(R.CONFIG_MAX_WRITE_ZEROES_SEG, MAX_WRITE_ZEROES_SEG, true);
    c.setUint8(R.CONFIG_WRITE_ZEROES_MAY_UNMAP, 1);
  }

  /**
   * Begins all the requests that there are, as far as the disk takes them. True when some were returned to the driver.
   */
  #drain(queue: VirtQueue): boolean {
    let returned = false;
    queue.setDriverNotifications(false);
    // As many as fit into the queue: what is read from the disk may go over the ring and make it look full again, without end.
    for (let n = 0; n < queue.size && !this.#failed; n++) {
      if (this.#inFlight >= MAX_IN_FLIGHT) {
        // Their completion looks into the queue again, so no notification is needed.
        this.#starved.add(queue);
        return returned;
      }
      let chain = queue.pop();
      if (chain === undefined) {
        // A request may have come after the last look and before the driver saw that it has to notify (section 2.6.10).
        queue.setDriverNotifications(true);
        chain = queue.pop();
        if (chain === undefined) return returned;
        queue.setDriverNotifications(false);
      }
      if (this.#begin(queue, chain)) returned = true;
    }
    queue.setDriverNotifications(true);
    return returned;
  }

  /** Begins one request. True when it is finished already. */
  #begin(queue: VirtQueue, chain: Chain): boolean {
    if (chain.writableLength === 0) {
      this.#failed = true;
      this.#host?.fail('virtio-blk: a request without room for its status');
      return false;
    }
    let outcome: number | Completion;
    try {
      outcome = this.#perform(chain);
    } catch (error) {
      outcome = this.#ioError(error);
    }
    if (typeof outcome === 'object') {
      this.#inFlight++;
      const host = this.#host;
      void outcome
        .then(
          () => R.VIRTIO_BLK_S_OK,
          error => this.#ioError(error),
        )
        .then(status => this.#finishLater(host, queue, chain, status));
      return false;
    }
    finish(queue, chain, outcome ?? R.VIRTIO_BLK_S_OK);
    return true;
  }

  #ioError(error: unknown): number {
    this.#onError?.(error);
    return R.VIRTIO_BLK_S_IOERR;
  }

  /** A request came back from the disk; its driver may be gone. */
  #finishLater(host: VirtioHost | undefined, queue: VirtQueue, chain: Chain, status: number): void {
    this.#inFlight--;
    if (this.#inFlight === 0) {
      this.#idle?.();
      this.#idle = undefined;
    }
    if (host !== this.#host) return;
    finish(queue, chain, status);
    const interrupted = new Set([queue]);
    const starved = [...this.#starved];
    this.#starved.clear();
    for (const q of starved) if (this.#drain(q)) interrupted.add(q);
    for (const q of interrupted) q.notifyDriver();
  }

  /** A status: that is the answer. Otherwise the disk does it. */
  #perform(chain: Chain): number | Completion {
    // The guest may change its memory at any time, so everything that is checked is copied first.
    const header = copyOf(chain.readable, 0, R.REQUEST_HEADER_SIZE);
    const answer = sliceParts(chain.writable, 0, chain.writableLength - 1);
    const type = header === undefined ? -1 : header.getUint32(0, true);
    // All that is in front of the status counts as written, so it is.
    if (type !== R.VIRTIO_BLK_T_IN && !clear(answer)) return R.VIRTIO_BLK_S_IOERR;
    if (header === undefined) return R.VIRTIO_BLK_S_IOERR;
    const sector = header.getUint32(12, true) * 2 ** 32 + header.getUint32(8, true);
    const disk = this.#disk;
    switch (type) {
      case R.VIRTIO_BLK_T_IN:
        if (!this.#inside(sector, chain.writableLength - 1)) return R.VIRTIO_BLK_S_IOERR;
        return disk.read(sector * R.SECTOR_SIZE, answer);
      case R.VIRTIO_BLK_T_OUT:
        return this.#write(sector, chain);
      case R.VIRTIO_BLK_T_FLUSH:
        return disk.readOnly ? R.VIRTIO_BLK_S_OK : disk.flush();
      case R.VIRTIO_BLK_T_GET_ID:
        copyInto(answer, this.#serial);
        return R.VIRTIO_BLK_S_OK;
      case R.VIRTIO_BLK_T_DISCARD:
        return this.#segments(chain, R.VIRTIO_BLK_F_DISCARD);
      case R.VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#segments(chain, R.VIRTIO_BLK_F_WRITE_ZEROES);
      default:
        return R.VIRTIO_BLK_S_UNSUPP;
    }
  }

  #write(sector: number, chain: Chain): number | Completion {
    const length = chain.readableLength - R.REQUEST_HEADER_SIZE;
    if (this.#disk.readOnly || !this.#inside(sector, length)) return R.VIRTIO_BLK_S_IOERR;
    const data = sliceParts(chain.readable, R.REQUEST_HEADER_SIZE, length);
    return this.#durable(this.#disk.write(sector * R.SECTOR_SIZE, data));
  }

  /** A discard or zeroes: all segments are checked before the first one is done (section 5.2.6.2). */
  #segments(chain: Chain, feature: number): number | Completion {
    if (this.#disk.readOnly) return R.VIRTIO_BLK_S_IOERR;
    if (!this.#host?.has(feature)) return R.VIRTIO_BLK_S_UNSUPP;
    const discard = feature === R.VIRTIO_BLK_F_DISCARD;
    const length = chain.readableLength - R.REQUEST_HEADER_SIZE;
    const limit = (discard ? MAX_DISCARD_SEG : MAX_WRITE_ZEROES_SEG) * R.SEGMENT_SIZE;
    if (length === 0 || length > limit || length % R.SEGMENT_SIZE !== 0) return R.VIRTIO_BLK_S_IOERR;
    const raw = copyOf(chain.readable, R.REQUEST_HEADER_SIZE, length)!;
    const segments: Segment[] = [];
    for (let at = 0; at < length; at += R.SEGMENT_SIZE) {
      const sector = raw.getUint32(at + 4, true) * 2 ** 32 + raw.getUint32(at, true);
      const sectors = raw.getUint32(at + 8, true);
      const flags = raw.getUint32(at + 12, true);
      // Unknown flags, and unmap where it means nothing.
      if (flags & ~(discard ? 0 : R.SEGMENT_UNMAP)) return R.VIRTIO_BLK_S_UNSUPP;
      if (sectors > (discard ? MAX_DISCARD_SECTORS : MAX_WRITE_ZEROES_SECTORS)) return R.VIRTIO_BLK_S_IOERR;
      const bytes = sectors * R.SECTOR_SIZE;
      if (!this.#inside(sector, bytes)) return R.VIRTIO_BLK_S_IOERR;
      segments.push({ offset: sector * R.SECTOR_SIZE, length: bytes, unmap: (flags & R.SEGMENT_UNMAP) !== 0 });
    }
    const disk = this.#disk;
    return this.#durable(
      forEach(segments, s =>
        discard ? disk.discard(s.offset, s.length) : disk.writeZeroes(s.offset, s.length, s.unmap),
      ),
    );
  }

  /** Whole sectors, all of them on the disk. */
  #inside(sector: number, length: number): boolean {
    return length % R.SECTOR_SIZE === 0 && sector + length / R.SECTOR_SIZE <= this.#disk.size / R.SECTOR_SIZE;
  }

  /**
   * Without a write cache a write is durable when it completes. The driver chooses with `writeback`, or by knowing how
   * to flush (section 5.2.5).
   */
  #durable(written: Completion): Completion {
    const host = this.#host;
    const cached = host?.has(R.VIRTIO_BLK_F_CONFIG_WCE)
      ? this.#config.getUint8(R.CONFIG_WRITEBACK) === 1
      : host?.has(R.VIRTIO_BLK_F_FLUSH);
    if (cached) return written;
    return written === undefined ? this.#disk.flush() : written.then(() => this.#disk.flush());
  }
}

function featuresOf(disk: Disk): bigint {
  const always = [
    R.VIRTIO_BLK_F_SEG_MAX,
    R.VIRTIO_BLK_F_BLK_SIZE,
    R.VIRTIO_BLK_F_FLUSH,
    R.VIRTIO_BLK_F_TOPOLOGY,
    R.VIRTIO_BLK_F_CONFIG_WCE,
    R.VIRTIO_BLK_F_MQ,
  ];
  const rest = disk.readOnly ? [R.VIRTIO_BLK_F_RO] : [R.VIRTIO_BLK_F_DISCARD, R.VIRTIO_BLK_F_WRITE_ZEROES];
  return [...always, ...rest].reduce((bits, f) => bits | (1n << BigInt(f)), 0n);
}

/** Puts the status into the last byte that the device may write and returns the request. */
function finish(queue: VirtQueue, chain: Chain, status: number): void {
  // What a failed read left is no data, but it counts as written (section 2.7.8.2), or else nothing does, as is allowed.
  const answer = sliceParts(chain.writable, 0, chain.writableLength - 1);
  const valid = status === R.VIRTIO_BLK_S_OK || clear(answer);
  sliceParts(chain.writable, chain.writableLength - 1, 1)[0]![0] = status;
  queue.push(chain, valid ? chain.writableLength : 0);
}

/** Clears an answer; false when it is longer than any that a driver asks for. */
function clear(answer: readonly Uint8Array[]): boolean {
  if (lengthOf(answer) > MAX_CLEARED) return false;
  for (const part of answer) part.fill(0);
  return true;
}

/** A private copy of `length` bytes, or undefined when there are fewer. */
function copyOf(parts: readonly Uint8Array[], offset: number, length: number): DataView | undefined {
  const copy = new Uint8Array(length);
  let at = 0;
  for (const slice of sliceParts(parts, offset, length)) {
    copy.set(slice, at);
    at += slice.length;
  }
  return at === length ? new DataView(copy.buffer) : undefined;
}

/** As much of `bytes` as fits. */
function copyInto(parts: readonly Uint8Array[], bytes: Uint8Array): void {
  let at = 0;
  for (const part of sliceParts(parts, 0, bytes.length)) {
    part.set(bytes.subarray(at, at + part.length));
    at += part.length;
  }
}

/** One after the other, without a promise as long as none is needed. */
function forEach<T>(items: readonly T[], action: (item: T) => Completion): Completion {
  for (const [i, item] of items.entries()) {
    const done = action(item);
    if (done !== undefined) return done.then(() => forEach(items.slice(i + 1), action));
  }
  return undefined;
}
