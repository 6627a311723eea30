/** Loads and stores that decode.ts has no hot operation for, and the slow halves of those of 16 bytes and more. */
import { EC_SP_ALIGNMENT, raise } from './exception';
import { extended, setXzr, xsp, xzr } from './dp';
import { EL, FAULT, SCTLR_EL1, SP_SLOT, TLB_DATA, TLB_USER, VREGS, WATCH_ACTIVE, XREGS } from './layout';
import { alignmentAllowed, probeWrite, quadAllowed, readTable, writeTable } from './mem';
import { ACCESS_READ, ACCESS_WRITE } from './mmu';

/** A load through the TLB where it hits: parts of a wider access take this way. */
export function slowRead(va: u64, size: u32, table: u32): u64 {
  return readTable(table, va, size);
}

/**
 * Whether stores of `total` bytes in elements of `size` can all be done, where that is not sure already: they may end in
 * another page or under a watchpoint. False: FAULT is set.
 */
function pairAllowed(va: u64, size: u32, total: u32, table: u32): bool {
  if (((va ^ (va + total - 1)) & ~(<u64>0xfff)) == 0 && load<u32>(0, WATCH_ACTIVE) == 0) return true;
  return alignmentAllowed(va, size, ACCESS_WRITE) && probeWrite(va, total, table);
}

/** Two adjacent stores of `size` bytes; both or none. */
export function storePair(va: u64, size: u32, a: u64, b: u64, table: u32): void {
  if (!pairAllowed(va, size, size << 1, table)) return;
  writeTable(table, va, size, a);
  if (load<u32>(0, FAULT) != 0) return;
  writeTable(table, va + size, size, b);
}

/** LDP of two Q registers at VREGS offsets d and m; false: it faulted and changed nothing. */
export function slowLoadPairQ(va: u64, d: u32, m: u32, table: u32): bool {
  const a = readTable(table, va, 8);
  if (load<u32>(0, FAULT) != 0) return false;
  const b = readTable(table, va + 8, 8);
  if (load<u32>(0, FAULT) != 0) return false;
  const c = readTable(table, va + 16, 8);
  if (load<u32>(0, FAULT) != 0) return false;
  const e = readTable(table, va + 24, 8);
  if (load<u32>(0, FAULT) != 0) return false;
  store<u64>(d, a, VREGS);
  store<u64>(d, b, VREGS + 8);
  store<u64>(m, c, VREGS);
  store<u64>(m, e, VREGS + 8);
  return true;
}

/** STP of two Q registers. FAULT tells whether it worked. */
export function slowStorePairQ(va: u64, d: u32, m: u32, table: u32): void {
  if (!pairAllowed(va, 8, 32, table)) return;
  storePair(va, 8, load<u64>(d, VREGS), load<u64>(d, VREGS + 8), table);
  if (load<u32>(0, FAULT) == 0) storePair(va + 16, 8, load<u64>(m, VREGS), load<u64>(m, VREGS + 8), table);
}

export { slowZero } from './mem';

/** SCTLR_EL1.SA and SA0: a base register SP must be aligned to 16 bytes (D1.8.2). False: the exception is raised. */
export function stackAligned(): bool {
  if ((load<u64>(SP_SLOT << 3, XREGS) & 15) == 0) return true;
  const enable: u64 = load<u32>(0, EL) == 0 ? 16 : 8;
  if ((load<u64>(0, SCTLR_EL1) & enable) == 0) return true;
  raise(EC_SP_ALIGNMENT, 0);
  return false;
}

/** Writes a loaded value to Xt, extended as opc says: 1 zero, 2 sign to 64, 3 sign to 32 bits. */
function setLoaded(rt: u32, v: u64, size: u32, opc: u32): void {
  if (opc >= 2) {
    const up = <i64>(64 - (size << 3));
    v = <u64>((<i64>v << up) >> up);
    if (opc == 3) v &= 0xffff_ffff;
  }
  setXzr(rt, v);
}

