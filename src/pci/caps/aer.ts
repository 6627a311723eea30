import type { Capability, CapabilityHost } from '../capability.ts';
import type { PciFunction } from '../function.ts';
import * as R from '../regs.ts';
import * as E from './express.ts';

/** SERR# Enable of Bridge Control. */
export const BRIDGE_CONTROL_SERR = 1 << 1;
/** Received System Error of Secondary Status. */
const SECONDARY_STATUS_RSE = 1 << 14;

const UESTA = 0x04;
const UEMSK = 0x08;
const UESVRT = 0x0c;
const CESTA = 0x10;
const CEMSK = 0x14;
const ADVERR = 0x18;
const HEADER_LOG = 0x1c;
const ROOTCMD = 0x2c;
const ROOTSTA = 0x30;
const ERRSID = 0x34;

/** Correctable errors and their bits (PCI Express Base 4.0 section 7.8.4.5). */
export const CORRECTABLE_ERRORS = {
  'receiver-error': 0,
  'bad-tlp': 6,
  'bad-dllp': 7,
  'replay-num-rollover': 8,
  'replay-timer-timeout': 12,
  'advisory-non-fatal': 13,
  'corrected-internal': 14,
  'header-log-overflow': 15,
} as const;

/** Uncorrectable errors and their bits (section 7.8.4.2). */
export const UNCORRECTABLE_ERRORS = {
  'data-link-protocol': 4,
  'surprise-down': 5,
  'poisoned-tlp': 12,
  'flow-control-protocol': 13,
  'completion-timeout': 14,
  'completer-abort': 15,
  'unexpected-completion': 16,
  'receiver-overflow': 17,
  'malformed-tlp': 18,
  ecrc: 19,
  'unsupported-request': 20,
  'acs-violation': 21,
  'uncorrectable-internal': 22,
} as const;

/** An error of PCI Express by name. */
export type AerError = keyof typeof CORRECTABLE_ERRORS | keyof typeof UNCORRECTABLE_ERRORS;

type Message = 'ERR_COR' | 'ERR_NONFATAL' | 'ERR_FATAL';

/** Internal errors are masked at first. */
const UEMSK_INITIAL = 1 << UNCORRECTABLE_ERRORS['uncorrectable-internal'];
/** Fatal: data link protocol, surprise down, flow control protocol, receiver overflow, malformed TLP, internal. */
const UESVRT_INITIAL = 0x0046_2030;
/** Advisory, internal and overflow errors are masked at first. */
const CEMSK_INITIAL = 0x0000_e000;

const ROOTSTA_COR = 1 << 0;
const ROOTSTA_MULTI_COR = 1 << 1;
const ROOTSTA_UNCOR = 1 << 2;
const ROOTSTA_MULTI_UNCOR = 1 << 3;
const ROOTSTA_FIRST_FATAL = 1 << 4;
const ROOTSTA_NONFATAL = 1 << 5;
const ROOTSTA_FATAL = 1 << 6;
/** Root Error Command: one enable bit for each class of messages. */
const ROOTCMD_COR = 1 << 0;
const ROOTCMD_NONFATAL = 1 << 1;
const ROOTCMD_FATAL = 1 << 2;

/**
 * Advanced Error Reporting (PCI Express Base 4.0 section 7.8.4): status, masks and severities, and in a root port what its
 * hierarchy has reported. Errors come from {@link injectError} only: nothing fails by itself here.
 */
export class AerCapability implements Capability {
  readonly id = R.EXT_CAP_ID_AER;
  readonly extendedVersion = 2;
  readonly size: number;
  #host: CapabilityHost | undefined;
  #offset = 0;

  /** @param root in a root port: the registers of the root are there, too. */
  constructor(readonly root = false) {
    this.size = root ? 0x38 : 0x2c;
  }

