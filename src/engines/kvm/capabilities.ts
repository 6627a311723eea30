import { VmError } from '../../util/errors.ts';
import type { Architecture } from '../engine.ts';
import * as arm from './abi/aarch64.generated.ts';
import * as kvm from './abi/common.generated.ts';
import * as x86 from './abi/x86_64.generated.ts';

/** A capability that the engine uses, and what follows where it is missing. */
interface Use {
  readonly name: string;
  readonly cap: number;
  /** The engine does not run without it. */
  readonly needed: boolean;
  readonly consequence: string;
  readonly fix: string;
}

/** What a host has of one capability. */
export interface CapabilityReport {
  /** The kernel's name, e.g. 'KVM_CAP_IRQFD'. */
  readonly name: string;
  /** KVM_CHECK_EXTENSION's answer: 0 when it is missing. */
  readonly value: number;
  /** Whether the engine runs without it. */
  readonly needed: boolean;
  /** What follows from its lack, and what helps; one sentence each. */
  readonly consequence: string;
  readonly fix: string;
}

const KERNEL = 'boot a newer kernel';
const BUILD = 'boot a kernel that is built with it';

const need = (name: string, cap: number, fix = KERNEL): Use => ({
  name,
  cap,
  needed: true,
  consequence: 'the KVM engine cannot run',
  fix,
});
const want = (name: string, cap: number, consequence: string, fix = KERNEL): Use => ({
  name,
  cap,
  needed: false,
  consequence,
  fix,
});

const COMMON: readonly Use[] = [
  need('KVM_CAP_USER_MEMORY', kvm.KVM_CAP_USER_MEMORY),
  need('KVM_CAP_IMMEDIATE_EXIT', kvm.KVM_CAP_IMMEDIATE_EXIT, 'boot Linux 4.13 or newer'),
  need('KVM_CAP_CHECK_EXTENSION_VM', kvm.KVM_CAP_CHECK_EXTENSION_VM),
  need('KVM_CAP_IRQCHIP', kvm.KVM_CAP_IRQCHIP, BUILD),
  want('KVM_CAP_SIGNAL_MSI', kvm.KVM_CAP_SIGNAL_MSI, 'messages of devices (MSI, MSI-X) do not reach guests'),
  want(
    'KVM_CAP_IRQ_ROUTING',
    kvm.KVM_CAP_IRQ_ROUTING,
    'no irqfd for messages: devices of the host cannot be passed through',
  ),
  want('KVM_CAP_IRQFD', kvm.KVM_CAP_IRQFD, 'interrupts of devices of the host go through this process'),
  want('KVM_CAP_IRQFD_RESAMPLE', kvm.KVM_CAP_IRQFD_RESAMPLE, 'INTx of devices of the host is not available'),
  want('KVM_CAP_IOEVENTFD', kvm.KVM_CAP_IOEVENTFD, 'every doorbell of a device is an exit'),
  want('KVM_CAP_READONLY_MEM', kvm.KVM_CAP_READONLY_MEM, 'flash is answered by exits: firmware starts slowly'),
  want('KVM_CAP_COALESCED_MMIO', kvm.KVM_CAP_COALESCED_MMIO, 'every character on a PL011 is an exit'),
  want('KVM_CAP_MP_STATE', kvm.KVM_CAP_MP_STATE, 'the state of vCPUs (on, off, idle) is not known'),
];

const BY_ARCHITECTURE: Record<Architecture, readonly Use[]> = {
  x86_64: [
    need('KVM_CAP_EXT_CPUID', x86.KVM_CAP_EXT_CPUID),
    want('KVM_CAP_PIT2', x86.KVM_CAP_PIT2, 'no interval timer: the kernel must find another clock'),
    want('KVM_CAP_SPLIT_IRQCHIP', x86.KVM_CAP_SPLIT_IRQCHIP, "no 'split' interrupt controller"),
    want('KVM_CAP_COALESCED_PIO', kvm.KVM_CAP_COALESCED_PIO, 'every character on COM1 is an exit'),
    want('KVM_CAP_TSC_DEADLINE_TIMER', x86.KVM_CAP_TSC_DEADLINE_TIMER, 'timers of guests cost more'),
    want(
      'KVM_CAP_TSC_CONTROL',
      x86.KVM_CAP_TSC_CONTROL,
      "the guest's TSC has the host's frequency",
      'the processor has no TSC scaling',
    ),
    want('KVM_CAP_GET_TSC_KHZ', x86.KVM_CAP_GET_TSC_KHZ, "the frequency of the guest's TSC is not known"),
    want('KVM_CAP_ADJUST_CLOCK', x86.KVM_CAP_ADJUST_CLOCK, 'kvmclock goes on while the VM is paused'),
    want('KVM_CAP_X2APIC_API', x86.KVM_CAP_X2APIC_API, 'APIC ids end at 254'),
    want('KVM_CAP_XSAVE', x86.KVM_CAP_XSAVE, 'the state of vector registers cannot be read'),
    want('KVM_CAP_DIRTY_LOG_RING', kvm.KVM_CAP_DIRTY_LOG_RING, 'pages that were written are found by bitmaps only'),
  ],
  aarch64: [
    need('KVM_CAP_ARM_PSCI_0_2', arm.KVM_CAP_ARM_PSCI_0_2),
    need('KVM_CAP_ONE_REG', kvm.KVM_CAP_ONE_REG),
    need('KVM_CAP_DEVICE_CTRL', kvm.KVM_CAP_DEVICE_CTRL),
    want(
      'KVM_CAP_ARM_VM_IPA_SIZE',
      arm.KVM_CAP_ARM_VM_IPA_SIZE,
      'guest-physical addresses have 40 bits: no 64-bit PCI window',
    ),
    want('KVM_CAP_MSI_DEVID', kvm.KVM_CAP_MSI_DEVID, 'the ITS cannot tell devices apart: no MSI'),
    want(
      'KVM_CAP_ARM_PMU_V3',
      arm.KVM_CAP_ARM_PMU_V3,
      'guests have no performance counters',
      'the processor has none for guests',
    ),
    want(
      'KVM_CAP_PTP_KVM',
      kvm.KVM_CAP_PTP_KVM,
      "guests cannot read the host's clock by ptp_kvm",
      'boot Linux 5.14 or newer',
    ),
    want('KVM_CAP_ARM_SVE', arm.KVM_CAP_ARM_SVE, 'guests have no SVE', 'the processor has none'),
  ],
};

/** Every capability that the engine uses, as a VM or the system answers. */
export function reportCapabilities(arch: Architecture, check: (capability: number) => number): CapabilityReport[] {
  return [...COMMON, ...BY_ARCHITECTURE[arch]].map(({ cap, ...use }) => ({ ...use, value: check(cap) }));
}

/** @throws VmError ERR_ENGINE_UNAVAILABLE when one is missing that the engine cannot do without. */
export function needCapabilities(arch: Architecture, check: (capability: number) => number): void {
  const missing = reportCapabilities(arch, check).filter(c => c.needed && c.value <= 0);
  const [first] = missing;
  if (first === undefined) return;
  const names = missing.map(m => m.name).join(', ');
  throw new VmError('ERR_ENGINE_UNAVAILABLE', `this host's KVM lacks ${names}`, {
    hint: `${first.fix}, or use --engine emu`,
    details: { missing: missing.map(m => m.name) },
  });
}
