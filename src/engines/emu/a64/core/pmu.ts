/** Performance monitors, PMUv3 (DDI 0487 chapter D12). */

/** Counts up to ICOUNT and updates the overflow interrupt. Call at slice ends; before the level changes if PMU_ACTIVE. */
export function pmuSync(): void {}

/** Instructions until the next overflow that interrupts; u64.MAX_VALUE: none. */
export function pmuDeadline(): u64 {
  return u64.MAX_VALUE;
}
