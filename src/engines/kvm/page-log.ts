import type { DirtySink } from '../../memory/pin-types.ts';
import type { Region } from '../../memory/types.ts';
import type { SlotTable } from './slots.ts';
import type { KvmVm } from './vm.ts';

/** Bytes of a page of KVM's. */
export const PAGE = 4096;

/**
 * KVM's own record of the pages of RAM that vCPUs write: the log of each slot, or a ring of each vCPU. The log costs by the size of
 * memory, a ring by what is written; docs/memory-and-dma.md has the numbers. The engine takes the log: nobody collects so often that a
 * ring would pay, a ring that is full is an exit, and not every KVM keeps it from running over.
 */
export interface PageLog {
  /** From now on the slots of RAM are logged, or no longer. On, it starts empty. @throws VmError ERR_HOST_CALL. */
  setLogging(on: boolean): void;
  /**
   * Tells `into` of the pages that were written before the call and not told of yet. What is written meanwhile is in this
   * collection or in the next; so the contents of pages are to be read after it.
   * @throws VmError ERR_HOST_CALL.
   */
  collect(into: DirtySink): void;
}

/** The dirty log: a bit for each page of a slot, which KVM_GET_DIRTY_LOG copies and clears (api.rst 4.8). */
export class BitmapLog implements PageLog {
  readonly #vm: KvmVm;
  readonly #slots: SlotTable;

  constructor(vm: KvmVm, slots: SlotTable) {
    this.#vm = vm;
    this.#slots = slots;
  }

  setLogging(on: boolean): void {
    this.#slots.setLogging(on);
  }

  /** KVM itself brings vCPUs out of the guest for what their processors have not told yet. */
  collect(into: DirtySink): void {
    for (const s of this.#slots.ram()) {
      // The kernel writes whole 64-bit words.
      const bitmap = new Uint32Array(2 * Math.ceil(s.size / PAGE / 64));
      this.#vm.getDirtyLog(s.slot, new Uint8Array(bitmap.buffer));
      for (const [first, count] of runs(bitmap)) into.markDirty(s.base + first * PAGE, count * PAGE);
    }
  }
}

/** Pages of some regions, each once however often it is added. */
export class PageSet implements DirtySink {
  readonly #regions: readonly Region[];
  /** A bit for each page of a region, once there has been one. */
  readonly #bitmaps = new Map<Region, Uint32Array>();

  constructor(regions: readonly Region[]) {
    this.#regions = regions;
  }

  /** Adds whole pages; those outside of the regions are ignored. */
  markDirty(base: number, length: number): void {
    for (const r of this.#regions) {
      const first = (Math.max(base, r.base) - r.base) / PAGE;
      const end = (Math.min(base + length, r.base + r.size) - r.base) / PAGE;
      if (first >= end) continue;
      let bitmap = this.#bitmaps.get(r);
      if (bitmap === undefined) {
        bitmap = new Uint32Array(Math.ceil(r.size / PAGE / 32));
        this.#bitmaps.set(r, bitmap);
      }
      setBits(bitmap, Math.floor(first), Math.ceil(end));
    }
  }

  /** Tells of all pages, and has none then. */
  drain(into: DirtySink): void {
    for (const [r, bitmap] of this.#bitmaps) {
      for (const [first, count] of runs(bitmap)) into.markDirty(r.base + first * PAGE, count * PAGE);
    }
    this.clear();
  }

  clear(): void {
    this.#bitmaps.clear();
  }
}

/** Sets bits [first, end). */
function setBits(bitmap: Uint32Array, first: number, end: number): void {
  for (let p = first; p < end; ) {
    if ((p & 31) === 0 && p + 32 <= end) {
      bitmap.fill(0xffff_ffff, p >>> 5, end >>> 5);
      p = end & ~31;
    } else {
      bitmap[p >>> 5]! |= 1 << (p & 31);
      p++;
    }
  }
}

/** The runs of set bits, as [first, count]. */
function* runs(bitmap: Uint32Array): Generator<readonly [number, number]> {
  let start = -1;
  const pages = 32 * bitmap.length;
  for (let p = 0; p < pages; p++) {
    const word = bitmap[p >>> 5]!;
    // Most words are all zeros or all ones.
    if ((p & 31) === 0 && word === (start < 0 ? 0 : 0xffff_ffff)) {
      p += 31;
      continue;
    }
    const set = (word & (1 << (p & 31))) !== 0;
    if (set && start < 0) start = p;
    else if (!set && start >= 0) {
      yield [start, p - start];
      start = -1;
    }
  }
  if (start >= 0) yield [start, pages - start];
}
