import { type BarSpec, checkBars } from '../../pci/bar.ts';
import { msixLayout } from '../../pci/caps/msix.ts';
import { VmError } from '../../util/errors.ts';
import type { PciDevice } from './device.ts';

/** A BAR of a device that is written with the kit. */
export interface PciDeviceBar {
  readonly index: 0 | 1 | 2 | 3 | 4 | 5;
  /** A 64-bit BAR takes the next index, too. */
  readonly kind: 'io' | 'mem32' | 'mem64';
  /** Bytes, a power of two: memory at least 4096, I/O 4 to 256. */
  readonly size: number;
  /** Reading has no side effects. Default: false, or true for memory. */
  readonly prefetch?: boolean | undefined;
  /** Plain memory instead of registers: the guest reaches it as fast as its RAM, the device as `dev.bar(n).memory`. */
  readonly memory?: boolean | undefined;
}

/** A capability beside those that the kit makes, as bytes. */
export interface PciDeviceCapability {
  readonly id: number;
  /** Version of an extended capability, which lies at 0x100 or beyond; undefined: a conventional one. */
  readonly extendedVersion?: number | undefined;
  /** What follows the header of 2 bytes, or 4 of an extended one. */
  readonly bytes: Uint8Array;
  /** The bits of `bytes` that a guest may write. Default: none. */
  readonly writable?: Uint8Array | undefined;
}

/** What a guest's bus scan sees of a device. Plain data. */
export interface PciDeviceSpec {
  /** For people. Default: vendor and device in hexadecimal. */
  readonly name?: string | undefined;
  /** Vendor ID, 16 bits, neither 0 nor 0xffff. */
  readonly vendor: number;
  /** Device ID, 16 bits. */
  readonly device: number;
  /** Revision ID, 8 bits. Default 0. */
  readonly revision?: number | undefined;
  /** Base class, sub-class and programming interface, 24 bits. Default 0xff0000: in no class. */
  readonly class?: number | undefined;
  /** Subsystem Vendor ID and Subsystem ID. Default: vendor and device. */
  readonly subsystemVendor?: number | undefined;
  readonly subsystem?: number | undefined;
  readonly bars?: readonly PciDeviceBar[] | undefined;
  /** MSI vectors: 0 (none), 1, 2, 4, 8, 16 or 32. Default: 1, or none with MSI-X. */
  readonly msi?: 0 | 1 | 2 | 4 | 8 | 16 | 32 | undefined;
  /** MSI-X vectors, 0 to 2048; their table gets a BAR of its own, the highest that is free. Default 0. */
  readonly msix?: number | undefined;
  /** Whether there is an INTA wire. Default false. */
  readonly intx?: boolean | undefined;
  /** Contents of the expansion ROM, up to 16 MiB. */
  readonly rom?: Uint8Array | undefined;
  readonly extraCapabilities?: readonly PciDeviceCapability[] | undefined;
}

/** A device's program: called once for each device that is made, before the guest runs. It registers its handlers. */
export type PciDeviceSetup = (dev: PciDevice) => void;

/** A device: what it looks like and what it does. Made by {@link definePciDevice}; many devices can be made of it. */
export interface PciDeviceDefinition {
  readonly spec: PciDeviceSpec;
  readonly setup: PciDeviceSetup;
}

/** Marks definitions. A symbol of the registry, so that those made by another copy of this package are known, too. */
const DEFINITION = Symbol.for('tsvisor.PciDeviceDefinition');

/** The spec's fields that are numbers, with their largest value. */
const NUMBERS = {
  vendor: 0xffff,
  device: 0xffff,
  revision: 0xff,
  class: 0xff_ffff,
  subsystemVendor: 0xffff,
  subsystem: 0xffff,
  msi: 32,
  msix: 2048,
} as const;
const FIELDS = ['name', 'bars', 'intx', 'rom', 'extraCapabilities', ...Object.keys(NUMBERS)];
const BAR_FIELDS = ['index', 'kind', 'size', 'prefetch', 'memory'];
const MAX_ROM = 2 ** 24;
/**
 * Bytes for capabilities behind the header, less those that every device has: power management (8) and PCI Express (60);
 * and bytes of the extended space (PCI Express Base 4.0 section 7.2).
 */
