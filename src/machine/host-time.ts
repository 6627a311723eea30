import { loadAddon } from '../engines/host/addon.ts';
import { host } from '../engines/host/host.ts';
import { estimatedTime } from '../time/estimator.ts';
import type { HostTime } from '../time/host-clock.ts';
import { nativeTime } from '../time/native.ts';

/**
 * Where this thread's machine takes the host's time from: the addon where there is one, an estimate otherwise.
 * @throws VmError ERR_ENGINE_UNAVAILABLE when $TSVISOR_ADDON names a file that is not the addon.
 */
export function createHostTime(): HostTime {
  if (loadAddon().addon === undefined) return estimatedTime();
  const { clockPair } = host();
  return nativeTime(clockPair);
}
