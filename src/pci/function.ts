import type { AccessSize } from '../bus/types.ts';
import { VmError } from '../util/errors.ts';
import { type BarSpec, type BarWindow, checkBars, decodeBars, defineBars } from './bar.ts';
import type { PciBus } from './bus.ts';
import { installCapabilities } from './capabilities.ts';
import type { Capability, CapabilityHost } from './capability.ts';
import { MsiCapability } from './caps/msi.ts';
import { MsixCapability } from './caps/msix.ts';
import { PmCapability } from './caps/pm.ts';
import { ConfigSpace } from './config-space.ts';
import { DmaGate, type DmaMemory } from './dma.ts';
import * as R from './regs.ts';

/** What a function is made of. */
export interface PciFunctionSpec {
  /** For people: messages, traces. */
  readonly name: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId?: number;
  /** Base class, sub-class and programming interface, 24 bits. */
  readonly classCode: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  /** 1 to 4 for INTA to INTD; 0, the default: no INTx. */
  readonly interruptPin?: 0 | 1 | 2 | 3 | 4;
  readonly bars?: readonly BarSpec[];
  /** In the order of the list. Extended ones form the list at 0x100. */
  readonly capabilities?: readonly Capability[];
  /** Header type 0 (default) or 1, a bridge. */
  readonly headerType?: 0 | 1;
  /** Resets the device behind the registers; a promise while it still uses guest memory. */
  readonly reset?: () => void | Promise<void>;
  /** Told when the function may no longer use guest memory, before that takes effect (COMMAND.MASTER, D3hot, unplug). */
  readonly masterChanged?: (allowed: boolean) => void;
  /** The function has left its bus, perhaps without a reset before. */
  readonly detached?: () => void;
  /** The device's state as plain data, while it has no request under way. @throws VmError ERR_STATE when it cannot be had. */
  readonly save?: () => unknown;
  /** Such a state back, in a device that is made alike; guest memory is there. */
  readonly restore?: (state: unknown) => void;
}

/** A function's state; plain data. */
export interface PciFunctionState {
  readonly name: string;
  /** Configuration space, 4096 bytes. */
  readonly config: Uint8Array;
  /** Of each capability, in order. */
  readonly capabilities: readonly unknown[];
  readonly intx: boolean;
  readonly device: unknown;
}

/** What the PCI host does for a function that is on one of its buses. */
export interface FunctionHost extends DmaMemory {
  /** Live windows of `f`, or of functions below it, may have changed. */
  decodeChanged(f: PciFunction): void;
  /** The wire of INTx: level after masking. */
  setIntx(f: PciFunction, level: boolean): void;
  /** A memory write of 32 bits by `f`: an interrupt controller's doorbell, or RAM. */
  signalMsi(f: PciFunction, address: number, data: number): void;
  /** After a guest's write; for traces. */
  configWritten(f: PciFunction, offset: number, size: AccessSize, value: number): void;
}

/** Header bits that a guest may write: IO, MEM, MASTER, PARITY, SERR, INTX_DISABLE (CFG-5; unsupported ones read 0, CMD-5). */
const COMMAND_WRITABLE =
  R.COMMAND_IO | R.COMMAND_MEMORY | R.COMMAND_MASTER | R.COMMAND_PARITY | R.COMMAND_SERR | R.COMMAND_INTX_DISABLE;

/**
 * One PCI function: its configuration space and what the bytes in it decide. It knows no address but what decode reads from
 * the bytes, and no bus number but what its parent bridge's bytes say.
 */
export class PciFunction implements CapabilityHost {
  readonly name: string;
  readonly config = new ConfigSpace();
  /** The function's way into guest RAM. */
  readonly dma = new DmaGate(this);
  readonly bars: readonly BarSpec[];
  readonly capabilities: readonly Capability[];
  readonly interruptPin: number;
  readonly msi: MsiCapability | undefined;
  readonly msix: MsixCapability | undefined;
  readonly pm: PmCapability | undefined;
  /** The bus that the function is on; undefined while it is on none. */
  bus: PciBus | undefined;
  /** device << 3 | function on its bus. */
  devfn = 0;
  readonly #spec: PciFunctionSpec;
  #host: FunctionHost | undefined;
  /** Level that the device wants on its INTx wire, and what the wire has after masking. */
  #intxWanted = false;
  #intxLevel = false;
  #mastered = false;
  #resetting: Promise<void> | undefined;

