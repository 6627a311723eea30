import type { AcpiImage } from '../../src/firmware/acpi/build.ts';

/** The bytes add up to 0 modulo 256. */
export const sumsToZero = (bytes: Uint8Array): boolean => (bytes.reduce((sum, b) => sum + b, 0) & 0xff) === 0;

/** A little-endian number of up to 6 bytes. */
export const le = (bytes: Uint8Array, at: number, size: number): number => Buffer.from(bytes).readUIntLE(at, size);

/**
 * The tables that a guest finds in `image` at `base` when it starts at the RSDP, by signature, in the order of the XSDT;
 * FACS and DSDT by the FADT's X_ fields.
 */
export function acpiTables(image: AcpiImage, base: number): Map<string, Uint8Array> {
  const memory = Buffer.from(image.bytes);
  const at = (address: number, length: number) => {
    const offset = address - base;
    if (offset < 0 || offset + length > memory.length) throw new Error(`0x${address.toString(16)} is outside`);
    return memory.subarray(offset, offset + length);
  };
  const table = (address: number) => at(address, le(at(address, 8), 4, 4));
  const signature = (bytes: Buffer) => bytes.toString('latin1', 0, 4);

  const rsdp = at(image.rsdp, 36);
  const xsdt = table(le(rsdp, 24, 6));
  const found = new Map<string, Uint8Array>([
    ['RSD PTR ', rsdp],
    [signature(xsdt), xsdt],
  ]);
  for (let n = 36; n < xsdt.length; n += 8) {
    const t = table(le(xsdt, n, 6));
    found.set(signature(t), t);
    if (signature(t) !== 'FACP') continue;
    for (const other of [table(le(t, 132, 6)), table(le(t, 140, 6))]) found.set(signature(other), other);
  }
  return found;
}
