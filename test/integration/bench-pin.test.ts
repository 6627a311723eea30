import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

// `tsvisor bench pin` as a process. What it measures depends on the host; what it says about itself does not.

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

function bench(...args: string[]) {
  const r = spawnSync(process.execPath, [MAIN, 'bench', 'pin', ...args], { encoding: 'utf8', timeout: 120_000 });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

test('a line of JSON for each mode, thread and repeat', () => {
  const { code, out, err } = bench('-aLubU', '-m', '2', '-n', '3', '-r', '2', '-j', '3', '-w', '--json');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  const rows = out
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));
  const modes = ['GET_FAST', 'PIN_FAST', 'PIN_LONGTERM', 'GET_BASIC', 'PIN_BASIC'];
  const threads = [0, 1, 2];
  expect(rows.map(r => [r.mode, r.thread, r.repeat])).toEqual(
    modes.flatMap(m => threads.flatMap(t => [0, 1].map(repeat => [m, t, repeat]))),
  );
  for (const r of rows) {
    expect(r).toMatchObject({ pages: 512, pagesPerCall: 3, write: true, threads: 3 });
    expect(r.getNsPerPage).toBeGreaterThan(0);
    expect(r.getUs).toBeTypeOf('number');
    if (r.mode.startsWith('GET')) expect([r.putUs, r.putNsPerPage]).toEqual([0, 0]);
    else expect(r.putNsPerPage).toBeGreaterThan(0);
  }
});

test('a table, with times of getting and putting apart', () => {
  const { code, out, err } = bench('-m', '2', '-H');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  const lines = out.trimEnd().split('\n');
  expect(lines[0]).toBe('2 MiB, 512 pages a call, without FOLL_WRITE, 1 thread, 1 repeat');
  expect(lines[1]!.split(/ {2,}/)).toEqual('MODE,THREAD,REPEAT,GET us,PUT us,GET ns/page,PUT ns/page'.split(','));
  expect(lines.slice(2).map(l => l.split(/ +/).length)).toEqual([7, 7, 7]);
  expect(lines.slice(2).map(l => l.split(' ')[0])).toEqual(['GET_FAST', 'PIN_FAST', 'PIN_LONGTERM']);
});

test('what cannot be measured is a mistake of usage', () => {
  expect(bench('-j', '64')).toMatchObject({ code: 2, out: '', err: expect.stringContaining('from 1 to 63') });
  expect(bench('-H', '-n', '5')).toMatchObject({ code: 2, err: expect.stringContaining('multiple of 512') });
  expect(bench('--frobnicate')).toMatchObject({ code: 2, err: expect.stringContaining('unknown option') });
});
