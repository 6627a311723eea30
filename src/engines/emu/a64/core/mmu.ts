/**
 * Stage 1 translation for EL1 and EL0 (DDI 0487, chapter D8) and the TLBs in front of it.
 *
 * A vCPU has BANKS banks, one for each ASID that was used lately (bank = ASID mod BANKS), so that a context switch or
 * a KPTI kernel's change of ASID at every system call costs nothing. A bank has three tables of 1024 entries for the
 * three sets of rights that one translation can give: EL1, EL1 with PSTATE.PAN set, EL0. An entry is 32 bytes:
 *
 *   +0 read tag   +8 write tag   +16 execute tag   (u64, a page's virtual address)   +24 addend (u32)
 *   +28 whether the translation allows stores (u32)
 *
 * An access of n bytes hits when (va ^ tag) < 4097 - n, which is also the test for crossing the page; its bytes are at
 * linear address u32(va) + addend. The tag that never matches in entry i is page i ^ 1. Only normal memory has read
 * and write tags: Device memory takes the slow path, where alignment is checked.
 *
 * Written pages. While TRACKING is set, an entry gets its write tag only by a store: the first one to a page misses,
 * and beforeStore() notes the page. Whoever collects takes the write tags away again. What the translation allows stays
 * in the entry, so that a store whose tag is withheld walks no table: a guest sees the same TLB with tracking and
 * without.
 */
import { EC_DABORT_LOWER, EC_IABORT_LOWER, raiseAbort } from './exception';
import { firstWrite } from './host';
import {
  CORE_TLBS, CPU_COUNT, CPU_ID, CPU_TLB_SIZE, EL, MAIR_EL1, PAGE_OPS, PAN, PROTECTED, RAM, REGIONS, REGION_COUNT,
  REGION_SIZE, SCTLR_EL1, TCR_EL1, TLB_BANK, TLB_DATA, TLB_USER, TRACKING, TTBR0_EL1, TTBR1_EL1, UNPLUGGED,
  WALK_BLOCK, WALK_DEVICE, WALK_PA, WALK_RIGHTS, WATCH_ACTIVE, WRITTEN,
} from './layout';

const BANKS: u32 = 16;
const TABLE_SIZE: u32 = 0x8000;
const BANK_SIZE: u32 = 0x20000;
// What a bank keeps behind its three tables.
const BANK_ASID: u32 = 3 * TABLE_SIZE; // u32
const BANK_USED: u32 = BANK_ASID + 4; // u32: bit n = table n has entries
const BANK_BLOCKS: u32 = BANK_ASID + 8; // u32: bit 0 = holds pieces of block mappings of the low half, bit 1 high half
const BANK_LOW: u32 = BANK_ASID + 16; // u64 first, u64 last byte of those in the low half
const BANK_HIGH: u32 = BANK_ASID + 32; // the same for the high half

const TABLE_EL1: u32 = 0;
const TABLE_EL1_PAN: u32 = 1;
const TABLE_EL0: u32 = 2;

export const ACCESS_READ: u32 = 0;
export const ACCESS_WRITE: u32 = 1;
export const ACCESS_EXECUTE: u32 = 2;

// Rights of a translation in WALK_RIGHTS: bit (access) for EL1, bit (3 + access) for EL0.
const EL1_R: u32 = 1;
const EL1_W: u32 = 2;
const EL1_X: u32 = 4;
const EL0_R: u32 = 8;
const EL0_W: u32 = 16;
const EL0_X: u32 = 32;

// Fault status codes without the level (D17.2.37, DFSC/IFSC).
const FSC_ADDRESS_SIZE: u32 = 0x00;
const FSC_TRANSLATION: u32 = 0x04;
const FSC_ACCESS_FLAG: u32 = 0x08;
const FSC_PERMISSION: u32 = 0x0c;
export const FSC_EXTERNAL: u32 = 0x10;
export const FSC_EXTERNAL_ON_WALK: u32 = 0x14;
export const FSC_ALIGNMENT: u32 = 0x21;

/** Output address size that ID_AA64MMFR0_EL1.PARange advertises. */
const PA_BITS: u64 = 48;
const NO_WALK_FAULT: u32 = 0xff;

