// The ACPI tables against ACPICA, the reference implementation that Linux has too: iasl compiles and disassembles,
// acpiexec runs AML. Neither knows anything of our writer.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buffer, device, name, nameString, packageOf } from '../../src/firmware/acpi/aml.ts';
import { dsdt } from '../../src/firmware/acpi/tables.ts';
import { X86_PC, x86PciMem64 } from '../../src/machine/address-map.ts';
import { type X86PcAcpi, x86PcAcpi } from '../../src/machine/x86-pc-acpi.ts';
import { acpiTables, le } from '../support/acpi.ts';

const missing = ['iasl', 'acpiexec'].filter(tool => spawnSync(tool, ['-v']).error);
if (missing.length > 0) console.log(`skipped: acpi-iasl: ${missing} (package acpica-tools) does not run`);

const MACHINE: X86PcAcpi = { cpus: 2, pciMem64: x86PciMem64(40), lastBus: 255 };
const tablesOf = (d: X86PcAcpi) => acpiTables(x86PcAcpi(d), X86_PC.acpi.base);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvisor-acpi-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
const file = (f: string) => join(folder, f);

function run(tool: string, ...args: string[]): string {
  const r = spawnSync(tool, args, { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26 });
  const output = r.stdout + r.stderr;
  expect([args.at(-1), r.status, r.status === 0 ? '' : output]).toEqual([args.at(-1), 0, '']);
  return output;
}

/** Compiles ASL, with paths as they are written (-on), or the source of a data table, and wants no complaints. */
function compile(source: string): Buffer {
  writeFileSync(file('source.asl'), source);
  expect(run('iasl', '-on', '-p', 'compiled', 'source.asl')).toMatch(/ 0 Errors, 0 Warnings, 0 Remarks/);
  return readFileSync(file('compiled.aml'));
}

/** The disassembly of a table, without the comment in front, which has dates and file names. */
function disassemble(table: Uint8Array): string {
  writeFileSync(file('table.dat'), table);
  const output = run('iasl', '-p', 'table', '-d', 'table.dat');
  expect(output).not.toMatch(/error|warning|checksum|invalid/i);
  return readFileSync(file('table.dsl'), 'utf8').replace(/^\/\*[\s\S]*?\*\/\s*/, '');
}

/** The values of one field of a data table, in order, as the disassembler prints them. */
const fields = (text: string, field: string) =>
  [...text.matchAll(/^(?:\[[^\]]*\])? *([^:\n]+) : (\S+)/gm)].filter(m => m[1] === field).map(m => m[2]!);

/** The same table but for the compiler's name and version, and the checksum that depends on them. */
function withoutCompiler(table: Uint8Array): string {
  const bytes = Buffer.from(table);
  return bytes.fill(0, 9, 10).fill(0, 28, 36).toString('hex');
}

/** What acpiexec says to a command when it has loaded these tables. */
function acpiexec(tables: Map<string, Uint8Array>, command: string): string {
  const files = [...tables].map(([signature, bytes]) => {
    const f = `${signature.trim()}.dat`;
    writeFileSync(file(f), bytes);
    return f;
  });
  const output = run('acpiexec', '-b', command, ...files);
  // What the kernel would log as a fault of the firmware, and exceptions of methods.
  expect(output).not.toMatch(/(BIOS|Firmware) (Error|Warning)|ACPI (Error|Warning)|AE_AML/);
  return output.slice(output.indexOf('Evaluating '));
}

/** The integers of an object that acpiexec evaluates, however deep in packages. */
const integers = (tables: Map<string, Uint8Array>, object: string) =>
  [...acpiexec(tables, `evaluate ${object}`).matchAll(/\[Integer\] = ([0-9A-F]+)/g)].map(m =>
    Number.parseInt(m[1]!, 16),
  );

