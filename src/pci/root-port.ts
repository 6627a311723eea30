import { PciBridge } from './bridge.ts';
import { AcsCapability } from './caps/acs.ts';
import { AerCapability, BRIDGE_CONTROL_SERR } from './caps/aer.ts';
import { ExpressCapability } from './caps/express.ts';
import { MsiCapability } from './caps/msi.ts';
import { PmCapability } from './caps/pm.ts';
import type { PciFunction } from './function.ts';
import { BRIDGE_CONTROL } from './regs.ts';
import { HotPlugSlot, type PciPlaces } from './slot.ts';

/** QEMU's generic root port, whose ids every guest's driver takes for a port by its class alone. */
const VENDOR_REDHAT = 0x1b36;
const DEVICE_ROOT_PORT = 0x000c;
const CLASS_BRIDGE_PCI = 0x06_0400;

/** Options of {@link PciRootPort}. */
export interface RootPortOptions {
  /** For people; default: `root port` and the slot's number. */
  readonly name?: string;
  /** Physical slot number, 1 to 8191, unique in the machine. */
  readonly slot: number;
  /** The host bridge that the port belongs to. */
  readonly host: PciPlaces;
}

/**
 * A PCI Express root port with one hot-plug slot. Its interrupts, for hot-plug and for errors, are one MSI vector or INTA: an
 * MSI whenever one of the conditions becomes true, and INTA while one is (PCI Express Base 4.0 section 6.7.3.4).
 */
export class PciRootPort extends PciBridge {
  readonly slot: HotPlugSlot;
  readonly #aer: AerCapability;
  /** Conditions that have been true with MSI enabled when last looked at: hot-plug, errors. */
  #signalled = [false, false];

  /** @throws VmError ERR_PCI_SLOT for a slot number that is out of bounds. */
  constructor(options: RootPortOptions) {
    const slot = new HotPlugSlot(options.slot, options.host);
    const aer = new AerCapability(true);
    super({
      name: options.name ?? `root port ${options.slot}`,
      vendorId: VENDOR_REDHAT,
      deviceId: DEVICE_ROOT_PORT,
      classCode: CLASS_BRIDGE_PCI,
      interruptPin: 1,
      capabilities: [
        new PmCapability(),
        new ExpressCapability({ type: 'root-port', slot }),
        new MsiCapability(1),
        aer,
        new AcsCapability(),
      ],
    });
    this.slot = slot;
    this.#aer = aer;
    slot.leadTo(this.secondary);
    // Firmware opens the way for error messages; a guest that is started without any takes it as it finds it.
    this.config.view.setUint16(BRIDGE_CONTROL, BRIDGE_CONTROL_SERR, true);
    this.config.seal();
  }

  /** The function in the slot. */
  get plugged(): PciFunction | undefined {
    return this.slot.function;
  }

  /** See {@link HotPlugSlot.plug}. */
  plug(f: PciFunction): void {
    this.slot.plug(f);
  }

  /** See {@link HotPlugSlot.plugAtBoot}. */
  plugAtBoot(f: PciFunction): void {
    this.slot.plugAtBoot(f);
  }

  /** See {@link HotPlugSlot.requestUnplug}. */
  requestUnplug(): Promise<PciFunction> {
    return this.slot.requestUnplug();
  }

  /** See {@link HotPlugSlot.remove}. */
  remove(): Promise<PciFunction> {
    return this.slot.remove();
  }

  override interruptsChanged(): void {
    super.interruptsChanged();
    const conditions = [this.slot.interrupt, this.#aer.interrupt];
    this.setIntx(conditions.includes(true));
    const msi = this.msi!;
    for (const [i, condition] of conditions.entries()) {
      // A message that could not be sent, for want of bus mastering, is sent when it can be.
      const signal = condition && msi.enabled && this.mayMaster;
      const edge = signal && !this.#signalled[i];
      this.#signalled[i] = signal;
      if (edge) msi.trigger(0);
    }
  }
}
