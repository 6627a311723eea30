import { createAddressBus } from '../../src/bus/address-bus.ts';
import type { AccessSize, AddressBus, BusDevice } from '../../src/bus/types.ts';
import type { InterruptController, MsiMessage } from '../../src/irq/types.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import type { PinLimits } from '../../src/memory/pin-types.ts';
import type { GuestMemory, MemorySlots } from '../../src/memory/types.ts';
import type { DoorbellEvents } from '../../src/pci/bar.ts';
import { type Aperture, BarMapper, type BarMove } from '../../src/pci/bar-mapper.ts';
import { PciFunction, type PciFunctionSpec } from '../../src/pci/function.ts';
import { PciHost } from '../../src/pci/host.ts';
import { ConfigMechanism1 } from '../../src/pci/mechanism1.ts';
import * as R from '../../src/pci/regs.ts';

export const RAM_BASE = 0x4000_0000;
export const RAM_SIZE = 0x1_0000;
export const MEM32 = 0x1000_0000;
export const MEM32_SIZE = 0x2000_0000;
export const MEM64 = 0x80_0000_0000;
export const MEM64_SIZE = 0x80_0000_0000;
export const IO = 0x1000;
export const IO_SIZE = 0xf000;
export const ECAM = 0x40_1000_0000;
export const CAM = 0x40_3000_0000;
/** The doorbell of the recording interrupt controller. */
export const MSI_ADDRESS = 0x0802_0040;
export const CONFIG_ADDRESS = 0xcf8;
export const CONFIG_DATA = 0xcfc;

const APERTURES: readonly Aperture[] = [
  { space: 'memory', base: MEM32, size: MEM32_SIZE },
  { space: 'memory', base: MEM64, size: MEM64_SIZE },
  { space: 'io', base: IO, size: IO_SIZE },
];

/** Options of {@link PciRig}. */
export interface PciRigOptions {
  readonly slots?: MemorySlots;
  readonly doorbells?: DoorbellEvents;
  readonly limits?: PinLimits;
}

/** A PCI host over real buses, with RAM and an interrupt controller that writes down what it gets. */
export class PciRig {
  readonly memory: AddressBus = createAddressBus();
  readonly io: AddressBus = createAddressBus();
  readonly ram: GuestMemory = createGuestMemory([
    { base: RAM_BASE, size: RAM_SIZE, kind: 'ram', bytes: new Uint8Array(RAM_SIZE) },
    { base: 0, size: 0x1000, kind: 'rom', bytes: new Uint8Array(0x1000) },
  ]);
  readonly pins: PinTable;
  readonly host: PciHost;
  readonly mapper: BarMapper;
  /** Messages since they were last looked at. */
  messages: MsiMessage[] = [];
  /** Levels of the root's four INTx wires. */
  readonly wires = [false, false, false, false];
  moves: BarMove[] = [];
  log: string[] = [];
  trace: string[] = [];

  constructor(options: PciRigOptions = {}) {
    this.pins = new PinTable({ memory: this.ram, limits: options.limits ?? {} });
    this.mapper = new BarMapper({
      memory: this.memory,
      io: this.io,
      apertures: APERTURES,
      slots: options.slots,
      doorbells: options.doorbells,
      onMove: m => this.moves.push(m),
      log: line => this.log.push(line),
    });
    const wire = (n: number) => ({
      set: (level: boolean) => {
        this.wires[n] = level;
      },
    });
    this.host = new PciHost({
      mapper: this.mapper,
      pins: this.pins,
      interrupts: this.#controller(),
      intx: [wire(0), wire(1), wire(2), wire(3)],
      trace: line => this.trace.push(line),
    });
    this.memory.map(ECAM, 256 * 2 ** 20, this.host.ecam);
    this.memory.map(CAM, 16 * 2 ** 20, this.host.cam);
    this.io.map(CONFIG_ADDRESS, 8, new ConfigMechanism1(this.host));
  }

  /** Messages since the last call. */
  taken(): MsiMessage[] {
    const messages = this.messages;
    this.messages = [];
    return messages;
  }

  /** A function on the root bus. */
  add(spec: Partial<PciFunctionSpec> = {}, device?: number): PciFunction {
    const f = fakeFunction(spec);
    this.host.add(f, device === undefined ? {} : { device });
    return f;
  }

  /** Reads a configuration register through ECAM as a guest does. */
  read(f: PciFunction, register: number, size: AccessSize = 4): number {
    return this.memory.read(ecamOf(f, register), size);
  }

  write(f: PciFunction, register: number, value: number, size: AccessSize = 4): void {
    this.memory.write(ecamOf(f, register), size, value);
  }

  /** Sets COMMAND. */
  command(f: PciFunction, value: number): void {
    this.write(f, R.COMMAND, value, 2);
  }

  #controller(): InterruptController {
    return {
      line: () => ({ set: () => undefined }),
      signalMsi: m => {
        if (m.address !== MSI_ADDRESS) return false;
        this.messages.push(m);
        return true;
      },
      reset: () => undefined,
      save: () => undefined,
      restore: () => undefined,
    };
  }
}

/** A function without a place. */
export function fakeFunction(spec: Partial<PciFunctionSpec> = {}): PciFunction {
  return new PciFunction({ name: 'fake', vendorId: 0x1b36, deviceId: 0x0005, classCode: 0x00ff00, ...spec });
}

/** Where a guest finds a register of `f` in memory. */
export function ecamOf(f: PciFunction, register: number): number {
  return ECAM + f.requesterId * 4096 + register;
}

/** Offset of the capability `id` in the conventional list, found as a guest finds it; undefined: there is none. */
export function capabilityOf(f: PciFunction, id: number): number | undefined {
  const { bytes } = f.config;
  for (let at = bytes[R.CAPABILITIES_POINTER]!; at !== 0; at = bytes[at + 1]!) if (bytes[at] === id) return at;
  return undefined;
}

/** The same in the extended list. */
export function extendedCapabilityOf(f: PciFunction, id: number): number | undefined {
  for (let at = 0x100; at !== 0; at = f.config.view.getUint32(at, true) >>> 20)
    if (f.config.view.getUint16(at, true) === id) return at;
  return undefined;
}

/** An access that reached a device. */
export interface Access {
  readonly offset: number;
  readonly size: AccessSize;
  /** Of a write. */
  readonly value?: number;
}

/** A device behind a BAR that answers with its tag and the offset, and writes down what it gets. */
export class FakeBar implements BusDevice {
  accesses: Access[] = [];

  constructor(
    readonly tag = 1,
    readonly name = `fake ${tag}`,
  ) {}

  read(offset: number, size: AccessSize): number {
    this.accesses.push({ offset, size });
    return this.answer(offset, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.accesses.push({ offset, size, value });
  }

  /** What a read of `offset` gives. */
  answer(offset: number, size: AccessSize): number {
    const value = ((this.tag << 24) | (offset & 0xff_ffff)) >>> 0;
    return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
  }

  /** Accesses since the last call. */
  taken(): Access[] {
    const { accesses } = this;
    this.accesses = [];
    return accesses;
  }
}
