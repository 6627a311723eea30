import { createAddressBus } from '../bus/address-bus.ts';
import type { AddressBus } from '../bus/types.ts';
import type { InterruptController } from '../irq/types.ts';
import type { PinTable } from '../memory/pin-table.ts';
import type { MemorySlots } from '../memory/types.ts';
import type { DoorbellEvents } from '../pci/bar.ts';
import { BarMapper } from '../pci/bar-mapper.ts';
import { PciBridge } from '../pci/bridge.ts';
import { PciFunction } from '../pci/function.ts';
import { intxWire, PciHost } from '../pci/host.ts';
import { type PciFunctionInfo, reportFunctions } from '../pci/report.ts';
import { PciRootPort } from '../pci/root-port.ts';
import { PciSlots } from '../pci/slots.ts';
import type { AddressRange } from './address-map.ts';
import type { PciPin } from './arm-virt-fdt.ts';
import type { MachineEvents } from './machine.ts';

/** What a board connects its host bridge to. */
export interface PciRootOptions {
  readonly bus: AddressBus;
  readonly pins: PinTable;
  readonly slots: MemorySlots;
  readonly interrupts: InterruptController;
  readonly events: MachineEvents;
  /** Doorbells without an exit, where the engine has them. */
  readonly doorbells?: DoorbellEvents | undefined;
  /** Where memory BARs may be, and the ports for I/O BARs. */
  readonly memoryWindows: readonly AddressRange[];
  readonly ioWindow: AddressRange;
  /** Interrupt line of INTA; INTB to INTD are the next three. */
  readonly intx: number;
  /** The bus of I/O BARs; left out: one of its own, which the board connects. */
  readonly ports?: AddressBus | undefined;
  /** Number of hot-plug slots. */
  readonly pciSlots: number;
  /** Report sizing, moves and decode changes to {@link MachineEvents.trace}. */
  readonly trace: boolean;
}

/** Red Hat's numbers for the host bridge of a generic PCIe root complex, as QEMU's virt board has it. */
const HOST_BRIDGE = { vendorId: 0x1b36, deviceId: 0x0008, classCode: 0x06_0000 } as const;

/** The PCI Express host bridge of a board. The board maps configuration space and, where it has none, a window for ports. */
export class PciRoot {
  readonly host: PciHost;
  /** The bus of I/O BARs. */
  readonly io: AddressBus;
  readonly slots: PciSlots;
  readonly #mapper: BarMapper;

  readonly #intx: number;

  constructor(o: PciRootOptions) {
    const { bus, pins, slots, interrupts, events, pciSlots, trace } = o;
    this.io = o.ports ?? createAddressBus();
    this.#intx = o.intx;
    this.#mapper = new BarMapper({
      memory: bus,
      io: this.io,
      slots,
      doorbells: o.doorbells,
      apertures: [
        ...o.memoryWindows.map(w => ({ space: 'memory' as const, base: w.base, size: w.size })),
        { space: 'io', base: o.ioWindow.base, size: o.ioWindow.size },
      ],
      onMove: move => events.report?.({ type: 'bar-moved', ...move }),
      log: line => events.log(line),
    });
    const line = (n: number) => interrupts.line(o.intx + n);
    this.host = new PciHost({
      mapper: this.#mapper,
      pins,
      interrupts,
      intx: [line(0), line(1), line(2), line(3)],
      ...(trace ? { trace: (text: string) => events.trace?.(text) } : {}),
    });
    this.host.add(new PciFunction({ name: 'host-bridge', ...HOST_BRIDGE }), { device: 0 });
    const ports = Array.from({ length: pciSlots }, (_, n) => new PciRootPort({ slot: n + 1, host: this.host }));
    // From the end of the bus: devices keep their places whatever the number of slots.
    for (const [n, port] of ports.entries()) this.host.add(port, { device: 31 - n });
    this.slots = new PciSlots(ports);
  }

  /** The pins that the device tree describes; below a port all four may come up, one for each rotation. */
  pins(): PciPin[] {
    const pins = new Map<string, PciPin>();
    for (const f of this.host.root.functions) {
      const device = f.devfn >> 3;
      const first = f.interruptPin === 0 ? [] : [f.interruptPin];
      for (const pin of f instanceof PciBridge ? [1, 2, 3, 4] : first) {
        const wire = f instanceof PciBridge ? (device + pin - 1) & 3 : intxWire(f);
        pins.set(`${device}.${pin}`, { device, pin, spi: this.#intx + wire });
      }
    }
    return [...pins.values()];
  }

  /** Highest bus number for the device tree: one bus where there is no bridge (DT-4). */
  get lastBus(): number {
    return this.host.root.functions.some(f => f instanceof PciBridge) ? 255 : 0;
  }

  /** The BAR that answers at an address: see BarMapper.at(). */
  barAt(space: 'memory' | 'io', address: number): ReturnType<BarMapper['at']> {
    return this.#mapper.at(space, address);
  }

  report(): PciFunctionInfo[] {
    return reportFunctions(this.host, this.#mapper);
  }
}
