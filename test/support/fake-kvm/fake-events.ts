import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_IRQFD_FLAG_RESAMPLE,
  KVM_MSI_VALID_DEVID,
  kvm_coalesced_mmio_zone,
  kvm_ioeventfd,
  kvm_irq_routing,
  kvm_irq_routing_entry,
  kvm_irqfd,
} from '../../../src/engines/kvm/abi/common.generated.ts';
import { fail } from './errno.ts';
import type { Argument, FakeEventFd, FakeFiles } from './files.ts';

/** Devices that a bus of KVM has room for: NR_IOBUS_DEVS. */
const IOBUS_DEVICES = 1000;
const MAX_ROUTES = 4096;

/** A registration of KVM_IOEVENTFD. */
export interface FakeIoEvent {
  readonly space: 'memory' | 'io';
  readonly address: number;
  /** Bytes; 0: any. */
  readonly length: number;
  readonly value: bigint | undefined;
  readonly event: FakeEventFd;
}

/** A registration of KVM_IRQFD. */
export interface FakeIrqFd {
  readonly gsi: number;
  readonly event: FakeEventFd;
  readonly resample: FakeEventFd | undefined;
}

/** An entry of KVM_SET_GSI_ROUTING. */
export type FakeRoute =
  | { readonly gsi: number; readonly irqchip: number; readonly pin: number }
  | { readonly gsi: number; readonly address: number; readonly data: number; readonly deviceId: number | undefined };

/** Writes to [address, address + size) that wait in the ring. */
export interface FakeZone {
  readonly space: 'memory' | 'io';
  readonly address: number;
  readonly size: number;
}

/** Eventfds, routes and coalesced zones of a VM; virt/kvm/eventfd.c, irqchip.c and coalesced_mmio.c of Linux 6.1. */
export class FakeEvents {
  ioeventfds: FakeIoEvent[] = [];
  irqfds: FakeIrqFd[] = [];
  routes: readonly FakeRoute[] = [];
  zones: FakeZone[] = [];
  readonly #files: FakeFiles;

  constructor(files: FakeFiles) {
    this.#files = files;
  }

