/** Units of time that figures are given in, the smallest first. */
const UNITS = [
  { name: 'ns', ns: 1 },
  { name: 'us', ns: 1e3 },
  { name: 'ms', ns: 1e6 },
  { name: 's', ns: 1e9 },
  { name: 'min', ns: 60e9 },
  { name: 'h', ns: 3600e9 },
] as const;

/** A unit of time and how many ns it has. */
export type TimeUnit = (typeof UNITS)[number];

/** The largest unit of which `ns` has one; of axes that are in one unit, `ns` is the largest value of any sign. At most `max`. */
export function timeUnit(ns: number, max: TimeUnit['name'] = 's'): TimeUnit {
  const usable = UNITS.slice(0, UNITS.findIndex(u => u.name === max) + 1);
  return usable.findLast(u => Math.abs(ns) >= u.ns) ?? UNITS[0];
}

/** A time in ns, for people. */
export function formatNs(ns: number): string {
  const { name, ns: one } = timeUnit(ns);
  return `${(ns / one).toFixed(name === 'ns' ? 0 : name === 's' ? 3 : 1)} ${name}`;
}

/** The same with its sign, where it has one. */
export function formatSignedNs(ns: number): string {
  return ns > 0 ? `+${formatNs(ns)}` : formatNs(ns === 0 ? 0 : ns);
}

/** Decimals that tell values apart which are `step` from each other; 9 at most. */
export function decimals(step: number): number {
  return Math.min(9, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
}

/** About `count` round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten. `low` is less than `high`. */
export function ticks(low: number, high: number, count: number): { readonly values: number[]; readonly step: number } {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find(m => m * power >= rough * (1 - 1e-9)) ?? 10);
  const values: number[] = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) values.push(n === 0 ? 0 : n * step);
  return { values, step };
}
