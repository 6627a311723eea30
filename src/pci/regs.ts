// Configuration registers, as offsets and bits. PCI Local Bus 3.0 chapter 6, PCI Express Base 4.0 chapter 7; the names are
// theirs in the spelling of Linux's pci_regs.h.

// --- Header, common part. ---
export const VENDOR_ID = 0x00;
export const DEVICE_ID = 0x02;
export const COMMAND = 0x04;
export const STATUS = 0x06;
export const REVISION_ID = 0x08;
export const CLASS_CODE = 0x09;
export const CACHE_LINE_SIZE = 0x0c;
export const HEADER_TYPE = 0x0e;
export const BASE_ADDRESS_0 = 0x10;
export const CAPABILITIES_POINTER = 0x34;
export const INTERRUPT_LINE = 0x3c;
export const INTERRUPT_PIN = 0x3d;

// --- Type 0. ---
export const SUBSYSTEM_VENDOR_ID = 0x2c;
export const SUBSYSTEM_ID = 0x2e;
export const ROM_ADDRESS = 0x30;

// --- Type 1 (PCI-to-PCI Bridge 1.2 section 3.2). ---
export const PRIMARY_BUS = 0x18;
export const SECONDARY_BUS = 0x19;
export const SUBORDINATE_BUS = 0x1a;
export const IO_BASE = 0x1c;
export const IO_LIMIT = 0x1d;
export const SECONDARY_STATUS = 0x1e;
export const MEMORY_BASE = 0x20;
export const MEMORY_LIMIT = 0x22;
export const PREF_MEMORY_BASE = 0x24;
export const PREF_MEMORY_LIMIT = 0x26;
export const PREF_BASE_UPPER32 = 0x28;
export const PREF_LIMIT_UPPER32 = 0x2c;
export const IO_BASE_UPPER16 = 0x30;
export const IO_LIMIT_UPPER16 = 0x32;
export const BRIDGE_ROM_ADDRESS = 0x38;
export const BRIDGE_CONTROL = 0x3e;

export const COMMAND_IO = 1 << 0;
export const COMMAND_MEMORY = 1 << 1;
export const COMMAND_MASTER = 1 << 2;
export const COMMAND_PARITY = 1 << 6;
export const COMMAND_SERR = 1 << 8;
export const COMMAND_INTX_DISABLE = 1 << 10;

export const STATUS_INTERRUPT = 1 << 3;
export const STATUS_CAP_LIST = 1 << 4;
export const STATUS_PARITY = 1 << 8;
export const STATUS_SIG_TARGET_ABORT = 1 << 11;
export const STATUS_REC_TARGET_ABORT = 1 << 12;
export const STATUS_REC_MASTER_ABORT = 1 << 13;
export const STATUS_SIG_SYSTEM_ERROR = 1 << 14;
export const STATUS_DETECTED_PARITY = 1 << 15;
/** The bits that a write of 1 clears. */
export const STATUS_ERRORS = 0xf900;

export const HEADER_TYPE_MULTIFUNCTION = 0x80;

export const BAR_IO = 1;
export const BAR_MEM_TYPE_64 = 4;
export const BAR_MEM_PREFETCH = 8;
export const ROM_ENABLE = 1;

export const BRIDGE_CONTROL_BUS_RESET = 1 << 6;

// --- Capability ids. ---
export const CAP_ID_PM = 0x01;
export const CAP_ID_MSI = 0x05;
export const CAP_ID_VENDOR = 0x09;
export const CAP_ID_EXP = 0x10;
export const CAP_ID_MSIX = 0x11;
export const EXT_CAP_ID_AER = 0x0001;
export const EXT_CAP_ID_DSN = 0x0003;
export const EXT_CAP_ID_ACS = 0x000d;

/** First extended capability (PCI Express Base 4.0 section 7.6.3). */
export const EXTENDED_BASE = 0x100;
