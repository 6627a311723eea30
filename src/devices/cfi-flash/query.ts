/** How a bank is divided. All of it is of the bank as a whole: two chips side by side. */
export interface FlashGeometry {
  /** Bytes; a power of two. */
  readonly size: number;
  /** What one erase sets to ones, bytes; a power of two. */
  readonly blockSize: number;
  /** What one buffered program takes at most, bytes; a power of two, and a block at most. */
  readonly bufferSize: number;
}

/** Chips side by side on the 32-bit bus, 16 bits each. */
const CHIPS = 2;

/**
 * The query table that each of the two chips shows (JESD68.01; CFI-1), by word of the chip. Its sizes are of one chip.
 * What is not in it reads 0.
 */
export function queryTable({ size, blockSize, bufferSize }: FlashGeometry): Uint8Array {
  const table = new Uint8Array(0x40);
  const word = (at: number, value: number) => {
    table[at] = value & 0xff;
    table[at + 1] = value >> 8;
  };
  const text = (at: number, s: string) => table.set(new TextEncoder().encode(s), at);
  text(0x10, 'QRY');
  word(0x13, 0x0001); // primary command set: Intel/Sharp extended
  word(0x15, 0x0031); // and where its own table is
  table[0x1b] = 0x45; // supply from 4.5 V
  table[0x1c] = 0x55; // to 5.5 V
  // Typical times of a word, of a buffer, and of the erase of a block: 2 us, 2 us, 2 ms. The longest ones are no longer.
  table[0x1f] = 1;
  table[0x20] = 1;
  table[0x21] = 1;
  table[0x27] = Math.log2(size / CHIPS);
  word(0x28, 0x0005); // interface: x16, and x32
  word(0x2a, Math.log2(bufferSize / CHIPS));
  table[0x2c] = 1; // one region of blocks, all of one size
  word(0x2d, size / blockSize - 1);
  word(0x2f, blockSize / CHIPS / 256);
  text(0x31, 'PRI10');
  table[0x36] = 0xa0; // blocks lock at once; page reads
  table[0x3b] = 1; // blocks have a lock bit
  table[0x3d] = 0x50; // best supply 5 V
  table[0x3f] = 1; // fields of protection registers
  return table;
}
