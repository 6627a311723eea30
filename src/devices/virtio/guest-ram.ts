/** A virtio transport's way into guest RAM; refused while the function may not master the bus. */
export interface GuestRam {
  /**
   * Whether the device may use guest memory now. While it may not, {@link view} refuses everything: that is a reason to wait,
   * whereas a refusal of an allowed device is the driver's mistake.
   */
  readonly allowed: boolean;
  /** `length` bytes at guest-physical `address`, without a copy; undefined: refused, no RAM, or ROM for 'w'. */
  view(address: number, length: number, access: 'r' | 'w'): Uint8Array | undefined;
}
