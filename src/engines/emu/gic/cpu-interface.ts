import { type PriorityState, PriorityUnit } from './priority.ts';
import {
  ICC_AP0R0_EL1,
  ICC_AP1R0_EL1,
  ICC_ASGI1R_EL1,
  ICC_BPR0_EL1,
  ICC_BPR1_EL1,
  ICC_CTLR_EL1,
  ICC_CTLR_EL1_CBPR,
  ICC_CTLR_EL1_EOImode,
  ICC_DIR_EL1,
  ICC_EOIR0_EL1,
  ICC_EOIR1_EL1,
  ICC_HPPIR0_EL1,
  ICC_HPPIR1_EL1,
  ICC_IAR0_EL1,
  ICC_IAR1_EL1,
  ICC_IGRPEN0_EL1,
  ICC_IGRPEN1_EL1,
  ICC_PMR_EL1,
  ICC_RPR_EL1,
  ICC_SGI0R_EL1,
  ICC_SGI1R_EL1,
  ICC_SRE_EL1,
  INTID_SPECIAL,
  INTID_SPURIOUS,
  PRIORITY_IDLE,
} from './regs.ts';

/** ICC_CTLR_EL1's constants: 5 priority bits, 16 INTID bits, A3V, RSS (section 12.2.6). */
const ICC_CTLR_EL1_FIXED = (4 << 8) | (1 << 15) | (1 << 18);
/** SRE, DFB and DIB: system registers only (section 12.2.24). */
const ICC_SRE_EL1_VALUE = 7n;

export const SIGNAL_IRQ = 1;
export const SIGNAL_FIQ = 2;

/** What a CPU interface needs from the rest of the GIC. */
export interface CpuInterfaceHost {
  /** The interrupt was acknowledged: pending becomes active (an LPI just stops being pending). */
  activate(cpu: number, intid: number): void;
  deactivate(cpu: number, intid: number): void;
  /** ICC_SGI*R_EL1 was written; `group1`: SGIs that are configured as Group 1 may be generated too. */
  sendSgi(cpu: number, value: bigint, group1: boolean): void;
  /** Priorities changed: the signals to the CPU may have. */
  signal(cpu: number): void;
  /** Group enables changed: what any CPU gets may have. */
  groupsChanged(): void;
}

export interface CpuInterfaceState {
  readonly priorities: PriorityState;
  readonly enableGroup0: boolean;
  readonly enableGroup1: boolean;
  readonly eoiMode: boolean;
}

// Reading an acknowledge register is on every interrupt's path; its usual values need no new bigint.
const SMALL = Array.from({ length: INTID_SPURIOUS + 1 }, (_, n) => BigInt(n));
const big = (n: number): bigint => SMALL[n] ?? BigInt(n >>> 0);
const low = (value: bigint): number => Number(BigInt.asUintN(32, value));
const bool = (b: boolean): bigint => (b ? 1n : 0n);

/** The CPU interface of one CPU, by system registers ICC_*_EL1 (IHI 0069 sections 4.7, 4.8 and 12.2). */
export class CpuInterfaceUnit {
  readonly priorities = new PriorityUnit();
  enableGroup0 = false;
  enableGroup1 = false;
  /** ICC_CTLR_EL1.EOImode: EOIR only drops the priority, DIR deactivates. */
  eoiMode = false;
  /** Highest priority pending interrupt of the enabled groups, kept by the GIC; INTID 1023 for none. */
  pending = INTID_SPURIOUS;
  pendingPriority = PRIORITY_IDLE;
  pendingGroup = 1;

  constructor(
    private readonly cpu: number,
    private readonly host: CpuInterfaceHost,
  ) {}

  reset(): void {
    this.priorities.reset();
    this.enableGroup0 = false;
    this.enableGroup1 = false;
    this.eoiMode = false;
  }

  save(): CpuInterfaceState {
    const { enableGroup0, enableGroup1, eoiMode } = this;
    return { priorities: this.priorities.save(), enableGroup0, enableGroup1, eoiMode };
  }

  restore(state: CpuInterfaceState): void {
    this.priorities.restore(state.priorities);
    this.enableGroup0 = state.enableGroup0;
    this.enableGroup1 = state.enableGroup1;
    this.eoiMode = state.eoiMode;
  }

  /** SIGNAL_IRQ, SIGNAL_FIQ or 0: with one security state Group 0 is FIQ, Group 1 is IRQ (section 4.6.2). */
  get signals(): number {
    if (this.pending === INTID_SPURIOUS || !this.priorities.canPreempt(this.pendingPriority, this.pendingGroup)) {
      return 0;
    }
    return this.pendingGroup === 0 ? SIGNAL_FIQ : SIGNAL_IRQ;
  }

