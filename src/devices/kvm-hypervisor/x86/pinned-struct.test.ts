import { describe, expect, it } from 'vitest';
import { emulated, FAR, PAGE, RAM, RAM_SIZE, ROM } from '../../../../test/support/pin-tables.ts';
import { PinnedStruct } from './pinned-struct.ts';

describe('PinnedStruct', () => {
  it.each([
    ['aligned', RAM + 64],
    ['across pages', RAM + PAGE - 8],
    ['not aligned', RAM + 3],
    ['not aligned, a word across pages', RAM + PAGE - 6],
  ])('reads and writes little-endian words: %s', (_, gpa) => {
    const { table, memory } = emulated();
    memory.setU32(gpa + 12, 0xfedc_ba98);
    const s = PinnedStruct.pin(table, table.owner('x'), BigInt(gpa), 16)!;
    expect(s.u32(12)).toBe(0xfedc_ba98);
    s.setU32(0, 0x8182_8384);
    s.setU64(4, 0x9192_9394_a1a2_a3a4n);
    expect([s.u32(0), s.u32(4), s.u32(8)]).toEqual([0x8182_8384, 0xa1a2_a3a4, 0x9192_9394]);
    expect([memory.u32(gpa), memory.u64(gpa + 4), memory.u8(gpa - 1), memory.u8(gpa + 16)]).toEqual([
      0x8182_8384,
      0x9192_9394_a1a2_a3a4n,
      0,
      0,
    ]);
    s[Symbol.dispose]();
  });

  it('EMU-X5: pins its pages for a short time, and leaves them dirty', () => {
    const { table } = emulated();
    const log = table.dirty.start();
    const s = PinnedStruct.pin(table, table.owner('x'), BigInt(RAM + 2 * PAGE - 8), 16)!;
    expect(table.page(RAM + 2 * PAGE)).toMatchObject({ short: 1, long: 0, write: 1 });
    s[Symbol.dispose]();
    expect(table.stats()).toMatchObject({ pinAcquired: 2, current: 0 });
    const bitmap = new Uint32Array(1);
    log.collect(RAM, 4 * PAGE, bitmap);
    expect(bitmap[0]).toBe(0b0110);
    log.stop();
  });

  it.each([
    ['no memory', BigInt(FAR) + 0x10_0000n],
    ['half of it behind the end of RAM', BigInt(FAR + PAGE - 8)],
    ['ROM', BigInt(ROM)],
    ['half of it in ROM', BigInt(RAM + RAM_SIZE - 8)],
    ['beyond all addresses', 2n ** 52n],
    ['beyond all doubles', 2n ** 53n + 1n],
    ['the last bytes of 64 bits', 2n ** 64n - 8n],
  ])('EMU-X5: pins nothing of what is not writable RAM: %s', (_, gpa) => {
    const { table } = emulated();
    expect(PinnedStruct.pin(table, table.owner('x'), gpa, 16)).toBeUndefined();
    expect(table.stats().current).toBe(0);
  });
});
