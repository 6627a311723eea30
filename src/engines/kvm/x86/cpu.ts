import { VmError } from '../../../util/errors.ts';
import type { X86VcpuBoot } from '../../engine.ts';
import { KVM_GET_MP_STATE, KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, kvm_mp_state } from '../abi/common.generated.ts';
import {
  KVM_GET_LAPIC,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_SET_CPUID2,
  KVM_SET_LAPIC,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  kvm_dtable,
  kvm_lapic_state,
  kvm_msr_entry,
  kvm_msrs,
  kvm_regs,
  kvm_segment,
  kvm_sregs,
} from '../abi/x86_64.generated.ts';
import type { KvmCpu } from '../engine.ts';
import { Struct } from '../structs.ts';
import type { KvmHost } from '../system.ts';
import { type CpuidLeaf, encodeCpuid } from './cpuid.ts';

/** CR0 of a processor that runs: PE, ET, NE; and PG. Intel SDM volume 3, section 2.5. */
const CR0_PE = 0x1;
const CR0_ET = 0x10;
const CR0_NE = 0x20;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;
/** RFLAGS: bit 1 is always set. */
const RFLAGS_INIT = 2;
/** Types of code and data segments that have been accessed: execute/read 11, read/write 3, busy 32-bit TSS 11. */
const CODE = 11;
const DATA = 3;

/** IA32_MTRR_DEF_TYPE: MTRRs on, write-back; without it a guest would treat all memory as uncached. */
const MSR_MTRR_DEF_TYPE = 0x2ff;
const MTRR_ENABLE_WB = 0x806;
/** IA32_MISC_ENABLE[0]: fast strings. */
const MSR_MISC_ENABLE = 0x1a0;
/** Offsets of the local APIC's LINT0 and LINT1 (SDM volume 3, table 11-1), and delivery modes ExtINT and NMI. */
const APIC_LVT0 = 0x350;
const APIC_LVT1 = 0x360;
const MODE_EXTINT = 0x700;
const MODE_NMI = 0x400;

type General = Exclude<keyof typeof kvm_regs, 'sizeof'>;
const GENERAL = Object.keys(kvm_regs).filter(k => k !== 'sizeof') as General[];
const CONTROL = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apic_base'] as const;
const SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const;
const TABLES = ['gdt', 'idt'] as const;

/** A vCPU of an x86-64 VM. */
export class X86Cpu implements KvmCpu {
  readonly fd: number;
  readonly #host: KvmHost;

  constructor(host: KvmHost, fd: number) {
    this.#host = host;
    this.fd = fd;
  }

  /** What a firmware leaves behind: CPUID, memory types, and the virtual wire of the local APIC (SDM volume 3, 11.4.7 and 11.5.1). */
  initialize(cpuid: readonly CpuidLeaf[], lapic: boolean): void {
    this.#ioctl(KVM_SET_CPUID2, encodeCpuid(cpuid));
    this.setMsr(MSR_MISC_ENABLE, 1n);
    this.setMsr(MSR_MTRR_DEF_TYPE, BigInt(MTRR_ENABLE_WB));
    if (!lapic) return;
    const s = new Struct(kvm_lapic_state.sizeof);
    this.#ioctl(KVM_GET_LAPIC, s.bytes);
    this.#ioctl(KVM_SET_LAPIC, s.u32(APIC_LVT0, MODE_EXTINT).u32(APIC_LVT1, MODE_NMI).bytes);
  }

