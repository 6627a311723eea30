/**
 * AdvSIMD load/store of multiple and single structures (DDI 0487, C4.1 "Loads and Stores"; C7.2 LD1 to ST4, LDnR).
 *
 * The multiple structures are one run of bytes in memory, a multiple of eight, so it moves in doublewords through a
 * buffer, and registers are interleaved there with Wasm's shuffles. Only with alignment checks on (SCTLR_EL1.A), where
 * the architecture wants elements aligned and not doublewords, it moves by element.
 */
import { stackAligned } from './memory-ops';
import { FAULT, SCTLR_EL1, VREGS, XREGS } from './layout';
import { loadU16, loadU32, loadU64, loadU8, storeU16, storeU32, storeU64, storeU8 } from './mem';
import { evens, odds } from './simd-misc';

const enum MemoryOp { NONE, LD1_ONE, LD, ST, LD_SINGLE, ST_SINGLE, LD_REPLICATE }

/** Bytes of the structures as they are in memory: four registers. */
const BUFFER: usize = memory.data(64, 16);

/**
 * Number of the operation for execSimdMemory(), 0 if `insn` is unallocated or not an AdvSIMD structure load or store.
 */
export function decodeSimdMemory(insn: u32): u32 {
  // 0 Q 001100 p L 0: multiple structures; 0 Q 001101 p L: single structure. p = bit 23: post-index.
  if ((insn & 0xbe00_0000) != 0x0c00_0000) return 0;
  const load = (insn & (1 << 22)) != 0;
  const post = (insn & (1 << 23)) != 0;
  if (!post && (insn & (31 << 16)) != 0) return 0;
  const size = (insn >> 10) & 3;
  if ((insn & (1 << 24)) == 0) {
    if ((insn & (1 << 21)) != 0) return 0;
    switch ((insn >> 12) & 15) {
      case 0: case 4: case 8:
        // There are no structures of 64-bit registers with D elements.
        if (size == 3 && (insn & (1 << 30)) == 0) return 0;
        break;
      case 2: case 6: case 10: break;
      case 7: return load ? MemoryOp.LD1_ONE : MemoryOp.ST;
      default: return 0;
    }
    return load ? MemoryOp.LD : MemoryOp.ST;
  }
  const s = (insn & (1 << 12)) != 0;
  switch ((insn >> 14) & 3) {
    case 0: break;
    case 1:
      if ((size & 1) != 0) return 0;
      break;
    case 2:
      if (size > 1 || (size == 1 && s)) return 0;
      break;
    default: return load && !s ? MemoryOp.LD_REPLICATE : 0;
  }
  return load ? MemoryOp.LD_SINGLE : MemoryOp.ST_SINGLE;
}

// @ts-ignore: decorator
@inline
function faulted(): bool {
  return load<u32>(0, FAULT) != 0;
}

/** Base address; register 31 is SP. */
// @ts-ignore: decorator
@inline
function baseOf(insn: u32): u64 {
  return load<u64>((insn >> 2) & 0xf8, XREGS);
}

/** Adds Xm to the base of a post-index form, or the bytes that were transferred if Rm is 31. */
// @ts-ignore: decorator
@inline
function writeBack(insn: u32, base: u64, bytes: u32): void {
  if ((insn & (1 << 23)) == 0) return;
  const m = (insn >> 16) & 31;
  store<u64>((insn >> 2) & 0xf8, base + (m == 31 ? <u64>bytes : load<u64>(m << 3, XREGS)), XREGS);
}

/** Registers of a multiple-structure form. */
// @ts-ignore: decorator
@inline
function registerCount(insn: u32): u32 {
  switch ((insn >> 12) & 15) {
    case 0: case 2: return 4;
    case 4: case 6: return 3;
    case 7: return 1;
    default: return 2;
  }
}

/**
 * Performs the operation that decodeSimdMemory() numbered. False: the access faulted, FAULT tells how, and no register
 * has changed. SP alignment and access to FP and SIMD have been checked.
 */
export function execSimdMemory(op: u32, insn: u32): bool {
  if (((insn >> 5) & 31) == 31 && !stackAligned()) return false;
  const base = baseOf(insn);
  switch (op) {
    case MemoryOp.LD1_ONE: {
      // The one that copy and string loops use.
      const q = (insn >> 30) & 1;
      if (!inDoublewords(insn, base)) return loadMultiple(insn, base);
      const low = loadU64(base);
      if (faulted()) return false;
      let high: u64 = 0;
      if (q != 0) {
        high = loadU64(base + 8);
        if (faulted()) return false;
      }
      const t = (insn & 31) << 4;
      store<u64>(t, low, VREGS);
      store<u64>(t, high, VREGS + 8);
      writeBack(insn, base, 8 << q);
      return true;
    }
    case MemoryOp.LD: return loadMultiple(insn, base);
    case MemoryOp.ST: return storeMultiple(insn, base);
    case MemoryOp.LD_REPLICATE: return loadReplicate(insn, base);
    default: return single(insn, base, op == MemoryOp.LD_SINGLE);
  }
}

