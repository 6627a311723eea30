/** op0:op1:CRn:CRm:op2 as (op0 << 14) | (op1 << 11) | (CRn << 7) | (CRm << 3) | op2, as MRS and MSR have it (DDI 0487, C5.2). */
const encode = (op0: number, op1: number, crn: number, crm: number, op2: number): number =>
  (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;

/**
 * The system registers that both engines show under their names, with their encodings. ELR_EL1, SPSR_EL1 and the stack pointers are
 * not among them: KVM counts them as general ones.
 */
export const ARM64_SYSTEM_REGISTERS = {
  sctlr_el1: encode(3, 0, 1, 0, 0),
  cpacr_el1: encode(3, 0, 1, 0, 2),
  ttbr0_el1: encode(3, 0, 2, 0, 0),
  ttbr1_el1: encode(3, 0, 2, 0, 1),
  tcr_el1: encode(3, 0, 2, 0, 2),
  esr_el1: encode(3, 0, 5, 2, 0),
  far_el1: encode(3, 0, 6, 0, 0),
  par_el1: encode(3, 0, 7, 4, 0),
  mair_el1: encode(3, 0, 10, 2, 0),
  vbar_el1: encode(3, 0, 12, 0, 0),
  contextidr_el1: encode(3, 0, 13, 0, 1),
  tpidr_el1: encode(3, 0, 13, 0, 4),
  tpidr_el0: encode(3, 3, 13, 0, 2),
  tpidrro_el0: encode(3, 3, 13, 0, 3),
  csselr_el1: encode(3, 2, 0, 0, 0),
  cntkctl_el1: encode(3, 0, 14, 1, 0),
  cntv_ctl_el0: encode(3, 3, 14, 3, 1),
  cntv_cval_el0: encode(3, 3, 14, 3, 2),
} as const;

/** A name of {@link ARM64_SYSTEM_REGISTERS}. */
export type Arm64SystemRegister = keyof typeof ARM64_SYSTEM_REGISTERS;

/** Every name that both engines know, in the order that they are listed in. */
export const ARM64_REGISTERS: readonly string[] = [
  ...Array.from({ length: 31 }, (_, n) => `x${n}`),
  'sp_el0',
  'sp_el1',
  'pc',
  'pstate',
  'elr_el1',
  'spsr_el1',
  ...Object.keys(ARM64_SYSTEM_REGISTERS),
];
