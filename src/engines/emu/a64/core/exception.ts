/** Exception entry and return between EL0 and EL1 (DDI 0487, AArch64.TakeException() and ELFromSPSR()). */
import { getNZCV, setNZCV } from './flags';
import { updateFp } from './fpstate';
import {
  CPU_ID, DAIF, EL, ELR_EL1, ESR_EL1, EVENT, EXCLUSIVE_SIZE, FAR_EL1, FAULT, FAULT_ESR, FAULT_FAR, IRQ_LINES, LIMIT,
  PAN, PMU_ACTIVE, PSTATE_IL, PSTATE_SS, SCTLR_EL1, SPSEL, SPSR_EL1, SP_EL0, SP_EL1, SP_SLOT, VBAR_EL1, XREGS,
} from './layout';
import { syncClock } from './clock';
import { selectTables } from './mmu';
import { pmuSync } from './pmu';
import { debugUpdate, exceptionReturnSS } from './debug';

// Exception classes, ESR_ELx.EC (D17.2.37).
export const EC_UNKNOWN: u32 = 0x00;
export const EC_WFX: u32 = 0x01;
export const EC_FP_ACCESS: u32 = 0x07;
export const EC_ILLEGAL_STATE: u32 = 0x0e;
export const EC_SVC64: u32 = 0x15;
export const EC_MSR_TRAP: u32 = 0x18;
export const EC_IABORT_LOWER: u32 = 0x20;
export const EC_PC_ALIGNMENT: u32 = 0x22;
export const EC_DABORT_LOWER: u32 = 0x24;
export const EC_SP_ALIGNMENT: u32 = 0x26;
export const EC_BREAKPOINT_LOWER: u32 = 0x30;
export const EC_STEP_LOWER: u32 = 0x32;
export const EC_WATCHPOINT_LOWER: u32 = 0x34;
export const EC_BRK: u32 = 0x3c;

const SCTLR_SPAN: u64 = 1 << 23;

/** PSTATE in the layout of SPSR_EL1. */
export function packPstate(): u32 {
  return (getNZCV() << 28) | (load<u32>(0, PAN) << 22) | (load<u32>(0, PSTATE_SS) << 21) | (load<u32>(0, PSTATE_IL) << 20) |
    load<u32>(0, DAIF) | (load<u32>(0, EL) << 2) | load<u32>(0, SPSEL);
}

/** Puts the stack pointer of the current level and SPSel back into its bank. */
function parkSp(): void {
  const sp = load<u64>(SP_SLOT << 3, XREGS);
  if (load<u32>(0, SPSEL) != 0) store<u64>(0, sp, SP_EL1);
  else store<u64>(0, sp, SP_EL0);
}

/** Brings in the stack pointer that EL and SPSel now name. */
function fetchSp(): void {
  store<u64>(SP_SLOT << 3, load<u32>(0, SPSEL) != 0 ? load<u64>(0, SP_EL1) : load<u64>(0, SP_EL0), XREGS);
}

/** MSR SPSel: swaps the banks. */
export function setSpSel(v: u32): void {
  parkSp();
  store<u32>(0, v, SPSEL);
  fetchSp();
}

/** Takes the run loop out at its next taken branch, to look at interrupts, timers and stop requests. */
// @ts-ignore: decorator
@inline
export function requestPoll(): void {
  store<i32>(0, i32.MIN_VALUE, LIMIT);
}

/**
 * Notes a synchronous exception of the current instruction; the run loop takes it with the instruction's address as
 * the return address.
 */
export function raise(ec: u32, iss: u32): void {
  store<u32>(0, 1, FAULT);
  store<u64>(0, (<u64>ec << 26) | (1 << 25) | <u64>iss, FAULT_ESR);
}

export function raiseUndefined(): void {
  raise(EC_UNKNOWN, 0);
}

/** raise() for the classes that report an address in FAR_EL1 and have one code for each of EL0 and EL1. */
export function raiseAbort(ecLower: u32, iss: u32, far: u64): void {
  raise(ecLower + load<u32>(0, EL), iss);
  store<u64>(0, far, FAULT_FAR);
}

/** True for exception classes that write FAR_EL1. */
function hasFar(ec: u32): bool {
  return (ec >= 0x20 && ec <= 0x25) || ec == 0x34 || ec == 0x35;
}

/** Set by every exception entry and return: software step does not count such an instruction as completed. */
export let levelChanged: bool = false;

