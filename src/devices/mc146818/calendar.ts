import * as R from './regs.ts';

/** The registers of time, in the order in which the functions here have their bytes. */
export const TIME_REGISTERS = [
  R.SECONDS,
  R.MINUTES,
  R.HOURS,
  R.DAY_OF_WEEK,
  R.DATE_OF_MONTH,
  R.MONTH,
  R.YEAR,
  R.CENTURY,
] as const;

/** One number as a register shows it: binary or BCD by Register B. */
export function encode(value: number, registerB: number): number {
  return registerB & R.B_DM ? value : (Math.floor(value / 10) << 4) | (value % 10);
}

/** The number in a register; a digit above 9 counts as what it is. */
export function decode(byte: number, registerB: number): number {
  return registerB & R.B_DM ? byte : (byte >> 4) * 10 + (byte & 0xf);
}

/** Hours, 0 to 23, as a register shows them. In the 12-hour format of Register B, 0 is 12 AM and 12 is 12 PM. */
export function encodeHours(hours: number, registerB: number): number {
  if (registerB & R.B_24_HOURS) return encode(hours, registerB);
  return encode(hours % 12 || 12, registerB) | (hours >= 12 ? R.PM : 0);
}

/** The hours in a register. */
export function decodeHours(byte: number, registerB: number): number {
  if (registerB & R.B_24_HOURS) return decode(byte, registerB);
  return (decode(byte & ~R.PM, registerB) % 12) + (byte & R.PM ? 12 : 0);
}

/** The bytes of {@link TIME_REGISTERS} at `seconds` since 1970, which may be negative. */
export function toRegisters(seconds: number, registerB: number): Uint8Array {
  const t = new Date(seconds * 1000);
  // Of years, four digits are kept.
  const year = ((t.getUTCFullYear() % 10_000) + 10_000) % 10_000;
  return Uint8Array.of(
    encode(t.getUTCSeconds(), registerB),
    encode(t.getUTCMinutes(), registerB),
    encodeHours(t.getUTCHours(), registerB),
    encode(t.getUTCDay() + 1, registerB),
    encode(t.getUTCDate(), registerB),
    encode(t.getUTCMonth() + 1, registerB),
    encode(year % 100, registerB),
    encode(Math.floor(year / 100), registerB),
  );
}

/**
 * Seconds since 1970 of the bytes of {@link TIME_REGISTERS}. The day of the week is not asked. What is out of range
 * carries over: February 30 is March 1 or 2.
 */
export function fromRegisters(bytes: Uint8Array, registerB: number): number {
  const number = (at: number) => decode(bytes[at]!, registerB);
  const t = new Date(0);
  t.setUTCFullYear((number(7) * 100 + number(6)) % 10_000, number(5) - 1, number(4));
  t.setUTCHours(decodeHours(bytes[2]!, registerB), number(1), number(0));
  return t.getTime() / 1000;
}

/** Whether alarm register `alarm` is that of `register`'s value; from C0 on it is of any. */
function matches(alarm: number, register: number): boolean {
  return (alarm & R.DONT_CARE) === R.DONT_CARE || alarm === register;
}

/**
 * When the alarm rings next after `seconds`, in seconds since 1970. Infinity when what its registers say never comes.
 * @param alarm the registers' bytes: seconds, minutes, hours.
 */
export function nextAlarm(seconds: number, alarm: readonly [number, number, number], registerB: number): number {
  const end = seconds + 86_400;
  let t = seconds + 1;
  // At most 24 steps to the hour, 59 to its minute, 59 to the second, and the same again behind midnight.
  while (t <= end) {
    const [second, minute, hour] = toRegisters(t, registerB);
    if (!matches(alarm[2], hour!)) t = (Math.floor(t / 3600) + 1) * 3600;
    else if (!matches(alarm[1], minute!)) t = (Math.floor(t / 60) + 1) * 60;
    else if (!matches(alarm[0], second!)) t++;
    else return t;
  }
  return Number.POSITIVE_INFINITY;
}
