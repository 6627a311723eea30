// Devices whose program is a closure on this thread, with their function in a Worker: every access crosses threads.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { definePciDevice, type PciDeviceSetup, type PciDeviceSpec } from '../../src/devices/kit/definition.ts';
import type { PciDevice } from '../../src/devices/kit/device.ts';
import type { DeviceFailure } from '../../src/devices/kit/program.ts';
import { type InlineHost, placeDevices } from '../../src/vmm/inline-devices.ts';
import { RAM_BASE } from '../support/kit-rig.ts';
import type { Commands } from './fixtures/inline-machine.ts';

const workers: Worker[] = [];
afterEach(async () => {
  await Promise.all(workers.splice(0).map(w => w.terminate()));
});

/** Starts a Worker with the device and gives what a test needs of both sides. */
async function start(setup: PciDeviceSetup, spec: Partial<PciDeviceSpec> = {}, options: Record<string, unknown> = {}) {
  let dev: PciDevice | undefined;
  const definition = definePciDevice(
    { name: 'probe', vendor: 0x1234, device: 1, bars: [{ index: 0, kind: 'mem64', size: 4096 }], ...spec },
    d => {
      dev = d;
      return setup(d);
    },
  );
  const failures: DeviceFailure[] = [];
  const lines: string[] = [];
  let wakes = 0;
  const programs: InlineHost['programs'] = new Set();
  const config = { kind: 'definition', name: 'probe0', definition, options } as const;
  const { devices, transfer } = placeDevices([config], {
    programs,
    wake: () => wakes++,
    log: line => lines.push(line),
    failed: f => failures.push(f),
  });
  const worker = new Worker(new URL('./fixtures/inline-machine.mjs', import.meta.url), {
    workerData: devices[0],
    transferList: transfer,
    execArgv: [],
  });
  workers.push(worker);
  expect(await once(worker, 'message')).toEqual(['ready']);
  const call = async <K extends keyof Commands>(name: K, ...args: Parameters<Commands[K]>) => {
    worker.postMessage({ name, args });
    return (await once(worker, 'message'))[0] as ReturnType<Commands[K]>;
  };
  const pins = () => [...programs].flatMap(p => p.pins());
  return { dev: dev!, pins, programs, call, failures, lines, worker, wakes: () => wakes };
}

const ONES = 0xffff_ffffn;

