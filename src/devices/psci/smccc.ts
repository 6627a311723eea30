import { type Hypercall, type HypercallService, NOT_SUPPORTED, smcccReturn } from '../../bus/hypercall.ts';
import * as F from './functions.ts';

/**
 * The Arm Architecture Calls of SMCCC 1.1 (DEN0028 chapter 7). An emulated CPU speculates nothing, so it is unaffected
 * by what the workarounds mend (DEN0070): they may be called and do nothing.
 */
export function createSmccc(): HypercallService {
  return {
    name: 'smccc',
    ids: [
      { first: F.SMCCC_VERSION, last: F.SMCCC_ARCH_FEATURES },
      { first: F.SMCCC_ARCH_WORKAROUND_3, last: F.SMCCC_ARCH_WORKAROUND_3 },
      { first: F.SMCCC_ARCH_WORKAROUND_2, last: F.SMCCC_ARCH_WORKAROUND_1 },
    ],
    handle: call => smcccReturn(call, answer(call)),
  };
}

function answer(call: Hypercall): bigint {
  switch (call.id >>> 0) {
    case F.SMCCC_VERSION:
      return 0x1_0001n;
    case F.SMCCC_ARCH_FEATURES:
      return architectureFeature(Number(BigInt.asUintN(32, call.arg(1))));
    default:
      return F.SUCCESS; // a workaround
  }
}

function architectureFeature(id: number): bigint {
  switch (id) {
    case F.SMCCC_VERSION:
    case F.SMCCC_ARCH_FEATURES:
      return F.SUCCESS;
    case F.SMCCC_ARCH_WORKAROUND_1:
    case F.SMCCC_ARCH_WORKAROUND_3:
      return F.WORKAROUND_UNAFFECTED;
    case F.SMCCC_ARCH_WORKAROUND_2:
      return F.NOT_REQUIRED;
    default:
      return NOT_SUPPORTED; // also paravirtualised time, 0xc5000020
  }
}
