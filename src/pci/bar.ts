import type { Doorbell } from '../bus/doorbell.ts';
import type { BusDevice } from '../bus/types.ts';

import type { DeviceMemory } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import type { ConfigSpace } from './config-space.ts';
import {
  BAR_IO,
  BAR_MEM_PREFETCH,
  BAR_MEM_TYPE_64,
  BASE_ADDRESS_0,
  BRIDGE_ROM_ADDRESS,
  COMMAND,
  COMMAND_IO,
  COMMAND_MEMORY,
  HEADER_TYPE,
  ROM_ADDRESS,
  ROM_ENABLE,
} from './regs.ts';

export type { Doorbell, DoorbellEvents } from '../bus/doorbell.ts';

/** Which register: Base Address 0 to 5, or the Expansion ROM Base Address. */
export type BarIndex = 0 | 1 | 2 | 3 | 4 | 5 | 'rom';

/** What a function wants behind one of its BARs. */
export interface BarSpec {
  readonly index: BarIndex;
  /** A 64-bit BAR takes the next index, too. A ROM is `mem32`. */
  readonly kind: 'io' | 'mem32' | 'mem64';
  /** Bytes, a power of two: memory at least 4 KiB, I/O 4 to 256 bytes, a ROM at least 2 KiB (BAR-20, BAR-21). */
  readonly size: number;
  /** Memory that may be prefetched: reading has no side effects. Default false. */
  readonly prefetch?: boolean | undefined;
  /** Answers the accesses; offsets are from the BAR's address, wherever that is (BAR-16). */
  readonly device: BusDevice;
  /** Bytes that the guest reaches without an exit where host and alignment allow it; `device` must show the same bytes. */
  readonly memory?: DeviceMemory | undefined;
  /** Writes that an engine may deliver without an exit (KVM's ioeventfd); they move with the BAR (BAR-17). */
  readonly doorbells?: readonly Doorbell[] | undefined;
}

/** Where a BAR is live: what decode() reads out of the configuration bytes. */
export interface BarWindow {
  readonly spec: BarSpec;
  readonly space: 'memory' | 'io';
  readonly address: number;
}

/**
 * Smallest memory BAR of a device of ours: one page, so that each can be mapped alone, by a guest's user space, by VFIO inside
 * of the guest, or as memory.
 */
export const MIN_MEMORY_BAR = 4096;
/** Largest memory BAR: addresses stay exact in a double and inside of any aperture. */
const MAX_MEMORY_BAR = 2 ** 40;

/** @throws VmError ERR_BAR for a BAR that PCI does not allow, or that overlaps another of `specs`. */
export function checkBars(name: string, specs: readonly BarSpec[]): void {
  const taken = new Set<BarIndex>();
  for (const spec of specs) {
    const { index, kind, size } = spec;
    const fail = (why: string, hint: string): never => {
      throw new VmError('ERR_BAR', `${name}: BAR ${index}: ${why}`, { hint, details: { bar: index, kind, size } });
    };
    const limits = kind === 'io' ? [4, 256] : index === 'rom' ? [2048, 2 ** 24] : [MIN_MEMORY_BAR, MAX_MEMORY_BAR];
    if (kind === 'mem32') limits[1] = Math.min(limits[1]!, 2 ** 31);
    if (!Number.isSafeInteger(size) || size <= 0 || !isPowerOfTwo(size)) {
      fail(`${size} bytes are no power of two`, 'a BAR is decoded by its upper address bits: round its size up');
    }
    if (size < limits[0]! || size > limits[1]!) {
      fail(`${size} bytes are out of bounds`, `use ${limits[0]} to ${limits[1]} bytes for this kind of BAR`);
    }
    if (index === 'rom' && kind !== 'mem32') fail(`an expansion ROM cannot be ${kind}`, "use kind 'mem32'");
    const indices: BarIndex[] = [index];
    if (kind === 'mem64') {
      if (index === 5 || index === 'rom') fail('a 64-bit BAR takes two registers', 'use index 0 to 4');
      indices.push(((index as number) + 1) as BarIndex);
    }
    for (const i of indices) {
      if (taken.has(i)) fail(`register ${i} is taken twice`, 'a 64-bit BAR takes the next register, too');
      taken.add(i);
    }
  }
}

