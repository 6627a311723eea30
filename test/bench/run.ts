// `npm run bench [-- OPTIONS]`: our engine beside QEMU TCG, where that is installed. Table on stderr, JSON on stdout.
//
//   --only a,b       these only: programs; 'mmio', 'config'; 'linux', the boot; 'disk', 'net', below that Linux
//   --pairs N        runs on each engine (default 5; the boot: at most 3)
//   --no-qemu        our engine only
//   --out FILE       the JSON into a file
//   --iterations N   instead of each program's own number
//   --seconds N      for each measurement of 'disk' and 'net' (default 3)
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { ACCESSES, type AccessResult, compareAccess } from './access.ts';
import { compareIo, type IoGroup, type IoResult } from './io.ts';
import { compareLinux, findLinux, type LinuxResult } from './linux.ts';
import { compare, type ProgramResult, qemuVersion } from './measure.ts';
import { buildProgram, missingCompiler, PROGRAMS } from './programs.ts';

/** The JSON that a run prints; scripts/bench-compare.ts reads it. */
export interface BenchReport {
  readonly date: string;
  readonly host: { readonly cpu: string; readonly cores: number; readonly node: string; readonly v8: string };
  readonly qemu: string | undefined;
  readonly programs: readonly ProgramResult[];
  readonly accesses: readonly AccessResult[];
  readonly linux: LinuxResult | undefined;
  readonly io: readonly IoResult[];
  readonly skipped: readonly string[];
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    pairs: { type: 'string', default: '5' },
    'no-qemu': { type: 'boolean', default: false },
    out: { type: 'string' },
    iterations: { type: 'string' },
    seconds: { type: 'string', default: '3' },
  },
});
const only = values.only?.split(',');
const wanted = (name: string) => only === undefined || only.includes(name);
const pairs = Math.max(1, Number(values.pairs));
const skipped: string[] = [];
const say = (line: string) => process.stderr.write(`${line}\n`);
const skip = (why: string) => {
  skipped.push(why);
  say(`skipped: ${why}`);
};

const version = qemuVersion();
if (version === undefined) skip('the comparison: qemu-system-aarch64 is not installed (Debian: qemu-system-arm)');
const qemu = version !== undefined && !values['no-qemu'];

const programs: ProgramResult[] = [];
const selected = PROGRAMS.filter(p => wanted(p.name));
const missing = missingCompiler();
if (missing !== undefined) {
  skip(`the programs: ${missing}`);
} else if (selected.length > 0) {
  say('program          ours ms    MIPS   QEMU ms    MIPS   ratio   asked');
  for (const program of selected) {
    const params = values.iterations === undefined ? '' : `n=${values.iterations}`;
    const result = compare(program, buildProgram(program.name), { pairs, qemu, params });
    programs.push(result);
    const { ours, qemu: theirs, ratio, asked } = result;
    const right = (value: number | undefined, width: number, decimals: number) =>
      (value?.toFixed(decimals) ?? '-').padStart(width);
    say(
      `${program.name.padEnd(14)} ${right(ours.ms, 9, 0)} ${right(ours.mips, 7, 0)} ${right(theirs?.ms, 9, 0)} ` +
        `${right(theirs?.mips, 7, 0)} ${right(ratio, 7, 2)} ${right(asked, 7, 2)}`,
    );
  }
}

const accesses: AccessResult[] = [];
for (const access of missing === undefined ? ACCESSES.filter(a => wanted(a.name)) : []) {
  const params = values.iterations === undefined ? '' : `n=${values.iterations}`;
  const result = compareAccess(access, { pairs, qemu, params });
  accesses.push(result);
  say(`${access.what}: ${result.ours} ns an access, QEMU ${result.qemu ?? '-'} ns (asked: <= ${result.asked})`);
}

let linux: LinuxResult | undefined;
const io: IoResult[] = [];
const groups = (['disk', 'net'] as const).filter(wanted) satisfies IoGroup[];
if (wanted('linux') || groups.length > 0) {
  const files = await findLinux();
  if (files === undefined) {
    skip('Linux: no kernel; run `tsvisor pull debian-arm64` or set TSVISOR_KERNEL and TSVISOR_INITRD');
  }
  if (files !== undefined && wanted('linux')) {
    linux = await compareLinux(files, { pairs: Math.min(3, pairs), qemu });
    const { ours, qemu: theirs, slower } = linux;
    say(`\n${linux.kernel}`);
    say(
      `  shell prompt         ${ours.promptMs} ms, QEMU ${theirs?.promptMs ?? '-'} ms: ${slower ?? '-'} x (asked: <= 3)`,
    );
    say(
      `  first console line   ${ours.firstLineMs} ms with earlycon (asked: <= 400), ${ours.firstLineDefaultMs} ms without`,
    );
    say(`  peak memory          ${ours.peakMib} MiB, of which guest RAM ${ours.guestMib ?? '?'} MiB`);
    say(
      `  beside guest RAM     ${ours.overheadMib ?? '?'} MiB (asked: <= 200), QEMU's peak ${theirs?.peakMib ?? '-'} MiB`,
    );
  }
  if (files !== undefined && missing === undefined && groups.length > 0) {
    io.push(...(await compareIo(files, groups, { pairs, qemu, seconds: Number(values.seconds) })));
    for (const { name, unit, ours, qemu: theirs, ratio, asked, askedRatio } of io) {
      const goal = askedRatio === undefined ? asked : `${askedRatio} x`;
      say(
        `${name.padEnd(16)} ${ours} ${unit}, QEMU ${theirs ?? '-'}: ${ratio ?? '-'} x` +
          (goal === undefined ? '' : ` (asked: >= ${goal})`),
      );
    }
  }
}

const report: BenchReport = {
  date: new Date().toISOString(),
  host: {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    node: process.version,
    v8: process.versions.v8,
  },
  qemu: version,
  programs,
  accesses,
  linux,
  io,
  skipped,
};
const json = `${JSON.stringify(report, null, 2)}\n`;
if (values.out === undefined) process.stdout.write(json);
else writeFileSync(values.out, json);
