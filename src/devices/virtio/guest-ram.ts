/** A virtio transport's way into guest RAM; refused while the function may not master the bus. */
export interface GuestRam {
  /** `length` bytes at guest-physical `address`, without a copy; undefined: refused, no RAM, or ROM for 'w'. */
  view(address: number, length: number, access: 'r' | 'w'): Uint8Array | undefined;
}
