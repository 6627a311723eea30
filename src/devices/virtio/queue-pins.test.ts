import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BASE,
  BUFFERS,
  DESC,
  DEVICE,
  DRIVER,
  FORMATS,
  RAM_BYTES,
  type Rig,
  readable,
  rig,
  TestRam,
  writable,
} from '../../../test/support/virtqueue.ts';
import type { Chain } from './device.ts';

const HOLE = BASE + RAM_BYTES;

/** Short pins of the queue, as `base length r|w`. */
function buffers(r: Rig): string[] {
  return r.ram.pins
    .pins()
    .filter(p => !p.longterm)
    .map(p => `${p.base.toString(16)} ${p.length} ${p.write ? 'w' : 'r'}`);
}

/** Whether everything that was ever pinned has been released (PIN-5). */
function balanced(r: Rig): boolean {
  const { pinAcquired, pinReleased } = r.ram.pins.stats();
  return pinAcquired > 0 && pinAcquired === pinReleased && r.ram.pins.leaks().length === 0;
}

function offer(r: Rig, n = 1): void {
  for (let i = 0; i < n; i++) r.driver.offer([readable(BUFFERS + 64 * i, 16), writable(BUFFERS + 4096, 32)], false);
}

describe.each(FORMATS)('pins of a $name virtqueue', ({ packed }) => {
  it('PIN-5: the ring has long-term ones, for writing where the device writes, until the queue is stopped', () => {
    const r = rig({ packed });
    const desc = { base: DESC, length: 128, write: packed };
    const driver = { base: DRIVER, length: packed ? 4 : 22, write: false };
    const device = { base: DEVICE, length: packed ? 4 : 70, write: true };
    const common = { owner: 'test queue 3', longterm: true, revocable: false, sinceNs: 0 };
    expect(r.ram.pins.pins()).toEqual([desc, driver, device].map(p => ({ ...common, ...p })));
    r.ram.allowed = false;
    expect(r.ram.counts).toEqual([0, 3]);
    r.queue.stop();
    expect(balanced(r)).toBe(true);
  });

  it('PIN-5: a ring that is only partly in memory leaves none', () => {
    const r = rig({ packed });
    r.queue.disable(() => undefined);
    r.queue.enable({ ...r.layout, device: HOLE });
    expect([r.failures.length, balanced(r)]).toEqual([1, true]);
  });

  it('PIN-5: a ring that is enabled without bus mastering is pinned at its first use', () => {
    const ram = new TestRam();
    ram.allowed = false;
    const r = rig({ packed, ram });
    expect(r.ram.counts).toEqual([0, 0]);
    ram.allowed = true;
    expect([r.queue.pop(), r.ram.counts]).toEqual([undefined, [0, 3]]);
  });

  it.each([false, true])('PIN-5: buffers have short ones from pop() until push(), indirect: %s', indirect => {
    const r = rig({ packed });
    r.driver.offer([readable(BUFFERS, 3), readable(0, 0), writable(BUFFERS + 128, 7)], indirect);
    expect(buffers(r)).toEqual([]);
    const chain = r.queue.pop()!;
    expect(buffers(r)).toEqual([`${BUFFERS.toString(16)} 3 r`, `${(BUFFERS + 128).toString(16)} 7 w`]);
    expect(r.ram.pins.pins().every(p => p.owner === 'test queue 3')).toBe(true);
    r.queue.unpop(chain);
    expect(buffers(r)).toHaveLength(2);
    r.queue.push(chain, 0); // is not the device's
    expect([r.queue.pop(), buffers(r).length]).toEqual([chain, 2]);
    r.queue.push(chain, 7);
    expect(buffers(r)).toEqual([]);
    r.queue.push(chain, 7);
    r.queue.stop();
    expect(balanced(r)).toBe(true);
  });

  it('PIN-4: unpin() before push() releases them, once', () => {
    const r = rig({ packed });
    offer(r);
    const chain = r.queue.pop()!;
    r.queue.unpin(chain);
    r.queue.unpin(chain);
    expect([buffers(r), r.driver.collect()]).toEqual([[], []]);
    r.queue.push(chain, 0);
    expect(r.driver.collect()).toHaveLength(1);
  });

  it('table 4.3, DMA with COMMAND.MASTER = 0: what cannot be returned yet is released at once', () => {
    const r = rig({ packed });
    offer(r);
    const chain = r.queue.pop()!;
    r.ram.allowed = false;
    r.queue.push(chain, 5);
    expect([r.ram.counts, r.driver.collect()]).toEqual([[0, 3], []]);
    r.ram.allowed = true;
    r.queue.resume();
    expect(r.driver.collect()).toMatchObject([{ written: 5 }]);
  });

  it.each([false, true])('PIN-1: a chain with a hole in it leaves none of its buffers, indirect: %s', indirect => {
    const r = rig({ packed });
    offer(r);
    const held = r.queue.pop()!;
    r.driver.offer([readable(BUFFERS, 16), readable(BUFFERS + 9000, 16), writable(HOLE - 8, 9)], indirect);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
    // The ring has gone, too; what the device has stays until it is through with it.
    expect(r.ram.counts).toEqual([2, 0]);
    r.queue.push(held, 0);
    expect(balanced(r)).toBe(true);
  });

  it('PIN-1: a chain of descriptors that are in use leaves none', () => {
    const r = rig({ packed, size: 2 });
    offer(r);
    const held = r.queue.pop()!;
    // Once more the same, without having got it back.
    if (packed) {
      r.ram.descriptor(DESC, BUFFERS, 16, 0, (1 << 15) | 0);
      r.ram.descriptor(DESC + 16, BUFFERS, 16, 0, (1 << 15) | 0);
    } else r.ram.setU16(DRIVER + 2, 2);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
    r.queue.push(held, 0);
    expect(balanced(r)).toBe(true);
  });

  it('PIN-5: a reset of the queue waits for the buffers that the device has, and for no others', () => {
    const r = rig({ packed });
    offer(r, 3);
    const [a, b, c] = [r.queue.pop()!, r.queue.pop()!, r.queue.pop()!];
    r.queue.unpop(c);
    let idle = false;
    r.queue.disable(() => {
      // The driver gets its memory back: by then nothing is pinned.
      idle = balanced(r);
    });
    expect(r.ram.counts).toEqual([4, 0]);
    r.queue.push(b, 0);
    r.queue.unpop(a);
    expect([idle, r.ram.counts]).toEqual([true, [0, 0]]);
  });

  it('table 4.3, guest reset: short pins are drained; what the device has forgotten goes at its end', () => {
    const r = rig({ packed });
    offer(r, 3);
    const [a] = [r.queue.pop()!, r.queue.pop()!, r.queue.pop()!];
    r.queue.stop();
    expect(r.ram.counts).toEqual([6, 0]);
    r.queue.push(a, 0);
    expect(r.ram.counts).toEqual([4, 0]);
    r.queue.letGo();
    expect(balanced(r)).toBe(true);
  });

  it('table 4.3, balloon inflate: a page in a request goes when the request is returned', () => {
    const r = rig({ packed });
    const page = BUFFERS + 4096;
    r.driver.offer([writable(page, 4096)], false);
    const chain = r.queue.pop()!;
    r.ram.setU32(page, 1);
    expect(r.ram.pins.discard(page, 4096, 'balloon')).toEqual({ discarded: 0, queued: 1, skippedPinned: 0 });
    expect(r.ram.u32(page)).toBe(1);
    r.queue.push(chain, 0);
    expect(r.ram.u32(page)).toBe(0);
  });

  it('table 4.3, balloon inflate: a ring is never discarded', () => {
    const r = rig({ packed });
    expect(r.ram.pins.discard(DEVICE, 4096, 'balloon')).toEqual({ discarded: 0, queued: 0, skippedPinned: 1 });
  });
});

