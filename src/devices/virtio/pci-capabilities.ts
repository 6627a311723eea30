import type { AccessSize } from '../../bus/types.ts';
import type { BarSpec } from '../../pci/bar.ts';
import type { Capability, CapabilityHost } from '../../pci/capability.ts';
import { CAP_ID_VENDOR } from '../../pci/regs.ts';
import { VIRTIO_BAR, VIRTIO_PCI_CAP_PCI_CFG } from './pci-regs.ts';

// struct virtio_pci_cap (section 4.1.4).
const CAP_LEN = 2;
const CFG_TYPE = 3;
const BAR = 4;
const OFFSET = 8;
const LENGTH = 12;
/** Bytes of the structure, and of one with a further dword. */
const SIZE = 16;
const SIZE_EXTENDED = 20;

/** Tells drivers where one of the virtio structures is. */
export class VirtioCapability implements Capability {
  readonly id = CAP_ID_VENDOR;
  readonly size: number;

  /** @param extra the dword behind the structure: the multiplier of the notification capability. */
  constructor(
    readonly type: number,
    readonly offset: number,
    readonly length: number,
    readonly extra?: number,
  ) {
    this.size = extra === undefined ? SIZE : SIZE_EXTENDED;
  }

  install({ config }: CapabilityHost, at: number): void {
    config.define(at + CAP_LEN, 1, this.size);
    config.define(at + CFG_TYPE, 1, this.type);
    config.define(at + BAR, 4, VIRTIO_BAR);
    config.define(at + OFFSET, 4, this.offset);
    config.define(at + LENGTH, 4, this.length);
    if (this.extra !== undefined) config.define(at + SIZE, 4, this.extra);
  }
}

/**
 * The window into the BARs (section 4.1.4.9), which firmware uses before it has assigned addresses: whether the BARs are
 * decoded does not matter. An access that lies outside of a BAR, or whose length is none of an access, reads all ones.
 */
export class ConfigAccessCapability implements Capability {
  readonly id = CAP_ID_VENDOR;
  readonly size = SIZE_EXTENDED;
  readonly #bars: readonly BarSpec[];
  /** pci_cfg_data, as last written. */
  #data = 0;

  /** @param bars the BARs that the window reaches. */
  constructor(bars: readonly BarSpec[]) {
    this.#bars = bars;
  }

  install({ config }: CapabilityHost, at: number): void {
    config.define(at + CAP_LEN, 1, this.size);
    config.define(at + CFG_TYPE, 1, VIRTIO_PCI_CAP_PCI_CFG);
    config.define(at + BAR, 4, 0, 0xff);
    config.define(at + OFFSET, 4, 0, 0xffff_ffff);
    config.define(at + LENGTH, 4, 0, 0xffff_ffff);
    const target = () => {
      const offset = config.view.getUint32(at + OFFSET, true);
      const length = config.view.getUint32(at + LENGTH, true);
      const bar = this.#bars.find(b => b.index === config.bytes[at + BAR]);
      const valid = length === 1 || length === 2 || length === 4;
      if (bar === undefined || !valid || offset % length !== 0 || offset + length > bar.size) return undefined;
      return { device: bar.device, offset, length: length as AccessSize };
    };
    config.window(at + SIZE, 4, {
      read: (skip, size) => {
        const t = target();
        if (t !== undefined) this.#data = low(t.device.read(t.offset, t.length), t.length);
        const value = t === undefined ? 0xffff_ffff : this.#data;
        return low(value >>> (8 * skip), size);
      },
      write: (skip, size, value) => {
        const mask = low(0xffff_ffff, size) << (8 * skip);
        this.#data = ((this.#data & ~mask) | ((value << (8 * skip)) & mask)) >>> 0;
        const t = target();
        t?.device.write(t.offset, t.length, low(this.#data, t.length));
      },
    });
  }

  reset(): void {
    this.#data = 0;
  }
}

/** The low `size` bytes of a value, unsigned. */
function low(value: number, size: AccessSize): number {
  return (size === 4 ? value : value & (2 ** (8 * size) - 1)) >>> 0;
}
