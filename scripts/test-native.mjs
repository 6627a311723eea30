// The addon under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer:
//
//   npm run test:native [-- address|thread]
//
// cmake-js builds it for each into build/sanitize-*; the tasks of test/support/vcpu-tasks.ts then run in processes that
// preload the sanitizer's runtime, for Node itself has none. TSVISOR_STRESS_SECONDS (default 5) is the time of each storm,
// TSVISOR_STRESS_LOADS (default 20) the number of Workers. What cannot be done here is skipped, and it is said why. Ends with
// 1 when a sanitizer or a task has found something.
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { missingKvm, NativeKit } from '../test/support/native.ts';
import { buildAddon, root } from './build-addon.mjs';

const seconds = Number(process.env.TSVISOR_STRESS_SECONDS ?? 5);
const loads = Number(process.env.TSVISOR_STRESS_LOADS ?? 20);

const SANITIZERS = [
  { name: 'address', sanitize: 'address,undefined', library: 'libasan.so' },
  // The runtime knows no locks inside of Node, whose code is not instrumented: what happens there is left out.
  { name: 'thread', sanitize: 'thread', library: 'libtsan.so' },
];

/** @type {[task: string, options: object][]} */
const TASKS = [
  ['storm', { seconds, threads: false }],
  ['storm', { seconds, threads: true }],
  ['slots', { seconds, threads: false }],
  ['slots', { seconds, threads: true }],
  ['pauses', { times: 1000 }],
  ['churn', { times: 40 }],
  ['loads', { times: loads }],
  ['clocks', {}],
];

const say = (/** @type {string} */ line) => process.stdout.write(`${line}\n`);

/** A sanitizer's runtime as the compiler finds it, or undefined. @param {string} library */
function runtime(library) {
  const { stdout } = spawnSync('gcc', [`-print-file-name=${library}`], { encoding: 'utf8' });
  // gcc answers with the bare name when it has none.
  return stdout?.startsWith('/') && existsSync(stdout.trim()) ? stdout.trim() : undefined;
}

/** @param {NativeKit} kit @param {typeof SANITIZERS[number]} sanitizer @returns {Promise<boolean>} */
async function check(kit, { name, sanitize, library }) {
  const preload = runtime(library);
  if (preload === undefined) {
    say(`skipped: ${name}: gcc has no ${library}`);
    return true;
  }
  const out = join(root, `build/sanitize-${name}`);
  const { built, reason, path, log } = await buildAddon({ out, sanitize });
  if (!built || path === undefined) {
    say(`${name}: ${reason}\n${log ?? ''}`);
    return false;
  }
  // Node frees its wrappers of externals with the JavaScript heap only, which a process does not take down at its end.
  const suppressions = join(kit.folder, 'leaks');
  writeFileSync(suppressions, 'leak:napi_create_external\n');
  const env = {
    LD_PRELOAD: preload,
    ASAN_OPTIONS: 'detect_leaks=1',
    LSAN_OPTIONS: `suppressions=${suppressions}:print_suppressions=0`,
    UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
    TSAN_OPTIONS: 'ignore_noninstrumented_modules=1:halt_on_error=1',
  };
  let good = true;
  for (const [task, options] of TASKS) {
    const title = `${name}: ${task} ${JSON.stringify(options)}`;
    try {
      const limit = (seconds + 60 + loads * 5) * 1000;
      const result = await kit.run(path, task, { options, env, node: ['--expose-gc'], limit });
      if (result.status !== 0 || (result.threads ?? 0) !== 0 || (result.fds ?? 0) !== 0) {
        throw new Error(JSON.stringify(result));
      }
      say(`ok  ${title}: ${JSON.stringify(result)}`);
    } catch (e) {
      good = false;
      say(`BAD ${title}: ${e instanceof Error ? e.message : e}`);
    }
  }
  return good;
}

const missing = missingKvm();
if (missing !== undefined) say(`skipped: ${missing}`);
else {
  const kit = new NativeKit();
  try {
    const wanted = process.argv.slice(2);
    for (const s of SANITIZERS.filter(s => wanted.length === 0 || wanted.includes(s.name))) {
      if (!(await check(kit, s))) process.exitCode = 1;
    }
  } finally {
    kit[Symbol.dispose]();
  }
}
