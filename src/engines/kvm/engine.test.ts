import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import type { FakeVm } from '../../../test/support/fake-kvm/fake-vm.ts';
import { RecordingSink } from '../../../test/support/fake-kvm/sink.ts';
import {
  exit,
  failEntry,
  hang,
  hypercall,
  input,
  internalError,
  load,
  nisv,
  out,
  runFails,
  store,
  systemEvent,
} from '../../../test/support/fake-kvm/steps.ts';
import { createVirtualClock } from '../../time/virtual-clock.ts';
import { VmError } from '../../util/errors.ts';
import type { HostMemory } from '../engine.ts';
import * as kvm from './abi/common.generated.ts';
import { type KvmArchitecture, KvmEngine, type KvmEngineOptions } from './engine.ts';
import { guestRam } from './guest-ram.ts';
import { KvmSystem } from './system.ts';
import { KvmVm } from './vm.ts';
import { X86Architecture } from './x86/architecture.ts';

const MMIO = 0xd000_0000;
const PAGE = 4096;
/** A budget that no test uses up. */
const LONG = Number.POSITIVE_INFINITY;

let host: FakeHost;
let sink: RecordingSink;
let clock: ReturnType<typeof createVirtualClock>;
let engine: KvmEngine;
let keptFromChildren: number;

const hostMemory: HostMemory = {
  available: true,
  discard: (bytes, offset, length) => void bytes.fill(0, offset, offset + length),
  keepFromChildren: () => void keptFromChildren++,
};

beforeEach(() => {
  host = new FakeHost();
  sink = new RecordingSink();
  clock = createVirtualClock({ startWall: 0n });
  keptFromChildren = 0;
});

afterEach(async () => {
  await engine?.[Symbol.asyncDispose]();
});

function options(cpus: number, more: Partial<KvmEngineOptions> = {}): KvmEngineOptions {
  const architecture = new X86Architecture({ cpus, invariantTsc: false, reserved: 0xfeff_c000 });
  const vm = new KvmVm(new KvmSystem(host), 0);
  const ram = guestRam(0, 64 * PAGE);
  return { vm, architecture, ram, hotplug: undefined, hostMemory, clock, counterHz: 0, ...more };
}

function start(cpus = 1, more: Partial<KvmEngineOptions> = {}): KvmEngine {
  engine = new KvmEngine(options(cpus, more));
  engine.attach(sink);
  return engine;
}

const cpu = (id = 0) => host.vm.vcpu(id);
const slotsOf = (vm: FakeVm) => [...vm.memory.slots].map(([n, s]) => [n, s.base, s.size, s.flags, s.address]);

/** What `f` throws. */
function errorOf(f: () => unknown): VmError {
  try {
    f();
  } catch (e) {
    if (e instanceof VmError) return e;
    throw e;
  }
  throw new Error('nothing was thrown');
}

