import type { DeviceMemory, Gpa, MemorySlots } from '../../memory/types.ts';
import { VmError } from '../../util/errors.ts';
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from './abi/common.generated.ts';
import { sharedMemory } from './guest-ram.ts';
import { errnoOf } from './system.ts';
import type { KvmVm, SlotRegion } from './vm.ts';

const PAGE = 4096;
/** Device memory is taken from the host in pieces of at least this many bytes; they cost nothing until they are written. */
const POOL = 64 * 2 ** 20;
/** What all devices together may have. */
const MAX_POOL = 2 ** 32;

/** A slot that is in use. */
export interface LiveSlot extends SlotRegion {
  /** The guest's RAM, whose writes may be logged. */
  readonly ram: boolean;
}

/** The memory slots of a VM: numbers, and what KVM knows of each. */
export class SlotTable {
  readonly #vm: KvmVm;
  readonly #limit: number;
  readonly #live = new Map<number, LiveSlot>();
  #logging = false;

  /** @param limit KVM_CAP_NR_MEMSLOTS. */
  constructor(vm: KvmVm, limit: number) {
    this.#vm = vm;
    this.#limit = limit;
  }

  /** The slots of RAM. */
  ram(): LiveSlot[] {
    return [...this.#live.values()].filter(s => s.ram);
  }

  /** Takes the lowest free number, or none when all are in use. @throws VmError ERR_HOST_CALL when KVM refuses. */
  add(base: Gpa, bytes: Uint8Array, o: { readonly ram: boolean; readonly readOnly: boolean }): LiveSlot | undefined {
    let slot = 0;
    while (this.#live.has(slot)) slot++;
    if (slot >= this.#limit) return undefined;
    const flags = (o.readOnly ? KVM_MEM_READONLY : 0) | (o.ram && this.#logging ? KVM_MEM_LOG_DIRTY_PAGES : 0);
    const live = { slot, base, size: bytes.length, flags, bytes, ram: o.ram };
    this.#vm.setMemoryRegion(live);
    this.#live.set(slot, live);
    return live;
  }

  /** Nothing happens when it is gone already, whoever has its number now. */
  remove({ slot, bytes }: LiveSlot): void {
    const live = this.#live.get(slot);
    if (live?.bytes !== bytes) return;
    if (!this.#vm.closed) this.#vm.setMemoryRegion({ ...live, size: 0 });
    this.#live.delete(slot);
  }

  /** Tells a new VM of all slots. */
  renew(): void {
    for (const s of this.#live.values()) this.#vm.setMemoryRegion(s);
  }

  /** Turns the log of writes on or off for every slot of RAM. On, it starts empty. */
  setLogging(on: boolean): void {
    if (this.#logging === on) return;
    this.#logging = on;
    for (const s of this.ram()) {
      const flags = on ? s.flags | KVM_MEM_LOG_DIRTY_PAGES : s.flags & ~KVM_MEM_LOG_DIRTY_PAGES;
      const changed = { ...s, flags };
      this.#vm.setMemoryRegion(changed);
      this.#live.set(s.slot, changed);
    }
  }
}

/** Memory of devices that guests reach without an exit, as slots of KVM. */
export class KvmMemorySlots implements MemorySlots {
  readonly pageSize = PAGE;
  readonly #table: SlotTable;
  readonly #readOnly: boolean;
  #pool: Uint8Array = new Uint8Array(0);
  #used = 0;
  #allocated = 0;

  /** @param readOnly KVM_CAP_READONLY_MEM: without it a guest's write could not be kept away. */
  constructor(table: SlotTable, readOnly: boolean) {
    this.#table = table;
    this.#readOnly = readOnly;
  }

  allocate(size: number): DeviceMemory {
    if (!(size > 0) || size % PAGE !== 0 || this.#allocated + size > MAX_POOL) {
      throw new VmError('ERR_MEMORY_TOO_LARGE', `the engine cannot give a device ${size} bytes of memory`, {
        hint: `devices share ${MAX_POOL / 2 ** 20} MiB, in pages of ${PAGE} bytes; ${this.#allocated} bytes are taken`,
        details: { size, taken: this.#allocated, limit: MAX_POOL },
      });
    }
    if (this.#used + size > this.#pool.length) {
      this.#pool = sharedMemory(Math.max(POOL, size));
      this.#used = 0;
    }
    const bytes = this.#pool.subarray(this.#used, this.#used + size);
    this.#used += size;
    this.#allocated += size;
    return { bytes };
  }

  map(base: Gpa, size: number, memory: DeviceMemory, offset: number, readOnly: boolean): Disposable | undefined {
    if (readOnly && !this.#readOnly) return undefined;
    // A guest may put its BAR where RAM is (EEXIST); then the bus decides, by an exit.
    const bytes = memory.bytes.subarray(offset, offset + size);
    const slot = orUndefined(() => this.#table.add(base, bytes, { ram: false, readOnly }));
    return slot && { [Symbol.dispose]: () => this.#table.remove(slot) };
  }
}

/** undefined where KVM refuses: what can be done by exits, too, goes on by exits. */
function orUndefined<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (e) {
    if (errnoOf(e) === undefined) throw e;
    return undefined;
  }
}
