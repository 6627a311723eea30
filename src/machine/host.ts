import { hostClocksource, whyKvmCannotPair } from '../engines/host/clocksource.ts';
import { host } from '../engines/host/host.ts';
import * as engines from '../engines/host/probe.ts';
import { reportCapabilities } from '../engines/kvm/capabilities.ts';
import { errnoOf, KvmSystem } from '../engines/kvm/system.ts';
import { memlockBytes } from './memlock.ts';

export type { Capability } from '../engines/host/probe.ts';

/** What this host offers; every field is a finding, none a failure. */
export interface HostProbe extends engines.HostProbe {
  /** Bytes that this process may lock: Infinity without a limit, undefined where that is not known; see memlock.ts. */
  readonly memlock: number | undefined;
  /** What this host's kernel takes its time from, and why KVM cannot pair that with the counters of guests, if so. */
  readonly clocksource: string | undefined;
  readonly unpaired: string | undefined;
}

const ARCHITECTURES: Readonly<Record<string, 'x86_64' | 'aarch64'>> = { x64: 'x86_64', arm64: 'aarch64' };

/** Looks at the host, and at what its KVM can do. Never throws. */
export function probeHost(): HostProbe {
  const { addon, kvm } = engines.probeHost();
  const arch = ARCHITECTURES[process.arch];
  const clocksource = hostClocksource();
  const unpaired = arch && whyKvmCannotPair(arch, clocksource);
  const found = { addon, kvm, memlock: memlockBytes(), clocksource, unpaired };
  if (!addon.loaded || !kvm.opens || kvm.reason !== undefined || arch === undefined) return found;
  try {
    using system = new KvmSystem(host());
    const capabilities = reportCapabilities(arch, c => check(system, c)).filter(c => c.value >= 0);
    return { ...found, kvm: { ...kvm, capabilities } };
  } catch (e) {
    const reason = `/dev/kvm does not say what it can do: ${e instanceof Error ? e.message : e}`;
    return { ...found, kvm: { ...kvm, reason } };
  }
}

/** KVM_CHECK_EXTENSION; -1 for what only a VM knows, such as arm64's KVM_CAP_MSI_DEVID (it depends on the VM's ITS). */
function check(system: KvmSystem, capability: number): number {
  try {
    return system.check(capability);
  } catch (e) {
    if (errnoOf(e) === 'EINVAL') return -1;
    throw e;
  }
}
