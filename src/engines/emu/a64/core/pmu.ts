/**
 * Performance monitors, PMUv3 (DDI 0487 chapter D12): a cycle counter and six event counters.
 *
 * Every instruction that retires takes one cycle; none pass in WFI and WFE. So all counters follow ICOUNT, and they are
 * brought up to date (pmuSync()) before anything that they depend on changes: their registers, or the level if a
 * counter counts at one level only. An overflow interrupts at the end of a slice, which pmuDeadline() can shorten.
 */
import { setPmuLine } from './host';
import {
  CPU_ID, EL, ICOUNT, PMCCFILTR_EL0, PMCCNTR_BASE, PMCCNTR_EL0, PMCNTENSET_EL0, PMCR_EL0, PMEVCNTR, PMEVTYPER,
  PMINTENSET_EL1, PMOVSSET_EL0, PMSELR_EL0, PMU_ACTIVE, PMU_LINE, PMU_PRESCALE, PMUSERENR_EL0,
} from './layout';
import * as K from './regs';
import { SYS_OK, SYS_POLL, SYS_TRAP, SYS_UNDEFINED } from './status';

const COUNTERS: u32 = 6;
const CYCLES: u32 = 31;
/** The bits of PMCNTENSET, PMOVSSET, PMINTENSET: one for each counter and the cycle counter. */
const ALL: u64 = (1 << 31) | ((1 << 6) - 1);

const PMCR_E: u64 = 1;
const PMCR_P: u64 = 2;
const PMCR_C: u64 = 4;
const PMCR_D: u64 = 8;
const PMCR_DP: u64 = 32;
const PMCR_LC: u64 = 64;

/** PMEVTYPER: P, U and evtCount, which has 10 bits in ARMv8.0. Without EL2 and EL3 the other filters are RES0. */
const TYPER_MASK: u64 = (3 << 30) | 0x3ff;
const FILTERS: u64 = 3 << 30;

const SW_INCR: u32 = 0x00;
const INST_RETIRED: u32 = 0x08;
const CPU_CYCLES: u32 = 0x11;
const CHAIN: u32 = 0x1e;
const EVENTS: u64 = (1 << SW_INCR) | (1 << INST_RETIRED) | (1 << CPU_CYCLES) | (1 << CHAIN);

/** Whether a counter with this filter counts at the current level: U is bit 30, P is bit 31. */
// @ts-ignore: decorator
@inline
function countsHere(filter: u64): bool {
  return ((filter >> (load<u32>(0, EL) == 0 ? 30 : 31)) & 1) == 0;
}

function overflow(n: u32): void {
  store<u64>(0, load<u64>(0, PMOVSSET_EL0) | (<u64>1 << n), PMOVSSET_EL0);
}

/** Adds `amount` to event counter `n`; an even one that overflows feeds the odd one above it if that counts CHAIN. */
function count(n: u32, amount: u64): void {
  const sum = load<u64>(n << 3, PMEVCNTR) + amount;
  store<u64>(n << 3, sum & 0xffff_ffff, PMEVCNTR);
  const carry = sum >> 32;
  if (carry == 0) return;
  overflow(n);
  const next = n + 1;
  if ((n & 1) == 0 && ((load<u64>(0, PMCNTENSET_EL0) >> next) & 1) != 0) {
    const type = load<u64>(next << 3, PMEVTYPER);
    if ((type & 0x3ff) == CHAIN && countsHere(type)) count(next, carry);
  }
}

function countCycles(cycles: u64, pmcr: u64): void {
  if ((pmcr & (PMCR_D | PMCR_LC)) == PMCR_D) {
    const sum = <u64>load<u32>(0, PMU_PRESCALE) + cycles;
    store<u32>(0, <u32>sum & 63, PMU_PRESCALE);
    cycles = sum >> 6;
  }
  const old = load<u64>(0, PMCCNTR_EL0);
  const sum = old + cycles;
  store<u64>(0, sum, PMCCNTR_EL0);
  if ((pmcr & PMCR_LC) != 0 ? sum < old : sum >> 32 != old >> 32) overflow(CYCLES);
}

/**
 * Counts up to ICOUNT and updates the overflow interrupt. Call at slice ends, and before the level changes if
 * PMU_ACTIVE is set; ICOUNT must be up to date.
 */
