import { describe, expect, it } from 'vitest';
import {
  addresses,
  BASE,
  BUFFERS,
  DESC,
  DEVICE,
  DRIVER,
  FORMATS,
  INDIRECT,
  NEXT,
  PackedDriver,
  RAM_BYTES,
  readable,
  rig,
  SplitDriver,
  TABLES,
  WRITE,
  writable,
} from '../../../test/support/virtqueue.ts';

describe.each(FORMATS)('a $name virtqueue', ({ packed }) => {
  it.each([false, true])('gives a request as its buffers lie in memory, indirect: %s', indirect => {
    const r = rig({ packed });
    r.ram.bytes.set([1, 2, 3], BUFFERS - BASE);
    const offered = r.driver.offer(
      [readable(BUFFERS, 3), readable(BUFFERS + 64, 5), writable(BUFFERS + 128, 7), writable(BUFFERS + 256, 2)],
      indirect,
    );
    const chain = r.queue.pop()!;
    expect(addresses(chain.readable)).toEqual([
      [BUFFERS, 3],
      [BUFFERS + 64, 5],
    ]);
    expect(addresses(chain.writable)).toEqual([
      [BUFFERS + 128, 7],
      [BUFFERS + 256, 2],
    ]);
    expect([chain.readableLength, chain.writableLength]).toEqual([8, 9]);
    expect([...chain.readable[0]!]).toEqual([1, 2, 3]);
    expect(r.queue.pop()).toBeUndefined();
    expect(r.driver.collect()).toEqual([]);
    r.queue.push(chain, 9);
    expect(r.driver.collect()).toEqual([{ token: offered!.token, written: 9 }]);
    expect(r.failures).toEqual([]);
  });

  it('skips empty buffers, wherever they are', () => {
    const r = rig({ packed });
    r.driver.offer([readable(0, 0), readable(BUFFERS, 1), writable(BUFFERS, 1), readable(7, 0)], false);
    const chain = r.queue.pop()!;
    expect([chain.readable.length, chain.writable.length]).toEqual([1, 1]);
    expect(r.failures).toEqual([]);
  });

  it('says no more was written than there is room for', () => {
    const r = rig({ packed });
    r.driver.offer([writable(BUFFERS, 16)], false);
    r.queue.push(r.queue.pop()!, 17);
    expect(r.driver.collect()[0]!.written).toBe(16);
  });

  it('gives what was put back again, in the order of the ring', () => {
    const r = rig({ packed });
    for (let i = 0; i < 3; i++) r.driver.offer([readable(BUFFERS + 16 * i, 4)], false);
    const [a, b] = [r.queue.pop()!, r.queue.pop()!];
    r.queue.unpop(b);
    r.queue.unpop(a);
    r.queue.unpop(a);
    expect(r.queue.pop()).toBe(a);
    expect(r.queue.pop()).toBe(b);
    expect(r.queue.pop()!.readable[0]!.byteOffset).toBe(BUFFERS + 32 - BASE);
    expect(r.queue.pop()).toBeUndefined();
  });

  it('returns a chain once, and none from before a reset of the queue', () => {
    const r = rig({ packed });
    r.driver.offer([readable(BUFFERS, 4)], false);
    r.driver.offer([readable(BUFFERS, 4)], false);
    const chain = r.queue.pop()!;
    r.queue.push(chain, 0);
    r.queue.push(chain, 0);
    expect(r.driver.collect()).toHaveLength(1);
    const old = r.queue.pop()!;
    let idle = 0;
    r.queue.disable(() => idle++);
    expect([r.queue.size, r.queue.pop(), idle]).toEqual([0, undefined, 0]);

    // The driver begins anew at the same place.
    r.ram.bytes.fill(0);
    const driver = packed ? new PackedDriver(r.ram, r.layout, false) : new SplitDriver(r.ram, r.layout, false);
    r.queue.enable(r.layout);
    driver.offer([writable(BUFFERS, 4)], false);
    r.queue.push(old, 0);
    expect(idle).toBe(1);
    r.queue.unpop(old);
    const fresh = r.queue.pop()!;
    expect(fresh).not.toBe(old);
    expect(driver.collect()).toEqual([]);
    r.queue.push(fresh, 4);
    expect(driver.collect()).toHaveLength(1);
    expect(r.queue.pop()).toBeUndefined();
    expect(r.failures).toEqual([]);
  });

  it('CMD-2: waits while the function may not master the bus, and then goes on', () => {
    const r = rig({ packed });
    r.driver.offer([writable(BUFFERS, 4)], false);
    r.driver.offer([writable(BUFFERS, 4)], false);
    const chain = r.queue.pop()!;
    r.ram.allowed = false;
    const before = r.ram.bytes.slice();
    expect(r.queue.pop()).toBeUndefined();
    r.queue.push(chain, 4);
    r.queue.setDriverNotifications(false);
    r.queue.notifyDriver();
    expect(Buffer.compare(r.ram.bytes, before)).toBe(0);
    expect([r.interrupts, r.failures]).toEqual([0, []]);

    r.ram.allowed = true;
    r.queue.resume();
    expect(r.interrupts).toBe(1);
    expect(r.driver.collect()).toHaveLength(1);
    expect(r.queue.pop()).toBeDefined();
    expect(r.driver.offer([writable(BUFFERS, 4)], false)!.notify).toBe(false);
  });

  it('can be enabled before the function may master the bus', () => {
    const r = rig({ packed });
    r.queue.disable(() => undefined);
    r.ram.allowed = false;
    r.queue.enable(r.layout);
    r.driver.offer([writable(BUFFERS, 4)], false);
    expect([r.queue.size, r.queue.pop(), r.failures]).toEqual([8, undefined, []]);
    r.ram.allowed = true;
    r.queue.resume();
    expect(r.queue.pop()).toBeDefined();
  });

  it('does not ask the driver for notifications while it is told not to', () => {
    for (const eventIdx of [false, true]) {
      const r = rig({ packed, eventIdx });
      const notified = () => r.driver.offer([readable(BUFFERS, 4)], false)!.notify;
      r.queue.pop();
      expect(notified()).toBe(true);
      r.queue.setDriverNotifications(false);
      expect([notified(), notified()]).toEqual([false, false]);
      r.queue.setDriverNotifications(true);
      while (r.queue.pop() !== undefined);
      expect(notified()).toBe(true);
    }
  });

  it.each([false, true])('is told of the next request after it took as many as fit: %s', eventIdx => {
    const r = rig({ packed, eventIdx });
    r.queue.pop();
    for (let round = 0; round < 3; round++) {
      const notified = Array.from({ length: 8 }, () => r.driver.offer([writable(BUFFERS, 4)], false)!.notify);
      expect(notified[0]).toBe(true);
      for (let n = 0; n < 8; n++) r.queue.push(r.queue.pop()!, 4);
      expect(r.driver.collect()).toHaveLength(8);
    }
  });

  it.each([
    ['size 0', { size: 0 }],
    ['a size beyond the largest', { size: 65536 }],
    ['a descriptor area that is not aligned', { desc: DESC + 8 }],
    ['a driver area that is not aligned', { driver: DRIVER + 1 }],
    ['a device area that is not aligned', { device: DEVICE + 2 }],
    ['a descriptor area outside of RAM', { desc: BASE + RAM_BYTES - 16 }],
    ['a driver area outside of RAM', { driver: BASE - 8 }],
    ['a device area outside of RAM', { device: 2 ** 53 }],
  ])('refuses %s', (_, wrong) => {
    const r = rig({ packed });
    r.queue.disable(() => undefined);
    r.queue.enable({ ...r.layout, ...wrong });
    expect(r.failures).toHaveLength(1);
    expect(r.failures[0]).toMatch(/^queue 3: /);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
  });

  it.each([
    ['a buffer outside of RAM', [readable(BASE + RAM_BYTES - 4, 8)], false],
    ['a buffer beyond 2^32', [readable(BUFFERS + 2 ** 32, 8)], false],
    ['a readable buffer behind a writable one', [writable(BUFFERS, 4), readable(BUFFERS, 4)], false],
    ['a readable buffer behind a writable one in a table', [writable(BUFFERS, 4), readable(BUFFERS, 4)], true],
    ['an empty indirect table', [], true],
  ])('fails for %s', (_, buffers, indirect) => {
    const r = rig({ packed });
    r.driver.offer(buffers, indirect);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
  });

  it('fails for indirect tables that have not been negotiated', () => {
    const r = rig({ packed, indirect: false });
    r.driver.offer([readable(BUFFERS, 4)], true);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
  });

  it.each([
    ['of an odd length', 40, 1],
    ['of more descriptors than anybody needs', 16 * 1025, 1],
    ['outside of RAM', 2 ** 31, 1],
    ['of 1024 descriptors, which is more than the queue has', 16 * 1024, 0],
    ['at an odd address', 16 * 3, 0, 1],
  ])('judges an indirect table %s', (_, length, failures, skew = 0) => {
    const r = rig({ packed });
    r.driver.offer([readable(BUFFERS, 1)], true);
    for (let i = 0; i < 1024; i++) {
      const flags = !packed && i < length / 16 - 1 ? NEXT : 0;
      r.ram.descriptor(TABLES + skew + 16 * i, BUFFERS, 1, packed ? 0 : flags, packed ? 0 : i + 1);
    }
    r.ram.setU32(DESC, TABLES + skew);
    r.ram.setU32(DESC + 8, length);
    const chain = r.queue.pop();
    expect(r.failures).toHaveLength(failures);
    if (failures === 0) expect(chain!.readable).toHaveLength(length / 16);
  });

  it('fails for more bytes than 2^32 in a chain', () => {
    const r = rig({ packed });
    // Pretend that there is so much: the ring needs lengths only.
    const real = r.ram.pin.bind(r.ram);
    r.ram.pin = (a, n, ...rest) => real(a, Math.min(n, 16), ...rest);
    const quarter = 2 ** 30;
    r.driver.offer(
      [1, 2, 3, 4].map(() => readable(BUFFERS, quarter)),
      false,
    );
    expect(r.queue.pop()!.readableLength).toBe(2 ** 32);
    r.driver.offer([...[1, 2, 3].map(() => readable(BUFFERS, quarter)), writable(BUFFERS, quarter + 1)], false);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
  });
});

