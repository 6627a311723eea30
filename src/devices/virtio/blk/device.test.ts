import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FakeHost, fakeChain, fakeHost, joined } from '../../../../test/support/fake-virtio.ts';
import { VirtioBlk, type VirtioBlkOptions } from './device.ts';
import { type Completion, type Disk, lengthOf, sliceParts } from './disk.ts';
import * as R from './regs.ts';

/** A disk in memory that remembers its calls; in `slow` mode nothing is done before the test says so. */
class MemoryDisk implements Disk {
  readonly bytes: Uint8Array;
  readonly granularity = 4096;
  readonly calls: string[] = [];
  slow = false;
  failure: Error | undefined;
  readonly #pending: { action: () => void; resolve: () => void; reject: (e: Error) => void }[] = [];

  constructor(
    readonly size = 64 * 512,
    readonly readOnly = false,
  ) {
    this.bytes = Uint8Array.from({ length: size }, (_, i) => (i * 7 + (i >> 9)) & 0xff);
  }

  get inFlight(): number {
    return this.#pending.length;
  }

  #do(call: string, action: () => void): Completion {
    this.calls.push(call);
    if (this.slow) return new Promise((resolve, reject) => this.#pending.push({ action, resolve, reject }));
    if (this.failure) throw this.failure;
    action();
    return undefined;
  }

  /** Finishes the oldest request in flight. */
  async finishOne(): Promise<void> {
    const { action, resolve, reject } = this.#pending.shift()!;
    if (this.failure) reject(this.failure);
    else {
      action();
      resolve();
    }
    for (let i = 0; i < 10; i++) await null;
  }

  read(offset: number, into: readonly Uint8Array[]): Completion {
    return this.#do(`read ${offset}`, () => {
      let at = offset;
      for (const part of into) {
        part.set(this.bytes.subarray(at, at + part.length));
        at += part.length;
      }
    });
  }

  write(offset: number, from: readonly Uint8Array[]): Completion {
    return this.#do(`write ${offset}`, () => this.bytes.set(joined(from), offset));
  }

  flush(): Completion {
    return this.#do('flush', () => undefined);
  }

  discard(offset: number, length: number): Completion {
    return this.#do(`discard ${offset} ${length}`, () => undefined);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Completion {
    return this.#do(`zeroes ${offset} ${length} ${unmap}`, () => this.bytes.fill(0, offset, offset + length));
  }

  async close(): Promise<void> {}
}

function start(disk = new MemoryDisk(), options: Partial<VirtioBlkOptions> = {}, features?: bigint) {
  const device = new VirtioBlk({ disk, ...options });
  const host = fakeHost(device, features);
  return { device, host, disk, queue: host.queues[0]! };
}

function header(type: number, sector: number | bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return bytes;
}

function segment(sector: number | bigint, sectors: number, flags = 0): Uint8Array {
  const bytes = header(0, sector);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return bytes;
}

/** Makes one request and returns what the device wrote: data and status. */
function request(
  { device, host }: { device: VirtioBlk; host: FakeHost },
  readable: readonly Uint8Array[],
  writable: readonly number[] = [1],
) {
  const queue = host.queues[0]!;
  const chain = queue.offer(readable, writable);
  const before = queue.pushed.length;
  device.notify(0);
  expect(queue.pushed.length).toBe(before + 1);
  expect(queue.pushed[before]!.chain).toBe(chain);
  expect(queue.pushed[before]!.written).toBe(chain.writableLength);
  const bytes = joined(chain.writable);
  return { data: bytes.subarray(0, -1), status: bytes.at(-1) };
}

const sectors = (n: number, fill = 0xab) => new Uint8Array(n * 512).fill(fill);
/** toEqual() takes milliseconds for a few sectors. */
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
const without = (device: VirtioBlk, ...features: number[]) =>
  features.reduce((bits, f) => bits & ~(1n << BigInt(f)), device.features);