export function pmuSync(): void {
  const now = load<u64>(0, ICOUNT);
  const delta = now - load<u64>(0, PMCCNTR_BASE);
  store<u64>(0, now, PMCCNTR_BASE);
  const pmcr = load<u64>(0, PMCR_EL0);
  const enabled = load<u64>(0, PMCNTENSET_EL0);
  if (delta != 0 && (pmcr & PMCR_E) != 0 && enabled != 0) {
    if (((enabled >> CYCLES) & 1) != 0 && countsHere(load<u64>(0, PMCCFILTR_EL0))) countCycles(delta, pmcr);
    for (let n: u32 = 0; n < COUNTERS; n++) {
      const type = load<u64>(n << 3, PMEVTYPER);
      const event = <u32>type & 0x3ff;
      if (((enabled >> n) & 1) != 0 && (event == INST_RETIRED || event == CPU_CYCLES) && countsHere(type)) {
        count(n, delta);
      }
    }
  }
  updateLine();
}

function updateLine(): void {
  const line = u32((load<u64>(0, PMCR_EL0) & PMCR_E) != 0 &&
    (load<u64>(0, PMOVSSET_EL0) & load<u64>(0, PMINTENSET_EL1)) != 0);
  if (line == load<u32>(0, PMU_LINE)) return;
  store<u32>(0, line, PMU_LINE);
  setPmuLine(load<u32>(0, CPU_ID), line);
}

/** PMU_ACTIVE: whether the level matters to a counter that runs. */
function updateActive(): void {
  const enabled = load<u64>(0, PMCNTENSET_EL0);
  let filters: u64 = 0;
  if ((load<u64>(0, PMCR_EL0) & PMCR_E) != 0) {
    if (((enabled >> CYCLES) & 1) != 0) filters = load<u64>(0, PMCCFILTR_EL0);
    for (let n: u32 = 0; n < COUNTERS; n++) {
      if (((enabled >> n) & 1) != 0) filters |= load<u64>(n << 3, PMEVTYPER);
    }
  }
  store<u32>(0, u32((filters & FILTERS) != 0), PMU_ACTIVE);
}

/** Events until counter `n` overflows. */
// @ts-ignore: decorator
@inline
function room(n: u32): u64 {
  return (<u64>1 << 32) - load<u64>(n << 3, PMEVCNTR);
}

/**
 * Instructions until the next overflow that interrupts, at the earliest; u64.MAX_VALUE: none. As of the last
 * pmuSync().
 */
export function pmuDeadline(): u64 {
  const pmcr = load<u64>(0, PMCR_EL0);
  const armed = load<u64>(0, PMINTENSET_EL1) & load<u64>(0, PMCNTENSET_EL0) & ~load<u64>(0, PMOVSSET_EL0);
  if ((pmcr & PMCR_E) == 0 || armed == 0) return u64.MAX_VALUE;
  let next: u64 = u64.MAX_VALUE;
  if (((armed >> CYCLES) & 1) != 0) {
    const cycles = load<u64>(0, PMCCNTR_EL0);
    // 2^64 cycles do not happen unless software sets the counter close to its end.
    next = (pmcr & PMCR_LC) != 0 ? (cycles == 0 ? u64.MAX_VALUE : 0 - cycles) : (<u64>1 << 32) - (cycles & 0xffff_ffff);
    if ((pmcr & (PMCR_D | PMCR_LC)) == PMCR_D) next = (next << 6) - <u64>load<u32>(0, PMU_PRESCALE);
  }
  for (let n: u32 = 0; n < COUNTERS; n++) {
    if (((armed >> n) & 1) == 0) continue;
    const event = load<u32>(n << 3, PMEVTYPER) & 0x3ff;
    let at: u64 = u64.MAX_VALUE;
    if (event == INST_RETIRED || event == CPU_CYCLES) at = room(n);
    // The pair's remaining count, capped: a chained counter with more to go needs no early end of a slice.
    else if (event == CHAIN && (n & 1) != 0 && room(n) == 1) at = room(n - 1);
    if (at < next) next = at;
  }
  return next;
}

