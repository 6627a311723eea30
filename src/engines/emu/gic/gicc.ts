import { InterruptBank } from './bank.ts';
import { type PriorityState, PriorityUnit } from './priority.ts';
import {
  GICC_ABPR,
  GICC_AEOIR,
  GICC_AHPPIR,
  GICC_AIAR,
  GICC_APR0,
  GICC_BPR,
  GICC_CTLR,
  GICC_CTLR_AckCtl,
  GICC_CTLR_CBPR,
  GICC_CTLR_EnableGrp0,
  GICC_CTLR_EnableGrp1,
  GICC_CTLR_EOImode,
  GICC_CTLR_FIQEn,
  GICC_DIR,
  GICC_EOIR,
  GICC_HPPIR,
  GICC_IAR,
  GICC_IIDR,
  GICC_NSAPR0,
  GICC_PMR,
  GICC_RPR,
  INTID_GROUP1,
  INTID_SPECIAL,
  INTID_SPURIOUS,
  PRIORITY_IDLE,
} from './regs.ts';

const GICC_CTLR_FIELDS =
  GICC_CTLR_EnableGrp0 | GICC_CTLR_EnableGrp1 | GICC_CTLR_AckCtl | GICC_CTLR_FIQEn | GICC_CTLR_CBPR | GICC_CTLR_EOImode;
/** Architecture version 2 (IHI 0048 section 4.4.14). */
const GICC_IIDR_VALUE = 0x5402_043b;
const SIGNAL_IRQ = 1;
const SIGNAL_FIQ = 2;

export interface GiccHost {
  activate(cpu: number, intid: number): void;
  deactivate(cpu: number, intid: number): void;
  /** 0 or 1; undefined when there is no such interrupt. */
  groupOf(cpu: number, intid: number): number | undefined;
  /** Priorities or enables of `cpu` changed. */
  update(cpu: number): void;
}

export interface GiccState {
  readonly ctlr: number;
  readonly priorities: PriorityState;
  readonly sgiSources: number[];
}

/**
 * One CPU's part of a GICv2 without Security Extensions: its private interrupts and the memory-mapped CPU interface
 * (IHI 0048 sections 3.2 and 4.4). Group 0 is signalled as IRQ unless GICC_CTLR.FIQEn.
 */
export class Gicc {
  readonly bank = new InterruptBank(0, 1);
  readonly priorities = new PriorityUnit();
  /** For each SGI the CPUs that sent it and were not acknowledged yet; the bank's latch says "any". */
  readonly sgiSources = new Uint8Array(16);
  ctlr = 0;
  /** Highest priority pending interrupt of the enabled groups, kept by the GIC; INTID 1023 for none. */
  pending = INTID_SPURIOUS;
  pendingPriority = PRIORITY_IDLE;
  pendingGroup = 0;

  constructor(
    private readonly cpu: number,
    private readonly host: GiccHost,
  ) {}

  reset(): void {
    this.bank.reset();
    this.bank.enabled[0] = 0xffff; // SGIs cannot be disabled here, as section 4.3.5 allows.
    this.priorities.reset();
    this.sgiSources.fill(0);
    this.ctlr = 0;
  }

  save(): GiccState {
    return { ctlr: this.ctlr, priorities: this.priorities.save(), sgiSources: Array.from(this.sgiSources) };
  }

  restore(state: GiccState): void {
    this.ctlr = state.ctlr;
    this.priorities.restore(state.priorities);
    this.sgiSources.set(state.sgiSources);
  }

  /** Bit 0 nIRQ, bit 1 nFIQ asserted. */
  get signals(): number {
    if (this.pending === INTID_SPURIOUS || !this.priorities.canPreempt(this.pendingPriority, this.pendingGroup)) {
      return 0;
    }
    return this.pendingGroup === 0 && this.ctlr & GICC_CTLR_FIQEn ? SIGNAL_FIQ : SIGNAL_IRQ;
  }

