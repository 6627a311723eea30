import { describe, expect, it } from 'vitest';
import { kitRig, RAM_BASE } from '../../../test/support/kit-rig.ts';
import { definePciDevice, type PciDeviceSetup, type PciDeviceSpec } from './definition.ts';
import type { PciDevice } from './device.ts';

const ONES = 0xffff_ffffn;
const CAP_EXP = 0x10;
const STATUS = 6;
const RECEIVED_MASTER_ABORT = 1 << 13;

/** A device with one BAR of registers, and what its setup was given. */
function make(setup: PciDeviceSetup, spec: Partial<PciDeviceSpec> = {}, options: Record<string, unknown> = {}) {
  let dev: PciDevice | undefined;
  const definition = definePciDevice(
    { name: 'probe', vendor: 0x1234, device: 1, bars: [{ index: 0, kind: 'mem64', size: 4096 }], ...spec },
    d => {
      dev = d;
      setup(d);
    },
  );
  const rig = kitRig(definition, { options });
  return { ...rig, dev: dev! };
}

describe('registers of a device', () => {
  it('answers reads and writes with offset, value and size', () => {
    const seen: unknown[] = [];
    const { read, write } = make(dev => {
      dev.bar(0).on({
        read: (offset, size) => offset * 16 + size,
        write: (...access) => seen.push(access),
      });
    });
    expect([read(0, 0x10, 4), read(0, 0x11, 1), read(0, 0x12, 2)]).toEqual([0x104n, 0x11n, 0x122n]);
    write(0, 8, 4, 0xdead_beef);
    write(0, 9, 1, 7);
    expect(seen).toEqual([
      [8, 0xdead_beef, 4],
      [9, 7, 1],
    ]);
  });

  it('cuts values to the width of the access; what is undefined or has no handler reads as ones', () => {
    const { read, write } = make(
      dev => {
        const values = [-1, 0x1_2345_6789, 0x1ff, undefined];
        dev.bar(0).on({ read: offset => values[offset / 4] });
      },
      {
        bars: [
          { index: 0, kind: 'mem64', size: 4096 },
          { index: 2, kind: 'io', size: 16 },
        ],
      },
    );
    expect([read(0, 0, 4), read(0, 4, 4), read(0, 8, 1), read(0, 12, 4), read(0, 12, 2)]).toEqual([
      ONES,
      0x2345_6789n,
      0xffn,
      ONES,
      0xffffn,
    ]);
    write(0, 0, 4, 1);
    expect(read(2, 0, 2)).toBe(0xffffn);
  });

  it('splits 64-bit accesses, low half first, unless there are handlers for them', () => {
    const log: unknown[] = [];
    const { read, write } = make(dev => {
      dev.bar(0).on({ read: offset => offset, write: (offset, value) => log.push([offset, value]) });
    });
    expect(read(0, 0x20, 8)).toBe(0x24_0000_0020n);
    write(0, 0x20, 8, 0x1_0000_0002n);
    expect(log).toEqual([
      [0x20, 2],
      [0x24, 1],
    ]);
    let wide = 0n;
    const whole = make(dev => {
      dev.bar(0).on({
        read64: offset => (offset === 0 ? -2n : undefined),
        write64: (offset, value) => {
          wide = BigInt(offset) + value;
        },
      });
    });
    expect([whole.read(0, 0, 8), whole.read(0, 8, 8)]).toEqual([2n ** 64n - 2n, 2n ** 64n - 1n]);
    whole.write(0, 8, 8, 2n ** 63n);
    expect(wide).toBe(2n ** 63n + 8n);
  });

  it('shares the bytes of a memory BAR, which has no handlers', () => {
    const { read, write, dev } = make(() => {}, { bars: [{ index: 0, kind: 'mem32', size: 4096, memory: true }] });
    dev.bar(0).memory.set([1, 2, 3, 4]);
    expect([read(0, 0, 4), read(0, 1, 2)]).toEqual([0x0403_0201n, 0x0302n]);
    write(0, 4092, 4, 0x8765_4321);
    expect(dev.bar(0).memory[4095]).toBe(0x87);
    expect(() => dev.bar(0).on({})).toThrow('is memory');
    expect(() => make(() => {}).dev.bar(0).memory).toThrow('is no memory');
  });

  it('shows its ROM, padded with ones and read-only', () => {
    const { read, write, function: f } = make(() => {}, { rom: Uint8Array.of(0x55, 0xaa) });
    f.configWrite(0x30, 4, f.config.view.getUint32(0x30, true) | 1);
    write('rom', 0, 1, 0);
    expect([read('rom', 0, 2), read('rom', 2, 2)]).toEqual([0xaa55n, 0xffffn]);
  });

  it('gives options and the configuration space', () => {
    const { dev, lines, function: f } = make(d => d.log(`hello ${d.options.who}`), {}, { who: 'you' });
    expect(lines).toEqual(['probe: hello you']);
    expect([dev.config.read(0, 4), dev.config.read(2, 2), dev.config.read(3, 4)]).toEqual([
      0x0001_1234, 1, 0xffff_ffff,
    ]);
    expect(dev.config.read(4, 2)).toBe(f.command);
  });
});