/** Whether PMUSERENR_EL0 denies EL0 this access (D17.5.18: EN, SW, CR, ER). */
export function pmuDenied(key: u32, isWrite: bool): bool {
  const user = <u32>load<u64>(0, PMUSERENR_EL0);
  let allow: u32 = 1;
  if (key == K.PMUSERENR_EL0) return false;
  if (key == K.PMSWINC_EL0) allow |= 2;
  else if (key == K.PMSELR_EL0) allow |= 8;
  else if (!isWrite) {
    if (key == K.PMCCNTR_EL0) allow |= 4;
    else if (key == K.PMXEVCNTR_EL0 || key - K.PMEVCNTR0_EL0 < 32) allow |= 8;
  }
  return (user & allow) == 0;
}

/** Whether `key` names a register of this file. */
export function isPmuRegister(key: u32): bool {
  return (key >= <u32>K.PMCR_EL0 && key <= <u32>K.PMXEVCNTR_EL0) || key == K.PMUSERENR_EL0 || key == K.PMOVSSET_EL0 ||
    key == K.PMINTENSET_EL1 || key == K.PMINTENCLR_EL1 || key - K.PMEVCNTR0_EL0 < 64;
}

/** The counter that PMXEVTYPER or PMXEVCNTR stands for. */
// @ts-ignore: decorator
@inline
function selected(): u32 {
  return <u32>load<u64>(0, PMSELR_EL0);
}

function readTyper(n: u32): u64 {
  if (n == CYCLES) return load<u64>(0, PMCCFILTR_EL0);
  return n < COUNTERS ? load<u64>(n << 3, PMEVTYPER) : 0;
}

function writeTyper(n: u32, value: u64): void {
  if (n == CYCLES) store<u64>(0, value & FILTERS, PMCCFILTR_EL0);
  else if (n < COUNTERS) store<u64>(n << 3, value & TYPER_MASK, PMEVTYPER);
}

function readCounterN(n: u32): u64 {
  return n < COUNTERS ? load<u64>(n << 3, PMEVCNTR) : 0;
}

function writeCounterN(n: u32, value: u64): void {
  if (n < COUNTERS) store<u64>(n << 3, value & 0xffff_ffff, PMEVCNTR);
}

/** Whether an MRS of `key` is allocated; PMSWINC_EL0 is write-only, counters beyond PMCR_EL0.N do not exist. */
function exists(key: u32): bool {
  if (key - K.PMEVCNTR0_EL0 < 32) return key - K.PMEVCNTR0_EL0 < COUNTERS;
  if (key - K.PMEVTYPER0_EL0 < 31) return key - K.PMEVTYPER0_EL0 < COUNTERS;
  return true;
}

/** Reads a register for which isPmuRegister() holds into `address`. Returns SYS_*. */
export function pmuRead(key: u32, address: u32): u32 {
  if (load<u32>(0, EL) == 0 && (key == K.PMINTENSET_EL1 || key == K.PMINTENCLR_EL1)) return SYS_UNDEFINED;
  if (key == K.PMSWINC_EL0 || !exists(key)) return SYS_UNDEFINED;
  if (load<u32>(0, EL) == 0 && pmuDenied(key, false)) return SYS_TRAP;
  pmuSync();
  let v: u64;
  switch (key) {
    case K.PMCCNTR_EL0: v = load<u64>(0, PMCCNTR_EL0); break;
    case K.PMXEVCNTR_EL0: v = readCounterN(selected()); break;
    case K.PMXEVTYPER_EL0: v = readTyper(selected()); break;
    // IMP = 0: the PMU is identified by MIDR_EL1.
    case K.PMCR_EL0: v = load<u64>(0, PMCR_EL0) | (<u64>COUNTERS << 11); break;
    case K.PMCNTENSET_EL0:
    case K.PMCNTENCLR_EL0: v = load<u64>(0, PMCNTENSET_EL0); break;
    case K.PMOVSSET_EL0:
    case K.PMOVSCLR_EL0: v = load<u64>(0, PMOVSSET_EL0); break;
    case K.PMINTENSET_EL1:
    case K.PMINTENCLR_EL1: v = load<u64>(0, PMINTENSET_EL1); break;
    case K.PMSELR_EL0: v = load<u64>(0, PMSELR_EL0); break;
    case K.PMCEID0_EL0: v = EVENTS; break;
    case K.PMCEID1_EL0: v = 0; break;
    case K.PMUSERENR_EL0: v = load<u64>(0, PMUSERENR_EL0); break;
    case K.PMCCFILTR_EL0: v = load<u64>(0, PMCCFILTR_EL0); break;
    default:
      v = key < <u32>K.PMEVTYPER0_EL0 ? readCounterN(key - K.PMEVCNTR0_EL0) : readTyper(key - K.PMEVTYPER0_EL0);
  }
  store<u64>(address, v);
  return SYS_OK;
}

