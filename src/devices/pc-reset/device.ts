import type { AccessSize, BusDevice } from '../../bus/types.ts';

/** What a {@link PcReset} is connected to. */
export interface PcResetOptions {
  /** The guest has asked for a reset. */
  reset(): void;
}

/** State of the register: the bits that can be read. */
export interface PcResetState {
  readonly value: number;
}

/** SYS_RST: the reset is a hard one. */
const SYS_RST = 1 << 1;
/** RST_CPU: going from 0 to 1 it starts the reset. */
const RST_CPU = 1 << 2;
/** FULL_RST: with power off for some seconds. */
const FULL_RST = 1 << 3;

/**
 * Reset control register at port 0xcf9, one byte (RST_CNT of Intel's ICH9, 316972, section 13.7.5). All kinds of reset are
 * the same here. RST_CPU is over with the reset, so that it always reads as 0.
 */
export class PcReset implements BusDevice {
  readonly name = 'pc-reset';
  readonly #options: PcResetOptions;
  #value = 0;

  constructor(options: PcResetOptions) {
    this.#options = options;
  }

  reset(): void {
    this.#value = 0;
  }

  /** For {@link restore}. */
  save(): PcResetState {
    return { value: this.#value };
  }

  restore(s: PcResetState): void {
    this.#value = s.value;
  }

  read(): number {
    return this.#value;
  }

  write(_offset: number, _size: AccessSize, value: number): void {
    this.#value = value & (SYS_RST | FULL_RST);
    if (value & RST_CPU) this.#options.reset();
  }
}
