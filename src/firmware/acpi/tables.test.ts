import { describe, expect, it } from 'vitest';
import { acpiTables, le, sumsToZero } from '../../../test/support/acpi.ts';
import { VmError } from '../../util/errors.ts';
import { buildAcpi } from './build.ts';
import * as t from './tables.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const FADT: t.Fadt = {
  sciInt: 9,
  pm1aEvtBlk: { base: 0x600, size: 4 },
  pm1aCntBlk: { base: 0x604, size: 2 },
  pmTmrBlk: { base: 0x608, size: 4 },
  resetReg: 0xcf9,
  resetValue: 6,
  century: 0x32,
  flags: t.FADT_FLAG.wbinvd,
  iapcBootArch: 0,
};

describe('ACPI tables', () => {
  it('have the header of the specification and a checksum', () => {
    const table = t.sdt('TEST', 3, Uint8Array.of(1, 2));
    expect(Buffer.from(table).toString('latin1', 0, 4)).toBe('TEST');
    expect([table.length, le(table, 4, 4), table[8], table[36], table[37]]).toEqual([38, 38, 3, 1, 2]);
    expect(sumsToZero(table)).toBe(true);
    expect(() => t.sdt('LONGER', 1)).toThrow(VmError);
  });

  it('the RSDP has two checksums, over 20 bytes and over all', () => {
    for (const xsdt of [0, 0xe_1234, 0xffff_ffff]) {
      const rsdp = t.rsdp(xsdt);
      expect([rsdp.length, rsdp[15], le(rsdp, 16, 4), le(rsdp, 20, 4), le(rsdp, 24, 6)]).toEqual([36, 2, 0, 36, xsdt]);
      expect([sumsToZero(rsdp.subarray(0, 20)), sumsToZero(rsdp)]).toEqual([true, true]);
    }
  });

  it('FADT and FACS have their lengths', () => {
    const fadt = t.fadt(FADT, 0x1000, 0x2000);
    expect([fadt.length, le(fadt, 4, 4), sumsToZero(fadt)]).toEqual([276, 276, true]);
    expect([t.facs().length, le(t.facs(), 4, 4)]).toEqual([64, 64]);
  });

  it.each([
    [t.processorApic(1, 254), '000801fe01000000'],
    [t.processorApic(0x101, 255), '09100000ff0000000100000001010000'],
    [t.ioApic(2, 0xfec0_0000, 24), '010c02000000c0fe18000000'],
    [t.interruptSourceOverride(0, 2, t.MPS_INTI.conforms), '020a0000020000000000'],
    [t.interruptSourceOverride(9, 9, t.MPS_INTI.activeHighLevel), '020a0009090000000d00'],
    [t.localApicNmi(t.MPS_INTI.activeHighEdge), '0406ff050001'],
    [t.localX2ApicNmi(t.MPS_INTI.activeHighEdge), '0a0c0500ffffffff01000000'],
  ])('MADT entry %#', (entry, bytes) => {
    expect(hex(entry)).toBe(bytes);
  });

  it('MADT and MCFG', () => {
    const madt = t.madt(0xfee0_0000, true, [Uint8Array.of(7)]);
    expect(hex(madt.subarray(36))).toBe('0000e0fe0100000007');
    expect(hex(t.madt(0, false, []).subarray(36))).toBe('0000000000000000');
    expect(hex(t.mcfg(0xb000_0000, 0x7f).subarray(44))).toBe('000000b0000000000000007f00000000');
    expect(() => t.mcfg(0, 256)).toThrow(VmError);
  });
});

describe('buildAcpi', () => {
  const dsdt = t.dsdt(Uint8Array.of(0xa3)); // Noop
  const mcfg = t.mcfg(0xb000_0000, 255);
  const build = (size: number) => buildAcpi({ base: 0xe_0000, size, fadt: FADT, dsdt, tables: [mcfg] });

  it('a guest finds all tables from the RSDP on', () => {
    const image = build(0x1000);
    expect(image.rsdp % 16).toBe(0);
    const tables = acpiTables(image, 0xe_0000);
    expect([...tables.keys()]).toEqual(['RSD PTR ', 'XSDT', 'FACP', 'FACS', 'DSDT', 'MCFG']);
    expect([hex(tables.get('DSDT')!), hex(tables.get('MCFG')!)]).toEqual([hex(dsdt), hex(mcfg)]);
    const fadt = tables.get('FACP')!;
    // FIRMWARE_CTRL and DSDT are the X_ fields' addresses.
    expect([le(fadt, 36, 4), le(fadt, 40, 4)]).toEqual([le(fadt, 132, 6), le(fadt, 140, 6)]);
    expect(le(fadt, 36, 4) % 64).toBe(0);
    for (const [name, bytes] of tables) expect([name, name === 'FACS' || sumsToZero(bytes)]).toEqual([name, true]);
  });

  it('fits exactly or not at all', () => {
    const { length } = build(0x1000).bytes;
    expect(build(length).bytes).toHaveLength(length);
    expect(() => build(length - 1)).toThrow(expect.objectContaining({ code: 'ERR_DOES_NOT_FIT' }));
  });

  it('has nothing above 4 GiB', () => {
    const high = { base: 2 ** 32, size: 0x1000, fadt: FADT, dsdt, tables: [] };
    expect(() => buildAcpi(high)).toThrow(VmError);
  });
});
