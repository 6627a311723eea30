import type { Architecture } from '../../../src/engines/engine.ts';
import * as arm from '../../../src/engines/kvm/abi/aarch64.generated.ts';
import * as kvm from '../../../src/engines/kvm/abi/common.generated.ts';
import * as x86 from '../../../src/engines/kvm/abi/x86_64.generated.ts';

/** What a host of Linux 6.1 answers to KVM_CHECK_EXTENSION; tests change the table. */
export function capabilities(arch: Architecture): Map<number, number> {
  const table = new Map<number, number>([
    [kvm.KVM_CAP_USER_MEMORY, 1],
    [kvm.KVM_CAP_IMMEDIATE_EXIT, 1],
    [kvm.KVM_CAP_CHECK_EXTENSION_VM, 1],
    [kvm.KVM_CAP_IRQCHIP, 1],
    [kvm.KVM_CAP_SIGNAL_MSI, 1],
    [kvm.KVM_CAP_IRQ_ROUTING, 4096],
    [kvm.KVM_CAP_IRQFD, 1],
    [kvm.KVM_CAP_IRQFD_RESAMPLE, 1],
    [kvm.KVM_CAP_IOEVENTFD, 1],
    [kvm.KVM_CAP_IOEVENTFD_ANY_LENGTH, 1],
    [kvm.KVM_CAP_READONLY_MEM, 1],
    [kvm.KVM_CAP_MP_STATE, 1],
    [kvm.KVM_CAP_ONE_REG, 1],
    [kvm.KVM_CAP_DEVICE_CTRL, 1],
    [kvm.KVM_CAP_NR_VCPUS, 4],
    [kvm.KVM_CAP_MAX_VCPUS, 512],
    [kvm.KVM_CAP_NR_MEMSLOTS, 32_764],
    [kvm.KVM_CAP_COALESCED_PIO, 1],
    // The value is the ring's page in the mapping of a vCPU: KVM_COALESCED_MMIO_PAGE_OFFSET.
    [kvm.KVM_CAP_COALESCED_MMIO, arch === 'x86_64' ? 2 : 1],
  ]);
  if (arch === 'x86_64') {
    const own = [
      x86.KVM_CAP_EXT_CPUID,
      x86.KVM_CAP_PIT2,
      x86.KVM_CAP_SPLIT_IRQCHIP,
      x86.KVM_CAP_SET_TSS_ADDR,
      x86.KVM_CAP_SET_IDENTITY_MAP_ADDR,
      x86.KVM_CAP_TSC_DEADLINE_TIMER,
      x86.KVM_CAP_GET_TSC_KHZ,
    ];
    for (const cap of own) table.set(cap, 1);
    // KVM_DIRTY_RING_MAX_ENTRIES, in bytes.
    for (const cap of [kvm.KVM_CAP_DIRTY_LOG_RING, kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL]) table.set(cap, 2 ** 20);
  } else {
    const own = [arm.KVM_CAP_ARM_PSCI_0_2, arm.KVM_CAP_ARM_PMU_V3, kvm.KVM_CAP_MSI_DEVID, kvm.KVM_CAP_PTP_KVM];
    for (const cap of own) table.set(cap, 1);
    table.set(arm.KVM_CAP_ARM_VM_IPA_SIZE, 48);
  }
  return table;
}
