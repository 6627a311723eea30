/** Offset of PeriphID0: every PrimeCell ends its 4 KiB with eight words of identification, one byte in each. */
const PeriphID0 = 0xfe0;

/** PCellID0..3: B105_F00D, the same in all PrimeCells. */
const PCellID = [0x0d, 0xf0, 0x05, 0xb1];

/** An identification register of a PrimeCell whose PeriphID0..3 are `periphId`; undefined at any other word offset. */
export function primeCellId(offset: number, periphId: readonly number[]): number | undefined {
  return offset < PeriphID0 ? undefined : [...periphId, ...PCellID][(offset - PeriphID0) >> 2];
}
