import { afterEach, describe, expect, it } from 'vitest';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { host } from '../../src/engines/host/host.ts';
import * as kvm from '../../src/engines/kvm/abi/common.generated.ts';
import {
  KVM_CREATE_PIT2,
  KVM_SET_IDENTITY_MAP_ADDR,
  kvm_pit_config,
} from '../../src/engines/kvm/abi/x86_64.generated.ts';
import { sharedMemory } from '../../src/engines/kvm/guest-ram.ts';
import { Struct } from '../../src/engines/kvm/structs.ts';
import { errnoOf, type KvmHost, KvmSystem } from '../../src/engines/kvm/system.ts';
import { KvmVm } from '../../src/engines/kvm/vm.ts';
import { X86Cpu } from '../../src/engines/kvm/x86/cpu.ts';
import { FakeHost } from '../support/fake-kvm/fake-host.ts';
import { missingKvm } from '../support/native.ts';

// The host of the unit tests against the kernel's KVM: the same calls, and the same answers or errors. No guest runs.

const missing = missingKvm() ?? (loadAddon().addon === undefined ? 'there is no addon' : undefined);
if (missing !== undefined) console.log(`skipped: the fake host against KVM: ${missing}`);

const PAGE = 4096;
const EFD_NONBLOCK = 0o4000;
const { KVM_MEM_LOG_DIRTY_PAGES: LOG, KVM_MEM_READONLY: READONLY } = kvm;

/** Makes calls by turns, and writes down how each ended. */
class Trial implements Disposable {
  readonly host: KvmHost;
  readonly vm: KvmVm;
  readonly outcomes: string[] = [];
  readonly #fds: number[] = [];

  constructor(h: KvmHost) {
    this.host = h;
    this.vm = new KvmVm(new KvmSystem(h), 0);
  }

  try(what: string, f: () => unknown): void {
    try {
      f();
      this.outcomes.push(`${what}: done`);
    } catch (e) {
      const errno = errnoOf(e);
      if (errno === undefined) throw e;
      this.outcomes.push(`${what}: ${errno}`);
    }
  }