/** The DSDT as somebody would write it by hand. */
const source = (d: X86PcAcpi) => `
DefinitionBlock ("", "DSDT", 2, "TSVISR", "TSVISOR ", 1) {
  Name (_S5, Package () { 5, 5, 0, 0 })
  Scope (_SB) {
    Device (PCI0) {
      Name (_HID, EisaId ("PNP0A08"))
      Name (_CID, EisaId ("PNP0A03"))
      Name (_UID, 0)
      Name (_SEG, 0)
      Name (_BBN, 0)
      Name (_CRS, ResourceTemplate () {
        WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, ${d.lastBus}, 0, ${d.lastBus + 1})
        IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
        WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x1000, 0xFFFF, 0, 0xF000)
        DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
          0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
        QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
          0, ${d.pciMem64.base}, ${d.pciMem64.base + d.pciMem64.size - 1}, 0, ${d.pciMem64.size})
      })
      Name (_PRT, Package () {
        ${Array.from({ length: 128 }, (_, n) => `Package () { 0x${(n >> 2).toString(16)}FFFF, ${n & 3}, 0, ${16 + (((n >> 2) + n) & 3)} }`)}
      })
      Method (_OSC, 4, Serialized) {
        CreateDWordField (Arg3, 0, CDW1)
        If (Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766")) {
          CreateDWordField (Arg3, 8, CDW3)
          Local0 = CDW3 & 0x1D
          If (Arg1 != 1) { CDW1 |= 8 }
          If (CDW3 != Local0) { CDW1 |= 0x10 }
          CDW3 = Local0
        } Else {
          CDW1 |= 4
        }
        Return (Arg3)
      }
    }
    Device (MBRD) {
      Name (_HID, EisaId ("PNP0C02"))
      Name (_UID, 0)
      Name (_CRS, ResourceTemplate () {
        Memory32Fixed (ReadWrite, 0xB0000000, 0x10000000)
        IO (Decode16, 0x60, 0x60, 1, 8)
        IO (Decode16, 0x600, 0x600, 1, 4)
        IO (Decode16, 0x604, 0x604, 1, 2)
        IO (Decode16, 0x608, 0x608, 1, 4)
      })
    }
    Device (COM1) {
      Name (_HID, EisaId ("PNP0501"))
      Name (_UID, 1)
      Name (_CRS, ResourceTemplate () {
        IO (Decode16, 0x3F8, 0x3F8, 1, 8)
        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
      })
    }
    Device (RTC) {
      Name (_HID, EisaId ("PNP0B00"))
      Name (_CRS, ResourceTemplate () {
        IO (Decode16, 0x70, 0x70, 1, 2)
        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 8 }
      })
    }
    Device (VCLK) {
      Name (_HID, "AMZNC10C")
      Name (_CID, "VMCLOCK")
      Name (_DDN, "VMCLOCK")
      Name (_CRS, ResourceTemplate () {
        Memory32Fixed (ReadOnly, 0xFEFF0000, 0x1000)
      })
    }
    ${Array.from({ length: d.cpus }, (_, n) => {
      const id = n.toString(16).toUpperCase().padStart(3, '0');
      return `Device (C${id}) { Name (_HID, "ACPI0007") Name (_UID, ${n}) }`;
    }).join('\n')}
  }
}`;

/** All that ACPICA can hold against the tables of one machine. */
function examine(d: X86PcAcpi) {
  const tables = tablesOf(d);
  for (const signature of ['XSDT', 'FACP', 'FACS', 'APIC', 'MCFG']) {
    const table = tables.get(signature)!;
    // FACS has neither checksum nor compiler.
    const same = signature === 'FACS' ? (b: Uint8Array) => Buffer.from(b).toString('hex') : withoutCompiler;
    expect([signature, same(compile(disassemble(table)))]).toEqual([signature, same(table)]);
  }

  const ours = tables.get('DSDT')!;
  const text = disassemble(ours);
  compile(text);
  const theirs = compile(source(d));
  expect(text).toBe(disassemble(theirs));
  expect(ours.length).toBe(theirs.length); // nothing is encoded longer than need be

  const mcfg = disassemble(tables.get('MCFG')!);
  expect(fields(mcfg, 'Base Address')).toEqual(['00000000B0000000']);
  expect(fields(mcfg, 'End Bus Number').map(b => Number.parseInt(b, 16))).toEqual([d.lastBus]);

  const apicIds = ['Local Apic ID', 'Processor x2Apic ID'].flatMap(f => fields(disassemble(tables.get('APIC')!), f));
  expect(apicIds.map(id => Number.parseInt(id, 16))).toEqual(Array.from({ length: d.cpus }, (_, n) => n));
}

