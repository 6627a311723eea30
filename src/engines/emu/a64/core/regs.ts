/**
 * Names of system registers as MRS and MSR encode them (DDI 0487 section D17): op0:op1:CRn:CRm:op2, packed as
 * (op0 << 14) | (op1 << 11) | (CRn << 7) | (CRm << 3) | op2. Like layout.ts, the subset that AssemblyScript and
 * TypeScript share. Import it as a namespace: layout.ts has places of the same names.
 */

// --- Thread, PSTATE and stack pointers. ---
export const TPIDR_EL0 = 0xde82; // 3, 3, c13, c0, 2
export const TPIDRRO_EL0 = 0xde83; // 3, 3, c13, c0, 3
export const TPIDR_EL1 = 0xc684; // 3, 0, c13, c0, 4
export const CONTEXTIDR_EL1 = 0xc681; // 3, 0, c13, c0, 1
export const SP_EL0 = 0xc208; // 3, 0, c4, c1, 0
export const SPSel = 0xc210; // 3, 0, c4, c2, 0
export const CurrentEL = 0xc212; // 3, 0, c4, c2, 2
export const PAN = 0xc213; // 3, 0, c4, c2, 3
export const NZCV = 0xda10; // 3, 3, c4, c2, 0
export const DAIF = 0xda11; // 3, 3, c4, c2, 1
export const FPCR = 0xda20; // 3, 3, c4, c4, 0
export const FPSR = 0xda21; // 3, 3, c4, c4, 1
export const SPSR_EL1 = 0xc200; // 3, 0, c4, c0, 0
export const ELR_EL1 = 0xc201; // 3, 0, c4, c0, 1

// --- System control. ---
export const SCTLR_EL1 = 0xc080; // 3, 0, c1, c0, 0
export const ACTLR_EL1 = 0xc081; // 3, 0, c1, c0, 1
export const CPACR_EL1 = 0xc082; // 3, 0, c1, c0, 2
export const TTBR0_EL1 = 0xc100; // 3, 0, c2, c0, 0
export const TTBR1_EL1 = 0xc101; // 3, 0, c2, c0, 1
export const TCR_EL1 = 0xc102; // 3, 0, c2, c0, 2
export const AFSR0_EL1 = 0xc288; // 3, 0, c5, c1, 0
export const AFSR1_EL1 = 0xc289; // 3, 0, c5, c1, 1
export const ESR_EL1 = 0xc290; // 3, 0, c5, c2, 0
export const FAR_EL1 = 0xc300; // 3, 0, c6, c0, 0
export const PAR_EL1 = 0xc3a0; // 3, 0, c7, c4, 0
export const MAIR_EL1 = 0xc510; // 3, 0, c10, c2, 0
export const AMAIR_EL1 = 0xc518; // 3, 0, c10, c3, 0
export const VBAR_EL1 = 0xc600; // 3, 0, c12, c0, 0
export const ISR_EL1 = 0xc608; // 3, 0, c12, c1, 0

// --- Identification. ---
export const MIDR_EL1 = 0xc000; // 3, 0, c0, c0, 0
export const MPIDR_EL1 = 0xc005; // 3, 0, c0, c0, 5
export const REVIDR_EL1 = 0xc006; // 3, 0, c0, c0, 6
export const ID_AA64PFR0_EL1 = 0xc020; // 3, 0, c0, c4, 0
export const ID_AA64PFR1_EL1 = 0xc021; // 3, 0, c0, c4, 1
export const ID_AA64DFR0_EL1 = 0xc028; // 3, 0, c0, c5, 0
export const ID_AA64ISAR0_EL1 = 0xc030; // 3, 0, c0, c6, 0
export const ID_AA64MMFR0_EL1 = 0xc038; // 3, 0, c0, c7, 0
export const ID_AA64MMFR1_EL1 = 0xc039; // 3, 0, c0, c7, 1
export const ID_AA64MMFR2_EL1 = 0xc03a; // 3, 0, c0, c7, 2
export const CCSIDR_EL1 = 0xc800; // 3, 1, c0, c0, 0
export const CLIDR_EL1 = 0xc801; // 3, 1, c0, c0, 1
export const AIDR_EL1 = 0xc807; // 3, 1, c0, c0, 7
export const CSSELR_EL1 = 0xd000; // 3, 2, c0, c0, 0
export const CTR_EL0 = 0xd801; // 3, 3, c0, c0, 1
export const DCZID_EL0 = 0xd807; // 3, 3, c0, c0, 7

// --- Generic timer. ---
export const CNTKCTL_EL1 = 0xc708; // 3, 0, c14, c1, 0
export const CNTFRQ_EL0 = 0xdf00; // 3, 3, c14, c0, 0
export const CNTPCT_EL0 = 0xdf01; // 3, 3, c14, c0, 1
export const CNTVCT_EL0 = 0xdf02; // 3, 3, c14, c0, 2
export const CNTP_TVAL_EL0 = 0xdf10; // 3, 3, c14, c2, 0
export const CNTP_CTL_EL0 = 0xdf11; // 3, 3, c14, c2, 1
export const CNTP_CVAL_EL0 = 0xdf12; // 3, 3, c14, c2, 2
export const CNTV_TVAL_EL0 = 0xdf18; // 3, 3, c14, c3, 0
export const CNTV_CTL_EL0 = 0xdf19; // 3, 3, c14, c3, 1
export const CNTV_CVAL_EL0 = 0xdf1a; // 3, 3, c14, c3, 2