export function watchLevel(): void {
  levelChanged = false;
}

/** Counters that count at one level only take stock before the level changes. */
// @ts-ignore: decorator
@inline
function leaveLevel(): void {
  if (load<u32>(0, PMU_ACTIVE) == 0) return;
  syncClock();
  pmuSync();
}

/** AArch64.TakeException() to EL1; returns the vector's address. `offset`: 0 synchronous, 0x80 IRQ, 0x100 FIQ, 0x180 SError. */
function enter(returnAddress: u64, offset: u64): u64 {
  levelChanged = true;
  leaveLevel();
  const el = load<u32>(0, EL);
  const base: u64 = el == 0 ? 0x400 : load<u32>(0, SPSEL) != 0 ? 0x200 : 0;
  store<u64>(0, <u64>packPstate(), SPSR_EL1);
  store<u64>(0, returnAddress, ELR_EL1);
  parkSp();
  store<u32>(0, 1, EL);
  store<u32>(0, 1, SPSEL);
  fetchSp();
  store<u32>(0, 0x3c0, DAIF);
  store<u32>(0, 0, PSTATE_SS);
  store<u32>(0, 0, PSTATE_IL);
  if ((load<u64>(0, SCTLR_EL1) & SCTLR_SPAN) == 0) store<u32>(0, 1, PAN);
  selectTables();
  if (el == 0) updateFp();
  debugUpdate();
  return (load<u64>(0, VBAR_EL1) & ~(<u64>0x7ff)) + base + offset;
}

/** Takes the exception that raise() noted; returns the vector's address. */
export function takeFault(returnAddress: u64): u64 {
  const esr = load<u64>(0, FAULT_ESR);
  store<u32>(0, 0, FAULT);
  store<u64>(0, esr, ESR_EL1);
  if (hasFar(<u32>(esr >> 26))) store<u64>(0, load<u64>(0, FAULT_FAR), FAR_EL1);
  return enter(returnAddress, 0);
}

/** Bit 0: an IRQ can be taken now, bit 1: an FIQ. */
// @ts-ignore: decorator
@inline
export function pendingInterrupts(): u32 {
  const lines = load<u32>(load<u32>(0, CPU_ID) << 2, IRQ_LINES);
  if (lines == 0) return 0;
  const daif = load<u32>(0, DAIF);
  return lines & ~(((daif >> 7) & 1) | ((daif >> 5) & 2)) & 3;
}

/** Takes the IRQ or FIQ that pendingInterrupts() reported. FIQ comes first. */
export function takeInterrupt(returnAddress: u64, pending: u32): u64 {
  return enter(returnAddress, (pending & 2) != 0 ? 0x100 : 0x80);
}

/** Writes PSTATE.{D,A,I,F}, given in bits 9..6. */
export function setDaif(v: u32): void {
  store<u32>(0, v & 0x3c0, DAIF);
  debugUpdate();
}

/**
 * ERET: restores PSTATE from SPSR_EL1 and returns the target address. A return to a state that does not exist
 * (AArch32, EL2, EL3, EL0 with SPSel) sets PSTATE.IL instead (IllegalExceptionReturn()).
 */
export function exceptionReturn(): u64 {
  const spsr = <u32>load<u64>(0, SPSR_EL1);
  const mode = spsr & 0x1f;
  const target = load<u64>(0, ELR_EL1);
  levelChanged = true;
  leaveLevel();
  store<u32>(0, exceptionReturnSS(<u64>spsr), PSTATE_SS);
  parkSp();
  setNZCV(spsr >> 28);
  store<u32>(0, spsr & 0x3c0, DAIF);
  store<u32>(0, 0, EXCLUSIVE_SIZE);
  store<u32>(0, 1, EVENT);
  store<u32>(0, (spsr >> 20) & 1, PSTATE_IL);
  if (mode == 0) {
    store<u32>(0, 0, EL);
    store<u32>(0, 0, SPSEL);
  } else if (mode == 4 || mode == 5) {
    store<u32>(0, mode & 1, SPSEL);
  } else {
    store<u32>(0, 1, PSTATE_IL);
  }
  if (load<u32>(0, PSTATE_IL) != 0) requestPoll();
  store<u32>(0, (spsr >> 22) & 1, PAN);
  fetchSp();
  selectTables();
  updateFp();
  debugUpdate();
  return target;
}
