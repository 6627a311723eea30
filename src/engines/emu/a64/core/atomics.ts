/** Exclusives, ordered accesses and the LSE atomics (DDI 0487, B2.9 and C3.2.12). All vCPUs run on one thread. */
import { xsp, xzr, setXzr } from './dp';
import { EXCLUSIVE_ADDRESS, EXCLUSIVE_SIZE, FAULT, TLB_DATA } from './layout';
import { stackAligned } from './memory-ops';
import { probeAtomic, probeWrite, readTable, tlbEntry, writeTable } from './mem';
import { ACCESS_READ, ACCESS_WRITE, FSC_ALIGNMENT, fault } from './mmu';

/** Ordered, exclusive and atomic accesses must be aligned to their whole size. False: the fault is raised. */
function aligned(va: u64, size: u32, write: bool): bool {
  if ((u32(va) & (size - 1)) == 0) return true;
  fault(va, write ? ACCESS_WRITE : ACCESS_READ, false, FSC_ALIGNMENT);
  return false;
}

/** What the monitor remembers: the linear address where memory is behind it, else the virtual one. */
function monitorAddress(va: u64): u64 {
  const entry = tlbEntry(load<u32>(0, TLB_DATA), va);
  return (va ^ load<u64>(entry)) < 4096 ? <u64>(u32(va) + load<u32>(entry, 24)) : va;
}

/**
 * LDXR, LDAXR, LDXP, LDAXP, STXR, STLXR, STXP, STLXP, LDAR, STLR, CAS, CASP. A store-exclusive passes when its address is
 * the one that was loaded, whatever the size (the architecture leaves that case open).
 */
function execExclusive(insn: u32): void {
  const size: u32 = 1 << (insn >> 30);
  const rt = insn & 31;
  const rn = (insn >> 5) & 31;
  const rt2 = (insn >> 10) & 31;
  const rs = (insn >> 16) & 31;
  const o2 = ((insn >> 23) & 1) != 0;
  const isLoad = ((insn >> 22) & 1) != 0;
  const o1 = ((insn >> 21) & 1) != 0;
  const va = xsp(rn);
  const table = load<u32>(0, TLB_DATA);

  if (o2 && !o1) {
    // LDAR, STLR
    if (!aligned(va, size, !isLoad)) return;
    if (isLoad) {
      const v = readTable(table, va, size);
      if (load<u32>(0, FAULT) == 0) setXzr(rt, v);
    } else writeTable(table, va, size, xzr(rt));
    return;
  }
  if (o2) return compareAndSwap(insn, va, size, table);
  if (o1 && (insn >> 31) == 0) return compareAndSwapPair(insn, va, table);

  const total = o1 ? size << 1 : size;
  if (!aligned(va, total, !isLoad)) return;
  if (isLoad) {
    const a = readTable(table, va, size);
    if (load<u32>(0, FAULT) != 0) return;
    let b: u64 = 0;
    if (o1) {
      b = readTable(table, va + size, size);
      if (load<u32>(0, FAULT) != 0) return;
    }
    store<u64>(0, monitorAddress(va), EXCLUSIVE_ADDRESS);
    store<u32>(0, total, EXCLUSIVE_SIZE);
    setXzr(rt, a);
    if (o1) setXzr(rt2, b);
    return;
  }
  const armed = load<u32>(0, EXCLUSIVE_SIZE) != 0;
  const where = load<u64>(0, EXCLUSIVE_ADDRESS);
  store<u32>(0, 0, EXCLUSIVE_SIZE);
  // AArch64.ExclusiveMonitorsPass(): alignment first, then the monitor, then translation.
  if (!armed || where != monitorAddress(va)) {
    setXzr(rs, 1);
    return;
  }
  if (!probeWrite(va, total, table)) return;
  writeTable(table, va, size, xzr(rt));
  if (o1 && load<u32>(0, FAULT) == 0) writeTable(table, va + size, size, xzr(rt2));
  if (load<u32>(0, FAULT) == 0) setXzr(rs, 0);
}

function compareAndSwap(insn: u32, va: u64, size: u32, table: u32): void {
  const rs = (insn >> 16) & 31;
  if (!aligned(va, size, false) || !probeAtomic(va, size, table)) return;
  const old = readTable(table, va, size);
  const mask: u64 = size == 8 ? ~(<u64>0) : (<u64>1 << (size << 3)) - 1;
  if (old == (xzr(rs) & mask)) {
    writeTable(table, va, size, xzr(insn & 31));
    if (load<u32>(0, FAULT) != 0) return;
  }
  setXzr(rs, old);
}

function compareAndSwapPair(insn: u32, va: u64, table: u32): void {
  const size: u32 = ((insn >> 30) & 1) != 0 ? 8 : 4;
  const rs = (insn >> 16) & 31;
  const rt = insn & 31;
  const mask: u64 = size == 8 ? ~(<u64>0) : 0xffff_ffff;
  if (!aligned(va, size << 1, false) || !probeAtomic(va, size << 1, table)) return;
  const a = readTable(table, va, size);
  const b = readTable(table, va + size, size);
  if (a == (xzr(rs) & mask) && b == (xzr(rs + 1) & mask)) {
    writeTable(table, va, size, xzr(rt));
    if (load<u32>(0, FAULT) != 0) return;
    writeTable(table, va + size, size, xzr(rt + 1));
    if (load<u32>(0, FAULT) != 0) return;
  }
  setXzr(rs, a);
  setXzr(rs + 1, b);
}

/** LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX, LDUMIN, SWP. */
function execLse(insn: u32): void {
  const size: u32 = 1 << (insn >> 30);
  const va = xsp((insn >> 5) & 31);
  const table = load<u32>(0, TLB_DATA);
  if (!aligned(va, size, false) || !probeAtomic(va, size, table)) return;
  const old = readTable(table, va, size);
  const up = <i64>(64 - (size << 3));
  const s = xzr((insn >> 16) & 31);
  // Both operands at the top of 64 bits, so that one comparison serves every size.
  const a = <i64>(old << <u64>up);
  const b = <i64>(s << <u64>up);
  let r: u64;
  switch ((insn >> 12) & 15) {
    case 0: r = old + s; break;
    case 1: r = old & ~s; break;
    case 2: r = old ^ s; break;
    case 3: r = old | s; break;
    case 4: r = a > b ? old : s; break;
    case 5: r = a < b ? old : s; break;
    case 6: r = <u64>a > <u64>b ? old : s; break;
    case 7: r = <u64>a < <u64>b ? old : s; break;
    default: r = s; break;
  }
  writeTable(table, va, size, r);
  if (load<u32>(0, FAULT) == 0) setXzr(insn & 31, old);
}

/** Does one instruction of the groups above; FAULT tells whether it worked. */
export function execAtomic(insn: u32): void {
  if (((insn >> 5) & 31) == 31 && !stackAligned()) return;
  if (((insn >> 28) & 3) == 0) execExclusive(insn);
  else execLse(insn);
}
