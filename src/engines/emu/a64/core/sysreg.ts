/** MRS and MSR: which system registers exist, who may touch them and what that does (DDI 0487 section D17). */
import { SYS_OK, SYS_UNDEFINED } from './status';

export * from './status';

/** Reads system register `key` into slot `rt` of XREGS. Returns SYS_*; `rt` is untouched unless SYS_OK. */
export function readSysreg(key: u32, rt: u32): u32 {
  return SYS_UNDEFINED;
}

/** Writes system register `key`. Returns SYS_OK, or'ed with SYS_CONTEXT and SYS_POLL, or an error of SYS_*. */
export function writeSysreg(key: u32, value: u64): u32 {
  return SYS_UNDEFINED;
}

/** MSR (immediate): `op1`, `crm` (the immediate) and `op2` as encoded. Returns as writeSysreg(). */
export function msrImmediate(op1: u32, crm: u32, op2: u32): u32 {
  return SYS_UNDEFINED;
}

/** Sets the system registers and PSTATE of the current vCPU to their values after a warm reset. */
export function resetSysregs(): void {}
