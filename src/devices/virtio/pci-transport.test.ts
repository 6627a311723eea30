import { describe, expect, it } from 'vitest';
import {
  ACKNOWLEDGE,
  COMMAND_MASTER,
  DOORBELL,
  DRIVER_OK,
  DRIVER_STATUS,
  EchoDevice,
  EVENT_IDX,
  FEATURE,
  INDIRECT_DESC,
  NEEDS_RESET,
  NOTIFICATION_DATA,
  READY,
  RING_PACKED,
  RING_RESET,
  VERSION_1,
  VirtioMachine,
} from '../../../test/support/virtio-pci.ts';
import {
  BUFFERS,
  DESC,
  DEVICE,
  DRIVER,
  NEXT,
  readable,
  SplitDriver,
  writable,
} from '../../../test/support/virtqueue.ts';
import { PmCapability } from '../../pci/caps/pm.ts';
import { VmError } from '../../util/errors.ts';
import type { VirtioDevice } from './device.ts';
import { createVirtioPci } from './pci-transport.ts';

describe('a virtio function', () => {
  it.each([
    [1, 0x1041, 0x02_0000],
    [2, 0x1042, 0x01_8000],
    [3, 0x1043, 0x07_8000],
    [4, 0x1044, 0x00_ff00],
    [5, 0x1045, 0x00_ff00],
    [19, 0x1053, 0x02_8000],
    [26, 0x105a, 0x01_8000],
  ])('of type %i has the ids and the class of the specification', (type, id, classCode) => {
    const { f } = new VirtioMachine(new EchoDevice(type));
    expect([f.configRead(0, 2), f.configRead(2, 2)]).toEqual([0x1af4, id]);
    expect(f.configRead(8, 4)).toBe(((classCode << 8) | 1) >>> 0);
    expect([f.configRead(0x2c, 2), f.configRead(0x2e, 2), f.configRead(0x3d, 1)]).toEqual([0x1af4, 0x1100, 1]);
  });

  it('says where its structures are', () => {
    const m = new VirtioMachine(new EchoDevice());
    const structure = (type: number) => {
      const at = m.capability(9, type)!;
      return [
        m.f.configRead(at + 2, 1),
        m.f.configRead(at + 4, 1),
        m.f.configRead(at + 8, 4),
        m.f.configRead(at + 12, 4),
      ];
    };
    expect(structure(1)).toEqual([16, 4, 0, 60]);
    expect(structure(2)).toEqual([20, 4, 0x3000, 8]);
    expect(m.f.configRead(m.capability(9, 2)! + 16, 4)).toBe(4);
    expect(structure(3)).toEqual([16, 4, 0x1000, 4]);
    expect(structure(4)).toEqual([16, 4, 0x2000, 10]);
    expect(structure(5)).toEqual([20, 0, 0, 0]);
    // One vector for each queue and one for the configuration, in a BAR of their own.
    expect(m.f.configRead(m.capability(0x11)! + 2, 2)).toBe(2);
    expect(m.f.configRead(m.capability(0x11)! + 4, 4)).toBe(1);
    expect(m.f.bars.map(b => [b.index, b.kind, b.size])).toEqual([
      [1, 'mem32', 4096],
      [4, 'mem64', 16384],
    ]);
  });

  it('shows a structure for a configuration of no bytes, and appends the capabilities of the machine', () => {
    const m = new VirtioMachine(new EchoDevice(4, [8], 0), { capabilities: [new PmCapability()] });
    expect(m.f.configRead(m.capability(9, 4)! + 12, 4)).toBe(4);
    expect(m.read(0x2000, 4)).toBe(0);
    expect(m.capability(1)).toBeDefined();
  });

  it('offers its features in two windows, and shows what was accepted', () => {
    const m = new VirtioMachine(new EchoDevice());
    const all = FEATURE | INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_PACKED | NOTIFICATION_DATA | RING_RESET;
    expect(m.offered).toBe(all);
    m.write(0, 4, 2);
    expect(m.read(4, 4)).toBe(0);
    m.accept(FEATURE | VERSION_1);
    m.write(8, 4, 0);
    expect(m.read(12, 4)).toBe(Number(FEATURE));
    m.write(8, 4, 1);
    expect(m.read(12, 4)).toBe(1);
    m.write(8, 4, 2);
    m.write(12, 4, 1);
    expect(m.read(12, 4)).toBe(0);
    expect(new VirtioMachine(new EchoDevice(), { packed: false }).offered).toBe(all & ~RING_PACKED);
  });

  it('takes FEATURES_OK for a subset with VERSION_1 only, and no features afterwards', () => {
    const m = new VirtioMachine(new EchoDevice());
    for (const bad of [0n, FEATURE, VERSION_1 | (1n << 6n), VERSION_1 | (1n << 63n)]) {
      m.status = ACKNOWLEDGE | DRIVER_STATUS;
      m.accept(bad);
      m.status = READY;
      expect(m.status).toBe(ACKNOWLEDGE | DRIVER_STATUS);
      m.status = READY | DRIVER_OK;
      expect([m.status, m.device.activations]).toEqual([ACKNOWLEDGE | DRIVER_STATUS, 0]);
    }
    m.accept(VERSION_1 | FEATURE);
    m.status = READY;
    m.accept(VERSION_1);
    m.write(8, 4, 0);
    expect(m.read(12, 4)).toBe(Number(FEATURE));
    m.status = READY | DRIVER_OK;
    expect(m.device.host!.features).toBe(VERSION_1 | FEATURE);
    expect([m.device.host!.has(5), m.device.host!.has(6)]).toEqual([true, false]);
  });

  it('never clears bits of the status but by a reset, and keeps NEEDS_RESET for itself', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.status = ACKNOWLEDGE | DRIVER_STATUS | NEEDS_RESET;
    m.status = ACKNOWLEDGE;
    expect(m.status).toBe(ACKNOWLEDGE | DRIVER_STATUS);
    m.status = 128;
    expect(m.status).toBe(ACKNOWLEDGE | DRIVER_STATUS | 128);
    m.status = 0;
    expect(m.status).toBe(0);
  });

  it.each([
    ['split', VERSION_1],
    ['split, event index', VERSION_1 | EVENT_IDX | INDIRECT_DESC],
    ['packed', VERSION_1 | RING_PACKED | INDIRECT_DESC],
    ['packed, event index', VERSION_1 | RING_PACKED | EVENT_IDX],
  ])('carries requests: %s', (_, features) => {
    const m = new VirtioMachine(new EchoDevice());
    m.enableMsix();
    const driver = m.start(features, { vector: 2 });
    for (let i = 0; i < 20; i++) {
      driver.wantInterrupt(1);
      const { token } = driver.offer(
        [readable(BUFFERS, 16), writable(BUFFERS + 16, 32)],
        (features & INDIRECT_DESC) !== 0n,
      )!;
      m.kick(0);
      expect(driver.collect()).toEqual([{ token, written: 32 }]);
      expect(m.messages).toHaveLength(i + 1);
    }
    expect(m.messages[0]).toEqual({ address: DOORBELL, data: 102 });
    expect([m.intx, m.lines]).toEqual([false, []]);
  });

  it('INTX-1: without MSI-X asserts its pin until ISR status is read', () => {
    const m = new VirtioMachine(new EchoDevice());
    const driver = m.start();
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect(m.intx).toBe(true);
    expect(m.f.configRead(6, 2) & 8).toBe(8);
    expect([m.read(0x1000, 1), m.intx, m.read(0x1000, 1)]).toEqual([1, false, 0]);
    m.device.host!.configChanged();
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect([m.intx, m.read(0x1000, 4), m.intx]).toEqual([true, 3, false]);
    expect(m.messages).toEqual([]);
  });

  it('MSI-3: enabling MSI-X takes the pin off the wire, disabling it brings the pin back', () => {
    const m = new VirtioMachine(new EchoDevice());
    const driver = m.start();
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect(m.intx).toBe(true);
    m.enableMsix();
    expect(m.intx).toBe(false);
    // A message does not touch the pin.
    m.write(16, 2, 0);
    m.device.host!.configChanged();
    expect([m.intx, m.messages.length]).toEqual([false, 1]);
    m.msixControl = 0;
    expect([m.intx, m.read(0x1000, 1), m.intx]).toEqual([true, 3, false]);
  });

  it('MSIX-4: what is raised while masked is pending, and sent once when it is unmasked', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.enableMsix();
    const driver = m.start(VERSION_1, { vector: 1 });
    m.msixControl = 0xc000;
    for (let i = 0; i < 3; i++) {
      driver.offer([writable(BUFFERS, 4)], false);
      m.kick(0);
    }
    expect(m.messages).toEqual([]);
    m.msixControl = 0x8000;
    expect(m.messages).toEqual([{ address: DOORBELL, data: 101 }]);
  });

  it('maps events to vectors that exist, and unmaps them at a reset', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.enableMsix();
    const vectors = () => {
      m.write(22, 2, 1);
      return [m.read(16, 2), m.read(26, 2)];
    };
    expect(vectors()).toEqual([0xffff, 0xffff]);
    m.write(16, 2, 2);
    m.write(26, 2, 2);
    expect(vectors()).toEqual([2, 2]);
    m.write(16, 2, 3);
    m.write(26, 2, 0x7ff);
    expect(vectors()).toEqual([0xffff, 0xffff]);
    m.write(16, 2, 1);
    m.status = 0;
    expect(vectors()).toEqual([0xffff, 0xffff]);
    const driver = m.start(VERSION_1);
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect([m.messages, m.intx, driver.collect().length]).toEqual([[], false, 1]);
  });

  it('CMD-2: does nothing while it may not master the bus, and goes on by itself afterwards', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.enableMsix();
    const driver = m.start(VERSION_1, { vector: 0 });
    m.device.keep = true;
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    const chain = m.device.kept.pop()!;
    m.device.keep = false;

    m.command = 3;
    const notified = m.device.notified.length;
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    m.device.host!.queues[0]!.push(chain, 4);
    m.device.host!.queues[0]!.notifyDriver();
    expect([m.device.notified.length, driver.collect(), m.messages]).toEqual([notified, [], []]);
    expect(m.status).toBe(READY | DRIVER_OK);

    m.command = 3 | COMMAND_MASTER;
    expect(driver.collect()).toHaveLength(2);
    expect(m.messages.length).toBeGreaterThan(0);
    expect(m.lines).toEqual([]);
  });

  it('PM-1: waits in D3hot, too', () => {
    const m = new VirtioMachine(new EchoDevice(), { capabilities: [new PmCapability()] });
    const driver = m.start();
    m.f.configWrite(m.capability(1)! + 4, 2, 3);
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect(driver.collect()).toEqual([]);
    m.f.configWrite(m.capability(1)! + 4, 2, 0);
    expect(driver.collect()).toHaveLength(1);
  });

  it('lets a queue be enabled before the function may master the bus', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.command = 3;
    const driver = m.start();
    driver.offer([writable(BUFFERS, 4)], false);
    expect([m.status, m.lines]).toEqual([READY | DRIVER_OK, []]);
    m.command = 7;
    expect(driver.collect()).toHaveLength(1);
  });

  it('is notified of a queue that is enabled, by 16 and by 32 bits, and serves it at DRIVER_OK', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.kick(0);
    m.start(VERSION_1 | NOTIFICATION_DATA, { queue: 1 });
    expect(m.device.notified).toEqual([1]);
    m.kick(1, 2);
    m.kick(1, 4);
    expect(m.device.notified).toEqual([1, 1, 1]);
    m.kick(0);
    m.write(0x3ffc, 4, 1);
    m.write(0x3006, 2, 1);
    expect(m.device.notified).toHaveLength(3);
    expect([m.device.host!.queues[0]!.size, m.device.host!.queues[1]!.size]).toEqual([0, 8]);
    expect(m.read(0x3004, 4)).toBe(0);
  });

  it('BAR-17: has a doorbell for each queue and width of a notification', () => {
    const m = new VirtioMachine(new EchoDevice());
    const { doorbells } = m.f.bars.find(b => b.index === 4)!;
    expect(doorbells!.map(d => [d.offset, d.size])).toEqual([
      [0x3000, 2],
      [0x3000, 4],
      [0x3004, 2],
      [0x3004, 4],
    ]);
    const driver = m.start();
    driver.offer([writable(BUFFERS, 4)], false);
    doorbells![0]!.ring();
    expect(driver.collect()).toHaveLength(1);
  });

  it('has the registers of the selected queue', () => {
    const m = new VirtioMachine(new EchoDevice());
    expect(m.read(18, 2)).toBe(2);
    m.write(22, 2, 1);
    expect([m.read(24, 2), m.read(28, 2), m.read(30, 2), m.read(56, 2)]).toEqual([16, 0, 1, 1]);
    // Sizes: a power of two up to the largest without RING_PACKED, and not once the queue is enabled.
    for (const [written, read] of [
      [4, 4],
      [0, 4],
      [6, 4],
      [32, 4],
      [16, 16],
    ]) {
      m.write(24, 2, written!);
      expect(m.read(24, 2)).toBe(read);
    }
    m.write(40, 4, 0x1234_5670);
    m.write(44, 4, 0xffff_ffff);
    expect([m.read(40, 4), m.read(44, 4)]).toEqual([0x1234_5670, 0xffff_ffff]);
    m.write(28, 2, 0);
    expect(m.read(28, 2)).toBe(0);
    m.write(28, 2, 1);
    m.write(24, 2, 8);
    m.write(40, 4, 0);
    expect([m.read(24, 2), m.read(28, 2), m.read(40, 4)]).toEqual([16, 1, 0x1234_5670]);
    m.write(22, 2, 2);
    expect([24, 26, 28, 30, 40, 58].map(r => m.read(r, 2))).toEqual([0, 0xffff, 0, 0, 0, 0]);
    for (const r of [24, 26, 28, 40, 58]) m.write(r, 2, 1);
    m.accept(VERSION_1 | RING_PACKED);
    m.write(22, 2, 0);
    m.write(24, 2, 7);
    expect(m.read(24, 2)).toBe(7);
  });

  it('merges accesses that are narrower or wider than a register', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.write(22, 2, 1);
    m.write(32, 1, 0x40);
    m.write(33, 1, 0x33);
    m.write(34, 2, 0x5566);
    expect([m.read(32, 4), m.read(32, 2), m.read(34, 1), m.read(35, 1)]).toEqual([0x5566_3340, 0x3340, 0x66, 0x55]);
    // Status, generation and queue select in one.
    m.write(20, 4, 0x0001_0000 | ACKNOWLEDGE);
    expect(m.read(20, 4)).toBe(0x0001_0000 | ACKNOWLEDGE);
    m.write(24, 4, 0x0002_0004);
    expect([m.read(24, 4), m.read(25, 1), m.read(59, 1), m.read(60, 4), m.read(0xffc, 4)]).toEqual([
      0x0002_0004, 0, 0, 0, 0,
    ]);
  });

  it('shows the device configuration by any width, and nothing beyond it', () => {
    const m = new VirtioMachine(new EchoDevice());
    expect([m.read(0x2000, 4), m.read(0x2004, 2), m.read(0x2006, 1)]).toEqual([0x1312_1110, 0x1514, 0x16]);
    expect([m.read(0x2008, 4), m.read(0x200a, 4), m.read(0x2ffc, 4)]).toEqual([0x1918, 0, 0]);
    m.write(0x2002, 2, 0xabcd);
    m.write(0x2008, 4, 0xffff_ffff);
    expect([m.read(0x2000, 4), m.read(0x2008, 4), m.lines]).toEqual([0xabcd_1110, 0x1918, []]);
  });

  it('changes the generation when a changed configuration is read, however often it has changed', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.start();
    expect(m.read(21, 1)).toBe(0);
    m.read(0x2000, 4);
    for (let i = 0; i < 256; i++) m.device.host!.configChanged();
    m.read(0x2000, 4);
    m.read(0x2000, 4);
    expect(m.read(21, 1)).toBe(1);
    for (let i = 0; i < 255; i++) {
      m.device.host!.configChanged();
      m.read(0x2000, 1);
    }
    expect(m.read(21, 1)).toBe(0);
  });

  it('shows a reset as unfinished until the device has let go of guest memory', async () => {
    const m = new VirtioMachine(new EchoDevice());
    const driver = m.start();
    m.device.keep = true;
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    const { host } = m.device;
    let finish = () => {};
    m.device.busy = new Promise(resolve => {
      finish = resolve;
    });
    m.status = 0;
    expect(m.status).not.toBe(0);
    m.status = 0;
    expect([m.status !== 0, m.device.resets]).toEqual([true, 2]);
    // What comes from before the reset is dropped.
    host!.queues[0]!.push(m.device.kept[0]!, 4);
    host!.queues[0]!.notifyDriver();
    host!.configChanged();
    host!.fail('too late');
    expect([driver.collect(), m.intx, m.lines]).toEqual([[], false, []]);
    finish();
    await m.device.busy;
    await Promise.resolve();
    await Promise.resolve();
    expect([m.status, m.read(28, 2)]).toEqual([0, 0]);
  });

  it('resets with its function, which is settled when the device is', async () => {
    const m = new VirtioMachine(new EchoDevice());
    m.start();
    let finished = false;
    m.device.busy = new Promise<void>(resolve => setImmediate(resolve)).then(() => {
      finished = true;
    });
    m.f.reset();
    expect(m.device.host).toBeUndefined();
    await m.f.settled;
    expect([finished, m.status]).toEqual([true, 0]);
  });

  it('resets one queue when the device has returned what it had of it', () => {
    const m = new VirtioMachine(new EchoDevice());
    let driver = m.start(VERSION_1 | RING_RESET);
    m.device.keep = true;
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    m.write(58, 2, 1);
    expect([m.read(58, 2), m.read(28, 2), m.device.host!.queues[0]!.size]).toEqual([1, 1, 0]);
    // Neither may the queue be enabled before that is over.
    m.write(28, 2, 1);
    expect(m.device.host!.queues[0]!.size).toBe(0);
    m.device.host!.queues[0]!.push(m.device.kept.pop()!, 4);
    expect([m.read(58, 2), m.read(28, 2), m.read(24, 2), driver.collect()]).toEqual([0, 0, 8, []]);
    m.ram.bytes.fill(0);
    driver = new SplitDriver(m.ram, { size: 4, desc: DESC, driver: DRIVER, device: DEVICE }, false);
    m.enable(0, 4);
    m.device.keep = false;
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect([driver.collect().length, m.device.host!.queues[0]!.size]).toEqual([1, 4]);
  });

  it('does not reset a queue without VIRTIO_F_RING_RESET', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.start();
    m.write(58, 2, 1);
    expect([m.read(58, 2), m.read(28, 2)]).toEqual([0, 1]);
  });

  it('needs a reset after a broken ring, says so once, and works again afterwards', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.enableMsix();
    const driver = m.start(VERSION_1, { vector: 1 });
    m.write(16, 2, 0);
    driver.offer([writable(BUFFERS, 4)], false);
    m.ram.descriptor(DESC, BUFFERS, 4, NEXT, 99);
    m.kick(0);
    expect(m.status).toBe(READY | DRIVER_OK | NEEDS_RESET);
    expect(m.messages).toEqual([{ address: DOORBELL, data: 100 }]);
    expect(m.lines).toHaveLength(1);
    expect(m.lines[0]).toContain('echo0 (virtio-echo): queue 0: descriptor 99 of 8');
    const notified = m.device.notified.length;
    m.kick(0);
    m.device.host!.fail('once more');
    expect([m.device.notified.length, m.lines.length, m.messages.length]).toEqual([notified, 1, 1]);
    m.ram.bytes.fill(0);
    const again = m.start();
    again.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect(again.collect()).toHaveLength(1);
  });

  it.each([
    ['a descriptor area that is not aligned', 32, DESC + 1],
    ['a driver area outside of RAM', 44, 0xffff_ffff],
  ])('needs a reset for %s at DRIVER_OK', (_, register, value) => {
    const m = new VirtioMachine(new EchoDevice());
    m.accept(VERSION_1);
    m.status = READY;
    m.write(22, 2, 0);
    for (const [i, area] of [DESC, DRIVER, DEVICE].entries()) m.write(32 + 8 * i, 4, area);
    m.write(register, 4, value);
    m.write(28, 2, 1);
    expect(m.status).toBe(READY);
    m.status = READY | DRIVER_OK;
    expect([m.status, m.device.activations, m.intx]).toEqual([READY | DRIVER_OK | NEEDS_RESET, 0, true]);
    expect(m.read(0x1000, 1)).toBe(2);
  });

  it.each(['notify', 'readConfig', 'writeConfig', 'activate'])('survives an exception of %s', what => {
    const m = new VirtioMachine(new EchoDevice());
    m.device.fault = what;
    m.start();
    m.kick(0);
    expect(m.read(0x2000, 4)).toBe(what === 'readConfig' ? 0 : 0x1312_1110);
    m.write(0x2000, 1, 1);
    expect(m.status & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(m.lines).toHaveLength(1);
    expect(m.lines[0]).toMatch(new RegExp(`^echo0 \\(virtio-echo\\): .*${what} is broken`));
    m.device.fault = 'reset';
    m.status = 0;
    expect([m.status, m.lines.length]).toEqual([0, 2]);
  });

  it('lets a guest fill no log', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.device.fault = 'activate';
    for (let i = 0; i < 100; i++) m.start();
    expect(m.lines.length).toBeLessThan(20);
  });

  it('serves firmware that enables queues before it negotiates', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.enable(0);
    m.accept(VERSION_1);
    m.status = READY;
    m.status = READY | DRIVER_OK;
    const driver = new SplitDriver(m.ram, { size: 8, desc: DESC, driver: DRIVER, device: DEVICE }, false);
    driver.offer([writable(BUFFERS, 4)], false);
    m.kick(0);
    expect(driver.collect()).toHaveLength(1);
  });

  it('ERR_DEVICE: refuses what cannot be', () => {
    const make = (device: VirtioDevice, transitional: boolean) => () =>
      createVirtioPci({ device, name: 'echo0', transitional, log: () => undefined });
    expect(make(new EchoDevice(26), true)).toThrow(VmError);
    expect(make(new EchoDevice(4, new Array(1025).fill(8)), false)).toThrow(/1025 queues/);
  });
});

