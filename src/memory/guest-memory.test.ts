import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VmError } from '../util/errors.ts';
import { createGuestMemory } from './guest-memory.ts';
import type { Region } from './types.ts';

const ram = (base: number, size: number): Region => ({
  base,
  size,
  kind: 'ram',
  bytes: new Uint8Array(new SharedArrayBuffer(size)),
});

/** Runs `f` and returns the code of the VmError that it throws. */
function codeOf(f: () => unknown): string {
  try {
    f();
  } catch (e) {
    if (e instanceof VmError) return e.code;
    throw e;
  }
  return 'no error';
}

describe('createGuestMemory', () => {
  it('reads and writes little-endian values of every width', () => {
    const m = createGuestMemory([ram(0x4000_0000, 0x1000)]);
    m.setU64(0x4000_0001, 0x1122_3344_5566_7788n);
    expect(m.u8(0x4000_0001)).toBe(0x88);
    expect(m.u16(0x4000_0002)).toBe(0x6677);
    expect(m.u32(0x4000_0003)).toBe(0x3344_5566);
    expect(m.u64(0x4000_0001)).toBe(0x1122_3344_5566_7788n);
    m.setU8(0x4000_0000, 0xff);
    m.setU16(0x4000_0ffe, 0xbeef);
    m.setU32(0x4000_0008, 0xdead_beef);
    expect([m.u8(0x4000_0000), m.u16(0x4000_0ffe), m.u32(0x4000_0008)]).toEqual([0xff, 0xbeef, 0xdead_beef]);
  });

  it('reaches offsets beyond 2^31 and 2^32 - 64 KiB', () => {
    // 3.9 GiB, as large as emulated RAM gets; untouched pages of a shared buffer cost nothing.
    const size = 0xf980_0000;
    const m = createGuestMemory([ram(0x4000_0000, size)]);
    for (const offset of [0x7fff_fffe, 0x8000_0000, size - 8]) {
      m.setU64(0x4000_0000 + offset, BigInt(offset));
      expect(m.u64(0x4000_0000 + offset)).toBe(BigInt(offset));
      expect(m.view(0x4000_0000 + offset, 8)?.[0]).toBe(offset & 0xff);
    }
    expect(m.contains(0x4000_0000, size)).toBe(true);
    expect(m.contains(0x4000_0000, size + 1)).toBe(false);
  });

  it('throws ERR_GUEST_ADDRESS for every access that is not wholly inside', () => {
    const m = createGuestMemory([ram(0x1000, 0x1000)]);
    // One byte before, one behind, half inside at the end, and what is no address at all.
    for (const a of [0, 0xffe, 0x2000, 0x1fff, -1, Number.NaN, 2 ** 52]) {
      for (const f of [
        () => m.u8(a === 0x1fff ? 0x2000 : a),
        () => m.setU8(a === 0x1fff ? 0x2000 : a, 0),
        () => m.u16(a),
        () => m.u32(a),
        () => m.u64(a),
        () => m.setU16(a, 0),
        () => m.setU32(a, 0),
        () => m.setU64(a, 0n),
        () => m.read(a, new Uint8Array(2)),
        () => m.write(a, new Uint8Array(2)),
      ]) {
        expect(codeOf(f)).toBe('ERR_GUEST_ADDRESS');
      }
      expect(m.view(a, 2)).toBeUndefined();
      expect(m.contains(a, 2)).toBe(false);
    }
    for (const a of [0x1800, 0x2000, 0x9999]) {
      expect([m.contains(a, -1), m.view(a, -1)]).toEqual([false, undefined]);
      expect([m.contains(a, 0), m.view(a, 0)?.length]).toEqual([true, 0]);
    }
  });

  it('crosses from one region into an adjacent one, but gives no view of that', () => {
    const m = createGuestMemory([ram(0x2000, 0x1000), ram(0x1000, 0x1000), ram(0x4000, 0x1000)]);
    expect(m.regions.map(r => r.base)).toEqual([0x1000, 0x2000, 0x4000]);
    m.setU64(0x1ffd, 0x0807_0605_0403_0201n);
    expect(m.u64(0x1ffd)).toBe(0x0807_0605_0403_0201n);
    expect(m.u32(0x1ffe)).toBe(0x0504_0302);
    expect(m.u16(0x1fff)).toBe(0x0403);
    m.setU16(0x1fff, 0xaabb);
    m.setU32(0x1ffd, 0x1234_5678);
    expect(m.u32(0x1ffd)).toBe(0x1234_5678);
    expect(m.contains(0x1000, 0x2000)).toBe(true);
    expect(m.contains(0x2fff, 2)).toBe(false);
    expect(m.view(0x1fff, 2)).toBeUndefined();
  });

  it('writes nothing at all when part of the range is outside', () => {
    const m = createGuestMemory([ram(0, 0x10)]);
    expect(codeOf(() => m.write(8, new Uint8Array(16).fill(7)))).toBe('ERR_GUEST_ADDRESS');
    expect(m.u64(8)).toBe(0n);
  });

  it('gives views of the same bytes', () => {
    const m = createGuestMemory([ram(0x1000, 0x100)]);
    m.view(0x1010, 4)!.set([1, 2, 3, 4]);
    expect(m.u32(0x1010)).toBe(0x0403_0201);
  });

  it('refuses overlapping regions and a wrong length', () => {
    expect(codeOf(() => createGuestMemory([ram(0, 0x20), ram(0x1f, 1)]))).toBe('ERR_OVERLAP');
    expect(codeOf(() => createGuestMemory([{ ...ram(0, 0x20), size: 0x21 }]))).toBe('ERR_INTERNAL');
    expect(codeOf(() => createGuestMemory([]).u8(0))).toBe('ERR_GUEST_ADDRESS');
  });

  it('behaves as one flat array, wherever regions are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.tuple(fc.nat(130), fc.uint8Array({ maxLength: 24 })), { maxLength: 20 }),
        (sizes, writes) => {
          let base = 0x100;
          const regions = sizes.map(size => {
            const r = ram(base, size);
            base += size;
            return r;
          });
          const m = createGuestMemory(regions);
          const flat = new Uint8Array(base - 0x100);
          for (const [at, bytes] of writes) {
            if (at + bytes.length > flat.length) continue;
            m.write(0x100 + at, bytes);
            flat.set(bytes, at);
          }
          const all = new Uint8Array(flat.length);
          m.read(0x100, all);
          expect(all).toEqual(flat);
        },
      ),
    );
  });
});
