// Several threads pin and unpin while others take the memory away and collect what is dirty. A longer race:
// PINS_RACE_OPERATIONS=5000000.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import {
  addressOf,
  BALLOON,
  BASE,
  CONTROL,
  PAGES,
  PINNERS,
  type RaceData,
  type RaceResult,
  raceTable,
} from '../support/pins-race.ts';

/** Pins and unpins of all threads; the default takes about ten seconds. */
const OPERATIONS = Number(process.env.PINS_RACE_OPERATIONS ?? 500_000);

it(`4.3: no page changes while it is pinned but by its holder, no write is lost, counters balance (${OPERATIONS})`, async () => {
  const bytes = new SharedArrayBuffer(PAGES * 4096);
  const table = raceTable(bytes);
  const control = new Int32Array(new SharedArrayBuffer(12));
  const signal = (word: number) => {
    Atomics.store(control, word, 1);
    Atomics.notify(control, word);
  };
  const workers: Worker[] = [];
  const start = async (role: RaceData['role'], id: number) => {
    const operations = Math.ceil(OPERATIONS / PINNERS);
    const data: RaceData = { role, id, operations, bytes, state: table.share(), control };
    const file = new URL('./fixtures/pins-race-worker.mjs', import.meta.url);
    const worker = new Worker(file, { workerData: data, execArgv: [] });
    workers.push(worker);
    expect(await once(worker, 'message')).toEqual(['ready']);
    const done = once(worker, 'message') as Promise<[RaceResult]>;
    // Looked at when its turn has come; a failure until then is no unhandled one.
    done.catch(() => undefined);
    return { done };
  };
  try {
    // The collector first: what is written after its log has begun must be in it.
    const collector = await start('collector', 0);
    const balloon = await start('balloon', 0);
    const pinners: Promise<[RaceResult]>[] = [];
    for (let id = 0; id < PINNERS; id++) pinners.push((await start('pinner', id)).done);
    signal(CONTROL.go);
    const results = (await Promise.all(pinners)).map(([r]) => r);
    signal(CONTROL.balloonEnds);
    const [ballooned] = await balloon.done;
    signal(CONTROL.collectorEnds);
    const [collected] = await collector.done;

    expect([...results, ballooned, collected].flatMap(r => r.errors)).toEqual([]);
    const pages = results.reduce((sum, r) => sum + r.counted.pages!, 0);
    const s = table.stats();
    expect(s).toMatchObject({ pinAcquired: pages, pinReleased: pages, current: 0, currentLong: 0 });
    expect(table.maybePinned(BASE, bytes.byteLength)).toBe(false);
    // What had to wait has been discarded or cancelled.
    const { discarded = 0, queued, unplugged = 0, skippedPinned } = ballooned.counted;
    expect(s).toMatchObject({ queued, skippedPinned, discarded: discarded + unplugged + queued! - s.cancelled });
    expect(table.threads).toBe(1);
    // All that is to be raced has been.
    expect(ballooned.counted).toMatchObject({ drained: expect.any(Number), unplugged: expect.any(Number) });
    expect(Math.min(s.queued, s.cancelled, s.skippedPinned, s.queued - s.cancelled)).toBeGreaterThan(0);
    const refused = results.map(r => r.counted);
    expect(refused.some(c => c.EFAULT! > 0) && refused.some(c => c.EBUSY! > 0)).toBe(true);
    if (process.env.PINS_RACE_OPERATIONS !== undefined) console.log(refused, ballooned.counted, collected.counted);
    // Nothing is left that would keep memory.
    expect(table.discard(BASE, bytes.byteLength, 'report')).toEqual({ discarded: PAGES, queued: 0, skippedPinned: 0 });
    expect(table.page(addressOf(BALLOON[0]))).toEqual({ short: 0, long: 0, write: 0, state: 'present' });
  } finally {
    await Promise.all(workers.map(w => w.terminate()));
  }
});
