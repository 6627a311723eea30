import { createAddressBus } from '../bus/address-bus.ts';
import type { AddressBus } from '../bus/types.ts';
import type { InterruptController } from '../irq/types.ts';
import type { PinTable } from '../memory/pin-table.ts';
import type { MemorySlots } from '../memory/types.ts';
import { BarMapper } from '../pci/bar-mapper.ts';
import { PciBridge } from '../pci/bridge.ts';
import { PciFunction } from '../pci/function.ts';
import { intxWire, PciHost } from '../pci/host.ts';
import { type PciFunctionInfo, reportFunctions } from '../pci/report.ts';
import { PciRootPort } from '../pci/root-port.ts';
import { PciSlots } from '../pci/slots.ts';
import { ARM_VIRT, ARM_VIRT_SPI } from './address-map.ts';
import type { PciPin } from './arm-virt-fdt.ts';
import type { MachineEvents } from './machine.ts';

/** What arm-virt connects its host bridge to. */
export interface PciRootOptions {
  readonly bus: AddressBus;
  readonly pins: PinTable;
  readonly slots: MemorySlots;
  readonly interrupts: InterruptController;
  readonly events: MachineEvents;
  /** Access to configuration space. */
  readonly access: 'ecam' | 'cam';
  /** Number of hot-plug slots. */
  readonly pciSlots: number;
  /** Report sizing, moves and decode changes to {@link MachineEvents.trace}. */
  readonly trace: boolean;
}

/** Red Hat's numbers for the host bridge of a generic PCIe root complex, as QEMU's virt board has it. */
const HOST_BRIDGE = { vendorId: 0x1b36, deviceId: 0x0008, classCode: 0x06_0000 } as const;

/** The PCI Express host bridge of arm-virt with its windows: configuration space, two of memory, one of ports. */
export class PciRoot {
  readonly host: PciHost;
  readonly slots: PciSlots;
  readonly #mapper: BarMapper;

  constructor({ bus, pins, slots, interrupts, events, access, pciSlots, trace }: PciRootOptions) {
    const io = createAddressBus();
    const { pciEcam, pciIo, pciMem32, pciMem64 } = ARM_VIRT;
    this.#mapper = new BarMapper({
      memory: bus,
      io,
      slots,
      apertures: [
        { space: 'memory', ...pciMem32 },
        { space: 'memory', ...pciMem64 },
        { space: 'io', base: 0, size: pciIo.size },
      ],
      onMove: move => events.report?.({ type: 'bar-moved', ...move }),
      log: line => events.log(line),
    });
    const line = (n: number) => interrupts.line(ARM_VIRT_SPI.pciIntx + n);
    this.host = new PciHost({
      mapper: this.#mapper,
      pins,
      interrupts,
      intx: [line(0), line(1), line(2), line(3)],
      ...(trace ? { trace: (text: string) => events.trace?.(text) } : {}),
    });
    if (access === 'ecam') bus.map(pciEcam.base, pciEcam.size, this.host.ecam);
    else bus.map(pciEcam.base, pciEcam.size / 16, this.host.cam);
    bus.map(pciIo.base, pciIo.size, {
      name: 'PCI I/O window',
      read: (offset, size) => io.read(offset, size),
      write: (offset, size, value) => io.write(offset, size, value),
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
        pins.set(`${device}.${pin}`, { device, pin, spi: ARM_VIRT_SPI.pciIntx + wire });
      }
    }
    return [...pins.values()];
  }

  /** Highest bus number for the device tree: one bus where there is no bridge (DT-4). */
  get lastBus(): number {
    return this.host.root.functions.some(f => f instanceof PciBridge) ? 255 : 0;
  }

  report(): PciFunctionInfo[] {
    return reportFunctions(this.host, this.#mapper);
  }
}
