// Replays what QEMU recorded (scripts/vectors/README.md) on the A64 core, instruction by instruction and freely running.
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { findRow, ROWS, type Row } from '../../scripts/vectors/encodings.ts';
import { unpackVectors } from '../../scripts/vectors/file.ts';
import { makeInput, Random, randomWord } from '../../scripts/vectors/inputs.ts';
import { BLOCK, DATA, emptyInput, SIGILL, SIGSEGV } from '../../scripts/vectors/record.ts';
import { comparable, UNDEFINED_GROUPS, UNDEFINED_WORDS, undefinedWord } from '../../scripts/vectors/undefined.ts';
import { CoreHarness, compare, describeInput, exceptionClass, type Mode } from './harness.ts';

/** Failures of one row that are printed in full. */
const SHOWN = 3;
const EC_FP_ACCESS = 0x07;

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
    // Whether a word is UNDEFINED depends on no register.
    const input = emptyInput([0]);
    input.x.fill(BigInt(DATA + 0x800));
    const bits = gunzipSync(read('undefined'));
    const wrong: string[] = [];
    for (let group = 0; group < UNDEFINED_GROUPS; group++) {
      for (let i = 0; i < UNDEFINED_WORDS; i++) {
        const word = undefinedWord(group, i);
        if (!comparable(word)) continue;
        const bit = group * UNDEFINED_WORDS + i;
        const expected = ((bits[bit >> 3]! >> (bit & 7)) & 1) === 1;
        input.words[0] = word;
        const actual = core.execute(input, 'step').signal === SIGILL;
        if (expected !== actual) wrong.push(`0x${word.toString(16)} ${expected ? 'is UNDEFINED' : 'is allocated'}`);
      }
    }
    expect(wrong.slice(0, 40), `${wrong.length} words`).toEqual([]);
  });
});

describe('data aborts', () => {
  it('report an unmapped address with the class, status and direction of the access', () => {
    const core = new CoreHarness();
    const wrong: string[] = [];
    let aborts = 0;
    for (const name of ['memory', 'lse']) {
      for (const { name: row, input, result } of unpackVectors(read(name))) {
        if (result.signal !== SIGSEGV) continue;
        aborts++;
        const { esr } = core.execute(input, 'run');
        // Stores and DC ZVA write; an atomic that cannot even read reports the read (D17.2.37, WnR).
        const write = /\bST[RPLX1-4]|\bST\b|\bSTTR|\bSTUR|\bDC\b/.test(row);
        const expected = (0x24n << 26n) | (1n << 25n) | (write ? 1n << 6n : 0n);
        // DFSC 0b0001LL: translation fault; all these are in the same 2 MiB as the data, or have no table at all.
        if ((esr & ~7n) !== expected || ((esr >> 2n) & 1n) !== 1n) wrong.push(`${row}: ESR 0x${esr.toString(16)}`);
      }
    }
    expect(aborts).toBeGreaterThan(500);
    expect(wrong.slice(0, 40), `${wrong.length} instructions`).toEqual([]);
  });
});

describe('CPACR_EL1.FPEN', () => {
  it('traps exactly the floating-point and SIMD instructions of EL0', () => {
    const core = new CoreHarness({ fpEnabled: false });
    const usesFp = (row: Row) =>
      row.kind === 'fp' ||
      row.kind === 'simd' ||
      /FPCR|FPSR/.test(row.name) ||
      // Bit 26 of a load or store: the SIMD&FP registers.
      (row.kind === 'mem' && (row.value & 0x0e00_0000) === 0x0c00_0000);
    const wrong: string[] = [];
    const r = new Random(5);
    for (const row of ROWS) {
      for (let n = 0; n < 4; n++) {
        const input = makeInput([randomWord(r, row)], r.u32());
        const result = core.execute(input, n % 2 === 0 ? 'run' : 'step');
        const ec = result.signal === 0 ? undefined : exceptionClass(result.esr);
        // An operand may make the instruction UNDEFINED, which comes first.
        if (usesFp(row) ? ec !== EC_FP_ACCESS && ec !== 0 : ec === EC_FP_ACCESS) {
          wrong.push(`${row.name} 0x${input.words[0]!.toString(16)}: signal ${result.signal}, EC ${ec}`);
        } else if (ec === EC_FP_ACCESS) {
          // CV = 1, COND = 0b1110, IL = 1 (D17.2.37).
          if (result.esr !== 0x1fe0_0000n) wrong.push(`${row.name}: ESR 0x${result.esr.toString(16)}`);
          if (result.v.some((v, i) => v !== input.v[i])) wrong.push(`${row.name}: wrote a V register`);
        }
      }
    }
    expect(wrong.slice(0, 40), `${wrong.length} instructions`).toEqual([]);
  });
});

describe('SVC', () => {
  it.each(['run', 'step'] as const)('reports its immediate and returns behind itself (%s)', mode => {
    const core = new CoreHarness();
    const result = core.execute(
      makeInput(
        [0xd503_201f, 0xd400_0001 | (0xabcd << 5)].map(w => w >>> 0),
        1,
      ),
      mode,
    );
    expect(result.esr).toBe((0x15n << 26n) | (1n << 25n) | 0xabcdn);
    expect(result.pc).toBe(BigInt(BLOCK + 8));
  });
});

describe('the vectors', () => {
  it('execute every row of the table of encodings', () => {
    const missing = new Set(ROWS.map(row => row.name));
    for (const name of ['integer', 'branch', 'memory', 'lse', 'float', 'simd']) {
      for (const { name: row, result, input } of unpackVectors(read(name))) {
        if (result.signal === 0 || input.words[0]! >>> 21 === 0x6a1 || findRow(input.words[0]!)?.kind === 'undefined') {
          missing.delete(row);
        }
      }
    }
    expect([...missing]).toEqual([]);
  });
});
