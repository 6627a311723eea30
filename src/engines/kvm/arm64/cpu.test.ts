import { beforeEach, describe, expect, it } from 'vitest';
import { type FakeArm64Vcpu, MPIDR_EL1, SCTLR_EL1, VBAR_EL1 } from '../../../../test/support/fake-kvm/arm64-vcpu.ts';
import { FakeHost } from '../../../../test/support/fake-kvm/fake-host.ts';
import * as arm from '../abi/aarch64.generated.ts';
import { KVM_MP_STATE_STOPPED } from '../abi/common.generated.ts';
import { KvmSystem } from '../system.ts';
import { KvmVm } from '../vm.ts';
import { Arm64Cpu } from './cpu.ts';

const PLAIN = { pmu: false, pointerAuthentication: false };

let host: FakeHost;
let vm: KvmVm;
let cpu: Arm64Cpu;
let kernel: FakeArm64Vcpu;

beforeEach(() => {
  host = new FakeHost('aarch64');
  host.capabilities.set(arm.KVM_CAP_ARM_PTRAUTH_ADDRESS, 1);
  host.capabilities.set(arm.KVM_CAP_ARM_PTRAUTH_GENERIC, 1);
  vm = new KvmVm(new KvmSystem(host), 0);
  cpu = new Arm64Cpu(host, vm.createVcpu(0));
  kernel = host.vm.arm64Vcpu(0);
});

/** KVM_GET_ONE_REG and KVM_SET_ONE_REG calls' register ids, oldest first. */
const ids = (name: string) =>
  host.callsOf(name).map(c => new DataView((c.argument as Uint8Array).buffer).getBigUint64(0, true));

describe('features of a vCPU', () => {
  it.each([
    ['none but PSCI', PLAIN, false, [arm.KVM_ARM_VCPU_PSCI_0_2]],
    ['off until PSCI starts it', PLAIN, true, [arm.KVM_ARM_VCPU_POWER_OFF, arm.KVM_ARM_VCPU_PSCI_0_2]],
    ['a PMU', { ...PLAIN, pmu: true }, false, [arm.KVM_ARM_VCPU_PSCI_0_2, arm.KVM_ARM_VCPU_PMU_V3]],
    [
      'pointer authentication, which is two',
      { ...PLAIN, pointerAuthentication: true },
      false,
      [arm.KVM_ARM_VCPU_PSCI_0_2, arm.KVM_ARM_VCPU_PTRAUTH_ADDRESS, arm.KVM_ARM_VCPU_PTRAUTH_GENERIC],
    ],
  ])('are those asked for: %s', (_, features, off, bits) => {
    cpu.initialize(5, features, off);
    expect(kernel.features).toBe(bits.reduce((sum, b) => sum | (1 << b), 0));
    expect(cpu.state).toBe(off ? 'off' : 'on');
    const [init] = host.callsOf('KVM_ARM_VCPU_INIT');
    expect(new DataView((init!.argument as Uint8Array).buffer).getUint32(0, true)).toBe(5);
  });

  it('that the host does not have are an error', () => {
    host.capabilities.delete(arm.KVM_CAP_ARM_PMU_V3);
    expect(() => cpu.initialize(5, { ...PLAIN, pmu: true }, false)).toThrow(/EINVAL/);
  });
});

describe('the start of a vCPU', () => {
  it('sets PC and X0 by the ids of the kernel’s interface, and nothing else', () => {
    cpu.initialize(5, PLAIN, false);
    cpu.start({ pc: 0x4008_0000, x0: 0x4800_0000n });
    // arm64's KVM_REG_ARM_CORE_REG(regs.pc) and (regs.regs[0]), as in api.rst 4.68 and QEMU's traces of it.
    expect(ids('KVM_SET_ONE_REG')).toEqual([0x6030_0000_0010_0040n, 0x6030_0000_0010_0000n]);
    expect([kernel.core('regs.pc'), kernel.core('regs.regs')]).toEqual([0x4008_0000n, 0x4800_0000n]);
    // EL1h with D, A, I and F masked, as KVM_ARM_VCPU_INIT leaves it.
    expect(kernel.core('regs.pstate')).toBe(0x3c5n);
    expect(cpu.pc).toBe(0x4008_0000n);
  });
});

