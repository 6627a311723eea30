import {
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
  KVM_GET_LAPIC,
  KVM_GET_MSRS,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_TSC_KHZ,
  KVM_KVMCLOCK_CTRL,
  KVM_SET_CPUID2,
  KVM_SET_LAPIC,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  kvm_cpuid_entry2,
  kvm_cpuid2,
  kvm_lapic_state,
  kvm_msr_entry,
  kvm_msrs,
  kvm_regs,
  kvm_segment,
  kvm_sregs,
} from '../../../src/engines/kvm/abi/x86_64.generated.ts';
import type { CpuidLeaf } from '../../../src/engines/kvm/x86/cpuid.ts';
import { fail } from './errno.ts';
import { FakeVcpu } from './fake-vcpu.ts';
import type { Argument, Ioctls } from './files.ts';

/** MSRs that every KVM has of those that a machine sets. */
const MSRS = [0x10, 0x1a0, 0x2ff, 0x174, 0x175, 0x176, 0xc000_0080];

/** A vCPU of x86-64, after its reset (SDM volume 3, table 10-1). */
export class FakeX86Vcpu extends FakeVcpu {
  readonly regs = new Uint8Array(kvm_regs.sizeof);
  readonly sregs = new Uint8Array(kvm_sregs.sizeof);
  readonly lapic = new Uint8Array(kvm_lapic_state.sizeof);
  readonly msrs = new Map<number, bigint>(MSRS.map(index => [index, 0n]));
  cpuid: CpuidLeaf[] = [];
  /** Whether the guest has turned its kvmclock on, and whether it was told that it had been stopped. */
  kvmclock = false;
  toldOfStop = false;
  /** Frequency of the TSC. */
  tscKhz = 2_400_000;
  readonly ioctls: Ioctls;

