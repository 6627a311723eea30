/**
 * Fresh random instructions through qemu-user and the A64 core.
 * Run as: npx tsx test/differential/fuzz.ts [--seconds N] [--seed S] [--only NAME] [--kind KIND]
 *
 * Prints a JSON summary; the exit status is 1 if something differs. `--only` limits the rows to names that contain
 * NAME, `--kind` to one kind; both leave out blocks and random words.
 */
import { parseArgs } from 'node:util';
import { findRow, ROWS } from '../../scripts/vectors/encodings.ts';
import { makeInput, Random, randomBlock, randomWord } from '../../scripts/vectors/inputs.ts';
import { QemuRunner } from '../../scripts/vectors/qemu.ts';
import { type Input, type Result, SIGALRM, SIGILL } from '../../scripts/vectors/record.ts';
import { comparable } from '../../scripts/vectors/undefined.ts';
import { CoreHarness, compare, describeInput, type Mode } from '../conformance/harness.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    only: { type: 'string' },
    kind: { type: 'string' },
  },
});
const seconds = Number(values.seconds ?? 30);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
const { only, kind } = values;

/** Examples of one kind of failure in the summary. */
const SHOWN = 2;
const INSTANCES = 3;
const BLOCKS = 300;
const WORDS = 4000;

const v80 = new QemuRunner('cortex-a57');
const lse = new QemuRunner('neoverse-n1');
const core = new CoreHarness();
const failures = new Map<string, { count: number; examples: string[] }>();
const ran = { instructions: 0, blocks: 0, words: 0, rounds: 0 };

function fail(name: string, example: string): void {
  const f = failures.get(name) ?? { count: 0, examples: [] };
  failures.set(name, f);
  f.count++;
  if (f.examples.length < SHOWN) f.examples.push(example);
}

function check(name: string, input: Input, result: Result): void {
  if (result.signal === SIGALRM) return;
  for (const mode of ['run', 'slices', 'step'] as Mode[]) {
    const lines = compare(input, result, core.execute(input, mode));
    if (lines.length === 0) continue;
    fail(`${name} (${mode})`, `${describeInput(input)}\n  ${lines.join('\n  ')}`);
  }
}

async function rows(r: Random): Promise<void> {
  const chosen = ROWS.filter(
    row => (only === undefined || row.name.includes(only)) && (kind === undefined || row.kind === kind),
  );
  for (const cpu of [v80, lse]) {
    const cases = chosen
      .filter(row => row.lse === (cpu === lse))
      .flatMap(row =>
        Array.from({ length: INSTANCES }, () => ({ row, input: makeInput([randomWord(r, row)], r.u32()) })),
      );
    const results = await cpu.run(cases.map(c => c.input));
    for (const [i, result] of results.entries()) check(cases[i]!.row.name, cases[i]!.input, result);
    ran.instructions += cases.length;
  }
}

async function blocks(r: Random): Promise<void> {
  const inputs = Array.from({ length: BLOCKS }, () => makeInput(randomBlock(r), r.u32()));
  const results = await v80.run(inputs);
  for (const [i, result] of results.entries()) check('block', inputs[i]!, result);
  ran.blocks += BLOCKS;
}

/** Only whether a word is UNDEFINED; words of a row get the full comparison above. */
async function words(r: Random): Promise<void> {
  const inputs = Array.from({ length: WORDS }, () => r.u32())
    .filter(comparable)
    .map(word => makeInput([word], r.u32()));
  const results = await v80.run(inputs);
  for (const [i, result] of results.entries()) {
    if (result.signal === SIGALRM) continue;
    const word = inputs[i]!.words[0]!;
    const actual = core.execute(inputs[i]!, 'step').signal;
    if ((result.signal === SIGILL) === (actual === SIGILL)) continue;
    fail('UNDEFINED', `0x${word.toString(16)} ${findRow(word)?.name ?? ''}: signal ${result.signal}, got ${actual}`);
  }
  ran.words += inputs.length;
}

const end = Date.now() + seconds * 1000;
const r = new Random(seed);
try {
  while (Date.now() < end) {
    await rows(r);
    if (only === undefined && kind === undefined) {
      await blocks(r);
      await words(r);
    }
    ran.rounds++;
  }
} finally {
  v80.stop();
  lse.stop();
}
console.log(JSON.stringify({ seed, seconds, ...ran, failures: Object.fromEntries(failures) }, null, 2));
process.exitCode = failures.size === 0 ? 0 : 1;
