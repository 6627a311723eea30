import {
  GICD_ICACTIVER,
  GICD_ICENABLER,
  GICD_ICFGR,
  GICD_ICPENDR,
  GICD_IGROUPR,
  GICD_IPRIORITYR,
  GICD_ISACTIVER,
  GICD_ISENABLER,
  GICD_ISPENDR,
  GICD_ITARGETSR,
  PRIORITY_MASK,
} from './regs.ts';

/** A bank's state as plain JSON. */
export interface BankState {
  readonly enabled: number[];
  readonly latch: number[];
  readonly line: number[];
  readonly message: number[];
  readonly active: number[];
  readonly group: number[];
  readonly edge: number[];
  readonly priority: number[];
}

const BITMAPS = ['enabled', 'latch', 'line', 'message', 'active', 'group', 'edge'] as const;

/** Spreads 16 bits to the odd bits of a word: one bit of an INTID to Int_config[1] of GICD_ICFGR. */
function toConfig(bits: number): number {
  let config = 0;
  for (let i = 0; i < 16; i++) if (bits & (1 << i)) config |= 2 << (2 * i);
  return config >>> 0;
}

function fromConfig(config: number): number {
  let bits = 0;
  for (let i = 0; i < 16; i++) if (config & (2 << (2 * i))) bits |= 1 << i;
  return bits;
}

/**
 * State of 32 x `words` interrupts from INTID 32 x `firstWord`, as bitmaps of 32 INTIDs a word, and the registers
 * GICD_IGROUPR..GICD_ICFGR that show it (IHI 0069 sections 4.1 and 12.9). GICv2 and GICv3 share it: the private
 * interrupts of a CPU are a bank of one word, the SPIs are the other.
 */
export class InterruptBank {
  readonly enabled: Uint32Array;
  /** Pending until acknowledged: a seen edge, an SGI, or a write to GICD_ISPENDR. */
  readonly latch: Uint32Array;
  /** Level of the input wire. */
  readonly line: Uint32Array;
  /** Level of a level-sensitive SPI as messages to GICD_SETSPI_NSR and GICD_CLRSPI_NSR left it. */
  readonly message: Uint32Array;
  readonly active: Uint32Array;
  /** 1: Group 1. */
  readonly group: Uint32Array;
  /** 1: edge-triggered. */
  readonly edge: Uint32Array;
  readonly priority: Uint8Array;

  constructor(
    readonly firstWord: number,
    readonly words: number,
  ) {
    this.enabled = new Uint32Array(words);
    this.latch = new Uint32Array(words);
    this.line = new Uint32Array(words);
    this.message = new Uint32Array(words);
    this.active = new Uint32Array(words);
    this.group = new Uint32Array(words);
    this.edge = new Uint32Array(words);
    this.priority = new Uint8Array(32 * words);
    this.reset();
  }

  /** Everything but the input wires, which belong to the devices. */
  reset(): void {
    for (const name of BITMAPS) if (name !== 'line') this[name].fill(0);
    this.priority.fill(0);
    this.fixSgis();
  }

  /** Pending interrupts of word `w` of this bank: latched, or level-sensitive with the level high (section 4.1.2). */
  pending(w: number): number {
    return this.latch[w]! | ((this.line[w]! | this.message[w]!) & ~this.edge[w]!);
  }

  /** Interrupts of word `w` that may be delivered: an active one waits until it is deactivated. */
  deliverable(w: number): number {
    return this.pending(w) & this.enabled[w]! & ~this.active[w]!;
  }

  /** Index in the bank of the most urgent of `candidates` in word `w` if its priority is below `limit`, else -1. */
  highest(w: number, candidates: number, limit: number): number {
    let found = -1;
    for (let left = candidates; left !== 0; left &= left - 1) {
      const i = (w << 5) + 31 - Math.clz32(left & -left);
      if (this.priority[i]! < limit) {
        limit = this.priority[i]!;
        found = i;
      }
    }
    return found;
  }

  /** Drives wire `i`; true when the interrupt may have changed state. */
  setLine(i: number, level: boolean): boolean {
    const w = i >> 5;
    const bit = 1 << (i & 31);
    if (((this.line[w]! & bit) !== 0) === level) return false;
    if (level) {
      this.line[w]! |= bit;
      if (this.edge[w]! & bit) this.latch[w]! |= bit;
    } else this.line[w]! &= ~bit;
    return true;
  }

  /** A message adds the pending state (`on`) or removes it (section 12.9.38): of an edge, or as a level. */
  setMessage(i: number, on: boolean): void {
    const w = i >> 5;
    const bit = 1 << (i & 31);
    const bits = this.edge[w]! & bit ? this.latch : this.message;
    if (on) bits[w]! |= bit;
    else bits[w]! &= ~bit;
  }

