/** vCPUs: reset, switching between them, and the run loop around exec(). */
import { beginSlice, noteCount, syncClock } from './clock';
import { checkBreakpoint, debugUpdate, stepActive, stepAdvance, stepPending } from './debug';
import { decodeStep } from './decode';
import {
  EC_BREAKPOINT_LOWER, EC_ILLEGAL_STATE, EC_STEP_LOWER, levelChanged, pendingInterrupts, raise, takeFault, takeInterrupt, watchLevel,
} from './exception';
import { exec } from './exec';
import { updateFp } from './fpstate';
import {
  CLOCK_VIRTUAL, CPU, CPU_COUNT, CPU_END, CPU_ID, CPU_SIZE, DEBUG_ACTIVE, EL, EVENT, EXCLUSIVE_SIZE, EXIT_BUDGET, EXIT_OFF,
  EXIT_STOP, EXIT_WFE, EXIT_WFI, FAULT, IRQ_LINES, KICK, LIMIT, PAGE_OPS, PC, PMCNTENSET_EL0, PMINTENSET_EL1, POWER,
  POWER_OFF, POWER_ON, POWER_WFE, POWER_WFI, PSTATE_IL, SAVED_CPUS, STEPPED, STEP_OPS, STOP, XREGS, VREGS,
} from './layout';
import { asidChanged, resetTlb } from './mmu';
import { branchAddress, enterPage, fetchAddress, flushDecoded, PAGE_HOST } from './page';
import { pmuDeadline, pmuSync } from './pmu';
import { resetSysregs } from './sysreg';
import { instructionsUntil, timerDeadline, timerUpdate } from './timer';

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

/**
 * The saved states of all vCPUs have been written from outside: what follows from them is made anew. vCPU 0 is current
 * afterwards.
 */
export function restored(): void {
  flushDecoded();
  memory.copy(CPU, SAVED_CPUS, CPU_END - CPU);
  for (let c: u32 = load<u32>(0, CPU_COUNT); c > 0; c--) {
    switchTo(c - 1);
    resetTlb(c - 1);
    asidChanged();
    updateFp();
    debugUpdate();
    // As switchTo() does, which does nothing for the vCPU that is current.
    if (load<u32>(0, CPU_COUNT) > 1) store<u32>(0, 0, EXCLUSIVE_SIZE);
    store<u32>(0, 0, PAGE_OPS);
  }
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

/** PSTATE.IL comes behind faults of the fetch and breakpoints (D1.3.5.3). True: its exception is raised. */
// @ts-ignore: decorator
@inline
function illegalState(): bool {
  if (load<u32>(0, PSTATE_IL) == 0) return false;
  raise(EC_ILLEGAL_STATE, 0);
  return true;
}

// Values of STEPPED (SoftwareStep_DidNotStep(), SoftwareStep_SteppedEX()).
const NOT_STEPPED: u32 = 0;
const STEPPED_OTHER: u32 = 1;
const STEPPED_EXCLUSIVE: u32 = 2;

/** LDXR, LDXP and their kin: o2 = 0, L = 1, and not CASP, which has o1 = 1 with a size below 2. */
function isLoadExclusive(insn: u32): bool {
  return (insn & 0x3fc0_0000) == 0x0840_0000 && ((insn & 0x0020_0000) == 0 || (insn & 0x8000_0000) != 0);
}

/** One instruction, under the eyes of software step and breakpoints. Returns the number of instructions run. */
function step(): u32 {
  const pc = branchAddress(load<u64>(0, PC));
  if (stepPending()) {
    // IFSC: debug exception; ISV (bit 24): the instruction before was stepped, EX (bit 6): it was a load-exclusive.
    const before = load<u32>(0, STEPPED);
    const iss: u32 = 0x22 | (u32(before != NOT_STEPPED) << 24) | (u32(before == STEPPED_EXCLUSIVE) << 6);
    store<u32>(0, NOT_STEPPED, STEPPED);
    raise(EC_STEP_LOWER + load<u32>(0, EL), iss);
    store<u64>(0, takeFault(pc), PC);
    return 0;
  }
  const stepping = stepActive();
  store<u32>(0, NOT_STEPPED, STEPPED);
  store<u32>(0, 0, PAGE_OPS);
  const ip = enterPage(pc);
  if (ip == 0) {
    store<u64>(0, takeFault(fetchAddress), PC);
    return 0;
  }
  if (checkBreakpoint(pc)) {
    raise(EC_BREAKPOINT_LOWER + load<u32>(0, EL), 0x22);
    store<u64>(0, takeFault(fetchAddress), PC);
    return 0;
  }
  if (illegalState()) {
    store<u64>(0, takeFault(fetchAddress), PC);
    return 0;
  }
  const insn = load<u32>(load<u32>(load<u32>(0, PAGE_OPS) + PAGE_HOST) + (u32(pc) & 0xfff));
  decodeStep(ip);
  // STEP_OPS poses as the operation of this page at this pc.
  store<u32>(0, STEP_OPS - ((u32(pc) & 0xfff) << 2), PAGE_OPS);
  store<i32>(0, i32.MIN_VALUE, LIMIT);
  watchLevel();
  const n = exec(STEP_OPS);
  if (!levelChanged) {
    stepAdvance();
    if (stepping) store<u32>(0, isLoadExclusive(insn) ? STEPPED_EXCLUSIVE : STEPPED_OTHER, STEPPED);
  }
  store<u32>(0, 0, PAGE_OPS);
  return n;
}

/** Runs from PC for about `budget` instructions. */
function stretch(budget: u32): u32 {
  store<u32>(0, NOT_STEPPED, STEPPED);
  const ip = enterPage(load<u64>(0, PC));
  if (ip == 0 || illegalState()) {
    store<u64>(0, takeFault(fetchAddress), PC);
    return 0;
  }
  store<i32>(0, <i32>(budget << 4), LIMIT);
  return exec(ip);
}

/** `budget`, or fewer instructions if the PMU's next overflow or, with a virtual clock, the next timer comes before. */
function bounded(budget: u32): u32 {
  let limit = <u64>budget;
  if ((load<u64>(0, PMINTENSET_EL1) & load<u64>(0, PMCNTENSET_EL0)) != 0) {
    pmuSync();
    const overflow = pmuDeadline();
    if (overflow < limit) limit = overflow;
  }
  if (load<u32>(0, CLOCK_VIRTUAL) != 0) {
    timerUpdate();
    const timer = instructionsUntil(timerDeadline());
    if (timer < limit) limit = timer;
  }
  return limit == 0 ? 1 : <u32>limit;
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
    if (pending != 0) store<u64>(0, takeInterrupt(branchAddress(load<u64>(0, PC)), pending), PC);
    if (done >= budget || load<u32>(0, KICK) != 0) return EXIT_BUDGET;
    let n = load<u32>(0, DEBUG_ACTIVE) != 0 ? step() : stretch(bounded(budget - done));
    // An exception in place of an instruction takes time, too: vectors that cannot be fetched must not hold the host.
    if (n == 0) n = 1;
    done += n;
    // exec() counts from 0 each time: what it reads of the clock is relative to where it began.
    noteCount(n);
    syncClock();
    beginSlice();
    if (load<u32>(0, CLOCK_VIRTUAL) != 0) timerUpdate();
    if ((load<u64>(0, PMINTENSET_EL1) & load<u64>(0, PMCNTENSET_EL0)) != 0) pmuSync();
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
