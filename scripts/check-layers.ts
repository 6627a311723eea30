// Holds the sources to the layers of docs/architecture.md: every import (type-only ones too) follows an arrow of LAYERS.
// Also: layers without the host's facilities import no Node builtins, and no source file grows beyond MAX_LINES
// unless it says why in a line `// long: REASON`. And no 64-bit value is shifted and cut in the way that Node 20 aborts on
// (src/util/words.ts). Prints file:line and the rule that is broken; exits with 1 then.
import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { typescriptFiles } from './typescript-files.ts';

/** Layers by path prefix under src/, the most specific first, with the layers that each may import beside itself. */
const ENGINE_SET = ['memory', 'irq', 'time', 'bus', 'util'];
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  // The AssemblyScript core is compiled by itself.
  'engines/emu/a64/core': [],
  'engines/emu': ['engines/emu/a64/core', 'engines/engine.ts', 'engines/arm64-registers.ts', ...ENGINE_SET],
  'engines/host': ['engines/engine.ts', 'util'],
  'engines/kvm': ['engines/host', 'engines/engine.ts', 'engines/arm64-registers.ts', 'engines/x86', ...ENGINE_SET],
  'engines/engine.ts': ENGINE_SET,
  'engines/arm64-registers.ts': [],
  'engines/x86': [],
  util: [],
  memory: ['util'],
  bus: ['util'],
  time: ['util'],
  irq: ['util'],
  pci: ['bus', 'memory', 'irq', 'util'],
  devices: ['pci', 'bus', 'memory', 'irq', 'time', 'util'],
  // What devices are connected to on the host: files, sockets, folders.
  backends: ['devices', 'util'],
  firmware: ['memory', 'util'],
  machine: [
    'engines/emu',
    'engines/kvm',
    'engines/host',
    'engines/engine.ts',
    'devices',
    'backends',
    'pci',
    'firmware',
    ...ENGINE_SET,
  ],
  vmm: ['machine', 'firmware', 'pci', 'util'],
  images: ['util', 'firmware'],
  bench: ['memory', 'util'],
  cli: ['vmm', 'images', 'bench', 'util'],
  'index.ts': ['vmm'],
};

/** Layers that are the same on every host and in a browser, and the builtins that a folder or file uses nevertheless. */
const PURE = ['util', 'bus', 'irq', 'pci', 'devices', 'firmware', 'memory'];
const BUILTINS_ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'devices/psci': ['node:crypto'], // TRNG
  'firmware/decompress.ts': ['node:zlib'], // gzip
};

const MAX_LINES = 700;

/** An import found in a source file. */
interface Import {
  readonly line: number;
  readonly from: string;
}

/**
 * The module names that a TypeScript file imports, in all the forms there are. Comments are blanked and text inside of
 * strings and templates is skipped, so that code in them does not count.
 */
export function importsOf(source: string): Import[] {
  // One alternative a token: comment, string, template, regular expression after an operator (roughly), anything else.
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\[\s\S]|[^`\\])*`|(?<=[=(,:!&|?[{;\n]\s*)\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/|[\w$]+|\S/g;
  const imports: Import[] = [];
  let before: string[] = []; // the last two tokens
  for (const m of source.matchAll(token)) {
    const text = m[0];
    if (text.startsWith('//') || text.startsWith('/*')) continue;
    const [second, last] = before;
    // `from 'x'`, `import 'x'`, `import('x')`, `require('x')`
    const called = last === '(' && (second === 'import' || second === 'require');
    if (/^['"]/.test(text) && (last === 'from' || last === 'import' || called)) {
      imports.push({ line: source.slice(0, m.index).split('\n').length, from: text.slice(1, -1) });
    }
    before = [last ?? '', text];
  }
  return imports;
}

/** A BigInt that is shifted by a constant and cut to some bits: Node 20 aborts when it compiles that for one of two values. */
const CUT_SHIFT = /\basU?IntN\([^,()]+,(?:[^()]|\([^()]*\))*>>\s*\d+n\b/i;
const CUT_SHIFT_WHY = 'a guest can make Node 20 abort at a shift that is cut to 64 bits; see src/util/words.ts';

/** The rules that one file under src/ breaks, as `path:line: why`. `path` is relative to src/, with slashes. */
export function check(path: string, source: string): string[] {
  const layer = layerOf(path);
  if (layer === undefined) return [`src/${path}:1: belongs to no layer: add its folder to LAYERS`];
  const broken: string[] = [];
  const lines = source.split('\n').length - 1;
  if (lines > MAX_LINES && !/^\s*\/\/ long: \S/m.test(source)) {
    broken.push(`src/${path}:${MAX_LINES + 1}: ${lines} lines; split it, or say why not in a line '// long: REASON'`);
  }
  for (const [n, line] of source.split('\n').entries()) {
    if (!path.endsWith('.test.ts') && CUT_SHIFT.test(line) && !/^\s*(\*|\/\/)/.test(line))
      broken.push(`src/${path}:${n + 1}: ${CUT_SHIFT_WHY}`);
  }
  for (const { line, from } of importsOf(source)) {
    const why = brokenImport(path, layer, from);
    if (why) broken.push(`src/${path}:${line}: ${why}`);
  }
  return broken;
}

function brokenImport(path: string, layer: string, from: string): string | undefined {
  const test = path.endsWith('.test.ts');
  if (!from.startsWith('.')) return test ? undefined : brokenPackage(path, layer, from);
  const target = posix.join(posix.dirname(path), from);
  // A unit test may share its helpers with the tests outside of src/.
  if (test && target.startsWith('../test/')) return undefined;
  return brokenArrow(target, layer);
}

function brokenArrow(target: string, layer: string): string | undefined {
  if (target.startsWith('..')) return `${target} is outside of src/`;
  const to = layerOf(target);
  const allowed = LAYERS[layer] ?? [];
  if (to === layer || (to !== undefined && allowed.includes(to))) return undefined;
  return `${layer} may not import ${to ?? target} (only ${allowed.join(', ') || 'itself'})`;
}

function brokenPackage(path: string, layer: string, from: string): string | undefined {
  if (layer === 'engines/emu/a64/core') return `${layer} may import nothing but itself, not '${from}'`;
  const name = from.replace(/^node:/, '');
  const builtin = from.startsWith('node:') || builtinModules.includes(name);
  if (!builtin || !PURE.includes(layer)) return undefined;
  const allowed = BUILTINS_ALLOWED[path] ?? BUILTINS_ALLOWED[posix.dirname(path)];
  if (allowed?.includes(`node:${name}`)) return undefined;
  return `${layer} may not import Node builtins, as '${from}' is`;
}

/** The layer of a path under src/; a folder's path or a file's, with or without extension. */
function layerOf(path: string): string | undefined {
  return Object.keys(LAYERS).find(l => path === l || `${path}.ts` === l || path.startsWith(`${l}/`));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const src = join(dirname(dirname(fileURLToPath(import.meta.url))), 'src');
  let files = 0;
  const broken: string[] = [];
  for (const file of typescriptFiles(src)) {
    files++;
    broken.push(...check(relative(src, file).split(sep).join('/'), readFileSync(file, 'utf8')));
  }
  for (const b of broken.sort()) console.error(b);
  console.log(`layers: ${files} files, ${broken.length} rules broken`);
  process.exitCode = broken.length ? 1 : 0;
}
