import type { GuestMemory } from '../../../memory/types.ts';
import { inRam } from './ram.ts';
import { INTID_BITS, INTID_SPURIOUS, LPI_BASE, PRIORITY_IDLE, PRIORITY_MASK } from './regs.ts';

const MAX_LPIS = (1 << INTID_BITS) - LPI_BASE;
const WORDS = MAX_LPIS >> 5;
/** Bit 1 of a configuration byte is RES1, so a cached byte is never 0. */
const LOADED = 1 << 1;
const ENABLE = 1 << 0;

/** {@link LpiUnit} as plain JSON: the tables' places and the pending INTIDs. */
export interface LpiState {
  readonly enabled: boolean;
  readonly configTable: number;
  readonly pendingTable: number;
  readonly count: number;
  readonly pending: number[];
}

/**
 * LPIs of one redistributor (IHI 0069 chapter 5 and section 4.1.2): no active state, edge-triggered, Group 1.
 * The configuration table (one byte an LPI: priority [7:2], enable [0]) stays in guest memory; bytes of LPIs that
 * became pending are cached until INV or INVALL. The pending table (one bit an INTID) is read when LPIs are enabled,
 * held here, and written back when they are disabled.
 */
export class LpiUnit {
  enabled = false;
  /** Most urgent deliverable LPI and its priority; INTID 1023 and 0xff for none. Valid after {@link settle}. */
  intid = INTID_SPURIOUS;
  priority = PRIORITY_IDLE;

  #configTable = 0;
  #pendingTable = 0;
  /** LPIs that GICR_PROPBASER.IDbits allows. */
  #count = 0;
  // Allocated when a guest first enables LPIs: most machines of eight CPUs never touch most of it.
  #config = new Uint8Array(0);
  #pending = new Uint32Array(0);
  /** Pending and enabled. */
  #ready = new Uint32Array(0);
  /** Bit n: word n of #ready is not zero. */
  #summary = new Uint32Array(WORDS >> 5);
  /** #ready and the choice are older than the configuration. */
  #stale = false;
  /** The chosen LPI is gone. */
  #rescan = false;

  constructor(private readonly memory: GuestMemory) {}

  reset(): void {
    this.enabled = false;
    this.#count = 0;
    this.#config.fill(0);
    this.#pending.fill(0);
    this.invalidateAll();
  }

