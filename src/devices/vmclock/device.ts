import type { AccessSize, BusDevice } from '../../bus/types.ts';
import { type CounterPeriod, counterPeriod, VmClockPage } from './page.ts';
import * as R from './regs.ts';

/** Bytes of the page. */
export const VMCLOCK_SIZE = 4096;

/** The guest's counter and wall-clock time, both of one moment. */
export interface CounterReading {
  /** CLOCK_REALTIME, ns since 1970. */
  readonly wallNs: bigint;
  readonly counter: bigint;
  /** See ClockPair.errorNs. */
  readonly errorNs: number;
}

/** The counter that the guest computes the time from. */
export interface VmClockCounter {
  /** COUNTER_ID: COUNTER_ARM_VCNT or COUNTER_X86_TSC. */
  readonly id: number;
  /** Ticks a second. */
  readonly hz: number;
  /** Reads it; called between two steps of the machine only. */
  read(): CounterReading;
  /** Counter and wall-clock time go together by definition, as in a deterministic run: there is nothing to bring up to date. */
  readonly exact: boolean;
}

/** What a {@link VmClock} is made of. */
export interface VmClockOptions {
  /** {@link VMCLOCK_SIZE} bytes of zeros, aligned to 8 bytes. */
  readonly page: Uint8Array;
  /** Lets the guest read {@link page} as memory, at the place of the device; disposing the result ends it. */
  mapPage?(): Disposable | undefined;
  /** undefined: nobody here can read the guest's counter, and the page tells of disruptions only. */
  readonly counter?: VmClockCounter | undefined;
  /** How long the host has been suspended, ns, beside a constant: counters stand then. undefined: that cannot happen here. */
  hostSleepNs?(): number;
  /** What disruption_marker and vm_generation_counter start at: any 64-bit values. */
  readonly disruptionMarker: bigint;
  readonly vmGenerationCounter: bigint;
}

/** What a guest must find changed or unchanged. */
export interface VmClockState {
  readonly seqCount: number;
  readonly disruptionMarker: bigint;
  readonly vmGenerationCounter: bigint;
}

/**
 * How old the pair of a running guest may become, ns. The counters that we can read follow the host's CLOCK_MONOTONIC, which NTP
 * slews as it does CLOCK_REALTIME, so what a guest computes stays right in between; a clock that was set shows after that time.
 */
const REFRESH_NS = 1e9;
/** A sleep of the host that counts, ns; what is read of it is off by some 10 ms, more on a host with much to do. */
const SLEEP_NS = 0.5e9;

/**
 * The VM clock (UAPI.13 VMClock; Linux's drivers/ptp/ptp_vmclock.c): a page that guests read without an exit, with the relation of
 * their counter to wall-clock time and a marker that changes when a calibration of theirs has become worthless.
 *
 * There is no timer: a guest that sleeps reads no page, so {@link refresh} before it runs is enough, and an idle machine is left
 * alone. For the same reason there are no notifications: one would be due with every update.
 */
export class VmClock implements BusDevice {
  readonly name = 'vmclock';
  readonly #options: VmClockOptions;
  readonly #page: VmClockPage;
  readonly #view: DataView;
  readonly #period: CounterPeriod;
  #disruptionMarker: bigint;
  #vmGenerationCounter: bigint;
  /** When the page is out of date, on the machine's clock. */
  #dueNs = 0;
  /** What the host had slept at the first refresh, and then at the last disruption by that. */
  #sleptNs: number | undefined;

  constructor(options: VmClockOptions) {
    this.#options = options;
    const { page, counter } = options;
    this.#page = new VmClockPage(page, counter?.id ?? R.COUNTER_INVALID);
    this.#view = new DataView(page.buffer, page.byteOffset, page.length);
    this.#period = counter === undefined ? { fracSec: 0n, shift: 0 } : counterPeriod(counter.hz);
    this.#disruptionMarker = options.disruptionMarker;
    this.#vmGenerationCounter = options.vmGenerationCounter;
    this.#publish(undefined);
    options.mapPage?.();
  }

