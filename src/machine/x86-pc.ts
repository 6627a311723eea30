import { createAddressBus } from '../bus/address-bus.ts';
import type { Hypercall } from '../bus/hypercall.ts';
import type { AddressBus } from '../bus/types.ts';
import { AcpiPm, type AcpiPmState } from '../devices/acpi-pm/device.ts';
import { I8042, type I8042State } from '../devices/i8042/device.ts';
import { Mc146818, type Mc146818State } from '../devices/mc146818/device.ts';
import { PcReset, type PcResetState } from '../devices/pc-reset/device.ts';
import { Uart16550, type Uart16550State } from '../devices/uart16550/device.ts';
import type { VmClock, VmClockState } from '../devices/vmclock/device.ts';
import { placeX86 } from '../firmware/boot-x86.ts';
import { E820_NVS, E820_RESERVED, type E820Entry } from '../firmware/e820.ts';
import { type LoadedX86Kernel, loadX86Kernel } from '../firmware/x86-kernel.ts';
import type { InterruptController } from '../irq/types.ts';
import { ConfigMechanism1 } from '../pci/mechanism1.ts';
import {
  type AddressRange,
  checkMemoryEnd,
  hotplugRange,
  X86_PC,
  X86_PC_GSI,
  X86_PC_PORT,
  x86PciMem64,
} from './address-map.ts';
import type { Board, BoardContext, MachineEngine } from './board.ts';
import type { PtpInfo } from './clock-info.ts';
import { MachineMemory } from './machine-memory.ts';
import { PciRoot } from './pci-root.ts';
import { unhandledAccesses } from './unhandled.ts';
import { placeVmClock } from './vmclock.ts';
import type { MakeX86Cpus, X86Cpus } from './x86-cpus.ts';
import { X86_PC_SLP_TYP_S5, x86PcAcpi } from './x86-pc-acpi.ts';

/** Video memory, option ROMs and BIOS of a PC: there is RAM, but guests must not take it for such. */
const LEGACY: E820Entry = { base: 0xa_0000, size: 0x6_0000, type: E820_RESERVED };
/** The two ports of the i8042; between them is the speaker's, which is KVM's. */
const I8042_COMMAND = 4;

/** The state of the board's own devices. */
interface X86PcState {
  readonly uart: Uart16550State;
  readonly rtc: Mc146818State;
  readonly pm: AcpiPmState;
  readonly keyboard: I8042State;
  readonly reset: PcResetState;
  readonly configAddress: number;
  readonly vmclock: VmClockState;
}

/** The x86-pc board: a PC without a past, PCI Express and ACPI and what an unmodified kernel asks for beside them. */
export class X86Pc implements Board {
  readonly name = 'x86-pc';
  readonly engine: MachineEngine;
  readonly memory: MachineMemory;
  readonly hotplug: AddressRange | undefined;
  readonly bus: AddressBus;
  readonly ports: AddressBus;
  readonly interrupts: InterruptController;
  readonly console: Uart16550;
  readonly pci: PciRoot;
  readonly flash = false;
  readonly #context: BoardContext;
  readonly #cpus: X86Cpus;
  readonly #ram: readonly AddressRange[];
  readonly #pciMem64: AddressRange;
  readonly #kernel: LoadedX86Kernel | undefined;
  readonly #rtc: Mc146818;
  readonly #pm: AcpiPm;
  readonly #keyboard: I8042;
  readonly #reset: PcReset;
  readonly #mechanism1: ConfigMechanism1;
  readonly #vmclock: VmClock;

  /** @throws VmError when the kernel is none, or the engine cannot be had. */
  constructor(context: BoardContext, makeCpus: MakeX86Cpus) {
    this.#context = context;
    const { config, events } = context;
    this.#kernel = config.kernel === undefined ? undefined : loadX86Kernel(config.kernel);
    this.#ram = x86Ram(config.memoryBytes);
    const mem = config.devices.find(d => d.kind === 'mem');
    this.hotplug = mem && x86Hotplug(this.#ram, mem.size);
    this.#cpus = makeCpus(context, this.#ram, this.hotplug);
    this.engine = this.#cpus.engine;
    this.interrupts = this.#cpus.interrupts;
    this.memory = new MachineMemory({
      engine: this.engine,
      events,
      pinLimitBytes: config.pinLimitBytes,
      hotplug: this.hotplug,
    });
    this.bus = createAddressBus({ onUnhandled: unhandledAccesses(events) });
    // Kernels probe for the devices of old PCs: a port where nothing is, is nothing to report.
    this.ports = createAddressBus();
    this.#cpus.connect();

    const irq = (gsi: number) => this.interrupts.line(gsi);
    const { clock } = this.engine;
    this.console = new Uart16550({
      irq: irq(X86_PC_GSI.com1),
      transmit: bytes => events.console(bytes),
      onRoom: () => context.consoleRoom(),
      waitForDtr: this.#kernel?.format === 'bzImage' || this.#kernel?.format === 'vmlinux',
    });
    this.#rtc = new Mc146818({ irq: irq(X86_PC_GSI.rtc), clock });
    this.#pm = new AcpiPm({
      sci: irq(X86_PC_GSI.sci),
      clock,
      sleepTypeS5: X86_PC_SLP_TYP_S5,
      powerOff: () => context.end('shutdown'),
      log: line => events.log(line),
    });
    const reset = () => context.end('reset');
    this.#keyboard = new I8042({ reset });
    this.#reset = new PcReset({ reset });
    this.#pciMem64 = x86PciMem64(this.#cpus.physicalAddressBits);
    try {
      checkMemoryEnd([...this.#ram, this.hotplug], this.#pciMem64.base);
    } catch (e) {
      void this.engine[Symbol.asyncDispose]();
      throw e;
    }
    this.pci = new PciRoot({
      bus: this.bus,
      pins: this.memory.pins,
      slots: this.engine.slots,
      doorbells: this.engine.doorbells,
      interrupts: this.interrupts,
      events,
      memoryWindows: [X86_PC.pciMem32, this.#pciMem64],
      ioWindow: X86_PC_PORT.pciIo,
      ports: this.ports,
      intx: X86_PC_GSI.pciIntx,
      pciSlots: config.pciSlots,
      trace: config.trace.includes('pci'),
    });
    this.#mechanism1 = new ConfigMechanism1(this.pci.host, { portCf9: this.#reset });
    this.#mapDevices();
    this.#vmclock = placeVmClock({
      base: X86_PC.vmclock.base,
      bus: this.bus,
      slots: this.engine.slots,
      entropy: context.entropy(`vmclock ${config.seed ?? 0}`),
      // The guest's time-stamp counter is KVM's.
      counter: undefined,
      hostTime: config.clock === 'host',
    });
  }

