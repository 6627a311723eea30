/**
 * Writes test/vectors: random instances of every encoding row and of blocks, run by QEMU.
 * Run as: npx tsx scripts/vectors/generate.ts [--seed N]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { ROWS, type Row } from './encodings.ts';
import { type Header, packVectors, vectorSeed } from './file.ts';
import { makeInput, Random, randomBlock, randomWord } from './inputs.ts';
import { QemuRunner } from './qemu.ts';
import { type Input, type Result, SIGALRM, SIGILL } from './record.ts';
import { comparable, UNDEFINED_GROUPS, UNDEFINED_WORDS, undefinedWord } from './undefined.ts';

const folder = fileURLToPath(new URL('../../test/vectors/', import.meta.url));
const argument = process.argv.indexOf('--seed');
const SEED = argument > 0 ? Number(process.argv[argument + 1]) : 1;

/** CPU models: Armv8.0-A with everything the core has but LSE, and the plainest one with LSE. */
const V80 = new QemuRunner('cortex-a57');
const LSE = new QemuRunner('neoverse-n1');

interface Tried {
  input: Input;
  result: Result;
}

/** `count` instances of `row`; at most two of them UNDEFINED. */
async function instances(r: Random, row: Row, count: number, seeds: (i: number) => number): Promise<Tried[]> {
  const cpu = row.lse ? LSE : V80;
  const kept: Tried[] = [];
  let undef = 0;
  for (let round = 0; kept.length < count && round < 8; round++) {
    const inputs: Input[] = [];
    // The seed belongs to the place in the file, so an instance that is not kept hands its seed on.
    const words = Array.from({ length: count - kept.length }, () => randomWord(r, row));
    for (const word of words) inputs.push(makeInput([word], seeds(kept.length + inputs.length)));
    const results = await cpu.run(inputs);
    for (const [i, result] of results.entries()) {
      const isUndefined = result.signal === SIGILL && row.kind !== 'undefined';
      if (result.signal === SIGALRM || (isUndefined && undef >= 2)) break;
      if (isUndefined) undef++;
      kept.push({ input: inputs[i]!, result });
    }
  }
  return kept;
}

async function rowFile(name: string, rows: readonly Row[], count: (row: Row) => number): Promise<void> {
  const seed = (SEED * 0x1_0001 + rows.length * 977) >>> 0;
  const r = new Random(seed);
  const vectors: Tried[] = [];
  const counts: [string, number][] = [];
  for (const row of rows) {
    const start = vectors.length;
    const got = await instances(r, row, count(row), i => vectorSeed(seed, start + i));
    vectors.push(...got);
    counts.push([row.name, got.length]);
  }
  save(name, { cpu: rows[0]!.lse ? LSE.cpu : V80.cpu, seed, rows: counts }, vectors);
}

async function blockFile(name: string, count: number): Promise<void> {
  const seed = SEED * 7919;
  const r = new Random(seed);
  const vectors: Tried[] = [];
  while (vectors.length < count) {
    const input = makeInput(randomBlock(r), vectorSeed(seed, vectors.length));
    const [result] = await V80.run([input]);
    if (result!.signal !== SIGALRM) vectors.push({ input, result: result! });
  }
  save(name, { cpu: V80.cpu, seed, rows: [['block', count]] }, vectors);
}

/** One bit for each random word: whether QEMU takes it as UNDEFINED. */
async function undefinedFile(name: string): Promise<void> {
  const bits = new Uint8Array((UNDEFINED_GROUPS * UNDEFINED_WORDS) / 8);
  for (let group = 0; group < UNDEFINED_GROUPS; group++) {
    const words = Array.from({ length: UNDEFINED_WORDS }, (_, i) => undefinedWord(group, i));
    const run = words.map((word, i) => ({ word, i })).filter(e => comparable(e.word));
    const results = await V80.run(run.map(e => makeInput([e.word], e.i)));
    for (const [k, result] of results.entries()) {
      const bit = group * UNDEFINED_WORDS + run[k]!.i;
      if (result.signal === SIGILL) bits[bit >> 3]! |= 1 << (bit & 7);
    }
  }
  write(name, gzipSync(bits, { level: 9 }));
}

function save(name: string, header: Header, vectors: readonly Tried[]): void {
  write(name, packVectors(header, vectors), `${vectors.length} vectors of ${header.rows.length} rows`);
}

function write(name: string, data: Uint8Array, what = ''): void {
  writeFileSync(`${folder}${name}.bin.gz`, data);
  console.log(`${name}.bin.gz: ${data.length} bytes ${what}`);
}

mkdirSync(folder, { recursive: true });
const plain = (...kinds: string[]) => ROWS.filter(r => !r.lse && kinds.includes(r.kind));
const scalar = (row: Row) => row.value >>> 28 === 1 || (row.value & 0x7e00_0000) >>> 0 === 0x1e00_0000;
try {
  await rowFile('integer', plain('int'), () => 40);
  await rowFile('branch', plain('branch', 'system', 'undefined'), () => 30);
  await rowFile('memory', plain('mem'), () => 12);
  await rowFile('float', plain('fp'), row => (scalar(row) ? 48 : 24));
  await rowFile('simd', plain('simd'), () => 12);
  await rowFile(
    'lse',
    ROWS.filter(row => row.lse),
    () => 12,
  );
  await blockFile('blocks', 1500);
  await undefinedFile('undefined');
} finally {
  V80.stop();
  LSE.stop();
}
