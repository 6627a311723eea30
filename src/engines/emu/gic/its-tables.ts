import type { Gpa, GuestMemory } from '../../../memory/types.ts';
import { inRam } from './ram.ts';

/**
 * The ITS's tables in guest memory (IHI 0069 section 5.2). The architecture leaves the format of their entries to the
 * implementation; every entry here is 8 bytes, two little-endian words, bit 63 = valid:
 *
 *   device table      [63] V  [48:5] address of the interrupt translation table / 256  [4:0] EventID bits - 1
 *   collection table  [63] V  [15:0] target: GICR_TYPER.Processor_Number
 *   ITT               [63] V  [47:32] ICID  [31:0] INTID of the LPI
 *   level 1 of a two-level table  [63] V  [51:12] address of a level 2 page (defined by section 12.19.1)
 */
export const ENTRY_SIZE = 8;
const VALID = 0x8000_0000;
const WORD = 2 ** 32;

export interface DeviceEntry {
  readonly itt: Gpa;
  /** EventIDs below 2^eventBits are in the table. */
  readonly eventBits: number;
}

export interface TranslationEntry {
  readonly intid: number;
  readonly icid: number;
}

export const GITS_BASER_INDIRECT = 1n << 62n;
export const GITS_BASER_VALID = 1n << 63n;

/** Bytes of a page of the table that GITS_BASER `baser` describes: 4, 16 or 64 KiB. */
function pageSize(baser: bigint): number {
  return [0x1000, 0x4000, 0x1_0000, 0x1_0000][Number((baser >> 8n) & 3n)]!;
}

/** Physical address in GITS_BASER; with 64 KiB pages bits [15:12] hold address bits [51:48]. */
function baseAddress(baser: bigint): Gpa {
  const address = Number(baser & 0xffff_ffff_f000n);
  if (pageSize(baser) !== 0x1_0000) return address;
  return address - (address % 0x1_0000) + Number((baser >> 12n) & 0xfn) * 2 ** 48;
}

/** Reads and writes entries of tables in `memory`. Whatever lies outside memory or a table's size is not there. */
export class ItsTables {
  constructor(private readonly memory: GuestMemory) {}

  /** Address of entry `index` of the table at `baser`, undefined when the table has none. */
  private entry(baser: bigint, index: number): Gpa | undefined {
    if ((baser & GITS_BASER_VALID) === 0n) return undefined;
    const page = pageSize(baser);
    const bytes = (Number(baser & 0xffn) + 1) * page;
    let table = baseAddress(baser);
    let offset = index * ENTRY_SIZE;
    if (baser & GITS_BASER_INDIRECT) {
      const level1 = Math.floor(offset / page) * ENTRY_SIZE;
      if (level1 >= bytes || !inRam(this.memory, table + level1, ENTRY_SIZE)) return undefined;
      const low = this.memory.u32(table + level1);
      const high = this.memory.u32(table + level1 + 4);
      if ((high & VALID) === 0) return undefined;
      const address = (high & 0xf_ffff) * WORD + low;
      table = address - (address % page);
      offset %= page;
    } else if (offset >= bytes) return undefined;
    return inRam(this.memory, table + offset, ENTRY_SIZE) ? table + offset : undefined;
  }

  device(baser: bigint, deviceId: number): DeviceEntry | undefined {
    const at = this.entry(baser, deviceId);
    if (at === undefined) return undefined;
    const low = this.memory.u32(at);
    const high = this.memory.u32(at + 4);
    if ((high & VALID) === 0) return undefined;
    const itt = ((high & 0x1_ffff) * WORD + (low - (low & 0x1f))) * 8;
    return { itt, eventBits: (low & 0x1f) + 1 };
  }

  /** Writes a device's entry, or makes it invalid; false when the table has no room for it. */
  setDevice(baser: bigint, deviceId: number, entry: DeviceEntry | undefined): boolean {
    const at = this.entry(baser, deviceId);
    if (at === undefined) return false;
    if (entry === undefined) {
      this.set(at, 0, 0);
    } else {
      const packed = entry.itt / 8;
      this.set(at, (packed % WORD) + entry.eventBits - 1, (VALID | Math.floor(packed / WORD)) >>> 0);
    }
    return true;
  }

  /** Target of a collection: a processor number; undefined when it is not mapped. */
  collection(baser: bigint, icid: number): number | undefined {
    const at = this.entry(baser, icid);
    if (at === undefined || (this.memory.u32(at + 4) & VALID) === 0) return undefined;
    return this.memory.u32(at) & 0xffff;
  }

  setCollection(baser: bigint, icid: number, cpu: number | undefined): boolean {
    const at = this.entry(baser, icid);
    if (at === undefined) return false;
    this.set(at, cpu ?? 0, cpu === undefined ? 0 : VALID);
    return true;
  }

  translation(device: DeviceEntry, eventId: number): TranslationEntry | undefined {
    const at = this.ittEntry(device, eventId);
    if (at === undefined) return undefined;
    const high = this.memory.u32(at + 4);
    return high & VALID ? { intid: this.memory.u32(at), icid: high & 0xffff } : undefined;
  }

  setTranslation(device: DeviceEntry, eventId: number, entry: TranslationEntry | undefined): boolean {
    const at = this.ittEntry(device, eventId);
    if (at === undefined) return false;
    this.set(at, entry?.intid ?? 0, entry === undefined ? 0 : (VALID | entry.icid) >>> 0);
    return true;
  }

  private ittEntry(device: DeviceEntry, eventId: number): Gpa | undefined {
    if (eventId >= 2 ** device.eventBits) return undefined;
    const at = device.itt + eventId * ENTRY_SIZE;
    return inRam(this.memory, at, ENTRY_SIZE) ? at : undefined;
  }

  private set(at: Gpa, low: number, high: number): void {
    this.memory.setU32(at, low);
    this.memory.setU32(at + 4, high);
  }
}
