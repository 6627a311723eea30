import type { Gpa, GuestMemory } from './types.ts';

/**
 * The same memory for a writer of the machine's own, such as an interrupt controller that has tables in RAM: `willWrite` is called
 * before each of its writes, with address and length in bytes, so that dirty logs and forks know of them.
 */
export function notedMemory(memory: GuestMemory, willWrite: (a: Gpa, length: number) => void): GuestMemory {
  return {
    get regions() {
      return memory.regions;
    },
    contains: (a, length) => memory.contains(a, length),
    u8: a => memory.u8(a),
    u16: a => memory.u16(a),
    u32: a => memory.u32(a),
    u64: a => memory.u64(a),
    setU8(a, v) {
      willWrite(a, 1);
      memory.setU8(a, v);
    },
    setU16(a, v) {
      willWrite(a, 2);
      memory.setU16(a, v);
    },
    setU32(a, v) {
      willWrite(a, 4);
      memory.setU32(a, v);
    },
    setU64(a, v) {
      willWrite(a, 8);
      memory.setU64(a, v);
    },
    // Whoever has a view may write it.
    view(a, length) {
      willWrite(a, length);
      return memory.view(a, length);
    },
    read: (a, into) => memory.read(a, into),
    write(a, from) {
      willWrite(a, from.length);
      memory.write(a, from);
    },
  };
}
