import { createHash, randomFillSync } from 'node:crypto';

/** Gives `length` random bytes. */
export type Entropy = (length: number) => Uint8Array;

/**
 * Random bytes from the host; with a seed, always the same sequence of them: SHA-256 of the seed and a counter, each call
 * beginning with a new block. Runs that are to be repeated take everything random from one such source.
 */
export function createEntropy(seed?: number | string): Entropy {
  if (seed === undefined) return length => randomFillSync(new Uint8Array(length));
  let block = 0;
  return length => {
    const bytes = new Uint8Array(Math.ceil(length / 32) * 32);
    for (let at = 0; at < bytes.length; at += 32) {
      bytes.set(createHash('sha256').update(`${block++} ${seed}`).digest(), at);
    }
    return bytes.subarray(0, length);
  };
}
