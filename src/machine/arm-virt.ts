import { createAddressBus } from '../bus/address-bus.ts';
import type { Hypercall } from '../bus/hypercall.ts';
import type { AddressBus } from '../bus/types.ts';
import { Pl011, type Pl011State } from '../devices/pl011/device.ts';
import { Pl031, type Pl031State } from '../devices/pl031/device.ts';
import type { VmClock, VmClockState } from '../devices/vmclock/device.ts';
import { COUNTER_ARM_VCNT } from '../devices/vmclock/regs.ts';
import { placeArm64 } from '../firmware/boot-arm64.ts';
import { type LoadedKernel, loadKernel } from '../firmware/kernel.ts';
import type { InterruptController } from '../irq/types.ts';
import { type AddressRange, ARM_VIRT, ARM_VIRT_SPI, checkMemoryEnd, hotplugRange } from './address-map.ts';
import type { ArmCpus, MakeArmCpus } from './arm-cpus.ts';
import { armVirtTree } from './arm-virt-fdt.ts';
import type { Board, BoardContext, MachineEngine } from './board.ts';
import type { PtpInfo } from './clock-info.ts';
import type { Flash } from './flash.ts';
import { MachineMemory } from './machine-memory.ts';
import { PciRoot } from './pci-root.ts';
import { unhandledAccesses } from './unhandled.ts';
import { placeVmClock } from './vmclock.ts';

/** The state of the board's own devices. */
interface ArmVirtState {
  readonly uart: Pl011State;
  readonly rtc: Pl031State;
  readonly vmclock: VmClockState;
}

/** The arm-virt board: QEMU's `virt`, as far as guests can tell. */
export class ArmVirt implements Board {
  readonly name = 'arm-virt';
  readonly engine: MachineEngine;
  readonly memory: MachineMemory;
  readonly hotplug: AddressRange | undefined;
  readonly bus: AddressBus;
  readonly interrupts: InterruptController;
  readonly console: Pl011;
  readonly pci: PciRoot;
  readonly #context: BoardContext;
  readonly #cpus: ArmCpus;
  readonly #rtc: Pl031;
  readonly #vmclock: VmClock;
  readonly #kernel: LoadedKernel | undefined;
  #flash: Flash | undefined;

