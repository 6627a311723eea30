/**
 * The guest that ships with the package, for hosts that can get no kernel: a bare-metal A64 program as an ELF file.
 * undefined: this build has none.
 */
export function embeddedGuest(): Uint8Array | undefined {
  return undefined;
}
