import {
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  kvm_dirty_log,
  kvm_userspace_memory_region,
} from '../../../src/engines/kvm/abi/common.generated.ts';
import type { FakeAddresses } from './addresses.ts';
import type { FakeDirtyRing } from './dirty-ring.ts';
import { fail, refuse } from './errno.ts';
import type { Argument } from './files.ts';

const PAGE = 4096;

/** A slot as KVM has it. */
export interface FakeSlot {
  readonly base: number;
  readonly size: number;
  readonly flags: number;
  readonly bytes: Uint8Array;
  readonly address: bigint;
  /** Pages that were written since the log was read, or since the rings forgot them; undefined: no log. */
  readonly dirty: Set<number> | undefined;
}

/** What memory asks of its VM. */
export interface FakeMemoryVm {
  slots(): number;
  readOnly(): boolean;
  /** VMs with dirty rings have no dirty log. */
  rings(): boolean;
}

/** Memory slots with the checks of kvm_set_memory_region() and kvm_get_dirty_log() of Linux 6.1 (virt/kvm/kvm_main.c), in their order. */
export class FakeMemory {
  readonly slots = new Map<number, FakeSlot>();
  readonly #addresses: FakeAddresses;
  readonly #vm: FakeMemoryVm;

  constructor(addresses: FakeAddresses, vm: FakeMemoryVm) {
    this.#addresses = addresses;
    this.#vm = vm;
  }

  /** KVM_SET_USER_MEMORY_REGION */
  set(a: Argument): void {
    const f = kvm_userspace_memory_region;
    const v = a.view;
    const slot = v.getUint32(f.slot, true);
    const flags = v.getUint32(f.flags, true);
    const base = Number(v.getBigUint64(f.guest_phys_addr, true));
    const size = Number(v.getBigUint64(f.memory_size, true));
    const address = v.getBigUint64(f.userspace_addr, true);
    const known = KVM_MEM_LOG_DIRTY_PAGES | (this.#vm.readOnly() ? KVM_MEM_READONLY : 0);
    if ((flags & ~known) !== 0) fail('EINVAL');
    if (size % PAGE !== 0 || base % PAGE !== 0 || address % BigInt(PAGE) !== 0n) fail('EINVAL');
    if (slot >= this.#vm.slots() || base + size > 2 ** 64 || size / PAGE > 2 ** 31 - 1) fail('EINVAL');
    const old = this.slots.get(slot);
    if (size === 0) {
      if (old === undefined) fail('EINVAL');
      this.slots.delete(slot);
      return;
    }
    if (old !== undefined) {
      const readOnlyChanges = ((flags ^ old.flags) & KVM_MEM_READONLY) !== 0;
      if (address !== old.address || size !== old.size || readOnlyChanges) fail('EINVAL');
    }
    if (base !== old?.base) this.#checkOverlap(slot, base, size);
    const dirty = (flags & KVM_MEM_LOG_DIRTY_PAGES) === 0 ? undefined : (old?.dirty ?? new Set<number>());
    const bytes = old?.bytes ?? this.#addresses.at(address, size);
    this.slots.set(slot, { base, size, flags, bytes, address, dirty });
  }

  /** KVM_GET_DIRTY_LOG */
  log(a: Argument): void {
    if (this.#vm.rings()) fail('ENXIO');
    const s = this.slots.get(a.view.getUint32(kvm_dirty_log.slot, true));
    if (s?.dirty === undefined) fail('ENOENT');
    const length = 8 * Math.ceil(s.size / PAGE / 64);
    const bitmap = this.#addresses.at(a.view.getBigUint64(kvm_dirty_log.dirty_bitmap, true), length);
    bitmap.fill(0);
    for (const page of s.dirty) bitmap[page >> 3]! |= 1 << (page & 7);
    s.dirty.clear();
  }

  /** A vCPU reads; undefined: nothing is there, and it leaves the guest. */
  read(address: number, length: number): Uint8Array | undefined {
    const s = this.#find(address, length);
    return s?.bytes.slice(address - s.base, address - s.base + length);
  }

  /** A page that a ring had is clean again (kvm_reset_dirty_gfn()); a slot that is gone has none. */
  clean(slot: number, page: number): void {
    this.slots.get(slot)?.dirty?.delete(page);
  }

  /** A vCPU writes, the one with this ring where there are rings; false: it leaves the guest. */
  write(address: number, bytes: Uint8Array, ring?: FakeDirtyRing): boolean {
    const s = this.#find(address, bytes.length);
    if (s === undefined || (s.flags & KVM_MEM_READONLY) !== 0) return false;
    s.bytes.set(bytes, address - s.base);
    const last = (address + bytes.length - 1 - s.base) / PAGE;
    for (let page = Math.floor((address - s.base) / PAGE); page <= last; page++) {
      // Only the first write of a page faults and is noticed.
      if (s.dirty === undefined || s.dirty.has(page)) continue;
      s.dirty.add(page);
      if (this.#vm.rings()) (ring ?? refuse('which vCPU writes?')).push(this.#numberOf(s), page);
    }
    return true;
  }

  #numberOf(slot: FakeSlot): number {
    return [...this.slots].find(([, s]) => s === slot)![0];
  }

  #find(address: number, length: number): FakeSlot | undefined {
    return [...this.slots.values()].find(s => address >= s.base && address + length <= s.base + s.size);
  }

  #checkOverlap(slot: number, base: number, size: number): void {
    for (const [n, s] of this.slots) {
      if (n !== slot && base < s.base + s.size && s.base < base + size) fail('EEXIST');
    }
  }
}
