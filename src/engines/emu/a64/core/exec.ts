/** The interpreter: hot() for as long as it can, cold() for what it leaves, and what follows from that. */
import { noteCount } from './clock';
import { pendingInterrupts, takeFault } from './exception';
import { cold, takenFrom, takenTo, target as coldTarget } from './exec-cold';
import { hot, pcOf, stoppedAcc, stoppedAt, stoppedTarget } from './exec-hot';
import { DEBUG_ACTIVE, LIMIT, PC } from './layout';
import { branchAddress, enterPage, fetchAddress } from './page';
import {
  AGAIN, COLD_OP, CONTINUE, CONTINUE_FUSED, JUMP_TARGETED, JUMP_TO, LEAVE_AT, LEAVE_HERE, TAKE_FAULT, TOOK, jumpTarget,
} from './system';

/** Notes that the fetch from the target of the instruction that ends at `acc + ip` faulted. */
function fetchFault(acc: i32, ip: u32): u32 {
  const count = <u32>(acc + ip + 16) >> 4;
  noteCount(count);
  store<u64>(0, takeFault(fetchAddress), PC);
  return count;
}

/**
 * Runs from decoded operation `ip` of the current page until LIMIT, and returns the number of instructions run.
 * PC is valid again afterwards.
 */
export function exec(ip: u32): u32 {
  let acc: i32 = -(<i32>ip);
  while (true) {
    let why = hot(ip, acc);
    ip = stoppedAt;
    acc = stoppedAcc;
    if (why == LEAVE_HERE) {
      store<u64>(0, pcOf(ip), PC);
      return <u32>(acc + ip) >> 4;
    }
    let target = stoppedTarget;
    if (why == COLD_OP) {
      noteCount(<u32>(acc + ip) >> 4);
      why = cold(ip);
      if (why == CONTINUE) {
        ip += 16;
        continue;
      }
      if (why == AGAIN) continue;
      if (why == CONTINUE_FUSED) {
        ip += 32;
        continue;
      }
      if (why == TOOK) {
        acc += takenFrom - takenTo;
        ip = takenTo;
        if (acc + ip < load<i32>(0, LIMIT)) continue;
        store<u64>(0, pcOf(ip), PC);
        return <u32>(acc + ip) >> 4;
      }
      target = coldTarget;
    }
    if (why == JUMP_TO) {
      // Before the fetch: what may come between two instructions comes before a fault of the second one.
      if (acc + ip + 16 >= load<i32>(0, LIMIT)) {
        store<u64>(0, branchAddress(target), PC);
        return <u32>(acc + ip + 16) >> 4;
      }
      const to = enterPage(target);
      if (to == 0) return fetchFault(acc, ip);
      acc += ip + 16 - to;
      ip = to;
      continue;
    }
    if (why == LEAVE_AT) {
      store<u64>(0, target, PC);
      return <u32>(acc + ip + 16) >> 4;
    }
    if (why == TAKE_FAULT) {
      // Its own address is the return address (SVC, which returns behind itself, comes as JUMP_TARGETED).
      target = takeFault(pcOf(ip));
    } else if (why == JUMP_TARGETED) target = jumpTarget;
    // The context may be another one now: interrupts, debug state, the page.
    if (load<u32>(0, DEBUG_ACTIVE) != 0 || pendingInterrupts() != 0 || acc + ip + 16 >= load<i32>(0, LIMIT)) {
      store<u64>(0, target, PC);
      return <u32>(acc + ip + 16) >> 4;
    }
    const to = enterPage(target);
    if (to == 0) return fetchFault(acc, ip);
    acc += ip + 16 - to;
    ip = to;
  }
}
