import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import type { Gpa, GuestMemory, Region } from './types.ts';

/** A region with what its accesses need at hand. */
interface Slot extends Region {
  /** First address behind the region. */
  readonly end: Gpa;
  readonly data: DataView;
}

/**
 * Guest-physical memory out of host byte arrays (RAM: views of one SharedArrayBuffer, so that every thread sees the same bytes).
 * Addresses stay doubles throughout: a region may be larger than 2 GiB, where `| 0` and `>>> 0` would lose bits.
 * ROM is write-protected against the guest by the bus, not here: loaders fill it through the same interface.
 *
 * @throws VmError ERR_OVERLAP when two regions share an address, ERR_INTERNAL when a region's `bytes` is not `size` long.
 */
export function createGuestMemory(regions: readonly Region[]): GuestMemory {
  return new PhysicalMemory(regions);
}

class PhysicalMemory implements GuestMemory {
  readonly regions: readonly Region[];
  readonly #slots: readonly Slot[];
  /** The slot of the last access: nearly every access of a machine with one RAM region ends here. */
  #last: Slot;

  constructor(regions: readonly Region[]) {
    this.regions = [...regions].sort((a, b) => a.base - b.base);
    this.#slots = this.regions.map(toSlot);
    for (const [i, slot] of this.#slots.entries()) {
      const next = this.#slots[i + 1];
      if (next && next.base < slot.end) {
        throw new VmError('ERR_OVERLAP', `memory regions overlap: ${describe(slot)} and ${describe(next)}`);
      }
    }
    this.#last = this.#slots[0] ?? toSlot({ base: 0, size: 0, kind: 'ram', bytes: new Uint8Array(0) });
  }

  contains(a: Gpa, length: number): boolean {
    if (!(length > 0)) return length === 0; // an empty range is everywhere
    return this.#find(a, length) !== undefined || this.#reachesAcross(a, length);
  }

  u8(a: Gpa): number {
    const s = this.#find(a, 1) ?? outside(a, 1);
    return s.data.getUint8(a - s.base);
  }

  u16(a: Gpa): number {
    const s = this.#find(a, 2);
    return s ? s.data.getUint16(a - s.base, true) : this.#crossing(a, 2).getUint16(0, true);
  }

  u32(a: Gpa): number {
    const s = this.#find(a, 4);
    return s ? s.data.getUint32(a - s.base, true) : this.#crossing(a, 4).getUint32(0, true);
  }

  u64(a: Gpa): bigint {
    const s = this.#find(a, 8);
    return s ? s.data.getBigUint64(a - s.base, true) : this.#crossing(a, 8).getBigUint64(0, true);
  }

  setU8(a: Gpa, v: number): void {
    const s = this.#find(a, 1) ?? outside(a, 1);
    s.data.setUint8(a - s.base, v);
  }

  setU16(a: Gpa, v: number): void {
    const s = this.#find(a, 2);
    if (s) s.data.setUint16(a - s.base, v, true);
    else this.#setCrossing(a, 2, d => d.setUint16(0, v, true));
  }

  setU32(a: Gpa, v: number): void {
    const s = this.#find(a, 4);
    if (s) s.data.setUint32(a - s.base, v, true);
    else this.#setCrossing(a, 4, d => d.setUint32(0, v, true));
  }

  setU64(a: Gpa, v: bigint): void {
    const s = this.#find(a, 8);
    if (s) s.data.setBigUint64(a - s.base, v, true);
    else this.#setCrossing(a, 8, d => d.setBigUint64(0, v, true));
  }

  view(a: Gpa, length: number): Uint8Array | undefined {
    if (!(length > 0)) return length === 0 ? new Uint8Array(0) : undefined;
    const s = this.#find(a, length);
    return s?.bytes.subarray(a - s.base, a - s.base + length);
  }

  read(a: Gpa, into: Uint8Array): void {
    this.#eachPart(a, into.length, (bytes, at) => into.set(bytes, at));
  }

  write(a: Gpa, from: Uint8Array): void {
    this.#eachPart(a, from.length, (bytes, at) => bytes.set(from.subarray(at, at + bytes.length)));
  }

  /** The slot that holds the whole range (`length` > 0), or undefined. */
  #find(a: Gpa, length: number): Slot | undefined {
    const last = this.#last;
    if (a >= last.base && a + length <= last.end) return last;
    const slot = this.#slots[this.#indexOf(a)];
    if (!slot || a + length > slot.end) return undefined;
    this.#last = slot;
    return slot;
  }

  /** Index of the slot that holds address `a`, or -1. */
  #indexOf(a: Gpa): number {
    let low = 0;
    let high = this.#slots.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (this.#slots[mid]!.end > a) high = mid;
      else low = mid + 1;
    }
    const slot = this.#slots[low];
    return slot && a >= slot.base ? low : -1;
  }

  #reachesAcross(a: Gpa, length: number): boolean {
    let i = this.#indexOf(a);
    if (i < 0) return false;
    while (this.#slots[i]!.end < a + length) {
      const next = this.#slots[i + 1];
      if (!next || next.base !== this.#slots[i]!.end) return false;
      i++;
    }
    return true;
  }

  /** Calls `f` with each region's part of the range, after it is known that all of it is there: no half-done writes. */
  #eachPart(a: Gpa, length: number, f: (bytes: Uint8Array, at: number) => void): void {
    if (!this.contains(a, length)) outside(a, length);
    for (let done = 0; done < length; ) {
      const s = this.#slots[this.#indexOf(a + done)]!;
      const offset = a + done - s.base;
      const part = s.bytes.subarray(offset, Math.min(s.size, offset + length - done));
      f(part, done);
      done += part.length;
    }
  }

  #crossing(a: Gpa, size: number): DataView {
    const bytes = new Uint8Array(size);
    this.read(a, bytes);
    return new DataView(bytes.buffer);
  }

  #setCrossing(a: Gpa, size: number, put: (d: DataView) => void): void {
    const bytes = new Uint8Array(size);
    put(new DataView(bytes.buffer));
    this.write(a, bytes);
  }
}

function toSlot(r: Region): Slot {
  if (r.bytes.length !== r.size) {
    throw new VmError('ERR_INTERNAL', `memory region at ${hex(r.base)}: ${r.bytes.length} bytes back ${r.size}`);
  }
  const data = new DataView(r.bytes.buffer, r.bytes.byteOffset, r.bytes.byteLength);
  return { base: r.base, size: r.size, kind: r.kind, bytes: r.bytes, end: r.base + r.size, data };
}

function describe(r: Region): string {
  return `${r.kind} ${hex(r.base)}..${hex(r.base + r.size - 1)}`;
}

function outside(a: Gpa, length: number): never {
  throw new VmError('ERR_GUEST_ADDRESS', `no guest memory at ${hex(a)} (${length} bytes)`, {
    details: { address: a, length },
  });
}
