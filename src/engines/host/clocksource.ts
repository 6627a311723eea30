import { readFileSync } from 'node:fs';

/** Documentation/ABI/testing/sysfs-devices-system-clock. */
const CURRENT = '/sys/devices/system/clocksource/clocksource0/current_clocksource';

/** The counter that this host's kernel takes its time from, e.g. 'tsc' or 'arch_sys_counter'; undefined where it does not tell. */
export function hostClocksource(): string | undefined {
  try {
    return readFileSync(CURRENT, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/**
 * The clocksources by which KVM pairs wall-clock time with the counter that guests have; with any other it fails their calls (Linux,
 * arch/arm64/kvm/hypercalls.c, kvm_ptp_get_time(); arch/x86/kvm/x86.c, kvm_get_walltime_and_clockread()).
 */
const PAIRED: Readonly<Record<'aarch64' | 'x86_64', readonly string[]>> = {
  aarch64: ['arch_sys_counter'],
  x86_64: ['tsc', 'hyperv_clocksource_tsc_page'],
};

/** Whether KVM of this host answers ptp_kvm: undefined, or why not. What is not known counts as good. */
export function whyKvmCannotPair(arch: 'aarch64' | 'x86_64', clocksource: string | undefined): string | undefined {
  if (clocksource === undefined || PAIRED[arch].includes(clocksource)) return undefined;
  return `this host's clocksource is ${clocksource}, not ${PAIRED[arch][0]}: KVM fails the guest's calls`;
}
