import type { AccessSize } from '../../bus/types.ts';
import type { VirtioInterrupts } from './pci-interrupts.ts';
import { RegisterBlock, type RegisterLayout } from './pci-registers.ts';
import * as R from './pci-regs.ts';
import type { VirtioTransport } from './transport.ts';

/** The structure virtio_pci_common_cfg; 64-bit addresses are accessed by halves (section 4.1.3.1). */
const LAYOUT: RegisterLayout = [
  [R.DEVICE_FEATURE_SELECT, 4],
  [R.DEVICE_FEATURE, 4],
  [R.DRIVER_FEATURE_SELECT, 4],
  [R.DRIVER_FEATURE, 4],
  [R.CONFIG_MSIX_VECTOR, 2],
  [R.NUM_QUEUES, 2],
  [R.DEVICE_STATUS, 1],
  [R.CONFIG_GENERATION, 1],
  [R.QUEUE_SELECT, 2],
  [R.QUEUE_SIZE, 2],
  [R.QUEUE_MSIX_VECTOR, 2],
  [R.QUEUE_ENABLE, 2],
  [R.QUEUE_NOTIFY_OFF, 2],
  [R.QUEUE_DESC, 4],
  [R.QUEUE_DESC + 4, 4],
  [R.QUEUE_DESC + 8, 4],
  [R.QUEUE_DESC + 12, 4],
  [R.QUEUE_DESC + 16, 4],
  [R.QUEUE_DESC + 20, 4],
  [R.QUEUE_NOTIFY_DATA, 2],
  [R.QUEUE_RESET, 2],
];

/** The common configuration structure (section 4.1.4.3). */
export class CommonConfig {
  readonly #transport: VirtioTransport;
  readonly #interrupts: VirtioInterrupts;
  readonly #block: RegisterBlock;
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;
  #queueSelect = 0;

  constructor(transport: VirtioTransport, interrupts: VirtioInterrupts) {
    this.#transport = transport;
    this.#interrupts = interrupts;
    this.#block = new RegisterBlock(
      LAYOUT,
      r => this.#read(r),
      (r, value) => this.#write(r, value),
    );
  }

  read(offset: number, size: AccessSize): number {
    return this.#block.read(offset, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.#block.write(offset, size, value);
  }

  /** What the driver has selected, for {@link restore}. */
  save(): readonly number[] {
    return [this.#deviceFeatureSelect, this.#driverFeatureSelect, this.#queueSelect];
  }

  restore([device = 0, driver = 0, queue = 0]: readonly number[]): void {
    this.#deviceFeatureSelect = device;
    this.#driverFeatureSelect = driver;
    this.#queueSelect = queue;
  }

  reset(): void {
    this.#deviceFeatureSelect = this.#driverFeatureSelect = this.#queueSelect = 0;
  }

  #read(register: number): number {
    const t = this.#transport;
    switch (register) {
      case R.DEVICE_FEATURE_SELECT:
        return this.#deviceFeatureSelect;
      case R.DEVICE_FEATURE:
        return featureWindow(t.offered, this.#deviceFeatureSelect);
      case R.DRIVER_FEATURE_SELECT:
        return this.#driverFeatureSelect;
      case R.DRIVER_FEATURE:
        return featureWindow(t.accepted, this.#driverFeatureSelect);
      case R.CONFIG_MSIX_VECTOR:
        return this.#interrupts.configVector;
      case R.NUM_QUEUES:
        return t.registers.length;
      case R.DEVICE_STATUS:
        return t.status;
      case R.CONFIG_GENERATION:
        return t.configGeneration;
      case R.QUEUE_SELECT:
        return this.#queueSelect;
      case R.QUEUE_MSIX_VECTOR:
        return this.#interrupts.queueVector(this.#queueSelect);
    }
    // All others are the selected queue's: of one that does not exist they read 0, its size first of all.
    const queue = t.registers[this.#queueSelect];
    if (queue === undefined) return 0;
    switch (register) {
      case R.QUEUE_SIZE:
        return queue.size;
      case R.QUEUE_ENABLE:
        return queue.enabled || queue.resetting ? 1 : 0;
      case R.QUEUE_NOTIFY_OFF:
      case R.QUEUE_NOTIFY_DATA:
        return queue.index;
      case R.QUEUE_RESET:
        return queue.resetting ? 1 : 0;
      default:
        return queue.areas[(register - R.QUEUE_DESC) >> 2]!;
    }
  }

  #write(register: number, value: number): void {
    const t = this.#transport;
    const queue = t.registers[this.#queueSelect];
    switch (register) {
      case R.DEVICE_FEATURE_SELECT:
        this.#deviceFeatureSelect = value;
        return;
      case R.DRIVER_FEATURE_SELECT:
        this.#driverFeatureSelect = value;
        return;
      case R.DRIVER_FEATURE:
        t.accept(this.#driverFeatureSelect, value);
        return;
      case R.CONFIG_MSIX_VECTOR:
        this.#interrupts.configVector = value;
        return;
      case R.DEVICE_STATUS:
        t.writeStatus(value, false);
        return;
      case R.QUEUE_SELECT:
        this.#queueSelect = value;
        return;
      case R.QUEUE_MSIX_VECTOR:
        this.#interrupts.setQueueVector(this.#queueSelect, value);
        return;
      case R.QUEUE_SIZE:
        if (queue !== undefined) t.resize(queue, value);
        return;
      case R.QUEUE_ENABLE:
        // A driver must not write 0: only a reset takes a queue out of use.
        if (queue !== undefined && value === 1) t.enableQueue(queue);
        return;
      case R.QUEUE_RESET:
        if (queue !== undefined && value === 1) this.#resetQueue(queue.index);
        return;
    }
    if (queue === undefined || queue.enabled || queue.resetting) return;
    if (register >= R.QUEUE_DESC && register < R.QUEUE_NOTIFY_DATA) {
      queue.areas[(register - R.QUEUE_DESC) >> 2] = value;
    }
  }

  #resetQueue(index: number): void {
    const queue = this.#transport.registers[index]!;
    if (!queue.enabled) return;
    this.#transport.resetQueue(queue);
    // Every register of the queue goes back to its initial value (section 2.6.1).
    if (!queue.enabled) this.#interrupts.setQueueVector(index, R.VIRTIO_MSI_NO_VECTOR);
  }
}

/** 32 of the 64 feature bits; there are none beyond (section 4.1.4.3.1). */
function featureWindow(features: bigint, window: number): number {
  return window > 1 ? 0 : Number((features >> BigInt(32 * window)) & 0xffff_ffffn);
}
