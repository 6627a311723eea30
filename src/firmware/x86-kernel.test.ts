import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  codeOf,
  IMAGE_ZST,
  LINUX_NOTE,
  makeArm64Image,
  makeBzImage,
  makeElf,
  makeZboot,
  messageOf,
  pvhNote,
  type TestSegment,
} from '../../test/support/kernels.ts';
import { loadKernel } from './kernel.ts';
import { isX86Kernel, loadX86Kernel } from './x86-kernel.ts';

const [EM_386, EM_X86_64] = [3, 62];
const data = new Uint8Array(64).fill(0x90);
/** Linked as Linux is: mapped at __START_KERNEL_map, with its physical address as the entry point. */
const HIGH: readonly TestSegment[] = [{ paddr: 0x100_0000, vaddr: 0xffff_ffff_8100_0000n, data }];
const LOW: readonly TestSegment[] = [{ paddr: 0x10_0000, data }];
const PVH = pvhNote(0x10_0010);

const vmlinux = (...notes: Parameters<typeof pvhNote>[0][]) =>
  makeElf(HIGH, { machine: EM_X86_64, entry: 0x100_0000, notes: [LINUX_NOTE, ...notes.map(n => pvhNote(n))] });

/** Every kind of file that is a kernel, with what it is loaded as. */
const KERNELS: readonly (readonly [string, Uint8Array, object])[] = [
  ['a bzImage', makeBzImage(), { format: 'bzImage', header: { prefAddress: 0x100_0000 } }],
  ['a vmlinux', vmlinux(), { format: 'vmlinux', entry: 0x100_0000 }],
  ['a vmlinux with a PVH note', vmlinux(0x100_0020), { format: 'vmlinux', entry: 0x100_0000 }],
  [
    'a vmlinux of before 4.19',
    makeElf(HIGH, { machine: EM_X86_64, entry: 0x100_0000 }),
    { format: 'vmlinux', entry: 0x100_0000 },
  ],
  [
    'a program with a PVH note',
    makeElf(LOW, { machine: EM_X86_64, notes: [PVH] }),
    { format: 'pvh', entry: 0x10_0010 },
  ],
  [
    'a 32-bit program with a PVH note of 4 bytes',
    makeElf(LOW, { machine: EM_386, bits: 32, notes: [pvhNote(0x10_0010, 4)] }),
    { format: 'pvh', entry: 0x10_0010 },
  ],
  ['a 64-bit program', makeElf(LOW, { machine: EM_X86_64, type: 3 }), { format: 'elf64', entry: 0x10_0000 }],
  [
    'a 64-bit program in the higher half',
    makeElf(HIGH, { machine: EM_X86_64, entry: 0xffff_ffff_8100_0004n }),
    { format: 'elf64', entry: 0x100_0004 },
  ],
  ['a 32-bit program', makeElf(LOW, { machine: EM_386, bits: 32 }), { format: 'elf32', entry: 0x10_0000 }],
  [
    '64-bit code in a 32-bit file',
    makeElf(LOW, { machine: EM_X86_64, bits: 32 }),
    { format: 'elf64', entry: 0x10_0000 },
  ],
];

describe('loadX86Kernel: formats', () => {
  it.each(KERNELS)('takes %s', (_, file, expected) => {
    for (const bytes of [file, gzipSync(file)]) {
      expect(loadX86Kernel(bytes)).toMatchObject(expected);
      expect(isX86Kernel(bytes)).toBe(true);
    }
    // The arm64 loader knows them for what they are.
    expect(codeOf(() => loadKernel(file))).toBe('ERR_WRONG_ARCHITECTURE');
  });

  it('starts Linux at its PVH entry point on demand', () => {
    expect(loadX86Kernel(vmlinux(0x100_0020), { entry: 'pvh' })).toMatchObject({ format: 'pvh', entry: 0x100_0020 });
    expect(loadX86Kernel(vmlinux(0x100_0020), { entry: 'linux64' }).format).toBe('vmlinux');
  });

  it('takes any 64-bit ELF file for Linux on demand', () => {
    const file = makeElf(LOW, { machine: EM_X86_64, notes: [PVH] });
    expect(loadX86Kernel(file, { entry: 'linux64' })).toMatchObject({ format: 'vmlinux', entry: 0x10_0000 });
  });

  it('says when there is no PVH entry point', () => {
    for (const file of [makeBzImage(), vmlinux()]) {
      expect(codeOf(() => loadX86Kernel(file, { entry: 'pvh' }))).toBe('ERR_USAGE');
    }
  });
});

