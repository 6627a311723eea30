import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { internetChecksum } from '../../../../test/support/user-net.ts';
import { checksum, fold, pseudoHeaderSum, sumBytes, swap } from './checksum.ts';

describe('checksum', () => {
  it('is that of the example in RFC 1071 section 3', () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(sumBytes(bytes, 0, 8)).toBe(0xddf2);
  });

  it('is right at any alignment, length and split', () => {
    const property = fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(8), fc.nat(300), (data, shift, cut) => {
      const bytes = new Uint8Array(data.length + shift + 3).fill(0xa5);
      bytes.set(data, shift);
      const end = shift + data.length;
      const split = Math.min(end, shift + cut);
      expect(checksum(bytes, shift, end)).toBe(internetChecksum(data));
      const second = sumBytes(bytes, split, end);
      const both = fold(sumBytes(bytes, shift, split) + ((split - shift) & 1 ? swap(second) : second));
      // Zero has two representations.
      expect(both % 0xffff).toBe((0xffff - internetChecksum(data)) % 0xffff);
    });
    fc.assert(property, { numRuns: 500 });
  });

  it('adds up the pseudo header', () => {
    const header = [10, 0, 2, 15, 192, 168, 1, 255, 0, 17, 0x12, 0x34];
    expect(pseudoHeaderSum(0x0a00_020f, 0xc0a8_01ff, 17, 0x1234)).toBe(0xffff - internetChecksum(header));
  });
});
