import { PciBus } from './bus.ts';
import { PciFunction, type PciFunctionSpec } from './function.ts';
import * as R from './regs.ts';

/** A range of addresses that a bridge forwards downstream, [base, end). */
export interface BridgeWindow {
  readonly space: 'memory' | 'io';
  readonly base: number;
  readonly end: number;
}

/** I/O base and limit decode 32 bits, prefetchable memory 64 (PCI-to-PCI Bridge 1.2 sections 3.2.5.6 and 3.2.5.10). */
const IO_32 = 1;
const PREFETCHABLE_64 = 1;

/** A PCI-to-PCI bridge: header type 1, and the bus behind it (PCI-to-PCI Bridge 1.2 chapter 3). */
export class PciBridge extends PciFunction {
  readonly secondary: PciBus;

  constructor(spec: Omit<PciFunctionSpec, 'headerType'>) {
    super({ ...spec, headerType: 1 });
    this.secondary = new PciBus(this);
    const { config } = this;
    for (const at of [R.PRIMARY_BUS, R.SECONDARY_BUS, R.SUBORDINATE_BUS]) config.define(at, 1, 0, 0xff);
    config.define(R.IO_BASE, 1, 0xf0 | IO_32, 0xf0);
    config.define(R.IO_LIMIT, 1, IO_32, 0xf0);
    config.define(R.SECONDARY_STATUS, 2, 0, 0, R.STATUS_ERRORS);
    // A base above its limit: the window is closed, as after a reset nothing is to be forwarded.
    config.define(R.MEMORY_BASE, 2, 0xfff0, 0xfff0);
    config.define(R.MEMORY_LIMIT, 2, 0, 0xfff0);
    config.define(R.PREF_MEMORY_BASE, 2, 0xfff0 | PREFETCHABLE_64, 0xfff0);
    config.define(R.PREF_MEMORY_LIMIT, 2, PREFETCHABLE_64, 0xfff0);
    config.define(R.PREF_BASE_UPPER32, 4, 0, 0xffff_ffff);
    config.define(R.PREF_LIMIT_UPPER32, 4, 0, 0xffff_ffff);
    config.define(R.IO_BASE_UPPER16, 2, 0, 0xffff);
    config.define(R.IO_LIMIT_UPPER16, 2, 0, 0xffff);
    // Parity, SERR, ISA, bus reset; the rest is of buses that PCI Express does not have.
    config.define(R.BRIDGE_CONTROL, 2, 0, 0x0047);
    config.effect(R.PRIMARY_BUS, 3, () => this.decodeChanged());
    config.effect(R.IO_BASE, R.IO_LIMIT_UPPER16 + 2 - R.IO_BASE, () => this.decodeChanged());
    config.effect(R.BRIDGE_CONTROL, 2, before => {
      const was = before.getUint16(R.BRIDGE_CONTROL, true) & R.BRIDGE_CONTROL_BUS_RESET;
      if (was === 0 && (config.view.getUint16(R.BRIDGE_CONTROL, true) & R.BRIDGE_CONTROL_BUS_RESET) !== 0)
        this.#resetBelow();
    });
    config.seal();
  }

  /** Whether configuration cycles for bus `number` go through this bridge. */
  leadsTo(number: number): boolean {
    const { bytes } = this.config;
    return number >= bytes[R.SECONDARY_BUS]! && number <= bytes[R.SUBORDINATE_BUS]! && bytes[R.SECONDARY_BUS] !== 0;
  }

  /** Open windows by the configuration bytes. */
  windows(): BridgeWindow[] {
    const { view, bytes } = this.config;
    const { command } = this;
    const windows: BridgeWindow[] = [];
    const add = (space: 'memory' | 'io', base: number, end: number) => {
      if (base < end) windows.push({ space, base, end });
    };
    if ((command & R.COMMAND_MEMORY) !== 0) {
      const part = (at: number) => (view.getUint16(at, true) & 0xfff0) * 0x1_0000;
      add('memory', part(R.MEMORY_BASE), part(R.MEMORY_LIMIT) + 0x10_0000);
      const high = (at: number) => view.getUint32(at, true) * 2 ** 32;
      add(
        'memory',
        high(R.PREF_BASE_UPPER32) + part(R.PREF_MEMORY_BASE),
        high(R.PREF_LIMIT_UPPER32) + part(R.PREF_MEMORY_LIMIT) + 0x10_0000,
      );
    }
    if ((command & R.COMMAND_IO) !== 0) {
      const part = (low: number, high: number) => view.getUint16(high, true) * 0x1_0000 + (bytes[low]! & 0xf0) * 0x100;
      add('io', part(R.IO_BASE, R.IO_BASE_UPPER16), part(R.IO_LIMIT, R.IO_LIMIT_UPPER16) + 0x1000);
    }
    return windows;
  }

  override reset(): void {
    super.reset();
    this.#resetBelow();
  }

  #resetBelow(): void {
    for (const f of this.secondary.functions) f.reset();
  }
}
