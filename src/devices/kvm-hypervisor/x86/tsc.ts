import type { Clock } from '../../../time/types.ts';
import { VmError } from '../../../util/errors.ts';

const NSEC_PER_SEC = 1_000_000_000n;
const wrap = (v: bigint): bigint => BigInt.asUintN(64, v);

/** What a machine's TSCs are made of. */
export interface TscOptions {
  /** Hz, a positive integer. It never changes. */
  readonly hz: number;
  readonly cpus: number;
  /** The machine's: TSCs stand while it is held. */
  readonly clock: Pick<Clock, 'nowNs'>;
}

/** What {@link Tsc.save} gives: of each vCPU, 64 bits. */
export interface TscState {
  readonly offsets: readonly bigint[];
  readonly adjusts: readonly bigint[];
}

/**
 * The time-stamp counters of a machine (Intel SDM volume 3, 17.17): one count of constant frequency for the whole machine, made of its
 * clock and so in step with it across vCPUs, and what each vCPU's guest has added to it. Exact, in 64-bit wrapping integers.
 */
export class Tsc {
  readonly hz: number;
  readonly #hz: bigint;
  readonly #clock: Pick<Clock, 'nowNs'>;
  readonly #offsets: bigint[];
  readonly #adjusts: bigint[];
  readonly #listeners = new Set<() => void>();

  /** @throws VmError ERR_INTERNAL when `hz` is no positive integer. */
  constructor({ hz, cpus, clock }: TscOptions) {
    if (!(Number.isSafeInteger(hz) && hz > 0)) throw new VmError('ERR_INTERNAL', `a TSC of ${hz} Hz`);
    this.hz = hz;
    this.#hz = BigInt(hz);
    this.#clock = clock;
    this.#offsets = new Array<bigint>(cpus).fill(0n);
    this.#adjusts = new Array<bigint>(cpus).fill(0n);
  }

  /** Whether all vCPUs read the same: a guest may then use one kvmclock page for all of them. */
  get synchronized(): boolean {
    return this.#offsets.every(o => o === this.#offsets[0]);
  }

  /** The machine's count at `ns` of its clock, rounded down: what a vCPU reads whose guest has written nothing. */
  countAt(ns: number): bigint {
    return wrap((BigInt(Math.floor(ns)) * this.#hz) / NSEC_PER_SEC);
  }

  /** A vCPU's TSC at `ns` of the machine's clock. */
  at(cpu: number, ns: number): bigint {
    return wrap(this.countAt(ns) + this.#offsets[cpu]!);
  }

  /** RDTSC, RDTSCP and IA32_TIME_STAMP_COUNTER (MSR 10H) of a vCPU, now. */
  read(cpu: number): bigint {
    return this.at(cpu, this.#clock.nowNs());
  }

  /** WRMSR of IA32_TIME_STAMP_COUNTER. IA32_TSC_ADJUST changes by as much (17.17.3). */
  write(cpu: number, value: bigint): void {
    this.#add(cpu, value - this.read(cpu));
  }

  /** IA32_TSC_ADJUST (MSR 3BH) of a vCPU. */
  adjust(cpu: number): bigint {
    return this.#adjusts[cpu]!;
  }

  /** WRMSR of IA32_TSC_ADJUST: the TSC changes by as much (17.17.3). */
  writeAdjust(cpu: number, value: bigint): void {
    this.#add(cpu, value - this.#adjusts[cpu]!);
  }

  /** As after a machine's reset, but for the count: it goes on, as it does on KVM. */
  reset(): void {
    this.#offsets.fill(0n);
    this.#adjusts.fill(0n);
    this.#changed();
  }

  save(): TscState {
    return { offsets: [...this.#offsets], adjusts: [...this.#adjusts] };
  }

  /** The state of a {@link Tsc} with as many vCPUs and the same frequency, whose clock has gone on in this one's. */
  restore({ offsets, adjusts }: TscState): void {
    for (const [cpu, offset] of offsets.entries()) this.#offsets[cpu] = offset;
    for (const [cpu, adjust] of adjusts.entries()) this.#adjusts[cpu] = adjust;
    this.#changed();
  }

  /** Calls `f` after any vCPU's TSC has been set, until the result is disposed. */
  onChange(f: () => void): Disposable {
    this.#listeners.add(f);
    return { [Symbol.dispose]: () => void this.#listeners.delete(f) };
  }

  #add(cpu: number, delta: bigint): void {
    this.#offsets[cpu] = wrap(this.#offsets[cpu]! + delta);
    this.#adjusts[cpu] = wrap(this.#adjusts[cpu]! + delta);
    this.#changed();
  }

  #changed(): void {
    for (const f of this.#listeners) f();
  }
}
