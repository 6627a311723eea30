import type { MessagePort } from 'node:worker_threads';
import { createEntropy, type Entropy } from '../devices/psci/entropy.ts';
import type { ExitSink, Vcpu } from '../engines/engine.ts';
import type { PciFunctionInfo } from '../pci/report.ts';
import type { Clock, ClockPair } from '../time/types.ts';
import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import type { Board, BoardContext, MakeBoard } from './board.ts';
import { type ClockInfo, type ClockSample, clockOffset } from './clock-info.ts';
import { type BuiltDevice, buildDevice, type DeviceEnvironment } from './devices/build.ts';
import { ExitMeter } from './exit-meter.ts';
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
  MachineStats,
  MemoryMap,
  PinReport,
} from './machine.ts';
import { checkForkable, type MachineState, type RamRegion, withCopies } from './machine-fork.ts';

/** How long one step() runs, ns. */
const STEP_NS = 1_000_000;
/**
 * The same for a guest on KVM that needs nobody but its console: a turn of the event loop costs more than most exits, and what
 * becomes due in the loop ends a step there anyway.
 */
const UNDISTURBED_STEP_NS = 10_000_000;

/** A board with its devices, assembled from a configuration: what is the same on every board and engine. */
export class GuestMachine implements Machine {
  readonly kickWord: Int32Array | undefined;
  readonly #config: MachineConfig;
  readonly #events: MachineEvents;
  readonly #board: Board;
  #consoleRoom: (() => void) | undefined;
  #ended = false;
  #stepping = false;
  /** The step is a long one. */
  #undisturbed = false;
  /** The machine is being forked; no vCPU runs meanwhile. */
  #held: Promise<void> | undefined;
  /** A reset waits for devices; no vCPU runs meanwhile. */
  #resetting = false;
  #paused = false;
  /** Both clocks when the guest was started. */
  #started: ClockPair;
  /** A vCPU has run since the machine was made. */
  #ran = false;
  /** Time in the engine, ns. */
  #runNs = 0;
  readonly #meter = new ExitMeter();
  /** The vCPU whose access is on the bus. */
  #currentCpu = 0;
  #seeds = 0;
  readonly #sources: Entropy[] = [];
  readonly #devices: BuiltDevice[] = [];
  readonly #hotPlug: HotPlug;

  /** A machine without PCI devices and without a guest. @throws VmError when the kernel is none. */
  private constructor(config: MachineConfig, events: MachineEvents, makeBoard: MakeBoard) {
    this.#config = config;
    this.#events = events;
    this.#board = makeBoard(this.#context());
    this.kickWord = this.#board.engine.kickWord;
    this.#started = this.#board.engine.clock.pair();
    this.#hotPlug = new HotPlug(this.#board.pci.slots, this.#devices, () => this.#ended);
  }

