import type { MessagePort } from 'node:worker_threads';
import { createAddressBus } from '../bus/address-bus.ts';
import { createHypercallBus } from '../bus/hypercall-bus.ts';
import type { AddressBus, BusDevice } from '../bus/types.ts';
import { createKvmHypervisor } from '../devices/kvm-hypervisor/service.ts';
import { Pl011, type Pl011State } from '../devices/pl011/device.ts';
import { Pl031, type Pl031State } from '../devices/pl031/device.ts';
import { createEntropy, type Entropy } from '../devices/psci/entropy.ts';
import { createPsci, type PowerController } from '../devices/psci/psci.ts';
import { createSmccc } from '../devices/psci/smccc.ts';
import { createTrng } from '../devices/psci/trng.ts';
import { A64Engine } from '../engines/emu/a64/engine.ts';
import { createGicV2 } from '../engines/emu/gic/gicv2.ts';
import { createGicV3 } from '../engines/emu/gic/gicv3.ts';
import type { CpuInterface, CpuInterruptWires, ExitSink } from '../engines/engine.ts';
import { hostMemory } from '../engines/host/host-memory.ts';
import { placeArm64 } from '../firmware/boot-arm64.ts';
import { type LoadedKernel, loadKernel } from '../firmware/kernel.ts';
import type { InterruptController } from '../irq/types.ts';
import type { PciFunctionInfo } from '../pci/report.ts';
import { createHostClock } from '../time/host-clock.ts';
import type { Clock } from '../time/types.ts';
import { createVirtualClock } from '../time/virtual-clock.ts';
import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { type AddressRange, ARM_VIRT, ARM_VIRT_SPI, ARM_VIRT_SPIS, hotplugRange } from './address-map.ts';
import { armVirtTree } from './arm-virt-fdt.ts';
import { type BuiltDevice, buildDevice, type DeviceEnvironment } from './devices/build.ts';
import type { Flash } from './flash.ts';
import { HotPlug } from './hot-plug.ts';
import type {
  BalloonStatistics,
  DeviceConfig,
  ExitReason,
  ForkAnswer,
  ForkCall,
  ForkedMachine,
  Machine,
  MachineConfig,
  MachineEvents,
  MachineInfo,
  MemoryMap,
  PinReport,
} from './machine.ts';
import { checkForkable, type MachineState, type RamRegion, withCopies } from './machine-fork.ts';
import { MachineMemory } from './machine-memory.ts';
import { PciRoot } from './pci-root.ts';

/** The guest's system counter: 62.5 MHz, 16 ns a tick, as on QEMU's board. */
const COUNTER_HZ = 62_500_000;
/** Guest time that one step() runs, ns. */
const STEP_NS = 1_000_000;
/** Wall-clock time at which a machine with a virtual clock starts: 2020-01-01, ns since 1970. */
const VIRTUAL_EPOCH = 1_577_836_800_000_000_000n;
/** Unhandled accesses that are worth a line each in the log. */
const LOGGED_ACCESSES = 20;

/** The arm-virt board on the emulated engine, assembled from a configuration. */
export class ArmVirt implements Machine {
  readonly kickWord: Int32Array;
  readonly #config: MachineConfig;
  readonly #events: MachineEvents;
  readonly #engine: A64Engine;
  /** Where memory is plugged and unplugged. */
  readonly #hotplug: AddressRange | undefined;
  readonly #memory: MachineMemory;
  readonly #bus: AddressBus;
  readonly #hypercalls = createHypercallBus();
  readonly #gic: InterruptController & CpuInterface;
  readonly #uart: Pl011;
  readonly #rtc: Pl031;
  readonly #kernel: LoadedKernel | undefined;
  #consoleRoom: (() => void) | undefined;
  #ended = false;
  #stepping = false;
  /** The machine is being forked; no vCPU runs meanwhile. */
  #held: Promise<void> | undefined;
  /** A reset waits for devices; no vCPU runs meanwhile. */
  #resetting = false;
  #unhandled = 0;
  #mpidrs: bigint[];
  #seeds = 0;
  readonly #sources: Entropy[] = [];
  readonly #pci: PciRoot;
  readonly #devices: BuiltDevice[] = [];
  readonly #hotPlug: HotPlug;
  #flash: Flash | undefined;

