import { VmError } from '../util/errors.ts';
import type { PciBridge } from './bridge.ts';
import type { FunctionHost, PciFunction } from './function.ts';
import { HEADER_TYPE, HEADER_TYPE_MULTIFUNCTION, SECONDARY_BUS } from './regs.ts';

/** A PCI bus: up to 32 devices of up to 8 functions. Its number is what the guest wrote into the bridge above (root: 0). */
export class PciBus {
  readonly #functions = new Map<number, PciFunction>();

  /** @param bridge the bridge above; undefined: the root bus. */
  constructor(readonly bridge: PciBridge | undefined) {}

  get number(): number {
    return this.bridge === undefined ? 0 : this.bridge.config.bytes[SECONDARY_BUS]!;
  }

  /** Functions in the order of their numbers. */
  get functions(): readonly PciFunction[] {
    return [...this.#functions.values()].sort((a, b) => a.devfn - b.devfn);
  }

  at(devfn: number): PciFunction | undefined {
    return this.#functions.get(devfn);
  }

  /** The lowest device number without functions; undefined when the bus is full. Below a port there is only device 0. */
  freeDevice(): number | undefined {
    const devices = this.bridge === undefined ? 32 : 1;
    for (let d = 0; d < devices; d++) {
      let free = true;
      for (let f = 0; f < 8; f++) free &&= !this.#functions.has((d << 3) | f);
      if (free) return d;
    }
    return undefined;
  }

  /**
   * Puts a function at `devfn`, in the state of a reset.
   * @throws VmError ERR_PCI_SLOT when the place is taken, or the function has one.
   */
  add(f: PciFunction, devfn: number, host: FunctionHost): void {
    const other = this.#functions.get(devfn);
    if (other !== undefined || f.attached) {
      const why = f.attached ? 'it is on a bus already' : `its place is taken by ${other?.name}`;
      throw new VmError('ERR_PCI_SLOT', `${f.name}: cannot be plugged: ${why}`, {
        hint: 'unplug it first, or choose another place',
        details: { function: f.name, devfn },
      });
    }
    this.#functions.set(devfn, f);
    f.attach(this, devfn, host);
    this.#markMultifunction(devfn >> 3);
  }

  remove(f: PciFunction): void {
    if (this.#functions.get(f.devfn) !== f) return;
    this.#functions.delete(f.devfn);
    f.detach();
    this.#markMultifunction(f.devfn >> 3);
  }

  /** CFG-8: function 0 says whether it has siblings. */
  #markMultifunction(device: number): void {
    const first = this.#functions.get(device << 3);
    if (first === undefined) return;
    const siblings = [...this.#functions.keys()].some(k => k >> 3 === device && (k & 7) !== 0);
    const { bytes } = first.config;
    bytes[HEADER_TYPE] = (bytes[HEADER_TYPE]! & 0x7f) | (siblings ? HEADER_TYPE_MULTIFUNCTION : 0);
    first.config.seal(HEADER_TYPE);
  }
}