describe('a step', () => {
  it('answers exits until the guest has no more, and yields', () => {
    start();
    cpu().script.push(store(MMIO, 4, 1), out(0x80, 1, 2), load(MMIO, 8), input(0x60, 1));
    sink.values.push(5n, 6);
    expect(engine.step(LONG)).toBe('yield');
    expect(sink.events).toEqual([
      ['mmioWrite', 0, MMIO, 4, 1],
      ['portOut', 0, 0x80, 1, 2],
      ['mmioRead', 0, MMIO, 8],
      ['portIn', 0, 0x60, 1],
    ]);
    expect(cpu().answers).toEqual([5n, 6n]);
  });

  it('without a sink, or after a stop, runs nothing', () => {
    engine = new KvmEngine(options(1));
    cpu().script.push(store(MMIO, 4, 1));
    expect(engine.step(LONG)).toBe('stopped');
    engine.attach(sink);
    engine.stop();
    expect(engine.step(LONG)).toBe('stopped');
    expect(sink.events).toEqual([]);
    expect(cpu().script).toHaveLength(1);
  });

  it('with no budget left answers one exit and yields; the next one goes on', () => {
    start();
    cpu().script.push(store(MMIO, 4, 1), store(MMIO, 4, 2));
    expect(engine.step(0)).toBe('yield');
    expect(sink.events.map(e => e[4])).toEqual([1]);
    engine.step(0);
    expect(sink.events.map(e => e[4])).toEqual([1, 2]);
  });

  it('ends when a device stops the engine, before another exit', () => {
    start();
    cpu().script.push(store(MMIO, 4, 1), store(MMIO, 4, 2));
    sink.onEvent = () => engine.stop();
    expect(engine.step(LONG)).toBe('stopped');
    expect(sink.events).toHaveLength(1);
    expect(engine.step(LONG)).toBe('stopped');
  });

  it('ends with a kick, and the guest goes on in the next', () => {
    start();
    cpu().script.push(store(MMIO, 4, 1), store(MMIO, 4, 2));
    sink.onEvent = () => engine.kick();
    expect(engine.step(LONG)).toBe('yield');
    expect(sink.events).toHaveLength(1);
    sink.onEvent = () => undefined;
    engine.step(LONG);
    expect(sink.events).toHaveLength(2);
  });

  it('leaves a guest that needs nobody alone until the next timer', () => {
    start();
    engine.step(1000);
    clock.at(5_000_000, () => undefined);
    clock.advanceTo(1_000_000);
    engine.step(1000);
    host.loopTimeout = 3_000_000;
    engine.step(1000);
    clock.advanceTo(6_000_000);
    engine.step(1000);
    host.loopTimeout = 0;
    engine.step(1000);
    // No timer; the machine's; the event loop's; one that is due; work that waits.
    expect(host.runner.limits).toEqual([LONG, 4_000_000, 3_000_000, 0, 1000]);
  });

  it('leaves it alone for longer when no device waits, but not past a timer of the machine', () => {
    start();
    host.loopTimeout = 0;
    engine.step(1000);
    engine.step(1000, true);
    clock.at(5_000_000, () => undefined);
    engine.step(1000, true);
    const [usual, longer, timer] = host.runner.limits;
    expect(usual).toBe(1000);
    expect(longer).toBeGreaterThanOrEqual(10_000_000);
    expect(longer).toBeLessThan(LONG);
    expect(timer).toBe(5_000_000);
  });

  it('gives every vCPU its turn, and answers each with what is its own', () => {
    start(2);
    cpu(0).script.push(load(MMIO, 4), load(MMIO, 4));
    cpu(1).script.push(load(MMIO, 4));
    sink.values.push(10, 20, 30);
    engine.step(LONG);
    expect(sink.events.map(e => e[1])).toEqual([0, 1, 0]);
    expect([cpu(0).answers, cpu(1).answers]).toEqual([[10n, 30n], [20n]]);
  });

  it('never says that it waits: the kernel does', () => {
    expect(start().idleUntilNs()).toBe(LONG);
  });
});

describe('what a guest asks of the machine', () => {
  it.each([
    [kvm.KVM_SYSTEM_EVENT_SHUTDOWN, 'shutdown'],
    [kvm.KVM_SYSTEM_EVENT_RESET, 'reset'],
    [kvm.KVM_SYSTEM_EVENT_CRASH, 'crash'],
    [kvm.KVM_SYSTEM_EVENT_SUSPEND, 'suspend'],
  ])('system event %d is a %s', (type, event) => {
    start();
    cpu().script.push(systemEvent(type));
    engine.step(LONG);
    expect(sink.events).toEqual([['system', 0, event]]);
  });

  it('a system event that nobody knows ends the VM', () => {
    start();
    cpu().script.push(systemEvent(77));
    expect(errorOf(() => engine.step(LONG))).toMatchObject({ code: 'ERR_VCPU_FAILED' });
  });

  it('a triple fault is a reset, as on a PC', () => {
    start();
    cpu().script.push(exit(kvm.KVM_EXIT_SHUTDOWN));
    engine.step(LONG);
    expect(sink.events).toEqual([['system', 0, 'reset']]);
  });

  it('a hypercall gets the answer of the machine', () => {
    start();
    cpu().script.push(hypercall(12, 0x1000n, 2n));
    sink.onHypercall = call => {
      expect([call.abi, call.id, call.arg(0), call.arg(1)]).toEqual(['kvm-x86', 12, 0x1000n, 2n]);
      call.result(0, -38n);
    };
    engine.step(LONG);
    expect(cpu().answers).toEqual([BigInt.asUintN(64, -38n)]);
  });

  it('a halt that nothing can end is told', () => {
    start();
    cpu().script.push(exit(kvm.KVM_EXIT_HLT));
    engine.step(LONG);
    expect(sink.events).toEqual([['failed', 0, expect.stringContaining('nothing can wake it')]]);
  });

  it('an interruption is nothing', () => {
    start();
    cpu().script.push(exit(kvm.KVM_EXIT_INTR), exit(kvm.KVM_EXIT_IRQ_WINDOW_OPEN), store(MMIO, 1, 1));
    engine.step(LONG);
    expect(sink.events).toHaveLength(1);
  });
});

