import { plot } from 'asciichart';
import { bracketNs, type ClockAnswer, type ClockSummary, summarize } from './clock-window.ts';
import { decimals, formatNs, formatSignedNs, timeUnit } from './scale.ts';

/** Columns of a plot's labels, when they are not longer than usual, with its axis. */
const LABELS = 10;
/** The fewest rows of a plot that show anything. */
const PLOT_ROWS = 3;
/** Rows of a plot beside it: an empty one, its title, and one that the library may take more than it was given, by rounding. */
const AROUND = 3;

const SOURCES: Readonly<Record<ClockAnswer['source'], string>> = {
  native: 'native (read by the addon)',
  estimated: 'estimated (there is no addon)',
  virtual: 'virtual (counted instructions)',
};

/** How many samples a plot has that is as wide as a terminal. */
export function plottedSamples(columns: number): number {
  return Math.max(2, columns - LABELS);
}

/** What does not change from sample to sample: two lines. */
export function describeClock(vm: string, { engine, state, mode, source, ptp }: ClockAnswer): string[] {
  const answers = ptp.answeredBy === 'kernel' ? "the host's kernel answers" : `${ptp.answeredBy} answers`;
  return [
    `${vm}: ${engine}, ${state}; clock ${mode}, ${SOURCES[source]}`,
    `ptp_kvm: ${answers}${ptp.reason === undefined ? '' : `: ${ptp.reason}`}`,
  ];
}

/** Samples as lines of text: figures of the last one, plots of all, in `rows` rows and `columns` columns. */
export function formatClockScreen(
  vm: string,
  samples: readonly ClockAnswer[],
  { rows, columns }: { readonly rows: number; readonly columns: number },
): string {
  const lines = [...describeClock(vm, samples.at(-1)!), ...describeSamples(samples)];
  const shown = samples.slice(-plottedSamples(columns));
  const plots: Plotted[] = [
    { title: 'offset', values: shown.map(s => s.offsetNs) },
    { title: 'bracket', values: shown.map(bracketNs), from: 0 },
  ];
  const free = rows - lines.length;
  const rowsOf = (count: number) => Math.floor(free / count) - AROUND;
  const count = [2, 1].find(n => rowsOf(n) >= PLOT_ROWS) ?? 0;
  for (const p of plots.slice(0, count)) lines.push('', ...plotLines(p, rowsOf(count) - 1));
  return lines
    .slice(0, rows)
    .map(line => `${line.slice(0, columns)}\n`)
    .join('');
}

/** The figures of a screen and of a picture. */
export function describeSamples(samples: readonly ClockAnswer[]): string[] {
  const { offsetNs, offsetErrorNs, ptp } = samples.at(-1)!;
  const { spanNs, driftPpm, bracket, callsPerSecond } = summarize(samples);
  const drift = driftPpm === undefined ? '' : `, drift ${formatPpm(driftPpm)} ppm in ${(spanNs / 1e9).toFixed(1)} s`;
  const lines = [
    `offset ${formatSignedNs(offsetNs)}, exact to ${formatNs(offsetErrorNs)}${drift}`,
    `bracket ${formatNs(bracket.nowNs)}, median ${formatNs(bracket.medianNs)}, p99 ${formatNs(bracket.p99Ns)}`,
  ];
  if (ptp.calls !== undefined) {
    lines.push(`ptp calls ${ptp.calls}${callsPerSecond === undefined ? '' : `, ${callsPerSecond.toFixed(1)}/s`}`);
  }
  return lines;
}

/** Heads of the columns of {@link clockRow}. */
export const CLOCK_HEAD = row('TIME', 'OFFSET', 'DRIFT PPM', 'BRACKET', 'MEDIAN', 'P99', 'CALLS', 'CALLS/S');

/** The last sample as one line. */
export function clockRow({ timeNs, offsetNs, ptp }: ClockAnswer, s: ClockSummary): string {
  return row(
    `${(timeNs / 1e9).toFixed(1)} s`,
    formatSignedNs(offsetNs),
    s.driftPpm === undefined ? '-' : formatPpm(s.driftPpm),
    formatNs(s.bracket.nowNs),
    formatNs(s.bracket.medianNs),
    formatNs(s.bracket.p99Ns),
    ptp.calls === undefined ? '-' : String(ptp.calls),
    s.callsPerSecond === undefined ? '-' : s.callsPerSecond.toFixed(1),
  );
}

function row(...cells: readonly string[]): string {
  return cells.map(cell => cell.padStart(LABELS)).join('  ');
}

/** A drift with its sign: to 0.001 ppm, which is 3.6 us an hour. */
export function formatPpm(ppm: number): string {
  const text = ppm.toFixed(3);
  return Number(text) === 0 ? '0.000' : ppm > 0 ? `+${text}` : text;
}

/** What one plot shows. */
interface Plotted {
  readonly title: string;
  /** ns. */
  readonly values: readonly number[];
  /** Where the vertical range begins; else at the smallest value. */
  readonly from?: number;
}

function plotLines({ title, values, from }: Plotted, height: number): string[] {
  const low = from ?? Math.min(...values);
  const high = Math.max(...values);
  // A row is 1 ns at least, so that their labels differ.
  const room = Math.max(0, height - (high - low));
  const [min, max] = from === undefined ? [low - room / 2, high + room / 2] : [low, high + room];
  const unit = timeUnit(Math.max(Math.abs(min), Math.abs(max)));
  const places = decimals((max - min) / height / unit.ns);
  const chart = plot([[...values]], {
    min,
    max,
    height,
    // The label is one column, the axis the other.
    offset: 2,
    format: v => (v / unit.ns).toFixed(places).padStart(LABELS - 1),
  });
  return [`${title}, ${unit.name}`, ...chart.split('\n')];
}