  /**
   * GICR_CTLR.EnableLPIs becomes 1. `idBits` is GICR_PROPBASER.IDbits + 1; with `zeroed` (GICR_PENDBASER.PTZ) the
   * pending table holds only zeros and is not read.
   */
  enable(configTable: number, pendingTable: number, idBits: number, zeroed: boolean): void {
    this.place(configTable, pendingTable, Math.max(0, 2 ** Math.min(idBits, INTID_BITS) - LPI_BASE));
    this.enabled = true;
    this.invalidateAll();
    const bytes = new Uint8Array(this.#count >> 3);
    const from = pendingTable + (LPI_BASE >> 3);
    if (zeroed || !this.memory.contains(from, bytes.length)) return;
    this.memory.read(from, bytes);
    for (let n = 0; n < bytes.length; n++) this.#pending[n >> 2]! |= bytes[n]! << (8 * (n & 3));
  }

  /** GICR_CTLR.EnableLPIs becomes 0: the pending table in memory gets what is pending (section 5.1.2). */
  disable(): void {
    const from = this.#pendingTable + (LPI_BASE >> 3);
    const bytes = this.#count >> 3;
    if (inRam(this.memory, from, bytes)) {
      this.memory.write(from, new Uint8Array(this.#pending.buffer, 0, bytes));
    }
    this.reset();
  }

  isPending(intid: number): boolean {
    const i = intid - LPI_BASE;
    return i >= 0 && i < this.#count && (this.#pending[i >> 5]! & (1 << (i & 31))) !== 0;
  }

  /** Ignored while LPIs are disabled or when the tables are too small for `intid` (section 5.1). */
  setPending(intid: number): void {
    const i = intid - LPI_BASE;
    if (i < 0 || i >= this.#count) return;
    this.#pending[i >> 5]! |= 1 << (i & 31);
    if (!this.#stale) this.evaluate(i);
  }

  clearPending(intid: number): void {
    const i = intid - LPI_BASE;
    if (i < 0 || i >= this.#count) return;
    this.#pending[i >> 5]! &= ~(1 << (i & 31));
    this.unready(i);
  }

  /** INV: the configuration of `intid` may have changed. */
  invalidate(intid: number): void {
    const i = intid - LPI_BASE;
    if (i < 0 || i >= this.#count) return;
    this.#config[i] = 0;
    if (this.#stale || (this.#pending[i >> 5]! & (1 << (i & 31))) === 0) return;
    this.unready(i);
    this.evaluate(i);
  }

  /** INVALL: any configuration may have changed. The work is left to {@link settle}, so that many cost as one. */
  invalidateAll(): void {
    this.#stale = true;
  }

  /** MOVALL: every pending LPI goes to `to`. */
  moveAll(to: LpiUnit): void {
    if (to === this) return;
    for (let w = 0; w < this.#pending.length; w++) {
      for (let left = this.#pending[w]!; left !== 0; left &= left - 1) {
        to.setPending(LPI_BASE + (w << 5) + 31 - Math.clz32(left & -left));
      }
    }
    this.#pending.fill(0);
    this.invalidateAll();
  }

  /** Brings {@link intid} and {@link priority} up to date. */
  settle(): void {
    if (this.#stale) this.reevaluate();
    if (this.#rescan) this.choose();
  }

  save(): LpiState {
    const pending: number[] = [];
    for (let i = 0; i < this.#count; i++) if (this.isPending(LPI_BASE + i)) pending.push(LPI_BASE + i);
    const { enabled } = this;
    return { enabled, configTable: this.#configTable, pendingTable: this.#pendingTable, count: this.#count, pending };
  }

  restore(state: LpiState): void {
    this.reset();
    if (!state.enabled) return;
    this.place(state.configTable, state.pendingTable, Math.min(state.count, MAX_LPIS));
    this.enabled = true;
    for (const intid of state.pending) this.setPending(intid);
  }

  private place(configTable: number, pendingTable: number, count: number): void {
    if (this.#config.length === 0) {
      this.#config = new Uint8Array(MAX_LPIS);
      this.#pending = new Uint32Array(WORDS);
      this.#ready = new Uint32Array(WORDS);
    }
    this.#configTable = configTable;
    this.#pendingTable = pendingTable;
    this.#count = count;
  }

  /** Configuration byte of LPI `i`, or a disabled one where the table lies outside memory. */
  private configOf(i: number): number {
    const cached = this.#config[i]!;
    if (cached !== 0) return cached;
    const at = this.#configTable + i;
    const value = (this.memory.contains(at, 1) ? this.memory.u8(at) : 0) | LOADED;
    this.#config[i] = value;
    return value;
  }

  /** LPI `i` is pending: is it deliverable, and is it the most urgent one? */
  private evaluate(i: number): void {
    const config = this.configOf(i);
    if ((config & ENABLE) === 0) return;
    const w = i >> 5;
    this.#ready[w]! |= 1 << (i & 31);
    this.#summary[w >> 5]! |= 1 << (w & 31);
    const priority = config & PRIORITY_MASK;
    if (priority < this.priority || (priority === this.priority && LPI_BASE + i < this.intid)) {
      this.priority = priority;
      this.intid = LPI_BASE + i;
    }
  }

  private unready(i: number): void {
    if (this.#stale) return;
    const w = i >> 5;
    this.#ready[w]! &= ~(1 << (i & 31));
    if (this.#ready[w] === 0) this.#summary[w >> 5]! &= ~(1 << (w & 31));
    if (this.intid === LPI_BASE + i) {
      // No candidate stands now, so that evaluate() may offer one; choose() then compares them all.
      this.intid = INTID_SPURIOUS;
      this.priority = PRIORITY_IDLE;
      this.#rescan = true;
    }
  }

  private reevaluate(): void {
    this.#stale = false;
    this.#rescan = false;
    this.#config.fill(0);
    this.#ready.fill(0);
    this.#summary.fill(0);
    this.intid = INTID_SPURIOUS;
    this.priority = PRIORITY_IDLE;
    for (let w = 0; w < this.#pending.length; w++) {
      for (let left = this.#pending[w]!; left !== 0; left &= left - 1) {
        this.evaluate((w << 5) + 31 - Math.clz32(left & -left));
      }
    }
  }

  private choose(): void {
    this.#rescan = false;
    this.intid = INTID_SPURIOUS;
    this.priority = PRIORITY_IDLE;
    for (let s = 0; s < this.#summary.length; s++) {
      for (let words = this.#summary[s]!; words !== 0; words &= words - 1) {
        const w = (s << 5) + 31 - Math.clz32(words & -words);
        for (let left = this.#ready[w]!; left !== 0; left &= left - 1) {
          const i = (w << 5) + 31 - Math.clz32(left & -left);
          const priority = this.configOf(i) & PRIORITY_MASK;
          if (priority < this.priority) {
            this.priority = priority;
            this.intid = LPI_BASE + i;
          }
        }
      }
    }
  }
}
