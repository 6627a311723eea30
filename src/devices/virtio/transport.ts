import type { AccessSize } from '../../bus/types.ts';
import type { PinOwner } from '../../memory/pin-types.ts';
import { VmError } from '../../util/errors.ts';
import type { RingState } from './chain.ts';
import * as V from './device.ts';
import type { GuestRam } from './guest-ram.ts';
import { Queue } from './queue.ts';

/** Feature that every legacy driver should accept: no assumption about how requests are cut (section 6.3). */
const VIRTIO_F_ANY_LAYOUT = 27;

/** Bits of the device status that a driver writes; DEVICE_NEEDS_RESET is the device's. */
const DRIVER_STATUS =
  V.STATUS_ACKNOWLEDGE | V.STATUS_DRIVER | V.STATUS_DRIVER_OK | V.STATUS_FEATURES_OK | V.STATUS_FAILED;

/** Lines that one device may write into the log: a guest can make it fail again and again. */
const MAX_LOG_LINES = 16;

/** What a {@link VirtioTransport} needs from the bus that it is on. */
export interface TransportOptions {
  readonly device: V.VirtioDevice;
  /** For the log. */
  readonly name: string;
  readonly ram: GuestRam;
  /** The holder of that name of pins. Called when queues are made: never before a driver has reached the device. */
  pinOwner(name: string): PinOwner;
  /** Whether packed virtqueues are offered. */
  readonly packed: boolean;
  interruptQueue(index: number): void;
  interruptConfig(): void;
  /** The device has been reset: registers of the bus's own go back to their initial values. */
  registersReset(): void;
  log(line: string): void;
}

/** The registers of one virtqueue, as the driver has set them. */
export interface QueueRegisters {
  readonly index: number;
  readonly maxSize: number;
  size: number;
  /** Descriptor, driver and device area: the low and the high half of each address. */
  readonly areas: Uint32Array;
  enabled: boolean;
  /** A reset of the queue has begun and is not finished. */
  resetting: boolean;
}

/** A virtio device's state on any bus. */
export interface VirtioTransportState {
  readonly accepted: bigint;
  readonly status: number;
  readonly legacy: boolean;
  readonly generation: number;
  readonly changed: boolean;
  readonly registers: readonly Readonly<QueueRegisters>[];
  /** How far each queue is; undefined for one that is not in use. */
  readonly rings: readonly (RingState | undefined)[];
  readonly device: unknown;
}

/** The numbers of the bits in `bits`, as a set of features. */
const features = (...bits: number[]): bigint => bits.reduce((set, b) => set | (1n << BigInt(b)), 0n);

/**
 * What is the same of a virtio device on any bus (virtio 1.2 chapters 2 and 3): features, status, configuration, the queues'
 * registers and life cycle. A device's exception is a bug of ours that the guest may have provoked: it costs the guest this
 * device until it resets it, not the machine.
 */
export class VirtioTransport {
  readonly registers: readonly QueueRegisters[];
  /** Features that are offered to drivers of version 1, and to legacy ones. */
  readonly offered: bigint;
  readonly offeredLegacy: bigint;
  readonly #o: TransportOptions;
  readonly #device: V.VirtioDevice;
  #accepted = 0n;
  #status = 0;
  /** The driver uses the legacy interface. */
  #legacy = false;
  #queues: Queue[] = [];
  /** What the device was activated with. */
  #host: V.VirtioHost | undefined;
  #resetting: Promise<void> | undefined;
  /** Status to show while a reset is unfinished. */
  #shown = 0;
  #generation = 0;
  /** The configuration has changed since the driver last read any of it. */
  #changed = false;
  #lines = 0;
  /** Always the same function: whoever waits twice for pins is told once. */
  readonly #again = () => this.resume();

