import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { eachDirtyRange } from './dirty-log.ts';
import { pinError, quotaText } from './pin-errors.ts';
import type { PinTable } from './pin-table.ts';
import {
  type DirtySink,
  type DirtySource,
  FOLL_LONGTERM,
  FOLL_PIN,
  FOLL_WRITE,
  type PinHandle,
  type PinOwner,
  type PlugListener,
} from './pin-types.ts';
import type { Gpa, Region } from './types.ts';

/** Memory for a container to map: devices find `bytes` at the I/O virtual addresses [iova, iova + size). */
export interface DmaMapping {
  readonly iova: number;
  /** Bytes; the length of `bytes`. */
  readonly size: number;
  readonly bytes: Uint8Array;
  /** What devices may do. */
  readonly read: boolean;
  readonly write: boolean;
}

/** A bit for each page, the lowest first; 8 bytes for 64 of them, begun ones included. */
export interface DmaBitmap {
  /** Bytes of a page: the container's. */
  readonly pageSize: number;
  /** Zeroed by the caller: where nothing is mapped, nothing is written. */
  readonly bits: Uint32Array;
}

/** What a container is to unmap. */
export interface DmaUnmapping {
  readonly iova: number;
  /** Bytes. */
  readonly size: number;
  /** All there is; `iova` and `size` are 0 then. */
  readonly all?: boolean;
  /** Takes the dirty pages of what is unmapped. Not with `all`, and only while dirty pages are tracked. */
  readonly dirty?: DmaBitmap;
}

/** Which mapped pages devices may have written. */
export interface DmaTracking {
  start(): void;
  stop(): void;
  /** Pages of [iova, iova + size) that are dirty; they begin clean again. Bisects no mapping. */
  get(iova: number, size: number, dirty: DmaBitmap): void;
}

/**
 * A VFIO container of type 1, version 2 (linux/vfio.h; specification of pins, section 2): the address space of passed-through devices.
 * Every method throws VmError ERR_HOST_CALL with `details.errno`, the kernel's name for what is wrong, and has changed nothing then.
 */
export interface DmaContainer {
  /** Smallest page of the IOMMU, bytes; everything that is mapped is a multiple of it. */
  readonly pageSize: number;
  /** Where something can be mapped. A mapping lies in one range. */
  readonly ranges: readonly { readonly base: number; readonly length: number }[];
  /** RLIMIT_MEMLOCK, bytes; Infinity with CAP_IPC_LOCK (V-4). */
  readonly memlockBytes: number;
  /** undefined where the kernel has none. */
  readonly tracking: DmaTracking | undefined;
  /** EINVAL, EEXIST, ENOSPC, ENOMEM, EFAULT: V-2, V-3. */
  mapDma(mapping: DmaMapping): void;
  /** Several mappings at once perhaps, but no part of one: EINVAL (V-8). @returns bytes that were mapped and no longer are. */
  unmapDma(range: DmaUnmapping): number;
}

/** What a {@link DmaMap} is made of. */
export interface DmaMapOptions {
  /** Of the thread that plugs and unplugs memory. */
  readonly table: PinTable;
  readonly container: DmaContainer;
  /** The owner of its pins in reports, e.g. 'vfio 0000:01:00.0'. */
  readonly name: string;
  /** Memory that comes and goes in blocks, as virtio-mem's does, and is mapped in blocks therefore. */
  readonly pluggable?: readonly { readonly base: Gpa; readonly length: number }[];
}

/** What is mapped and pinned as one. */
interface Section {
  readonly base: Gpa;
  /** Bytes. */
  readonly length: number;
  /** Not for ROM. */
  readonly write: boolean;
}

/** 2 MiB: virtio-mem's block, and a huge page of IOMMUs and CPUs. */
const BLOCK = 2 * 2 ** 20;

/**
 * All of guest memory in a container, so that passed-through devices reach it by guest-physical addresses (specification of pins,
 * PIN-11). Nobody sees what such a device touches, so each mapped section is one long-term pin: a balloon passes its pages over, and a
 * fork is refused. Memory that is unplugged is unmapped before it goes, and memory that is plugged is mapped before the guest knows of
 * it; where that fails the plug is vetoed (table 4.3).
 */
