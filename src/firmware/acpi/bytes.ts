import { VmError } from '../../util/errors.ts';

/** Bytes, 8 bits each. Like the wider ones, throws VmError ERR_INTERNAL for a value that its width cannot hold. */
export const u8 = (...values: number[]): Uint8Array => little(1, values);

/** 16-bit little-endian words. */
export const u16 = (...values: number[]): Uint8Array => little(2, values);

/** 32-bit little-endian words. */
export const u32 = (...values: number[]): Uint8Array => little(4, values);

/** 64-bit little-endian words; numbers must be exact. */
export const u64 = (...values: (number | bigint)[]): Uint8Array => little(8, values);

/**
 * The characters of `text`, one byte each, with `pad` behind them up to `length` bytes.
 *
 * @throws VmError ERR_INTERNAL for a longer text and for what is not printable ASCII.
 */
export function ascii(text: string, length = text.length, pad = '\0'): Uint8Array {
  check(/^[ -~]*$/.test(text), `'${text}' is not printable ASCII`);
  check(text.length <= length, `'${text}' is longer than ${length} bytes`);
  return Uint8Array.from(text.padEnd(length, pad), c => c.charCodeAt(0));
}

/** All the parts, one behind the other, in a fresh array. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const p of parts) {
    whole.set(p, at);
    at += p.length;
  }
  return whole;
}

/** Throws VmError ERR_INTERNAL unless `ok`: tables are built by programs. */
export function check(ok: boolean, message: string): asserts ok {
  if (!ok) throw new VmError('ERR_INTERNAL', `ACPI: ${message}`);
}

function little(width: 1 | 2 | 4 | 8, values: readonly (number | bigint)[]): Uint8Array {
  const bytes = new Uint8Array(width * values.length);
  values.forEach((v, i) => {
    check(typeof v === 'bigint' || Number.isSafeInteger(v), `${v} is no integer`);
    let rest = BigInt(v);
    check(rest >= 0n && rest < 1n << BigInt(8 * width), `${v} does not fit in ${width} bytes`);
    for (let at = width * i; rest !== 0n; at++, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  });
  return bytes;
}