describe('a vCPU that KVM cannot run any further', () => {
  it.each([
    ['a state that the processor refuses', failEntry(0x8000_0021n), /refuses the guest's state .*0x8000_?0021/],
    ['an instruction that KVM cannot emulate', internalError(1, 0xf4n), /cannot emulate \(0xf4\)/],
    ['another internal error', internalError(3, 1n, 2n), /internal error 3 \(0x1 0x2\)/],
    ['an unknown reason', exit(kvm.KVM_EXIT_UNKNOWN), /unknown reason/],
    ['an access that is not decoded', nisv(0x10n, 0x900_0000), /0x0?900_?0000.*ISS 0x10/],
    ['an exit that nobody knows', exit(99), /does not know \(99\)/],
  ])('for %s ends the VM with the reason and its registers', (_, step, why) => {
    start();
    cpu().script.push(step);
    const e = errorOf(() => engine.step(LONG));
    expect(e).toMatchObject({ code: 'ERR_VCPU_FAILED', details: { cpu: 0 } });
    expect(e.message).toMatch(why);
    expect(e.hint).toContain('--engine emu');
    expect(e.details.registers).toMatch(/rip=fff0/);
    expect(engine.step(LONG)).toBe('stopped');
  });

  it.each([
    [12, /no memory left/],
    [14, /memory is gone/],
    [22, /dmesg/],
  ])('because KVM_RUN gives errno %d ends the VM with what helps', (errno, hint) => {
    start(2);
    cpu(1).script.push(runFails(errno));
    const e = errorOf(() => engine.step(LONG));
    expect(e).toMatchObject({ code: 'ERR_VCPU_FAILED', details: { cpu: 1 } });
    expect(e.message).toContain(`errno ${errno}`);
    expect(e.hint).toMatch(hint);
  });

  it('is told even if its registers cannot be read', () => {
    start();
    cpu().script.push(failEntry(7n));
    host.failOn('KVM_GET_REGS', 'EINVAL');
    expect(errorOf(() => engine.step(LONG))).toMatchObject({ code: 'ERR_VCPU_FAILED', details: { registers: '' } });
  });
});

describe('a vCPU that does not come out of the guest', () => {
  it('is named when it was kicked', () => {
    start(2);
    cpu(1).script.push(hang());
    engine.step(LONG);
    engine.kick();
    const e = errorOf(() => engine.step(LONG));
    expect(e).toMatchObject({ code: 'ERR_VCPU_STUCK', details: { cpu: 1 } });
    expect(e.hint).toContain('kernel log');
    expect(engine.step(LONG)).toBe('stopped');
  });

  it('is named when it was to be paused', () => {
    start(3);
    cpu(2).script.push(hang());
    engine.step(LONG);
    expect(errorOf(() => engine.pause())).toMatchObject({ code: 'ERR_VCPU_STUCK', details: { cpu: 2 } });
  });

  it('does not keep the others from being closed', async () => {
    start(2);
    cpu(1).script.push(hang());
    engine.step(LONG);
    await engine[Symbol.asyncDispose]();
    expect(host.openFiles).toEqual([]);
  });

  it('inline is noticed by an eventfd for another thread', () => {
    start();
    const fd = engine.watchdog()!;
    expect(host.files.eventfd(fd).name).toBe('eventfd');
    host.close(fd);
  });

  it('needs no eventfd with threads: step() returns', () => {
    start(2);
    expect(engine.watchdog()).toBeUndefined();
  });
});

describe('registers', () => {
  it('are those after the answer to the last exit', () => {
    start();
    cpu().script.push(load(MMIO, 4));
    sink.values.push(42);
    engine.step(0);
    expect(cpu().answers).toEqual([]);
    expect(engine.vcpus[0]!.registers()).toMatchObject({ rip: 0xfff0n });
    // The kernel has taken it in.
    expect(cpu().answers).toEqual([42n]);
  });

  it('are set by name', () => {
    start(2);
    engine.vcpus[1]!.setRegisters({ rax: 7n });
    expect(host.vm.x86Vcpu(1).reg('rax')).toBe(7n);
    expect(host.vm.x86Vcpu(0).reg('rax')).toBe(0n);
    expect(errorOf(() => engine.vcpus[0]!.setRegisters({ x0: 1n })).code).toBe('ERR_USAGE');
  });

  it('tell whether a vCPU runs', async () => {
    start(2);
    expect(engine.vcpus.map(v => v.state)).toEqual(['on', 'off']);
    await engine[Symbol.asyncDispose]();
    expect(engine.vcpus.map(v => v.state)).toEqual(['off', 'off']);
  });

  it('come with what was counted', () => {
    start(2);
    cpu(1).script.push(store(MMIO, 1, 0), store(MMIO, 1, 0));
    engine.step(LONG);
    expect(engine.vcpus.map(v => v.counters?.exits)).toEqual([0, 2]);
  });
});

describe('writes that wait', () => {
  it('are made before the exit that comes after them', () => {
    start();
    engine.coalesce('io', 0x3f8, 1);
    cpu().script.push(out(0x3f8, 1, 0x41), out(0x3f8, 1, 0x42), store(MMIO, 4, 1));
    engine.step(LONG);
    expect(sink.events).toEqual([
      ['portOut', 0, 0x3f8, 1, 0x41],
      ['portOut', 0, 0x3f8, 1, 0x42],
      ['mmioWrite', 0, MMIO, 4, 1],
    ]);
    expect(host.callsOf('runnerCreate')).toHaveLength(1);
  });

  it('are made without any exit, too', () => {
    start();
    engine.coalesce('memory', MMIO, 4);
    cpu().script.push(store(MMIO, 4, 9));
    expect(engine.step(LONG)).toBe('yield');
    expect(sink.events).toEqual([['mmioWrite', 0, MMIO, 4, 9]]);
  });

  it('are exits on a host that does not keep them', () => {
    host.capabilities.delete(kvm.KVM_CAP_COALESCED_PIO);
    host.capabilities.delete(kvm.KVM_CAP_COALESCED_MMIO);
    start();
    engine.coalesce('io', 0x3f8, 1);
    engine.coalesce('memory', MMIO, 4);
    expect(host.vm.events.zones).toEqual([]);
    cpu().script.push(out(0x3f8, 1, 0x41), store(MMIO, 4, 9));
    engine.step(LONG);
    expect(sink.events).toHaveLength(2);
  });
});

describe('doorbells', () => {
  const bell = () => {
    const b = { offset: 0, size: 4 as const, rung: 0, ring: () => void b.rung++ };
    return b;
  };

  it('ring without an exit where vCPUs have threads', () => {
    start(2);
    const b = bell();
    engine.doorbells!.register('memory', MMIO, b);
    cpu(1).script.push(store(MMIO, 4, 0), store(MMIO, 4, 0));
    engine.step(LONG);
    expect(b.rung).toBeGreaterThan(0);
    expect(sink.events).toEqual([]);
  });

  it('are not offered for an inline vCPU, which is faster with the exit, unless they are wanted', () => {
    expect(start(1).doorbells).toBeUndefined();
    expect(start(1, { ioeventfd: true }).doorbells).toBeDefined();
    expect(start(2, { ioeventfd: false }).doorbells).toBeUndefined();
    host.capabilities.delete(kvm.KVM_CAP_IOEVENTFD);
    expect(start(2).doorbells).toBeUndefined();
  });
});

describe('a reset', () => {
  it('makes a new VM and tells it all that the old one knew', () => {
    start(2);
    const rung: number[] = [];
    engine.doorbells!.register('memory', MMIO, { offset: 0, size: 4, ring: () => void rung.push(1) });
    engine.coalesce('io', 0x3f8, 1);
    const memory = engine.slots.allocate(PAGE);
    engine.slots.map(0xe000_0000, PAGE, memory, 0, true);
    const before = host.vm;
    const runner = host.runner;
    const open = host.openFiles.toSorted();
    engine.reset();
    expect(host.vms).toHaveLength(2);
    expect(before.isClosed).toBe(true);
    expect(runner.destroyed).toBe(true);
    expect(host.openFiles.toSorted()).toEqual(open);
    const now = host.vm;
    expect(slotsOf(now)).toEqual(slotsOf(before));
    expect(slotsOf(now)).toHaveLength(2);
    expect(now.events.ioeventfds).toEqual(before.events.ioeventfds);
    expect(now.events.zones).toEqual(before.events.zones);
    expect(now.events.routes).toEqual(before.events.routes);
    expect([now.irqchip, now.pit, now.tss]).toEqual([before.irqchip, before.pit, before.tss]);
    // And it works: a doorbell, a write that waits, an exit.
    cpu(0).script.push(store(MMIO, 4, 0), out(0x3f8, 1, 0x41), load(MMIO + 8, 4));
    engine.step(LONG);
    expect(rung).toEqual([1]);
    expect(sink.events).toEqual([
      ['portOut', 0, 0x3f8, 1, 0x41],
      ['mmioRead', 0, MMIO + 8, 4],
    ]);
  });

  it('lets an engine that was stopped run again', () => {
    start();
    engine.stop();
    engine.reset();
    cpu().script.push(store(MMIO, 4, 1));
    expect(engine.step(LONG)).toBe('yield');
    expect(sink.events).toHaveLength(1);
  });

  it('keeps what the log of writes had, and goes on with it', () => {
    start();
    engine.writeTracker.start();
    host.vm.write(3 * PAGE);
    engine.reset();
    host.vm.write(5 * PAGE);
    const dirty: number[] = [];
    engine.writeTracker.collectCpu({ markDirty: (base, length) => void dirty.push(base, length) });
    expect(dirty).toEqual([3 * PAGE, PAGE, 5 * PAGE, PAGE]);
  });

  it('keeps memory as it is', () => {
    start();
    engine.memory.setU32(0x1000, 0x1234_5678);
    engine.reset();
    expect(host.vm.memory.read(0x1000, 4)).toEqual(Uint8Array.of(0x78, 0x56, 0x34, 0x12));
  });

  it.each(['KVM_CREATE_VM', 'KVM_CREATE_IRQCHIP', 'KVM_CREATE_VCPU', 'runnerCreate', 'KVM_IOEVENTFD'])(
    'that fails at %s leaves an engine that runs nothing and closes all',
    async name => {
      start(2);
      engine.doorbells!.register('memory', MMIO, { offset: 0, size: 4, ring: () => undefined });
      host.failOn(name, 'ENOMEM');
      expect(() => engine.reset()).toThrow(VmError);
      await engine[Symbol.asyncDispose]();
      expect(host.openFiles).toEqual([]);
    },
  );
});

describe('the pages that vCPUs write', () => {
  /** The pages that were written, by number. */
  function written(): number[] {
    const pages = new Set<number>();
    engine.writeTracker.collectCpu({
      markDirty: (base, length) => {
        for (let a = base; a < base + length; a += PAGE) pages.add(a / PAGE);
      },
    });
    return [...pages].sort((a, b) => a - b);
  }

  it.each([
    ['inline', 1],
    ['with threads', 2],
  ])('are all found by rings that are full, which the guest does not notice, %s', (_, cpus) => {
    const size = 1024;
    // 256 entries, of which 192 may be used.
    start(cpus, { ram: guestRam(0, size * PAGE), dirtyRing: 256 });
    engine.writeTracker.start();
    const pages = Array.from({ length: size }, (_, n) => (n * 7) % size);
    for (const [n, page] of pages.entries()) cpu(n % cpus).script.push(store(page * PAGE, 8, n));
    for (let id = 0; id < cpus; id++) cpu(id).script.push(store(MMIO, 4, id));
    engine.step(LONG);
    expect(host.callsOf('KVM_RESET_DIRTY_RINGS').length).toBeGreaterThan(1);
    expect(sink.events).toEqual(Array.from({ length: cpus }, (_, id) => ['mmioWrite', id, MMIO, 4, id]));
    expect(written()).toEqual(Array.from(pages, (_, n) => n));
    expect(written()).toEqual([]);
    expect(host.callsOf('KVM_GET_DIRTY_LOG')).toEqual([]);
  });

  const none = () => undefined;
  const noRings = () => {
    host.capabilities.delete(kvm.KVM_CAP_DIRTY_LOG_RING);
    host.capabilities.delete(kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
  };
  const refused = () => {
    host.failOn('KVM_ENABLE_CAP', 'EINVAL', 1);
    host.failOn('KVM_ENABLE_CAP', 'EINVAL', 2);
  };

  it.each([
    ['by default', undefined, none],
    ['where the host has no rings', 1024, noRings],
    ['where it refuses them', 1024, refused],
  ])('come from the dirty log %s', (_, dirtyRing, prepare) => {
    prepare();
    start(1, { dirtyRing });
    engine.writeTracker.start();
    host.vm.write(3 * PAGE);
    engine.reset();
    host.vm.write(5 * PAGE);
    expect(written()).toEqual([3, 5]);
    expect(host.vm.ringSize).toBe(0);
    expect(host.callsOf('KVM_GET_DIRTY_LOG').length).toBeGreaterThan(0);
  });

  it('are in the rings of every new VM', () => {
    start(2, { dirtyRing: 1024 });
    engine.writeTracker.start();
    host.vm.write(3 * PAGE, 1);
    const before = host.runnerRing(host.runner as never, 0);
    engine.reset();
    expect(before.byteLength).toBe(0);
    host.vm.write(4 * PAGE, 1);
    expect(written()).toEqual([3, 4]);
    expect(host.vms.map(vm => vm.ringSize)).toEqual([16_384, 16_384]);
  });
});

describe('an engine that cannot be made', () => {
  it.each([
    ['KVM_CREATE_VM', 1],
    ['KVM_GET_SUPPORTED_CPUID', 1],
    ['KVM_CREATE_IRQCHIP', 1],
    ['KVM_CREATE_PIT2', 1],
    ['KVM_SET_GSI_ROUTING', 1],
    ['KVM_CREATE_VCPU', 1],
    ['KVM_CREATE_VCPU', 2],
    ['KVM_SET_CPUID2', 2],
    ['KVM_GET_VCPU_MMAP_SIZE', 1],
    ['runnerCreate', 1],
    ['KVM_SET_USER_MEMORY_REGION', 1],
  ])('because %s fails (call %d) leaves nothing open', (name, nth) => {
    host.failOn(name, 'ENOMEM', nth);
    expect(errorOf(() => new KvmEngine(options(2)))).toMatchObject({ details: { errno: 'ENOMEM' } });
    expect(host.openFiles).toEqual([]);
    expect(host.runners.every(r => r.destroyed)).toBe(true);
    expect(host.addresses.kept).toBe(0);
  });

  it('for want of a capability says which, and leaves nothing open', () => {
    host.capabilities.delete(kvm.KVM_CAP_IMMEDIATE_EXIT);
    const e = errorOf(() => new KvmEngine(options(1)));
    expect(e).toMatchObject({ code: 'ERR_ENGINE_UNAVAILABLE' });
    expect(e.message).toContain('KVM_CAP_IMMEDIATE_EXIT');
    expect(host.openFiles).toEqual([]);
  });
});

describe('the end of an engine', () => {
  it('closes every descriptor, doorbells that nobody disposed too', async () => {
    start(2);
    engine.doorbells!.register('memory', MMIO, { offset: 0, size: 4, ring: () => undefined });
    await engine[Symbol.asyncDispose]();
    await engine[Symbol.asyncDispose]();
    expect(host.openFiles).toEqual([]);
    expect(host.runner.destroyed).toBe(true);
    expect(host.addresses.kept).toBe(0);
  });

  it('ends vCPUs before their descriptors, and those before the VM and the system', async () => {
    start(2);
    host.calls.length = 0;
    await engine[Symbol.asyncDispose]();
    expect(host.callsOf('close').map(c => c.on)).toEqual(['vcpu 0', 'vcpu 1', 'vm', '/dev/kvm']);
  });

  it('lets what is disposed afterwards end in silence', async () => {
    start(2);
    const bell = engine.doorbells!.register('memory', MMIO, { offset: 0, size: 4, ring: () => undefined });
    const mapping = engine.slots.map(0xe000_0000, PAGE, engine.slots.allocate(PAGE), 0, false);
    await engine[Symbol.asyncDispose]();
    bell![Symbol.dispose]();
    mapping![Symbol.dispose]();
    engine.kick();
    engine.pause();
    expect(engine.step(LONG)).toBe('stopped');
    expect(host.openFiles).toEqual([]);
  });

  it('runs nothing afterwards', async () => {
    start();
    cpu().script.push(store(MMIO, 4, 1));
    await engine[Symbol.asyncDispose]();
    expect(engine.step(LONG)).toBe('stopped');
    expect(sink.events).toEqual([]);
  });
});

describe('held time', () => {
  it('stands still for the guest until it is released, once', () => {
    start();
    host.vm.clock = 100n;
    engine.holdTime();
    host.vm.clock = 200n;
    engine.holdTime();
    engine.releaseTime();
    expect(host.vm.clock).toBe(100n);
    host.vm.clock = 300n;
    engine.releaseTime();
    expect(host.vm.clock).toBe(300n);
  });

  it('over a reset is that of the new guest', () => {
    start();
    host.vm.clock = 100n;
    engine.holdTime();
    engine.reset();
    host.vm.clock = 50n;
    engine.releaseTime();
    expect(host.vm.clock).toBe(0n);
  });
});

describe('an engine', () => {
  it('keeps its memory from child processes', () => {
    start(1, { hotplug: guestRam(0x1_0000_0000, 2 * 2 ** 20)[0] });
    expect(keptFromChildren).toBe(2);
  });

  it('gives memory back, which the guest sees as zeros', () => {
    start();
    host.vm.memory.write(PAGE, Uint8Array.of(1));
    engine.discard(PAGE, PAGE);
    expect(host.vm.memory.read(PAGE, 1)).toEqual(Uint8Array.of(0));
    expect(errorOf(() => engine.discard(64 * PAGE, PAGE)).code).toBe('ERR_GUEST_ADDRESS');
  });

  it('plugs and unplugs memory', () => {
    const base = 0x1_0000_0000;
    start(1, { hotplug: guestRam(base, 4 * 2 ** 20)[0] });
    expect(host.vm.memory.read(base, 1)).toBeUndefined();
    engine.plug(base, 2 * 2 ** 20);
    expect(host.vm.memory.read(base, 1)).toBeDefined();
    engine.unplug(base, 2 * 2 ** 20);
    expect(host.vm.memory.read(base, 1)).toBeUndefined();
  });

  it('cannot be doubled, and says what can', () => {
    start();
    expect(errorOf(() => engine.save())).toMatchObject({ code: 'ERR_STATE', hint: expect.stringContaining('emu') });
    expect(errorOf(() => engine.restore()).code).toBe('ERR_STATE');
  });

  it('leaves power of vCPUs to their guest', () => {
    start();
    expect(errorOf(() => engine.vcpus[0]!.start({ pc: 0, x0: 0n })).code).toBe('ERR_INTERNAL');
    expect(errorOf(() => engine.vcpus[0]!.stop()).code).toBe('ERR_INTERNAL');
  });

  it('is of the architecture that it was given', () => {
    const architecture: KvmArchitecture = new X86Architecture({ cpus: 1, invariantTsc: false, reserved: 0 });
    expect(start(1, { architecture }).arch).toBe('x86_64');
    expect(engine.kind).toBe('kvm');
  });
});
