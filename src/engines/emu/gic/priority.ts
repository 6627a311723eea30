import { PRIORITY_IDLE, PRIORITY_MASK } from './regs.ts';

/** Smallest binary points with 5 priority bits: every implemented bit takes part in preemption. */
export const MIN_BPR0 = 2;
export const MIN_BPR1 = 3;

/** {@link PriorityUnit} as plain JSON. */
export interface PriorityState {
  readonly pmr: number;
  readonly bpr0: number;
  readonly bpr1: number;
  readonly cbpr: boolean;
  readonly apr0: number;
  readonly apr1: number;
}

/**
 * Priority mask, binary points and active priorities of one CPU interface, GICv2's or GICv3's
 * (IHI 0069 section 4.8, IHI 0048 section 3.3). Group 1 uses its binary point as a Non-secure one does:
 * group priority is bits [7:BPR1], against [7:BPR0+1] for Group 0.
 */
export class PriorityUnit {
  #pmr = 0;
  #bpr0 = MIN_BPR0;
  #bpr1 = MIN_BPR1;
  /** Common binary point: Group 1 uses BPR0 too. */
  cbpr = false;
  /** Active group priorities of Group 0 and Group 1, one bit for each of the 32 levels, bit 0 the most urgent. */
  apr0 = 0;
  apr1 = 0;

  reset(): void {
    this.restore({ pmr: 0, bpr0: MIN_BPR0, bpr1: MIN_BPR1, cbpr: false, apr0: 0, apr1: 0 });
  }

  get pmr(): number {
    return this.#pmr;
  }

  set pmr(value: number) {
    this.#pmr = value & PRIORITY_MASK;
  }

  get bpr0(): number {
    return this.#bpr0;
  }

  set bpr0(value: number) {
    this.#bpr0 = Math.max(value & 7, MIN_BPR0);
  }

  /** Group 1's own binary point, which CBPR leaves unused: GICC_ABPR. */
  get abpr(): number {
    return this.#bpr1;
  }

  set abpr(value: number) {
    this.#bpr1 = Math.max(value & 7, MIN_BPR1);
  }

  /** ICC_BPR1_EL1: with CBPR reads give BPR0 plus one, saturated, and writes are ignored (section 12.2.5). */
  get bpr1(): number {
    return this.cbpr ? Math.min(this.#bpr0 + 1, 7) : this.#bpr1;
  }

  set bpr1(value: number) {
    if (!this.cbpr) this.abpr = value;
  }

  /** Priority of the most urgent active interrupt, 0xff when there is none. */
  get running(): number {
    const active = this.apr0 | this.apr1;
    return active === 0 ? PRIORITY_IDLE : (31 - Math.clz32(active & -active)) << 3;
  }

  /** Group of the most urgent active interrupt, -1 when there is none. */
  get runningGroup(): number {
    const active = this.apr0 | this.apr1;
    return active === 0 ? -1 : this.apr0 & active & -active ? 0 : 1;
  }

  /** True when an interrupt of `priority` gets through the mask and preempts what is active. */
  canPreempt(priority: number, group: number): boolean {
    if (priority >= this.#pmr) return false;
    const running = this.running;
    if (running === PRIORITY_IDLE) return true;
    const mask = this.groupMask(group);
    return (priority & mask) < (running & mask);
  }

  activate(priority: number, group: number): void {
    const bit = 1 << ((priority & this.groupMask(group)) >> 3);
    if (group === 0) this.apr0 |= bit;
    else this.apr1 |= bit;
  }

  /** Priority drop: the most urgent active priority of `group` goes. */
  drop(group: number): void {
    if (group === 0) this.apr0 &= this.apr0 - 1;
    else this.apr1 &= this.apr1 - 1;
  }

  save(): PriorityState {
    return { pmr: this.#pmr, bpr0: this.#bpr0, bpr1: this.#bpr1, cbpr: this.cbpr, apr0: this.apr0, apr1: this.apr1 };
  }

  restore(state: PriorityState): void {
    this.#pmr = state.pmr;
    this.#bpr0 = state.bpr0;
    this.#bpr1 = state.bpr1;
    this.cbpr = state.cbpr;
    this.apr0 = state.apr0;
    this.apr1 = state.apr1;
  }

  private groupMask(group: number): number {
    return group === 0 || this.cbpr ? 0xff & (0xfe << this.#bpr0) : 0xff & (0xff << this.#bpr1);
  }
}