/** Whether doubleword accesses can raise no alignment fault that accesses by element would not. */
// @ts-ignore: decorator
@inline
function inDoublewords(insn: u32, base: u64): bool {
  return (u32(base) & 7) == 0 || (load<u64>(0, SCTLR_EL1) & 2) == 0;
}

function loadElement(size: u32, va: u64): u64 {
  switch (size) {
    case 0: return loadU8(va);
    case 1: return loadU16(va);
    case 2: return loadU32(va);
    default: return loadU64(va);
  }
}

function storeElement(size: u32, va: u64, value: u64): void {
  switch (size) {
    case 0: return storeU8(va, value);
    case 1: return storeU16(va, value);
    case 2: return storeU32(va, value);
    default: return storeU64(va, value);
  }
}

/** An element at a byte offset behind VREGS or in BUFFER. */
function putElement(size: u32, at: usize, value: u64): void {
  switch (size) {
    case 0: store<u8>(at, <u8>value); break;
    case 1: store<u16>(at, <u16>value); break;
    case 2: store<u32>(at, <u32>value); break;
    default: store<u64>(at, value);
  }
}

function getElement(size: u32, at: usize): u64 {
  switch (size) {
    case 0: return <u64>load<u8>(at);
    case 1: return <u64>load<u16>(at);
    case 2: return <u64>load<u32>(at);
    default: return load<u64>(at);
  }
}

function loadMultiple(insn: u32, base: u64): bool {
  const size = (insn >> 10) & 3;
  const count = registerCount(insn);
  const bytes = count << (3 + ((insn >> 30) & 1));
  if (inDoublewords(insn, base)) {
    for (let i: u32 = 0; i < bytes; i += 8) {
      const v = loadU64(base + i);
      if (faulted()) return false;
      store<u64>(BUFFER + i, v);
    }
  } else {
    for (let i: u32 = 0; i < bytes; i += 1 << size) {
      const v = loadElement(size, base + i);
      if (faulted()) return false;
      putElement(size, BUFFER + i, v);
    }
  }
  writeBack(insn, base, bytes);
  fromBuffer(insn, size, count);
  return true;
}

function storeMultiple(insn: u32, base: u64): bool {
  const size = (insn >> 10) & 3;
  const count = registerCount(insn);
  const bytes = count << (3 + ((insn >> 30) & 1));
  toBuffer(insn, size, count);
  if (inDoublewords(insn, base)) {
    for (let i: u32 = 0; i < bytes; i += 8) {
      storeU64(base + i, load<u64>(BUFFER + i));
      if (faulted()) return false;
    }
  } else {
    for (let i: u32 = 0; i < bytes; i += 1 << size) {
      storeElement(size, base + i, getElement(size, BUFFER + i));
      if (faulted()) return false;
    }
  }
  writeBack(insn, base, bytes);
  return true;
}

/** Whether the form interleaves: LD2 to LD4, which have bit 1 of the opcode clear (LD1 has 0010, 0110, 0111, 1010). */
// @ts-ignore: decorator
@inline
function interleaves(insn: u32): bool {
  return (insn & (1 << 13)) == 0;
}

/** Linear address of register Vt + i, modulo 32. */
// @ts-ignore: decorator
@inline
function register(insn: u32, i: u32): usize {
  return VREGS + (((insn + i) & 31) << 4);
}

