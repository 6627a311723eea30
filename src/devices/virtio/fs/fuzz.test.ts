import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fakeChain, fakeHost, joined } from '../../../../test/support/fake-virtio.ts';
import { MemoryFiles, pack, request } from '../../../../test/support/fuse.ts';
import { VirtioFs } from './device.ts';
import { copyIn, copyOut, slice } from './wire.ts';

/** A small generator of pseudo-random numbers (mulberry32), so that a failure can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (state + 0x6d2b_79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

describe('hostile requests', () => {
  it('every request comes back, with no more written than there is room, and the device stays usable', async () => {
    const pick = random(1);
    const files = new MemoryFiles();
    const device = new VirtioFs({ tag: 'fuzz', server: files });
    const host = fakeHost(device);
    const queue = host.queues[1]!;
    const init = () => {
      queue.offer([request(26, 0, pack('IIII', 7, 37, 0, 0))], [80]);
      device.notify(1);
    };
    init();
    const edge = [0n, 1n, 2n, 3n, 101n, 102n, 255n, 4096n, 1n << 31n, (1n << 32n) - 1n, 1n << 53n, (1n << 64n) - 1n];
    const bytes = (n: number) => Uint8Array.from({ length: n }, () => (pick(3) === 0 ? 0 : pick(256)));
    let sent = 1;
    let answered = 0;
    for (let i = 0; i < 4000; i++) {
      const words = pack('QQQQ', ...Array.from({ length: 4 }, () => edge[pick(edge.length)]!));
      const whole = request(pick(54), edge[pick(edge.length)]!, words.slice(0, pick(33)), bytes(pick(24)));
      if (pick(8) === 0) whole.set(pack('I', edge[pick(edge.length)]!)); // its length
      const cut = pick(whole.length);
      const short = pick(10) === 0 ? pick(40) : whole.length;
      const writable = Array.from({ length: pick(4) }, () => pick(200));
      queue.offer([whole.slice(0, Math.min(cut, short)), whole.slice(cut, short)], writable);
      sent++;
      if (i % 64 !== 0) continue;
      device.notify(1);
      await new Promise(setImmediate);
      expect(queue.pushed.length).toBe(sent);
      for (const { written } of queue.pushed) if (written > 0) answered++;
      sent = 0;
      queue.pushed.length = files.calls.length = 0;
      init(); // it may have sent FUSE_DESTROY
      sent++;
    }
    expect(host.failures).toEqual([]);
    expect(answered).toBeGreaterThan(1000);
    expect(files.files.size).toBeLessThanOrEqual(64);
  });
});

describe('parts of guest memory', () => {
  const parts = fc.array(fc.uint8Array({ maxLength: 9 }), { maxLength: 6 });

  it('slice() gives the bytes of a range, whatever the parts', () => {
    fc.assert(
      fc.property(parts, fc.nat(60), fc.nat(60), (list, offset, length) => {
        const cut = slice(list, offset, length);
        expect(joined(cut)).toEqual(joined(list).slice(offset, offset + length));
        expect(cut.every(p => p.length > 0)).toBe(true);
        expect(copyIn(list, offset, length)).toEqual(joined(cut));
      }),
    );
  });

  it('copyOut() changes that range only', () => {
    fc.assert(
      fc.property(parts, fc.nat(60), fc.uint8Array({ maxLength: 40 }), (list, offset, bytes) => {
        const chain = fakeChain(list, []);
        const expected = joined(list);
        expected.set(bytes.slice(0, Math.max(0, expected.length - offset)), Math.min(offset, expected.length));
        copyOut(chain.readable, offset, bytes);
        expect(joined(chain.readable)).toEqual(expected);
      }),
    );
  });
});