const CAPABILITY_BYTES = 0x100 - 0x40 - 8 - 60;
const EXTENDED_BYTES = 0x1000 - 0x100;
const MSI_BYTES = 24;
const MSIX_BYTES = 12;

/**
 * Defines a PCI device: `spec` is what the guest's bus scan finds, `setup` what the device does. The result goes into
 * `pci: [...]` of the machine's options, or is what a device module exports.
 * @throws VmError ERR_DEVICE or ERR_BAR for a spec that PCI does not allow; the message names the field.
 */
export function definePciDevice(spec: PciDeviceSpec, setup: PciDeviceSetup): PciDeviceDefinition {
  checkSpec(spec);
  if (typeof setup !== 'function') {
    throw bad(deviceName(spec), 'setup', 'is no function', 'definePciDevice(spec, dev => { ... })');
  }
  const copy = Object.freeze({ ...spec, bars: Object.freeze((spec.bars ?? []).map(b => Object.freeze({ ...b }))) });
  return Object.freeze({ spec: copy, setup, [DEFINITION]: true });
}

/** Whether a value came out of {@link definePciDevice}, of this copy of the package or another. */
export function isPciDeviceDefinition(value: unknown): value is PciDeviceDefinition {
  return typeof value === 'object' && value !== null && DEFINITION in value;
}

/** A device's name: its own, or vendor and device as lspci -n writes them. */
export function deviceName(spec: Pick<PciDeviceSpec, 'name' | 'vendor' | 'device'>): string {
  const id = (n: unknown) => Number(n).toString(16).padStart(4, '0');
  return typeof spec.name === 'string' && spec.name !== '' ? spec.name : `${id(spec.vendor)}:${id(spec.device)}`;
}

/** MSI vectors that a device has. */
export function msiVectors(spec: PciDeviceSpec): 0 | 1 | 2 | 4 | 8 | 16 | 32 {
  return spec.msi ?? ((spec.msix ?? 0) > 0 ? 0 : 1);
}

/** The BAR for the MSI-X table: the highest register that no BAR takes; undefined when there is none. */
export function msixBar(bars: readonly PciDeviceBar[]): 0 | 1 | 2 | 3 | 4 | 5 | undefined {
  const taken = new Set<number>(bars.flatMap(b => (b.kind === 'mem64' ? [b.index, b.index + 1] : [b.index])));
  return ([5, 4, 3, 2, 1, 0] as const).find(i => !taken.has(i));
}

/** Bytes of the expansion ROM's BAR that `rom` fits into (PCI Local Bus 3.0 section 6.2.5.2). */
export function romSize(rom: Uint8Array): number {
  return Math.max(2048, 2 ** Math.ceil(Math.log2(rom.length)));
}

function checkSpec(spec: PciDeviceSpec): void {
  if (typeof spec !== 'object' || spec === null)
    throw bad('PCI device', 'spec', 'is no object', 'see definePciDevice()');
  const name = deviceName(spec);
  for (const key of Object.keys(spec)) {
    if (!FIELDS.includes(key)) throw bad(name, key, 'is no field of a device', `fields are ${FIELDS.join(', ')}`);
  }
  if (spec.name !== undefined && !/^[\x20-\x7e]{1,64}$/.test(String(spec.name))) {
    throw bad(name, 'name', 'is no name', 'use 1 to 64 printable ASCII characters');
  }
  for (const [field, max] of Object.entries(NUMBERS) as [keyof typeof NUMBERS, number][]) {
    const value: unknown = spec[field];
    const missing = value === undefined && (field === 'vendor' || field === 'device');
    if (
      missing ||
      (value !== undefined && !(Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max))
    ) {
      throw bad(name, field, missing ? 'is missing' : `${String(value)} is out of range`, `a number from 0 to ${max}`);
    }
  }
  // All ones is how an empty slot reads, and 0 is what some guests take for one (PCI Local Bus 3.0 section 6.2.1).
  if (spec.vendor === 0 || spec.vendor === 0xffff) {
    throw bad(
      name,
      'vendor',
      `0x${spec.vendor.toString(16)} means that there is no device`,
      'use another, such as 0x1234',
    );
  }
  if (![undefined, 0, 1, 2, 4, 8, 16, 32].includes(spec.msi)) {
    throw bad(
      name,
      'msi',
      `${spec.msi} vectors are not possible`,
      'use 0, 1, 2, 4, 8, 16 or 32; MSI-X takes any number',
    );
  }
  if (spec.intx !== undefined && typeof spec.intx !== 'boolean')
    throw bad(name, 'intx', 'is no boolean', 'true or false');
  checkRom(name, spec.rom);
  checkAllBars(name, spec);
  checkCapabilities(name, spec);
}