describe('the window in configuration space', () => {
  function access(m: VirtioMachine, bar: number, offset: number, length: number): number {
    const at = m.capability(9, 5)!;
    m.f.configWrite(at + 4, 1, bar);
    m.f.configWrite(at + 8, 4, offset);
    m.f.configWrite(at + 12, 4, length);
    return at + 16;
  }

  it('reaches the structures, with decoding off', () => {
    const m = new VirtioMachine(new EchoDevice());
    m.command = 0;
    expect(m.f.configRead(access(m, 4, 0x2000, 4), 4)).toBe(0x1312_1110);
    expect(m.f.configRead(access(m, 4, 0x2002, 2), 2)).toBe(0x1312);
    expect(m.f.configRead(access(m, 4, 0x2004, 1), 4)).toBe(0x14);
    m.f.configWrite(access(m, 4, 20, 1), 1, ACKNOWLEDGE);
    expect(m.status).toBe(ACKNOWLEDGE);
    m.f.configWrite(access(m, 4, 22, 2), 4, 1);
    expect(m.read(22, 2)).toBe(1);
    m.f.configWrite(access(m, 1, 0x1c, 4), 4, 0);
    expect(m.f.msix!.vector(1).masked).toBe(false);
  });

  it.each([
    ['a BAR that is not there', 2, 0, 4],
    ['the upper half of a BAR', 5, 0, 4],
    ['an offset behind the end', 4, 0x4000, 4],
    ['an offset that wraps', 4, 0xffff_fffc, 4],
    ['an offset that is not aligned', 4, 0x2001, 2],
    ['a length of 0', 4, 0x2000, 0],
    ['a length of 3', 4, 0x2000, 3],
    ['a length of 2^32 - 1', 4, 0, 0xffff_ffff],
  ])('reads all ones for %s, and writes nothing', (_, bar, offset, length) => {
    const m = new VirtioMachine(new EchoDevice());
    const data = access(m, bar, offset, length);
    expect(m.f.configRead(data, 4)).toBe(0xffff_ffff);
    m.f.configWrite(data, 4, 0);
    expect(m.read(0x2000, 4)).toBe(0x1312_1110);
  });
});