describe('a split virtqueue', () => {
  it('fails for a chain that does not end', () => {
    const r = rig({ packed: false });
    r.driver.offer([readable(BUFFERS, 1), readable(BUFFERS, 1)], false);
    // The driver has used descriptors 0 and 1: link them into a ring.
    r.ram.descriptor(DESC + 16, BUFFERS, 1, NEXT, 0);
    expect(r.queue.pop()).toBeUndefined();
    expect(r.failures).toEqual(['queue 3: a chain that does not end']);
  });

  it('fails for a link, a head or an index out of bounds', () => {
    const link = rig({ packed: false });
    link.driver.offer([readable(BUFFERS, 1)], false);
    link.ram.descriptor(DESC, BUFFERS, 1, NEXT, 8);
    expect([link.queue.pop(), link.failures]).toEqual([undefined, ['queue 3: descriptor 8 of 8']]);

    const head = rig({ packed: false });
    head.driver.offer([readable(BUFFERS, 1)], false);
    head.ram.setU16(DRIVER + 4, 0xffff);
    expect([head.queue.pop(), head.failures]).toEqual([undefined, ['queue 3: descriptor 65535 of 8']]);

    const index = rig({ packed: false });
    index.ram.setU16(DRIVER + 2, 9);
    expect([index.queue.pop(), index.failures.length]).toEqual([undefined, 1]);
  });

  it('takes one table behind normal descriptors, and neither two nor one with NEXT', () => {
    const mixed = (flags: number, inner: number) => {
      const r = rig({ packed: false });
      r.driver.offer([readable(BUFFERS, 1), readable(BUFFERS, 1)], false);
      r.ram.descriptor(TABLES, BUFFERS + 16, 2, inner, 0);
      r.ram.descriptor(DESC + 16, TABLES, 16, flags, 7);
      return { chain: r.queue.pop(), failures: r.failures };
    };
    // WRITE means nothing on the descriptor of a table.
    expect(mixed(INDIRECT | WRITE, 0).chain!.readableLength).toBe(3);
    expect(mixed(INDIRECT | NEXT, 0).failures).toHaveLength(1);
    expect(mixed(INDIRECT, INDIRECT).failures).toHaveLength(1);
    // The table's only descriptor links to itself.
    expect(mixed(INDIRECT, NEXT).failures).toHaveLength(1);
  });

  it('fails when descriptors are offered that are in use', () => {
    const r = rig({ packed: false });
    r.driver.offer(
      Array.from({ length: 8 }, () => readable(BUFFERS, 1)),
      false,
    );
    expect(r.queue.pop()).toBeDefined();
    r.ram.setU16(DRIVER + 4 + 2, 7);
    r.ram.setU16(DRIVER + 2, 2);
    expect([r.queue.pop(), r.failures.length]).toEqual([undefined, 1]);
  });

  it('needs a size that is a power of two', () => {
    const r = rig({ packed: false });
    r.queue.disable(() => undefined);
    r.queue.enable({ ...r.layout, size: 6 });
    expect(r.failures).toHaveLength(1);
  });
});

