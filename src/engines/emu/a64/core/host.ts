/**
 * What the core asks of its TypeScript host, as imports of the module "env". 64-bit operands and results travel through
 * MAILBOX, because an i64 would cross the border as a BigInt.
 */

/** The system counter now, in ticks of CNTFRQ: an integer below 2^53, never less than an earlier answer. */
// @ts-ignore: decorator
@external("env", "counter")
export declare function counter(): f64;

/** Reads GIC CPU interface register `key` (see regs.ts) into MAILBOX. 0: UNDEFINED. */
// @ts-ignore: decorator
@external("env", "iccRead")
export declare function iccRead(cpu: u32, key: u32): i32;

/** Writes MAILBOX to GIC CPU interface register `key`. 0: UNDEFINED. */
// @ts-ignore: decorator
@external("env", "iccWrite")
export declare function iccWrite(cpu: u32, key: u32): i32;

/** Levels of the timers' outputs: bit 0 virtual (PPI 27), bit 1 physical (PPI 30). */
// @ts-ignore: decorator
@external("env", "setTimerLines")
export declare function setTimerLines(cpu: u32, bits: u32): void;

/** Level of the performance monitors' overflow interrupt (PPI 23). */
// @ts-ignore: decorator
@external("env", "setPmuLine")
export declare function setPmuLine(cpu: u32, level: u32): void;

/** Reads `size` bytes (1, 2, 4, 8) of a physical address outside RAM into MAILBOX. 0: nothing answers there. */
// @ts-ignore: decorator
@external("env", "mmioRead")
export declare function mmioRead(cpu: u32, paHi: u32, paLo: u32, size: u32): i32;

/** Writes the low `size` bytes of MAILBOX. 0: nothing answers there. */
// @ts-ignore: decorator
@external("env", "mmioWrite")
export declare function mmioWrite(cpu: u32, paHi: u32, paLo: u32, size: u32): i32;

/** HVC #imm: arguments and results are in XREGS. */
// @ts-ignore: decorator
@external("env", "hypercall")
export declare function hypercall(cpu: u32, imm: u32): void;

/**
 * A vCPU is about to write page `page` from RAM on, whose bit in PROTECTED was set. It still holds what it held.
 * The host must not run or switch a vCPU meanwhile.
 */
// @ts-ignore: decorator
@external("env", "firstWrite")
export declare function firstWrite(page: u32): void;

/** A rare event worth a line in the log; `kind` is one of TRACE_*, a and b depend on it. */
// @ts-ignore: decorator
@external("env", "trace")
export declare function trace(cpu: u32, kind: u32, a: f64, b: f64): void;

/** An access to a system register that does not exist: a = key, b = 1 for a write. */
export const TRACE_SYSREG: u32 = 0;
