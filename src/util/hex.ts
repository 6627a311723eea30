/** `value` in hexadecimal with 0x, at least `digits` digits long; negative or broken numbers as they print. */
export function hex(value: number | bigint, digits = 1): string {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return String(value);
  return value < 0 ? String(value) : `0x${value.toString(16).padStart(digits, '0')}`;
}
