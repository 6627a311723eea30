// Bundles the code of a VM's Worker into dist/worker/, of which a machine loads 16 files instead of 130: finding and opening them was
// a third of the time that Vm.create() took. What not every machine needs stays in files of its own. Run by scripts/build.mjs.
import { rmSync } from 'node:fs';
import { join, posix } from 'node:path';
import { build } from 'esbuild';
import { ROOT } from '../test/support/lab.ts';
import { placeOfFiles } from './place-of-files.ts';

const FOLDER = 'dist/worker';

// Names contain a hash, so that those of the last build would stay.
rmSync(join(ROOT, FOLDER), { recursive: true, force: true });
await build({
  entryPoints: [join(ROOT, 'src/machine/machine-worker.ts')],
  outdir: join(ROOT, FOLDER),
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'warning',
  plugins: [placeOfFiles(place => `new URL(${JSON.stringify(posix.relative(FOLDER, place))}, import.meta.url).href`)],
});
