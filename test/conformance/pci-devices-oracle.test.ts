// The test devices edu and pci-testdev against QEMU's, register by register. QEMU's are driven through its qtest protocol
// and a machine whose CPU sleeps, since edu's factorials and DMA take time there.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { edu } from '../../src/devices/edu/device.ts';
import type { PciDeviceDefinition } from '../../src/devices/kit/definition.ts';
import { pciTestdev } from '../../src/devices/pci-testdev/device.ts';
import { kitRig } from '../support/kit-rig.ts';

const QEMU = 'qemu-system-aarch64';
const missing = spawnSync(QEMU, ['--version']).error;
if (missing)
  console.log(`skipped: pci-devices-oracle: ${QEMU} (package qemu-system-arm) does not run: ${missing.message}`);

/** Configuration space of device 1 of QEMU's virt board without high memory, and where its BARs and the RAM go. */
const CONFIG = 0x3f00_8000;
const MMIO = 0x1000_0000;
const PORTS = 0x100;
const PORT_WINDOW = 0x3eff_0000;
const RAM = 0x4000_0000;
/** In RAM, two instructions: wfi, and a branch back to it. */
const SLEEP = 0x17ff_ffff_d503_207fn;
/** Longer than edu's DMA takes in QEMU. */
const PAUSE_MS = 150;

type Size = 1 | 2 | 4 | 8;
type Op =
  | { readonly bar: 0 | 1; readonly offset: number; readonly size: Size; readonly value?: bigint }
  /** Time for what is under way to end. */
  | { readonly pause: true }
  | { readonly ram: number; readonly value?: bigint };

