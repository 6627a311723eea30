import type { DirtySink } from '../../memory/pin-types.ts';
import type { Gpa, Region } from '../../memory/types.ts';
import { VmError } from '../../util/errors.ts';
import { hex } from '../../util/hex.ts';
import type { HostMemory, WriteTracker } from '../engine.ts';
import { PAGE, type PageLog, PageSet } from './page-log.ts';
import type { LiveSlot, SlotTable } from './slots.ts';

/** Bytes that are plugged and unplugged at a time. */
const BLOCK = 2 * 2 ** 20;

/** What {@link KvmRam} is made of. */
export interface KvmRamOptions {
  readonly slots: SlotTable;
  readonly log: PageLog;
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
  /** Pages that were in KVM's log and can stay there no longer, or never were: of a full ring, of a slot that is gone, discarded. */
  readonly #kept: PageSet;

  constructor(o: KvmRamOptions) {
    this.#o = o;
    this.#kept = new PageSet(o.regions);
    this.#plugged = new Uint8Array((o.hotplug?.size ?? 0) / BLOCK);
    for (const r of o.regions) if (r !== o.hotplug) this.#add(r.base, r.bytes);
  }

  start(): void {
    this.#logging = true;
    this.#o.log.setLogging(true);
  }

  stop(): void {
    this.#logging = false;
    this.#o.log.setLogging(false);
    this.#kept.clear();
  }

  collectCpu(sink: DirtySink): void {
    this.#kept.drain(sink);
    if (this.#logging) this.#o.log.collect(sink);
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
    if (this.#logging) this.#kept.markDirty(base, length);
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

  /** A slot's log goes with the slot, and all of them with the VM and its vCPUs: what they have is taken over before. */
  keepLog(): void {
    if (this.#logging) this.#o.log.collect(this.#kept);
  }

  /** Pages that KVM has told of before anybody collects. */
  get kept(): DirtySink {
    return this.#kept;
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
