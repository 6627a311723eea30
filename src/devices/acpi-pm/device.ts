import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { InterruptLine } from '../../irq/types.ts';
import type { Clock } from '../../time/types.ts';
import * as R from './regs.ts';

/** What an {@link AcpiPm} is connected to. */
export interface AcpiPmOptions {
  /** The system control interrupt. */
  readonly sci: InterruptLine;
  readonly clock: Clock;
  /** SLP_TYP that means S5, soft off: what the namespace's \_S5 says. */
  readonly sleepTypeS5: number;
  /** The guest has asked for soft off. */
  powerOff(): void;
  /** Told of what a guest asks for and does not get. */
  log?(line: string): void;
}

/** The state of the fixed hardware. The PM timer has none: it follows from the machine's clock. */
export interface AcpiPmState {
  readonly sts: number;
  readonly en: number;
  readonly cnt: number;
  /** Up to when TMR_STS was raised, in ticks of the PM timer since the machine's clock began. */
  readonly seen: number;
}

/** Status bits that a machine without sleeping states has. */
const EVENTS = R.TMR | R.GBL | R.PWRBTN | R.RTC;
/** Ticks between two changes of the timer's highest bit, 31. */
const TOGGLE = 2 ** 31;

/**
 * ACPI's fixed hardware (ACPI 6.5 section 4.8): PM1 event and control registers and the PM timer, three register blocks
 * with a device for each. There is no SMI and so no other mode: SCI_EN is always set. GBL_STS and RTC_STS have no source,
 * their enables only keep what is written.
 */
export class AcpiPm {
  /** PM1a_EVT_BLK, 4 bytes: PM1_STS and PM1_EN. */
  readonly event: BusDevice = {
    name: 'acpi-pm1-event',
    read: (offset, size) => {
      this.#catchUp();
      this.#update();
      return slice(this.#sts | (this.#en << 16), 4, offset, size);
    },
    write: (offset, size, value) => this.#writeEvent(offset, size, value),
  };
  /** PM1a_CNT_BLK, 2 bytes: PM1_CNT. */
  readonly control: BusDevice = {
    name: 'acpi-pm1-control',
    read: (offset, size) => slice(this.#cnt | R.SCI_EN, 2, offset, size),
    write: (offset, size, value) => this.#writeControl(merge(this.#cnt, 2, offset, size, value)),
  };
  /** PM_TMR_BLK, 4 bytes: 32 bits of the PM timer. */
  readonly timer: BusDevice = {
    name: 'acpi-pm-timer',
    read: (offset, size) => slice(this.#ticks() % 2 ** 32, 4, offset, size),
    write: () => {}, // read-only
  };

  readonly #options: AcpiPmOptions;
  #sts = 0;
  #en = 0;
  #cnt = 0;
  #seen: number;
  #alarm: Disposable | undefined;
  #level = false;

  constructor(options: AcpiPmOptions) {
    this.#options = options;
    this.#seen = this.#ticks();
  }

  /** Everything but the timer, which only counts, as after power-on. */
  reset(): void {
    this.#sts = this.#en = this.#cnt = 0;
    this.#seen = this.#ticks();
    this.#update();
  }

  /** For {@link restore}. */
  save(): AcpiPmState {
    return { sts: this.#sts, en: this.#en, cnt: this.#cnt, seen: this.#seen };
  }

  /** Goes on from `s`, on a clock that goes on from the saved machine's. */
  restore(s: AcpiPmState): void {
    this.#sts = s.sts;
    this.#en = s.en;
    this.#cnt = s.cnt;
    this.#seen = s.seen;
    this.#catchUp();
    this.#update();
  }

  /** Sets PWRBTN_STS (section 4.8.2.2.1): a guest that listens shuts down. */
  pressPowerButton(): void {
    this.#sts |= R.PWRBTN;
    this.#update();
  }

  #writeEvent(offset: number, size: AccessSize, value: number): void {
    this.#catchUp();
    // Status bits are cleared by ones, so bytes beside the access are zeros; the enables beside it stay.
    this.#sts &= ~merge(0, 4, offset, size, value);
    this.#en = (merge(this.#en << 16, 4, offset, size, value) >>> 16) & EVENTS;
    this.#update();
  }

  #writeControl(value: number): void {
    // SLP_EN and GBL_RLS are write-only; GBL_RLS would raise an SMI, of which there is none.
    this.#cnt = value & (R.BM_RLD | R.SLP_TYP);
    if (!(value & R.SLP_EN)) return;
    const type = (value & R.SLP_TYP) >> R.SLP_TYP_SHIFT;
    if (type === this.#options.sleepTypeS5) this.#options.powerOff();
    else this.#options.log?.(`acpi: the guest asks for a sleeping state that is not there: SLP_TYP ${type}`);
  }

  /** Ticks of the PM timer since the machine's clock began. */
  #ticks(): number {
    const ns = this.#options.clock.nowNs();
    // In two parts, each exact in a double.
    const seconds = Math.floor(ns / 1e9);
    return seconds * R.PM_TIMER_HZ + Math.floor(((ns - seconds * 1e9) * R.PM_TIMER_HZ) / 1e9);
  }

  /** Raises TMR_STS when the timer's highest bit has changed since the last call. */
  #catchUp(): void {
    const ticks = this.#ticks();
    if (Math.floor(this.#seen / TOGGLE) !== Math.floor(ticks / TOGGLE)) this.#sts |= R.TMR;
    this.#seen = ticks;
  }

  /** Drives SCI, and waits for the timer's next interrupt if it is enabled and not pending. */
  #update(): void {
    const level = (this.#sts & this.#en) !== 0;
    this.#alarm?.[Symbol.dispose]();
    this.#alarm = undefined;
    if (this.#en & ~this.#sts & R.TMR) {
      const ticks = (Math.floor(this.#seen / TOGGLE) + 1) * TOGGLE;
      const ns = Math.ceil((ticks / R.PM_TIMER_HZ) * 1e9);
      // One ns later at least: a rounding that lets it come early must not let it come again and again.
      this.#alarm = this.#options.clock.at(Math.max(ns, this.#options.clock.nowNs() + 1), () => {
        this.#alarm = undefined;
        this.#catchUp();
        this.#update();
      });
    }
    if (level === this.#level) return;
    this.#level = level;
    this.#options.sci.set(level);
  }
}

/** `size` bytes from `offset` on of a register of `width` bytes; what lies beside it reads as zero. */
function slice(value: number, width: number, offset: number, size: AccessSize): number {
  let bytes = 0;
  for (let i = 0; i < size && offset + i < width; i++) bytes |= ((value >>> (8 * (offset + i))) & 0xff) << (8 * i);
  return bytes >>> 0;
}

/** A register of `width` bytes after a write of `size` bytes at `offset`. */
function merge(old: number, width: number, offset: number, size: AccessSize, value: number): number {
  let bytes = old;
  for (let i = 0; i < size && offset + i < width; i++) {
    const shift = 8 * (offset + i);
    bytes = (bytes & ~(0xff << shift)) | (((value >>> (8 * i)) & 0xff) << shift);
  }
  return bytes >>> 0;
}