  /** @throws VmError when the kernel is none, or the engine cannot be had. */
  constructor(context: BoardContext, makeCpus: MakeArmCpus) {
    this.#context = context;
    const { config, events } = context;
    this.#kernel = config.kernel === undefined ? undefined : loadKernel(config.kernel);
    const mem = config.devices.find(d => d.kind === 'mem');
    this.hotplug = mem && hotplugRange(ARM_VIRT.ram.base + config.memoryBytes, mem.size);
    const { ram } = ARM_VIRT;
    checkMemoryEnd([{ base: ram.base, size: config.memoryBytes }, this.hotplug], ram.base + ram.size);
    this.#cpus = makeCpus(context, this.hotplug);
    this.engine = this.#cpus.engine;
    this.interrupts = this.#cpus.interrupts;
    this.memory = new MachineMemory({
      engine: this.engine,
      events,
      pinLimitBytes: config.pinLimitBytes,
      hotplug: this.hotplug,
    });
    this.bus = createAddressBus({ onUnhandled: unhandledAccesses(events) });
    this.#cpus.connect(this.bus);
    this.console = new Pl011({
      irq: this.interrupts.line(ARM_VIRT_SPI.pl011),
      transmit: bytes => events.console(bytes),
      onRoom: () => context.consoleRoom(),
      waitForDtr: this.#kernel?.format === 'image',
    });
    this.#rtc = new Pl031({ irq: this.interrupts.line(ARM_VIRT_SPI.pl031), clock: this.engine.clock });
    this.bus.map(ARM_VIRT.pl011.base, ARM_VIRT.pl011.size, this.console);
    this.bus.map(ARM_VIRT.pl031.base, ARM_VIRT.pl031.size, this.#rtc);
    const { clock, seed } = config;
    const read = this.#cpus.readCounter?.bind(this.#cpus);
    this.#vmclock = placeVmClock({
      base: ARM_VIRT.vmclock.base,
      bus: this.bus,
      slots: this.engine.slots,
      entropy: context.entropy(`vmclock ${seed ?? 0}`),
      counter: read && { id: COUNTER_ARM_VCNT, hz: this.engine.counterHz, read, exact: clock === 'virtual' },
      hostTime: clock === 'host',
    });
    const { pciEcam, pciIo, pciMem32, pciMem64 } = ARM_VIRT;
    const access = config.pciHost ?? 'ecam';
    this.pci = new PciRoot({
      bus: this.bus,
      pins: this.memory.pins,
      slots: this.engine.slots,
      doorbells: this.engine.doorbells,
      interrupts: this.interrupts,
      events,
      memoryWindows: [pciMem32, pciMem64],
      ioWindow: { base: 0, size: pciIo.size },
      intx: ARM_VIRT_SPI.pciIntx,
      pciSlots: config.pciSlots,
      trace: config.trace.includes('pci'),
    });
    const { host, io } = this.pci;
    if (access === 'ecam') this.bus.map(pciEcam.base, pciEcam.size, host.ecam);
    else this.bus.map(pciEcam.base, pciEcam.size / 16, host.cam);
    this.bus.map(pciIo.base, pciIo.size, {
      name: 'PCI I/O window',
      inside: io,
      read: (offset, size) => io.read(offset, size),
      write: (offset, size, value) => io.write(offset, size, value),
    });
  }

  get flash(): boolean {
    return this.#flash !== undefined;
  }

  get ptp(): PtpInfo {
    return this.#cpus.ptp;
  }

  hypercall(call: Hypercall): void {
    this.#cpus.hypercall(call);
  }

  vcpu(id: number): { instructions: number | undefined; pc: number } {
    return this.#cpus.vcpu(id);
  }

  async prepare(): Promise<void> {
    const { firmware, flash: file } = this.#context.config;
    if (firmware === undefined && file === undefined) return;
    // Loaded when it is needed, as the code of devices is.
    const { Flash } = await import('./flash.ts');
    const { bus, engine } = this;
    this.#flash = new Flash({ firmware, file, bus, slots: engine.slots, events: this.#context.events });
  }

  boot(): void {
    const { config } = this.#context;
    if (this.#kernel === undefined && config.firmware === undefined) return;
    const { memory } = this.engine;
    const { initrd, params, memoryBytes, cpus, gic } = config;
    const pci = { pins: this.pci.pins(), lastBus: this.pci.lastBus, access: config.pciHost ?? 'ecam' };
    const seed = this.#context.bootEntropy()(64);
    const tree = {
      cpus,
      gic,
      pmu: this.#cpus.pmu,
      ramBytes: memoryBytes,
      params,
      seed,
      pci,
      flash: this.#flash?.banks,
    };
    if (this.#kernel === undefined) {
      // A firmware finds the device tree at the start of RAM.
      memory.write(ARM_VIRT.ram.base, armVirtTree(tree));
      this.#cpus.start({ pc: ARM_VIRT.flash0.base, x0: BigInt(ARM_VIRT.ram.base) });
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
    this.#cpus.start({ pc: placed.entry, x0: BigInt(placed.dtbAddress) });
  }

  refresh(nowNs: number): void {
    this.#vmclock.refresh(nowNs);
  }

  timeReleased(): void {
    this.#vmclock.disrupt();
  }

  reset(): void {
    this.interrupts.reset();
    this.console.reset();
    this.#rtc.reset();
    this.#vmclock.reset();
    this.#flash?.reset();
  }

  save(): ArmVirtState {
    return { uart: this.console.save(), rtc: this.#rtc.save(), vmclock: this.#vmclock.save() };
  }

  restore(state: unknown): void {
    const { uart, rtc, vmclock } = state as ArmVirtState;
    this.console.restore(uart);
    this.#rtc.restore(rtc);
    this.#vmclock.restore(vmclock);
  }

  close(): void {
    this.#flash?.close();
  }
}