/** Memory attributes of the last successful walk as PAR_EL1 has them: ATTR in bits 63:56, SH in 8:7. */
export let walkAttributes: u64 = 0;
const OUTER_SHAREABLE: u64 = 2 << 7;

// @ts-ignore: decorator
@inline
function bankAddress(cpu: u32, bank: u32): u32 {
  return CORE_TLBS + cpu * CPU_TLB_SIZE + bank * BANK_SIZE;
}

function clearTable(table: u32): void {
  for (let i: u32 = 0; i < 1024; i++) {
    const tag = <u64>(i ^ 1) << 12;
    store<u64>(table + (i << 5), tag);
    store<u64>(table + (i << 5), tag, 8);
    store<u64>(table + (i << 5), tag, 16);
  }
}

function clearBank(bank: u32): void {
  const used = load<u32>(bank + BANK_USED);
  for (let t: u32 = 0; t < 3; t++) if ((used & (1 << t)) != 0) clearTable(bank + t * TABLE_SIZE);
  store<u32>(bank + BANK_USED, 0);
  store<u32>(bank + BANK_BLOCKS, 0);
}

/** Makes a vCPU's TLB valid and empty, whatever its memory holds. */
export function resetTlb(cpu: u32): void {
  for (let b: u32 = 0; b < BANKS; b++) {
    const bank = bankAddress(cpu, b);
    store<u32>(bank + BANK_USED, 7);
    clearBank(bank);
    store<u32>(bank + BANK_ASID, b);
  }
}

/** The ASID in use: of the TTBR that TCR_EL1.A1 selects, 8 or 16 bits by TCR_EL1.AS. */
function currentAsid(): u32 {
  const tcr = load<u64>(0, TCR_EL1);
  const ttbr = (tcr >> 22) & 1 ? load<u64>(0, TTBR1_EL1) : load<u64>(0, TTBR0_EL1);
  return u32(ttbr >> 48) & ((tcr >> 36) & 1 ? 0xffff : 0xff);
}

/** Points TLB_DATA at the table for the current level and PAN. */
export function selectTables(): void {
  const bank = load<u32>(0, TLB_BANK);
  const user = bank + TABLE_EL0 * TABLE_SIZE;
  store<u32>(0, user, TLB_USER);
  const data = load<u32>(0, EL) == 0 ? user : bank + load<u32>(0, PAN) * TABLE_SIZE;
  store<u32>(0, data, TLB_DATA);
  store<u32>(0, 0, PAGE_OPS);
}

/** After a write of TTBR0_EL1 or TTBR1_EL1: goes to the bank of the ASID that is now current. */
export function asidChanged(): void {
  const asid = currentAsid();
  const bank = bankAddress(load<u32>(0, CPU_ID), asid & (BANKS - 1));
  if (load<u32>(bank + BANK_ASID) != asid) {
    clearBank(bank);
    store<u32>(bank + BANK_ASID, asid);
  }
  store<u32>(0, bank, TLB_BANK);
  selectTables();
}

/** After a change that gives all translations another meaning (SCTLR_EL1, TCR_EL1, MAIR_EL1): forgets them. */
export function regimeChanged(): void {
  flushCpu(load<u32>(0, CPU_ID));
  asidChanged();
}

function flushCpu(cpu: u32): void {
  for (let b: u32 = 0; b < BANKS; b++) clearBank(bankAddress(cpu, b));
}

/**
 * The regions of guest memory have changed, perhaps in the middle of an instruction's store: forgets every translation. The
 * page that executes stays: its decoded operations are by host address, and the program counter follows from them.
 */
export function regionsChanged(): void {
  const n = load<u32>(0, CPU_COUNT);
  for (let c: u32 = 0; c < n; c++) flushCpu(c);
}

/** TLBI VMALLE1, ALLE1; `all`: the Inner Shareable form. */
export function tlbiAll(all: bool): void {
  if (all) {
    const n = load<u32>(0, CPU_COUNT);
    for (let c: u32 = 0; c < n; c++) flushCpu(c);
  } else flushCpu(load<u32>(0, CPU_ID));
  store<u32>(0, 0, PAGE_OPS);
}

