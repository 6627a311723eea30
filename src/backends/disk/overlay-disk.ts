import { type Completion, type Disk, lengthOf, sliceParts } from '../../devices/virtio/blk/disk.ts';
import { ZEROES, zeroes } from './file-disk.ts';
import type { HostFile } from './host-file.ts';
import type { ImageLock } from './lock.ts';
import { CLUSTER, firstDataCluster, HEADER_USED, MAX_CLUSTERS } from './overlay-format.ts';
import { OverlayTable } from './overlay-table.ts';
import { after, InFlight, repeat, settle } from './sequence.ts';

/** Changed pages of the table that may wait for a flush; with more, writes wait for one. */
const MAX_DIRTY_PAGES = 256;

// Entries of the table are 2 * slot + zero, see overlay-format.ts. A slot is a cluster of the file.
const slotOf = (entry: number) => Math.floor(entry / 2);
const isZero = (entry: number) => entry % 2 === 1;
/** The overlay has the data. */
const isLive = (entry: number) => entry !== 0 && !isZero(entry);
const clusterOf = (offset: number) => Math.floor(offset / CLUSTER);

/** What an {@link OverlayDisk} consists of; the disk takes all of it over. */
export interface OverlayParts {
  readonly base: HostFile;
  readonly overlay: HostFile;
  /** Bytes of the base and of the disk. */
  readonly size: number;
  /** Clusters of the overlay in use, as its header says. */
  readonly used: number;
  /** Without it the disk is read-only. */
  readonly lock?: ImageLock;
}

/**
 * A disk that keeps what is written in a file of its own and leaves its base alone. Until the next flush the table's
 * changes are only in memory: killing the process takes a guest back to its last flush, as a power failure does, and
 * the overlay is sound at any time.
 */
export class OverlayDisk implements Disk {
  readonly size: number;
  readonly readOnly: boolean;
  readonly granularity = CLUSTER;
  readonly #base: HostFile;
  readonly #overlay: HostFile;
  readonly #lock: ImageLock | undefined;
  readonly #table: OverlayTable;
  readonly #firstSlot: number;

  /** First slot that no cluster has. */
  #used: number;
  /** First slot behind those of the table, which is what the header gets: a crash gives back the slots above. */
  #entered: number;
  /** Slots below `used` that no cluster has, from writes that failed. */
  readonly #free: number[] = [];
  /** Clusters of the disk that are getting their data; never rejects. Whoever writes to one waits. */
  readonly #filling = new Map<number, Promise<void>>();
  /** The flush that runs, and the one that begins after it, which later callers share. */
  #flushing: Promise<void> | undefined;
  #nextFlush: Promise<void> | undefined;
  readonly #requests = new InFlight();

  constructor(parts: OverlayParts) {
    this.#base = parts.base;
    this.#overlay = parts.overlay;
    this.#lock = parts.lock;
    this.size = parts.size;
    this.readOnly = parts.lock === undefined;
    this.#table = new OverlayTable(parts.overlay);
    this.#firstSlot = firstDataCluster(parts.size);
    this.#used = this.#entered = parts.used;
  }

  get inFlight(): number {
    return this.#requests.count;
  }

  read(offset: number, into: readonly Uint8Array[]): Completion {
    return this.#requests.track(this.#read(offset, into));
  }

  write(offset: number, from: readonly Uint8Array[]): Completion {
    return this.#requests.track(this.#write(offset, from));
  }

  flush(): Completion {
    return this.readOnly ? undefined : this.#requests.track(this.#flush());
  }

  /** Whole clusters read as zeroes afterwards; the ends of the range keep their value. */
  discard(offset: number, length: number): Completion {
    return this.#requests.track(this.#zero(offset, length, () => undefined));
  }

  /** Space of the overlay is kept for the next write to the same place, with or without `unmap`. */
  writeZeroes(offset: number, length: number): Completion {
    const writeEdge = (at: number, count: number) => this.#write(at, zeroes(count));
    return this.#requests.track(this.#zero(offset, length, writeEdge));
  }

