import type { AddressBus } from '../bus/types.ts';
import type { Entropy } from '../devices/psci/entropy.ts';
import { VMCLOCK_SIZE, VmClock, type VmClockCounter } from '../devices/vmclock/device.ts';
import type { Gpa, MemorySlots } from '../memory/types.ts';
import { hostSleepNs } from '../time/host-sleep.ts';
import { VmError } from '../util/errors.ts';

/** What the VM clock of a board is connected to. */
export interface VmClockPlace {
  /** Where its page is. */
  readonly base: Gpa;
  readonly bus: AddressBus;
  readonly slots: MemorySlots;
  /** For the first values of its markers, which are nobody's business. */
  readonly entropy: Entropy;
  /** undefined: the guest's counter cannot be read here. */
  readonly counter: VmClockCounter | undefined;
  /** The machine goes by the host's clocks, not by a virtual one. */
  readonly hostTime: boolean;
}

/** Puts a VM clock on a board: its page in a slot that guests cannot write, what they write there anyway on the bus. */
export function placeVmClock({ base, bus, slots, entropy, counter, hostTime }: VmClockPlace): VmClock {
  const memory = deviceMemory(slots);
  const [disruptionMarker = 0n, vmGenerationCounter = 0n] = new BigUint64Array(entropy(16).slice().buffer);
  const device = new VmClock({
    page: memory?.bytes ?? new Uint8Array(VMCLOCK_SIZE),
    mapPage: () => memory && slots.map(base, VMCLOCK_SIZE, memory, 0, true),
    counter,
    ...(hostTime ? { hostSleepNs } : {}),
    disruptionMarker,
    vmGenerationCounter,
  });
  bus.map(base, VMCLOCK_SIZE, device);
  return device;
}

/** undefined: RAM takes all the room that the engine has; the page is then read by exits. */
function deviceMemory(slots: MemorySlots) {
  try {
    return slots.allocate(VMCLOCK_SIZE);
  } catch (e) {
    if (e instanceof VmError && e.code === 'ERR_MEMORY_TOO_LARGE') return undefined;
    throw e;
  }
}
