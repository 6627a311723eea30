/**
 * The fast half of the interpreter. It runs decoded operations of 16 bytes, {u16 operation, u16 rd, u16 rn, u16 rm,
 * u64 immediate}, registers as byte offsets from XREGS (or VREGS); the program counter follows from the operation's
 * address.
 *
 * `acc + ip` is 16 times the number of instructions run: acc changes by what each branch skips, so that straight code
 * counts for free. Interrupts, time and stop requests are looked at when that sum reaches LIMIT, at taken branches.
 */
import { FLAGS_ADD, FLAGS_SUB, nzcvNow, setFlags, setNZCV } from './flags';
import { f64MulAddExact, f64MulAddIsFast, isOrdinary, isSafe } from './fp-fast';
import {
  CPU_ID, DAIF, EL, FP_ENABLED, FP_FAST, IRQ_LINES, LIMIT, PAGE_MAP, PAGE_OPS, PAGE_VA, RAM, SCTLR_EL1, SPSEL, SP_EL0,
  TLB_DATA, TPIDR_EL0, VREGS, XREGS,
} from './layout';
import { hostAddress, readHit, tlbEntry, writeHit } from './mem';
import { COLD_OP, JUMP_TO, LEAVE_AT, LEAVE_HERE } from './system';

// Where and why hot() stopped.
export let stoppedAt: u32 = 0;
export let stoppedAcc: i32 = 0;
export let stoppedTarget: u64 = 0;

/** Virtual address of the instruction at `ip`. */
// @ts-ignore: decorator
@inline
export function pcOf(ip: u32): u64 {
  return load<u64>(0, PAGE_VA) + <u64>((ip - load<u32>(0, PAGE_OPS)) >> 2);
}

/** Runs from `ip` of the current page for as long as no operation needs a call; returns why it stopped. */
export function hot(ip: u32, acc: i32): u32 {
  const tlb = load<u32>(0, TLB_DATA);
  let target: u64 = 0;
  let why: u32;
  while (true) {
    switch (<u32>load<u16>(ip)) {
      // @cases
      default:
        why = COLD_OP;
        break;
    }
    stoppedAt = ip;
    stoppedAcc = acc;
    stoppedTarget = target;
    return why;
  }
}