  read(offset: number): number {
    switch (offset) {
      case GICC_CTLR:
        return this.ctlr;
      case GICC_PMR:
        return this.priorities.pmr;
      case GICC_BPR:
        return this.priorities.bpr0;
      case GICC_ABPR:
        return this.priorities.abpr;
      case GICC_IAR:
        return this.acknowledge(false);
      case GICC_AIAR:
        return this.acknowledge(true);
      case GICC_RPR:
        return this.priorities.running;
      case GICC_HPPIR:
        return this.visible(false, this.pending !== INTID_SPURIOUS);
      case GICC_AHPPIR:
        return this.visible(true, this.pending !== INTID_SPURIOUS);
      case GICC_APR0:
        return this.priorities.apr0;
      case GICC_NSAPR0:
        return this.priorities.apr1;
      case GICC_IIDR:
        return GICC_IIDR_VALUE;
      default:
        return 0;
    }
  }

  write(offset: number, value: number): void {
    const { priorities } = this;
    switch (offset) {
      case GICC_CTLR:
        this.ctlr = value & GICC_CTLR_FIELDS;
        priorities.cbpr = (value & GICC_CTLR_CBPR) !== 0;
        break;
      case GICC_PMR:
        priorities.pmr = value;
        break;
      case GICC_BPR:
        priorities.bpr0 = value;
        break;
      case GICC_ABPR:
        priorities.abpr = value;
        break;
      case GICC_APR0:
        priorities.apr0 = value | 0;
        break;
      case GICC_NSAPR0:
        priorities.apr1 = value | 0;
        break;
      case GICC_EOIR:
      case GICC_AEOIR:
        this.endOfInterrupt(value & 0x3ff, offset === GICC_AEOIR);
        break;
      case GICC_DIR:
        if (this.ctlr & GICC_CTLR_EOImode) this.host.deactivate(this.cpu, value & 0x3ff);
        break;
      default:
        return;
    }
    this.host.update(this.cpu);
  }

  /** What GICC_IAR (or the Group 1 alias) shows of the pending interrupt: sections 4.4.4 and 4.4.9. */
  private visible(alias: boolean, there: boolean): number {
    if (!there) return INTID_SPURIOUS;
    if (this.pendingGroup === 1 && !alias && (this.ctlr & GICC_CTLR_AckCtl) === 0) return INTID_GROUP1;
    if (this.pendingGroup === 0 && alias) return INTID_SPURIOUS;
    return this.pending < 16 ? this.pending | (this.sgiSource(this.pending) << 10) : this.pending;
  }

  private acknowledge(alias: boolean): number {
    const { pending: intid, pendingPriority, pendingGroup } = this;
    const value = this.visible(alias, this.signals !== 0);
    if ((value & 0x3ff) >= INTID_SPECIAL) return value;
    this.priorities.activate(pendingPriority, pendingGroup);
    if (intid < 16) this.sgiSources[intid]! &= ~(1 << (value >> 10));
    this.host.activate(this.cpu, intid);
    return value;
  }

  /**
   * The INTID says which group's priority drops. GICC_EOIR of a Group 1 interrupt with AckCtl = 0 is UNPREDICTABLE:
   * handled as with AckCtl = 1.
   */
  private endOfInterrupt(intid: number, alias: boolean): void {
    const group = this.host.groupOf(this.cpu, intid);
    if (group === undefined || this.priorities.runningGroup < 0 || (alias && group === 0)) return;
    this.priorities.drop(group);
    if ((this.ctlr & GICC_CTLR_EOImode) === 0) this.host.deactivate(this.cpu, intid);
  }

  /** The lowest CPU among those that sent SGI `intid`. */
  private sgiSource(intid: number): number {
    const sources = this.sgiSources[intid]!;
    return sources === 0 ? 0 : 31 - Math.clz32(sources & -sources);
  }
}