describe('loadX86Kernel: what it does not take', () => {
  const text = (s: string) => new TextEncoder().encode(s);
  it.each([
    ['ERR_NOT_A_KERNEL', 'the file is empty', new Uint8Array(0)],
    ['ERR_NOT_A_KERNEL', 'a text file', text('console=ttyS0\n')],
    ['ERR_NOT_A_KERNEL', 'cpio archive', text('070701'.padEnd(200, '0'))],
    ['ERR_NOT_A_KERNEL', 'zstd data', IMAGE_ZST],
    ['ERR_NOT_A_KERNEL', 'not linked', makeElf([], { machine: EM_X86_64, type: 1 })],
    ['ERR_NOT_A_KERNEL', 'boot protocol 2.05', makeBzImage(512, { version: 0x205 })],
    ['ERR_NOT_A_KERNEL', 'unpacked, is not a kernel: it is a text file', gzipSync(text('hello'))],
    ['ERR_NOT_A_KERNEL', 'unpacked, is not a kernel: it is gzip data', gzipSync(gzipSync(makeBzImage()))],
    ['ERR_WRONG_ARCHITECTURE', '32-bit x86 kernel', makeBzImage(512, { xloadflags: 0 })],
    ['ERR_WRONG_ARCHITECTURE', '32-bit x86 kernel', makeElf(LOW, { machine: EM_386, bits: 32, notes: [LINUX_NOTE] })],
    ['ERR_WRONG_ARCHITECTURE', 'an arm64 kernel', makeArm64Image()],
    ['ERR_WRONG_ARCHITECTURE', 'an arm64 kernel', gzipSync(makeArm64Image())],
    ['ERR_WRONG_ARCHITECTURE', 'zboot', makeZboot(gzipSync(makeArm64Image()), 'gzip')],
    ['ERR_WRONG_ARCHITECTURE', '64-bit ELF file for arm64: the machine is x86-64', makeElf(LOW)],
    ['ERR_WRONG_ARCHITECTURE', '32-bit ELF file for Arm', makeElf(LOW, { machine: 40, bits: 32 })],
    ['ERR_KERNEL_CORRUPT', 'cut off', makeBzImage(4096).subarray(0, 4000)],
    ['ERR_KERNEL_CORRUPT', 'outside the file', makeElf(LOW, { machine: EM_X86_64 }).subarray(0, -1)],
    ['ERR_KERNEL_CORRUPT', 'entry point 0x5', makeElf(LOW, { machine: EM_X86_64, entry: 5 })],
    ['ERR_KERNEL_CORRUPT', 'PVH entry point 0x5', makeElf(LOW, { machine: EM_386, bits: 32, notes: [pvhNote(5)] })],
    ['ERR_KERNEL_CORRUPT', 'gzip data ends too early', gzipSync(makeBzImage()).subarray(0, 300)],
  ])('%s: %s', (code, what, file) => {
    expect(codeOf(() => loadX86Kernel(file))).toBe(code);
    expect(messageOf(() => loadX86Kernel(file))).toContain(what);
  });

  it('names the file as it was told to, and unpacks to a limit', () => {
    expect(messageOf(() => loadX86Kernel(text('hello'), { what: "'notes.txt'" }))).toContain(
      "'notes.txt' is not a kernel",
    );
    const bomb = gzipSync(new Uint8Array(8 << 20));
    expect(codeOf(() => loadX86Kernel(bomb, { limit: 1 << 20 }))).toBe('ERR_DOES_NOT_FIT');
  });
});

describe('isX86Kernel', () => {
  it('is false for kernels of other machines and for what is no kernel, and never throws', () => {
    const files = [
      makeArm64Image(),
      makeElf(LOW),
      makeElf(LOW, { machine: 40, bits: 32 }),
      IMAGE_ZST,
      new Uint8Array(0),
      new Uint8Array(4096),
    ];
    for (const file of [...files, ...files.map(f => gzipSync(f))]) expect(isX86Kernel(file)).toBe(false);
    const packed = gzipSync(makeBzImage());
    for (let n = 0; n < packed.length; n += 7) expect(typeof isX86Kernel(packed.subarray(0, n))).toBe('boolean');
    expect(isX86Kernel(packed.fill(0xff, 10))).toBe(false);
  });

  it('looks into a gzip file with a long name in its header and data that does not pack', () => {
    const file = makeBzImage();
    let x = 1;
    for (let i = 0; i < 0x1f0; i++) {
      x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
      file[i] = x >> 16;
    }
    const packed = gzipSync(file, { level: 9 });
    const named = Buffer.concat([packed.subarray(0, 10), Buffer.from(`${'n'.repeat(255)}\0`), packed.subarray(10)]);
    named[3] = 8; // FNAME, RFC 1952 section 2.3.1
    expect(isX86Kernel(named)).toBe(true);
    expect(loadX86Kernel(named).format).toBe('bzImage');
  });
});
