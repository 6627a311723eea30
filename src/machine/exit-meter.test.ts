import { expect, test } from 'vitest';
import { createAddressBus } from '../bus/address-bus.ts';
import type { BusDevice } from '../bus/types.ts';
import type { ExitSink } from '../engines/engine.ts';
import { ExitMeter, latencyBound, latencyPercentile, type MeteredBuses } from './exit-meter.ts';

const device = (name: string): BusDevice => ({ name, read: offset => offset, write: () => undefined });

/** A meter before a machine with a UART, a BAR and a window to a bus of ports. */
function rig() {
  const bus = createAddressBus();
  const inside = createAddressBus();
  const calls: string[] = [];
  bus.map(0x1000, 0x1000, device('uart'));
  bus.map(0x8000, 0x1000, device('disk0'));
  bus.map(0xf000, 0x100, { ...device('window'), inside });
  inside.map(0x70, 2, device('rtc'));
  const buses: MeteredBuses = {
    bus,
    pci: { barAt: (_, a) => (a >= 0x8000 && a < 0x9000 ? { name: 'disk0', bar: 4, base: 0x7000 } : undefined) },
  };
  const sink: ExitSink = {
    mmioRead: (_, address, size) => {
      calls.push('read');
      return size === 8 ? bus.read64(address) : bus.read(address, 4);
    },
    mmioWrite: () => calls.push('write'),
    portIn: () => 0x5a,
    portOut: () => calls.push('out'),
    hypercall: () => calls.push('hypercall'),
    system: () => calls.push('system'),
    failed: () => calls.push('failed'),
  };
  const meter = new ExitMeter();
  return { meter, sink: meter.wrap(sink, () => buses), calls };
}

test('nothing is counted until it is switched on, and everything passes', () => {
  const { meter, sink, calls } = rig();
  expect(sink.mmioRead(0, 0x1018, 4)).toBe(0x18);
  sink.mmioWrite(0, 0x1000, 4, 1);
  sink.portOut(0, 0x70, 1, 0);
  sink.system('reset', 0);
  sink.failed(0, '');
  expect(calls).toEqual(['read', 'write', 'out', 'system', 'failed']);
  expect(meter.report()).toEqual([]);
  expect(meter.totalNs).toBe(0);
});

test('accesses are counted by device and register', () => {
  const { meter, sink, calls } = rig();
  meter.start();
  expect(sink.mmioRead(0, 0x1018, 4)).toBe(0x18);
  expect(sink.mmioRead(0, 0x1018, 8)).toBe(0x1c_0000_0018n);
  sink.mmioWrite(0, 0x1018, 4, 1);
  sink.mmioRead(0, 0x8004, 4);
  sink.mmioWrite(0, 0xf071, 1, 0);
  sink.mmioRead(0, 0xdead_0000, 4);
  expect(sink.portIn(0, 0x3f8, 1)).toBe(0x5a);
  sink.hypercall({ abi: 'smccc', cpu: 0, id: 0x8400_0000, arg: () => 0n, result: () => undefined });
  expect(calls).toHaveLength(7);
  const short = meter.report().map(a => [a.space, a.device, a.offset, a.reads, a.writes]);
  expect(short).toEqual([
    ['memory', 'uart', 0x18, 2, 1],
    ['memory', 'disk0 BAR 4', 0x1004, 1, 0],
    ['port', 'rtc', 1, 0, 1],
    ['memory', 'no device', 0xdead_0000, 1, 0],
    ['port', 'no device', 0x3f8, 1, 0],
    ['hypercall', 'hypercalls', 0x8400_0000, 0, 1],
  ]);
  for (const a of meter.report()) expect(a.latency.reduce((sum, n) => sum + n, 0)).toBe(a.reads + a.writes);
});

test('registers of a device beyond the 256th are counted together', () => {
  const { meter, sink } = rig();
  meter.start();
  for (let n = 0; n < 300; n++) sink.mmioRead(0, 0x1000 + 4 * n, 4);
  const report = meter.report();
  expect(report).toHaveLength(257);
  expect(report.at(-1)).toMatchObject({ device: 'uart', offset: undefined, reads: 44 });
});

test('a percentile is the bound of the element that it is in', () => {
  expect(latencyBound(0)).toBe(32);
  expect(latencyBound(8)).toBe(128);
  expect(latencyPercentile([], 0.99)).toBeUndefined();
  expect(latencyPercentile([0, 0, 0, 0, 99, 0, 0, 0, 1], 0.99)).toBe(64);
  expect(latencyPercentile([0, 0, 0, 0, 98, 0, 0, 0, 2], 0.99)).toBe(128);
});
