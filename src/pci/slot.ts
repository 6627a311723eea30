import { VmError } from '../util/errors.ts';
import type { PciBus } from './bus.ts';
import type { CapabilityHost } from './capability.ts';
import { type ExpressSlot, LNKCTL, LNKCTL_LD, LNKSTA, linkStatus, SLTCAP, SLTCTL, SLTSTA } from './caps/express.ts';
import type { PciFunction } from './function.ts';
import type { PciHost } from './host.ts';

// Slot Capabilities (PCI Express Base 4.0 section 7.5.3.9).
const SLTCAP_ABP = 1 << 0;
const SLTCAP_PCP = 1 << 1;
const SLTCAP_AIP = 1 << 3;
const SLTCAP_PIP = 1 << 4;
const SLTCAP_HPS = 1 << 5;
const SLTCAP_HPC = 1 << 6;
const SLTCAP_PSN_SHIFT = 19;
/** Physical slot numbers have 13 bits. */
const MAX_SLOT_NUMBER = 0x1fff;

// Slot Control (section 7.5.3.10).
const SLTCTL_HPIE = 1 << 5;
const SLTCTL_AIC_OFF = 3 << 6;
const SLTCTL_PIC = 3 << 8;
const SLTCTL_PIC_ON = 1 << 8;
const SLTCTL_PIC_BLINK = 2 << 8;
const SLTCTL_PIC_OFF = 3 << 8;
/** 1: power off. */
const SLTCTL_PCC = 1 << 10;
const SLTCTL_DLLSCE = 1 << 12;
/** Enables of the events that there are, the two indicators, power. */
const SLTCTL_WRITABLE = 0x17fb;

// Slot Status (section 7.5.3.11). Below bit 5 an event and its enable have the same place.
const SLTSTA_ABP = 1 << 0;
const SLTSTA_PFD = 1 << 1;
const SLTSTA_PDC = 1 << 3;
const SLTSTA_CC = 1 << 4;
const SLTSTA_PDS = 1 << 6;
const SLTSTA_DLLSC = 1 << 8;
const SLTSTA_EVENTS = SLTSTA_ABP | SLTSTA_PFD | SLTSTA_PDC | SLTSTA_CC | SLTSTA_DLLSC;

/** The part of a {@link PciHost} that puts functions on buses. */
export type PciPlaces = Pick<PciHost, 'add' | 'remove'>;

/** A function that the guest has been asked to let go. */
interface Leaving {
  readonly ejected: Promise<PciFunction>;
  resolve(f: PciFunction): void;
}

/**
 * A hot-plug slot (PCI Express Base 4.0 section 6.7) with an attention button, a power controller and two indicators.
 *
 * The function is on the bus while the link is up: it is in the slot, has power, and the guest has not disabled the link.
 * A slot gives a new card power by itself, whatever Power Controller Control says, which reads as it was last written: Linux,
 * where there is an attention button, does not listen to presence, and would wait for the button and five seconds more; the
 * link coming up is what makes it look at once. For leaving, the button is pressed, and the guest answers with power off.
 */
export class HotPlugSlot implements ExpressSlot {
  readonly #places: PciPlaces;
  readonly #name: string;
  #bus: PciBus | undefined;
  #host: CapabilityHost | undefined;
  #offset = 0;
  #function: PciFunction | undefined;
  #powered = true;
  #linked = false;
  #leaving: Leaving | undefined;

  /**
   * @param number physical slot number, 1 to 8191, unique in the machine (section 6.7.1.7).
   * @throws VmError ERR_PCI_SLOT for another number.
   */
  constructor(
    readonly number: number,
    places: PciPlaces,
  ) {
    if (!Number.isInteger(number) || number < 1 || number > MAX_SLOT_NUMBER) {
      throw new VmError('ERR_PCI_SLOT', `${number} cannot be the number of a slot`, {
        hint: `use 1 to ${MAX_SLOT_NUMBER}`,
        details: { slot: number },
      });
    }
    this.#places = places;
    this.#name = `slot ${number}`;
  }

  /** The function in the slot, whether it has power or not. */
  get function(): PciFunction | undefined {
    return this.#function;
  }

