import type { DmaBitmap, DmaContainer, DmaMapping, DmaTracking, DmaUnmapping } from '../../src/memory/dma-map.ts';
import { VmError } from '../../src/util/errors.ts';

/** VFIO_IOMMU_DIRTY_PAGES: its flags. */
export const DIRTY_START = 1;
export const DIRTY_STOP = 2;
export const DIRTY_GET = 4;

/** What is attached: a device behind the IOMMU, or an emulated one, which pins pages itself when it uses them. */
export type FakeGroup = 'iommu' | 'mdev';

/** A container's properties; what is left out is as on a PC with one device and no limit. */
export interface FakeVfioOptions {
  readonly version?: 1 | 2;
  readonly pageSize?: number;
  readonly ranges?: DmaContainer['ranges'];
  /** dma_entry_limit of vfio_iommu_type1. */
  readonly entryLimit?: number;
  readonly memlockBytes?: number;
  readonly groups?: readonly FakeGroup[];
  /** Why get_user_pages() does not give a page (V-7). */
  pinErrno?(page: Uint8Array): string | undefined;
  /** An emulated device is told that [iova, iova + size) goes: it has to unpinPages() (V-11). */
  mdevUnmap?(iova: number, size: number): void;
}

/** One call as it came, and the errno with which it failed. */
export interface FakeCall {
  readonly call: 'map' | 'unmap' | 'dirty';
  readonly iova: number;
  readonly size: number;
  readonly flags: string;
  errno?: string;
}

/** A mapping with its flag VADDR: new memory for one whose address was invalidated (V-10). */
export type FakeMapping = DmaMapping & { readonly vaddr?: boolean };
export type FakeUnmapping = DmaUnmapping & { readonly vaddr?: boolean };

/** struct vfio_dma. */
interface Dma {
  readonly iova: number;
  readonly size: number;
  readonly read: boolean;
  readonly write: boolean;
  bytes: Uint8Array;
  vaddrInvalid: boolean;
  /** Pins of emulated devices, by page. */
  readonly pins: Map<number, number>;
  /** A byte for each page, while dirty pages are tracked. */
  dirty: Uint8Array | undefined;
}

/** Largest bitmap: 2^31 - 1 pages (V-15). */
const MAX_BITMAP_BYTES = 2 ** 28;
const END_OF_ADDRESSES = 2 ** 64;

/**
 * VFIO's type 1 container without a kernel: the order of checks and the errors are those of Linux 6.1 (vfio_iommu_type1.c;
 * specification of pins, V-2 to V-15). Devices' accesses go through it as through an IOMMU. What only an ioctl can get wrong, the size
 * of its argument and unknown bits, is not here.
 */
export class FakeVfioContainer implements DmaContainer {
  readonly pageSize: number;
  readonly ranges: DmaContainer['ranges'];
  readonly memlockBytes: number;
  readonly tracking: DmaTracking;
  /** Every call, oldest first. */
  readonly calls: FakeCall[] = [];
  /** Accesses of devices that the IOMMU stopped. */
  faults = 0;
  readonly #o: FakeVfioOptions;
  readonly #v2: boolean;
  readonly #groups: FakeGroup[];
  /** In order of iova. */
  #dmas: Dma[] = [];
  #lockedPages = 0;
  #isTracking = false;

  constructor(o: FakeVfioOptions = {}) {
    this.#o = o;
    this.#v2 = o.version !== 1;
    this.#groups = [...(o.groups ?? ['iommu'])];
    this.pageSize = o.pageSize ?? 4096;
    this.ranges = o.ranges ?? [{ base: 0, length: 2 ** 48 }];
    this.memlockBytes = o.memlockBytes ?? Number.POSITIVE_INFINITY;
    this.tracking = {
      start: () => this.dirtyPages(DIRTY_START),
      stop: () => this.dirtyPages(DIRTY_STOP),
      get: (iova, size, dirty) => this.dirtyPages(DIRTY_GET, iova, size, dirty),
    };
  }

  /** What is charged to RLIMIT_MEMLOCK. */
  get lockedBytes(): number {
    return this.#lockedPages * this.pageSize;
  }