function checkRom(name: string, rom: unknown): void {
  if (rom === undefined) return;
  if (!(rom instanceof Uint8Array) || rom.length === 0 || rom.length > MAX_ROM) {
    throw bad(name, 'rom', 'is no ROM', 'give 1 byte to 16 MiB as a Uint8Array');
  }
}

function checkAllBars(name: string, spec: PciDeviceSpec): void {
  const bars: unknown = spec.bars ?? [];
  if (!Array.isArray(bars)) throw bad(name, 'bars', 'is no list', '[{ index: 0, kind: "mem64", size: 4096 }]');
  for (const b of bars as readonly PciDeviceBar[]) {
    for (const key of Object.keys(b)) {
      if (!BAR_FIELDS.includes(key)) throw bad(name, `bars: ${key}`, 'is no field of a BAR', BAR_FIELDS.join(', '));
    }
    if (!Number.isInteger(b.index) || b.index < 0 || b.index > 5) {
      throw bad(name, 'bars: index', `${String(b.index)} is no BAR`, 'BARs are 0 to 5');
    }
    if (!['io', 'mem32', 'mem64'].includes(b.kind)) {
      throw bad(name, `bars: kind of BAR ${b.index}`, `is '${String(b.kind)}'`, 'io, mem32 or mem64');
    }
    if (b.memory && b.kind === 'io') {
      throw bad(name, `bars: memory of BAR ${b.index}`, 'cannot be in I/O space', 'use mem32 or mem64');
    }
  }
  const device: BarSpec['device'] = { name, read: () => 0, write: () => {} };
  const specs: BarSpec[] = (spec.bars ?? []).map(b => ({ ...b, memory: undefined, device }));
  const vectors = spec.msix ?? 0;
  if (vectors > 0) {
    const index = msixBar(spec.bars ?? []);
    if (index === undefined) {
      throw bad(name, 'msix', 'has no BAR left for its table', 'leave one of the six registers free');
    }
    specs.push({ index, kind: 'mem32', size: msixLayout(vectors).size, device });
  }
  checkBars(name, specs);
}

function checkCapabilities(name: string, spec: PciDeviceSpec): void {
  let conventional = (msiVectors(spec) > 0 ? MSI_BYTES : 0) + ((spec.msix ?? 0) > 0 ? MSIX_BYTES : 0);
  let extended = 0;
  for (const c of spec.extraCapabilities ?? []) {
    const field = `extraCapabilities: id ${String(c.id)}`;
    const isExtended = c.extendedVersion !== undefined;
    if (!Number.isInteger(c.id) || c.id < 0 || c.id > (isExtended ? 0xffff : 0xff)) {
      throw bad(name, field, 'is out of range', 'conventional ids have 8 bits, extended ones 16');
    }
    if (isExtended && !(Number.isInteger(c.extendedVersion) && c.extendedVersion > 0 && c.extendedVersion < 16)) {
      throw bad(name, field, `has version ${c.extendedVersion}`, 'versions are 1 to 15');
    }
    if (!(c.bytes instanceof Uint8Array)) throw bad(name, field, 'has no bytes', 'give what follows its header');
    if (c.writable !== undefined && !(c.writable instanceof Uint8Array && c.writable.length === c.bytes.length)) {
      throw bad(name, field, 'has another number of writable bits', 'give a mask for each byte');
    }
    if (isExtended) extended += (c.bytes.length + 4 + 3) & ~3;
    else conventional += (c.bytes.length + 2 + 3) & ~3;
  }
  if (conventional > CAPABILITY_BYTES || extended > EXTENDED_BYTES) {
    const hint = `there are ${CAPABILITY_BYTES} bytes for capabilities and ${EXTENDED_BYTES} for extended ones`;
    throw bad(name, 'extraCapabilities', 'do not fit into configuration space', hint);
  }
}

function bad(name: string, field: string, why: string, hint: string): VmError {
  return new VmError('ERR_DEVICE', `${name}: ${field}: ${why}`, { hint, details: { device: name, field } });
}
