/**
 * The seams of a virtio device (Virtual I/O Device 1.2): between the device and its transport, and between the device and its
 * queues. Devices see queues and configuration bytes; they know neither PCI nor the rings' format.
 */

import type { AccessSize } from '../../bus/types.ts';

/**
 * A descriptor chain that the driver has made available: a request (section 2.6.4). Its memory is pinned, by a short pin in its
 * queue's name, from pop() until push(), so that a device may use it over turns of the event loop; that unpop() keeps.
 */
export interface Chain {
  /** Guest RAM that the device reads, in order, without a copy. */
  readonly readable: readonly Uint8Array[];
  /** Guest RAM that the device writes, in order. */
  readonly writable: readonly Uint8Array[];
  /** Bytes of each in all. */
  readonly readableLength: number;
  readonly writableLength: number;
}

/** One virtqueue as its device sees it, split or packed. */
export interface VirtQueue {
  readonly index: number;
  /** Number of descriptors; 0 while the driver has not enabled the queue. */
  readonly size: number;
  /**
   * Takes the next request, or undefined when there is none. A chain that breaks the rules (a loop, an address outside RAM, a
   * length beyond the specification's) marks the device as needing a reset and gives undefined (section 2.1.1).
   */
  pop(): Chain | undefined;
  /**
   * Releases the guest memory of a popped chain before it is returned, for a device that is to do something to the pages
   * themselves. Its arrays must not be used from here on; push() is still due.
   */
  unpin(chain: Chain): void;
  /** Puts the last popped chain back; the next pop() gives it again. For devices that find no room for it. */
  unpop(chain: Chain): void;
  /**
   * Returns a request to the driver: `written` bytes of its writable part are valid. Requests may be returned in any order.
   * A chain from before the last reset is dropped. Its arrays must not be used from here on.
   */
  push(chain: Chain, written: number): void;
  /** Interrupts the driver for what was pushed, unless it asked not to be (section 2.6.7). Call once after a batch. */
  notifyDriver(): void;
  /** Asks the driver for notifications about new requests, or tells it that none are needed (section 2.6.10). */
  setDriverNotifications(wanted: boolean): void;
}

/** What the transport is to its device between DRIVER_OK and the next reset. */
export interface VirtioHost {
  /** As many as {@link VirtioDevice.queueSizes} has; those that the driver did not enable have size 0. */
  readonly queues: readonly VirtQueue[];
  /** Features that the driver accepted, the transport's among them. */
  readonly features: bigint;
  has(feature: number): boolean;
  /** Tells the driver that the device's configuration has changed (section 2.5). */
  configChanged(): void;
  /** The device cannot go on: DEVICE_NEEDS_RESET and a configuration interrupt (section 2.1.2). `why` goes to the log. */
  fail(why: string): void;
}

/** A virtio device without its transport. Everything is called on the machine's thread. */
export interface VirtioDevice {
  /** For people, e.g. 'virtio-blk'. */
  readonly name: string;
  /** Device ID of section 5. */
  readonly type: number;
  /** Maximum size of each queue, powers of two; the number of queues is its length. */
  readonly queueSizes: readonly number[];
  /** Device-type feature bits (0 to 23 and 50 to 63) that the device offers. */
  readonly features: bigint;
  /** Bytes of the device configuration. */
  readonly configSize: number;
  /** Reads `size` bytes at `offset` of the device configuration; the transport keeps accesses inside {@link configSize}. */
  readConfig(offset: number, size: AccessSize): number;
  writeConfig(offset: number, size: AccessSize, value: number): void;
  /** The driver is ready (DRIVER_OK): queues may be used from now on. */
  activate(host: VirtioHost): void;
  /**
   * The state that the driver can see beyond its features and queues, as plain data, while no request is under way; and such state
   * back, before {@link activate}. A device without them cannot be forked.
   */
  save?(): unknown;
  restore?(state: unknown): void;
  /** The driver has made requests available in queue `index`. Never called before activate(). */
  notify(index: number): void;
  /**
   * Forgets the driver. A promise when requests still use guest memory: the transport shows the reset as unfinished until it
   * resolves, so that the driver keeps the buffers (section 2.4.2), and they stay pinned. What was popped before must not be
   * pushed after.
   */
  reset(): void | Promise<void>;
}

// Feature bits that belong to transport and queues (section 6).
export const VIRTIO_F_INDIRECT_DESC = 28;
export const VIRTIO_F_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_ACCESS_PLATFORM = 33;
export const VIRTIO_F_RING_PACKED = 34;
export const VIRTIO_F_IN_ORDER = 35;
export const VIRTIO_F_ORDER_PLATFORM = 36;
export const VIRTIO_F_SR_IOV = 37;
export const VIRTIO_F_NOTIFICATION_DATA = 38;
export const VIRTIO_F_RING_RESET = 40;

// Device status (section 2.1).
export const STATUS_ACKNOWLEDGE = 1;
export const STATUS_DRIVER = 2;
export const STATUS_DRIVER_OK = 4;
export const STATUS_FEATURES_OK = 8;
export const STATUS_DEVICE_NEEDS_RESET = 64;
export const STATUS_FAILED = 128;
