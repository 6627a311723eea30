import { closeSync } from 'node:fs';
import { FlashFile } from '../backends/flash/flash-file.ts';
import { checkSize, copyImage, openImage, readImage } from '../backends/flash/image.ts';
import type { AddressBus } from '../bus/types.ts';
import { CfiFlash, type FlashStore } from '../devices/cfi-flash/device.ts';
import type { DeviceMemory, MemorySlots } from '../memory/types.ts';
import { type AddressRange, ARM_VIRT } from './address-map.ts';
import type { MachineEvents } from './machine.ts';

/** What the flash of a machine is connected to. */
export interface FlashOptions {
  /** Path or contents of bank 0, which cannot be changed. undefined: there is no such bank. */
  readonly firmware: string | Uint8Array | undefined;
  /** File of bank 1. undefined: what is stored there is lost with the machine. */
  readonly file: string | undefined;
  readonly bus: AddressBus;
  readonly slots: MemorySlots;
  readonly events: MachineEvents;
}

/** Block and buffer of the flash on QEMU's virt board, bytes: firmware for that board erases blocks of this size. */
const BLOCK_SIZE = 256 * 1024;
const BUFFER_SIZE = 4096;

/** The flash of arm-virt: bank 0 with the firmware, if there is one, and bank 1 with the variables that it stores. */
export class Flash {
  /** Places of the banks that there are. */
  readonly banks: readonly AddressRange[];
  readonly #options: FlashOptions;
  readonly #devices: CfiFlash[] = [];
  readonly #file: FlashFile | undefined;

  /**
   * @throws VmError ERR_FILE_NOT_FOUND, ERR_FILE_IS_DIRECTORY, ERR_FILE_UNREADABLE, ERR_DOES_NOT_FIT, ERR_DISK for the files;
   *   ERR_MEMORY_TOO_LARGE when RAM leaves no room for the banks.
   */
  constructor(options: FlashOptions) {
    this.#options = options;
    const { firmware, file, slots, events } = options;
    const { flash0, flash1 } = ARM_VIRT;
    if (firmware !== undefined) {
      const memory = slots.allocate(flash0.size);
      readFirmware(firmware, memory.bytes);
      this.#add('firmware flash', flash0, memory);
    }
    const memory = slots.allocate(flash1.size);
    if (file === undefined) memory.bytes.fill(0xff);
    else this.#file = FlashFile.open({ path: file, bank: memory.bytes, log: line => events.log(line) });
    this.#add('flash', flash1, memory, this.#file ?? { write: () => true });
    this.banks = firmware === undefined ? [flash1] : [flash0, flash1];
  }

  reset(): void {
    for (const device of this.#devices) device.reset();
  }

  /** Makes durable what the guest has stored. @throws VmError when the host cannot. */
  close(): void {
    this.#file?.close();
  }

  /** Without a store the bank cannot be changed. */
  #add(name: string, { base, size }: AddressRange, memory: DeviceMemory, store?: FlashStore): void {
    const device = new CfiFlash({
      name,
      geometry: { size, blockSize: BLOCK_SIZE, bufferSize: BUFFER_SIZE },
      array: memory.bytes,
      readOnly: store === undefined,
      store,
      mapArray: () => this.#options.slots.map(base, size, memory, 0, true),
    });
    this.#options.bus.map(base, size, device);
    this.#devices.push(device);
  }
}

function readFirmware(firmware: string | Uint8Array, bank: Uint8Array): void {
  if (typeof firmware !== 'string') {
    checkSize('firmware', firmware.length, bank.length);
    copyImage(firmware, bank);
    return;
  }
  const { fd } = openImage(firmware, 'firmware', bank.length);
  try {
    readImage(fd, bank);
  } finally {
    closeSync(fd);
  }
}
