// Builds dist/: the A64 core (AssemblyScript to Wasm), then the TypeScript sources, then the bundle of the Worker's.
// `npm install` runs it through the prepare script; it is skipped where the compilers are not installed
// (an installed package ships dist/ ready made).
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = name => join(root, 'node_modules', name);

function run(script, args) {
  const r = spawnSync(process.execPath, [script, ...args], { cwd: root, stdio: 'inherit' });
  if (r.status !== 0) process.exit(r.status ?? 1);
}

function newest(dir) {
  let t = 0;
  for (const e of readdirSync(dir, { withFileTypes: true })) {
    const p = join(dir, e.name);
    t = Math.max(t, e.isDirectory() ? newest(p) : statSync(p).mtimeMs);
  }
  return t;
}

if (!existsSync(bin('assemblyscript')) || !existsSync(bin('typescript'))) {
  if (existsSync(join(root, 'dist'))) process.exit(0);
  process.stderr.write(
    'tsvisor: dist/ is missing and the compilers are not installed: run `npm install --include=dev`\n',
  );
  process.exit(1);
}

mkdirSync(join(root, 'dist'), { recursive: true });
const wasm = join(root, 'dist/a64.wasm');
const core = join(root, 'src/engines/emu/a64/core');
if (!existsSync(wasm) || statSync(wasm).mtimeMs < newest(core) || process.argv.includes('--force')) {
  // --memoryBase: static data lies behind the fixed per-vCPU state, see core/layout.ts.
  run(bin('assemblyscript/bin/asc.js'), [
    join(core, 'index.ts'),
    '-o',
    wasm,
    '-O3',
    '--runtime',
    'stub',
    '--noAssert',
    '--importMemory',
    '--sharedMemory',
    '--initialMemory',
    '1024',
    '--maximumMemory',
    '65536',
    '--memoryBase',
    '65536',
    '--enable',
    'simd',
    '--enable',
    'threads',
    '--enable',
    'bulk-memory',
    '--enable',
    'sign-extension',
    '--enable',
    'nontrapping-f2i',
    '--disableWarning',
    '112',
    '--enable',
    'mutable-globals',
  ]);
}
run(bin('typescript/bin/tsc'), ['-p', 'tsconfig.build.json']);
run(bin('tsx/dist/cli.mjs'), [join(root, 'scripts/bundle-worker.ts')]);
