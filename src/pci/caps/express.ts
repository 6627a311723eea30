import type { Capability, CapabilityHost } from '../capability.ts';
import { CAP_ID_EXP } from '../regs.ts';

// Registers by their offset in the capability (PCI Express Base 4.0 section 7.5.3).
export const FLAGS = 0x02;
export const DEVCAP = 0x04;
export const DEVCTL = 0x08;
export const DEVSTA = 0x0a;
export const LNKCAP = 0x0c;
export const LNKCTL = 0x10;
export const LNKSTA = 0x12;
export const SLTCAP = 0x14;
export const SLTCTL = 0x18;
export const SLTSTA = 0x1a;
export const RTCTL = 0x1c;
export const RTCAP = 0x1e;
export const RTSTA = 0x20;
export const DEVCAP2 = 0x24;
export const DEVCTL2 = 0x28;
export const LNKCAP2 = 0x2c;
export const LNKCTL2 = 0x30;

const VERSION = 2;
const TYPE_ENDPOINT = 0;
const TYPE_ROOT_PORT = 4;
const TYPE_RC_ENDPOINT = 9;
const FLAGS_SLOT = 1 << 8;

/** Largest payload: 256 bytes. */
const DEVCAP_PAYLOAD_256 = 1;
/** Role-based error reporting: every function that is newer than PCI Express 1.0a says so. */
const DEVCAP_RBER = 1 << 15;
const DEVCAP_FLR = 1 << 28;

export const DEVCTL_CERE = 1 << 0;
export const DEVCTL_NFERE = 1 << 1;
export const DEVCTL_FERE = 1 << 2;
export const DEVCTL_URRE = 1 << 3;
const DEVCTL_PAYLOAD = 7 << 5;
/** Relaxed ordering and no snoop allowed, read requests of 512 bytes: the defaults of section 7.5.3.4. */
const DEVCTL_INITIAL = (1 << 4) | (1 << 11) | (2 << 12);
/** Error reporting, relaxed ordering, payload, no snoop, read request; no extended tags, phantom functions, aux power. */
const DEVCTL_WRITABLE = 0x78ff;
const DEVCTL_FLR = 1 << 15;

export const DEVSTA_CED = 1 << 0;
export const DEVSTA_NFED = 1 << 1;
export const DEVSTA_FED = 1 << 2;
export const DEVSTA_URD = 1 << 3;
const DEVSTA_ERRORS = DEVSTA_CED | DEVSTA_NFED | DEVSTA_FED | DEVSTA_URD;

/** One lane at 2.5 GT/s, in Link Capabilities and Link Status alike. */
const LINK_X1_2500 = 0x011;
/** ASPM L0s and L1, exit latencies the shortest there are: there is no link that could sleep. ASPM Optionality Compliance. */
const LNKCAP_BASE = LINK_X1_2500 | (3 << 10) | (1 << 22);
/** Data Link Layer Link Active is reported, which every port with a hot-plug slot does (section 7.5.3.6). */
const LNKCAP_DLLLARC = 1 << 20;
/** ASPM, common clock, extended synch. */
const LNKCTL_COMMON = 0x00c3;
/** Read completion boundary: writable in endpoints only. */
const LNKCTL_RCB = 1 << 3;
export const LNKCTL_LD = 1 << 4;
const LNKSTA_SLOT_CLOCK = 1 << 12;
const LNKSTA_DLLLA = 1 << 13;
/** Supported speeds: 2.5 GT/s. */
const LNKCAP2_2500 = 1 << 1;

/** Completion timeouts can be disabled; there is nothing that could time out. */
const DEVCAP2_CTDS = 1 << 4;

/** System errors, PME interrupt. */
const RTCTL_WRITABLE = 0x000f;
const RTSTA_PME = 1 << 16;

/** The slot of a port: it has the registers at SLTCAP, SLTCTL and SLTSTA, and decides whether there is a link. */
export interface ExpressSlot {
  /** Defines the slot's registers; `offset` is the capability's. */
  install(host: CapabilityHost, offset: number): void;
  /** The port has been reset. */
  reset(): void;
}

/** Options of {@link ExpressCapability}. */
export interface ExpressOptions {
  /** An endpoint on the root bus, where there is no link, presents itself as integrated into the root complex (EXP-1). */
  readonly type: 'endpoint' | 'root-port';
  /** The function can be reset by itself (FLR): its `reset` puts everything back. Default false (EXP-5). */
  readonly functionReset?: boolean;
  /** What a root port has below it; none: the link is always up. */
  readonly slot?: ExpressSlot;
}