describe.each(FORMATS)('table 4.3, quota exhausted: a $name virtqueue', ({ packed }) => {
  it('leaves a request in the ring until another one is returned', async () => {
    const r = rig({ packed, ram: new TestRam({ shortBytes: 3 * 4096 }) });
    offer(r, 2);
    const first = r.queue.pop()!;
    expect([r.queue.pop(), r.queue.pop(), r.later, r.failures]).toEqual([undefined, undefined, true, []]);
    expect(r.ram.counts).toEqual([2, 3]);
    r.queue.push(first, 1);
    expect(r.retries).toBe(0);
    await Promise.resolve();
    expect(r.retries).toBe(1);
    const second = r.queue.pop()!;
    r.queue.push(second, 2);
    expect(r.driver.collect().map(c => c.written)).toEqual([1, 2]);
  });

  it('does not wait for what is too much by itself', () => {
    const r = rig({ packed, ram: new TestRam({ shortBytes: 4096 }) });
    offer(r);
    expect([r.queue.pop(), r.later, r.ram.counts]).toEqual([undefined, false, [0, 3]]);
  });

  it('fails for a ring that may not be pinned for long', () => {
    const r = rig({ packed, ram: new TestRam({ longtermBytes: 2 * 4096 }) });
    expect(r.failures).toEqual([expect.stringMatching(/cannot be pinned: ENOMEM$/)]);
    expect(r.ram.counts).toEqual([0, 0]);
  });

  it('waits while the memory is held still, with a ring and with a request', async () => {
    const ram = new TestRam();
    const short = ram.pin(BUFFERS, 1, 'r', ram.pins.owner('another'));
    const still = ram.pins.drained(BASE, RAM_BYTES, { timeoutMs: 10_000 }, () => undefined);
    const r = rig({ packed, ram });
    expect([r.later, r.failures, r.ram.counts]).toEqual([true, [], [1, 0]]);
    ram.unpin(short);
    await still;
    offer(r);
    const again = ram.pin(BUFFERS, 1, 'r', ram.pins.owner('another'));
    const still2 = ram.pins.drained(BUFFERS, 4096, { timeoutMs: 10_000 }, () => undefined);
    expect([r.queue.pop(), r.failures]).toEqual([undefined, []]);
    ram.unpin(again);
    await still2;
    expect(r.queue.pop()).toBeDefined();
  });
});

