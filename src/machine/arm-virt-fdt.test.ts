import { describe, expect, it } from 'vitest';
import type { FdtNode } from '../firmware/fdt/node.ts';
import { decodeFdt } from '../firmware/fdt/reader.ts';
import { ARM_VIRT, ARM_VIRT_SPI } from './address-map.ts';
import { armVirtTree, type PciPin } from './arm-virt-fdt.ts';

const GIB = 2 ** 30;

function tree(pins: readonly PciPin[] = [], options: { gic?: 2 | 3; lastBus?: number } = {}) {
  const { gic = 3, lastBus = 255 } = options;
  const blob = armVirtTree({ cpus: 1, ramBytes: GIB, gic, params: '', pci: { pins, lastBus } });
  return decodeFdt(blob).root;
}

const child = (node: FdtNode, name: string) => node.children.find(c => c.name.startsWith(name))!;
const pcie = (root: FdtNode) => child(root, 'pcie@');

function cells(node: FdtNode, name: string): number[] {
  const bytes = node.properties.get(name) as Uint8Array;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i));
}

const text = (node: FdtNode, name: string) =>
  new TextDecoder().decode(node.properties.get(name) as Uint8Array).replace(/\0$/, '');
const wide = (high: number, low: number) => high * 2 ** 32 + low;

describe('the PCI host in the device tree', () => {
  const root = tree([{ device: 3, pin: 1, spi: ARM_VIRT_SPI.pciIntx + 3 }]);
  const node = pcie(root);

  it('DT-1: nothing keeps the guest from assigning addresses', () => {
    expect([...child(root, 'chosen').properties.keys()]).not.toContain('linux,pci-probe-only');
  });

  it('DT-2: a generic ECAM host with the cells of the PCI binding', () => {
    expect(text(node, 'compatible')).toBe('pci-host-ecam-generic');
    expect(text(node, 'device_type')).toBe('pci');
    expect(['#address-cells', '#size-cells', '#interrupt-cells'].map(n => cells(node, n)[0])).toEqual([3, 2, 1]);
    expect(node.properties.has('dma-coherent')).toBe(true);
  });

  it('DT-3: reg is one pair with 1 MiB for each bus, and there is one such node', () => {
    const [b1, b0, s1, s0, ...more] = cells(node, 'reg');
    expect(wide(b1!, b0!)).toBe(ARM_VIRT.pciEcam.base);
    expect(more).toEqual([]);
    const [first, last] = cells(node, 'bus-range');
    expect(wide(s1!, s0!)).toBeGreaterThanOrEqual((last! - first! + 1) * 2 ** 20);
    expect(root.children.filter(c => c.name.startsWith('pcie'))).toHaveLength(1);
  });

  it('ECAM-3: a CAM host where it is asked for, with a window of 64 KiB for each bus', () => {
    const blob = armVirtTree({
      cpus: 1,
      ramBytes: GIB,
      gic: 3,
      params: '',
      pci: { pins: [], lastBus: 255, access: 'cam' },
    });
    const cam = pcie(decodeFdt(blob).root);
    expect(text(cam, 'compatible')).toBe('pci-host-cam-generic');
    expect(cells(cam, 'reg').slice(2)).toEqual([0, 256 * 0x1_0000]);
  });

  it('DT-4: one bus where there is no bridge, all of them where there is one', () => {
    expect(cells(node, 'bus-range')).toEqual([0, 255]);
    expect(cells(pcie(tree([], { lastBus: 0 })), 'bus-range')).toEqual([0, 0]);
  });

  it('DT-5: I/O, 32-bit and 64-bit memory; memory has the same address on the bus as for the CPU', () => {
    const ranges = cells(node, 'ranges');
    expect(ranges).toHaveLength(21);
    const decoded = [0, 7, 14].map(i => ({
      space: (ranges[i]! >>> 24) & 3,
      bus: wide(ranges[i + 1]!, ranges[i + 2]!),
      cpu: wide(ranges[i + 3]!, ranges[i + 4]!),
      size: wide(ranges[i + 5]!, ranges[i + 6]!),
    }));
    expect(decoded.map(r => r.space)).toEqual([1, 2, 3]);
    for (const r of decoded.slice(1)) expect(r.bus).toBe(r.cpu);
    const mem32 = decoded[1]!;
    expect(mem32.cpu + mem32.size).toBeLessThanOrEqual(2 ** 32);
    // Nothing of it is RAM or another device.
    for (const r of decoded) {
      for (const [name, other] of Object.entries(ARM_VIRT)) {
        if (name.startsWith('pci')) continue;
        expect(r.cpu >= other.base + other.size || r.cpu + r.size <= other.base, `${name} and space ${r.space}`).toBe(
          true,
        );
      }
    }
  });

  it('DT-6, INTX-1: an entry for each pin: device, pin, GIC, SPI, level high', () => {
    const gic = cells(child(root, 'intc@'), 'phandle')[0];
    expect(cells(node, 'interrupt-map')).toEqual([3 << 11, 0, 0, 1, gic, 0, 0, 0, ARM_VIRT_SPI.pciIntx + 3, 4]);
    expect(cells(node, 'interrupt-map-mask')).toEqual([0xf800, 0, 0, 7]);
  });

  it('INTX-2: devices without a pin have no entry', () => {
    expect(pcie(tree()).properties.has('interrupt-map')).toBe(false);
  });

  it('DT-7: requester ids are the device ids of the ITS; a GICv2m frame is the MSI parent', () => {
    const its = child(child(root, 'intc@'), 'its@');
    expect(cells(node, 'msi-map')).toEqual([0, cells(its, 'phandle')[0], 0, 0x1_0000]);
    const v2 = tree([], { gic: 2 });
    const v2m = child(child(v2, 'intc@'), 'v2m@');
    expect(cells(pcie(v2), 'msi-parent')).toEqual(cells(v2m, 'phandle'));
  });
});

