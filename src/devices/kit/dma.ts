import type { PinHandle } from '../../memory/pin-types.ts';
import type { DeviceDma, DmaPin } from './device.ts';

/** Lines about forgotten pins that one device may write into the log: a guest can reset it again and again. */
const MAX_LOG_LINES = 16;

/** A program's way into guest memory, on whichever thread it runs. Addresses and lengths are whole numbers. */
export interface DmaPort {
  /** Whether the function may master the bus. */
  readonly mayMaster: boolean;
  /** Gives `use` the guest's bytes at [address, address + length); undefined when that is refused. */
  borrow<T>(address: number, length: number, access: 'r' | 'w', use: (bytes: Uint8Array) => T): T | undefined;
  /** Pins them in the device's name; 0 when that is refused. */
  pin(address: number, length: number, access: 'r' | 'w', longterm: boolean): PinHandle;
  /** The bytes of a pin; undefined when they are in two regions of memory. */
  pinned(handle: PinHandle): Uint8Array | undefined;
  unpin(handle: PinHandle): void;
}

/** `dev.dma`, and what the device has pinned by it. */
export class ProgramDma implements DeviceDma {
  readonly #port: DmaPort;
  readonly #log: (line: string) => void;
  readonly #open = new Set<Pin>();
  #ended = false;
  #lines = 0;

  constructor(port: DmaPort, log: (line: string) => void) {
    this.#port = port;
    this.#log = log;
  }

  get allowed(): boolean {
    return !this.#ended && this.#port.mayMaster;
  }

  read(address: number | bigint, length: number): Uint8Array | undefined {
    return this.#reach(address, length, 'r', bytes => new Uint8Array(bytes));
  }

  write(address: number | bigint, from: Uint8Array): boolean {
    const done = this.#reach(address, from.length, 'w', bytes => {
      bytes.set(from);
      return true;
    });
    return done ?? false;
  }

  view(address: number | bigint, length: number, access: 'r' | 'w'): Uint8Array | undefined {
    return this.#reach(address, length, access, bytes => bytes);
  }

  pin(
    a: number | bigint,
    length: number,
    access: 'r' | 'w',
    { longterm = false }: { readonly longterm?: boolean } = {},
  ): DmaPin | undefined {
    const address = Number(a);
    if (!isRange(address, length) || length === 0 || this.#ended) return undefined;
    const port = this.#port;
    const handle = port.pin(address, length, access, longterm);
    if (handle === 0) return undefined;
    const bytes = port.pinned(handle);
    if (bytes === undefined) {
      port.unpin(handle);
      return undefined;
    }
    const pin = new Pin(bytes, () => {
      if (this.#open.delete(pin)) port.unpin(handle);
    });
    this.#open.add(pin);
    return pin;
  }

  /** The pins that there are now. */
  get open(): readonly DmaPin[] {
    return [...this.#open];
  }

  /** Releases those of `pins` that the device has not, and says so. `when` it should have, at the latest, for people. */
  release(pins: readonly DmaPin[], when: string): void {
    let forgotten = 0;
    for (const pin of pins) {
      if (!this.#open.has(pin as Pin)) continue;
      forgotten++;
      pin.unpin();
    }
    if (forgotten === 0 || this.#lines++ >= MAX_LOG_LINES) return;
    const pinsWere = forgotten === 1 ? 'pin of guest memory was' : 'pins of guest memory were';
    this.#log(`${forgotten} ${pinsWere} left over at the end of ${when}`);
  }

  /** The program has failed: it reaches nothing any more. */
  end(): void {
    this.#ended = true;
    this.release(this.open, 'the device');
  }

  #reach<T>(a: number | bigint, length: number, access: 'r' | 'w', use: (bytes: Uint8Array) => T): T | undefined {
    const address = Number(a);
    return isRange(address, length) && !this.#ended ? this.#port.borrow(address, length, access, use) : undefined;
  }
}

class Pin implements DmaPin {
  constructor(
    readonly bytes: Uint8Array,
    readonly unpin: () => void,
  ) {}
}

function isRange(address: number, length: number): boolean {
  return Number.isSafeInteger(address) && address >= 0 && Number.isSafeInteger(length) && length >= 0;
}
