// The container that stands in for VFIO's where there is no device: it has to say what Linux says.
import { describe, expect, it } from 'vitest';
import {
  DIRTY_GET,
  DIRTY_START,
  DIRTY_STOP,
  FakeVfioContainer,
  type FakeVfioOptions,
} from '../../test/support/fake-vfio-container.ts';
import { PAGE, refusal } from '../../test/support/pin-tables.ts';
import type { DmaBitmap } from './dma-map.ts';

const BASE = 0x4000_0000;
const bytes = (pages: number) => new Uint8Array(new SharedArrayBuffer(pages * PAGE));
const bitmap = (words = 2, pageSize = PAGE): DmaBitmap => ({ pageSize, bits: new Uint32Array(words) });
const errno = (f: () => unknown) => refusal(f).replace('ERR_HOST_CALL ', '');

/** A container with mappings of so many pages, one behind the other from BASE on, a page of hole between them. */
function container(options: FakeVfioOptions = {}, sizes: readonly number[] = []): FakeVfioContainer {
  const c = new FakeVfioContainer(options);
  let iova = BASE;
  for (const pages of sizes) {
    map(c, iova, pages);
    iova += (pages + 1) * PAGE;
  }
  return c;
}

function map(c: FakeVfioContainer, iova: number, pages: number, memory = bytes(pages)): void {
  c.mapDma({ iova, size: pages * PAGE, bytes: memory, read: true, write: true });
}

describe('MAP_DMA', () => {
  const good = { iova: BASE, size: 2 * PAGE, bytes: bytes(2), read: true, write: true };

  it.each([
    ['neither READ nor WRITE', { read: false, write: false }],
    ['VADDR with READ', { vaddr: true }],
    ['size 0', { size: 0 }],
    ['a size that is not whole pages', { size: PAGE + 1 }],
    ['an address that is not', { iova: BASE + 1 }],
    ['memory that is not', { bytes: bytes(3).subarray(1) }],
    ['wraparound', { iova: 2 ** 64 - PAGE }],
    ['addresses that are not allowed', { iova: 2 ** 48 - PAGE }],
    ['addresses of two ranges', { iova: 0x1000_0000 - PAGE }],
  ])('V-2: EINVAL for %s', (_what, wrong) => {
    const ranges = [
      { base: 0, length: 0x1000_0000 },
      { base: 0x1000_0000, length: 2 ** 48 - 0x1000_0000 },
    ];
    const c = container({ ranges });
    expect(errno(() => c.mapDma({ ...good, ...wrong }))).toBe('EINVAL');
    expect([c.mappings, c.lockedBytes]).toEqual([[], 0]);
    expect(errno(() => c.mapDma(good))).toBe('no error');
  });

  it('V-2: the smallest page of the IOMMU counts', () => {
    const c = container({ pageSize: 65_536 });
    expect(errno(() => map(c, BASE, 8))).toBe('EINVAL');
    expect(errno(() => map(c, BASE, 16))).toBe('no error');
  });

  it.each([-1, 0, 1])('V-3: EEXIST for an overlap (%i pages away)', pages => {
    const c = container({}, [2]);
    expect(errno(() => map(c, BASE + pages * PAGE, 2))).toBe('EEXIST');
    expect(c.mappings).toHaveLength(1);
  });

  it('V-3: ENOSPC at the limit of entries, until one is free', () => {
    const c = container({ entryLimit: 2 }, [1, 1]);
    expect(c.entriesLeft).toBe(0);
    expect(errno(() => map(c, BASE + 16 * PAGE, 1))).toBe('ENOSPC');
    c.unmapDma({ iova: BASE, size: PAGE });
    expect(errno(() => map(c, BASE + 16 * PAGE, 1))).toBe('no error');
  });

  it('V-3, V-7: EFAULT and others for memory that cannot be pinned, and what was pinned is not any more', () => {
    const c = container({ pinErrno: page => ({ 1: 'EFAULT', 2: 'EOPNOTSUPP' })[page[0]!] });
    const memory = bytes(4);
    for (const [mark, name] of [
      [1, 'EFAULT'],
      [2, 'EOPNOTSUPP'],
    ] as const) {
      memory[3 * PAGE] = mark;
      expect(errno(() => map(c, BASE, 4, memory))).toBe(name);
      expect([c.mappings, c.lockedBytes]).toEqual([[], 0]);
    }
    expect(errno(() => map(c, BASE, 3, memory))).toBe('no error');
    expect(errno(() => map(c, BASE + 8 * PAGE, 2, bytes(1)))).toBe('EFAULT');
  });

  it.each([
    [-1, 'no error'],
    [0, 'no error'],
    [1, 'ENOMEM'],
  ])('V-3, V-4: RLIMIT_MEMLOCK and %i pages', (more, expected) => {
    const c = container({ memlockBytes: 8 * PAGE }, [3]);
    expect(errno(() => map(c, BASE + 64 * PAGE, 5 + more))).toBe(expected);
    expect(c.lockedBytes).toBe((expected === 'ENOMEM' ? 3 : 8 + more) * PAGE);
  });

  it('V-4: a page that is mapped twice is charged twice', () => {
    const c = container({ memlockBytes: PAGE });
    const memory = bytes(1);
    map(c, BASE, 1, memory);
    expect(errno(() => map(c, BASE + PAGE, 1, memory))).toBe('ENOMEM');
    c.unmapDma({ iova: BASE, size: PAGE });
    expect(c.lockedBytes).toBe(0);
  });

  it('V-1: a device reads and writes as it was mapped, and meets a fault elsewhere', () => {
    const c = container({}, [1]);
    c.mapDma({ iova: BASE + PAGE, size: PAGE, bytes: bytes(1), read: true, write: false });
    expect(c.deviceWrite(BASE + PAGE - 2, Uint8Array.of(1, 2))).toBe(true);
    expect(c.deviceRead(BASE + PAGE - 2, 4)).toEqual(Uint8Array.of(1, 2, 0, 0));
    expect(c.deviceWrite(BASE + PAGE - 2, Uint8Array.of(9, 9, 9))).toBe(false);
    expect(c.deviceRead(BASE + 2 * PAGE - 1, 2)).toBeUndefined();
    expect(c.deviceRead(BASE + PAGE - 2, 3)).toEqual(Uint8Array.of(1, 2, 0));
    expect(c.faults).toBe(2);
  });
});

