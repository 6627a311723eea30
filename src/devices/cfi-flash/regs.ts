/**
 * Commands and status bits of NOR flash with the Intel/Sharp extended command set (primary command set 0x0001 of JEDEC
 * JESD68.01, "Common Flash Interface"). A command is the low byte of what is written.
 */

export const READ_ARRAY = 0xff;
export const READ_QUERY = 0x98;
export const READ_IDENTIFIER = 0x90;
export const READ_STATUS = 0x70;
export const CLEAR_STATUS = 0x50;
export const WORD_PROGRAM = 0x40;
/** The older code of {@link WORD_PROGRAM}. */
export const WORD_PROGRAM_ALTERNATE = 0x10;
export const BUFFERED_PROGRAM = 0xe8;
export const BLOCK_ERASE = 0x20;
export const LOCK_SETUP = 0x60;
/** Second cycle behind {@link LOCK_SETUP}. */
export const LOCK_BLOCK = 0x01;
/** Second cycle behind {@link BLOCK_ERASE} and {@link BUFFERED_PROGRAM}; behind {@link LOCK_SETUP} it unlocks. */
export const CONFIRM = 0xd0;

// Status register.
export const SR_READY = 0x80;
export const SR_ERASE_ERROR = 0x20;
export const SR_PROGRAM_ERROR = 0x10;
/** The programming voltage is missing: how a chip that must not change says so. */
export const SR_VPP_ERROR = 0x08;
export const SR_BLOCK_LOCKED = 0x02;
/** Both errors at once. */
export const SR_COMMAND_SEQUENCE_ERROR = SR_ERASE_ERROR | SR_PROGRAM_ERROR;

// Identifier codes by word of a block, and what they say: Intel, and the code that QEMU's virt board has.
export const ID_MANUFACTURER = 0;
export const ID_DEVICE = 1;
export const ID_BLOCK_LOCK = 2;
export const MANUFACTURER_INTEL = 0x89;
export const DEVICE_CODE = 0x18;