/**
 * The PCI Express capability, version 2 (PCI Express Base 4.0 section 7.5.3). It makes Linux look at the 4096 bytes of
 * configuration space (ECAM-1). Registers of links, slots and roots are there where the type has them, and zero elsewhere.
 */
export class ExpressCapability implements Capability {
  readonly id = CAP_ID_EXP;
  readonly size = 0x3c;
  readonly #options: ExpressOptions;
  #host: CapabilityHost | undefined;
  #offset = 0;

  constructor(options: ExpressOptions) {
    this.#options = options;
  }

  /** Device Control. */
  get control(): number {
    return this.#host!.config.view.getUint16(this.#offset + DEVCTL, true);
  }

  /** Sets bits of Device Status: DEVSTA_CED, DEVSTA_NFED, DEVSTA_FED, DEVSTA_URD. */
  detected(errors: number): void {
    this.#host!.config.bytes[this.#offset + DEVSTA]! |= errors & DEVSTA_ERRORS;
  }

  install(host: CapabilityHost, offset: number): void {
    this.#host = host;
    this.#offset = offset;
    const { config } = host;
    const { functionReset = false, slot } = this.#options;
    const root = this.#options.type === 'root-port';
    config.define(offset + DEVCAP, 4, DEVCAP_PAYLOAD_256 | DEVCAP_RBER | (functionReset ? DEVCAP_FLR : 0));
    config.define(offset + DEVCTL, 2, DEVCTL_INITIAL, DEVCTL_WRITABLE | (functionReset ? DEVCTL_FLR : 0));
    config.define(offset + DEVSTA, 2, 0, 0, DEVSTA_ERRORS);
    config.define(offset + DEVCAP2, 4, DEVCAP2_CTDS);
    config.define(offset + DEVCTL2, 2, 0, DEVCAP2_CTDS);
    if (functionReset) config.effect(offset + DEVCTL, 2, () => this.#resetIfAsked());
    if (root) {
      config.define(offset + RTCTL, 2, 0, RTCTL_WRITABLE);
      config.define(offset + RTSTA, 4, 0, 0, RTSTA_PME);
    }
    this.#defineType(root ? TYPE_ROOT_PORT : TYPE_RC_ENDPOINT);
    slot?.install(host, offset);
  }

  reset(): void {
    this.#options.slot?.reset();
  }

  placed(belowPort: boolean): void {
    if (this.#options.type === 'endpoint') this.#defineType(belowPort ? TYPE_ENDPOINT : TYPE_RC_ENDPOINT);
  }

  #defineType(type: number): void {
    const { config } = this.#host!;
    const offset = this.#offset;
    const { slot } = this.#options;
    const port = type === TYPE_ROOT_PORT;
    config.define(offset + FLAGS, 2, VERSION | (type << 4) | (slot === undefined ? 0 : FLAGS_SLOT));
    if (type === TYPE_RC_ENDPOINT) {
      for (let at = LNKCAP; at < SLTCAP; at += 4) config.define(offset + at, 4, 0);
      config.define(offset + LNKCAP2, 4, 0);
      return;
    }
    config.define(offset + LNKCAP, 4, LNKCAP_BASE | (slot === undefined ? 0 : LNKCAP_DLLLARC));
    // Retrain Link (bit 5 of a port) reads zero, and training is over before anybody could see it.
    config.define(offset + LNKCTL, 2, 0, LNKCTL_COMMON | (port ? LNKCTL_LD : LNKCTL_RCB));
    config.define(offset + LNKSTA, 2, linkStatus(true, false));
    // With 2.5 GT/s alone, Link Control 2 and Link Status 2 may be zero (section 7.5.3.19).
    config.define(offset + LNKCAP2, 4, LNKCAP2_2500);
  }

  /** Initiate Function Level Reset always reads zero. What belongs to the link survives (section 6.6.2). */
  #resetIfAsked(): void {
    const host = this.#host!;
    const { config } = host;
    const control = this.control;
    if ((control & DEVCTL_FLR) === 0) return;
    const linkControl = config.view.getUint16(this.#offset + LNKCTL, true);
    config.view.setUint16(this.#offset + DEVCTL, control & ~DEVCTL_FLR, true);
    host.functionReset();
    const kept = (this.control & ~DEVCTL_PAYLOAD) | (control & DEVCTL_PAYLOAD);
    config.view.setUint16(this.#offset + DEVCTL, kept, true);
    config.view.setUint16(this.#offset + LNKCTL, linkControl, true);
  }
}

/** Link Status of a link that is up or down; `reported`: with Data Link Layer Link Active. */
export function linkStatus(up: boolean, reported: boolean): number {
  return LNKSTA_SLOT_CLOCK | (up ? LINK_X1_2500 | (reported ? LNKSTA_DLLLA : 0) : 0);
}
