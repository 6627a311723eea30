import { describe, expect, it } from 'vitest';
import {
  EchoDevice,
  NEEDS_RESET,
  RING_PACKED,
  RING_RESET,
  VERSION_1,
  VirtioMachine,
} from '../../../test/support/virtio-pci.ts';
import { BASE, BUFFERS, RAM_BYTES, readable, type TestRam, writable } from '../../../test/support/virtqueue.ts';

function leaks({ pins }: TestRam): unknown {
  const { pinAcquired, pinReleased } = pins.stats();
  return pinAcquired > 0 ? [pinAcquired - pinReleased, ...pins.leaks()] : 'nothing was pinned';
}

/** A device that keeps what it is given, with two requests. */
function busy(m = new VirtioMachine(new EchoDevice()), features = VERSION_1) {
  m.device.keep = true;
  const driver = m.start(features);
  driver.offer([readable(BUFFERS, 8), writable(BUFFERS + 4096, 8)], false);
  driver.offer([writable(BUFFERS + 8192, 8)], false);
  m.kick(0);
  expect(m.ram.counts).toEqual([3, 3]);
  const queue = m.device.host!.queues[0]!;
  return { m, driver, queue };
}

describe('pins of a virtio device', () => {
  it('PIN-5: carry the names of its queues', () => {
    const { m } = busy();
    expect(new Set(m.ram.pins.pins().map(p => p.owner))).toEqual(new Set(['echo0 queue 0']));
  });

  it.each(['a status of 0', 'a reset of the function', 'an unplug'])(
    'PIN-5: are gone after %s, of a device that forgets at once',
    how => {
      const { m } = busy();
      if (how === 'a status of 0') m.status = 0;
      else if (how === 'an unplug') m.bus.remove(m.f);
      else m.f.reset();
      expect([m.status, leaks(m.ram)]).toEqual([0, [0]]);
    },
  );

  it.each(['a status of 0', 'a reset of the function', 'an unplug'])(
    'table 4.3, guest reset: %s drains what a device still works on',
    async how => {
      const { m, queue } = busy();
      let end: () => void = () => undefined;
      m.device.busy = new Promise(resolve => {
        end = resolve;
      });
      if (how === 'a status of 0') m.status = 0;
      else if (how === 'an unplug') m.bus.remove(m.f);
      else m.f.reset();
      expect(m.ram.counts).toEqual([3, 0]);
      expect(m.status).not.toBe(0);
      // One comes back in time, the other one never.
      queue.push(m.device.kept[0]!, 8);
      expect(m.ram.counts).toEqual([1, 0]);
      end();
      await m.f.settled;
      await Promise.resolve();
      expect(leaks(m.ram)).toEqual([0]);
    },
  );

  it('PIN-5: of one queue are gone when its reset is finished', () => {
    const { m, queue } = busy(undefined, VERSION_1 | RING_RESET);
    m.write(22, 2, 0);
    m.write(58, 2, 1);
    expect([m.read(58, 2), m.ram.counts]).toEqual([1, [3, 0]]);
    for (const c of m.device.kept) queue.push(c, 0);
    expect([m.read(58, 2), leaks(m.ram)]).toEqual([0, [0]]);
  });

  it('table 4.3, DMA with COMMAND.MASTER = 0: rings stay pinned, requests are drained', () => {
    const { m, driver, queue } = busy();
    m.command = 2;
    expect(m.ram.counts).toEqual([3, 3]);
    for (const c of m.device.kept) queue.push(c, 1);
    expect([m.ram.counts, driver.collect()]).toEqual([[0, 3], []]);
    m.command = 6;
    expect(driver.collect()).toHaveLength(2);
  });

  it.each([VERSION_1, VERSION_1 | RING_PACKED])(
    'table 4.3, DMA to MMIO / hole: NEEDS_RESET and a configuration interrupt, features %i',
    features => {
      const { m, driver, queue } = busy(undefined, features);
      driver.offer([readable(BUFFERS, 8), writable(BASE + RAM_BYTES, 8)], false);
      m.intx = false;
      m.kick(0);
      expect([m.status & NEEDS_RESET, m.intx, m.lines.length]).toEqual([NEEDS_RESET, true, 1]);
      expect(m.ram.counts).toEqual([3, 0]);
      queue.push(m.device.kept[0]!, 0);
      expect(m.ram.counts).toEqual([1, 0]);
      m.status = 0;
      expect(leaks(m.ram)).toEqual([0]);
    },
  );

  it.each(['notify', 'reset'])('PIN-5: are gone after a reset of a device that fails in %s', fault => {
    const { m } = busy();
    m.device.fault = fault;
    m.kick(0);
    m.status = 0;
    expect(leaks(m.ram)).toEqual([0]);
  });
});

describe('table 4.3, quota exhausted', () => {
  it('a device is told of requests that had to wait, when another one has released its pins', async () => {
    const m = new VirtioMachine(new EchoDevice(), {}, { shortBytes: 2 * 4096 });
    const driver = m.start();
    const owner = m.ram.pins.owner('another device');
    const held = m.ram.pin(BUFFERS, 4096, 'w', owner);
    driver.offer([readable(BUFFERS, 8), writable(BUFFERS + 4096, 8)], false);
    m.kick(0);
    expect([m.status & NEEDS_RESET, driver.collect()]).toEqual([0, []]);
    m.ram.unpin(held);
    m.ram.released();
    await Promise.resolve();
    expect(driver.collect()).toMatchObject([{ written: 8 }]);
  });

  it('two devices that wait for each other do not wake each other without end', async () => {
    const m = new VirtioMachine(new EchoDevice(), {}, { shortBytes: 3 * 4096 });
    const driver = m.start();
    const owner = m.ram.pins.owner('another device');
    m.ram.pin(BUFFERS, 2 * 4096, 'w', owner);
    driver.offer([readable(BUFFERS, 8), writable(BUFFERS + 4096, 8)], false);
    m.kick(0);
    const before = m.device.notified.length;
    m.ram.released();
    for (let i = 0; i < 10; i++) await Promise.resolve();
    expect([m.device.notified.length, m.ram.counts]).toEqual([before + 1, [1, 3]]);
  });

  it('a request that is too much by itself is the mistake of its driver', () => {
    const m = new VirtioMachine(new EchoDevice(), {}, { shortBytes: 4096 });
    const driver = m.start();
    driver.offer([readable(BUFFERS, 8), writable(BUFFERS + 4096, 8)], false);
    m.kick(0);
    expect(m.status & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(m.lines).toEqual([expect.stringContaining('more memory than may be pinned at a time')]);
    expect(m.ram.counts).toEqual([0, 0]);
  });
});
