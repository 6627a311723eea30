import { VmError } from '../util/errors.ts';
import type { PciFunction } from './function.ts';
import type { PciRootPort } from './root-port.ts';

/** The hot-plug slots of a machine, and what is in them. */
export class PciSlots {
  constructor(readonly ports: readonly PciRootPort[]) {}

  /** Ports whose slots are empty. */
  get free(): PciRootPort[] {
    return this.ports.filter(p => p.plugged === undefined);
  }

  /** Ports whose slots are full. */
  get used(): PciRootPort[] {
    return this.ports.filter(p => p.plugged !== undefined);
  }

  /**
   * Puts a function into the first free slot of a running machine.
   * @throws VmError ERR_PCI_SLOT when there is none, or another function has the same name.
   */
  plug(f: PciFunction): PciRootPort {
    const port = this.#portFor(f);
    port.plug(f);
    return port;
  }

  /** The same before the guest runs: it finds the function in place. */
  plugAtBoot(f: PciFunction): PciRootPort {
    const port = this.#portFor(f);
    port.plugAtBoot(f);
    return port;
  }

  /**
   * Asks the guest to let the function `name` go; see {@link PciRootPort.requestUnplug}.
   * @throws VmError ERR_PCI_SLOT when no slot has it.
   */
  unplug(name: string): Promise<PciFunction> {
    return this.#portOf(name).requestUnplug();
  }

  /**
   * Pulls the function `name` out without asking the guest.
   * @throws VmError ERR_PCI_SLOT when no slot has it.
   */
  remove(name: string): Promise<PciFunction> {
    return this.#portOf(name).remove();
  }

  #portFor(f: PciFunction): PciRootPort {
    const [port] = this.free;
    const same = this.used.some(p => p.plugged!.name === f.name);
    if (port !== undefined && !same) return port;
    const why = same ? 'a function of that name is plugged' : `all ${this.ports.length} slots are full`;
    throw new VmError('ERR_PCI_SLOT', `${f.name}: cannot be plugged: ${why}`, {
      hint: same ? 'choose another name' : 'unplug something, or start the machine with more slots',
      details: { function: f.name, slots: this.ports.length },
    });
  }

  #portOf(name: string): PciRootPort {
    const port = this.used.find(p => p.plugged!.name === name);
    if (port !== undefined) return port;
    const names = this.used.map(p => p.plugged!.name);
    throw new VmError('ERR_PCI_SLOT', `no slot has a function ${name}`, {
      hint: names.length > 0 ? `there are: ${names.join(', ')}` : 'all slots are empty',
      details: { function: name, plugged: names },
    });
  }
}
