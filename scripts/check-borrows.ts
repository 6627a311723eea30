// Nothing holds guest RAM across a turn of the event loop without a pin (specification of pins, 4.1): a borrow gives bytes for the
// length of a call. So borrows are made in the files of BORROWERS only, and these have no asynchronous code; and devices do not
// help themselves to whole regions. Prints file:line and the rule that is broken; exits with 1 then.
import { readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { typescriptFiles } from './typescript-files.ts';

/** Files under src/ that get raw views of guest memory, with what they do with them before they return. */
export const BORROWERS: Readonly<Record<string, string>> = {
  'bench/pin-passes.ts': 'measures what a borrow costs',
  'pci/dma.ts': 'the gate: gives them to the others of this list',
  'pci/host.ts': 'messages that go to RAM',
  'devices/kvm-hypervisor/x86/pinned-struct.ts': 'the bytes of its own pins, within the call',
  'devices/virtio/pci-transport.ts': 'passes the gate on to the queues',
  'devices/virtio/chain.ts': 'indirect tables, within take()',
  'devices/kit/create.ts': "a program's copies and views, within its handler",
  'devices/kit/dma.ts': 'the same',
  'machine/inline-program.ts': 'the same, on the thread of the program',
};

/** Files of the layers of devices that look at regions, which are all of guest memory. */
export const REGION_READERS: Readonly<Record<string, string>> = {
  'devices/virtio/balloon/discarder.ts': 'tells where a view lies',
};
const DEVICE_LAYERS = /^(devices|pci|backends)\//;

/** The layers that memory itself and the CPU are made in; their bytes are theirs. */
const EXEMPT = /^(memory|engines)\//;

/** Calls that give raw views: `.view(`, `.borrow(`, `.dma(`. */
const RAW = new Set(['view', 'borrow', 'dma']);
/** Words of code that goes on later. */
const LATER = new Set(['await', 'async', 'yield', 'Promise', 'setTimeout', 'setInterval', 'setImmediate']);
/** The same as calls of a method or of a function. */
const LATER_CALLS = new Set(['then', 'catch', 'finally', 'nextTick', 'queueMicrotask']);

interface Word {
  readonly text: string;
  readonly line: number;
  /** What comes right before and after it. */
  readonly before: string;
  readonly after: string;
}

/** The identifiers of a file; not those in comments and strings, but those in the placeholders of templates. */
function wordsOf(source: string): Word[] {
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|(?<=[=(,:!&|?[{;\n]\s*)\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/|[\w$]+|\?\.|\S/g;
  const tokens: { text: string; line: number }[] = [];
  let line = 1;
  let counted = 0;
  for (const m of source.matchAll(token)) {
    line += source.slice(counted, m.index).split('\n').length - 1;
    counted = m.index;
    if (!/^(\/[/*]|['"])/.test(m[0])) tokens.push({ text: m[0], line });
  }
  return tokens.map((t, i) => ({ ...t, before: tokens[i - 1]?.text ?? '', after: tokens[i + 1]?.text ?? '' }));
}

const isMember = (w: Word) => w.before === '.' || w.before === '?.';

/** The lines on which a file borrows guest memory. */
function borrowsOf(words: readonly Word[]): Word[] {
  return words.filter(w => RAW.has(w.text) && w.after === '(' && isMember(w));
}

function laterOf(words: readonly Word[]): Word[] {
  return words.filter(w => (LATER.has(w.text) && !isMember(w)) || (LATER_CALLS.has(w.text) && w.after === '('));
}

/** The rules that one file under src/ breaks, as `path:line: why`. `path` is relative to src/, with slashes. */
export function checkBorrows(path: string, source: string): string[] {
  if (EXEMPT.test(path) || path.endsWith('.test.ts')) return [];
  const words = wordsOf(source);
  const borrows = borrowsOf(words);
  const at = (w: Word, why: string) => `src/${path}:${w.line}: ${why}`;
  const broken: string[] = [];
  const listed = path in BORROWERS;
  if (!listed) {
    for (const w of borrows)
      broken.push(at(w, `'.${w.text}(' gives a raw view of guest memory: pin it, or add the file to BORROWERS`));
  } else {
    if (borrows.length === 0) broken.push(`src/${path}:1: borrows nothing: take it off BORROWERS`);
    for (const w of laterOf(words))
      broken.push(at(w, `'${w.text}' in a file that borrows guest memory: pin it instead`));
  }
  const regions = words.filter(w => w.text === 'regions' && (isMember(w) || w.before === '{' || w.before === ','));
  if (path in REGION_READERS) {
    if (regions.length === 0) broken.push(`src/${path}:1: looks at no regions: take it off REGION_READERS`);
  } else if (DEVICE_LAYERS.test(path)) {
    for (const w of regions) broken.push(at(w, "'regions' are all of guest memory: go by the pins"));
  }
  return broken;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const src = join(dirname(dirname(fileURLToPath(import.meta.url))), 'src');
  const broken: string[] = [];
  const unseen = new Set([...Object.keys(BORROWERS), ...Object.keys(REGION_READERS)]);
  for (const file of typescriptFiles(src)) {
    const path = relative(src, file).split(sep).join('/');
    unseen.delete(path);
    broken.push(...checkBorrows(path, readFileSync(file, 'utf8')));
  }
  for (const path of unseen) broken.push(`src/${path}:1: is not there: take it off the list`);
  for (const b of broken.sort()) console.error(b);
  console.log(`borrows: ${Object.keys(BORROWERS).length} files may, ${broken.length} rules broken`);
  process.exitCode = broken.length ? 1 : 0;
}
