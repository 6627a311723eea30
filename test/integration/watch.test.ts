import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { host } from '../../src/engines/host/host.ts';

// The addon's waiting for file descriptors, with eventfds.

const { addon, reason } = loadAddon();
if (addon === undefined) console.log(`skipped: ${reason}`);
const withAddon = test.skipIf(addon === undefined);

/** Waits until `condition` holds, up to 5 s. */
async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !condition(); i++) await sleep(5);
  expect(condition()).toBe(true);
}

withAddon('a watch calls back while there is something to read, and not while it is paused', async () => {
  const h = host();
  const fd = h.eventfd(0, 0);
  const seen: (number | bigint | undefined)[] = [];
  const watch = h.watch(fd, errno => {
    seen.push(errno, h.eventfdRead(fd));
  });
  await sleep(20);
  expect(seen).toEqual([]);
  h.eventfdWrite(fd, 5n);
  await until(() => seen.length > 0);
  expect(seen).toEqual([0, 5n]);
  h.setWatching(watch, false);
  h.eventfdWrite(fd, 6n);
  await sleep(20);
  expect(seen.length).toBe(2);
  h.setWatching(watch, true);
  await until(() => seen.length > 2);
  expect(seen.slice(2)).toEqual([0, 6n]);
  h.unwatch(watch);
  h.unwatch(watch);
  h.setWatching(watch, true);
  h.eventfdWrite(fd, 7n);
  await sleep(20);
  expect(seen.length).toBe(4);
  // The descriptor is free for another watch at once.
  const again = h.watch(fd, () => seen.push(h.eventfdRead(fd)));
  await until(() => seen.length > 4);
  expect(seen[4]).toBe(7n);
  h.unwatch(again);
  h.close(fd);
});

withAddon('a watch may end inside of its callback', async () => {
  const h = host();
  const fd = h.eventfd(1, 0);
  let calls = 0;
  const watch = h.watch(fd, () => {
    calls++;
    h.unwatch(watch);
    h.close(fd);
  });
  await until(() => calls > 0);
  await sleep(20);
  expect(calls).toBe(1);
});

withAddon('what cannot be watched is refused', () => {
  const h = host();
  expect(() => h.watch(999_999, () => {})).toThrow('epoll_ctl failed: EBADF');
  expect(() => h.watch(0, 'x' as never)).toThrow('callback must be a function');
  expect(() => h.setWatching({} as never, true)).toThrow('must come from watch()');
  expect(() => h.unwatch(undefined as never)).toThrow('must come from watch()');
});

const script = (body: string) => `
  const { parentPort } = require('node:worker_threads');
  const a = require(${JSON.stringify(new URL('../../build/Release/tsvisor.node', import.meta.url).pathname)});
  const fd = a.eventfd(1, 0);
  ${body}`;

withAddon('a thread ends with watches that nobody ended, by itself or by terminate()', async () => {
  const alone = new Worker(script('a.watch(fd, () => {}); a.unwatch(a.watch(a.eventfd(0, 0), () => {}));'), {
    eval: true,
  });
  expect(await new Promise(resolve => alone.once('exit', resolve))).toBe(0);
  const busy = 'setInterval(() => {}, 1000); a.watch(fd, () => parentPort.postMessage(0));';
  const ended = new Worker(script(busy), { eval: true });
  await new Promise(resolve => ended.once('message', resolve));
  expect(await ended.terminate()).toBe(1);
});

withAddon('what a callback throws is an error of its thread', async () => {
  const w = new Worker(script("setInterval(() => {}, 1000); a.watch(fd, () => { throw new Error('mine'); });"), {
    eval: true,
  });
  expect(await new Promise(resolve => w.once('error', resolve))).toMatchObject({ message: 'mine' });
});
