import type { PageState, PageUse, PinInfo, PinStats } from '../memory/pin-types.ts';
import { PIN_PAGE } from '../memory/pin-types.ts';
import type { Gpa, Region } from '../memory/types.ts';

/** Who holds which part of guest memory at one moment, and what became of earlier pins. Plain data. */
export interface PinReport {
  /** Clock time of the report, ns; ages are this less {@link PinInfo.sinceNs}. */
  readonly nowNs: number;
  /** By address; the first {@link MAX_REPORTED_PINS} of them. */
  readonly pins: readonly PinInfo[];
  /** How many more there are. */
  readonly omitted: number;
  readonly stats: PinStats;
  /** Bytes that may be pinned long-term; undefined: as many as there are. */
  readonly pinLimitBytes: number | undefined;
}

/** Pages of one cell of a {@link MemoryMap}; a page may count for several. */
export interface MemoryCell {
  /** Pages in a short pin. */
  readonly short: number;
  /** Pages in a long-term pin. */
  readonly long: number;
  /** Pages in a pin of either kind for writing. */
  readonly write: number;
  /** Pages whose memory the host has back, or gets back at their last unpin. */
  readonly discarded: number;
  readonly unplugged: number;
}

/** One region of guest memory, cut into cells of the same size. */
export interface MemoryMapRegion {
  readonly base: Gpa;
  /** Bytes. */
  readonly size: number;
  readonly kind: 'ram' | 'rom';
  /** Bytes of a cell, a power of two of whole pages; the last cell may have less. */
  readonly cellBytes: number;
  readonly cells: readonly MemoryCell[];
}

/** What guest memory looks like, coarsely enough to be drawn. Plain data. */
export interface MemoryMap {
  readonly regions: readonly MemoryMapRegion[];
}

/** A report is a message, and what may be pinned long-term is the guest's to decide: this bounds it. */
export const MAX_REPORTED_PINS = 10_000;
/** Cells of one region: 64 rows of 64 are about as much as a screen shows. */
export const MAX_CELLS = 4096;

/** What {@link pinReport} and {@link memoryMap} read of a table of pins. */
export interface PinSource {
  pins(): readonly PinInfo[];
  stats(): PinStats;
  page(a: Gpa): (PageUse & { readonly state: PageState }) | undefined;
}

/** The pins of a table by address, with its sums. */
export function pinReport(table: PinSource, nowNs: number, pinLimitBytes: number | undefined): PinReport {
  const pins = [...table.pins()].sort((a, b) => a.base - b.base || a.sinceNs - b.sinceNs);
  const omitted = Math.max(0, pins.length - MAX_REPORTED_PINS);
  return { nowNs, pins: pins.slice(0, MAX_REPORTED_PINS), omitted, stats: table.stats(), pinLimitBytes };
}

/** Counts the pages of each cell. Looks at every page once: about 100 ms for a GiB, in which the guest stands still. */
export function memoryMap(table: PinSource, regions: readonly Region[]): MemoryMap {
  return { regions: regions.map(r => mapRegion(table, r)) };
}

function mapRegion(table: PinSource, { base, size, kind }: Region): MemoryMapRegion {
  let cellBytes = PIN_PAGE;
  while (size > cellBytes * MAX_CELLS) cellBytes *= 2;
  const cells: MemoryCell[] = [];
  for (let at = 0; at < size; at += cellBytes) {
    cells.push(countCell(table, base + at, Math.min(cellBytes, size - at)));
  }
  return { base, size, kind, cellBytes, cells };
}

function countCell(table: PinSource, base: Gpa, length: number): MemoryCell {
  const cell = { short: 0, long: 0, write: 0, discarded: 0, unplugged: 0 };
  for (let page = base; page < base + length; page += PIN_PAGE) {
    const use = table.page(page);
    if (use === undefined) continue;
    const { short, long, write, state } = use;
    if (short > 0) cell.short++;
    if (long > 0) cell.long++;
    if (write > 0) cell.write++;
    if (state === 'unplugged' || state === 'unplugging') cell.unplugged++;
    else if (state !== 'present') cell.discarded++;
  }
  return cell;
}
