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

test('docs/cli.md lists every flag and every verb', () => {
  // The formatter pads tables.
  const cli = read('docs/cli.md').replace(/ +/g, ' ');
  for (const name of OPTION_NAMES) {
    const { short, kind } = OPTIONS[name];
    const long = name.replace(/[A-Z]/g, c => `-${c.toLowerCase()}`);
    const flag =
      kind === 'off'
        ? `\`--no-${long}\``
        : `${short === undefined ? '' : `\`-${short}\`, `}\`--${long}${kind === 'flag' ? '' : ' [A-Z]+'}\``;
    const option = kind === 'off' ? `${name}: false` : name;
    expect(cli).toMatch(new RegExp(`^\\| ${flag} \\| \`${option}\` \\|`, 'm'));
  }
  for (const topic of TRACE_TOPICS) expect(cli).toContain(`\`${topic}\``);
  const verbs = [...read('src/cli/cli.ts').matchAll(/\.command\('(\w+)'\)/g)].map(m => m[1]!);
  expect(verbs.length).toBeGreaterThan(8);
  for (const verb of verbs) expect(cli).toMatch(new RegExp(`^ tsvisor ${verb} `, 'm'));
});

test('docs/api.md says something about every event of a Vm', () => {
  const events = /interface VmEvents \{(.*?)\n\}/s.exec(read('src/vmm/vm.ts'))![1]!;
  const names = [...events.matchAll(/^ {2}'?([\w-]+)'?: \[/gm)].map(m => m[1]!);
  expect(names.length).toBeGreaterThan(7);
  const api = read('docs/api.md');
  expect(names.filter(n => !api.includes(`\`${n}\``))).toEqual([]);
});

test('links between documents lead somewhere', () => {
  const folders = ['docs', 'docs/adr'];
  const documents = ['README.md', 'CONTRIBUTING.md'].concat(
    folders.flatMap(folder => readdirSync(join(root, folder)).map(f => `${folder}/${f}`)),
  );
  const broken: string[] = [];
  for (const d of documents.filter(f => f.endsWith('.md'))) {
    for (const [, target = ''] of read(d).matchAll(/\]\((?!https?:)([^)#]*)/g)) {
      if (target !== '' && !existsSync(join(root, dirname(d), target))) broken.push(`${d}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});
