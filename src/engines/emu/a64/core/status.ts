/** What an access to a system register came to. The low byte is one of the first four; a success may carry flags. */
export const SYS_OK: u32 = 0;
/** The register does not exist here, or not at this level: EC 0x00. */
export const SYS_UNDEFINED: u32 = 1;
/** EL0 may not touch it now: EC 0x18 with the ISS of MSR/MRS. */
export const SYS_TRAP: u32 = 2;
/** FPCR or FPSR while FP is disabled: EC 0x07. */
export const SYS_TRAP_FP: u32 = 3;
/** The translation context changed: call contextChanged(). */
export const SYS_CONTEXT: u32 = 0x100;
/** Interrupts or debug state may have changed: look before the next instruction. */
export const SYS_POLL: u32 = 0x200;