describe('configuration', () => {
  it('tells capacity, blocks and limits', () => {
    const { device } = start(new MemoryDisk(3 * 512), { cpus: 2 });
    expect(device.readConfig(R.CONFIG_CAPACITY, 4)).toBe(3);
    expect(device.readConfig(R.CONFIG_CAPACITY + 4, 4)).toBe(0);
    expect(device.readConfig(R.CONFIG_SEG_MAX, 4)).toBe(254);
    expect(device.readConfig(R.CONFIG_BLK_SIZE, 4)).toBe(512);
    expect(device.readConfig(R.CONFIG_PHYSICAL_BLOCK_EXP, 1)).toBe(3);
    expect(device.readConfig(R.CONFIG_MIN_IO_SIZE, 2)).toBe(8);
    expect(device.readConfig(R.CONFIG_NUM_QUEUES, 2)).toBe(2);
    expect(device.readConfig(R.CONFIG_DISCARD_SECTOR_ALIGNMENT, 4)).toBe(8);
    expect(device.readConfig(R.CONFIG_MAX_WRITE_ZEROES_SEG, 4)).toBe(1);
  });

  it('has as many queues as CPUs, four at most, or as asked', () => {
    const queues = (o: Partial<VirtioBlkOptions>) => start(new MemoryDisk(), o).device.queueSizes.length;
    expect([queues({}), queues({ cpus: 3 }), queues({ cpus: 8 }), queues({ cpus: 8, queues: 6 })]).toEqual([
      1, 3, 4, 6,
    ]);
    expect(() => queues({ queues: 0 })).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });

  it('offers RO instead of what writes for a read-only disk', () => {
    const bit = (d: VirtioBlk, f: number) => (d.features >> BigInt(f)) & 1n;
    const { device } = start(new MemoryDisk(512, true));
    expect([bit(device, R.VIRTIO_BLK_F_RO), bit(device, R.VIRTIO_BLK_F_DISCARD)]).toEqual([1n, 0n]);
    const writable = start().device;
    expect([bit(writable, R.VIRTIO_BLK_F_RO), bit(writable, R.VIRTIO_BLK_F_WRITE_ZEROES)]).toEqual([0n, 1n]);
  });

  it('lets only writeback be written, in an access of any width, until reset', () => {
    const { device } = start();
    device.writeConfig(R.CONFIG_CAPACITY, 4, 99);
    expect(device.readConfig(R.CONFIG_CAPACITY, 4)).toBe(64);
    device.writeConfig(R.CONFIG_WRITEBACK, 4, 0);
    expect(device.readConfig(R.CONFIG_WRITEBACK, 1)).toBe(0);
    device.writeConfig(R.CONFIG_WRITEBACK, 1, 1);
    expect(device.readConfig(R.CONFIG_WRITEBACK, 1)).toBe(1);
    device.writeConfig(R.CONFIG_WRITEBACK, 1, 0);
    device.reset();
    expect(device.readConfig(R.CONFIG_WRITEBACK, 1)).toBe(1);
  });
});

