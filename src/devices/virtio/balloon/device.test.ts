import { describe, expect, it } from 'vitest';
import { fakeChain, fakeHost } from '../../../../test/support/fake-virtio.ts';
import { createVirtualClock } from '../../../time/virtual-clock.ts';
import { VirtioBalloon, type VirtioBalloonOptions } from './device.ts';
import * as R from './regs.ts';
import type { BalloonStatistics } from './statistics.ts';

const MIB = 1 << 20;
const RAM = [{ base: 0x4000_0000, size: 64 * MIB }];
const VERSION_1 = 1n << 32n;
const bit = (...features: number[]) => features.reduce((all, f) => all | (1n << BigInt(f)), VERSION_1);

function setup(options: Partial<VirtioBalloonOptions> = {}) {
  const ranges: [number, number][] = [];
  const views: Uint8Array[] = [];
  const clock = createVirtualClock({ startWall: 0n });
  const deflated: [number, number][] = [];
  const discarder = {
    discard: (gpa: number, length: number) => {
      ranges.push([gpa, length]);
      return { discarded: length / 4096, queued: 0, skippedPinned: 0 };
    },
    report: (bytes: Uint8Array) => {
      views.push(bytes);
      return { discarded: 0, queued: 0, skippedPinned: 1 };
    },
    deflate: (gpa: number, length: number) => void deflated.push([gpa, length]),
  };
  const balloon = new VirtioBalloon({ ram: RAM, discarder, clock, ...options });
  return { balloon, ranges, views, deflated, clock };
}

function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, v] of values.entries()) view.setUint32(4 * i, v, true);
  return bytes;
}

function stats(...entries: [number, bigint][]): Uint8Array {
  const bytes = new Uint8Array(R.STAT_SIZE * entries.length);
  const view = new DataView(bytes.buffer);
  for (const [i, [tag, value]] of entries.entries()) {
    view.setUint16(R.STAT_SIZE * i, tag, true);
    view.setBigUint64(R.STAT_SIZE * i + 2, value, true);
  }
  return bytes;
}

describe('virtio-balloon configuration', () => {
  it('shows the target in pages and tells a running driver about changes', () => {
    const { balloon } = setup({ target: 8 * MIB });
    expect(balloon.readConfig(R.NUM_PAGES, 4)).toBe(2048);
    const host = fakeHost(balloon);
    expect(host.configChanges).toBe(0);
    balloon.target = 16 * MIB;
    expect(balloon.readConfig(R.NUM_PAGES, 4)).toBe(4096);
    expect(balloon.readConfig(R.NUM_PAGES + 1, 1)).toBe(0x10);
    expect(host.configChanges).toBe(1);
  });

  it('refuses a target that is no size of pages or more than the memory', () => {
    const { balloon } = setup();
    for (const bad of [1, -4096, 64 * MIB + 4096, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => {
        balloon.target = bad;
      }).toThrow(expect.objectContaining({ code: 'ERR_BAD_SIZE' }));
    }
    expect(balloon.target).toBe(0);
  });

  it('lets the driver write actual and poison_val only', () => {
    const seen: number[] = [];
    const { balloon } = setup({ target: 4 * MIB, onActual: bytes => void seen.push(bytes) });
    for (const field of [R.NUM_PAGES, R.ACTUAL, R.FREE_PAGE_HINT_CMD_ID, R.POISON_VAL]) {
      balloon.writeConfig(field, 4, 0xaa);
    }
    expect(balloon.target).toBe(4 * MIB);
    expect(balloon.actual).toBe(0xaa * 4096);
    expect(balloon.readConfig(R.FREE_PAGE_HINT_CMD_ID, 4)).toBe(0);
    expect(balloon.readConfig(R.POISON_VAL, 4)).toBe(0xaa);
    expect(seen).toEqual([0xaa * 4096]);
  });

  it('offers deflation on OOM unless told not to, and never free page hinting', () => {
    expect(setup().balloon.features).toBe(0b110111n);
    expect(setup({ deflateOnOom: false }).balloon.features).toBe(0b110011n);
  });
});

