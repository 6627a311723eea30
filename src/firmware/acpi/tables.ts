import type { Gpa } from '../../memory/types.ts';
import type { Aml } from './aml.ts';
import { ascii, concat, u8, u16, u32, u64 } from './bytes.ts';
import type { AcpiRange } from './resources.ts';

/** A whole table with its header and checksum. */
export type AcpiTable = Uint8Array;

const OEM_ID = ascii('TSVISR');
const OEM_TABLE_ID = ascii('TSVISOR ');
const CREATOR_ID = ascii('TSVI');
const OEM_REVISION = 1;
const CREATOR_REVISION = 1;

/** Offsets of checksums: of System Description Tables, and the two of the RSDP. */
const SDT_CHECKSUM = 9;
const RSDP_CHECKSUM = 8;
const RSDP_EXTENDED_CHECKSUM = 32;

/** A System Description Table: the header (ACPI 6.5, section 5.2.6), then `body`; all bytes add up to 0 modulo 256. */
export function sdt(signature: string, revision: number, ...body: readonly Uint8Array[]): AcpiTable {
  const content = concat(...body);
  const table = concat(
    ascii(signature, 4),
    u32(36 + content.length),
    u8(revision, 0),
    OEM_ID,
    OEM_TABLE_ID,
    u32(OEM_REVISION),
    CREATOR_ID,
    u32(CREATOR_REVISION),
    content,
  );
  table[SDT_CHECKSUM] = checksum(table);
  return table;
}

/** Root System Description Pointer of revision 2 (section 5.2.5.3), 36 bytes. It names no RSDT, only the XSDT. */
export function rsdp(xsdt: Gpa): Uint8Array {
  const revision = 2;
  const table = concat(ascii('RSD PTR '), u8(0), OEM_ID, u8(revision), u32(0, 36), u64(xsdt), u8(0, 0, 0, 0));
  table[RSDP_CHECKSUM] = checksum(table.subarray(0, 20));
  table[RSDP_EXTENDED_CHECKSUM] = checksum(table);
  return table;
}

/** Extended System Description Table (section 5.2.8): the addresses of the others. */
export function xsdt(tables: readonly Gpa[]): AcpiTable {
  return sdt('XSDT', 1, u64(...tables));
}

/** Differentiated System Description Table (section 5.2.11.1). From revision 2 on AML's integers have 64 bits. */
export function dsdt(...aml: readonly Aml[]): AcpiTable {
  return sdt('DSDT', 2, ...aml);
}

/** Firmware ACPI Control Structure (section 5.2.10), 64 bytes without a checksum. It has to be aligned to 64 bytes. */
export function facs(): Uint8Array {
  const version = 2;
  return concat(ascii('FACS'), u32(64), u32(0, 0, 0, 0), u64(0), u8(version), new Uint8Array(31));
}

/** Fixed feature flags of the FADT (section 5.2.9, table 5.10), as far as they are used. */
export const FADT_FLAG = {
  /** The WBINVD instruction works. */
  wbinvd: 1 << 0,
  /** C1 is there on all processors. */
  procC1: 1 << 2,
  /** The power button is no fixed feature: a device of the namespace, or there is none. */
  pwrButton: 1 << 4,
  /** Likewise the sleep button. */
  slpButton: 1 << 5,
  /** The RTC's wake status is not in the fixed registers. */
  fixRtc: 1 << 6,
  /** The PM timer has 32 bits, not 24. */
  tmrValExt: 1 << 8,
  /** RESET_REG is there. */
  resetRegSup: 1 << 10,
} as const;

/** IA-PC boot architecture flags of the FADT (section 5.2.9.3, table 5.11), as far as they are used. */
export const IAPC_BOOT_ARCH = {
  /** There is an 8042 or its equivalent. */
  i8042: 1 << 1,
  /** There is no VGA that a guest could touch blindly. */
  vgaNotPresent: 1 << 2,
  /** There is no CMOS RTC at ports 0x70 and 0x71. */
  cmosRtcNotPresent: 1 << 5,
} as const;

/** What differs from one FADT to another; everything else is absent and 0. All blocks are I/O ports. */
export interface Fadt {
  /** Global system interrupt of the SCI. */
  readonly sciInt: number;
  /** Size 4, 2 and 4 bytes. */
  readonly pm1aEvtBlk: AcpiRange;
  readonly pm1aCntBlk: AcpiRange;
  readonly pmTmrBlk: AcpiRange;
  /** I/O port, and the byte that resets the machine when it is written there. */
  readonly resetReg: number;
  readonly resetValue: number;
  /** Index of the century's byte in the RTC's RAM, 0 for none. */
  readonly century: number;
  /** Of {@link FADT_FLAG}. */
  readonly flags: number;
  /** Of {@link IAPC_BOOT_ARCH}. */
  readonly iapcBootArch: number;
}

/**
 * Fixed ACPI Description Table of revision 6 (section 5.2.9), 276 bytes. SMI_CMD is 0: the machine is always in ACPI
 * mode. Latencies that are beyond the limits say that there is neither C2 nor C3.
 */
