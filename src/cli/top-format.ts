import { formatNs } from './scale.ts';
import type { TopAccess, TopSample, TopVcpu } from './top.ts';

/** A sample as a table of at most `rows` lines. */
export function formatTop(sample: TopSample, rows = Number.POSITIVE_INFINITY): string {
  const { name, engine, state, exitsPerSecond, thread, vcpus, accesses } = sample;
  const lines = [
    `${name}: ${engine}, ${state}, ${rate(exitsPerSecond)} exits/s`,
    `thread: guest ${percent(thread.guest)}, exits ${percent(thread.exits)}, ` +
      `event loop ${percent(thread.eventLoop)}, idle ${percent(thread.idle)}`,
    '',
    ...table(
      engine === 'emu' ? ['VCPU', 'STATE', 'MIPS'] : ['VCPU', 'STATE', 'EXITS/S', 'GUEST', 'WAIT'],
      vcpus.map(v => vcpuRow(engine, v)),
      2,
    ),
    '',
    ...table(['DEVICE', 'REGISTER', 'READS/S', 'WRITES/S', 'MEAN', 'P99'], accesses.map(accessRow), 2),
  ];
  const shown = lines.length > rows ? [...lines.slice(0, rows - 1), `and ${lines.length - rows + 1} more`] : lines;
  return shown.map(line => `${line}\n`).join('');
}

function vcpuRow(engine: TopSample['engine'], v: TopVcpu): string[] {
  const of = (value: number | undefined, text: (n: number) => string) => (value === undefined ? '-' : text(value));
  return engine === 'emu'
    ? [String(v.id), v.state, of(v.mips, n => n.toFixed(1))]
    : [String(v.id), v.state, of(v.exitsPerSecond, rate), of(v.guest, percent), of(v.wait, percent)];
}

function accessRow(a: TopAccess): string[] {
  return [
    a.space === 'port' ? `${a.device} (ports)` : a.device,
    a.offset === undefined ? 'others' : `0x${a.offset.toString(16)}`,
    rate(a.readsPerSecond),
    rate(a.writesPerSecond),
    formatNs(a.meanNs),
    formatNs(a.p99Ns),
  ];
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

const rate = (perSecond: number): string => perSecond.toFixed(perSecond > 0 && perSecond < 10 ? 1 : 0);

/** Columns as wide as what is in them; those from `right` on are numbers. */
function table(head: readonly string[], body: readonly (readonly string[])[], right: number): string[] {
  const rows = [head, ...body];
  const widths = head.map((_, c) => Math.max(...rows.map(r => r[c]!.length)));
  return rows.map(r =>
    r
      .map((cell, c) => (c < right ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)))
      .join('  ')
      .trimEnd(),
  );
}