  async close(): Promise<void> {
    await this.#requests.idle();
    try {
      await this.flush();
    } finally {
      await Promise.all([this.#base.close(), this.#overlay.close()]);
      this.#lock?.release();
    }
  }

  #read(offset: number, into: readonly Uint8Array[]): Completion {
    const end = offset + lengthOf(into);
    let at = offset;
    return repeat(() => {
      if (at >= end) return 'end';
      const start = at;
      const entry = this.#entry(clusterOf(at));
      at = this.#endOfRun(at, end, entry);
      const part = sliceParts(into, start - offset, at - start);
      if (isLive(entry)) return this.#overlay.read(slotOf(entry) * CLUSTER + (start % CLUSTER), part, 'error');
      if (!isZero(entry)) return this.#base.read(start, part);
      for (const p of part) p.fill(0);
      return undefined;
    });
  }

  #write(offset: number, from: readonly Uint8Array[]): Completion {
    const end = offset + lengthOf(from);
    if (end > this.size) throw new RangeError('write behind the end of the disk');
    let at = offset;
    const written = repeat(() => {
      if (at >= end) return 'end';
      const filling = this.#filling.get(clusterOf(at));
      if (filling !== undefined) return filling;
      const start = at;
      const entry = this.#entry(clusterOf(at));
      if (isLive(entry)) {
        at = this.#endOfRun(at, end, entry);
        const part = sliceParts(from, start - offset, at - start);
        return this.#overlay.write(slotOf(entry) * CLUSTER + (start % CLUSTER), part);
      }
      at = Math.min(end, this.#endOfCluster(start));
      const whole = start % CLUSTER === 0 && at === this.#endOfCluster(start);
      if (!whole) return this.#fillPartly(start, entry, sliceParts(from, start - offset, at - start));
      const slots = this.#slotsFor(start, end);
      at = Math.min(end, start + slots.length * CLUSTER);
      const part = sliceParts(from, start - offset, at - start);
      return this.#fill(clusterOf(start), slots, () => this.#overlay.write(slots[0]! * CLUSTER, part));
    });
    return after(written, () => this.#boundTable());
  }

  #flush(): Completion {
    if (this.#nextFlush !== undefined) return this.#nextFlush;
    if (this.#flushing === undefined) return this.#startFlush();
    // The running one may have passed what the caller means.
    this.#nextFlush = this.#flushAfter(this.#flushing);
    return this.#nextFlush;
  }

  /** @throws Error when the overlay is damaged. */
  #entry(cluster: number): number {
    const entry = this.#table.get(cluster);
    if (entry < 2) return entry;
    const slot = slotOf(entry);
    if (slot < this.#firstSlot || slot >= this.#used) throw new Error(`the overlay is damaged: entry ${cluster}`);
    return entry;
  }

  #endOfCluster(offset: number): number {
    return Math.min((clusterOf(offset) + 1) * CLUSTER, this.size);
  }

  /** How far a transfer that begins at `start`, in a cluster with `entry`, gets in one piece, at most to `end`. */
  #endOfRun(start: number, end: number, entry: number): number {
    let at = this.#endOfCluster(start);
    for (let i = 1; at < end; i++) {
      const next = this.#entry(clusterOf(at));
      const expected = isLive(entry) ? entry + 2 * i : entry;
      // Zeroes have slots or none, that does not matter.
      if (isZero(entry) ? !isZero(next) : next !== expected) break;
      at = this.#endOfCluster(at);
    }
    return Math.min(at, end);
  }

  /** Adjacent slots for as many clusters from `start` on as will be written whole and have no data; at least one. */
  #slotsFor(start: number, end: number): number[] {
    const slots: number[] = [];
    for (let at = start; at < end && this.#endOfCluster(at) <= end; at += CLUSTER) {
      const entry = this.#entry(clusterOf(at));
      if (isLive(entry) || this.#filling.has(clusterOf(at))) break;
      const slot = slotOf(entry) || this.#allocate();
      if (slots.length > 0 && slot !== slots[0]! + slots.length) {
        if (slotOf(entry) === 0) this.#free.push(slot);
        break;
      }
      slots.push(slot);
    }
    return slots;
  }

  #allocate(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#used >= MAX_CLUSTERS) throw new Error('the overlay has no entries for more clusters');
    return this.#used++;
  }

