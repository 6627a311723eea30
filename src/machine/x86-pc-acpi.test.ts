import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { acpiTables, le, sumsToZero } from '../../test/support/acpi.ts';
import { X86_PC, x86PciMem64 } from './address-map.ts';
import { type X86PcAcpi, x86PcAcpi } from './x86-pc-acpi.ts';

const MACHINE: X86PcAcpi = { cpus: 2, pciMem64: x86PciMem64(40), lastBus: 255 };
const tables = (d: Partial<X86PcAcpi> = {}) => acpiTables(x86PcAcpi({ ...MACHINE, ...d }), X86_PC.acpi.base);

/** The entries of the MADT, by type. */
function madtEntries(madt: Uint8Array) {
  const entries: Uint8Array[] = [];
  for (let at = 44; at < madt.length; at += madt[at + 1]!) entries.push(madt.subarray(at, at + madt[at + 1]!));
  return (type: number) => entries.filter(e => e[0] === type);
}

describe('the ACPI tables of x86-pc', () => {
  it('lie where a guest looks for them, for any machine', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 600 }),
        fc.nat(255),
        fc.integer({ min: 36, max: 52 }),
        (cpus, lastBus, bits) => {
          const image = x86PcAcpi({ cpus, lastBus, pciMem64: x86PciMem64(bits) });
          expect(image.rsdp).toBe(X86_PC.acpi.base);
          expect(image.bytes.length).toBeLessThanOrEqual(X86_PC.acpi.size);
          const found = acpiTables(image, X86_PC.acpi.base);
          expect([...found.keys()].sort()).toEqual(['APIC', 'DSDT', 'FACP', 'FACS', 'MCFG', 'RSD PTR ', 'XSDT']);
          for (const [name, bytes] of found) expect([name, name === 'FACS' || sumsToZero(bytes)]).toEqual([name, true]);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('have a local APIC entry for ids up to 254 and an x2APIC entry from there on', () => {
    for (const [cpus, local, x2, x2Nmi] of [
      [1, 1, 0, 0],
      [255, 255, 0, 0],
      [256, 255, 1, 1],
      [300, 255, 45, 1],
    ] as const) {
      const entries = madtEntries(tables({ cpus }).get('APIC')!);
      expect([cpus, ...[0, 9, 4, 10].map(type => entries(type).length)]).toEqual([cpus, local, x2, 1, x2Nmi]);
      expect(entries(0).map(e => [e[2], e[3]])).toEqual(Array.from({ length: local }, (_, n) => [n, n]));
      expect(entries(9).map(e => [le(e, 4, 4), le(e, 12, 4)])).toEqual(
        Array.from({ length: x2 }, (_, n) => [255 + n, 255 + n]),
      );
    }
  });

  it('have a flag for the 8259s and one for the lack of a fixed power button', () => {
    const flags = (d: Partial<X86PcAcpi>) => [
      le(tables(d).get('APIC')!, 40, 4),
      le(tables(d).get('FACP')!, 112, 4) & 16,
    ];
    expect(flags({})).toEqual([1, 16]);
    expect(flags({ pic: false, powerButton: true })).toEqual([0, 0]);
  });

  it('refuse more CPUs than there is room or names for', () => {
    for (const cpus of [4000, 5000]) {
      expect(() => x86PcAcpi({ ...MACHINE, cpus })).toThrow(expect.objectContaining({ code: 'ERR_DOES_NOT_FIT' }));
    }
    expect(x86PcAcpi({ ...MACHINE, cpus: 2048 }).bytes.length).toBeLessThanOrEqual(X86_PC.acpi.size);
  });
});
