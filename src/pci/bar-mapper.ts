import type { AccessSize, AddressBus, BusDevice } from '../bus/types.ts';
import type { MemorySlots } from '../memory/types.ts';
import { hex } from '../util/hex.ts';
import { upper32 } from '../util/words.ts';
import type { BarIndex, BarSpec, DoorbellEvents } from './bar.ts';

/** A range of bus addresses that the host bridge forwards to its functions. */
export interface Aperture {
  readonly space: 'memory' | 'io';
  readonly base: number;
  /** Bytes. */
  readonly size: number;
}

/** A live BAR and what of it can be reached through the bridges above: [start, end) of [address, address + size). */
export interface Reach {
  readonly spec: BarSpec;
  readonly space: 'memory' | 'io';
  readonly address: number;
  readonly start: number;
  readonly end: number;
}

/** A change of one BAR's window; `from` or `to` is undefined while it is dead. */
export interface BarMove {
  readonly function: string;
  readonly bar: BarIndex;
  readonly from: number | undefined;
  readonly to: number | undefined;
}

/** A function as the mapper knows it: an identity with a name. */
export interface BarOwner {
  readonly name: string;
}

/** Options of {@link BarMapper}. */
export interface BarMapperOptions {
  readonly memory: AddressBus;
  readonly io: AddressBus;
  readonly apertures: readonly Aperture[];
  readonly slots?: MemorySlots | undefined;
  readonly doorbells?: DoorbellEvents | undefined;
  onMove?(move: BarMove): void;
  /** A window that could not be mapped stays dead (BAR-14); one line for the host's user. */
  log?(line: string): void;
}

/** A live window. A new object for every change, so that identity says whether something moved. */
interface Live extends Reach {
  readonly owner: BarOwner;
  /** Rank in the order of programming. */
  readonly order: number;
}

/** A part of the address space that one window answers. */
interface Segment {
  readonly live: Live;
  readonly start: number;
  readonly end: number;
  readonly mappings: readonly Disposable[];
}

/**
 * The only code that puts BARs on buses. It is told what the configuration bytes decode to and makes the buses agree; windows
 * are known by (function, BAR index), never by address. Where live windows overlap, the one programmed last answers, and the
 * other one answers again when it leaves (BAR-13c). Everything else inside the apertures answers nothing: all ones (BAR-15).
 */
export class BarMapper {
  readonly #options: BarMapperOptions;
  readonly #live = new Map<BarOwner, Map<BarIndex, Live>>();
  readonly #segments: { memory: Segment[]; io: Segment[] } = { memory: [], io: [] };
  #programmed = 0;

  constructor(options: BarMapperOptions) {
    this.#options = options;
  }