  #mapDevices(): void {
    const { com1, rtc, pm1aEvt, pm1aCnt, pmTmr, i8042, pciConfig } = X86_PC_PORT;
    this.ports.map(com1.base, com1.size, this.console);
    this.ports.map(rtc.base, rtc.size, this.#rtc);
    this.ports.map(pm1aEvt.base, pm1aEvt.size, this.#pm.event);
    this.ports.map(pm1aCnt.base, pm1aCnt.size, this.#pm.control);
    this.ports.map(pmTmr.base, pmTmr.size, this.#pm.timer);
    this.ports.map(i8042.base, 1, this.#keyboard.data);
    this.ports.map(i8042.base + I8042_COMMAND, 1, this.#keyboard.command);
    this.ports.map(pciConfig.base, pciConfig.size, this.#mechanism1);
    if (this.#ecam) this.bus.map(X86_PC.pciEcam.base, X86_PC.pciEcam.size, this.pci.host.ecam);
  }

  /** Whether there is memory-mapped configuration space beside mechanism #1. */
  get #ecam(): boolean {
    return (this.#context.config.pciHost ?? 'ecam') === 'ecam';
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

  async prepare(): Promise<void> {}

  boot(): void {
    if (this.#kernel === undefined) return;
    const { memory } = this.engine;
    const { cpus, initrd, params } = this.#context.config;
    const { lastBus } = this.pci;
    const acpi = x86PcAcpi({ cpus, pciMem64: this.#pciMem64, lastBus, powerButton: true, ecam: this.#ecam });
    const start = placeX86({
      memory,
      ram: this.#ram,
      // Of two that overlap the later one counts. NVS: the tables stay where they are for a second kernel (kexec).
      reserved: [
        LEGACY,
        { ...X86_PC.acpi, type: E820_NVS },
        { ...X86_PC.vmclock, type: E820_RESERVED },
        ...(this.#ecam ? [{ ...X86_PC.pciEcam, type: E820_RESERVED }] : []),
      ],
      kernel: this.#kernel,
      initrd,
      params,
      acpiRsdp: acpi.rsdp,
      seed: this.#context.bootEntropy()(32),
    });
    memory.write(X86_PC.acpi.base, acpi.bytes);
    this.#cpus.start(start);
  }

  refresh(nowNs: number): void {
    this.#vmclock.refresh(nowNs);
  }

  timeReleased(): void {
    this.#vmclock.disrupt();
  }

  reset(): void {
    this.console.reset();
    this.#rtc.reset();
    this.#pm.reset();
    this.#keyboard.reset();
    this.#reset.reset();
    this.#mechanism1.reset();
    this.#vmclock.reset();
    this.interrupts.reset();
  }

  save(): X86PcState {
    return {
      uart: this.console.save(),
      rtc: this.#rtc.save(),
      pm: this.#pm.save(),
      keyboard: this.#keyboard.save(),
      reset: this.#reset.save(),
      configAddress: this.#mechanism1.save(),
      vmclock: this.#vmclock.save(),
    };
  }

  restore(state: unknown): void {
    const s = state as X86PcState;
    this.console.restore(s.uart);
    this.#rtc.restore(s.rtc);
    this.#pm.restore(s.pm);
    this.#keyboard.restore(s.keyboard);
    this.#reset.restore(s.reset);
    this.#mechanism1.restore(s.configAddress);
    this.#vmclock.restore(s.vmclock);
  }

  close(): void {}
}

/** Where `bytes` of RAM are: what does not fit below the devices goes on at 4 GiB. */
export function x86Ram(bytes: number): readonly AddressRange[] {
  const low = Math.min(bytes, X86_PC.ramLowEnd);
  const high = bytes - low;
  return [{ base: 0, size: low }, ...(high > 0 ? [{ base: X86_PC.ramHigh, size: high }] : [])];
}

/** Where `size` bytes of memory that is plugged later go: above 4 GiB, where no device is in the way. */
export function x86Hotplug(ram: readonly AddressRange[], size: number): AddressRange {
  return hotplugRange(Math.max(X86_PC.ramHigh, ...ram.map(r => r.base + r.size)), size);
}