/** Moves the structures in BUFFER to the registers. */
function fromBuffer(insn: u32, size: u32, count: u32): void {
  const q = (insn & (1 << 30)) != 0;
  if (!interleaves(insn)) {
    const step: u32 = q ? 16 : 8;
    for (let i: u32 = 0; i < count; i++) {
      const v = q ? v128.load(BUFFER + i * step) : v128.load_zero<u64>(BUFFER + i * step);
      v128.store(register(insn, i), v);
    }
    return;
  }
  if (count == 2 && q && size < 3) {
    const a = v128.load(BUFFER);
    const b = v128.load(BUFFER, 16);
    v128.store(register(insn, 0), unzip(size, a, b, false));
    v128.store(register(insn, 1), unzip(size, a, b, true));
    return;
  }
  if (count == 4 && q && size < 3) {
    const a = v128.load(BUFFER);
    const b = v128.load(BUFFER, 16);
    const c = v128.load(BUFFER, 32);
    const d = v128.load(BUFFER, 48);
    const e0 = unzip(size, a, b, false);
    const e1 = unzip(size, c, d, false);
    const o0 = unzip(size, a, b, true);
    const o1 = unzip(size, c, d, true);
    v128.store(register(insn, 0), unzip(size, e0, e1, false));
    v128.store(register(insn, 1), unzip(size, o0, o1, false));
    v128.store(register(insn, 2), unzip(size, e0, e1, true));
    v128.store(register(insn, 3), unzip(size, o0, o1, true));
    return;
  }
  const elements: u32 = (q ? 16 : 8) >> size;
  for (let i: u32 = 0; i < count; i++) {
    const to = register(insn, i);
    let from: usize = BUFFER + (i << size);
    for (let e: u32 = 0; e < elements; e++) {
      putElement(size, to + (e << size), getElement(size, from));
      from += count << size;
    }
    if (!q) store<u64>(to, 0, 8);
  }
}

function unzip(size: u32, a: v128, b: v128, odd: bool): v128 {
  switch (size) {
    case 0: return odd ? odds(0, a, b) : evens(0, a, b);
    case 1: return odd ? odds(1, a, b) : evens(1, a, b);
    default: return odd ? odds(2, a, b) : evens(2, a, b);
  }
}

/** Moves the registers to BUFFER in memory order. */
function toBuffer(insn: u32, size: u32, count: u32): void {
  const q = (insn & (1 << 30)) != 0;
  const step: u32 = q ? 16 : 8;
  if (!interleaves(insn)) {
    for (let i: u32 = 0; i < count; i++) {
      if (q) v128.store(BUFFER + i * step, v128.load(register(insn, i)));
      else store<u64>(BUFFER + i * step, load<u64>(register(insn, i)));
    }
    return;
  }
  const elements: u32 = step >> size;
  for (let i: u32 = 0; i < count; i++) {
    const from = register(insn, i);
    let to: usize = BUFFER + (i << size);
    for (let e: u32 = 0; e < elements; e++) {
      putElement(size, to, getElement(size, from + (e << size)));
      to += count << size;
    }
  }
}

/** Elements of a single structure: opcode<0>:R + 1. */
// @ts-ignore: decorator
@inline
function structureSize(insn: u32): u32 {
  return (((insn >> 12) & 2) | ((insn >> 21) & 1)) + 1;
}

/** LD1 to LD4, ST1 to ST4 of one lane. The lane is Q:S:size without the bits that tell the element size. */
function single(insn: u32, base: u64, isLoad: bool): bool {
  let size = (insn >> 14) & 3;
  if (size == 2 && (insn & (1 << 10)) != 0) size = 3;
  // Q:S:size counts bytes: for wider elements its low bits are zero or tell the size.
  const lane = (((insn >> 27) & 8) | ((insn >> 10) & 7)) & ~((1 << size) - 1);
  const count = structureSize(insn);
  for (let i: u32 = 0; i < count; i++) {
    const va = base + (i << size);
    if (isLoad) {
      const v = loadElement(size, va);
      if (faulted()) return false;
      store<u64>(BUFFER + (i << 3), v);
    } else {
      storeElement(size, va, getElement(size, register(insn, i) + lane));
      if (faulted()) return false;
    }
  }
  if (isLoad) {
    for (let i: u32 = 0; i < count; i++) putElement(size, register(insn, i) + lane, load<u64>(BUFFER + (i << 3)));
  }
  writeBack(insn, base, count << size);
  return true;
}

/** LD1R to LD4R: one structure, each element in all lanes of its register. */
function loadReplicate(insn: u32, base: u64): bool {
  const size = (insn >> 10) & 3;
  const count = structureSize(insn);
  for (let i: u32 = 0; i < count; i++) {
    const v = loadElement(size, base + (i << size));
    if (faulted()) return false;
    store<u64>(BUFFER + (i << 3), v);
  }
  for (let i: u32 = 0; i < count; i++) {
    const v = load<u64>(BUFFER + (i << 3));
    const to = register(insn, i);
    switch (size) {
      case 0: v128.store(to, i8x16.splat(<i8>v)); break;
      case 1: v128.store(to, i16x8.splat(<i16>v)); break;
      case 2: v128.store(to, i32x4.splat(<i32>v)); break;
      default: v128.store(to, i64x2.splat(v));
    }
    if ((insn & (1 << 30)) == 0) store<u64>(to, 0, 8);
  }
  writeBack(insn, base, count << size);
  return true;
}