  /** Makes the windows of `owner` those of `reaches`, at most one a BAR. Apertures are applied here. */
  reconcile(owner: BarOwner, reaches: readonly Reach[]): void {
    const before = this.#live.get(owner) ?? new Map<BarIndex, Live>();
    const after = new Map<BarIndex, Live>();
    const moved = new Set<'memory' | 'io'>();
    for (const reach of reaches) {
      if (!this.#inAperture(reach)) continue;
      const { index } = reach.spec;
      const old = before.get(index);
      if (old !== undefined && old.address === reach.address && old.start === reach.start && old.end === reach.end) {
        after.set(index, old);
        continue;
      }
      after.set(index, { ...reach, owner, order: ++this.#programmed });
      moved.add(reach.space);
    }
    for (const [index, old] of before) if (!after.has(index)) moved.add(old.space);
    if (moved.size === 0) return;
    if (after.size > 0) this.#live.set(owner, after);
    else this.#live.delete(owner);
    for (const space of moved) this.#remap(space);
    if (this.#options.onMove !== undefined) this.#report(owner, before, after);
  }

  /** Addresses of the live windows of `owner` by BAR; for reports. */
  windows(owner: BarOwner): ReadonlyMap<BarIndex, Reach> {
    return this.#live.get(owner) ?? new Map();
  }

  /** The window that answers at an address; for reports. @returns name of its function, number of the BAR, and its beginning. */
  at(
    space: 'memory' | 'io',
    address: number,
  ): { readonly name: string; readonly bar: BarIndex; readonly base: number } | undefined {
    const segment = this.#segments[space].find(s => address >= s.start && address < s.end);
    if (segment === undefined) return undefined;
    const { owner, spec, address: base } = segment.live;
    return { name: owner.name, bar: spec.index, base };
  }

  /** BAR-7: a window lies in one aperture as a whole, as a host bridge forwards it. */
  #inAperture({ space, address, spec }: Reach): boolean {
    return this.#options.apertures.some(
      a => a.space === space && address >= a.base && address + spec.size <= a.base + a.size,
    );
  }

  /** Brings one bus to the flat view of the live windows: what stays is not touched. */
  #remap(space: 'memory' | 'io'): void {
    const wanted = flatView([...this.#live.values()].flatMap(m => [...m.values()]).filter(l => l.space === space));
    const kept: Segment[] = [];
    for (const s of this.#segments[space]) {
      const i = wanted.findIndex(w => w.live === s.live && w.start === s.start && w.end === s.end);
      if (i >= 0) {
        kept.push(s);
        wanted.splice(i, 1);
      } else for (const m of s.mappings) m[Symbol.dispose]();
    }
    for (const w of wanted) kept.push({ ...w, mappings: this.#map(w) });
    this.#segments[space] = kept;
  }

  #map({ live, start, end }: Omit<Segment, 'mappings'>): Disposable[] {
    const { spec, space, address } = live;
    const { slots, doorbells, log } = this.#options;
    const offset = start - address;
    const mappings: Disposable[] = [];
    // BAR-18: pages only; the rest is answered access by access.
    if (spec.memory !== undefined && slots !== undefined && (start | end | offset) % slots.pageSize === 0) {
      const slot = slots.map(start, end - start, spec.memory, offset, spec.index === 'rom');
      if (slot !== undefined) mappings.push(slot);
    }
    try {
      const device = offset === 0 ? spec.device : new ShiftedDevice(spec.device, offset);
      mappings.push(this.#options[space].map(start, end - start, device));
    } catch (e) {
      log?.(`${live.owner.name}: BAR ${spec.index} cannot be mapped at ${hex(start)}: ${(e as Error).message}`);
      // BAR-14: dead as a whole, whatever of it could be mapped.
      for (const m of mappings) m[Symbol.dispose]();
      return [];
    }
    for (const d of spec.doorbells ?? []) {
      if (doorbells === undefined || address + d.offset < start || address + d.offset + d.size > end) continue;
      const event = doorbells.register(space, address + d.offset, d);
      if (event !== undefined) mappings.push(event);
    }
    return mappings;
  }

  #report(owner: BarOwner, before: ReadonlyMap<BarIndex, Live>, after: ReadonlyMap<BarIndex, Live>): void {
    for (const index of new Set([...before.keys(), ...after.keys()])) {
      const from = before.get(index)?.address;
      const to = after.get(index)?.address;
      if (from !== to) this.#options.onMove!({ function: owner.name, bar: index, from, to });
    }
  }
}

/** Which window answers where: disjoint parts, those programmed later on top. */
function flatView(windows: readonly Live[]): Omit<Segment, 'mappings'>[] {
  const parts: { live: Live; start: number; end: number }[] = [];
  for (const live of [...windows].sort((a, b) => b.order - a.order)) {
    let free = [{ start: live.start, end: live.end }];
    for (const p of parts) {
      free = free.flatMap(f => {
        if (p.end <= f.start || p.start >= f.end) return [f];
        const rest: { start: number; end: number }[] = [];
        if (f.start < p.start) rest.push({ start: f.start, end: p.start });
        if (p.end < f.end) rest.push({ start: p.end, end: f.end });
        return rest;
      });
    }
    parts.push(...free.map(f => ({ live, ...f })));
  }
  return parts;
}

/** A device seen from the middle: the part of a window that another one leaves free. */
class ShiftedDevice implements BusDevice {
  constructor(
    private readonly device: BusDevice,
    private readonly offset: number,
  ) {}

  get name(): string {
    return this.device.name;
  }

  read(offset: number, size: AccessSize): number {
    return this.device.read(offset + this.offset, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.device.write(offset + this.offset, size, value);
  }

  read64(offset: number): bigint {
    const at = offset + this.offset;
    if (this.device.read64 !== undefined) return this.device.read64(at);
    return (BigInt(this.device.read(at + 4, 4) >>> 0) << 32n) | BigInt(this.device.read(at, 4) >>> 0);
  }

  write64(offset: number, value: bigint): void {
    const at = offset + this.offset;
    if (this.device.write64 !== undefined) {
      this.device.write64(at, value);
      return;
    }
    this.device.write(at, 4, Number(BigInt.asUintN(32, value)));
    this.device.write(at + 4, 4, upper32(value));
  }
}
