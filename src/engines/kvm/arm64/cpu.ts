import { VmError } from '../../../util/errors.ts';
import { ARM64_SYSTEM_REGISTERS } from '../../arm64-registers.ts';
import type { VcpuBoot } from '../../engine.ts';
import {
  KVM_ARM_VCPU_INIT,
  KVM_ARM_VCPU_PMU_V3,
  KVM_ARM_VCPU_PMU_V3_CTRL,
  KVM_ARM_VCPU_PMU_V3_INIT,
  KVM_ARM_VCPU_PMU_V3_IRQ,
  KVM_ARM_VCPU_POWER_OFF,
  KVM_ARM_VCPU_PSCI_0_2,
  KVM_ARM_VCPU_PTRAUTH_ADDRESS,
  KVM_ARM_VCPU_PTRAUTH_GENERIC,
  KVM_REG_ARM_CORE,
  KVM_REG_ARM64,
  KVM_REG_ARM64_SYSREG,
  KVM_REG_SIZE_MASK,
  KVM_REG_SIZE_U64,
  kvm_regs,
  kvm_vcpu_init,
} from '../abi/aarch64.generated.ts';
import {
  KVM_GET_MP_STATE,
  KVM_GET_ONE_REG,
  KVM_GET_REG_LIST,
  KVM_MP_STATE_STOPPED,
  KVM_SET_ONE_REG,
  kvm_mp_state,
  kvm_one_reg,
  kvm_reg_list,
} from '../abi/common.generated.ts';
import type { KvmCpu } from '../engine.ts';
import { Struct } from '../structs.ts';
import { errnoOf, type KvmHost } from '../system.ts';
import { hasDeviceAttr, setDeviceAttr } from '../vm.ts';

/** The PMU's private interrupt, as Arm's Base System Architecture and QEMU's virt board have it. */
const PPI_PMU = 23;
/** Coprocessor field of a register's id: what kind of register it is. */
const KIND_MASK = 0x0fff_0000n;

/** Register ids of the general registers (api.rst 4.68): an offset in struct kvm_regs, in words. */
const core = (offset: number): bigint =>
  KVM_REG_ARM64 | KVM_REG_SIZE_U64 | BigInt(KVM_REG_ARM_CORE) | BigInt(offset / 4);

const CORE: Readonly<Record<string, bigint>> = {
  ...Object.fromEntries(Array.from({ length: 31 }, (_, n) => [`x${n}`, core(kvm_regs['regs.regs'] + 8 * n)])),
  sp_el0: core(kvm_regs['regs.sp']),
  pc: core(kvm_regs['regs.pc']),
  pstate: core(kvm_regs['regs.pstate']),
  sp_el1: core(kvm_regs.sp_el1),
  elr_el1: core(kvm_regs.elr_el1),
  spsr_el1: core(kvm_regs.spsr),
};

/** Register id of a system register by its encoding (api.rst 4.68). */
const system = (encoding: number): bigint =>
  KVM_REG_ARM64 | KVM_REG_SIZE_U64 | BigInt(KVM_REG_ARM64_SYSREG) | BigInt(encoding);

/**
 * api.rst 4.68 and include/uapi/asm/kvm.h: by mistake KVM_REG_ARM_TIMER_CVAL has the encoding of CNTVCT_EL0, and
 * KVM_REG_ARM_TIMER_CNT that of CNTV_CVAL_EL0. It is part of the interface now.
 */
const TIMER_CVAL = system(0xdf02);
const TIMER_CNT = system(0xdf1a);

/** KVM_REG_ARM_PTIMER_CNT: CNTPCT_EL0, with its own encoding. */
const PTIMER_CNT = system(0xdf01);
/** KVM_REG_ARM_VENDOR_HYP_BMAP (Documentation/virt/kvm/arm/fw-pseudo-registers.rst). */
const VENDOR_HYP_BMAP = 0x6030_0000_0016_0002n;

