import type { AccessSize, BusDevice } from '../bus/types.ts';
import type { InterruptController, InterruptLine } from '../irq/types.ts';
import type { PinTable } from '../memory/pin-table.ts';
import { VmError } from '../util/errors.ts';
import type { BarMapper, Reach } from './bar-mapper.ts';
import { PciBridge } from './bridge.ts';
import { PciBus } from './bus.ts';
import { describeWrite } from './describe.ts';
import type { FunctionHost, PciFunction, PciFunctionState } from './function.ts';
import { PinWaiters } from './pin-waiters.ts';

/** Options of {@link PciHost}. */
export interface PciHostOptions {
  readonly mapper: BarMapper;
  /** The guest's memory for DMA: who holds what of it. */
  readonly pins: PinTable;
  readonly interrupts: InterruptController;
  /** INTA to INTD of device 0 of the root bus; the others are rotated (PCI-to-PCI Bridge 1.2 section 9.1). */
  readonly intx: readonly [InterruptLine, InterruptLine, InterruptLine, InterruptLine];
  /** One line for each sizing, move and decode change. */
  trace?(line: string): void;
}

/** The answer of a configuration read that nobody claims (CFG-2). */
const ALL_ONES = 0xffff_ffff;

/**
 * A PCI Express host bridge: the root bus, and the ways to configuration space. Functions are found by the bus numbers in the
 * bridges' bytes, so renumbering takes effect with the write that does it.
 */
export class PciHost implements FunctionHost {
  readonly root = new PciBus(undefined);
  readonly pins: PinTable;
  readonly waiters = new PinWaiters();
  /** ECAM: bus << 20 | device << 15 | function << 12 | register; 1 MiB for each bus. */
  readonly ecam: BusDevice;
  /** CAM: the same with 256 bytes for each function, 64 KiB for each bus. */
  readonly cam: BusDevice;
  readonly #options: PciHostOptions;
  /** Functions by bus and devfn as they were last found; empty after anything that could change the answer. */
  readonly #found = new Map<number, PciFunction | undefined>();
  /** How many functions assert each of the four INTx wires, and which one a function asserts. */
  readonly #asserted = [0, 0, 0, 0];
  readonly #wires = new Map<PciFunction, number>();

  constructor(options: PciHostOptions) {
    this.#options = options;
    this.pins = options.pins;
    this.pins.onUnblocked(() => this.waiters.released());
    this.ecam = this.#window('PCIe ECAM', 12);
    this.cam = this.#window('PCI CAM', 8);
  }

  /**
   * Puts `f` on a bus, the root bus by default.
   * @param device device number; default: the first free one.
   * @throws VmError ERR_PCI_SLOT when there is no room.
   */
  add(
    f: PciFunction,
    place: { readonly bus?: PciBus; readonly device?: number; readonly function?: number } = {},
  ): void {
    const bus = place.bus ?? this.root;
    const device = place.device ?? bus.freeDevice();
    if (device === undefined) {
      throw new VmError('ERR_PCI_SLOT', `${f.name}: its bus is full`, { hint: 'a PCI bus has 32 devices: use fewer' });
    }
    this.#found.clear();
    bus.add(f, (device << 3) | (place.function ?? 0), this);
  }

  /** Takes `f` off its bus: it answers nothing from now on. */
  remove(f: PciFunction): void {
    this.#found.clear();
    this.#options.mapper.reconcile(f, []);
    f.bus?.remove(f);
  }

  /** Every function, bus by bus, those behind a bridge right after it. */
  functions(bus: PciBus = this.root): PciFunction[] {
    return bus.functions.flatMap(f => (f instanceof PciBridge ? [f, ...this.functions(f.secondary)] : [f]));
  }

