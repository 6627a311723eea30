import { describe, expect, it } from 'vitest';
import { codeOf, LINUX_NOTE, makeElf, pvhNote } from '../../test/support/kernels.ts';
import { elfEntry, elfSection, readElfHeader, readElfNotes, readElfSegments } from './elf.ts';

const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

describe('ELF files of both classes', () => {
  it.each([32, 64] as const)('reads header and segments of ELF%i', bits => {
    const file = makeElf(
      [
        { paddr: 0x10_0000, vaddr: 0xc010_0000, data, memsz: 64 },
        { paddr: 0x20_0000, data: data.subarray(4) },
        { paddr: 0x30_0000, data: new Uint8Array(0) },
      ],
      { bits, machine: 3, entry: 0xc010_0004 },
    );
    expect(readElfHeader(file)).toEqual({ bits, machine: 3, type: 2, entry: 0xc010_0004n });
    expect(readElfSegments(file)).toEqual([
      { address: 0x10_0000, vaddr: 0xc010_0000n, size: 64, data },
      { address: 0x20_0000, vaddr: 0x20_0000n, size: 4, data: data.subarray(4) },
    ]);
    expect(elfEntry(file)).toBe(0x10_0004);
  });

  it('keeps all bits of a virtual address', () => {
    const file = makeElf([{ paddr: 0x100_0000, vaddr: 0xffff_ffff_8100_0000n, data }], {
      entry: 0xffff_ffff_8100_0001n,
    });
    expect(elfEntry(file)).toBe(0x100_0001);
  });

  it('takes e_entry for a physical address when no segment is mapped there', () => {
    const segments = [{ paddr: 0x100_0000, vaddr: 0xffff_ffff_8100_0000n, data }];
    expect(elfEntry(makeElf(segments, { entry: 0x100_0004 }))).toBe(0x100_0004);
    expect(elfEntry(makeElf(segments, { entry: 0x100_0008 }))).toBeUndefined();
  });

  it('refuses a file of no known class, a big-endian one, and sections of ELF32', () => {
    const broken = (at: number, value: number) => {
      const file = makeElf([{ paddr: 0, data }]);
      file[at] = value;
      return codeOf(() => readElfHeader(file));
    };
    expect(broken(4, 3)).toBe('ERR_WRONG_ARCHITECTURE');
    expect(broken(5, 2)).toBe('ERR_WRONG_ARCHITECTURE');
    expect(codeOf(() => elfSection(makeElf([], { bits: 32 }), '.text'))).toBe('ERR_WRONG_ARCHITECTURE');
  });

  it('finds a file that is cut off at any length', () => {
    for (const bits of [32, 64] as const) {
      const file = makeElf([{ paddr: 0, data }], { bits });
      for (let n = 6; n < file.length; n++) {
        expect(codeOf(() => readElfSegments(file.subarray(0, n)))).toBe('ERR_KERNEL_CORRUPT');
      }
    }
  });
});

describe('readElfNotes', () => {
  it.each([32, 64] as const)('reads the notes of ELF%i, padding skipped', bits => {
    const odd = { owner: 'abcd', type: 7, description: Uint8Array.of(9, 8, 7) };
    const file = makeElf([{ paddr: 0, data }], { bits, notes: [odd, LINUX_NOTE, pvhNote(0x100_0850)] });
    expect(readElfNotes(file)).toEqual([
      odd,
      LINUX_NOTE,
      { owner: 'Xen', type: 18, description: Uint8Array.of(0x50, 8, 0, 1, 0, 0, 0, 0) },
    ]);
    expect(readElfNotes(makeElf([{ paddr: 0, data }], { bits }))).toEqual([]);
  });

  it('finds a note that is longer than its segment', () => {
    const file = makeElf([], { notes: [pvhNote(1)] });
    const sizes = new DataView(file.buffer, 64 + 56);
    sizes.setUint32(4, 9, true); // n_descsz
    expect(codeOf(() => readElfNotes(file))).toBe('ERR_KERNEL_CORRUPT');
    sizes.setUint32(0, 0xffff_ffff, true); // n_namesz
    expect(codeOf(() => readElfNotes(file))).toBe('ERR_KERNEL_CORRUPT');
  });
});
