import { VmError } from '../../../util/errors.ts';
import { whyKvmCannotPair } from '../../host/clocksource.ts';
import { KVM_CAP_PTP_KVM } from '../abi/common.generated.ts';
import { errnoOf } from '../system.ts';
import { hasDeviceAttr, type KvmVm, setDeviceAttr } from '../vm.ts';
import type { Arm64Cpu } from './cpu.ts';

// Who answers a guest's ptp_kvm driver on arm64: KVM by itself, this process by KVM's filter of SMCCC calls, or nobody.

/**
 * Documentation/virt/kvm/devices/vm.rst, section 5: attributes of a VM's file descriptor, since Linux 6.4. Kernel headers that are
 * older do not have these (specification of ptp, ARM-6).
 */
const KVM_ARM_VM_SMCCC_CTRL = 0;
const KVM_ARM_VM_SMCCC_FILTER = 0;
const KVM_SMCCC_FILTER_FWD_TO_USER = 2;
/** struct kvm_smccc_filter: base and nr_functions of 32 bits, an action of 8, padding. */
const FILTER_SIZE = 24;

/** Linux, include/linux/arm-smccc.h: FEATURES, which tells of the other one, and PTP. */
const FEATURES = 0x8600_0000;
const PTP_SERVICES = 2;

/** Documentation/virt/kvm/arm/fw-pseudo-registers.rst, KVM_REG_ARM_VENDOR_HYP_BMAP: bit 1 is PTP. */
const VENDOR_HYP_BIT_PTP = 2n;

/** Who answers, and why; see PtpInfo of the machine. */
export interface Arm64Ptp {
  readonly answeredBy: 'kernel' | 'tsvisor' | 'nobody';
  readonly reason?: string;
}

/**
 * Says who is to answer, and tells a new VM, whose vCPUs have not run yet.
 * @param wanted whether guests are to have this clock.
 * @param clocksource the host's.
 * @throws VmError ERR_ENGINE_UNAVAILABLE when KVM answers and cannot be told not to.
 */
export function connectPtp(vm: KvmVm, boot: Arm64Cpu, wanted: boolean, clocksource: string | undefined): Arm64Ptp {
  const there = vm.check(KVM_CAP_PTP_KVM) > 0;
  if (!wanted) {
    if (there) hide(boot);
    return { answeredBy: 'nobody', reason: 'switched off (ptp: false)' };
  }
  const why = there ? whyKvmCannotPair('aarch64', clocksource) : "this host's KVM has no ptp_kvm (KVM_CAP_PTP_KVM)";
  if (why === undefined) return { answeredBy: 'kernel' };
  if (!hasDeviceAttr(vm.host, vm.fd, KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER)) {
    return { answeredBy: 'nobody', reason: why };
  }
  const filter = new DataView(new ArrayBuffer(FILTER_SIZE));
  filter.setUint32(0, FEATURES, true);
  filter.setUint32(4, PTP_SERVICES, true);
  filter.setUint8(8, KVM_SMCCC_FILTER_FWD_TO_USER);
  setDeviceAttr(vm.host, vm.fd, KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER, new Uint8Array(filter.buffer));
  return { answeredBy: 'tsvisor', reason: why };
}

/** Takes PTP out of what KVM offers and answers: the register is the VM's, one vCPU sets it for all (EMU-X7). */
function hide(boot: Arm64Cpu): void {
  try {
    boot.vendorHypervisorServices &= ~VENDOR_HYP_BIT_PTP;
  } catch (e) {
    if (errnoOf(e) !== 'ENOENT') throw e;
    throw new VmError('ERR_ENGINE_UNAVAILABLE', "this host's KVM cannot hide the clock of ptp_kvm from a guest", {
      hint: 'boot Linux 5.19 or newer, leave --no-ptp out, or use --engine emu',
      cause: e,
    });
  }
}