export function fadt(f: Fadt, facsAddress: Gpa, dsdtAddress: Gpa): AcpiTable {
  const none = gas(0, 0, 0);
  return sdt(
    'FACP',
    6,
    u32(facsAddress, dsdtAddress),
    u8(0, 0), // reserved, Preferred_PM_Profile: unspecified
    u16(f.sciInt),
    u32(0), // SMI_CMD
    u8(0, 0, 0, 0), // ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT
    u32(f.pm1aEvtBlk.base, 0, f.pm1aCntBlk.base, 0), // and PM1b
    u32(0, f.pmTmrBlk.base, 0, 0), // PM2_CNT_BLK, PM_TMR_BLK, GPE0_BLK, GPE1_BLK
    u8(f.pm1aEvtBlk.size, f.pm1aCntBlk.size, 0, f.pmTmrBlk.size), // lengths, PM2_CNT_LEN in between
    u8(0, 0, 0, 0), // GPE0_BLK_LEN, GPE1_BLK_LEN, GPE1_BASE, CST_CNT
    u16(NO_C2, NO_C3),
    u16(0, 0), // FLUSH_SIZE, FLUSH_STRIDE
    u8(0, 0), // DUTY_OFFSET, DUTY_WIDTH
    u8(0, 0, f.century), // DAY_ALRM, MON_ALRM
    u16(f.iapcBootArch),
    u8(0), // reserved
    u32(f.flags),
    gas(f.resetReg, 8, ACCESS.byte),
    u8(f.resetValue),
    u16(0), // ARM_BOOT_ARCH
    u8(5), // minor version: ACPI 6.5
    u64(facsAddress, dsdtAddress), // X_FIRMWARE_CTRL, X_DSDT
    // PM1_EVT is two registers of half its length, so it is accessed by words.
    gas(f.pm1aEvtBlk.base, 8 * f.pm1aEvtBlk.size, ACCESS.word),
    none,
    gas(f.pm1aCntBlk.base, 8 * f.pm1aCntBlk.size, ACCESS.word),
    none,
    none, // X_PM2_CNT_BLK
    gas(f.pmTmrBlk.base, 8 * f.pmTmrBlk.size, ACCESS.dword),
    none, // X_GPE0_BLK
    none, // X_GPE1_BLK
    none, // SLEEP_CONTROL_REG, for machines without PM1 only, like the next one
    none, // SLEEP_STATUS_REG
    ascii('TSVISOR', 8), // hypervisor vendor identity
  );
}

/** P_LVL2_LAT beyond 100 and P_LVL3_LAT beyond 1000 microseconds mean that there is no such state (section 5.2.9). */
const NO_C2 = 0xffff;
const NO_C3 = 0xffff;

const ACCESS = { byte: 1, word: 2, dword: 3 } as const;

/** Generic Address Structure (section 5.2.3.2) of an I/O port, or all zeros for a register that is not there. */
function gas(port: number, bits: number, accessSize: number): Uint8Array {
  const systemIo = 1;
  return concat(u8(bits === 0 ? 0 : systemIo, bits, 0, accessSize), u64(port));
}

/** Multiple APIC Description Table (section 5.2.12) with `entries` of the functions below. */
export function madt(localApic: Gpa, pcatCompat: boolean, entries: readonly Uint8Array[]): AcpiTable {
  return sdt('APIC', 5, u32(localApic, pcatCompat ? 1 : 0), ...entries);
}

/** Polarity and trigger of an interrupt in the MADT: MPS INTI flags (table 5.28). */
export const MPS_INTI = { conforms: 0, activeHighEdge: 0b0101, activeHighLevel: 0b1101 } as const;

const ENABLED = 1;

/**
 * The entry of an enabled processor whose ACPI0007 device has `uid`: Processor Local APIC (section 5.2.12.2), or Processor
 * Local x2APIC (5.2.12.12) from id 255 on.
 */
export function processorApic(uid: number, apicId: number): Uint8Array {
  return apicId < 255
    ? concat(u8(0, 8, uid, apicId), u32(ENABLED))
    : concat(u8(9, 16, 0, 0), u32(apicId, ENABLED, uid));
}

/** I/O APIC (section 5.2.12.3): its pin 0 is global system interrupt `gsiBase`. */
export function ioApic(id: number, address: Gpa, gsiBase: number): Uint8Array {
  return concat(u8(1, 12, id, 0), u32(address, gsiBase));
}

/** Interrupt Source Override (section 5.2.12.5): where ISA interrupt `source` comes out, and how. */
export function interruptSourceOverride(source: number, gsi: number, flags: number): Uint8Array {
  const isa = 0;
  return concat(u8(2, 10, isa, source), u32(gsi), u16(flags));
}

/** Local APIC NMI (section 5.2.12.7): LINT1 of every processor that has a local APIC entry is the NMI. */
export function localApicNmi(flags: number): Uint8Array {
  const allProcessors = 0xff;
  return concat(u8(4, 6, allProcessors), u16(flags), u8(1));
}

/** Local x2APIC NMI (section 5.2.12.13): likewise for x2APIC entries. */
export function localX2ApicNmi(flags: number): Uint8Array {
  const allProcessors = 0xffff_ffff;
  return concat(u8(10, 12), u16(flags), u32(allProcessors), u8(1, 0, 0, 0));
}

/** MCFG (PCI Firmware Specification 3.3, section 4.1.2) of one ECAM: segment 0, buses 0 to `lastBus`. */
export function mcfg(ecam: Gpa, lastBus: number): AcpiTable {
  const segment = 0;
  return sdt('MCFG', 1, u64(0, ecam), u16(segment), u8(0, lastBus), u32(0));
}

/** The byte that makes `bytes` add up to 0 modulo 256 when it replaces one that is 0. */
function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, b) => sum + b, 0) & 0xff;
}
