// The page of the VM clock: struct vmclock_abi of Linux's include/uapi/linux/vmclock-abi.h (6.13), which the specification
// UAPI.13 VMClock describes in words. Offsets in bytes; all fields are little-endian. Where the two differ (bits 7 to 9 of
// flags, the place of vm_generation_counter), Linux's header is followed: it is what drivers are built with.

/** 'VCLK'; u32. */
export const MAGIC = 0x00;
/** Bytes of the region with the structure; u32. */
export const SIZE = 0x04;
/** u16. */
export const VERSION = 0x08;
/** Which counter counter_value is of; u8. */
export const COUNTER_ID = 0x0a;
/** u8. */
export const TIME_TYPE = 0x0b;
/** Odd during an update of what follows; u32. */
export const SEQ_COUNT = 0x0c;
/** u64. */
export const DISRUPTION_MARKER = 0x10;
/** u64. */
export const FLAGS = 0x18;
/** u8. */
export const CLOCK_STATUS = 0x22;
/** u8. */
export const LEAP_SECOND_SMEARING_HINT = 0x23;
/** s16; valid with {@link FLAG_TAI_OFFSET_VALID} only. */
export const TAI_OFFSET_SEC = 0x24;
/** u8. */
export const LEAP_INDICATOR = 0x26;
/** u8. */
export const COUNTER_PERIOD_SHIFT = 0x27;
/** u64. */
export const COUNTER_VALUE = 0x28;
/** Units of 2^-(64 + counter_period_shift) s, as its two errors; u64. */
export const COUNTER_PERIOD_FRAC_SEC = 0x30;
export const COUNTER_PERIOD_ESTERROR_RATE_FRAC_SEC = 0x38;
export const COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC = 0x40;
/** u64. */
export const TIME_SEC = 0x48;
/** Units of 2^-64 s; u64. */
export const TIME_FRAC_SEC = 0x50;
export const TIME_ESTERROR_NANOSEC = 0x58;
export const TIME_MAXERROR_NANOSEC = 0x60;
/** u64; there with {@link FLAG_VM_GEN_COUNTER_PRESENT} only. */
export const VM_GENERATION_COUNTER = 0x68;

export const MAGIC_VCLK = 0x4b4c_4356;
export const VERSION_1 = 1;

// COUNTER_ID.
export const COUNTER_ARM_VCNT = 0;
export const COUNTER_X86_TSC = 1;
export const COUNTER_INVALID = 0xff;

// TIME_TYPE.
export const TIME_UTC = 0;

// FLAGS.
export const FLAG_TAI_OFFSET_VALID = 1n << 0n;
export const FLAG_PERIOD_ESTERROR_VALID = 1n << 3n;
export const FLAG_PERIOD_MAXERROR_VALID = 1n << 4n;
export const FLAG_TIME_ESTERROR_VALID = 1n << 5n;
export const FLAG_TIME_MAXERROR_VALID = 1n << 6n;
export const FLAG_TIME_MONOTONIC = 1n << 7n;
export const FLAG_VM_GEN_COUNTER_PRESENT = 1n << 8n;
export const FLAG_NOTIFICATION_PRESENT = 1n << 9n;

// CLOCK_STATUS.
export const STATUS_UNKNOWN = 0;
export const STATUS_INITIALIZING = 1;
export const STATUS_SYNCHRONIZED = 2;
export const STATUS_FREERUNNING = 3;
