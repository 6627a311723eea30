// The flattened format, Devicetree Specification v0.4 chapter 5. All numbers in it are big-endian.

export const FDT_MAGIC = 0xd00d_feed;
export const FDT_VERSION = 17;
export const FDT_LAST_COMP_VERSION = 16;
export const HEADER_SIZE = 40;

export const FDT_BEGIN_NODE = 1;
export const FDT_END_NODE = 2;
export const FDT_PROP = 3;
export const FDT_NOP = 4;
export const FDT_END = 9;

/** A range of guest-physical memory that the guest must leave alone. */
export interface Reservation {
  readonly address: bigint;
  /** Bytes. */
  readonly size: bigint;
}