/** PMSWINC_EL0: counts one event in each selected counter that counts SW_INCR. */
function softwareIncrement(value: u64): void {
  if ((load<u64>(0, PMCR_EL0) & PMCR_E) == 0) return;
  const bits = value & load<u64>(0, PMCNTENSET_EL0);
  for (let n: u32 = 0; n < COUNTERS; n++) {
    const type = load<u64>(n << 3, PMEVTYPER);
    if (((bits >> n) & 1) != 0 && (<u32>type & 0x3ff) == SW_INCR && countsHere(type)) count(n, 1);
  }
}

function writeControl(value: u64): void {
  store<u64>(0, value & (PMCR_E | PMCR_D | PMCR_DP | PMCR_LC), PMCR_EL0);
  if ((value & PMCR_P) != 0) memory.fill(PMEVCNTR, 0, COUNTERS << 3);
  if ((value & PMCR_C) != 0) {
    store<u64>(0, 0, PMCCNTR_EL0);
    store<u32>(0, 0, PMU_PRESCALE);
  }
}

/** Writes a register for which isPmuRegister() holds. Returns SYS_*. */
export function pmuWrite(key: u32, value: u64): u32 {
  if (key == K.PMCEID0_EL0 || key == K.PMCEID1_EL0 || !exists(key)) return SYS_UNDEFINED;
  if (load<u32>(0, EL) == 0) {
    if (key == K.PMINTENSET_EL1 || key == K.PMINTENCLR_EL1 || key == K.PMUSERENR_EL0) return SYS_UNDEFINED;
    if (pmuDenied(key, true)) return SYS_TRAP;
  }
  pmuSync();
  switch (key) {
    case K.PMCCNTR_EL0: store<u64>(0, value, PMCCNTR_EL0); break;
    case K.PMXEVCNTR_EL0: writeCounterN(selected(), value); break;
    case K.PMXEVTYPER_EL0: writeTyper(selected(), value); break;
    case K.PMCR_EL0: writeControl(value); break;
    case K.PMCNTENSET_EL0: store<u64>(0, load<u64>(0, PMCNTENSET_EL0) | (value & ALL), PMCNTENSET_EL0); break;
    case K.PMCNTENCLR_EL0: store<u64>(0, load<u64>(0, PMCNTENSET_EL0) & ~value, PMCNTENSET_EL0); break;
    case K.PMOVSSET_EL0: store<u64>(0, load<u64>(0, PMOVSSET_EL0) | (value & ALL), PMOVSSET_EL0); break;
    case K.PMOVSCLR_EL0: store<u64>(0, load<u64>(0, PMOVSSET_EL0) & ~value, PMOVSSET_EL0); break;
    case K.PMINTENSET_EL1: store<u64>(0, load<u64>(0, PMINTENSET_EL1) | (value & ALL), PMINTENSET_EL1); break;
    case K.PMINTENCLR_EL1: store<u64>(0, load<u64>(0, PMINTENSET_EL1) & ~value, PMINTENSET_EL1); break;
    case K.PMSWINC_EL0: softwareIncrement(value); break;
    case K.PMSELR_EL0: store<u64>(0, value & 31, PMSELR_EL0); break;
    case K.PMUSERENR_EL0: store<u64>(0, value & 15, PMUSERENR_EL0); break;
    case K.PMCCFILTR_EL0: writeTyper(CYCLES, value); break;
    default:
      if (key < <u32>K.PMEVTYPER0_EL0) writeCounterN(key - K.PMEVCNTR0_EL0, value);
      else writeTyper(key - K.PMEVTYPER0_EL0, value);
  }
  updateActive();
  updateLine();
  return SYS_POLL;
}