describe('UNMAP_DMA', () => {
  it.each([
    ['an address that is not whole pages', { iova: BASE + 1, size: PAGE }],
    ['such a size', { iova: BASE, size: 1 }],
    ['size 0', { iova: BASE, size: 0 }],
    ['wraparound', { iova: 2 ** 64 - PAGE, size: 2 * PAGE }],
    ['V-9: ALL with an address', { iova: BASE, size: 0, all: true }],
    ['V-9: ALL with a size', { iova: 0, size: PAGE, all: true }],
  ])('V-8: EINVAL for %s', (_what, wrong) => {
    for (const version of [1, 2] as const) {
      const c = container({ version }, [2]);
      expect(errno(() => c.unmapDma(wrong))).toBe('EINVAL');
      expect(c.mappings).toHaveLength(1);
    }
  });

  // Two mappings: pages 0 and 1, pages 3 to 6.
  it.each([
    // version, first page, pages; errno or pages that were unmapped
    [2, 0, 2, 2],
    [2, 0, 7, 6],
    [2, 2, 1, 0],
    [2, 100, 50, 0],
    [2, 0, 1, 'EINVAL'],
    [2, 1, 1, 'EINVAL'],
    [2, 1, 6, 'EINVAL'],
    [2, 0, 5, 'EINVAL'],
    [1, 0, 1, 2],
    [1, 0, 4, 6],
    [1, 1, 6, 0],
    [1, 4, 1, 0],
    [1, 2, 2, 4],
    [1, 2, 1, 0],
  ])('V-8: version %i, page %i, %i pages: %s', (version, first, pages, expected) => {
    const c = container({ version: version as 1 | 2 }, [2, 4]);
    const unmap = () => c.unmapDma({ iova: BASE + first * PAGE, size: pages * PAGE });
    if (typeof expected === 'string') {
      expect(errno(unmap)).toBe(expected);
      expect(c.lockedBytes).toBe(6 * PAGE);
    } else {
      expect(unmap()).toBe(expected * PAGE);
      expect(c.lockedBytes).toBe((6 - expected) * PAGE);
    }
  });

  it('V-9: ALL takes everything, and says how much that was', () => {
    const c = container({}, [2, 4]);
    expect(c.unmapDma({ iova: 0, size: 0, all: true })).toBe(6 * PAGE);
    expect([c.mappings, c.lockedBytes]).toEqual([[], 0]);
  });

  it('V-9: GET_DIRTY_BITMAP excludes ALL and VADDR, and needs tracking, the smallest page and room', () => {
    const c = container({ groups: ['mdev'] }, [2]);
    const range = { iova: BASE, size: 2 * PAGE };
    const wrong = (u: object) => errno(() => c.unmapDma({ ...range, dirty: bitmap(), ...u }));
    expect(wrong({})).toBe('EINVAL');
    c.tracking.start();
    expect(wrong({ iova: 0, size: 0, all: true })).toBe('EINVAL');
    expect(wrong({ vaddr: true })).toBe('EINVAL');
    expect(wrong({ dirty: bitmap(2, 2 * PAGE) })).toBe('EINVAL');
    expect(wrong({ dirty: bitmap(1) })).toBe('EINVAL');
    c.deviceWrite(BASE + PAGE, Uint8Array.of(1));
    const dirty = bitmap();
    expect(c.unmapDma({ ...range, dirty })).toBe(2 * PAGE);
    expect(dirty.bits[0]).toBe(0b10);
  });

  it('V-11: an emulated device is told and has to unpin; one that does not is a bug', () => {
    const told: string[] = [];
    let obeys = true;
    const c: FakeVfioContainer = container(
      {
        groups: ['mdev'],
        mdevUnmap: (iova, size) => {
          told.push(`${iova - BASE} ${size}`);
          if (obeys) c.unpinPages(BASE + PAGE, PAGE);
        },
      },
      [2],
    );
    expect(errno(() => c.pinPages(BASE + 2 * PAGE, PAGE))).toBe('EINVAL');
    c.pinPages(BASE + PAGE, PAGE);
    c.pinPages(BASE + PAGE, PAGE);
    expect(c.lockedBytes).toBe(PAGE);
    expect(c.unmapDma({ iova: BASE, size: 2 * PAGE })).toBe(2 * PAGE);
    expect(told).toEqual(['0 8192', '0 8192']);
    expect(c.lockedBytes).toBe(0);
    obeys = false;
    map(c, BASE, 2);
    c.pinPages(BASE, PAGE);
    expect(() => c.unmapDma({ iova: BASE, size: 2 * PAGE })).toThrow('BUG');
    expect(told).toHaveLength(2 + 11);
  });
});

