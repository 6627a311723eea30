import { beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import { IrqRoutes, Wires } from './irqs.ts';
import { KvmSystem } from './system.ts';
import { type IrqRoute, KvmVm } from './vm.ts';

const ITS = 0x0809_0040;
const HIGH = 0x80_0000_1000;
const PINS: IrqRoute[] = [
  { gsi: 0, irqchip: 0, pin: 0 },
  { gsi: 1, irqchip: 0, pin: 1 },
];
const EFD_NONBLOCK = 0o4000;

let host: FakeHost;
let vm: KvmVm;
let routes: IrqRoutes;

beforeEach(() => {
  host = new FakeHost();
  vm = new KvmVm(new KvmSystem(host), 0);
  vm.createIrqchip();
  routes = new IrqRoutes(vm, PINS, true);
});

const tellings = () => host.callsOf('KVM_SET_GSI_ROUTING').length;

describe('an event of the routing table', () => {
  it('goes nowhere until it is routed', () => {
    const event = routes.event();
    expect(event?.fd).toBeGreaterThan(0);
    expect(host.vm.events.irqfds).toEqual([]);
    expect(tellings()).toBe(0);
  });

  it('is routed by its address, data and device, beside the pins', () => {
    routes.event()?.route({ address: HIGH + ITS, data: 7, deviceId: 0x18 });
    const { events } = host.vm;
    expect(events.routes).toEqual([...PINS, { gsi: 1024, address: HIGH + ITS, data: 7, deviceId: 0x18 }]);
    expect(events.irqfds.map(i => [i.gsi, i.resample])).toEqual([[1024, undefined]]);
  });

  it('of the device 0 has a device, too', () => {
    routes.event()?.route({ address: ITS, data: 7 });
    expect(host.vm.events.routes.at(-1)).toMatchObject({ deviceId: 0 });
  });

  it('carries no device where KVM takes none', () => {
    new IrqRoutes(vm, PINS, false).event()?.route({ address: 0xfee0_0000, data: 0x41, deviceId: 0x18 });
    expect(host.vm.events.routes.at(-1)).toEqual({ gsi: 1024, address: 0xfee0_0000, data: 0x41, deviceId: undefined });
  });

  it('is routed again for a change only, by the same eventfd', () => {
    const event = routes.event()!;
    event.route({ address: ITS, data: 7, deviceId: 1 });
    event.route({ address: ITS, data: 7, deviceId: 1 });
    expect(tellings()).toBe(1);
    event.route({ address: ITS, data: 8, deviceId: 1 });
    expect(tellings()).toBe(2);
    expect(host.vm.events.routes.at(-1)).toMatchObject({ gsi: 1024, data: 8 });
    expect(host.callsOf('KVM_IRQFD')).toHaveLength(1);
  });

  it('that KVM refused is told when it is routed again', () => {
    const event = routes.event()!;
    host.failOn('KVM_SET_GSI_ROUTING', 'ENOMEM');
    expect(() => event.route({ address: ITS, data: 7 })).toThrow(/ENOMEM/);
    event.route({ address: ITS, data: 7 });
    expect(host.vm.events.routes.at(-1)).toMatchObject({ gsi: 1024, data: 7 });
    expect(host.vm.events.irqfds).toHaveLength(1);
  });

  it('each has a GSI of its own, which is free again afterwards', () => {
    const events = [1, 2, 3].map(data => {
      const e = routes.event()!;
      e.route({ address: ITS, data });
      return e;
    });
    expect(host.vm.events.irqfds.map(i => i.gsi)).toEqual([1024, 1025, 1026]);
    events[1]?.[Symbol.dispose]();
    events[1]?.[Symbol.dispose]();
    expect(host.vm.events.irqfds.map(i => i.gsi)).toEqual([1024, 1026]);
    routes.event()?.route({ address: ITS, data: 4 });
    expect(host.vm.events.routes.slice(PINS.length)).toMatchObject([
      { gsi: 1024, data: 1 },
      { gsi: 1026, data: 3 },
      { gsi: 1025, data: 4 },
    ]);
    expect(host.openFiles.filter(f => f === 'eventfd')).toHaveLength(3);
  });

  it('is not given beyond the room of the table, and leaves no descriptor then', () => {
    const all = Array.from({ length: 1024 }, () => routes.event());
    expect(all.every(e => e !== undefined)).toBe(true);
    expect(routes.event()).toBeUndefined();
    for (const e of all) e?.[Symbol.dispose]();
    expect(host.openFiles).toEqual(['/dev/kvm', 'vm']);
  });

  it('is told to the VM that takes the place of the old one', () => {
    routes.event();
    const event = routes.event()!;
    event.route({ address: ITS, data: 7, deviceId: 3 });
    vm.renew();
    vm.createIrqchip();
    expect(host.vm.events.irqfds).toEqual([]);
    routes.renew();
    expect(host.vm.events.irqfds.map(i => i.gsi)).toEqual([1025]);
    expect(host.vm.events.routes).toEqual([...PINS, { gsi: 1025, address: ITS, data: 7, deviceId: 3 }]);
  });

  it('closes its descriptor when the VM is closed already', () => {
    const event = routes.event()!;
    event.route({ address: ITS, data: 7 });
    vm[Symbol.dispose]();
    host.eventfd(0, EFD_NONBLOCK);
    event[Symbol.dispose]();
    expect(host.openFiles).toEqual(['/dev/kvm', 'eventfd']);
  });
});

describe('an irqfd of the VM', () => {
  it('for a level tells by another eventfd that the guest is done', () => {
    const [fd, resample] = [host.eventfd(0, EFD_NONBLOCK), host.eventfd(0, EFD_NONBLOCK)];
    vm.irqfd(fd, 5, true, resample);
    const [registered] = host.vm.events.irqfds;
    expect(registered).toMatchObject({ gsi: 5 });
    expect(registered?.resample).toBe(host.files.eventfd(resample));
    vm.irqfd(fd, 5, false);
    expect(host.vm.events.irqfds).toEqual([]);
  });

  it('needs an interrupt controller in the kernel', () => {
    vm.renew();
    expect(() => vm.irqfd(host.eventfd(0, EFD_NONBLOCK), 5, true)).toThrow(/EINVAL/);
  });
});

describe('a message that this process sends', () => {
  it('arrives whole, with its device where KVM takes one', () => {
    expect(vm.signalMsi({ address: HIGH, data: 0x1234, deviceId: 9 }, true)).toBe(true);
    vm.signalMsi({ address: 0xfee0_1000, data: 0x41, deviceId: 9 }, false);
    expect(host.vm.messages).toEqual([
      { address: HIGH, data: 0x1234, deviceId: 9 },
      { address: 0xfee0_1000, data: 0x41, deviceId: undefined },
    ]);
  });
});

describe('a closed VM', () => {
  it('is asked nothing any more: its number may be another file’s', () => {
    vm[Symbol.dispose]();
    vm[Symbol.dispose]();
    host.eventfd(0, EFD_NONBLOCK);
    expect(() => vm.irqLine(1, true)).toThrow(expect.objectContaining({ code: 'ERR_HOST_CALL' }));
    expect(host.openFiles).toEqual(['/dev/kvm', 'eventfd']);
  });

  it('that could not be renewed is closed once', () => {
    host.failOn('KVM_CREATE_VM', 'ENOMEM');
    expect(() => vm.renew()).toThrow(expect.objectContaining({ code: 'ERR_ENGINE_UNAVAILABLE' }));
    host.eventfd(0, EFD_NONBLOCK);
    vm[Symbol.dispose]();
    expect(host.openFiles).toEqual(['/dev/kvm', 'eventfd']);
    vm.renew();
    expect(vm.closed).toBe(false);
  });
});

describe('wires', () => {
  it('that are high at a reset are high in the new VM', () => {
    const wires = new Wires((irq, level) => vm.irqLine(irq, level));
    const [high, low] = [wires.line(4), wires.line(5)];
    high.set(true);
    low.set(true);
    low.set(false);
    vm.renew();
    vm.createIrqchip();
    wires.renew();
    expect([...host.vm.lines]).toEqual([[4, true]]);
    high.set(false);
    expect([...host.vm.lines]).toEqual([[4, false]]);
  });
});
