import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VmError } from '../../util/errors.ts';
import { memoryWithAddon, memoryWithoutAddon } from './host-memory.ts';

/** A madvise() that makes zeros, of a host with pages of 64 KiB, and what it was asked. */
function fake(refuse?: Error) {
  const asked: [offset: number, length: number, advice: string][] = [];
  const memory = memoryWithAddon({
    pageSize: () => 65_536,
    madvise: (view, offset, length, advice) => {
      asked.push([offset, length, advice]);
      if (refuse !== undefined) throw refuse;
      if ((view.byteOffset + offset) % 65_536 !== 0 || length % 65_536 !== 0) throw new Error('not whole pages');
      new Uint8Array(view.buffer, view.byteOffset + offset, length).fill(0);
    },
  });
  return { memory, asked };
}

describe('a discard', () => {
  it('makes zeros of its range and of nothing else, wherever the pages of the host begin', () => {
    const buffer = new SharedArrayBuffer(5 * 65_536);
    const all = new Uint8Array(buffer);
    const page = fc.integer({ min: 0, max: 39 });
    fc.assert(
      fc.property(page, page, page, fc.boolean(), (start, a, b, addon) => {
        all.fill(0xee);
        const bytes = all.subarray(start * 4096);
        const offset = Math.min(a, b) * 4096;
        const length = Math.abs(a - b) * 4096;
        const expected = all.slice().fill(0, start * 4096 + offset, start * 4096 + offset + length);
        (addon ? fake().memory : memoryWithoutAddon).discard(bytes, offset, length);
        expect(Buffer.compare(all, expected)).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  it('gives back the whole pages of the host, and zeroes what lies in parts of others', () => {
    const { memory, asked } = fake();
    const bytes = new Uint8Array(new SharedArrayBuffer(4 * 65_536));
    memory.discard(bytes, 4096, 3 * 65_536);
    memory.discard(bytes, 4096, 8192);
    memory.discard(bytes, 65_536, 65_536);
    expect(asked).toEqual([
      [65_536, 2 * 65_536, 'MADV_DONTNEED'],
      [65_536, 65_536, 'MADV_DONTNEED'],
    ]);
  });

  it('of memory that the host does not let go of makes zeros', () => {
    const locked = new VmError('ERR_HOST_CALL', 'madvise failed: EINVAL');
    const bytes = new Uint8Array(new SharedArrayBuffer(65_536)).fill(1);
    fake(locked).memory.discard(bytes, 0, 65_536);
    expect(bytes.every(b => b === 0)).toBe(true);
    expect(() => fake(locked).memory.keepFromChildren(bytes)).not.toThrow();
    expect(() => fake(new VmError('ERR_INTERNAL', 'x')).memory.discard(bytes, 0, 65_536)).toThrow('x');
  });

  it('without the addon is no gain, and says so', () => {
    expect(memoryWithoutAddon.available).toBe(false);
    expect(fake().memory.available).toBe(true);
  });
});
