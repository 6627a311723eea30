import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VmError } from '../../util/errors.ts';
import * as r from './resources.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('resource descriptors', () => {
  it.each([
    [r.ioPorts({ base: 0x3f8, size: 8 }), '4701f803f8030108'],
    [r.interrupt(4, 'edge'), '890600030104000000'],
    [r.interrupt(0x1234, 'level'), '890600010134120000'],
    [r.memory32Fixed({ base: 0xb000_0000, size: 0x1000_0000 }), '86090001000000b000000010'],
    [r.busNumbers({ base: 0, size: 256 }), '880d00020c0000000000ff0000000001'],
    [r.ioWindow({ base: 0x1000, size: 0xf000 }), '880d00010c0300000010ffff000000f0'],
    [
      r.memoryWindow({ base: 0xc000_0000, size: 0x4000_0000 }), // up to 4 GiB, exactly
      '871700000c0100000000000000c0ffffffff0000000000000040',
    ],
    [
      r.memoryWindow({ base: 0xc000_0000, size: 0x4000_0001 }),
      '8a2b00000c01' +
        ['0000000000000000', '000000c000000000', '0000000001000000', '0000000000000000', '0100004000000000'].join(''),
    ],
  ])('%#', (descriptor, bytes) => {
    expect(hex(descriptor)).toBe(bytes);
  });

  it('refuse what they have no room for', () => {
    for (const f of [
      () => r.ioPorts({ base: 0x1_0000, size: 1 }),
      () => r.ioPorts({ base: 0, size: 256 }),
      () => r.ioWindow({ base: 0, size: 0x1_0000 }), // the length has 16 bits
      () => r.memory32Fixed({ base: 2 ** 32, size: 1 }),
      () => r.memoryWindow({ base: 0, size: 0 }),
    ]) {
      expect(f).toThrow(VmError);
    }
  });

  it('the end tag makes the template add up to 0', () => {
    expect(hex(r.resourceTemplate())).toBe('7987');
    fc.assert(
      fc.property(fc.nat(0xffff), fc.nat(0xff), fc.nat(), (base, size, gsi) => {
        const bytes = r.resourceTemplate(r.ioPorts({ base, size }), r.interrupt(gsi, 'edge'));
        expect(bytes.at(-2)).toBe(0x79);
        expect(bytes.reduce((sum, b) => sum + b, 0) & 0xff).toBe(0);
      }),
    );
  });
});