function isPowerOfTwo(n: number): boolean {
  return Number.isInteger(Math.log2(n)) && 2 ** Math.round(Math.log2(n)) === n;
}

/** Offset of a BAR's register. */
function registerOf(config: ConfigSpace, index: BarIndex): number {
  if (index !== 'rom') return BASE_ADDRESS_0 + 4 * index;
  return (config.bytes[HEADER_TYPE]! & 0x7f) === 1 ? BRIDGE_ROM_ADDRESS : ROM_ADDRESS;
}

/**
 * Defines the registers of `specs`. The bits below a BAR's size are read-only zeros, which makes the sizing protocol work by
 * itself: all ones written reads back as ~(size - 1) with the type bits (PCI Local Bus 3.0 section 6.2.5.1; BAR-1, BAR-2).
 */
export function defineBars(config: ConfigSpace, specs: readonly BarSpec[]): void {
  for (const { index, kind, size, prefetch } of specs) {
    const at = registerOf(config, index);
    if (index === 'rom') {
      config.define(at, 4, 0, (~(size - 1) & 0xffff_f800) | ROM_ENABLE);
    } else if (kind === 'io') {
      config.define(at, 4, BAR_IO, ~(size - 1) & 0xffff_fffc);
    } else {
      const type = (kind === 'mem64' ? BAR_MEM_TYPE_64 : 0) | (prefetch ? BAR_MEM_PREFETCH : 0);
      config.define(at, 4, type, size >= 2 ** 32 ? 0 : ~(size - 1) & 0xffff_fff0);
      if (kind === 'mem64') config.define(at + 4, 4, 0, size >= 2 ** 32 ? ~(size / 2 ** 32 - 1) : 0xffff_ffff);
    }
  }
}

/** The address in a BAR's register(s), live or not. */
export function barAddress(config: ConfigSpace, spec: BarSpec): number {
  const at = registerOf(config, spec.index);
  const low = config.view.getUint32(at, true);
  if (spec.index === 'rom') return (low & 0xffff_f800) >>> 0;
  if (spec.kind === 'io') return (low & 0xffff_fffc) >>> 0;
  const address = (low & 0xffff_fff0) >>> 0;
  return spec.kind === 'mem64' ? address + config.view.getUint32(at + 4, true) * 2 ** 32 : address;
}

/** Writes the address of a BAR as firmware would; nothing is reconciled. */
export function setBarAddress(config: ConfigSpace, spec: BarSpec, address: number): void {
  const at = registerOf(config, spec.index);
  const type = config.view.getUint32(at, true) & (spec.index === 'rom' ? 0x7ff : spec.kind === 'io' ? 3 : 0xf);
  config.view.setUint32(at, ((address % 2 ** 32) | type) >>> 0, true);
  if (spec.kind === 'mem64') config.view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
}

/**
 * The live windows of a function, from its configuration bytes alone: the space's bit in COMMAND is 1 and the address is usable.
 * Unusable is address 0, and an end at or beyond the top of the space, which is what the sizing probe writes (BAR-7). Whether
 * the address is inside of an aperture is the mapper's to know.
 */
export function decodeBars(config: ConfigSpace, specs: readonly BarSpec[]): BarWindow[] {
  const command = config.view.getUint16(COMMAND, true);
  const windows: BarWindow[] = [];
  for (const spec of specs) {
    const space = spec.kind === 'io' ? 'io' : 'memory';
    if ((command & (space === 'io' ? COMMAND_IO : COMMAND_MEMORY)) === 0) continue;
    if (spec.index === 'rom' && (config.bytes[registerOf(config, 'rom')]! & ROM_ENABLE) === 0) continue;
    const address = barAddress(config, spec);
    const top = spec.kind === 'mem64' ? 2 ** 52 : 2 ** 32;
    // The very last byte of a 32-bit space belongs to the probe value.
    if (address === 0 || address + spec.size >= top) continue;
    windows.push({ spec, space, address });
  }
  return windows;
}
