import { expect, it } from 'vitest';
import { upper32 } from './words.ts';

it('the upper half of 64 bits, whatever their sign is taken for', () => {
  expect([0n, 0xffff_ffffn, 1n << 32n, 2n ** 64n - 1n, -1n].map(upper32)).toEqual([0, 0, 1, 0xffff_ffff, 0xffff_ffff]);
});

it('of one of two values, in code that is compiled: Node 20 aborts on the shorter way to say it', () => {
  const registers = BigUint64Array.of(5n << 40n, 7n << 32n);
  const half = (n: number) => upper32(n & 1 ? registers[0]! : registers[1]!);
  let sum = 0;
  for (let n = 0; n < 200_000; n++) sum += half(n);
  expect(sum).toBe(100_000 * (5 * 256 + 7));
});