  constructor(id: number, irqchip: boolean) {
    super(id);
    const r = new DataView(this.regs.buffer);
    r.setBigUint64(kvm_regs.rip, 0xfff0n, true);
    r.setBigUint64(kvm_regs.rflags, 2n, true);
    const s = new DataView(this.sregs.buffer);
    s.setBigUint64(kvm_sregs.cr0, 0x6000_0010n, true);
    s.setBigUint64(kvm_sregs.cs + kvm_segment.base, 0xffff_0000n, true);
    s.setUint16(kvm_sregs.cs + kvm_segment.selector, 0xf000, true);
    s.setBigUint64(kvm_sregs.apic_base, id === 0 ? 0xfee0_0900n : 0xfee0_0800n, true);
    // LVT entries are masked; the id's register.
    const l = new DataView(this.lapic.buffer);
    for (let at = 0x320; at <= 0x370; at += 0x10) l.setUint32(at, 0x1_0000, true);
    l.setUint32(0x20, id * 2 ** 24, true);
    // Others than the first wait for an INIT.
    this.mpState = id === 0 || !irqchip ? 0 : 1;
    this.ioctls = new Map<number, readonly [string, (a: Argument) => number | undefined]>([
      ...this.mpStateIoctls(),
      [KVM_GET_REGS, ['KVM_GET_REGS', give(this.regs)]],
      [KVM_SET_REGS, ['KVM_SET_REGS', take(this.regs)]],
      [KVM_GET_SREGS, ['KVM_GET_SREGS', give(this.sregs)]],
      [KVM_SET_SREGS, ['KVM_SET_SREGS', a => this.#setSregs(a)]],
      [KVM_GET_LAPIC, ['KVM_GET_LAPIC', a => (irqchip ? give(this.lapic)(a) : fail('EINVAL'))]],
      [KVM_SET_LAPIC, ['KVM_SET_LAPIC', a => (irqchip ? take(this.lapic)(a) : fail('EINVAL'))]],
      [KVM_SET_CPUID2, ['KVM_SET_CPUID2', a => this.#setCpuid(a)]],
      [KVM_GET_TSC_KHZ, ['KVM_GET_TSC_KHZ', () => this.tscKhz]],
      [KVM_KVMCLOCK_CTRL, ['KVM_KVMCLOCK_CTRL', () => this.#tellOfStop()]],
      [KVM_SET_MSRS, ['KVM_SET_MSRS', a => this.#msrs(a, (at, index) => this.#setMsr(a, at, index))]],
      [KVM_GET_MSRS, ['KVM_GET_MSRS', a => this.#msrs(a, (at, index) => this.#getMsr(a, at, index))]],
    ]);
  }

  reg(name: Exclude<keyof typeof kvm_regs, 'sizeof'>): bigint {
    return new DataView(this.regs.buffer).getBigUint64(kvm_regs[name], true);
  }

  sreg(name: 'cr0' | 'cr2' | 'cr3' | 'cr4' | 'cr8' | 'efer' | 'apic_base'): bigint {
    return new DataView(this.sregs.buffer).getBigUint64(kvm_sregs[name], true);
  }

  segment(
    name: 'cs' | 'ds' | 'es' | 'fs' | 'gs' | 'ss',
  ): Record<'selector' | 'limit' | 'type' | 'l' | 'db' | 'g', number> {
    const v = new DataView(this.sregs.buffer, kvm_sregs[name], kvm_segment.sizeof);
    const byte = (at: number): number => v.getUint8(at);
    return {
      selector: v.getUint16(kvm_segment.selector, true),
      limit: v.getUint32(kvm_segment.limit, true),
      type: byte(kvm_segment.type),
      l: byte(kvm_segment.l),
      db: byte(kvm_segment.db),
      g: byte(kvm_segment.g),
    };
  }

  /** kvm_is_valid_sregs() */
  #setSregs(a: Argument): undefined {
    const v = a.view;
    const [cr0, cr4, efer] = [kvm_sregs.cr0, kvm_sregs.cr4, kvm_sregs.efer].map(at => v.getUint32(at, true));
    const paging = (cr0! & 0x8000_0000) !== 0;
    const lma = (efer! & 0x400) !== 0;
    if (paging && (efer! & 0x100) !== 0) {
      if ((cr4! & 0x20) === 0 || !lma) fail('EINVAL');
    } else if (lma || v.getUint8(kvm_sregs.cs + kvm_segment.l) !== 0) fail('EINVAL');
    take(this.sregs)(a);
  }

  /** kvm_set_guest_paused() */
  #tellOfStop(): undefined {
    if (!this.kvmclock) fail('EINVAL');
    this.toldOfStop = true;
  }

  #setCpuid(a: Argument): undefined {
    const v = a.view;
    const e = kvm_cpuid_entry2;
    const count = v.getUint32(kvm_cpuid2.nent, true);
    if (count > 256) fail('E2BIG');
    if (kvm_cpuid2.entries + count * e.sizeof > v.byteLength) fail('EFAULT');
    this.cpuid = Array.from({ length: count }, (_, i) => {
      const at = kvm_cpuid2.entries + i * e.sizeof;
      const field = (offset: number): number => v.getUint32(at + offset, true);
      const indexed = (field(e.flags) & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) !== 0;
      const index = indexed ? field(e.index) : undefined;
      return {
        leaf: field(e.function),
        index,
        eax: field(e.eax),
        ebx: field(e.ebx),
        ecx: field(e.ecx),
        edx: field(e.edx),
      };
    });
  }

  /** How many were moved: it ends at the first that KVM does not have. */
  #msrs(a: Argument, move: (at: number, index: number) => void): number {
    const count = a.view.getUint32(kvm_msrs.nmsrs, true);
    for (let i = 0; i < count; i++) {
      const at = kvm_msrs.entries + i * kvm_msr_entry.sizeof;
      const index = a.view.getUint32(at + kvm_msr_entry.index, true);
      if (!this.msrs.has(index)) return i;
      move(at, index);
    }
    return count;
  }

  #setMsr(a: Argument, at: number, index: number): void {
    this.msrs.set(index, a.view.getBigUint64(at + kvm_msr_entry.data, true));
  }

  #getMsr(a: Argument, at: number, index: number): void {
    a.view.setBigUint64(at + kvm_msr_entry.data, this.msrs.get(index)!, true);
  }
}

/** Moves a structure of the vCPU into the caller's, or back. */
const give =
  (from: Uint8Array) =>
  (a: Argument): undefined =>
    void a.bytes.set(from);
const take =
  (into: Uint8Array) =>
  (a: Argument): undefined =>
    void into.set(a.bytes.subarray(0, into.length));