export class DmaMap implements PlugListener, DirtySource, Disposable {
  readonly #table: PinTable;
  readonly #container: DmaContainer;
  readonly #owner: PinOwner;
  readonly #pluggable: readonly { readonly base: Gpa; readonly length: number }[];
  readonly #listener: Disposable;
  readonly #pins = new Map<Section, PinHandle>();
  #mappedBytes = 0;

  /**
   * Maps and pins what is plugged, all of it or nothing.
   * @throws VmError ERR_DOES_NOT_FIT for memory where the container cannot map it, ERR_MEMLOCK_LIMIT with `needed`, `used` and `limit`,
   *   ERR_HOST_CALL with the container's errno, or as PinTable.pin().
   */
  constructor({ table, container, name, pluggable = [] }: DmaMapOptions) {
    this.#table = table;
    this.#container = container;
    this.#owner = table.owner(name, true);
    this.#pluggable = pluggable;
    // Before anything is mapped, and for memory that is yet to come as well: a guest would meet the refusal much later.
    for (const r of table.memory.regions) checkFits(r, container);
    const there = table.memory.regions.flatMap(r => this.#sections(r.base, r.size)).filter(s => this.#isPlugged(s));
    this.#mapAll(there);
    this.#listener = table.addPlugListener(this);
  }

  /** Bytes that devices reach. */
  get mappedBytes(): number {
    return this.#mappedBytes;
  }

  /** @throws VmError the veto, with nothing of the range mapped or pinned. */
  plug(base: Gpa, length: number): void {
    this.#mapAll(this.#sections(base, length));
  }

  unplug(base: Gpa, length: number): void {
    this.#unmap(base, length);
  }

  start(): void {
    this.#container.tracking?.start();
  }

  stop(): void {
    this.#container.tracking?.stop();
  }

  /**
   * Reports what the container says, which is everything when one of its devices does not tell what it writes (V-14), or everything
   * that devices may write when the container cannot say. A log of the table has all of it anyway, by the pins (PIN-6).
   */
  collectCpu(sink: DirtySink): void {
    const { tracking, pageSize } = this.#container;
    if (tracking === undefined) {
      for (const s of this.#pins.keys()) if (s.write) sink.markDirty(s.base, s.length);
      return;
    }
    if (this.#pins.size === 0) return;
    for (const { kind, base, size } of this.#table.memory.regions) {
      if (kind !== 'ram') continue;
      const pages = size / pageSize;
      const bits = new Uint32Array(Math.ceil(pages / 64) * 2);
      tracking.get(base, size, { pageSize, bits });
      eachDirtyRange(bits, base, pages, (from, length) => sink.markDirty(from, length), pageSize);
    }
  }

  /** Unmaps and unpins everything. Once is enough. */
  close(): void {
    this.#listener[Symbol.dispose]();
    for (const r of this.#table.memory.regions) this.#unmap(r.base, r.size);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Cuts a range into what is mapped as one: blocks where memory can be unplugged, whole regions elsewhere. */
  #sections(base: Gpa, length: number): Section[] {
    const sections: Section[] = [];
    for (const r of this.#table.memory.regions) {
      const end = Math.min(base + length, r.base + r.size);
      for (let from = Math.max(base, r.base); from < end; ) {
        const to = Math.min(end, this.#nextCut(from));
        sections.push({ base: from, length: to - from, write: r.kind === 'ram' });
        from = to;
      }
    }
    return sections;
  }

  /** Where a section that begins at `a` has to end at the latest. */
  #nextCut(a: Gpa): Gpa {
    let cut = Number.POSITIVE_INFINITY;
    for (const p of this.#pluggable) {
      const end = p.base + p.length;
      if (a < p.base) cut = Math.min(cut, p.base);
      else if (a < end) cut = Math.min(cut, end, a - (a % BLOCK) + BLOCK);
    }
    return cut;
  }

  #isPlugged({ base }: Section): boolean {
    return this.#table.page(base)?.state !== 'unplugged';
  }

  /** All or nothing (V-3). */
  #mapAll(sections: readonly Section[]): void {
    const done: Section[] = [];
    try {
      for (const s of sections) {
        this.#map(s);
        done.push(s);
      }
    } catch (e) {
      for (const s of done.reverse()) this.#unmap(s.base, s.length);
      throw e;
    }
  }

  /** Pins first: what a device can reach is pinned at any moment. */
  #map(section: Section): void {
    const { base, length, write } = section;
    const flags = FOLL_PIN | FOLL_LONGTERM | (write ? FOLL_WRITE : 0);
    const pin = this.#table.pinCoordinated(base, length, flags, this.#owner);
    try {
      const bytes = this.#table.view(pin)!; // a section lies in one region
      this.#container.mapDma({ iova: base, size: length, bytes, read: true, write });
    } catch (e) {
      this.#table.unpin(pin);
      throw this.#mapError(e, section);
    }
    this.#pins.set(section, pin);
    this.#mappedBytes += length;
  }

  /** Unmaps what lies in the range by one call, then unpins it. */
  #unmap(base: Gpa, length: number): void {
    const sections = [...this.#pins].filter(([s]) => s.base >= base && s.base + s.length <= base + length);
    if (sections.length === 0) return;
    const expected = sections.reduce((sum, [s]) => sum + s.length, 0);
    const unmapped = this.#container.unmapDma({ iova: base, size: length });
    if (unmapped !== expected) {
      // Devices may still reach it, so it stays pinned.
      const range = `${hex(base)} (${length} bytes)`;
      throw new VmError(
        'ERR_INTERNAL',
        `${this.#owner.name}: of ${range}, ${unmapped} bytes were unmapped, not ${expected}`,
      );
    }
    for (const [s, pin] of sections) {
      this.#pins.delete(s);
      this.#table.unpin(pin);
    }
    this.#mappedBytes -= expected;
  }

  #mapError(e: unknown, { base, length }: Section): unknown {
    if (!(e instanceof VmError)) return e;
    const { errno } = e.details;
    const limit = this.#container.memlockBytes;
    const owner = this.#owner.name;
    if (errno === 'ENOMEM' && limit !== Number.POSITIVE_INFINITY) {
      // The kernel's own count: of this process, which may lock memory for other things too.
      const quota = { name: 'RLIMIT_MEMLOCK', needed: length, used: this.#mappedBytes, limit } as const;
      return pinError({ errno, at: base, why: quotaText(quota), quota }, base, length, owner);
    }
    const hint =
      errno === 'ENOSPC'
        ? 'raise dma_entry_limit of the module vfio_iommu_type1, or give the VM less memory to plug'
        : e.hint;
    return new VmError(e.code, `${owner} cannot map ${hex(base)} (${length} bytes) for DMA: ${e.message}`, {
      cause: e,
      ...(hint === undefined ? {} : { hint }),
      details: { ...e.details, base, length },
    });
  }
}

/** @throws VmError ERR_DOES_NOT_FIT for a region that the container cannot map where it is (V-2). */
function checkFits({ kind, base, size }: Region, { pageSize, ranges }: DmaContainer): void {
  const what = `${kind.toUpperCase()} at ${hex(base)} (${size} bytes)`;
  const refuse = (why: string, hint: string) =>
    new VmError('ERR_DOES_NOT_FIT', `${what} cannot be mapped for DMA: ${why}`, {
      hint,
      details: { errno: 'EINVAL', base, length: size, pageSize, ranges },
    });
  if (base % pageSize !== 0 || size % pageSize !== 0) {
    throw refuse(`it is not whole pages of the IOMMU, of ${pageSize} bytes`, `give the VM a multiple of ${pageSize}`);
  }
  if (ranges.some(r => base >= r.base && base + size <= r.base + r.length)) return;
  const allowed = ranges.map(r => `${hex(r.base)}..${hex(r.base + r.length - 1)}`).join(', ');
  throw refuse(
    `the IOMMU maps ${allowed || 'nothing'}`,
    'give the VM less memory, so that it ends below, or no device of the host',
  );
}
