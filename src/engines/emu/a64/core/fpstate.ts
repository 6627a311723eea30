/** What the floating-point instructions share: whether they trap, and whether the fast path may be taken. */
import { CPACR_EL1, EL, FPCR, FPSR, FP_ENABLED, FP_FAST } from './layout';

export const FPSR_IOC: u32 = 1;
export const FPSR_DZC: u32 = 2;
export const FPSR_OFC: u32 = 4;
export const FPSR_UFC: u32 = 8;
export const FPSR_IXC: u32 = 16;
export const FPSR_IDC: u32 = 128;
export const FPSR_QC: u32 = 1 << 27;

/**
 * Recomputes FP_ENABLED and FP_FAST. Call after every change of CPACR_EL1, the exception level, FPCR or FPSR.
 * The fast path is right while rounding is to nearest, nothing is flushed and the only flag that ordinary operations
 * raise (IXC) is set already; the results that raise others are caught by value.
 */
export function updateFp(): void {
  const fpen = u32(load<u64>(0, CPACR_EL1) >> 20) & 3;
  const enabled = u32(fpen == 3 || (fpen == 1 && load<u32>(0, EL) != 0));
  store<u32>(0, enabled, FP_ENABLED);
  store<u32>(0, enabled & u32(load<u32>(0, FPCR) == 0) & ((load<u32>(0, FPSR) >> 4) & 1), FP_FAST);
}

/** Sets cumulative exception bits in FPSR. */
export function raiseFp(bits: u32): void {
  const old = load<u32>(0, FPSR);
  if ((old & bits) == bits) return;
  store<u32>(0, old | bits, FPSR);
  if ((bits & FPSR_IXC) != 0) updateFp();
}
