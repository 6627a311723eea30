import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fakeHost, joined } from '../../../../test/support/fake-virtio.ts';
import { VirtioRng } from './device.ts';

/** A source that counts, so that the order and the number of its bytes can be seen. */
function counting() {
  let next = 0;
  const asked: Uint8Array[] = [];
  const device = new VirtioRng({
    fill: into => {
      asked.push(into);
      for (let i = 0; i < into.length; i++) into[i] = next++ & 0xff;
    },
  });
  return { device, asked };
}

test('a request is filled from end to end, however it is cut', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(5000), { maxLength: 4 }), lengths => {
      const { device } = counting();
      const queue = fakeHost(device).queues[0]!;
      const chain = queue.offer([], lengths);
      device.notify(0);
      expect(queue.pushed).toEqual([{ chain, written: chain.writableLength }]);
      expect(joined(chain.writable).every((b, i) => b === (i & 0xff))).toBe(true);
      expect(queue.interrupts).toBe(1);
    }),
    { numRuns: 30 },
  );
});

test('the source never sees guest memory', () => {
  const { device, asked } = counting();
  const queue = fakeHost(device).queues[0]!;
  queue.offer([], [10_000]);
  device.notify(0);
  expect(asked.map(a => a.length)).toEqual([4096, 4096, 1808]);
  expect(asked.every(a => a.buffer instanceof ArrayBuffer)).toBe(true);
});

test('a request gets 64 KiB at most', () => {
  const { device } = counting();
  const queue = fakeHost(device).queues[0]!;
  const chain = queue.offer([], [60_000, 60_000]);
  device.notify(0);
  expect(queue.pushed).toEqual([{ chain, written: 65_536 }]);
  expect(
    joined(chain.writable)
      .subarray(65_536)
      .every(b => b === 0),
  ).toBe(true);
});

test('requests with nothing to write come back empty, all with one interrupt', () => {
  const { device, asked } = counting();
  const queue = fakeHost(device).queues[0]!;
  queue.offer([Uint8Array.of(1, 2, 3)]);
  queue.offer([], []);
  queue.offer([], [0, 0]);
  device.notify(0);
  expect(queue.pushed.map(p => p.written)).toEqual([0, 0, 0]);
  expect(asked).toEqual([]);
  expect(queue.interrupts).toBe(1);
});

test('a notification without a request, or after a reset, does nothing', () => {
  const { device } = counting();
  const queue = fakeHost(device).queues[0]!;
  device.notify(0);
  expect(queue.interrupts).toBe(0);
  queue.offer([], [4]);
  device.reset();
  device.notify(0);
  expect(queue.pushed).toEqual([]);
});
