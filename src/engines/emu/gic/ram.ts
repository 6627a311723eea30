import type { Gpa, GuestMemory } from '../../../memory/types.ts';

/**
 * True when [a, a + length) lies in one RAM region. The GIC writes tables where the guest says, and a guest must not
 * reach ROM that way.
 */
export function inRam(memory: GuestMemory, a: Gpa, length: number): boolean {
  for (const region of memory.regions) {
    if (region.kind === 'ram' && a >= region.base && a + length <= region.base + region.size) return true;
  }
  return false;
}
