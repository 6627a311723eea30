import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { host } from '../../src/engines/host/host.ts';
import { createHostTime } from '../../src/machine/host-time.ts';
import { estimatedTime } from '../../src/time/estimator.ts';
import type { HostPair } from '../../src/time/host-clock.ts';

// The clocks of the host that the tests run on. How near they come to each other is for test/bench/clock.ts to say: here they
// must agree within what they themselves say is their error.

const { addon, reason } = loadAddon();
if (addon === undefined) console.log(`skipped: ${reason}`);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** What realtime is ahead of performance.now(), as a difference from `base`, ns. */
const aheadBy = ({ wallNs, monotonicNs }: HostPair, base: HostPair) =>
  Number(wallNs - base.wallNs) - (monotonicNs - base.monotonicNs);

/** Whether somebody has set the host's clock since the last call: all comparisons of before and after are void then. */
const clockWasSet = (() => {
  const [last, now] = [new BigInt64Array(3), new BigInt64Array(3)];
  return () => {
    host().clockPair(now);
    const jump = now[1]! - now[0]! - (last[1]! - last[0]!);
    const open = (now[2]! + last[2]!) / 2n + 1n;
    last.set(now);
    return jump > open || jump < -open;
  };
})();

describe.skipIf(addon === undefined)('with the addon', () => {
  test('ACC-2: its monotonic clock is that of process.hrtime(), between whose readings it reads', () => {
    const into = new BigInt64Array(4);
    for (let n = 0; n < 2000; n++) {
      const before = process.hrtime.bigint();
      host().clockPair(into);
      const after = process.hrtime.bigint();
      const [monotonic, , width] = into as unknown as [bigint, bigint, bigint];
      expect(width >= 0n && width <= after - before).toBe(true);
      expect(before <= monotonic - width / 2n && monotonic + width / 2n <= after).toBe(true);
    }
    expect(into[3]).toBe(0n);
  });

  test('ACC-2: 2000 pairs agree within their errors; each is of one moment during the call', () => {
    const time = createHostTime();
    expect(time.source).toBe('native');
    clockWasSet();
    const base = time.pair();
    let apart = 0;
    for (let n = 0; n < 2000; n++) {
      const before = time.monotonicNs();
      const pair = time.pair();
      expect(pair.monotonicNs).toBeGreaterThanOrEqual(before);
      expect(pair.monotonicNs).toBeLessThanOrEqual(time.monotonicNs());
      if (Math.abs(aheadBy(pair, base)) > pair.errorNs + base.errorNs) apart++;
    }
    if (clockWasSet()) console.log("not compared: the host's clock was set meanwhile");
    else expect(apart).toBe(0);
  });

  test('its realtime is the one that date(1) reads', () => {
    const time = createHostTime();
    const before = time.pair();
    const date = BigInt(execFileSync('date', ['+%s%N'], { encoding: 'utf8' }).trim());
    const after = time.pair();
    expect(before.wallNs <= date && date <= after.wallNs).toBe(true);
  });

  test('Date.now() is realtime rounded down to the ms, which the estimate takes for granted', () => {
    const into = new BigInt64Array(3);
    const ms = () => {
      host().clockPair(into);
      return Number(into[1]! / 1_000_000n);
    };
    let inOne = 0;
    for (let n = 0; n < 5000; n++) {
      const before = ms();
      const now = Date.now();
      const after = ms();
      expect(now).toBeGreaterThanOrEqual(before);
      expect(now).toBeLessThanOrEqual(after);
      if (before === after) inOne++;
    }
    // Rounded to the nearest it would miss half of these.
    expect(inOne).toBeGreaterThan(100);
  });

  test('ACC-3: the estimate misses what native code reads by no more than it says', async () => {
    const native = createHostTime();
    const estimated = estimatedTime();
    const base = native.pair();
    let compared = 0;
    for (let n = 0; n < 400; n++) {
      clockWasSet();
      const pair = estimated.pair();
      const reference = native.pair();
      if (!clockWasSet()) {
        const missed = Math.abs(aheadBy(pair, base) - aheadBy(reference, base));
        expect(missed).toBeLessThanOrEqual(pair.errorNs + reference.errorNs);
        compared++;
      }
      if (n % 10 === 0) await sleep(n % 100 === 0 ? 260 : 20);
    }
    expect(compared).toBeGreaterThan(350);
  });

  test('it reads the clocks in any number of threads', async () => {
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const into = new BigInt64Array(new SharedArrayBuffer(24));
      require(workerData).clockPair(into);
      parentPort.postMessage(into[0] > 0n && into[1] > 0n);`;
    const { attempts } = loadAddon();
    const workers = [1, 2, 3].map(() => new Worker(code, { eval: true, workerData: attempts.at(-1)!.path }));
    const answers = workers.map(w => new Promise(resolve => w.once('message', resolve)));
    expect(await Promise.all(answers)).toEqual([true, true, true]);
    await Promise.all(workers.map(w => w.terminate()));
  });

  test.each([
    ['nothing', undefined, TypeError],
    ['numbers that are not signed', new BigUint64Array(3), TypeError],
    ['doubles', new Float64Array(3), TypeError],
    ['too few elements', new BigInt64Array(2), RangeError],
    ['memory that was given away', detached(), RangeError],
  ])('it refuses %s', (_, into, error) => {
    expect(() => addon!.clockPair(into as BigInt64Array)).toThrow(error);
  });
});

function detached(): BigInt64Array {
  const into = new BigInt64Array(3);
  structuredClone(into, { transfer: [into.buffer] });
  return into;
}

test('ACC-3: without the addon a machine estimates', () => {
  // The loader looks for the addon in the package's folder: in a copy there is none.
  const folder = mkdtempSync(join(tmpdir(), 'tsvisor-host-time-'));
  try {
    for (const part of ['package.json', 'dist/machine/host-time.js', 'dist/engines/host', 'dist/time', 'dist/util']) {
      cpSync(join(ROOT, part), join(folder, part), { recursive: true });
    }
    const code = `
      import { createHostTime } from './dist/machine/host-time.js';
      const time = createHostTime();
      const before = Date.now();
      const { wallNs, errorNs } = time.pair();
      const ms = Number(wallNs / 1_000_000n);
      console.log(JSON.stringify({ source: time.source, near: ms >= before - 1 && ms <= Date.now() + 1, errorNs }));`;
    const env = { ...process.env };
    delete env.TSVISOR_ADDON;
    const args = ['--input-type=module', '-e', code];
    const output = execFileSync(process.execPath, args, { cwd: folder, env, encoding: 'utf8' });
    const result = JSON.parse(output) as { source: string; near: boolean; errorNs: number };
    expect(result).toMatchObject({ source: 'estimated', near: true });
    expect(result.errorNs).toBeGreaterThan(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
