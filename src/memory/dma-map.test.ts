import { describe, expect, it } from 'vitest';
import { FakeVfioContainer, type FakeVfioOptions } from '../../test/support/fake-vfio-container.ts';
import {
  FAR,
  PAGE,
  PIN_BACKENDS,
  type PinBackend,
  type PinRig,
  RAM,
  RAM_SIZE,
  ROM,
  refusal,
} from '../../test/support/pin-tables.ts';
import { DmaMap, type DmaMapOptions } from './dma-map.ts';
import { createGuestMemory } from './guest-memory.ts';
import { forkMemory } from './memory-fork.ts';
import type { PinTableOptions } from './pin-table.ts';
import { FOLL_PIN, FOLL_WRITE } from './pin-types.ts';

const BLOCK = 2 << 20;
/** All RAM, a page of ROM and a page of RAM. */
const PAGES = RAM_SIZE / PAGE + 2;
const BALANCED = { current: 0, currentLong: 0 };

interface Rig extends PinRig {
  readonly container: FakeVfioContainer;
  map(options?: Partial<DmaMapOptions>): DmaMap;
}

function rigOf(make: PinBackend, vfio: FakeVfioOptions = {}, options: Partial<PinTableOptions> = {}): Rig {
  const rig = make(options);
  const container = new FakeVfioContainer(vfio);
  return { ...rig, container, map: o => new DmaMap({ table: rig.table, container, name: 'vfio0', ...o }) };
}

/** The whole of RAM is virtio-mem's. */
const pluggable = [{ base: RAM, length: RAM_SIZE }];

function thrown(f: () => unknown): unknown {
  try {
    f();
  } catch (e) {
    return e;
  }
  return expect.unreachable();
}

/** All that the map has done is undone. */
function expectNothing({ table, container }: Rig): void {
  expect(container.mappings).toEqual([]);
  expect(container.lockedBytes).toBe(0);
  expect(table.stats()).toMatchObject(BALANCED);
  expect(table.leaks()).toEqual([]);
}

