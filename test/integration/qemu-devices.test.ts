// PL011 and PL031 against QEMU's, register by register, through QEMU's qtest protocol: the guest's CPUs never run.
// Left out are the things in which the two mean to differ: QEMU's PL011 is r1p4 (16 characters of FIFO), has no modem
// lines, and keeps bits in registers that the UART does not have.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BusDevice } from '../../src/bus/types.ts';
import { Pl011 } from '../../src/devices/pl011/device.ts';
import { Pl031 } from '../../src/devices/pl031/device.ts';
import { createVirtualClock } from '../../src/time/virtual-clock.ts';

const QEMU = 'qemu-system-aarch64';
const missing = spawnSync(QEMU, ['--version']).error;
if (missing) console.log(`skipped: qemu-devices: ${QEMU} (package qemu-system-arm) does not run: ${missing.message}`);

interface Op {
  readonly offset: number;
  /** Undefined: a read. */
  readonly value?: number | undefined;
}

/** The values that QEMU reads from the device at `base`, in the order of the reads among `ops`. */
async function onQemu(base: number, ops: readonly Op[]): Promise<number[]> {
  const at = (o: Op) => `0x${(base + o.offset).toString(16)}`;
  const commands = ops.map(o => (o.value === undefined ? `readl ${at(o)}\n` : `writel ${at(o)} ${o.value}\n`));
  const args = ['-machine', 'virt', '-accel', 'tcg', '-S', '-nodefaults', '-display', 'none', '-serial', 'null'];
  args.push('-qtest', 'stdio', '-qtest-log', 'none', '-rtc', 'base=2023-11-14T22:13:20,clock=vm');
  const qemu = spawn(QEMU, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    qemu.stdin.end(commands.join(''));
    const answers: string[] = [];
    for await (const line of createInterface(qemu.stdout)) {
      expect(line).toMatch(/^OK/);
      if (answers.push(line) === ops.length) break; // QEMU stays at the end of its input
    }
    return answers.filter((_, i) => ops[i]?.value === undefined).map(l => Number(l.slice(3)));
  } finally {
    qemu.kill();
  }
}

/** The same on a device of ours. */
function onOurs(device: BusDevice, ops: readonly Op[]): number[] {
  const values: number[] = [];
  for (const o of ops) {
    if (o.value === undefined) values.push(device.read(o.offset, 4));
    else device.write(o.offset, 4, o.value);
  }
  return values;
}

/** The same list of `count` operations in every run. */
function operations(op: fc.Arbitrary<Op>, count = 4000): Op[] {
  return fc.sample(op, { seed: 11, numRuns: count });
}

const write = (offset: number, value: fc.Arbitrary<number>) => fc.record({ offset: fc.constant(offset), value });
const read = (...offsets: number[]) => fc.constantFrom(...offsets.map(offset => ({ offset })));

describe.skipIf(missing)('devices and those of QEMU', () => {
  it('PL011: configuration, interrupt masks and transmission', async () => {
    const ops = operations(
      fc.oneof(
        write(0x000, fc.nat(255)),
        write(0x024, fc.nat(0xffff)),
        write(0x028, fc.nat(0x3f)),
        write(
          0x02c,
          fc.nat(0x7f).map(v => v * 2),
        ), // no break
        write(
          0x030,
          fc.nat(0xffff).map(v => v & 0xff07), // no loopback
        ),
        write(0x034, fc.nat(0x3f)),
        write(0x038, fc.nat(0x7ff)),
        write(0x044, fc.nat(0x7ff)),
        { arbitrary: read(0x000, 0x004, 0x024, 0x028, 0x02c, 0x030, 0x034, 0x038, 0x03c, 0x040, 0x048), weight: 8 },
        read(0xfe0, 0xfe4, 0xfec, 0xff0, 0xff4, 0xff8, 0xffc),
      ),
    );
    const uart = new Pl011({ irq: { set: () => {} }, transmit: () => {} });
    expect(onOurs(uart, ops)).toEqual(await onQemu(0x900_0000, ops));
  });

  it('PL031: time, match and interrupt', async () => {
    const now = 1_700_000_000;
    const seconds = fc.oneof(fc.integer({ min: now - 2, max: now + 2 }), fc.constantFrom(0, 1, 0xffff_ffff));
    const ops = operations(
      fc.oneof(
        write(0x004, seconds),
        write(0x008, seconds),
        write(0x010, fc.nat(1)),
        write(0x01c, fc.nat(1)),
        { arbitrary: read(0x000, 0x004, 0x008, 0x00c, 0x010, 0x014, 0x018), weight: 6 },
        read(0xfe0, 0xfe4, 0xfec, 0xff0, 0xff4, 0xff8, 0xffc),
      ),
    );
    const clock = createVirtualClock({ startWall: BigInt(now) * 1_000_000_000n });
    expect(onOurs(new Pl031({ clock, irq: { set: () => {} } }), ops)).toEqual(await onQemu(0x901_0000, ops));
  });
});