  /** A machine without PCI devices and without a guest. @throws VmError when the kernel is none. */
  private constructor(config: MachineConfig, events: MachineEvents) {
    this.#config = config;
    this.#events = events;
    this.#kernel = config.kernel === undefined ? undefined : loadKernel(config.kernel);
    const mem = config.devices.find(d => d.kind === 'mem');
    this.#hotplug = mem && hotplugRange(config.memoryBytes, mem.size);
    this.#engine = new A64Engine({
      cpus: config.cpus,
      ramBase: ARM_VIRT.ram.base,
      ramBytes: config.memoryBytes,
      hotplug: this.#hotplug,
      counterHz: COUNTER_HZ,
      hostMemory: hostMemory(),
      clock:
        config.clock === 'virtual'
          ? { kind: 'virtual', clock: createVirtualClock({ startWall: VIRTUAL_EPOCH }) }
          : { kind: 'host', clock: createHostClock(undefined, config.startNs) },
    });
    this.#memory = new MachineMemory({
      engine: this.#engine,
      events,
      pinLimitBytes: config.pinLimitBytes,
      hotplug: this.#hotplug,
    });
    this.kickWord = this.#engine.kickWord;
    this.#mpidrs = this.#engine.vcpus.map(v => this.#engine.mpidr(v.id) & 0xff_00ff_ffffn);
    this.#bus = createAddressBus({ onUnhandled: a => this.#onUnhandled(a.address, a.size, a.value) });
    this.#gic = config.gic === 3 ? this.#gicV3() : this.#gicV2();
    this.#engine.attach({
      sink: this.#sink(),
      interrupts: this.#gic,
      gicSysregs: config.gic === 3,
      log: line => events.log(line),
    });
    this.#uart = new Pl011({
      irq: this.#gic.line(ARM_VIRT_SPI.pl011),
      transmit: bytes => events.console(bytes),
      onRoom: () => this.#consoleRoom?.(),
      waitForDtr: this.#kernel?.format === 'image',
    });
    this.#rtc = new Pl031({ irq: this.#gic.line(ARM_VIRT_SPI.pl031), clock: this.#engine.clock });
    this.#map(ARM_VIRT.pl011, this.#uart);
    this.#map(ARM_VIRT.pl031, this.#rtc);
    this.#pci = new PciRoot({
      bus: this.#bus,
      pins: this.#memory.pins,
      slots: this.#engine.slots,
      interrupts: this.#gic,
      events,
      access: config.pciHost ?? 'ecam',
      pciSlots: config.pciSlots,
      trace: config.trace.includes('pci'),
    });
    this.#hotPlug = new HotPlug(this.#pci.slots, this.#devices, () => this.#ended);
    this.#addHypercalls();
  }

  /**
   * Builds the devices of the configuration, loads the guest and powers the first vCPU on.
   * @throws VmError when a device's host side cannot be had, or the guest does not fit.
   */
  static async create(config: MachineConfig, events: MachineEvents): Promise<ArmVirt> {
    const machine = new ArmVirt(config, events);
    try {
      await machine.#addFlash();
      for (const device of config.devices) {
        const built = await buildDevice(device, machine.#environment());
        machine.#devices.push(built);
        machine.#pci.host.add(built.function);
      }
      if (config.startNs === undefined) machine.#boot();
    } catch (e) {
      await machine.close();
      throw e;
    }
    return machine;
  }

  step(): 'yield' | 'idle' | 'stopped' {
    if (this.#ended) return 'stopped';
    if (this.#resetting || this.#held !== undefined) return 'idle';
    this.#stepping = true;
    this.#memory.pins.nowNs = this.#engine.clock.nowNs();
    this.#engine.clock.runDue();
    const result = this.#engine.step(STEP_NS);
    this.#uart.flush();
    this.#stepping = false;
    return this.#ended ? 'stopped' : result;
  }

  idleMs(): number {
    if (this.#resetting || this.#held !== undefined) return Number.POSITIVE_INFINITY;
    const { clock } = this.#engine;
    const until = Math.min(this.#engine.idleUntilNs(), clock.nextDeadline());
    return Math.max(0, (until - clock.nowNs()) / 1e6);
  }

  consoleInput(bytes: Uint8Array): number {
    return this.#uart.receive(bytes);
  }

  onConsoleRoom(f: () => void): void {
    this.#consoleRoom = f;
  }

  stop(): void {
    this.#end('killed');
  }

  async reset(): Promise<void> {
    if (this.#resetting) return;
    this.#resetting = true;
    this.#ended = false;
    try {
      // A fork is of the guest that was.
      if (this.#held !== undefined) await this.#held;
      this.#gic.reset();
      this.#uart.reset();
      this.#rtc.reset();
      this.#flash?.reset();
      this.#pci.host.reset();
      // What is under way for this guest must not come out in the next one's memory (pins, table 4.3, guest reset: drain).
      await Promise.all(this.#devices.map(d => d.function.settled));
      if (this.#ended) return;
      this.#memory.clear();
      for (const d of this.#devices) d.hotplug?.systemReset();
      this.#engine.reset();
      this.#boot();
    } finally {
      this.#resetting = false;
    }
    this.#events.wake?.();
  }

  memoryHash(): string {
    return this.#memory.hash();
  }

  info(): MachineInfo {
    const vcpus = this.#engine.vcpus.map(v => ({
      id: v.id,
      state: v.state,
      instructions: this.#engine.instructions(v.id),
      pc: Number(this.#engine.pc(v.id)),
    }));
    return {
      machine: 'arm-virt',
      engine: 'emu',
      memoryBytes: this.#config.memoryBytes,
      clock: this.#config.clock,
      gic: this.#config.gic,
      counterHz: COUNTER_HZ,
      timeNs: this.#engine.clock.nowNs(),
      instructions: vcpus.reduce((sum, v) => sum + v.instructions, 0),
      vcpus,
    };
  }

  pci(): PciFunctionInfo[] {
    return this.#pci.report();
  }

  pins(): PinReport {
    return this.#memory.report();
  }

  memoryMap(): MemoryMap {
    return this.#memory.map();
  }

  forkMemory(limitMs: number): Promise<number> {
    return this.#memory.forks.fork(limitMs);
  }

  async forkMachine(copies: ReadonlyMap<string, string>, limitMs: number): Promise<ForkedMachine> {
    checkForkable(this.#config.devices, this.#devices, this.#flash !== undefined, copies);
    if (this.#held !== undefined || this.#resetting) {
      throw new VmError('ERR_STATE', 'the VM is being forked or reset', { hint: 'try again when that is over' });
    }
    const forked = withCopies(this.#devices, copies, async copy => {
      let state: MachineState | undefined;
      const fork = await this.#memory.forks.fork(limitMs, async () => {
        await copy();
        state = this.#save();
      });
      return { fork, state: state! };
    });
    this.#held = forked.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await forked;
    } finally {
      this.#held = undefined;
      this.#events.wake?.();
    }
  }

  ram(): readonly RamRegion[] {
    return this.#engine.memory.regions.map(({ base, bytes }) => ({ base, bytes }));
  }

  restore(s: MachineState): void {
    for (const d of this.#devices) d.hotplug?.restore(s.hotplug);
    this.#engine.restore(s.engine);
    this.#gic.restore(s.interrupts);
    this.#uart.restore(s.uart as Pl011State);
    this.#rtc.restore(s.rtc as Pl031State);
    this.#seeds = s.entropy[0]!;
    for (const [i, source] of this.#sources.entries()) source.position = s.entropy[i + 1]!;
    this.#pci.host.restore(s.functions);
  }

  #save(): MachineState {
    return {
      nowNs: this.#engine.clock.nowNs(),
      engine: this.#engine.save(),
      interrupts: this.#gic.save(),
      uart: this.#uart.save(),
      rtc: this.#rtc.save(),
      hotplug: this.#devices.find(d => d.hotplug !== undefined)?.hotplug?.save(),
      entropy: [this.#seeds, ...this.#sources.map(s => s.position)],
      functions: this.#pci.host.save(),
    };
  }

  writeBackMemory(path: string): Promise<number> {
    return this.#memory.files.open(path);
  }

  flushMemory(file: number, limitMs: number): Promise<number> {
    return this.#memory.files.flush(file, limitMs);
  }

  closeMemory(file: number): Promise<void> {
    return this.#memory.files.close(file);
  }

  forked(fork: number, call: ForkCall): Promise<ForkAnswer> {
    return this.#memory.forks.call(fork, call);
  }

  async plug(device: DeviceConfig): Promise<void> {
    await this.#hotPlug.plug(await buildDevice(device, this.#environment()));
  }

  unplug(name: string): Promise<void> {
    return this.#hotPlug.unplug(name);
  }

  vsockConnect(port: number, stream: MessagePort): void {
    this.#device('vsock', '--vsock 3').connect(port, stream);
  }

  vsockListen(port: number, control: MessagePort): void {
    this.#device('vsock', '--vsock 3').listen(port, control);
  }

  channel(name: string, stream: MessagePort): void {
    const consoles = this.#devices.flatMap(d => d.channels ?? []);
    if (consoles.some(c => c.attach(name, stream))) return;
    throw new VmError('ERR_STATE', `the VM has no channel '${name}'`, {
      hint:
        consoles.length === 0
          ? `make it with the option 'channel', on the command line --channel ${name}`
          : `its channels are ${consoles.flatMap(c => c.names).join(', ')}`,
      details: { channel: name },
    });
  }

  balloon(): number {
    return this.#device('balloon', '--balloon').actual;
  }

  setBalloon(bytes: number): void {
    this.#device('balloon', '--balloon').set(bytes);
  }

  balloonStatistics(limitMs: number): Promise<BalloonStatistics> {
    return this.#device('balloon', '--balloon').statistics(limitMs);
  }

  hotplugged(): number {
    return this.#device('hotplug', '--hotplug 1G').plugged;
  }

  requestHotplug(bytes: number): void {
    this.#device('hotplug', '--hotplug 1G').requested = bytes;
  }

  /** The host's side of the first device that has one of this kind. */
  #device<K extends 'vsock' | 'balloon' | 'hotplug'>(kind: K, flag: string): NonNullable<BuiltDevice[K]> {
    for (const d of this.#devices) {
      const side = d[kind];
      if (side !== undefined) return side;
    }
    throw new VmError('ERR_STATE', `the VM has no ${kind} device`, {
      hint: `make it with the option '${kind}', on the command line ${flag}`,
    });
  }

  expectsIo(): boolean {
    return this.#devices.some(d => d.expectsIo?.() ?? false);
  }

  async close(): Promise<void> {
    for (const d of this.#devices.splice(0)) {
      // Requests that are under way use guest memory and the host's files.
      d.function.reset();
      await d.function.settled;
      await d.close?.();
    }
    this.#flash?.close();
    await this.#memory.close();
  }

  /** Engine internals for tests and debuggers. */
  get engine(): A64Engine {
    return this.#engine;
  }

  /** A vCPU's interrupt that comes between two steps, from the host's side of a device, ends the sleep of an idle machine. */
  #wires(): CpuInterruptWires {
    return {
      setIrq: (cpu, irq, fiq) => {
        this.#engine.setIrq(cpu, irq, fiq);
        if ((irq || fiq) && !this.#stepping) this.#events.wake?.();
      },
    };
  }

  /** The machine's clock for devices: a timer that is set between two steps may be the next thing to happen. */
  #deviceClock(): Clock {
    const { clock } = this.#engine;
    return {
      nowNs: () => clock.nowNs(),
      wall: () => clock.wall(),
      at: (ns, f) => {
        const timer = clock.at(ns, f);
        if (!this.#stepping) this.#events.wake?.();
        return timer;
      },
    };
  }

  async #addFlash(): Promise<void> {
    const { firmware, flash: file } = this.#config;
    if (firmware === undefined && file === undefined) return;
    // Loaded when it is needed, as the code of devices is.
    const { Flash } = await import('./flash.ts');
    this.#flash = new Flash({ firmware, file, bus: this.#bus, slots: this.#engine.slots, events: this.#events });
  }

  /** A source of randomness: the host's, or in a deterministic run one by `seed`. */
  #entropy(seed: string): Entropy {
    const entropy = createEntropy(this.#deterministic ? seed : undefined);
    this.#sources.push(entropy);
    return entropy;
  }

  #environment(): DeviceEnvironment {
    const { cpus, seed, clock, virtio = 'modern' } = this.#config;
    return {
      memory: this.#memory.noted(),
      pins: this.#memory.pins,
      hotplug: this.#hotplug,
      slots: this.#engine.slots,
      clock: this.#deviceClock(),
      events: this.#events,
      cpus,
      entropy: this.#entropy(`devices ${seed ?? 0} ${this.#devices.length}`),
      deterministic: clock === 'virtual',
      virtio,
    };
  }

  #end(reason: ExitReason, detail?: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#engine.stop();
    this.#uart.flush();
    this.#events.exit(reason, detail);
  }

  #map({ base, size }: AddressRange, device: BusDevice): void {
    this.#bus.map(base, size, device);
  }

  #gicV3(): InterruptController & CpuInterface {
    const gic = createGicV3({
      cpus: this.#config.cpus,
      spis: ARM_VIRT_SPIS,
      memory: this.#engine.memory,
      wires: this.#wires(),
      mpidr: cpu => this.#engine.mpidr(cpu),
      its: true,
      itsAddress: ARM_VIRT.its.base,
      distributorAddress: ARM_VIRT.gicd.base,
    });
    this.#map(ARM_VIRT.gicd, gic.distributor);
    this.#map({ base: ARM_VIRT.gicr.base, size: this.#config.cpus * 0x2_0000 }, gic.redistributors);
    if (gic.its !== undefined) this.#map(ARM_VIRT.its, gic.its);
    return gic;
  }

  #gicV2(): InterruptController & CpuInterface {
    const gic = createGicV2({
      cpus: this.#config.cpus,
      spis: ARM_VIRT_SPIS,
      wires: this.#wires(),
      currentCpu: () => this.#currentCpu,
      v2m: { base: ARM_VIRT_SPI.v2m + 32, count: ARM_VIRT_SPI.v2mCount, address: ARM_VIRT.gicv2m.base },
    });
    this.#map(ARM_VIRT.gicd, gic.distributor);
    this.#map(ARM_VIRT.gicc, gic.cpuInterface);
    this.#map(ARM_VIRT.gicv2m, gic.v2m);
    // A GICv2 has no system registers.
    return Object.assign(gic, { readRegister: () => undefined, writeRegister: () => false });
  }

  /** The vCPU whose access is on the bus. */
  #currentCpu = 0;

  #sink(): ExitSink {
    const trace = this.#config.trace.includes('mmio') ? this.#events.trace?.bind(this.#events) : undefined;
    return {
      mmioRead: (cpu, address, size) => {
        this.#currentCpu = cpu;
        const v = size === 8 ? this.#bus.read64(address) : this.#bus.read(address, size as 1 | 2 | 4);
        trace?.(`mmio cpu${cpu} read${8 * size} ${hex(address)} -> 0x${v.toString(16)}`);
        return v;
      },
      mmioWrite: (cpu, address, size, value) => {
        this.#currentCpu = cpu;
        trace?.(`mmio cpu${cpu} write${8 * size} ${hex(address)} <- 0x${value.toString(16)}`);
        if (size === 8) this.#bus.write64(address, value as bigint);
        else this.#bus.write(address, size as 1 | 2 | 4, value as number);
      },
      hypercall: call => {
        this.#hypercalls.handle(call);
        if (this.#config.trace.includes('hypercall')) this.#events.trace?.(`hvc cpu${call.cpu} ${hex(call.id)}`);
      },
      failed: (_cpu, why) => this.#end('crash', why),
    };
  }

  #addHypercalls(): void {
    const engine = this.#engine;
    const power: PowerController = {
      cpus: this.#mpidrs.map(mpidr => ({ mpidr })),
      state: cpu => (engine.vcpus[cpu]?.state === 'off' ? 'off' : 'on'),
      start: (cpu, pc, x0) => {
        const vcpu = engine.vcpus[cpu];
        if (vcpu === undefined || vcpu.state !== 'off') return 'already-on';
        vcpu.start({ pc, x0 });
        return 'ok';
      },
      stop: cpu => engine.vcpus[cpu]?.stop(),
      suspend: cpu => engine.waitForInterrupt(cpu),
      system: (event, cause) => this.#end(event, cause),
    };
    const { seed } = this.#config;
    this.#hypercalls.add(createPsci(power));
    this.#hypercalls.add(createSmccc());
    this.#hypercalls.add(createTrng(this.#entropy(`trng ${seed ?? 0}`)));
    this.#hypercalls.add(createKvmHypervisor());
  }

  /** Whether everything random comes from a seed. */
  get #deterministic(): boolean {
    return this.#config.seed !== undefined || this.#config.clock === 'virtual';
  }

  /** Loads the guest and powers the first vCPU on. */
  #boot(): void {
    if (this.#kernel === undefined && this.#config.firmware === undefined) return;
    const { memory } = this.#engine;
    const { initrd, params, memoryBytes, cpus, gic, seed } = this.#config;
    const entropy = createEntropy(this.#deterministic ? `fdt ${seed ?? 0} ${this.#seeds++}` : undefined);
    const access = this.#config.pciHost ?? 'ecam';
    const pci = { pins: this.#pci.pins(), lastBus: this.#pci.lastBus, access };
    const tree = { cpus, gic, ramBytes: memoryBytes, params, seed: entropy(64), pci, flash: this.#flash?.banks };
    if (this.#kernel === undefined) {
      // A firmware finds the device tree at the start of RAM.
      memory.write(ARM_VIRT.ram.base, armVirtTree(tree));
      this.#engine.vcpus[0]?.start({ pc: ARM_VIRT.flash0.base, x0: BigInt(ARM_VIRT.ram.base) });
      return;
    }
    // The initrd's place does not change the size of the tree.
    const size = armVirtTree({ ...tree, initrd: initrd && { start: 0, end: 0 } }).length;
    const placed = placeArm64({
      memory,
      ramBase: ARM_VIRT.ram.base,
      ramSize: memoryBytes,
      kernel: this.#kernel,
      initrd,
      dtbSize: size,
    });
    const where =
      placed.initrdStart === undefined || placed.initrdEnd === undefined
        ? undefined
        : { start: placed.initrdStart, end: placed.initrdEnd };
    memory.write(placed.dtbAddress, armVirtTree({ ...tree, initrd: where }));
    this.#engine.vcpus[0]?.start({ pc: placed.entry, x0: BigInt(placed.dtbAddress) });
  }

  #onUnhandled(address: number, size: number, value: number | undefined): void {
    if (++this.#unhandled > LOGGED_ACCESSES) return;
    const what = value === undefined ? 'read of' : `write of ${hex(value)} to`;
    const more = this.#unhandled === LOGGED_ACCESSES ? ' (no more of these will be reported)' : '';
    this.#events.log(`guest: ${8 * size}-bit ${what} ${hex(address)}, where nothing is${more}`);
  }
}