  constructor(o: TransportOptions) {
    this.#o = o;
    this.#device = o.device;
    this.registers = o.device.queueSizes.map((maxSize, index) => ({
      index,
      maxSize,
      size: maxSize,
      areas: new Uint32Array(6),
      enabled: false,
      resetting: false,
    }));
    const rings = features(V.VIRTIO_F_INDIRECT_DESC, V.VIRTIO_F_EVENT_IDX);
    const modern = features(V.VIRTIO_F_VERSION_1, V.VIRTIO_F_NOTIFICATION_DATA, V.VIRTIO_F_RING_RESET);
    this.offered = o.device.features | rings | modern | (o.packed ? features(V.VIRTIO_F_RING_PACKED) : 0n);
    this.offeredLegacy = (o.device.features & 0xffff_ffffn) | rings | features(VIRTIO_F_ANY_LAYOUT);
  }

  /** Features that the driver has accepted so far. */
  get accepted(): bigint {
    return this.#accepted;
  }

  /** Device status; not 0 before a reset is finished (section 2.4.2). */
  get status(): number {
    return this.#status === 0 && this.#resetting !== undefined ? this.#shown : this.#status;
  }

  /** Device status for legacy drivers, which do not wait for a reset (section 2.4). */
  get legacyStatus(): number {
    return this.#status;
  }

