import type { Hypercall } from '../../src/bus/hypercall.ts';
import type { AddressBus } from '../../src/bus/types.ts';
import { createEntropy } from '../../src/devices/psci/entropy.ts';
import type { ExitSink } from '../../src/engines/engine.ts';
import { host } from '../../src/engines/host/host.ts';
import { hostMemory } from '../../src/engines/host/host-memory.ts';
import { KvmEngine } from '../../src/engines/kvm/engine.ts';
import { guestRam } from '../../src/engines/kvm/guest-ram.ts';
import { KvmSystem } from '../../src/engines/kvm/system.ts';
import { KvmVm } from '../../src/engines/kvm/vm.ts';
import { X86Architecture } from '../../src/engines/kvm/x86/architecture.ts';
import type { ArmCpus, MakeArmCpus } from '../../src/machine/arm-cpus.ts';
import { EmulatedArmCpus } from '../../src/machine/arm-cpus-emu.ts';
import { KvmArmCpus } from '../../src/machine/arm-cpus-kvm.ts';
import type { BoardContext } from '../../src/machine/board.ts';
import { createHostClock } from '../../src/time/host-clock.ts';
import type { Subject, SubjectFactory, SubjectOptions } from './contract.ts';
import { ARM, X86 } from './places.ts';

// The engines that the suite knows: vCPUs and interrupt controllers as the boards have them, without the boards.

/** arm64, emulated. */
export const emulatedArm: SubjectFactory = o => new ArmSubject(o, (c, h) => new EmulatedArmCpus(c, h));

/** arm64 on KVM. */
export const kvmArm: SubjectFactory = o => new ArmSubject(o, (c, h) => new KvmArmCpus(c, h));

/** x86-64 on KVM. */
export const kvmX86: SubjectFactory = o => new KvmX86Subject(o);

class ArmSubject implements Subject {
  readonly code = ARM.code;
  readonly end = ARM.end;
  readonly #cpus: ArmCpus;

  constructor(o: SubjectOptions, make: MakeArmCpus) {
    const hotplug = o.hotplug === 0 ? undefined : { base: ARM.hotplug, size: o.hotplug };
    this.#cpus = make(context(o), hotplug);
  }

  get kind() {
    return this.engine.kind;
  }

  get engine() {
    return this.#cpus.engine;
  }

  get interrupts() {
    return this.#cpus.interrupts;
  }

  connect(bus: AddressBus): void {
    this.#cpus.connect(bus);
  }

  start(entry: number): void {
    this.#cpus.start({ pc: entry, x0: ARM.x0 });
  }

  hypercall(call: Hypercall): void {
    this.#cpus.hypercall(call);
  }

  coalesce(space: 'memory' | 'io', address: number, size: number): void {
    if (this.engine instanceof KvmEngine) this.engine.coalesce(space, address, size);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
  }
}

class KvmX86Subject implements Subject {
  readonly kind = 'kvm';
  readonly code = X86.code;
  readonly end = X86.end;
  readonly engine: KvmEngine;
  readonly interrupts: X86Architecture;
  readonly #sink: ExitSink;

  constructor({ cpus, hotplug, sink }: SubjectOptions) {
    this.#sink = sink;
    this.interrupts = new X86Architecture({ cpus, invariantTsc: false, reserved: X86.reserved });
    this.engine = new KvmEngine({
      vm: new KvmVm(new KvmSystem(host()), this.interrupts.vmType),
      architecture: this.interrupts,
      ram: [...guestRam(0, X86.low), ...guestRam(X86.high, X86.highBytes)],
      hotplug: hotplug === 0 ? undefined : guestRam(X86.hotplug, hotplug)[0],
      hostMemory: hostMemory(),
      clock: createHostClock(),
      counterHz: 1_000_000_000,
    });
  }

  connect(): void {
    this.engine.attach(this.#sink);
  }

  start(entry: number, mode: 'real' | 'protected' | 'long' = 'protected'): void {
    const { memory } = this.engine;
    // A flat GDT with the selectors of X86VcpuBoot: 0x10 code, 0x18 data (SDM volume 3, 3.4.5).
    memory.setU64(X86.gdt + 0x10, mode === 'long' ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn);
    memory.setU64(X86.gdt + 0x18, 0x00cf_9300_0000_ffffn);
    if (mode === 'long') identity(this.engine);
    this.interrupts.bootCpu.start({
      mode,
      rip: entry,
      rsp: X86.stack,
      rsi: X86.rsi,
      rbx: X86.rbx,
      cr3: mode === 'long' ? X86.pageTables : 0,
      gdt: { base: X86.gdt, limit: 0x1f },
    });
  }

  hypercall(): void {}

  coalesce(space: 'memory' | 'io', address: number, size: number): void {
    this.engine.coalesce(space, address, size);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
  }
}

/** Maps the first 4 GiB to themselves in pages of 2 MiB: PML4, PDPT, four page directories (SDM volume 3, 4.5). */
function identity({ memory }: KvmEngine): void {
  const [PRESENT_WRITE, LARGE] = [3, 0x80];
  const at = X86.pageTables;
  memory.setU64(at, BigInt(at + 0x1000 + PRESENT_WRITE));
  for (let i = 0; i < 4; i++) memory.setU64(at + 0x1000 + 8 * i, BigInt(at + 0x2000 + 0x1000 * i + PRESENT_WRITE));
  for (let i = 0; i < 4 * 512; i++) memory.setU64(at + 0x2000 + 8 * i, BigInt(i * 0x20_0000 + PRESENT_WRITE + LARGE));
}

/** What arm-virt's vCPUs ask of a board. */
function context(o: SubjectOptions): BoardContext {
  const unused = () => {
    throw new Error('no case needs this');
  };
  return {
    config: {
      machine: 'arm-virt',
      engine: 'emu',
      kernel: undefined,
      initrd: undefined,
      params: '',
      memoryBytes: ARM.ramBytes,
      cpus: o.cpus,
      clock: 'host',
      gic: 3,
      trace: [],
      devices: [],
      pciSlots: 0,
    },
    events: { console: unused, exit: unused, log: () => undefined },
    end: o.onEnd,
    wake: o.onWake,
    consoleRoom: unused,
    sink: () => o.sink,
    get currentCpu() {
      return o.currentCpu();
    },
    entropy: seed => createEntropy(seed),
    bootEntropy: unused,
  };
}
