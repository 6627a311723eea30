import { KVM_GET_CLOCK, KVM_KVMCLOCK_CTRL, KVM_SET_CLOCK, kvm_clock_data } from '../abi/x86_64.generated.ts';
import { Struct } from '../structs.ts';
import { errnoOf } from '../system.ts';
import type { KvmVm } from '../vm.ts';

/**
 * Notes the guest's kvmclock; the result lets it go on from there and tells guests that they were stopped, so that their watchdogs
 * forgive them (specification of ptp, EMU-X6). The TSC goes on meanwhile, as on a host: guests take their time from kvmclock, which
 * KVM relates to it anew.
 * @param cpus file descriptors of the vCPUs.
 */
export function holdKvmclock(vm: KvmVm, cpus: readonly number[]): () => void {
  // api.rst 4.29 and 4.30. Without flags KVM_SET_CLOCK takes the value as it is, and does not add the time since then.
  const now = new Struct(kvm_clock_data.sizeof);
  vm.ioctl(KVM_GET_CLOCK, now.bytes);
  const clock = now.getU64(kvm_clock_data.clock);
  return () => {
    vm.ioctl(KVM_SET_CLOCK, new Struct(kvm_clock_data.sizeof).u64(kvm_clock_data.clock, clock).bytes);
    for (const fd of cpus) {
      try {
        vm.host.ioctl(fd, KVM_KVMCLOCK_CTRL);
      } catch (e) {
        // 4.74: a vCPU whose guest has no kvmclock (yet).
        if (errnoOf(e) !== 'EINVAL') throw e;
      }
    }
  };
}
