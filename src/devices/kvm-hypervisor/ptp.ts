import { type HypercallService, NOT_SUPPORTED, smcccArg, smcccReturn } from '../../bus/hypercall.ts';
import type { CounterPair } from '../../time/types.ts';

/** Linux, Documentation/virt/kvm/arm/ptp_kvm.rst. There is no SMC64 form of it (specification of ptp, ARM-5). */
const KVM_PTP = 0x8600_0001;

/** Values of X1: which counter the guest's clock is made of. */
const KVM_PTP_VIRT_COUNTER = 0n;
const KVM_PTP_PHYS_COUNTER = 1n;

/**
 * The service that a guest's ptp_kvm driver calls: CLOCK_REALTIME of the host and the guest's counter, both of one moment during the
 * call (specification of ptp, ARM-1, ARM-2 and ARM-7). `pair` is asked once for each call, and not for a counter that does not exist.
 *
 * KVM also fails the call when the host's own clock does not run on the architected counter (ARM-3). Here the guest's counter is
 * made from the same clock as the pair, so that this cannot be.
 */
export function createPtp(pair: () => CounterPair): HypercallService {
  return {
    name: 'kvm-ptp',
    ids: [{ first: KVM_PTP, last: KVM_PTP }],
    handle: call => {
      const argument = smcccArg(call, 1);
      if (argument !== KVM_PTP_VIRT_COUNTER && argument !== KVM_PTP_PHYS_COUNTER) {
        smcccReturn(call, NOT_SUPPORTED);
        return;
      }
      const { wallNs, virtual, physical } = pair();
      // Not halves(one ? virtual : physical): Node 20's compiler aborts when it optimizes the shift of such a choice (V8 11.3,
      // "Phi of kRepTagged (UnsignedBigInt64) cannot be changed to kRepWord64").
      const cycles = argument === KVM_PTP_VIRT_COUNTER ? halves(virtual) : halves(physical);
      smcccReturn(call, ...halves(wallNs), ...cycles);
    },
  };
}

/** The upper and the lower half of 64 bits, zero-extended: guests put them together without a mask (ARM-4). */
function halves(value: bigint): readonly [bigint, bigint] {
  return [BigInt.asUintN(32, value >> 32n), BigInt.asUintN(32, value)];
}
