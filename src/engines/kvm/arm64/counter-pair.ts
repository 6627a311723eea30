import type { CounterPair, DrivenClock } from '../../../time/types.ts';
import type { Arm64Cpu } from './cpu.ts';

/** Tries for a pair that no other thread came into, and how many ticks of the counter it takes at most then. */
const TRIES = 4;
const NARROW_TICKS = 1000n;

/**
 * The counters of a vCPU that is out of the guest, and the host's time of the same moment: between two readings of them, the closest two of
 * a few tries. For guests whose calls KVM forwards (specification of ptp, ARM-6 and ARM-7).
 * @param counterHz ticks per second.
 */
export function counterPair(
  cpu: Pick<Arm64Cpu, 'counter' | 'physicalCounter'>,
  clock: Pick<DrivenClock, 'pair'>,
  counterHz: number,
): CounterPair {
  let best = onePair(cpu, clock, counterHz);
  for (let n = 1; n < TRIES && best.width > NARROW_TICKS; n++) {
    const other = onePair(cpu, clock, counterHz);
    if (other.width < best.width) best = other;
  }
  return best.pair;
}

function onePair(
  cpu: Pick<Arm64Cpu, 'counter' | 'physicalCounter'>,
  clock: Pick<DrivenClock, 'pair'>,
  counterHz: number,
): { readonly pair: CounterPair; readonly width: bigint } {
  const virtual = cpu.counter;
  const physical = cpu.physicalCounter;
  const { wallNs, errorNs } = clock.pair();
  const physicalAfter = cpu.physicalCounter;
  const width = cpu.counter - virtual;
  return {
    pair: {
      wallNs,
      virtual: virtual + width / 2n,
      physical: physical + (physicalAfter - physical) / 2n,
      // The host's time was read somewhere between the outer two readings; and a tick is not divided.
      errorNs: errorNs + ((Number(width) / 2 + 1) * 1e9) / counterHz,
    },
    width,
  };
}