  /** A cluster without data gets some: what is not written comes from where it is read now. */
  #fillPartly(offset: number, entry: number, from: readonly Uint8Array[]): Completion {
    const cluster = clusterOf(offset);
    const start = cluster * CLUSTER;
    const end = offset + lengthOf(from);
    const slot = slotOf(entry) || this.#allocate();
    const write = (rest: Uint8Array) => {
      const all = [rest.subarray(0, offset - start), ...from, rest.subarray(end - start)];
      return this.#overlay.write(slot * CLUSTER, all);
    };
    return this.#fill(cluster, [slot], () => {
      if (isZero(entry)) return write(ZEROES);
      const old = new Uint8Array(CLUSTER);
      return after(this.#base.read(start, [old.subarray(0, this.#endOfCluster(start) - start)]), () => write(old));
    });
  }

  /** `write` puts data into the slots of as many clusters from `first` on, which go into the table when it is there. */
  #fill(first: number, slots: readonly number[], write: () => Completion): Completion {
    const done = settle(write, ok => {
      for (let i = 0; i < slots.length; i++) this.#filling.delete(first + i);
      for (const [i, slot] of slots.entries()) {
        const cluster = first + i;
        if (ok) this.#enter(cluster, slot);
        else if (slotOf(this.#table.get(cluster)) !== slot) this.#free.push(slot);
      }
    });
    if (done !== undefined) {
      const settled = done.catch(() => undefined);
      for (let i = 0; i < slots.length; i++) this.#filling.set(first + i, settled);
    }
    return done;
  }

  #enter(cluster: number, slot: number): void {
    this.#table.set(cluster, slot * 2);
    this.#entered = Math.max(this.#entered, slot + 1);
  }

  /** Marks the whole clusters of a range as zeroes and leaves what is before and behind them to `edge`. */
  #zero(offset: number, length: number, edge: (offset: number, length: number) => Completion): Completion {
    const end = offset + length;
    let at = offset;
    return repeat(() => {
      if (at >= end) return 'end';
      const cluster = clusterOf(at);
      const filling = this.#filling.get(cluster);
      if (filling !== undefined) return filling;
      const start = at;
      at = Math.min(end, this.#endOfCluster(start));
      if (start % CLUSTER !== 0 || at !== this.#endOfCluster(start)) return edge(start, at - start);
      const entry = this.#entry(cluster);
      if (!isZero(entry)) this.#table.set(cluster, entry + 1);
      return this.#boundTable();
    });
  }

  #boundTable(): Completion {
    return this.#table.dirtyPages < MAX_DIRTY_PAGES ? undefined : this.#flush();
  }

  #startFlush(): Completion {
    const done = this.#commit();
    if (done === undefined) return undefined;
    const flushing = done.finally(() => {
      this.#flushing = undefined;
    });
    this.#flushing = flushing;
    return flushing;
  }

  async #flushAfter(running: Promise<void>): Promise<void> {
    await running.catch(() => undefined);
    this.#nextFlush = undefined;
    await this.#startFlush();
  }

  /**
   * Data and the number of clusters in use first, then the entries that refer to them. Everything in the table at this
   * moment has its data in the file already; copies of its pages keep out what comes later.
   */
  #commit(): Completion {
    const pages = this.#table.begin();
    if (pages.length === 0) return this.#overlay.sync();
    const commit = () => {
      const used = new Uint8Array(8);
      new DataView(used.buffer).setBigUint64(0, BigInt(this.#entered), true);
      const counted = after(this.#overlay.write(HEADER_USED, [used]), () => this.#overlay.sync());
      let next = 0;
      const entered = after(counted, () =>
        repeat(() => {
          const page = pages[next++];
          return page === undefined ? 'end' : this.#overlay.write(page.offset, [page.bytes]);
        }),
      );
      return after(entered, () => this.#overlay.sync());
    };
    return settle(commit, ok => this.#table.end(ok));
  }
}