  /** Reads ICC_IAR<group>_EL1: takes the pending interrupt, or 1023. */
  acknowledge(group: number): number {
    const { pending: intid, pendingPriority } = this;
    if (this.pendingGroup !== group || this.signals === 0) return INTID_SPURIOUS;
    this.priorities.activate(pendingPriority, group);
    this.host.activate(this.cpu, intid);
    return intid;
  }

  /** Writes ICC_EOIR<group>_EL1. A group that is not the running one's is ignored, as section 4.7.2 allows. */
  endOfInterrupt(group: number, intid: number): void {
    if ((intid >= INTID_SPECIAL && intid <= INTID_SPURIOUS) || this.priorities.runningGroup !== group) return;
    this.priorities.drop(group);
    if (!this.eoiMode) this.host.deactivate(this.cpu, intid);
    this.host.signal(this.cpu);
  }

  /** Value of system register `reg`, undefined when it is write-only or none of ours. */
  read(reg: number): bigint | undefined {
    switch (reg) {
      case ICC_IAR1_EL1:
        return big(this.acknowledge(1));
      case ICC_IAR0_EL1:
        return big(this.acknowledge(0));
      case ICC_PMR_EL1:
        return big(this.priorities.pmr);
      case ICC_RPR_EL1:
        return big(this.priorities.running);
      case ICC_HPPIR0_EL1:
        return big(this.pendingGroup === 0 ? this.pending : INTID_SPURIOUS);
      case ICC_HPPIR1_EL1:
        return big(this.pendingGroup === 1 ? this.pending : INTID_SPURIOUS);
      case ICC_BPR0_EL1:
        return big(this.priorities.bpr0);
      case ICC_BPR1_EL1:
        return big(this.priorities.bpr1);
      case ICC_AP0R0_EL1:
        return big(this.priorities.apr0);
      case ICC_AP1R0_EL1:
        return big(this.priorities.apr1);
      case ICC_CTLR_EL1:
        return BigInt(
          ICC_CTLR_EL1_FIXED |
            (this.priorities.cbpr ? ICC_CTLR_EL1_CBPR : 0) |
            (this.eoiMode ? ICC_CTLR_EL1_EOImode : 0),
        );
      case ICC_SRE_EL1:
        return ICC_SRE_EL1_VALUE;
      case ICC_IGRPEN0_EL1:
        return bool(this.enableGroup0);
      case ICC_IGRPEN1_EL1:
        return bool(this.enableGroup1);
      default:
        return undefined;
    }
  }

  /** Writes system register `reg`; false when it is read-only or none of ours. */
  write(reg: number, value: bigint): boolean {
    switch (reg) {
      case ICC_EOIR1_EL1:
        this.endOfInterrupt(1, low(value) & 0xff_ffff);
        return true;
      case ICC_EOIR0_EL1:
        this.endOfInterrupt(0, low(value) & 0xff_ffff);
        return true;
      case ICC_DIR_EL1:
        // Without EOImode the write is UNPREDICTABLE: ignored.
        if (this.eoiMode) this.host.deactivate(this.cpu, low(value) & 0xff_ffff);
        return true;
      case ICC_SGI1R_EL1:
        this.host.sendSgi(this.cpu, value, true);
        return true;
      case ICC_ASGI1R_EL1:
      case ICC_SGI0R_EL1:
        // With GICD_CTLR.DS = 1 there is no other security state whose Group 1 ICC_ASGI1R_EL1 could mean.
        this.host.sendSgi(this.cpu, value, false);
        return true;
      case ICC_IGRPEN0_EL1:
        this.enableGroup0 = (low(value) & 1) !== 0;
        this.host.groupsChanged();
        return true;
      case ICC_IGRPEN1_EL1:
        this.enableGroup1 = (low(value) & 1) !== 0;
        this.host.groupsChanged();
        return true;
      case ICC_SRE_EL1:
        return true;
      default:
        if (!this.writePriorities(reg, low(value))) return false;
        this.host.signal(this.cpu);
        return true;
    }
  }

  private writePriorities(reg: number, value: number): boolean {
    const { priorities } = this;
    switch (reg) {
      case ICC_PMR_EL1:
        priorities.pmr = value;
        return true;
      case ICC_BPR0_EL1:
        priorities.bpr0 = value;
        return true;
      case ICC_BPR1_EL1:
        priorities.bpr1 = value;
        return true;
      case ICC_AP0R0_EL1:
        priorities.apr0 = value | 0;
        return true;
      case ICC_AP1R0_EL1:
        priorities.apr1 = value | 0;
        return true;
      case ICC_CTLR_EL1:
        priorities.cbpr = (value & ICC_CTLR_EL1_CBPR) !== 0;
        this.eoiMode = (value & ICC_CTLR_EL1_EOImode) !== 0;
        return true;
      default:
        return false;
    }
  }
}
