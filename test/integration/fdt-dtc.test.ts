// The device tree writer against dtc, which knows nothing of it.
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FdtNode } from '../../src/firmware/fdt/node.ts';
import { decodeFdt } from '../../src/firmware/fdt/reader.ts';
import { encodeFdt } from '../../src/firmware/fdt/writer.ts';
import { armVirtTree } from '../../src/machine/arm-virt-fdt.ts';

/** Runs dtc with `input` on its stdin. */
function dtc(args: string[], input: Uint8Array | string) {
  const r = spawnSync('dtc', [...args, '-'], { input, maxBuffer: 1 << 24 });
  return { status: r.status, stdout: r.stdout, stderr: String(r.stderr) };
}

const missing = spawnSync('dtc', ['--version']).error;
if (missing) console.log(`skipped: fdt-dtc: dtc (package device-tree-compiler) does not run: ${missing.message}`);

function example(): FdtNode {
  const root = new FdtNode();
  root.u32('#address-cells', 2).u32('#size-cells', 2).string('compatible', 'linux,dummy-virt');
  const gic = root.child('intc@8000000');
  gic
    .string('compatible', 'arm,gic-v3')
    .u32('#address-cells', 0)
    .u32('#interrupt-cells', 3)
    .empty('interrupt-controller');
  gic.u64('reg', 0x800_0000, 0x1_0000, 0x80a_0000, 0x10_0000);
  root.u32('interrupt-parent', gic);
  root.child('memory@40000000').string('device_type', 'memory').u64('reg', 0x4000_0000, 0x1_0000_0000);
  const uart = root.child('pl011@9000000').string('compatible', 'arm,pl011', 'arm,primecell');
  uart.u64('reg', 0x900_0000, 0x1000).u32('interrupts', 0, 1, 4);
  root
    .child('chosen')
    .string('bootargs', 'console=ttyAMA0 quote=" back\\slash')
    .string('stdout-path', '/pl011@9000000');
  root
    .child('odd')
    .bytes('rng-seed', Uint8Array.of(1, 2, 3, 4, 5))
    .string('empty-string', '')
    .child('deep')
    .child('er');
  return root;
}

/** A tree as plain data, for comparisons. */
function plain(n: FdtNode): unknown {
  return [n.name, [...n.properties], n.children.map(plain)];
}

const RESERVATIONS = [{ address: 0x4800_0000n, size: 0x1_0000n }];

/** The same tree as somebody would write it by hand. */
const SOURCE = String.raw`/dts-v1/;
/memreserve/ 0x48000000 0x10000;
/ {
  #address-cells = <2>; #size-cells = <2>; compatible = "linux,dummy-virt"; interrupt-parent = <&gic>;
  gic: intc@8000000 {
    compatible = "arm,gic-v3"; #address-cells = <0>; #interrupt-cells = <3>; interrupt-controller;
    reg = <0 0x8000000 0 0x10000 0 0x80a0000 0 0x100000>; phandle = <1>;
  };
  memory@40000000 { device_type = "memory"; reg = <0 0x40000000 1 0>; };
  pl011@9000000 {
    compatible = "arm,pl011", "arm,primecell"; reg = <0 0x9000000 0 0x1000>; interrupts = <0 1 4>;
  };
  chosen { bootargs = "console=ttyAMA0 quote=\" back\\slash"; stdout-path = "/pl011@9000000"; };
  odd { rng-seed = [01 02 03 04 05]; empty-string = ""; deep { er { }; }; };
};`;

describe.skipIf(missing)('the device tree writer and dtc', () => {
  it('dtc finds nothing to warn of', () => {
    const r = dtc(['-I', 'dtb', '-O', 'dts'], encodeFdt(example()));
    expect([r.status, r.stderr]).toEqual([0, '']);
  });

  it("DT-2 to DT-7: dtc finds nothing to warn of in arm-virt's tree, with its checks of the PCI binding", () => {
    for (const gic of [2, 3] as const) {
      const pins = [
        { device: 1, pin: 1, spi: 4 },
        ...[1, 2, 3, 4].map(pin => ({ device: 31, pin, spi: 3 + ((31 + pin - 1) & 3) })),
      ];
      const blob = armVirtTree({ cpus: 2, ramBytes: 2 ** 30, gic, params: '', pci: { pins, lastBus: 255 } });
      const r = dtc(['-I', 'dtb', '-O', 'dts'], blob);
      expect(r.stderr).toBe('');
      expect(String(r.stdout)).toContain('pcie@4010000000');
      expect(String(r.stdout)).toMatch(
        /ptp@90f0000 {\s*compatible = "amazon,vmclock";\s*reg = <0x00 0x90f0000 0x00 0x1000>;\s*};/,
      );
    }
  });

  it('dtc reads the same tree from our blob as from its source', () => {
    const ours = dtc(['-I', 'dtb', '-O', 'dts'], encodeFdt(example(), { reservations: RESERVATIONS, bootCpu: 0 }));
    const compiled = dtc(['-I', 'dts', '-O', 'dtb'], SOURCE);
    expect(compiled.stderr).toBe('');
    const theirs = dtc(['-I', 'dtb', '-O', 'dts'], compiled.stdout);
    expect(String(ours.stdout)).toBe(String(theirs.stdout));
    expect(String(ours.stdout)).toContain('/memreserve/');
  });

  it('we read from the blob of dtc what we wrote ourselves', () => {
    const fdt = decodeFdt(dtc(['-I', 'dts', '-O', 'dtb'], SOURCE).stdout);
    expect(fdt.reservations).toEqual(RESERVATIONS);
    const again = dtc(['-I', 'dtb', '-O', 'dts'], encodeFdt(fdt.root, fdt));
    const ours = dtc(['-I', 'dtb', '-O', 'dts'], encodeFdt(example(), { reservations: RESERVATIONS }));
    expect(String(again.stdout)).toBe(String(ours.stdout));
  });

  it('any tree comes back from dtc as it was', () => {
    const name = fc.stringMatching(/^[a-z][a-z0-9,.-]{0,20}$/);
    const properties = fc.dictionary(name, fc.uint8Array({ maxLength: 20 }), { maxKeys: 4 });
    const tree = fc.dictionary(name, fc.dictionary(name, properties, { maxKeys: 3 }), { maxKeys: 3 });
    fc.assert(
      fc.property(tree, t => {
        const root = new FdtNode();
        for (const [outer, children] of Object.entries(t)) {
          const node = root.child(outer);
          for (const [inner, values] of Object.entries(children)) {
            const leaf = node.child(inner);
            for (const [key, bytes] of Object.entries(values)) leaf.bytes(key, bytes);
          }
        }
        const r = dtc(['-q', '-f', '-I', 'dtb', '-O', 'dtb'], encodeFdt(root));
        expect([r.status, r.stderr]).toEqual([0, '']);
        expect(plain(decodeFdt(r.stdout).root)).toEqual(plain(decodeFdt(encodeFdt(root)).root));
      }),
      { numRuns: 50 },
    );
  });
});