describe('virtio-balloon pages', () => {
  it('discards what is inflated and acknowledges after that', () => {
    const { balloon, ranges } = setup();
    const host = fakeHost(balloon);
    host.queues[0]!.offer([words(0x40001, 0x40000), words(5)]);
    host.queues[0]!.offer([words(0x40010)]);
    balloon.notify(0);
    expect(ranges).toEqual([
      [0x4000_0000, 0x2000],
      [0x4001_0000, 0x1000],
    ]);
    expect(host.queues[0]!.pushed.map(p => p.written)).toEqual([0, 0]);
    expect(host.queues[0]!.interrupts).toBe(1);
  });

  it('takes what is deflated out of the balloon, acknowledges it, and discards nothing', () => {
    const { balloon, ranges, deflated } = setup();
    const host = fakeHost(balloon);
    host.queues[1]!.offer([words(0x40001)]);
    balloon.notify(1);
    expect([ranges, deflated]).toEqual([[], [[0x4000_1000, 0x1000]]]);
    expect(host.queues[1]!.pushed).toHaveLength(1);
    expect(host.queues[1]!.interrupts).toBe(1);
  });

  it('interrupts nobody and survives when there is nothing, or no such queue', () => {
    const { balloon } = setup();
    const host = fakeHost(balloon, VERSION_1);
    for (const index of [0, 1, 2, 3, 4]) balloon.notify(index);
    expect(host.queues.map(q => q.interrupts)).toEqual([0, 0, 0, 0]);
  });

  it('gives reported pages to the discarder as views, having let go of them itself', () => {
    const { balloon, views } = setup();
    const host = fakeHost(balloon);
    const chain = host.queues[3]!.offer([], [8192, 4096]);
    balloon.notify(3);
    expect(views).toHaveLength(2);
    expect(views.every((view, i) => view === chain.writable[i])).toBe(true);
    expect(host.queues[3]!.unpinned).toEqual([chain]);
    expect(balloon.discards).toEqual({ discarded: 0, queued: 0, skippedPinned: 2 });
    expect(host.queues[3]!.pushed.map(p => p.written)).toEqual([0]);
  });

  it('leaves reported pages alone when they keep a poison value', () => {
    const { balloon, views } = setup();
    balloon.writeConfig(R.POISON_VAL, 4, 0xaaaaaaaa);
    const host = fakeHost(balloon);
    host.queues[3]!.offer([], [4096]);
    balloon.notify(3);
    expect(views).toEqual([]);
    expect(host.queues[3]!.pushed).toHaveLength(1);
  });

  it('ignores a poison value without the feature, and takes zero as none', () => {
    for (const [value, features] of [
      [7, bit(R.VIRTIO_BALLOON_F_PAGE_REPORTING)],
      [0, bit(R.VIRTIO_BALLOON_F_PAGE_REPORTING, R.VIRTIO_BALLOON_F_PAGE_POISON)],
    ] as const) {
      const { balloon, views } = setup();
      balloon.writeConfig(R.POISON_VAL, 4, value);
      const host = fakeHost(balloon, features);
      host.queues[2]!.offer([], [4096]);
      balloon.notify(2);
      expect(views).toHaveLength(1);
    }
  });
});

describe('virtio-balloon queues of features that were not negotiated', () => {
  it('queue 2 has the statistics of a driver that knows no reporting', () => {
    const { balloon } = setup();
    const host = fakeHost(balloon, bit(R.VIRTIO_BALLOON_F_STATS_VQ));
    host.queues[2]!.offer([stats([R.VIRTIO_BALLOON_S_MEMFREE, 5n])]);
    balloon.notify(2);
    expect(balloon.statistics).toEqual({ freeMemory: 5 });
  });

  it('queue 2 has the reports of a driver that gives no statistics', async () => {
    const { balloon, views } = setup();
    const host = fakeHost(balloon, bit(R.VIRTIO_BALLOON_F_PAGE_REPORTING));
    host.queues[2]!.offer([], [4096]);
    balloon.notify(2);
    expect(views).toHaveLength(1);
    await expect(balloon.requestStatistics()).rejects.toMatchObject({ code: 'ERR_STATE' });
  });
});

