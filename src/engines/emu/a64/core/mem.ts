/** Guest loads and stores: the fast path through the TLB, and the slow path for everything that misses it. */
import { raiseAbort, EC_WATCHPOINT_LOWER } from './exception';
import { mmioRead, mmioWrite } from './host';
import { checkWatchpoint, watchAddress } from './debug';
import {
  CPU_ID, EL, MAILBOX, SCTLR_EL1, TLB_DATA, TLB_USER, WALK_DEVICE, WALK_PA, WATCH_ACTIVE,
} from './layout';
import {
  ACCESS_READ, ACCESS_WRITE, FSC_ALIGNMENT, beforeStore, dataCached, fault, fill, physical, translate,
} from './mmu';
import { syncClock } from './clock';

/** Linear address of the TLB entry for `va`. */
// @ts-ignore: decorator
@inline
export function tlbEntry(table: u32, va: u64): u32 {
  return table + (u32(va >> 7) & 0x7fe0);
}

// @ts-ignore: decorator
@inline
export function readHit(entry: u32, va: u64, size: u64): bool {
  return (va ^ load<u64>(entry)) < 4097 - size;
}

// @ts-ignore: decorator
@inline
export function writeHit(entry: u32, va: u64, size: u64): bool {
  return (va ^ load<u64>(entry, 8)) < 4097 - size;
}

/**
 * Whether the entry's translation allows a write. Its write tag may be withheld all the same, until the page's first
 * store (mmu.ts, written pages).
 */
function writable(entry: u32, va: u64, size: u64): bool {
  return load<u32>(entry, 28) != 0 && readHit(entry, va, size);
}

/** Linear address of `va` by an entry that hit. */
// @ts-ignore: decorator
@inline
export function hostAddress(entry: u32, va: u64): u32 {
  return u32(va) + load<u32>(entry, 24);
}

function loadHost(host: u32, size: u32): u64 {
  switch (size) {
    case 1: return <u64>load<u8>(host);
    case 2: return <u64>load<u16>(host);
    case 4: return <u64>load<u32>(host);
    default: return load<u64>(host);
  }
}

function storeHost(host: u32, size: u32, value: u64): void {
  switch (size) {
    case 1: store<u8>(host, <u8>value); break;
    case 2: store<u16>(host, <u16>value); break;
    case 4: store<u32>(host, <u32>value); break;
    default: store<u64>(host, value); break;
  }
}

/** An interrupt that the access raises lowers LIMIT itself (engine.ts), and so does who stops the vCPU. */
function deviceRead(pa: u64, size: u32): u64 {
  syncClock();
  mmioRead(load<u32>(0, CPU_ID), <u32>(pa >> 32), <u32>pa, size);
  const v = load<u64>(0, MAILBOX);
  return size == 8 ? v : v & ((<u64>1 << (size << 3)) - 1);
}

function deviceWrite(pa: u64, size: u32, value: u64): void {
  syncClock();
  store<u64>(0, value, MAILBOX);
  mmioWrite(load<u32>(0, CPU_ID), <u32>(pa >> 32), <u32>pa, size);
}

/**
 * Whether a watchpoint covers the access; then its exception is raised: DFSC 0b100010, WnR, and CM for a cache
 * maintenance instruction. Ask when nothing else can stop the access (D1.3.5.4).
 */
export function watched(va: u64, size: u32, write: bool, user: bool, cacheOp: bool): bool {
  if (load<u32>(0, WATCH_ACTIVE) == 0 || !checkWatchpoint(va, size, write, user)) return false;
  raiseAbort(EC_WATCHPOINT_LOWER, 0x22 | (u32(write) << 6) | (u32(cacheOp) << 8), watchAddress);
  return true;
}

/** SCTLR_EL1.A: an access of `size` bytes must be aligned to it. False: the fault is raised. */
export function alignmentAllowed(va: u64, size: u32, access: u32): bool {
  if ((u32(va) & (size - 1)) == 0 || (load<u64>(0, SCTLR_EL1) & 2) == 0) return true;
  fault(va, access, false, FSC_ALIGNMENT);
  return false;
}

/** Translates; Device memory takes aligned accesses only. */
function translateAligned(va: u64, access: u32, user: bool, aligned: bool): bool {
  if (!translate(va, access, user, false)) return false;
  if (aligned || load<u32>(0, WALK_DEVICE) == 0) return true;
  fault(va, access, false, FSC_ALIGNMENT);
  return false;
}

/**
 * A Q register is one access of 16 bytes to the rules of alignment, though it moves as two of 8: checks what the halves
 * would let pass. False: the fault is raised.
 */
export function quadAllowed(va: u64, access: u32): bool {
  if ((u32(va) & 15) == 0) return true;
  if (!alignmentAllowed(va, 16, access)) return false;
  return (u32(va) & 7) != 0 || translateAligned(va, access, load<u32>(0, EL) == 0, false);
}

/**
 * All that can stop an access before a byte is moved, in the order of D1.3.5.4: alignment, translation, watchpoints.
 * True: WALK_* hold the translation of `va`. An access that crosses a page may go to both. False: FAULT is set, with the
 * lowest address that faults.
 */
function permitted(va: u64, size: u32, access: u32, user: bool): bool {
  if (!alignmentAllowed(va, size, access)) return false;
  const aligned = (u32(va) & (size - 1)) == 0;
  const second = (va + size - 1) & ~(<u64>0xfff);
  if (!translateAligned(va, access, user, aligned)) return false;
  if (((va ^ second) & ~(<u64>0xfff)) != 0 && !translateAligned(second, access, user, aligned)) return false;
  return !watched(va, size, access == ACCESS_WRITE, user, false);
}