  /** Makes it ready to run from `boot`; see {@link X86VcpuBoot}. */
  start(boot: X86VcpuBoot): void {
    const s = new Struct(kvm_sregs.sizeof);
    this.#ioctl(KVM_GET_SREGS, s.bytes);
    const { mode } = boot;
    if (mode === 'real') {
      s.u64(kvm_sregs.cs + kvm_segment.base, 0).u16(kvm_sregs.cs + kvm_segment.selector, 0);
    } else {
      const long = mode === 'long';
      setSegment(s, kvm_sregs.cs, { selector: 0x10, type: CODE, long });
      for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) {
        setSegment(s, kvm_sregs[name], { selector: 0x18, type: DATA, long: false });
      }
      s.u64(kvm_sregs.gdt + kvm_dtable.base, boot.gdt.base).u16(kvm_sregs.gdt + kvm_dtable.limit, boot.gdt.limit);
      s.u64(kvm_sregs.idt + kvm_dtable.base, 0).u16(kvm_sregs.idt + kvm_dtable.limit, 0);
      s.u64(kvm_sregs.cr0, CR0_PE | CR0_ET | CR0_NE);
      if (long) {
        s.u64(kvm_sregs.cr0, BigInt(CR0_PE | CR0_ET | CR0_NE) | BigInt(CR0_PG));
        s.u64(kvm_sregs.cr3, boot.cr3)
          .u64(kvm_sregs.cr4, CR4_PAE)
          .u64(kvm_sregs.efer, EFER_LME | EFER_LMA);
      }
    }
    this.#ioctl(KVM_SET_SREGS, s.bytes);
    const r = new Struct(kvm_regs.sizeof).u64(kvm_regs.rip, boot.rip).u64(kvm_regs.rflags, RFLAGS_INIT);
    r.u64(kvm_regs.rsp, boot.rsp).u64(kvm_regs.rsi, boot.rsi).u64(kvm_regs.rbx, boot.rbx);
    this.#ioctl(KVM_SET_REGS, r.bytes);
  }

  /** 4.19, KVM_SET_MSRS of one; a host that does not know the register leaves it out. */
  setMsr(index: number, value: bigint): boolean {
    const at = kvm_msrs.entries;
    const s = new Struct(at + kvm_msr_entry.sizeof).u32(kvm_msrs.nmsrs, 1);
    s.u32(at + kvm_msr_entry.index, index).u64(at + kvm_msr_entry.data, value);
    return this.#ioctl(KVM_SET_MSRS, s.bytes) === 1;
  }

  get state(): 'on' | 'off' | 'idle' {
    const s = new Struct(kvm_mp_state.sizeof);
    this.#ioctl(KVM_GET_MP_STATE, s.bytes);
    const state = s.getU32(kvm_mp_state.mp_state);
    return state === KVM_MP_STATE_RUNNABLE ? 'on' : state === KVM_MP_STATE_HALTED ? 'idle' : 'off';
  }

  get pc(): bigint {
    return this.#general().getU64(kvm_regs.rip);
  }

  registers(): Record<string, bigint> {
    const out: Record<string, bigint> = {};
    const r = this.#general();
    for (const name of GENERAL) out[name] = r.getU64(kvm_regs[name]);
    const s = this.#special();
    for (const name of CONTROL) out[name] = s.getU64(kvm_sregs[name]);
    for (const name of SEGMENTS) {
      out[name] = BigInt(s.getU16(kvm_sregs[name] + kvm_segment.selector));
      out[`${name}.base`] = s.getU64(kvm_sregs[name] + kvm_segment.base);
    }
    for (const name of TABLES) {
      out[`${name}.base`] = s.getU64(kvm_sregs[name] + kvm_dtable.base);
      out[`${name}.limit`] = BigInt(s.getU16(kvm_sregs[name] + kvm_dtable.limit));
    }
    return out;
  }

  setRegisters(values: Readonly<Record<string, bigint>>): void {
    const r = this.#general();
    const s = this.#special();
    for (const [name, value] of Object.entries(values)) {
      const [owner, field] = name.split('.') as [string, string | undefined];
      if (GENERAL.includes(name as General)) r.u64(kvm_regs[name as General], value);
      else if (CONTROL.includes(name as never)) s.u64(kvm_sregs[name as 'cr0'], value);
      else if (SEGMENTS.includes(owner as never) && field === undefined) {
        s.u16(kvm_sregs[owner as 'cs'] + kvm_segment.selector, Number(value & 0xffffn));
      } else if (SEGMENTS.includes(owner as never) && field === 'base') {
        s.u64(kvm_sregs[owner as 'cs'] + kvm_segment.base, value);
      } else if (TABLES.includes(owner as never) && field === 'base') {
        s.u64(kvm_sregs[owner as 'gdt'] + kvm_dtable.base, value);
      } else if (TABLES.includes(owner as never) && field === 'limit') {
        s.u16(kvm_sregs[owner as 'gdt'] + kvm_dtable.limit, Number(value & 0xffffn));
      } else
        throw new VmError('ERR_USAGE', `an x86-64 vCPU has no register '${name}'`, { details: { register: name } });
    }
    this.#ioctl(KVM_SET_SREGS, s.bytes);
    this.#ioctl(KVM_SET_REGS, r.bytes);
  }

  describe(): string {
    const names = [
      'rip',
      'rsp',
      'rflags',
      'rax',
      'rbx',
      'rcx',
      'rdx',
      'rsi',
      'rdi',
      'cr0',
      'cr2',
      'cr3',
      'cr4',
      'efer',
      'cs',
    ];
    const all = this.registers();
    return names.map(n => `${n}=${(all[n] ?? 0n).toString(16)}`).join(' ');
  }

  #general(): Struct {
    const s = new Struct(kvm_regs.sizeof);
    this.#ioctl(KVM_GET_REGS, s.bytes);
    return s;
  }

  #special(): Struct {
    const s = new Struct(kvm_sregs.sizeof);
    this.#ioctl(KVM_GET_SREGS, s.bytes);
    return s;
  }

  #ioctl(request: number, argument: Uint8Array): number {
    return this.#host.ioctl(this.fd, request, argument);
  }
}

/** A flat segment of 4 GiB; a code segment is 64-bit or 32-bit. */
function setSegment(
  s: Struct,
  at: number,
  o: { readonly selector: number; readonly type: number; readonly long: boolean },
): void {
  const f = kvm_segment;
  s.u64(at + f.base, 0)
    .u32(at + f.limit, 0xffff_ffff)
    .u16(at + f.selector, o.selector)
    .u8(at + f.type, o.type);
  s.u8(at + f.present, 1)
    .u8(at + f.dpl, 0)
    .u8(at + f.s, 1)
    .u8(at + f.g, 1)
    .u8(at + f.unusable, 0)
    .u8(at + f.avl, 0);
  s.u8(at + f.l, o.long ? 1 : 0).u8(at + f.db, o.long ? 0 : 1);
}
