import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  BASE,
  BUFFERS,
  DESC,
  DRIVER,
  FORMATS,
  INDIRECT,
  NEXT,
  readable,
  rig,
  TABLES,
  TestRam,
  WRITE,
  writable,
} from '../../../test/support/virtqueue.ts';
import type { Chain } from './device.ts';

/** What the driver and the device do next: numbers that the model interprets. */
const steps = fc.array(
  fc.oneof(
    fc.record({ op: fc.constant('offer' as const), buffers: fc.integer({ min: 1, max: 4 }), indirect: fc.boolean() }),
    fc.record({ op: fc.constant('pop' as const) }),
    fc.record({ op: fc.constant('unpop' as const) }),
    fc.record({ op: fc.constant('push' as const), which: fc.nat(63) }),
    fc.record({ op: fc.constant('signal' as const) }),
    fc.record({
      op: fc.constant('collect' as const),
      more: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
    }),
    fc.record({ op: fc.constant('want' as const), wanted: fc.boolean() }),
    fc.record({ op: fc.constant('master' as const), allowed: fc.boolean() }),
  ),
  { maxLength: 150, size: 'max' },
);

describe.each(FORMATS.flatMap(f => [false, true].map(eventIdx => ({ ...f, eventIdx }))))(
  'a $name virtqueue, event index: $eventIdx',
  ({ packed, eventIdx }) => {
    it('gives every buffer back exactly once, and interrupts as the driver has asked', () => {
      const size = fc.constantFrom(...(packed ? [1, 3, 8] : [1, 4, 8]));
      fc.assert(
        fc.property(size, steps, (n, list) => {
          const r = rig({ packed, eventIdx, size: n });
          /** Tokens by the address of their first buffer, which tells requests apart. */
          const offered = new Map<number, number>();
          const expected = new Map<number, number>();
          const popped: Chain[] = [];
          let late: number[] = [];
          let serial = 0;
          /** Descriptors returned since the driver last said what it wants, and since the last signal. */
          let interruptAt: number | undefined = 1;
          let returned = 0;
          let signalled = 0;
          let waiting = 0;
          r.driver.wantInterrupt(1);
          const collect = () => {
            for (const { token, written } of r.driver.collect()) {
              expect(expected.get(token)).toBe(written);
              expected.delete(token);
            }
          };
          const weight = (buffers: number, indirect: boolean) => (packed && !indirect ? buffers : 1);
          const weights = new Map<number, number>();
          const give = (address: number) => {
            returned += weights.get(address)!;
          };
          const signal = () => {
            const before = r.interrupts;
            r.queue.notifyDriver();
            if (!r.ram.allowed) expect(r.interrupts).toBe(before);
            else {
              let wanted = returned > signalled && interruptAt !== undefined;
              if (eventIdx && interruptAt !== undefined) wanted = signalled < interruptAt && returned >= interruptAt;
              // Split queues have no way to say "never" with an event index: the event lies 65536 entries away.
              expect(r.interrupts - before).toBe(wanted ? 1 : 0);
              signalled = returned;
            }
          };
          for (const s of list) {
            if (s.op === 'offer') {
              const address = BUFFERS + 64 * (serial++ % 1024);
              const buffers = Array.from({ length: s.buffers }, (_, i) => writable(address + 8 * i, 8));
              const made = r.driver.offer(buffers, s.indirect);
              if (made === undefined) continue;
              waiting++;
              offered.set(address, made.token);
              weights.set(address, weight(s.buffers, s.indirect));
            } else if (s.op === 'pop') {
              const chain = r.queue.pop();
              expect(chain !== undefined).toBe(r.ram.allowed && waiting > 0);
              if (chain === undefined) continue;
              waiting--;
              popped.push(chain);
            } else if (s.op === 'unpop') {
              const chain = popped.pop();
              if (chain === undefined) continue;
              waiting++;
              r.queue.unpop(chain);
            } else if (s.op === 'push') {
              if (popped.length === 0) continue;
              const chain = popped.splice(s.which % popped.length, 1)[0]!;
              const address = chain.writable[0]!.byteOffset + BASE;
              expected.set(offered.get(address)!, chain.writableLength);
              r.queue.push(chain, chain.writableLength);
              if (r.ram.allowed) give(address);
              else late.push(address);
            } else if (s.op === 'signal') signal();
            else if (s.op === 'collect') {
              signal();
              collect();
              if (!r.ram.allowed) continue;
              interruptAt = s.more === undefined ? undefined : returned + s.more;
              // An event beyond one round of a packed ring cannot be named.
              if (eventIdx && packed && s.more !== undefined && s.more > n) interruptAt = returned + 1;
              if (eventIdx && !packed && s.more === undefined) r.driver.wantInterrupt(undefined);
              else r.driver.wantInterrupt(interruptAt === undefined ? undefined : interruptAt - returned);
            } else if (s.op === 'want') r.queue.setDriverNotifications(s.wanted);
            else if (s.allowed !== r.ram.allowed) {
              // Nothing may be left unsignalled, so that what resume() signals is what was late.
              if (!s.allowed) signal();
              r.ram.allowed = s.allowed;
              if (!s.allowed) continue;
              for (const a of late) give(a);
              late = [];
              const before = r.interrupts;
              r.queue.resume();
              let wanted = returned > signalled && interruptAt !== undefined;
              if (eventIdx && interruptAt !== undefined) wanted = signalled < interruptAt && returned >= interruptAt;
              expect(r.interrupts - before).toBe(wanted ? 1 : 0);
              signalled = returned;
            }
          }
          // The end: everything comes back, and all descriptors are free again.
          r.ram.allowed = true;
          r.queue.resume();
          for (let c = r.queue.pop(); c !== undefined; c = r.queue.pop()) popped.push(c);
          for (const c of popped) {
            expected.set(offered.get(c.writable[0]!.byteOffset + BASE)!, c.writableLength);
            r.queue.push(c, c.writableLength);
          }
          collect();
          expect(expected.size).toBe(0);
          expect(r.driver.free).toBe(n);
          expect(r.failures).toEqual([]);
        }),
        { numRuns: 200 },
      );
    });

    it('never leaves a request lying about of which the driver did not notify', () => {
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 60 }), list => {
          const r = rig({ packed, eventIdx, size: 4 });
          // The device takes everything when it is notified, and only then; it has looked once at the start.
          const serve = () => {
            for (let c = r.queue.pop(); c !== undefined; c = r.queue.pop()) r.queue.push(c, 0);
          };
          serve();
          for (const n of list) {
            let notify = false;
            for (let i = 0; i < n; i++)
              notify = (r.driver.offer([readable(BUFFERS, 8)], false)?.notify ?? false) || notify;
            if (notify) serve();
            r.driver.collect();
            expect(r.driver.free).toBe(4);
          }
        }),
        { numRuns: 50 },
      );
    });
  },
);

