import type { PinTable } from '../../../memory/pin-table.ts';
import type { Gpa, Region } from '../../../memory/types.ts';
import type { PageDiscarder } from './device.ts';

const NOTHING = { discarded: 0, queued: 0, skippedPinned: 0 };

/** What a balloon does to a machine's memory, by the rules for what is pinned (table 4.3). */
export function pinAwareDiscarder(pins: PinTable): PageDiscarder {
  const { regions } = pins.memory;
  return {
    discard: (base, length) => pins.discard(base, length, 'balloon'),
    report: bytes => {
      const base = addressOf(regions, bytes);
      return base === undefined ? NOTHING : pins.discard(base, bytes.length, 'report');
    },
    deflate: (base, length) => pins.deflate(base, length),
  };
}

/** Where a view of guest memory lies in it. A chain has views only, and nobody but a balloon asks. */
function addressOf(regions: readonly Region[], { buffer, byteOffset, length }: Uint8Array): Gpa | undefined {
  for (const { base, size, bytes } of regions) {
    const offset = byteOffset - bytes.byteOffset;
    if (buffer === bytes.buffer && offset >= 0 && offset + length <= size) return base + offset;
  }
  return undefined;
}
