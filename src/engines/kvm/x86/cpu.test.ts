import { beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../../test/support/fake-kvm/fake-host.ts';
import type { FakeX86Vcpu } from '../../../../test/support/fake-kvm/x86-vcpu.ts';
import type { X86VcpuBoot } from '../../engine.ts';
import { KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE } from '../abi/common.generated.ts';
import { KvmSystem } from '../system.ts';
import { KvmVm } from '../vm.ts';
import { X86Cpu } from './cpu.ts';

const BOOT: X86VcpuBoot = {
  mode: 'long',
  rip: 0x10_0200,
  rsp: 0x8ff0,
  rsi: 0x7000,
  rbx: 0x6000,
  cr3: 0x9000,
  gdt: { base: 0x500, limit: 31 },
};
const SEGMENTS = ['ds', 'es', 'fs', 'gs', 'ss'] as const;

let host: FakeHost;
let cpu: X86Cpu;
let kernel: FakeX86Vcpu;

beforeEach(() => {
  host = new FakeHost();
  const vm = new KvmVm(new KvmSystem(host), 0);
  vm.createIrqchip();
  cpu = new X86Cpu(host, vm.createVcpu(0));
  kernel = host.vm.x86Vcpu(0);
});

describe('the start of a vCPU', () => {
  it('in 64-bit mode has paging on, flat segments and a 64-bit code segment', () => {
    cpu.start(BOOT);
    expect(kernel.sreg('cr0')).toBe(0x8000_0031n); // PG, NE, ET, PE
    expect([kernel.sreg('cr3'), kernel.sreg('cr4'), kernel.sreg('efer')]).toEqual([0x9000n, 0x20n, 0x500n]);
    expect(kernel.segment('cs')).toEqual({ selector: 0x10, limit: 0xffff_ffff, type: 11, l: 1, db: 0, g: 1 });
    for (const s of SEGMENTS) {
      expect(kernel.segment(s)).toEqual({ selector: 0x18, limit: 0xffff_ffff, type: 3, l: 0, db: 1, g: 1 });
    }
  });

  it('in 32-bit mode has protection on, paging off and a 32-bit code segment', () => {
    cpu.start({ ...BOOT, mode: 'protected', cr3: 0 });
    expect(kernel.sreg('cr0')).toBe(0x31n);
    expect([kernel.sreg('cr3'), kernel.sreg('cr4'), kernel.sreg('efer')]).toEqual([0n, 0n, 0n]);
    expect(kernel.segment('cs')).toEqual({ selector: 0x10, limit: 0xffff_ffff, type: 11, l: 0, db: 1, g: 1 });
    for (const s of SEGMENTS) expect(kernel.segment(s)).toMatchObject({ selector: 0x18, l: 0, db: 1 });
  });

  it('in real mode is that of a reset, but for the code segment, which begins at 0', () => {
    cpu.start({ ...BOOT, mode: 'real' });
    const all = cpu.registers();
    expect([all.cr0, all.cr4, all.efer]).toEqual([0x6000_0010n, 0n, 0n]);
    expect([all.cs, all['cs.base']]).toEqual([0n, 0n]);
  });

  it.each(['long', 'protected', 'real'] as const)('in %s mode has the registers of the boot, the others 0', mode => {
    cpu.start({ ...BOOT, mode });
    const all = cpu.registers();
    expect(all).toMatchObject({ rip: 0x10_0200n, rsp: 0x8ff0n, rsi: 0x7000n, rbx: 0x6000n, rflags: 2n });
    for (const r of ['rax', 'rcx', 'rdx', 'rdi', 'rbp', 'r8', 'r15']) expect(all[r]).toBe(0n);
    expect(cpu.pc).toBe(0x10_0200n);
  });

  it('has the tables of its boot', () => {
    cpu.start(BOOT);
    const { 'gdt.base': gdt, 'gdt.limit': gdtLimit, 'idt.base': idt, 'idt.limit': idtLimit } = cpu.registers();
    expect([gdt, gdtLimit, idt, idtLimit]).toEqual([0x500n, 31n, 0n, 0n]);
  });

  it('leaves the address of its local APIC alone', () => {
    cpu.start(BOOT);
    expect(kernel.sreg('apic_base')).toBe(0xfee0_0900n);
  });
});

describe('what a firmware leaves behind', () => {
  it('is CPUID, memory that is cached, and the virtual wire', () => {
    const leaf = { leaf: 7, index: 0, eax: 1, ebx: 2, ecx: 3, edx: 0xffff_ffff };
    cpu.initialize([leaf], true);
    expect(kernel.cpuid).toEqual([leaf]);
    // MTRRs on, write-back by default; fast strings.
    expect([kernel.msrs.get(0x2ff), kernel.msrs.get(0x1a0)]).toEqual([0x806n, 1n]);
    const lapic = new DataView(kernel.lapic.buffer);
    // LINT0 ExtINT and LINT1 NMI, not masked; the timer's entry as it was.
    expect([0x350, 0x360, 0x320].map(at => lapic.getUint32(at, true))).toEqual([0x700, 0x400, 0x1_0000]);
  });

  it('goes without the registers that a host does not know', () => {
    kernel.msrs.delete(0x1a0);
    cpu.initialize([], true);
    expect(kernel.msrs.get(0x2ff)).toBe(0x806n);
    expect([cpu.setMsr(0x1a0, 1n), cpu.setMsr(0x2ff, 1n)]).toEqual([false, true]);
  });

  it('touches no local APIC where the kernel has none', () => {
    cpu.initialize([], false);
    expect(host.callsOf('KVM_GET_LAPIC')).toEqual([]);
    expect(host.callsOf('KVM_SET_LAPIC')).toEqual([]);
  });
});

describe('registers', () => {
  it('are all as they were set, each by its name', () => {
    const names = Object.keys(cpu.registers());
    // What KVM checks: neither paging nor long mode by halves.
    const values = Object.fromEntries(names.map((n, i) => [n, BigInt(i + 1) * 0x101n]));
    Object.assign(values, { cr0: 0x8000_0011n, cr4: 0x20n, efer: 0x501n });
    cpu.setRegisters(values);
    expect(cpu.registers()).toEqual(values);
    expect(names).toEqual(
      expect.arrayContaining(['rip', 'r15', 'cr8', 'cs', 'gs.base', 'tr', 'idt.limit', 'apic_base']),
    );
  });

  it('that are not named stay', () => {
    cpu.start(BOOT);
    const before = cpu.registers();
    cpu.setRegisters({ rax: 2n ** 64n - 1n, 'fs.base': 0xffff_8000_0000_0000n });
    expect(cpu.registers()).toEqual({ ...before, rax: 2n ** 64n - 1n, 'fs.base': 0xffff_8000_0000_0000n });
  });

  it.each(['xyz', 'cs.limit', 'gdt', 'rax.base', '', 'sizeof'])('of no such name (%j) change nothing', name => {
    const before = cpu.registers();
    expect(() => cpu.setRegisters({ rax: 1n, [name]: 1n })).toThrow(
      expect.objectContaining({ code: 'ERR_USAGE', details: { register: name } }),
    );
    expect(cpu.registers()).toEqual(before);
  });

  it('that KVM refuses change nothing', () => {
    const before = cpu.registers();
    // Long mode without PAE.
    expect(() => cpu.setRegisters({ rax: 1n, cr0: 0x8000_0001n, efer: 0x100n })).toThrow();
    expect(cpu.registers()).toEqual(before);
  });

  it('are told in one line for people', () => {
    cpu.start(BOOT);
    expect(cpu.describe()).toMatch(/^rip=100200 rsp=8ff0 .*cr3=9000 .*cs=10$/);
  });
});

describe('the state of a vCPU', () => {
  it.each([
    [KVM_MP_STATE_RUNNABLE, 'on'],
    [KVM_MP_STATE_HALTED, 'idle'],
    [KVM_MP_STATE_INIT_RECEIVED, 'off'],
  ])('is %d in KVM and %s here', (state, name) => {
    kernel.mpState = state;
    expect(cpu.state).toBe(name);
  });
});
