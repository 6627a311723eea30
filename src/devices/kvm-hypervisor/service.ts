import { type HypercallService, smcccReturn } from '../../bus/hypercall.ts';

/** Vendor-specific hypervisor service calls (SMCCC owner 6) as KVM numbers them (Linux, include/linux/arm-smccc.h). */
const FEATURES = 0x8600_0000;
const CALL_UID = 0x8600_ff01;

/** KVM's UUID 28b46fb6-2ec5-11e9-a9ca-4b564d003a74: guests that find it use the services below. */
const UID = [0xb66f_b428n, 0xe911_c52en, 0x564b_caa9n, 0x743a_004dn];

/** Function numbers that {@link FEATURES} can tell of: 32 in each of four registers. */
const NUMBERS = 128;

/**
 * The discovery calls of KVM's hypervisor services. Guests are told of `services` by the function numbers of their ids, and of
 * nothing else: a service that is not there cannot be called (specification of ptp, 1.1 and EMU-X7).
 */
export function createKvmHypervisor(services: readonly HypercallService[]): HypercallService {
  const features: HypercallService = {
    name: 'kvm-hypervisor',
    ids: [
      { first: FEATURES, last: FEATURES },
      { first: CALL_UID, last: CALL_UID },
    ],
    handle: call => smcccReturn(call, ...(call.id >>> 0 === CALL_UID ? UID : bitmap)),
  };
  const bitmap = functionBitmap([features, ...services]);
  return features;
}

/** A bit for each function number that some service answers, lowest in the first word; words of 32 bits. */
function functionBitmap(services: readonly HypercallService[]): readonly bigint[] {
  const words = [0n, 0n, 0n, 0n];
  for (const { first, last } of services.flatMap(s => s.ids)) {
    for (let id = Math.max(first, FEATURES); id <= last && id < FEATURES + NUMBERS; id++) {
      const number = id - FEATURES;
      words[number >>> 5]! |= 1n << BigInt(number & 31);
    }
  }
  return words;
}