describe('VADDR', () => {
  const all = { iova: 0, size: 0, all: true, vaddr: true };
  const again = (pages: number, page = 0) => ({
    iova: BASE + page * PAGE,
    size: pages * PAGE,
    bytes: bytes(pages).fill(7),
    read: false,
    write: false,
    vaddr: true,
  });

  it('V-10: DMA goes on, and new memory is given to the same mapping', () => {
    const c = container({}, [2, 1]);
    expect(c.unmapDma(all)).toBe(3 * PAGE);
    expect(c.mappings).toHaveLength(2);
    expect(c.deviceRead(BASE, 1)).toEqual(Uint8Array.of(0));
    expect(c.lockedBytes).toBe(3 * PAGE);
    c.mapDma(again(2));
    expect(c.deviceRead(BASE, 1)).toEqual(Uint8Array.of(7));
    expect(c.lockedBytes).toBe(3 * PAGE);
  });

  it('V-10: ENOENT where nothing is mapped; EINVAL for another size or address, or an address that is valid', () => {
    const c = container({}, [2]);
    expect(errno(() => c.mapDma(again(2)))).toBe('EINVAL');
    c.unmapDma(all);
    expect(errno(() => c.mapDma(again(2, 8)))).toBe('ENOENT');
    expect(errno(() => c.mapDma(again(1)))).toBe('EINVAL');
    expect(errno(() => c.mapDma(again(1, 1)))).toBe('EINVAL');
    expect(errno(() => c.mapDma(again(2)))).toBe('no error');
  });

  it('V-10: a second invalidation is EINVAL, and undoes all of its call', () => {
    const c = container({}, [1, 1]);
    c.unmapDma({ iova: BASE + 2 * PAGE, size: PAGE, vaddr: true });
    expect(errno(() => c.unmapDma(all))).toBe('EINVAL');
    // The first one is as valid as it was.
    expect(c.unmapDma({ iova: BASE, size: PAGE, vaddr: true })).toBe(PAGE);
  });

  it('V-10: EBUSY with an emulated device; no group comes and none pins meanwhile', () => {
    const emulated = container({ groups: ['mdev'] }, [1]);
    expect(errno(() => emulated.unmapDma(all))).toBe('EBUSY');
    const c = container({}, [1]);
    c.unmapDma(all);
    expect(errno(() => c.attach('mdev'))).toBe('EBUSY');
    expect(errno(() => c.pinPages(BASE, PAGE))).toBe('EBUSY');
    c.mapDma(again(1));
    expect(errno(() => c.attach('mdev'))).toBe('no error');
    expect(errno(() => c.pinPages(BASE, PAGE))).toBe('no error');
  });
});

