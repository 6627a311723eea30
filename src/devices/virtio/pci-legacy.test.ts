import { describe, expect, it } from 'vitest';
import {
  ACKNOWLEDGE,
  DRIVER_OK,
  DRIVER_STATUS,
  EchoDevice,
  EVENT_IDX,
  FEATURE,
  INDIRECT_DESC,
  READY,
  RING_PACKED,
  VERSION_1,
  VirtioMachine,
} from '../../../test/support/virtio-pci.ts';
import { BUFFERS, DESC, DEVICE, DRIVER, SplitDriver, writable } from '../../../test/support/virtqueue.ts';
import { PmCapability } from '../../pci/caps/pm.ts';

describe('a transitional function', () => {
  const PAGE = 0x4000_1000 / 4096;
  const machine = () => new VirtioMachine(new EchoDevice(2, [8, 16], 60), { transitional: true });

  it.each([
    [1, 0x1000],
    [2, 0x1001],
    [3, 0x1003],
    [4, 0x1005],
    [5, 0x1002],
    [9, 0x1009],
  ])('of type %i has the ids that legacy drivers know', (type, id) => {
    const { f } = new VirtioMachine(new EchoDevice(type), { transitional: true });
    expect([f.configRead(2, 2), f.configRead(8, 1), f.configRead(0x2e, 2)]).toEqual([id, 0, type]);
    expect(f.bars[0]).toMatchObject({ index: 0, kind: 'io', size: 64 });
  });

  it('serves a legacy driver', () => {
    const m = machine();
    const io = m.bar(0);
    io.write(18, 1, 0);
    io.write(18, 1, ACKNOWLEDGE);
    io.write(18, 1, ACKNOWLEDGE | DRIVER_STATUS);
    // Only what a legacy driver can know: no VERSION_1, no packed rings.
    expect(BigInt(io.read(0, 4))).toBe(FEATURE | INDIRECT_DESC | EVENT_IDX | (1n << 27n));
    io.write(4, 4, Number(FEATURE));
    io.write(14, 2, 1);
    expect([io.read(12, 2), io.read(8, 4)]).toEqual([16, 0]);
    io.write(8, 4, PAGE);
    expect(io.read(8, 4)).toBe(PAGE);
    // The layout of section 2.7.2: 16 descriptors, the available ring, the used ring at the next page.
    const layout = { size: 16, desc: 0x4000_1000, driver: 0x4000_1100, device: 0x4000_2000 };
    const driver = new SplitDriver(m.ram, layout, false);
    // A request whose notification comes before DRIVER_OK is not lost.
    driver.offer([writable(BUFFERS, 4)], false);
    io.write(16, 2, 1);
    expect(driver.collect()).toEqual([]);
    io.write(18, 1, ACKNOWLEDGE | DRIVER_STATUS | DRIVER_OK);
    expect(driver.collect()).toHaveLength(1);
    expect(m.device.host!.features).toBe(FEATURE);
    expect([m.intx, io.read(19, 1), m.intx]).toEqual([true, 1, false]);
    driver.offer([writable(BUFFERS, 4)], false);
    io.write(16, 2, 1);
    expect([driver.collect().length, io.read(18, 1)]).toEqual([1, 7]);
    io.write(8, 4, 0);
    expect([io.read(8, 4), m.device.host!.queues[1]!.size]).toEqual([0, 0]);
  });

  it('moves the configuration when MSI-X is enabled', () => {
    const m = machine();
    const io = m.bar(0);
    expect([io.read(20, 4), io.read(22, 1)]).toEqual([0x1312_1110, 0x12]);
    m.enableMsix();
    expect([io.read(24, 4), io.read(20, 2), io.read(22, 2)]).toEqual([0x1312_1110, 0xffff, 0xffff]);
    io.write(20, 2, 1);
    io.write(22, 2, 2);
    expect([io.read(20, 2), io.read(22, 2)]).toEqual([1, 2]);
    io.write(22, 2, 3);
    expect(io.read(22, 2)).toBe(0xffff);
    io.write(24, 1, 0xee);
    m.msixControl = 0;
    expect(io.read(20, 4)).toBe(0x1312_11ee);
  });

  it('goes on for a legacy driver that does not wait for the reset', async () => {
    const m = machine();
    const io = m.bar(0);
    let finish = () => {};
    m.device.busy = new Promise(resolve => {
      finish = resolve;
    });
    io.write(18, 1, 0);
    expect(io.read(18, 1)).toBe(0);
    io.write(18, 1, 3);
    io.write(14, 2, 0);
    io.write(8, 4, PAGE);
    const driver = new SplitDriver(
      m.ram,
      { size: 8, desc: 0x4000_1000, driver: 0x4000_1080, device: 0x4000_2000 },
      false,
    );
    driver.offer([writable(BUFFERS, 4)], false);
    io.write(18, 1, 7);
    expect([io.read(18, 1), m.device.activations]).toEqual([7, 0]);
    finish();
    await new Promise(resolve => setImmediate(resolve));
    expect([m.device.activations, driver.collect().length]).toEqual([1, 1]);
  });

  it('serves a driver of version 1 as well', () => {
    const m = machine();
    const driver = m.start(VERSION_1 | RING_PACKED);
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect([driver.collect().length, m.device.host!.features]).toEqual([1, VERSION_1 | RING_PACKED]);
  });

  it('does not let features of version 1 into the legacy interface', () => {
    const m = machine();
    m.accept(VERSION_1 | RING_PACKED);
    const io = m.bar(0);
    io.write(18, 1, 3);
    io.write(18, 1, 7);
    expect(m.device.host!.features).toBe(0n);
  });
});

describe('hostile drivers', () => {
  it('do not get beyond the registers', () => {
    const m = new VirtioMachine(new EchoDevice(2), { transitional: true, capabilities: [new PmCapability()] });
    let seed = 7;
    const next = () => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return seed >>> 8;
    };
    const widths = [1, 2, 4] as const;
    let activations = 0;
    for (let i = 0; i < 60_000; i++) {
      const size = widths[next() % 3]!;
      const { device, size: length } = m.f.bars[next() % 3]!;
      const offset = next() % 4 === 0 ? (next() % length) & -size : (next() % 64) & -size;
      const value = next() % 3 === 0 ? (next() << 8) ^ next() : next() % 16;
      if (next() % 64 === 0) {
        for (const [at, area] of [DESC, DRIVER, DEVICE].entries()) m.write(32 + 8 * at, 4, area);
        m.accept(VERSION_1);
        m.status = READY;
        m.status = READY | DRIVER_OK;
      } else if (next() % 8 === 0) m.f.configWrite((next() % 256) & -size, size, value >>> 0);
      else if (next() % 2 === 0) device.write(offset, size, value >>> 0);
      const read = device.read(offset, size);
      if (device !== m.f.msix && !(read >= 0 && read < 2 ** (8 * size)))
        throw new Error(`${read} read at ${offset}, ${size} bytes`);
      activations = m.device.activations;
    }
    expect(activations).toBeGreaterThan(100);
    expect(m.lines.length).toBeLessThan(20);
  });
});
