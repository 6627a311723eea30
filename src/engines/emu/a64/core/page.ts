/**
 * Decoded pages. Each 4 KiB of guest memory that was executed has 1024 decoded operations of 16 bytes, made on first
 * execution, by physical page: no translation change touches them. They go when the guest says that it wrote code
 * (IC IVAU, IC IALLU), as the architecture asks of it (DDI 0487, B2.7.4).
 */
import { EC_PC_ALIGNMENT, raise } from './exception';
import { DECODED, DECODED_END, FAULT_FAR, PAGE_MAP, PAGE_MAP_SIZE, PAGE_OPS, PAGE_VA, RAM, TCR_EL1, TLB_DATA, TLB_USER, WALK_PA } from './layout';
import { tlbEntry } from './mem';
import { ACCESS_EXECUTE, FSC_EXTERNAL, fault, fill, physical, translate } from './mmu';
import { PAGE_END } from './ops';

/** Behind the 1024 operations: PAGE_END, then the linear address of the guest page. */
export const PAGE_HOST: u32 = 1025 * 16;
const PAGE_STRIDE: u32 = PAGE_HOST + 16;

let nextFree: u32 = DECODED;

/** Forgets every decoded page. */
export function flushDecoded(): void {
  memory.fill(PAGE_MAP, 0, PAGE_MAP_SIZE);
  nextFree = DECODED;
  store<u32>(0, 0, PAGE_OPS);
}

/** Forgets what was decoded of the 64-byte line at linear address `host`. */
export function forgetLine(host: u32): void {
  if (host < <u32>RAM) return;
  const page = load<u32>(PAGE_MAP + (((host - RAM) >> 12) << 2));
  if (page == 0) return;
  const first = page + ((host & 0xfc0) << 2);
  memory.fill(first, 0, 256);
  // The operation before the line may be a compare fused with the line's first branch, and the one before that may be
  // paired with it. Their instructions are what they were: only what to do is forgotten, not the operands, which the
  // operation before those two may use as its pair's.
  if (first != page) {
    store<u16>(first - 16, 0);
    store<u16>(first - 32, 0);
  }
}

/** The decoded page of the guest page at linear address `host`. */
function decodedPage(host: u32): u32 {
  const slot = PAGE_MAP + (((host - RAM) >> 12) << 2);
  const known = load<u32>(slot);
  if (known != 0) return known;
  if (nextFree + PAGE_STRIDE > <u32>DECODED_END) flushDecoded();
  const page = nextFree;
  nextFree += PAGE_STRIDE;
  memory.fill(page, 0, PAGE_STRIDE);
  store<u16>(page + 1024 * 16, <u16>PAGE_END);
  store<u32>(page + PAGE_HOST, host);
  store<u32>(slot, page);
  return page;
}

/** The address that enterPage() last fetched from: where an exception that it raised returns to. */
export let fetchAddress: u64 = 0;

/** AArch64.BranchAddr(): with TBI for its half, an address loses its tag (D4.1.1). */
export function branchAddress(va: u64): u64 {
  const high = (va >> 55) & 1;
  if (((load<u64>(0, TCR_EL1) >> (37 + high)) & 1) == 0) return va;
  return high != 0 ? va | 0xff00_0000_0000_0000 : va & 0x00ff_ffff_ffff_ffff;
}

/**
 * Makes the page of `va` current and returns the decoded operation there. 0: an instruction abort or PC alignment
 * fault was raised.
 */
export function enterPage(va: u64): u32 {
  va = branchAddress(va);
  fetchAddress = va;
  if ((va & 3) != 0) {
    raise(EC_PC_ALIGNMENT, 0);
    store<u64>(0, va, FAULT_FAR);
    return 0;
  }
  const table = load<u32>(0, TLB_DATA);
  const entry = tlbEntry(table, va);
  let host: u32;
  if ((va ^ load<u64>(entry, 16)) < 4096) host = (u32(va) + load<u32>(entry, 24)) & ~0xfff;
  else {
    if (!translate(va, ACCESS_EXECUTE, table == load<u32>(0, TLB_USER), false)) return 0;
    host = physical(load<u64>(0, WALK_PA) & ~(<u64>0xfff), 4096, false);
    if (host == 0) {
      fault(va, ACCESS_EXECUTE, false, FSC_EXTERNAL);
      return 0;
    }
    fill(table, va, false);
  }
  const page = decodedPage(host);
  store<u32>(0, page, PAGE_OPS);
  store<u64>(0, va & ~(<u64>0xfff), PAGE_VA);
  return page + ((u32(va) & 0xfff) << 2);
}
