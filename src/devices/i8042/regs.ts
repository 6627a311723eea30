// The keyboard controller of a PC AT (IBM PS/2 Hardware Interface Technical Reference, Keyboard and Auxiliary Device
// Controller): commands of port 0x64 and bits.

export const READ_COMMAND_BYTE = 0x20;
export const WRITE_COMMAND_BYTE = 0x60;
export const TEST_AUXILIARY = 0xa9;
export const SELF_TEST = 0xaa;
export const TEST_KEYBOARD = 0xab;
export const DISABLE_KEYBOARD = 0xad;
export const ENABLE_KEYBOARD = 0xae;
export const READ_OUTPUT_PORT = 0xd0;
export const WRITE_OUTPUT_PORT = 0xd1;
export const WRITE_KEYBOARD_BUFFER = 0xd2;
export const WRITE_AUXILIARY_BUFFER = 0xd3;
export const WRITE_AUXILIARY = 0xd4;
export const DISABLE_A20 = 0xdd;
export const ENABLE_A20 = 0xdf;
/** From here on: pulses low those of output port bits 3 to 0 that are clear in the command. */
export const PULSE_OUTPUT_PORT = 0xf0;

export const STATUS_OUTPUT_FULL = 1 << 0;
/** Set once the self test has passed. */
export const STATUS_SYSTEM = 1 << 2;
/** The last write was to the command port. */
export const STATUS_COMMAND = 1 << 3;
/** The keyboard is not locked. */
export const STATUS_UNLOCKED = 1 << 4;

export const COMMAND_KEYBOARD_INTERRUPT = 1 << 0;
export const COMMAND_DISABLE_KEYBOARD = 1 << 4;

/** Low resets the CPU. */
export const OUTPUT_RESET = 1 << 0;
export const OUTPUT_A20 = 1 << 1;
/** The interrupts of the output buffer: filled by the keyboard, by the auxiliary device. */
export const OUTPUT_BUFFER_FULL = 3 << 4;

export const SELF_TEST_PASSED = 0x55;
export const TEST_PASSED = 0x00;
/** The clock line stays low: nothing is connected. */
export const TEST_CLOCK_LOW = 0x01;
