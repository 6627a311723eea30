import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { OPTION_NAMES, OPTIONS, TRACE_TOPICS } from '../../src/vmm/options.ts';

// The documentation says what the program does.

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');

test('every error code has its section in docs/errors.md, with the exit code that the command gives it', () => {
  const codes = [...read('src/util/errors.ts').matchAll(/\| '(ERR_\w+)'/g)].map(m => m[1]!);
  expect(codes.length).toBeGreaterThan(20);
  const exits = read('src/cli/exit-codes.ts');
  const number: Record<string, number> = { usage: 2, host: 3, fault: 4 };
  const sections = [...read('docs/errors.md').matchAll(/^### (ERR_\w+)\n\nExit code (\d)\. /gm)].map(m => [
    m[1],
    Number(m[2]),
  ]);
  expect(sections).toEqual(codes.map(c => [c, number[new RegExp(`${c}: EXIT\\.(\\w+)`).exec(exits)![1]!]]));
});

test('docs/cli.md lists every flag', () => {
  // The formatter pads tables.
  const cli = read('docs/cli.md').replace(/ +/g, ' ');
  for (const name of OPTION_NAMES) {
    const { short } = OPTIONS[name];
    expect(cli).toMatch(
      new RegExp(`^\\| ${short === undefined ? '' : `\`-${short}\`, `}\`--${name} [A-Z]+\` \\| \`${name}\` \\|`, 'm'),
    );
  }
  for (const topic of TRACE_TOPICS) expect(cli).toContain(`\`${topic}\``);
});

test('links between documents lead somewhere', () => {
  const documents = ['README.md', 'CONTRIBUTING.md', ...readdirSync(join(root, 'docs')).map(f => `docs/${f}`)];
  const broken: string[] = [];
  for (const d of documents.filter(f => f.endsWith('.md'))) {
    for (const [, target = ''] of read(d).matchAll(/\]\((?!https?:)([^)#]*)/g)) {
      if (target !== '' && !existsSync(join(root, dirname(d), target))) broken.push(`${d}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});
