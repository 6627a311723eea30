import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { DirtyLogs } from './dirty-log.ts';
import { createGuestMemory } from './guest-memory.ts';
import { KIND_LONG, KIND_WRITE, OVERFLOW, PageCounts, type PinKind } from './page-counts.ts';
import { PageDiscards, type PlugResult, type UnplugResult } from './page-discards.ts';
import { indexOf, PageIndex, type Span } from './page-index.ts';
import { DISCARDING, PageStates, UNPLUGGED, UNPLUGGING } from './page-states.ts';
import { invalid, pinError, pinnedError, quotaText, type Refusal } from './pin-errors.ts';
import { MAX_PINS, PinSlots } from './pin-slots.ts';
import * as P from './pin-types.ts';
import { RevocablePins } from './revocable-pins.ts';
import {
  Adder,
  describeRegions,
  HEADER,
  MAX_THREADS,
  type PinTableState,
  type SharedState,
  sharedState,
  TOTAL,
  TOTALS_STRIDE,
} from './shared-state.ts';
import type { Gpa, GuestMemory } from './types.ts';

/** What a {@link PinTable} is made of. */
export interface PinTableOptions {
  readonly memory: GuestMemory;
  readonly limits?: P.PinLimits;
  /** Memory that cannot be pinned for long. */
  readonly shortPinsOnly?: readonly P.ShortPinsOnly[];
  /** Gives whole pages of RAM back to the host; they read as zeros afterwards. Left out: they are only zeroed. */
  discardBytes?(base: Gpa, length: number): void;
  /** Of another thread's table of the same memory: this one is attached to it. */
  readonly state?: PinTableState;
}

/** Told before pages that somebody has pinned or borrowed for writing may change. */
export type BeforeWrite = (base: Gpa, length: number) => void;

const FLAGS = P.FOLL_PIN | P.FOLL_WRITE | P.FOLL_LONGTERM;
/** Addresses and their sums are exact below. */
const END_OF_ADDRESSES = 2 ** 52;

/** An owner with what the table keeps of it. */
interface Owner extends P.PinOwner {
  acquired: number;
  released: number;
}

/**
 * Who has pinned which pages of a machine's memory. One for each thread that uses it; they share counts, states and dirty logs, and a
 * handle is its thread's. Taking and releasing a pin allocates nothing, takes no lock, and makes no system call.
 */
export class PinTable implements P.Pins {
  readonly memory: GuestMemory;
  readonly dirty: DirtyLogs;
  readonly #index: PageIndex;
  readonly #shared: SharedState;
  readonly #adder: Adder;
  readonly #counts: PageCounts;
  readonly #states: PageStates;
  readonly #discards: PageDiscards;
  readonly #slots = new PinSlots();
  readonly #owners: Owner[] = [];
  readonly #revocable: RevocablePins;
  readonly #beforeWrites = new Set<BeforeWrite>();
  readonly #unblocked = new Set<() => void>();
  readonly #limits: { readonly long: number; readonly memlock: number; readonly short: number };
  readonly #state: PinTableState;
  readonly #thread: number;
  /** Pages in this thread's short pins. */
  #shortPages = 0;
  #refusal: Refusal | undefined;