/** TLBI ASIDE1. Global entries of the bank go too, which the architecture allows. */
export function tlbiAsid(asid: u32, all: bool): void {
  if (((load<u64>(0, TCR_EL1) >> 36) & 1) == 0) asid &= 0xff;
  const n = all ? load<u32>(0, CPU_COUNT) : 1;
  for (let c: u32 = 0; c < n; c++) {
    const bank = bankAddress(all ? c : load<u32>(0, CPU_ID), asid & (BANKS - 1));
    if (load<u32>(bank + BANK_ASID) == asid) clearBank(bank);
  }
  store<u32>(0, 0, PAGE_OPS);
}

/**
 * TLBI VAE1, VAAE1 and their last-level forms: `va` is the page's address with bits 63:56 zero. The page goes from
 * every bank, since a global entry may be in each.
 */
export function tlbiVa(va: u64, all: bool): void {
  const pages: u32 = 1 << (largestGranule() - 12);
  const first = u32(va >> 12) & ~(pages - 1);
  const n = all ? load<u32>(0, CPU_COUNT) : 1;
  for (let c: u32 = 0; c < n; c++) {
    for (let b: u32 = 0; b < BANKS; b++) {
      const bank = bankAddress(all ? c : load<u32>(0, CPU_ID), b);
      const used = load<u32>(bank + BANK_USED);
      if (used == 0) continue;
      if (inBlocks(bank, va)) {
        clearBank(bank);
        continue;
      }
      for (let t: u32 = 0; t < 3; t++) {
        if ((used & (1 << t)) == 0) continue;
        for (let p: u32 = 0; p < pages; p++) {
          const i = (first + p) & 1023;
          const entry = bank + t * TABLE_SIZE + (i << 5);
          const tag = <u64>(i ^ 1) << 12;
          store<u64>(entry, tag);
          store<u64>(entry, tag, 8);
          store<u64>(entry, tag, 16);
        }
      }
    }
  }
  store<u32>(0, 0, PAGE_OPS);
}

function largestGranule(): u32 {
  const tcr = load<u64>(0, TCR_EL1);
  const a = granule0(tcr);
  const b = granule1(tcr);
  return a > b ? a : b;
}

/** log2 of the granule of the low half: TCR_EL1.TG0. The reserved value is taken as 4 KiB. */
function granule0(tcr: u64): u32 {
  const tg = u32(tcr >> 14) & 3;
  return tg == 1 ? 16 : tg == 2 ? 14 : 12;
}

/** log2 of the granule of the high half: TCR_EL1.TG1. */
function granule1(tcr: u64): u32 {
  const tg = u32(tcr >> 30) & 3;
  return tg == 3 ? 16 : tg == 1 ? 14 : 12;
}

/** True when `va` (bits 55:0) may lie in a block mapping of which the bank holds pieces: all of them must go. */
function inBlocks(bank: u32, va: u64): bool {
  const blocks = load<u32>(bank + BANK_BLOCKS);
  const high = u32(va >> 55) & 1;
  if ((blocks & (1 << high)) == 0) return false;
  const range = bank + (high != 0 ? BANK_HIGH : BANK_LOW);
  return va >= load<u64>(range) && va <= load<u64>(range, 8);
}

function noteBlock(bank: u32, va: u64, size: u64): void {
  const high = u32(va >> 55) & 1;
  const first = va & 0x00ff_ffff_ffff_ffff & ~(size - 1);
  const last = first + size - 1;
  const range = bank + (high != 0 ? BANK_HIGH : BANK_LOW);
  const blocks = load<u32>(bank + BANK_BLOCKS);
  if ((blocks & (1 << high)) == 0) {
    store<u64>(range, first);
    store<u64>(range, last, 8);
    store<u32>(bank + BANK_BLOCKS, blocks | (1 << high));
    return;
  }
  if (first < load<u64>(range)) store<u64>(range, first);
  if (last > load<u64>(range, 8)) store<u64>(range, last, 8);
}