  install(host: CapabilityHost, offset: number): void {
    this.#host = host;
    this.#offset = offset;
    const { config } = host;
    const correctable = bits(CORRECTABLE_ERRORS);
    const uncorrectable = bits(UNCORRECTABLE_ERRORS);
    config.define(offset + UESTA, 4, 0, 0, uncorrectable);
    config.define(offset + UEMSK, 4, UEMSK_INITIAL, uncorrectable);
    config.define(offset + UESVRT, 4, UESVRT_INITIAL, uncorrectable);
    config.define(offset + CESTA, 4, 0, 0, correctable);
    config.define(offset + CEMSK, 4, CEMSK_INITIAL, correctable);
    // No ECRC, one header at a time: all that is left is the First Error Pointer.
    config.define(offset + ADVERR, 4, 0);
    if (!this.root) return;
    config.define(offset + ROOTCMD, 4, 0, ROOTCMD_COR | ROOTCMD_NONFATAL | ROOTCMD_FATAL);
    config.define(offset + ROOTSTA, 4, 0, 0, 0x7f);
    config.effect(offset + ROOTCMD, ERRSID - ROOTCMD, () => host.interruptsChanged());
  }

  /** A root port's condition for an interrupt: a class of messages is enabled and has come (section 6.2.4.1.2). */
  get interrupt(): boolean {
    if (!this.root || this.#host === undefined) return false;
    const command = this.#get(ROOTCMD);
    const status = this.#get(ROOTSTA);
    return (
      ((command & ROOTCMD_COR) !== 0 && (status & ROOTSTA_COR) !== 0) ||
      ((command & ROOTCMD_NONFATAL) !== 0 && (status & ROOTSTA_NONFATAL) !== 0) ||
      ((command & ROOTCMD_FATAL) !== 0 && (status & ROOTSTA_FATAL) !== 0)
    );
  }

  /** Records an error and its TLP header; undefined when it is masked, otherwise the message that it calls for. */
  record(error: AerError, header: readonly number[]): Message | undefined {
    if (isCorrectable(error)) {
      const bit = 1 << CORRECTABLE_ERRORS[error];
      this.#set(CESTA, this.#get(CESTA) | bit);
      return (this.#get(CEMSK) & bit) === 0 ? 'ERR_COR' : undefined;
    }
    const position = UNCORRECTABLE_ERRORS[error];
    const bit = 1 << position;
    // The pointer and the log belong to the first error that is neither masked nor cleared.
    const first = (this.#get(UESTA) & ~this.#get(UEMSK)) === 0;
    this.#set(UESTA, this.#get(UESTA) | bit);
    if ((this.#get(UEMSK) & bit) !== 0) return undefined;
    if (first) {
      this.#set(ADVERR, position);
      for (let i = 0; i < 4; i++) this.#set(HEADER_LOG + 4 * i, header[i] ?? 0);
    }
    return this.fatal(error) ? 'ERR_FATAL' : 'ERR_NONFATAL';
  }

  /** Whether an uncorrectable error counts as fatal by Uncorrectable Error Severity. */
  fatal(error: keyof typeof UNCORRECTABLE_ERRORS): boolean {
    return (this.#get(UESVRT) & (1 << UNCORRECTABLE_ERRORS[error])) !== 0;
  }

  /** A message has reached the root port; `source` is the requester id that it came from (sections 7.8.4.10 and 7.8.4.11). */
  receive(message: Message, source: number): void {
    let status = this.#get(ROOTSTA);
    if (message === 'ERR_COR') {
      if ((status & ROOTSTA_COR) !== 0) status |= ROOTSTA_MULTI_COR;
      else this.#set(ERRSID, (this.#get(ERRSID) & 0xffff_0000) | source);
      status |= ROOTSTA_COR;
    } else {
      if ((status & ROOTSTA_UNCOR) !== 0) status |= ROOTSTA_MULTI_UNCOR;
      else {
        this.#set(ERRSID, (this.#get(ERRSID) & 0xffff) | (source << 16));
        if (message === 'ERR_FATAL') status |= ROOTSTA_FIRST_FATAL;
      }
      status |= ROOTSTA_UNCOR | (message === 'ERR_FATAL' ? ROOTSTA_FATAL : ROOTSTA_NONFATAL);
    }
    this.#set(ROOTSTA, status);
    this.#host!.interruptsChanged();
  }

  #get(register: number): number {
    return this.#host!.config.view.getUint32(this.#offset + register, true);
  }

  #set(register: number, value: number): void {
    this.#host!.config.view.setUint32(this.#offset + register, value >>> 0, true);
  }
}

/**
 * Makes `f` detect an error, as in the flow chart of PCI Express Base 4.0 section 6.2.5: its status registers record it, and
 * where masks and enable bits let it, a message goes up to the root port, which interrupts.
 * @param header the four dwords of the TLP that the error is about, for the header log.
 * @returns false when `f` has no AER capability.
 */
export function injectError(f: PciFunction, error: AerError, header: readonly number[] = []): boolean {
  const aer = f.capabilities.find(c => c instanceof AerCapability);
  const express = f.capabilities.find(c => c instanceof E.ExpressCapability);
  if (aer === undefined || express === undefined) return false;
  const detected = isCorrectable(error) ? E.DEVSTA_CED : aer.fatal(error) ? E.DEVSTA_FED : E.DEVSTA_NFED;
  express.detected(detected | (error === 'unsupported-request' ? E.DEVSTA_URD : 0));
  const message = aer.record(error, header);
  if (message !== undefined) report(f, express, message, error === 'unsupported-request');
  return true;
}

/** Sends a message up from `f` through the bridges above it, as far as they pass it on. */
function report(f: PciFunction, express: E.ExpressCapability, message: Message, unsupported: boolean): void {
  if (!reports(f, express, message, unsupported)) return;
  if (message !== 'ERR_COR') signalSystemError(f);
  const source = f.requesterId;
  for (let at = f; ; ) {
    const root = at.capabilities.find(c => c instanceof AerCapability && c.root);
    if (root instanceof AerCapability) {
      root.receive(message, source);
      return;
    }
    const bridge = at.bus?.bridge;
    if (bridge === undefined) return;
    if (message !== 'ERR_COR') {
      const status = bridge.config.view.getUint16(R.SECONDARY_STATUS, true);
      bridge.config.view.setUint16(R.SECONDARY_STATUS, status | SECONDARY_STATUS_RSE, true);
    }
    // A bridge passes messages on where SERR# Enable of Bridge Control lets it (section 7.5.1.3.10).
    if ((bridge.config.view.getUint16(R.BRIDGE_CONTROL, true) & BRIDGE_CONTROL_SERR) === 0) return;
    at = bridge;
  }
}

/** Whether Device Control, or SERR# Enable of COMMAND, lets `f` send a message. */
function reports(f: PciFunction, express: E.ExpressCapability, message: Message, unsupported: boolean): boolean {
  const { control } = express;
  if (message === 'ERR_COR') return (control & E.DEVCTL_CERE) !== 0;
  if ((f.command & R.COMMAND_SERR) !== 0) return true;
  if (unsupported && (control & E.DEVCTL_URRE) === 0) return false;
  return (control & (message === 'ERR_FATAL' ? E.DEVCTL_FERE : E.DEVCTL_NFERE)) !== 0;
}

function signalSystemError(f: PciFunction): void {
  if ((f.command & R.COMMAND_SERR) === 0) return;
  const { view } = f.config;
  view.setUint16(R.STATUS, view.getUint16(R.STATUS, true) | R.STATUS_SIG_SYSTEM_ERROR, true);
}

function isCorrectable(error: AerError): error is keyof typeof CORRECTABLE_ERRORS {
  return error in CORRECTABLE_ERRORS;
}

function bits(errors: Readonly<Record<string, number>>): number {
  return Object.values(errors).reduce((mask, position) => mask | (1 << position), 0) >>> 0;
}
