/** vCPUs: reset, switching between them, and the run loop around exec(). */
import { beginSlice, noteCount, syncClock } from './clock';
import { checkBreakpoint, stepAdvance, stepPending } from './debug';
import { decodeStep } from './decode';
import {
  EC_BREAKPOINT_LOWER, EC_ILLEGAL_STATE, EC_STEP_LOWER, levelChanged, pendingInterrupts, raise, takeFault, takeInterrupt, watchLevel,
} from './exception';
import { exec } from './exec';
import {
  CPU, CPU_COUNT, CPU_END, CPU_ID, CPU_SIZE, DEBUG_ACTIVE, EL, EVENT, EXCLUSIVE_SIZE, EXIT_BUDGET, EXIT_OFF, EXIT_STOP, EXIT_WFE,
  EXIT_WFI, FAULT, IRQ_LINES, KICK, LIMIT, PAGE_OPS, PAGE_VA, PC, POWER, POWER_OFF, POWER_ON, POWER_WFE, POWER_WFI, PSTATE_IL,
  SAVED_CPUS, STEP_OPS, STOP, ICOUNT, XREGS, VREGS, GLOBAL_ICOUNT,
} from './layout';
import { asidChanged, resetTlb } from './mmu';
import { enterPage, fetchAddress, flushDecoded } from './page';
import { pmuSync } from './pmu';
import { resetSysregs } from './sysreg';
import { timerDeadline, timerUpdate } from './timer';

/** Empties the decode cache and every TLB; each vCPU is powered off. Called once, before anything else. */
export function initialize(cpus: u32): void {
  flushDecoded();
  store<u32>(0, cpus, CPU_COUNT);
  for (let c: u32 = 0; c < cpus; c++) {
    resetTlb(c);
    const saved = SAVED_CPUS + c * CPU_SIZE;
    memory.fill(saved, 0, CPU_SIZE);
    store<u32>(saved + (CPU_ID - CPU), c);
    store<u32>(saved + (POWER - CPU), POWER_OFF);
  }
  memory.copy(CPU, SAVED_CPUS, CPU_END - CPU);
}

/** Makes `cpu` the one whose state is at CPU. Its exclusive monitor opens, since others may have stored meanwhile. */
export function switchTo(cpu: u32): void {
  const old = load<u32>(0, CPU_ID);
  if (old == cpu) return;
  memory.copy(SAVED_CPUS + old * CPU_SIZE, CPU, CPU_END - CPU);
  memory.copy(CPU, SAVED_CPUS + cpu * CPU_SIZE, CPU_END - CPU);
  store<u32>(0, 0, EXCLUSIVE_SIZE);
  // A shootdown by another vCPU may have emptied what the page came from.
  store<u32>(0, 0, PAGE_OPS);
}

/** Warm reset of the current vCPU, which then runs from `pc` at EL1 with X0 = `x0` (PSCI 1.1, section 6.4). */
export function powerOn(pc: u64, x0: u64): void {
  memory.fill(XREGS, 0, 34 << 3);
  memory.fill(VREGS, 0, 512);
  resetSysregs();
  resetTlb(load<u32>(0, CPU_ID));
  asidChanged();
  store<u64>(0, x0, XREGS);
  store<u64>(0, pc, PC);
  store<u32>(0, 0, FAULT);
  store<u32>(0, 0, EVENT);
  store<u32>(0, POWER_ON, POWER);
}

/** One instruction, under the eyes of software step and breakpoints. Returns the number of instructions run. */
function step(): u32 {
  const pc = load<u64>(0, PC);
  if (stepPending()) {
    // ISV = 1, EX = 0, IFSC = debug exception.
    raise(EC_STEP_LOWER + load<u32>(0, EL), 0x0100_0022);
    store<u64>(0, takeFault(pc), PC);
    return 0;
  }
  store<u32>(0, 0, PAGE_OPS);
  const ip = enterPage(pc);
  if (ip == 0) {
    store<u64>(0, takeFault(fetchAddress), PC);
    return 0;
  }
  if (checkBreakpoint(pc)) {
    raise(EC_BREAKPOINT_LOWER + load<u32>(0, EL), 0x22);
    store<u64>(0, takeFault(pc), PC);
    return 0;
  }
  decodeStep(ip);
  // STEP_OPS poses as the operation of this page at this pc.
  store<u32>(0, STEP_OPS - ((u32(pc) & 0xfff) << 2), PAGE_OPS);
  store<i32>(0, i32.MIN_VALUE, LIMIT);
  watchLevel();
  const n = exec(STEP_OPS);
  if (!levelChanged) stepAdvance();
  store<u32>(0, 0, PAGE_OPS);
  return n;
}

/** Runs from PC for about `budget` instructions. */
function stretch(budget: u32): u32 {
  const ip = enterPage(load<u64>(0, PC));
  if (ip == 0) {
    store<u64>(0, takeFault(fetchAddress), PC);
    return 0;
  }
  store<i32>(0, <i32>(budget << 4), LIMIT);
  return exec(ip);
}

/**
 * Runs the current vCPU for about `budget` instructions (at most 2^26), fewer when it waits, stops or is kicked.
 * Returns EXIT_*.
 */
export function run(budget: i32): u32 {
  beginSlice();
  timerUpdate();
  pmuSync();
  const power = load<u32>(0, POWER);
  if (power == POWER_OFF) return EXIT_OFF;
  if (power == POWER_WFI && load<u32>(load<u32>(0, CPU_ID) << 2, IRQ_LINES) == 0) return EXIT_WFI;
  // WFE may end early: a vCPU that waited for an event looks again in each slice.
  store<u32>(0, POWER_ON, POWER);
  let done: i32 = 0;
  while (true) {
    if (load<u32>(0, STOP) != 0) return EXIT_STOP;
    const pending = pendingInterrupts();
    if (pending != 0) store<u64>(0, takeInterrupt(load<u64>(0, PC), pending), PC);
    if (done >= budget || load<u32>(0, KICK) != 0) return EXIT_BUDGET;
    if (load<u32>(0, PSTATE_IL) != 0) {
      raise(EC_ILLEGAL_STATE, 0);
      store<u64>(0, takeFault(load<u64>(0, PC)), PC);
    }
    done += load<u32>(0, DEBUG_ACTIVE) != 0 ? step() : stretch(budget - done);
    noteCount(done);
    syncClock();
    const state = load<u32>(0, POWER);
    if (state != POWER_ON) {
      if (load<u32>(0, STOP) != 0) return EXIT_STOP;
      if (state == POWER_OFF) return EXIT_OFF;
      if (state == POWER_WFE) return EXIT_WFE;
      timerUpdate();
      if (load<u32>(load<u32>(0, CPU_ID) << 2, IRQ_LINES) == 0) return EXIT_WFI;
      store<u32>(0, POWER_ON, POWER);
    }
  }
}

/** Runs exactly one instruction of the current vCPU, exceptions included; for tests. */
export function stepInstruction(): void {
  beginSlice();
  const pc = load<u64>(0, PC);
  store<u32>(0, 0, PAGE_OPS);
  const ip = enterPage(pc);
  if (ip == 0) {
    store<u64>(0, takeFault(fetchAddress), PC);
    return;
  }
  decodeStep(ip);
  store<u32>(0, STEP_OPS - ((u32(pc) & 0xfff) << 2), PAGE_OPS);
  store<i32>(0, i32.MIN_VALUE, LIMIT);
  noteCount(exec(STEP_OPS));
  store<u32>(0, 0, PAGE_OPS);
  syncClock();
}
