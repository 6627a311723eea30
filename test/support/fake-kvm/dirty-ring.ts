import {
  KVM_DIRTY_GFN_F_DIRTY,
  KVM_DIRTY_GFN_F_RESET,
  kvm_dirty_gfn,
} from '../../../src/engines/kvm/abi/common.generated.ts';

/** A ring is full for its vCPU when no more entries than these are free: KVM_DIRTY_RING_RSVD_ENTRIES. */
export const RESERVED = 64;

/** The dirty ring of a vCPU, as virt/kvm/dirty_ring.c of Linux 6.1 keeps it. */
export class FakeDirtyRing {
  /** What the vCPU's mapping shows. */
  readonly buffer: ArrayBuffer;
  readonly #view: DataView;
  readonly #entries: number;
  #dirty = 0;
  #reset = 0;

  /** @param size bytes. */
  constructor(size: number) {
    this.buffer = new ArrayBuffer(size);
    this.#view = new DataView(this.buffer);
    this.#entries = size / kvm_dirty_gfn.sizeof;
  }

  /** kvm_dirty_ring_soft_full(): the vCPU does not enter the guest. */
  get full(): boolean {
    return this.#dirty - this.#reset >= this.#entries - RESERVED;
  }

  /** kvm_dirty_ring_push() */
  push(slot: number, page: number): void {
    if (this.#dirty - this.#reset >= this.#entries) throw new Error('the kernel warns: a dirty ring overflows');
    const at = this.#at(this.#dirty++);
    this.#view.setUint32(at + kvm_dirty_gfn.slot, slot, true);
    this.#view.setBigUint64(at + kvm_dirty_gfn.offset, BigInt(page), true);
    this.#view.setUint32(at + kvm_dirty_gfn.flags, KVM_DIRTY_GFN_F_DIRTY, true);
  }

  /** kvm_dirty_ring_reset(): the entries up to the first that was not harvested are free. How many. */
  reset(protect: (slot: number, page: number) => void): number {
    const first = this.#reset;
    for (;;) {
      const at = this.#at(this.#reset);
      if ((this.#view.getUint32(at + kvm_dirty_gfn.flags, true) & KVM_DIRTY_GFN_F_RESET) === 0) break;
      protect(
        this.#view.getUint32(at + kvm_dirty_gfn.slot, true),
        Number(this.#view.getBigUint64(at + kvm_dirty_gfn.offset, true)),
      );
      this.#view.setUint32(at + kvm_dirty_gfn.flags, 0, true);
      this.#reset++;
    }
    return this.#reset - first;
  }

  #at(index: number): number {
    return (index % this.#entries) * kvm_dirty_gfn.sizeof;
  }
}
