import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { DeviceMemory, MemorySlots } from '../../memory/types.ts';
import type { BarSpec } from '../../pci/bar.ts';
import type { Capability, CapabilityHost } from '../../pci/capability.ts';
import { ExpressCapability } from '../../pci/caps/express.ts';
import { MsiCapability } from '../../pci/caps/msi.ts';
import { MsixCapability, msixLayout } from '../../pci/caps/msix.ts';
import { PmCapability } from '../../pci/caps/pm.ts';
import { PciFunction } from '../../pci/function.ts';
import { STATUS, STATUS_REC_MASTER_ABORT } from '../../pci/regs.ts';
import {
  msiVectors,
  msixBar,
  type PciDeviceBar,
  type PciDeviceCapability,
  type PciDeviceSpec,
  romSize,
} from './definition.ts';
import { allOnes, type DeviceProgram } from './program.ts';

/** The function of a device that is written with the kit: all that follows from its spec. */
export class DeviceFunction extends PciFunction {
  /** Bytes of the BARs of memory, by index. */
  readonly memories: ReadonlyMap<number, Uint8Array>;
  readonly #program: ProgramSocket;

  /**
   * @param name among the functions of the machine.
   * @throws VmError ERR_MEMORY_TOO_LARGE when the engine has no memory for a BAR.
   */
  constructor(spec: PciDeviceSpec, name: string, slots?: MemorySlots | undefined) {
    const program = new ProgramSocket();
    const memories = new Map<number, Uint8Array>();
    const bars = (spec.bars ?? []).map((bar): BarSpec => {
      if (!bar.memory) return { ...bar, memory: undefined, device: new RegisterBar(name, bar.index, program) };
      const memory = allocate(bar, slots);
      memories.set(bar.index, memory.bytes);
      return { ...bar, prefetch: bar.prefetch ?? true, memory, device: new MemoryBar(name, memory.bytes) };
    });
    const capabilities: Capability[] = [new PmCapability()];
    const vectors = msiVectors(spec);
    if (vectors > 0) capabilities.push(new MsiCapability(vectors as 1));
    const messages = spec.msix ?? 0;
    if (messages > 0) {
      const index = msixBar(spec.bars ?? [])!;
      const msix = new MsixCapability(messages, index);
      capabilities.push(msix);
      bars.push({ index, kind: 'mem32', size: msixLayout(messages).size, device: msix });
    }
    capabilities.push(new ExpressCapability({ type: 'endpoint', functionReset: true }));
    for (const c of spec.extraCapabilities ?? []) capabilities.push(new PlainCapability(c));
    if (spec.rom !== undefined) {
      const bytes = new Uint8Array(romSize(spec.rom)).fill(0xff);
      bytes.set(spec.rom);
      bars.push({ index: 'rom', kind: 'mem32', size: bytes.length, device: new MemoryBar(name, bytes, true) });
    }
    super({
      name,
      vendorId: spec.vendor,
      deviceId: spec.device,
      revisionId: spec.revision ?? 0,
      classCode: spec.class ?? 0xff_0000,
      subsystemVendorId: spec.subsystemVendor ?? spec.vendor,
      subsystemId: spec.subsystem ?? spec.device,
      interruptPin: spec.intx ? 1 : 0,
      bars,
      capabilities,
      reset: () => program.connected?.reset(),
      masterChanged: allowed => program.connected?.masterChanged?.(allowed),
    });
    this.memories = memories;
    this.#program = program;
  }

  /** Puts the program behind the registers; until then they read all ones. */
  connect(program: DeviceProgram): void {
    this.#program.connected = program;
  }

  /** Sends vector `n` by MSI-X where the guest has enabled that, else by MSI. */
  trigger(n: number): void {
    if (this.msix?.enabled) this.msix.trigger(n);
    else this.msi?.trigger(n);
  }

  /** A DMA request that no memory answered (PCI Local Bus 3.0 section 6.2.3). */
  masterAborted(): void {
    const status = this.config.view.getUint16(STATUS, true);
    this.config.view.setUint16(STATUS, status | STATUS_REC_MASTER_ABORT, true);
  }

  override detach(): void {
    super.detach();
    this.#program.connected?.unplugged();
  }
}

/** Where the program goes, which needs its function to be there first. */
class ProgramSocket {
  connected: DeviceProgram | undefined;
}

function allocate(bar: PciDeviceBar, slots: MemorySlots | undefined): DeviceMemory {
  if (slots !== undefined && bar.size % slots.pageSize === 0) return slots.allocate(bar.size);
  // Shared, since a program may be on another thread.
  return { bytes: new Uint8Array(new SharedArrayBuffer(bar.size)) };
}

/** A BAR of registers. */
class RegisterBar implements BusDevice {
  readonly name: string;
  readonly #index: number;
  readonly #program: ProgramSocket;

  constructor(device: string, index: number, program: ProgramSocket) {
    this.name = `${device} BAR ${index}`;
    this.#index = index;
    this.#program = program;
  }

  read(offset: number, size: AccessSize): number {
    return this.#program.connected?.read(this.#index, offset, size) ?? allOnes(size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.#program.connected?.write(this.#index, offset, size, value);
  }

  read64(offset: number): bigint {
    return this.#program.connected?.read64(this.#index, offset) ?? 0xffff_ffff_ffff_ffffn;
  }

  write64(offset: number, value: bigint): void {
    this.#program.connected?.write64(this.#index, offset, value);
  }
}

/** Bytes of the device or of its ROM, where the engine does not let the guest at them directly. */
class MemoryBar implements BusDevice {
  readonly name: string;
  readonly #bytes: Uint8Array;
  readonly #readOnly: boolean;

  constructor(device: string, bytes: Uint8Array, readOnly = false) {
    this.name = `${device} ${readOnly ? 'ROM' : 'memory'}`;
    this.#bytes = bytes;
    this.#readOnly = readOnly;
  }

  read(offset: number, size: AccessSize): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.#bytes[offset + i] ?? 0xff);
    return value;
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (this.#readOnly) return;
    for (let i = 0; i < size; i++) this.#bytes[offset + i] = value >>> (8 * i);
  }
}

/** A capability of plain registers. */
class PlainCapability implements Capability {
  readonly id: number;
  readonly extendedVersion: number | undefined;
  readonly size: number;
  readonly #capability: PciDeviceCapability;

  constructor(capability: PciDeviceCapability) {
    this.id = capability.id;
    this.extendedVersion = capability.extendedVersion;
    this.size = headerBytes(capability) + capability.bytes.length;
    this.#capability = capability;
  }

  install(host: CapabilityHost, offset: number): void {
    const { bytes, writable } = this.#capability;
    const first = offset + headerBytes(this.#capability);
    for (const [i, byte] of bytes.entries()) host.config.define(first + i, 1, byte, writable?.[i] ?? 0);
  }
}

/** PCI Local Bus 3.0 section 6.7, PCI Express Base 4.0 section 7.6.3. */
function headerBytes(c: PciDeviceCapability): number {
  return c.extendedVersion === undefined ? 2 : 4;
}
