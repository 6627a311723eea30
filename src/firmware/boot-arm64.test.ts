import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf, makeArm64Image, makeElf, messageOf } from '../../test/support/kernels.ts';
import { createGuestMemory } from '../memory/guest-memory.ts';
import type { GuestMemory } from '../memory/types.ts';
import { placeArm64 } from './boot-arm64.ts';
import { loadKernel } from './kernel.ts';

const MIB = 1 << 20;
const BASE = 0x4000_0000;

/** RAM filled with a byte that nothing under test writes. */
function ram(size: number, base = BASE): { memory: GuestMemory; ramBase: number; ramSize: number } {
  const bytes = new Uint8Array(size).fill(0xee);
  return { memory: createGuestMemory([{ base, size, kind: 'ram', bytes }]), ramBase: base, ramSize: size };
}

const filled = (size: number, value: number) => new Uint8Array(size).fill(value);
const same = (a: Uint8Array | undefined, b: Uint8Array) => a !== undefined && Buffer.compare(a, b) === 0;
const image = (size: number, fields = {}) => loadKernel(makeArm64Image(size, fields));

describe('placeArm64: a Linux image', () => {
  it('puts the kernel at the start of RAM, with zeros behind it up to image_size', () => {
    const r = ram(64 * MIB);
    const kernel = image(4096, { imageSize: 8192n });
    const { entry, initrdStart } = placeArm64({ ...r, kernel, dtbSize: 5000 });
    expect(entry).toBe(BASE);
    expect(initrdStart).toBeUndefined();
    expect(r.memory.view(BASE, 4096)).toEqual(kernel.image);
    expect(r.memory.view(BASE + 4096, 4096)?.every(b => b === 0)).toBe(true);
    expect(r.memory.u8(BASE + 8192)).toBe(0xee);
  });

  it('honours text_offset and an unaligned start of RAM', () => {
    const r = ram(64 * MIB, BASE + 0x1000);
    const { entry } = placeArm64({ ...r, kernel: image(4096, { textOffset: 0x80000n }), dtbSize: 100 });
    expect(entry).toBe(BASE + 2 * MIB + 0x80000);
  });

  it('keeps the rules of booting.rst for any sizes, or says that memory is too small', () => {
    const sizes = fc.record({
      ramMib: fc.integer({ min: 1, max: 24 }),
      kernelSize: fc.integer({ min: 64, max: MIB }),
      bss: fc.integer({ min: 0, max: 10 * MIB }),
      initrdSize: fc.integer({ min: 0, max: 4 * MIB }),
      dtbSize: fc.integer({ min: 1, max: 2 * MIB }),
    });
    fc.assert(
      fc.property(sizes, ({ ramMib, kernelSize, bss, initrdSize, dtbSize }) => {
        const r = ram(ramMib * MIB);
        const kernel = image(kernelSize, { imageSize: BigInt(kernelSize + bss) });
        const initrd = filled(initrdSize, 0x77);
        let p: ReturnType<typeof placeArm64>;
        try {
          p = placeArm64({ ...r, kernel, initrd, dtbSize });
        } catch (e) {
          expect((e as { code?: string }).code).toBe('ERR_MEMORY_TOO_SMALL');
          // Small means small: there is no refusal when everything would fit with 2 MiB alignment and a block for the DTB.
          expect(kernelSize + bss + initrdSize + 4096 + 4 * MIB).toBeGreaterThan(r.ramSize);
          expect(same(r.memory.view(BASE, r.ramSize), filled(r.ramSize, 0xee))).toBe(true); // and nothing was written
          return;
        }
        const ranges = [
          [p.entry, p.entry + kernelSize + bss],
          [p.dtbAddress, p.dtbAddress + dtbSize],
          ...(p.initrdStart === undefined ? [] : [[p.initrdStart, p.initrdEnd]]),
        ].sort((a, b) => (a[0] as number) - (b[0] as number)) as [number, number][];
        let last = BASE;
        for (const [start, end] of ranges) {
          expect(start).toBeGreaterThanOrEqual(last);
          last = end;
        }
        expect(last).toBeLessThanOrEqual(BASE + r.ramSize);
        expect(p.entry % (2 * MIB)).toBe(0);
        expect(p.dtbAddress % 8).toBe(0);
        expect(Math.floor(p.dtbAddress / (2 * MIB))).toBe(Math.floor((p.dtbAddress + dtbSize - 1) / (2 * MIB)));
        expect(p.initrdStart === undefined).toBe(initrdSize === 0);
        if (p.initrdStart !== undefined) {
          expect(same(r.memory.view(p.initrdStart, initrdSize), initrd)).toBe(true);
        }
        expect(same(r.memory.view(p.entry, kernelSize), kernel.image)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it('names the sizes and a sufficient amount of memory when it is too small', () => {
    const boot = { ...ram(8 * MIB), kernel: image(4096, { imageSize: BigInt(20 * MIB) }), dtbSize: 4096 };
    const message = messageOf(() => placeArm64(boot));
    expect(message).toBe('8 MiB of memory cannot hold the kernel (20 MiB), the initrd (0 MiB) and a device tree');
    expect(() => placeArm64(boot)).toThrow(expect.objectContaining({ hint: expect.stringContaining('64M') }));
  });

  it('refuses an initrd larger than RAM and a device tree larger than 2 MiB', () => {
    const kernel = image(4096);
    const initrd = new Uint8Array(20 * MIB);
    expect(codeOf(() => placeArm64({ ...ram(16 * MIB), kernel, initrd, dtbSize: 100 }))).toBe('ERR_MEMORY_TOO_SMALL');
    expect(codeOf(() => placeArm64({ ...ram(16 * MIB), kernel, dtbSize: 2 * MIB + 1 }))).toBe('ERR_DOES_NOT_FIT');
  });
});

describe('placeArm64: an ELF file', () => {
  const code = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const load = (...args: Parameters<typeof makeElf>) => loadKernel(makeElf(...args));

  it('loads segments at p_paddr, clears the BSS and translates the entry point', () => {
    const r = ram(8 * MIB);
    const kernel = load(
      [
        { paddr: BASE + 0x10000, vaddr: 0x8000_0000, data: code, memsz: 64 },
        { paddr: BASE + 0x20000, vaddr: 0x8100_0000, data: code },
      ],
      { entry: 0x8000_0004 },
    );
    const p = placeArm64({ ...r, kernel, dtbSize: 4096 });
    expect(p.entry).toBe(BASE + 0x10004);
    expect(r.memory.view(BASE + 0x10000, 8)).toEqual(code);
    expect(r.memory.view(BASE + 0x10008, 56)).toEqual(new Uint8Array(56));
    expect(r.memory.u8(BASE + 0x10040)).toBe(0xee);
    expect(r.memory.view(BASE + 0x20000, 8)).toEqual(code);
  });

  it('puts the device tree elsewhere when the program is at the end of RAM', () => {
    const r = ram(8 * MIB);
    const p = placeArm64({ ...r, kernel: load([{ paddr: BASE + 7 * MIB, data: code }]), dtbSize: 4096 });
    expect(p.dtbAddress).toBe(BASE + 6 * MIB);
  });

  it('refuses segments outside of RAM, overlapping ones, no segments and a wild entry point', () => {
    const place = (...args: Parameters<typeof makeElf>) =>
      codeOf(() => placeArm64({ ...ram(8 * MIB), kernel: load(...args), dtbSize: 100 }));
    expect(place([{ paddr: 0x1000, data: code }])).toBe('ERR_DOES_NOT_FIT');
    expect(place([{ paddr: BASE, data: code, memsz: 9 * MIB }])).toBe('ERR_DOES_NOT_FIT');
    expect(
      place([
        { paddr: BASE, data: code },
        { paddr: BASE + 4, data: code },
      ]),
    ).toBe('ERR_KERNEL_CORRUPT');
    expect(place([])).toBe('ERR_NOT_A_KERNEL');
    expect(place([{ paddr: BASE, data: code }], { entry: BASE + 8 })).toBe('ERR_KERNEL_CORRUPT');
    expect(place([{ paddr: BASE, data: code }], { entry: BASE + 2 })).toBe('ERR_KERNEL_CORRUPT');
  });
});
