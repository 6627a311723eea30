import { VmError } from '../../../util/errors.ts';

const NSEC_PER_SEC = 1_000_000_000;

/** What turns ticks of a TSC into nanoseconds: the fields tsc_to_system_mul and tsc_shift of a kvmclock page. */
export interface PvclockScale {
  /** 32 bits, a fraction of 2^32. */
  readonly mul: number;
  /** How far ticks are shifted to the left before they are multiplied; negative: to the right. Fits in 8 bits. */
  readonly shift: number;
}

/**
 * The scale of a TSC of `hz` ticks a second: the rule of Linux's kvm_get_time_scale() (specification of ptp, 2.2). Rounding makes a
 * guest's clock slow by less than one part in 2^31, or, with a frequency whose low bits are shifted out, fast by one in 10^9.
 * @throws VmError ERR_INTERNAL when `hz` is no positive integer.
 */
export function pvclockScale(hz: number): PvclockScale {
  if (!(Number.isSafeInteger(hz) && hz > 0)) throw new VmError('ERR_INTERNAL', `a TSC of ${hz} Hz`);
  let ticks = BigInt(hz);
  let shift = 0;
  // Into (1e9, 2e9], which is also below 2^31: that Linux halves the second instead, for larger ones, does not happen with it.
  for (; ticks > 2 * NSEC_PER_SEC; shift--) ticks >>= 1n;
  for (; ticks <= NSEC_PER_SEC; shift++) ticks <<= 1n;
  return { mul: Number((BigInt(NSEC_PER_SEC) << 32n) / ticks), shift };
}

/** Nanoseconds that `ticks` of the TSC take, as a guest computes them: 64 bits by way of a product of 96 bits. */
export function ticksToNs(ticks: bigint, { mul, shift }: PvclockScale): bigint {
  const shifted = shift < 0 ? ticks >> BigInt(-shift) : BigInt.asUintN(64, ticks << BigInt(shift));
  return (shifted * BigInt(mul)) >> 32n;
}
