import { readFile } from 'node:fs/promises';
import { relative, sep } from 'node:path';
import type { Plugin } from 'esbuild';
import { ROOT } from '../test/support/lab.ts';

/**
 * For bundles: each source keeps its own `import.meta.url`, since what src/ loads by it (Workers, Wasm, the addon) is beside its copy in
 * dist/.
 *
 * @param url makes an expression of JavaScript for the URL of a file, which is given by its path from the repository's root, with slashes.
 */
export function placeOfFiles(url: (place: string) => string): Plugin {
  return {
    name: 'place-of-files',
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        const source = await readFile(path, 'utf8');
        if (!source.includes('import.meta.url')) return undefined;
        const place = relative(ROOT, path)
          .replaceAll(sep, '/')
          .replace(/^src\/(.*)\.ts$/, 'dist/$1.js');
        return { contents: source.replaceAll('import.meta.url', url(place)), loader: 'ts' };
      });
    },
  };
}
