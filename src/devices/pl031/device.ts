import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { InterruptLine } from '../../irq/types.ts';
import type { Clock } from '../../time/types.ts';
import { primeCellId } from '../primecell.ts';
import * as R from './regs.ts';

/** What a {@link Pl031} is connected to. */
export interface Pl031Options {
  /** RTCINTR. */
  readonly irq: InterruptLine;
  /** Its wall clock is what RTCDR shows until the guest sets another time. */
  readonly clock: Clock;
}

/** A clock's state; `offset` is what the guest's time is ahead of the wall clock, s. */
export interface Pl031State {
  readonly offset: number;
  readonly match: number;
  readonly load: number;
  readonly imsc: number;
  readonly ris: number;
}

/**
 * PrimeCell Real Time Clock PL031 (DDI 0224C): a 32-bit count of seconds since 1970 with an alarm. It counts whether
 * RTCCR says so or not: it stands for the battery-backed clock of a board, which nobody has to start.
 */
export class Pl031 implements BusDevice {
  readonly name = 'pl031';
  readonly #options: Pl031Options;
  /** RTCDR - wall clock, modulo 2^32: what the guest set. Survives a reset, as a battery-backed clock does. */
  #offset = 0;
  #match = 0;
  #load = 0;
  #imsc = 0;
  #ris = 0;
  #alarm: Disposable | undefined;
  #level = false;

  constructor(options: Pl031Options) {
    this.#options = options;
  }

  /** All registers but the time as after power-on; no alarm. */
  reset(): void {
    this.#alarm?.[Symbol.dispose]();
    this.#alarm = undefined;
    this.#match = this.#load = this.#imsc = this.#ris = 0;
    this.#update();
  }

  /** For {@link restore}. */
  save(): Pl031State {
    return { offset: this.#offset, match: this.#match, load: this.#load, imsc: this.#imsc, ris: this.#ris };
  }

  restore(s: Pl031State): void {
    this.reset();
    this.#offset = s.offset;
    this.#match = s.match;
    this.#load = s.load;
    this.#imsc = s.imsc;
    this.#arm();
    this.#ris = s.ris;
    this.#update();
  }

  read(offset: number, size: AccessSize): number {
    if (offset & 3) return 0;
    const value = this.#read(offset);
    return size === 4 ? value : value & (2 ** (8 * size) - 1);
  }

  write(offset: number, _size: AccessSize, value: number): void {
    switch (offset) {
      case R.RTCMR:
        this.#match = value;
        this.#arm();
        break;
      case R.RTCLR:
        this.#load = value;
        this.#offset = (value - this.#wall()) >>> 0;
        this.#arm();
        break;
      case R.RTCIMSC:
        this.#imsc = value & 1;
        break;
      case R.RTCICR:
        this.#ris &= ~value;
        break;
    }
    this.#update();
  }

  #read(offset: number): number {
    switch (offset) {
      case R.RTCDR:
        return this.#now();
      case R.RTCMR:
        return this.#match;
      case R.RTCLR:
        return this.#load;
      case R.RTCCR:
        return 1; // running; once set, it can't be cleared (section 3.3.4)
      case R.RTCIMSC:
        return this.#imsc;
      case R.RTCRIS:
        return this.#ris;
      case R.RTCMIS:
        return this.#ris & this.#imsc;
      default:
        return primeCellId(offset, R.PERIPH_ID) ?? 0;
    }
  }

  /** The wall clock's seconds, modulo 2^32. */
  #wall(): number {
    return Number(BigInt.asUintN(32, this.#options.clock.wall().sec));
  }

  #now(): number {
    return (this.#wall() + this.#offset) >>> 0;
  }

  /** Starts the alarm anew: the counter reaches RTCMR at once, or up to 2^32 - 1 seconds from now. */
  #arm(): void {
    this.#alarm?.[Symbol.dispose]();
    this.#alarm = undefined;
    const seconds = (this.#match - this.#now()) >>> 0;
    if (seconds === 0) this.#ring();
    else this.#wait(seconds);
  }

  #wait(seconds: number): void {
    const { clock } = this.#options;
    const ns = seconds * 1e9 - clock.wall().nsec;
    this.#alarm = clock.at(clock.nowNs() + ns, () => {
      // The wall clock may have been set meanwhile: wait on if the moment is still to come, ring if it is past.
      const left = (this.#match - this.#now()) | 0;
      if (left > 0) this.#wait(left);
      else {
        this.#alarm = undefined;
        this.#ring();
      }
    });
  }

  #ring(): void {
    this.#ris = 1;
    this.#update();
  }

  #update(): void {
    const level = (this.#ris & this.#imsc) !== 0;
    if (level === this.#level) return;
    this.#level = level;
    this.#options.irq.set(level);
  }
}
