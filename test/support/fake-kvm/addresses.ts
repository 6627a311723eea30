import type { HostAddress } from '../../../src/engines/host/addon.ts';
import { fail, refuse } from './errno.ts';

interface Pointer {
  readonly view: ArrayBufferView;
}

/** Host addresses: numbers that only structures of ioctls carry, good while they are kept. */
export class FakeAddresses {
  readonly #bases = new Map<ArrayBufferLike, bigint>();
  readonly #kept = new Set<Pointer>();
  #next = 0x7f00_0000_0000n;

  /** How many are kept. */
  get kept(): number {
    return this.#kept.size;
  }

  of(view: ArrayBufferView): HostAddress {
    const pointer: Pointer = { view };
    this.#kept.add(pointer);
    return pointer as unknown as HostAddress;
  }

  store(into: ArrayBufferView, offset: number, address: HostAddress): void {
    if (offset < 0 || offset + 8 > into.byteLength) refuse('storeAddress: offset is out of range');
    new DataView(into.buffer, into.byteOffset).setBigUint64(offset, this.#number(this.#pointer(address).view), true);
  }

  release(address: HostAddress): void {
    this.#kept.delete(this.#pointer(address));
  }

  /** The memory at an address, as the kernel finds it. */
  at(address: bigint, length: number): Uint8Array {
    for (const { view } of this.#kept) {
      const offset = Number(address - this.#number(view));
      if (offset < 0 || offset + length > view.byteLength) continue;
      return new Uint8Array(view.buffer, view.byteOffset + offset, length);
    }
    return fail('EFAULT');
  }

  #pointer(address: HostAddress): Pointer {
    const pointer = address as unknown as Pointer;
    return this.#kept.has(pointer) ? pointer : refuse('the address has been released');
  }

  /** Shared memory begins at a page; other memory is somewhere in one, as malloc() gives it. */
  #number({ buffer, byteOffset }: ArrayBufferView): bigint {
    let base = this.#bases.get(buffer);
    if (base === undefined) {
      base = this.#next + (buffer instanceof SharedArrayBuffer ? 0n : 16n);
      this.#bases.set(buffer, base);
      this.#next += BigInt(Math.ceil((buffer.byteLength + 32) / 4096) + 1) * 4096n;
    }
    return base + BigInt(byteOffset);
  }
}