  /** The capability DMA_AVAIL. */
  get entriesLeft(): number {
    return (this.#o.entryLimit ?? 65_535) - this.#dmas.length;
  }

  get mappings(): { readonly iova: number; readonly size: number; readonly write: boolean }[] {
    return this.#dmas.map(({ iova, size, write }) => ({ iova, size, write }));
  }

  /** Attaches another group; one behind the IOMMU before anything is mapped. */
  attach(group: FakeGroup): void {
    if (this.#anyVaddrInvalid()) fail('EBUSY', 'attach');
    if (group === 'iommu' && this.#dmas.length > 0) throw new Error('the fake does not replay mappings');
    this.#groups.push(group);
  }

  mapDma(m: FakeMapping): void {
    const flags = [m.read && 'READ', m.write && 'WRITE', m.vaddr && 'VADDR'].filter(Boolean).join(' ');
    this.#record('map', m.iova, m.size, flags, () => this.#map(m));
  }

  unmapDma(u: FakeUnmapping): number {
    const flags = [u.dirty && 'GET_DIRTY_BITMAP', u.all && 'ALL', u.vaddr && 'VADDR'].filter(Boolean).join(' ');
    return this.#record('unmap', u.iova, u.size, flags, () => this.#unmap(u));
  }

  /** VFIO_IOMMU_DIRTY_PAGES. */
  dirtyPages(flags: number, iova = 0, size = 0, dirty: DmaBitmap = { pageSize: 0, bits: new Uint32Array(0) }): void {
    this.#record('dirty', iova, size, String(flags), () => {
      if (!this.#v2) fail('EACCES', 'dirty pages');
      if (flags === DIRTY_START) this.#startTracking();
      else if (flags === DIRTY_STOP) this.#stopTracking();
      else if (flags === DIRTY_GET) this.#getDirty(iova, size, dirty);
      else fail('EINVAL', 'dirty pages');
    });
  }

  /** A device reads, or gets nothing: undefined is a fault of the IOMMU. */
  deviceRead(iova: number, length: number): Uint8Array | undefined {
    const out = new Uint8Array(length);
    const ok = this.#access(iova, length, 'read', (part, at) => out.set(part, at));
    return ok ? out : undefined;
  }

  /** A device writes; false is a fault of the IOMMU. Emulated devices' writes are seen by dirty tracking (vfio_dma_rw()). */
  deviceWrite(iova: number, bytes: Uint8Array): boolean {
    return this.#access(iova, bytes.length, 'write', (part, at, dma, offset) => {
      part.set(bytes.subarray(at, at + part.length));
      const { pageSize } = this;
      dma.dirty?.fill(1, Math.floor(offset / pageSize), Math.ceil((offset + part.length) / pageSize));
    });
  }

