import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { PinTable, type PinTableOptions } from '../../src/memory/pin-table.ts';
import type { GuestMemory, Region } from '../../src/memory/types.ts';
import { VmError } from '../../src/util/errors.ts';

export const PAGE = 4096;
/** 4 MiB of RAM, a page of ROM right behind it, and a page of RAM far away. */
export const RAM = 0x4000_0000;
export const RAM_SIZE = 4 << 20;
export const ROM = RAM + RAM_SIZE;
export const FAR = 0x8000_0000;

/** A table over {@link RAM}, and what it has given back to the host. */
export interface PinRig {
  readonly table: PinTable;
  readonly memory: GuestMemory;
  /** Each call of discardBytes(). */
  readonly discarded: { readonly base: number; readonly length: number }[];
}

/** How a rig is made: once for each kind of memory that the rules have to hold on. */
export type PinBackend = (options?: Partial<PinTableOptions>) => PinRig;

function region(kind: Region['kind'], base: number, size: number): Region {
  return { kind, base, size, bytes: new Uint8Array(new SharedArrayBuffer(size)) };
}

/** Memory as the emulated engine has it. */
export const emulated: PinBackend = (options = {}) => {
  const memory = createGuestMemory([region('ram', RAM, RAM_SIZE), region('rom', ROM, PAGE), region('ram', FAR, PAGE)]);
  const discarded: { base: number; length: number }[] = [];
  const table = new PinTable({
    memory,
    discardBytes: (base, length) => {
      memory.view(base, length)!.fill(0);
      discarded.push({ base, length });
    },
    ...options,
  });
  return { table, memory, discarded };
};

/** All there are, for describe.each(). */
export const PIN_BACKENDS: readonly (readonly [string, PinBackend])[] = [['emulated memory', emulated]];

/** Code and errno of the VmError that `f` throws. */
export function refusal(f: () => unknown): string {
  try {
    f();
  } catch (e) {
    if (e instanceof VmError) return `${e.code} ${String(e.details.errno ?? '')}`.trim();
    throw e;
  }
  return 'no error';
}