  /**
   * Builds the devices of the configuration, loads the guest and powers the first vCPU on.
   * @throws VmError when a device's host side cannot be had, or the guest does not fit.
   */
  static async create(config: MachineConfig, events: MachineEvents, makeBoard: MakeBoard): Promise<GuestMachine> {
    const machine = new GuestMachine(config, events, makeBoard);
    try {
      await machine.#board.prepare();
      for (const device of config.devices) {
        const built = await buildDevice(device, machine.#environment());
        machine.#devices.push(built);
        machine.#board.pci.host.add(built.function);
      }
      if (config.startNs === undefined) machine.#board.boot();
    } catch (e) {
      await machine.close();
      throw e;
    }
    return machine;
  }

  step(): 'yield' | 'idle' | 'stopped' {
    if (this.#ended) return 'stopped';
    if (this.#stands) return 'idle';
    this.#stepping = true;
    this.#ran = true;
    const began = performance.now();
    const nowNs = this.#board.engine.clock.nowNs();
    this.#board.memory.pins.nowNs = nowNs;
    this.#board.engine.clock.runDue();
    this.#board.refresh(nowNs);
    this.#undisturbed = this.#board.engine.kind === 'kvm' && this.#needsOnlyConsole;
    const result = this.#board.engine.step(this.#undisturbed ? UNDISTURBED_STEP_NS : STEP_NS, this.#undisturbed);
    this.#board.console.flush();
    this.#stepping = false;
    this.#runNs += (performance.now() - began) * 1e6;
    return this.#ended ? 'stopped' : result;
  }

  watchdog(): number | undefined {
    return this.#board.engine.watchdog?.();
  }

  idleMs(): number {
    if (this.#stands) return Number.POSITIVE_INFINITY;
    const { clock } = this.#board.engine;
    const until = Math.min(this.#board.engine.idleUntilNs(), clock.nextDeadline());
    return Math.max(0, (until - clock.nowNs()) / 1e6);
  }

  consoleInput(bytes: Uint8Array): number {
    return this.#board.console.receive(bytes);
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
      this.#board.engine.pause();
      this.#board.reset();
      this.#board.pci.host.reset();
      // What is under way for this guest must not come out in the next one's memory (pins, table 4.3, guest reset: drain).
      await Promise.all(this.#devices.map(d => d.function.settled));
      if (this.#ended) return;
      this.#board.memory.clear();
      for (const d of this.#devices) d.hotplug?.systemReset();
      this.#board.engine.reset();
      this.#board.boot();
      this.#started = this.#board.engine.clock.pair();
    } finally {
      this.#resetting = false;
    }
    this.#events.wake?.();
  }

  memoryHash(): string {
    return this.#board.memory.hash();
  }

  info(): MachineInfo {
    const { engine, name } = this.#board;
    const vcpus = engine.vcpus.map(v => ({ id: v.id, state: v.state, ...this.#board.vcpu(v.id) }));
    const counted = vcpus.flatMap(v => (v.instructions === undefined ? [] : [v.instructions]));
    return {
      machine: name,
      engine: engine.kind,
      memoryBytes: this.#config.memoryBytes,
      clock: this.#clockInfo(engine.clock.pair()),
      gic: name === 'arm-virt' ? this.#config.gic : undefined,
      counterHz: engine.counterHz,
      timeNs: engine.clock.nowNs(),
      instructions: counted.length === 0 ? undefined : counted.reduce((sum, n) => sum + n, 0),
      vcpus,
    };
  }

  clock(): ClockSample {
    const pair = this.#board.engine.clock.pair();
    return {
      ...this.#clockInfo(pair),
      nowNs: performance.now() * 1e6,
      timeNs: pair.ns,
      wallNs: pair.wallNs,
      ...clockOffset(this.#started, pair),
    };
  }

  #clockInfo({ errorNs }: ClockPair): ClockInfo {
    return { mode: this.#config.clock, source: this.#board.engine.clock.source, errorNs, ptp: this.#board.ptp };
  }

  pause(): void {
    if (this.#ended) throw new VmError('ERR_STATE', 'the VM has ended and cannot be paused');
    if (this.#paused) {
      throw new VmError('ERR_STATE', 'the VM is paused already', { hint: 'vm.resume() lets it go on' });
    }
    const { engine } = this.#board;
    engine.pause();
    engine.holdTime();
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) throw new VmError('ERR_STATE', 'the VM is not paused', { hint: 'vm.pause() pauses it' });
    this.#board.engine.releaseTime();
    this.#board.timeReleased();
    this.#paused = false;
    this.#events.wake?.();
  }

  registers(vcpu: number): Record<string, bigint> {
    return this.#vcpu(vcpu).registers();
  }

  setRegisters(vcpu: number, values: Readonly<Record<string, bigint>>): void {
    if (this.#ran && !this.#paused) {
      throw new VmError('ERR_STATE', 'registers of a VM that runs cannot be set', {
        hint: 'pause it first: vm.pause()',
      });
    }
    this.#vcpu(vcpu).setRegisters(values);
  }

  stats(idleNs: number): MachineStats {
    this.#meter.start();
    return {
      nowNs: performance.now() * 1e6,
      vcpus: this.#board.engine.vcpus.map(({ id, state, counters }) => {
        return { id, state, counters, instructions: this.#board.vcpu(id).instructions };
      }),
      thread: { runNs: this.#runNs, exitNs: this.#meter.totalNs, idleNs },
      accesses: this.#meter.report(),
    };
  }

  #vcpu(id: number): Vcpu {
    const { vcpus } = this.#board.engine;
    const vcpu = vcpus[id];
    if (vcpu !== undefined) return vcpu;
    throw new VmError('ERR_USAGE', `the VM has no vCPU ${id}`, { hint: `it has ${vcpus.length}, from 0 on` });
  }

  pci(): PciFunctionInfo[] {
    return this.#board.pci.report();
  }

  pins(): PinReport {
    return this.#board.memory.report();
  }

  memoryMap(): MemoryMap {
    return this.#board.memory.map();
  }

  forkMemory(limitMs: number): Promise<number> {
    return this.#board.memory.forks.fork(limitMs);
  }

  async forkMachine(copies: ReadonlyMap<string, string>, limitMs: number): Promise<ForkedMachine> {
    checkForkable(this.#config.devices, this.#devices, this.#board.flash, copies);
    if (this.#held !== undefined || this.#resetting) {
      throw new VmError('ERR_STATE', 'the VM is being forked or reset', { hint: 'try again when that is over' });
    }
    const forked = withCopies(this.#devices, copies, async copy => {
      let state: MachineState | undefined;
      const fork = await this.#board.memory.forks.fork(limitMs, async () => {
        await copy();
        state = this.#save();
      });
      return { fork, state: state! };
    });
    this.#board.engine.pause();
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
    return this.#board.engine.memory.regions.map(({ base, bytes }) => ({ base, bytes }));
  }

  restore(s: MachineState): void {
    this.#started = s.started;
    for (const d of this.#devices) d.hotplug?.restore(s.hotplug);
    this.#board.engine.restore(s.engine);
    this.#board.interrupts.restore(s.interrupts);
    this.#board.restore(s.board);
    this.#seeds = s.entropy[0]!;
    for (const [i, source] of this.#sources.entries()) source.position = s.entropy[i + 1]!;
    this.#board.pci.host.restore(s.functions);
  }

  #save(): MachineState {
    return {
      nowNs: this.#board.engine.clock.nowNs(),
      started: this.#started,
      engine: this.#board.engine.save(),
      interrupts: this.#board.interrupts.save(),
      board: this.#board.save(),
      hotplug: this.#devices.find(d => d.hotplug !== undefined)?.hotplug?.save(),
      entropy: [this.#seeds, ...this.#sources.map(s => s.position)],
      functions: this.#board.pci.host.save(),
    };
  }

  writeBackMemory(path: string): Promise<number> {
    return this.#board.memory.files.open(path);
  }

  flushMemory(file: number, limitMs: number): Promise<number> {
    return this.#board.memory.files.flush(file, limitMs);
  }

  closeMemory(file: number): Promise<void> {
    return this.#board.memory.files.close(file);
  }

  forked(fork: number, call: ForkCall): Promise<ForkAnswer> {
    return this.#board.memory.forks.call(fork, call);
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

  /** Whether nothing but the guest itself goes on: no device waits for the host, or for a turn of the event loop. */
  get #needsOnlyConsole(): boolean {
    return !this.#devices.some(d => d.usesLoop || (d.expectsIo?.() ?? false));
  }

  /** What a write of the guest has begun goes on in the event loop: now, where the step is a long one. */
  #written(): void {
    if (!this.#undisturbed || !this.expectsIo()) return;
    this.#undisturbed = false;
    this.#board.engine.kick();
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
    this.#board.close();
    await this.#board.memory.close();
    await this.#board.engine[Symbol.asyncDispose]();
  }

  /** The board, for tests and debuggers. */
  get board(): Board {
    return this.#board;
  }

  /** What the board may use of the machine. */
  #context(): BoardContext {
    const machine = this;
    return {
      config: this.#config,
      events: this.#events,
      end: (reason, detail) => this.#end(reason, detail),
      // An interrupt that comes between two steps, from the host's side of a device, ends the sleep of an idle machine.
      wake: () => {
        if (!this.#stepping) this.#events.wake?.();
      },
      consoleRoom: () => this.#consoleRoom?.(),
      sink: () => this.#meter.wrap(this.#sink(), () => this.#board),
      get currentCpu() {
        return machine.#currentCpu;
      },
      entropy: seed => this.#entropy(seed),
      bootEntropy: () =>
        createEntropy(this.#deterministic ? `fdt ${this.#config.seed ?? 0} ${this.#seeds++}` : undefined),
    };
  }

  /** The machine's clock for devices: a timer that is set between two steps may be the next thing to happen. */
  #deviceClock(): Clock {
    const { clock } = this.#board.engine;
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

  /** A source of randomness: the host's, or in a deterministic run one by `seed`. */
  #entropy(seed: string): Entropy {
    const entropy = createEntropy(this.#deterministic ? seed : undefined);
    this.#sources.push(entropy);
    return entropy;
  }

  #environment(): DeviceEnvironment {
    const { cpus, seed, clock, virtio = 'modern' } = this.#config;
    return {
      memory: this.#board.memory.noted(),
      pins: this.#board.memory.pins,
      hotplug: this.#board.hotplug,
      slots: this.#board.engine.slots,
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
    this.#board.engine.stop();
    this.#board.console.flush();
    this.#events.exit(reason, detail);
  }

  #sink(): ExitSink {
    const config = this.#config;
    const trace = config.trace.includes('mmio') ? this.#events.trace?.bind(this.#events) : undefined;
    return {
      mmioRead: (cpu, address, size) => {
        this.#currentCpu = cpu;
        const { bus } = this.#board;
        const v = size === 8 ? bus.read64(address) : bus.read(address, size as 1 | 2 | 4);
        trace?.(`mmio cpu${cpu} read${8 * size} ${hex(address)} -> 0x${v.toString(16)}`);
        return v;
      },
      mmioWrite: (cpu, address, size, value) => {
        this.#currentCpu = cpu;
        const { bus } = this.#board;
        trace?.(`mmio cpu${cpu} write${8 * size} ${hex(address)} <- 0x${value.toString(16)}`);
        if (size === 8) bus.write64(address, value as bigint);
        else bus.write(address, size as 1 | 2 | 4, value as number);
        this.#written();
      },
      portIn: (cpu, port, size) => {
        this.#currentCpu = cpu;
        const v = this.#board.ports?.read(port, size as 1 | 2 | 4) ?? 2 ** (8 * size) - 1;
        trace?.(`port cpu${cpu} in${8 * size} ${hex(port)} -> 0x${v.toString(16)}`);
        return v;
      },
      portOut: (cpu, port, size, value) => {
        this.#currentCpu = cpu;
        trace?.(`port cpu${cpu} out${8 * size} ${hex(port)} <- 0x${value.toString(16)}`);
        this.#board.ports?.write(port, size as 1 | 2 | 4, value);
        this.#written();
      },
      hypercall: call => {
        this.#board.hypercall(call);
        if (config.trace.includes('hypercall')) this.#events.trace?.(`hvc cpu${call.cpu} ${hex(call.id)}`);
      },
      system: event => {
        // A guest that suspends the machine waits for an interrupt: its vCPUs do that themselves.
        if (event !== 'suspend') this.#end(event);
      },
      failed: (_cpu, why) => this.#end('crash', why),
    };
  }

  /** Whether no vCPU may run now. */
  get #stands(): boolean {
    return this.#paused || this.#resetting || this.#held !== undefined;
  }

  /** Whether everything random comes from a seed. */
  get #deterministic(): boolean {
    return this.#config.seed !== undefined || this.#config.clock === 'virtual';
  }
}
