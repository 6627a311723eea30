import { type HypercallService, NOT_SUPPORTED, smcccReturn } from '../../bus/hypercall.ts';

/** Paravirtualized time (DEN0057): PV_TIME_FEATURES and PV_TIME_ST, where a guest asks for the time that was stolen from it. */
const PV_TIME_FEATURES = 0xc500_0020;
const PV_TIME_ST = 0xc500_0021;

/**
 * Discovery of stolen time, which is not offered: nobody here counts it. Guests compare all of X0 with -1 (specification of ptp,
 * ARM-4); SMCCC_ARCH_FEATURES says the same of it.
 */
export function createPvTime(): HypercallService {
  return {
    name: 'pv-time',
    ids: [{ first: PV_TIME_FEATURES, last: PV_TIME_ST }],
    handle: call => smcccReturn(call, NOT_SUPPORTED),
  };
}
