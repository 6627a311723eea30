import { formatSize, type MemoryCell, type MemoryMap, type MemoryMapRegion } from '../vmm/index.ts';
import { escapeXml } from './picture.ts';

/** A map of guest memory with what is written around it. */
export interface PinsPicture {
  /** Of the VM. */
  readonly name: string;
  readonly map: MemoryMap;
  /** Lines below the legend: sums, or who holds most. */
  readonly notes: readonly string[];
}

/** What most of a cell's fate is; the later in this list, the more it matters. */
const STATES = ['free', 'unplugged', 'discarded', 'short', 'long'] as const;
type CellState = (typeof STATES)[number];

/** Told apart by those who see no red or no green, too. */
const COLOURS: Readonly<Record<CellState, string>> = {
  free: '#e6eaee',
  unplugged: '#8c949c',
  discarded: '#b8a1d9',
  short: '#2f7fd1',
  long: '#d97706',
};
const LEGEND: Readonly<Record<CellState, string>> = {
  free: 'free: nobody holds it',
  unplugged: 'unplugged',
  discarded: 'discarded: reads as zeros',
  short: 'short pin: one request',
  long: 'long-term pin',
};
const WRITE = '#1b1f24';

const COLUMNS = 64;
const CELL = 10;
const LEFT = 110;
const MARGIN = 16;
const LINE = 18;
/** An address is written at every so many rows. */
const LABELLED_ROWS = 8;

/**
 * A picture of guest memory as an SVG document: rows of cells by address, coloured by who holds them, the stronger the more pages of
 * a cell are held. A dark mark is a pin for writing. Each cell says what it is when pointed at.
 */
export function pinsSvg({ name, map, notes }: PinsPicture): string {
  const parts: string[] = [];
  let y = MARGIN + 2 * LINE;
  for (const region of map.regions) {
    parts.push(drawRegion(region, y));
    y += LINE + rowsOf(region) * CELL + LINE;
  }
  parts.push(...drawLegend(y));
  y += (STATES.length + 2) * LINE;
  for (const note of notes) {
    parts.push(text(MARGIN, y, note));
    y += LINE;
  }
  const width = LEFT + COLUMNS * CELL + MARGIN;
  const title = `Pinned memory of ${name}`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" ` +
      'font-family="sans-serif" font-size="12" fill="#1b1f24">',
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${width}" height="${y}" fill="#ffffff"/>`,
    `<text x="${MARGIN}" y="${MARGIN + LINE}" font-size="16" font-weight="bold">${escapeXml(title)}</text>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function rowsOf(region: MemoryMapRegion): number {
  return Math.ceil(region.cells.length / COLUMNS);
}

function drawRegion(region: MemoryMapRegion, top: number): string {
  const { base, size, kind, cellBytes, cells } = region;
  const y = top + LINE;
  const lines = [
    text(
      MARGIN,
      top + 10,
      `${kind.toUpperCase()}, ${formatSize(size)} at ${hex(base)}; a cell is ${formatSize(cellBytes)}`,
    ),
  ];
  for (let row = 0; row < rowsOf(region); row++) {
    const first = row * COLUMNS;
    const inRow = Math.min(COLUMNS, cells.length - first);
    if (row % LABELLED_ROWS === 0) {
      lines.push(text(MARGIN, y + row * CELL + CELL - 1, hex(base + first * cellBytes)));
    }
    // One rectangle for all that is free: a page of small squares would be most of the file.
    lines.push(square(LEFT, y + row * CELL, COLOURS.free, inRow * CELL));
  }
  for (const [n, cell] of cells.entries()) {
    const pages = Math.min(cellBytes, size - n * cellBytes) / 4096;
    lines.push(
      ...drawCell(cell, pages, base + n * cellBytes, LEFT + (n % COLUMNS) * CELL, y + Math.floor(n / COLUMNS) * CELL),
    );
  }
  return lines.join('\n');
}

function drawCell(cell: MemoryCell, pages: number, base: number, x: number, y: number): string[] {
  const state = stateOf(cell);
  if (state === 'free') return [];
  const share = Math.min(1, cell[state] / pages);
  // A single page of thousands is to be seen.
  const opacity = (0.4 + 0.6 * Math.sqrt(share)).toFixed(2);
  const counts = (['short', 'long', 'write', 'discarded', 'unplugged'] as const).filter(k => cell[k] > 0);
  const said = `${hex(base)}, of ${pages} page${pages === 1 ? '' : 's'}: ${counts.map(k => `${cell[k]} ${k}`).join(', ')}`;
  const mark =
    cell.write > 0 ? `<circle cx="${x + CELL / 2 - 0.5}" cy="${y + CELL / 2 - 0.5}" r="2" fill="${WRITE}"/>` : '';
  return [`<g><title>${said}</title>${square(x, y, COLOURS[state], CELL, opacity)}${mark}</g>`];
}

function stateOf(cell: MemoryCell): CellState {
  return STATES.findLast(s => s !== 'free' && cell[s] > 0) ?? 'free';
}

function drawLegend(top: number): string[] {
  const lines = STATES.flatMap((s, n) => [
    square(MARGIN, top + n * LINE, COLOURS[s]),
    text(MARGIN + 2 * CELL, top + n * LINE + 9, LEGEND[s]),
  ]);
  const y = top + STATES.length * LINE;
  lines.push(`<circle cx="${MARGIN + CELL / 2}" cy="${y + CELL / 2}" r="2" fill="${WRITE}"/>`);
  lines.push(
    text(MARGIN + 2 * CELL, y + 9, 'a pin for writing; a colour is the stronger the more of its cell is held'),
  );
  return lines;
}

function square(x: number, y: number, fill: string, width = CELL, opacity?: string): string {
  const shade = opacity === undefined ? '' : ` fill-opacity="${opacity}"`;
  return `<rect x="${x}" y="${y}" width="${width - 1}" height="${CELL - 1}" fill="${fill}"${shade}/>`;
}

function text(x: number, y: number, s: string): string {
  return `<text x="${x}" y="${y}">${escapeXml(s)}</text>`;
}

function hex(n: number): string {
  return `0x${n.toString(16)}`;
}
