import type { Gpa } from '../../memory/types.ts';
import { VmError } from '../../util/errors.ts';
import { type AcpiTable, type Fadt, facs, fadt, rsdp, xsdt } from './tables.ts';

/** Everything that goes into guest memory, and where. */
export interface AcpiDescription {
  /** Aligned to 64 bytes, below 4 GiB. A guest without a boot protocol looks in 0xe0000 to 0xfffff. */
  readonly base: Gpa;
  /** Bytes that there are from `base` on. */
  readonly size: number;
  readonly fadt: Fadt;
  readonly dsdt: AcpiTable;
  /** The other tables, which refer to none: MADT, MCFG. */
  readonly tables: readonly AcpiTable[];
}

/** The result of {@link buildAcpi}. */
export interface AcpiImage {
  /** The contents of guest memory from the description's `base` on; no longer than its `size`. */
  readonly bytes: Uint8Array;
  /** Address of the RSDP, for the boot protocol. */
  readonly rsdp: Gpa;
}

/** The FACS needs it (ACPI 6.5, section 5.2.10); the RSDP needs 16 (5.2.5.1). */
const ALIGNMENT = 64;

/**
 * Lays out the tables of a machine and fills in the addresses in those that have some: RSDP, XSDT, FADT.
 *
 * @throws VmError ERR_DOES_NOT_FIT when the tables are larger than `size`.
 */
export function buildAcpi(d: AcpiDescription): AcpiImage {
  const placed: { readonly address: Gpa; readonly bytes: Uint8Array }[] = [];
  let end = d.base;
  const place = (bytes: Uint8Array): Gpa => {
    const address = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = address + bytes.length;
    placed.push({ address, bytes });
    return address;
  };

  // The RSDP comes first in memory but needs the address of the XSDT, which comes last: its room is taken with no address.
  const pointer = place(rsdp(0));
  const fixed = place(fadt(d.fadt, place(facs()), place(d.dsdt)));
  const root = place(xsdt([fixed, ...d.tables.map(place)]));
  placed.push({ address: pointer, bytes: rsdp(root) });

  if (end - d.base > d.size) {
    throw new VmError('ERR_DOES_NOT_FIT', `the ACPI tables need ${end - d.base} bytes, and there are ${d.size}`, {
      hint: 'give the machine fewer CPUs',
      details: { needed: end - d.base, size: d.size },
    });
  }
  const bytes = new Uint8Array(end - d.base);
  for (const p of placed) bytes.set(p.bytes, p.address - d.base);
  return { bytes, rsdp: pointer };
}
