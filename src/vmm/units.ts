import { VmError } from '../util/errors.ts';

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const TIME_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/**
 * Bytes of a size such as `'512M'`, `'2G'`, `'1.5GiB'` (powers of 1024; a bare number is bytes).
 * @throws VmError ERR_BAD_SIZE when it is no size or no whole number of bytes.
 */
export function parseSize(text: string | number, name = 'size'): number {
  const m = /^\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?\s*$/i.exec(String(text));
  const bytes = m === null ? Number.NaN : Number(m[1]) * SIZE_UNITS[(m[2] ?? '').toUpperCase()]!;
  if (!Number.isSafeInteger(bytes)) {
    throw new VmError('ERR_BAD_SIZE', `${name}: '${text}' is not a size`, {
      hint: 'write a number with a unit, such as 512M or 2G',
      details: { option: name, value: text },
    });
  }
  return bytes;
}

/** A size for people: the largest unit that leaves no more than one decimal. */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    if (bytes >= factor) return `${Number((bytes / factor).toFixed(1))} ${unit}`;
  }
  return `${bytes} bytes`;
}

/**
 * Milliseconds of a duration such as `'30s'`, `'500ms'`, `'2m'`; a number is milliseconds already.
 * @throws VmError ERR_USAGE when it is no duration.
 */
export function parseDuration(duration: string | number, name = 'timeout'): number {
  const m = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*$/.exec(String(duration));
  const ms = m === null ? Number.NaN : Number(m[1]) * TIME_UNITS[m[2] ?? 'ms']!;
  if (duration === Number.POSITIVE_INFINITY) return duration;
  if (Number.isNaN(ms)) {
    throw new VmError('ERR_USAGE', `${name}: '${duration}' is not a duration`, {
      hint: 'write milliseconds as a number, or a string such as 500ms, 30s or 2m',
      details: { option: name, value: duration },
    });
  }
  return ms;
}