  /** kvm_ioeventfd() */
  ioeventfd(a: Argument): void {
    const f = kvm_ioeventfd;
    const v = a.view;
    const flags = v.getUint32(f.flags, true);
    const length = v.getUint32(f.len, true);
    const matches = (flags & KVM_IOEVENTFD_FLAG_DATAMATCH) !== 0;
    const entry: FakeIoEvent = {
      space: (flags & KVM_IOEVENTFD_FLAG_PIO) !== 0 ? 'io' : 'memory',
      address: Number(v.getBigUint64(f.addr, true)),
      length,
      value: matches ? v.getBigUint64(f.datamatch, true) : undefined,
      event: this.#files.eventfd(v.getInt32(f.fd, true)),
    };
    if ((flags & KVM_IOEVENTFD_FLAG_DEASSIGN) !== 0) {
      const at = this.ioeventfds.findIndex(e => e.event === entry.event && e.length === length && same(e, entry));
      if (at < 0) fail('ENOENT');
      this.ioeventfds.splice(at, 1);
      return;
    }
    const known = KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO;
    if (![0, 1, 2, 4, 8].includes(length) || (flags & ~known) !== 0 || (length === 0 && matches)) fail('EINVAL');
    if (this.ioeventfds.some(e => collides(e, entry))) fail('EEXIST');
    if (this.#devicesOn(entry.space) >= IOBUS_DEVICES) fail('ENOSPC');
    this.ioeventfds.push(entry);
  }

  /** kvm_irqfd() */
  irqfd(a: Argument, irqchip: boolean): void {
    const f = kvm_irqfd;
    const v = a.view;
    const flags = v.getUint32(f.flags, true);
    const gsi = v.getUint32(f.gsi, true);
    if ((flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) !== 0) fail('EINVAL');
    const event = this.#files.eventfd(v.getInt32(f.fd, true));
    if ((flags & KVM_IRQFD_FLAG_DEASSIGN) !== 0) {
      this.irqfds = this.irqfds.filter(i => i.event !== event || i.gsi !== gsi);
      return;
    }
    if (!irqchip) fail('EINVAL');
    const resamples = (flags & KVM_IRQFD_FLAG_RESAMPLE) !== 0;
    const resample = resamples ? this.#files.eventfd(v.getInt32(f.resamplefd, true)) : undefined;
    if (this.irqfds.some(i => i.event === event)) fail('EBUSY');
    this.irqfds.push({ gsi, event, resample });
    event.whenClosed(() => {
      this.irqfds = this.irqfds.filter(i => i.event !== event);
    });
  }

  /** kvm_set_irq_routing(). @param pins of each interrupt controller. */
  setRouting(a: Argument, pins: readonly number[]): void {
    const e = kvm_irq_routing_entry;
    const v = a.view;
    const count = v.getUint32(kvm_irq_routing.nr, true);
    if (count > MAX_ROUTES || v.getUint32(kvm_irq_routing.flags, true) !== 0) fail('EINVAL');
    if (kvm_irq_routing.sizeof + count * e.sizeof > v.byteLength) fail('EFAULT');
    const routes: FakeRoute[] = [];
    for (let i = 0; i < count; i++) {
      const at = kvm_irq_routing.entries + i * e.sizeof;
      const route = routeAt(v, at, pins);
      // Each controller once, and a message alone.
      if (routes.some(r => r.gsi === route.gsi && (!('pin' in r && 'pin' in route) || r.irqchip === route.irqchip))) {
        fail('EINVAL');
      }
      routes.push(route);
    }
    this.routes = routes;
  }

  coalesce(a: Argument): void {
    const zone = zoneOf(a);
    if (this.#devicesOn(zone.space) >= IOBUS_DEVICES) fail('ENOSPC');
    this.zones.push(zone);
  }

  uncoalesce(a: Argument): void {
    const { space, address, size } = zoneOf(a);
    this.zones = this.zones.filter(z => z.space !== space || !inside(z, address, size));
  }

  /** A write of the guest signals an eventfd: true. */
  signals(space: 'memory' | 'io', address: number, length: number, value: bigint): boolean {
    const hit = this.ioeventfds.find(e => {
      if (e.space !== space || e.address !== address) return false;
      return (e.length === 0 || e.length === length) && (e.value === undefined || e.value === value);
    });
    hit?.event.signal();
    return hit !== undefined;
  }

  /** Whether a write of the guest may wait. */
  mayWait(space: 'memory' | 'io', address: number, length: number): boolean {
    return this.zones.some(z => z.space === space && inside(z, address, length));
  }

  #devicesOn(space: 'memory' | 'io'): number {
    return [...this.ioeventfds, ...this.zones].filter(d => d.space === space).length;
  }
}

/** The same place and value. */
function same(a: FakeIoEvent, b: FakeIoEvent): boolean {
  return a.space === b.space && a.address === b.address && a.value === b.value;
}

/** ioeventfd_check_collision() */
function collides(a: FakeIoEvent, b: FakeIoEvent): boolean {
  if (a.space !== b.space || a.address !== b.address) return false;
  if (a.length === 0 || b.length === 0) return true;
  return a.length === b.length && (a.value === undefined || b.value === undefined || a.value === b.value);
}

function inside(z: FakeZone, address: number, length: number): boolean {
  return address >= z.address && address + length <= z.address + z.size;
}

function zoneOf(a: Argument): FakeZone {
  const f = kvm_coalesced_mmio_zone;
  const pio = a.view.getUint32(f.pio, true);
  if (pio > 1) fail('EINVAL');
  const address = Number(a.view.getBigUint64(f.addr, true));
  return { space: pio === 1 ? 'io' : 'memory', address, size: a.view.getUint32(f.size, true) };
}

function routeAt(v: DataView, at: number, pins: readonly number[]): FakeRoute {
  const e = kvm_irq_routing_entry;
  const field = (offset: number): number => v.getUint32(at + offset, true);
  const gsi = field(e.gsi);
  if (gsi >= MAX_ROUTES) fail('EINVAL');
  const flags = field(e.flags);
  if (field(e.type) === KVM_IRQ_ROUTING_MSI) {
    if ((flags & ~KVM_MSI_VALID_DEVID) !== 0) fail('EINVAL');
    const address = field(e['u.msi.address_lo']) + field(e['u.msi.address_hi']) * 2 ** 32;
    const deviceId = (flags & KVM_MSI_VALID_DEVID) === 0 ? undefined : field(e['u.msi.devid']);
    return { gsi, address, data: field(e['u.msi.data']), deviceId };
  }
  if (field(e.type) !== KVM_IRQ_ROUTING_IRQCHIP || flags !== 0) fail('EINVAL');
  const irqchip = field(e['u.irqchip.irqchip']);
  const pin = field(e['u.irqchip.pin']);
  if (pin >= (pins[irqchip] ?? 0)) fail('EINVAL');
  return { gsi, irqchip, pin };
}