const NAMED: ReadonlyMap<string, bigint> = new Map([
  ...Object.entries(CORE),
  ...Object.entries(ARM64_SYSTEM_REGISTERS).map(([name, encoding]) => [name, system(encoding)] as const),
  ['cntv_cval_el0', TIMER_CVAL],
]);
/** Not listed by their encoding: those that have a name, and the counter, which is no state of one vCPU. */
const NAMED_IDS: ReadonlySet<bigint> = new Set([...NAMED.values(), TIMER_CNT]);

/** Which features a vCPU gets. */
export interface Arm64Features {
  readonly pmu: boolean;
  readonly pointerAuthentication: boolean;
}

/** A vCPU of an arm64 VM. */
export class Arm64Cpu implements KvmCpu {
  readonly fd: number;
  readonly #host: KvmHost;
  #names: ReadonlyMap<string, bigint> | undefined;

  constructor(host: KvmHost, fd: number) {
    this.#host = host;
    this.fd = fd;
  }

  /** 4.82, KVM_ARM_VCPU_INIT. @param target from KVM_ARM_PREFERRED_TARGET. @param off waits for PSCI's CPU_ON. */
  initialize(target: number, features: Arm64Features, off: boolean): void {
    let bits = 1 << KVM_ARM_VCPU_PSCI_0_2;
    if (off) bits |= 1 << KVM_ARM_VCPU_POWER_OFF;
    if (features.pmu) bits |= 1 << KVM_ARM_VCPU_PMU_V3;
    if (features.pointerAuthentication)
      bits |= (1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS) | (1 << KVM_ARM_VCPU_PTRAUTH_GENERIC);
    const s = new Struct(kvm_vcpu_init.sizeof).u32(kvm_vcpu_init.target, target).u32(kvm_vcpu_init.features, bits);
    this.#host.ioctl(this.fd, KVM_ARM_VCPU_INIT, s.bytes);
  }

