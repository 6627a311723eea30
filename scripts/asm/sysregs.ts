// System registers of EL1 and EL0 by name: Arm ARM D19.2, `name op0 op1 CRn CRm op2`.
const TABLE = `
MIDR_EL1 3 0 0 0 0        MPIDR_EL1 3 0 0 0 5       REVIDR_EL1 3 0 0 0 6
ID_PFR0_EL1 3 0 0 1 0     ID_PFR1_EL1 3 0 0 1 1     ID_DFR0_EL1 3 0 0 1 2     ID_AFR0_EL1 3 0 0 1 3
ID_MMFR0_EL1 3 0 0 1 4    ID_MMFR1_EL1 3 0 0 1 5    ID_MMFR2_EL1 3 0 0 1 6    ID_MMFR3_EL1 3 0 0 1 7
ID_ISAR0_EL1 3 0 0 2 0    ID_ISAR1_EL1 3 0 0 2 1    ID_ISAR2_EL1 3 0 0 2 2    ID_ISAR3_EL1 3 0 0 2 3
ID_ISAR4_EL1 3 0 0 2 4    ID_ISAR5_EL1 3 0 0 2 5
MVFR0_EL1 3 0 0 3 0       MVFR1_EL1 3 0 0 3 1       MVFR2_EL1 3 0 0 3 2
ID_AA64PFR0_EL1 3 0 0 4 0 ID_AA64PFR1_EL1 3 0 0 4 1
ID_AA64DFR0_EL1 3 0 0 5 0 ID_AA64DFR1_EL1 3 0 0 5 1 ID_AA64AFR0_EL1 3 0 0 5 4 ID_AA64AFR1_EL1 3 0 0 5 5
ID_AA64ISAR0_EL1 3 0 0 6 0 ID_AA64ISAR1_EL1 3 0 0 6 1
ID_AA64MMFR0_EL1 3 0 0 7 0 ID_AA64MMFR1_EL1 3 0 0 7 1 ID_AA64MMFR2_EL1 3 0 0 7 2
SCTLR_EL1 3 0 1 0 0       ACTLR_EL1 3 0 1 0 1       CPACR_EL1 3 0 1 0 2
TTBR0_EL1 3 0 2 0 0       TTBR1_EL1 3 0 2 0 1       TCR_EL1 3 0 2 0 2
SPSR_EL1 3 0 4 0 0        ELR_EL1 3 0 4 0 1         SP_EL0 3 0 4 1 0
SPSel 3 0 4 2 0           CurrentEL 3 0 4 2 2       PAN 3 0 4 2 3             UAO 3 0 4 2 4
ICC_PMR_EL1 3 0 4 6 0
AFSR0_EL1 3 0 5 1 0       AFSR1_EL1 3 0 5 1 1       ESR_EL1 3 0 5 2 0
FAR_EL1 3 0 6 0 0         PAR_EL1 3 0 7 4 0
PMINTENSET_EL1 3 0 9 14 1 PMINTENCLR_EL1 3 0 9 14 2
MAIR_EL1 3 0 10 2 0       AMAIR_EL1 3 0 10 3 0
VBAR_EL1 3 0 12 0 0       RVBAR_EL1 3 0 12 0 1      RMR_EL1 3 0 12 0 2        ISR_EL1 3 0 12 1 0
ICC_IAR0_EL1 3 0 12 8 0   ICC_EOIR0_EL1 3 0 12 8 1  ICC_HPPIR0_EL1 3 0 12 8 2 ICC_BPR0_EL1 3 0 12 8 3
ICC_AP0R0_EL1 3 0 12 8 4  ICC_AP0R1_EL1 3 0 12 8 5  ICC_AP0R2_EL1 3 0 12 8 6  ICC_AP0R3_EL1 3 0 12 8 7
ICC_AP1R0_EL1 3 0 12 9 0  ICC_AP1R1_EL1 3 0 12 9 1  ICC_AP1R2_EL1 3 0 12 9 2  ICC_AP1R3_EL1 3 0 12 9 3
ICC_DIR_EL1 3 0 12 11 1   ICC_RPR_EL1 3 0 12 11 3   ICC_SGI1R_EL1 3 0 12 11 5 ICC_ASGI1R_EL1 3 0 12 11 6
ICC_SGI0R_EL1 3 0 12 11 7
ICC_IAR1_EL1 3 0 12 12 0  ICC_EOIR1_EL1 3 0 12 12 1 ICC_HPPIR1_EL1 3 0 12 12 2 ICC_BPR1_EL1 3 0 12 12 3
ICC_CTLR_EL1 3 0 12 12 4  ICC_SRE_EL1 3 0 12 12 5   ICC_IGRPEN0_EL1 3 0 12 12 6 ICC_IGRPEN1_EL1 3 0 12 12 7
CONTEXTIDR_EL1 3 0 13 0 1 TPIDR_EL1 3 0 13 0 4      CNTKCTL_EL1 3 0 14 1 0
CCSIDR_EL1 3 1 0 0 0      CLIDR_EL1 3 1 0 0 1       AIDR_EL1 3 1 0 0 7        CSSELR_EL1 3 2 0 0 0
CTR_EL0 3 3 0 0 1         DCZID_EL0 3 3 0 0 7
NZCV 3 3 4 2 0            DAIF 3 3 4 2 1            FPCR 3 3 4 4 0            FPSR 3 3 4 4 1
DSPSR_EL0 3 3 4 5 0       DLR_EL0 3 3 4 5 1
PMCR_EL0 3 3 9 12 0       PMCNTENSET_EL0 3 3 9 12 1 PMCNTENCLR_EL0 3 3 9 12 2 PMOVSCLR_EL0 3 3 9 12 3
PMSWINC_EL0 3 3 9 12 4    PMSELR_EL0 3 3 9 12 5     PMCEID0_EL0 3 3 9 12 6    PMCEID1_EL0 3 3 9 12 7
PMCCNTR_EL0 3 3 9 13 0    PMXEVTYPER_EL0 3 3 9 13 1 PMXEVCNTR_EL0 3 3 9 13 2
PMUSERENR_EL0 3 3 9 14 0  PMOVSSET_EL0 3 3 9 14 3   PMCCFILTR_EL0 3 3 14 15 7
TPIDR_EL0 3 3 13 0 2      TPIDRRO_EL0 3 3 13 0 3
CNTFRQ_EL0 3 3 14 0 0     CNTPCT_EL0 3 3 14 0 1     CNTVCT_EL0 3 3 14 0 2
CNTP_TVAL_EL0 3 3 14 2 0  CNTP_CTL_EL0 3 3 14 2 1   CNTP_CVAL_EL0 3 3 14 2 2
CNTV_TVAL_EL0 3 3 14 3 0  CNTV_CTL_EL0 3 3 14 3 1   CNTV_CVAL_EL0 3 3 14 3 2
SP_EL1 3 4 4 1 0
OSDTRRX_EL1 2 0 0 0 2     MDCCINT_EL1 2 0 0 2 0     MDSCR_EL1 2 0 0 2 2       OSDTRTX_EL1 2 0 0 3 2
OSECCR_EL1 2 0 0 6 2      MDRAR_EL1 2 0 1 0 0       OSLAR_EL1 2 0 1 0 4       OSLSR_EL1 2 0 1 1 4
OSDLR_EL1 2 0 1 3 4       DBGPRCR_EL1 2 0 1 4 4     DBGCLAIMSET_EL1 2 0 7 8 6 DBGCLAIMCLR_EL1 2 0 7 9 6
DBGAUTHSTATUS_EL1 2 0 7 14 6 MDCCSR_EL0 2 3 0 1 0   DBGDTR_EL0 2 3 0 4 0
DBGDTRRX_EL0 2 3 0 5 0    DBGDTRTX_EL0 2 3 0 5 0
`;