describe('a packed virtqueue', () => {
  it('fails for a table in a list, and for a list around the whole ring', () => {
    const list = rig({ packed: true });
    list.driver.offer([readable(BUFFERS, 1), readable(BUFFERS, 1)], false);
    list.ram.setU16(DESC + 16 + 14, INDIRECT | (1 << 7));
    expect([list.queue.pop(), list.failures.length]).toEqual([undefined, 1]);

    const head = rig({ packed: true });
    head.driver.offer([readable(BUFFERS, 16)], false);
    head.ram.setU16(DESC + 14, INDIRECT | NEXT | (1 << 7));
    expect([head.queue.pop(), head.failures.length]).toEqual([undefined, 1]);

    const nested = rig({ packed: true });
    nested.driver.offer([readable(BUFFERS, 1)], true);
    nested.ram.setU16(TABLES + 14, INDIRECT);
    expect([nested.queue.pop(), nested.failures.length]).toEqual([undefined, 1]);

    const ring = rig({ packed: true });
    ring.driver.offer(
      Array.from({ length: 8 }, () => readable(BUFFERS, 1)),
      false,
    );
    ring.ram.setU16(DESC + 16 * 7 + 14, NEXT | (1 << 7));
    expect([ring.queue.pop(), ring.failures]).toEqual([undefined, ['queue 3: a chain that does not end']]);
  });

  it.each([1, 7, 100])('has any size, such as %i', size => {
    const r = rig({ packed: true, size });
    for (let i = 0; i < 5 * size; i++) {
      const { token } = r.driver.offer([writable(BUFFERS, 8)], false)!;
      r.queue.push(r.queue.pop()!, 8);
      expect(r.driver.collect()).toEqual([{ token, written: 8 }]);
    }
  });
});
