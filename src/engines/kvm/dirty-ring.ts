import type { DirtySink } from '../../memory/pin-types.ts';
import { VmError } from '../../util/errors.ts';
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
  KVM_DIRTY_GFN_F_DIRTY,
  KVM_DIRTY_GFN_F_RESET,
  kvm_dirty_gfn,
} from './abi/common.generated.ts';
import { PAGE, type PageLog } from './page-log.ts';
import type { LiveSlot, SlotTable } from './slots.ts';
import { errnoOf } from './system.ts';
import type { KvmVm } from './vm.ts';

/** 32-bit words of an entry, and where its fields are. */
const WORDS = kvm_dirty_gfn.sizeof / 4;
const FLAGS = kvm_dirty_gfn.flags / 4;
const SLOT = kvm_dirty_gfn.slot / 4;
const OFFSET = kvm_dirty_gfn.offset / 4;

/** What {@link DirtyRings} are made of. */
export interface DirtyRingsOptions {
  readonly vm: KvmVm;
  readonly slots: SlotTable;
  /** Entries of each ring, a power of two; fewer where the host's limit is lower. */
  readonly entries: number;
  /** No vCPU runs from its return until the next step. */
  pause(): void;
}

/** A vCPU's ring. */
interface Ring {
  readonly words: Int32Array;
  /** The entry that is written next. */
  next: number;
  /** Entries that were taken since it was full. */
  taken: number;
}

/**
 * The dirty rings (api.rst 8.29, KVM_CAP_DIRTY_LOG_RING): each vCPU appends the pages that it writes first since they were reset, so a
 * collection costs by what was written and not by how much memory there is. A vCPU whose ring is full leaves the guest.
 *
 * The kernel writes guest memory for devices of its own, too, outside of any vCPU and its ring: an ITS, when its tables are saved,
 * which nothing here asks for. That alone would need KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP.
 */
export class DirtyRings implements PageLog {
  /** Bytes of each ring. */
  readonly size: number;
  readonly #o: DirtyRingsOptions;
  readonly #capability: number;
  #rings: readonly Ring[] = [];

  private constructor(o: DirtyRingsOptions, capability: number, size: number) {
    this.#o = o;
    this.#capability = capability;
    this.size = size;
  }

  /** Gives a VM without vCPUs rings. undefined: the host has none, or refuses this size; the dirty log does as well. */
  static open(o: DirtyRingsOptions): DirtyRings | undefined {
    // Linux before 6.1 has the older name only, and only where the order of stores needs no care. The Atomics below need none.
    for (const capability of [KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_DIRTY_LOG_RING]) {
      const limit = o.vm.check(capability);
      if (limit <= 0) continue;
      const rings = new DirtyRings(o, capability, Math.min(limit, o.entries * kvm_dirty_gfn.sizeof));
      try {
        rings.enable();
        return rings;
      } catch (e) {
        if (errnoOf(e) === undefined) throw e;
      }
    }
    return undefined;
  }

  /** Once for each VM; before its first vCPU. @throws VmError ERR_HOST_CALL. */
  enable(): void {
    this.#o.vm.enableCap(this.#capability, this.size);
  }

  /** The rings of a new VM's vCPUs; none when they are gone. */
  attach(rings: readonly ArrayBuffer[]): void {
    this.#rings = rings.map(r => ({ words: new Int32Array(r), next: 0, taken: 0 }));
  }

  setLogging(on: boolean): void {
    this.#o.slots.setLogging(on);
    // Nothing is appended any more once KVM has taken the change in.
    if (!on) this.harvest({ markDirty: () => undefined });
  }

  /** Processors keep what they log to themselves until they leave the guest (Intel's PML): for all of it every vCPU is brought out. */
  collect(into: DirtySink): void {
    this.#o.pause();
    this.harvest(into);
  }

  /** Answers KVM_EXIT_DIRTY_RING_FULL of a vCPU; others may run. @throws VmError ERR_VCPU_FAILED, ERR_HOST_CALL. */
  full(cpu: number, into: DirtySink): void {
    this.harvest(into);
    const ring = this.#rings[cpu];
    if (ring === undefined) return;
    // The harvest for another vCPU may have emptied it, but not since this one was full before.
    if (ring.taken === 0) throw overflowed(cpu);
    ring.taken = 0;
  }

  /** Takes the entries that there are, while vCPUs may run, and makes room for as many. @throws VmError as {@link full}. */
  harvest(into: DirtySink): void {
    const slots = new Map(this.#o.slots.ram().map(s => [s.slot, s]));
    let found = false;
    for (const [cpu, ring] of this.#rings.entries()) {
      const taken = harvestRing(ring, slots, into);
      if (taken > 0) found = true;
      // KVM keeps some in reserve. One that runs guests in software may not look at the ring in time.
      if (taken >= ring.words.length / WORDS) throw overflowed(cpu);
      ring.taken += taken;
    }
    // Until then writes to these pages are not noticed again, and after it their contents may be read.
    if (found) this.#o.vm.resetDirtyRings();
  }
}

/**
 * Tells of a ring's entries and gives them back. How many there were.
 *
 * Flags are the only word of an entry that both sides write. Of an ArrayBuffer that is not shared, too, Atomics are accesses to
 * memory in their order: what stands before a store is seen before it, what follows a load is read after it.
 */
function harvestRing(ring: Ring, slots: ReadonlyMap<number, LiveSlot>, into: DirtySink): number {
  const { words } = ring;
  const entries = words.length / WORDS;
  let from: LiveSlot | undefined;
  let first = 0;
  let end = 0;
  const tell = () => {
    if (from !== undefined) into.markDirty(from.base + first * PAGE, (end - first) * PAGE);
  };
  let taken = 0;
  for (; taken < entries; taken++) {
    const at = ring.next * WORDS;
    if (Atomics.load(words, at + FLAGS) !== KVM_DIRTY_GFN_F_DIRTY) break;
    // The upper half is the address space: 0 but for SMM on x86, which has no slots of its own here.
    const slot = slots.get(words[at + SLOT]!);
    // Of 64 bits; a slot has fewer than 2^31 pages (KVM_MEM_MAX_NR_PAGES).
    const page = words[at + OFFSET]!;
    // Guests fill memory upwards more often than not.
    if (slot !== from || page !== end) {
      tell();
      from = slot;
      first = page;
    }
    end = page + 1;
    Atomics.store(words, at + FLAGS, KVM_DIRTY_GFN_F_RESET);
    ring.next = (ring.next + 1) % entries;
  }
  tell();
  return taken;
}

/** What it has lost cannot be known, and its vCPU does not run again. */
function overflowed(cpu: number): VmError {
  return new VmError('ERR_VCPU_FAILED', `the dirty ring of vCPU ${cpu} has run over: KVM did not stop it in time`, {
    hint: 'use the dirty log on this host (KvmEngineOptions.dirtyRing: 0)',
    details: { cpu },
  });
}
