/**
 * Identification registers: they advertise what the core does, no more (DDI 0487 section D17.2).
 *
 * The implementation is ARMv8.0-A at EL0 and EL1, AArch64 only, with LSE atomics and PAN from ARMv8.1, as seen by a
 * guest of a hypervisor at EL2: ID_AA64PFR0_EL1 shows no EL2 and no EL3, and HVC reaches the machine.
 */
import { CPU_ID, CSSELR_EL1, EL, GIC_SYSREGS, SCTLR_EL1 } from './layout';
import * as K from './regs';

export const BREAKPOINTS: u32 = 6;
/** The last of the breakpoints can match CONTEXTIDR_EL1. */
export const CONTEXT_BREAKPOINTS: u32 = 2;
export const WATCHPOINTS: u32 = 4;

/**
 * Implementer 0x00 is Arm's space for software use, so no list of errata in a kernel can name this part; architecture
 * 0xf says "see the ID registers"; the part number spells "tv".
 */
export const MIDR: u64 = 0x000f_7460;

/** Bit 31 is RES1; IDC: stores need no DC CVAU; not DIC: decoded pages need IC IVAU; PIPT; 64-byte lines throughout. */
export const CTR: u64 = (1 << 31) | (1 << 28) | (4 << 24) | (4 << 20) | (4 << 16) | (3 << 14) | 4;

/** Separate L1 caches; LoUIS, LoC and LoUU are 0: nothing ever needs cleaning, DMA sees what the CPUs see. */
export const CLIDR: u64 = 3;

/** Affinity is the CPU number in Aff0; bit 31 is RES1. */
export function mpidr(): u64 {
  return (<u64>1 << 31) | <u64>load<u32>(0, CPU_ID);
}

/** CCSIDR_EL1 for what CSSELR_EL1 selects: both L1 caches are 32 KiB, 4 ways, 64-byte lines; there is no L2. */
export function ccsidr(): u64 {
  return load<u64>(0, CSSELR_EL1) < 2 ? (127 << 13) | (3 << 3) | 2 : 0;
}

/** DCZID_EL0: blocks of 64 bytes; DZP while SCTLR_EL1.DZE denies DC ZVA to EL0. */
export function dczid(): u64 {
  const denied = load<u32>(0, EL) == 0 && (load<u64>(0, SCTLR_EL1) & (1 << 14)) == 0;
  return 4 | (u64(denied) << 4);
}

/** The space op0 = 3, op1 = 0, CRn = 0, CRm = 1..7; unallocated and AArch32 ones read as zero (D17.1.1). */
export function idRegister(key: u32): u64 {
  switch (key) {
    case K.ID_AA64PFR0_EL1:
      // CSV3, CSV2: the interpreter does not speculate, so page tables and branch predictors need no isolation.
      return (<u64>1 << 60) | (<u64>1 << 56) | (<u64>load<u32>(0, GIC_SYSREGS) << 24) | (1 << 4) | 1;
    case K.ID_AA64DFR0_EL1:
      // CTX_CMPs, WRPs, BRPs, PMUVer = PMUv3, DebugVer = ARMv8.
      return (<u64>(CONTEXT_BREAKPOINTS - 1) << 28) | (<u64>(WATCHPOINTS - 1) << 20) | (<u64>(BREAKPOINTS - 1) << 12) |
        (1 << 8) | 6;
    case K.ID_AA64ISAR0_EL1:
      // Atomic, CRC32, SHA2 = SHA256, SHA1, AES with PMULL.
      return (2 << 20) | (1 << 16) | (1 << 12) | (1 << 8) | (2 << 4);
    case K.ID_AA64MMFR0_EL1:
      // TGran16 = 1; TGran64 and TGran4 = 0 mean supported; ASIDBits = 16; PARange = 48 bits. Little-endian only.
      return (1 << 20) | (2 << 4) | 5;
    case K.ID_AA64MMFR1_EL1:
      return 1 << 20; // PAN
    default:
      return 0;
  }
}
