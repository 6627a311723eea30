/**
 * The upper half of 64 bits, as an unsigned 32-bit number.
 *
 * Not BigInt.asUintN(32, value >> 32n): Node 20 aborts the process ("Phi of kRepTagged (UnsignedBigInt64) cannot be changed to
 * kRepWord64") when its compiler cuts a shift of one of two 64-bit values to 64 bits or fewer, and what a guest writes decides when
 * it compiles. Shifts by a constant that end in asUintN(), asIntN() or a BigUint64Array are to be written in this way.
 */
export function upper32(value: bigint): number {
  return Number((value >> 32n) & 0xffff_ffffn);
}
