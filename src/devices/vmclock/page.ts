import * as R from './regs.ts';

const NS_PER_SEC = 1_000_000_000n;

/** A counter's period: `fracSec` times 2^-(64 + `shift`) seconds. */
export interface CounterPeriod {
  /** Below 2^64. */
  readonly fracSec: bigint;
  /** 0 to 63. */
  readonly shift: number;
}

/**
 * The period of a counter of `hz` ticks a second, with as many significant bits as the page has room for. Too short by less than
 * one unit, which for 62.5 MHz is 1e-6 ns in an hour.
 * @param hz a whole number from 2 to 2^53.
 */
export function counterPeriod(hz: number): CounterPeriod {
  // The highest shift with 2^shift < hz: a higher one has no room in 64 bits.
  const shift = BigInt(hz - 1).toString(2).length - 1;
  return { fracSec: (1n << BigInt(64 + shift)) / BigInt(hz), shift };
}

/** Nanoseconds below one second in units of 2^-64 s, rounded up, so that a guest that rounds down gets them back. */
export function fracSec(ns: bigint): bigint {
  return ((ns << 64n) + NS_PER_SEC - 1n) / NS_PER_SEC;
}

/** What the page says beyond its constants. Widths and units are those of the fields in regs.ts. */
export interface VmClockFields {
  readonly disruptionMarker: bigint;
  readonly flags: bigint;
  readonly clockStatus: number;
  readonly counterValue: bigint;
  readonly counterPeriod: CounterPeriod;
  readonly counterPeriodMaxError: bigint;
  /** Nanoseconds since 1970: time_sec and time_frac_sec. */
  readonly timeNs: bigint;
  readonly timeMaxErrorNs: bigint;
  readonly vmGenerationCounter: bigint;
}

/**
 * The shared page, as the one who writes it sees it. Guests read it while it is written, on other threads: each store is an
 * atomic one, so that no field is torn and none is seen before seq_count says that an update has begun.
 */
export class VmClockPage {
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;

  /**
   * Writes the constants.
   * @param bytes zeros, 4 KiB or more, aligned to 8 bytes; in shared memory where guests run on other threads.
   * @param counterId COUNTER_ID.
   */
  constructor(bytes: Uint8Array, counterId: number) {
    const { buffer, byteOffset, length } = bytes;
    this.#words = new Uint32Array(buffer, byteOffset, length / 4);
    this.#longs = new BigUint64Array(buffer, byteOffset, length / 8);
    this.#words[R.MAGIC / 4] = R.MAGIC_VCLK;
    this.#words[R.SIZE / 4] = length;
    this.#words[R.VERSION / 4] =
      R.VERSION_1 | (counterId << (8 * (R.COUNTER_ID - R.VERSION))) | (R.TIME_UTC << (8 * (R.TIME_TYPE - R.VERSION)));
  }

  get seqCount(): number {
    return this.#words[R.SEQ_COUNT / 4]!;
  }

  /** For a page that another one goes on as: a guest may be in the midst of reading. */
  set seqCount(count: number) {
    this.#words[R.SEQ_COUNT / 4] = count;
  }

  /** Writes all fields, between two steps of seq_count (UAPI.13 VMClock, "The vmclock_abi structure"). */
  update(f: VmClockFields): void {
    const small = (at: number, value: number) => BigInt(value) << BigInt(8 * (at & 7));
    // Worked out before the update begins, since guests spin until it ends.
    const fields: readonly (readonly [offset: number, value: bigint])[] = [
      [R.DISRUPTION_MARKER, f.disruptionMarker],
      [R.FLAGS, f.flags],
      // Eight bytes of small fields. Smearing hint, TAI offset and leap indicator are 0: strict UTC, not known, none known.
      [
        R.CLOCK_STATUS & ~7,
        small(R.CLOCK_STATUS, f.clockStatus) | small(R.COUNTER_PERIOD_SHIFT, f.counterPeriod.shift),
      ],
      [R.COUNTER_VALUE, f.counterValue],
      [R.COUNTER_PERIOD_FRAC_SEC, f.counterPeriod.fracSec],
      [R.COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC, f.counterPeriodMaxError],
      [R.TIME_SEC, f.timeNs / NS_PER_SEC],
      [R.TIME_FRAC_SEC, fracSec(f.timeNs % NS_PER_SEC)],
      [R.TIME_MAXERROR_NANOSEC, f.timeMaxErrorNs],
      [R.VM_GENERATION_COUNTER, f.vmGenerationCounter],
    ];
    const odd = this.seqCount | 1;
    Atomics.store(this.#words, R.SEQ_COUNT / 4, odd);
    for (const [offset, value] of fields) Atomics.store(this.#longs, offset / 8, value);
    Atomics.store(this.#words, R.SEQ_COUNT / 4, odd + 1);
  }
}