describe('dirty pages', () => {
  it('V-12: EACCES of version 1', () => {
    const c = container({ version: 1 }, [1]);
    for (const flag of [DIRTY_START, DIRTY_STOP, DIRTY_GET]) expect(errno(() => c.dirtyPages(flag))).toBe('EACCES');
  });

  it.each([0, DIRTY_START | DIRTY_STOP, DIRTY_STOP | DIRTY_GET, 8])('V-12: EINVAL for what is not one flag: %i', f => {
    expect(errno(() => container().dirtyPages(f))).toBe('EINVAL');
  });

  it('V-12: pinned pages are dirty from the start, also of what is mapped later; V-13: until they are unpinned and read', () => {
    const c = container({ groups: ['mdev'] }, [2]);
    c.pinPages(BASE + PAGE, PAGE);
    c.tracking.start();
    c.tracking.start();
    map(c, BASE + 2 * PAGE, 2);
    c.pinPages(BASE + 2 * PAGE, PAGE);
    const read = () => {
      const dirty = bitmap();
      c.tracking.get(BASE, 4 * PAGE, dirty);
      return dirty.bits[0];
    };
    expect([read(), read()]).toEqual([0b0110, 0b0110]);
    c.unpinPages(BASE + PAGE, 2 * PAGE);
    expect(c.deviceWrite(BASE + 4 * PAGE - 1, Uint8Array.of(1))).toBe(true);
    expect([read(), read()]).toEqual([0b1110, 0]);
    c.tracking.stop();
    expect(errno(read)).toBe('EINVAL');
  });

  it.each([
    ['an address that is not whole pages', BASE + 1, PAGE, bitmap()],
    ['such a size', BASE, PAGE + 1, bitmap()],
    ['size 0', BASE, 0, bitmap()],
    ['another page size', BASE, 2 * PAGE, bitmap(2, 2 * PAGE)],
    ['a bitmap that is no whole u64', BASE, 2 * PAGE, bitmap(1)],
    ['a bitmap that is too small', BASE, 65 * PAGE, bitmap(2)],
    ['a part of a mapping at its end', BASE, PAGE, bitmap()],
    ['a part of a mapping at its start', BASE + PAGE, 3 * PAGE, bitmap()],
  ])('V-13: EINVAL for %s', (_what, iova, size, dirty) => {
    const c = container({ groups: ['mdev'] }, [2]);
    c.tracking.start();
    expect(errno(() => c.tracking.get(iova, size, dirty))).toBe('EINVAL');
    expect(errno(() => c.tracking.get(BASE, 64 * PAGE, bitmap(2)))).toBe('no error');
  });

  it('V-13: the caller zeroes the bitmap: what is not mapped is not written', () => {
    const c = container({ groups: ['mdev'] }, [1, 1]);
    c.tracking.start();
    const dirty = bitmap();
    dirty.bits.fill(0xffff_ffff);
    c.tracking.get(BASE, 4 * PAGE, dirty);
    expect([...dirty.bits]).toEqual([0xffff_fffa, 0xffff_ffff]);
  });

  it('V-14: with a device that does not say what it writes, everything is dirty each time', () => {
    const c = container({ groups: ['iommu', 'mdev'] }, [2, 1]);
    c.tracking.start();
    for (let round = 0; round < 2; round++) {
      const dirty = bitmap();
      c.tracking.get(BASE, 4 * PAGE, dirty);
      expect(dirty.bits[0]).toBe(0b1011);
    }
  });

  it('V-15: a bitmap has at most a bit for each of 2^31 - 1 pages', () => {
    const c = container({ groups: ['mdev'] });
    c.tracking.start();
    const bits = { byteLength: 2 ** 28 + 8 } as Uint32Array;
    expect(errno(() => c.tracking.get(BASE, PAGE, { pageSize: PAGE, bits }))).toBe('EINVAL');
  });
});

it('keeps a record of the calls and what became of them', () => {
  const c = container({}, [1]);
  expect(errno(() => map(c, BASE, 1))).toBe('EEXIST');
  c.unmapDma({ iova: 0, size: 0, all: true });
  expect(c.calls).toEqual([
    { call: 'map', iova: BASE, size: PAGE, flags: 'READ WRITE' },
    { call: 'map', iova: BASE, size: PAGE, flags: 'READ WRITE', errno: 'EEXIST' },
    { call: 'unmap', iova: 0, size: 0, flags: 'ALL' },
  ]);
});
