/**
 * Data-processing instructions from their encoding: what decode.ts has no hot operation for. Allocated encodings only;
 * decode.ts has checked. Section numbers are of DDI 0487, chapter C4.1.
 */
import { FLAGS_ADD, FLAGS_SUB, getNZCV, setFlags, setNZCV } from './flags';
import { XREGS } from './layout';

/** Xn, or zero for 31. */
// @ts-ignore: decorator
@inline
export function xzr(n: u32): u64 {
  return n == 31 ? 0 : load<u64>(n << 3, XREGS);
}

/** Xn, or SP for 31. */
// @ts-ignore: decorator
@inline
export function xsp(n: u32): u64 {
  return load<u64>(n << 3, XREGS);
}

// @ts-ignore: decorator
@inline
export function setXzr(n: u32, v: u64): void {
  if (n != 31) store<u64>(n << 3, v, XREGS);
}

/** ShiftReg(): LSL, LSR, ASR, ROR of a 32- or 64-bit value. */
function shifted(v: u64, type: u32, amount: u32, wide: bool): u64 {
  if (wide) {
    switch (type) {
      case 0: return v << <u64>amount;
      case 1: return v >> <u64>amount;
      case 2: return <u64>(<i64>v >> <i64>amount);
      default: return rotr<u64>(v, <u64>amount);
    }
  }
  const w = <u32>v;
  switch (type) {
    case 0: return <u64>(w << amount);
    case 1: return <u64>(w >> amount);
    case 2: return <u64><u32>(<i32>w >> <i32>amount);
    default: return <u64>rotr<u32>(w, amount);
  }
}

/** ExtendReg(): UXTB .. SXTX, then a left shift. */
export function extended(v: u64, option: u32, shift: u32): u64 {
  let r: u64;
  switch (option) {
    case 0: r = v & 0xff; break;
    case 1: r = v & 0xffff; break;
    case 2: r = v & 0xffff_ffff; break;
    case 4: r = <u64><i64><i8>v; break;
    case 5: r = <u64><i64><i16>v; break;
    case 6: r = <u64><i64><i32>v; break;
    default: r = v; break;
  }
  return r << <u64>shift;
}

/** a + b or a - b; with flags when the encoding says so. */
function addSub(rd: u32, a: u64, b: u64, insn: u32, toSp: bool): void {
  const wide = (insn >> 31) != 0;
  const sub = ((insn >> 30) & 1) != 0;
  const flags = ((insn >> 29) & 1) != 0;
  let r = sub ? a - b : a + b;
  if (flags) {
    if (wide) setFlags(sub ? FLAGS_SUB : FLAGS_ADD, a, b);
    else setFlags(sub ? FLAGS_SUB : FLAGS_ADD, a << 32, b << 32);
  }
  if (!wide) r &= 0xffff_ffff;
  if (toSp && !flags) store<u64>(rd << 3, r, XREGS);
  else setXzr(rd, r);
}

/** ADC, ADCS, SBC, SBCS. */
function addCarry(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const carry = <u64>((getNZCV() >> 1) & 1);
  const n = xzr((insn >> 5) & 31);
  const m = xzr((insn >> 16) & 31);
  let r: u64;
  let nzcv: u32;
  if (wide) {
    const b = ((insn >> 30) & 1) != 0 ? ~m : m;
    const partial = n + b;
    r = partial + carry;
    const c = u32(partial < n) | u32(r < partial);
    nzcv = (u32(r >> 63) << 3) | (u32(r == 0) << 2) | (c << 1) | u32((~(n ^ b) & (n ^ r)) >> 63);
  } else {
    const a = n & 0xffff_ffff;
    const b = (((insn >> 30) & 1) != 0 ? ~m : m) & 0xffff_ffff;
    const sum = a + b + carry;
    r = sum & 0xffff_ffff;
    nzcv = (u32(r >> 31) << 3) | (u32(r == 0) << 2) | (u32(sum >> 32) << 1) | u32(((~(a ^ b) & (a ^ r)) >> 31) & 1);
  }
  if (((insn >> 29) & 1) != 0) setNZCV(nzcv);
  setXzr(insn & 31, r);
}

function logicalShifted(insn: u32): void {
  const wide = (insn >> 31) != 0;
  let b = shifted(xzr((insn >> 16) & 31), (insn >> 22) & 3, (insn >> 10) & 63, wide);
  if (((insn >> 21) & 1) != 0) b = ~b;
  const a = xzr((insn >> 5) & 31);
  const opc = (insn >> 29) & 3;
  let r = opc == 1 ? a | b : opc == 2 ? a ^ b : a & b;
  if (!wide) r &= 0xffff_ffff;
  if (opc == 3) setFlags(FLAGS_ADD, wide ? r : r << 32, 0);
  setXzr(insn & 31, r);
}

