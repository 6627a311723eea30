import assert from 'node:assert/strict';
import type { Rig } from './contract.ts';

// What cases of memory need on every architecture.

/** Bytes of the pages that slots are made of, and that writes are reported by. */
export const PAGE = 4096;

/** Maps device memory, of which there must be some. */
export function map(
  rig: Rig,
  base: number,
  bytes: Uint8Array,
  o: { readonly offset?: number; readonly size?: number; readonly readOnly?: boolean } = {},
): Disposable {
  const { offset = 0, size = bytes.length - offset, readOnly = false } = o;
  const slot = rig.engine.slots.map(base, size, { bytes }, offset, readOnly);
  assert.ok(slot, 'the engine has no slot');
  return slot;
}

export const u32 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
export const setU32 = (bytes: Uint8Array, at: number, v: number) =>
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, v, true);

/** The pages that vCPUs have written since the last call, by address. */
export function written(rig: Rig): number[] {
  const pages = new Set<number>();
  rig.engine.writeTracker.collectCpu({
    markDirty: (base, length) => {
      for (let p = Math.floor(base / PAGE) * PAGE; p < base + length; p += PAGE) pages.add(p);
    },
  });
  return [...pages].sort((a, b) => a - b);
}
