// How exactly the host's clocks are read, and what it costs (specification of ptp, ACC-2 and ACC-3). JSON on standard output:
//
//   npx tsx test/bench/clock.ts [--samples 2000]
//
// Asked: the native bracket less than 1 us at its 99th percentile; the estimate within 20 us of the native clock at its.
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { host } from '../../src/engines/host/host.ts';
import { createHostTime } from '../../src/machine/host-time.ts';
import { estimatedTime } from '../../src/time/estimator.ts';
import type { HostTime } from '../../src/time/host-clock.ts';
import { performanceNs } from '../../src/time/monotonic.ts';
import { round } from './measure.ts';

/** ns. */
interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** What this prints; ns. */
export interface ClockReport {
  readonly date: string;
  readonly host: { readonly cpu: string; readonly cores: number; readonly node: string };
  readonly samples: number;
  /** `bracket`: from the first to the last of the three readings; `error`: what pair() says of itself; `cost`: of a pair(). */
  readonly native: { readonly bracket: Percentiles; readonly error: Percentiles; readonly cost: number };
  /**
   * `missed`: from the native clock, which has an error of its own; `error`: what pair() says of itself; `cost`: of a pair() that waits for
   * no edge; `first` and `edge`: of the first one, and of those that wait.
   */
  readonly estimated: {
    readonly missed: Percentiles;
    readonly error: Percentiles;
    readonly cost: number;
    readonly first: number;
    readonly edge: Percentiles;
  };
}

const { values } = parseArgs({ options: { samples: { type: 'string', default: '2000' } } });
const samples = Number(values.samples);
const { addon, reason } = loadAddon();
if (addon === undefined) throw new Error(reason);

const native = createHostTime();
const brackets: number[] = [];
const nativeErrors: number[] = [];
const into = new BigInt64Array(3);
for (let n = 0; n < samples; n++) {
  host().clockPair(into);
  brackets.push(Number(into[2]));
  nativeErrors.push(native.pair().errorNs);
  if (n % 20 === 0) await sleep(1);
}

let looks = 0;
const wallMs = () => {
  looks++;
  return Date.now();
};
const estimated = estimatedTime({ monotonicNs: performanceNs, wallMs });
const first = timed(() => estimated.pair());
const missed: number[] = [];
const errors: number[] = [];
const edges: number[] = [];
for (let n = 0; n < samples; n++) {
  looks = 0;
  const before = performance.now();
  const pair = estimated.pair();
  const took = (performance.now() - before) * 1e6;
  const reference = native.pair();
  missed.push(Math.abs(Number(pair.wallNs - reference.wallNs) - (pair.monotonicNs - reference.monotonicNs)));
  errors.push(pair.errorNs);
  if (looks > 1) edges.push(took);
  // Ages of an edge of 0 to some 250 ms.
  await sleep(n % 23);
}

const report: ClockReport = {
  date: new Date().toISOString(),
  host: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, node: process.version },
  samples,
  native: { bracket: percentiles(brackets), error: percentiles(nativeErrors), cost: cost(native) },
  estimated: {
    missed: percentiles(missed),
    error: percentiles(errors),
    cost: cost(estimated),
    first: round(first, 0),
    edge: percentiles(edges),
  },
};
process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);

function timed(f: () => void): number {
  const start = performance.now();
  f();
  return (performance.now() - start) * 1e6;
}

/** Of one pair(), the median of 200 rounds: edges and interruptions are in few of them. */
function cost(time: HostTime): number {
  const rounds = Array.from({ length: 200 }, () =>
    timed(() => {
      for (let n = 0; n < 500; n++) time.pair();
    }),
  );
  return round(percentiles(rounds).p50 / 500, 0);
}

function percentiles(of: readonly number[]): Percentiles {
  const sorted = of.toSorted((a, b) => a - b);
  const at = (part: number) => round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0, 0);
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
