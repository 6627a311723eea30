// The page of the VM clock is written while a guest reads it on another thread, as vCPUs of KVM do.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { VmClock } from '../../src/devices/vmclock/device.ts';
import { COUNTER_ARM_VCNT } from '../../src/devices/vmclock/regs.ts';

/** Different states of the page that the guest is to find. */
const VALUES = 2000;
/** Updates before the test gives up on a reader that does not end. */
const LIMIT = 20_000_000;

it(`what a guest reads under one seq_count belongs together (${VALUES} states)`, async () => {
  const page = new SharedArrayBuffer(4096);
  const done = new Int32Array(new SharedArrayBuffer(4));
  // The n-th update has the marker n, and time and counter that follow from it.
  let updates = 1n;
  const read = () => ({
    wallNs: updates * 1_000_000_000n + (updates % 1_000_000_000n),
    counter: updates * 7n,
    errorNs: 0,
  });
  const clock = new VmClock({
    page: new Uint8Array(page),
    counter: { id: COUNTER_ARM_VCNT, hz: 62_500_000, read, exact: false },
    disruptionMarker: 0n,
    vmGenerationCounter: 0n,
  });
  clock.disrupt();
  const worker = new Worker(new URL('./fixtures/vmclock-reader.mjs', import.meta.url), {
    workerData: { page, done, values: VALUES },
    execArgv: [],
  });
  try {
    const answer = once(worker, 'message') as Promise<[{ errors: string[]; retries: number; reads: number }]>;
    answer.catch(() => undefined);
    while (Atomics.load(done, 0) === 0) {
      expect(updates).toBeLessThan(LIMIT);
      for (let i = 0; i < 1000; i++) {
        updates++;
        clock.disrupt();
        // Between two updates there is time for a read, more or less of it.
        for (let spin = Number(updates % 32n) * 16; spin > 0; spin--) Atomics.load(done, 0);
      }
      // The other thread begins by events of this one.
      await new Promise(resolve => setImmediate(resolve));
    }
    const [{ errors, retries, reads }] = await answer;
    expect(errors).toEqual([]);
    console.log(`vmclock race: ${updates} updates; ${reads} reads of ${VALUES} states, ${retries} retries`);
  } finally {
    await worker.terminate();
  }
});
