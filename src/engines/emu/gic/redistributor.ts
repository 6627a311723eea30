import type { GuestMemory } from '../../../memory/types.ts';
import { type BankState, InterruptBank } from './bank.ts';
import { type LpiState, LpiUnit } from './lpi.ts';
import {
  GICD_ICFGR,
  GICD_IGROUPR,
  GICD_IPRIORITYR,
  GICR_CTLR,
  GICR_CTLR_CES,
  GICR_CTLR_EnableLPIs,
  GICR_CTLR_IR,
  GICR_IIDR,
  GICR_INVALLR,
  GICR_INVLPIR,
  GICR_PENDBASER,
  GICR_PENDBASER_PTZ,
  GICR_PROPBASER,
  GICR_SYNCR,
  GICR_TYPER,
  GICR_WAKER,
  GICR_WAKER_ChildrenAsleep,
  GICR_WAKER_ProcessorSleep,
  IIDR,
  identification,
} from './regs.ts';
import { RegisterFrame, toHex } from './wide.ts';

// Writable fields (sections 12.10.27 and 12.10.26): cacheabilities and shareability read back as written.
const PROPBASER_FIELDS = 0x070f_ffff_ffff_ff9fn;
const PENDBASER_FIELDS = 0x470f_ffff_ffff_0f80n;
const PROPBASER_PA = 0x000f_ffff_ffff_f000n;
const PENDBASER_PA = 0x000f_ffff_ffff_0000n;

export interface RedistributorState {
  readonly asleep: boolean;
  readonly propbaser: string;
  readonly pendbaser: string;
  readonly bank: BankState;
  readonly lpi: LpiState;
}

/** How a CPU's redistributor is found: what GICR_TYPER says. */
export interface RedistributorIdentity {
  readonly cpu: number;
  /** Aff3.Aff2.Aff1.Aff0. */
  readonly affinity: number;
  readonly last: boolean;
  readonly lpis: boolean;
}

/** SGIs, PPIs and LPIs of one CPU and the registers of its two frames (IHI 0069 sections 12.10 and 12.11). */
export class Redistributor extends RegisterFrame {
  readonly name = 'GICR';
  readonly bank = new InterruptBank(0, 1);
  readonly lpi: LpiUnit;
  /**
   * GICR_WAKER.ProcessorSleep: nothing is forwarded to the CPU interface. Awake from reset on, as Secure firmware leaves it:
   * a guest's own firmware for QEMU's virt board does not write GICR_WAKER, since QEMU and KVM deliver whatever it says.
   */
  asleep = false;
  #propbaser = 0n;
  #pendbaser = 0n;
  readonly #typer: bigint;

  constructor(
    private readonly identity: RedistributorIdentity,
    memory: GuestMemory,
    private readonly changed: () => void,
  ) {
    super();
    const { cpu, affinity, last, lpis } = identity;
    this.lpi = new LpiUnit(memory);
    // PLPIS, Last, Processor_Number, Affinity_Value; CommonLPIAff 0: all redistributors share the LPI configuration.
    this.#typer = (BigInt(affinity) << 32n) | BigInt((lpis ? 1 : 0) | ((last ? 1 : 0) << 4) | (cpu << 8));
  }

  reset(): void {
    this.asleep = false;
    this.#propbaser = 0n;
    this.#pendbaser = 0n;
    this.bank.reset();
    this.lpi.reset();
  }

