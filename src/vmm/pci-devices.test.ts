import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { definePciDevice } from '../machine/device-kit.ts';
import { resolvePciDevice } from './pci-devices.ts';

const definition = definePciDevice({ name: 'my device', vendor: 0x1234, device: 1 }, () => {});

describe('resolvePciDevice', () => {
  it('tells built-in devices from paths, which it resolves', () => {
    expect(resolvePciDevice('edu', 0)).toEqual({ kind: 'module', name: 'edu0', module: 'edu', options: {} });
    expect(resolvePciDevice('./a/my.device.ts', 1)).toEqual({
      kind: 'module',
      name: 'my-device1',
      module: resolve('a/my.device.ts'),
      options: {},
    });
    expect(resolvePciDevice('file:///a/b.mjs', 2)).toMatchObject({ name: 'b2', module: 'file:///a/b.mjs' });
  });

  it('takes options from text and from objects', () => {
    expect(resolvePciDevice('edu,dma_mask=0xffff,x=a=b', 0)).toMatchObject({
      options: { dma_mask: '0xffff', x: 'a=b' },
    });
    expect(resolvePciDevice({ device: 'edu', options: { dma_mask: 5 } }, 0)).toMatchObject({
      options: { dma_mask: 5 },
    });
  });

  it('keeps definitions', () => {
    const config = { kind: 'definition', name: 'my-device3', definition, options: {} };
    expect(resolvePciDevice(definition, 3)).toEqual(config);
    expect(resolvePciDevice({ device: definition, options: { a: 1 } }, 3)).toEqual({ ...config, options: { a: 1 } });
  });

  it.each([
    [''],
    ['edu,x'],
    [{}],
    [{ device: '' }],
    [{ device: { spec: {}, setup: () => {} } }],
    [{ device: 'edu', options: 'x' }],
  ])('refuses %o', option => {
    expect(() => resolvePciDevice(option as never, 0)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });
});
