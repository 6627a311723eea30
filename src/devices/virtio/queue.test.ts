import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import type { RingLayout } from './chain.ts';
import type { Chain } from './device.ts';
import type { GuestRam } from './guest-ram.ts';
import { Queue } from './queue.ts';

/** Guest RAM of the tests starts here, so that address 0 is none. */
const BASE = 0x4000_0000;
const RAM_BYTES = 256 * 1024;
/** Where the three areas of the queue are, indirect tables, and buffers. */
const DESC = BASE + 0x1000;
const DRIVER = BASE + 0x8000;
const DEVICE = BASE + 0xa000;
const TABLES = BASE + 0x1_0000;
const BUFFERS = BASE + 0x2_0000;

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

class TestRam implements GuestRam {
  readonly bytes = new Uint8Array(new SharedArrayBuffer(RAM_BYTES));
  readonly data = new DataView(this.bytes.buffer);
  allowed = true;

  view(address: number, length: number): Uint8Array | undefined {
    const at = address - BASE;
    if (!this.allowed || at < 0 || at + length > RAM_BYTES) return undefined;
    return this.bytes.subarray(at, at + length);
  }

  u16(a: number): number {
    return this.data.getUint16(a - BASE, true);
  }

  u32(a: number): number {
    return this.data.getUint32(a - BASE, true);
  }

  setU16(a: number, v: number): void {
    this.data.setUint16(a - BASE, v, true);
  }

  setU32(a: number, v: number): void {
    this.data.setUint32(a - BASE, v, true);
  }

  descriptor(at: number, address: number, length: number, third: number, fourth: number): void {
    this.setU32(at, address % 2 ** 32);
    this.setU32(at + 4, Math.floor(address / 2 ** 32));
    this.setU32(at + 8, length);
    this.setU16(at + 12, third);
    this.setU16(at + 14, fourth);
  }
}

/** A buffer of a request: bytes at an address, for the device to read or to write. */
interface Part {
  readonly address: number;
  readonly length: number;
  readonly write: boolean;
}

/** The driver's side, written from the specification and sharing nothing with the code under test. */
interface Driver {
  /** Free descriptors. */
  readonly free: number;
  /** Makes a request available; the token comes back from collect(). undefined: no room. Returns whether to notify, too. */
  offer(buffers: readonly Part[], indirect: boolean): { readonly token: number; readonly notify: boolean } | undefined;
  /** What the device has returned since the last call. */
  collect(): { readonly token: number; readonly written: number }[];
  /** Wants an interrupt when the device has returned `more` further descriptors' worth; undefined: none. */
  wantInterrupt(more: number | undefined): void;
}

class SplitDriver implements Driver {
  readonly #free: number[];
  readonly #chains = new Map<number, number[]>();
  #available = 0;
  #used = 0;

  constructor(
    readonly ram: TestRam,
    readonly layout: RingLayout,
    readonly eventIdx: boolean,
  ) {
    this.#free = Array.from({ length: layout.size }, (_, i) => layout.size - 1 - i);
  }

  get free(): number {
    return this.#free.length;
  }

