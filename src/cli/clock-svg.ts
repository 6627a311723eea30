import { describeClock, describeSamples, formatPpm } from './clock-format.ts';
import { bracketNs, type ClockAnswer, fitOffsets, summarize, thin } from './clock-window.ts';
import { escapeXml } from './picture.ts';
import { decimals, formatNs, ticks, timeUnit } from './scale.ts';

/** Stretches of time that a picture tells apart. */
export const PICTURED_PARTS = 800;

const WIDTH = 900;
const LEFT = 96;
const RIGHT = 24;
const MARGIN = 16;
const LINE = 18;
const PLOT_WIDTH = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT = 200;
/** From a plot's bottom to the next one's top: labels and title. */
const GAP = 64;

/** Colours by what they are for: on white, and on black for viewers who prefer that. */
const STYLE = [
  'text{fill:#1b1f24}.paper{fill:#ffffff}.grid{stroke:#d5dae0}.frame{stroke:#6b7480;fill:none}',
  '.line{stroke:#1f6fc0;fill:none;stroke-width:1.5}.dot{fill:#1f6fc0}.band{fill:#1f6fc0;fill-opacity:0.18}',
  '.fit{stroke:#b45309;fill:none;stroke-dasharray:6 4}.p99{stroke:#b45309;fill:none;stroke-dasharray:2 3}',
  '@media (prefers-color-scheme: dark){',
  'text{fill:#e6eaee}.paper{fill:#14171b}.grid{stroke:#343b44}.frame{stroke:#8c949c}',
  '.line{stroke:#6fb3f2}.dot{fill:#6fb3f2}.band{fill:#6fb3f2}.fit,.p99{stroke:#f0a45a}}',
].join('\n');

/** What belongs to one vertical axis. */
interface Plot {
  readonly title: string;
  /** What the lines are. */
  readonly legend: string;
  readonly low: number;
  readonly high: number;
  /** Draws into it: `y` gives the place of a value in ns. */
  draw(x: (sample: ClockAnswer) => number, y: (ns: number) => number): string[];
}

/**
 * Samples as an SVG document: above the offset with the interval that its pair leaves open and the straight line of its drift, below
 * how wide that interval is, with its median and 99th percentile. `samples` has one at least.
 */
export function clockSvg(vm: string, samples: readonly ClockAnswer[]): string {
  const shown = thin(samples, PICTURED_PARTS);
  const title = `Clock of ${vm}`;
  const notes = [...describeClock(vm, samples.at(-1)!), ...describeSamples(samples)];
  const top = MARGIN + 2 * LINE + notes.length * LINE + 2 * LINE;
  const height = top + 2 * PLOT_HEIGHT + GAP + 3 * LINE;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" ` +
      'font-family="sans-serif" font-size="12">',
    `<title>${escapeXml(title)}</title>`,
    `<style>${STYLE}</style>`,
    `<rect class="paper" width="${WIDTH}" height="${height}"/>`,
    `<text x="${MARGIN}" y="${MARGIN + LINE}" font-size="16" font-weight="bold">${escapeXml(title)}</text>`,
    ...notes.map((note, n) => text(MARGIN, MARGIN + (n + 2) * LINE + 4, note)),
    ...drawPlot(offsets(samples, shown), shown, top),
    ...drawPlot(brackets(samples, shown), shown, top + PLOT_HEIGHT + GAP),
    '</svg>',
    '',
  ].join('\n');
}

function offsets(samples: readonly ClockAnswer[], shown: readonly ClockAnswer[]): Plot {
  const low = Math.min(...shown.map(s => s.offsetNs - s.errorNs));
  const high = Math.max(...shown.map(s => s.offsetNs + s.errorNs));
  const fit = fitOffsets(samples);
  return {
    title: "Offset of the wall clock against the machine's time",
    legend: 'shaded: what the readings leave open; dashed: drift',
    low,
    high,
    draw: (x, y) => {
      const upper = shown.map(s => point(x(s), y(s.offsetNs + s.errorNs)));
      const lower = shown.map(s => point(x(s), y(s.offsetNs - s.errorNs))).reverse();
      const parts = [`<polygon class="band" points="${[...upper, ...lower].join(' ')}"/>`];
      parts.push(...line(shown.map(s => [x(s), y(s.offsetNs)])));
      if (fit === undefined) return parts;
      const [first, last] = [shown[0]!, shown.at(-1)!];
      const end = fit.start + fit.slope * (last.nowNs - first.nowNs);
      const says = `drift ${formatPpm(fit.slope * 1e6)} ppm`;
      parts.push(
        `<path class="fit" d="M${point(x(first), y(fit.start))}L${point(x(last), y(end))}">${tip(says)}</path>`,
      );
      return parts;
    },
  };
}