const REGISTERS = new Map<string, readonly number[]>();
for (const m of TABLE.matchAll(/(\w+) (\d+) (\d+) (\d+) (\d+) (\d+)/g)) {
  REGISTERS.set(m[1]!.toLowerCase(), m.slice(2).map(Number));
}
for (let n = 0; n < 16; n++) {
  for (const [op2, name] of ['dbgbvr', 'dbgbcr', 'dbgwvr', 'dbgwcr'].entries()) {
    REGISTERS.set(`${name}${n}_el1`, [2, 0, 0, n, 4 + op2]);
  }
}
for (let n = 0; n < 31; n++) {
  REGISTERS.set(`pmevcntr${n}_el0`, [3, 3, 14, 8 + (n >> 3), n & 7]);
  REGISTERS.set(`pmevtyper${n}_el0`, [3, 3, 14, 12 + (n >> 3), n & 7]);
}

/**
 * op0, op1, CRn, CRm, op2 of a system register by its name (any case) or as S3_0_c1_c0_0; undefined for an unknown name.
 */
export function systemRegister(name: string): readonly number[] | undefined {
  const generic = /^s([0-3])_([0-7])_c(\d{1,2})_c(\d{1,2})_([0-7])$/.exec(name.toLowerCase());
  if (generic === null) return REGISTERS.get(name.toLowerCase());
  const fields = generic.slice(1).map(Number);
  return fields[2]! < 16 && fields[3]! < 16 ? fields : undefined;
}

