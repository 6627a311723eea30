import { ARM_VIRT } from '../../../src/machine/address-map.ts';
import type { BarSpec } from '../../../src/pci/bar.ts';
import { PciBridge } from '../../../src/pci/bridge.ts';
import type { PciFunction } from '../../../src/pci/function.ts';
import * as R from '../../../src/pci/regs.ts';
import { PciRootPort } from '../../../src/pci/root-port.ts';
import { DOORBELL, type FuzzMachine } from './machine.ts';
import type { Places } from './places.ts';

// Offsets in capabilities (PCI Local Bus 3.0 section 6.8, PCI Express Base 4.0 section 7.5.3), written down once more.
const [CAP_PM, CAP_MSI, CAP_VENDOR, CAP_EXPRESS, CAP_MSIX] = [1, 5, 9, 0x10, 0x11] as const;
const [DEVCTL, LNKCTL, SLTCTL, SLTSTA] = [8, 0x10, 0x18, 0x1a] as const;
const FLR = 1 << 15;

/** What a hostile guest does to configuration space and BARs, at random and with intent, and what the host's user does meanwhile. */
export class ConfigGuest {
  readonly #m: FuzzMachine;
  readonly #places: Places;
  plugs = 0;
  unplugs = 0;
  ejected = 0;

  constructor(m: FuzzMachine, places: Places) {
    this.#m = m;
    this.#places = places;
  }

  /** Configuration space: anything anywhere, or one of the registers that matter. */
  configure(): void {
    const { random } = this.#m;
    if (random.oneIn(2)) this.#anywhere();
    else this.#directed();
  }

  /** An access to an aperture: of a BAR, at its edges, or anywhere. */
  access(): void {
    const m = this.#m;
    const { random } = m;
    const v = random.pick(m.victims);
    const windows = v.f.decode();
    if (windows.length === 0 || random.oneIn(8)) {
      this.#touch(random.pick(['memory', 'memory', 'io'] as const), this.#anyAddress());
      return;
    }
    const w = random.pick(windows);
    const offset = random.pick([
      random.below(w.spec.size),
      random.below(256),
      random.below(64) * 4,
      w.spec.size - random.between(1, 8),
      -random.between(1, 8),
      0x60 + random.below(64),
    ]);
    this.#touch(w.space, w.address + offset);
  }

  /** What the host's user does: plugs devices in and out, asks or does not, resets the machine. */
  host(): void {
    const m = this.#m;
    const { random } = m;
    const port = random.pick(m.ports);
    m.act(
      'host',
      () => `slot ${port.slot.number}`,
      () => {
        if (port.plugged === undefined) {
          const free = m.devices.pluggable.filter(v => !v.f.attached && !m.ports.some(p => p.plugged === v.f));
          if (free.length === 0) return;
          this.plugs++;
          port.plug(random.pick(free).f);
          return;
        }
        if (random.oneIn(4)) {
          port.slot.remind();
          return;
        }
        this.unplugs++;
        const f = port.plugged;
        const leaving = random.oneIn(3) ? port.requestUnplug() : port.remove();
        void leaving.then(gone => {
          this.ejected++;
          if (gone !== f) m.broken(`${f.name} was to leave, and ${gone.name} did`);
        });
      },
    );
  }

