import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_PFNS, pageRanges } from './pages.ts';

const RAM = [{ base: 0x4000_0000, size: 0x10_0000 }];
const FIRST = 0x40000;

function pfnArray(pfns: readonly number[], tail = 0): Uint8Array {
  const bytes = new Uint8Array(4 * pfns.length + tail);
  const view = new DataView(bytes.buffer);
  for (const [i, pfn] of pfns.entries()) view.setUint32(4 * i, pfn, true);
  return bytes;
}

describe('page numbers of the balloon', () => {
  it('become ranges of adjacent pages, whatever their order', () => {
    const pfns = [FIRST + 7, FIRST + 2, FIRST + 1, FIRST + 2, FIRST + 3];
    expect(pageRanges([pfnArray(pfns)], RAM)).toEqual([
      { base: 0x4000_1000, size: 0x3000 },
      { base: 0x4000_7000, size: 0x1000 },
    ]);
  });

  it('are read across the borders of descriptors; an incomplete one is ignored', () => {
    const bytes = pfnArray([FIRST + 1, FIRST + 5], 3);
    const parts = [bytes.subarray(0, 3), bytes.subarray(3, 6), bytes.subarray(6)];
    expect(pageRanges(parts, RAM).map(r => r.base)).toEqual([0x4000_1000, 0x4000_5000]);
  });

  it('outside of RAM are ignored, and ranges are cut at its ends', () => {
    const pfns = [0, 0xffff_ffff, FIRST - 1, FIRST, FIRST + 0xff, FIRST + 0x100];
    expect(pageRanges([pfnArray(pfns)], RAM)).toEqual([
      { base: 0x4000_0000, size: 0x1000 },
      { base: 0x400f_f000, size: 0x1000 },
    ]);
  });

  it('reach addresses of 44 bits', () => {
    const high = [{ base: 0xfff_ffff_f000, size: 0x1000 }];
    expect(pageRanges([pfnArray([0xffff_ffff])], high)).toEqual(high);
  });

  it('beyond the limit of a request are not looked at', () => {
    const pfns = Array.from({ length: MAX_PFNS + 1 }, (_, i) => i);
    const all = [{ base: 0, size: 0x1_0000_0000 }];
    expect(pageRanges([pfnArray(pfns)], all)).toEqual([{ base: 0, size: MAX_PFNS * 4096 }]);
  });

  it('give each page of RAM that was named exactly once', () => {
    const ram = [
      { base: 0x3000, size: 0x5000 },
      { base: 0x9800, size: 0x3000 }, // whole pages: 0xa000 to 0xbfff
    ];
    const page = fc.integer({ min: 0, max: 16 });
    fc.assert(
      fc.property(fc.array(page, { maxLength: 40 }), pfns => {
        const got = pageRanges([pfnArray(pfns)], ram).flatMap(r =>
          Array.from({ length: r.size / 4096 }, (_, i) => r.base / 4096 + i),
        );
        const isRam = (p: number) => (p >= 3 && p <= 7) || p === 0xa || p === 0xb;
        expect(got).toEqual([...new Set(pfns)].filter(isRam).sort((a, b) => a - b));
      }),
    );
  });
});
