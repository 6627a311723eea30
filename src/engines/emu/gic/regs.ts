/**
 * Register offsets, fields and encodings of the GIC in the spelling of IHI 0069 (GICv3/v4: chapter 12) and IHI 0048 (GICv2).
 */

// --- Interrupt identifiers (IHI 0069 section 2.2). ---
export const PPI_BASE = 16;
export const SPI_BASE = 32;
/** INTIDs 1020..1023 are special; 1023 says that nothing is pending. */
export const INTID_SPECIAL = 1020;
export const INTID_GROUP1 = 1022;
export const INTID_SPURIOUS = 1023;
export const LPI_BASE = 8192;
/** Interrupt identifier bits of this implementation: LPIs are INTID 8192..65535. */
export const INTID_BITS = 16;
/** Implemented bits of every priority: 5, so 32 levels in bits [7:3]. */
export const PRIORITY_MASK = 0xf8;
/** ICC_RPR_EL1 / GICC_RPR when nothing is active; also the priority of "no interrupt". */
export const PRIORITY_IDLE = 0xff;

// --- Interrupt registers at the same offsets in GICD, GICR's SGI frame and GICv2's GICD. ---
export const GICD_IGROUPR = 0x0080;
export const GICD_ISENABLER = 0x0100;
export const GICD_ICENABLER = 0x0180;
export const GICD_ISPENDR = 0x0200;
export const GICD_ICPENDR = 0x0280;
export const GICD_ISACTIVER = 0x0300;
export const GICD_ICACTIVER = 0x0380;
export const GICD_IPRIORITYR = 0x0400;
export const GICD_ITARGETSR = 0x0800;
export const GICD_ICFGR = 0x0c00;
export const GICD_IGRPMODR = 0x0d00;

// --- Distributor (IHI 0069 section 12.9). ---
export const GICD_CTLR = 0x0000;
export const GICD_TYPER = 0x0004;
export const GICD_IIDR = 0x0008;
export const GICD_TYPER2 = 0x000c;
export const GICD_STATUSR = 0x0010;
export const GICD_SETSPI_NSR = 0x0040;
export const GICD_CLRSPI_NSR = 0x0048;
export const GICD_SGIR = 0x0f00;
export const GICD_CPENDSGIR = 0x0f10;
export const GICD_SPENDSGIR = 0x0f20;
export const GICD_IROUTER = 0x6000;
export const GICD_PIDR2 = 0xffe8;

export const GICD_CTLR_EnableGrp0 = 1 << 0;
export const GICD_CTLR_EnableGrp1 = 1 << 1;
export const GICD_CTLR_ARE = 1 << 4;
export const GICD_CTLR_DS = 1 << 6;

// --- Redistributor: RD_base and SGI_base frames of 64 KiB each (sections 12.10 and 12.11). ---
export const GICR_CTLR = 0x0000;
export const GICR_IIDR = 0x0004;
export const GICR_TYPER = 0x0008;
export const GICR_STATUSR = 0x0010;
export const GICR_WAKER = 0x0014;
export const GICR_PROPBASER = 0x0070;
export const GICR_PENDBASER = 0x0078;
export const GICR_INVLPIR = 0x00a0;
export const GICR_INVALLR = 0x00b0;
export const GICR_SYNCR = 0x00c0;

export const GICR_CTLR_EnableLPIs = 1 << 0;
/** EnableLPIs can be cleared again. */
export const GICR_CTLR_CES = 1 << 1;
/** GICR_INVLPIR, GICR_INVALLR and GICR_SYNCR are there. */
export const GICR_CTLR_IR = 1 << 2;
export const GICR_WAKER_ProcessorSleep = 1 << 1;
export const GICR_WAKER_ChildrenAsleep = 1 << 2;
export const GICR_PENDBASER_PTZ = 1n << 62n;

// --- ITS control and translation frames of 64 KiB each (sections 12.18 and 12.19). ---
export const GITS_CTLR = 0x0000;
export const GITS_IIDR = 0x0004;
export const GITS_TYPER = 0x0008;
export const GITS_CBASER = 0x0080;
export const GITS_CWRITER = 0x0088;
export const GITS_CREADR = 0x0090;
export const GITS_BASER = 0x0100;
export const GITS_TRANSLATER = 0x1_0040;

export const GITS_CTLR_Enabled = 1;
export const GITS_CTLR_Quiescent = 0x8000_0000;

