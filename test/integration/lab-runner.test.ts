import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { groupCases, type LabBundle, type LabReport, makeBundle, runGroup } from '../../scripts/lab/run.ts';
import { findLab } from '../support/lab.ts';

// The runner of test/lab, on cases that end in every way there is: here, without a lab.

const FAKE_LAB = fileURLToPath(new URL('fixtures/fake-lab.mjs', import.meta.url));
const FIXTURES = fileURLToPath(new URL('fixtures/lab', import.meta.url));
let bundle: LabBundle;
beforeAll(async () => {
  bundle = await makeBundle(FIXTURES);
});
afterAll(() => rmSync(bundle.folder, { recursive: true, force: true }));

describe('groups', () => {
  it('have the cases of an architecture that need the same machine', () => {
    const titles = (place: 'x86' | 'arm64') => groupCases(place, bundle.cases).map(g => [g.needs, g.cases.length]);
    const usual = { memory: 1024, cpus: 1, vfio: false };
    const devices = { memory: 2048, cpus: 1, vfio: true };
    expect(titles('x86')).toEqual([
      [usual, 11],
      [devices, 1],
    ]);
    expect(titles('arm64')).toEqual([
      [usual, 12],
      [devices, 1],
    ]);
  });
});

describe('a run', () => {
  let report: LabReport;
  let output = '';
  beforeAll(async () => {
    const wanted = bundle.cases.filter(c => !c.needs.vfio && c.needs.on.length === 2);
    const [group] = groupCases('here', wanted);
    report = await runGroup(bundle, group!, text => {
      output += text;
    });
  });

  it('has a result for each case, whatever the others do to their process', () => {
    expect(report.results.map(r => [r.id.replace('sample: ', ''), r.outcome, r.why?.split('\n')[0]])).toEqual([
      ['passes', 'passed', undefined],
      ['fails', 'failed', expect.stringContaining('Expected values to be strictly equal')],
      ['skips', 'skipped', 'no reason but this'],
      ['never resolves', 'failed', 'Error: it did not end within 1 s'],
      ['never returns', 'failed', 'it did not end within 1 s and was killed'],
      ['ends its process', 'failed', 'its process ended with exit code 3'],
      ['is killed', 'failed', 'its process ended with SIGSEGV'],
      ['rejects behind the back', 'failed', 'its process ended with exit code 1'],
      ['comes after all these', 'passed', undefined],
      ['ends the runner', 'failed', 'the lab ended with SIGKILL in or before this case'],
      ['does not run', 'failed', 'the lab ended with SIGKILL in or before this case'],
    ]);
  });

  it('prints each result with its notes, and where in the sources it failed', () => {
    expect(output).toMatch(/^Linux .*Node v/);
    expect(output).toMatch(/^ok {4}sample: passes \(\d+ ms\)\n {6}a number: 42\n/m);
    expect(output).toMatch(/^skip {2}sample: skips: no reason but this\n/m);
    expect(output).toMatch(/^FAIL {2}sample: fails[\s\S]*sample\.lab\.ts:\d+/m);
    const source = readFileSync(`${FIXTURES}/sample.lab.ts`, 'utf8').split('\n');
    const line = 1 + source.findIndex(l => l.includes('assert.equal(1, 2)'));
    expect(report.results[1]?.why).toContain(`sample.lab.ts:${line}:`);
    expect(report.enter).toBeGreaterThan(0);
  });

  it('skips a case that needs devices where there are none', async () => {
    const [group] = groupCases(
      'here',
      bundle.cases.filter(c => c.needs.vfio),
    );
    const { results } = await runGroup(bundle, group!, () => undefined);
    expect(results).toMatchObject([{ outcome: 'skipped', why: 'no device is bound to vfio-pci here' }]);
  });
});

describe('a lab that breaks', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fake-lab-'));
    vi.stubEnv('TSVISOR_LAB', FAKE_LAB);
    vi.stubEnv('FAKE_LAB', join(folder, 'starts'));
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  /** Runs three cases in a lab of which each start is `PASSED STATUS`. */
  async function run(...starts: string[]) {
    writeFileSync(join(folder, 'starts'), starts.join('\n'));
    const cases = bundle.cases.filter(c => !c.needs.vfio).slice(0, 3);
    const [group] = groupCases('x86', cases);
    let output = '';
    const { results } = await runGroup(bundle, group!, text => (output += text), { keepAddon: true });
    return { outcomes: results.map(r => r.outcome), whys: results.map(r => r.why), output };
  }

  // It asks for what every lab needs.
  vi.stubEnv('TSVISOR_LAB', FAKE_LAB);
  const found = findLab();
  vi.unstubAllEnvs();
  const reason = 'reason' in found ? found.reason : undefined;
  if (reason !== undefined) console.log(`skipped: a lab that breaks: ${reason}`);

  it.skipIf(reason).each([
    [125, 'died'],
    [124, 'stood still'],
  ])('with %i is started once more, and it is said', async (status, what) => {
    const { outcomes, output } = await run(`1 ${status}`, '2 0');
    expect(outcomes).toEqual(['passed', 'passed', 'passed']);
    expect(output).toContain(`the lab ${what}, its supervisor too: once more, from the case that it was at`);
  });

  it.skipIf(reason)('twice has failed', async () => {
    const { outcomes, whys } = await run('1 125', '1 125', '1 0');
    expect(outcomes).toEqual(['passed', 'passed', 'failed']);
    expect(whys[2]).toBe('the lab ended with 125 in or before this case');
  });

  it.skipIf(reason)('with anything else has failed at once', async () => {
    const { outcomes, output } = await run('2 1', '1 0');
    expect(outcomes).toEqual(['passed', 'passed', 'failed']);
    expect(output).toBe('');
  });

  it.skipIf(reason)('before it comes to its command has failed at once', async () => {
    const { outcomes, output } = await run('-1 125', '3 0');
    expect(outcomes).toEqual(['failed', 'failed', 'failed']);
    expect(output).toBe('');
  });
});