  /** Whether the function can be reached: it has power and a link. */
  get linked(): boolean {
    return this.#linked;
  }

  /** Whether the guest has been asked to let the function go, and has not yet. */
  get leaving(): boolean {
    return this.#leaving !== undefined;
  }

  /** The condition for a hot-plug interrupt: it is enabled, and an event that is enabled has happened (section 6.7.3.4). */
  get interrupt(): boolean {
    if (this.#host === undefined) return false;
    const control = this.#control;
    if ((control & SLTCTL_HPIE) === 0) return false;
    const link = (control & SLTCTL_DLLSCE) === 0 ? 0 : SLTSTA_DLLSC;
    return (this.#status & ((control & 0x1f) | link) & SLTSTA_EVENTS) !== 0;
  }

  /** Says which bus the slot leads to. */
  leadTo(bus: PciBus): void {
    this.#bus = bus;
  }

  install(host: CapabilityHost, offset: number): void {
    this.#host = host;
    this.#offset = offset;
    const { config } = host;
    const capabilities = SLTCAP_ABP | SLTCAP_PCP | SLTCAP_AIP | SLTCAP_PIP | SLTCAP_HPS | SLTCAP_HPC;
    config.define(offset + SLTCAP, 4, capabilities | (this.number << SLTCAP_PSN_SHIFT));
    config.define(offset + SLTCTL, 2, 0, SLTCTL_WRITABLE);
    config.define(offset + SLTSTA, 2, 0, 0, SLTSTA_EVENTS);
    config.effect(offset + SLTCTL, 2, before => this.#commanded(before.getUint16(offset + SLTCTL, true)));
    config.effect(offset + SLTSTA, 2, () => host.interruptsChanged());
    config.effect(offset + LNKCTL, 2, () => this.#happened(this.#relink()));
    this.reset();
  }

  /** The configuration bytes of an empty slot are back: power follows from them. */
  restore(): void {
    this.#powered = (this.#control & SLTCTL_PCC) === 0;
  }

  /** A full slot has power and an empty one has none, as firmware leaves them. What was to leave leaves: nobody uses it now. */
  reset(): void {
    if (this.#leaving !== undefined) this.#takeOut();
    this.#powered = true;
    const present = this.#function !== undefined;
    this.#control = SLTCTL_AIC_OFF | (present ? SLTCTL_PIC_ON : SLTCTL_PIC_OFF | SLTCTL_PCC);
    this.#relink();
    this.#status = present ? SLTSTA_PDS : 0;
    this.#showLink();
  }

  /**
   * Puts a function into the slot while the guest runs.
   * @throws VmError ERR_PCI_SLOT when the slot is full, or the function is on a bus.
   */
  plug(f: PciFunction): void {
    this.#putIn(f);
    this.#happened(SLTSTA_PDC | this.#relink());
  }

  /**
   * Puts a function into the slot before the guest runs: it finds the slot full and powered, and no events.
   * @throws VmError ERR_PCI_SLOT when the slot is full, or the function is on a bus.
   */
  plugAtBoot(f: PciFunction): void {
    this.#putIn(f);
    this.reset();
  }

  /**
   * Presses the attention button. A guest with a driver for the slot stops using the function, five seconds later in the case
   * of Linux, and turns the power off, whereupon the function leaves. A slot that the guest has turned off is emptied at once.
   * @returns the function, once it is out and uses no guest memory. Stays pending while the guest does not react; asking again
   *   presses the button again, unless the guest's indicator blinks: then a second press would call it off (section 6.7.1.5).
   * @throws VmError ERR_PCI_SLOT when the slot is empty.
   */
  requestUnplug(): Promise<PciFunction> {
    this.#mustBeFull();
    this.#leaving ??= newLeaving();
    const { ejected } = this.#leaving;
    if (!this.#powered) this.#eject();
    else if ((this.#control & SLTCTL_PIC) !== SLTCTL_PIC_BLINK) this.#happened(SLTSTA_ABP);
    return ejected;
  }

  /**
   * Tells the guest once more of a function that it has not noticed: its power indicator is still off. Linux forgets events of the
   * second that follows a power off. False: there is nothing to tell.
   */
  remind(): boolean {
    if (!this.#linked || (this.#control & SLTCTL_PIC) !== SLTCTL_PIC_OFF) return false;
    this.#happened(SLTSTA_PDC | SLTSTA_DLLSC);
    return true;
  }

  /**
   * Pulls the function out without asking (surprise removal). Resolves to it once it uses no guest memory.
   * @throws VmError ERR_PCI_SLOT when the slot is empty.
   */
  remove(): Promise<PciFunction> {
    this.#mustBeFull();
    this.#leaving ??= newLeaving();
    const { ejected } = this.#leaving;
    this.#eject();
    return ejected;
  }

  get #control(): number {
    return this.#host!.config.view.getUint16(this.#offset + SLTCTL, true);
  }

  set #control(value: number) {
    this.#host!.config.view.setUint16(this.#offset + SLTCTL, value, true);
  }

  get #status(): number {
    return this.#host!.config.view.getUint16(this.#offset + SLTSTA, true);
  }

  set #status(value: number) {
    this.#host!.config.view.setUint16(this.#offset + SLTSTA, value, true);
  }

  /** Slot Control has been written: every write is a command, and done when it returns (section 6.7.3.2). */
  #commanded(before: number): void {
    const control = this.#control;
    let events = SLTSTA_CC;
    if (((before ^ control) & SLTCTL_PCC) !== 0) {
      this.#powered = (control & SLTCTL_PCC) === 0;
      events |= this.#relink();
      if (!this.#powered && this.#leaving !== undefined) events |= this.#takeOut();
    }
    this.#happened(events);
  }

  #putIn(f: PciFunction): void {
    if (this.#function !== undefined || f.attached) {
      const why = f.attached ? 'it is on a bus already' : `${this.#function!.name} is in it`;
      throw new VmError('ERR_PCI_SLOT', `${f.name}: cannot be plugged into ${this.#name}: ${why}`, {
        hint: 'unplug it first, or use another slot',
        details: { function: f.name, slot: this.number },
      });
    }
    this.#function = f;
    this.#powered = true;
  }

  #mustBeFull(): void {
    if (this.#function !== undefined) return;
    throw new VmError('ERR_PCI_SLOT', `${this.#name} is empty`, {
      hint: 'there is nothing to unplug',
      details: { slot: this.number },
    });
  }

  #eject(): void {
    this.#happened(this.#takeOut());
  }

  /** Takes the function out and tells who has asked for it. Returns the events. */
  #takeOut(): number {
    const f = this.#function!;
    const leaving = this.#leaving!;
    this.#leaving = undefined;
    this.#function = undefined;
    const events = SLTSTA_PDC | this.#relink(f);
    const out = () => leaving.resolve(f);
    void f.settled.then(out, out);
    return events;
  }

  /** Makes the link, and with it the function's place on the bus, what slot and guest want. Returns the events. */
  #relink(f = this.#function): number {
    const { config } = this.#host!;
    const disabled = (config.view.getUint16(this.#offset + LNKCTL, true) & LNKCTL_LD) !== 0;
    const up = this.#function !== undefined && this.#powered && !disabled;
    if (up === this.#linked || f === undefined) return 0;
    this.#linked = up;
    if (up) this.#places.add(f, { bus: this.#bus!, device: 0 });
    else {
      f.reset();
      this.#places.remove(f);
    }
    return SLTSTA_DLLSC;
  }

  #showLink(): void {
    this.#host!.config.view.setUint16(this.#offset + LNKSTA, linkStatus(this.#linked, true), true);
  }

  /** Shows presence and link as they are, and latches what has happened. */
  #happened(events: number): void {
    const presence = this.#function === undefined ? 0 : SLTSTA_PDS;
    this.#showLink();
    this.#status = (this.#status & ~SLTSTA_PDS) | presence | events;
    this.#host!.interruptsChanged();
  }
}

function newLeaving(): Leaving {
  let resolve: (f: PciFunction) => void = () => undefined;
  const ejected = new Promise<PciFunction>(r => {
    resolve = r;
  });
  return { ejected, resolve };
}
