/** Random words, to compare which encodings are UNDEFINED. */
import { findRow } from './encodings.ts';
import { forbidden, Random, unpredictable } from './inputs.ts';

/** The groups are the values of bits [28:25], the top level of the A64 encoding. */
export const UNDEFINED_GROUPS = 16;
/** Words of a group. */
export const UNDEFINED_WORDS = 8192;

let cached: { group: number; words: Uint32Array } | undefined;

/** Word `index` of `group`, always the same one. */
export function undefinedWord(group: number, index: number): number {
  if (cached?.group !== group) {
    const r = new Random(0xa640_0000 + group);
    const words = Uint32Array.from({ length: UNDEFINED_WORDS }, () => ((r.u32() & ~(15 << 25)) | (group << 25)) >>> 0);
    cached = { group, words };
  }
  return cached.words[index]!;
}

/**
 * Whether UNDEFINED or not is the same question for QEMU's Cortex-A57 in user mode and for our core.
 * It is not for LSE, and not for the System space, where user mode emulates what Linux would.
 */
export function comparable(word: number): boolean {
  if (forbidden(word) || unpredictable(word)) return false;
  const row = findRow(word);
  if (row?.lse) return false;
  if ((word & 0xffc0_0000) >>> 0 === 0xd500_0000) return row !== undefined;
  return true;
}
