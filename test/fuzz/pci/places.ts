import { ARM_VIRT } from '../../../src/machine/address-map.ts';
import type { BarSpec } from '../../../src/pci/bar.ts';
import { PciBridge } from '../../../src/pci/bridge.ts';
import type { PciFunction } from '../../../src/pci/function.ts';
import * as R from '../../../src/pci/regs.ts';
import { DOORBELL, type FuzzMachine } from './machine.ts';

const CAP_MSI = 0x05;
const CAP_PM = 0x01;
const CAP_MSIX = 0x11;

/** What a guest's firmware does: places for all BARs, the bridges' windows and bus numbers. */
export class Places {
  readonly #m: FuzzMachine;
  readonly #order = new Map<PciFunction, number>();

  constructor(m: FuzzMachine) {
    this.#m = m;
    for (const [i, v] of m.victims.entries()) this.#order.set(v.f, i);
  }

  /** Makes `f` reachable, whatever has become of it and of the bridges above. */
  open(f: PciFunction): void {
    if (!f.attached) return;
    const above = f.bus?.bridge;
    if (above !== undefined) this.#openBridge(above);
    this.#power(f);
    for (const spec of f.bars) this.#write(f, spec, this.#place(f, spec));
    this.#m.configWrite(f.requesterId, R.COMMAND, 2, 7);
  }

  /** Everything again, as after a reboot. */
  openAll(): void {
    for (const v of this.#m.victims) this.open(v.f);
  }

  /** 0: INTx, 1: MSI-X, all vectors unmasked, 2: MSI or MSI-X with masks. */
  enableInterrupts(f: PciFunction, how: number): void {
    const m = this.#m;
    const rid = f.requesterId;
    const msi = this.capability(f, CAP_MSI);
    if (msi !== undefined) {
      m.configWrite(rid, msi + 4, 4, DOORBELL);
      m.configWrite(rid, msi + 8, 4, 0);
      m.configWrite(rid, msi + 2, 2, how === 2 ? 1 | (m.random.below(8) << 4) : 0);
    }
    const msix = this.capability(f, CAP_MSIX);
    if (msix === undefined || f.msix === undefined) return;
    const spec = f.bars.find(b => b.index === f.msix!.bar)!;
    const table = this.#place(f, spec);
    if (how > 0) {
      for (let n = Math.min(f.msix.vectors, 4); n-- > 0; ) {
        m.write(table + 16 * n, 4, m.random.oneIn(32) ? m.random.word() : DOORBELL);
        m.write(table + 16 * n + 4, 4, 0);
        m.write(table + 16 * n + 8, 4, n);
        m.write(table + 16 * n + 12, 4, how === 2 && m.random.oneIn(2) ? 1 : 0);
      }
    }
    m.configWrite(rid, msix + 2, 2, how === 0 ? 0 : 0x8000);
  }

  /** Offset of a capability, found as a guest finds it. */
  capability(f: PciFunction, id: number): number | undefined {
    const { bytes } = f.config;
    for (let at = bytes[R.CAPABILITIES_POINTER]!, n = 0; at !== 0 && n < 48; at = bytes[at + 1]!, n++)
      if (bytes[at] === id) return at;
    return undefined;
  }

  /** Puts BAR `spec` of `f` at `address`. */
  #write(f: PciFunction, spec: BarSpec, address: number): void {
    const m = this.#m;
    const rid = f.requesterId;
    if (spec.index === 'rom') {
      m.configWrite(rid, R.ROM_ADDRESS, 4, address | 1);
      return;
    }
    m.configWrite(rid, R.BASE_ADDRESS_0 + 4 * spec.index, 4, address % 2 ** 32);
    if (spec.kind === 'mem64')
      m.configWrite(rid, R.BASE_ADDRESS_0 + 4 * spec.index + 4, 4, Math.floor(address / 2 ** 32));
  }

  #place(f: PciFunction, spec: BarSpec): number {
    const n = this.#order.get(f) ?? 40;
    const bar = spec.index === 'rom' ? 6 : spec.index;
    // 2 MiB for each function: the largest BAR, edu's, has half of it.
    if (spec.kind === 'io') return 0x4000 + n * 0x200 + bar * 0x40 * (spec.size <= 64 ? 1 : 0);
    const base = spec.kind === 'mem32' ? ARM_VIRT.pciMem32.base + 0x100_0000 : ARM_VIRT.pciMem64.base + 0x1000_0000;
    return base + n * 0x20_0000 + (spec.size > 0x1_0000 ? 0x10_0000 : bar * 0x1_0000);
  }

  #power(f: PciFunction): void {
    const pm = this.capability(f, CAP_PM);
    if (pm !== undefined) this.#m.configWrite(f.requesterId, pm + 4, 2, 0);
  }

  #openBridge(bridge: PciBridge): void {
    const m = this.#m;
    const rid = bridge.requesterId;
    const number = 1 + m.host.root.functions.filter(f => f instanceof PciBridge).indexOf(bridge);
    // Bridges that lead to the same bus get in each other's way.
    for (const other of m.host.root.functions) {
      if (!(other instanceof PciBridge) || other === bridge) continue;
      if (other.leadsTo(number)) m.configWrite(other.requesterId, R.PRIMARY_BUS, 4, 0);
    }
    this.#power(bridge);
    m.configWrite(rid, R.PRIMARY_BUS, 4, (number << 16) | (number << 8));
    m.configWrite(rid, R.IO_BASE, 2, 0xf000 | 0x0000);
    m.configWrite(rid, R.IO_BASE_UPPER16, 4, 0);
    m.configWrite(rid, R.MEMORY_BASE, 4, 0x3ee0_1000);
    m.configWrite(rid, R.PREF_MEMORY_BASE, 4, 0xfff0_0000);
    m.configWrite(rid, R.PREF_BASE_UPPER32, 4, 0x80);
    m.configWrite(rid, R.PREF_LIMIT_UPPER32, 4, 0xff);
    m.configWrite(rid, R.BRIDGE_CONTROL, 2, 0);
    m.configWrite(rid, R.COMMAND, 2, 7);
  }
}
