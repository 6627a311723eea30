/** A relocatable AArch64 ELF64 file with one section of text, as kernel modules have their .modinfo. */
export function moduleWith(text: string, section = '.modinfo'): Uint8Array {
  const data = new TextEncoder().encode(text);
  const names = new TextEncoder().encode(`\0${section}\0.shstrtab\0`);
  const table = 64 + data.length + names.length;
  const bytes = new Uint8Array(table + 3 * 64);
  const d = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  d.setUint16(16, 1, true);
  d.setUint16(18, 183, true);
  d.setBigUint64(40, BigInt(table), true);
  d.setUint16(58, 64, true);
  d.setUint16(60, 3, true);
  d.setUint16(62, 2, true);
  bytes.set(data, 64);
  bytes.set(names, 64 + data.length);
  const header = (i: number, name: number, type: number, offset: number, size: number) => {
    d.setUint32(table + 64 * i, name, true);
    d.setUint32(table + 64 * i + 4, type, true);
    d.setBigUint64(table + 64 * i + 24, BigInt(offset), true);
    d.setBigUint64(table + 64 * i + 32, BigInt(size), true);
  };
  header(1, 1, 1, 64, data.length);
  header(2, section.length + 2, 3, 64 + data.length, names.length);
  return bytes;
}