/**
 * A load of 1, 2, 4 or 8 bytes that missed the TLB, crosses a page or touches a device. `table` names the rights:
 * TLB_DATA's or TLB_USER's value. On a fault FAULT is set and the result means nothing.
 */
export function slowLoad(va: u64, size: u32, table: u32): u64 {
  if (!permitted(va, size, ACCESS_READ, table == load<u32>(0, TLB_USER))) return 0;
  if ((u32(va) & 0xfff) + size > 0x1000) {
    let v: u64 = 0;
    for (let i: u32 = 0; i < size; i++) v |= slowLoad(va + i, 1, table) << (i << 3);
    return v;
  }
  const pa = load<u64>(0, WALK_PA);
  const host = physical(pa, size, false);
  if (host == 0) return deviceRead(pa, size);
  if (load<u32>(0, WALK_DEVICE) == 0 && dataCached()) fill(table, va, false);
  return loadHost(host, size);
}

/** A store of 1, 2, 4 or 8 bytes that missed the TLB, crosses a page or touches a device. See slowLoad(). */
export function slowStore(va: u64, size: u32, value: u64, table: u32): void {
  const e = tlbEntry(table, va);
  if (!writable(e, va, size)) return walkedStore(va, size, value, table);
  const host = hostAddress(e, va);
  beforeStore(host);
  store<u64>(e, load<u64>(e), 8);
  storeHost(host, size, value);
}

function walkedStore(va: u64, size: u32, value: u64, table: u32): void {
  if (!permitted(va, size, ACCESS_WRITE, table == load<u32>(0, TLB_USER))) return;
  if ((u32(va) & 0xfff) + size > 0x1000) {
    for (let i: u32 = 0; i < size; i++) walkedStore(va + i, 1, value >> (i << 3), table);
    return;
  }
  const pa = load<u64>(0, WALK_PA);
  const host = physical(pa, size, true);
  if (host == 0) return deviceWrite(pa, size, value & (size == 8 ? ~(<u64>0) : (<u64>1 << (size << 3)) - 1));
  if (load<u32>(0, WALK_DEVICE) == 0 && dataCached()) fill(table, va, true);
  beforeStore(host);
  storeHost(host, size, value);
}

/**
 * Makes sure that a write of `size` bytes at `va` will not fault, so that an instruction of several stores changes
 * nothing when one of them cannot be done. False: FAULT is set.
 */
export function probeWrite(va: u64, size: u32, table: u32): bool {
  if (writable(tlbEntry(table, va), va, size)) return true;
  const user = table == load<u32>(0, TLB_USER);
  if (!translate(va, ACCESS_WRITE, user, false)) return false;
  // FAR is the lowest address that faults.
  const second = (va + size - 1) & ~(<u64>0xfff);
  if (((va ^ second) & ~(<u64>0xfff)) != 0 && !translate(second, ACCESS_WRITE, user, false)) return false;
  return !watched(va, size, true, user, false);
}

/**
 * The same for an atomic read and write of `size` aligned bytes. ESR_EL1.WnR is 0 where the read would fault by itself
 * (D17.2.37), and translation comes before watchpoints for both of them.
 */
export function probeAtomic(va: u64, size: u32, table: u32): bool {
  if (writable(tlbEntry(table, va), va, size)) return true;
  const user = table == load<u32>(0, TLB_USER);
  return translate(va, ACCESS_READ, user, false) && translate(va, ACCESS_WRITE, user, false) &&
    !watched(va, size, false, user, false) && !watched(va, size, true, user, false);
}

/**
 * DC ZVA of the 64 bytes around `va` when the TLB missed. It is a store of the whole block, which Device memory does not
 * take; FAR is the address that the instruction names.
 */
export function slowZero(va: u64, table: u32): void {
  const block = va & ~(<u64>63);
  if (!writable(tlbEntry(table, block), block, 64)) {
    const user = table == load<u32>(0, TLB_USER);
    if (!translateAligned(va, ACCESS_WRITE, user, false) || watched(block, 64, true, user, false)) return;
  }
  for (let i: u64 = 0; i < 64; i += 8) slowStore(block + i, 8, 0, table);
}

// @ts-ignore: decorator
@inline
export function readTable(table: u32, va: u64, size: u32): u64 {
  const e = tlbEntry(table, va);
  return readHit(e, va, size) ? loadHost(hostAddress(e, va), size) : slowLoad(va, size, table);
}

// @ts-ignore: decorator
@inline
export function writeTable(table: u32, va: u64, size: u32, value: u64): void {
  const e = tlbEntry(table, va);
  if (writeHit(e, va, size)) storeHost(hostAddress(e, va), size, value);
  else slowStore(va, size, value, table);
}

/** Loads with the current level's rights; FAULT tells whether it worked. */
export function loadU8(va: u64): u64 {
  return readTable(load<u32>(0, TLB_DATA), va, 1);
}
export function loadU16(va: u64): u64 {
  return readTable(load<u32>(0, TLB_DATA), va, 2);
}
export function loadU32(va: u64): u64 {
  return readTable(load<u32>(0, TLB_DATA), va, 4);
}
export function loadU64(va: u64): u64 {
  return readTable(load<u32>(0, TLB_DATA), va, 8);
}
/** Stores with the current level's rights; FAULT tells whether it worked. */
export function storeU8(va: u64, value: u64): void {
  writeTable(load<u32>(0, TLB_DATA), va, 1, value);
}
export function storeU16(va: u64, value: u64): void {
  writeTable(load<u32>(0, TLB_DATA), va, 2, value);
}
export function storeU32(va: u64, value: u64): void {
  writeTable(load<u32>(0, TLB_DATA), va, 4, value);
}
export function storeU64(va: u64, value: u64): void {
  writeTable(load<u32>(0, TLB_DATA), va, 8, value);
}
