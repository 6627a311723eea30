import { askVm, formatSize, type MemoryMap, type PinInfo, type PinReport } from '../vmm/index.ts';
import { writePicture } from './picture.ts';
import { pinsSvg } from './pins-svg.ts';

/** Options of the verb. */
export interface PinsCommandOptions {
  readonly json?: boolean;
  /** File of the picture. */
  readonly svg?: string;
}

/** What a VM answers to the control request `pins`. */
interface PinsAnswer extends PinReport {
  /** The VM's. */
  readonly name: string | null;
  readonly map?: MemoryMap;
}

/** `tsvisor pins [NAME]`: who holds which part of a running VM's memory, and a picture of it. */
export async function pins(name: string | undefined, { json = false, svg }: PinsCommandOptions): Promise<void> {
  const answer = (await askVm(name, { verb: 'pins', map: svg !== undefined })) as PinsAnswer;
  const { map, ...report } = answer;
  if (svg !== undefined && map !== undefined) {
    await writePicture(
      'pins',
      svg,
      pinsSvg({ name: name ?? answer.name ?? 'a VM', map, notes: picturedNotes(report) }),
    );
  }
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : formatPins(report));
}

/** The pins as a table with the sums below. */
export function formatPins(report: PinReport): string {
  const { nowNs, omitted } = report;
  const rows = report.pins.map(p => [
    p.owner,
    `0x${p.base.toString(16)}`,
    formatSize(p.length),
    p.revocable ? 'revocable' : p.longterm ? 'long' : 'short',
    p.write ? 'write' : 'read',
    formatAge(nowNs - p.sinceNs),
  ]);
  const lines = rows.length === 0 ? [] : formatTable([['OWNER', 'ADDRESS', 'SIZE', 'KIND', 'FOR', 'AGE'], ...rows]);
  if (omitted > 0) lines.push(`and ${omitted} more`);
  return [...lines, ...formatTotals(report)].map(line => `${line}\n`).join('');
}

/** What {@link formatPins} says below the table. */
export function formatTotals({ stats, pinLimitBytes }: PinReport): string[] {
  const { current, currentLong, pinAcquired, pinReleased, discarded, queued, cancelled, skippedPinned, revoked } =
    stats;
  const limit = pinLimitBytes === undefined ? '' : ` of ${formatSize(pinLimitBytes)}`;
  return [
    `pinned: ${formatSize(current * 4096)}; long-term of that: ${formatSize(currentLong * 4096)}${limit}`,
    `pages so far: ${pinAcquired} pinned, ${pinReleased} released`,
    `discards: ${discarded} pages done, ${queued} waited for a pin (${cancelled} of them cancelled), ` +
      `${skippedPinned} left to a pin; ${revoked} pins revoked`,
  ];
}

/** How long ago, for people. */
export function formatAge(ns: number): string {
  const ms = Math.max(0, ns) / 1e6;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  const minutes = Math.floor(s / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Owners below the picture: those that hold most, and the sums. */
export function picturedNotes(report: PinReport): string[] {
  const held = new Map<string, number>();
  for (const p of report.pins) held.set(p.owner, (held.get(p.owner) ?? 0) + pinnedBytes(p));
  const most = [...held].sort((a, b) => b[1] - a[1]);
  const owners = most.slice(0, MOST_OWNERS).map(([owner, bytes]) => `${owner}: ${formatSize(bytes)}`);
  if (most.length > MOST_OWNERS) owners.push(`and ${most.length - MOST_OWNERS} more owners`);
  return [...formatTotals(report), ...owners];
}

const MOST_OWNERS = 12;

/** Whole pages are pinned, whatever part of them was asked for. */
function pinnedBytes({ base, length }: PinInfo): number {
  return (Math.ceil((base + length) / 4096) - Math.floor(base / 4096)) * 4096;
}

/** Columns as wide as what is in them; the third, of sizes, to the right. */
function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, c) => Math.max(...rows.map(r => r[c]!.length)));
  return rows.map(r =>
    r
      .map((cell, c) => (c === 2 ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd(),
  );
}
