import { type BankState, InterruptBank } from './bank.ts';
import {
  GICD_CLRSPI_NSR,
  GICD_CTLR,
  GICD_CTLR_ARE,
  GICD_CTLR_DS,
  GICD_CTLR_EnableGrp0,
  GICD_CTLR_EnableGrp1,
  GICD_ICFGR,
  GICD_IGROUPR,
  GICD_IIDR,
  GICD_IPRIORITYR,
  GICD_IROUTER,
  GICD_ITARGETSR,
  GICD_SETSPI_NSR,
  GICD_TYPER,
  IIDR,
  INTID_BITS,
  identification,
  SPI_BASE,
} from './regs.ts';
import { RegisterFrame } from './wide.ts';

/** {@link Distributor.target} of an SPI that no CPU gets, and of one that any of them may get. */
export const TARGET_NONE = -1;
export const TARGET_ANY = -2;

const IROUTER_IRM = 1n << 31n;

export interface DistributorState {
  readonly ctlr: number;
  readonly bank: BankState;
  /** Affinities as in {@link affinityOf}. */
  readonly affinity: number[];
  readonly irm: number[];
}

/** Aff3.Aff2.Aff1.Aff0 in 32 bits, from MPIDR_EL1 or GICD_IROUTER, which agree on the fields' places. */
export function affinityOf(mpidr: bigint): number {
  return ((Number((mpidr >> 32n) & 0xffn) << 24) | Number(mpidr & 0xff_ffffn)) >>> 0;
}

/**
 * The Distributor of a GICv3 with one security state and affinity routing only: GICD_CTLR.DS and ARE are RAO/WI
 * (IHI 0069 sections 12.9.4 and 3.4). Offsets are of its 64 KiB frame. `changed` is called after every write that
 * may change what the CPUs get.
 */
export class Distributor extends RegisterFrame {
  readonly name = 'GICD';
  readonly bank: InterruptBank;
  /** CPU that gets SPI 32 + i, or TARGET_*. */
  readonly target: Int8Array;
  /** For each CPU the bitmap of SPIs routed to it. */
  readonly routed: readonly Uint32Array[];
  /** Bitmap of SPIs with 1-of-N routing. */
  readonly anyCpu: Uint32Array;
  #enables = 0;
  readonly #affinity: Uint32Array;
  readonly #typer: number;

  constructor(
    spis: number,
    private readonly cpuAffinities: readonly number[],
    lpis: boolean,
    private readonly changed: () => void,
  ) {
    super();
    this.bank = new InterruptBank(1, spis >> 5);
    this.target = new Int8Array(spis);
    this.#affinity = new Uint32Array(spis);
    this.anyCpu = new Uint32Array(spis >> 5);
    this.routed = cpuAffinities.map(() => new Uint32Array(spis >> 5));
    // ITLinesNumber, MBIS, LPIS, IDbits, A3V, RSS; CPUNumber is 0 without legacy operation.
    this.#typer = (spis >> 5) | (1 << 16) | ((lpis ? 1 : 0) << 17) | ((INTID_BITS - 1) << 19) | (1 << 24) | (1 << 26);
    this.reset();
  }

