import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf, LINUX_NOTE, makeBzImage, makeElf, messageOf, pvhNote } from '../../test/support/kernels.ts';
import { createGuestMemory } from '../memory/guest-memory.ts';
import type { GuestMemory } from '../memory/types.ts';
import { placeX86, planX86, type X86Boot } from './boot-x86.ts';
import { loadX86Kernel } from './x86-kernel.ts';

const MIB = 1 << 20;
const FOUR_GIB = 2 ** 32;
/** What nothing under test writes. */
const UNTOUCHED = 0xee;
const RESERVED = [
  { base: 0xa_0000, size: 0x6_0000, type: 2 },
  { base: 0xe_0000, size: 0x2_0000, type: 3 },
];
const SEED = Uint8Array.from({ length: 32 }, (_, i) => i + 1);

/** RAM of that many bytes from 0 on and from 4 GiB on, for what only plans. */
function sizes(low: number, high = 0) {
  const ram = [{ base: 0, size: low }, ...(high === 0 ? [] : [{ base: FOUR_GIB, size: high }])];
  return { memory: createGuestMemory([]), ram, reserved: RESERVED, params: 'console=ttyS0', acpiRsdp: 0xe_0000 };
}

/** The same with its memory. */
function machine(low: number, high = 0) {
  const boot = sizes(low, high);
  const ram = boot.ram.map(r => ({ ...r, kind: 'ram' as const, bytes: new Uint8Array(r.size).fill(UNTOUCHED) }));
  return { ...boot, memory: createGuestMemory(ram), ram };
}

const bzImage = (...args: Parameters<typeof makeBzImage>) => loadX86Kernel(makeBzImage(...args));
const elf = (...args: Parameters<typeof makeElf>) => loadX86Kernel(makeElf(...args));
const bytesAt = (memory: GuestMemory, at: number, length: number) => {
  const bytes = new Uint8Array(length);
  memory.read(at, bytes);
  return bytes;
};
const holds = (memory: GuestMemory, at: number, bytes: Uint8Array) =>
  Buffer.compare(bytesAt(memory, at, bytes.length), bytes) === 0;
const textAt = (memory: GuestMemory, at: number) => {
  let text = '';
  for (let a = at; memory.u8(a) !== 0; a++) text += String.fromCharCode(memory.u8(a));
  return text;
};

/** What a CPU in long mode finds at a virtual address: the page walk of AMD64 APM volume 2, section 5.3. */
function translate(memory: GuestMemory, cr3: number, address: number): number | undefined {
  let table = cr3;
  for (const shift of [39n, 30n, 21n]) {
    const entry = memory.u64(table + Number((BigInt(address) >> shift) & 511n) * 8);
    if ((entry & 0b11n) !== 0b11n) return undefined; // present and writable
    const base = Number(entry & 0xf_ffff_ffff_f000n);
    if ((entry & 0x80n) !== 0n) return shift === 21n ? base + (address % 2 ** 21) : undefined;
    table = base;
  }
  return undefined;
}

/** The e820 table of boot_params. */
function e820(memory: GuestMemory, zeroPage: number) {
  return Array.from({ length: memory.u8(zeroPage + 0x1e8) }, (_, i) => {
    const at = zeroPage + 0x2d0 + 20 * i;
    return { base: Number(memory.u64(at)), size: Number(memory.u64(at + 8)), type: memory.u32(at + 16) };
  });
}

