import { host } from '../engines/host/host.ts';
import { hostMemory } from '../engines/host/host-memory.ts';
import { type KvmArchitecture, KvmEngine } from '../engines/kvm/engine.ts';
import { guestRam, hotplugRam } from '../engines/kvm/guest-ram.ts';
import { KvmSystem } from '../engines/kvm/system.ts';
import { KvmVm } from '../engines/kvm/vm.ts';
import { createHostClock } from '../time/host-clock.ts';
import type { AddressRange } from './address-map.ts';
import { createHostTime } from './host-time.ts';

/**
 * A KVM engine for a board: RAM at `ram`, and memory that is plugged later at `hotplug`.
 * @param startNs what the machine's clock shows at first, ns; undefined: 0.
 * @throws VmError ERR_ENGINE_UNAVAILABLE, ERR_MEMORY_TOO_LARGE; nothing is left open then.
 */
export function createKvmEngine(
  architecture: KvmArchitecture,
  ram: readonly AddressRange[],
  hotplug: AddressRange | undefined,
  startNs: number | undefined,
): KvmEngine {
  const addon = host();
  // Before there is a VM that would be left open where there is no room for them.
  const regions = ram.flatMap(r => guestRam(r.base, r.size));
  const plugged = hotplug && hotplugRam(hotplug.base, hotplug.size);
  return new KvmEngine({
    vm: new KvmVm(new KvmSystem(addon), architecture.vmType),
    architecture,
    ram: regions,
    hotplug: plugged,
    hostMemory: hostMemory(),
    clock: createHostClock(createHostTime(), startNs),
    counterHz: addon.counterHz(),
  });
}
