import * as arm from '../../../src/engines/kvm/abi/aarch64.generated.ts';
import {
  KVM_GET_ONE_REG,
  KVM_GET_REG_LIST,
  KVM_HAS_DEVICE_ATTR,
  KVM_MP_STATE_STOPPED,
  KVM_SET_DEVICE_ATTR,
  KVM_SET_ONE_REG,
  kvm_device_attr,
  kvm_one_reg,
  kvm_reg_list,
} from '../../../src/engines/kvm/abi/common.generated.ts';
import type { FakeAddresses } from './addresses.ts';
import { fail } from './errno.ts';
import { FakeVcpu } from './fake-vcpu.ts';
import type { Argument, Ioctls } from './files.ts';

const { kvm_regs } = arm;
const CORE_U64 = arm.KVM_REG_ARM64 | arm.KVM_REG_SIZE_U64 | BigInt(arm.KVM_REG_ARM_CORE);
const SYSTEM_U64 = arm.KVM_REG_ARM64 | arm.KVM_REG_SIZE_U64 | BigInt(arm.KVM_REG_ARM64_SYSREG);
const coreAt = (offset: number): bigint => CORE_U64 | BigInt(offset / 4);

/** S<op0>_<op1>_C<CRn>_C<CRm>_<op2> as api.rst 4.68 packs it. */
const system = (op0: number, op1: number, crn: number, crm: number, op2: number): bigint =>
  SYSTEM_U64 | BigInt((op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2);

export const SCTLR_EL1 = system(3, 0, 1, 0, 0);
export const VBAR_EL1 = system(3, 0, 12, 0, 0);
export const MPIDR_EL1 = system(3, 0, 0, 0, 5);
export const CNTPCT_EL0 = system(3, 3, 14, 0, 1);
/** KVM_REG_ARM_VENDOR_HYP_BMAP, and the services of Linux 6.1: UID with FEATURES, and PTP (fw-pseudo-registers.rst). */
export const VENDOR_HYP_BMAP = 0x6030_0000_0016_0002n;
const VENDOR_HYP_SERVICES = 0b11n;

/** What a vCPU asks of its VM. */
export interface FakeArm64Vm {
  readonly addresses: FakeAddresses;
  /** KVM_CHECK_EXTENSION's answer. */
  check(capability: number): number;
  gicInitialized(): boolean;
}

/** A vCPU of arm64; api.rst 4.68, 4.82 and 4.84, devices/vcpu.rst section 1. */
export class FakeArm64Vcpu extends FakeVcpu {
  /** By id, in the order of KVM_GET_REG_LIST. */
  readonly registers = new Map<bigint, bigint>();
  /** Ids that are listed and yet cannot be read. */
  readonly unreadable = new Set<bigint>();
  /** Bits of KVM_ARM_VCPU_INIT; undefined before it. */
  features: number | undefined;
  readonly pmu = { irq: undefined as number | undefined, initialized: false };
  readonly ioctls: Ioctls;
  readonly #vm: FakeArm64Vm;

  constructor(id: number, vm: FakeArm64Vm) {
    super(id);
    this.#vm = vm;
    for (let at = 0; at < kvm_regs.fp_regs; at += 8) this.registers.set(coreAt(at), 0n);
    // EL1h, all interrupts masked (kvm_reset_vcpu()).
    this.registers.set(coreAt(kvm_regs['regs.pstate']), 0x3c5n);
    for (const reg of [SCTLR_EL1, VBAR_EL1]) this.registers.set(reg, 0n);
    this.registers.set(MPIDR_EL1, 0x8000_0000n | BigInt(id));
    this.registers.set(arm.KVM_REG_ARM_TIMER_CNT, 0n);
    this.registers.set(CNTPCT_EL0, 0n);
    this.registers.set(VENDOR_HYP_BMAP, VENDOR_HYP_SERVICES);
    // FPSR has 32 bits.
    this.registers.set(arm.KVM_REG_ARM64 | arm.KVM_REG_SIZE_U32 | BigInt(arm.KVM_REG_ARM_CORE) | 0xd4n, 0n);
    this.ioctls = new Map<number, readonly [string, (a: Argument) => number | undefined]>([
      ...this.mpStateIoctls(),
      [arm.KVM_ARM_VCPU_INIT, ['KVM_ARM_VCPU_INIT', a => this.#initialize(a)]],
      [KVM_GET_ONE_REG, ['KVM_GET_ONE_REG', a => this.#getOne(a)]],
      [KVM_SET_ONE_REG, ['KVM_SET_ONE_REG', a => this.#setOne(a)]],
      [KVM_GET_REG_LIST, ['KVM_GET_REG_LIST', a => this.#list(a)]],
      [KVM_SET_DEVICE_ATTR, ['KVM_SET_DEVICE_ATTR', a => this.#setAttr(a)]],
      [KVM_HAS_DEVICE_ATTR, ['KVM_HAS_DEVICE_ATTR', a => this.#hasAttr(a)]],
    ]);
  }

  core(field: 'regs.regs' | 'regs.sp' | 'regs.pc' | 'regs.pstate' | 'sp_el1' | 'elr_el1' | 'spsr', n = 0): bigint {
    return this.registers.get(coreAt(kvm_regs[field] + 8 * n))!;
  }

  has(feature: number): boolean {
    return this.features !== undefined && ((this.features >>> feature) & 1) === 1;
  }

  /** kvm_vcpu_init_check_features() */
  #initialize(a: Argument): undefined {
    const features = a.view.getUint32(arm.kvm_vcpu_init.features, true);
    const wanted = (bit: number): boolean => ((features >>> bit) & 1) === 1;
    if (features >= 1 << 7) fail('ENOENT');
    if (wanted(arm.KVM_ARM_VCPU_PMU_V3) && this.#vm.check(arm.KVM_CAP_ARM_PMU_V3) === 0) fail('EINVAL');
    const address = wanted(arm.KVM_ARM_VCPU_PTRAUTH_ADDRESS);
    if (address !== wanted(arm.KVM_ARM_VCPU_PTRAUTH_GENERIC)) fail('EINVAL');
    if (address && this.#vm.check(arm.KVM_CAP_ARM_PTRAUTH_ADDRESS) === 0) fail('EINVAL');
    this.features = features;
    this.mpState = wanted(arm.KVM_ARM_VCPU_POWER_OFF) ? KVM_MP_STATE_STOPPED : 0;
  }

  #getOne(a: Argument): undefined {
    const [id, value] = this.#one(a);
    if (this.unreadable.has(id)) fail('EINVAL');
    value.setBigUint64(0, this.registers.get(id)!, true);
  }

  #setOne(a: Argument): undefined {
    const [id, value] = this.#one(a);
    const bits = value.getBigUint64(0, true);
    if (id === VENDOR_HYP_BMAP && bits & ~VENDOR_HYP_SERVICES) fail('EINVAL');
    this.registers.set(id, bits);
  }

  #one(a: Argument): [id: bigint, value: DataView] {
    if (this.features === undefined) fail('ENOEXEC');
    const id = a.view.getBigUint64(kvm_one_reg.id, true);
    if (!this.registers.has(id)) fail('ENOENT');
    const size = 1 << Number((id & arm.KVM_REG_SIZE_MASK) >> BigInt(arm.KVM_REG_SIZE_SHIFT));
    const bytes = this.#vm.addresses.at(a.view.getBigUint64(kvm_one_reg.addr, true), size);
    return [id, new DataView(bytes.buffer, bytes.byteOffset, bytes.length)];
  }

  #list(a: Argument): undefined {
    if (this.features === undefined) fail('ENOEXEC');
    const room = Number(a.view.getBigUint64(kvm_reg_list.n, true));
    a.view.setBigUint64(kvm_reg_list.n, BigInt(this.registers.size), true);
    if (room < this.registers.size) fail('E2BIG');
    for (const [i, id] of [...this.registers.keys()].entries()) {
      a.view.setBigUint64(kvm_reg_list.reg + 8 * i, id, true);
    }
  }

  /** kvm_arm_pmu_v3_set_attr() */
  #setAttr(a: Argument): undefined {
    this.#hasAttr(a);
    if (this.pmu.initialized) fail('EBUSY');
    const attr = Number(a.view.getBigUint64(kvm_device_attr.attr, true));
    if (attr === arm.KVM_ARM_VCPU_PMU_V3_IRQ) {
      const bytes = this.#vm.addresses.at(a.view.getBigUint64(kvm_device_attr.addr, true), 4);
      const irq = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
      if (irq < 16 || irq >= 32) fail('EINVAL');
      if (this.pmu.irq !== undefined) fail('EBUSY');
      this.pmu.irq = irq;
      return;
    }
    if (!this.#vm.gicInitialized()) fail('ENODEV');
    if (this.pmu.irq === undefined) fail('ENXIO');
    this.pmu.initialized = true;
  }

  #hasAttr(a: Argument): undefined {
    const group = a.view.getUint32(kvm_device_attr.group, true);
    const attr = Number(a.view.getBigUint64(kvm_device_attr.attr, true));
    const known = [arm.KVM_ARM_VCPU_PMU_V3_IRQ, arm.KVM_ARM_VCPU_PMU_V3_INIT] as number[];
    if (group !== arm.KVM_ARM_VCPU_PMU_V3_CTRL || !known.includes(attr)) fail('ENXIO');
    if (!this.has(arm.KVM_ARM_VCPU_PMU_V3)) fail('ENXIO');
  }
}