describe('interrupts', () => {
  it('sends MSI with the data that the guest chose, and nothing before it has', () => {
    const { dev, messages, enableMsi } = make(() => {});
    dev.msi(0).trigger();
    expect(messages).toEqual([]);
    enableMsi(0x0802_0040, 77);
    dev.msi(0).trigger();
    expect(messages).toEqual([{ address: 0x0802_0040, data: 77, deviceId: 8 }]);
  });

  it('sends MSI-X by its table in the BAR that was added', () => {
    const { dev, messages, function: f, capability, write, read } = make(() => {}, { msix: 5 });
    expect(f.msi).toBeUndefined();
    expect(read(5, 12, 4)).toBe(1n);
    f.configWrite(capability(0x11) + 2, 2, 0x8000);
    write(5, 4 * 16, 4, 0x0802_0040);
    write(5, 4 * 16 + 8, 4, 99);
    dev.msi(4).trigger();
    expect(messages).toEqual([]);
    write(5, 4 * 16 + 12, 4, 0);
    expect(messages).toEqual([{ address: 0x0802_0040, data: 99, deviceId: 8 }]);
    expect(() => dev.msi(5)).toThrow('no interrupt vector 5');
  });

  it('drives the INTx wire, if it has one', () => {
    const { dev, wire, enableMsi } = make(() => {}, { intx: true });
    dev.intx.set(true);
    expect(wire.level).toBe(true);
    enableMsi();
    expect(wire.level).toBe(false);
    expect(() => make(() => {}).dev.intx.set(true)).toThrow('no INTx wire');
  });
});