describe('placeX86: a bzImage', () => {
  const file = makeBzImage(65536, { init_size: 4 * MIB });
  const kernel = loadX86Kernel(file);
  const m = machine(24 * MIB);
  const initrd = new Uint8Array(10_000).fill(0x77);
  const start = placeX86({ ...m, kernel, initrd, seed: SEED });
  const { memory } = m;
  const zeroPage = start.rsi;

  it('starts in long mode at the 64-bit entry point', () => {
    expect(start).toMatchObject({ mode: 'long', rip: 0x100_0200, rbx: 0 });
    expect(holds(memory, 0x100_0000, file.subarray(5 * 512))).toBe(true);
    expect(memory.u8(0x100_0000 + 65536)).toBe(UNTOUCHED); // the room is the kernel's own business
  });

  it('copies the setup header and nothing before it into boot_params', () => {
    const copy = bytesAt(memory, zeroPage, 4096);
    const fields = [0x1f1, 0x1f4, 0x1fe, 0x202, 0x206, 0x211, 0x22c, 0x230, 0x234, 0x236, 0x238, 0x258, 0x260, 0x268];
    for (const at of fields) expect(copy.subarray(at, at + 1)).toEqual(file.subarray(at, at + 1));
    expect(copy[0x1ef]).toBe(0); // sentinel: else the kernel takes boot_params for broken and clears parts of it
    expect(copy.subarray(0x26c, 0x2d0).every(b => b === 0)).toBe(true);
  });

  it('fills in what a boot loader has to', () => {
    expect(memory.u8(zeroPage + 0x210)).toBe(0xff); // type_of_loader
    expect(memory.u16(zeroPage + 0x1fa)).toBe(0xffff); // vid_mode
    expect(memory.u32(zeroPage + 0x214)).toBe(0x100_0000); // code32_start
    expect(textAt(memory, memory.u32(zeroPage + 0x228))).toBe('console=ttyS0');
    expect(memory.u64(zeroPage + 0x70)).toBe(0xe_0000n); // acpi_rsdp_addr
    for (const ext of [0xc0, 0xc4, 0xc8]) expect(memory.u32(zeroPage + ext)).toBe(0);
  });

  it('puts the initrd at the end of RAM', () => {
    expect(memory.u32(zeroPage + 0x21c)).toBe(10_000);
    const at = memory.u32(zeroPage + 0x218);
    expect(at).toBe(24 * MIB - 3 * 4096);
    expect(holds(memory, at, initrd)).toBe(true);
  });

  it('gives the memory map', () => {
    expect(e820(memory, zeroPage)).toEqual([
      { base: 0, size: 0xa_0000, type: 1 },
      { base: 0xa_0000, size: 0x4_0000, type: 2 },
      { base: 0xe_0000, size: 0x2_0000, type: 3 },
      { base: MIB, size: 23 * MIB, type: 1 },
    ]);
  });

  it('gives the seed as the only setup_data', () => {
    const at = Number(memory.u64(zeroPage + 0x250));
    expect([memory.u64(at), memory.u32(at + 8), memory.u32(at + 12)]).toEqual([0n, 9, 32]);
    expect(bytesAt(memory, at + 16, 32)).toEqual(SEED);
    const none = machine(24 * MIB);
    const { rsi } = placeX86({ ...none, kernel, seed: new Uint8Array(0) });
    expect(none.memory.u64(rsi + 0x250)).toBe(0n);
    expect(none.memory.u32(rsi + 0x218)).toBe(0); // and no initrd
  });

  it('maps the low 4 GiB to themselves, and nothing above', () => {
    for (const a of [0, 0x1234, 2 * MIB, 0x3fff_ffff, 0x4000_0000, 0xfee0_0000, 0xffff_ffff]) {
      expect(translate(memory, start.cr3, a)).toBe(a);
    }
    expect(translate(memory, start.cr3, FOUR_GIB)).toBeUndefined();
  });

  it('has flat code at 0x10 and flat data at 0x18 of the GDT, and a stack', () => {
    expect(start.gdt.limit).toBe(31);
    // 64-bit code: present, ring 0, code, readable, L and not D. Data: present, ring 0, writable.
    expect(memory.u64(start.gdt.base + 0x10)).toBe(0x00af_9b00_0000_ffffn);
    expect(memory.u64(start.gdt.base + 0x18)).toBe(0x00cf_9300_0000_ffffn);
    expect(start.rsp % 4096).toBe(0);
    expect(memory.u64(start.rsp - 8)).toBe(0xeeee_eeee_eeee_eeeen);
  });
});