type Act = 'offer' | 'hole' | 'pop' | 'push' | 'unpop' | 'unpin' | 'master' | 'reset' | 'stop';
const acts = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom<Act>('offer', 'pop', 'pop', 'push', 'unpop', 'unpin') },
  { weight: 1, arbitrary: fc.constantFrom<Act>('master', 'master', 'reset', 'hole', 'stop') },
);

it.each(FORMATS)('PIN-5: whatever happens to a $name virtqueue, all is released in the end', ({ packed }) => {
  fc.assert(
    fc.property(
      fc.array(acts, { maxLength: 60 }),
      fc.boolean(),
      fc.constantFrom(2, 5, 1000),
      (steps, indirect, quota) => {
        const r = rig({ packed, ram: new TestRam({ shortBytes: quota * 4096 }) });
        const has: Chain[] = [];
        const unpinned = new Set<Chain>();
        let back: Chain[] = [];
        let ready = true;
        for (const step of steps) {
          if (step === 'offer' && ready) r.driver.offer([readable(BUFFERS, 9), writable(BUFFERS + 4096, 9)], indirect);
          else if (step === 'hole' && ready) r.driver.offer([readable(BUFFERS, 9), writable(HOLE, 9)], indirect);
          else if (step === 'master') {
            r.ram.allowed = !r.ram.allowed;
            if (r.ram.allowed) r.queue.resume();
          } else if (step === 'pop') {
            const c = r.queue.pop();
            if (c !== undefined) has.push(c);
            back = back.filter(b => b !== c);
          } else if (step === 'push') r.queue.push(has.shift() ?? back[0]!, 1);
          else if (step === 'unpin' && has[0] !== undefined) {
            r.queue.unpin(has[0]);
            unpinned.add(has[0]);
          } else if (step === 'unpop') {
            const c = has.pop();
            if (c === undefined) continue;
            if (unpinned.has(c)) r.queue.push(c, 0);
            else r.queue.unpop(c);
            // Without the ring that it is from, there is nothing to give again.
            if (ready && !unpinned.has(c)) back.push(c);
          } else if (step === 'reset') {
            r.queue.disable(() => undefined);
            ready = false;
            back = [];
          } else if (step === 'stop') {
            r.queue.stop();
            ready = false;
            back = [];
          }
          if (r.failures.length > 0) {
            back = [];
            ready = false;
          }
          const held = [...has.filter(c => !unpinned.has(c)), ...back];
          expect(r.ram.counts[0]).toBe(2 * held.length);
        }
        r.queue.stop();
        r.queue.letGo();
        expect(r.ram.pins.leaks()).toEqual([]);
      },
    ),
    { numRuns: 300 },
  );
});
