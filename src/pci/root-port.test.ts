import { expect, test } from 'vitest';
import {
  capabilityOf,
  ECAM,
  extendedCapabilityOf,
  FakeBar,
  fakeFunction,
  MSI_ADDRESS,
  PciRig,
} from '../../test/support/pci-rig.ts';
import * as E from './caps/express.ts';
import type { PciFunction, PciFunctionSpec } from './function.ts';
import * as R from './regs.ts';
import { PciRootPort } from './root-port.ts';

const ABP = 1 << 0;
const PDC = 1 << 3;
const CC = 1 << 4;
const PDS = 1 << 6;
const DLLSC = 1 << 8;
const HPIE = 1 << 5;
const DLLSCE = 1 << 12;
const PCC = 1 << 10;
const PIC = 3 << 8;
const PIC_ON = 1 << 8;
const PIC_BLINK = 2 << 8;
const PIC_OFF = 3 << 8;
const DLLLA = 1 << 13;
/** What Linux enables in a slot with an attention button: button, link, commands. */
const LINUX = ABP | CC | HPIE | DLLSCE;

/** A port as a guest sees it; interrupts as messages with the data 0x77. */
class Port {
  readonly rig = new PciRig();
  readonly port = new PciRootPort({ slot: 5, host: this.rig.host });
  readonly #exp: number;

  constructor() {
    this.rig.host.add(this.port, { device: 1 });
    this.rig.write(this.port, R.PRIMARY_BUS, 0x01_0100);
    this.#exp = capabilityOf(this.port, R.CAP_ID_EXP)!;
  }

