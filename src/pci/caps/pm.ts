import type { Capability, CapabilityHost } from '../capability.ts';
import { CAP_ID_PM } from '../regs.ts';

/** Offset of PMCSR, and its fields. */
const PMCSR = 4;
const POWER_STATE = 3;
const D3HOT = 3;
/** Version 3 of the specification; no D1, no D2, no PME. */
const PMC_VERSION = 3;
const NO_SOFT_RESET = 1 << 3;

/**
 * Power management (PCI Bus Power Management 1.2 section 3.2). D3hot stops decoding, DMA and interrupts; coming back to D0
 * loses nothing, as No_Soft_Reset says (PM-1).
 */
export class PmCapability implements Capability {
  readonly id = CAP_ID_PM;
  readonly size = 8;
  #host: CapabilityHost | undefined;
  #offset = 0;

  /** In D0. */
  get awake(): boolean {
    return this.#host === undefined || (this.#host.config.bytes[this.#offset + PMCSR]! & POWER_STATE) !== D3HOT;
  }

  install(host: CapabilityHost, offset: number): void {
    this.#host = host;
    this.#offset = offset;
    const { config } = host;
    config.define(offset + 2, 2, PMC_VERSION);
    config.define(offset + PMCSR, 2, NO_SOFT_RESET, POWER_STATE);
    config.define(offset + 6, 2, 0);
    config.effect(offset + PMCSR, 2, before => {
      const old = before.getUint8(offset + PMCSR) & POWER_STATE;
      const state = config.bytes[offset + PMCSR]! & POWER_STATE;
      // A state that the function does not have is not entered (section 3.2.4).
      if (state === 1 || state === 2)
        config.bytes[offset + PMCSR]! = (config.bytes[offset + PMCSR]! & ~POWER_STATE) | old;
      else if (state !== old) {
        host.decodeChanged();
        host.interruptsChanged();
      }
    });
  }
}
