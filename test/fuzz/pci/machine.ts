import { createAddressBus } from '../../../src/bus/address-bus.ts';
import type { AccessSize } from '../../../src/bus/types.ts';
import type { MsiMessage } from '../../../src/irq/types.ts';
import { ARM_VIRT } from '../../../src/machine/address-map.ts';
import type { DeviceMemory, MemorySlots } from '../../../src/memory/types.ts';
import { BarMapper } from '../../../src/pci/bar-mapper.ts';
import { PciBridge } from '../../../src/pci/bridge.ts';
import { MsiCapability } from '../../../src/pci/caps/msi.ts';
import { PciFunction } from '../../../src/pci/function.ts';
import { PciHost } from '../../../src/pci/host.ts';
import { ConfigMechanism1 } from '../../../src/pci/mechanism1.ts';
import { PciRootPort } from '../../../src/pci/root-port.ts';
import { createVirtualClock } from '../../../src/time/virtual-clock.ts';
import { createDevices, type Devices, type Victim } from './devices.ts';
import { GuardedRam } from './guest-ram.ts';
import type { Random } from './random.ts';

/** CAM is not on arm-virt; it gets a place that nothing else has. */
const CAM = 0x40_3000_0000;
export const DOORBELL = 0x0802_0040;
const PORTS = 4;

/** What a guest did. */
export type Action =
  | 'config read'
  | 'config write'
  | 'memory read'
  | 'memory write'
  | 'port read'
  | 'port write'
  | 'request'
  | 'host';

/** A thing that must not happen. */
export class FuzzFailure extends Error {}

/** Wall time of one access that is too long; nothing that a guest does may keep the machine's thread longer. */
const SLOW_MS = 1000;
/** Operations that a failure tells of. */
const REMEMBERED = 24;

/** A machine as arm-virt has it, with every kind of PCI device, and the ways of its guest to them. All of them are counted and timed. */
export class FuzzMachine {
  readonly ram: GuardedRam;
  readonly clock = createVirtualClock({ startWall: 0n });
  readonly memory = createAddressBus();
  readonly io = createAddressBus();
  readonly host: PciHost;
  readonly mapper: BarMapper;
  readonly ports: readonly PciRootPort[];
  readonly bridge: PciBridge;
  devices!: Devices;
  /** Those that are on a bus, or may be. */
  victims: readonly Victim[] = [];
  readonly counts: Record<Action, number> = {
    'config read': 0,
    'config write': 0,
    'memory read': 0,
    'memory write': 0,
    'port read': 0,
    'port write': 0,
    request: 0,
    host: 0,
  };
  messages = 0;
  moves = 0;
  logged = 0;
  slowest = { ms: 0, what: '' };
  #broken: string | undefined;
  /** The last operations, round and round; their words are put together when they are needed. */
  readonly #last: (() => string)[] = [];
  #at = 0;
  /** Where the witnesses are: [base, end). The guest keeps off. */
  readonly #reserved: { base: number; end: number }[] = [];
  readonly #witnesses = new Set<PciFunction>();

  private constructor(readonly random: Random) {
    this.ram = new GuardedRam(random);
    const { pciEcam, pciIo, pciMem32, pciMem64 } = ARM_VIRT;
    this.mapper = new BarMapper({
      memory: this.memory,
      io: this.io,
      slots: this.slots,
      apertures: [
        { space: 'memory', ...pciMem32 },
        { space: 'memory', ...pciMem64 },
        { space: 'io', base: 0, size: pciIo.size },
      ],
      onMove: () => this.moves++,
      log: () => this.logged++,
    });
    const levels = [false, false, false, false];
    const wire = (n: number) => ({
      set: (level: boolean) => {
        levels[n] = level;
      },
    });
    this.host = new PciHost({
      mapper: this.mapper,
      pins: this.ram.pins,
      interrupts: {
        line: () => ({ set: () => undefined }),
        signalMsi: m => this.#message(m),
        reset: () => undefined,
        save: () => undefined,
        restore: () => undefined,
      },
      intx: [wire(0), wire(1), wire(2), wire(3)],
    });
    this.memory.map(pciEcam.base, pciEcam.size, this.host.ecam);
    this.memory.map(CAM, 16 << 20, this.host.cam);
    this.memory.map(pciIo.base, pciIo.size, {
      name: 'PCI I/O window',
      read: (offset, size) => this.io.read(offset, size),
      write: (offset, size, value) => this.io.write(offset, size, value),
    });
    // Inside of the ports' aperture, so that a BAR can come to lie where something else is already.
    this.io.map(0xcf8, 8, new ConfigMechanism1(this.host));
    const bridge = { vendorId: 0x1b36, deviceId: 0x0008, classCode: 0x06_0000 };
    this.host.add(new PciFunction({ name: 'host-bridge', ...bridge }), { device: 0 });
    this.ports = Array.from({ length: PORTS }, (_, n) => new PciRootPort({ slot: n + 1, host: this.host }));
    for (const [n, port] of this.ports.entries()) this.host.add(port, { device: 31 - n });
    this.bridge = new PciBridge({
      name: 'bridge',
      vendorId: 0x1b36,
      deviceId: 0x0001,
      classCode: 0x06_0400,
      capabilities: [new MsiCapability(32)],
    });
    this.host.add(this.bridge, { device: 27 });
  }

