import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { codeOf, IMAGE_ZST, makeArm64Image, makeElf, makeZboot, messageOf } from '../../test/support/kernels.ts';
import { identifyKernel, loadKernel } from './kernel.ts';

const IMAGE = makeArm64Image();
/** The unpacked size as the kernel's build appends it to all but gzip. */
const SIZE_LE = new Uint8Array([0x40, 0x0d, 0x03, 0x00]); // 200 000
const text = (s: string) => new TextEncoder().encode(s);
const join = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));
/** `size` zero bytes with `s` at `at`. */
const withAt = (size: number, at: number, s: string) => {
  const bytes = new Uint8Array(size);
  bytes.set(
    Uint8Array.from(s, c => c.charCodeAt(0)),
    at,
  );
  return bytes;
};

describe('loadKernel: formats', () => {
  it('reads the header of an Image', () => {
    expect(identifyKernel(IMAGE)).toBe('image');
    expect(loadKernel(IMAGE)).toEqual({
      format: 'image',
      image: IMAGE,
      textOffset: 0,
      imageSize: 0x40000,
      flags: { raw: 0xan, bigEndian: false, pageKib: 4, anywhere: true },
    });
  });

  it.each([
    [0n, undefined],
    [2n, 4],
    [4n, 16],
    [6n, 64],
  ])('reads the page size out of flags %s', (flags, pageKib) => {
    expect(loadKernel(makeArm64Image(4096, { flags })).flags).toMatchObject({ pageKib, anywhere: false });
  });

  it('takes text_offset 0x80000 and the size of the file for a kernel without image_size', () => {
    const old = makeArm64Image(4096, { imageSize: 0n, textOffset: 0x1234n });
    expect(loadKernel(old)).toMatchObject({ textOffset: 0x80000, imageSize: 4096 });
  });

  it('keeps room for the whole file when image_size is smaller', () => {
    expect(loadKernel(makeArm64Image(4096, { imageSize: 100n })).imageSize).toBe(4096);
  });

  it.each([
    ['gzip', gzipSync(IMAGE)],
    ['zboot', makeZboot(gzipSync(IMAGE), 'gzip')],
    ['zboot', makeZboot(IMAGE_ZST, 'zstd')],
    ['zboot', makeZboot(join(IMAGE_ZST, SIZE_LE), 'zstd22')],
    ['zboot', makeZboot(join(IMAGE_ZST, SIZE_LE), 'zstd22', 4)],
  ])('unpacks %s', (format, bytes) => {
    expect(identifyKernel(bytes)).toBe(format);
    const kernel = loadKernel(bytes);
    expect(kernel.format).toBe('image');
    expect(Buffer.compare(kernel.image, IMAGE)).toBe(0);
  });

  it('prefers the arm64 magic over the MZ that an EFI stub puts in front', () => {
    const stub = makeArm64Image(4096);
    stub.set(text('MZ'));
    expect(loadKernel(stub).format).toBe('image');
  });

  it('takes an AArch64 ELF file', () => {
    const elf = makeElf([{ paddr: 0x4000_0000, data: new Uint8Array(16) }]);
    expect(loadKernel(elf)).toMatchObject({ format: 'elf', textOffset: 0, imageSize: elf.length });
    expect(loadKernel(gzipSync(elf)).format).toBe('elf');
  });
});