  #anywhere(): void {
    const m = this.#m;
    const { random } = m;
    const rid = random.oneIn(4) ? random.below(0x10000) : this.#function().requesterId;
    const register = random.oneIn(4) ? random.below(4096) : random.below(256);
    const size = random.size();
    // Straddling and unaligned accesses, too.
    const at = random.oneIn(8) ? register : register & -size;
    if (random.oneIn(2)) m.configRead(rid, at, size);
    else m.configWrite(rid, at, size, random.word());
  }

  #directed(): void {
    const m = this.#m;
    const { random } = m;
    const f = this.#function();
    const rid = f.requesterId;
    if (f instanceof PciBridge && random.oneIn(2)) {
      this.#bridge(f);
      return;
    }
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2:
        this.#moveBar(f);
        break;
      case 3:
        m.configWrite(rid, R.COMMAND, 2, random.pick([0, 1, 2, 3, 4, 6, 7, 7, 7, 0x407, random.word() & 0xffff]));
        break;
      case 4:
        m.configWrite(rid, R.STATUS, 2, 0xffff);
        break;
      case 5:
        this.#capability(f, CAP_PM, at =>
          m.configWrite(rid, at + 4, 2, random.pick([0, 0, 1, 2, 3, random.below(0x10000)])),
        );
        break;
      case 6:
        this.#capability(f, CAP_EXPRESS, at => {
          if (random.oneIn(4)) m.configWrite(rid, at + DEVCTL, 2, FLR | (random.word() & 0xffff));
          else m.configWrite(rid, at + random.below(60), random.size(), random.word());
        });
        break;
      case 7:
        this.#msi(f);
        break;
      case 8:
        this.#msix(f);
        break;
      case 9:
        this.#window(f);
        break;
      case 10:
        m.configWrite(rid, 0x100 + 4 * random.below(20), 4, random.word());
        break;
      default:
        m.configWrite(rid, R.COMMAND, 2, 7);
    }
  }

  #function(): PciFunction {
    const m = this.#m;
    const { random } = m;
    if (random.oneIn(6)) return random.pick([...m.ports, m.bridge]);
    return random.pick(m.victims).f;
  }

  #capability(f: PciFunction, id: number, then: (at: number) => void): void {
    const at = this.#places.capability(f, id);
    if (at !== undefined) then(at);
  }

  /** Sizing, moves within and out of apertures, half of a 64-bit address, other functions' places. */
  #moveBar(f: PciFunction): void {
    const m = this.#m;
    const { random } = m;
    if (f.bars.length === 0) return;
    const spec = random.pick(f.bars);
    const at = registerOf(spec);
    const rid = f.requesterId;
    const address = this.#anyAddress();
    if (random.oneIn(4)) {
      const old = m.configRead(rid, at, 4);
      m.configWrite(rid, at, 4, 0xffff_ffff);
      m.configRead(rid, at, 4);
      m.configWrite(rid, at, 4, old);
    } else if (random.oneIn(8)) m.configWrite(rid, at + random.below(8), random.pick([1, 2] as const), random.word());
    else {
      m.configWrite(rid, at, 4, (address % 2 ** 32) + (spec.index === 'rom' ? 1 : 0));
      if (spec.kind === 'mem64' && !random.oneIn(4)) m.configWrite(rid, at + 4, 4, Math.floor(address / 2 ** 32) >>> 0);
    }
  }

  /** Slots, bus numbers, windows, bus resets. */
  #bridge(f: PciBridge): void {
    const m = this.#m;
    const { random } = m;
    const rid = f.requesterId;
    const slot = f instanceof PciRootPort;
    switch (random.below(slot ? 9 : 6)) {
      case 0:
        m.configWrite(
          rid,
          R.PRIMARY_BUS + random.below(3),
          1,
          random.oneIn(4) ? random.word() & 0xff : random.below(8),
        );
        break;
      case 1:
        m.configWrite(rid, R.PRIMARY_BUS, 4, random.oneIn(2) ? random.word() : 0xff_01_00);
        break;
      case 2:
        m.configWrite(rid, R.MEMORY_BASE, 4, random.word());
        break;
      case 3:
        m.configWrite(
          rid,
          random.pick([R.PREF_MEMORY_BASE, R.PREF_BASE_UPPER32, R.PREF_LIMIT_UPPER32]),
          4,
          random.word(),
        );
        break;
      case 4:
        m.configWrite(rid, random.pick([R.IO_BASE, R.IO_LIMIT]), random.pick([1, 2] as const), random.word());
        break;
      case 5:
        m.configWrite(rid, R.BRIDGE_CONTROL, 2, random.pick([0, 0, 0x40, 2, 0x42, 0xffff]));
        break;
      default:
        this.#capability(f, CAP_EXPRESS, at => {
          // Power off and on, indicators, link disable, events.
          const control = random.pick([0x0400, 0, 0x17fb, 0x07f8, 0x0200, 0x0300, 0x1100, random.word() & 0xffff]);
          if (random.oneIn(4)) m.configWrite(rid, at + LNKCTL, 2, random.pick([0x10, 0, 0x30, 0xffff]));
          else if (random.oneIn(3)) m.configWrite(rid, at + SLTSTA, 2, 0xffff);
          else m.configWrite(rid, at + SLTCTL, 2, control);
        });
    }
  }

  #msi(f: PciFunction): void {
    const m = this.#m;
    const { random } = m;
    const rid = f.requesterId;
    this.#capability(f, CAP_MSI, at => {
      switch (random.below(4)) {
        case 0:
          m.configWrite(rid, at + 2, 2, random.below(2) | (random.below(8) << 4));
          break;
        case 1:
          m.configWrite(rid, at + 4, 4, random.oneIn(2) ? DOORBELL : random.word());
          break;
        case 2:
          m.configWrite(rid, at + 16, 4, random.word());
          break;
        default:
          m.configWrite(rid, at + 4 * random.below(6), random.size(), random.word());
      }
    });
  }

  /** The control register, the table, and the pending bits by way of the BAR. */
  #msix(f: PciFunction): void {
    const m = this.#m;
    const { random } = m;
    const rid = f.requesterId;
    this.#capability(f, CAP_MSIX, at => {
      if (random.oneIn(2)) {
        m.configWrite(rid, at + 2, 2, random.pick([0, 0x8000, 0x8000, 0xc000, 0x4000, random.word() & 0xffff]));
        return;
      }
      const w = f.decode().find(d => d.spec.index === f.msix?.bar);
      if (w === undefined) return;
      const entry = w.address + 16 * random.below(f.msix!.vectors + 1);
      const word = random.below(4);
      if (random.oneIn(8)) m.write64(entry + 8 * random.below(2), (BigInt(random.word()) << 32n) | BigInt(DOORBELL));
      else m.write(entry + 4 * word, 4, word === 3 ? random.below(2) : random.oneIn(2) ? DOORBELL : random.word());
    });
  }

  /** VIRTIO_PCI_CAP_PCI_CFG: BARs by way of configuration space (virtio 1.2 section 4.1.4.9). */
  #window(f: PciFunction): void {
    const m = this.#m;
    const { random } = m;
    const rid = f.requesterId;
    const { bytes } = f.config;
    for (let at = bytes[R.CAPABILITIES_POINTER]!, n = 0; at !== 0 && n < 48; at = bytes[at + 1]!, n++) {
      if (bytes[at] !== CAP_VENDOR || bytes[at + 3] !== 5) continue;
      m.configWrite(rid, at + 4, 1, random.pick([0, 1, 4, 4, 4, random.below(256)]));
      m.configWrite(rid, at + 8, 4, random.oneIn(4) ? random.word() : random.below(0x40) + 0x1000 * random.below(4));
      m.configWrite(rid, at + 12, 4, random.oneIn(4) ? random.word() : random.size());
      const size = random.size();
      const skip = at + 16 + (random.below(4) & -size);
      if (random.oneIn(2)) m.configRead(rid, skip, size);
      else m.configWrite(rid, skip, size, random.word());
      return;
    }
  }

  #touch(space: 'memory' | 'io', address: number): void {
    const m = this.#m;
    const { random } = m;
    const write = random.oneIn(2);
    if (space === 'io') {
      const port = Math.max(0, address) % 0x1_0000;
      // By the window in memory, as on arm-virt, or as a port.
      if (random.oneIn(2)) {
        if (write) m.portWrite(port, random.size(), random.word());
        else m.portRead(port, random.size());
        return;
      }
      address = ARM_VIRT.pciIo.base + port;
    }
    if (address < 0) return;
    if (random.oneIn(5)) {
      if (write) m.write64(address, (BigInt(random.word()) << 32n) | BigInt(random.word()));
      else m.read64(address);
    } else if (write) m.write(address, random.size(), random.word());
    else m.read(address, random.size());
  }

  /** Addresses in and around the apertures. */
  #anyAddress(): number {
    const { random } = this.#m;
    const { pciMem32, pciMem64, pciIo } = ARM_VIRT;
    const a = random.pick([pciMem32, pciMem32, pciMem64, pciMem64, pciIo, { base: 0, size: 0x1_0000 }]);
    switch (random.below(6)) {
      case 0:
        return a.base + random.pick([0, 0x1000, 0x10_0000, 0x20_0000]);
      case 1:
        return a.base + a.size - random.pick([0, 1, 4, 0x1000, 0x4000, 0x10_0000]);
      case 2:
        return Math.max(0, a.base - random.pick([1, 4, 0x1000, 0x4000]));
      case 3:
        // Where the functions' own places are, and those of others.
        return a.base + 0x100_0000 + 0x1_0000 * random.below(0x280);
      case 4:
        return random.word() * (random.oneIn(2) ? 1 : 2 ** random.below(20));
      default:
        return a.base + 0x1000 * random.below(Math.min(a.size, 2 ** 32) / 0x1000);
    }
  }
}

function registerOf({ index }: BarSpec): number {
  return index === 'rom' ? R.ROM_ADDRESS : R.BASE_ADDRESS_0 + 4 * index;
}
