/**
 * The interpreter loop. It runs decoded operations of 16 bytes, {u16 operation, u16 rd, u16 rn, u16 rm, u64 immediate},
 * registers as byte offsets from XREGS (or VREGS); the program counter follows from the operation's address.
 *
 * `acc + ip` is 16 times the number of instructions run: acc changes by what each branch skips, so that straight code
 * counts for free. Interrupts, time and stop requests are looked at when that sum reaches LIMIT, at taken branches.
 */
import { execAtomic } from './atomics';
import { branchTaken, decodeAt } from './decode';
import { execDp } from './dp';
import { noteCount } from './clock';
import { pendingInterrupts, raiseUndefined, takeFault } from './exception';
import { FLAGS_ADD, FLAGS_SUB, conditionHolds, setFlags } from './flags';
import { execFp } from './fp-exec';
import {
  f32Add, f32AddFast, f32Div, f32DivFast, f32Mul, f32MulAdd, f32MulAddFast, f32MulFast, f32Sub, f32SubFast,
  f64Add, f64AddFast, f64Div, f64DivFast, f64Mul, f64MulAdd, f64MulAddFast, f64MulFast, f64Sub, f64SubFast,
} from './fp-fast';
import { DEBUG_ACTIVE, EL, FAULT, FP_ENABLED, FP_FAST, LIMIT, PAGE_OPS, PAGE_VA, PC, TLB_DATA, VREGS, XREGS } from './layout';
import { hostAddress, readHit, readTable, slowLoad, slowStore, tlbEntry, writeHit } from './mem';
import { execFpMemory, execMemory, slowLoadPairQ, slowRead, slowStorePairQ, slowZero, stackAligned, storePair } from './memory-ops';
import { enterPage, fetchAddress } from './page';
import { execSimd } from './simd-exec';
import { execSimdMemory } from './simd-memory';
import {
  CONTINUE, JUMP_TARGETED, JUMP_TO, LEAVE_AT, LEAVE_AT_TAKEN, TAKE_FAULT, execSystem, jumpTarget, raiseFpAccess, zeroAllowed,
} from './system';

/** Virtual address of the instruction at `ip`. */
// @ts-ignore: decorator
@inline
function pcOf(ip: u32): u64 {
  return load<u64>(0, PAGE_VA) + <u64>((ip - load<u32>(0, PAGE_OPS)) >> 2);
}

/**
 * Runs from decoded operation `ip` of the current page until LIMIT, and returns the number of instructions run.
 * PC is valid again afterwards.
 */
export function exec(ip: u32): u32 {
  let acc: i32 = -(<i32>ip);
  let tlb = load<u32>(0, TLB_DATA);
  let target: u64 = 0;
  let why: u32;
  while (true) {
    why = TAKE_FAULT;
    switch (<u32>load<u16>(ip)) {
      // @cases
      default:
        break;
    }
    if (why == JUMP_TO) {
      const page = load<u32>(0, PAGE_OPS);
      const offset = target - load<u64>(0, PAGE_VA);
      let to: u32;
      if (offset < 4096 && (offset & 3) == 0 && page != 0) to = page + (<u32>offset << 2);
      else {
        to = enterPage(target);
        if (to == 0) {
          // The fetch faulted; the branch itself is done.
          store<u64>(0, takeFault(fetchAddress), PC);
          return <u32>(acc + ip + 16) >> 4;
        }
      }
      acc += ip + 16 - to;
      ip = to;
      if (acc + ip < load<i32>(0, LIMIT)) continue;
      store<u64>(0, pcOf(ip), PC);
      return <u32>(acc + ip) >> 4;
    }
    if (why == LEAVE_AT_TAKEN) {
      store<u64>(0, target, PC);
      return <u32>(acc + ip) >> 4;
    }
    if (why == TAKE_FAULT) {
      // Its own address is the return address (SVC, which returns behind itself, comes as JUMP_TARGETED).
      target = takeFault(pcOf(ip));
    } else if (why == LEAVE_AT) {
      store<u64>(0, target, PC);
      return <u32>(acc + ip + 16) >> 4;
    } else if (why == JUMP_TARGETED) target = jumpTarget;
    tlb = load<u32>(0, TLB_DATA);
    // The context may be another one now: interrupts, debug state, the page.
    if (load<u32>(0, DEBUG_ACTIVE) != 0 || pendingInterrupts() != 0 || acc + ip + 16 >= load<i32>(0, LIMIT)) {
      store<u64>(0, target, PC);
      return <u32>(acc + ip + 16) >> 4;
    }
    const to = enterPage(target);
    if (to == 0) {
      store<u64>(0, takeFault(fetchAddress), PC);
      return <u32>(acc + ip + 16) >> 4;
    }
    acc += ip + 16 - to;
    ip = to;
  }
}
