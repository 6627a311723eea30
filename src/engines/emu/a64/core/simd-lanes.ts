/**
 * Operands of AdvSIMD instructions and operations on lanes whose size is known only at run time.
 * `size` is log2 of the bytes in a lane: 0 for B to 3 for D.
 */
import { VREGS } from './layout';

// Byte offsets of Vd, Vn and Vm behind VREGS.
// @ts-ignore: decorator
@inline
export function offD(insn: u32): u32 {
  return (insn << 4) & 0x1f0;
}

// @ts-ignore: decorator
@inline
export function offN(insn: u32): u32 {
  return (insn >> 1) & 0x1f0;
}

// @ts-ignore: decorator
@inline
export function offM(insn: u32): u32 {
  return (insn >> 12) & 0x1f0;
}

// @ts-ignore: decorator
@inline
export function vd(insn: u32): v128 {
  return v128.load(offD(insn), VREGS);
}

// @ts-ignore: decorator
@inline
export function vn(insn: u32): v128 {
  return v128.load(offN(insn), VREGS);
}

// @ts-ignore: decorator
@inline
export function vm(insn: u32): v128 {
  return v128.load(offM(insn), VREGS);
}

// @ts-ignore: decorator
@inline
export function putV(insn: u32, r: v128): void {
  v128.store(offD(insn), r, VREGS);
}

/**
 * Whether the result fills the register: a vector form with Q = 1. A 64-bit vector has Q (bit 30) clear, a scalar
 * form has bits 30 and 28 set.
 */
// @ts-ignore: decorator
@inline
export function isFull(insn: u32): bool {
  return (insn & 0x5000_0000) == 0x4000_0000;
}

/** Bit 29, which tells the unsigned form from the signed one. */
// @ts-ignore: decorator
@inline
export function isU(insn: u32): bool {
  return (insn & (1 << 29)) != 0;
}

/** Writes Vd and clears its upper half unless the form is a 128-bit vector. */
// @ts-ignore: decorator
@inline
export function putLanes(insn: u32, r: v128): void {
  putV(insn, r);
  if (!isFull(insn)) store<u64>(offD(insn), 0, VREGS + 8);
}

/** Writes the low half of `r`: the "2" forms of narrowing operations fill the upper half of Vd and keep the lower. */
// @ts-ignore: decorator
@inline
export function putNarrow(insn: u32, r: v128): void {
  const low = i64x2.extract_lane(r, 0);
  if (isFull(insn)) {
    store<u64>(offD(insn), low, VREGS + 8);
  } else {
    store<u64>(offD(insn), low, VREGS);
    store<u64>(offD(insn), 0, VREGS + 8);
  }
}

/** Offset of the half of Vn (then Vm) that a lengthening operation reads: the upper one if Q = 1. */
// @ts-ignore: decorator
@inline
export function halfN(insn: u32): u32 {
  return offN(insn) + ((insn >> 27) & 8);
}

// @ts-ignore: decorator
@inline
export function halfM(insn: u32): u32 {
  return offM(insn) + ((insn >> 27) & 8);
}

/** Every lane is the indexed H element of Vm: index H:L:M, register V0..V15. */
// @ts-ignore: decorator
@inline
export function elementH(insn: u32): v128 {
  return v128.load_splat<u16>(((insn >> 12) & 0xf0) + (((insn >> 19) & 6) | ((insn >> 8) & 8)), VREGS);
}

/** Every lane is the indexed S element of Vm: index H:L. */
// @ts-ignore: decorator
@inline
export function elementS(insn: u32): v128 {
  return v128.load_splat<u32>(offM(insn) + (((insn >> 19) & 4) | ((insn >> 8) & 8)), VREGS);
}

/** The lanes that take part in a vector or scalar operation on elements of `size`, all ones. */
export function activeLanes(insn: u32, size: u32): v128 {
  if (isFull(insn)) return i64x2.splat(-1);
  const bits: u32 = (insn & (1 << 28)) != 0 ? 8 << size : 64;
  return i64x2.replace_lane(i64x2.splat(0), 0, <u64>-1 >> (64 - bits));
}

export function vAdd(size: u32, a: v128, b: v128): v128 {
  switch (size) {
    case 0: return i8x16.add(a, b);
    case 1: return i16x8.add(a, b);
    case 2: return i32x4.add(a, b);
    default: return i64x2.add(a, b);
  }
}

export function vSub(size: u32, a: v128, b: v128): v128 {
  switch (size) {
    case 0: return i8x16.sub(a, b);
    case 1: return i16x8.sub(a, b);
    case 2: return i32x4.sub(a, b);
    default: return i64x2.sub(a, b);
  }
}