  /** Pending to active, or to active and pending when the level stays (section 4.1.2, transitions). */
  activate(i: number): void {
    const bit = 1 << (i & 31);
    this.active[i >> 5]! |= bit;
    this.latch[i >> 5]! &= ~bit;
  }

  deactivate(i: number): void {
    this.active[i >> 5]! &= ~(1 << (i & 31));
  }

  isGroup1(i: number): boolean {
    return (this.group[i >> 5]! & (1 << (i & 31))) !== 0;
  }

  /** Register at `offset` (0x080..0xcff, a multiple of 4); 0 outside this bank's INTIDs. */
  read(offset: number): number {
    if (offset >= GICD_ICFGR) {
      const n = (offset - GICD_ICFGR) >> 2;
      const w = (n >> 1) - this.firstWord;
      if (w < 0 || w >= this.words) return 0;
      return toConfig(this.edge[w]! >>> (16 * (n & 1)));
    }
    if (offset >= GICD_ITARGETSR) return 0;
    if (offset >= GICD_IPRIORITYR) {
      const i = offset - GICD_IPRIORITYR - 32 * this.firstWord;
      if (i < 0 || i >= this.priority.length) return 0;
      const p = this.priority;
      return (p[i]! | (p[i + 1]! << 8) | (p[i + 2]! << 16) | (p[i + 3]! << 24)) >>> 0;
    }
    const w = ((offset & 0x7c) >> 2) - this.firstWord;
    if (w < 0 || w >= this.words) return 0;
    switch (offset & ~0x7f) {
      case GICD_IGROUPR:
        return this.group[w]!;
      case GICD_ISENABLER:
      case GICD_ICENABLER:
        return this.enabled[w]!;
      case GICD_ISPENDR:
      case GICD_ICPENDR:
        return this.pending(w) >>> 0;
      case GICD_ISACTIVER:
      case GICD_ICACTIVER:
        return this.active[w]!;
      default:
        return 0;
    }
  }

  /** Writes the register at `offset` (0x080..0xcff, a multiple of 4); ignored outside this bank's INTIDs. */
  write(offset: number, value: number): void {
    if (offset >= GICD_ICFGR) {
      const n = (offset - GICD_ICFGR) >> 2;
      const w = (n >> 1) - this.firstWord;
      if (w < 0 || w >= this.words) return;
      const shift = 16 * (n & 1);
      this.edge[w] = (this.edge[w]! & ~(0xffff << shift)) | (fromConfig(value) << shift);
      this.fixSgis();
      return;
    }
    if (offset >= GICD_ITARGETSR) return;
    if (offset >= GICD_IPRIORITYR) {
      for (let n = 0; n < 4; n++) this.writePriority(offset + n, value >>> (8 * n));
      return;
    }
    const w = ((offset & 0x7c) >> 2) - this.firstWord;
    if (w < 0 || w >= this.words) return;
    switch (offset & ~0x7f) {
      case GICD_IGROUPR:
        this.group[w] = value;
        break;
      case GICD_ISENABLER:
        this.enabled[w]! |= value;
        break;
      case GICD_ICENABLER:
        this.enabled[w]! &= ~value;
        break;
      case GICD_ISPENDR:
        this.latch[w]! |= value;
        break;
      case GICD_ICPENDR:
        this.latch[w]! &= ~value;
        break;
      case GICD_ISACTIVER:
        this.active[w]! |= value;
        break;
      case GICD_ICACTIVER:
        this.active[w]! &= ~value;
        break;
    }
  }

  /** GICD_IPRIORITYR is byte-accessible (section 12.9.20). */
  readPriority(offset: number): number {
    return this.priority[offset - GICD_IPRIORITYR - 32 * this.firstWord] ?? 0;
  }

  writePriority(offset: number, value: number): void {
    const i = offset - GICD_IPRIORITYR - 32 * this.firstWord;
    if (i >= 0 && i < this.priority.length) this.priority[i] = value & PRIORITY_MASK;
  }

  save(): BankState {
    const state: Record<string, number[]> = { priority: Array.from(this.priority) };
    for (const name of BITMAPS) state[name] = Array.from(this[name]);
    return state as unknown as BankState;
  }

  restore(state: BankState): void {
    for (const name of BITMAPS) this[name].set(state[name]);
    this.priority.set(state.priority);
  }

  /** SGIs are always edge-triggered (section 12.9.9). */
  private fixSgis(): void {
    if (this.firstWord === 0) this.edge[0]! |= 0xffff;
  }
}
