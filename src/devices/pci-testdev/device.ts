import { definePciDevice } from '../kit/definition.ts';

/**
 * The header at the start of both BARs (QEMU, docs/specs/pci-testdev): test u8, width u8, pad u8[2], offset u32, data u32,
 * count u32, name as a string that ends with 0.
 */
const TEST = 0;
const WIDTH = 1;
const OFFSET = 4;
const DATA = 8;
const COUNT = 12;
const NAME = 16;

/** Tests, in the order of their numbers. `matches`: only the test's own value counts. */
const TESTS = [
  { name: 'no-eventfd', matches: true },
  { name: 'wildcard-eventfd', matches: false },
  { name: 'datamatch-eventfd', matches: true },
] as const;
/** All tests write one byte: this value, or one that a test without a value does not look at. */
const MATCHING = 0xfa;
const ANY = 0xce;

/**
 * The PCI test device of QEMU, 1b36:0005, by which kvm-unit-tests measure what an access costs: the guest selects a test in
 * the header and writes where that says; the device counts the writes.
 */
export const pciTestdev = definePciDevice(
  {
    name: 'pci-testdev',
    vendor: 0x1b36,
    device: 0x0005,
    class: 0x00_ff00,
    bars: [
      { index: 0, kind: 'mem32', size: 4096 },
      { index: 1, kind: 'io', size: 256 },
    ],
    msi: 0,
  },
  dev => {
    /** The header of the test under way, of either BAR: there is one at a time. */
    let header: DataView | undefined;
    for (const bar of [0, 1] as const) {
      const headers = TESTS.map((_, test) => makeHeader(bar, test));
      dev.bar(bar).on({
        // A test that is not there has width 0, which ends a guest's search for tests.
        read: (offset, size) => {
          let value = 0;
          for (let i = size - 1; i >= 0; i--) {
            const at = offset + i;
            value = value * 256 + (header !== undefined && at < header.byteLength ? header.getUint8(at) : 0);
          }
          return value;
        },
        // The registers are bytes: a wider write is as many writes.
        write: (offset, value, size) => {
          for (let i = 0; i < size; i++) writeByte(offset + i, (value >>> (8 * i)) & 0xff);
        },
      });

      const writeByte = (offset: number, value: number) => {
        if (offset === TEST) {
          header = headers[value];
          header?.setUint32(COUNT, 0, true);
        } else if (header !== undefined && offset === header.getUint32(OFFSET, true)) {
          const { matches } = TESTS[header.getUint8(TEST) % TESTS.length]!;
          if (matches && value !== header.getUint32(DATA, true)) return;
          header.setUint32(COUNT, header.getUint32(COUNT, true) + 1, true);
        }
      };
    }
    dev.onReset(() => {
      header = undefined;
    });
  },
);

/** Header of a BAR's test. All targets are in the half of the BAR that the headers leave, each at an offset of its own. */
function makeHeader(bar: 0 | 1, test: number): DataView {
  const { name, matches } = TESTS[test]!;
  const [prefix, half] = bar === 0 ? ['mmio', 2048] : ['portio', 128];
  const text = new TextEncoder().encode(`${prefix}-${name}\0`);
  const header = new DataView(new ArrayBuffer(NAME + text.length));
  const number = bar * TESTS.length + test;
  header.setUint8(TEST, number);
  header.setUint8(WIDTH, 1);
  header.setUint32(OFFSET, half + number, true);
  header.setUint32(DATA, matches ? MATCHING : ANY, true);
  new Uint8Array(header.buffer).set(text, NAME);
  return header;
}
