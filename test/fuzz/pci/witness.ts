import { ARM_VIRT } from '../../../src/machine/address-map.ts';
import type { PciFunction } from '../../../src/pci/function.ts';
import * as R from '../../../src/pci/regs.ts';
import { WITNESS_RAM } from './guest-ram.ts';
import { FuzzFailure, type FuzzMachine } from './machine.ts';

/** Size of the virtio BAR; the two places that a witness moves between; bytes of RAM that each witness has. */
const BAR_SIZE = 0x4000;
const SHARE = 0x4000;
const QUEUE = 8;

/**
 * A device that the hostile guest leaves alone, under a driver that does everything right. Before each request it moves its BAR,
 * so that it lies on top wherever the guest has put others meanwhile.
 */
export class Witness {
  readonly #m: FuzzMachine;
  readonly #f: PciFunction;
  readonly #places: readonly number[];
  readonly #ram: number;
  #place = 0;
  #available = 0;
  requests = 0;

  /** @param n 0 or 1: which part of the witnesses' RAM it has. */
  constructor(m: FuzzMachine, f: PciFunction, n: number) {
    this.#m = m;
    this.#f = f;
    const base = ARM_VIRT.pciMem64.base + 0x5a_5a00_0000 + n * 0x10_0000;
    this.#places = [base, base + BAR_SIZE];
    this.#ram = WITNESS_RAM + n * SHARE;
  }

  /** Ranges of the bus that are the witness's. */
  get ranges(): { base: number; size: number }[] {
    return this.#places.map(base => ({ base, size: BAR_SIZE }));
  }

  /** Initializes the device, negotiating VERSION_1 and nothing else. */
  start(): void {
    this.#config(R.COMMAND, 2, 7);
    this.#move();
    this.#available = 0;
    const { witness } = this.#m.ram;
    for (let i = 0; i < 0x1000; i++) witness.setUint8(this.#ram - WITNESS_RAM + i, 0);
    this.#write(20, 1, 0);
    for (const status of [1, 3]) this.#write(20, 1, status);
    this.#write(8, 4, 1);
    this.#write(12, 4, 1);
    this.#write(20, 1, 11);
    this.#write(22, 2, 0);
    this.#write(24, 2, QUEUE);
    for (const [i, area] of [0, 0x200, 0x400].entries()) {
      this.#write(32 + 8 * i, 4, (this.#ram + area) % 2 ** 32);
      this.#write(36 + 8 * i, 4, Math.floor((this.#ram + area) / 2 ** 32));
    }
    this.#write(28, 2, 1);
    this.#write(20, 1, 15);
    if (this.#read(20, 1) !== 15) throw new FuzzFailure(`witness ${this.#f.name}: status ${this.#read(20, 1)}`);
  }

  /**
   * Makes a request of `out`, waits, and returns the `length` bytes of the answer.
   * @throws FuzzFailure when there is none.
   */
  async request(out: Uint8Array, length: number, turn: () => Promise<void>): Promise<Uint8Array> {
    this.requests++;
    this.#move();
    const { witness } = this.#m.ram;
    const at = (a: number) => this.#ram + a - WITNESS_RAM;
    const descriptor = (i: number, offset: number, bytes: number, flags: number, next: number) => {
      witness.setBigUint64(at(16 * i), BigInt(this.#ram + offset), true);
      witness.setUint32(at(16 * i + 8), bytes, true);
      witness.setUint16(at(16 * i + 12), flags, true);
      witness.setUint16(at(16 * i + 14), next, true);
    };
    for (const [i, b] of out.entries()) witness.setUint8(at(0x1000 + i), b);
    for (let i = 0; i < length; i++) witness.setUint8(at(0x2000 + i), 0xee);
    if (out.length > 0) descriptor(0, 0x1000, out.length, 1, 1);
    descriptor(out.length > 0 ? 1 : 0, 0x2000, length, 2, 0);
    witness.setUint16(at(0x200 + 4 + 2 * (this.#available % QUEUE)), 0, true);
    this.#available = (this.#available + 1) & 0xffff;
    witness.setUint16(at(0x202), this.#available, true);
    this.#write(0x3000, 2, 0);
    for (let n = 0; witness.getUint16(at(0x402), true) !== this.#available; n++) {
      if (n === 100) throw new FuzzFailure(`witness ${this.#f.name}: request ${this.requests} is not answered`);
      await turn();
    }
    const used = at(0x404 + 8 * ((this.#available - 1) % QUEUE));
    if (witness.getUint32(used, true) !== 0 || witness.getUint32(used + 4, true) !== length)
      throw new FuzzFailure(`witness ${this.#f.name}: a wrong used element`);
    if (this.#read(0x1000, 1) !== 1) throw new FuzzFailure(`witness ${this.#f.name}: no interrupt`);
    return Uint8Array.from({ length }, (_, i) => witness.getUint8(at(0x2000 + i)));
  }

  /** The other place: the window that was programmed last answers. */
  #move(): void {
    this.#place ^= 1;
    const address = this.#places[this.#place]!;
    this.#config(R.BASE_ADDRESS_0 + 16, 4, address % 2 ** 32);
    this.#config(R.BASE_ADDRESS_0 + 20, 4, Math.floor(address / 2 ** 32));
  }

  #config(register: number, size: 1 | 2 | 4, value: number): void {
    this.#m.memory.write(ARM_VIRT.pciEcam.base + this.#f.requesterId * 4096 + register, size, value);
  }

  #read(offset: number, size: 1 | 2 | 4): number {
    return this.#m.memory.read(this.#places[this.#place]! + offset, size);
  }

  #write(offset: number, size: 1 | 2 | 4, value: number): void {
    this.#m.memory.write(this.#places[this.#place]! + offset, size, value);
  }
}