function reverseBits(v: u64): u64 {
  v = ((v >> 1) & 0x5555_5555_5555_5555) | ((v & 0x5555_5555_5555_5555) << 1);
  v = ((v >> 2) & 0x3333_3333_3333_3333) | ((v & 0x3333_3333_3333_3333) << 2);
  v = ((v >> 4) & 0x0f0f_0f0f_0f0f_0f0f) | ((v & 0x0f0f_0f0f_0f0f_0f0f) << 4);
  return bswap<u64>(v);
}

/** RBIT, REV16, REV32, CLS: CLZ and the whole-register REV are hot operations. */
function oneSource(insn: u32): void {
  const wide = (insn >> 31) != 0;
  const n = wide ? xzr((insn >> 5) & 31) : xzr((insn >> 5) & 31) & 0xffff_ffff;
  let r: u64;
  switch ((insn >> 10) & 63) {
    case 0: r = wide ? reverseBits(n) : reverseBits(n) >> 32; break;
    case 1: r = ((n >> 8) & 0x00ff_00ff_00ff_00ff) | ((n & 0x00ff_00ff_00ff_00ff) << 8); break;
    case 2: r = (<u64>bswap<u32>(<u32>(n >> 32)) << 32) | <u64>bswap<u32>(<u32>n); break;
    default: r = wide ? clz<u64>((n ^ (n << 1)) | 1) : <u64>clz<u32>((<u32>n ^ (<u32>n << 1)) | 1); break;
  }
  setXzr(insn & 31, r);
}

/** The 256-entry tables of CRC-32 (0xedb88320) and CRC-32C (0x82f63b78), reflected; filled on first use. */
const crcTables = memory.data(2048);
let crcReady = false;

function crcTable(): void {
  for (let t: u32 = 0; t < 2; t++) {
    const poly: u32 = t == 0 ? 0xedb8_8320 : 0x82f6_3b78;
    for (let i: u32 = 0; i < 256; i++) {
      let c = i;
      for (let k = 0; k < 8; k++) c = (c & 1) != 0 ? (c >> 1) ^ poly : c >> 1;
      store<u32>(<u32>crcTables + (t << 10) + (i << 2), c);
    }
  }
  crcReady = true;
}

function crc32(insn: u32): void {
  if (!crcReady) crcTable();
  const table = <u32>crcTables + (((insn >> 12) & 1) << 10);
  const bytes: u32 = 1 << ((insn >> 10) & 3);
  let c = <u32>xzr((insn >> 5) & 31);
  let v = xzr((insn >> 16) & 31);
  for (let i: u32 = 0; i < bytes; i++) {
    c = (c >> 8) ^ load<u32>(table + (((c ^ <u32>v) & 0xff) << 2));
    v >>= 8;
  }
  setXzr(insn & 31, <u64>c);
}

/** The upper 64 bits of a 64 x 64 bit product. */
function mulHigh(a: u64, b: u64): u64 {
  const al = a & 0xffff_ffff;
  const ah = a >> 32;
  const bl = b & 0xffff_ffff;
  const bh = b >> 32;
  const mid = ah * bl + ((al * bl) >> 32);
  const mid2 = al * bh + (mid & 0xffff_ffff);
  return ah * bh + (mid >> 32) + (mid2 >> 32);
}

/** SMSUBL, UMSUBL, SMULH. */
function threeSource(insn: u32): void {
  const n = xzr((insn >> 5) & 31);
  const m = xzr((insn >> 16) & 31);
  const a = xzr((insn >> 10) & 31);
  let r: u64;
  switch ((insn >> 21) & 7) {
    case 1: r = a - <u64>(<i64><i32>n * <i64><i32>m); break;
    case 5: r = a - <u64><u32>n * <u64><u32>m; break;
    default:
      // The signed product differs from the unsigned one by the other operand for each negative one.
      r = mulHigh(n, m);
      if (<i64>n < 0) r -= m;
      if (<i64>m < 0) r -= n;
      break;
  }
  setXzr(insn & 31, r);
}

/** Does one data-processing (register) instruction. */
export function execDp(insn: u32): void {
  const rn = (insn >> 5) & 31;
  const rm = (insn >> 16) & 31;
  switch ((insn >> 24) & 31) {
    case 0x0a:
      return logicalShifted(insn);
    case 0x0b:
      if (((insn >> 21) & 1) != 0) addSub(insn & 31, xsp(rn), extended(xzr(rm), (insn >> 13) & 7, (insn >> 10) & 7), insn, true);
      else addSub(insn & 31, xzr(rn), shifted(xzr(rm), (insn >> 22) & 3, (insn >> 10) & 63, (insn >> 31) != 0), insn, false);
      return;
    case 0x1b:
      return threeSource(insn);
    default:
      if (((insn >> 21) & 7) == 0) addCarry(insn);
      else if (((insn >> 30) & 1) != 0) oneSource(insn);
      else crc32(insn);
  }
}
