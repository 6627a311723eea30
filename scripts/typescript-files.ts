import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The paths of all TypeScript files below a folder. */
export function* typescriptFiles(folder: string): Generator<string> {
  for (const e of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, e.name);
    if (e.isDirectory()) yield* typescriptFiles(path);
    else if (/\.[cm]?tsx?$/.test(e.name)) yield path;
  }
}