  /** An emulated device pins pages, which must be mapped (vfio_pin_pages()). */
  pinPages(iova: number, size: number): void {
    if (this.#anyVaddrInvalid()) fail('EBUSY', 'pin_pages');
    const pages = this.#pages(iova, size);
    const isNew = pages.filter(([dma, page]) => !dma.pins.has(page)).length;
    // The IOMMU's pages are charged already.
    if (!this.#hasIommu() && this.lockedBytes + isNew * this.pageSize > this.memlockBytes) fail('ENOMEM', 'pin_pages');
    if (!this.#hasIommu()) this.#lockedPages += isNew;
    for (const [dma, page] of pages) {
      dma.pins.set(page, (dma.pins.get(page) ?? 0) + 1);
      dma.dirty?.fill(1, page, page + 1);
    }
  }

  unpinPages(iova: number, size: number): void {
    for (const [dma, page] of this.#pages(iova, size)) {
      const pins = dma.pins.get(page) ?? 0;
      if (pins > 1) dma.pins.set(page, pins - 1);
      else if (dma.pins.delete(page) && !this.#hasIommu()) this.#lockedPages--;
    }
  }

  #record<T>(call: FakeCall['call'], iova: number, size: number, flags: string, f: () => T): T {
    const record: FakeCall = { call, iova, size, flags };
    this.calls.push(record);
    try {
      return f();
    } catch (e) {
      if (e instanceof VmError) record.errno = String(e.details.errno);
      throw e;
    }
  }

  /** vfio_dma_do_map() */
  #map({ iova, size, bytes, read, write, vaddr = false }: FakeMapping): void {
    if ((read || write) === vaddr) fail('EINVAL', 'map');
    if (size === 0 || !this.#aligned(size, iova, bytes.byteOffset)) fail('EINVAL', 'map');
    if (iova + size > END_OF_ADDRESSES) fail('EINVAL', 'map');
    const found = this.#find(iova, size);
    if (vaddr) {
      if (found === undefined) fail('ENOENT', 'map');
      if (!found.vaddrInvalid || found.iova !== iova || found.size !== size) fail('EINVAL', 'map');
      found.bytes = bytes;
      found.vaddrInvalid = false;
      return;
    }
    if (found !== undefined) fail('EEXIST', 'map');
    if (this.entriesLeft <= 0) fail('ENOSPC', 'map');
    if (!this.ranges.some(r => iova >= r.base && iova + size <= r.base + r.length)) fail('EINVAL', 'map');
    if (this.#hasIommu()) this.#pin(bytes, size);
    const dirty = this.#isTracking ? new Uint8Array(size / this.pageSize) : undefined;
    this.#dmas.push({ iova, size, read, write, bytes, vaddrInvalid: false, pins: new Map(), dirty });
    this.#dmas.sort((a, b) => a.iova - b.iova);
  }

  /** vfio_pin_map_dma(): page by page, and none of them stays locked when one cannot be. */
  #pin(bytes: Uint8Array, size: number): void {
    const { pageSize } = this;
    let pages = 0;
    const unwind = (errno: string): never => {
      this.#lockedPages -= pages;
      return fail(errno, 'map');
    };
    for (let at = 0; at < size; at += pageSize) {
      const page = bytes.subarray(at, at + pageSize);
      const errno = page.length < pageSize ? 'EFAULT' : this.#o.pinErrno?.(page);
      if (errno !== undefined) unwind(errno);
      if (this.lockedBytes + pageSize > this.memlockBytes) unwind('ENOMEM');
      this.#lockedPages++;
      pages++;
    }
  }

  /** vfio_dma_do_unmap() */
  #unmap({ iova, size, all = false, vaddr = false, dirty }: FakeUnmapping): number {
    if (dirty !== undefined && (all || vaddr)) fail('EINVAL', 'unmap');
    if (dirty !== undefined) this.#checkBitmap(size, dirty);
    if (vaddr && this.#groups.includes('mdev')) fail('EBUSY', 'unmap');
    if (!this.#aligned(iova)) fail('EINVAL', 'unmap');
    if (all ? iova !== 0 || size !== 0 : size === 0 || !this.#aligned(size) || iova + size > END_OF_ADDRESSES) {
      fail('EINVAL', 'unmap');
    }
    if (dirty !== undefined && (!this.#isTracking || dirty.pageSize !== this.pageSize)) fail('EINVAL', 'unmap');
    const end = all ? END_OF_ADDRESSES : iova + size;
    if (this.#v2 && !all && this.#bisects(iova, end)) fail('EINVAL', 'unmap');
    const hit = this.#dmas.filter(d => d.iova < end && d.iova + d.size > iova);
    // Of version 1: what begins inside of a mapping does nothing; what begins before one takes it whole.
    const going = !this.#v2 && (hit[0]?.iova ?? iova) < iova ? [] : hit;
    if (vaddr) {
      if (going.some(d => d.vaddrInvalid)) fail('EINVAL', 'unmap');
      for (const d of going) d.vaddrInvalid = true;
    } else {
      for (const d of going) this.#remove(d, iova, dirty);
    }
    return going.reduce((sum, d) => sum + d.size, 0);
  }

  #remove(dma: Dma, iova: number, dirty: DmaBitmap | undefined): void {
    for (let retries = 0; dma.pins.size > 0; retries++) {
      if (retries > 10) throw new Error('BUG: an emulated device does not unpin what is unmapped');
      this.#o.mdevUnmap?.(dma.iova, dma.size);
    }
    if (dirty !== undefined) this.#report(dma, iova, dirty);
    if (this.#hasIommu()) this.#lockedPages -= dma.size / this.pageSize;
    this.#dmas = this.#dmas.filter(d => d !== dma);
  }

  #startTracking(): void {
    if (this.#isTracking) return;
    this.#isTracking = true;
    for (const dma of this.#dmas) this.#clean(dma);
  }

  #stopTracking(): void {
    this.#isTracking = false;
    for (const dma of this.#dmas) dma.dirty = undefined;
  }

  /** vfio_iommu_type1_dirty_pages() with GET_BITMAP */
  #getDirty(iova: number, size: number, dirty: DmaBitmap): void {
    this.#checkBitmap(size, dirty);
    if (dirty.pageSize !== this.pageSize || size === 0 || !this.#aligned(iova, size)) fail('EINVAL', 'dirty pages');
    if (!this.#isTracking || this.#bisects(iova, iova + size)) fail('EINVAL', 'dirty pages');
    for (const dma of this.#dmas) {
      if (dma.iova < iova || dma.iova >= iova + size) continue;
      this.#report(dma, iova, dirty);
      this.#clean(dma);
    }
  }

  /** Nothing is dirty but what is pinned. */
  #clean(dma: Dma): void {
    dma.dirty = new Uint8Array(dma.size / this.pageSize);
    for (const page of dma.pins.keys()) dma.dirty[page] = 1;
  }

  /** update_user_bitmap(): all is dirty when a device behind the IOMMU may have written it without a word (V-14). */
  #report(dma: Dma, iova: number, { bits }: DmaBitmap): void {
    const all = this.#hasIommu();
    const from = (dma.iova - iova) / this.pageSize;
    for (let p = 0; p < dma.size / this.pageSize; p++) {
      const bit = 1 << ((from + p) & 31);
      if (all || dma.dirty?.[p] === 1) bits[(from + p) >>> 5]! |= bit;
      else bits[(from + p) >>> 5]! &= ~bit;
    }
  }

  /** verify_bitmap_size() */
  #checkBitmap(size: number, { pageSize, bits }: DmaBitmap): void {
    const pages = Math.floor(size / pageSize);
    const needed = Math.ceil(pages / 64) * 8;
    if (!(pages > 0) || bits.byteLength === 0 || bits.byteLength > MAX_BITMAP_BYTES || bits.byteLength < needed) {
      fail('EINVAL', 'bitmap');
    }
  }

  #access(
    iova: number,
    length: number,
    right: 'read' | 'write',
    f: (part: Uint8Array, at: number, dma: Dma, offset: number) => void,
  ): boolean {
    const parts: [Dma, number, number, number][] = [];
    for (let at = 0; at < length; ) {
      const dma = this.#find(iova + at, 1);
      if (dma === undefined || !dma[right]) {
        this.faults++;
        return false;
      }
      const offset = iova + at - dma.iova;
      const n = Math.min(length - at, dma.size - offset);
      parts.push([dma, offset, n, at]);
      at += n;
    }
    for (const [dma, offset, n, at] of parts) f(dma.bytes.subarray(offset, offset + n), at, dma, offset);
    return true;
  }

  #pages(iova: number, size: number): [Dma, number][] {
    const pages: [Dma, number][] = [];
    for (let a = iova; a < iova + size; a += this.pageSize) {
      const dma = this.#find(a, 1);
      if (dma === undefined) fail('EINVAL', 'pin_pages');
      pages.push([dma, Math.floor((a - dma.iova) / this.pageSize)]);
    }
    return pages;
  }

  #find(iova: number, size: number): Dma | undefined {
    return this.#dmas.find(d => d.iova < iova + size && d.iova + d.size > iova);
  }

  /** Whether a range begins or ends inside of a mapping. */
  #bisects(iova: number, end: number): boolean {
    return this.#dmas.some(d => [iova, end].some(edge => edge > d.iova && edge < d.iova + d.size));
  }

  #aligned(...values: readonly number[]): boolean {
    return values.every(v => v >= 0 && v % this.pageSize === 0);
  }

  #hasIommu(): boolean {
    return this.#groups.includes('iommu');
  }

  #anyVaddrInvalid(): boolean {
    return this.#dmas.some(d => d.vaddrInvalid);
  }
}

/** What the host's layer throws for a failed system call. */
function fail(errno: string, what: string): never {
  throw new VmError('ERR_HOST_CALL', `ioctl (${what}) failed: ${errno}`, { details: { call: 'ioctl', errno } });
}