// --- GIC CPU interface (IHI 0069 section 12.2); the interrupt controller owns them, see iccRead(). ---
export const ICC_PMR_EL1 = 0xc230; // 3, 0, c4, c6, 0
export const ICC_IAR0_EL1 = 0xc640; // 3, 0, c12, c8, 0
export const ICC_EOIR0_EL1 = 0xc641; // 3, 0, c12, c8, 1
export const ICC_HPPIR0_EL1 = 0xc642; // 3, 0, c12, c8, 2
export const ICC_BPR0_EL1 = 0xc643; // 3, 0, c12, c8, 3
export const ICC_AP0R0_EL1 = 0xc644; // 3, 0, c12, c8, 4
export const ICC_AP1R0_EL1 = 0xc648; // 3, 0, c12, c9, 0
export const ICC_DIR_EL1 = 0xc659; // 3, 0, c12, c11, 1
export const ICC_RPR_EL1 = 0xc65b; // 3, 0, c12, c11, 3
export const ICC_SGI1R_EL1 = 0xc65d; // 3, 0, c12, c11, 5
export const ICC_ASGI1R_EL1 = 0xc65e; // 3, 0, c12, c11, 6
export const ICC_SGI0R_EL1 = 0xc65f; // 3, 0, c12, c11, 7
export const ICC_IAR1_EL1 = 0xc660; // 3, 0, c12, c12, 0
export const ICC_EOIR1_EL1 = 0xc661; // 3, 0, c12, c12, 1
export const ICC_HPPIR1_EL1 = 0xc662; // 3, 0, c12, c12, 2
export const ICC_BPR1_EL1 = 0xc663; // 3, 0, c12, c12, 3
export const ICC_CTLR_EL1 = 0xc664; // 3, 0, c12, c12, 4
export const ICC_SRE_EL1 = 0xc665; // 3, 0, c12, c12, 5
export const ICC_IGRPEN0_EL1 = 0xc666; // 3, 0, c12, c12, 6
export const ICC_IGRPEN1_EL1 = 0xc667; // 3, 0, c12, c12, 7

// --- Performance monitors. ---
export const PMINTENSET_EL1 = 0xc4f1; // 3, 0, c9, c14, 1
export const PMINTENCLR_EL1 = 0xc4f2; // 3, 0, c9, c14, 2
export const PMCR_EL0 = 0xdce0; // 3, 3, c9, c12, 0
export const PMCNTENSET_EL0 = 0xdce1; // 3, 3, c9, c12, 1
export const PMCNTENCLR_EL0 = 0xdce2; // 3, 3, c9, c12, 2
export const PMOVSCLR_EL0 = 0xdce3; // 3, 3, c9, c12, 3
export const PMSWINC_EL0 = 0xdce4; // 3, 3, c9, c12, 4
export const PMSELR_EL0 = 0xdce5; // 3, 3, c9, c12, 5
export const PMCEID0_EL0 = 0xdce6; // 3, 3, c9, c12, 6
export const PMCEID1_EL0 = 0xdce7; // 3, 3, c9, c12, 7
export const PMCCNTR_EL0 = 0xdce8; // 3, 3, c9, c13, 0
export const PMXEVTYPER_EL0 = 0xdce9; // 3, 3, c9, c13, 1
export const PMXEVCNTR_EL0 = 0xdcea; // 3, 3, c9, c13, 2
export const PMUSERENR_EL0 = 0xdcf0; // 3, 3, c9, c14, 0
export const PMOVSSET_EL0 = 0xdcf3; // 3, 3, c9, c14, 3
export const PMEVCNTR0_EL0 = 0xdf40; // 3, 3, c14, c8, 0
export const PMEVTYPER0_EL0 = 0xdf60; // 3, 3, c14, c12, 0
export const PMCCFILTR_EL0 = 0xdf7f; // 3, 3, c14, c15, 7

// --- Self-hosted debug. ---
export const OSDTRRX_EL1 = 0x8002; // 2, 0, c0, c0, 2
export const DBGBVR0_EL1 = 0x8004; // 2, 0, c0, c0, 4
export const DBGBCR0_EL1 = 0x8005; // 2, 0, c0, c0, 5
export const DBGWVR0_EL1 = 0x8006; // 2, 0, c0, c0, 6
export const DBGWCR0_EL1 = 0x8007; // 2, 0, c0, c0, 7
export const MDCCINT_EL1 = 0x8010; // 2, 0, c0, c2, 0
export const MDSCR_EL1 = 0x8012; // 2, 0, c0, c2, 2
export const OSDTRTX_EL1 = 0x801a; // 2, 0, c0, c3, 2
export const OSECCR_EL1 = 0x8032; // 2, 0, c0, c6, 2
export const MDRAR_EL1 = 0x8080; // 2, 0, c1, c0, 0
export const OSLAR_EL1 = 0x8084; // 2, 0, c1, c0, 4
export const OSLSR_EL1 = 0x808c; // 2, 0, c1, c1, 4
export const OSDLR_EL1 = 0x809c; // 2, 0, c1, c3, 4
export const DBGPRCR_EL1 = 0x80a4; // 2, 0, c1, c4, 4
export const DBGCLAIMSET_EL1 = 0x83c6; // 2, 0, c7, c8, 6
export const DBGCLAIMCLR_EL1 = 0x83ce; // 2, 0, c7, c9, 6
export const DBGAUTHSTATUS_EL1 = 0x83f6; // 2, 0, c7, c14, 6
export const MDCCSR_EL0 = 0x9808; // 2, 3, c0, c1, 0
export const DBGDTR_EL0 = 0x9820; // 2, 3, c0, c4, 0
export const DBGDTRRX_EL0 = 0x9828; // 2, 3, c0, c5, 0
