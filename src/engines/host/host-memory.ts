import { VmError } from '../../util/errors.ts';
import type { HostMemory } from '../engine.ts';
import { type Addon, loadAddon } from './addon.ts';
import { host } from './host.ts';

/** Pieces in which {@link makeZero} looks at memory, bytes. */
const PIECE = 4096;
const ZEROS = new Uint8Array(PIECE);

/**
 * What this host can do with guest RAM: with the addon, give it back to the system and keep it from child processes.
 *
 * Without the addon discard() makes zeros and nothing else: nothing in Node or V8 gives part of a buffer back, and
 * guest RAM is one WebAssembly.Memory that never shrinks. Zeros are at least cheap for hosts that compress or merge pages.
 */
export function hostMemory(): HostMemory {
  return loadAddon().addon === undefined ? memoryWithoutAddon : memoryWithAddon(host());
}

/** Where there is no addon. */
export const memoryWithoutAddon: HostMemory = {
  available: false,
  discard: makeZero,
  keepFromChildren: () => undefined,
};

/** By the addon's madvise(). */
export function memoryWithAddon(addon: Pick<Addon, 'madvise' | 'pageSize'>): HostMemory {
  const page = addon.pageSize();
  return {
    available: true,
    discard: (bytes, offset, length) => {
      // Pages of the host may be larger than the guest's (64 KiB on some arm64): what lies in part of one is zeroed.
      const start = roundUp(bytes.byteOffset + offset, page) - bytes.byteOffset;
      const end = roundDown(bytes.byteOffset + offset + length, page) - bytes.byteOffset;
      if (start >= end) {
        makeZero(bytes, offset, length);
        return;
      }
      makeZero(bytes, offset, start - offset);
      makeZero(bytes, end, offset + length - end);
      // Memory that is locked stays (madvise(2): EINVAL), yet it must read as zeros.
      if (!agrees(() => addon.madvise(bytes, start, end - start, 'MADV_DONTNEED'))) makeZero(bytes, start, end - start);
    },
    keepFromChildren: bytes => {
      // A host that does not know it starts child processes slowly, and is right otherwise.
      agrees(() => addon.madvise(bytes, 0, bytes.length, 'MADV_DONTFORK'));
    },
  };
}

/** False: the system refused. */
function agrees(call: () => void): boolean {
  try {
    call();
    return true;
  } catch (e) {
    if (e instanceof VmError && e.code === 'ERR_HOST_CALL') return false;
    throw e;
  }
}

/** Writes zeros where there are none: a write to a page that was never touched would cost memory. */
function makeZero(bytes: Uint8Array, offset: number, length: number): void {
  for (let at = offset; at < offset + length; at += PIECE) {
    const piece = bytes.subarray(at, Math.min(at + PIECE, offset + length));
    if (Buffer.compare(piece, ZEROS.subarray(0, piece.length)) !== 0) piece.fill(0);
  }
}

const roundDown = (n: number, to: number): number => n - (n % to);
const roundUp = (n: number, to: number): number => roundDown(n + to - 1, to);