describe('placeX86: where a bzImage goes', () => {
  it('maps RAM above 4 GiB too', () => {
    const m = machine(17 * MIB, 4 * MIB);
    const { cr3 } = placeX86({ ...m, kernel: bzImage() });
    for (const a of [0, FOUR_GIB - 1, FOUR_GIB, FOUR_GIB + 4 * MIB - 1]) expect(translate(m.memory, cr3, a)).toBe(a);
    expect(translate(m.memory, cr3, FOUR_GIB + 2 ** 30)).toBeUndefined();
  });

  it('maps more than one table of 512 GiB', () => {
    const m = machine(17 * MIB);
    const high = { base: 600 * 2 ** 30, size: 4096, kind: 'ram' as const, bytes: new Uint8Array(4096) };
    const memory = createGuestMemory([...m.ram, high]);
    const { cr3 } = placeX86({ ...m, memory, ram: [...m.ram, high], kernel: bzImage() });
    for (const a of [0, FOUR_GIB, 512 * 2 ** 30 - 1, 512 * 2 ** 30, high.base]) {
      expect(translate(memory, cr3, a)).toBe(a);
    }
    expect(cr3).toBeGreaterThanOrEqual(MIB); // 2.4 MiB of tables
  });

  it('moves a relocatable kernel up when its place is taken, aligned, and no other', () => {
    const m = sizes(64 * MIB);
    const reserved = [...RESERVED, { base: 16 * MIB + 4096, size: 4096, type: 2 }];
    const kernel = bzImage(65536, { kernel_alignment: 8 * MIB });
    expect(planX86({ ...m, reserved, kernel }).start.rip).toBe(24 * MIB + 0x200);
    const fixed = bzImage(65536, { relocatable_kernel: 0 });
    expect(planX86({ ...m, kernel: fixed }).start.rip).toBe(16 * MIB + 0x200);
    expect(codeOf(() => planX86({ ...m, reserved, kernel: fixed }))).toBe('ERR_MEMORY_TOO_SMALL');
  });

  it('keeps the initrd below initrd_addr_max', () => {
    const kernel = bzImage(65536, { initrd_addr_max: 0x2ff_ffff });
    const { parts } = planX86({ ...sizes(64 * MIB), kernel, initrd: new Uint8Array(4096) });
    expect(parts.find(p => p.what === 'the initrd')).toMatchObject({ start: 0x2ff_f000, end: 0x300_0000 });
  });

  it('keeps to cmdline_size', () => {
    const kernel = bzImage(65536, { cmdline_size: 10 });
    const boot = (params: string) => planX86({ ...sizes(32 * MIB), params, kernel });
    expect(codeOf(() => boot('x'.repeat(10)))).toBe('no error');
    expect(codeOf(() => boot('x'.repeat(11)))).toBe('ERR_DOES_NOT_FIT');
    expect(codeOf(() => boot('ü'.repeat(6)))).toBe('ERR_DOES_NOT_FIT'); // bytes count
  });

  it('refuses a memory map that boot_params has no room for', () => {
    const reserved = Array.from({ length: 128 }, (_, i) => ({ base: 2 * MIB + i * 8192, size: 4096, type: 2 }));
    const m = sizes(32 * MIB);
    expect(codeOf(() => planX86({ ...m, reserved: reserved.slice(0, 63), kernel: bzImage() }))).toBe('no error');
    expect(codeOf(() => planX86({ ...m, reserved, kernel: bzImage() }))).toBe('ERR_DOES_NOT_FIT');
  });
});