  /** Documentation/virt/kvm/devices/vcpu.rst, section 1; when the interrupt controller is there. */
  initializePmu(): void {
    if (!hasDeviceAttr(this.#host, this.fd, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT)) return;
    const set = (attr: number, value?: Uint32Array) =>
      setDeviceAttr(this.#host, this.fd, KVM_ARM_VCPU_PMU_V3_CTRL, attr, value);
    set(KVM_ARM_VCPU_PMU_V3_IRQ, Uint32Array.of(PPI_PMU));
    set(KVM_ARM_VCPU_PMU_V3_INIT);
  }

  /** Sets PC and X0; the rest is as KVM_ARM_VCPU_INIT left it: EL1, MMU off, interrupts masked. */
  start(boot: VcpuBoot): void {
    this.setRegisters({ pc: BigInt(boot.pc), x0: boot.x0 });
  }

  get state(): 'on' | 'off' | 'idle' {
    const s = new Struct(kvm_mp_state.sizeof);
    this.#host.ioctl(this.fd, KVM_GET_MP_STATE, s.bytes);
    // Whether it waits in WFI the kernel does not tell.
    return s.getU32(kvm_mp_state.mp_state) === KVM_MP_STATE_STOPPED ? 'off' : 'on';
  }

  get pc(): bigint {
    return this.#get(CORE.pc!);
  }

  /** The guest's counter, CNTVCT_EL0; setting it sets that of all vCPUs. */
  get counter(): bigint {
    return this.#get(TIMER_CNT);
  }

  set counter(value: bigint) {
    this.#set(TIMER_CNT, value);
  }

  /** The guest's physical counter, CNTPCT_EL0. */
  get physicalCounter(): bigint {
    return this.#get(PTIMER_CNT);
  }

  /**
   * The hypervisor services that KVM answers, a bit each; those of the whole VM, which can be set before any vCPU has run.
   * @throws VmError ERR_HOST_CALL with ENOENT before Linux 5.19.
   */
  get vendorHypervisorServices(): bigint {
    return this.#get(VENDOR_HYP_BMAP);
  }

  set vendorHypervisorServices(bits: bigint) {
    this.#set(VENDOR_HYP_BMAP, bits);
  }

  /** A general register, X0 to X30. */
  x(n: number): bigint {
    return this.#get(CORE[`x${n}`]!);
  }

  setX(n: number, value: bigint): void {
    this.#set(CORE[`x${n}`]!, value);
  }

  /** All registers of 64 bits that KVM lets go: those of arm64-registers.ts by name, others by their encoding. */
  registers(): Record<string, bigint> {
    const out: Record<string, bigint> = {};
    for (const [name, id] of this.#all()) {
      try {
        out[name] = this.#get(id);
      } catch (e) {
        // Some that are listed cannot be read in every state.
        if (errnoOf(e) === undefined) throw e;
      }
    }
    return out;
  }

  setRegisters(values: Readonly<Record<string, bigint>>): void {
    const ids = Object.keys(values).map(name => {
      const id = NAMED.get(name) ?? this.#all().get(name);
      if (id !== undefined) return id;
      throw new VmError('ERR_USAGE', `an arm64 vCPU has no register '${name}'`, {
        hint: 'registers() has all names',
        details: { register: name },
      });
    });
    for (const [i, [name, value]] of Object.entries(values).entries()) {
      try {
        this.#set(ids[i]!, value);
      } catch (e) {
        if (errnoOf(e) === undefined) throw e;
        throw new VmError('ERR_USAGE', `KVM does not let ${name} be 0x${value.toString(16)}`, {
          hint: 'some registers cannot be set, and some have bits that a guest cannot have',
          cause: e,
          details: { register: name },
        });
      }
    }
  }

  describe(): string {
    return ['pc', 'pstate', 'sp_el0', 'x0', 'x1', 'x2', 'x3', 'x30', 'elr_el1', 'spsr_el1']
      .map(n => `${n}=${this.#get(CORE[n]!).toString(16)}`)
      .join(' ');
  }

  /** 64-bit registers by name, and those without one by their encoding. */
  #all(): ReadonlyMap<string, bigint> {
    this.#names ??= new Map([...NAMED, ...this.#systemRegisters()]);
    return this.#names;
  }

  /** 4.84, KVM_GET_REG_LIST. */
  #systemRegisters(): [string, bigint][] {
    let count = 1024;
    const list = () => {
      const s = new Struct(kvm_reg_list.sizeof + 8 * count).u64(kvm_reg_list.n, count);
      this.#host.ioctl(this.fd, KVM_GET_REG_LIST, s.bytes);
      return s;
    };
    let s: Struct;
    try {
      s = list();
    } catch (e) {
      if (errnoOf(e) !== 'E2BIG') throw e;
      count = 16_384;
      s = list();
    }
    const found: [string, bigint][] = [];
    for (let i = 0; i < Number(s.getU64(kvm_reg_list.n)); i++) {
      const id = s.getU64(kvm_reg_list.reg + 8 * i);
      if ((id & KVM_REG_SIZE_MASK) !== KVM_REG_SIZE_U64 || (id & KIND_MASK) !== BigInt(KVM_REG_ARM64_SYSREG)) continue;
      if (NAMED_IDS.has(id)) continue;
      const n = Number(id & 0xffffn);
      const name = `S${n >> 14}_${(n >> 11) & 7}_C${(n >> 7) & 15}_C${(n >> 3) & 15}_${n & 7}`;
      found.push([name, id]);
    }
    return found;
  }

  #get(id: bigint): bigint {
    const value = new BigUint64Array(1);
    this.#oneReg(KVM_GET_ONE_REG, id, value);
    return value[0]!;
  }

  #set(id: bigint, value: bigint): void {
    this.#oneReg(KVM_SET_ONE_REG, id, BigUint64Array.of(BigInt.asUintN(64, value)));
  }

  /** 4.68 and 4.69. */
  #oneReg(request: number, id: bigint, value: BigUint64Array): void {
    const s = new Struct(kvm_one_reg.sizeof).u64(kvm_one_reg.id, id);
    const address = this.#host.addressOf(value);
    try {
      this.#host.storeAddress(s.bytes, kvm_one_reg.addr, address);
      this.#host.ioctl(this.fd, request, s.bytes);
    } finally {
      this.#host.releaseAddress(address);
    }
  }
}