/** Lanes shifted left; `s` must be less than their width, as for the two below. */
export function vShl(size: u32, a: v128, s: u32): v128 {
  switch (size) {
    case 0: return i8x16.shl(a, s);
    case 1: return i16x8.shl(a, s);
    case 2: return i32x4.shl(a, s);
    default: return i64x2.shl(a, s);
  }
}

export function vShrS(size: u32, a: v128, s: u32): v128 {
  switch (size) {
    case 0: return i8x16.shr_s(a, s);
    case 1: return i16x8.shr_s(a, s);
    case 2: return i32x4.shr_s(a, s);
    default: return i64x2.shr_s(a, s);
  }
}

export function vShrU(size: u32, a: v128, s: u32): v128 {
  switch (size) {
    case 0: return i8x16.shr_u(a, s);
    case 1: return i16x8.shr_u(a, s);
    case 2: return i32x4.shr_u(a, s);
    default: return i64x2.shr_u(a, s);
  }
}

export function vEq(size: u32, a: v128, b: v128): v128 {
  switch (size) {
    case 0: return i8x16.eq(a, b);
    case 1: return i16x8.eq(a, b);
    case 2: return i32x4.eq(a, b);
    default: return i64x2.eq(a, b);
  }
}

export function vGtS(size: u32, a: v128, b: v128): v128 {
  switch (size) {
    case 0: return i8x16.gt_s(a, b);
    case 1: return i16x8.gt_s(a, b);
    case 2: return i32x4.gt_s(a, b);
    default: return i64x2.gt_s(a, b);
  }
}

export function vGtU(size: u32, a: v128, b: v128): v128 {
  switch (size) {
    case 0: return i8x16.gt_u(a, b);
    case 1: return i16x8.gt_u(a, b);
    case 2: return i32x4.gt_u(a, b);
    default: return gtU64(a, b);
  }
}

/** i64x2.gt_u, which Wasm lacks: compare with the sign bits turned round. */
// @ts-ignore: decorator
@inline
export function gtU64(a: v128, b: v128): v128 {
  const sign = i64x2.splat(i64.MIN_VALUE);
  return i64x2.gt_s(v128.xor(a, sign), v128.xor(b, sign));
}

/** Only the sign bit of every lane. */
export function vSignBit(size: u32): v128 {
  return vShl(size, i64x2.splat(-1), (8 << size) - 1);
}

/**
 * Lanes shifted right by `s` = 1 to their width. Two steps, since Wasm takes amounts modulo the width;
 * between them the lowest bit is the one that decides the rounding.
 */
export function vShiftRight(size: u32, a: v128, s: u32, unsigned: bool, round: bool): v128 {
  const t = unsigned ? vShrU(size, a, s - 1) : vShrS(size, a, s - 1);
  const r = unsigned ? vShrU(size, t, 1) : vShrS(size, t, 1);
  if (!round) return r;
  return vAdd(size, r, vShrU(size, vShl(size, t, (8 << size) - 1), (8 << size) - 1));
}

/** The low halves of the lanes, packed into the low 64 bits. `size` is the one of the result. */
export function vTruncate(size: u32, a: v128): v128 {
  switch (size) {
    case 0: return i8x16.shuffle(a, a, 0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14);
    case 1: return i16x8.shuffle(a, a, 0, 2, 4, 6, 0, 2, 4, 6);
    default: return i32x4.shuffle(a, a, 0, 2, 0, 2);
  }
}

/** The lanes of the low 64 bits, extended to twice their `size`. */
export function vExtend(size: u32, a: v128, unsigned: bool): v128 {
  if (unsigned) {
    switch (size) {
      case 0: return i16x8.extend_low_i8x16_u(a);
      case 1: return i32x4.extend_low_i16x8_u(a);
      default: return i64x2.extend_low_i32x4_u(a);
    }
  }
  switch (size) {
    case 0: return i16x8.extend_low_i8x16_s(a);
    case 1: return i32x4.extend_low_i16x8_s(a);
    default: return i64x2.extend_low_i32x4_s(a);
  }
}

/** Amount of a right shift by immediate, 1 to the width of the element. */
// @ts-ignore: decorator
@inline
export function shiftRightBy(insn: u32, size: u32): u32 {
  return (16 << size) - ((insn >> 16) & 127);
}

/** Amount of a left shift by immediate, 0 to the width of the element less 1. */
// @ts-ignore: decorator
@inline
export function shiftLeftBy(insn: u32, size: u32): u32 {
  return ((insn >> 16) & 127) - (8 << size);
}