describe('registers', () => {
  beforeEach(() => cpu.initialize(5, PLAIN, false));

  it.each([
    ['x0', 0x6030_0000_0010_0000n],
    ['x1', 0x6030_0000_0010_0002n],
    ['x30', 0x6030_0000_0010_003cn],
    ['sp_el0', 0x6030_0000_0010_003en],
    ['pc', 0x6030_0000_0010_0040n],
    ['pstate', 0x6030_0000_0010_0042n],
    ['sp_el1', 0x6030_0000_0010_0044n],
    ['elr_el1', 0x6030_0000_0010_0046n],
    ['spsr_el1', 0x6030_0000_0010_0048n],
    ['sctlr_el1', 0x6030_0000_0013_c080n],
    ['vbar_el1', 0x6030_0000_0013_c600n],
  ])('%s has the id that the kernel gave it', (name, id) => {
    cpu.setRegisters({ [name]: 1n });
    expect(ids('KVM_SET_ONE_REG')).toEqual([id]);
  });

  it('are all as they were set', () => {
    const names = Object.keys(cpu.registers());
    const values = Object.fromEntries(names.map((n, i) => [n, BigInt(i + 1) << 32n]));
    cpu.setRegisters(values);
    expect(cpu.registers()).toEqual(values);
    expect(names).toEqual(expect.arrayContaining(['x0', 'x30', 'sp_el0', 'pc', 'pstate', 'sctlr_el1', 'vbar_el1']));
    expect(kernel.registers.get(SCTLR_EL1)).toBe(values.sctlr_el1);
    expect(kernel.registers.get(VBAR_EL1)).toBe(values.vbar_el1);
  });

  it('of 64 bits without a name here are called by their encoding; others are left out', () => {
    const unknown = arm.KVM_REG_ARM64 | arm.KVM_REG_SIZE_U64 | BigInt(arm.KVM_REG_ARM64_SYSREG) | 0xd801n;
    const narrow = arm.KVM_REG_ARM64 | arm.KVM_REG_SIZE_U32 | BigInt(arm.KVM_REG_ARM64_SYSREG) | 0xd802n;
    const firmware = arm.KVM_REG_ARM64 | arm.KVM_REG_SIZE_U64 | 0x14_0000n;
    for (const id of [unknown, narrow, firmware]) kernel.registers.set(id, 7n);
    const all = cpu.registers();
    expect(all.S3_3_C0_C0_1).toBe(7n);
    expect(Object.values(all).filter(v => v === 7n)).toHaveLength(1);
    expect(ids('KVM_GET_ONE_REG')).not.toContain(narrow);
  });

  it('that are listed and cannot be read are left out', () => {
    kernel.unreadable.add(MPIDR_EL1);
    const all = cpu.registers();
    expect(all).not.toHaveProperty('mpidr_el1');
    expect(all).not.toHaveProperty('S3_0_C0_C0_5');
    expect(all).toHaveProperty('pc');
  });

  it('are listed whole, however many there are', () => {
    for (let n = 0; n < 2000; n++) {
      kernel.registers.set(arm.KVM_REG_ARM64 | arm.KVM_REG_SIZE_U64 | BigInt(arm.KVM_REG_ARM64_SYSREG) | BigInt(n), 1n);
    }
    expect(Object.keys(cpu.registers()).length).toBeGreaterThan(2000);
    expect(host.callsOf('KVM_GET_REG_LIST').map(c => c.errno)).toEqual(['E2BIG', undefined]);
  });

  it('of no such name change nothing', () => {
    expect(() => cpu.setRegisters({ x0: 1n, x31: 1n })).toThrow(
      expect.objectContaining({ code: 'ERR_USAGE', details: { register: 'x31' } }),
    );
    expect(kernel.core('regs.regs')).toBe(0n);
  });

  it('that KVM refuses are named', () => {
    host.failOn('KVM_SET_ONE_REG', 'EINVAL');
    expect(() => cpu.setRegisters({ pstate: 0xdn })).toThrow(
      expect.objectContaining({ code: 'ERR_USAGE', details: { register: 'pstate' }, cause: expect.anything() }),
    );
  });

  it('hold 64 bits, whatever the sign', () => {
    cpu.setRegisters({ x5: -1n });
    expect(kernel.core('regs.regs', 5)).toBe(2n ** 64n - 1n);
  });

  it('keep no address of this process’s', () => {
    cpu.registers();
    kernel.unreadable.add(SCTLR_EL1);
    cpu.registers();
    expect(host.addresses.kept).toBe(0);
  });

  it('are told in one line for people', () => {
    cpu.start({ pc: 0x4008_0000, x0: 0x4800_0000n });
    expect(cpu.describe()).toMatch(/^pc=40080000 pstate=3c5 .*x0=48000000/);
  });
});

describe('the counter', () => {
  it('is the one that the kernel calls CNT, whose encoding is another’s by mistake', () => {
    cpu.initialize(5, PLAIN, false);
    cpu.counter = 1234n;
    expect(ids('KVM_SET_ONE_REG')).toEqual([arm.KVM_REG_ARM_TIMER_CNT]);
    expect(cpu.counter).toBe(1234n);
  });
});

describe('the state of a vCPU', () => {
  it('is on, or off: whether it waits the kernel does not tell', () => {
    cpu.initialize(5, PLAIN, false);
    expect(cpu.state).toBe('on');
    kernel.mpState = KVM_MP_STATE_STOPPED;
    expect(cpu.state).toBe('off');
  });
});

describe('the PMU', () => {
  it('is left alone on a vCPU without one', () => {
    cpu.initialize(5, PLAIN, false);
    cpu.initializePmu();
    expect(kernel.pmu).toEqual({ irq: undefined, initialized: false });
  });
});