function brackets(samples: readonly ClockAnswer[], shown: readonly ClockAnswer[]): Plot {
  const { medianNs, p99Ns } = summarize(samples).bracket;
  return {
    title: 'Bracket: the interval in which both clocks were read',
    legend: 'dashed: median; dotted: 99th percentile',
    low: 0,
    high: Math.max(...shown.map(bracketNs)),
    draw: (x, y) => [
      ...line(shown.map(s => [x(s), y(bracketNs(s))])),
      across('fit', y(medianNs), `median ${formatNs(medianNs)}`),
      across('p99', y(p99Ns), `p99 ${formatNs(p99Ns)}`),
    ],
  };
}

/** A plot with its axes; its upper left corner is at (LEFT, `top`). */
function drawPlot(plot: Plot, shown: readonly ClockAnswer[], top: number): string[] {
  const bottom = top + PLOT_HEIGHT;
  // 1 ns at least, and some room above and below.
  const room = Math.max(1, plot.high - plot.low) * 0.06;
  const low = plot.low === 0 ? 0 : plot.low - room;
  const high = plot.high + room;
  const y = (ns: number) => bottom - ((ns - low) / (high - low)) * PLOT_HEIGHT;
  const unit = timeUnit(Math.max(Math.abs(low), Math.abs(high)));
  const rows = ticks(low / unit.ns, high / unit.ns, 5);

  const first = shown[0]!.nowNs;
  // A single sample stands at the left of a second.
  const span = shown.at(-1)!.nowNs - first || 1e9;
  const x = (s: ClockAnswer) => LEFT + ((s.nowNs - first) / span) * PLOT_WIDTH;
  const timeScale = timeUnit(span / 2, 'h');
  const columns = ticks(0, span / timeScale.ns, 8);

  const parts = [text(LEFT, top - 10, `${plot.title}, ${unit.name} (${plot.legend})`)];
  for (const v of rows.values) {
    const at = y(v * unit.ns);
    parts.push(`<line class="grid" x1="${LEFT}" y1="${fixed(at)}" x2="${LEFT + PLOT_WIDTH}" y2="${fixed(at)}"/>`);
    parts.push(text(LEFT - 8, at + 4, v.toFixed(decimals(rows.step)), 'end'));
  }
  for (const v of columns.values) {
    const at = LEFT + ((v * timeScale.ns) / span) * PLOT_WIDTH;
    parts.push(`<line class="grid" x1="${fixed(at)}" y1="${top}" x2="${fixed(at)}" y2="${bottom}"/>`);
    parts.push(text(at, bottom + LINE, v.toFixed(decimals(columns.step)), 'middle'));
  }
  parts.push(text(LEFT + PLOT_WIDTH, bottom + 2 * LINE - 2, `time of the host, ${timeScale.name}`, 'end'));
  parts.push(`<rect class="frame" x="${LEFT}" y="${top}" width="${PLOT_WIDTH}" height="${PLOT_HEIGHT}"/>`);
  return [...parts, ...plot.draw(x, y)];
}

/** A line through points; one point alone is a dot. */
function line(points: readonly (readonly [number, number])[]): string[] {
  const [first] = points;
  if (points.length === 1) return [`<circle class="dot" cx="${fixed(first![0])}" cy="${fixed(first![1])}" r="3"/>`];
  return [`<polyline class="line" points="${points.map(([x, y]) => point(x, y)).join(' ')}"/>`];
}

/** A line from side to side that says what it is. */
function across(kind: 'fit' | 'p99', y: number, says: string): string {
  return `<path class="${kind}" d="M${point(LEFT, y)}L${point(LEFT + PLOT_WIDTH, y)}">${tip(says)}</path>`;
}

const tip = (s: string): string => `<title>${escapeXml(s)}</title>`;
const fixed = (n: number): string => String(Number(n.toFixed(1)));
const point = (x: number, y: number): string => `${fixed(x)},${fixed(y)}`;

function text(x: number, y: number, s: string, anchor: 'start' | 'middle' | 'end' = 'start'): string {
  const place = anchor === 'start' ? '' : ` text-anchor="${anchor}"`;
  return `<text x="${fixed(x)}" y="${fixed(y)}"${place}>${escapeXml(s)}</text>`;
}