describe('requests', () => {
  it('IN reads sectors', () => {
    const rig = start();
    const { data, status } = request(rig, [header(R.VIRTIO_BLK_T_IN, 5)], [1024, 1]);
    expect(status).toBe(R.VIRTIO_BLK_S_OK);
    expect(same(data, rig.disk.bytes.slice(5 * 512, 7 * 512))).toBe(true);
  });

  it('OUT writes sectors up to the last one', () => {
    const rig = start();
    expect(request(rig, [header(R.VIRTIO_BLK_T_OUT, 62), sectors(2)]).status).toBe(R.VIRTIO_BLK_S_OK);
    expect(same(rig.disk.bytes.slice(62 * 512), sectors(2))).toBe(true);
    expect(rig.disk.calls).toEqual([`write ${62 * 512}`]);
  });

  it('FLUSH flushes', () => {
    const rig = start();
    expect(request(rig, [header(R.VIRTIO_BLK_T_FLUSH, 0)]).status).toBe(R.VIRTIO_BLK_S_OK);
    expect(rig.disk.calls).toEqual(['flush']);
  });

  it('GET_ID tells the serial, padded or cut', () => {
    const rig = start(undefined, { serial: 'disk-0123456789abcde' });
    const text = (bytes: Uint8Array) => String.fromCharCode(...bytes);
    expect(text(request(rig, [header(R.VIRTIO_BLK_T_GET_ID, 0)], [20, 1]).data)).toBe('disk-0123456789abcde');
    expect(text(request(rig, [header(R.VIRTIO_BLK_T_GET_ID, 0)], [3, 2, 1]).data)).toBe('disk-');
    expect(text(request(start(undefined, { serial: 'a' }), [header(R.VIRTIO_BLK_T_GET_ID, 0)], [22, 1]).data)).toBe(
      `a${'\0'.repeat(21)}`,
    );
    expect(() => start(undefined, { serial: 'x'.repeat(21) })).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });

  it('DISCARD and WRITE_ZEROES take segments', () => {
    const rig = start();
    const discard = [header(R.VIRTIO_BLK_T_DISCARD, 0), segment(1, 2), segment(60, 4)];
    expect(request(rig, discard).status).toBe(R.VIRTIO_BLK_S_OK);
    expect(request(rig, [header(R.VIRTIO_BLK_T_WRITE_ZEROES, 0), segment(8, 8, 1)]).status).toBe(R.VIRTIO_BLK_S_OK);
    expect(request(rig, [header(R.VIRTIO_BLK_T_WRITE_ZEROES, 0), segment(0, 1)]).status).toBe(R.VIRTIO_BLK_S_OK);
    expect(rig.disk.calls).toEqual([
      'discard 512 1024',
      `discard ${60 * 512} 2048`,
      'zeroes 4096 4096 true',
      'zeroes 0 512 false',
    ]);
  });

  it('are taken in any framing (section 2.6.4)', () => {
    // Lengths of pieces; the rest is one more piece. Zero is allowed.
    const cuts = fc.array(fc.integer({ min: 0, max: 700 }), { maxLength: 8 });
    const cut = (bytes: Uint8Array, lengths: readonly number[]) => {
      const parts: Uint8Array[] = [];
      let at = 0;
      for (const n of lengths) {
        parts.push(bytes.subarray(at, at + n));
        at = Math.min(at + n, bytes.length);
      }
      return [...parts, bytes.subarray(at)];
    };
    fc.assert(
      fc.property(
        fc.constantFrom(R.VIRTIO_BLK_T_IN, R.VIRTIO_BLK_T_OUT),
        fc.integer({ min: 0, max: 61 }),
        fc.integer({ min: 0, max: 3 }),
        cuts,
        cuts,
        (type, sector, count, readCuts, writeCuts) => {
          const rig = start();
          const before = rig.disk.bytes.slice();
          const read = type === R.VIRTIO_BLK_T_IN;
          const all = read ? header(type, sector) : joined([header(type, sector), sectors(count)]);
          const answer = new Uint8Array(read ? count * 512 + 1 : 1);
          const { data, status } = request(
            rig,
            cut(all, readCuts),
            cut(answer, writeCuts).map(p => p.length),
          );
          expect(status).toBe(R.VIRTIO_BLK_S_OK);
          if (read) expect(same(data, before.slice(sector * 512, (sector + count) * 512))).toBe(true);
          else before.set(sectors(count), sector * 512);
          expect(same(rig.disk.bytes, before)).toBe(true);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('with arbitrary bytes are all answered and never reach outside of the disk', () => {
    const small = fc.integer({ min: 0, max: 70 });
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 15 }),
        fc.oneof(small, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
        fc.uint8Array({ maxLength: 40 }),
        fc.array(fc.integer({ min: 0, max: 1100 }), { maxLength: 4 }),
        (type, sector, rest, writable) => {
          const rig = start();
          const status = request(rig, [header(type, sector), rest], [...writable, 1]).status!;
          expect([R.VIRTIO_BLK_S_OK, R.VIRTIO_BLK_S_IOERR, R.VIRTIO_BLK_S_UNSUPP]).toContain(status);
          for (const call of rig.disk.calls) expect(Number(call.split(' ')[1] ?? 0)).toBeLessThanOrEqual(rig.disk.size);
          expect(rig.host.failures).toEqual([]);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('mistakes of the driver', () => {
  const refused: [string, number, Uint8Array[], number[]?][] = [
    ['IN behind the end', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_IN, 63)], [1024, 1]],
    ['IN at a sector beyond 2^63', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_IN, 2n ** 64n - 1n)], [512, 1]],
    ['IN of half a sector', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_IN, 0)], [256, 1]],
    ['OUT behind the end', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_OUT, 64), sectors(1)]],
    ['OUT of 513 bytes', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_OUT, 0), sectors(1), new Uint8Array(1)]],
    ['a header of 15 bytes', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_OUT, 0).subarray(0, 15)]],
    ['no header that can be read', R.VIRTIO_BLK_S_IOERR, [], [16, 512, 1]],
    ['an unknown type', R.VIRTIO_BLK_S_UNSUPP, [header(2, 0)], [512, 1]],
    ['DISCARD without segments', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_DISCARD, 0)]],
    ['half a segment', R.VIRTIO_BLK_S_IOERR, [header(R.VIRTIO_BLK_T_DISCARD, 0), segment(0, 1).subarray(0, 8)]],
    [
      'DISCARD whose second segment is behind the end',
      R.VIRTIO_BLK_S_IOERR,
      [header(R.VIRTIO_BLK_T_DISCARD, 0), segment(0, 1), segment(64, 1)],
    ],
    ['DISCARD with unmap', R.VIRTIO_BLK_S_UNSUPP, [header(R.VIRTIO_BLK_T_DISCARD, 0), segment(0, 1, 1)]],
    [
      '17 segments',
      R.VIRTIO_BLK_S_IOERR,
      [header(R.VIRTIO_BLK_T_DISCARD, 0), ...Array.from({ length: 17 }, () => segment(0, 1))],
    ],
    [
      'WRITE_ZEROES with unknown flags',
      R.VIRTIO_BLK_S_UNSUPP,
      [header(R.VIRTIO_BLK_T_WRITE_ZEROES, 0), segment(0, 1, 2)],
    ],
    [
      'two segments of zeroes',
      R.VIRTIO_BLK_S_IOERR,
      [header(R.VIRTIO_BLK_T_WRITE_ZEROES, 0), segment(0, 1), segment(1, 1)],
    ],
  ];
  it.each(refused)('%s gets status %i without an effect', (_what, expected, readable, writable = [1]) => {
    const rig = start();
    const before = rig.disk.bytes.slice();
    const { data, status } = request(rig, readable, writable);
    expect(status).toBe(expected);
    expect(data.every(b => b === 0)).toBe(true);
    expect(rig.disk.calls).toEqual([]);
    expect(same(rig.disk.bytes, before)).toBe(true);
    // It lives.
    expect(request(rig, [header(R.VIRTIO_BLK_T_IN, 0)], [512, 1]).status).toBe(R.VIRTIO_BLK_S_OK);
  });

  it('larger segments than the limits are refused', () => {
    const rig = start(new MemoryDisk());
    Object.defineProperty(rig.disk, 'size', { value: 2 ** 45 });
    const status = (type: number, n: number) => request(rig, [header(type, 0), segment(0, n)]).status;
    expect(status(R.VIRTIO_BLK_T_WRITE_ZEROES, rig.device.readConfig(R.CONFIG_MAX_WRITE_ZEROES_SECTORS, 4) + 1)).toBe(
      1,
    );
    expect(status(R.VIRTIO_BLK_T_DISCARD, rig.device.readConfig(R.CONFIG_MAX_DISCARD_SECTORS, 4) + 1)).toBe(1);
    expect(status(R.VIRTIO_BLK_T_DISCARD, rig.device.readConfig(R.CONFIG_MAX_DISCARD_SECTORS, 4))).toBe(0);
  });

  it('writes to a read-only disk are I/O errors', () => {
    const rig = start(new MemoryDisk(64 * 512, true));
    for (const [type, data] of [
      [R.VIRTIO_BLK_T_OUT, sectors(1)],
      [R.VIRTIO_BLK_T_DISCARD, segment(0, 1)],
      [R.VIRTIO_BLK_T_WRITE_ZEROES, segment(0, 1)],
    ] as const) {
      expect(request(rig, [header(type, 0), data]).status).toBe(R.VIRTIO_BLK_S_IOERR);
    }
    expect(rig.disk.calls).toEqual([]);
    expect(request(rig, [header(R.VIRTIO_BLK_T_FLUSH, 0)]).status).toBe(R.VIRTIO_BLK_S_OK);
  });

  it('DISCARD that was not negotiated is unsupported', () => {
    const features = without(start().device, R.VIRTIO_BLK_F_DISCARD);
    const rig = start(undefined, {}, features);
    expect(request(rig, [header(R.VIRTIO_BLK_T_DISCARD, 0), segment(0, 1)]).status).toBe(R.VIRTIO_BLK_S_UNSUPP);
  });

  it('a request without room for a status stops the device until it is reset', () => {
    const { device, host, disk, queue } = start();
    queue.offer([header(R.VIRTIO_BLK_T_OUT, 0), sectors(1)], []);
    queue.offer([header(R.VIRTIO_BLK_T_IN, 0)], [512, 1]);
    device.notify(0);
    device.notify(0);
    expect(host.failures).toHaveLength(1);
    expect([queue.pushed.length, queue.waiting, disk.calls.length]).toEqual([0, 1, 0]);
    expect(device.reset()).toBeUndefined();
    const again = fakeHost(device);
    expect(request({ device, host: again }, [header(R.VIRTIO_BLK_T_IN, 0)], [512, 1]).status).toBe(0);
  });
});