  /** Call before the guest runs, with the machine's clock in ns: brings the page up to date when it is old. */
  refresh(nowNs: number): void {
    if (nowNs < this.#dueNs) return;
    const { counter } = this.#options;
    this.#dueNs = counter?.exact ? Number.POSITIVE_INFINITY : nowNs + REFRESH_NS;
    if (this.#hostHasSlept()) this.#disrupt();
    else if (counter !== undefined) this.#publish(counter);
  }

  /** A reset of the machine may set its counter. */
  reset(): void {
    this.#dueNs = 0;
  }

  /**
   * The counter stood while time went on: after a pause, since no guest's calibration survives that. A clock of the host that was
   * set is no disruption: the counter runs as it did.
   */
  disrupt(): void {
    if (this.#options.counter?.exact) return;
    this.#disrupt();
  }

  save(): VmClockState {
    return {
      seqCount: this.#page.seqCount,
      disruptionMarker: this.#disruptionMarker,
      vmGenerationCounter: this.#vmGenerationCounter,
    };
  }

  /** The guest of `s` goes on here: its counter stood meanwhile, and it may be there more than once. */
  restore(s: VmClockState): void {
    // A guest that was in the midst of reading must see that the count has changed.
    this.#page.seqCount = s.seqCount;
    this.#disruptionMarker = s.disruptionMarker;
    this.#vmGenerationCounter = BigInt.asUintN(64, s.vmGenerationCounter + 1n);
    this.#disrupt();
  }

  /** Where the engine cannot map the page. */
  read(offset: number, size: AccessSize): number {
    if (size === 4) return this.#view.getUint32(offset, true);
    return size === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint8(offset);
  }

  read64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }

  /** The page is the host's: writes are ignored. */
  write(): void {}

  write64(): void {}

  #hostHasSlept(): boolean {
    const slept = this.#options.hostSleepNs?.();
    if (slept === undefined) return false;
    this.#sleptNs ??= slept;
    if (slept - this.#sleptNs < SLEEP_NS) return false;
    this.#sleptNs = slept;
    return true;
  }

  #disrupt(): void {
    this.#disruptionMarker = BigInt.asUintN(64, this.#disruptionMarker + 1n);
    this.#publish(this.#options.counter);
  }

  /**
   * @param counter undefined: the page has no pair (yet).
   *
   * The time is the host's CLOCK_REALTIME. How far that is from UTC nobody here knows, nor whether something keeps it: no bound of
   * the error is published then, and the status is the weakest one with a time that may be used. A virtual clock is right by
   * definition: but for the tick that a counter's value stands for, and the last bit of the period.
   */
  #publish(counter: VmClockCounter | undefined): void {
    const common = { disruptionMarker: this.#disruptionMarker, vmGenerationCounter: this.#vmGenerationCounter };
    if (counter === undefined) {
      this.#page.update({
        ...common,
        flags: R.FLAG_VM_GEN_COUNTER_PRESENT,
        clockStatus: this.#options.counter === undefined ? R.STATUS_UNKNOWN : R.STATUS_INITIALIZING,
        counterValue: 0n,
        counterPeriod: this.#period,
        counterPeriodMaxError: 0n,
        timeNs: 0n,
        timeMaxErrorNs: 0n,
      });
      return;
    }
    const { hz, exact } = counter;
    const { counter: value, wallNs, errorNs } = counter.read();
    const bounds = R.FLAG_PERIOD_MAXERROR_VALID | R.FLAG_TIME_MAXERROR_VALID;
    this.#page.update({
      ...common,
      flags: R.FLAG_VM_GEN_COUNTER_PRESENT | (exact ? bounds : 0n),
      clockStatus: exact ? R.STATUS_SYNCHRONIZED : R.STATUS_FREERUNNING,
      counterValue: value,
      counterPeriod: this.#period,
      counterPeriodMaxError: exact ? 1n : 0n,
      timeNs: wallNs,
      timeMaxErrorNs: exact ? BigInt(Math.ceil(errorNs + 1e9 / hz)) : 0n,
    });
  }
}