describe('placeX86: too little memory', () => {
  const kernel = bzImage(65536, { init_size: 20 * MIB });

  it('names the sizes and a sufficient amount', () => {
    const boot = { ...sizes(32 * MIB), kernel, initrd: new Uint8Array(30 * MIB) };
    expect(messageOf(() => placeX86(boot))).toBe(
      '32 MiB of memory cannot hold the kernel (20 MiB) and the initrd (30 MiB)',
    );
    expect(() => placeX86(boot)).toThrow(expect.objectContaining({ hint: expect.stringContaining('128M') }));
    expect(codeOf(() => planX86({ ...sizes(128 * MIB), kernel, initrd: boot.initrd }))).toBe('no error');
  });

  it('says so when more memory would not help', () => {
    const initrd = new Uint8Array(8 * MIB);
    const low = bzImage(65536, { initrd_addr_max: 17 * MIB, init_size: 40 * MIB, pref_address: 0x100000n });
    expect(codeOf(() => planX86({ ...sizes(64 * MIB), kernel: low, initrd }))).toBe('ERR_DOES_NOT_FIT');
    expect(codeOf(() => planX86({ ...sizes(16 * MIB, MIB), kernel }))).toBe('ERR_DOES_NOT_FIT');
  });
});

describe('placeX86: an ELF file', () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const segments = [
    { paddr: 0x10_0000, vaddr: 0xffff_ffff_8010_0000n, data, memsz: 65_545 },
    { paddr: 0x20_0000, data },
  ];
  const start = (boot: Partial<X86Boot>, ...args: Parameters<typeof makeElf>) => {
    const m = machine(3 * MIB);
    return { ...m, start: placeX86({ ...m, kernel: elf(...args), ...boot }) };
  };

  it('loads segments at p_paddr and clears what the file does not hold', () => {
    const { memory, start: s } = start({}, segments, { machine: 62, entry: 0xffff_ffff_8010_0004n });
    expect(s).toMatchObject({ mode: 'long', rip: 0x10_0004, rsi: 0 });
    expect(bytesAt(memory, 0x10_0000, 8)).toEqual(data);
    expect(bytesAt(memory, 0x10_0008, 65_537).every(b => b === 0)).toBe(true);
    expect(memory.u8(0x10_0000 + 65_545)).toBe(UNTOUCHED);
    expect(bytesAt(memory, 0x20_0000, 8)).toEqual(data);
  });

  it('gives a vmlinux boot_params with a header of our own', () => {
    const high = [{ paddr: 0x10_0000, vaddr: 0xffff_ffff_8010_0000n, data }];
    const { memory, start: s } = start({ seed: SEED }, high, { machine: 62, entry: 0x10_0000, notes: [LINUX_NOTE] });
    expect(s).toMatchObject({ mode: 'long', rip: 0x10_0000, rbx: 0 });
    expect(textAt(memory, s.rsi + 0x202).slice(0, 4)).toBe('HdrS');
    expect(memory.u16(s.rsi + 0x1fe)).toBe(0xaa55);
    expect(textAt(memory, memory.u32(s.rsi + 0x228))).toBe('console=ttyS0');
    expect(memory.u64(s.rsi + 0x250)).not.toBe(0n);
  });

  it.each([
    ['pvh', 62, 64, [pvhNote(0x10_0000)], 'protected'],
    ['elf64', 62, 64, undefined, 'long'],
    ['elf32', 3, 32, undefined, 'protected'],
  ] as const)('gives %s hvm_start_info', (format, em, bits, notes, mode) => {
    const initrd = new Uint8Array(5000).fill(0x77);
    const low = [{ paddr: 0x10_0000, data }];
    const options = { machine: em, bits, ...(notes ? { notes } : {}) };
    expect(elf(low, options).format).toBe(format);
    const { memory, start: s } = start({ initrd }, low, options);
    expect(s).toMatchObject({ mode, rip: 0x10_0000, rsi: 0 });
    expect(s.cr3 === 0).toBe(mode === 'protected');
    expect(memory.u64(s.gdt.base + 0x10)).toBe(mode === 'long' ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn);
    // start_info.h: magic, version, flags, nr_modules, then the addresses.
    const words = [0, 4, 8, 12].map(at => memory.u32(s.rbx + at));
    expect(words).toEqual([0x336ec578, 1, 0, 1]);
    const [modules, commandLine, rsdp, map] = [16, 24, 32, 40].map(at => Number(memory.u64(s.rbx + at)));
    const module = Number(memory.u64(modules!));
    expect(holds(memory, module, initrd)).toBe(true);
    expect([8, 16, 24].map(at => memory.u64(modules! + at))).toEqual([5000n, 0n, 0n]);
    expect(textAt(memory, commandLine!)).toBe('console=ttyS0');
    expect(rsdp).toBe(0xe_0000);
    expect(memory.u32(s.rbx + 48)).toBe(4);
    const entry = (i: number) => [0, 8].map(at => Number(memory.u64(map! + 24 * i + at)));
    expect([0, 1, 2, 3].map(entry)).toEqual([
      [0, 0xa_0000],
      [0xa_0000, 0x4_0000],
      [0xe_0000, 0x2_0000],
      [MIB, 2 * MIB],
    ]);
    expect([0, 1, 2, 3].map(i => memory.u32(map! + 24 * i + 16))).toEqual([1, 2, 3, 1]);
  });

  it('says in hvm_start_info that there is no initrd', () => {
    const { memory, start: s } = start({}, [{ paddr: 0x10_0000, data }], { machine: 3, bits: 32 });
    expect([memory.u32(s.rbx + 12), memory.u64(s.rbx + 16)]).toEqual([0, 0n]);
  });

  it('keeps boot data clear of a program in low memory', () => {
    const low = [{ paddr: 0x1000, data: new Uint8Array(0x7_0000).fill(0x42) }];
    const { memory, start: s } = start({}, low, { machine: 62 });
    expect(bytesAt(memory, 0x1000, 0x7_0000).every(b => b === 0x42)).toBe(true);
    expect(s.rsp).toBe(0x7_2000);
    const full = [{ paddr: 0x1000, data: new Uint8Array(0x9_e000) }];
    expect(start({}, full, { machine: 62 }).start.rsp).toBe(MIB + 4096);
  });

  it('refuses segments where no RAM is, overlapping ones, and none', () => {
    const place = (...args: Parameters<typeof makeElf>) => codeOf(() => start({}, ...args));
    const at = (paddr: number) => [{ paddr, data }];
    expect(place(at(0xa_0000), { machine: 62 })).toBe('ERR_DOES_NOT_FIT');
    expect(place(at(0x9_fffc), { machine: 62 })).toBe('ERR_DOES_NOT_FIT');
    expect(place(at(3 * MIB - 4), { machine: 62 })).toBe('ERR_MEMORY_TOO_SMALL');
    expect(place(at(FOUR_GIB), { machine: 62 })).toBe('ERR_DOES_NOT_FIT');
    expect(place([...at(MIB), ...at(MIB + 4)], { machine: 62 })).toBe('ERR_KERNEL_CORRUPT');
  });
});

