import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { InterruptLine } from '../../irq/types.ts';
import type { Clock } from '../../time/types.ts';
import { fromRegisters, nextAlarm, TIME_REGISTERS, toRegisters } from './calendar.ts';
import * as R from './regs.ts';

/** What a {@link Mc146818} is connected to. */
export interface Mc146818Options {
  /** IRQ, of the other polarity: true while it asks for service. IRQ 8 of a PC. */
  readonly irq: InterruptLine;
  /** Its wall clock is what the registers show, in UTC, until the guest sets another time. */
  readonly clock: Clock;
}

/** A clock's state. Times are counted in ticks of 1/32768 s. */
export interface Mc146818State {
  readonly index: number;
  /** Registers A, B and C. */
  readonly control: readonly [number, number, number];
  /** What the guest's time is ahead of the wall clock, ticks. */
  readonly offset: number;
  /** Up to when flags were raised, ticks of the guest's time. */
  readonly seen: number;
  /** The registers of time while the clock stands still. */
  readonly held: readonly number[] | undefined;
  readonly ram: readonly number[];
}

/** Ticks of the crystal in a second. */
const HZ = 32_768;
/** The first update comes half a second after the divider chain is released (Register A, DV). */
const RELEASED = HZ / 2;
/** Data sheet table 6: UIP rises 244 us before the update cycle, which takes 1984 us. In ticks. */
const UIP_TICKS = 8 + 65;

/**
 * Real-time clock and CMOS RAM of a PC: the MC146818A with its crystal of 32.768 kHz, behind an index port (offset 0)
 * and a data port (offset 1). What it shows is the wall clock and an offset, computed when it is asked for.
 *
 * Time registers keep their values through the whole update cycle and change at its end, when UIP falls. So a guest that
 * has seen UIP clear has 2.2 ms to read them, not only the 244 us that are promised, and never reads a torn time even
 * when each access costs it an exit. Flags are raised lazily; a timer runs only for an interrupt that is enabled.
 *
 * The day of the week follows from the date, and DSE (daylight saving by the rules of 1967) does nothing.
 */
export class Mc146818 implements BusDevice {
  readonly name = 'mc146818';
  readonly #options: Mc146818Options;
  /** The alarm and the RAM; the other bytes are not used. It survives a reset, as the time does. */
  readonly #ram = new Uint8Array(R.SIZE);
  #index = 0;
  #a = R.A_DV_32768_HZ | 6;
  #b: number = R.B_24_HOURS;
  #c = 0;
  #offset = 0;
  #seen = 0;
  /** SET or a divider chain in reset: the bytes of the time registers as they stand, in whatever format. */
  #held: Uint8Array | undefined;
  #timer: Disposable | undefined;
  #level = false;

  constructor(options: Mc146818Options) {
    this.#options = options;
    this.#seen = this.#now();
  }

  /** The RESET pin (data sheet, signal description): no interrupts are enabled or pending; time, alarm and RAM stay. */
  reset(): void {
    this.#b &= ~(R.B_PIE | R.B_AIE | R.B_UIE | R.B_SQWE);
    this.#c = 0;
    this.#seen = this.#now();
    this.#update();
  }

  /** For {@link restore}. */
  save(): Mc146818State {
    return {
      index: this.#index,
      control: [this.#a, this.#b, this.#c],
      offset: this.#offset,
      seen: this.#seen,
      held: this.#held && [...this.#held],
      ram: [...this.#ram],
    };
  }

  /** Goes on from `s`. What came due meanwhile is raised at once. */
  restore(s: Mc146818State): void {
    this.#index = s.index;
    [this.#a, this.#b, this.#c] = s.control;
    this.#offset = s.offset;
    this.#seen = s.seen;
    this.#held = s.held && Uint8Array.from(s.held);
    this.#ram.set(s.ram);
    this.#catchUp();
    this.#update();
  }

  /** An access of 2 or 4 bytes is as many accesses of one, as the ISA bus does them for an 8-bit device. */
  read(offset: number, size: AccessSize): number {
    let value = 0;
    for (let i = 0; i < size; i++) {
      // The index port is for writing: nothing answers a read.
      value |= ((offset + i) & 1 ? this.#read(this.#index) : 0xff) << (8 * i);
    }
    return value >>> 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    for (let i = 0; i < size; i++) {
      const byte = (value >>> (8 * i)) & 0xff;
      // Bit 7 of the index port masks the NMI, of which this machine has none.
      if (((offset + i) & 1) === 0) this.#index = byte & 0x7f;
      else this.#write(this.#index, byte);
    }
  }

  #read(register: number): number {
    switch (register) {
      case R.REGISTER_A:
        return this.#a | (this.#updateInProgress() ? R.A_UIP : 0);
      case R.REGISTER_B:
        return this.#b;
      case R.REGISTER_C:
        return this.#readC();
      case R.REGISTER_D:
        return R.D_VRT;
    }
    const time = TIME_REGISTERS.indexOf(register as never);
    if (time < 0) return this.#ram[register]!;
    return (this.#held ?? toRegisters(this.#seconds(), this.#b))[time]!;
  }

  #write(register: number, value: number): void {
    this.#catchUp();
    const time = TIME_REGISTERS.indexOf(register as never);
    if (time >= 0) this.#writeTime(time, value);
    else if (register === R.REGISTER_A) this.#control(value & ~R.A_UIP, this.#b);
    // SET going high clears UIE (Register B, UIE).
    else if (register === R.REGISTER_B) this.#control(this.#a, value & R.B_SET ? value & ~R.B_UIE : value);
    // Registers C and D are for reading.
    else if (register !== R.REGISTER_C && register !== R.REGISTER_D) this.#ram[register] = value;
    this.#update();
  }

  /** Reading Register C clears it, and with it the interrupt. */
  #readC(): number {
    this.#catchUp();
    const irqf = this.#c & this.#b ? R.C_IRQF : 0;
    const c = this.#c | irqf;
    this.#c = 0;
    this.#update();
    return c;
  }

  #writeTime(at: number, value: number): void {
    if (this.#held) this.#held[at] = value;
    else {
      const bytes = toRegisters(this.#seconds(), this.#b);
      bytes[at] = value;
      this.#set(fromRegisters(bytes, this.#b), this.#now());
    }
  }

  /** Registers A and B: what stops the clock and lets it go on. */
  #control(a: number, b: number): void {
    const now = this.#now();
    const released = dividerReset(this.#a) && !dividerReset(a);
    const stop = dividerReset(a) || (b & R.B_SET) !== 0;
    if (stop) this.#held ??= toRegisters(this.#seconds(), this.#b);
    this.#a = a;
    this.#b = b;
    // SET alone does not stop the divider chain, so the seconds begin where they would have begun.
    const phase = released ? RELEASED : now;
    if (!stop && this.#held) {
      this.#set(fromRegisters(this.#held, b), phase);
      this.#held = undefined;
    } else if (released) this.#set(Math.floor(now / HZ), phase);
  }

  /** Sets the time to `seconds` since 1970, and the tick within the second to that of `phase`. */
  #set(seconds: number, phase: number): void {
    this.#seen = seconds * HZ + modulo(phase, HZ);
    this.#offset = this.#seen - this.#wall();
  }

  /** The wall clock in ticks since 1970. */
  #wall(): number {
    const { sec, nsec } = this.#options.clock.wall();
    return Number(sec) * HZ + Math.floor((nsec * HZ) / 1e9);
  }

  /** The guest's time in ticks since 1970, as the divider chain counts it. */
  #now(): number {
    return this.#wall() + this.#offset;
  }