  static async create(random: Random): Promise<FuzzMachine> {
    const m = new FuzzMachine(random);
    m.devices = await createDevices({
      random,
      ram: m.ram,
      clock: m.clock,
      slots: m.slots,
      log: line => m.log(line),
      broken: why => m.broken(why),
    });
    const { fixed, bridged, pluggable, witnessRng, witnessBlk } = m.devices;
    m.host.add(witnessRng, { device: 1 });
    m.host.add(witnessBlk, { device: 2 });
    m.#witnesses.add(witnessRng).add(witnessBlk);
    for (const v of fixed.slice(1)) m.host.add(v.f);
    // A device of several functions.
    m.host.add(fixed[0]!.f, { device: fixed[1]!.f.devfn >> 3, function: 3 });
    for (const [i, v] of bridged.entries()) m.host.add(v.f, { bus: m.bridge.secondary, device: 5 * i });
    m.ports[0]!.plugAtBoot(pluggable[0]!.f);
    m.victims = [...fixed, ...pluggable, ...bridged];
    return m;
  }

  /** Device memory that is mapped without an exit: the mapper must keep it apart, and inside of the apertures. */
  readonly slots: MemorySlots = {
    pageSize: 4096,
    allocate: size => ({ bytes: new Uint8Array(new SharedArrayBuffer(size)) }),
    map: (base, size, memory, offset) => this.#mapSlot(base, size, memory, offset),
  };
  readonly #slots = new Set<{ base: number; end: number }>();

  /** A line of a device, which are bounded: how much a device goes wrong is a question of the victim's own counters. */
  log(line: string): void {
    this.logged++;
    if (process.env.FUZZ_LOG !== undefined) process.stderr.write(`${line}\n`);
  }

  get operations(): number {
    return Object.values(this.counts).reduce((sum, n) => sum + n, 0);
  }

  isWitness(f: PciFunction | undefined): boolean {
    return f !== undefined && this.#witnesses.has(f);
  }

  /** The guest keeps off [base, base + size) from now on, and off nothing else. */
  reserve(ranges: readonly { base: number; size: number }[]): void {
    this.#reserved.splice(0, this.#reserved.length, ...ranges.map(r => ({ base: r.base, end: r.base + r.size })));
  }

  /** Something is wrong; said by the next {@link check}. */
  broken(why: string): void {
    this.#broken ??= why;
  }