  get control(): number {
    return this.rig.read(this.port, this.#exp + E.SLTCTL, 2);
  }
  set control(value: number) {
    this.rig.write(this.port, this.#exp + E.SLTCTL, value, 2);
  }
  get status(): number {
    return this.rig.read(this.port, this.#exp + E.SLTSTA, 2);
  }
  get link(): boolean {
    return (this.rig.read(this.port, this.#exp + E.LNKSTA, 2) & DLLLA) !== 0;
  }
  get capabilities(): number {
    return this.rig.read(this.port, this.#exp + E.SLTCAP);
  }
  /** Vendor and device of what is below, as the guest finds it. */
  get ids(): number {
    return this.rig.memory.read(ECAM + 2 ** 20, 4);
  }
  set linkControl(value: number) {
    this.rig.write(this.port, this.#exp + E.LNKCTL, value, 2);
  }

  clear(events: number): void {
    this.rig.write(this.port, this.#exp + E.SLTSTA, events, 2);
  }

  /** Interrupts since the last call. */
  interrupts(): number {
    return this.rig.taken().filter(m => m.data === 0x77).length;
  }

  /** Turns MSI on and enables what Linux enables. */
  msi(): this {
    const at = capabilityOf(this.port, R.CAP_ID_MSI)!;
    this.rig.command(this.port, R.COMMAND_MASTER | R.COMMAND_MEMORY);
    this.rig.write(this.port, at + 4, MSI_ADDRESS);
    this.rig.write(this.port, at + 12, 0x77, 2);
    this.rig.write(this.port, at + 2, 1, 2);
    this.control = (this.control & ~0x103f) | LINUX;
    this.clear(0xffff);
    this.interrupts();
    return this;
  }

  /** Reads and clears events, as an interrupt handler does. */
  events(): number {
    const events = this.status & (ABP | PDC | CC | DLLSC);
    this.clear(events);
    return events;
  }

  /** Writes fields of Slot Control, and takes the completion. */
  command(mask: number, value: number): number {
    this.control = (this.control & ~mask) | value;
    return this.events();
  }
}

function card(spec: Partial<PciFunctionSpec> = {}): PciFunction {
  return fakeFunction({ name: 'card', deviceId: 0x0c0d, ...spec });
}

test('a root port is a bridge with all that a driver of ports looks for', () => {
  const { rig, port, capabilities } = new Port();
  expect([rig.read(port, 0), rig.read(port, R.CLASS_CODE + 1, 2), rig.read(port, R.HEADER_TYPE, 1)]).toEqual([
    0x000c_1b36, 0x0604, 1,
  ]);
  expect(rig.read(port, R.INTERRUPT_PIN, 1)).toBe(1);
  for (const id of [R.CAP_ID_PM, R.CAP_ID_EXP, R.CAP_ID_MSI]) expect(capabilityOf(port, id)).toBeDefined();
  for (const id of [R.EXT_CAP_ID_AER, R.EXT_CAP_ID_ACS]) expect(extendedCapabilityOf(port, id)).toBeDefined();
  expect(rig.read(port, capabilityOf(port, R.CAP_ID_EXP)! + E.FLAGS, 2)).toBe(0x0142);
  // Button, power controller, both indicators, surprise, hot-plug; no latch, no interlock; slot 5.
  expect(capabilities).toBe((5 << 19) | 0x7b);
});

test('an empty slot: no card, no link, power and indicators off', () => {
  const { status, control, link, ids, port } = new Port();
  expect([status, control & PCC, control & PIC, link, ids]).toEqual([0, PCC, PIC_OFF, false, 0xffff_ffff]);
  expect(port.plugged).toBeUndefined();
});

test('a card that is there at boot: present, powered, linked, and no event', () => {
  const p = new Port();
  p.port.plugAtBoot(card());
  expect([p.status, p.control & PCC, p.control & PIC, p.link, p.ids]).toEqual([PDS, 0, PIC_ON, true, 0x0c0d_1b36]);
  p.rig.host.reset();
  p.rig.write(p.port, R.PRIMARY_BUS, 0x01_0100);
  expect([p.status, p.control & PCC, p.link, p.ids]).toEqual([PDS, 0, true, 0x0c0d_1b36]);
});

test('a card may be put in before the port is on its bus', () => {
  const rig = new PciRig();
  const port = new PciRootPort({ slot: 1, host: rig.host });
  const f = card();
  port.plugAtBoot(f);
  rig.host.add(port);
  rig.write(port, R.PRIMARY_BUS, 0x01_0100);
  expect(rig.read(f, 0)).toBe(0x0c0d_1b36);
  expect(rig.read(port, capabilityOf(port, R.CAP_ID_EXP)! + E.SLTSTA, 2)).toBe(PDS);
});

test('plug: Linux hears of the link at once, turns the power on and finds the card', () => {
  const p = new Port().msi();
  p.port.plug(card());
  expect([p.interrupts(), p.events(), p.status]).toEqual([1, PDC | DLLSC, PDS]);
  expect(p.link).toBe(true);
  // pciehp: power on, blink, look for the link and the device, indicator on.
  expect(p.control & PCC).toBe(PCC);
  expect([p.command(PCC, 0), p.interrupts()]).toEqual([CC, 1]);
  expect(p.command(PIC, PIC_BLINK)).toBe(CC);
  expect([p.link, p.ids]).toEqual([true, 0x0c0d_1b36]);
  expect(p.command(PIC | (3 << 6), PIC_ON | (3 << 6))).toBe(CC);
});

test('unplug: the button, then power off by the guest, then the card is out', async () => {
  const p = new Port().msi();
  const device = new FakeBar();
  let resets = 0;
  const told: boolean[] = [];
  const f = card({
    bars: [{ index: 0, kind: 'mem32', size: 4096, device }],
    masterChanged: allowed => told.push(allowed),
    reset: () => {
      resets++;
    },
  });
  p.port.plugAtBoot(f);
  p.rig.write(p.port, R.MEMORY_BASE, 0x1800_1800);
  p.rig.write(f, R.BASE_ADDRESS_0, 0x1800_0000);
  p.rig.command(f, R.COMMAND_MEMORY | R.COMMAND_MASTER);
  p.control = LINUX | PIC_ON | (3 << 6);
  p.events();
  p.interrupts();
  expect(p.rig.memory.read(0x1800_0000, 4)).toBe(device.answer(0, 4));

  let out: PciFunction | undefined;
  const ejected = p.port.requestUnplug().then(g => {
    out = g;
  });
  expect([p.interrupts(), p.events(), p.ids]).toEqual([1, ABP, 0x0c0d_1b36]);
  p.command(PIC, PIC_BLINK);
  // Asking again while the indicator blinks must not press the button: that would call it off.
  void p.port.requestUnplug();
  expect(p.status).toBe(PDS);
  await Promise.resolve();
  expect([out, p.port.slot.leaving]).toEqual([undefined, true]);
  // Linux has let the driver go, and turns the power off.
  expect(p.command(PCC, PCC)).toBe(CC | DLLSC | PDC);
  await ejected;
  expect([out, p.port.plugged, f.attached, resets, told]).toEqual([f, undefined, false, 1, [true, false]]);
  expect([p.status, p.link, p.ids, p.rig.memory.at(0x1800_0000)]).toEqual([0, false, 0xffff_ffff, undefined]);
  // And in again.
  p.port.plug(f);
  expect([p.events(), p.ids]).toEqual([PDC | DLLSC, 0x0c0d_1b36]);
});

test('unplug waits for a device that still uses guest memory', async () => {
  const p = new Port();
  let finish: () => void = () => undefined;
  const f = card({
    reset: () =>
      new Promise<void>(resolve => {
        finish = resolve;
      }),
  });
  p.port.plugAtBoot(f);
  let out = false;
  const ejected = p.port.requestUnplug().then(() => {
    out = true;
  });
  p.control = p.control | PCC;
  for (let i = 0; i < 5; i++) await Promise.resolve();
  expect([out, p.port.plugged]).toEqual([false, undefined]);
  finish();
  await ejected;
  expect(out).toBe(true);
});

test('a guest that turns the power off by itself loses the card until it turns it on again', () => {
  const p = new Port().msi();
  const f = card();
  p.port.plugAtBoot(f);
  p.rig.command(f, R.COMMAND_MASTER);
  p.events();
  expect(p.command(PCC, PCC)).toBe(CC | DLLSC);
  expect([p.status, p.link, p.ids, p.port.plugged]).toEqual([PDS, false, 0xffff_ffff, f]);
  expect(p.command(PCC, 0)).toBe(CC | DLLSC);
  expect([p.link, p.ids, f.command]).toEqual([true, 0x0c0d_1b36, 0]);
});

test('a slot without power is emptied without waiting for the guest', async () => {
  const p = new Port().msi();
  const f = card();
  p.port.plugAtBoot(f);
  p.command(PCC, PCC);
  expect(await p.port.requestUnplug()).toBe(f);
  expect([p.events(), p.status, p.port.plugged]).toEqual([PDC, 0, undefined]);
});

test('a button that was pressed before the guest listened is pressed again by asking again', () => {
  const p = new Port();
  p.port.plugAtBoot(card());
  const first = p.port.requestUnplug();
  p.clear(0xffff);
  expect(p.port.requestUnplug()).toBe(first);
  expect(p.status).toBe(PDS | ABP);
});

test('a reset of the machine takes out what was to leave', async () => {
  const p = new Port();
  const f = card();
  p.port.plugAtBoot(f);
  const ejected = p.port.requestUnplug();
  p.rig.host.reset();
  expect(await ejected).toBe(f);
  expect([p.status, p.control & PCC, p.link, f.attached]).toEqual([0, PCC, false, false]);
});

test('surprise removal: link and presence are gone at once', async () => {
  const p = new Port();
  const f = card();
  p.port.plugAtBoot(f);
  p.msi();
  expect(await p.port.remove()).toBe(f);
  expect([p.interrupts(), p.events(), p.status, p.ids]).toEqual([1, PDC | DLLSC, 0, 0xffff_ffff]);
});

test('surprise removal settles an unplug that the guest has not answered', async () => {
  const p = new Port();
  const f = card();
  p.port.plugAtBoot(f);
  const asked = p.port.requestUnplug();
  expect([await p.port.remove(), await asked]).toEqual([f, f]);
});

test('Link Disable takes the card off the bus, and enabling brings it back', () => {
  const p = new Port();
  p.port.plugAtBoot(card());
  p.linkControl = E.LNKCTL_LD;
  expect([p.link, p.ids, p.events()]).toEqual([false, 0xffff_ffff, DLLSC]);
  p.linkControl = 0;
  expect([p.link, p.ids, p.events()]).toEqual([true, 0x0c0d_1b36, DLLSC]);
  p.linkControl = 0x40;
  expect(p.events()).toBe(0);
});

test('every write to Slot Control is a completed command; writes to Slot Status are none', () => {
  const p = new Port().msi();
  const same = p.control;
  p.control = same;
  expect([p.status & CC, p.interrupts()]).toEqual([CC, 1]);
  p.clear(CC);
  expect([p.status & CC, p.interrupts()]).toEqual([0, 0]);
  // Without its enable bit it is recorded, and silent.
  p.control = p.control & ~CC;
  expect([p.status & CC, p.interrupts()]).toEqual([CC, 0]);
});

test('one message each time the condition becomes true, none while it stays true', () => {
  const p = new Port().msi();
  const pin = p.port.slot;
  p.port.plug(card());
  expect(p.interrupts()).toBe(1);
  // A second event while the first is not cleared.
  void p.port.requestUnplug();
  expect(p.interrupts()).toBe(0);
  p.clear(DLLSC | PDC);
  expect([pin.interrupt, p.interrupts()]).toEqual([true, 0]);
  p.clear(ABP);
  expect([pin.interrupt, p.interrupts()]).toEqual([false, 0]);
  void p.port.requestUnplug();
  expect(p.interrupts()).toBe(1);
});

test('an event that came before it was enabled interrupts when it is', () => {
  const p = new Port().msi();
  p.control = p.control & ~(HPIE | CC);
  p.port.plug(card());
  p.clear(CC);
  expect(p.interrupts()).toBe(0);
  p.control = p.control | HPIE;
  expect(p.interrupts()).toBe(1);
});

test('a message that bus mastering held back is sent when it is allowed', () => {
  const p = new Port().msi();
  p.rig.command(p.port, R.COMMAND_MEMORY);
  p.port.plug(card());
  expect(p.interrupts()).toBe(0);
  p.rig.command(p.port, R.COMMAND_MASTER);
  expect(p.interrupts()).toBe(1);
});

test('without MSI the interrupt is INTA, up while an event is there', () => {
  const p = new Port();
  const wire = () => p.rig.wires.indexOf(true);
  p.control = (p.control & ~0x103f) | LINUX;
  // INTA of device 1 comes out at the second wire.
  expect([wire(), p.events()]).toEqual([1, CC]);
  expect(wire()).toBe(-1);
  p.port.plug(card());
  expect(wire()).toBe(1);
  p.clear(PDC);
  expect(wire()).toBe(1);
  p.clear(DLLSC);
  expect(wire()).toBe(-1);
});

test('what a full slot, an empty slot and a card on a bus refuse', () => {
  const p = new Port();
  const f = card();
  const refused = (message: string) =>
    expect.objectContaining({
      code: 'ERR_PCI_SLOT',
      message: expect.stringContaining(message),
      hint: expect.any(String),
    });
  expect(() => p.port.requestUnplug()).toThrow(refused('slot 5 is empty'));
  expect(() => p.port.remove()).toThrow(refused('slot 5 is empty'));
  p.port.plug(f);
  expect(() => p.port.plug(card())).toThrow(refused('card is in it'));
  expect(() => new Port().port.plug(f)).toThrow(refused('it is on a bus already'));
  expect(p.port.plugged).toBe(f);
  for (const slot of [0, -1, 8192, 1.5]) {
    expect(() => new PciRootPort({ slot, host: p.rig.host })).toThrow(refused('cannot be the number of a slot'));
  }
});

test('any commands and hands leave the card on the bus exactly while there is a link', () => {
  // A small walk through every order of four actions, with the invariants looked at after each.
  const p = new Port().msi();
  const f = card();
  const actions: ((p: Port) => void)[] = [
    q => (q.port.plugged === undefined ? q.port.plug(f) : void q.port.remove()),
    q => q.command(PCC, (q.control & PCC) ^ PCC),
    q => {
      q.linkControl = q.rig.read(q.port, capabilityOf(q.port, R.CAP_ID_EXP)! + E.LNKCTL, 2) ^ E.LNKCTL_LD;
    },
    q => {
      if (q.port.plugged !== undefined) void q.port.requestUnplug();
    },
    q => {
      q.rig.host.reset();
      q.rig.write(q.port, R.PRIMARY_BUS, 0x01_0100);
    },
  ];
  let seed = 1;
  for (let i = 0; i < 500; i++) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    actions[(seed >>> 16) % actions.length]!(p);
    expect([p.link, p.ids === 0x0c0d_1b36]).toEqual([f.attached, f.attached]);
    expect((p.status & PDS) !== 0).toBe(p.port.plugged === f);
    expect(p.port.slot.linked && p.port.plugged === undefined).toBe(false);
  }
});
