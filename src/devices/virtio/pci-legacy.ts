import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { VirtioInterrupts } from './pci-interrupts.ts';
import { RegisterBlock, type RegisterLayout } from './pci-registers.ts';
import * as R from './pci-regs.ts';
import type { QueueRegisters, VirtioTransport } from './transport.ts';

const LAYOUT: RegisterLayout = [
  [R.LEGACY_DEVICE_FEATURES, 4],
  [R.LEGACY_DRIVER_FEATURES, 4],
  [R.LEGACY_QUEUE_ADDRESS, 4],
  [R.LEGACY_QUEUE_SIZE, 2],
  [R.LEGACY_QUEUE_SELECT, 2],
  [R.LEGACY_QUEUE_NOTIFY, 2],
  [R.LEGACY_DEVICE_STATUS, 1],
  [R.LEGACY_ISR_STATUS, 1],
];
const LAYOUT_MSIX: RegisterLayout = [...LAYOUT, [R.LEGACY_CONFIG_VECTOR, 2], [R.LEGACY_QUEUE_VECTOR, 2]];

/**
 * The legacy interface in I/O BAR 0 of a transitional device (section 4.1.4.10): a header, the vectors while MSI-X is enabled,
 * then the device configuration. Queues have the size that the device gives them and lie in one piece (section 2.7.2).
 */
export class LegacyConfig implements BusDevice {
  readonly name = 'virtio legacy interface';
  readonly #transport: VirtioTransport;
  readonly #interrupts: VirtioInterrupts;
  readonly #header: RegisterBlock;
  readonly #headerMsix: RegisterBlock;
  #queueSelect = 0;

  constructor(transport: VirtioTransport, interrupts: VirtioInterrupts) {
    this.#transport = transport;
    this.#interrupts = interrupts;
    const block = (layout: RegisterLayout) =>
      new RegisterBlock(
        layout,
        r => this.#read(r),
        (r, value) => this.#write(r, value),
      );
    this.#header = block(LAYOUT);
    this.#headerMsix = block(LAYOUT_MSIX);
  }

  read(offset: number, size: AccessSize): number {
    const end = this.#headerSize;
    return offset < end ? this.#block.read(offset, size) : this.#transport.readConfig(offset - end, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    const end = this.#headerSize;
    if (offset < end) this.#block.write(offset, size, value);
    else this.#transport.writeConfig(offset - end, size, value);
  }

  /** The selected queue, for {@link restore}. */
  save(): number {
    return this.#queueSelect;
  }

  restore(queueSelect: number): void {
    this.#queueSelect = queueSelect;
  }

  reset(): void {
    this.#queueSelect = 0;
  }

  get #headerSize(): number {
    return this.#interrupts.msix.enabled ? R.LEGACY_SIZE_MSIX : R.LEGACY_SIZE;
  }

  get #block(): RegisterBlock {
    return this.#interrupts.msix.enabled ? this.#headerMsix : this.#header;
  }

  get #queue(): QueueRegisters | undefined {
    return this.#transport.registers[this.#queueSelect];
  }

  #read(register: number): number {
    const t = this.#transport;
    switch (register) {
      case R.LEGACY_DEVICE_FEATURES:
        return Number(t.offeredLegacy);
      case R.LEGACY_DRIVER_FEATURES:
        return Number(t.accepted & 0xffff_ffffn);
      case R.LEGACY_QUEUE_ADDRESS: {
        const q = this.#queue;
        return q?.enabled ? (q.areas[1]! * 2 ** 32 + q.areas[0]!) / R.LEGACY_PAGE : 0;
      }
      case R.LEGACY_QUEUE_SIZE:
        return this.#queue?.maxSize ?? 0;
      case R.LEGACY_QUEUE_SELECT:
        return this.#queueSelect;
      case R.LEGACY_DEVICE_STATUS:
        return t.legacyStatus;
      case R.LEGACY_ISR_STATUS:
        return this.#interrupts.readIsr();
      case R.LEGACY_CONFIG_VECTOR:
        return this.#interrupts.configVector;
      case R.LEGACY_QUEUE_VECTOR:
        return this.#interrupts.queueVector(this.#queueSelect);
      default:
        return 0;
    }
  }

  #write(register: number, value: number): void {
    const t = this.#transport;
    switch (register) {
      case R.LEGACY_DRIVER_FEATURES:
        // Whatever was accepted of the others before does not count for a legacy driver (section 4.1.4.10).
        t.accept(0, value);
        break;
      case R.LEGACY_QUEUE_ADDRESS:
        this.#setAddress(value);
        break;
      case R.LEGACY_QUEUE_SELECT:
        this.#queueSelect = value;
        break;
      case R.LEGACY_QUEUE_NOTIFY:
        t.notify(value);
        break;
      case R.LEGACY_DEVICE_STATUS:
        t.writeStatus(value, true);
        break;
      case R.LEGACY_CONFIG_VECTOR:
        this.#interrupts.configVector = value;
        break;
      case R.LEGACY_QUEUE_VECTOR:
        this.#interrupts.setQueueVector(this.#queueSelect, value);
        break;
    }
  }

  /** The page of a queue; 0 takes it out of use. Section 2.7.2: the used ring begins at the next page boundary. */
  #setAddress(page: number): void {
    const q = this.#queue;
    if (q === undefined) return;
    this.#transport.disableQueue(q);
    if (page === 0) return;
    const desc = page * R.LEGACY_PAGE;
    const driver = desc + 16 * q.size;
    const device = Math.ceil((driver + 6 + 2 * q.size) / R.LEGACY_PAGE) * R.LEGACY_PAGE;
    for (const [i, address] of [desc, driver, device].entries()) {
      q.areas[2 * i] = address % 2 ** 32;
      q.areas[2 * i + 1] = Math.floor(address / 2 ** 32);
    }
    this.#transport.enableQueue(q);
  }
}