  #seconds(): number {
    return Math.floor(this.#now() / HZ);
  }

  #updateInProgress(): boolean {
    return this.#held === undefined && modulo(this.#now(), HZ) >= HZ - UIP_TICKS;
  }

  #alarm(): readonly [number, number, number] {
    return [this.#ram[R.SECONDS_ALARM]!, this.#ram[R.MINUTES_ALARM]!, this.#ram[R.HOURS_ALARM]!];
  }

  /** Ticks between two periodic interrupts (table 5, 32.768 kHz), or 0 for none. */
  #period(): number {
    const rs = this.#a & R.A_RS;
    if (rs === 0 || dividerReset(this.#a)) return 0;
    // The two fastest rates do not exist with this crystal, and repeat two others.
    return 2 ** ((rs < 3 ? rs + 7 : rs) - 1);
  }

  /** Raises the flags of what has happened since the last call. */
  #catchUp(): void {
    const from = this.#seen;
    const now = this.#now();
    this.#seen = now;
    const period = this.#period();
    if (period > 0 && Math.floor(from / period) < Math.floor(now / period)) this.#c |= R.C_PF;
    if (this.#held !== undefined) return;
    const before = Math.floor(from / HZ);
    const seconds = Math.floor(now / HZ);
    if (before >= seconds) return;
    this.#c |= R.C_UF;
    if (nextAlarm(before, this.#alarm(), this.#b) <= seconds) this.#c |= R.C_AF;
  }

  /** When the next interrupt comes that is enabled, ticks of the guest's time; Infinity for none. */
  #next(): number {
    const now = this.#seen;
    const seconds = Math.floor(now / HZ);
    const period = this.#period();
    let next = Number.POSITIVE_INFINITY;
    if (this.#b & R.B_PIE && period > 0) next = (Math.floor(now / period) + 1) * period;
    if (this.#held === undefined) {
      if (this.#b & R.B_UIE) next = Math.min(next, (seconds + 1) * HZ);
      if (this.#b & R.B_AIE) next = Math.min(next, nextAlarm(seconds, this.#alarm(), this.#b) * HZ);
    }
    return next;
  }

  /** Drives the interrupt line, and waits for the next interrupt unless one is pending. */
  #update(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    const level = (this.#c & this.#b) !== 0;
    const next = level ? Number.POSITIVE_INFINITY : this.#next();
    if (next < Number.POSITIVE_INFINITY) {
      const { clock } = this.#options;
      // It may come to nothing, when the wall clock has been set back meanwhile: then it waits on.
      this.#timer = clock.at(clock.nowNs() + this.#nsUntil(next), () => {
        this.#timer = undefined;
        this.#catchUp();
        this.#update();
      });
    }
    if (level !== this.#level) {
      this.#level = level;
      this.#options.irq.set(level);
    }
  }

  #nsUntil(ticks: number): number {
    const wall = ticks - this.#offset;
    const { sec, nsec } = this.#options.clock.wall();
    const ns = (Math.floor(wall / HZ) - Number(sec)) * 1e9 + Math.ceil((modulo(wall, HZ) * 1e9) / HZ) - nsec;
    return Math.max(1, ns);
  }
}

function dividerReset(a: number): boolean {
  return (a & R.A_DV_RESET) === R.A_DV_RESET;
}

/** Remainder with the sign of `n`, which is positive. */
function modulo(value: number, n: number): number {
  return ((value % n) + n) % n;
}
