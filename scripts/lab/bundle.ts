import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import type { LabCaseInfo } from '../../test/lab/lab-case.ts';
import { ROOT } from '../../test/support/lab.ts';
import { placeOfFiles } from '../place-of-files.ts';

const RUNNER = join(ROOT, 'test/lab/runner.ts');

/**
 * Bundles the files *.lab.ts of a folder and their runner into one file for Node, so that inside of the lab nothing has to be compiled and
 * one file is read. Packages stay outside; `tsvisor` is this one's dist/.
 *
 * @param output path of the file, below the repository's root, where its packages are found.
 */
export async function bundleCases(folder: string, output: string): Promise<void> {
  const files = readdirSync(folder).filter(f => f.endsWith('.lab.ts'));
  const imports = files.map(f => `${JSON.stringify(f.replace(/\.lab\.ts$/, ''))}: () => import('./${f}'),`);
  await build({
    stdin: {
      contents: `import { main } from ${JSON.stringify(RUNNER)};\nawait main({\n${imports.join('\n')}\n});\n`,
      resolveDir: folder,
      loader: 'ts',
    },
    outfile: output,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    sourcemap: 'inline',
    sourcesContent: false,
    logLevel: 'error',
    plugins: [placeOfFiles(place => JSON.stringify(pathToFileURL(join(ROOT, place)).href))],
  });
}

/**
 * The cases in a bundle. Loading a file of cases must do nothing that needs the lab, since it is loaded here too.
 *
 * @throws Error when a file does not load.
 */
export function listCases(bundle: string): readonly LabCaseInfo[] {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--enable-source-maps', bundle, 'list'], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`a file of cases does not load:\n${stderr}`);
  return JSON.parse(stdout) as LabCaseInfo[];
}
