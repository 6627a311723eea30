import type { Capability, CapabilityHost } from '../capability.ts';
import { CAP_ID_MSI } from '../regs.ts';

const CONTROL = 2;
const ENABLE = 1;
const MME_SHIFT = 4;
const ADDRESS_64 = 1 << 7;
const MASKABLE = 1 << 8;
const ADDRESS = 4;
const DATA = 12;
const MASK = 16;
const PENDING = 20;

/**
 * MSI with 64-bit addresses and per-vector masking (PCI Local Bus 3.0 section 6.8.1). A vector that is raised while masked is
 * pending and sent when it is unmasked (MSI-2).
 */
export class MsiCapability implements Capability {
  readonly id = CAP_ID_MSI;
  readonly size = 24;
  #host: CapabilityHost | undefined;
  #offset = 0;

  /** @param vectors 1, 2, 4, 8, 16 or 32. */
  constructor(readonly vectors: 1 | 2 | 4 | 8 | 16 | 32 = 1) {}

  get enabled(): boolean {
    return this.#host !== undefined && (this.#host.config.bytes[this.#offset + CONTROL]! & ENABLE) !== 0;
  }

  /** Vectors that the guest has enabled: 2^MME, never more than there are. */
  get enabledVectors(): number {
    if (!this.enabled) return 0;
    return Math.min(1 << ((this.#host!.config.bytes[this.#offset + CONTROL]! >> MME_SHIFT) & 7), this.vectors);
  }

  install(host: CapabilityHost, offset: number): void {
    this.#host = host;
    this.#offset = offset;
    const { config } = host;
    const all = this.vectors === 32 ? 0xffff_ffff : (1 << this.vectors) - 1;
    const mmc = Math.log2(this.vectors) << 1;
    config.define(offset + CONTROL, 2, ADDRESS_64 | MASKABLE | mmc, ENABLE | (7 << MME_SHIFT));
    config.define(offset + ADDRESS, 4, 0, 0xffff_fffc);
    config.define(offset + ADDRESS + 4, 4, 0, 0xffff_ffff);
    config.define(offset + DATA, 2, 0, 0xffff);
    config.define(offset + MASK, 4, 0, all);
    config.define(offset + PENDING, 4, 0);
    config.effect(offset + CONTROL, 2, () => host.interruptsChanged());
    config.effect(offset + MASK, 4, () => this.deliverPending());
  }

  /** Raises vector `n`. With fewer vectors enabled than there are, the last one stands for the rest (section 6.8.3.4). */
  trigger(n: number): void {
    const count = this.enabledVectors;
    if (count === 0) return;
    const vector = Math.min(n, count - 1);
    const { view } = this.#host!.config;
    if ((view.getUint32(this.#offset + MASK, true) >>> vector) & 1) {
      view.setUint32(this.#offset + PENDING, view.getUint32(this.#offset + PENDING, true) | (1 << vector), true);
      return;
    }
    const low = view.getUint32(this.#offset + ADDRESS, true);
    const address = view.getUint32(this.#offset + ADDRESS + 4, true) * 2 ** 32 + low;
    // Multiple messages: the function replaces the low bits of the data (MSI-1).
    const data = (view.getUint16(this.#offset + DATA, true) & ~(count - 1)) | vector;
    this.#host!.sendMessage(address, data);
  }

  /** Sends what is pending and no longer masked. */
  deliverPending(): void {
    if (!this.enabled) return;
    const { view } = this.#host!.config;
    const ready = view.getUint32(this.#offset + PENDING, true) & ~view.getUint32(this.#offset + MASK, true);
    if (ready === 0) return;
    view.setUint32(this.#offset + PENDING, view.getUint32(this.#offset + PENDING, true) & ~ready, true);
    for (let n = 0; n < 32; n++) if ((ready >>> n) & 1) this.trigger(n);
  }
}