  /** The function that answers for a requester id, by the bus numbers that the guest has assigned. */
  find(requesterId: number): PciFunction | undefined {
    const known = this.#found.get(requesterId);
    if (known !== undefined || this.#found.has(requesterId)) return known;
    const f = this.#busOf(requesterId >> 8)?.at(requesterId & 0xff);
    this.#found.set(requesterId, f);
    return f;
  }

  /** A configuration read; `size` bytes that lie in one aligned dword, or all ones (CFG-3). */
  configRead(requesterId: number, offset: number, size: AccessSize): number {
    if ((offset & 3) + size > 4) return ALL_ONES;
    return this.find(requesterId)?.configRead(offset, size) ?? ALL_ONES;
  }

  /** A configuration write; ignored when it crosses a dword. All that follows from it has happened on return. */
  configWrite(requesterId: number, offset: number, size: AccessSize, value: number): void {
    if ((offset & 3) + size <= 4) this.find(requesterId)?.configWrite(offset, size, value);
  }

  /** The state of every function, bridges before what is behind them. @throws VmError ERR_STATE naming a device that has none. */
  save(): PciFunctionState[] {
    return this.functions().map(f => f.save());
  }

  /** @throws VmError ERR_STATE when the functions are others. */
  restore(states: readonly PciFunctionState[]): void {
    const functions = this.functions();
    if (functions.map(f => f.name).join() !== states.map(s => s.name).join()) {
      throw new VmError('ERR_STATE', 'the saved PCI bus has other devices', {
        hint: 'restore into a machine with the same devices',
      });
    }
    for (const [i, f] of functions.entries()) f.restoreRegisters(states[i]!);
    // Bus numbers are in the bytes of bridges.
    this.#found.clear();
    for (const [i, f] of functions.entries()) f.restoreDevice(states[i]!);
  }

  /** Resets every function, bridges first. */
  reset(): void {
    for (const f of this.root.functions) f.reset();
  }

  decodeChanged(f: PciFunction): void {
    if (f instanceof PciBridge) {
      // Bus numbers, windows and mastering of everything below may be different now.
      this.#found.clear();
      for (const g of this.functions(f.secondary)) {
        g.masterChanged();
        this.#reconcile(g);
      }
    }
    this.#reconcile(f);
  }

  setIntx(f: PciFunction, level: boolean): void {
    const wire = this.#wires.get(f) ?? intxWire(f);
    if (level) this.#wires.set(f, wire);
    else this.#wires.delete(f);
    this.#asserted[wire]! += level ? 1 : -1;
    this.#options.intx[wire as 0 | 1 | 2 | 3].set(this.#asserted[wire]! > 0);
  }

  signalMsi(f: PciFunction, address: number, data: number): void {
    if (this.#options.interrupts.signalMsi({ address, data, deviceId: f.requesterId })) return;
    // A message is a memory write: where no controller listens it goes to RAM, if there is some.
    if (f.dma.borrow(address, 4, 'w') !== undefined) this.pins.memory.setU32(address, data);
  }

  configWritten(f: PciFunction, offset: number, size: AccessSize, value: number): void {
    if (this.#options.trace === undefined) return;
    for (const line of describeWrite(f, offset, size, value)) this.#options.trace(line);
  }

  #reconcile(f: PciFunction): void {
    const reaches: Reach[] = [];
    for (const { spec, space, address } of f.decode()) {
      let start = address;
      let end = address + spec.size;
      for (let b = f.bus?.bridge; b !== undefined; b = b.bus?.bridge) {
        const w = b.windows().find(v => v.space === space && v.base < end && v.end > start);
        start = Math.max(start, w?.base ?? end);
        end = Math.min(end, w?.end ?? start);
      }
      if (start < end) reaches.push({ spec, space, address, start, end });
    }
    this.#options.mapper.reconcile(f, f.attached ? reaches : []);
  }

  #busOf(number: number): PciBus | undefined {
    let bus: PciBus | undefined = this.root;
    while (bus !== undefined && bus.number !== number) {
      const next: PciFunction | undefined = bus.functions.find(f => f instanceof PciBridge && f.leadsTo(number));
      bus = next instanceof PciBridge ? next.secondary : undefined;
    }
    return bus;
  }

  /** A window of memory onto configuration space, `2 ** shift` bytes for each function. */
  #window(name: string, shift: number): BusDevice {
    const register = 2 ** shift - 1;
    return {
      name,
      read: (offset, size) => this.configRead(offset >>> shift, offset & register, size),
      write: (offset, size, value) => this.configWrite(offset >>> shift, offset & register, size, value),
      // PCI has no configuration cycles of 64 bits (CFG-3).
      read64: () => 0xffff_ffff_ffff_ffffn,
      write64: () => undefined,
    };
  }
}

/** Which of the root's four wires the pin of `f` comes out at: rotated by the device number on every bus on the way. */
export function intxWire(f: PciFunction): number {
  let wire = f.interruptPin - 1 + (f.devfn >> 3);
  for (let b = f.bus?.bridge; b !== undefined; b = b.bus?.bridge) wire += b.devfn >> 3;
  return wire & 3;
}