  offer(buffers: readonly Part[], indirect: boolean): { token: number; notify: boolean } | undefined {
    const { ram, layout } = this;
    if (this.#free.length < (indirect ? 1 : buffers.length)) return undefined;
    let head: number;
    if (indirect) {
      head = this.#free.pop()!;
      this.#chains.set(head, [head]);
      const table = TABLES + head * 256;
      for (const [i, b] of buffers.entries()) {
        const last = i === buffers.length - 1;
        ram.descriptor(
          table + 16 * i,
          b.address,
          b.length,
          (last ? 0 : NEXT) | (b.write ? WRITE : 0),
          last ? 0 : i + 1,
        );
      }
      ram.descriptor(layout.desc + 16 * head, table, 16 * buffers.length, INDIRECT, 0);
    } else {
      const indices = buffers.map(() => this.#free.pop()!);
      head = indices[0]!;
      this.#chains.set(head, indices);
      for (const [i, b] of buffers.entries()) {
        const next = indices[i + 1];
        const flags = (next === undefined ? 0 : NEXT) | (b.write ? WRITE : 0);
        ram.descriptor(layout.desc + 16 * indices[i]!, b.address, b.length, flags, next ?? 0xffff);
      }
    }
    const old = this.#available;
    ram.setU16(layout.driver + 4 + 2 * (old % layout.size), head);
    this.#available = (old + 1) % 65536;
    ram.setU16(layout.driver + 2, this.#available);
    const notify = this.eventIdx
      ? ram.u16(layout.device + 4 + 8 * layout.size) === old
      : (ram.u16(layout.device) & 1) === 0;
    return { token: head, notify };
  }

  collect(): { token: number; written: number }[] {
    const { ram, layout } = this;
    const done = [];
    for (; this.#used !== ram.u16(layout.device + 2); this.#used = (this.#used + 1) % 65536) {
      const element = layout.device + 4 + 8 * (this.#used % layout.size);
      const token = ram.u32(element);
      const chain = this.#chains.get(token);
      if (chain === undefined) throw new Error(`descriptor ${token} is not in use`);
      this.#chains.delete(token);
      this.#free.push(...chain);
      done.push({ token, written: ram.u32(element + 4) });
    }
    return done;
  }

  wantInterrupt(more: number | undefined): void {
    const { ram, layout } = this;
    if (!this.eventIdx) ram.setU16(layout.driver, more === undefined ? 1 : 0);
    else ram.setU16(layout.driver + 4 + 2 * layout.size, (ram.u16(layout.device + 2) + (more ?? 0) + 65535) % 65536);
  }
}

class PackedDriver implements Driver {
  readonly #ids: number[];
  readonly #counts = new Map<number, number>();
  #next = 0;
  #wrap = 1;
  #used = 0;
  #usedWrap = 1;
  free: number;

  constructor(
    readonly ram: TestRam,
    readonly layout: RingLayout,
    readonly eventIdx: boolean,
  ) {
    this.#ids = Array.from({ length: layout.size }, (_, i) => i);
    this.free = layout.size;
  }

  offer(buffers: readonly Part[], indirect: boolean): { token: number; notify: boolean } | undefined {
    const { ram, layout } = this;
    const count = indirect ? 1 : buffers.length;
    if (this.free < count) return undefined;
    const id = this.#ids.shift()!;
    const first = { index: this.#next, wrap: this.#wrap };
    let firstFlags = 0;
    for (let i = 0; i < count; i++) {
      let b = buffers[i] ?? readable(0, 0);
      let flags = (b.write ? WRITE : 0) | (i < count - 1 ? NEXT : 0);
      if (indirect) {
        const table = TABLES + id * 256;
        // Whatever is reserved in a table must be ignored.
        for (const [j, e] of buffers.entries())
          ram.descriptor(table + 16 * j, e.address, e.length, 7, (e.write ? WRITE : 0) | NEXT);
        b = { address: table, length: 16 * buffers.length, write: false };
        flags = INDIRECT | WRITE;
      }
      flags |= this.#wrap === 1 ? 1 << 7 : 1 << 15;
      const at = layout.desc + 16 * this.#next;
      const old = ram.u16(at + 14);
      ram.descriptor(at, b.address, b.length, i === count - 1 ? id : 0x5a5a, i === 0 ? old : flags);
      if (i === 0) firstFlags = flags;
      this.#next++;
      if (this.#next === layout.size) {
        this.#next = 0;
        this.#wrap ^= 1;
      }
    }
    ram.setU16(layout.desc + 16 * first.index + 14, firstFlags);
    this.#counts.set(id, count);
    this.free -= count;
    const event = ram.u16(layout.device);
    const flags = ram.u16(layout.device + 2);
    let notify = flags === 0;
    if (flags === 2) {
      for (let i = 0; i < count; i++) {
        const over = first.index + i >= layout.size;
        const index = (first.index + i) % layout.size;
        notify ||= (event & 0x7fff) === index && event >> 15 === (over ? first.wrap ^ 1 : first.wrap);
      }
    }
    return { token: id, notify };
  }

  collect(): { token: number; written: number }[] {
    const { ram, layout } = this;
    const done = [];
    for (;;) {
      const at = layout.desc + 16 * this.#used;
      const flags = ram.u16(at + 14);
      if (((flags >> 7) & 1) !== this.#usedWrap || flags >> 15 !== this.#usedWrap) return done;
      const token = ram.u16(at + 12);
      const count = this.#counts.get(token);
      if (count === undefined) throw new Error(`buffer ${token} is not in use`);
      this.#counts.delete(token);
      this.#ids.push(token);
      this.free += count;
      done.push({ token, written: flags & WRITE ? ram.u32(at + 8) : 0 });
      this.#used += count;
      if (this.#used >= layout.size) {
        this.#used -= layout.size;
        this.#usedWrap ^= 1;
      }
    }
  }

  wantInterrupt(more: number | undefined): void {
    const { ram, layout } = this;
    if (more === undefined) ram.setU16(layout.driver + 2, 1);
    else if (!this.eventIdx) ram.setU16(layout.driver + 2, 0);
    else {
      const over = this.#used + more - 1 >= layout.size;
      const index = (this.#used + more - 1) % layout.size;
      ram.setU16(layout.driver, index | ((over ? this.#usedWrap ^ 1 : this.#usedWrap) << 15));
      ram.setU16(layout.driver + 2, 2);
    }
  }
}

interface Rig {
  readonly ram: TestRam;
  readonly layout: RingLayout;
  readonly queue: Queue;
  readonly driver: Driver;
  readonly failures: string[];
  interrupts: number;
}

interface RigOptions {
  readonly packed: boolean;
  readonly eventIdx?: boolean;
  readonly indirect?: boolean;
  readonly size?: number;
  readonly ram?: TestRam;
}

function rig({ packed, eventIdx = false, indirect = true, size = 8, ram = new TestRam() }: RigOptions): Rig {
  const layout = { size, desc: DESC, driver: DRIVER, device: DEVICE };
  const failures: string[] = [];
  const queue = new Queue({
    index: 3,
    packed,
    eventIdx,
    indirect,
    ram,
    interrupt: () => {
      r.interrupts++;
    },
    // As a transport does: the device is through with its queues.
    fail: why => {
      failures.push(why);
      queue.stop();
    },
  });
  const driver = packed ? new PackedDriver(ram, layout, eventIdx) : new SplitDriver(ram, layout, eventIdx);
  const r: Rig = { ram, layout, queue, driver, failures, interrupts: 0 };
  queue.enable(layout);
  return r;
}

const readable = (address: number, length: number): Part => ({ address, length, write: false });
const writable = (address: number, length: number): Part => ({ address, length, write: true });
const addresses = (parts: readonly Uint8Array[]) => parts.map(p => [p.byteOffset + BASE, p.length]);

const FORMATS = [
  { name: 'split', packed: false },
  { name: 'packed', packed: true },
];

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
    const real = r.ram.view.bind(r.ram);
    r.ram.view = (a, n) => real(a, Math.min(n, 16));
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
    expect(r.queue.pop()).toBeDefined();
    // The queue is empty now. The driver offers a request just before it can see that the device wants to be notified.
    const store = Atomics.store;
    let notify: boolean | undefined;
    const spy = vi.spyOn(Atomics, 'store').mockImplementationOnce(((array: Uint32Array, at: number, value: number) => {
      notify = r.driver.offer([readable(BUFFERS, 2)], false)?.notify;
      return store(array, at, value);
    }) as typeof Atomics.store);
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