describe.each(FORMATS)('a race with the driver of a $name virtqueue', ({ packed }) => {
  it('finds what came between its last look and its request for a notification', () => {
    const r = rig({ packed, eventIdx: true });
    r.driver.offer([readable(BUFFERS, 1)], false);
    // With the only request the device asks for a notification of the next, which comes just before the driver can see that.
    const store = Atomics.store;
    let notify: boolean | undefined;
    const spy = vi.spyOn(Atomics, 'store').mockImplementationOnce(((array: Uint32Array, at: number, value: number) => {
      notify = r.driver.offer([readable(BUFFERS, 2)], false)?.notify;
      return store(array, at, value);
    }) as typeof Atomics.store);
    expect(r.queue.pop()?.readableLength).toBe(1);
    const chain = r.queue.pop();
    spy.mockRestore();
    // A packed ring's event suppression asks for all notifications until the device has written it.
    expect(notify).toBe(packed);
    expect(chain?.readableLength).toBe(2);
  });
});

describe('hostile rings', () => {
  /** A small, fast generator, so that most of the time is spent in the code under test. */
  const random = (seed: number) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };

  it.each(FORMATS)('do not throw, hang or reach outside of RAM: $name', ({ packed }) => {
    const next = random(packed ? 1 : 2);
    const oneIn = (n: number) => next() % n === 0;
    const seen = { chains: 0, failures: 0, operations: 0 };
    const ram = new TestRam();
    for (let round = 0; round < 3000; round++) {
      const size = packed ? 1 + (next() % 8) : 1 << (next() % 4);
      ram.bytes.fill(0, DESC - BASE, TABLES - BASE);
      const r = rig({ packed, eventIdx: oneIn(2), size, ram });
      const held: Chain[] = [];
      for (let i = 0; i < 150 && r.failures.length === 0; i++) {
        // Plausible bytes get further than random ones; those that break a rule are rare enough to get there.
        const address = oneIn(200) ? next() : (oneIn(4) ? DESC : BUFFERS) + (next() % 64);
        const length = oneIn(200) ? next() : 16 * (next() % 4);
        const flags = (oneIn(3) ? NEXT : 0) | (oneIn(4) ? 0 : WRITE) | (oneIn(50) ? INDIRECT : 0);
        const at = DESC + 16 * (next() % size);
        if (packed) {
          r.ram.descriptor(at, address, length, next() & 0xffff, flags | (oneIn(2) ? 1 << 7 : 1 << 15));
          if (oneIn(8)) r.ram.setU32(DRIVER, next());
        } else {
          r.ram.descriptor(at, address, length, flags, next() % (size + (oneIn(50) ? 1 : 0)));
          r.ram.setU16(DRIVER + 4 + 2 * (next() % (size + 1)), next() % (size + (oneIn(50) ? 1 : 0)));
          if (oneIn(4)) r.ram.setU16(DRIVER + 2, r.ram.u16(DRIVER + 2) + (next() % (oneIn(50) ? 9 : 2)));
        }
        for (let c = r.queue.pop(); c !== undefined; c = r.queue.pop()) {
          seen.chains++;
          held.push(c);
          const bytes = [...c.readable, ...c.writable].reduce((n, p) => n + p.length, 0);
          if (bytes !== c.readableLength + c.writableLength) throw new Error('lengths do not add up');
        }
        if (oneIn(2)) {
          for (const c of held.splice(0)) r.queue.push(c, next());
          r.queue.notifyDriver();
        }
        seen.operations++;
      }
      seen.failures += r.failures.length;
      if (r.failures.length > 1) throw new Error('a queue went on after it had failed');
    }
    // The test is about both: requests that get through, and rings that are refused.
    expect(seen.operations).toBeGreaterThan(50_000);
    expect(seen.chains).toBeGreaterThan(5000);
    expect(seen.failures).toBeGreaterThan(1000);
  });
});