describe('placeX86: any sizes', () => {
  const anySizes = fc.record({
    ramKib: fc.integer({ min: 1024, max: 8192 }),
    highKib: fc.constantFrom(0, 0, 64),
    kernelSize: fc.integer({ min: 1, max: 20_000 }).map(n => n * 16),
    room: fc.integer({ min: 0, max: 2 * MIB }),
    pref: fc.integer({ min: 1, max: 64 }).map(n => BigInt(n) * 65536n),
    relocatable: fc.boolean(),
    initrdSize: fc.integer({ min: 0, max: 3 * MIB }),
    initrdMax: fc.constantFrom(0x7fff_ffff, 4 * MIB - 1, 2 * MIB + 4),
    hole: fc.record({ base: fc.integer({ min: 0, max: 8 * MIB }), size: fc.integer({ min: 0, max: MIB }) }),
    params: fc.string({ maxLength: 500 }).map(s => s.replaceAll('\0', ' ')),
    seed: fc.uint8Array({ minLength: 1, maxLength: 64 }),
  });

  it('keeps everything apart, in RAM and where it may be, or writes nothing', () => {
    let [good, bad] = [0, 0];
    fc.assert(
      fc.property(anySizes, s => {
        const m = machine(s.ramKib * 1024, s.highKib * 1024);
        const kernel = bzImage(s.kernelSize, {
          init_size: s.room,
          pref_address: s.pref,
          relocatable_kernel: Number(s.relocatable),
          kernel_alignment: 65536,
          initrd_addr_max: s.initrdMax,
        });
        if (kernel.format !== 'bzImage') throw new Error('not reached');
        const initrd = new Uint8Array(s.initrdSize).fill(0x77);
        const reserved = [...RESERVED, { ...s.hole, type: 2 }];
        // What nobody may write is marked, and all that is written is expected here.
        const expected = m.ram.map(r => Uint8Array.from(r.bytes));
        const same = () => m.ram.every((r, i) => Buffer.compare(r.bytes, expected[i]!) === 0);
        const boot = { ...m, reserved, kernel, initrd, params: s.params, seed: s.seed };
        const room = Math.max(s.room, s.kernelSize);
        let start: ReturnType<typeof placeX86>;
        try {
          start = placeX86(boot);
        } catch (e) {
          bad++;
          expect((e as { code?: string }).code).toMatch(/^ERR_(MEMORY_TOO_SMALL|DOES_NOT_FIT)$/);
          expect(same()).toBe(true);
          // There is no refusal when everything would fit in front of the hole or without one.
          const end = Number(s.pref) + room + s.initrdSize + 8192;
          const ramEnd = Math.min(s.ramKib * 1024, s.hole.size === 0 ? Infinity : s.hole.base, s.initrdMax);
          const inTheWay = s.pref < BigInt(MIB) || s.hole.base < MIB;
          if (!inTheWay) expect(end).toBeGreaterThan(ramEnd);
          return;
        }
        good++;
        const usable = (at: number, length: number) => {
          const inRam = m.ram.some(r => at >= r.base && at + length <= r.base + r.size);
          return inRam && reserved.every(r => at >= r.base + r.size || at + length <= r.base || r.size === 0);
        };
        const { memory } = m;
        const load = start.rip - 0x200;
        const zeroPage = start.rsi;
        const [initrdAt, cmdline] = [memory.u32(zeroPage + 0x218), memory.u32(zeroPage + 0x228)];
        const seedAt = Number(memory.u64(zeroPage + 0x250));
        const line = new TextEncoder().encode(`${s.params}\0`);
        const ranges = [
          [load, room],
          [zeroPage, 4096],
          [start.cr3, 4096 * (s.highKib ? 7 : 6)],
          [start.gdt.base, 32],
          [start.rsp - 4096, 4096],
          [cmdline, line.length],
          [seedAt, 16 + s.seed.length],
          ...(s.initrdSize ? [[initrdAt, s.initrdSize]] : []),
        ].sort((a, b) => a[0]! - b[0]!) as [number, number][];
        let last = 1; // nothing is at 0
        for (const [at, length] of ranges) {
          expect(at).toBeGreaterThanOrEqual(last);
          expect(usable(at, length)).toBe(true);
          last = at + length;
        }
        expect(load % 65536).toBe(0);
        expect(load).toBeGreaterThanOrEqual(Number(s.pref));
        if (!s.relocatable) expect(load).toBe(Number(s.pref));
        if (s.initrdSize) expect(initrdAt + s.initrdSize - 1).toBeLessThanOrEqual(s.initrdMax);
        expect(holds(memory, load, kernel.header.protectedMode)).toBe(true);
        expect(holds(memory, initrdAt, initrd)).toBe(true);
        expect(holds(memory, cmdline, line)).toBe(true);
        expect(holds(memory, seedAt + 16, s.seed)).toBe(true);
        for (const [at, length] of ranges) {
          const kept = at === load ? s.kernelSize : length; // of the room only the code is written
          expected[0]!.set(m.ram[0]!.bytes.subarray(at, at + kept), at);
        }
        expect(same()).toBe(true); // nothing else was written
      }),
      { numRuns: 60 },
    );
    expect(Math.min(good, bad)).toBeGreaterThan(0);
  });
});