describe('virtio-balloon statistics', () => {
  const FREE: [number, bigint] = [R.VIRTIO_BALLOON_S_MEMFREE, 4096n];

  it('reads all tags in any order and ignores others', () => {
    const { balloon } = setup();
    const host = fakeHost(balloon);
    const entries = Array.from({ length: 10 }, (_, tag): [number, bigint] => [9 - tag, BigInt(100 + 9 - tag)]);
    host.queues[2]!.offer([stats([10, 1n], ...entries, [0xffff, 1n]), new Uint8Array(9)]);
    balloon.notify(2);
    expect(balloon.statistics).toEqual({
      swapIn: 100,
      swapOut: 101,
      majorFaults: 102,
      minorFaults: 103,
      freeMemory: 104,
      totalMemory: 105,
      availableMemory: 106,
      diskCaches: 107,
      hugePageAllocations: 108,
      hugePageFailures: 109,
    });
  });

  it('keeps the buffer, and returns it to ask for the next statistics', async () => {
    const { balloon } = setup();
    const host = fakeHost(balloon);
    const queue = host.queues[2]!;
    const first = queue.offer([stats(FREE)]);
    balloon.notify(2);
    expect(queue.pushed).toEqual([]);

    const asked = balloon.requestStatistics();
    expect(balloon.requestStatistics()).toBe(asked);
    expect(queue.pushed).toEqual([{ chain: first, written: 0 }]);
    expect(queue.interrupts).toBe(1);

    queue.offer([stats([R.VIRTIO_BALLOON_S_MEMFREE, 8192n])]);
    balloon.notify(2);
    await expect(asked).resolves.toEqual({ freeMemory: 8192 });
    expect(queue.pushed).toHaveLength(1);
  });

  it('are what the first buffer brings when somebody asked before it came', async () => {
    const { balloon } = setup();
    const host = fakeHost(balloon);
    const asked = balloon.requestStatistics();
    host.queues[2]!.offer([stats(FREE)]);
    balloon.notify(2);
    await expect(asked).resolves.toEqual({ freeMemory: 4096 });
  });

  it('returns the older buffer of a driver that gives two', () => {
    const { balloon } = setup();
    const host = fakeHost(balloon);
    const first = host.queues[2]!.offer([stats(FREE)]);
    host.queues[2]!.offer([stats(FREE)]);
    balloon.notify(2);
    expect(host.queues[2]!.pushed).toEqual([{ chain: first, written: 0 }]);
  });

  it('are asked for each period, and only when the driver has answered', () => {
    const seen: BalloonStatistics[] = [];
    const { balloon, clock } = setup({ statisticsPeriod: 1000, onStatistics: s => void seen.push(s) });
    const host = fakeHost(balloon);
    const queue = host.queues[2]!;
    queue.offer([stats(FREE)]);
    balloon.notify(2);
    const pass = (ns: number) => {
      clock.advanceTo(clock.nowNs() + ns);
      clock.runDue();
    };
    pass(999);
    expect(queue.pushed).toHaveLength(0);
    pass(1);
    expect(queue.pushed).toHaveLength(1);
    pass(1000); // no answer yet
    expect(queue.pushed).toHaveLength(1);
    queue.offer([stats(FREE)]);
    balloon.notify(2);
    pass(1000);
    expect(queue.pushed).toHaveLength(2);
    expect(seen).toHaveLength(2);

    balloon.statisticsPeriod = 0;
    expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
    expect(() => {
      balloon.statisticsPeriod = -1;
    }).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });
});

describe('virtio-balloon reset', () => {
  it('forgets the driver: buffer, timer, statistics, actual, poison; the target stays', async () => {
    const actual: number[] = [];
    const { balloon, clock, views } = setup({
      statisticsPeriod: 1000,
      target: MIB,
      onActual: b => void actual.push(b),
    });
    balloon.writeConfig(R.POISON_VAL, 4, 1);
    const before = fakeHost(balloon);
    before.queues[2]!.offer([stats([R.VIRTIO_BALLOON_S_MEMFREE, 1n])]);
    balloon.notify(2);
    balloon.writeConfig(R.ACTUAL, 4, 256);
    const asked = balloon.requestStatistics();
    balloon.reset();
    await expect(asked).rejects.toMatchObject({ code: 'ERR_STATE' });
    expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
    expect(balloon.statistics).toBeUndefined();
    expect([balloon.actual, balloon.target]).toEqual([0, MIB]);
    expect(actual).toEqual([MIB, 0]);

    const after = fakeHost(balloon);
    after.queues[3]!.offer([], [4096]);
    balloon.notify(3);
    expect(views).toHaveLength(1);
    void balloon.requestStatistics();
    expect([...before.queues, ...after.queues].map(q => q.pushed.length)).toEqual([0, 0, 1, 0, 0, 0, 0, 1]);
  });

  it('takes as many requests at once as fit into the queue, though its ring looks full again and again', () => {
    const { balloon } = setup();
    const [queue] = fakeHost(balloon).queues;
    queue!.pop = () => fakeChain([words(1)], []);
    balloon.notify(0);
    expect(queue!.pushed).toHaveLength(queue!.size);
  });
});
