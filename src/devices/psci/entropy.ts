import { createHash, randomFillSync } from 'node:crypto';

/** Gives `length` random bytes. */
export interface Entropy {
  (length: number): Uint8Array;
  /** How far a sequence by a seed is, in blocks; set, it goes on from there. Nothing to the host's randomness. */
  position: number;
}

/**
 * Random bytes from the host; with a seed, always the same sequence of them: SHA-256 of the seed and a counter, each call
 * beginning with a new block. Runs that are to be repeated take everything random from one such source.
 */
export function createEntropy(seed?: number | string): Entropy {
  if (seed === undefined) {
    return Object.assign((length: number) => randomFillSync(new Uint8Array(length)), { position: 0 });
  }
  const next = (length: number) => {
    const bytes = new Uint8Array(Math.ceil(length / 32) * 32);
    for (let at = 0; at < bytes.length; at += 32) {
      bytes.set(
        createHash('sha256')
          .update(`${source.position++} ${seed}`)
          .digest(),
        at,
      );
    }
    return bytes.subarray(0, length);
  };
  const source = Object.assign(next, { position: 0 });
  return source;
}
