import type { AccessSize, BusDevice } from '../../bus/types.ts';
import { MIN_MEMORY_BAR } from '../bar.ts';
import type { Capability, CapabilityHost } from '../capability.ts';
import { CAP_ID_MSIX } from '../regs.ts';

const CONTROL = 2;
const FUNCTION_MASK = 1 << 14;
const ENABLE = 1 << 15;
const ENTRY = 16;
const VECTOR_CONTROL = 12;
const MASKED = 1;

/** Where table and pending bits of `vectors` vectors lie when they have a BAR of their own, and the BAR's size (MSIX-6). */
export function msixLayout(vectors: number): { readonly pba: number; readonly size: number } {
  const table = ENTRY * vectors;
  const pba = Math.max(2048, 2 ** Math.ceil(Math.log2(table)));
  return { pba, size: Math.max(MIN_MEMORY_BAR, 2 * pba) };
}

/** The table and the pending bits, as a guest sees them. */
interface MsixState {
  readonly table: Uint8Array;
  readonly pending: Uint8Array;
}

/**
 * MSI-X (PCI Local Bus 3.0 section 6.8.2): the capability, and the table and pending bit array as the device behind a BAR.
 * A vector raised while it or the function is masked is pending, and is sent once when it is unmasked (MSIX-4).
 */
export class MsixCapability implements Capability, BusDevice {
  readonly id = CAP_ID_MSIX;
  readonly size = 12;
  readonly name = 'MSI-X';
  readonly #table: DataView;
  readonly #pending: Uint8Array;
  /** Number of pending vectors: most of the time there is nothing to look for. */
  #waiting = 0;
  #host: CapabilityHost | undefined;
  #offset = 0;

  /**
   * @param vectors 1 to 2048.
   * @param bar the BAR that the table and, `pba` bytes behind, the pending bits are in.
   * @param pba default: {@link msixLayout}'s.
   */
  constructor(
    readonly vectors: number,
    readonly bar: number,
    readonly pba: number = msixLayout(vectors).pba,
  ) {
    this.#table = new DataView(new ArrayBuffer(ENTRY * vectors));
    this.#pending = new Uint8Array(8 * Math.ceil(vectors / 64));
    this.reset();
  }

  get enabled(): boolean {
    return (this.#control & ENABLE) !== 0;
  }

  /** The function mask bit. */
  get masked(): boolean {
    return (this.#control & FUNCTION_MASK) !== 0;
  }

  /** Whether vector `n` is masked by itself, and whether it is pending; for reports. */
  vector(n: number): {
    readonly masked: boolean;
    readonly pending: boolean;
    readonly address: number;
    readonly data: number;
  } {
    const at = ENTRY * n;
    return {
      masked: this.#vectorMasked(n),
      pending: ((this.#pending[n >> 3]! >> (n & 7)) & 1) === 1,
      address: this.#table.getUint32(at + 4, true) * 2 ** 32 + this.#table.getUint32(at, true),
      data: this.#table.getUint32(at + 8, true),
    };
  }

  install(host: CapabilityHost, offset: number): void {
    this.#host = host;
    this.#offset = offset;
    const { config } = host;
    config.define(offset + CONTROL, 2, this.vectors - 1, FUNCTION_MASK | ENABLE);
    config.define(offset + 4, 4, this.bar);
    config.define(offset + 8, 4, this.pba | this.bar);
    config.effect(offset + CONTROL, 2, () => host.interruptsChanged());
  }

  /** Every vector is masked after a reset (MSIX-2). */
  reset(): void {
    new Uint8Array(this.#table.buffer).fill(0);
    for (let n = 0; n < this.vectors; n++) this.#table.setUint32(ENTRY * n + VECTOR_CONTROL, MASKED, true);
    this.#pending.fill(0);
    this.#waiting = 0;
  }

  save(): MsixState {
    return { table: new Uint8Array(this.#table.buffer.slice(0)), pending: this.#pending.slice() };
  }

  restore(state: unknown): void {
    const { table, pending } = state as MsixState;
    new Uint8Array(this.#table.buffer).set(table);
    this.#pending.set(pending);
    this.#waiting = 0;
    for (const bits of pending) for (let b = bits; b !== 0; b &= b - 1) this.#waiting++;
  }

  /** Raises vector `n`; nothing happens while MSI-X is disabled, or when there is no such vector. */
  trigger(n: number): void {
    if (!this.enabled || n >= this.vectors) return;
    if (this.masked || this.#vectorMasked(n)) {
      const bit = 1 << (n & 7);
      if ((this.#pending[n >> 3]! & bit) === 0) this.#waiting++;
      this.#pending[n >> 3]! |= bit;
    } else this.#send(n);
  }

  /** Sends what is pending and no longer masked. */
  deliverPending(): void {
    if (this.#waiting === 0 || !this.enabled || this.masked) return;
    for (let n = 0; n < this.vectors; n++) this.#deliver(n);
  }

  /** Table and pending bits: aligned accesses of 4 and 8 bytes; others read all ones and change nothing (MSIX-3). */
  read(offset: number, size: AccessSize): number {
    if (size !== 4 || (offset & 3) !== 0) return 0xffff_ffff;
    if (offset + 4 <= this.#table.byteLength) return this.#table.getUint32(offset, true);
    const p = offset - this.pba;
    if (p < 0 || p + 4 > this.#pending.length) return 0;
    return new DataView(this.#pending.buffer).getUint32(p, true);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 4 || (offset & 3) !== 0 || offset + 4 > this.#table.byteLength) return;
    const control = offset % ENTRY === VECTOR_CONTROL;
    // Only the mask bit of Vector Control is there; the two low bits of an address are zero (section 6.8.2.9).
    const kept = control ? value & MASKED : offset % ENTRY === 0 ? value & ~3 : value;
    this.#table.setUint32(offset, kept, true);
    if (control && !this.masked && this.enabled) this.#deliver(Math.floor(offset / ENTRY));
  }

  get #control(): number {
    return this.#host === undefined ? 0 : this.#host.config.view.getUint16(this.#offset + CONTROL, true);
  }

  #vectorMasked(n: number): boolean {
    return (this.#table.getUint8(ENTRY * n + VECTOR_CONTROL) & MASKED) !== 0;
  }

  #deliver(n: number): void {
    const bit = 1 << (n & 7);
    if ((this.#pending[n >> 3]! & bit) === 0 || this.#vectorMasked(n)) return;
    this.#pending[n >> 3]! &= ~bit;
    this.#waiting--;
    this.#send(n);
  }

  #send(n: number): void {
    const at = ENTRY * n;
    const address = this.#table.getUint32(at + 4, true) * 2 ** 32 + this.#table.getUint32(at, true);
    this.#host!.sendMessage(address, this.#table.getUint32(at + 8, true));
  }
}
