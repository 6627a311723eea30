import type { AddressBus, Mapping } from '../bus/types.ts';
import type { ExitSink } from '../engines/engine.ts';

/** How often one register of a device was used, and how long the answers took. Plain data; the numbers only grow. */
export interface AccessStats {
  /** The guest's addresses, its I/O ports (x86), or the calls that it makes of the machine. */
  readonly space: 'memory' | 'port' | 'hypercall';
  /** Name on the bus; of a PCI device with the number of the BAR, `disk0 BAR 4`. */
  readonly device: string;
  /** Bytes from the device's beginning; of a call its id. undefined: the registers of a device that had no place any more. */
  readonly offset: number | undefined;
  readonly reads: number;
  readonly writes: number;
  /** ns that all answers took together. */
  readonly totalNs: number;
  /** How many answers took how long: element n counts those of less than {@link latencyBound}(n) ns and no less than that of n - 1. */
  readonly latency: readonly number[];
}

/** Registers of one device that are counted by themselves; configuration space alone has 256 Mi. */
const MAX_REGISTERS = 256;
/** Four steps for each doubling, from 32 ns on: the 99th percentile is exact to 19 %. */
const STEPS = 4;
const FIRST_LOG2 = 5;
/** Up to 2 s. */
const BOUNDS = STEPS * 26 + 1;

/** Upper bound of an element of {@link AccessStats.latency}, ns. */
export function latencyBound(n: number): number {
  return 2 ** (FIRST_LOG2 + n / STEPS);
}

/** The time in ns that `share` (0 to 1) of the answers did not exceed; undefined without any. */
export function latencyPercentile(latency: readonly number[], share: number): number | undefined {
  const total = latency.reduce((sum, n) => sum + n, 0);
  if (total === 0) return undefined;
  let seen = 0;
  const n = latency.findIndex(count => {
    seen += count;
    return seen >= share * total;
  });
  return latencyBound(n);
}

/** Counts of one register. */
class Register {
  reads = 0;
  writes = 0;
  totalNs = 0;
  readonly latency = new Uint32Array(BOUNDS);

  add(write: boolean, ns: number): void {
    if (write) this.writes++;
    else this.reads++;
    this.totalNs += ns;
    const n = Math.floor(STEPS * (Math.log2(ns) - FIRST_LOG2)) + 1;
    this.latency[n > 0 ? Math.min(n, BOUNDS - 1) : 0]!++;
  }
}

/** The registers of one device that were used, by offset. */
interface Device {
  readonly space: AccessStats['space'];
  readonly name: string;
  readonly registers: Map<number | undefined, Register>;
}

/** A device with the address that its offsets count from. */
interface Place {
  readonly device: Device;
  readonly base: number;
}

/** Where guests' accesses go. */
export interface MeteredBuses {
  readonly bus: AddressBus;
  readonly ports?: AddressBus | undefined;
  /** Knows which BAR a range of a bus belongs to. */
  readonly pci: {
    barAt(
      space: 'memory' | 'io',
      address: number,
    ): { readonly name: string; readonly bar: number | string; readonly base: number } | undefined;
  };
}

/**
 * Counts the exits of a guest by device and register, and measures how long their answers take. Costs nothing until it is switched on:
 * the sink has its own methods until then.
 */
export class ExitMeter {
  /** ns that all answers took together since it was switched on. */
  totalNs = 0;
  readonly #devices: Device[] = [];
  /** Looked up once for each mapping: a device that moves gets a new one. */
  readonly #places = new WeakMap<Mapping, Place>();
  #turnOn: (() => void) | undefined;

  /** `sink` as it is, until {@link start}. @param buses names devices; not asked before that. */
  wrap(sink: ExitSink, buses: () => MeteredBuses): ExitSink {
    const wrapped = { ...sink };
    this.#turnOn = () => Object.assign(wrapped, this.#metered(sink, buses()));
    return wrapped;
  }

  /** Counts from here on; again does nothing. */
  start(): void {
    this.#turnOn?.();
    this.#turnOn = undefined;
  }

  #metered(sink: ExitSink, buses: MeteredBuses): Partial<ExitSink> {
    // The register is found before the access: a write may move its device away.
    const memory = (address: number) => this.#find(buses, 'memory', buses.bus, address);
    const port = (number: number) => this.#find(buses, 'port', buses.ports, number);
    return {
      mmioRead: (cpu, address, size) => {
        const register = memory(address);
        const began = performance.now();
        const value = sink.mmioRead(cpu, address, size);
        this.#add(register, false, began);
        return value;
      },
      mmioWrite: (cpu, address, size, value) => {
        const register = memory(address);
        const began = performance.now();
        sink.mmioWrite(cpu, address, size, value);
        this.#add(register, true, began);
      },
      portIn: (cpu, number, size) => {
        const register = port(number);
        const began = performance.now();
        const value = sink.portIn(cpu, number, size);
        this.#add(register, false, began);
        return value;
      },
      portOut: (cpu, number, size, value) => {
        const register = port(number);
        const began = performance.now();
        sink.portOut(cpu, number, size, value);
        this.#add(register, true, began);
      },
      hypercall: call => {
        const register = registerOf(this.#device('hypercall', 'hypercalls'), call.id);
        const began = performance.now();
        sink.hypercall(call);
        this.#add(register, true, began);
      },
    };
  }

  /** What was counted so far. */
  report(): AccessStats[] {
    return this.#devices.flatMap(({ space, name: device, registers }) =>
      [...registers].map(([offset, { reads, writes, totalNs, latency }]) => ({
        space,
        device,
        offset,
        reads,
        writes,
        totalNs,
        latency: Array.from(latency.subarray(0, latency.findLastIndex(n => n > 0) + 1)),
      })),
    );
  }

  #add(register: Register, write: boolean, began: number): void {
    const ns = (performance.now() - began) * 1e6;
    this.totalNs += ns;
    register.add(write, ns);
  }

  #find(buses: MeteredBuses, space: 'memory' | 'port', bus: AddressBus | undefined, address: number): Register {
    const at = bus?.at(address);
    if (at === undefined) return registerOf(this.#device(space, 'no device'), address);
    const { inside } = at.device;
    if (inside !== undefined) return this.#find(buses, 'port', inside, address - at.base);
    let place = this.#places.get(at);
    if (place === undefined) {
      const bar = buses.pci.barAt(space === 'port' ? 'io' : 'memory', address);
      place =
        bar === undefined
          ? { device: this.#device(space, at.device.name), base: at.base }
          : {
              device: this.#device(space, `${bar.name} ${bar.bar === 'rom' ? 'ROM' : `BAR ${bar.bar}`}`),
              base: bar.base,
            };
      this.#places.set(at, place);
    }
    return registerOf(place.device, address - place.base);
  }

  #device(space: AccessStats['space'], name: string): Device {
    const known = this.#devices.find(d => d.space === space && d.name === name);
    if (known !== undefined) return known;
    const device = { space, name, registers: new Map() };
    this.#devices.push(device);
    return device;
  }
}

function registerOf({ registers }: Device, offset: number): Register {
  const known = registers.get(offset);
  if (known !== undefined) return known;
  const key = registers.size < MAX_REGISTERS ? offset : undefined;
  const register = registers.get(key) ?? new Register();
  registers.set(key, register);
  return register;
}
