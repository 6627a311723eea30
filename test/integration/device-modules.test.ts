// Loading of device modules, in a Worker, from a folder where no package is installed. Uses dist/, whose hooks Node loads.
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'tsvisor-modules-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Loaded {
  readonly name?: string;
  /** What a handler of the device threw. */
  readonly stack?: string;
  readonly error?: { readonly code: string; readonly message: string; readonly hint: string };
}

/** Writes `files` and loads the first of them. */
async function load(files: Record<string, string | undefined>): Promise<Loaded> {
  for (const [name, text] of Object.entries(files)) if (text !== undefined) writeFileSync(join(folder, name), text);
  const worker = new Worker(new URL('./fixtures/load-device.mjs', import.meta.url), {
    workerData: join(folder, Object.keys(files)[0]!),
    execArgv: [],
  });
  // Both from the start: a Worker that ends at once tells of its last message and of its end in one go.
  const [[loaded]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
  return loaded as Loaded;
}

const DEVICE = `definePciDevice({ name: 'd', vendor: 0x1234, device: 1 }, dev => dev.after(1, () => { throw new Error('boom'); }))`;

describe('device modules', () => {
  it('may be TypeScript, import TypeScript, and use the kit by either of its names', async () => {
    const loaded = await load({
      'typed.ts': `
        import { definePciDevice, PciDevice } from 'tsvisor/devices';
        import { definePciDevice as same } from 'tsvisor';
        import { Kind } from './kind.js';
        import { name } from './name';
        interface Unused { readonly a: number }
        export default definePciDevice({ name: name + Kind.b + (same === definePciDevice), vendor: 1, device: 1 }, (dev: PciDevice) =>
          dev.after(1, (): never => { throw new Error('boom'); }));`,
      'kind.ts': 'export enum Kind { a, b }',
      'name.ts': "export const name: string = 'x';",
    });
    expect(loaded.name).toBe('x1true');
    expect(loaded.stack).toContain('typed.ts:8:');
  });

  it('leaves no process of the compiler behind', async ({ skip }) => {
    if (process.platform !== 'linux') skip(`children are looked up in /proc, and this is ${process.platform}`);
    // Children by /proc: one that has ended and that nobody waits for is there, too.
    const children = () =>
      readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    const before = children();
    await load({ 'child.ts': `import { definePciDevice } from 'tsvisor'; export default ${DEVICE};` });
    expect(children().filter(c => !before.includes(c))).toEqual([]);
  });

  it('may be JavaScript, with the device as default or as the only export', async () => {
    const head = "import { definePciDevice, Vm } from 'tsvisor';\n";
    expect((await load({ 'a.mjs': `${head}export default ${DEVICE};` })).name).toBe('d');
    expect((await load({ 'b.mjs': `${head}export const device = ${DEVICE}, other = Vm;` })).name).toBe('d');
  });

  it.each([
    ['missing.ts', undefined, 'there is no such file'],
    ['syntax.ts', 'let x: = 3', /SyntaxError: .*syntax\.ts:1:8: Unexpected "="$/],
    ['throws.mjs', "throw new TypeError('first line\\nsecond')", 'TypeError: first line'],
    ['imports.mjs', "import 'nothing-of-that-name'", /Error: Cannot find package 'nothing-of-that-name'/],
    ['empty.mjs', 'export const a = { spec: {}, setup() {} };', 'it exports no device'],
    [
      'two.mjs',
      `import { definePciDevice } from 'tsvisor'; export const a = ${DEVICE}, b = ${DEVICE};`,
      'exports 2 devices',
    ],
    [
      'spec.mjs',
      "import { definePciDevice } from 'tsvisor'; definePciDevice({ vendor: 0 })",
      /VmError: .*device: is missing$/,
    ],
  ])('say what is wrong: %s', async (name, text, why) => {
    const e = (await load({ [name]: text })).error!;
    expect(e).toMatchObject({ code: 'ERR_DEVICE', hint: expect.stringMatching(/./) });
    expect(e.message).toMatch(why);
    expect(e.message.split('\n').length).toBe(1);
  });
});
