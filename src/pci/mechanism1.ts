import type { AccessSize, BusDevice } from '../bus/types.ts';
import type { PciHost } from './host.ts';

const ENABLE = 0x8000_0000;

/**
 * x86's configuration mechanism #1: 8 ports from 0xCF8, CONFIG_ADDRESS and CONFIG_DATA (PCI Local Bus 3.0 section 3.2.2.3.2).
 * Only a 32-bit write reaches CONFIG_ADDRESS; without its enable bit the data ports read all ones (CFG-1).
 */
export class ConfigMechanism1 implements BusDevice {
  readonly name = 'PCI configuration mechanism #1';
  #address = 0;

  constructor(private readonly host: PciHost) {}

  read(offset: number, size: AccessSize): number {
    if (offset < 4) return offset === 0 && size === 4 ? this.#address : 0xffff_ffff;
    if ((this.#address & ENABLE) === 0) return 0xffff_ffff;
    return this.host.configRead((this.#address >>> 8) & 0xffff, (this.#address & 0xfc) | (offset - 4), size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset < 4) {
      // Bits 30:24 are reserved, 1:0 always zero: the data port's own address has them.
      if (offset === 0 && size === 4) this.#address = (value & 0x80ff_fffc) >>> 0;
    } else if ((this.#address & ENABLE) !== 0 && offset - 4 + size <= 4) {
      this.host.configWrite((this.#address >>> 8) & 0xffff, (this.#address & 0xfc) | (offset - 4), size, value);
    }
  }

  reset(): void {
    this.#address = 0;
  }
}