/** Linear address of guest-physical `pa` when [pa, pa+size) is memory of one page and may be accessed so, else 0. */
export function physical(pa: u64, size: u32, write: bool): u32 {
  const n = load<u32>(0, REGION_COUNT);
  for (let i: u32 = 0; i < n; i++) {
    const r = REGIONS + i * REGION_SIZE;
    const offset = pa - load<u64>(r);
    const bytes = load<u64>(r, 8);
    if (offset < bytes && bytes - offset >= <u64>size) {
      if (write && (load<u32>(r, 20) & 1) != 0) return 0;
      const host = load<u32>(r, 16) + <u32>offset;
      const block = (host - <u32>RAM) >> 21;
      return (load<u8>(block >> 3, UNPLUGGED) & (1 << (block & 7))) != 0 ? 0 : host;
    }
  }
  return 0;
}

// @ts-ignore: decorator
@inline
export function mmuEnabled(): bool {
  return (load<u64>(0, SCTLR_EL1) & 1) != 0;
}

/**
 * Translates `va` for the current context. Success: WALK_PA, WALK_RIGHTS, WALK_DEVICE and WALK_BLOCK are set and the
 * result is NO_WALK_FAULT. Else the fault status code. Rights are the caller's to check.
 */
function walk(va: u64): u32 {
  const sctlr = load<u64>(0, SCTLR_EL1);
  const tcr = load<u64>(0, TCR_EL1);
  const high = u32(va >> 55) & 1;
  store<u64>(0, 0, WALK_BLOCK);
  if ((sctlr & 1) == 0) {
    // D8.2.9: flat, data accesses are Device-nGnRnE.
    const plain = (tcr >> (37 + high)) & 1 ? va & 0x00ff_ffff_ffff_ffff : va;
    if (plain >> PA_BITS != 0) return FSC_ADDRESS_SIZE;
    store<u64>(0, plain, WALK_PA);
    store<u32>(0, 0x3f, WALK_RIGHTS);
    store<u32>(0, 1, WALK_DEVICE);
    walkAttributes = OUTER_SHAREABLE;
    return NO_WALK_FAULT;
  }
  const tsz = high != 0 ? u32(tcr >> 16) & 63 : u32(tcr) & 63;
  const epd = high != 0 ? (tcr >> 23) & 1 : (tcr >> 7) & 1;
  const tbi = high != 0 ? (tcr >> 38) & 1 : (tcr >> 37) & 1;
  const shift = high != 0 ? granule1(tcr) : granule0(tcr);
  // Sizes outside 25..48 bits behave as the nearest one that is implemented (D8.1.9 permits it).
  const bits = tsz < 16 ? 48 : tsz > 39 ? 25 : 64 - tsz;
  const top: u64 = (tbi != 0 ? va & 0x00ff_ffff_ffff_ffff : va) >> bits;
  const wanted: u64 = high != 0 ? (tbi != 0 ? 0x00ff_ffff_ffff_ffff >> bits : 0xffff_ffff_ffff_ffff >> bits) : 0;
  if (epd != 0 || top != wanted) return FSC_TRANSLATION;

  const ips = u32(tcr >> 32) & 7;
  const outBits: u64 = ips == 0 ? 32 : ips == 1 ? 36 : ips == 2 ? 40 : ips == 3 ? 42 : ips == 4 ? 44 : 48;
  const stride = shift - 3;
  const levels = (bits - shift + stride - 1) / stride;
  let level: u32 = 4 - levels;
  const firstBits = bits - shift - (levels - 1) * stride;
  const ttbr = high != 0 ? load<u64>(0, TTBR1_EL1) : load<u64>(0, TTBR0_EL1);
  // The table is aligned to its size; only 52-bit addresses ask for 64 bytes (D8.2.5).
  let table = (ttbr & 0x0000_ffff_ffff_fffe) & ~((<u64>8 << firstBits) - 1);
  if (table >> outBits != 0) return FSC_ADDRESS_SIZE;
  let indexBits = firstBits;
  let noExecUser = false;
  let noExecKernel = false;
  let noUser = false;
  let readOnly = false;

  while (true) {
    const below = shift + (3 - level) * stride;
    const index = (va >> below) & ((<u64>1 << indexBits) - 1);
    const at = physical(table + (index << 3), 8, false);
    if (at == 0) return FSC_EXTERNAL_ON_WALK + level;
    const d = load<u64>(at);
    if ((d & 1) == 0) return FSC_TRANSLATION + level;
    const isTable = (d & 2) != 0;
    if (level < 3 && isTable) {
      table = d & 0x0000_ffff_ffff_ffff & ~((<u64>1 << shift) - 1);
      if (table >> outBits != 0) return FSC_ADDRESS_SIZE + level;
      noExecUser = noExecUser || ((d >> 60) & 1) != 0;
      noExecKernel = noExecKernel || ((d >> 59) & 1) != 0;
      noUser = noUser || ((d >> 61) & 1) != 0;
      readOnly = readOnly || ((d >> 62) & 1) != 0;
      level++;
      indexBits = stride;
      continue;
    }
    // A block is allowed at levels 1 and 2 with 4 KiB pages, at level 2 with larger ones; level 3 must say page.
    if (level == 3 ? !isTable : !(level == 2 || (level == 1 && shift == 12))) return FSC_TRANSLATION + level;
    const pa = d & 0x0000_ffff_ffff_ffff & ~((<u64>1 << below) - 1);
    if (pa >> outBits != 0) return FSC_ADDRESS_SIZE + level;
    if (((d >> 10) & 1) == 0) return FSC_ACCESS_FLAG + level;
    if (level != 3) store<u64>(0, <u64>1 << below, WALK_BLOCK);
    const user = !noUser && ((d >> 6) & 1) != 0;
    const write = !readOnly && ((d >> 7) & 1) == 0;
    const wxn = ((sctlr >> 19) & 1) != 0;
    let rights = EL1_R;
    if (write) rights |= EL1_W;
    if (user) rights |= write ? EL0_R | EL0_W : EL0_R;
    // What EL0 may write, EL1 never executes (D8.4.5).
    if (!noExecKernel && ((d >> 53) & 1) == 0 && !(user && write) && !(wxn && write)) rights |= EL1_X;
    if (!noExecUser && ((d >> 54) & 1) == 0 && !(wxn && user && write)) rights |= EL0_X;
    const attr = u32(load<u64>(0, MAIR_EL1) >> (((d >> 2) & 7) << 3)) & 0xff;
    store<u64>(0, pa | (va & ((<u64>1 << below) - 1)), WALK_PA);
    store<u32>(0, rights, WALK_RIGHTS);
    // Attribute 0b0000xxxx is Device; the rest is normal memory to us.
    store<u32>(0, u32((attr & 0xf0) == 0), WALK_DEVICE);
    // Device and Non-cacheable memory is Outer Shareable whatever the descriptor says (PAR_EL1.SH).
    walkAttributes = (<u64>attr << 56) | ((attr & 0xf0) == 0 || attr == 0x44 ? OUTER_SHAREABLE : ((d >> 8) & 3) << 7);
    // The level, for a permission fault.
    return NO_WALK_FAULT + (level << 8);
  }
}

