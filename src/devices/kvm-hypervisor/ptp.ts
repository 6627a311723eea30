import { type HypercallService, NOT_SUPPORTED, smcccReturn } from '../../bus/hypercall.ts';
import type { CounterPair } from '../../time/types.ts';

/** Linux, Documentation/virt/kvm/arm/ptp_kvm.rst. There is no SMC64 form of it (specification of ptp, ARM-5). */
const KVM_PTP = 0x8600_0001;

/** Values of X1: which counter the guest's clock is made of. */
const KVM_PTP_VIRT_COUNTER = 0;
const KVM_PTP_PHYS_COUNTER = 1;

/**
 * The service that a guest's ptp_kvm driver calls: CLOCK_REALTIME of the host and the guest's counter, both of one moment during the
 * call (specification of ptp, ARM-1, ARM-2 and ARM-7). `pair` is asked once for each call, and not for a counter that does not exist.
 *
 * KVM also fails the call when the host's own clock does not run on the architected counter (ARM-3). Here the guest's counter is
 * made from the same clock as the pair, so that this cannot be.
 */
export function createPtp(pair: () => CounterPair): HypercallService {
  // X0..X3 are zero-extended words, the upper half of each value first (ARM-4): what big-endian memory has. Shifts of one value or
  // the other would do, too, if Node 20's compiler did not abort on some of them ("Phi of kRepTagged (UnsignedBigInt64)").
  const words = new DataView(new ArrayBuffer(16));
  return {
    name: 'kvm-ptp',
    ids: [{ first: KVM_PTP, last: KVM_PTP }],
    handle: call => {
      const counter = Number(BigInt.asUintN(32, call.arg(1)));
      if (counter !== KVM_PTP_VIRT_COUNTER && counter !== KVM_PTP_PHYS_COUNTER) {
        smcccReturn(call, NOT_SUPPORTED);
        return;
      }
      const { wallNs, virtual, physical } = pair();
      words.setBigUint64(0, wallNs);
      if (counter === KVM_PTP_VIRT_COUNTER) words.setBigUint64(8, virtual);
      else words.setBigUint64(8, physical);
      smcccReturn(call, ...[0, 4, 8, 12].map(at => BigInt(words.getUint32(at))));
    },
  };
}