// --- Commands of the ITS (section 5.3). ---
export const MOVI = 0x01;
export const INT = 0x03;
export const CLEAR = 0x04;
export const SYNC = 0x05;
export const MAPD = 0x08;
export const MAPC = 0x09;
export const MAPTI = 0x0a;
export const MAPI = 0x0b;
export const INV = 0x0c;
export const INVALL = 0x0d;
export const MOVALL = 0x0e;
export const DISCARD = 0x0f;

// --- GICv2 CPU interface (IHI 0048 section 4.4). ---
export const GICC_CTLR = 0x0000;
export const GICC_PMR = 0x0004;
export const GICC_BPR = 0x0008;
export const GICC_IAR = 0x000c;
export const GICC_EOIR = 0x0010;
export const GICC_RPR = 0x0014;
export const GICC_HPPIR = 0x0018;
export const GICC_ABPR = 0x001c;
export const GICC_AIAR = 0x0020;
export const GICC_AEOIR = 0x0024;
export const GICC_AHPPIR = 0x0028;
export const GICC_APR0 = 0x00d0;
export const GICC_NSAPR0 = 0x00e0;
export const GICC_IIDR = 0x00fc;
export const GICC_DIR = 0x1000;

export const GICC_CTLR_EnableGrp0 = 1 << 0;
export const GICC_CTLR_EnableGrp1 = 1 << 1;
export const GICC_CTLR_AckCtl = 1 << 2;
export const GICC_CTLR_FIQEn = 1 << 3;
export const GICC_CTLR_CBPR = 1 << 4;
export const GICC_CTLR_EOImode = 1 << 9;

// --- GICv2m MSI frame (Arm Server Base System Architecture, appendix E). ---
export const MSI_TYPER = 0x008;
export const MSI_SETSPI_NS = 0x040;
export const MSI_IIDR = 0xfcc;

/** Packs a system register's encoding as `CpuInterface` does. */
const sysreg = (op0: number, op1: number, crn: number, crm: number, op2: number) =>
  (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;

// --- CPU interface system registers (IHI 0069 section 12.2). ---
export const ICC_PMR_EL1 = sysreg(3, 0, 4, 6, 0);
export const ICC_IAR0_EL1 = sysreg(3, 0, 12, 8, 0);
export const ICC_EOIR0_EL1 = sysreg(3, 0, 12, 8, 1);
export const ICC_HPPIR0_EL1 = sysreg(3, 0, 12, 8, 2);
export const ICC_BPR0_EL1 = sysreg(3, 0, 12, 8, 3);
export const ICC_AP0R0_EL1 = sysreg(3, 0, 12, 8, 4);
export const ICC_AP1R0_EL1 = sysreg(3, 0, 12, 9, 0);
export const ICC_DIR_EL1 = sysreg(3, 0, 12, 11, 1);
export const ICC_RPR_EL1 = sysreg(3, 0, 12, 11, 3);
export const ICC_SGI1R_EL1 = sysreg(3, 0, 12, 11, 5);
export const ICC_ASGI1R_EL1 = sysreg(3, 0, 12, 11, 6);
export const ICC_SGI0R_EL1 = sysreg(3, 0, 12, 11, 7);
export const ICC_IAR1_EL1 = sysreg(3, 0, 12, 12, 0);
export const ICC_EOIR1_EL1 = sysreg(3, 0, 12, 12, 1);
export const ICC_HPPIR1_EL1 = sysreg(3, 0, 12, 12, 2);
export const ICC_BPR1_EL1 = sysreg(3, 0, 12, 12, 3);
export const ICC_CTLR_EL1 = sysreg(3, 0, 12, 12, 4);
export const ICC_SRE_EL1 = sysreg(3, 0, 12, 12, 5);
export const ICC_IGRPEN0_EL1 = sysreg(3, 0, 12, 12, 6);
export const ICC_IGRPEN1_EL1 = sysreg(3, 0, 12, 12, 7);

export const ICC_CTLR_EL1_CBPR = 1 << 0;
export const ICC_CTLR_EL1_EOImode = 1 << 1;

/** Implementer Arm (0x43b, as every GIC reports it), product 'T': nobody's list of errata has it. */
export const IIDR = 0x5400_043b;

/** PIDR4..7, PIDR0..3 and CIDR0..3, which end every frame (IHI 0069 section 12.1.12). */
const IDENTIFICATION = [0x44, 0, 0, 0, 0x92, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1];

/** The identification register at `offset` from the frame's PIDR4; `archRev` is 2 or 3 and goes to PIDR2[7:4]. */
export function identification(offset: number, archRev: number): number {
  const value = IDENTIFICATION[offset >> 2] ?? 0;
  return offset === 0x18 ? (value & 0xf) | (archRev << 4) : value;
}
