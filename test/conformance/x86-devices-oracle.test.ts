// The fixed devices of x86-pc against those of QEMU's q35 machine: the same random program of port accesses runs as code on
// QEMU and as calls on ours, at the same moments, and every value that is read is compared. QEMU counts time in
// instructions, so that a run is the same each time. What the two mean to differ in stands where a test leaves it out.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createAddressBus } from '../../src/bus/address-bus.ts';
import type { AddressBus } from '../../src/bus/types.ts';
import { Uart16550 } from '../../src/devices/uart16550/device.ts';
import * as U from '../../src/devices/uart16550/regs.ts';
import { createVirtualClock } from '../../src/time/virtual-clock.ts';
import { missingX86Tools, type PortOp, type PortResult, runOnQemu } from '../support/x86-port-program.ts';

const missing = missingX86Tools();
if (missing.length > 0) console.log(`skipped: x86-devices-oracle: not installed: ${missing.join(', ')}`);

type Width = 1 | 2 | 4;
const read = (port: number, size: Width = 1): PortOp => ({ in: port, size });
const write = (port: number, value: number, size: Width = 1): PortOp => ({ out: port, size, value });
const wait = (ns: number): PortOp => ({ wait: ns });

/** Runs `ops` on `bus` at the moments when QEMU did them, and returns what was read. */
function onOurs(
  bus: AddressBus,
  clock: ReturnType<typeof createVirtualClock>,
  ops: readonly PortOp[],
  times: readonly PortResult[],
  after: (n: number) => void = () => {},
): number[] {
  return ops.map((op, n) => {
    // Timers run at their own time, not at the time of the next access.
    const now = times[n]!.ns;
    while (clock.nextDeadline() <= now) {
      clock.advanceTo(clock.nextDeadline());
      clock.runDue();
    }
    clock.advanceTo(now);
    let value = 0;
    if ('in' in op) value = bus.read(op.in, op.size);
    else if ('out' in op) bus.write(op.out, op.size, op.value);
    after(n);
    return value;
  });
}

/** A readable account of the first difference, with what led to it. */
function compare(
  ops: readonly PortOp[],
  theirs: readonly PortResult[],
  ours: readonly number[],
  same: (n: number, theirs: number, ours: number) => boolean = (_, a, b) => a === b,
) {
  const n = ops.findIndex((_, i) => !same(i, theirs[i]!.value, ours[i]!));
  const account = (i: number) =>
    `${i}: ${JSON.stringify(ops[i])} at ${theirs[i]!.ns}: QEMU ${theirs[i]!.value.toString(16)}, ours ${ours[i]!.toString(16)}`;
  if (n >= 0) {
    const from = Math.max(0, n - 30);
    expect.fail(Array.from({ length: n - from + 1 }, (_, i) => account(from + i)).join('\n'));
  }
}

/** Ports of the PIC: its request register follows a level-triggered input, which shows the interrupt line. */
const PIC = { command: 0x20, data: 0x21, elcr: 0x4d0, slave: 0x80 } as const;

describe.skipIf(missing.length > 0)('the fixed devices of x86-pc and those of QEMU', () => {
  const COM1 = 0x3f8;

  it('UART: registers, FIFOs, loopback, interrupts', () => {
    const reg = (offset: number, value: fc.Arbitrary<number>) => value.map(v => write(COM1 + offset, v));
    const byte = fc.integer({ min: 0, max: 255 });
    /** Four characters at the lowest speed that a test sets: QEMU's receive time-out. */
    const pause = wait(10e6);
    const divisor = (low: number, high: number) => [
      write(COM1 + U.LCR, 0x80 | low),
      write(COM1 + U.DLL, low),
      write(COM1 + U.DLM, high),
      ...[U.DLL, U.DLM, U.IIR, U.LCR, U.LSR].map(o => read(COM1 + o)),
      write(COM1 + U.LCR, 0x03),
    ];
    const step = fc.oneof(
      { weight: 8, arbitrary: reg(U.THR, byte) },
      { weight: 3, arbitrary: fc.nat(7).map(o => read(COM1 + o)) },
      { weight: 2, arbitrary: fc.constant(read(COM1 + U.RBR)) },
      { weight: 3, arbitrary: fc.constant(read(COM1 + U.IIR)) },
      { weight: 2, arbitrary: fc.constant(read(COM1 + U.LSR)) },
      // Without EDSSI, see MSR below.
      { weight: 2, arbitrary: reg(U.IER, fc.nat(7)) },
      // Without bit 0 the other bits are not programmed (section 8.5); QEMU resets the FIFOs by them.
      {
        weight: 1,
        arbitrary: reg(
          U.FCR,
          byte.map(v => (v & U.FCR_ENABLE ? v : 0)),
        ),
      },
      { weight: 1, arbitrary: reg(U.FCR, fc.constantFrom(0x01, 0x41, 0x81, 0xc1)) },
      {
        weight: 2,
        arbitrary: reg(
          U.MCR,
          byte.map(v => v | U.MCR_LOOP),
        ),
      },
      { weight: 1, arbitrary: reg(U.MCR, byte) },
      { weight: 1, arbitrary: reg(U.SCR, byte) },
    );
    const steps = fc.sample(step, { seed: 16550, numRuns: 6000 });
    const ops = [write(COM1 + U.MCR, 0), write(PIC.elcr, 1 << 4), write(PIC.command, 0x0a)];
    for (const [n, s] of steps.entries()) {
      ops.push(s, pause, read(PIC.command));
      if (n % 50 === 0) ops.push(...divisor(n & 0xff, n >> 5), ...divisor(1 + (n % 12), 0));
    }
    const theirs = runOnQemu(ops, ['-serial', 'null']);

    const bus = createAddressBus();
    let line = false;
    const uart = new Uart16550({ irq: { set: l => (line = l) }, transmit: () => {} });
    bus.map(COM1, 8, uart);
    bus.map(PIC.command, 1, { name: 'irr', read: () => (line ? 1 << 4 : 0), write: () => {} });
    bus.map(PIC.elcr, 1, { name: 'elcr', read: () => 0, write: () => {} });
    const before: ReturnType<Uart16550['save']>[] = [];
    const ours = onOurs(bus, createVirtualClock({ startWall: 0n }), ops, theirs, n => (before[n + 1] = uart.save()));

    let compared = 0;
    compare(ops, theirs, ours, (n, qemu, own) => {
      const op = ops[n]!;
      if (!('in' in op) || n === 0) return true;
      const { registers, received } = before[n]!;
      const [, fcr, lcr, mcr] = registers;
      compared++;
      switch (op.in) {
        case PIC.command: {
          // QEMU's line has no buffer that OUT2 opens.
          const open = (mcr & (U.MCR_OUT2 | U.MCR_LOOP)) === U.MCR_OUT2;
          return (open ? qemu & (1 << 4) : 0) === own;
        }
        case COM1 + U.RBR:
          // Without data ready, its content is nothing to rely on; QEMU shows the character before.
          return qemu === own || (received.length === 0 && (lcr & U.LCR_DLAB) === 0);
        case COM1 + U.IIR:
          // Received data and time-out have one priority (table IV). QEMU tells of the time-out also above the trigger level.
          return qemu === own || (own === 0xc4 && qemu === 0xcc && received.length >= U.RCVR_TRIGGER[fcr >> 6]!);
        case COM1 + U.MSR:
          // QEMU's modem lines do not notice that loopback changes them, so the bits of changes stay clear.
          return (qemu & 0xf0) === (own & 0xf0);
        default:
          return qemu === own;
      }
    });
    expect(compared).toBeGreaterThan(8000);
  });
});