describe('errors of the host', () => {
  it('become I/O errors, whether they come at once or later', async () => {
    const errors: unknown[] = [];
    const rig = start(undefined, { onError: e => errors.push(e) });
    rig.disk.failure = new Error('ENOSPC');
    const { data, status } = request(rig, [header(R.VIRTIO_BLK_T_IN, 0)], [512, 1]);
    expect([status, data.every(b => b === 0)]).toEqual([R.VIRTIO_BLK_S_IOERR, true]);
    rig.disk.slow = true;
    const chain = rig.queue.offer([header(R.VIRTIO_BLK_T_OUT, 0), sectors(1)], [1]);
    rig.device.notify(0);
    await rig.disk.finishOne();
    expect(chain.writable[0]![0]).toBe(R.VIRTIO_BLK_S_IOERR);
    expect(errors).toEqual([rig.disk.failure, rig.disk.failure]);
    rig.disk.failure = undefined;
    rig.disk.slow = false;
    expect(request(rig, [header(R.VIRTIO_BLK_T_OUT, 0), sectors(1)]).status).toBe(R.VIRTIO_BLK_S_OK);
  });
});

describe('write cache', () => {
  const write = [header(R.VIRTIO_BLK_T_OUT, 0), sectors(1)];

  it('off: every write is flushed before it completes', async () => {
    const { device, disk, queue } = start();
    device.writeConfig(R.CONFIG_WRITEBACK, 1, 0);
    disk.slow = true;
    queue.offer(write, [1]);
    device.notify(0);
    await disk.finishOne();
    expect([disk.calls, queue.pushed.length]).toEqual([['write 0', 'flush'], 0]);
    await disk.finishOne();
    expect([queue.pushed.length, queue.interrupts]).toEqual([1, 1]);
    disk.slow = false;
    queue.offer([header(R.VIRTIO_BLK_T_WRITE_ZEROES, 0), segment(0, 1)], [1]);
    device.notify(0);
    expect(disk.calls.slice(2)).toEqual(['zeroes 0 512 false', 'flush']);
  });

  it('is on for a driver that can flush, and off for one that cannot', () => {
    const all = start().device;
    const { VIRTIO_BLK_F_CONFIG_WCE: WCE, VIRTIO_BLK_F_FLUSH: FLUSH } = R;
    const flushing = start(undefined, {}, without(all, WCE));
    request(flushing, write);
    expect(flushing.disk.calls).toEqual(['write 0']);
    const unaware = start(undefined, {}, without(all, WCE, FLUSH));
    request(unaware, write);
    expect(unaware.disk.calls).toEqual(['write 0', 'flush']);
  });
});