describe.each(PIN_BACKENDS)('PIN-11: a map of all RAM on %s', (_name, make) => {
  it('PIN-11: one long-term pin for each mapped section, ROM without WRITE', () => {
    const rig = rigOf(make);
    using map = rig.map();
    expect(rig.container.mappings).toEqual([
      { iova: RAM, size: RAM_SIZE, write: true },
      { iova: ROM, size: PAGE, write: false },
      { iova: FAR, size: PAGE, write: true },
    ]);
    expect(rig.table.pins()).toMatchObject([
      { owner: 'vfio0', base: RAM, length: RAM_SIZE, write: true, longterm: true, revocable: false },
      { owner: 'vfio0', base: ROM, length: PAGE, write: false, longterm: true, revocable: false },
      { owner: 'vfio0', base: FAR, length: PAGE, write: true, longterm: true, revocable: false },
    ]);
    expect(map.mappedBytes).toBe(PAGES * PAGE);
    expect(rig.container.lockedBytes).toBe(PAGES * PAGE);
  });

  it('PIN-11: devices find what the guest finds', () => {
    const rig = rigOf(make);
    using _map = rig.map();
    rig.memory.setU8(FAR, 5);
    expect(rig.container.deviceRead(FAR, 1)).toEqual(Uint8Array.of(5));
    expect(rig.container.deviceWrite(RAM + PAGE - 1, Uint8Array.of(6, 7))).toBe(true);
    expect(rig.memory.u16(RAM + PAGE - 1)).toBe(0x0706);
  });

  it('PIN-11: memory that can be unplugged is mapped in blocks of 2 MiB, what is not plugged is not', () => {
    const rig = rigOf(make);
    rig.table.startUnplugged(RAM + BLOCK, BLOCK);
    using _map = rig.map({ pluggable });
    expect(rig.container.mappings.map(m => [m.iova, m.size])).toEqual([
      [RAM, BLOCK],
      [ROM, PAGE],
      [FAR, PAGE],
    ]);
  });

  it('PIN-11: sections end where memory that can be unplugged begins and ends, and at multiples of 2 MiB in it', () => {
    const rig = rigOf(make);
    using _map = rig.map({ pluggable: [{ base: RAM + BLOCK / 2, length: BLOCK }] });
    expect(rig.container.mappings.slice(0, 4).map(m => [m.iova - RAM, m.size])).toEqual([
      [0, BLOCK / 2],
      [BLOCK / 2, BLOCK / 2],
      [BLOCK, BLOCK / 2],
      [BLOCK + BLOCK / 2, BLOCK / 2],
    ]);
  });

  it('V-2: memory outside of the addresses of the IOMMU is refused before anything is mapped, plugged or not', () => {
    const rig = rigOf(make, { ranges: [{ base: RAM, length: RAM_SIZE + PAGE }] });
    rig.table.startUnplugged(FAR, PAGE);
    expect(thrown(() => rig.map({ pluggable: [{ base: FAR, length: PAGE }] }))).toMatchObject({
      code: 'ERR_DOES_NOT_FIT',
      message: 'RAM at 0x80000000 (4096 bytes) cannot be mapped for DMA: the IOMMU maps 0x40000000..0x40400fff',
      details: { errno: 'EINVAL', base: FAR },
    });
    expect(rig.container.calls).toEqual([]);
    expectNothing(rig);
  });

  it('V-2: memory that is not whole pages of the IOMMU is refused', () => {
    const rig = rigOf(make, { pageSize: 65_536 });
    expect(thrown(() => rig.map())).toMatchObject({ code: 'ERR_DOES_NOT_FIT', details: { base: ROM } });
    expectNothing(rig);
  });

  it.each([
    ['EEXIST', 'ERR_HOST_CALL', {}],
    ['ENOSPC', 'ERR_HOST_CALL', { entryLimit: 2 }],
    ['ENOMEM', 'ERR_MEMLOCK_LIMIT', { memlockBytes: RAM_SIZE }],
    ['EFAULT', 'ERR_HOST_CALL', { pinErrno: (page: Uint8Array) => (page[0] === 9 ? 'EFAULT' : undefined) }],
    ['EOPNOTSUPP', 'ERR_HOST_CALL', { pinErrno: (page: Uint8Array) => (page[0] === 9 ? 'EOPNOTSUPP' : undefined) }],
  ] as const)('V-3, V-7: %s of a later section leaves nothing mapped and nothing pinned', (errno, code, vfio) => {
    const rig = rigOf(make, vfio);
    rig.memory.setU8(FAR, 9);
    const other = { iova: FAR, size: PAGE, bytes: new Uint8Array(PAGE), read: true, write: false };
    if (errno === 'EEXIST') rig.container.mapDma(other);
    const e = thrown(() => rig.map({ pluggable }));
    expect(e).toMatchObject({ code, details: { errno, length: PAGE } });
    expect((e as Error).message).toMatch(/^vfio0 cannot (map|pin) 0x(40400000|80000000) \(4096 bytes\)/);
    // Somebody else's stays.
    if (errno === 'EEXIST') expect(rig.container.unmapDma(other)).toBe(PAGE);
    expectNothing(rig);
    // Nobody listens either.
    expect(rig.table.unplug(RAM, BLOCK).done && rig.table.plug(RAM, BLOCK).done).toBe(true);
    expectNothing(rig);
  });

  it.each([
    ['limit - 1', PAGES - 1, false],
    ['limit', PAGES, true],
    ['limit + 1', PAGES + 1, true],
  ])('V-4: RLIMIT_MEMLOCK, by the table and by the kernel: all of RAM against %s', (_what, pages, fits) => {
    const limit = pages * PAGE;
    // The table knows the limit; the kernel alone does; both do.
    for (const [table, kernel] of [
      [{ memlockBytes: limit }, {}],
      [{}, { memlockBytes: limit }],
      [{ memlockBytes: limit }, { memlockBytes: limit }],
    ]) {
      const rig = rigOf(make, kernel, table === undefined ? {} : { limits: table });
      if (fits) {
        rig.map().close();
      } else {
        expect(thrown(() => rig.map())).toMatchObject({
          code: 'ERR_MEMLOCK_LIMIT',
          hint: expect.stringContaining('ulimit -l'),
          details: {
            errno: 'ENOMEM',
            owner: 'vfio0',
            limitName: 'RLIMIT_MEMLOCK',
            needed: PAGE,
            used: limit,
            limit,
          },
        });
      }
      expectNothing(rig);
    }
  });

  it('V-4: two containers are charged for the same page twice', () => {
    const rig = rigOf(make, {}, { limits: { memlockBytes: 2 * PAGES * PAGE - 1 } });
    using _first = rig.map();
    const second = { container: new FakeVfioContainer(), name: 'vfio1' };
    expect(refusal(() => rig.map(second))).toBe('ERR_MEMLOCK_LIMIT ENOMEM');
    expect(rig.table.stats().current).toBe(PAGES);
  });

  it('ENOMEM without a limit is what the kernel says: it has no memory', () => {
    const rig = rigOf(make, { pinErrno: () => 'ENOMEM' });
    expect(refusal(() => rig.map())).toBe('ERR_HOST_CALL ENOMEM');
    expectNothing(rig);
  });

  it('V-8: no call bisects a mapping, whatever is unplugged', () => {
    const rig = rigOf(make);
    using _map = rig.map({ pluggable });
    rig.table.unplug(RAM + BLOCK, BLOCK);
    // Half of a block, or a block and a half: the map is in the way.
    expect(rig.table.unplug(RAM, BLOCK / 2)).toEqual({ done: false, owners: ['vfio0'] });
    expect(rig.table.unplug(RAM + BLOCK / 2, BLOCK)).toEqual({ done: false, owners: ['vfio0'] });
    // All of it at once, with the block that is gone.
    expect(rig.table.unplug(RAM, RAM_SIZE)).toEqual({ done: true, owners: [] });
    expect(rig.container.calls.filter(c => c.call === 'unmap')).toEqual([
      { call: 'unmap', iova: RAM + BLOCK, size: BLOCK, flags: '' },
      { call: 'unmap', iova: RAM, size: RAM_SIZE, flags: '' },
    ]);
  });

  it('V-8: what a container has not unmapped stays pinned', () => {
    const rig = rigOf(make);
    using map = rig.map({ pluggable });
    rig.container.unmapDma({ iova: RAM, size: BLOCK });
    expect(refusal(() => rig.table.unplug(RAM, BLOCK))).toBe('ERR_INTERNAL');
    expect(rig.discarded).toEqual([]);
    expect(map.mappedBytes).toBe(PAGES * PAGE);
    expect(rig.table.stats().current).toBe(PAGES);
    rig.container.mapDma({ iova: RAM, size: BLOCK, bytes: new Uint8Array(BLOCK), read: true, write: true });
  });
});

