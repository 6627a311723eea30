import { describe, expect, it } from 'vitest';
import { hex } from './hex.ts';
import { limitRate } from './rate-limit.ts';

describe('hex', () => {
  it('prints numbers and bigints, and what is no address as it is', () => {
    expect([hex(0), hex(0x4000_0000), hex(255n, 4), hex(2 ** 52)]).toEqual([
      '0x0',
      '0x40000000',
      '0x00ff',
      '0x10000000000000',
    ]);
    expect([hex(-1), hex(Number.NaN), hex(0.5)]).toEqual(['-1', 'NaN', '0.5']);
  });
});

describe('limitRate', () => {
  it('passes a burst in each period and counts the rest', () => {
    const lines: string[] = [];
    let now = 0;
    let built = 0;
    const log = limitRate(
      line => lines.push(line),
      () => now,
      { burst: 2, periodNs: 100 },
    );
    const write = () =>
      log(() => {
        built++;
        return `line at ${now}`;
      });
    for (let i = 0; i < 5; i++) write();
    expect([lines, built]).toEqual([['line at 0', 'line at 0'], 2]);
    now = 99;
    write();
    now = 100;
    write();
    now = 300;
    write();
    expect(lines.slice(2)).toEqual(['(4 more such lines left out)', 'line at 100', 'line at 300']);
  });
});
