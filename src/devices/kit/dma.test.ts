import { describe, expect, it } from 'vitest';
import { type KitRigOptions, kitRig, RAM_BASE } from '../../../test/support/kit-rig.ts';
import { definePciDevice, type PciDeviceSetup } from './definition.ts';
import type { PciDevice } from './device.ts';

const STATUS = 6;
const RECEIVED_MASTER_ABORT = 1 << 13;

function make(setup: PciDeviceSetup = () => undefined, options: KitRigOptions = {}) {
  let dev: PciDevice | undefined;
  const definition = definePciDevice(
    { name: 'probe', vendor: 0x1234, device: 1, bars: [{ index: 0, kind: 'mem64', size: 4096 }] },
    d => {
      dev = d;
      setup(d);
    },
  );
  const rig = kitRig(definition, options);
  const { function: f } = rig;
  return {
    ...rig,
    dma: dev!.dma,
    aborted: () => (f.configRead(STATUS, 2) & RECEIVED_MASTER_ABORT) !== 0,
  };
}

describe('dma.pin()', () => {
  it('gives the bytes of the guest, in the name of the device, until unpin()', () => {
    const { dma, memory, pins } = make();
    const short = dma.pin(BigInt(RAM_BASE) + 16n, 4, 'w')!;
    const long = dma.pin(RAM_BASE, 4096, 'r', { longterm: true })!;
    short.bytes.set([1, 2, 3, 4]);
    expect([memory.u32(RAM_BASE + 16), long.bytes[17]]).toEqual([0x0403_0201, 2]);
    expect(pins.pins()).toMatchObject([
      { owner: 'probe DMA', base: RAM_BASE + 16, length: 4, write: true, longterm: false },
      { owner: 'probe DMA', base: RAM_BASE, length: 4096, write: false, longterm: true },
    ]);
    short.unpin();
    short.unpin();
    long.unpin();
    expect(pins.leaks()).toEqual([]);
  });

  it('table 4.3, DMA to MMIO / hole: undefined and Received Master Abort', () => {
    const { dma, function: f, pins, aborted } = make();
    for (const address of [0, RAM_BASE + 0xfffd, 2 ** 52]) {
      expect([dma.pin(address, 4, 'r'), aborted()]).toEqual([undefined, true]);
      f.configWrite(STATUS, 2, RECEIVED_MASTER_ABORT);
    }
    for (const address of [-1, 0.5, Number.NaN, 2n ** 64n - 1n]) expect(dma.pin(address, 4, 'r')).toBeUndefined();
    for (const length of [0, -1, 1.5, Number.POSITIVE_INFINITY]) expect(dma.pin(RAM_BASE, length, 'r')).toBeUndefined();
    expect([pins.everPinned, aborted()]).toEqual([false, false]);
  });

  it('table 4.3, DMA with COMMAND.MASTER = 0: undefined, and no master abort', () => {
    const { dma, function: f, pins, aborted } = make();
    const held = dma.pin(RAM_BASE, 4, 'w')!;
    f.configWrite(4, 2, 2);
    expect([dma.allowed, dma.pin(RAM_BASE, 4, 'r'), aborted()]).toEqual([false, undefined, false]);
    held.unpin();
    expect(pins.leaks()).toEqual([]);
  });

  it('table 4.3, quota exhausted: undefined, and no master abort', () => {
    const { dma, aborted } = make(undefined, { limits: { shortBytes: 4096 } });
    const first = dma.pin(RAM_BASE, 4096, 'r')!;
    expect([dma.pin(RAM_BASE, 1, 'r'), aborted()]).toEqual([undefined, false]);
    first.unpin();
    expect(dma.pin(RAM_BASE, 1, 'r')).toBeDefined();
  });
});

describe('PIN-5: pins that a device', () => {
  it('releases itself in a reset are no news', () => {
    const { dma, host, pins, lines } = make(dev => dev.onReset(() => held.unpin()));
    const held = dma.pin(RAM_BASE, 4, 'w')!;
    host.reset();
    expect([pins.leaks(), lines]).toEqual([[], []]);
  });

  it('forgets are released by a reset, an unplug or its failure, and counted in the log', () => {
    const { dma, host, function: f, pins, lines, place } = make();
    const forget = (n: number) => Array.from({ length: n }, () => dma.pin(RAM_BASE, 4, 'w')!);
    const [late] = forget(2);
    host.reset();
    expect([pins.leaks(), lines.at(-1)]).toEqual([
      [],
      'probe: 2 pins of guest memory were left over at the end of a reset',
    ]);
    late!.unpin();
    place();
    forget(1);
    host.remove(f);
    expect([pins.leaks(), lines.at(-1)]).toEqual([
      [],
      'probe: 1 pin of guest memory was left over at the end of an unplug',
    ]);
    const again = make(dev =>
      dev.bar(0).on({
        write: () => {
          throw new Error('boom');
        },
      }),
    );
    again.dma.pin(RAM_BASE, 4, 'w');
    again.write(0, 0, 4, 1);
    expect([again.pins.leaks(), again.failures.length, again.dma.allowed]).toEqual([[], 1, false]);
    expect(again.dma.pin(RAM_BASE, 4, 'w')).toBeUndefined();
    expect(again.lines).toEqual(['probe: 1 pin of guest memory was left over at the end of the device']);
  });

  it('still uses are left to the end of an asynchronous reset; those of the new life are left alone', async () => {
    let end: () => void = () => undefined;
    const {
      dma,
      host,
      function: f,
      pins,
      place,
    } = make(dev =>
      dev.onReset(
        () =>
          new Promise<void>(resolve => {
            end = resolve;
          }),
      ),
    );
    dma.pin(RAM_BASE, 4096, 'w');
    host.reset();
    place();
    const fresh = dma.pin(RAM_BASE + 4096, 4096, 'w')!;
    expect(pins.pins()).toHaveLength(2);
    end();
    await f.settled;
    expect(pins.pins().map(p => p.base)).toEqual([RAM_BASE + 4096]);
    fresh.unpin();
    expect(pins.leaks()).toEqual([]);
  });

  it('forgets again and again fill no log', () => {
    const { dma, host, lines, place } = make();
    for (let i = 0; i < 100; i++) {
      dma.pin(RAM_BASE, 4, 'w');
      host.reset();
      place();
    }
    expect(lines.length).toBe(16);
  });
});
