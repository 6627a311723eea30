import type { DirtySink } from '../../memory/pin-types.ts';
import type { Gpa, Region } from '../../memory/types.ts';
import { VmError } from '../../util/errors.ts';
import { hex } from '../../util/hex.ts';
import type { HostMemory, WriteTracker } from '../engine.ts';
import type { LiveSlot, SlotTable } from './slots.ts';
import type { KvmVm } from './vm.ts';

const PAGE = 4096;
/** Bytes that are plugged and unplugged at a time. */
const BLOCK = 2 * 2 ** 20;

/** What {@link KvmRam} is made of. */
export interface KvmRamOptions {
  readonly vm: KvmVm;
  readonly slots: SlotTable;
  readonly regions: readonly Region[];
  /** The one of `regions` that is unplugged at first, if any. */
  readonly hotplug: Region | undefined;
  readonly hostMemory: HostMemory;
  /** No vCPU runs from its return until the next step. */
  pause(): void;
}

/**
 * The guest's RAM as slots of KVM: what is plugged, which pages are written, what goes back to the host.
 *
 * KVM logs the pages that vCPUs write; what this process itself writes for the guest is not in that log, and those who write say so.
 */
export class KvmRam implements WriteTracker {
  readonly #o: KvmRamOptions;
  /** By 2 MiB of the hot-plug region: whether it is plugged. */
  readonly #plugged: Uint8Array;
  #hotplugSlots: LiveSlot[] = [];
  #logging = false;
  /** Ranges that were discarded while the log runs, or are in the log of a slot that is gone. */
  readonly #discarded: [base: Gpa, length: number][] = [];

  constructor(o: KvmRamOptions) {
    this.#o = o;
    this.#plugged = new Uint8Array((o.hotplug?.size ?? 0) / BLOCK);
    for (const r of o.regions) if (r !== o.hotplug) this.#add(r.base, r.bytes);
  }

  start(): void {
    this.#logging = true;
    this.#o.slots.setLogging(true);
  }

  stop(): void {
    this.#logging = false;
    this.#discarded.length = 0;
    this.#o.slots.setLogging(false);
  }

  collectCpu(sink: DirtySink): void {
    if (!this.#logging) return;
    for (const [base, length] of this.#discarded.splice(0)) sink.markDirty(base, length);
    for (const s of this.#o.slots.ram()) {
      // The kernel writes whole 64-bit words (api.rst 4.8).
      const bitmap = new Uint32Array(2 * Math.ceil(s.size / PAGE / 64));
      this.#o.vm.getDirtyLog(s.slot, new Uint8Array(bitmap.buffer));
      for (const [first, count] of runs(bitmap)) sink.markDirty(s.base + first * PAGE, count * PAGE);
    }
  }

  /**
   * KVM has no way to ask before a vCPU writes: `beforeWrite` is called for all of RAM at once, while no vCPU runs.
   * (Write-protecting by userfaultfd would stop vCPUs inside the kernel, the one of this thread among them.)
   */
  protect(beforeWrite: (base: Gpa, length: number) => void): Disposable {
    this.#o.pause();
    for (const r of this.#o.regions) beforeWrite(r.base, r.size);
    return { [Symbol.dispose]: () => undefined };
  }

  /** See Engine.discard(). */
  discard(base: Gpa, length: number): void {
    if (base % PAGE !== 0 || length % PAGE !== 0 || !(length >= 0)) throw notRam(base, length);
    const pieces = this.#pieces(base, length);
    if (this.#logging) this.#discarded.push([base, length]);
    for (const [r, offset, size] of pieces) this.#o.hostMemory.discard(r.bytes, offset, size);
  }

  /** vCPUs reach [base, base + length) of the hot-plug region; whole blocks. */
  plug(base: Gpa, length: number): void {
    this.#set(base, length, 1);
  }

  /** They no longer do: what they read and write there is on the bus, where nothing is. */
  unplug(base: Gpa, length: number): void {
    this.#set(base, length, 0);
  }

  /** A slot's log goes with the slot, and all of them with the VM: what they have is taken over before. */
  keepLog(): void {
    const taken: [Gpa, number][] = [];
    this.collectCpu({ markDirty: (base, length) => void taken.push([base, length]) });
    this.#discarded.push(...taken);
  }

  /** The range as parts of regions. @throws VmError ERR_GUEST_ADDRESS where one is in none. */
  #pieces(base: Gpa, length: number): [region: Region, offset: number, size: number][] {
    const pieces: [Region, number, number][] = [];
    for (let at = base; at < base + length; ) {
      const r = this.#o.regions.find(m => at >= m.base && at < m.base + m.size);
      if (r === undefined) throw notRam(base, length);
      const size = Math.min(base + length, r.base + r.size) - at;
      pieces.push([r, at - r.base, size]);
      at += size;
    }
    return pieces;
  }

  #set(base: Gpa, length: number, plugged: 0 | 1): void {
    const { hotplug } = this.#o;
    const first = (base - (hotplug?.base ?? 0)) / BLOCK;
    const end = first + length / BLOCK;
    const whole = Number.isInteger(first) && Number.isInteger(end);
    if (hotplug === undefined || !whole || first < 0 || end > this.#plugged.length) {
      throw new VmError('ERR_INTERNAL', `${length} bytes at ${hex(base)} are not whole blocks of plugged memory`);
    }
    if (length === 0) return;
    this.#plugged.fill(plugged, first, end);
    this.#remap(hotplug);
  }

  /** One slot for each run of plugged blocks. A slot cannot grow: while its run changes, no vCPU may look. */
  #remap(hotplug: Region): void {
    const wanted: [from: number, to: number][] = [];
    for (let i = 0; i < this.#plugged.length; i++) {
      if (this.#plugged[i] === 0) continue;
      const last = wanted.at(-1);
      if (last?.[1] === i) last[1]++;
      else wanted.push([i, i + 1]);
    }
    const fits = (s: LiveSlot) =>
      wanted.some(([from, to]) => s.base === hotplug.base + from * BLOCK && s.size === (to - from) * BLOCK);
    this.#o.pause();
    if (this.#hotplugSlots.some(s => !fits(s))) this.keepLog();
    const kept = this.#hotplugSlots.filter(fits);
    for (const s of this.#hotplugSlots) if (!fits(s)) this.#o.slots.remove(s);
    this.#hotplugSlots = kept;
    for (const [from, to] of wanted) {
      const base = hotplug.base + from * BLOCK;
      if (kept.some(s => s.base === base)) continue;
      this.#hotplugSlots.push(this.#add(base, hotplug.bytes.subarray(from * BLOCK, to * BLOCK)));
    }
  }

  #add(base: Gpa, bytes: Uint8Array): LiveSlot {
    const slot = this.#o.slots.add(base, bytes, { ram: true, readOnly: false });
    if (slot !== undefined) return slot;
    throw new VmError('ERR_MEMORY_TOO_LARGE', `KVM has no memory slot left for RAM at ${hex(base)}`, {
      hint: 'plug memory in larger pieces, or use fewer devices with mapped memory',
    });
  }
}

function notRam(base: Gpa, length: number): VmError {
  return new VmError('ERR_GUEST_ADDRESS', `${length} bytes at ${hex(base)} are not whole pages of RAM`, {
    details: { base, length },
  });
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