  /** @throws VmError ERR_INTERNAL when `state` is another memory's, ERR_STATE when MAX_THREADS are attached. */
  constructor(o: PinTableOptions) {
    this.memory = o.memory;
    const limits = o.state?.limits ?? o.limits ?? {};
    const pages = (bytes: number | undefined) => Math.floor((bytes ?? Number.POSITIVE_INFINITY) / P.PIN_PAGE);
    this.#limits = {
      long: pages(limits.longtermBytes),
      memlock: pages(limits.memlockBytes),
      short: pages(limits.shortBytes),
    };
    this.#index = new PageIndex(o.memory.regions, o.shortPinsOnly);
    this.#shared = sharedState(this.#index, o.state?.shared);
    this.#adder = new Adder(o.state !== undefined);
    this.#counts = new PageCounts(this.#shared.counts, this.#index.pages, this.#adder, limits.pinsPerPage);
    this.#states = new PageStates(this.#shared, this.#counts);
    this.dirty = new DirtyLogs(this.#shared, this.#counts, this.#index);
    this.#state = { shared: this.#shared.buffer, limits, regions: describeRegions(o.memory.regions) };
    if (o.state !== undefined && o.state.regions.join() !== this.#state.regions.join())
      throw new VmError('ERR_INTERNAL', 'pins: the state of another memory');
    this.#thread = this.#attach();
    const zero = createZeroer(o.memory);
    this.#revocable = new RevocablePins({
      slots: this.#slots,
      counts: this.#counts,
      ownerName: h => this.#ownerOf(h).name,
      revoked: () => this.#total(TOTAL.revoked, 1),
    });
    this.#discards = new PageDiscards({
      index: this.#index,
      counts: this.#counts,
      states: this.#states,
      discardBytes: (base, length) => {
        for (const f of this.#beforeWrites) f(base, length);
        (o.discardBytes ?? zero)(base, length);
        this.dirty.markDirty(base, length);
      },
      revocable: this.#revocable,
      total: (which, n) => this.#total(which, n),
      owners: (first, end, stays) => this.#ownersOf(first, end, stays),
    });
  }

  /** For the table of another thread, one time for each: the `state` of its options. */
  share(): PinTableState {
    this.#adder.share();
    // That thread will write without this one's knowing: whoever protects pages is told of all of them now.
    if (this.#beforeWrites.size > 0) for (const r of this.memory.regions) this.#tell(r.base, r.size);
    return this.#state;
  }

  /** Whether anything has ever been pinned, by any thread (PIN-9). */
  get everPinned(): boolean {
    return Atomics.load(this.#shared.header, HEADER.everPinned) !== 0;
  }

  /** Threads whose tables share this one's memory, itself included. */
  get threads(): number {
    let n = 0;
    for (let t = 0; t < MAX_THREADS; t++) n += Atomics.load(this.#shared.header, HEADER.threads + t);
    return n;
  }

  /** Sets the time of pins to come, ns of the machine's clock. */
  set nowNs(ns: number) {
    this.#shared.now[0] = ns;
  }

  owner(name: string, passthrough = false): P.PinOwner {
    const found = this.#owners.find(o => o.name === name && o.passthrough === passthrough);
    if (found !== undefined) return found;
    const owner: Owner = { name, id: this.#owners.length, passthrough, acquired: 0, released: 0 };
    this.#owners.push(owner);
    return owner;
  }

  pin(base: Gpa, length: number, flags: number, owner: P.PinOwner): P.PinHandle {
    const handle = this.tryPin(base, length, flags, owner);
    if (handle === 0) throw pinError(this.#refusal!, base, length, owner.name);
    return handle;
  }

  tryPin(base: Gpa, length: number, flags: number, owner: P.PinOwner): P.PinHandle {
    if ((flags & ~(P.FOLL_WRITE | P.FOLL_LONGTERM)) !== P.FOLL_PIN)
      return this.#refuse('EINVAL', base, badFlags(flags));
    const span = this.#span(base, length);
    if (span === undefined) return 0;
    const kind = ((flags & P.FOLL_WRITE) | (flags & P.FOLL_LONGTERM ? KIND_LONG : 0)) as PinKind;
    if (!span.plain && !this.#allowed(span, base, length, kind)) return 0;
    const first = indexOf(span, base);
    const end = indexOf(span, base + length - 1) + 1;
    if (!this.#charge(end - first, kind, owner, base)) return 0;
    const { header } = this.#shared;
    // Read before it is written: a word that every thread writes would go from core to core with each pin.
    if (header[HEADER.everPinned] === 0) Atomics.store(header, HEADER.everPinned, 1);
    const seen = this.#counts.add(first, end, kind);
    if (seen !== 0 && !this.#admitted(first, end, seen, base)) {
      this.#uncount(first, end, kind);
      this.#uncharge(end - first, kind, owner);
      return 0;
    }
    const handle = this.#slots.take();
    const at = this.#slots.at(handle);
    this.#slots.first[at] = first;
    this.#slots.end[at] = end;
    this.#slots.kind[at] = kind;
    this.#slots.owner[at] = owner.id;
    this.#slots.base[at] = base;
    this.#slots.length[at] = length;
    this.#slots.sinceNs[at] = this.#shared.now[0]!;
    this.#total(TOTAL.acquired, end - first);
    this.#owners[owner.id]!.acquired += end - first;
    if ((kind & KIND_WRITE) !== 0 && this.#beforeWrites.size > 0) this.#tell(base, length);
    return handle;
  }

  get lastErrno(): P.PinErrno | undefined {
    return this.#refusal?.errno;
  }

  /** Why this thread's latest refusal was one, as the message of an error; for logs. */
  get lastRefusal(): string | undefined {
    return this.#refusal?.why;
  }

  pinRevocable(base: Gpa, length: number, flags: number, owner: P.PinOwner, revoke: () => void): P.PinHandle {
    const handle = this.pin(base, length, flags | P.FOLL_LONGTERM, owner);
    this.#revocable.add(handle, revoke);
    return handle;
  }

  /**
   * A long-term pin of a plug listener that releases it when it hears of an unplug of all its pages, as VFIO's map of all RAM has to
   * (table 4.3, memory hot-unplug, coordinated). To everything else it is a long-term pin like others.
   * @throws VmError as pin().
   */
  pinCoordinated(base: Gpa, length: number, flags: number, owner: P.PinOwner): P.PinHandle {
    const handle = this.pin(base, length, flags | P.FOLL_LONGTERM, owner);
    this.#revocable.add(handle, undefined);
    return handle;
  }

  unpin(handle: P.PinHandle, dirty = false): void {
    const slots = this.#slots;
    const at = slots.at(handle);
    if (at < 0) throw invalid(`no pin ${handle}: it has been released, or is another thread's`, { handle });
    const kind = slots.kindAt(at);
    if (dirty && (kind & KIND_WRITE) === 0)
      throw invalid('a pin for reading cannot have made its pages dirty', { handle });
    const first = slots.first[at]!;
    const end = slots.end[at]!;
    const owner = this.#owners[slots.owner[at]!]!;
    slots.free(at);
    if (this.#revocable.size > 0) this.#revocable.delete(handle);
    // Before it is counted down: see DirtyLogs.collect().
    if ((kind & KIND_WRITE) !== 0 && this.dirty.active !== 0) this.dirty.markPages(first, end);
    this.#total(TOTAL.released, end - first);
    owner.released += end - first;
    this.#uncharge(end - first, kind, owner);
    this.#uncount(first, end, kind);
  }

  view(handle: P.PinHandle): Uint8Array | undefined {
    const at = this.#slots.at(handle);
    return at < 0 ? undefined : this.memory.view(this.#slots.base[at]!, this.#slots.length[at]!);
  }

  /**
   * Bytes for use within the call (kernel FOLL_GET, case 4): counted nowhere, and not to be kept across a turn of the event loop.
   * Pages borrowed for writing are dirty at once, so only the thread that collects dirty logs borrows for writing; others pin.
   * Discarded pages read as zeros.
   * @returns undefined for what is not wholly in one region, for unplugged pages, and for ROM with 'w'; {@link lastErrno} says which.
   */
  borrow(base: Gpa, length: number, access: 'r' | 'w'): Uint8Array | undefined {
    if (length === 0) return new Uint8Array(0);
    const span = this.#span(base, length);
    if (span === undefined) return undefined;
    if (!span.plain && access === 'w' && !this.#allowed(span, base, length, KIND_WRITE)) return undefined;
    const first = indexOf(span, base);
    const end = indexOf(span, base + length - 1) + 1;
    if (!this.#discards.plugged(first, end)) {
      this.#refuse('EFAULT', base, 'memory that is unplugged');
      return undefined;
    }
    if (access === 'w') {
      if (this.#beforeWrites.size > 0) this.#tell(base, length);
      if (this.dirty.active !== 0) this.dirty.markPages(first, end);
    }
    return this.memory.view(base, length);
  }

  maybePinned(base: Gpa, length: number): boolean {
    let pinned = false;
    this.#index.eachTouched(base, length, (first, end) => {
      pinned ||= this.#counts.firstPinned(first, end) >= 0;
    });
    return pinned;
  }

  /** Pins and state of the page of an address; undefined where no memory is. */
  page(a: Gpa): (P.PageUse & { readonly state: P.PageState }) | undefined {
    const span = this.#index.find(a, 1);
    if (span === undefined) return undefined;
    const p = indexOf(span, a);
    const { short, long, write } = {
      short: this.#counts.short(p),
      long: this.#counts.long(p),
      write: this.#counts.write(p),
    };
    return { short, long, write, state: this.#states.name(p) };
  }

  /** See {@link PageDiscards.discard}. */
  discard(base: Gpa, length: number, reason: 'balloon' | 'report'): P.DiscardResult {
    return this.#discards.discard(base, length, reason);
  }

  /** See {@link PageDiscards.deflate}. */
  deflate(base: Gpa, length: number): void {
    this.#discards.deflate(base, length);
  }

  /** See {@link PageDiscards.unplug}. */
  unplug(base: Gpa, length: number): UnplugResult {
    return this.#discards.unplug(base, length);
  }

  /** See {@link PageDiscards.plug}. */
  plug(base: Gpa, length: number): PlugResult {
    return this.#discards.plug(base, length);
  }

  /** See {@link PageDiscards.startUnplugged}. */
  startUnplugged(base: Gpa, length: number): void {
    this.#discards.startUnplugged(base, length);
  }

  /** See {@link PageDiscards.addListener}. */
  addPlugListener(listener: P.PlugListener): Disposable {
    return this.#discards.addListener(listener);
  }

  /**
   * `f` is called before pages may change under a pin or borrow for writing that this thread takes, or by a discard; until the result
   * is disposed. Pages that are pinned already are the caller's to find: {@link pinnedForWriting}.
   */
  protect(f: BeforeWrite): Disposable {
    this.#beforeWrites.add(f);
    return { [Symbol.dispose]: () => void this.#beforeWrites.delete(f) };
  }

  /** `f` is called when memory that this thread has kept from new pins (EBUSY) takes them again; until the result is disposed. */
  onUnblocked(f: () => void): Disposable {
    this.#unblocked.add(f);
    return { [Symbol.dispose]: () => void this.#unblocked.delete(f) };
  }

  /** Calls `f` with the pages of each pin for writing, of all threads, as ranges in order of address. */
  pinnedForWriting(f: (base: Gpa, length: number) => void): void {
    for (const s of this.#index.spans) {
      const end = indexOf(s, s.end - 1) + 1;
      for (let p = s.first; p < end; p = (p | 31) + 1) {
        let bits = this.#counts.writeBits(p >>> 5);
        for (let q = p & ~31; bits !== 0; q++, bits >>>= 1) if (bits & 1) f(this.#index.baseOf(q), P.PIN_PAGE);
      }
    }
  }

  /**
   * Keeps new pins from [base, base + length) and waits until no short one is left; then calls `f`, during which that stays so.
   * @throws VmError ERR_PINNED (EBUSY) with the owners when they do not let go in time; what `f` throws; the signal's reason.
   */
  async drained<T>(base: Gpa, length: number, o: P.DrainOptions, f: () => T | Promise<T>): Promise<T> {
    const ranges: (readonly [number, number])[] = [];
    this.#index.eachTouched(base, length, (first, end) => void ranges.push([first, end]));
    const short = () => ranges.find(([first, end]) => this.#counts.firstShort(first, end) >= 0);
    // Nothing has to be blocked when nobody is there, and no other thread can come in between; most often at a glance (PIN-9).
    const quiet = this.threads === 1 && (!this.everPinned || short() === undefined);
    if (quiet && o.exclusive !== true) return f();
    const unblock = this.#block(ranges);
    try {
      const end = performance.now() + o.timeoutMs;
      for (let busy = short(); busy !== undefined; busy = short()) {
        o.signal?.throwIfAborted();
        if (performance.now() >= end) {
          throw pinnedError('memory that has to be still', base, length, this.#ownersOf(...busy));
        }
        await new Promise(resolve => setTimeout(resolve, 1));
      }
      return await f();
    } finally {
      unblock();
    }
  }

  /** Sums over all threads. */
  stats(): P.PinStats {
    const sum = (which: number) => {
      let n = 0;
      for (let t = 0; t < MAX_THREADS; t++) n += this.#shared.totals[t * TOTALS_STRIDE + which]!;
      return n;
    };
    const acquired = sum(TOTAL.acquired);
    const released = sum(TOTAL.released);
    return {
      pinAcquired: acquired,
      pinReleased: released,
      current: acquired - released,
      currentLong: Atomics.load(this.#shared.header, HEADER.longPages),
      discarded: sum(TOTAL.discarded),
      queued: sum(TOTAL.queued),
      cancelled: sum(TOTAL.cancelled),
      skippedPinned: sum(TOTAL.skipped),
      revoked: sum(TOTAL.revoked),
    };
  }

  /** This thread's pins, oldest first. */
  pins(): P.PinInfo[] {
    return this.#slots.handles().map(handle => {
      const at = this.#slots.at(handle);
      const kind = this.#slots.kindAt(at);
      return {
        owner: this.#owners[this.#slots.owner[at]!]!.name,
        base: this.#slots.base[at]!,
        length: this.#slots.length[at]!,
        write: (kind & KIND_WRITE) !== 0,
        longterm: (kind & KIND_LONG) !== 0,
        revocable: this.#revocable.isRevocable(handle),
        sinceNs: this.#slots.sinceNs[at]!,
      };
    });
  }

  /** Who still holds pages (PIN-5); empty when everybody has let go. */
  leaks(): P.PinLeak[] {
    const own = this.#owners
      .filter(o => o.acquired !== o.released)
      .map(o => ({ owner: o.name, pages: o.acquired - o.released }));
    const others = this.stats().current - own.reduce((n, l) => n + l.pages, 0);
    return others === 0 ? own : [...own, { owner: 'other threads', pages: others }];
  }

  /** Devices of the host that hold long-term pins now: what they may write cannot be stopped. */
  passthroughOwners(): string[] {
    if (Atomics.load(this.#shared.header, HEADER.memlockPages) === 0) return [];
    const own = this.#slots.handles().flatMap(handle => {
      const at = this.#slots.at(handle);
      const owner = this.#owners[this.#slots.owner[at]!]!;
      return owner.passthrough && (this.#slots.kindAt(at) & KIND_LONG) !== 0 ? [owner.name] : [];
    });
    return own.length > 0 ? [...new Set(own)] : ['another thread'];
  }

  /** The host itself is about to write [base, base + length), as it does when the machine is reset: as a borrow for writing. */
  willWrite(base: Gpa, length: number): void {
    if (this.#beforeWrites.size > 0) this.#tell(base, length);
    this.dirty.markDirty(base, length);
  }

  /** Releases all that `owner` holds on this thread: its device is gone. @returns how many pins that were. */
  releaseOwner(owner: P.PinOwner): number {
    const held = this.#slots.handles().filter(h => this.#slots.owner[this.#slots.at(h)] === owner.id);
    for (const h of held) this.unpin(h);
    return held.length;
  }

  /** Lets go of the shared state: this thread's pins are released, its counters stay. For threads that end. */
  detach(): void {
    for (const h of this.#slots.handles()) this.unpin(h);
    Atomics.store(this.#shared.header, HEADER.threads + this.#thread, 0);
  }

  #attach(): number {
    const { header } = this.#shared;
    for (let t = 0; t < MAX_THREADS; t++) {
      if (Atomics.compareExchange(header, HEADER.threads + t, 0, 1) === 0) return t;
    }
    throw new VmError('ERR_STATE', `${MAX_THREADS} threads use this memory's pins, and there can be no more`);
  }

  /** The span of a range, or a refusal. */
  #span(base: Gpa, length: number): Span | undefined {
    const span = length > 0 ? this.#index.find(base, length) : undefined;
    if (span !== undefined) return span;
    if (!(length > 0 && base >= 0 && base + length <= END_OF_ADDRESSES)) {
      this.#refuse('EINVAL', base, `a range of ${length} bytes`);
    } else {
      const at = this.#index.firstHole(base, base + length);
      this.#refuse('EFAULT', at, `no memory at ${hex(at)}`);
    }
    return undefined;
  }

  /** ROM, and memory that is not for long. */
  #allowed(span: Span, base: Gpa, length: number, kind: PinKind): boolean {
    const rom = (kind & KIND_WRITE) === 0 ? undefined : this.#index.firstRom(span, base, length);
    if (rom !== undefined) {
      this.#refuse('EPERM', rom, `${hex(rom)} is read-only`);
      return false;
    }
    const limited = (kind & KIND_LONG) === 0 ? undefined : this.#index.shortOnly(base, length);
    if (limited === undefined) return true;
    this.#refuse('EOPNOTSUPP', Math.max(base, limited.base), `cannot be pinned long-term: ${limited.why}`);
    return false;
  }

  /** Counts pages against the limits, or refuses. */
  #charge(pages: number, kind: PinKind, owner: P.PinOwner, base: Gpa): boolean {
    if (this.#slots.live >= MAX_PINS) {
      return this.#exceeded(base, { name: 'pins', needed: 1, used: this.#slots.live, limit: MAX_PINS });
    }
    if ((kind & KIND_LONG) === 0) {
      const used = this.#shortPages;
      if (used + pages > this.#limits.short)
        return this.#exceeded(base, quota('in flight', pages, used, this.#limits.short));
      this.#shortPages = used + pages;
      return true;
    }
    const { header } = this.#shared;
    const used = this.#adder.add(header, HEADER.longPages, pages);
    if (used + pages > this.#limits.long) {
      this.#adder.add(header, HEADER.longPages, -pages);
      return this.#exceeded(base, quota('long-term', pages, used, this.#limits.long));
    }
    if (!owner.passthrough) return true;
    const locked = this.#adder.add(header, HEADER.memlockPages, pages);
    if (locked + pages <= this.#limits.memlock) return true;
    this.#adder.add(header, HEADER.longPages, -pages);
    this.#adder.add(header, HEADER.memlockPages, -pages);
    return this.#exceeded(base, quota('RLIMIT_MEMLOCK', pages, locked, this.#limits.memlock));
  }

  #uncharge(pages: number, kind: PinKind, owner: P.PinOwner): void {
    if ((kind & KIND_LONG) === 0) {
      this.#shortPages -= pages;
      return;
    }
    this.#adder.add(this.#shared.header, HEADER.longPages, -pages);
    if (owner.passthrough) this.#adder.add(this.#shared.header, HEADER.memlockPages, -pages);
  }

  #uncount(first: number, end: number, kind: PinKind): void {
    if (this.#counts.remove(first, end, kind) !== 0) this.#discards.released(first, end);
  }

  /** Looks at what PageCounts.add() has said: whether the pin may stay. Waits for discards of other threads. */
  #admitted(first: number, end: number, seen: number, base: Gpa): boolean {
    if ((seen & OVERFLOW) !== 0) {
      this.#refuse('EOVERFLOW', base, 'a page has as many pins as can be counted');
      return false;
    }
    for (let p = first; p < end; p++) {
      const at = this.#index.baseOf(p);
      if (this.#states.blocked(p)) {
        this.#refuse('EBUSY', at, `${hex(at)} is being copied or moved`);
        return false;
      }
      const state = this.#states.get(p);
      if (state === DISCARDING || state === UNPLUGGING) {
        if (this.#discards.operating) {
          this.#refuse('EBUSY', at, `${hex(at)} is being discarded`);
          return false;
        }
        this.#states.wait(p);
      }
      if (this.#states.get(p) !== UNPLUGGED) continue;
      this.#refuse('EFAULT', at, `${hex(at)} is unplugged`);
      return false;
    }
    return true;
  }

  #block(ranges: readonly (readonly [number, number])[]): () => void {
    const blocked: number[] = [];
    const each = (f: (p: number) => void) => {
      for (const [first, end] of ranges) {
        for (let b = first >>> 9; b * 512 < end; b++) {
          this.#counts.enter(b);
          for (let p = Math.max(first, b * 512); p < Math.min(end, (b + 1) * 512); p++) f(p);
          this.#counts.leave(b);
        }
      }
    };
    each(p => {
      if (!this.#states.block(p)) return;
      this.#states.mark(p >>> 9, 1);
      blocked.push(p);
    });
    return () => {
      for (const p of blocked) {
        this.#counts.enter(p >>> 9);
        this.#states.unblock(p);
        this.#states.mark(p >>> 9, -1);
        this.#counts.leave(p >>> 9);
      }
      for (const f of this.#unblocked) f();
    };
  }

  #ownerOf(handle: P.PinHandle): Owner {
    return this.#owners[this.#slots.owner[this.#slots.at(handle)]!]!;
  }

  /** Names of those with pins of pages [first, end) that `counts` holds for. */
  #ownersOf(first: number, end: number, counts: (handle: P.PinHandle) => boolean = () => true): string[] {
    const names = new Set<string>();
    for (const h of this.#slots.handles()) {
      const at = this.#slots.at(h);
      if (this.#slots.first[at]! < end && this.#slots.end[at]! > first && counts(h)) names.add(this.#ownerOf(h).name);
    }
    return names.size > 0 ? [...names] : ['another thread'];
  }

  #tell(base: Gpa, length: number): void {
    const from = base - (base % P.PIN_PAGE);
    const to = Math.ceil((base + length) / P.PIN_PAGE) * P.PIN_PAGE;
    for (const f of this.#beforeWrites) f(from, to - from);
  }

  #total(which: number, n: number): void {
    this.#shared.totals[this.#thread * TOTALS_STRIDE + which]! += n;
  }

  #exceeded(at: Gpa, q: P.PinQuota): false {
    this.#refusal = { errno: 'ENOMEM', at, why: quotaText(q), quota: q };
    return false;
  }

  #refuse(errno: P.PinErrno, at: Gpa, why: string): 0 {
    this.#refusal = { errno, at, why };
    return 0;
  }
}

function badFlags(flags: number): string {
  if ((flags & ~(FLAGS | P.FOLL_GET)) !== 0) return `unknown flags ${hex(flags & ~(FLAGS | P.FOLL_GET))}`;
  if ((flags & P.FOLL_PIN) === 0) return 'a pin needs FOLL_PIN; FOLL_LONGTERM does not go without it';
  return 'FOLL_GET and FOLL_PIN exclude each other';
}

function quota(name: P.PinQuota['name'], needed: number, used: number, limit: number): P.PinQuota {
  return { name, needed: needed * P.PIN_PAGE, used: used * P.PIN_PAGE, limit: limit * P.PIN_PAGE };
}

/** Discards where the host has no way to take memory back. */
function createZeroer(memory: GuestMemory): (base: Gpa, length: number) => void {
  const plain = createGuestMemory(memory.regions);
  return (base, length) => void plain.view(base, length)?.fill(0);
}