describe('loadKernel: what is no kernel', () => {
  it.each([
    ['the file is empty', new Uint8Array(0)],
    ['a text file', text('console=ttyAMA0\n')],
    ['a script', text('#!/bin/sh\n')],
    ['PE (EFI) program', withAt(4096, 0, 'MZ')],
    ['cpio archive', text('070701'.padEnd(200, '0'))],
    ['xz data', withAt(64, 0, '\xfd7zXZ\0')],
    ['zstd data', IMAGE_ZST],
    ['Debian package', text('!<arch>\ndebian-binary')],
    ['tar archive', withAt(512, 257, 'ustar')],
    ['qcow2', withAt(512, 0, 'QFI\xfb')],
    ['boot sector', withAt(512, 510, '\x55\xaa')],
    ['starts with zeros', new Uint8Array(4096)],
    ['starts with 01 02 03 04', Uint8Array.of(1, 2, 3, 4)],
    ['not linked', makeElf([], { type: 1 })],
    ["compressed with 'lz4'", makeZboot(IMAGE, 'lz4')],
    ['unpacked, is not a kernel: it is a text file', gzipSync(text('hello'))],
    ['unpacked, is not a kernel', gzipSync(gzipSync(IMAGE))],
  ])('says: %s', (what, bytes) => {
    expect(messageOf(() => loadKernel(bytes))).toContain(what);
    expect(codeOf(() => loadKernel(bytes))).toBe('ERR_NOT_A_KERNEL');
  });

  it.each([
    ['x86 kernel (bzImage)', withAt(4096, 0x202, 'HdrS')],
    ['RISC-V', withAt(4096, 0x38, 'RSC\x05')],
    ['zImage', withAt(4096, 0x24, '\x18\x28\x6f\x01')],
    ['ELF file for x86-64', makeElf([], { machine: 62 })],
    ['big-endian', makeArm64Image(4096, { flags: 1n })],
    ['32-bit', withAt(64, 0, '\x7fELF\x01\x01')],
    ['big-endian ELF', withAt(64, 0, '\x7fELF\x02\x02')],
  ])('knows another architecture: %s', (what, bytes) => {
    expect(messageOf(() => loadKernel(bytes))).toContain(what);
    expect(codeOf(() => loadKernel(bytes))).toBe('ERR_WRONG_ARCHITECTURE');
  });
});

describe('loadKernel: damage', () => {
  it('tells a truncated gzip file from a damaged one, at every length', () => {
    const packed = gzipSync(IMAGE);
    for (let n = 10; n < packed.length; n += 37) {
      expect(codeOf(() => loadKernel(packed.subarray(0, n)))).toBe('ERR_KERNEL_CORRUPT');
    }
    expect(messageOf(() => loadKernel(packed.subarray(0, 500)))).toContain('ends too early');
    const flipped = Uint8Array.from(packed);
    flipped.fill(0xff, 300, 320);
    expect(messageOf(() => loadKernel(flipped))).toContain('its gzip data is damaged');
  });

  it('finds truncated zstd data at every length', () => {
    for (let n = 4; n < IMAGE_ZST.length; n++) {
      expect(codeOf(() => loadKernel(makeZboot(IMAGE_ZST.subarray(0, n), 'zstd')))).toBe('ERR_KERNEL_CORRUPT');
    }
  });

  it('finds a zboot file whose payload is cut off', () => {
    const zboot = makeZboot(gzipSync(IMAGE), 'gzip');
    expect(codeOf(() => loadKernel(zboot.subarray(0, -1)))).toBe('ERR_KERNEL_CORRUPT');
  });

  it('finds an image_size that makes no sense', () => {
    expect(codeOf(() => loadKernel(makeArm64Image(4096, { imageSize: 1n << 40n })))).toBe('ERR_KERNEL_CORRUPT');
  });

  it('does not unpack more than the limit', () => {
    const bomb = gzipSync(new Uint8Array(8 << 20));
    expect(codeOf(() => loadKernel(bomb, { limit: 1 << 20 }))).toBe('ERR_DOES_NOT_FIT');
    // 500 RLE blocks of 128 KiB, four bytes each (RFC 8878, section 3.1.1.2).
    const rle = new Uint8Array(6 + 4 * 500);
    rle.set([0x28, 0xb5, 0x2f, 0xfd, 0, 0x88]);
    for (let i = 0; i < 500; i++) rle.set([(i === 499 ? 1 : 0) | 2, 0, 0x10, 0], 6 + 4 * i);
    expect(codeOf(() => loadKernel(makeZboot(rle, 'zstd'), { limit: 1 << 20 }))).toBe('ERR_DOES_NOT_FIT');
  });
});