describe('queues', () => {
  it('are worked through with one interrupt', () => {
    const { device, queue } = start();
    for (let i = 0; i < 20; i++) queue.offer([header(R.VIRTIO_BLK_T_IN, i)], [512, 1]);
    device.notify(0);
    expect([queue.pushed.length, queue.interrupts, queue.driverNotifications]).toEqual([20, 1, true]);
    device.notify(0);
    expect(queue.interrupts).toBe(1);
  });

  it('take a request that came while notifications were off', () => {
    const { device, queue } = start();
    const set = queue.setDriverNotifications.bind(queue);
    let late = 1;
    queue.setDriverNotifications = wanted => {
      set(wanted);
      if (wanted && late-- > 0) queue.offer([header(R.VIRTIO_BLK_T_FLUSH, 0)], [1]);
    };
    device.notify(0);
    expect([queue.pushed.length, queue.waiting, queue.driverNotifications]).toEqual([1, 0, true]);
  });

  it('are independent, and one that is not enabled is ignored', () => {
    const { device, host } = start(undefined, { queues: 3 });
    host.queues[2]!.size = 0;
    for (const q of host.queues) q.offer([header(R.VIRTIO_BLK_T_FLUSH, 0)], [1]);
    for (let i = 0; i < 4; i++) device.notify(i);
    expect(host.queues.map(q => q.pushed.length)).toEqual([1, 1, 0]);
  });

  it('keep what is too much at a time, and nothing is forgotten', async () => {
    const { device, disk, host } = start(undefined, { queues: 2 });
    disk.slow = true;
    for (const q of host.queues) {
      for (let i = 0; i < 100; i++) q.offer([header(R.VIRTIO_BLK_T_IN, 0)], [512, 1]);
    }
    device.notify(0);
    device.notify(1);
    expect([disk.inFlight, device.inFlight, host.queues[1]!.waiting]).toEqual([128, 128, 72]);
    while (disk.inFlight > 0) {
      await disk.finishOne();
      expect(disk.inFlight).toBeLessThanOrEqual(128);
    }
    expect(host.queues.map(q => [q.pushed.length, q.driverNotifications])).toEqual([
      [100, true],
      [100, true],
    ]);
  });
});

