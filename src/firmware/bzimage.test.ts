import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf, makeBzImage, messageOf } from '../../test/support/kernels.ts';
import { VmError } from '../util/errors.ts';
import { isBzImage, readBzImage } from './bzimage.ts';

describe('readBzImage', () => {
  it('reads the setup header and finds the code behind the setup sectors', () => {
    const file = makeBzImage(65536, { setup_sects: 39, init_size: 0x20_0000 });
    const header = readBzImage(file);
    expect(header).toMatchObject({
      version: 0x20f,
      initrdAddrMax: 0x7fff_ffff,
      kernelAlignment: 0x20_0000,
      relocatableKernel: true,
      cmdlineSize: 2047,
      prefAddress: 0x100_0000,
      initSize: 0x20_0000,
    });
    expect(header.protectedMode).toEqual(file.subarray(40 * 512));
    // From setup_sects to where the jump over the header leads.
    expect(header.setupHeader).toEqual(file.subarray(0x1f1, 0x26c));
  });

  it('takes 4 setup sectors for 0', () => {
    const file = makeBzImage(512, { setup_sects: 0 });
    expect(readBzImage(file).protectedMode).toEqual(file.subarray(5 * 512));
  });

  it('ignores what is appended to the file, a signature for one', () => {
    const file = makeBzImage(512);
    expect(readBzImage(new Uint8Array([...file, 1, 2, 3])).protectedMode).toHaveLength(512);
  });

  it('refuses a protocol without a 64-bit entry point, and a 32-bit kernel', () => {
    const old = makeBzImage(512, { version: 0x205 });
    expect(codeOf(() => readBzImage(old))).toBe('ERR_NOT_A_KERNEL');
    expect(messageOf(() => readBzImage(old, 'vmlinuz-2.6'))).toContain('vmlinuz-2.6 speaks the boot protocol 2.05');
    expect(() => readBzImage(old)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('Linux 3.8 or later') }),
    );
    const narrow = makeBzImage(512, { xloadflags: 0 });
    expect(codeOf(() => readBzImage(narrow))).toBe('ERR_WRONG_ARCHITECTURE');
    expect(messageOf(() => readBzImage(narrow))).toContain('32-bit');
  });

  it.each([
    ['is cut off', makeBzImage(4096).subarray(0, -1)],
    ['within its header', makeBzImage(4096).subarray(0, 0x230)],
    ['no code', makeBzImage(0)],
    ['below 1 MiB', makeBzImage(512, { loadflags: 0 })],
    ['kernel_alignment is 0x3000', makeBzImage(512, { kernel_alignment: 0x3000 })],
    ['kernel_alignment is 0x0', makeBzImage(512, { kernel_alignment: 0 })],
    ['pref_address is 0x10000000000000', makeBzImage(512, { pref_address: 1n << 52n })],
  ])('finds damage: %s', (what, file) => {
    expect(codeOf(() => readBzImage(file))).toBe('ERR_KERNEL_CORRUPT');
    expect(messageOf(() => readBzImage(file))).toContain(what);
  });

  it('finds a header that ends too early or too late', () => {
    for (const [jump, wrong] of [
      [0x61, true],
      [0x62, false],
      [0x8e, false],
      [0x8f, true],
    ] as const) {
      const file = makeBzImage(512);
      file[0x201] = jump;
      expect(codeOf(() => readBzImage(file))).toBe(wrong ? 'ERR_KERNEL_CORRUPT' : 'no error');
    }
  });

  it('knows its files at any length, and any length gives a typed error or a header', () => {
    const file = makeBzImage(512);
    for (let n = 0; n < file.length; n++) {
      expect(isBzImage(file.subarray(0, n))).toBe(n >= 0x206);
      expect(codeOf(() => readBzImage(file.subarray(0, n)))).toBe(
        n < 0x206 ? 'ERR_NOT_A_KERNEL' : 'ERR_KERNEL_CORRUPT',
      );
    }
    fc.assert(
      fc.property(fc.integer({ min: 0x1f1, max: 0x270 }), fc.integer({ min: 0, max: 255 }), (at, value) => {
        const changed = Uint8Array.from(file);
        changed[at] = value;
        try {
          expect(readBzImage(changed).protectedMode.length).toBeLessThanOrEqual(changed.length);
        } catch (e) {
          expect(e).toBeInstanceOf(VmError);
        }
      }),
    );
  });
});
