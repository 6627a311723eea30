/** The slow half of the interpreter: one operation that hot() could not do. */
import { execAtomic } from './atomics';
import { branchTaken, decodeAt } from './decode';
import { execDp } from './dp';
import { raiseUndefined } from './exception';
import { pcOf } from './exec-hot';
import { FLAGS_ADD, FLAGS_SUB, nzcvNow, setFlags, setNZCV } from './flags';
import { execFp } from './fp-exec';
import {
  f32Add, f32Div, f32Mul, f32MulAdd, f32Sqrt, f32Sub, f64Add, f64Div, f64Mul, f64MulAdd, f64Sqrt, f64Sub,
} from './fp-fast';
import {
  CPU_ID, DAIF, EL, FAULT, FP_ENABLED, FP_FAST, IRQ_LINES, SCTLR_EL1, SPSEL, SP_EL0, TLB_DATA,
  VREGS, XREGS,
} from './layout';
import { hostAddress, quadAllowed, readHit, slowLoad, slowStore, tlbEntry, writeHit } from './mem';
import { ACCESS_READ, ACCESS_WRITE } from './mmu';
import {
  execFpMemory, execMemory, slowLoadPairQ, slowRead, slowStorePairQ, slowZero, stackAligned, storePair,
} from './memory-ops';
import { isOrdinary, isSafe, f32MulAddExact, f32MulAddIsFast, f64MulAddExact, f64MulAddIsFast } from './fp-fast';
import { first } from './pairs';
import { execSimd } from './simd-exec';
import { execSimdMemory } from './simd-memory';
import { fpCompare } from './softfloat-convert';
import {
  AGAIN, CONTINUE, CONTINUE_FUSED, JUMP_TO, TAKE_FAULT, TOOK, execSystem, raiseFpAccess, zeroAllowed,
} from './system';

/** Where JUMP_TO and LEAVE_AT go. */
export let target: u64 = 0;
/** A taken branch within the page: the end of the instruction, and the operation that comes next. */
export let takenFrom: u32 = 0;
export let takenTo: u32 = 0;

/** Does the operation at `ip` and returns what the run loop does next: one of the actions of system.ts. */
export function cold(ip: u32): u32 {
  const tlb = load<u32>(0, TLB_DATA);
  let why: u32 = TAKE_FAULT;
  switch (first(load<u16>(ip))) {
    // @cases
    default:
      unreachable();
  }
  return why;
}