  has(feature: number): boolean {
    return ((this.#accepted >> BigInt(feature)) & 1n) === 1n;
  }

  /** Accepts features: bits 32 * window to 32 * window + 31 are `value`. Too late once FEATURES_OK or DRIVER_OK is set. */
  accept(window: number, value: number): void {
    if (window > 1 || (this.#status & (V.STATUS_FEATURES_OK | V.STATUS_DRIVER_OK)) !== 0) return;
    const shift = BigInt(32 * window);
    this.#accepted = (this.#accepted & ~(0xffff_ffffn << shift)) | (BigInt(value >>> 0) << shift);
  }

  /**
   * A write to the device status (section 2.1): 0 resets. Bits are set and never cleared; FEATURES_OK stays 0 when the device
   * cannot go along with the features, and DRIVER_OK without it means nothing.
   * @param legacy by the legacy interface, which has no FEATURES_OK.
   */
  writeStatus(value: number, legacy: boolean): void {
    if (value === 0) {
      void this.reset();
      return;
    }
    let set = value & DRIVER_STATUS & ~this.#status;
    if (legacy) set &= ~V.STATUS_FEATURES_OK;
    else if ((set & V.STATUS_FEATURES_OK) !== 0 && !this.#agreed()) set &= ~V.STATUS_FEATURES_OK;
    if (!legacy && ((this.#status | set) & V.STATUS_FEATURES_OK) === 0) set &= ~V.STATUS_DRIVER_OK;
    this.#status |= set;
    if ((set & V.STATUS_DRIVER_OK) === 0) return;
    this.#legacy = legacy;
    if (this.#resetting === undefined) this.#activate();
  }

  /** Resets the device; a promise while it still uses guest memory for what was before. */
  reset(): void | Promise<void> {
    const before = this.#status;
    this.#host = undefined;
    const queues = this.#queues;
    this.#queues = [];
    for (const q of queues) q.stop();
    for (const r of this.registers) clear(r);
    this.#status = 0;
    this.#accepted = 0n;
    this.#legacy = false;
    this.#o.registersReset();
    if (this.#resetting !== undefined) return this.#resetting;
    const busy = this.#resetDevice();
    if (busy === undefined) {
      for (const q of queues) q.letGo();
      return;
    }
    this.#shown = before === 0 ? V.STATUS_ACKNOWLEDGE : before;
    this.#resetting = busy
      .catch(e => this.#log(`reset: ${String(e)}`))
      .then(() => {
        this.#resetting = undefined;
        for (const q of queues) q.letGo();
        // A legacy driver does not wait, and has gone on meanwhile.
        if ((this.#status & V.STATUS_DRIVER_OK) !== 0) this.#activate();
      });
    return this.#resetting;
  }

  /** Changes a queue's size before it is enabled; sizes that it cannot have are ignored (section 4.1.4.3). */
  resize(r: QueueRegisters, size: number): void {
    if (r.enabled || size === 0 || size > r.maxSize) return;
    if (!this.has(V.VIRTIO_F_RING_PACKED) && (size & (size - 1)) !== 0) return;
    r.size = size;
  }

  /** The driver has enabled a queue: now if the device is running, or with DRIVER_OK. Some firmware does not wait for FEATURES_OK. */
  enableQueue(r: QueueRegisters): void {
    if (r.enabled || r.resetting || r.size === 0) return;
    r.enabled = true;
    this.#queues[r.index]?.enable(layoutOf(r));
  }

  /**
   * The driver resets one queue (section 2.6.1). There is no way to take requests away from a device, so the reset is
   * unfinished until the device has returned them; what it returns is dropped.
   */
  resetQueue(r: QueueRegisters): void {
    if (!r.enabled || !this.has(V.VIRTIO_F_RING_RESET)) return;
    r.enabled = false;
    r.resetting = true;
    const queue = this.#queues[r.index];
    if (queue === undefined) clear(r);
    else queue.disable(() => clear(r));
  }

  /** The legacy way to take a queue out of use, which is over at once. */
  disableQueue(r: QueueRegisters): void {
    clear(r);
    this.#queues[r.index]?.disable(() => undefined);
  }

  /** The driver has notified a queue. */
  notify(index: number): void {
    if (this.#host === undefined || this.#failed || !this.#o.ram.allowed) return;
    if (this.registers[index]?.enabled !== true) return;
    try {
      this.#device.notify(index);
    } catch (e) {
      this.#fail(`queue ${index}: ${String(e)}`);
    }
  }

  /** The device may use guest memory again, or more of it: requests may have been left waiting meanwhile. */
  resume(): void {
    for (const q of this.#queues) q.resume();
    for (const r of this.registers) this.notify(r.index);
  }

  /** Changes when the configuration has changed since it was last read (section 4.1.4.3.1); 8 bits. */
  get configGeneration(): number {
    return this.#generation;
  }

  /** Reads the device configuration; bytes behind its end are 0. */
  readConfig(offset: number, size: AccessSize): number {
    if (this.#changed) {
      this.#changed = false;
      this.#generation = (this.#generation + 1) & 0xff;
    }
    try {
      if (offset + size <= this.#device.configSize) return this.#device.readConfig(offset, size) >>> 0;
      let value = 0;
      for (let i = 0; i < size && offset + i < this.#device.configSize; i++) {
        value |= (this.#device.readConfig(offset + i, 1) & 0xff) << (8 * i);
      }
      return value >>> 0;
    } catch (e) {
      this.#fail(`configuration ${offset}: ${String(e)}`);
      return 0;
    }
  }

  /** Writes the device configuration; a write beyond its end is ignored. */
  writeConfig(offset: number, size: AccessSize, value: number): void {
    if (offset + size > this.#device.configSize) return;
    try {
      this.#device.writeConfig(offset, size, value);
    } catch (e) {
      this.#fail(`configuration ${offset}: ${String(e)}`);
    }
  }

  /**
   * What driver and device have agreed on, and how far they are, for {@link restore}.
   * @throws VmError ERR_STATE for a device that has no such state, or while a request or a reset is under way.
   */
  save(): VirtioTransportState {
    if (this.#device.save === undefined) throw this.#unsaved("the host's side of it cannot be doubled");
    if (this.#resetting !== undefined) throw this.#unsaved('it is being reset');
    return {
      accepted: this.#accepted,
      status: this.#status,
      legacy: this.#legacy,
      generation: this.#generation,
      changed: this.#changed,
      registers: this.registers.map(r => ({ ...r, areas: r.areas.slice() })),
      rings: this.#queues.map(q => q.save()),
      device: this.#device.save(),
    };
  }

  /** @throws VmError ERR_STATE when the state is of another device. */
  restore(s: VirtioTransportState): void {
    if (s.registers.length !== this.registers.length || (s.accepted & ~this.offered & ~this.offeredLegacy) !== 0n)
      throw this.#unsaved('the saved one is another');
    this.#accepted = s.accepted;
    this.#status = s.status;
    this.#legacy = s.legacy;
    this.#generation = s.generation;
    this.#changed = s.changed;
    for (const [i, r] of this.registers.entries()) {
      const { size, areas, enabled, resetting } = s.registers[i]!;
      r.size = size;
      r.areas.set(areas);
      r.enabled = enabled;
      r.resetting = resetting;
    }
    this.#device.restore?.(s.device);
    if ((s.status & V.STATUS_DRIVER_OK) !== 0) this.#activate(s.rings);
  }

  #unsaved(why: string): VmError {
    return new VmError('ERR_STATE', `${this.#o.name}: the state of this device cannot be taken along: ${why}`, {
      hint: 'make the VM without this device, unplug it, or try again',
      details: { device: this.#o.name },
    });
  }

  get #failed(): boolean {
    return (this.#status & V.STATUS_DEVICE_NEEDS_RESET) !== 0;
  }

  #resetDevice(): Promise<void> | undefined {
    try {
      return this.#device.reset() ?? undefined;
    } catch (e) {
      this.#log(`reset: ${String(e)}`);
      return undefined;
    }
  }

  /** Whether the driver has accepted a set of features that the device can work with (section 2.2). */
  #agreed(): boolean {
    return (this.#accepted & ~this.offered) === 0n && this.has(V.VIRTIO_F_VERSION_1);
  }

  /** @param rings how far the queues are; from the start, unless told. */
  #activate(rings: readonly (RingState | undefined)[] = []): void {
    if (this.#failed) return;
    const accepted = this.#legacy ? this.#accepted & this.offeredLegacy : this.#accepted;
    const has = (f: number) => ((accepted >> BigInt(f)) & 1n) === 1n;
    const mine = () => this.#host === host;
    this.#queues = this.registers.map(
      ({ index }) =>
        new Queue({
          index,
          packed: has(V.VIRTIO_F_RING_PACKED),
          indirect: has(V.VIRTIO_F_INDIRECT_DESC),
          eventIdx: has(V.VIRTIO_F_EVENT_IDX),
          ram: this.#o.ram,
          owner: this.#o.pinOwner(`${this.#o.name} queue ${index}`),
          interrupt: () => this.#o.interruptQueue(index),
          fail: why => this.#fail(why),
          later: () => {
            if (!this.#o.ram.wait(this.#again))
              this.#fail(`queue ${index}: a request for more memory than may be pinned at a time`);
          },
        }),
    );
    // What the device does with an old host, from before a reset, means nothing any more.
    const host: V.VirtioHost = {
      queues: this.#queues,
      features: accepted,
      has,
      configChanged: () => {
        this.#changed = true;
        if (mine()) this.#o.interruptConfig();
      },
      fail: why => {
        if (mine()) this.#fail(why);
      },
    };
    this.#host = host;
    for (const r of this.registers) if (r.enabled) this.#queues[r.index]!.enable(layoutOf(r), rings[r.index]);
    if (this.#failed) return;
    try {
      this.#device.activate(host);
    } catch (e) {
      this.#fail(`activation: ${String(e)}`);
    }
    // Legacy drivers may have made requests before, whose notification meant nothing yet.
    for (const r of this.registers) this.notify(r.index);
  }

  /** Section 2.1.2: the queues are over, and the driver is told. */
  #fail(why: string): void {
    if (this.#failed) return;
    this.#status |= V.STATUS_DEVICE_NEEDS_RESET;
    for (const q of this.#queues) q.stop();
    this.#log(`${why}; the device needs a reset`);
    if ((this.#status & V.STATUS_DRIVER_OK) !== 0) this.#o.interruptConfig();
  }

  #log(line: string): void {
    if (this.#lines === MAX_LOG_LINES) return;
    this.#lines++;
    this.#o.log(`${this.#o.name} (${this.#device.name}): ${line}`);
    if (this.#lines === MAX_LOG_LINES) this.#o.log(`${this.#o.name}: says nothing more`);
  }
}

function layoutOf(r: QueueRegisters): { size: number; desc: number; driver: number; device: number } {
  const area = (i: number) => r.areas[i + 1]! * 2 ** 32 + r.areas[i]!;
  return { size: r.size, desc: area(0), driver: area(2), device: area(4) };
}

function clear(r: QueueRegisters): void {
  r.size = r.maxSize;
  r.areas.fill(0);
  r.enabled = r.resetting = false;
}
