import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { upper32 } from '../util/words.ts';
import type { AccessSize, AddressBus, BusDevice, Mapping } from './types.ts';

/** An access to an address without a device. `value` is what a write carried; reads were answered with all ones. */
export interface UnhandledAccess {
  readonly address: number;
  readonly size: AccessSize;
  readonly value?: number;
}

/** Options of {@link createAddressBus}. */
export interface AddressBusOptions {
  /** Told of every access without a device; for logs and counters. */
  onUnhandled?(access: UnhandledAccess): void;
}

/** A mapping as the bus keeps it. */
interface Range extends Mapping {
  /** First address behind the range. */
  readonly end: number;
}

/** An address bus without devices. */
export function createAddressBus(options: AddressBusOptions = {}): AddressBus {
  return new Bus(options);
}

class Bus implements AddressBus {
  /** Sorted by base, disjoint. */
  readonly #ranges: Range[] = [];
  /** Guests talk to one device at a time: the range of the last access is tried first. */
  #last: Range | undefined;
  readonly #onUnhandled: ((access: UnhandledAccess) => void) | undefined;

  constructor(options: AddressBusOptions) {
    this.#onUnhandled = options.onUnhandled?.bind(options);
  }

  map(base: number, size: number, device: BusDevice): Mapping {
    const end = base + size;
    if (!Number.isSafeInteger(base) || !Number.isSafeInteger(end) || base < 0 || size <= 0) {
      throw new VmError('ERR_INTERNAL', `${device.name}: bad bus range ${hex(base)}, ${size} bytes`);
    }
    const at = this.#firstEndingAfter(base);
    const next = this.#ranges[at];
    if (next && next.base < end) {
      const range = (r: { base: number; end: number }) => `${hex(r.base)}..${hex(r.end - 1)}`;
      throw new VmError(
        'ERR_OVERLAP',
        `${device.name} at ${range({ base, end })} overlaps ${next.device.name} at ${range(next)}`,
      );
    }
    const mapping: Range = { base, size, end, device, [Symbol.dispose]: () => this.#unmap(mapping) };
    this.#ranges.splice(at, 0, mapping);
    return mapping;
  }

  at(address: number): Mapping | undefined {
    return this.#find(address);
  }

  read(address: number, size: AccessSize): number {
    const r = this.#find(address);
    if (r && address + size <= r.end) return truncate(r.device.read(address - r.base, size), size);
    if (!this.#straddles(r, address, size)) {
      this.#onUnhandled?.({ address, size });
      return truncate(-1, size);
    }
    let value = 0;
    for (let i = 0; i < size; i++) value |= this.read(address + i, 1) << (8 * i);
    return truncate(value, size);
  }

  write(address: number, size: AccessSize, value: number): void {
    const r = this.#find(address);
    if (r && address + size <= r.end) r.device.write(address - r.base, size, truncate(value, size));
    else if (!this.#straddles(r, address, size)) {
      this.#onUnhandled?.({ address, size, value: truncate(value, size) });
    } else {
      for (let i = 0; i < size; i++) this.write(address + i, 1, value >>> (8 * i));
    }
  }

  read64(address: number): bigint {
    const r = this.#find(address);
    if (r?.device.read64 && address + 8 <= r.end) return BigInt.asUintN(64, r.device.read64(address - r.base));
    const low = this.read(address, 4);
    return (BigInt(this.read(address + 4, 4)) << 32n) | BigInt(low);
  }

  write64(address: number, value: bigint): void {
    const r = this.#find(address);
    if (r?.device.write64 && address + 8 <= r.end) {
      r.device.write64(address - r.base, BigInt.asUintN(64, value));
      return;
    }
    this.write(address, 4, Number(BigInt.asUintN(32, value)));
    this.write(address + 4, 4, upper32(value));
  }

  #find(address: number): Range | undefined {
    const last = this.#last;
    if (last && address >= last.base && address < last.end) return last;
    const r = this.#ranges[this.#firstEndingAfter(address)];
    if (!r || address < r.base) return undefined;
    this.#last = r;
    return r;
  }

  /** Index of the first range that ends behind `address`. */
  #firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (this.#ranges[mid]!.end > address) high = mid;
      else low = mid + 1;
    }
    return low;
  }

  /** Whether an access touches the edge of a device: such an access is done byte by byte. `r` holds its first byte. */
  #straddles(r: Range | undefined, address: number, size: number): boolean {
    if (size === 1) return false;
    if (r) return true;
    const next = this.#ranges[this.#firstEndingAfter(address)];
    return next !== undefined && next.base < address + size;
  }

  #unmap(mapping: Range): void {
    const i = this.#ranges.indexOf(mapping);
    if (i >= 0) this.#ranges.splice(i, 1);
    if (this.#last === mapping) this.#last = undefined;
  }
}

function truncate(value: number, size: AccessSize): number {
  return size === 4 ? value >>> 0 : value & (size === 2 ? 0xffff : 0xff);
}