describe('DMA', () => {
  it('copies from and to RAM, by number and by bigint', () => {
    const { dev, memory } = make(() => {});
    expect(dev.dma.write(RAM_BASE + 16, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    expect(memory.u32(RAM_BASE + 16)).toBe(0x0403_0201);
    const copy = dev.dma.read(BigInt(RAM_BASE) + 17n, 2)!;
    memory.setU8(RAM_BASE + 17, 9);
    expect([...copy]).toEqual([2, 3]);
    dev.dma.view(RAM_BASE + 17, 1, 'w')![0] = 8;
    expect(memory.u8(RAM_BASE + 17)).toBe(8);
    expect(copy.buffer).toBeInstanceOf(ArrayBuffer);
  });

  it('is refused with a master abort outside of RAM, and for addresses that are none', () => {
    const { dev, function: f } = make(() => {});
    const aborted = () => (f.configRead(STATUS, 2) & RECEIVED_MASTER_ABORT) !== 0;
    expect(dev.dma.read(0, 4)).toBeUndefined();
    expect(aborted()).toBe(true);
    f.configWrite(STATUS, 2, RECEIVED_MASTER_ABORT);
    for (const address of [-1, 0.5, Number.NaN, 2n ** 64n - 1n, -1n]) expect(dev.dma.read(address, 4)).toBeUndefined();
    for (const length of [-1, 1.5, Number.POSITIVE_INFINITY]) expect(dev.dma.read(RAM_BASE, length)).toBeUndefined();
    expect(aborted()).toBe(false);
    expect(dev.dma.write(RAM_BASE + 0xffff, Uint8Array.of(1, 2))).toBe(false);
    expect(aborted()).toBe(true);
  });

  it('CMD-2 is refused without bus mastering, and that is no master abort', () => {
    const { dev, function: f } = make(() => {});
    f.configWrite(4, 2, 2);
    expect(dev.dma.read(RAM_BASE, 4)).toBeUndefined();
    expect(dev.dma.write(RAM_BASE, Uint8Array.of(1))).toBe(false);
    expect(f.configRead(STATUS, 2) & RECEIVED_MASTER_ABORT).toBe(0);
  });
});

describe('time and life', () => {
  it('calls timers once, in order, and not when they are disposed', () => {
    const log: string[] = [];
    const { advance } = make(dev => {
      dev.after(2000, () => log.push('second'));
      dev.after(1000, () => log.push('first'));
      dev.after(1500, () => log.push('never'))[Symbol.dispose]();
    });
    advance(999);
    expect(log).toEqual([]);
    advance(5000);
    advance(5000);
    expect(log).toEqual(['first', 'second']);
  });

  it('tells of resets, FLR included, and comes back with its BARs dead', () => {
    let resets = 0;
    const {
      host,
      function: f,
      capability,
      read,
      place,
    } = make(dev => {
      dev.bar(0).on({ read: () => 5 });
      dev.onReset(() => resets++);
    });
    host.reset();
    expect([resets, read(0, 0, 4)]).toEqual([1, ONES]);
    place();
    expect(read(0, 0, 4)).toBe(5n);
    f.configWrite(capability(CAP_EXP) + 8, 2, 1 << 15);
    expect([resets, f.command, read(0, 0, 4)]).toEqual([2, 0, ONES]);
  });

  it('tells of an unplug, which ends its timers', () => {
    const log: string[] = [];
    const {
      host,
      function: f,
      advance,
    } = make(dev => {
      dev.after(1000, () => log.push('timer'));
      dev.onUnplug(() => log.push(dev.dma.write(RAM_BASE, Uint8Array.of(1)) ? 'may' : 'unplugged'));
    });
    host.remove(f);
    advance(5000);
    expect(log).toEqual(['unplugged']);
  });
});

describe('a device that fails', () => {
  const boom = () => {
    throw new RangeError('boom\nmore');
  };
  const cases: [string, PciDeviceSetup][] = [
    ['setup', boom],
    ['a read of BAR 0', dev => dev.bar(0).on({ read: boom })],
    ['a write of BAR 0', dev => dev.bar(0).on({ write: boom, read: () => 1 })],
    ['a timer', dev => void dev.after(10, boom)],
    ['a reset', dev => dev.onReset(boom)],
  ];
  it.each(cases)(
    'in %s: reads ones, drops writes, neither interrupts nor reaches RAM; the rest lives',
    (what, setup) => {
      const rig = make(
        dev => {
          if (what !== 'setup') dev.intx.set(true);
          setup(dev);
        },
        { intx: true },
      );
      rig.read(0, 0, 4);
      rig.write(0, 0, 4, 1);
      rig.advance(100);
      rig.host.reset();
      rig.place();
      expect(rig.failures).toEqual([
        {
          name: 'probe',
          message: `device probe failed in ${what}: RangeError: boom`,
          stack: expect.stringContaining('create.test.ts'),
        },
      ]);
      expect([rig.read(0, 0, 4), rig.read(0, 0, 8), rig.wire.level]).toEqual([ONES, 2n ** 64n - 1n, false]);
      rig.enableMsi();
      rig.dev.msi(0).trigger();
      rig.dev.intx.set(true);
      expect([rig.messages, rig.dev.dma.read(RAM_BASE, 4), rig.wire.level]).toEqual([[], undefined, false]);
      expect(rig.function.configRead(0, 4)).toBe(0x0001_1234);
      expect(rig.failures.length).toBe(1);
    },
  );

  it('by a promise that rejects', async () => {
    const { write, failures, read } = make(dev =>
      dev.bar(0).on({
        write: async () => {
          await Promise.resolve();
          boom();
        },
        read: () => 1,
      }),
    );
    write(0, 0, 4, 1);
    expect([read(0, 0, 4), failures]).toEqual([1n, []]);
    await new Promise(resolve => setImmediate(resolve));
    expect(failures[0]?.message).toBe('device probe failed in a write of BAR 0: RangeError: boom');
    expect(read(0, 0, 4)).toBe(ONES);
  });

  it('by a read that gives no number', () => {
    for (const value of ['5', null, Promise.reject(new Error('late'))]) {
      const { read, failures } = make(dev => dev.bar(0).on({ read: () => value as unknown as number }));
      expect(read(0, 0, 4)).toBe(ONES);
      expect(failures[0]?.message).toMatch(/^device probe failed in a read of BAR 0: TypeError: a read handler/);
    }
  });
});

describe('capabilities', () => {
  it('are power management, MSI, PCI Express and those that were added', () => {
    const serial = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const { function: f, capability } = make(() => {}, {
      extraCapabilities: [
        { id: 9, bytes: Uint8Array.of(4, 0x0f), writable: Uint8Array.of(0, 0xf0) },
        { id: 3, extendedVersion: 1, bytes: serial },
      ],
    });
    expect([capability(1), capability(5), capability(0x10)].every(at => at >= 0x40)).toBe(true);
    const at = capability(9);
    f.configWrite(at + 2, 2, 0xffff);
    expect(f.configRead(at + 2, 2)).toBe(0xff04);
    expect([f.configRead(0x100, 4), f.configRead(0x104, 4)]).toEqual([0x0001_0003, 0x0403_0201]);
  });
});