describe.each(PIN_BACKENDS)('table 4.3 and a map of all RAM on %s', (_name, make) => {
  it('4.3 memory hot-unplug, long pin, coordinated: unmapped and unpinned, then discarded', () => {
    const mapped: number[] = [];
    const rig: Rig = rigOf(
      make,
      {},
      { discardBytes: base => void mapped.push(rig.container.mappings.filter(m => m.iova === base).length) },
    );
    using map = rig.map({ pluggable });
    expect(rig.table.unplug(RAM + BLOCK, BLOCK)).toEqual({ done: true, owners: [] });
    expect(mapped).toEqual([0]);
    expect(map.mappedBytes).toBe(PAGES * PAGE - BLOCK);
    expect(rig.container.deviceRead(RAM + BLOCK, 1)).toBeUndefined();
    expect(rig.container.deviceRead(RAM, 1)).toHaveLength(1);
    expect(rig.table.stats()).toMatchObject({ current: PAGES - BLOCK / PAGE, revoked: 0 });
  });

  it('4.3 memory hot-unplug, short pin: busy, and the map stays', () => {
    const rig = rigOf(make);
    using _map = rig.map({ pluggable });
    const h = rig.table.pin(RAM, PAGE, FOLL_PIN, rig.table.owner('disk0'));
    expect(rig.table.unplug(RAM, BLOCK)).toEqual({ done: false, owners: ['disk0'] });
    expect(rig.container.deviceRead(RAM, 1)).toHaveLength(1);
    rig.table.unpin(h);
    expect(rig.table.unplug(RAM, BLOCK).done).toBe(true);
  });

  it('4.3 hot-plug: pinned and mapped before the guest is told', () => {
    const rig = rigOf(make);
    rig.table.startUnplugged(RAM, RAM_SIZE);
    using map = rig.map({ pluggable });
    expect(map.mappedBytes).toBe(2 * PAGE);
    expect(rig.table.plug(RAM, RAM_SIZE)).toEqual({ done: true, veto: undefined });
    expect(rig.container.mappings.slice(0, 2)).toEqual([
      { iova: RAM, size: BLOCK, write: true },
      { iova: RAM + BLOCK, size: BLOCK, write: true },
    ]);
    expect(rig.table.stats().currentLong).toBe(PAGES);
  });

  it.each([
    ['the table', {}, { memlockBytes: BLOCK + 2 * PAGE }, 'ERR_MEMLOCK_LIMIT'],
    ['the kernel', { memlockBytes: BLOCK + 2 * PAGE }, {}, 'ERR_MEMLOCK_LIMIT'],
    ['its entries', { entryLimit: 3 }, {}, 'ERR_HOST_CALL'],
  ])(
    '4.3 hot-plug: a limit of %s is a veto, which undoes earlier blocks and listeners',
    (_what, vfio, limits, code) => {
      const rig = rigOf(make, vfio, { limits });
      rig.table.startUnplugged(RAM, RAM_SIZE);
      const told: string[] = [];
      rig.table.addPlugListener({ plug: () => void told.push('plug'), unplug: () => void told.push('unplug') });
      using map = rig.map({ pluggable });
      const { done, veto } = rig.table.plug(RAM, RAM_SIZE);
      expect(done).toBe(false);
      expect(veto).toMatchObject({ code });
      expect(told).toEqual(['plug', 'unplug']);
      expect(map.mappedBytes).toBe(2 * PAGE);
      expect(rig.container.mappings).toHaveLength(2);
      expect(rig.table.stats().current).toBe(2);
      expect(rig.table.page(RAM)?.state).toBe('unplugged');
      // One block is within the limit.
      expect(rig.table.plug(RAM, BLOCK).done).toBe(true);
    },
  );

  it('4.3 hot-plug: the veto of a later listener unmaps and unpins', () => {
    const rig = rigOf(make);
    rig.table.startUnplugged(RAM, RAM_SIZE);
    using map = rig.map({ pluggable });
    const veto = { plug: () => expect.unreachable('no'), unplug: () => undefined };
    using _listener = rig.table.addPlugListener(veto);
    expect(rig.table.plug(RAM, RAM_SIZE).done).toBe(false);
    expect(map.mappedBytes).toBe(2 * PAGE);
    expect(rig.table.stats().current).toBe(2);
  });

  it('4.3 balloon inflate and free-page reporting, long pin: skipped, and the device keeps the page', () => {
    const rig = rigOf(make);
    using _map = rig.map({ pluggable });
    rig.container.deviceWrite(RAM, Uint8Array.of(3));
    for (const reason of ['balloon', 'report'] as const) {
      const result = rig.table.discard(RAM, 4 * PAGE, reason);
      expect(result).toEqual({ discarded: 0, queued: 0, skippedPinned: 4 });
    }
    expect(rig.memory.u8(RAM)).toBe(3);
    expect(rig.table.stats()).toMatchObject({ skippedPinned: 8, revoked: 0, current: PAGES });
  });

  it('4.3 snapshot and fork, long pin: refused, since the device cannot be stopped', async () => {
    const rig = rigOf(make);
    using _map = rig.map();
    const gate = { protect: () => ({ [Symbol.dispose]: () => undefined }) };
    await expect(forkMemory(rig.table, gate, { timeoutMs: 10 })).rejects.toMatchObject({
      code: 'ERR_PIN_UNSUPPORTED',
      details: { owners: ['vfio0'] },
    });
  });

  it('4.3 remove memslot, long pin: unmapped first', () => {
    const rig = rigOf(make);
    using map = rig.map();
    expect(rig.table.unplug(RAM, RAM_SIZE)).toEqual({ done: true, owners: [] });
    expect(rig.container.mappings.map(m => m.iova)).toEqual([ROM, FAR]);
    expect(map.mappedBytes).toBe(2 * PAGE);
  });

  it('4.3 guest reset: the map stays', () => {
    const rig = rigOf(make);
    using _map = rig.map();
    const disk = rig.table.owner('disk0');
    rig.table.pin(RAM, PAGE, FOLL_PIN | FOLL_WRITE, disk);
    rig.table.releaseOwner(disk);
    expect(rig.table.stats()).toMatchObject({ current: PAGES });
    expect(rig.container.mappings).toHaveLength(3);
  });

  it('4.3 VM stop, long pin: everything is unmapped and unpinned, and counters match', () => {
    const rig = rigOf(make);
    const map = rig.map({ pluggable });
    map.close();
    map.close();
    expectNothing(rig);
    expect(rig.table.stats()).toMatchObject({ pinAcquired: PAGES, pinReleased: PAGES });
    // It does not listen any more, and may come again.
    expect(rig.table.unplug(RAM, BLOCK).done && rig.table.plug(RAM, BLOCK).done).toBe(true);
    expect(map.mappedBytes).toBe(0);
    rig.map({ pluggable }).close();
    expectNothing(rig);
  });

  it('4.3 DMA read from ROM, write to ROM: allowed, and a fault of the IOMMU that changes nothing', () => {
    const rig = rigOf(make);
    using _map = rig.map();
    rig.memory.setU8(ROM, 5);
    expect(rig.container.deviceRead(ROM, 1)).toEqual(Uint8Array.of(5));
    expect(rig.container.deviceWrite(ROM, Uint8Array.of(6))).toBe(false);
    expect(rig.memory.u8(ROM)).toBe(5);
  });

  it.each([0, RAM - PAGE, ROM + PAGE, FAR + PAGE])('4.3 DMA to MMIO or a hole: a fault of the IOMMU (%i)', a => {
    const rig = rigOf(make);
    using _map = rig.map();
    expect(rig.container.deviceRead(a, 4)).toBeUndefined();
    expect(rig.container.deviceWrite(a, Uint8Array.of(1))).toBe(false);
    expect(rig.container.faults).toBe(2);
  });
});

