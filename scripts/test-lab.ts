// Runs test/lab/*.lab.ts in the lab, a virtual machine with a genuine /dev/kvm (docs/testing.md):
//
//   npm run test:lab -- [x86|arm64|here]... [--smoke] [--list] [--repeat N] [--cpus N] [--keep-addon] [PATTERN]...
//
// Without a place, in both labs; `here` is this machine, without a lab. A PATTERN is part of a case's `FILE: TITLE`; cases
// that match any are taken. --smoke takes those that continuous integration runs. --repeat runs each N times in a row.
// --cpus gives the lab that many CPUs, whatever the cases ask for.
// --keep-addon takes the addon that was built last although native/ has changed.
// Ends with 0 when all have passed, 1 when one failed or the lab did, 2 on a wrong command line.
import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { groupCases, type LabPlace, type LabReport, makeBundle, runGroup } from './lab/run.ts';

const PLACES: readonly string[] = ['x86', 'arm64', 'here'];
const say = (line: string) => process.stdout.write(`${line}\n`);
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      smoke: { type: 'boolean' },
      list: { type: 'boolean' },
      repeat: { type: 'string', default: '1' },
      cpus: { type: 'string' },
      'keep-addon': { type: 'boolean' },
    },
  });
  const repeat = Number(values.repeat);
  if (!Number.isInteger(repeat) || repeat < 1) {
    say(`--repeat ${values.repeat}: not a number of times`);
    return 2;
  }
  const cpus = values.cpus === undefined ? undefined : Number(values.cpus);
  if (cpus !== undefined && (!Number.isInteger(cpus) || cpus < 1)) {
    say(`--cpus ${values.cpus}: not a number of CPUs`);
    return 2;
  }
  const named = positionals.filter(p => PLACES.includes(p)) as LabPlace[];
  const places: LabPlace[] = named.length > 0 ? named : ['x86', 'arm64'];
  const patterns = positionals.filter(p => !PLACES.includes(p));

  const started = performance.now();
  const bundle = await makeBundle();
  try {
    const cases = bundle.cases
      .filter(c => patterns.length === 0 || patterns.some(p => c.id.includes(p)))
      .filter(c => !values.smoke || c.needs.smoke)
      .map(c => (cpus === undefined ? c : { ...c, needs: { ...c.needs, cpus } }));
    if (cases.length === 0) {
      say(`no case matches ${patterns.join(', ')}`);
      return 2;
    }
    if (values.list) {
      for (const { id, needs } of cases) say(`${id}  ${JSON.stringify(needs)}`);
      return 0;
    }
    say(`bundled in ${seconds(performance.now() - started)}`);
    const repeated = cases.flatMap(c => Array.from({ length: repeat }, () => c));
    const reports: LabReport[] = [];
    for (const group of places.flatMap(place => groupCases(place, repeated))) {
      const { memory, cpus, vfio } = group.needs;
      const machine = group.place === 'here' ? '' : `, ${memory} MiB, ${cpus} CPU${vfio ? ', VFIO' : ''}`;
      say(`\n== ${group.place}${machine}`);
      const report = await runGroup(bundle, group, text => process.stdout.write(text), {
        keepAddon: values['keep-addon'],
      });
      const { enter, node, work, leave } = report;
      say(
        `-- entered in ${seconds(enter)} (Node: ${seconds(node)}), at work ${seconds(work)}, left in ${seconds(leave)}`,
      );
      reports.push(report);
    }
    const results = reports.flatMap(r => r.results);
    const count = (outcome: string) => results.filter(r => r.outcome === outcome).length;
    for (const { id, why } of results.filter(r => r.outcome === 'failed')) say(`FAILED ${id}: ${why?.split('\n')[0]}`);
    say(
      `\n${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped in ${seconds(performance.now() - started)}`,
    );
    return results.length > 0 && count('failed') === 0 ? 0 : 1;
  } finally {
    rmSync(bundle.folder, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (e) {
  say(e instanceof Error ? e.message : String(e));
  process.exitCode = (e as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