  /** @throws FuzzFailure when something is wrong. */
  check(): void {
    if (this.#broken === undefined) return;
    const last = [...this.#last.slice(this.#at), ...this.#last.slice(0, this.#at)].map(what => `  ${what()}`);
    throw new FuzzFailure(`${this.#broken}\nafter ${this.operations} operations; before:\n${last.join('\n')}`);
  }

  /** Does one thing, which must neither throw nor take long. */
  act<T>(action: Action, what: () => string, f: () => T): T | undefined {
    this.counts[action]++;
    // What follows a failure does not matter.
    if (this.#broken === undefined) {
      this.#last[this.#at] = () => `${action} ${what()}`;
      this.#at = (this.#at + 1) % REMEMBERED;
    }
    const start = performance.now();
    try {
      return f();
    } catch (e) {
      this.broken(`${action}: ${e instanceof Error ? e.stack : String(e)}`);
      return undefined;
    } finally {
      const ms = performance.now() - start;
      if (ms > this.slowest.ms) this.slowest = { ms, what: `${action} ${what()}` };
      if (ms > SLOW_MS) this.broken(`${action} ${what()} took ${Math.round(ms)} ms`);
    }
  }

  /** A read of configuration space by one of the three ways. */
  configRead(rid: number, register: number, size: AccessSize): number {
    if (this.isWitness(this.host.find(rid))) return 0xffff_ffff;
    const what = () => `${rid.toString(16)} ${register.toString(16)} ${size}`;
    return this.act('config read', what, () => this.#configAccess(rid, register, size, undefined)) ?? 0;
  }

  configWrite(rid: number, register: number, size: AccessSize, value: number): void {
    if (this.isWitness(this.host.find(rid))) return;
    const what = () => `${rid.toString(16)} ${register.toString(16)} ${size} = ${value.toString(16)}`;
    this.act('config write', what, () => void this.#configAccess(rid, register, size, value));
  }

  read(address: number, size: AccessSize): number {
    if (this.#isReserved(address)) return 0;
    return (
      this.act(
        'memory read',
        () => `${address.toString(16)} ${size}`,
        () => this.memory.read(address, size),
      ) ?? 0
    );
  }

  write(address: number, size: AccessSize, value: number): void {
    if (this.#isReserved(address)) return;
    const what = () => `${address.toString(16)} ${size} = ${value.toString(16)}`;
    this.act('memory write', what, () => this.memory.write(address, size, value));
  }

  read64(address: number): bigint {
    if (this.#isReserved(address)) return 0n;
    return (
      this.act(
        'memory read',
        () => `${address.toString(16)} 8`,
        () => this.memory.read64(address),
      ) ?? 0n
    );
  }

  write64(address: number, value: bigint): void {
    if (this.#isReserved(address)) return;
    const what = () => `${address.toString(16)} 8 = ${value.toString(16)}`;
    this.act('memory write', what, () => this.memory.write64(address, value));
  }

  portRead(port: number, size: AccessSize): number {
    return (
      this.act(
        'port read',
        () => `${port.toString(16)} ${size}`,
        () => this.io.read(port, size),
      ) ?? 0
    );
  }

  portWrite(port: number, size: AccessSize, value: number): void {
    const what = () => `${port.toString(16)} ${size} = ${value.toString(16)}`;
    this.act('port write', what, () => this.io.write(port, size, value));
  }

  #configAccess(rid: number, register: number, size: AccessSize, value: number | undefined): number {
    const { random, memory, io } = this;
    const way = register < 256 ? random.below(8) : 7;
    if (way === 0) {
      io.write(0xcf8, 4, (0x8000_0000 | (rid << 8) | (register & 0xfc)) >>> 0);
      const port = 0xcfc + (register & 3);
      if (value === undefined) return io.read(port, size);
      io.write(port, size, value);
      return 0;
    }
    const address = way === 1 ? CAM + rid * 256 + register : ARM_VIRT.pciEcam.base + rid * 4096 + register;
    if (value === undefined) return memory.read(address, size);
    memory.write(address, size, value);
    return 0;
  }

  #isReserved(address: number): boolean {
    return this.#reserved.some(r => address < r.end && address + 8 > r.base);
  }

  #message({ address }: MsiMessage): boolean {
    if (address !== DOORBELL) return false;
    this.messages++;
    return true;
  }

  #mapSlot(base: number, size: number, memory: DeviceMemory, offset: number): Disposable | undefined {
    if (this.random.oneIn(4)) return undefined;
    const end = base + size;
    const { pciMem32, pciMem64 } = ARM_VIRT;
    const inside = [pciMem32, pciMem64].some(a => base >= a.base && end <= a.base + a.size);
    if (!inside || offset < 0 || offset + size > memory.bytes.length || size <= 0)
      this.broken(`a slot of ${size} bytes at ${base.toString(16)}`);
    for (const s of this.#slots) if (base < s.end && end > s.base) this.broken('slots overlap');
    const slot = { base, end };
    this.#slots.add(slot);
    return { [Symbol.dispose]: () => void this.#slots.delete(slot) };
  }
}
