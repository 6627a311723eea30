import { createGuestMemory } from '../../../src/memory/guest-memory.ts';
import { PinTable } from '../../../src/memory/pin-table.ts';
import type { GuestMemory } from '../../../src/memory/types.ts';
import type { Random } from './random.ts';

/** The guest's RAM that it fuzzes with. */
export const RAM = 0x4000_0000;
export const RAM_SIZE = 8 << 20;
/** The last part of RAM, in which no driver has its rings: memory that is plugged and unplugged, in blocks. */
export const HOTPLUG_SIZE = 1 << 20;
export const HOTPLUG = RAM + RAM_SIZE - HOTPLUG_SIZE;
export const HOTPLUG_BLOCK = 64 << 10;
/** RAM that only the witnesses use: far away, where no wild address leads by chance. */
export const WITNESS_RAM = 0x2a_5a50_0000;
export const WITNESS_RAM_SIZE = 64 << 10;
export const ROM = 0x0010_0000;
const ROM_SIZE = 64 << 10;
/** Host memory around each region. */
const CANARY = 256 << 10;
const SECRET_SIZE = 32;

/**
 * Guest memory inside of a larger block of host memory: canary, ROM, canary, RAM, canary, witness RAM, canary. The canaries
 * repeat a secret, which must neither change nor turn up where the guest could see it.
 */
export class GuardedRam {
  readonly memory: GuestMemory;
  readonly pins: PinTable;
  /** {@link RAM}, as bytes and as words. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly witness: DataView;
  readonly #rom: Uint8Array;
  readonly #romBefore: Uint8Array;
  readonly #canaries: Uint8Array[] = [];
  readonly #pattern: Uint8Array;

  constructor(random: Random) {
    const sizes = [ROM_SIZE, RAM_SIZE, WITNESS_RAM_SIZE];
    const block = new SharedArrayBuffer(sizes.reduce((sum, s) => sum + s + CANARY, CANARY));
    const secret = random.bytes(SECRET_SIZE);
    this.#pattern = new Uint8Array(CANARY).map((_, i) => secret[i % SECRET_SIZE]!);
    let at = 0;
    const take = (length: number) => {
      at += length;
      return new Uint8Array(block, at - length, length);
    };
    const canary = () => {
      const bytes = take(CANARY);
      bytes.set(this.#pattern);
      this.#canaries.push(bytes);
    };
    canary();
    const regions = sizes.map(size => {
      const bytes = take(size);
      canary();
      return bytes;
    });
    const [rom, ram, witness] = regions as [Uint8Array, Uint8Array, Uint8Array];
    this.#rom = rom;
    this.#romBefore = random.fill(rom).slice();
    this.bytes = ram;
    this.view = new DataView(block, ram.byteOffset, ram.length);
    this.witness = new DataView(block, witness.byteOffset, witness.length);
    this.memory = createGuestMemory([
      { base: ROM, size: ROM_SIZE, kind: 'rom', bytes: rom },
      { base: RAM, size: RAM_SIZE, kind: 'ram', bytes: ram },
      { base: WITNESS_RAM, size: WITNESS_RAM_SIZE, kind: 'ram', bytes: witness },
    ]);
    // Little enough that some requests have to wait for others, and some are too large for ever.
    this.pins = new PinTable({ memory: this.memory, limits: { shortBytes: 16 << 20 } });
    this.pins.startUnplugged(HOTPLUG, HOTPLUG_SIZE);
  }

  /** What is wrong with memory that no device may touch or tell; undefined: nothing. `exposed`: what the guest can see. */
  problem(exposed: readonly Uint8Array[]): string | undefined {
    const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
    for (const [i, c] of this.#canaries.entries()) if (!same(c, this.#pattern)) return `canary ${i} was written`;
    if (!same(this.#rom, this.#romBefore)) return 'ROM was written';
    // Any half of the secret is in every piece of a canary that has one and a half of it.
    const half = Buffer.from(this.#pattern.subarray(0, SECRET_SIZE / 2));
    for (const [i, bytes] of [this.bytes, ...exposed].entries()) {
      const seen = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      if (seen.includes(half)) return `memory of the host is in what the guest can see (${i})`;
    }
    return undefined;
  }
}