describe('reset', () => {
  it('waits for what is in flight and returns none of it', async () => {
    const { device, disk, queue } = start();
    disk.slow = true;
    for (let i = 0; i < 2; i++) queue.offer([header(R.VIRTIO_BLK_T_IN, 0)], [512, 1]);
    device.notify(0);
    let done = false;
    const reset = Promise.resolve(device.reset()).then(() => {
      done = true;
    });
    await disk.finishOne();
    expect(done).toBe(false);
    await disk.finishOne();
    await reset;
    expect([queue.pushed.length, queue.interrupts, device.inFlight]).toEqual([0, 0, 0]);
    expect(device.reset()).toBeUndefined();
  });
});

describe('a hostile driver', () => {
  it('whose ring looks full again and again gets as many answers at once as fit into the queue', () => {
    const { device, queue } = start();
    queue.pop = () => fakeChain([header(R.VIRTIO_BLK_T_GET_ID, 0)], [21]);
    device.notify(0);
    expect(queue.pushed).toHaveLength(queue.size);
    expect(queue.driverNotifications).toBe(true);
  });

  it.each([
    ['reads behind the end', R.VIRTIO_BLK_T_IN],
    ['asks for the serial', R.VIRTIO_BLK_T_GET_ID],
  ])('that %s into more memory than there is gets a status and nothing else', (_, type) => {
    const { device, queue } = start();
    const piece = new Uint8Array(new SharedArrayBuffer(2 ** 20)).fill(7);
    const status = new Uint8Array(new SharedArrayBuffer(1)).fill(7);
    const writable = [piece, piece, status];
    const chain = { ...fakeChain([header(type, 0)], []), writable, writableLength: 2 ** 21 + 1 };
    queue.unpop(chain);
    device.notify(0);
    expect(queue.pushed).toEqual([{ chain, written: 0 }]);
    expect([status[0], piece.every(b => b === 7)]).toEqual([R.VIRTIO_BLK_S_IOERR, true]);
  });
});

describe('sliceParts', () => {
  it('is slice() of the joined parts, without a copy', () => {
    const part = fc.uint8Array({ maxLength: 20 });
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), fc.nat(60), fc.nat(60), (parts, offset, length) => {
        const slices = sliceParts(parts, offset, length);
        expect(joined(slices)).toEqual(joined(parts).slice(offset, offset + length));
        expect(lengthOf(slices)).toBe(joined(slices).length);
        for (const s of slices) expect(parts.some(p => p.buffer === s.buffer)).toBe(true);
      }),
    );
    expect(fakeChain([new Uint8Array(3)], [2]).readableLength).toBe(3);
  });
});
