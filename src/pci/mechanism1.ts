import type { AccessSize, BusDevice } from '../bus/types.ts';
import type { PciHost } from './host.ts';

const ENABLE = 0x8000_0000;

/** Options of {@link ConfigMechanism1}. */
export interface ConfigMechanism1Options {
  /** One port at 0xCF9, a PC's reset control register; it gets the accesses of a byte there. */
  readonly portCf9?: BusDevice;
}

/**
 * x86's configuration mechanism #1: 8 ports from 0xCF8, CONFIG_ADDRESS and CONFIG_DATA (PCI Local Bus 3.0 section 3.2.2.3.2).
 * Only a 32-bit access reaches CONFIG_ADDRESS; narrower ones pass the host bridge unchanged, to another device if one is
 * there. Without CONFIG_ADDRESS's enable bit the data ports read all ones (CFG-1).
 */
export class ConfigMechanism1 implements BusDevice {
  readonly name = 'PCI configuration mechanism #1';
  readonly #host: Pick<PciHost, 'configRead' | 'configWrite'>;
  readonly #portCf9: BusDevice | undefined;
  #address = 0;

  constructor(host: Pick<PciHost, 'configRead' | 'configWrite'>, options: ConfigMechanism1Options = {}) {
    this.#host = host;
    this.#portCf9 = options.portCf9;
  }

  reset(): void {
    this.#address = 0;
  }

  /** CONFIG_ADDRESS, for {@link restore}. */
  save(): number {
    return this.#address;
  }

  restore(address: number): void {
    this.#address = address;
  }

  read(offset: number, size: AccessSize): number {
    if (offset === 0 && size === 4) return this.#address;
    if (offset === 1 && size === 1 && this.#portCf9) return this.#portCf9.read(0, 1);
    if (offset < 4 || (this.#address & ENABLE) === 0) return 0xffff_ffff;
    return this.#host.configRead((this.#address >>> 8) & 0xffff, (this.#address & 0xfc) | (offset - 4), size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    // Bits 30:24 are reserved, 1:0 always zero: the data port's own address has them.
    if (offset === 0 && size === 4) this.#address = (value & 0x80ff_fffc) >>> 0;
    else if (offset === 1 && size === 1) this.#portCf9?.write(0, 1, value);
    if (offset < 4 || (this.#address & ENABLE) === 0 || offset - 4 + size > 4) return;
    this.#host.configWrite((this.#address >>> 8) & 0xffff, (this.#address & 0xfc) | (offset - 4), size, value);
  }
}
