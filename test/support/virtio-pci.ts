import { expect } from 'vitest';
import type { AccessSize, BusDevice } from '../../src/bus/types.ts';
import type { Chain, VirtioDevice, VirtioHost } from '../../src/devices/virtio/device.ts';
import { createVirtioPci, type VirtioPciOptions } from '../../src/devices/virtio/pci-transport.ts';
import type { PinLimits } from '../../src/memory/pin-types.ts';
import { PciBus } from '../../src/pci/bus.ts';
import type { FunctionHost, PciFunction } from '../../src/pci/function.ts';
import { DESC, DEVICE, DRIVER, type Driver, PackedDriver, SplitDriver, TestRam } from './virtqueue.ts';

// Feature bits and status of the specification, written down once more.
export const INDIRECT_DESC = 1n << 28n;
export const EVENT_IDX = 1n << 29n;
export const VERSION_1 = 1n << 32n;
export const RING_PACKED = 1n << 34n;
export const NOTIFICATION_DATA = 1n << 38n;
export const RING_RESET = 1n << 40n;
export const FEATURE = 1n << 5n;
export const [ACKNOWLEDGE, DRIVER_STATUS, DRIVER_OK, FEATURES_OK, NEEDS_RESET] = [1, 2, 4, 8, 64];
export const READY = ACKNOWLEDGE | DRIVER_STATUS | FEATURES_OK;

export const COMMAND_MASTER = 4;
/** Where the test's driver lets messages go, and the data of vector n is 100 + n. */
export const DOORBELL = 0x0802_0040;

/** A device that returns what it is given as soon as it is told to, and can be made to misbehave. */
export class EchoDevice implements VirtioDevice {
  readonly name = 'virtio-echo';
  readonly type: number;
  readonly queueSizes: readonly number[];
  readonly features = FEATURE;
  readonly configSize: number;
  readonly config = new DataView(new ArrayBuffer(256));
  host: VirtioHost | undefined;
  activations = 0;
  resets = 0;
  readonly notified: number[] = [];
  /** Keeps the requests instead of returning them. */
  keep = false;
  readonly kept: Chain[] = [];
  fault: string | undefined;
  busy: Promise<void> | undefined;

  constructor(type = 4, queueSizes: readonly number[] = [8, 16], configSize = 10) {
    this.type = type;
    this.queueSizes = queueSizes;
    this.configSize = configSize;
    for (let i = 0; i < configSize; i++) this.config.setUint8(i, 0x10 + i);
  }

  readConfig(offset: number, size: AccessSize): number {
    this.#check('readConfig');
    if (offset + size > this.configSize) throw new Error('beyond the configuration');
    if (size === 1) return this.config.getUint8(offset);
    return size === 2 ? this.config.getUint16(offset, true) : this.config.getUint32(offset, true);
  }

  writeConfig(offset: number, size: AccessSize, value: number): void {
    this.#check('writeConfig');
    for (let i = 0; i < size; i++) this.config.setUint8(offset + i, value >>> (8 * i));
  }

  activate(host: VirtioHost): void {
    this.#check('activate');
    this.activations++;
    this.host = host;
  }

  notify(index: number): void {
    this.#check('notify');
    this.notified.push(index);
    const queue = this.host!.queues[index]!;
    for (let c = queue.pop(); c !== undefined; c = queue.pop()) {
      if (this.keep) this.kept.push(c);
      else queue.push(c, c.writableLength);
    }
    queue.notifyDriver();
  }

  reset(): void | Promise<void> {
    this.#check('reset');
    this.resets++;
    this.host = undefined;
    return this.busy;
  }

  #check(what: string): void {
    if (this.fault === what) throw new Error(`${what} is broken`);
  }
}

export interface Message {
  readonly address: number;
  readonly data: number;
}

/** A virtio function on a bus, and the driver's ways to it. */
export class VirtioMachine {
  readonly ram: TestRam;
  readonly messages: Message[] = [];
  readonly lines: string[] = [];
  readonly f: PciFunction;
  readonly structures: BusDevice;
  readonly bus = new PciBus(undefined);
  intx = false;

