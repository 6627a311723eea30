import { describe, expect, it } from 'vitest';
import { createGuestMemory } from './guest-memory.ts';
import { notedMemory } from './noted-memory.ts';

describe('notedMemory()', () => {
  it('tells of every write before it happens, and of nothing else', () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(64));
    const told: string[] = [];
    const m = notedMemory(createGuestMemory([{ kind: 'ram', base: 0x100, size: 64, bytes }]), (a, length) => {
      told.push(`${a - 0x100}+${length}: ${bytes[a - 0x100]}`);
    });
    m.setU8(0x100, 1);
    m.setU16(0x102, 2);
    m.setU32(0x104, 3);
    m.setU64(0x108, 4n);
    m.write(0x100, Uint8Array.of(9, 9, 9));
    m.view(0x102, 2);
    expect(told).toEqual(['0+1: 0', '2+2: 0', '4+4: 0', '8+8: 0', '0+3: 1', '2+2: 9']);
    const into = new Uint8Array(1);
    m.read(0x104, into);
    expect([m.u8(0x100), m.u16(0x100), m.u32(0x108), m.u64(0x108), into[0]]).toEqual([9, 0x909, 4, 4n, 3]);
    expect([m.contains(0x100, 64), m.contains(0x100, 65), m.regions.length]).toEqual([true, false, 1]);
    expect(told).toHaveLength(6);
  });
});