describe('the I/O window', () => {
  it('IOW-1: holds ports of PCI alone', () => {
    const { pciIo, ...others } = ARM_VIRT;
    for (const o of Object.values(others)) {
      expect(o.base >= pciIo.base + pciIo.size || o.base + o.size <= pciIo.base).toBe(true);
    }
  });

  it('IOW-2: the first 4 KiB of ports, which Linux leaves alone, are not needed: there is room behind them', () => {
    expect(ARM_VIRT.pciIo.size).toBeGreaterThan(0x1000);
  });

  it('IOW-3: is aligned to 64 KiB at the CPU, for guests with pages of that size', () => {
    expect(ARM_VIRT.pciIo.base % 0x1_0000).toBe(0);
    expect(ARM_VIRT.pciIo.size % 0x1_0000).toBe(0);
  });
});

describe('flash in the device tree', () => {
  const flash = (banks?: readonly { base: number; size: number }[]) => {
    const { root } = decodeFdt(
      armVirtTree({ cpus: 1, ramBytes: GIB, gic: 3, params: '', pci: { pins: [], lastBus: 0 }, flash: banks }),
    );
    return root.children.filter(c => c.name.startsWith('flash'));
  };

  it('is one node with a pair for each bank, two chips of 16 bits wide', () => {
    const [node, ...more] = flash([ARM_VIRT.flash0, ARM_VIRT.flash1]);
    expect([node!.name, text(node!, 'compatible'), cells(node!, 'bank-width')]).toEqual(['flash@0', 'cfi-flash', [4]]);
    expect(cells(node!, 'reg')).toEqual([0, 0, 0, 0x400_0000, 0, 0x400_0000, 0, 0x400_0000]);
    expect(more).toEqual([]);
  });

  it('is not there without a bank, and is named after the one that there is', () => {
    expect([flash(), flash([])]).toEqual([[], []]);
    const [node] = flash([ARM_VIRT.flash1]);
    expect([node!.name, cells(node!, 'reg')]).toEqual(['flash@4000000', [0, 0x400_0000, 0, 0x400_0000]]);
  });
});
