import { beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import { KvmDoorbells } from './doorbells.ts';
import { KvmSystem } from './system.ts';
import { KvmVm } from './vm.ts';

let host: FakeHost;
let vm: KvmVm;
let bells: KvmDoorbells;
let watched: Map<number, number>;

beforeEach(() => {
  host = new FakeHost();
  vm = new KvmVm(new KvmSystem(host), 0);
  watched = new Map();
  bells = new KvmDoorbells(vm, {
    watch: (fd, tag) => void watched.set(fd, tag),
    unwatch: fd => void watched.delete(fd),
  });
});

/** A doorbell that counts. */
function bell(size: 1 | 2 | 4 = 4, value?: number) {
  const b = { offset: 0, size, rung: 0, ring: () => void b.rung++, ...(value === undefined ? {} : { value }) };
  return b;
}

/** The guest writes; rings what the runner would report. false: it is an exit. */
function guestWrites(space: 'memory' | 'io', address: number, size: number, value: number): boolean {
  if (!host.vm.events.signals(space, address, size, BigInt(value))) return false;
  for (const [fd, tag] of watched) if (host.eventfdRead(fd) !== undefined) bells.ring(tag);
  return true;
}

describe('a doorbell', () => {
  it('rings for the guest’s write of its width, in its space, and for no other', () => {
    const b = bell(2);
    bells.register('memory', 0x1000, b);
    expect(guestWrites('memory', 0x1000, 2, 5)).toBe(true);
    expect(b.rung).toBe(1);
    expect(guestWrites('memory', 0x1000, 4, 5)).toBe(false);
    expect(guestWrites('memory', 0x1002, 2, 5)).toBe(false);
    expect(guestWrites('io', 0x1000, 2, 5)).toBe(false);
    expect(b.rung).toBe(1);
  });

  it('with a value rings for that alone, beside others at the same place', () => {
    const [zero, one] = [bell(2, 0), bell(2, 1)];
    bells.register('io', 0xc010, zero);
    bells.register('io', 0xc010, one);
    guestWrites('io', 0xc010, 2, 1);
    expect([zero.rung, one.rung]).toEqual([0, 1]);
    guestWrites('io', 0xc010, 2, 0);
    expect([zero.rung, one.rung]).toEqual([1, 1]);
    expect(guestWrites('io', 0xc010, 2, 2)).toBe(false);
  });

  it('moves with its BAR: the old place is an exit, the new one rings', () => {
    const b = bell();
    const before = bells.register('memory', 0x1000, b);
    before?.[Symbol.dispose]();
    bells.register('memory', 0x2000, b);
    expect(guestWrites('memory', 0x1000, 4, 0)).toBe(false);
    expect(guestWrites('memory', 0x2000, 4, 0)).toBe(true);
    expect(b.rung).toBe(1);
    expect(host.openFiles).toEqual(['/dev/kvm', 'vm', 'eventfd']);
  });

  it('that is gone leaves nothing open, and is not rung by what is late', () => {
    const b = bell();
    const registered = bells.register('memory', 0x1000, b);
    const [tag] = watched.values();
    registered?.[Symbol.dispose]();
    registered?.[Symbol.dispose]();
    bells.ring(tag!);
    expect(b.rung).toBe(0);
    expect(watched.size).toBe(0);
    expect(host.vm.events.ioeventfds).toEqual([]);
    expect(host.openFiles).toEqual(['/dev/kvm', 'vm']);
  });

  it('has a name of its own: a late report is not taken for the next one’s', () => {
    const old = bells.register('memory', 0x1000, bell());
    const [tag] = watched.values();
    old?.[Symbol.dispose]();
    const next = bell();
    bells.register('memory', 0x1000, next);
    bells.ring(tag!);
    expect(next.rung).toBe(0);
  });

  it('where the place is taken, or the kernel has no room, is left to exits', () => {
    bells.register('memory', 0x1000, bell());
    expect(bells.register('memory', 0x1000, bell())).toBeUndefined();
    host.failOn('KVM_IOEVENTFD', 'ENOSPC');
    expect(bells.register('memory', 0x2000, bell())).toBeUndefined();
    expect(host.openFiles).toEqual(['/dev/kvm', 'vm', 'eventfd']);
  });

  it('where no descriptor is left is left to exits', () => {
    host.failOn('eventfd', 'EMFILE');
    expect(bells.register('memory', 0x1000, bell())).toBeUndefined();
    expect(host.openFiles).toEqual(['/dev/kvm', 'vm']);
  });

  it('rings in the VM that takes the place of the old one', () => {
    const b = bell(4, 7);
    bells.register('memory', 0x1000, b);
    vm.renew();
    expect(guestWrites('memory', 0x1000, 4, 7)).toBe(false);
    watched.clear();
    bells.renew();
    expect(guestWrites('memory', 0x1000, 4, 7)).toBe(true);
    expect(b.rung).toBe(1);
  });

  it('whose VM is closed takes its descriptor with it, and touches no other', () => {
    const registered = bells.register('memory', 0x1000, bell());
    vm[Symbol.dispose]();
    // The VM's number is another file's now.
    host.eventfd(0, 0);
    expect(() => registered?.[Symbol.dispose]()).not.toThrow();
    expect(host.openFiles).toEqual(['/dev/kvm', 'eventfd']);
  });
});
