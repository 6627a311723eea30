import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { groupCases, makeBundle, runGroup } from '../../scripts/lab/run.ts';
import type { LabArchitecture } from '../lab/lab-case.ts';
import type { LabResult } from '../lab/runner.ts';
import { findLab } from '../support/lab.ts';

// The cases of test/lab that are marked `smoke`, in both labs, each as a test of its own. `npm run test:lab` runs them all.

/** The compilers that build the addon for each lab. */
const COMPILERS = { x86: 'c++', arm64: process.arch === 'arm64' ? 'c++' : 'aarch64-linux-gnu-g++' };

const found = findLab();
const bundle = await makeBundle();
const remove = () => rmSync(bundle.folder, { recursive: true, force: true });
// Nothing comes after tests that are all skipped.
if ('reason' in found) remove();
else afterAll(remove);

for (const architecture of ['x86', 'arm64'] satisfies LabArchitecture[]) {
  const reason = whyNot(architecture);
  if (reason !== undefined) console.log(`skipped: the lab for ${architecture}: ${reason}`);
  const groups = groupCases(
    architecture,
    bundle.cases.filter(c => c.needs.smoke),
  );

  describe.skipIf(reason !== undefined)(`in the lab for ${architecture}`, () => {
    const results = new Map<string, LabResult>();
    let output = '';
    beforeAll(async () => {
      for (const group of groups) {
        const report = await runGroup(bundle, group, text => {
          output += text;
          if (/^the lab (stood still|died)/.test(text)) console.log(`lab ${architecture}: ${text}`);
        });
        for (const r of report.results) results.set(r.id, r);
        console.log(`lab ${architecture}: entered in ${(report.enter / 1000).toFixed(1)} s`);
      }
    }, 1_500_000);

    for (const { id } of groups.flatMap(g => g.cases)) {
      it(id, context => {
        const result = results.get(id);
        if (result?.outcome === 'skipped') context.skip(result.why);
        if (result?.outcome !== 'passed') throw new Error(`${result?.why}\nThe lab printed:\n${output}`);
      });
    }
  });
}

function whyNot(architecture: LabArchitecture): string | undefined {
  if ('reason' in found) return found.reason;
  const compiler = COMPILERS[architecture];
  return spawnSync(compiler, ['--version']).status === 0
    ? undefined
    : `${compiler}, which builds the addon, is missing`;
}
