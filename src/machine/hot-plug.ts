import { setTimeout as sleep } from 'node:timers/promises';
import type { PciFunction } from '../pci/function.ts';
import type { PciRootPort } from '../pci/root-port.ts';
import type { PciSlots } from '../pci/slots.ts';
import { VmError } from '../util/errors.ts';
import type { BuiltDevice } from './devices/build.ts';

/** How long a guest may take to let go of a device. Linux waits for 5 s in case that the button is pressed again. */
const UNPLUG_LIMIT_MS = 60_000;
/** How long a guest may take to notice that something is plugged, or that the button was pressed, before it is told again. */
const SLOT_REMINDER_MS = 2000;
const PLUG_REMINDERS = 5;

function notLetGo(name: string): VmError {
  return new VmError('ERR_PCI_SLOT', `${name}: the guest did not let go of it within ${UNPLUG_LIMIT_MS / 1000} s`, {
    hint: 'its driver may be missing, or busy; the request stands, and the device leaves when the guest lets go',
  });
}

/** Devices that come and go while the guest runs, and the host's side of them. */
export class HotPlug {
  readonly #slots: PciSlots;
  readonly #devices: BuiltDevice[];
  readonly #ended: () => boolean;

  /** @param devices all of the machine's: what is plugged comes behind them. @param ended whether the machine has. */
  constructor(slots: PciSlots, devices: BuiltDevice[], ended: () => boolean) {
    this.#slots = slots;
    this.#devices = devices;
    this.#ended = ended;
  }

  /** Puts a device into a free slot; closes it when there is none. @throws VmError ERR_PCI_SLOT. */
  async plug(built: BuiltDevice): Promise<void> {
    let port: PciRootPort;
    try {
      port = this.#slots.plug(built.function);
    } catch (e) {
      await built.close?.();
      throw e;
    }
    this.#devices.push(built);
    void this.#remindOf(built.function, port);
  }

  /** Tells the guest again of what is in a slot, until it has noticed. One without a driver for the slot never does. */
  async #remindOf(f: PciFunction, { slot }: PciRootPort): Promise<void> {
    for (let n = 0; n < PLUG_REMINDERS; n++) {
      await sleep(SLOT_REMINDER_MS, undefined, { ref: false });
      if (this.#ended() || slot.function !== f || !slot.remind()) return;
    }
  }

  /** Resolves when the guest has let go of the device. @throws VmError ERR_PCI_SLOT when it does not, or for no such device. */
  async unplug(name: string): Promise<void> {
    const slots = this.#slots;
    const left = slots.unplug(name).then(async f => {
      const at = this.#devices.findIndex(d => d.function === f);
      if (at >= 0) await this.#devices.splice(at, 1)[0]!.close?.();
    });
    // A guest that lets go after the limit is told to nobody, but the device's host side is closed all the same.
    left.catch(() => undefined);
    // A guest that was still bringing the device up has not noticed the button.
    const again = setInterval(() => {
      if (slots.used.some(port => port.plugged?.name === name)) void slots.unplug(name);
    }, SLOT_REMINDER_MS);
    let limit: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      limit = setTimeout(() => reject(notLetGo(name)), UNPLUG_LIMIT_MS);
    });
    try {
      await Promise.race([left, late]);
    } finally {
      clearInterval(again);
      clearTimeout(limit);
    }
  }
}
