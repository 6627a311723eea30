import type { VmClock } from '../vmm/index.ts';

/** What a VM answers to the control request `clock`: JSON has no 64-bit integers. */
export interface ClockAnswer extends Omit<VmClock, 'name' | 'wallNs'> {
  /** The VM's. */
  readonly name: string | null;
  /** Decimal. */
  readonly wallNs: string;
}

/** What several samples in a row say together. */
export interface ClockSummary {
  /** From the first to the last, ns of the host's time. */
  readonly spanNs: number;
  /** How fast the offset grows, millionths of the time that passes, by least squares; with one sample undefined. */
  readonly driftPpm: number | undefined;
  /** How wide the interval is in which a pair's wall clock was read, ns: twice its error bound. */
  readonly bracket: { readonly nowNs: number; readonly medianNs: number; readonly p99Ns: number };
  /** Calls of PTP that tsvisor has answered each second; undefined where it answers none, or with one sample. */
  readonly callsPerSecond: number | undefined;
}

/** Sums up samples, of which there is one at least. */
export function summarize(samples: readonly ClockAnswer[]): ClockSummary {
  const first = samples[0]!;
  const last = samples.at(-1)!;
  const spanNs = last.nowNs - first.nowNs;
  const brackets = samples.map(bracketNs).sort((a, b) => a - b);
  const fit = fitOffsets(samples);
  const counted = first.ptp.calls !== undefined && last.ptp.calls !== undefined && spanNs > 0;
  return {
    spanNs,
    driftPpm: fit && fit.slope * 1e6,
    bracket: { nowNs: bracketNs(last), medianNs: percentile(brackets, 0.5), p99Ns: percentile(brackets, 0.99) },
    callsPerSecond: counted ? ((last.ptp.calls! - first.ptp.calls!) * 1e9) / spanNs : undefined,
  };
}

/** Width of the interval in which a sample's clocks were read, ns. */
export function bracketNs(sample: ClockAnswer): number {
  return 2 * sample.errorNs;
}

/** The straight line through offsets that misses them least: ns at the first sample, and ns for each ns from there on. */
export function fitOffsets(
  samples: readonly ClockAnswer[],
): { readonly start: number; readonly slope: number } | undefined {
  const first = samples[0];
  if (first === undefined) return undefined;
  // Sums of what is left of the first sample lose nothing of an offset that is large and stands.
  const points = samples.map(s => ({ x: s.nowNs - first.nowNs, y: s.offsetNs - first.offsetNs }));
  const mean = (of: (p: { x: number; y: number }) => number) =>
    points.reduce((sum, p) => sum + of(p), 0) / points.length;
  const x = mean(p => p.x);
  const y = mean(p => p.y);
  const spread = mean(p => (p.x - x) ** 2);
  if (spread === 0) return undefined;
  const slope = mean(p => (p.x - x) * (p.y - y)) / spread;
  return { start: first.offsetNs + y - slope * x, slope };
}

/** The value that a share `p` of the values does not exceed, by nearest rank. @param sorted the values, ascending, one at least. */
export function percentile(sorted: readonly number[], p: number): number {
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)]!;
}

/**
 * Fewer samples that look alike: of each of `parts` stretches those with the smallest and the largest offset and with the largest
 * error bound, in their order; and the first and the last of all.
 */
export function thin(samples: readonly ClockAnswer[], parts: number): readonly ClockAnswer[] {
  if (samples.length <= 3 * parts) return samples;
  const kept = new Set<ClockAnswer>([samples[0]!, samples.at(-1)!]);
  for (let part = 0; part < parts; part++) {
    const from = Math.floor((part * samples.length) / parts);
    const stretch = samples.slice(from, Math.floor(((part + 1) * samples.length) / parts));
    const most = (of: (s: ClockAnswer) => number) => stretch.reduce((best, s) => (of(s) > of(best) ? s : best));
    for (const s of [most(s => s.offsetNs), most(s => -s.offsetNs), most(s => s.errorNs)]) kept.add(s);
  }
  return samples.filter(s => kept.has(s));
}
