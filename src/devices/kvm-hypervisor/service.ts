import { type HypercallService, smcccReturn } from '../../bus/hypercall.ts';

/** Vendor-specific hypervisor service calls (SMCCC owner 6) as KVM numbers them (Linux, include/linux/arm-smccc.h). */
const FEATURES = 0x8600_0000;
const CALL_UID = 0x8600_ff01;

/** KVM's UUID 28b46fb6-2ec5-11e9-a9ca-4b564d003a74: guests that find it use the services below. */
const UID = [0xb66f_b428n, 0xe911_c52en, 0x564b_caa9n, 0x743a_004dn];

/** Bitmap of function numbers, 32 in each register: bit 0, FEATURES itself. */
const BITMAP = [1n];

/** The discovery calls of KVM's hypervisor services. */
export function createKvmHypervisor(): HypercallService {
  return {
    name: 'kvm-hypervisor',
    ids: [
      { first: FEATURES, last: FEATURES },
      { first: CALL_UID, last: CALL_UID },
    ],
    handle: call => smcccReturn(call, ...(call.id >>> 0 === CALL_UID ? UID : BITMAP)),
  };
}