/** LDTR*, STTR* and LDPSW. FAULT tells whether it worked. */
export function execMemory(insn: u32, pc: u64): void {
  const rt = insn & 31;
  const rn = (insn >> 5) & 31;
  if (rn == 31 && !stackAligned()) return;
  if (((insn >> 27) & 7) == 5) {
    // LDPSW: imm7 in words; index 1 post, 2 offset, 3 pre.
    const index = (insn >> 23) & 3;
    const offset = <u64>(<i64>(<i32>(insn << 10) >> 25) << 2);
    const base = xsp(rn);
    const va = index == 1 ? base : base + offset;
    const table = load<u32>(0, TLB_DATA);
    const a = readTable(table, va, 4);
    if (load<u32>(0, FAULT) != 0) return;
    const b = readTable(table, va + 4, 4);
    if (load<u32>(0, FAULT) != 0) return;
    if (index != 2) store<u64>(rn << 3, base + offset, XREGS);
    setXzr(rt, <u64><i64><i32>a);
    setXzr((insn >> 10) & 31, <u64><i64><i32>b);
    return;
  }
  // Unprivileged: EL0's rights from EL1 (UAO is not implemented).
  const size: u32 = 1 << (insn >> 30);
  const opc = (insn >> 22) & 3;
  const va = xsp(rn) + <u64><i64>(<i32>(insn << 11) >> 23);
  const table = load<u32>(0, TLB_USER);
  if (opc == 0) {
    writeTable(table, va, size, xzr(rt));
    return;
  }
  const v = readTable(table, va, size);
  if (load<u32>(0, FAULT) == 0) setLoaded(rt, v, size, opc);
}

function loadV(rt: u32, va: u64, size: u32): bool {
  if (size == 16 && !quadAllowed(va, ACCESS_READ)) return false;
  const table = load<u32>(0, TLB_DATA);
  const low = readTable(table, va, size > 8 ? 8 : size);
  if (load<u32>(0, FAULT) != 0) return false;
  let high: u64 = 0;
  if (size == 16) {
    high = readTable(table, va + 8, 8);
    if (load<u32>(0, FAULT) != 0) return false;
  }
  store<u64>(rt << 4, low, VREGS);
  store<u64>(rt << 4, high, VREGS + 8);
  return true;
}

function storeV(rt: u32, va: u64, size: u32): bool {
  if (size == 16 && !quadAllowed(va, ACCESS_WRITE)) return false;
  const table = load<u32>(0, TLB_DATA);
  if (size == 16) storePair(va, 8, load<u64>(rt << 4, VREGS), load<u64>(rt << 4, VREGS + 8), table);
  else writeTable(table, va, size, load<u64>(rt << 4, VREGS));
  return load<u32>(0, FAULT) == 0;
}

/** SIMD&FP loads and stores: literal, pair, and single of B and H registers. */
export function execFpMemory(insn: u32, pc: u64): void {
  const rt = insn & 31;
  const rn = (insn >> 5) & 31;
  const group = (insn >> 27) & 7;
  if (group == 3) {
    // LDR (literal, SIMD&FP): opc 0 S, 1 D, 2 Q.
    loadV(rt, pc + <u64><i64>((<i32>(insn << 8) >> 13) << 2), 4 << (insn >> 30));
    return;
  }
  if (rn == 31 && !stackAligned()) return;
  if (group == 5) {
    const size: u32 = 4 << (insn >> 30);
    const index = (insn >> 23) & 3;
    const offset = <u64>(<i64>(<i32>(insn << 10) >> 25) * <i64>size);
    const base = xsp(rn);
    const va = index == 1 ? base : base + offset;
    const rt2 = (insn >> 10) & 31;
    if (((insn >> 22) & 1) != 0) {
      // Both halves are read before a register changes.
      const a0 = load<u64>(rt << 4, VREGS);
      const a1 = load<u64>(rt << 4, VREGS + 8);
      if (!loadV(rt, va, size)) return;
      if (!loadV(rt2, va + size, size)) {
        store<u64>(rt << 4, a0, VREGS);
        store<u64>(rt << 4, a1, VREGS + 8);
        return;
      }
    } else {
      if (!pairAllowed(va, size > 8 ? 8 : size, size << 1, load<u32>(0, TLB_DATA))) return;
      if (!storeV(rt, va, size) || !storeV(rt2, va + size, size)) return;
    }
    if ((index & 1) != 0) store<u64>(rn << 3, base + offset, XREGS);
    return;
  }
  const size: u32 = ((insn >> 23) & 1) != 0 ? 16 : 1 << (insn >> 30);
  const isLoad = ((insn >> 22) & 1) != 0;
  const base = xsp(rn);
  let va = base;
  let after = base;
  if (((insn >> 24) & 1) != 0) va = base + <u64>(((insn >> 10) & 0xfff) * size);
  else if (((insn >> 21) & 1) != 0) {
    const shift: u32 = ((insn >> 12) & 1) != 0 ? ctz<u32>(size) : 0;
    va = base + extended(xzr((insn >> 16) & 31), (insn >> 13) & 7, shift);
  } else {
    const offset = <u64><i64>(<i32>(insn << 11) >> 23);
    const mode = (insn >> 10) & 3;
    if (mode != 1) va = base + offset;
    if (mode != 0) after = base + offset;
  }
  if (isLoad ? loadV(rt, va, size) : storeV(rt, va, size)) store<u64>(rn << 3, after, XREGS);
}
