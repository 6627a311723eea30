// Runs the hostile guest of test/fuzz/pci for long: one process for each seed, so that one that hangs can be told from one that
// works. Usage: tsx scripts/fuzz-pci.ts [--operations N] [--seeds N] [--first SEED]. Exits with 1 when a seed has failed.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type FuzzReport, fuzzPci } from '../test/fuzz/pci/run.ts';

/** Without a check for so long, ms, a run counts as hung. */
const HUNG_MS = 60_000;
const PRINT_MS = 30_000;

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '2000000' },
    seeds: { type: 'string', default: '5' },
    first: { type: 'string', default: String(Date.now() % 1_000_000) },
    child: { type: 'boolean', default: false },
  },
});

const say = (line: string) => process.stdout.write(`${line}\n`);

/** One seed, in this process; the parent hears of each check. */
async function child(seed: number, operations: number): Promise<void> {
  try {
    const report = await fuzzPci({ seed, operations, progress: report => process.send!({ report }) });
    process.send!({ done: report });
  } catch (e) {
    process.send!({ failed: e instanceof Error ? e.stack : String(e) });
  }
  process.disconnect();
}

type Message = { report?: FuzzReport; done?: FuzzReport; failed?: string };

/** The same in a process of its own. Resolves to what became of it. */
function run(seed: number, operations: number): Promise<FuzzReport | undefined> {
  const args = ['--child', '--first', String(seed), '--operations', String(operations)];
  const worker = fork(fileURLToPath(import.meta.url), args);
  let last = performance.now();
  let printed = last;
  let done: FuzzReport | undefined;
  worker.on('message', (m: Message) => {
    last = performance.now();
    if (m.failed !== undefined) say(m.failed);
    done = m.done ?? done;
    if (m.report === undefined || last - printed < PRINT_MS) return;
    printed = last;
    say(`seed ${seed}: ${m.report.operations} operations, slowest ${m.report.slowest.ms.toFixed(1)} ms`);
  });
  const watchdog = setInterval(() => {
    if (performance.now() - last < HUNG_MS) return;
    say(`seed ${seed}: hangs`);
    worker.kill('SIGKILL');
  }, 1000);
  return new Promise(resolve => {
    worker.on('close', () => {
      clearInterval(watchdog);
      resolve(done);
    });
  });
}

if (values.child) await child(Number(values.first), Number(values.operations));
else {
  let total = 0;
  const start = performance.now();
  for (let i = 0; i < Number(values.seeds); i++) {
    const seed = Number(values.first) + i;
    const began = performance.now();
    const report = await run(seed, Number(values.operations));
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    total += report?.operations ?? 0;
    if (report === undefined) process.exitCode = 1;
    say(report === undefined ? `seed ${seed}: FAILED after ${seconds} s` : `${seconds} s: ${JSON.stringify(report)}`);
  }
  say(`${total} operations in ${((performance.now() - start) / 1000).toFixed(0)} s`);
}
