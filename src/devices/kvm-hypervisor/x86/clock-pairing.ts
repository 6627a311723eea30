import type { HypercallService } from '../../../bus/hypercall.ts';
import type { Pins } from '../../../memory/pin-types.ts';
import type { DrivenClock } from '../../../time/types.ts';
import { PinnedStruct } from './pinned-struct.ts';
import type { Tsc } from './tsc.ts';

/** Linux, Documentation/virt/kvm/x86/hypercalls.rst. */
export const KVM_HC_CLOCK_PAIRING = 9;

/** struct kvm_clock_pairing of asm/kvm_para.h: sec, nsec and tsc have 64 bits, flags 32. The rest is padding. */
export const KVM_CLOCK_PAIRING = { sec: 0, nsec: 8, tsc: 16, flags: 24, pad: 28, sizeof: 64 } as const;

/** The only type of clock: the host's CLOCK_REALTIME. */
const KVM_CLOCK_PAIRING_WALLCLOCK = 0n;

const SUCCESS = 0n;
const KVM_EFAULT = -14n;
const KVM_EOPNOTSUPP = -95n;
const NSEC_PER_SEC = 1_000_000_000n;

/** What clock pairing is made of. */
export interface ClockPairingOptions {
  readonly clock: Pick<DrivenClock, 'pair'>;
  readonly tsc: Tsc;
  readonly pins: Pins;
}

/**
 * The hypercall of a guest's ptp_kvm driver: wall-clock time and the calling vCPU's TSC at one moment during the call (specification of
 * ptp, 2.1, X86-2 and EMU-X5). A machine whose `ptp` is off does not add it, so that the call does not exist (EMU-X7).
 */
export function createClockPairing({ clock, tsc, pins }: ClockPairingOptions): HypercallService {
  const owner = pins.owner('kvm clock pairing');
  const F = KVM_CLOCK_PAIRING;

  function pair(cpu: number, gpa: bigint, type: bigint): bigint {
    // The order of Linux's kvm_pv_clock_pairing(): the type, then the address.
    if (type !== KVM_CLOCK_PAIRING_WALLCLOCK) return KVM_EOPNOTSUPP;
    // Linux copies page by page and may leave half of it behind; here it is all or nothing.
    using out = PinnedStruct.pin(pins, owner, gpa, F.sizeof);
    if (out === undefined) return KVM_EFAULT;
    const { wallNs, ns } = clock.pair();
    out.setU64(F.sec, wallNs / NSEC_PER_SEC);
    out.setU64(F.nsec, wallNs % NSEC_PER_SEC);
    out.setU64(F.tsc, tsc.at(cpu, ns));
    for (let at: number = F.flags; at < F.sizeof; at += 4) out.setU32(at, 0);
    return SUCCESS;
  }

  return {
    name: 'kvm-clock-pairing',
    ids: [{ first: KVM_HC_CLOCK_PAIRING, last: KVM_HC_CLOCK_PAIRING }],
    handle: call => call.result(0, pair(call.cpu, call.arg(0), call.arg(1))),
  };
}