/** What QEMU reads, in the order of the reads among `ops`. */
async function onQemu(device: string, ops: readonly Op[]): Promise<bigint[]> {
  const loader = ['-device', `loader,addr=${RAM},data=${SLEEP},data-len=8`, '-device', `loader,addr=${RAM},cpu-num=0`];
  const args = ['-machine', 'virt,highmem=off', '-accel', 'tcg', '-nodefaults', '-display', 'none', ...loader];
  args.push('-qtest', 'stdio', '-qtest-log', 'none', '-device', `${device},addr=1.0`);
  const qemu = spawn(QEMU, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(qemu.stdout)[Symbol.asyncIterator]();
  const ask = async (command: string) => {
    qemu.stdin.write(`${command}\n`);
    const { value } = await lines.next();
    expect(value, command).toMatch(/^OK/);
    return value as string;
  };
  try {
    await ask(`writel ${CONFIG + 0x10} ${MMIO}`);
    await ask(`writel ${CONFIG + 0x14} ${PORTS}`);
    await ask(`writel ${CONFIG + 0x04} 7`);
    const letter = { 1: 'b', 2: 'w', 4: 'l', 8: 'q' } as const;
    const values: bigint[] = [];
    for (const o of ops) {
      if ('pause' in o) {
        await new Promise(resolve => setTimeout(resolve, PAUSE_MS));
        continue;
      }
      const [at, size] = 'ram' in o ? [o.ram, 4] : [(o.bar === 0 ? MMIO : PORT_WINDOW + PORTS) + o.offset, o.size];
      if (o.value === undefined) values.push(BigInt((await ask(`read${letter[size as Size]} ${at}`)).slice(3)));
      else await ask(`write${letter[size as Size]} ${at} ${o.value}`);
    }
    return values;
  } finally {
    qemu.kill();
  }
}

/** The same of ours. */
function onOurs(definition: PciDeviceDefinition, options: Record<string, unknown>, ops: readonly Op[]): bigint[] {
  const rig = kitRig(definition, { options, ramBase: RAM });
  const values: bigint[] = [];
  for (const o of ops) {
    if ('pause' in o) rig.advance(PAUSE_MS * 1e6);
    else if ('ram' in o) {
      if (o.value === undefined) values.push(BigInt(rig.memory.u32(o.ram)));
      else rig.memory.setU32(o.ram, Number(o.value));
    } else if (o.value === undefined) values.push(rig.read(o.bar, o.offset, o.size));
    else rig.write(o.bar, o.offset, o.size, o.value);
  }
  expect(rig.failures).toEqual([]);
  return values;
}

const write = (offset: number, value: number, size: Size = 4, bar: 0 | 1 = 0): Op => ({
  bar,
  offset,
  size,
  value: BigInt(value),
});
const read = (offset: number, size: Size = 4, bar: 0 | 1 = 0): Op => ({ bar, offset, size });
const pause: Op = { pause: true };

describe.skipIf(missing)('PCI test devices and those of QEMU', () => {
  it('pci-testdev: headers, selection of tests, counting', async () => {
    const bar = fc.constantFrom<0 | 1>(0, 1);
    const size = fc.constantFrom<Size>(1, 2, 4);
    const ops = fc.sample<Op>(
      fc.oneof(
        // Selection. The tests with event notifiers are left to the headers below: QEMU counts those when it reads.
        fc.record({ bar, offset: fc.constant(0), size, value: fc.constantFrom(0n, 0n, 3n, 4n, 255n) }),
        fc.record({
          bar: fc.constant<0>(0),
          offset: fc.constantFrom(0x7ff, 0x800, 0x801),
          size,
          value: fc.constantFrom(0xfan, 0xcen),
        }),
        fc.record({
          bar: fc.constant<1>(1),
          offset: fc.constantFrom(0x82, 0x83, 0x84),
          size,
          value: fc.constantFrom(0xfan, 0xfafan),
        }),
        fc.record({ bar, offset: fc.integer({ min: 0, max: 11 }).map(n => 4 * n), size }),
      ),
      { seed: 7, numRuns: 2000 },
    );
    for (const test of [0, 1, 2, 3]) {
      for (const b of [0, 1] as const) {
        ops.push(
          write(0, test, 1, b),
          ...Array.from({ length: 48 }, (_, i) => read(i, 1, b)),
          read(0, 4, 1),
          read(4, 4, 0),
        );
      }
    }
    expect(onOurs(pciTestdev, {}, ops)).toEqual(await onQemu('pci-testdev', ops));
  });

  it('edu: identification, liveness, factorials, interrupt status, widths of access', async () => {
    const ops: Op[] = [read(0x00), read(0x04), read(0x08), read(0x20), read(0x24), read(0x60), read(0x100)];
    for (const v of [0, 1, 0x1234_5678, 0xffff_ffff]) ops.push(write(0x04, v), read(0x04));
    for (const n of [0, 1, 5, 12, 13, 20, 33, 34, 35, 1000]) {
      ops.push(write(0x20, n & 1 ? 0x80 : 0xff), write(0x08, n), pause, read(0x08), read(0x20), read(0x24));
      ops.push(write(0x64, 1), read(0x24));
    }
    for (const v of [0, 1, 0xf0, 0x8000_0000, 0xffff_ffff]) {
      ops.push(write(0x60, v), read(0x24), write(0x64, v & 0x8000_00ff), read(0x24));
    }
    ops.push(write(0x64, 0xffff_ffff), read(0x24));
    ops.push(read(0x00, 8), read(0x20, 8), { bar: 0, offset: 0x08, size: 8, value: 5n }, read(0x08));
    expect(onOurs(edu, {}, ops)).toEqual(await onQemu('edu', ops));
  });

  it('edu: DMA both ways, its registers while it runs, the interrupt at its end', async () => {
    const at = RAM + 0x1000;
    const ops: Op[] = [
      ...Array.from({ length: 16 }, (_, i): Op => ({ ram: at + 4 * i, value: BigInt(0x0101_0101 * (i + 1)) })),
      // QEMU's RAM has a device tree there.
      ...Array.from({ length: 8 }, (_, i): Op => ({ ram: at + 0x100 + 4 * i, value: 0n })),
      { bar: 0, offset: 0x80, size: 8, value: BigInt(at + 3) },
      { bar: 0, offset: 0x88, size: 8, value: 0x4_0100n },
      { bar: 0, offset: 0x90, size: 8, value: 21n },
      write(0x98, 6),
      read(0x98),
      write(0x98, 5),
      read(0x98),
      write(0x80, 99),
      write(0x98, 3),
      ...[0x80, 0x88, 0x90, 0x98].flatMap(o => [read(o), read(o, 8)]),
      read(0x24),
      pause,
      read(0x98),
      read(0x24),
      write(0x64, 0x100),
      write(0x80, 0x4_0100),
      write(0x88, at + 0x100),
      write(0x84, 1),
      read(0x84),
      read(0x80, 8),
      write(0x98, 3),
      pause,
      read(0x98),
      read(0x24),
      ...Array.from({ length: 8 }, (_, i): Op => ({ ram: at + 0x100 + 4 * i })),
    ];
    const options = { dma_mask: '0xffffffff' };
    expect(onOurs(edu, options, ops)).toEqual(await onQemu('edu,dma_mask=0xffffffff', ops));
  });
});