/** Names of all registers that have one, in lower case. */
export function systemRegisterNames(): string[] {
  return [...REGISTERS.keys()];
}

/** op1, CRm and op2 of MSR (immediate), by name. */
export const PSTATE_FIELDS: Readonly<Record<string, readonly [op1: number, op2: number]>> = {
  uao: [0, 3],
  pan: [0, 4],
  spsel: [0, 5],
  daifset: [3, 6],
  daifclr: [3, 7],
};

/** op1, CRn, CRm, op2 of the operations of DC, IC, AT and TLBI; those without a register have 31 there. */
export const SYSTEM_OPERATIONS: Readonly<Record<string, readonly [number, number, number, number, boolean]>> = {
  'ic ialluis': [0, 7, 1, 0, false],
  'ic iallu': [0, 7, 5, 0, false],
  'ic ivau': [3, 7, 5, 1, true],
  'dc zva': [3, 7, 4, 1, true],
  'dc ivac': [0, 7, 6, 1, true],
  'dc isw': [0, 7, 6, 2, true],
  'dc csw': [0, 7, 10, 2, true],
  'dc cisw': [0, 7, 14, 2, true],
  'dc cvac': [3, 7, 10, 1, true],
  'dc cvau': [3, 7, 11, 1, true],
  'dc civac': [3, 7, 14, 1, true],
  'at s1e1r': [0, 7, 8, 0, true],
  'at s1e1w': [0, 7, 8, 1, true],
  'at s1e0r': [0, 7, 8, 2, true],
  'at s1e0w': [0, 7, 8, 3, true],
  'tlbi vmalle1is': [0, 8, 3, 0, false],
  'tlbi vae1is': [0, 8, 3, 1, true],
  'tlbi aside1is': [0, 8, 3, 2, true],
  'tlbi vaae1is': [0, 8, 3, 3, true],
  'tlbi vale1is': [0, 8, 3, 5, true],
  'tlbi vaale1is': [0, 8, 3, 7, true],
  'tlbi vmalle1': [0, 8, 7, 0, false],
  'tlbi vae1': [0, 8, 7, 1, true],
  'tlbi aside1': [0, 8, 7, 2, true],
  'tlbi vaae1': [0, 8, 7, 3, true],
  'tlbi vale1': [0, 8, 7, 5, true],
  'tlbi vaale1': [0, 8, 7, 7, true],
};