  save(): RedistributorState {
    return {
      asleep: this.asleep,
      propbaser: toHex(this.#propbaser),
      pendbaser: toHex(this.#pendbaser),
      bank: this.bank.save(),
      lpi: this.lpi.save(),
    };
  }

  restore(state: RedistributorState): void {
    this.asleep = state.asleep;
    this.#propbaser = BigInt(state.propbaser);
    this.#pendbaser = BigInt(state.pendbaser);
    this.bank.restore(state.bank);
    this.lpi.restore(state.lpi);
  }

  protected override read32(offset: number): number {
    if (offset >= SGI_FRAME) {
      const o = offset - SGI_FRAME;
      // GICR_IGRPMODR0 and GICR_NSACR are RAZ with GICD_CTLR.DS = 1.
      return o >= GICD_IGROUPR && o < GICD_ICFGR + 0x100 ? this.bank.read(o) : 0;
    }
    switch (offset) {
      case GICR_CTLR:
        if (!this.identity.lpis) return 0;
        return (this.lpi.enabled ? GICR_CTLR_EnableLPIs : 0) | GICR_CTLR_CES | GICR_CTLR_IR;
      case GICR_IIDR:
        return IIDR;
      case GICR_WAKER:
        return this.asleep ? GICR_WAKER_ProcessorSleep | GICR_WAKER_ChildrenAsleep : 0;
      case GICR_SYNCR:
        return 0; // Never busy: every operation ends with the access that starts it.
      default:
        return offset >= 0xffd0 ? identification(offset - 0xffd0, 3) : 0;
    }
  }

  protected override write32(offset: number, value: number): void {
    if (offset >= SGI_FRAME) {
      const o = offset - SGI_FRAME;
      if (o < GICD_IGROUPR || o >= GICD_ICFGR + 0x100) return;
      this.bank.write(o, value);
    } else if (offset === GICR_CTLR) this.enableLpis((value & GICR_CTLR_EnableLPIs) !== 0);
    else if (offset === GICR_WAKER) this.asleep = (value & GICR_WAKER_ProcessorSleep) !== 0;
    else return;
    this.changed();
  }

  protected override readWide(offset: number): bigint | undefined {
    switch (offset) {
      case GICR_TYPER:
        return this.#typer;
      case GICR_PROPBASER:
        return this.#propbaser;
      case GICR_PENDBASER:
        return this.#pendbaser & ~GICR_PENDBASER_PTZ;
      case GICR_INVLPIR:
      case GICR_INVALLR:
        return 0n;
      default:
        return undefined;
    }
  }

  protected override writeWide(offset: number, value: bigint): void {
    if (!this.identity.lpis) return;
    const { lpi } = this;
    // Changing the tables while LPIs are enabled is UNPREDICTABLE; the write is ignored.
    if (offset === GICR_PROPBASER && !lpi.enabled) this.#propbaser = value & PROPBASER_FIELDS;
    else if (offset === GICR_PENDBASER && !lpi.enabled) this.#pendbaser = value & PENDBASER_FIELDS;
    else if (offset === GICR_INVLPIR) lpi.invalidate(Number(BigInt.asUintN(32, value)));
    else if (offset === GICR_INVALLR) lpi.invalidateAll();
    else return;
    this.changed();
  }

  protected override readNarrow(offset: number, size: 1 | 2): number {
    return size === 1 && isPriority(offset) ? this.bank.readPriority(offset - SGI_FRAME) : 0;
  }

  protected override writeNarrow(offset: number, size: 1 | 2, value: number): void {
    if (size !== 1 || !isPriority(offset)) return;
    this.bank.writePriority(offset - SGI_FRAME, value);
    this.changed();
  }

  private enableLpis(on: boolean): void {
    if (!this.identity.lpis || on === this.lpi.enabled) return;
    if (!on) {
      this.lpi.disable();
      return;
    }
    const zeroed = (this.#pendbaser & GICR_PENDBASER_PTZ) !== 0n;
    const idBits = Number(this.#propbaser & 0x1fn) + 1;
    this.lpi.enable(Number(this.#propbaser & PROPBASER_PA), Number(this.#pendbaser & PENDBASER_PA), idBits, zeroed);
  }
}

const SGI_FRAME = 0x1_0000;

const isPriority = (offset: number) =>
  offset >= SGI_FRAME + GICD_IPRIORITYR && offset < SGI_FRAME + GICD_IPRIORITYR + 32;
