/** Vector building blocks that take more than a few Wasm operations: bit counts, 8-bit products, table lookups. */
import { VREGS } from './layout';
import { offN, vAdd, vShrS, vShrU, vn } from './simd-lanes';

/** Lanes 0, 2, 4, ... of `a`, then of `b`. `size` is a constant wherever this is used in a hot path. */
// @ts-ignore: decorator
@inline
export function evens(size: u32, a: v128, b: v128): v128 {
  if (size == 0) return i8x16.shuffle(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  if (size == 1) return i16x8.shuffle(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
  return i32x4.shuffle(a, b, 0, 2, 4, 6);
}

/** Lanes 1, 3, 5, ... */
// @ts-ignore: decorator
@inline
export function odds(size: u32, a: v128, b: v128): v128 {
  if (size == 0) return i8x16.shuffle(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  if (size == 1) return i16x8.shuffle(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
  return i32x4.shuffle(a, b, 1, 3, 5, 7);
}

/** Products of bytes modulo 256, which Wasm has only for wider lanes. */
export function mulB(a: v128, b: v128): v128 {
  const low = v128.and(i16x8.mul(a, b), i16x8.splat(0xff));
  const high = i16x8.mul(i16x8.shr_u(a, 8), i16x8.shr_u(b, 8));
  return v128.or(low, i16x8.shl(high, 8));
}

/** PMUL: products of polynomials over {0, 1} of bytes, low 8 bits (PolynomialMult() in DDI 0487). */
export function pmulB(a: v128, b: v128): v128 {
  let r = i8x16.splat(0);
  for (let i = 0; i < 8; i++) {
    // The sign bit after the shift is bit i of `a`.
    r = v128.xor(r, v128.and(i8x16.shr_s(i8x16.shl(a, 7 - i), 7), i8x16.shl(b, i)));
  }
  return r;
}

/** Every byte's bits in reverse order: two lookups of four bits. */
export function rbit(a: v128): v128 {
  const reversed = i8x16(0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15);
  const low = i8x16.swizzle(reversed, v128.and(a, i8x16.splat(15)));
  return v128.or(i8x16.shl(low, 4), i8x16.swizzle(reversed, i8x16.shr_u(a, 4)));
}

/** Leading zeros of every lane: the zeros that are left once the highest set bit is copied to all below it. */
export function clzLanes(size: u32, a: v128): v128 {
  let v = a;
  for (let s: u32 = 1; s < 8 << size; s <<= 1) v = v128.or(v, vShrU(size, v, s));
  const bytes = i8x16.popcnt(v128.not(v));
  if (size == 0) return bytes;
  const halves = i16x8.extadd_pairwise_i8x16_u(bytes);
  return size == 1 ? halves : i32x4.extadd_pairwise_i16x8_u(halves);
}

/** Bits below the sign bit that equal it. */
export function clsLanes(size: u32, a: v128): v128 {
  return vAdd(size, clzLanes(size, v128.xor(a, vShrS(size, a, 1))), i64x2.splat(-1));
}

/** AdvSIMDExpandImm() of the 64-bit MOVI: each bit of imm8 fills a byte. */
export function byteMask(imm8: u32): v128 {
  const bits = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  return i8x16.eq(v128.and(i8x16.splat(<i8>imm8), bits), bits);
}

/** TBL with one register: Wasm's swizzle is the same operation. */
// @ts-ignore: decorator
@inline
export function tableLookup1(insn: u32, index: v128): v128 {
  return i8x16.swizzle(vn(insn), index);
}

/** TBL with 1 to 4 registers from Vn on, modulo 32; len is bits 14:13. Zero for an index behind the table. */
export function tableLookup(insn: u32, index: v128): v128 {
  const last = (insn >> 13) & 3;
  const sixteen = i8x16.splat(16);
  let r = i8x16.swizzle(vn(insn), index);
  let at = offN(insn);
  let rest = index;
  for (let i: u32 = 0; i < last; i++) {
    at = (at + 16) & 0x1f0;
    // An index below the register's range wraps round to 240 or more, which is outside as well.
    rest = i8x16.sub(rest, sixteen);
    r = v128.or(r, i8x16.swizzle(v128.load(at, VREGS), rest));
  }
  return r;
}
