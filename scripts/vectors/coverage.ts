/**
 * What the stored vectors reach: npx tsx scripts/vectors/coverage.ts [--all]
 * Lists the encoding rows that no vector executes, and random words on which QEMU and the table of encodings disagree.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { findRow, ROWS } from './encodings.ts';
import { unpackVectors } from './file.ts';
import { SIGILL } from './record.ts';
import { comparable, UNDEFINED_GROUPS, UNDEFINED_WORDS, undefinedWord } from './undefined.ts';

const folder = new URL('../../test/vectors/', import.meta.url);
const counts = new Map(ROWS.map(row => [row.name, { executed: 0, undefined: 0, faults: 0, inBlocks: 0 }]));
for (const name of readdirSync(folder).filter(f => f.endsWith('.bin.gz') && f !== 'undefined.bin.gz')) {
  for (const { input, result } of unpackVectors(readFileSync(new URL(name, folder)))) {
    for (const word of input.words) {
      const row = findRow(word);
      const c = row && counts.get(row.name);
      if (c === undefined) continue;
      if (input.words.length > 1) c.inBlocks++;
      else if (result.signal === SIGILL && row?.kind !== 'undefined') c.undefined++;
      else if (result.signal === 0 || result.signal === 5 || row?.kind === 'undefined') c.executed++;
      else c.faults++;
    }
  }
}

const unreached = ROWS.filter(row => counts.get(row.name)!.executed === 0);
console.log(`${ROWS.length} rows, ${ROWS.length - unreached.length} executed by at least one vector`);
for (const row of unreached) console.log(`not executed: ${row.name} (${row.kind})`);
if (process.argv.includes('--all')) {
  for (const [name, c] of counts) {
    console.log(
      `${name}: ${c.executed} executed, ${c.faults} faults, ${c.undefined} UNDEFINED, ${c.inBlocks} in blocks`,
    );
  }
}

const bits = gunzipSync(readFileSync(new URL('undefined.bin.gz', folder)));
let allocated = 0;
const withoutRow: number[] = [];
let undefinedWithRow = 0;
for (let group = 0; group < UNDEFINED_GROUPS; group++) {
  for (let i = 0; i < UNDEFINED_WORDS; i++) {
    const word = undefinedWord(group, i);
    if (!comparable(word)) continue;
    const bit = group * UNDEFINED_WORDS + i;
    const isUndefined = ((bits[bit >> 3]! >> (bit & 7)) & 1) === 1;
    const row = findRow(word);
    if (!isUndefined) allocated++;
    if (!isUndefined && row === undefined) withoutRow.push(word);
    if (isUndefined && row !== undefined && row.kind !== 'undefined') undefinedWithRow++;
  }
}
// Exclusives and SMULH/UMULH have should-be-one fields, which the table requires to be ones and QEMU ignores.
const shouldBeOne = (w: number) => (w & 0x3f00_0000) === 0x0800_0000 || (w & 0xff40_0000) >>> 0 === 0x9b40_0000;
const unknown = withoutRow.filter(w => !shouldBeOne(w));
console.log(`random words: ${allocated} executed by QEMU, ${withoutRow.length} of them outside the table`);
console.log(
  `  ${withoutRow.length - unknown.length} for their should-be-one fields, ${unknown.length} for other reasons`,
);
for (const word of unknown) console.log(`  0x${word.toString(16).padStart(8, '0')}`);
console.log(`random words in the table that are UNDEFINED by an operand: ${undefinedWithRow}`);
