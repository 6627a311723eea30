import type { Gpa, Region } from '../../memory/types.ts';
import { VmError } from '../../util/errors.ts';

const PAGE = 0x1_0000;
/** The most that one WebAssembly memory gives here: all lengths and offsets of its views stay below 2^31. */
const CHUNK = 2 ** 31 - PAGE * 16;
/** Chunks end where the kernel can still use huge pages. */
const ALIGN = 2 ** 21;

/**
 * Zeroed memory of the host that every thread of the process can share, `size` bytes, and that costs nothing until it is
 * written. A WebAssembly memory for its properties, not for any code: page-aligned, shared, reserved lazily, never moved.
 * @throws VmError ERR_MEMORY_TOO_LARGE when the host has no room for it.
 */
export function sharedMemory(size: number): Uint8Array {
  const pages = Math.ceil(size / PAGE);
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    return new Uint8Array(memory.buffer, 0, size);
  } catch (e) {
    throw new VmError('ERR_MEMORY_TOO_LARGE', `the host gives no ${size} bytes of memory`, {
      hint: 'use less memory, or raise the limit of address space (ulimit -v)',
      cause: e,
      details: { size },
    });
  }
}

/**
 * RAM for guests at [base, base + size): one region, or several where it is larger than one WebAssembly memory.
 * @throws VmError ERR_MEMORY_TOO_LARGE.
 */
export function guestRam(base: Gpa, size: number): Region[] {
  const regions: Region[] = [];
  const chunk = Math.floor(CHUNK / ALIGN) * ALIGN;
  for (let at = 0; at < size; at += chunk) {
    const length = Math.min(chunk, size - at);
    regions.push({ base: base + at, size: length, kind: 'ram', bytes: sharedMemory(length) });
  }
  return regions;
}

/**
 * Memory that is plugged later, at [base, base + size): one region.
 * @throws VmError ERR_MEMORY_TOO_LARGE where it is larger than one WebAssembly memory.
 */
export function hotplugRam(base: Gpa, size: number): Region {
  const [region, ...more] = size > CHUNK ? [] : guestRam(base, size);
  if (region !== undefined && more.length === 0) return region;
  throw new VmError('ERR_MEMORY_TOO_LARGE', `hotplug: ${size} bytes are more than can be plugged on KVM`, {
    hint: 'use at most 1920M, and more RAM from the start',
    details: { hotplug: size },
  });
}