/**
 * Translates for one access. On a fault the exception is raised and the result is false. `user`: with EL0's rights.
 * `cacheOp`: an address operation of DC/IC, which reports as a write with ISS.CM set.
 */
export function translate(va: u64, access: u32, user: bool, cacheOp: bool): bool {
  const result = walk(va);
  let code: u32;
  if ((result & 0xff) == NO_WALK_FAULT) {
    const rights = load<u32>(0, WALK_RIGHTS);
    const need: u32 = <u32>1 << (user ? 3 + access : access);
    let allowed = (rights & need) != 0;
    // PAN: EL1 data accesses to what EL0 can reach fault (D8.4.6). Not with the MMU off.
    if (!user && access != ACCESS_EXECUTE && load<u32>(0, PAN) != 0 && load<u32>(0, EL) != 0 && (rights & EL0_R) != 0 && mmuEnabled() && !cacheOp) allowed = false;
    if (allowed) return true;
    code = FSC_PERMISSION + (result >> 8);
  } else code = result;
  fault(va, access, cacheOp, code);
  return false;
}

/** Raises the data or instruction abort with fault status `code`. */
export function fault(va: u64, access: u32, cacheOp: bool, code: u32): void {
  if (access == ACCESS_EXECUTE) raiseAbort(EC_IABORT_LOWER, code, va);
  else raiseAbort(EC_DABORT_LOWER, code | ((access == ACCESS_WRITE || cacheOp ? 1 : 0) << 6) | (u32(cacheOp) << 8), va);
}