describe('inline devices', () => {
  it('answer accesses of every width; interrupts of a handler come before its access is over', async () => {
    const seen: unknown[] = [];
    const { call, lines } = await start(
      dev => {
        dev.log(`hello ${dev.options.who}`);
        dev.bar(0).on({
          read: (offset, size) => offset * 16 + size,
          write: (...access) => {
            seen.push(access);
            dev.msi(0).trigger();
            dev.intx.set(true);
          },
          read64: offset => 2n ** 63n + BigInt(offset),
          write64: (...access) => seen.push(access),
        });
      },
      { intx: true },
      { who: 'you' },
    );
    expect(lines).toEqual(['probe0: hello you']);
    expect(await call('read', 0, 0x20, 2)).toBe(0x202n);
    expect(await call('read', 0, 0x20, 8)).toBe(2n ** 63n + 0x20n);
    await call('enableMsi', 0x0802_0040, 7);
    await call('write', 0, 4, 4, 0xffff_fffe);
    await call('write', 0, 8, 8, 2n ** 64n - 1n);
    expect(await call('state')).toMatchObject({ messages: [7], level: false });
    expect(seen).toEqual([
      [4, 0xffff_fffe, 4],
      [8, 2n ** 64n - 1n],
    ]);
  });

  it('interrupt between accesses, too, and wake the machine for it', async () => {
    const { dev, call, wakes } = await start(() => {}, { intx: true });
    dev.intx.set(true);
    await expect.poll(() => call('state')).toMatchObject({ level: true, wakes: 1 });
    expect(wakes()).toBe(1);
  });

  it('reach the guest memory while they may, and set Received Master Abort outside of RAM', async () => {
    const { dev, call } = await start(() => {});
    expect(dev.dma.write(RAM_BASE + 4, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    expect(await call('ram', RAM_BASE + 4)).toBe(0x0403_0201);
    expect([...dev.dma.read(BigInt(RAM_BASE) + 5n, 2)!]).toEqual([2, 3]);
    expect(dev.dma.read(16, 4)).toBeUndefined();
    await expect.poll(() => call('config', 6, 2)).toBe(0x2010);
    await call('setCommand', 2);
    expect([dev.dma.read(RAM_BASE, 4), dev.dma.write(RAM_BASE, Uint8Array.of(1)), dev.config.read(4, 2)]).toEqual([
      undefined,
      false,
      2,
    ]);
  });

  it('PIN-5: what they have pinned can be told, until they release it or the machine is gone', async () => {
    const { dev, pins, programs, worker } = await start(() => {});
    const first = dev.dma.pin(RAM_BASE + 4096, 100, 'r', { longterm: true });
    const second = dev.dma.pin(RAM_BASE, 4096, 'w');
    expect(pins()).toMatchObject([
      { owner: 'probe0 DMA', base: RAM_BASE + 4096, length: 100, write: false, longterm: true },
      { owner: 'probe0 DMA', base: RAM_BASE, length: 4096, write: true, longterm: false },
    ]);
    second?.unpin();
    expect(pins()).toHaveLength(1);
    await worker.terminate();
    await expect.poll(() => programs.size).toBe(0);
    // The program does not know, and goes on.
    first?.unpin();
    expect([dev.dma.allowed, dev.dma.pin(RAM_BASE, 1, 'r'), dev.dma.read(RAM_BASE, 1)]).toEqual([
      false,
      undefined,
      undefined,
    ]);
    expect(pins()).toEqual([]);
  });

  it('PIN-5: pin memory on their own thread, in the same table as the machine, until they let go or a reset does', async () => {
    const { dev, call, lines } = await start(() => {});
    const pin = dev.dma.pin(RAM_BASE, 4096, 'w', { longterm: true })!;
    const forgotten = dev.dma.pin(RAM_BASE + 8, 4, 'r')!;
    pin.bytes.set([1, 2, 3, 4]);
    expect(await call('ram', RAM_BASE)).toBe(0x0403_0201);
    expect(await call('page', RAM_BASE)).toEqual({ short: 1, long: 1, write: 1 });
    // Nothing takes the page away meanwhile.
    expect(await call('inflate', RAM_BASE)).toEqual({ discarded: 0, queued: 0, skippedPinned: 1 });
    pin.unpin();
    expect(await call('inflate', RAM_BASE)).toEqual({ discarded: 0, queued: 1, skippedPinned: 0 });
    expect(await call('ram', RAM_BASE)).toBe(0x0403_0201);
    await call('reset');
    expect(lines).toEqual(['probe0: 1 pin of guest memory was left over at the end of a reset']);
    expect(await call('page', RAM_BASE)).toEqual({ short: 0, long: 0, write: 0 });
    expect(await call('ram', RAM_BASE)).toBe(0);
    forgotten.unpin();
    expect(await call('leaks')).toEqual([]);
  });

  it('table 4.3: pins of theirs are refused in holes with a master abort, and without bus mastering', async () => {
    const { dev, call } = await start(() => {});
    expect(dev.dma.pin(16, 4, 'r')).toBeUndefined();
    await expect.poll(() => call('config', 6, 2)).toBe(0x2010);
    await call('setCommand', 2);
    expect([dev.dma.allowed, dev.dma.pin(RAM_BASE, 4, 'r')]).toEqual([false, undefined]);
    expect(await call('leaks')).toEqual([]);
  });

  it('share BARs of memory', async () => {
    const { dev, call } = await start(() => {}, { bars: [{ index: 0, kind: 'mem32', size: 4096, memory: true }] });
    dev.bar(0).memory.set([1, 2, 3, 4]);
    expect(await call('read', 0, 0, 4)).toBe(0x0403_0201n);
    await call('write', 0, 8, 1, 9);
    expect(dev.bar(0).memory[8]).toBe(9);
  });

  it('have timers on the clock of the machine, resets and unplugs', async () => {
    const log: string[] = [];
    const { call } = await start(dev => {
      dev.after(2000, () => {
        log.push('second');
        dev.after(10, () => log.push('third'));
      });
      dev.after(1000, () => log.push('first'));
      dev.after(1500, () => log.push('never'))[Symbol.dispose]();
      dev.after(1e9, () => log.push('late'));
      dev.onReset(() => log.push('reset'));
      dev.onUnplug(() => log.push('unplug'));
    });
    await call('advance', 999);
    expect(log).toEqual([]);
    await call('advance', 2000);
    await call('advance', 10);
    await call('reset');
    await call('remove');
    await call('advance', 2e9);
    expect(log).toEqual(['first', 'second', 'third', 'reset', 'unplug']);
  });

  it('fail by themselves: registers read ones, INTx goes down, the rest lives', async () => {
    const { dev, call, failures } = await start(
      d => {
        d.bar(0).on({
          read: offset => {
            if (offset === 8) throw new RangeError('boom');
            return 1;
          },
        });
      },
      { intx: true },
    );
    dev.intx.set(true);
    expect([await call('read', 0, 0, 4), await call('state')]).toMatchObject([1n, { level: true }]);
    expect(await call('read', 0, 8, 4)).toBe(ONES);
    expect(failures).toEqual([
      {
        name: 'probe0',
        message: 'device probe0 failed in a read of BAR 0: RangeError: boom',
        stack: expect.stringContaining('inline-device.test.ts'),
      },
    ]);
    dev.intx.set(true);
    expect([await call('read', 0, 0, 4), await call('read', 0, 0, 8)]).toEqual([ONES, 2n ** 64n - 1n]);
    expect([await call('state'), await call('config', 0, 4)]).toMatchObject([{ level: false }, 0x0001_1234]);
  });

  it.each<[string, PciDeviceSetup]>([
    ["'read' of BAR 0", dev => dev.bar(0).on({ read: (async () => 1) as never })],
    ['a write of BAR 0', dev => dev.bar(0).on({ write: () => Promise.reject(new Error('late')) as never })],
    ['setup', (async () => {}) as never],
  ])('refuse asynchronous code: %s', async (what, setup) => {
    const { call, failures } = await start(setup);
    await call('write', 0, 0, 4, 1);
    expect(failures.map(f => f.message)).toEqual([
      expect.stringContaining(`VmError: probe0: ${what} must be synchronous`),
    ]);
    expect(await call('read', 0, 0, 4)).toBe(ONES);
  });

  it('do not keep their machine from being ended while it waits for them', async () => {
    const { worker, failures } = await start(dev => dev.bar(0).on({ read: () => 1 }));
    // The question is not answered while this thread is busy; the Worker sleeps on it.
    worker.postMessage({ name: 'read', args: [0, 0, 4] });
    const busy = Date.now() + 200;
    while (Date.now() < busy);
    const exited = once(worker, 'exit');
    void worker.terminate();
    await exited;
    expect(failures).toEqual([]);
  });

  it('take microseconds for an access', async () => {
    const { call } = await start(dev => dev.bar(0).on({ read: () => 1 }));
    await call('time', 2000);
    const ns = await call('time', 5000);
    console.log(`inline device: ${(ns / 1000).toFixed(1)} us for a read`);
    // Loose: the machine may be busy. What it must not be is a turn of some timer.
    expect(ns).toBeLessThan(1_000_000);
  });
});