  constructor(
    readonly device: EchoDevice,
    options: Partial<VirtioPciOptions> = {},
    limits: PinLimits = {},
  ) {
    this.ram = new TestRam(limits);
    this.f = createVirtioPci({ device, name: 'echo0', log: line => this.lines.push(line), ...options });
    const { pins, waiters } = this.ram;
    const host: FunctionHost = {
      pins,
      waiters,
      decodeChanged: () => undefined,
      setIntx: (_, level) => {
        this.intx = level;
      },
      signalMsi: (_, address, data) => {
        this.messages.push({ address, data });
      },
      configWritten: () => undefined,
    };
    this.bus.add(this.f, 8, host);
    this.structures = this.bar(4);
    this.f.configWrite(4, 2, 7);
  }

  bar(index: number): BusDevice {
    return this.f.bars.find(b => b.index === index)!.device;
  }

  read(offset: number, size: AccessSize): number {
    return this.structures.read(offset, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.structures.write(offset, size, value);
  }

  get status(): number {
    return this.read(20, 1);
  }

  set status(value: number) {
    this.write(20, 1, value);
  }

  /** The features that the device offers. */
  get offered(): bigint {
    this.write(0, 4, 0);
    const low = BigInt(this.read(4, 4));
    this.write(0, 4, 1);
    return low | (BigInt(this.read(4, 4)) << 32n);
  }

  accept(features: bigint): void {
    for (const window of [0, 1]) {
      this.write(8, 4, window);
      this.write(12, 4, Number((features >> BigInt(32 * window)) & 0xffff_ffffn));
    }
  }

  /** Sets a queue up where the test drivers have it. */
  enable(index: number, size = 8, vector?: number): void {
    this.write(22, 2, index);
    this.write(24, 2, size);
    if (vector !== undefined) this.write(26, 2, vector);
    for (const [i, area] of [DESC, DRIVER, DEVICE].entries()) this.write(32 + 8 * i, 4, area);
    this.write(28, 2, 1);
  }

  /** The initialization sequence of section 3.1.1 with one queue, and the driver of that queue. */
  start(features = VERSION_1, { vector, queue = 0 }: { vector?: number; queue?: number } = {}): Driver {
    this.status = 0;
    this.status = ACKNOWLEDGE;
    this.status = ACKNOWLEDGE | DRIVER_STATUS;
    this.accept(features);
    this.status = READY;
    expect(this.status).toBe(READY);
    this.enable(queue, 8, vector);
    this.status = READY | DRIVER_OK;
    const layout = { size: 8, desc: DESC, driver: DRIVER, device: DEVICE };
    const Format = (features & RING_PACKED) !== 0n ? PackedDriver : SplitDriver;
    return new Format(this.ram, layout, (features & EVENT_IDX) !== 0n);
  }

  kick(queue: number, size: 2 | 4 = 2): void {
    this.write(0x3000 + 4 * queue, size, queue);
  }

  enableMsix(): void {
    const table = this.bar(1);
    for (let n = 0; n < this.f.msix!.vectors; n++) {
      table.write(16 * n, 4, DOORBELL);
      table.write(16 * n + 4, 4, 0);
      table.write(16 * n + 8, 4, 100 + n);
      table.write(16 * n + 12, 4, 0);
    }
    this.msixControl = 0x8000;
  }

  set msixControl(value: number) {
    this.f.configWrite(this.capability(0x11)! + 2, 2, value);
  }

  /** Offset of the first capability with an id, and for vendor-specific ones a type. */
  capability(id: number, type?: number): number | undefined {
    for (let at = this.f.configRead(0x34, 1); at !== 0; at = this.f.configRead(at + 1, 1)) {
      if (this.f.configRead(at, 1) === id && (type === undefined || this.f.configRead(at + 3, 1) === type)) return at;
    }
    return undefined;
  }

  set command(value: number) {
    this.f.configWrite(4, 2, value);
  }
}
