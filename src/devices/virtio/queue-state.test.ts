import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUFFERS, FORMATS, readable, rig, writable } from '../../../test/support/virtqueue.ts';

const VARIANTS = FORMATS.flatMap(f => [false, true].map(eventIdx => ({ ...f, eventIdx })));

describe.each(VARIANTS)('the state of a $name virtqueue, event index: $eventIdx', ({ packed, eventIdx }) => {
  it('goes on anywhere: a driver does not notice that there is another queue', () => {
    const moves = fc.array(fc.record({ offers: fc.nat(4), takes: fc.nat(4), hold: fc.boolean() }), { maxLength: 40 });
    fc.assert(
      fc.property(moves, list => {
        let r = rig({ packed, eventIdx, size: 4 });
        const { ram, driver } = r;
        let serial = 0;
        let returned = 0;
        const offered: number[] = [];
        for (const { offers, takes, hold } of list) {
          for (let n = 0; n < offers; n++) {
            if (driver.offer([writable(BUFFERS + 16 * serial, 8)], false) !== undefined) offered.push(serial++ % 256);
            serial %= 256;
          }
          for (let n = 0; n < takes; n++) {
            const chain = r.queue.pop();
            if (chain === undefined) break;
            // In order, each once.
            expect(chain.writable[0]![0]).toBe(0);
            chain.writable[0]![0] = 0;
            r.queue.push(chain, 8);
            offered.shift();
            returned++;
          }
          // One may be with the device, if it is the newest.
          if (hold) r.queue.pop();
          const state = r.queue.save();
          r.queue.stop();
          r.queue.letGo();
          r = rig({ packed, eventIdx, size: 4, ram, driver }, state);
          r.queue.notifyDriver();
          returned -= driver.collect().length;
          expect(returned).toBe(0);
        }
        for (let c = r.queue.pop(); c !== undefined; c = r.queue.pop()) {
          offered.shift();
          r.queue.push(c, 0);
        }
        driver.collect();
        expect([offered, driver.free, r.failures]).toEqual([[], 4, []]);
        r.queue.stop();
        expect(ram.pins.stats().current).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  it('interrupts for what was returned before', () => {
    const r = rig({ packed, eventIdx });
    r.driver.wantInterrupt(1);
    r.driver.offer([readable(BUFFERS, 8)], false);
    r.queue.push(r.queue.pop()!, 0);
    const second = rig({ packed, eventIdx, ram: r.ram, driver: r.driver }, r.queue.save());
    second.queue.notifyDriver();
    expect(second.interrupts).toBe(1);
  });

  it('cannot be had while requests would get lost', () => {
    const r = rig({ packed, eventIdx });
    for (let n = 0; n < 3; n++) r.driver.offer([readable(BUFFERS + 16 * n, 8)], false);
    const first = r.queue.pop()!;
    const before = r.queue.save();
    const second = r.queue.pop()!;
    expect(() => r.queue.save()).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
    // Alone, but not the newest.
    r.queue.push(second, 0);
    expect(() => r.queue.save()).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
    r.queue.push(first, 0);
    expect(r.queue.save()).not.toEqual(before);
    r.queue.pop();
    r.ram.allowed = false;
    expect(r.queue.save()?.next).toBeDefined();
  });
});