  /** @throws VmError ERR_BAR, or ERR_INTERNAL when the capabilities do not fit. */
  constructor(spec: PciFunctionSpec) {
    this.#spec = spec;
    this.name = spec.name;
    this.bars = spec.bars ?? [];
    this.capabilities = spec.capabilities ?? [];
    this.interruptPin = spec.interruptPin ?? 0;
    checkBars(this.name, this.bars);
    this.#defineHeader();
    defineBars(this.config, this.bars);
    const find = <T extends Capability>(type: abstract new (...args: never[]) => T) =>
      this.capabilities.find((c): c is T => c instanceof type);
    this.msi = find(MsiCapability);
    this.msix = find(MsixCapability);
    this.pm = find(PmCapability);
    installCapabilities(this, this.capabilities);
    this.config.effect(R.COMMAND, 2, () => {
      this.decodeChanged();
      this.interruptsChanged();
    });
    this.config.effect(R.BASE_ADDRESS_0, 24, () => this.#host?.decodeChanged(this));
    const rom = spec.headerType === 1 ? R.BRIDGE_ROM_ADDRESS : R.ROM_ADDRESS;
    this.config.effect(rom, 4, () => this.#host?.decodeChanged(this));
    this.config.seal();
  }

  /** COMMAND, as the guest has set it. */
  get command(): number {
    return this.config.view.getUint16(R.COMMAND, true);
  }

  /** Requester id: bus, device and function, as the guest has numbered the buses. */
  get requesterId(): number {
    return ((this.bus?.number ?? 0) << 8) | this.devfn;
  }

  /** Whether the function has been put on a bus. */
  get attached(): boolean {
    return this.#host !== undefined;
  }

  /**
   * True while the function may master the bus: COMMAND.MASTER of it and of every bridge above, in D0 (CMD-2, PM-1). Otherwise
   * it sends neither DMA nor messages.
   */
  get mayMaster(): boolean {
    if (this.#host === undefined || !this.#mastersItself) return false;
    for (let b = this.bus?.bridge; b !== undefined; b = b.bus?.bridge) if (!b.#mastersItself) return false;
    return true;
  }

  get #mastersItself(): boolean {
    return (this.command & R.COMMAND_MASTER) !== 0 && (this.pm?.awake ?? true);
  }

  /** Live windows by the bytes; none in D3hot (PM-1). Bridges above and apertures are not looked at. */
  decode(): BarWindow[] {
    return (this.pm?.awake ?? true) ? decodeBars(this.config, this.bars) : [];
  }

  /** The level that the device wants on its INTx pin. INTX_DISABLE, MSI, MSI-X and D3hot keep it off the wire (CMD-4, MSI-3). */
  setIntx(level: boolean): void {
    if (this.#intxWanted === level) return;
    this.#intxWanted = level;
    this.interruptsChanged();
  }

  /** A guest's read of `size` bytes inside one aligned dword. */
  configRead(offset: number, size: AccessSize): number {
    return this.config.read(offset, size);
  }

  /** A guest's write of `size` bytes inside one aligned dword. Everything that follows from it has happened on return (BAR-9). */
  configWrite(offset: number, size: AccessSize, value: number): void {
    this.config.write(offset, size, value);
    this.#host?.configWritten(this, offset, size, value);
  }

  /** Resets registers and device: a power-up, an FLR, a bus reset. The function leaves its windows, and comes back with COMMAND 0. */
  reset(): void {
    this.config.reset();
    for (const c of this.capabilities) c.reset?.();
    this.#intxWanted = false;
    this.decodeChanged();
    this.interruptsChanged();
    const busy = this.#spec.reset?.();
    if (busy === undefined) return;
    const done = busy.finally(() => {
      if (this.#resetting === done) this.#resetting = undefined;
    });
    this.#resetting = done;
  }

  /**
   * What the guest has made of the function, as plain data for {@link restoreRegisters} of one that is made alike. Not while requests
   * are under way.
   * @throws VmError ERR_STATE for a device whose state cannot be had.
   */
  save(): PciFunctionState {
    const { save } = this.#spec;
    // Without BARs there are the registers of configuration space only.
    if (save !== undefined || this.bars.length === 0) {
      return {
        name: this.name,
        config: this.config.bytes.slice(),
        capabilities: this.capabilities.map(c => c.save?.()),
        intx: this.#intxWanted,
        device: save?.(),
      };
    }
    throw new VmError('ERR_STATE', `${this.name}: the state of this device cannot be taken along`, {
      hint: 'unplug the device, or make the VM without it',
      details: { device: this.name },
    });
  }

  /** The bytes of {@link save}, and what follows from them alone. {@link restoreDevice} comes when all functions have theirs. */
  restoreRegisters(s: PciFunctionState): void {
    this.config.bytes.set(s.config);
    for (const [i, c] of this.capabilities.entries()) c.restore?.(s.capabilities[i]);
    this.#intxWanted = s.intx;
  }

  /** The device behind the function, which may use guest memory now. */
  restoreDevice(s: PciFunctionState): void {
    this.decodeChanged();
    this.interruptsChanged();
    this.#spec.restore?.(s.device);
  }

  /** Resolves when the device no longer uses guest memory for what was before the last reset. */
  get settled(): Promise<void> {
    return this.#resetting ?? Promise.resolve();
  }

  functionReset(): void {
    this.reset();
  }

  decodeChanged(): void {
    this.masterChanged();
    this.#host?.decodeChanged(this);
  }

  /** Looks whether the function may still master the bus, and tells the device. Also called for what bridges above decide. */
  masterChanged(): void {
    const allowed = this.mayMaster;
    if (allowed === this.#mastered) return;
    this.#mastered = allowed;
    this.#spec.masterChanged?.(allowed);
  }

  interruptsChanged(): void {
    const { bytes } = this.config;
    // STATUS shows the request itself, whatever masks it (PCI Local Bus 3.0 section 6.2.3).
    if (this.#intxWanted) bytes[R.STATUS]! |= R.STATUS_INTERRUPT;
    else bytes[R.STATUS]! &= ~R.STATUS_INTERRUPT;
    const level =
      this.#host !== undefined &&
      this.#intxWanted &&
      this.interruptPin !== 0 &&
      (this.pm?.awake ?? true) &&
      (this.command & R.COMMAND_INTX_DISABLE) === 0 &&
      !(this.msi?.enabled ?? false) &&
      !(this.msix?.enabled ?? false);
    if (level !== this.#intxLevel) {
      this.#intxLevel = level;
      this.#host?.setIntx(this, level);
    }
    this.msi?.deliverPending();
    this.msix?.deliverPending();
  }

  sendMessage(address: number, data: number): void {
    if (this.mayMaster) this.#host!.signalMsi(this, address, data);
  }

  /** The function is now at `devfn` of `bus`. Called by the bus. */
  attach(bus: PciBus, devfn: number, host: FunctionHost): void {
    this.bus = bus;
    this.devfn = devfn;
    this.#host = host;
    this.dma.connect(host);
    this.config.reset();
    for (const c of this.capabilities) {
      c.reset?.();
      c.placed?.(bus.bridge !== undefined);
    }
    this.config.seal();
    this.decodeChanged();
    this.interruptsChanged();
  }

  /** The function has left its bus: it answers nothing, and neither masters nor interrupts. Called by the bus. */
  detach(): void {
    if (this.#intxLevel) this.#host?.setIntx(this, false);
    this.#intxLevel = false;
    this.#host = undefined;
    this.masterChanged();
    this.bus = undefined;
    this.#spec.detached?.();
  }

  #defineHeader(): void {
    const { config } = this;
    const s = this.#spec;
    const bridge = s.headerType === 1;
    config.define(R.VENDOR_ID, 2, s.vendorId);
    config.define(R.DEVICE_ID, 2, s.deviceId);
    config.define(R.COMMAND, 2, 0, COMMAND_WRITABLE);
    config.define(R.STATUS, 2, this.capabilities.length > 0 ? R.STATUS_CAP_LIST : 0, 0, R.STATUS_ERRORS);
    config.define(R.REVISION_ID, 1, s.revisionId ?? 0);
    for (let i = 0; i < 3; i++) config.define(R.CLASS_CODE + i, 1, (s.classCode >> (8 * i)) & 0xff);
    config.define(R.CACHE_LINE_SIZE, 1, 0, 0xff);
    config.define(R.HEADER_TYPE, 1, bridge ? 1 : 0);
    config.define(R.INTERRUPT_LINE, 1, 0, 0xff);
    config.define(R.INTERRUPT_PIN, 1, this.interruptPin);
    if (bridge) return;
    config.define(R.SUBSYSTEM_VENDOR_ID, 2, s.subsystemVendorId ?? s.vendorId);
    config.define(R.SUBSYSTEM_ID, 2, s.subsystemId ?? s.deviceId);
  }
}