  get enableGroup0(): boolean {
    return (this.#enables & GICD_CTLR_EnableGrp0) !== 0;
  }

  get enableGroup1(): boolean {
    return (this.#enables & GICD_CTLR_EnableGrp1) !== 0;
  }

  reset(): void {
    this.#enables = 0;
    this.bank.reset();
    for (let i = 0; i < this.target.length; i++) this.route(i, 0, false);
  }

  save(): DistributorState {
    const irm = [...this.target.keys()].filter(i => this.target[i] === TARGET_ANY);
    return { ctlr: this.#enables, bank: this.bank.save(), affinity: Array.from(this.#affinity), irm };
  }

  restore(state: DistributorState): void {
    this.#enables = state.ctlr;
    this.bank.restore(state.bank);
    const any = new Set(state.irm);
    for (let i = 0; i < this.target.length; i++) this.route(i, state.affinity[i] ?? 0, any.has(i));
  }

  protected override read32(offset: number): number {
    if (offset >= GICD_IGROUPR && offset < GICD_ICFGR + 0x100) return this.bank.read(offset);
    switch (offset) {
      case GICD_CTLR:
        return this.#enables | GICD_CTLR_ARE | GICD_CTLR_DS;
      case GICD_TYPER:
        return this.#typer;
      case GICD_IIDR:
        return IIDR;
      default:
        // TYPER2, STATUSR, IGRPMODR (DS = 1), SGIR and its kin (ARE = 1) and everything reserved are RAZ.
        return offset >= 0xffd0 ? identification(offset - 0xffd0, 3) : 0;
    }
  }

  protected override write32(offset: number, value: number): void {
    if (offset >= GICD_IGROUPR && offset < GICD_ICFGR + 0x100) {
      this.bank.write(offset, value);
    } else if (offset === GICD_CTLR) {
      this.#enables = value & (GICD_CTLR_EnableGrp0 | GICD_CTLR_EnableGrp1);
    } else if (offset === GICD_SETSPI_NSR || offset === GICD_CLRSPI_NSR) {
      this.message(value, offset === GICD_SETSPI_NSR);
      return;
    } else return;
    this.changed();
  }

  protected override readWide(offset: number): bigint | undefined {
    const i = this.routerIndex(offset);
    if (i < 0) return undefined;
    const affinity = this.#affinity[i]!;
    return (
      (BigInt(affinity >>> 24) << 32n) |
      BigInt(affinity & 0xff_ffff) |
      (this.target[i] === TARGET_ANY ? IROUTER_IRM : 0n)
    );
  }

  protected override writeWide(offset: number, value: bigint): void {
    this.route(this.routerIndex(offset), affinityOf(value), (value & IROUTER_IRM) !== 0n);
    this.changed();
  }

  protected override readNarrow(offset: number, size: 1 | 2): number {
    return size === 1 && offset >= GICD_IPRIORITYR && offset < GICD_ITARGETSR ? this.bank.readPriority(offset) : 0;
  }

  protected override writeNarrow(offset: number, size: 1 | 2, value: number): void {
    if (size === 1 && offset >= GICD_IPRIORITYR && offset < GICD_ITARGETSR) {
      this.bank.writePriority(offset, value);
      this.changed();
    } else if (size === 2 && (offset === GICD_SETSPI_NSR || offset === GICD_CLRSPI_NSR)) {
      this.message(value, offset === GICD_SETSPI_NSR);
    }
  }

  /** A message-based SPI (GICD_SETSPI_NSR, GICD_CLRSPI_NSR): `value` holds the INTID. */
  message(value: number, on: boolean): void {
    const i = (value & 0x1fff) - SPI_BASE;
    if (i < 0 || i >= this.target.length) return;
    this.bank.setMessage(i, on);
    this.changed();
  }

  /** Index of the SPI whose GICD_IROUTER is at `offset`, or -1. */
  private routerIndex(offset: number): number {
    const i = (offset - GICD_IROUTER) / 8 - SPI_BASE;
    return i >= 0 && i < this.target.length ? i : -1;
  }

  private route(i: number, affinity: number, any: boolean): void {
    const w = i >> 5;
    const bit = 1 << (i & 31);
    this.#affinity[i] = affinity;
    // An affinity that names no CPU leaves the SPI pending in the Distributor.
    const cpu = any ? TARGET_ANY : this.cpuAffinities.indexOf(affinity);
    this.target[i] = cpu;
    this.anyCpu[w]! &= ~bit;
    for (const routed of this.routed) routed[w]! &= ~bit;
    if (any) this.anyCpu[w]! |= bit;
    else if (cpu >= 0) this.routed[cpu]![w]! |= bit;
  }
}