describe.skipIf(missing.length > 0)('the ACPI tables and ACPICA', () => {
  it('iasl reads, and writes again, the same tables, and compiles the same DSDT from its source', () => {
    examine(MACHINE);
  });

  it('with more processors than a local APIC can number', () => {
    examine({ ...MACHINE, cpus: 260 });
  });

  it('for any machine', () => {
    const size = fc.integer({ min: 20, max: 50 }).map(bits => 2 ** bits);
    const machine = fc.record({
      cpus: fc.integer({ min: 1, max: 64 }),
      lastBus: fc.nat(255),
      pciMem64: fc.record({ base: fc.integer({ min: 4, max: 2 ** 20 }).map(n => n * 2 ** 30), size }),
    });
    fc.assert(fc.property(machine, examine), { numRuns: 4 });
  });

  it('the RSDP is what iasl compiles', () => {
    const tables = tablesOf(MACHINE);
    const rsdp = tables.get('RSD PTR ')!;
    const compiled = compile(`
      Signature : "RSD PTR "
      Checksum : 00
      Oem ID : "TSVISR"
      Revision : 02
      RSDT Address : 00000000
      Length : 00000024
      XSDT Address : ${le(rsdp, 24, 6).toString(16).padStart(16, '0')}
      Extended Checksum : 00
      Reserved : 000000`);
    expect(Buffer.from(rsdp).toString('hex')).toBe(compiled.toString('hex'));
  });

  it('FADT: ports, reset, and what there is not', () => {
    const text = disassemble(tablesOf(MACHINE).get('FACP')!);
    const values = Object.fromEntries(
      [...text.matchAll(/^(?:\[[^\]]*\])? *([^:\n]+) : (\S+)/gm)].map(m => [m[1], m[2]]),
    );
    expect(values).toMatchObject({
      'SCI Interrupt': '0009',
      'SMI Command Port': '00000000',
      'PM1A Event Block Address': '00000600',
      'PM1A Control Block Address': '00000604',
      'PM Timer Block Address': '00000608',
      'PM1 Event Block Length': '04',
      'PM1 Control Block Length': '02',
      'PM Timer Block Length': '04',
      'GPE0 Block Length': '00',
      'RTC Century Index': '32',
      'Value to cause reset': '06',
      '8042 Present on ports 60/64 (V2)': '0',
      'VGA Not Present (V4)': '1',
      'CMOS RTC Not Present (V5)': '0',
      'MSI Not Supported (V4)': '0',
      'WBINVD instruction is operational (V1)': '1',
      'All CPUs support C1 (V1)': '1',
      'Control Method Power Button (V1)': '1',
      'Control Method Sleep Button (V1)': '1',
      'Reset Register Supported (V2)': '1',
      'Hardware Reduced (V5)': '0',
    });
    // Generic addresses, in the order of the table: RESET_REG, PM1a_EVT, PM1b_EVT, PM1a_CNT, PM1b_CNT, PM2_CNT, PM_TMR.
    const gas = ['Space ID', 'Bit Width', 'Encoded Access Width', 'Address'].map(f => fields(text, f));
    const absent = ['00', '00', '00', '0000000000000000'];
    expect(gas[0]!.map((_, n) => gas.map(column => column[n]))).toEqual([
      ['01', '08', '01', '0000000000000CF9'],
      ['01', '20', '02', '0000000000000600'],
      absent,
      ['01', '10', '02', '0000000000000604'],
      absent,
      absent,
      ['01', '20', '03', '0000000000000608'],
      ...Array(4).fill(absent),
    ]);
  });

  it('MADT: the I/O APIC, the overrides, the NMI', () => {
    const text = disassemble(tablesOf(MACHINE).get('APIC')!);
    expect(fields(text, 'Local Apic Address')).toEqual(['FEE00000']);
    expect([fields(text, 'Address'), fields(text, 'Interrupt')]).toEqual([
      ['FEC00000'],
      ['00000000', '00000002', '00000009'],
    ]);
    expect(fields(text, 'Source')).toEqual(['00', '09']);
    // Conforming; active high and level; active high and edge.
    expect([fields(text, 'Polarity'), fields(text, 'Trigger Mode')]).toEqual([
      ['0', '1', '1'],
      ['0', '3', '1'],
    ]);
    expect([fields(text, 'Processor ID'), fields(text, 'Interrupt Input LINT')]).toEqual([['00', '01', 'FF'], ['01']]);
  });

  it('ACPICA loads them; _S5 and _PRT evaluate to what the machine does', () => {
    const tables = tablesOf(MACHINE);
    expect(integers(tables, '\\_S5')).toEqual([5, 5, 0, 0]);
    const routes = Array.from({ length: 32 * 4 }, (_, n) => {
      const [dev, pin] = [n >> 2, n & 3];
      return [dev * 0x1_0000 + 0xffff, pin, 0, 16 + ((dev + pin) % 4)];
    });
    expect(integers(tables, '\\_SB.PCI0._PRT')).toEqual(routes.flat());
  });

  it("ACPICA decodes the host bridge's _CRS into windows that leave out mechanism #1", () => {
    const text = acpiexec(tablesOf(MACHINE), 'resources \\_SB.PCI0');
    const values = (field: string) =>
      [...text.matchAll(new RegExp(`^ *${field} : ([0-9A-F]+)$`, 'gm'))].map(m => Number.parseInt(m[1]!, 16));
    expect(values('Address Minimum')).toEqual([0, 0xcf8, 0x1000, 0xc000_0000, 0x80_0000_0000]);
    expect(values('Address Maximum')).toEqual([255, 0xcf8, 0xffff, 0xfebf_ffff, 0xbf_ffff_ffff]);
    expect(values('Address Length')).toEqual([256, 8, 0xf000, 0x3ec0_0000, 0x40_0000_0000]);
  });

  it('_OSC grants what works, and says what it does not understand', () => {
    const right = '5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66';
    const wrong = right.replace('5B', '5A');
    // UUID, revision, query flag, control; status and control of the answer.
    const cases = [
      [right, 1, 1, 0x3f, 0x11, 0x1d],
      [right, 1, 0, 0xffff_ffff, 0x10, 0x1d],
      [right, 1, 0, 0x1d, 0x00, 0x1d],
      [right, 1, 0, 0x01, 0x00, 0x01],
      [right, 1, 0, 0x22, 0x10, 0x00],
      [right, 2, 0, 0x04, 0x08, 0x04],
      [wrong, 1, 0, 0x1d, 0x04, 0x1d],
    ] as const;
    const support = 0x1f; // which nothing may change
    const calls = cases.map(([uuid, revision, query, control]) => {
      const capabilities = Buffer.from(Uint32Array.of(query, support, control).buffer).toString('hex');
      return `evaluate \\_SB.PCI0._OSC (${uuid}) ${revision} 3 (${capabilities.replace(/..(?!$)/g, '$& ')})`;
    });
    const text = acpiexec(tablesOf(MACHINE), calls.join(';'));
    const answers = [...text.matchAll(/\[Buffer\] Length 0C =\s+0000: ((?:[0-9A-F]{2} ){12})/g)].map(m => {
      const bytes = Buffer.from(m[1]!.replaceAll(' ', ''), 'hex');
      return [0, 4, 8].map(at => bytes.readUInt32LE(at));
    });
    expect(answers).toEqual(cases.map(([, , , , status, control]) => [status, support, control]));
  });

  it('the writer at the boundaries of PkgLength, integers and names', () => {
    const sizes = [1, 59, 60, 61, 62, 63, 64, 255, 256, 4088, 4089, 4090, 4091, 4092, 4093];
    const values = [0, 1, 2, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 2 ** 32, 0xffff_ffff_ffff_fffen];
    const adr = name('_ADR', 0);
    const references = ['B', 'B.Z', '\\A.B', '^A.B', 'B.C.W'].map(nameString);
    const ours = dsdt(
      ...sizes.map((size, n) => name(`B${n}`, buffer(new Uint8Array(size).fill(n + 2)))),
      name('INTS', packageOf(...values)),
      device(
        'A',
        adr,
        device('B', adr, device('C', adr, name('W', 'deepest'), name('^^X', 'relative')), name('Z', '')),
        name('^Y', 'parent'),
        name('\\V', 'root'),
        name('REFS', packageOf(...references)),
      ),
    );
    const theirs = compile(`
      DefinitionBlock ("", "DSDT", 2, "TSVISR", "TSVISOR ", 1) {
        ${sizes.map((size, n) => `Name (B${n}, Buffer (${size}) { ${Array(size).fill(n + 2)} })`).join('\n')}
        Name (INTS, Package () { ${values} })
        Device (A) {
          Name (_ADR, 0)
          Device (B) {
            Name (_ADR, 0)
            Device (C) { Name (_ADR, 0) Name (W, "deepest") Name (^^X, "relative") }
            Name (Z, "")
          }
          Name (^Y, "parent")
          Name (\\V, "root")
          Name (REFS, Package () { B, B.Z, \\A.B, ^A.B, B.C.W })
        }
      }`);
    expect(disassemble(ours)).toBe(disassemble(theirs));
    expect(withoutCompiler(ours)).toBe(withoutCompiler(theirs));
  });
});