/** For AT: translates without raising; the result is 0 or the fault status code | 0x80. WALK_* are set when it is 0. */
export function probe(va: u64, access: u32, user: bool): u32 {
  const result = walk(va);
  if ((result & 0xff) != NO_WALK_FAULT) return 0x80 | result;
  const need: u32 = <u32>1 << (user ? 3 + access : access);
  return (load<u32>(0, WALK_RIGHTS) & need) != 0 ? 0 : 0x80 | (FSC_PERMISSION + (result >> 8));
}

/** Whether loads and stores may hit the TLB: not with SCTLR_EL1.A or while a watchpoint is set. */
export function dataCached(): bool {
  return load<u32>(0, WATCH_ACTIVE) == 0 && (load<u64>(0, SCTLR_EL1) & 2) == 0;
}

/**
 * Enters the translation that WALK_* hold for the page of `va` into `table`. Only memory gets in; Device memory only
 * for execution (with the MMU off, code is fetched from it all the same). `forStore`: for a store, which
 * beforeStore() notes.
 */
export function fill(table: u32, va: u64, forStore: bool): void {
  const page = va & ~(<u64>0xfff);
  const host = physical(load<u64>(0, WALK_PA) & ~(<u64>0xfff), 4096, false);
  if (host == 0) return;
  const bank = load<u32>(0, TLB_BANK);
  const t = (table - bank) >> 15;
  let rights = load<u32>(0, WALK_RIGHTS);
  if (t == TABLE_EL0) rights >>= 3;
  else if (t == TABLE_EL1_PAN && (rights & EL0_R) != 0 && mmuEnabled()) rights &= ~(EL1_R | EL1_W);
  // Alignment checks and watchpoints need the slow path, too, when the entry is made for a fetch.
  if (load<u32>(0, WALK_DEVICE) != 0 || !dataCached()) rights &= ~(EL1_R | EL1_W);
  if ((rights & EL1_W) != 0 && physical(load<u64>(0, WALK_PA) & ~(<u64>0xfff), 4096, true) == 0) rights &= ~EL1_W;
  const i = u32(page >> 12) & 1023;
  const entry = table + (i << 5);
  const none = <u64>(i ^ 1) << 12;
  store<u64>(entry, (rights & EL1_R) != 0 ? page : none);
  const writable = (rights & EL1_W) != 0;
  store<u64>(entry, writable && (forStore || load<u32>(0, TRACKING) == 0) ? page : none, 8);
  store<u64>(entry, (rights & EL1_X) != 0 ? page : none, 16);
  store<u32>(entry, host - <u32>page, 24);
  store<u32>(entry, u32(writable), 28);
  store<u32>(bank + BANK_USED, load<u32>(bank + BANK_USED) | (1 << t));
  const block = load<u64>(0, WALK_BLOCK);
  if (block != 0) noteBlock(bank, va, block);
}

/**
 * Every store to memory comes by here unless its write tag hits: notes that the page at linear address `host` is
 * written, and tells a host that asked before it happens.
 */
export function beforeStore(host: u32): void {
  if (load<u32>(0, TRACKING) == 0) return;
  const page = (host - <u32>RAM) >> 12;
  const at = page >> 3;
  const bit: u32 = 1 << (page & 7);
  // Again, if the host has protected the page anew meanwhile.
  for (let p = <u32>load<u8>(at, PROTECTED); (p & bit) != 0; p = <u32>load<u8>(at, PROTECTED)) {
    store<u8>(at, p & ~bit, PROTECTED);
    firstWrite(page);
  }
  store<u8>(at, <u32>load<u8>(at, WRITTEN) | bit, WRITTEN);
}

/** Takes the write tags from all TLBs: the next store to each page is noted. */
export function withholdWrites(): void {
  const n = load<u32>(0, CPU_COUNT);
  for (let c: u32 = 0; c < n; c++) {
    for (let b: u32 = 0; b < BANKS; b++) {
      const bank = bankAddress(c, b);
      const used = load<u32>(bank + BANK_USED);
      for (let t: u32 = 0; t < 3; t++) {
        if ((used & (1 << t)) == 0) continue;
        const table = bank + t * TABLE_SIZE;
        for (let i: u32 = 0; i < 1024; i++) store<u64>(table + (i << 5), <u64>(i ^ 1) << 12, 8);
      }
    }
  }
}