describe.each(PIN_BACKENDS)('dirty pages of a map of all RAM on %s', (_name, make) => {
  /** What the map reports in one collection: first page and pages, from RAM on; FAR is 'far'. */
  function collected(map: DmaMap): (string | readonly [number, number])[] {
    const found: (string | readonly [number, number])[] = [];
    map.collectCpu({
      markDirty: (base, length) =>
        found.push(base === FAR ? `far ${length / PAGE}` : [(base - RAM) / PAGE, length / PAGE]),
    });
    return found;
  }
  const all = [[0, RAM_SIZE / PAGE], 'far 1'];

  it('V-14, 4.3 live-migration dirty log: a device that says nothing may have written all, in every round', () => {
    const rig = rigOf(make);
    using map = rig.map({ pluggable });
    map.start();
    expect([collected(map), collected(map)]).toEqual([all, all]);
    map.stop();
  });

  it('V-14: where the kernel tracks nothing, all that devices may write is reported', () => {
    const rig = rigOf(make);
    const { pageSize, ranges, memlockBytes } = rig.container;
    const container = {
      ...{ pageSize, ranges, memlockBytes, tracking: undefined },
      mapDma: rig.container.mapDma.bind(rig.container),
      unmapDma: rig.container.unmapDma.bind(rig.container),
    };
    using map = rig.map({ container });
    map.start();
    expect(collected(map)).toEqual(all);
    map.stop();
  });

  it('V-12, V-13: otherwise what the container says, once; also of blocks that were plugged since', () => {
    const rig = rigOf(make, { groups: ['mdev'] });
    rig.table.startUnplugged(RAM + BLOCK, BLOCK);
    using map = rig.map({ pluggable });
    map.start();
    expect(collected(map)).toEqual([]);
    rig.table.plug(RAM + BLOCK, BLOCK);
    rig.container.deviceWrite(RAM + BLOCK - 1, Uint8Array.of(1, 2));
    rig.container.deviceWrite(FAR, Uint8Array.of(1));
    rig.container.pinPages(RAM + 5 * PAGE, PAGE);
    expect(collected(map)).toEqual([[5, 1], [511, 2], 'far 1']);
    expect(collected(map)).toEqual([[5, 1]]);
    rig.container.unpinPages(RAM + 5 * PAGE, PAGE);
    rig.table.unplug(RAM + BLOCK, BLOCK);
    expect([collected(map), collected(map)]).toEqual([[[5, 1]], []]);
    map.stop();
    expect(rig.container.calls.filter(c => c.errno !== undefined)).toEqual([]);
  });

  it('V-13: pages of the IOMMU that are larger than ours', () => {
    const pageSize = 4 * PAGE;
    const bytes = new Uint8Array(new SharedArrayBuffer(128 * PAGE));
    const rig = rigOf(
      make,
      { groups: ['mdev'], pageSize },
      { memory: createGuestMemory([{ kind: 'ram', base: RAM, size: bytes.length, bytes }]) },
    );
    using map = rig.map();
    map.start();
    rig.container.deviceWrite(RAM + 6 * PAGE, Uint8Array.of(1));
    expect(collected(map)).toEqual([[4, 4]]);
    map.stop();
  });

  it('PIN-6, 4.3 live-migration dirty log: a log of the table has all of it, until it is unpinned and collected', () => {
    const rig = rigOf(make);
    const map = rig.map();
    using _source = rig.table.dirty.addSource(map);
    using log = rig.table.dirty.start();
    const bits = new Uint32Array(RAM_SIZE / PAGE / 32);
    const round = () => log.collect(RAM, RAM_SIZE, bits);
    expect([round(), round()]).toEqual([RAM_SIZE / PAGE, RAM_SIZE / PAGE]);
    map.close();
    expect([round(), round()]).toEqual([RAM_SIZE / PAGE, 0]);
    expect(rig.container.calls.filter(c => c.errno !== undefined)).toEqual([]);
  });
});
