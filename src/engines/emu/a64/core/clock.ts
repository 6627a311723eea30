/** Instruction counts, which are the time of a machine with a virtual clock. */
import { GLOBAL_ICOUNT, ICOUNT, SLICE_GLOBAL, SLICE_ICOUNT } from './layout';

/** Instructions of the running slice that the counters do not have yet: exec() keeps it up to date before host calls. */
let sliceCount: u32 = 0;

/** exec() notes how far the slice is before it calls what may read time. */
// @ts-ignore: decorator
@inline
export function noteCount(instructions: u32): void {
  sliceCount = instructions;
}

/** The current instruction counts as done: for SVC and ERET, which retire before the level changes. */
export function noteRetired(): void {
  sliceCount++;
}

export function beginSlice(): void {
  store<u64>(0, load<u64>(0, GLOBAL_ICOUNT), SLICE_GLOBAL);
  store<u64>(0, load<u64>(0, ICOUNT), SLICE_ICOUNT);
  sliceCount = 0;
}

/** Brings GLOBAL_ICOUNT and ICOUNT up to the instruction that runs. */
export function syncClock(): void {
  store<u64>(0, load<u64>(0, SLICE_GLOBAL) + sliceCount, GLOBAL_ICOUNT);
  store<u64>(0, load<u64>(0, SLICE_ICOUNT) + sliceCount, ICOUNT);
}
