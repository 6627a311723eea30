import { describe, expect, it } from 'vitest';
import { kitRig } from '../../../test/support/kit-rig.ts';
import { pciTestdev } from './device.ts';

describe('pci-testdev', () => {
  it('is 1b36:0005 with 4 KiB of memory and 256 bytes of ports', () => {
    const { function: f } = kitRig(pciTestdev);
    expect(f.configRead(0, 4)).toBe(0x0005_1b36);
    expect(f.bars.map(b => [b.index, b.kind, b.size])).toEqual([
      [0, 'mem32', 4096],
      [1, 'io', 256],
    ]);
  });

  it('lets a guest scan the tests of a BAR by name until width is 0', () => {
    const { read, write } = kitRig(pciTestdev);
    const names: string[] = [];
    for (const bar of [0, 1] as const) {
      for (let test = 0; ; test++) {
        write(bar, 0, 1, test);
        if (read(bar, 1, 1) === 0n) break;
        let name = '';
        for (let i = 16; read(bar, i, 1) !== 0n; i++) name += String.fromCharCode(Number(read(bar, i, 1)));
        names.push(name);
      }
    }
    expect(names).toEqual([
      'mmio-no-eventfd',
      'mmio-wildcard-eventfd',
      'mmio-datamatch-eventfd',
      'portio-no-eventfd',
      'portio-wildcard-eventfd',
      'portio-datamatch-eventfd',
    ]);
  });

  it('counts the writes that a test asks for, and no others', () => {
    const { read, write } = kitRig(pciTestdev);
    const counts: bigint[] = [];
    for (const bar of [0, 1] as const) {
      for (const test of [0, 1, 2]) {
        write(bar, 0, 1, test);
        const offset = Number(read(bar, 4, 4));
        const data = read(bar, 8, 4);
        for (const value of [data, data, 0]) write(bar, offset, 1, value);
        write(bar, offset + 1, 1, data);
        counts.push(read(bar, 12, 4));
      }
    }
    expect(counts).toEqual([2n, 3n, 2n, 2n, 3n, 2n]);
  });

  it('starts a test at 0, and none after a reset', () => {
    const rig = kitRig(pciTestdev);
    rig.write(0, 0, 1, 0);
    rig.write(0, 2048, 1, 0xfa);
    rig.write(0, 0, 1, 0);
    expect(rig.read(0, 12, 4)).toBe(0n);
    rig.host.reset();
    rig.place();
    expect(rig.read(0, 0, 4)).toBe(0n);
  });
});
