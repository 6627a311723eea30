// Replays what QEMU recorded (scripts/vectors/README.md) on the A64 core, instruction by instruction and freely running.
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { unpackVectors } from '../../scripts/vectors/file.ts';
import { makeInput } from '../../scripts/vectors/inputs.ts';
import { SIGILL } from '../../scripts/vectors/record.ts';
import { comparable, UNDEFINED_GROUPS, UNDEFINED_WORDS, undefinedWord } from '../../scripts/vectors/undefined.ts';
import { CoreHarness, compare, describeInput, type Mode } from './harness.ts';

/** Failures of one row that are printed in full. */
const SHOWN = 3;

const read = (name: string) => readFileSync(new URL(`../vectors/${name}.bin.gz`, import.meta.url));

function replay(name: string, mode: Mode): void {
  const core = new CoreHarness();
  const failures = new Map<string, { count: number; shown: string[] }>();
  let total = 0;
  for (const vector of unpackVectors(read(name))) {
    total++;
    const actual = core.execute(vector.input, mode);
    const lines = compare(vector.input, vector.result, actual);
    if (lines.length === 0) continue;
    const failure = failures.get(vector.name) ?? { count: 0, shown: [] };
    failures.set(vector.name, failure);
    failure.count++;
    if (failure.shown.length < SHOWN) failure.shown.push(`${describeInput(vector.input)}\n  ${lines.join('\n  ')}`);
  }
  expect(total).toBeGreaterThan(1000);
  const report = [...failures].map(([row, f]) => `${row}: ${f.count} failed\n${f.shown.join('\n')}`);
  expect(report.join('\n\n'), `${failures.size} rows of ${name} failed`).toBe('');
}

describe.each(['integer', 'branch', 'memory', 'lse', 'float', 'simd', 'blocks'])('%s', name => {
  it.each(['step', 'run', 'slices'] as const)('agrees with QEMU (%s)', mode => replay(name, mode));
});

describe('UNDEFINED', () => {
  it('is raised for the same words as by a Cortex-A57', () => {
    const core = new CoreHarness();
    const bits = gunzipSync(read('undefined'));
    const wrong: string[] = [];
    for (let group = 0; group < UNDEFINED_GROUPS; group++) {
      for (let i = 0; i < UNDEFINED_WORDS; i++) {
        const word = undefinedWord(group, i);
        if (!comparable(word)) continue;
        const bit = group * UNDEFINED_WORDS + i;
        const expected = ((bits[bit >> 3]! >> (bit & 7)) & 1) === 1;
        const actual = core.execute(makeInput([word], i), 'step').signal === SIGILL;
        if (expected !== actual) wrong.push(`0x${word.toString(16)} ${expected ? 'is UNDEFINED' : 'is allocated'}`);
      }
    }
    expect(wrong.slice(0, 40), `${wrong.length} words`).toEqual([]);
  });
});
