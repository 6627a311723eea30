import { describe, expect, it } from 'vitest';
import { createAddressBus } from '../../bus/address-bus.ts';
import { ConfigMechanism1 } from '../../pci/mechanism1.ts';
import { PcReset } from './device.ts';

function connect() {
  const resets: number[] = [];
  const device = new PcReset({ reset: () => resets.push(device.read()) });
  return { device, resets };
}

describe('PcReset', () => {
  it('resets when RST_CPU is written, and keeps the two other bits', () => {
    const { device, resets } = connect();
    const write = (value: number) => {
      device.write(0, 1, value);
      return device.read();
    };
    expect([write(0x02), write(0xfb), write(0x08), resets]).toEqual([0x02, 0x0a, 0x08, []]);
    // What Linux does, what ACPI says, and a full reset.
    expect([write(0x02), write(0x06), resets]).toEqual([0x02, 0x02, [2]]);
    expect([write(0x0e), write(0xff), resets]).toEqual([0x0a, 0x0a, [2, 0x0a, 0x0a]]);
    const other = connect();
    other.device.restore(structuredClone(device.save()));
    expect(other.device.read()).toBe(0x0a);
    device.reset();
    expect(device.read()).toBe(0);
  });

  it('shares 0xcf9 with CONFIG_ADDRESS on one bus: a byte is the reset register, a dword the address', () => {
    const { device, resets } = connect();
    const seen: string[] = [];
    const host = {
      configRead: (rid: number, offset: number, size: number) => {
        seen.push(`read ${rid} ${offset} ${size}`);
        return 0x1234_5678;
      },
      configWrite: (rid: number, offset: number, size: number, value: number) => {
        seen.push(`write ${rid} ${offset} ${size} ${value}`);
      },
    };
    const mechanism = new ConfigMechanism1(host, { portCf9: device });
    const bus = createAddressBus();
    bus.map(0xcf8, 8, mechanism);

    bus.write(0xcf8, 4, 0x8000_0610); // the byte at 0xcf9 of this dword would be a reset
    expect([bus.read(0xcf8, 4), bus.read(0xcf9, 1), resets]).toEqual([0x8000_0610, 0, []]);
    bus.write(0xcf9, 1, 0x02);
    expect([bus.read(0xcf8, 4), bus.read(0xcf9, 1), resets]).toEqual([0x8000_0610, 0x02, []]);
    bus.write(0xcf9, 1, 0x06);
    expect([bus.read(0xcf8, 4), resets]).toEqual([0x8000_0610, [2]]);
    // Other widths reach neither.
    bus.write(0xcf8, 2, 0x0606);
    bus.write(0xcf8, 1, 0x06);
    bus.write(0xcf9, 2, 0x0606);
    bus.write(0xcf9, 4, 0x0606);
    expect([bus.read(0xcf8, 2), bus.read(0xcf8, 1), bus.read(0xcf9, 2), resets]).toEqual([0xffff, 0xff, 0xffff, [2]]);
    // CONFIG_DATA is as it was.
    expect([bus.read(0xcfe, 2), seen]).toEqual([0x5678, ['read 6 18 2']]);
    const address = mechanism.save();
    mechanism.reset();
    expect([bus.read(0xcf8, 4), bus.read(0xcfc, 4)]).toEqual([0, 0xffff_ffff]);
    mechanism.restore(address);
    bus.write(0xcfc, 1, 9);
    expect(seen[1]).toBe('write 6 16 1 9');
  });
});
