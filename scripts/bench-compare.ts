// `tsx scripts/bench-compare.ts BEFORE.json AFTER.json`: what changed between two reports of `npm run bench`.
import { readFileSync } from 'node:fs';
import type { BenchReport } from '../test/bench/run.ts';

const [beforePath, afterPath] = process.argv.slice(2);
if (beforePath === undefined || afterPath === undefined) {
  console.error('usage: tsx scripts/bench-compare.ts BEFORE.json AFTER.json');
  process.exit(2);
}
const read = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as BenchReport;
const before = read(beforePath);
const after = read(afterPath);

if (before.host.cpu !== after.host.cpu || before.host.node !== after.host.node) {
  console.log(
    `hosts differ: ${before.host.cpu}, Node ${before.host.node} / ${after.host.cpu}, Node ${after.host.node}`,
  );
}

const rows: string[][] = [['', 'before', 'after', 'change']];

/** `better` is +1 where more is better, -1 where less is. */
function row(name: string, a: number | undefined, b: number | undefined, better: 1 | -1, decimals: number): void {
  if (a === undefined && b === undefined) return;
  const change = a === undefined || b === undefined ? '' : `${b >= a ? '+' : ''}${((b / a - 1) * 100).toFixed(1)} %`;
  const verdict =
    a === undefined || b === undefined || Math.abs(b / a - 1) < 0.03 ? '' : b > a === better > 0 ? 'better' : 'worse';
  rows.push([name, a?.toFixed(decimals) ?? '-', b?.toFixed(decimals) ?? '-', `${change} ${verdict}`.trim()]);
}

/** Results of both reports by name; reports from before there were any have none. */
function pairs<T extends { readonly name: string }>(a: readonly T[] = [], b: readonly T[] = []) {
  const find = (list: readonly T[], name: string) => list.find(r => r.name === name);
  return [...new Set([...a, ...b].map(r => r.name))].map(name => ({ name, a: find(a, name), b: find(b, name) }));
}

for (const { name, a, b } of pairs(before.programs, after.programs)) {
  row(`${name}: MIPS`, a?.ours.mips, b?.ours.mips, 1, 1);
  row(`${name}: ratio to QEMU`, a?.ratio, b?.ratio, 1, 3);
}
for (const { name, a, b } of pairs(before.accesses, after.accesses)) {
  row(`access, ${name}: ns`, a?.ours, b?.ours, -1, 1);
}
for (const { name, a, b } of pairs(before.io, after.io)) {
  row(`${name}: ${(a ?? b)!.unit}`, a?.ours, b?.ours, 1, 0);
  row(`${name}: ratio to QEMU`, a?.ratio, b?.ratio, 1, 2);
}
row('Linux: prompt, ms', before.linux?.ours.promptMs, after.linux?.ours.promptMs, -1, 0);
row('Linux: times QEMU', before.linux?.slower, after.linux?.slower, -1, 2);
row('Linux: first line, ms', before.linux?.ours.firstLineMs, after.linux?.ours.firstLineMs, -1, 0);
row('Linux: beside guest RAM, MiB', before.linux?.ours.overheadMib, after.linux?.ours.overheadMib, -1, 1);

const widths = rows[0]!.map((_, column) => Math.max(...rows.map(r => r[column]!.length)));
for (const r of rows) {
  console.log(
    r
      .map((cell, n) => (n === 0 ? cell.padEnd(widths[n]!) : cell.padStart(widths[n]!)))
      .join('  ')
      .trimEnd(),
  );
}
