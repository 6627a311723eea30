import { describe, expect, it } from 'vitest';
import { kitRig, RAM_BASE } from '../../../test/support/kit-rig.ts';
import { edu } from './device.ts';

const OPTIONS = { options: { dma_mask: 0xffff_ffff } };

/** Lets the guest start a transfer. */
function dma(
  rig: ReturnType<typeof kitRig>,
  source: bigint,
  destination: bigint,
  count: bigint,
  command: bigint,
): void {
  rig.write(0, 0x80, 8, source);
  rig.write(0, 0x88, 8, destination);
  rig.write(0, 0x90, 8, count);
  rig.write(0, 0x98, 8, command);
}

describe('edu', () => {
  it('is 1234:11e8 with 1 MiB of registers, MSI and INTA', () => {
    const { function: f, read } = kitRig(edu);
    expect([f.configRead(0, 4), f.configRead(8, 4), f.configRead(0x3d, 1)]).toEqual([0x11e8_1234, 0x00ff_0010, 1]);
    expect([f.bars[0]!.size, f.msi?.vectors, read(0, 0, 4)]).toEqual([0x10_0000, 1, 0x0100_00edn]);
  });

  it('computes while STATUS says so, and interrupts at the end', () => {
    const rig = kitRig(edu);
    rig.enableMsi(0x0802_0040, 5);
    rig.write(0, 0x20, 4, 0x80);
    rig.write(0, 0x08, 4, 10);
    expect(rig.read(0, 0x20, 4)).toBe(0x81n);
    rig.write(0, 0x08, 4, 3); // is busy
    rig.advance(1e6);
    expect([rig.read(0, 0x20, 4), rig.read(0, 0x08, 4), rig.read(0, 0x24, 4)]).toEqual([0x80n, 3628800n, 1n]);
    expect(rig.messages.map(m => m.data)).toEqual([5]);
  });

  it('holds INTA until all causes are acknowledged', () => {
    const rig = kitRig(edu);
    rig.write(0, 0x60, 4, 6);
    rig.write(0, 0x64, 4, 2);
    expect([rig.wire.level, rig.read(0, 0x24, 4)]).toEqual([true, 4n]);
    rig.write(0, 0x64, 4, 4);
    expect(rig.wire.level).toBe(false);
  });

  it.each([
    [0x3_ffffn, 1n],
    [0x4_1000n, 1n],
    [0x4_0000n, 4097n],
    [0x4_0fffn, 2n],
    [0n, 8n],
    [0x4_0000n, 2n ** 64n - 1n],
    [2n ** 64n - 1n, 2n],
  ])('moves nothing between RAM and device address %i, %i bytes, and still ends', (at, count) => {
    const rig = kitRig(edu, OPTIONS);
    rig.memory.setU32(RAM_BASE, 0x1234_5678);
    for (const command of [5n, 7n]) {
      const ram = BigInt(RAM_BASE);
      dma(rig, command === 5n ? ram : at, command === 5n ? at : ram, count, command);
      rig.advance(1e6);
      expect([rig.read(0, 0x98, 4), rig.read(0, 0x24, 4)]).toEqual([command & ~1n, 0x100n]);
      rig.write(0, 0x64, 4, 0x100);
    }
    expect([rig.memory.u32(RAM_BASE), rig.failures]).toEqual([0x1234_5678, []]);
  });

  it('drives 28 address lines, or those of dma_mask', () => {
    const rig = kitRig(edu, { ramBase: 0x1000 });
    dma(rig, 0xf000_1000n, 0x4_0000n, 4n, 1n);
    rig.memory.setU32(0x1000, 77);
    rig.advance(1e6);
    dma(rig, 0x4_0000n, 0x1000_1010n, 4n, 3n);
    rig.advance(1e6);
    expect(rig.memory.u32(0x1010)).toBe(77);
    expect(kitRig(edu, { options: { dma_mask: 'x' } }).failures.length).toBe(1);
  });

  it('PIN-5: holds the memory of a transfer from its start until it is done', () => {
    const rig = kitRig(edu, OPTIONS);
    dma(rig, 0x4_0000n, BigInt(RAM_BASE) + 16n, 4096n, 3n);
    expect(rig.pins.pins()).toMatchObject([
      { owner: 'edu DMA', base: RAM_BASE + 16, length: 4096, write: true, longterm: false },
    ]);
    rig.advance(1e6);
    expect(rig.pins.leaks()).toEqual([]);
    dma(rig, BigInt(RAM_BASE), 0x4_0000n, 8n, 1n);
    expect(rig.pins.pins()).toMatchObject([{ length: 8, write: false }]);
    rig.host.reset();
    expect([rig.pins.leaks(), rig.lines]).toEqual([[], []]);
  });

  it('table 4.3, balloon inflate: the page of a transfer goes when that is done', () => {
    const rig = kitRig(edu, OPTIONS);
    rig.memory.setU32(RAM_BASE, 0x1234_5678);
    dma(rig, BigInt(RAM_BASE), 0x4_0000n, 4n, 1n);
    expect(rig.pins.discard(RAM_BASE, 4096, 'balloon')).toMatchObject({ queued: 1 });
    rig.advance(1e6);
    expect(rig.memory.u32(RAM_BASE)).toBe(0);
    dma(rig, 0x4_0000n, BigInt(RAM_BASE) + 4096n, 4n, 3n);
    rig.advance(1e6);
    expect(rig.memory.u32(RAM_BASE + 4096)).toBe(0x1234_5678);
  });

  it.each(['at its start', 'at its end'])('table 4.3, DMA with COMMAND.MASTER = 0 %s moves nothing', when => {
    const rig = kitRig(edu, OPTIONS);
    rig.memory.setU32(RAM_BASE, 0x1234_5678);
    if (when === 'at its start') rig.function.configWrite(4, 2, 2);
    dma(rig, 0x4_0000n, BigInt(RAM_BASE), 4n, 3n);
    rig.function.configWrite(4, 2, when === 'at its start' ? 6 : 2);
    rig.advance(1e6);
    expect([rig.memory.u32(RAM_BASE), rig.read(0, 0x98, 4), rig.pins.leaks()]).toEqual([0x1234_5678, 2n, []]);
  });

  it('forgets everything in a reset, what is under way too', () => {
    const rig = kitRig(edu);
    rig.write(0, 0x20, 4, 0x80);
    rig.write(0, 0x04, 4, 1);
    rig.write(0, 0x08, 4, 4);
    rig.host.reset();
    rig.place();
    rig.advance(1e6);
    expect([0x04, 0x08, 0x20, 0x24].map(o => rig.read(0, o, 4))).toEqual([0n, 0n, 0n, 0n]);
  });
});