  eventfd(): number {
    const fd = this.host.eventfd(0, EFD_NONBLOCK);
    this.#fds.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    this.vm[Symbol.dispose]();
    this.vm.system[Symbol.dispose]();
    for (const fd of this.#fds) this.host.close(fd);
  }
}

describe.skipIf(missing !== undefined)('the host of the unit tests answers as KVM does', () => {
  const open: Trial[] = [];
  afterEach(() => {
    for (const t of open.splice(0)) t[Symbol.dispose]();
  });

  /** What both say of the same calls. */
  function expectSame(calls: (t: Trial) => void): string[] {
    const [real, fake] = [host(), new FakeHost()].map(h => {
      const t = new Trial(h);
      open.push(t);
      calls(t);
      return t.outcomes;
    });
    expect(fake).toEqual(real);
    return real!;
  }

  it('about memory slots', () => {
    const memory = sharedMemory(64 * PAGE);
    const outcomes = expectSame(t => {
      const set = (slot: number, base: number, pages: number, flags = 0, at = 0) =>
        t.try(`slot ${slot} at ${base}, ${pages} pages from ${at}, flags ${flags}`, () => {
          const bytes = memory.subarray(at * PAGE, (at + pages) * PAGE);
          t.vm.setMemoryRegion({ slot, base, size: pages * PAGE, flags, bytes });
        });
      set(0, 0, 0);
      set(0, 0, 4);
      set(1, 2 * PAGE, 4);
      set(1, 4 * PAGE, 4);
      set(0, 16 * PAGE, 4);
      set(0, 6 * PAGE, 4);
      set(0, 16 * PAGE, 5);
      set(0, 16 * PAGE, 4, LOG);
      set(0, 16 * PAGE, 4, READONLY);
      set(0, 16 * PAGE, 4, 0, 8);
      set(2, 100, 1);
      set(2, 32 * PAGE, 1, READONLY);
      set(2, 32 * PAGE, 1, 0x80);
      set(2, 32 * PAGE, 1, READONLY | LOG);
      set(0, 0, 0);
      set(0, 0, 0);
      set(0, 16 * PAGE, 8);
      set(40_000, 64 * PAGE, 1);
      t.try('memory that is no whole page', () => {
        t.vm.setMemoryRegion({ slot: 7, base: 0x10_0000, size: 100, flags: 0, bytes: memory.subarray(0, 100) });
      });
      t.try('memory that begins inside of a page', () => {
        t.vm.setMemoryRegion({ slot: 7, base: 0x10_0000, size: PAGE, flags: 0, bytes: memory.subarray(8, PAGE + 8) });
      });
    });
    // All of it would be of no use if everything failed.
    expect(outcomes.filter(o => o.endsWith('done')).length).toBeGreaterThan(5);
    expect(outcomes.filter(o => o.endsWith('EEXIST'))).toHaveLength(2);
  });

  it('about the dirty log', () => {
    const memory = sharedMemory(4 * PAGE);
    expectSame(t => {
      const set = (flags: number) => t.vm.setMemoryRegion({ slot: 3, base: 0, size: 4 * PAGE, flags, bytes: memory });
      const log = (slot: number) =>
        t.try(`log of slot ${slot}`, () => {
          const bitmap = new Uint8Array(8);
          t.vm.getDirtyLog(slot, bitmap);
          expect([...bitmap]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
        });
      log(3);
      set(0);
      log(3);
      set(LOG);
      log(3);
      log(2);
      set(0);
      log(3);
    });
  });

  it('about dirty rings', context => {
    const probe = new Trial(host());
    open.push(probe);
    if (probe.vm.check(kvm.KVM_CAP_DIRTY_LOG_RING) === 0) context.skip('this KVM has none');
    const memory = sharedMemory(4 * PAGE);
    const enable = (t: Trial, size: number, capability: number = kvm.KVM_CAP_DIRTY_LOG_RING) =>
      t.try(`rings of ${size} bytes`, () => t.vm.enableCap(capability, size));
    const reset = (t: Trial) => t.try('reset', () => expect(t.vm.resetDirtyRings()).toBe(0));
    const outcomes = expectSame(t => {
      t.outcomes.push(`at most ${t.vm.check(kvm.KVM_CAP_DIRTY_LOG_RING)}`);
      reset(t);
      for (const size of [0, 2048, 3 * PAGE, 2 ** 21, 4 * PAGE, 4 * PAGE]) enable(t, size);
      reset(t);
      const cpu = t.vm.createVcpu(0);
      enable(t, 4 * PAGE);
      t.vm.setMemoryRegion({ slot: 3, base: 0, size: 4 * PAGE, flags: LOG, bytes: memory });
      t.try('the dirty log', () => t.vm.getDirtyLog(3, new Uint8Array(8)));
      const runner = t.host.runnerCreate([cpu], t.vm.system.vcpuMapSize, false, 4 * PAGE);
      const ring = t.host.runnerRing(runner, 0);
      t.outcomes.push(`${ring.byteLength} bytes`, `${new Uint8Array(ring).some(b => b !== 0)}`);
      reset(t);
      t.host.runnerDestroy(runner, 1000);
      t.outcomes.push(`${ring.byteLength} bytes`);
    });
    expect(outcomes.filter(o => o.startsWith('rings') && o.endsWith('done'))).toHaveLength(1);
    expectSame(t => {
      t.vm.createVcpu(0);
      enable(t, 4 * PAGE, kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    });
  });

  it('about ioeventfds', () => {
    expectSame(t => {
      const [a, b] = [t.eventfd(), t.eventfd()];
      const ioeventfd = (fd: number, address: number, length: number, value?: number, on = true, space?: 'io') =>
        t.try(`${on ? 'on' : 'off'} at ${address}, ${length} bytes, value ${value}`, () =>
          t.vm.ioeventfd(fd, { space: space ?? 'memory', address, length, value }, on),
        );
      ioeventfd(a, 0x1000, 4);
      ioeventfd(b, 0x1000, 4);
      ioeventfd(b, 0x1000, 4, 1);
      ioeventfd(b, 0x1000, 2);
      ioeventfd(b, 0x1000, 4, undefined, true, 'io');
      ioeventfd(a, 0x2000, 4, 1);
      ioeventfd(b, 0x2000, 4, 2);
      ioeventfd(b, 0x2000, 4, 1);
      ioeventfd(a, 0x3000, 3);
      ioeventfd(a, 0x3000, 0, 1);
      ioeventfd(a, 0x3000, 0);
      ioeventfd(b, 0x3000, 4);
      ioeventfd(b, 0x1000, 4, undefined, false);
      ioeventfd(a, 0x1000, 4, undefined, false);
      ioeventfd(a, 0x1000, 4, undefined, false);
      ioeventfd(t.vm.fd, 0x4000, 4);
      ioeventfd(999, 0x4000, 4);
    });
  });

  it('about interrupts', () => {
    expectSame(t => {
      const [a, b] = [t.eventfd(), t.eventfd()];
      const pin = (gsi: number, irqchip: number, n: number) => ({ gsi, irqchip, pin: n });
      t.try('a line without a controller', () => t.vm.irqLine(4, true));
      t.try('a message without a controller', () => t.vm.signalMsi({ address: 0xfee0_0000, data: 0x41 }, false));
      t.try('a controller', () => t.vm.createIrqchip());
      t.try('another controller', () => t.vm.createIrqchip());
      t.try('a line', () => t.vm.irqLine(4, true));
      t.try('irqfd', () => t.vm.irqfd(a, 5, true));
      t.try('the same again', () => t.vm.irqfd(a, 6, true));
      t.try('with resampling', () => t.vm.irqfd(b, 5, true, t.eventfd()));
      t.try('off', () => t.vm.irqfd(a, 5, false));
      t.try('off again', () => t.vm.irqfd(a, 5, false));
      t.try('no eventfd', () => t.vm.irqfd(t.vm.fd, 7, true));
      t.try('no file', () => t.vm.irqfd(999, 7, true));
      t.try('pins of two controllers', () => t.vm.setRouting([pin(4, 0, 4), pin(4, 2, 4)], false));
      t.try('two pins of one', () => t.vm.setRouting([pin(4, 2, 4), pin(4, 2, 5)], false));
      t.try('a pin that is none', () => t.vm.setRouting([pin(4, 0, 8)], false));
      t.try('a controller that is none', () => t.vm.setRouting([pin(4, 3, 0)], false));
      const msi = { gsi: 4, msi: { address: 0xfee0_0000, data: 0x41 } };
      t.try('a message', () => t.vm.setRouting([msi], false));
      t.try('a message and a pin', () => t.vm.setRouting([msi, pin(4, 2, 4)], false));
      t.try('a number beyond the table', () => t.vm.setRouting([{ ...msi, gsi: 4096 }], false));
    });
  });

  it('about coalesced zones', () => {
    expectSame(t => {
      t.try('on', () => t.vm.coalesce('memory', 0x1000, 16, true));
      t.try('on again', () => t.vm.coalesce('memory', 0x1000, 16, true));
      t.try('off', () => t.vm.coalesce('memory', 0x1000, 16, false));
      t.try('what is not there', () => t.vm.coalesce('memory', 0x9000, 16, false));
    });
  });

  it('about vCPUs, their registers, and the order of things', () => {
    expectSame(t => {
      const pit = () => t.vm.ioctl(KVM_CREATE_PIT2, new Struct(kvm_pit_config.sizeof).bytes);
      const map = () => t.vm.ioctl(KVM_SET_IDENTITY_MAP_ADDR, new Struct(8).u64(0, 0xfeff_c000).bytes);
      t.try('a place', map);
      t.try('a controller', () => t.vm.createIrqchip());
      t.try('a timer', pit);
      t.try('a second timer', pit);
      const cpu = new X86Cpu(t.host, t.vm.createVcpu(0));
      t.try('the same vCPU', () => t.vm.createVcpu(0));
      t.try('a place, too late', map);
      t.try('a request that a vCPU does not have', () => t.host.ioctl(cpu.fd, kvm.KVM_CREATE_VCPU, 0));
      t.try('one that a VM does not have', () => t.vm.ioctl(kvm.KVM_GET_API_VERSION));
      t.try('one that the system does not have', () => t.host.ioctl(t.vm.system.fd, kvm.KVM_CREATE_VCPU, 0));
      t.try('one that an eventfd does not have', () => t.host.ioctl(t.eventfd(), kvm.KVM_CREATE_VCPU, 0));
      t.try('paging without PAE', () => cpu.setRegisters({ cr0: 0x8000_0011n, efer: 0x500n }));
      t.try('long mode that is not on', () => cpu.setRegisters({ efer: 0x400n }));
      const gdt = { base: 0x500, limit: 31 };
      const boot = { rip: 0x10_0000, rsp: 0x8000, rsi: 0x7000, rbx: 0, cr3: 0x9000, gdt };
      for (const mode of ['real', 'protected', 'long'] as const) t.try(mode, () => cpu.start({ ...boot, mode }));
      const { rip, rsp, rsi, cr3, cr4, cs } = cpu.registers();
      t.outcomes.push(JSON.stringify([rip, rsp, rsi, cr3, cr4, cs].map(String)), cpu.state);
      t.try('a register that is none', () => expect(cpu.setMsr(0xdead, 1n)).toBe(false));
      t.try('memory types', () => expect(cpu.setMsr(0x2ff, 0x806n)).toBe(true));
    });
  });
});
