import { describe, expect, it } from 'vitest';
import { definePciDevice, isPciDeviceDefinition, msixBar, type PciDeviceSpec, romSize } from './definition.ts';

const good: PciDeviceSpec = { vendor: 0x1234, device: 1 };
const setup = () => {};

/** `code: field` of the error that a spec gives. */
function errorOf(spec: object): string {
  try {
    definePciDevice(spec as PciDeviceSpec, setup);
    return 'none';
  } catch (e) {
    const { code, details, hint, message } = e as {
      code: string;
      details: Record<string, unknown>;
      hint: string;
      message: string;
    };
    expect(hint).toBeTruthy();
    if (details.field !== undefined) expect(message).toContain(String(details.field));
    return `${code}: ${String(details.field ?? `BAR ${details.bar}`)}`;
  }
}

describe('definePciDevice', () => {
  it('gives a frozen definition that is told from other objects', () => {
    const bars = [{ index: 0, kind: 'mem64', size: 4096 } as const];
    const d = definePciDevice({ ...good, bars }, setup);
    expect(d).toMatchObject({ spec: { vendor: 0x1234, device: 1, bars }, setup });
    expect([Object.isFrozen(d), Object.isFrozen(d.spec), Object.isFrozen(d.spec.bars![0])]).toEqual([true, true, true]);
    expect([d, { ...good }, { spec: good, setup }, null, 'd', setup].map(isPciDeviceDefinition)).toEqual([
      true,
      false,
      false,
      false,
      false,
      false,
    ]);
  });

  it.each([
    [{ device: 1 }, 'ERR_DEVICE: vendor'],
    [{ vendor: 0x1234 }, 'ERR_DEVICE: device'],
    [{ ...good, vendor: 0xffff }, 'ERR_DEVICE: vendor'],
    [{ ...good, vendor: 0x1_0000 }, 'ERR_DEVICE: vendor'],
    [{ ...good, device: '1' }, 'ERR_DEVICE: device'],
    [{ ...good, class: 0x100_0000 }, 'ERR_DEVICE: class'],
    [{ ...good, revision: 1.5 }, 'ERR_DEVICE: revision'],
    [{ ...good, name: '' }, 'ERR_DEVICE: name'],
    [{ ...good, name: 'a\nb' }, 'ERR_DEVICE: name'],
    [{ ...good, vendorId: 1 }, 'ERR_DEVICE: vendorId'],
    [{ ...good, msi: 3 }, 'ERR_DEVICE: msi'],
    [{ ...good, msix: 2049 }, 'ERR_DEVICE: msix'],
    [{ ...good, intx: 1 }, 'ERR_DEVICE: intx'],
    [{ ...good, rom: [] }, 'ERR_DEVICE: rom'],
    [{ ...good, rom: new Uint8Array(0) }, 'ERR_DEVICE: rom'],
    [{ ...good, bars: { index: 0 } }, 'ERR_DEVICE: bars'],
    [{ ...good, bars: [{ index: 6, kind: 'io', size: 4 }] }, 'ERR_DEVICE: bars: index'],
    [{ ...good, bars: [{ index: 0, kind: 'mem', size: 4096 }] }, 'ERR_DEVICE: bars: kind of BAR 0'],
    [{ ...good, bars: [{ index: 0, kind: 'io', size: 16, memory: true }] }, 'ERR_DEVICE: bars: memory of BAR 0'],
    [{ ...good, bars: [{ index: 0, kind: 'io', size: 16, length: 3 }] }, 'ERR_DEVICE: bars: length'],
    [{ ...good, bars: [{ index: 2, kind: 'mem32', size: 5000 }] }, 'ERR_BAR: BAR 2'],
    [{ ...good, bars: [{ index: 3, kind: 'mem32', size: 16 }] }, 'ERR_BAR: BAR 3'],
    [{ ...good, bars: [{ index: 5, kind: 'mem64', size: 4096 }] }, 'ERR_BAR: BAR 5'],
    [{ ...good, extraCapabilities: [{ id: 256, bytes: new Uint8Array(2) }] }, 'ERR_DEVICE: extraCapabilities: id 256'],
    [{ ...good, extraCapabilities: [{ id: 9, bytes: [1] }] }, 'ERR_DEVICE: extraCapabilities: id 9'],
    [{ ...good, extraCapabilities: [{ id: 9, bytes: new Uint8Array(120) }] }, 'ERR_DEVICE: extraCapabilities'],
    [
      { ...good, extraCapabilities: [{ id: 9, bytes: new Uint8Array(2), writable: new Uint8Array(1) }] },
      'ERR_DEVICE: extraCapabilities: id 9',
    ],
    [
      { ...good, extraCapabilities: [{ id: 3, extendedVersion: 0, bytes: new Uint8Array(8) }] },
      'ERR_DEVICE: extraCapabilities: id 3',
    ],
  ])('refuses %o', (spec, error) => {
    expect(errorOf(spec)).toBe(error);
  });

  it('refuses MSI-X without a register for its table, and what is no setup', () => {
    const bars = [0, 2, 4].map(index => ({ index, kind: 'mem64', size: 4096 }));
    expect(errorOf({ ...good, bars })).toBe('none');
    expect(errorOf({ ...good, bars, msix: 4 })).toBe('ERR_DEVICE: msix');
    expect(() => definePciDevice(good, undefined as never)).toThrow('setup: is no function');
  });

  it('takes what just fits into configuration space', () => {
    const bytes = new Uint8Array(0x100 - 0x40 - 8 - 60 - 24 - 2);
    expect(errorOf({ ...good, extraCapabilities: [{ id: 9, bytes }] })).toBe('none');
  });
});

describe('layout', () => {
  it('puts the MSI-X table into the highest free register', () => {
    expect(msixBar([])).toBe(5);
    expect(msixBar([{ index: 4, kind: 'mem64', size: 4096 }])).toBe(3);
    expect(msixBar([{ index: 5, kind: 'io', size: 4 }])).toBe(4);
  });

  it('rounds ROMs up to what a BAR can decode', () => {
    expect([1, 2048, 2049, 70_000].map(n => romSize(new Uint8Array(n)))).toEqual([2048, 2048, 4096, 131_072]);
  });
});
