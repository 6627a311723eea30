// The fixed devices of x86-pc against those of QEMU's q35 machine: the same random program of port accesses runs as code on
// QEMU and as calls on ours, at the same moments, and every value that is read is compared. QEMU counts time in
// instructions, so that a run is the same each time. What the two mean to differ in stands where a test leaves it out.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createAddressBus } from '../../src/bus/address-bus.ts';
import type { AddressBus } from '../../src/bus/types.ts';
import { AcpiPm } from '../../src/devices/acpi-pm/device.ts';
import * as P from '../../src/devices/acpi-pm/regs.ts';
import { I8042 } from '../../src/devices/i8042/device.ts';
import * as K from '../../src/devices/i8042/regs.ts';
import { Mc146818 } from '../../src/devices/mc146818/device.ts';
import * as M from '../../src/devices/mc146818/regs.ts';
import { PcReset } from '../../src/devices/pc-reset/device.ts';
import { Uart16550 } from '../../src/devices/uart16550/device.ts';
import * as U from '../../src/devices/uart16550/regs.ts';
import { ConfigMechanism1 } from '../../src/pci/mechanism1.ts';
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
const PIC = { command: 0x20, data: 0x21, elcr: 0x4d0, slave: 0xa0 } as const;

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
          // Received data and time-out have one priority (table IV). QEMU tells of the time-out above the trigger level too.
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

  describe('RTC', () => {
    const R_RAM = { start: 0x0e, end: 0x80 };
    const BASE = '2024-02-28T23:59:50';
    const index = (register: number) => write(0x70, register);
    const get = (register: number) => [index(register), read(0x71)];
    const set = (register: number, value: number) => [index(register), write(0x71, value)];
    const bcd = (n: number) => (Math.floor(n / 10) << 4) | (n % 10);
    const TIME = [M.SECONDS, M.MINUTES, M.HOURS, M.DAY_OF_WEEK, M.DATE_OF_MONTH, M.MONTH, M.YEAR, M.CENTURY];

    function run(ops: PortOp[]): void {
      const theirs = runOnQemu(ops, ['-rtc', `base=${BASE},clock=vm`]);
      const clock = createVirtualClock({ startWall: BigInt(Date.parse(`${BASE}Z`)) * 1_000_000n });
      const bus = createAddressBus();
      const rtc = new Mc146818({ clock, irq: { set: () => {} } });
      bus.map(0x70, 2, rtc);
      const before: ReturnType<Mc146818['save']>[] = [];
      const ours = onOurs(bus, clock, ops, theirs, n => (before[n + 1] = rtc.save()));
      let since = 0;
      compare(ops, theirs, ours, (n, qemu, own) => {
        const { index, control } = before[n] ?? before[1]!;
        const op = ops[n]!;
        const data = ('in' in op && op.in === 0x71) || ('out' in op && op.out === 0x71);
        const ns = theirs[n]!.ns - since;
        if (data && (index === M.REGISTER_A || index === M.REGISTER_B || index === M.REGISTER_C)) since = theirs[n]!.ns;
        let mask = 0xff;
        // QEMU's UIP lasts 244 us, as if an update took no time.
        if (index === M.REGISTER_A) mask &= ~M.A_UIP;
        if (index === M.REGISTER_C) {
          const [a, b] = control;
          const rs = a & M.A_RS;
          const period = rs === 0 ? 0 : 2 ** ((rs < 3 ? rs + 7 : rs) - 1) * (1e9 / 32768);
          // QEMU raises PF only with PIE (the data sheet: "independent of the state of the PIE bit") ...
          if (!(b & M.B_PIE)) mask &= ~M.C_PF;
          // ... and counts its periods from when PIE or the rate is written, not by the divider chain.
          else if (ns < period) mask &= ~(M.C_PF | (qemu & b & (M.C_AF | M.C_UF) ? 0 : M.C_IRQF));
        }
        return (qemu & mask) === (own & mask);
      });
    }

    /** A number as Register B says: BCD or binary. */
    const number = (b: number, n: number) => (b & M.B_DM ? n : bcd(n));
    const hours = (b: number, h: number) =>
      b & M.B_24_HOURS ? number(b, h) : number(b, h % 12 || 12) | (h >= 12 ? M.PM : 0);
    const FORMATS = [0x02, 0x06, 0x00, 0x04];

    it('the time in each format, as it runs', () => {
      const ops: PortOp[] = [];
      for (const b of FORMATS) {
        ops.push(...set(M.REGISTER_B, b));
        for (let i = 0; i < 15; i++) ops.push(...TIME.flatMap(get), wait(1.01e9));
      }
      run(ops);
    });

    it('the time as it is set, with the divider chain in reset and without, and one register while it runs', () => {
      const ops: PortOp[] = [];
      const times = fc.sample(
        fc.record({
          b: fc.constantFrom(...FORMATS),
          date: fc.date({ min: new Date('1970-01-01'), max: new Date('2199-12-31'), noInvalidDate: true }),
          divider: fc.boolean(),
          pause: fc.nat(2_500_000_000),
          minute: fc.nat(59),
        }),
        { seed: 146818, numRuns: 60 },
      );
      for (const { b, date, divider, pause, minute } of times) {
        ops.push(...set(M.REGISTER_B, b | M.B_SET), ...get(M.REGISTER_B), ...get(M.REGISTER_A));
        if (divider) ops.push(...set(M.REGISTER_A, 0x76), ...get(M.REGISTER_A));
        ops.push(
          ...set(M.SECONDS, number(b, date.getUTCSeconds())),
          ...set(M.MINUTES, number(b, date.getUTCMinutes())),
          ...set(M.HOURS, hours(b, date.getUTCHours())),
          ...set(M.DAY_OF_WEEK, date.getUTCDay() + 1),
          ...set(M.DATE_OF_MONTH, number(b, date.getUTCDate())),
          ...set(M.MONTH, number(b, date.getUTCMonth() + 1)),
          ...set(M.YEAR, number(b, date.getUTCFullYear() % 100)),
          ...set(M.CENTURY, number(b, Math.floor(date.getUTCFullYear() / 100))),
          wait(pause / 2),
          ...TIME.flatMap(get),
          ...set(M.REGISTER_B, b),
        );
        if (divider) ops.push(...TIME.flatMap(get), wait(pause), ...set(M.REGISTER_A, 0x26));
        for (let i = 0; i < 6; i++) ops.push(wait(0.31e9), ...TIME.flatMap(get));
        // QEMU lets a second begin with a write of one register, though only DV holds the divider chain: DV, then.
        ops.push(...set(M.MINUTES, number(b, minute)), ...TIME.flatMap(get));
        ops.push(...set(M.REGISTER_A, 0x66), ...set(M.REGISTER_A, 0x26));
      }
      run(ops);
    });

    it('alarm, update-ended and periodic interrupts', () => {
      const alarms = fc.sample(
        fc.record({
          b: fc.constantFrom(...FORMATS),
          enabled: fc.constantFrom(0, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70),
          rate: fc.nat(15),
          from: fc.nat(86_399),
          after: fc.nat(4),
          any: fc.nat(7),
          pauses: fc.array(fc.nat(1_500_000_000), { minLength: 3, maxLength: 6 }),
        }),
        { seed: 6818, numRuns: 50 },
      );
      const ops: PortOp[] = [];
      for (const { b, enabled, rate, from, after, any, pauses } of alarms) {
        const to = from + after;
        const clock = (r: number, t: number) => [
          ...set(M.SECONDS + r, number(b, t % 60)),
          ...set(M.MINUTES + r, number(b, Math.floor(t / 60) % 60)),
          ...set(M.HOURS + r, hours(b, Math.floor(t / 3600) % 24)),
        ];
        ops.push(
          ...set(M.REGISTER_B, b | M.B_SET),
          ...set(M.REGISTER_A, 0x20 | rate),
          ...clock(0, from),
          ...clock(1, to),
        );
        // Another format is for every register.
        ops.push(
          ...[M.DATE_OF_MONTH, M.MONTH, M.YEAR, M.CENTURY].flatMap(r => set(r, number(b, r === M.CENTURY ? 20 : 7))),
        );
        for (const [bit, r] of [M.SECONDS_ALARM, M.MINUTES_ALARM, M.HOURS_ALARM].entries()) {
          if (any & (1 << bit)) ops.push(...set(r, 0xc0 | rate), ...get(r));
        }
        ops.push(...get(M.REGISTER_C), ...set(M.REGISTER_B, b | enabled), ...get(M.REGISTER_B));
        for (const p of pauses) ops.push(wait(p), ...get(M.REGISTER_C), ...get(M.REGISTER_C), ...get(M.SECONDS));
      }
      run(ops);
    });

    it('the RAM and the bits of the registers', () => {
      const ops: PortOp[] = [];
      // Not 0x32, the century, and not 0x37, which QEMU makes another name of it.
      const cells = Array.from({ length: R_RAM.end - R_RAM.start }, (_, i) => R_RAM.start + i);
      for (const c of cells.filter(r => r !== 0x32 && r !== 0x37)) ops.push(...set(c, (c * 37) & 0xff));
      for (const c of cells.filter(r => r !== 0x32 && r !== 0x37)) ops.push(...get(c), read(0x70), ...get(c | 0x80));
      for (const v of [0x00, 0x0f, 0x2a, 0x79, 0xff, 0x26]) ops.push(...set(M.REGISTER_A, v), ...get(M.REGISTER_A));
      for (const v of [0x80, 0x9a, 0xff, 0x8f, 0x0f, 0x0d, 0x02])
        ops.push(...set(M.REGISTER_B, v), ...get(M.REGISTER_B));
      for (const r of [M.REGISTER_C, M.REGISTER_D]) ops.push(...get(r), ...set(r, 0x55), ...get(r));
      ops.push(write(0x70, 0xab_10, 2), read(0x71), read(0x70, 2), read(0x71));
      run(ops);
    });
  });

  describe('ACPI PM', () => {
    const EVENT = 0x600;
    const CONTROL = 0x604;
    const TIMER = 0x608;
    const EVENTS = P.TMR | P.GBL | P.PWRBTN | P.RTC;
    /** Base address and enable, in the configuration space of QEMU's LPC bridge; then it enters ACPI mode. */
    const setup = [
      write(0xcf8, 0x8000_f840, 4),
      write(0xcfc, EVENT | 1, 4),
      write(0xcf8, 0x8000_f844, 4),
      write(0xcfc, 0x80),
      write(0xb2, 2),
    ];

    /** @param speed how much faster our clock is than QEMU's. */
    function onOurPm(ops: readonly PortOp[], times: readonly PortResult[], speed: number) {
      const clock = createVirtualClock({ startWall: 0n });
      const bus = createAddressBus();
      let sci = false;
      const asleep: string[] = [];
      const pm = new AcpiPm({
        sci: { set: l => (sci = l) },
        clock,
        sleepTypeS5: 5,
        powerOff: () => asleep.push('off'),
        log: line => asleep.push(line),
      });
      bus.map(EVENT, 4, pm.event);
      bus.map(CONTROL, 2, pm.control);
      bus.map(TIMER, 4, pm.timer);
      bus.map(PIC.slave, 1, { name: 'irr', read: () => (sci ? 1 << 1 : 0), write: () => {} });
      const scaled = times.map(t => ({ ...t, ns: t.ns * speed }));
      const ours = onOurs(bus, clock, ops, scaled);
      expect(asleep).toEqual([]);
      return ours;
    }

    it('the timer, to the tick', () => {
      const waits = fc.sample(fc.nat(400_000_000), { seed: 3579545, numRuns: 300 });
      const ops = [...setup, ...waits.flatMap(ns => [wait(ns), read(TIMER, 4), read(TIMER, 4)])];
      const theirs = runOnQemu(ops, []);
      // QEMU's timer has 24 bits.
      compare(ops, theirs, onOurPm(ops, theirs, 1), (n, a, b) => !('in' in ops[n]!) || a === b % 2 ** 24);
    });

    it('events, their enables, the SCI, and control', () => {
      const word = fc.nat(0xffff);
      const step = fc.oneof(
        word.map(v => write(EVENT + P.PM1_STS, v, 2)),
        word.map(v => write(EVENT + P.PM1_EN, v, 2)),
        fc.constantFrom(0, P.TMR).map(v => write(EVENT + P.PM1_EN, v, 2)),
        fc.constant(read(EVENT + P.PM1_STS, 2)),
        fc.constant(read(EVENT + P.PM1_EN, 2)),
        word.map(v => write(CONTROL, (v | P.SCI_EN) & ~P.SLP_EN, 2)),
        fc.constant(read(CONTROL, 2)),
        // Not the byte behind it: QEMU answers with the first one.
        fc.constant(read(CONTROL, 1)),
        fc.nat(1_500_000_000).map(wait),
      );
      // QEMU's TMR_STS is set at first, as if the timer had come from a full turn to its 0.
      const ops = [...setup, write(EVENT + P.PM1_STS, P.TMR, 2), write(0x4d1, 1 << 1), write(PIC.slave, 0x0a)];
      for (const s of fc.sample(step, { seed: 600, numRuns: 2000 })) ops.push(s, read(PIC.slave));
      const theirs = runOnQemu(ops, []);
      // Bit 31 of a timer that is 256 times as fast is bit 23 of QEMU's, which sets its TMR_STS.
      const ours = onOurPm(ops, theirs, 256);
      const high = ours.filter((v, n) => 'in' in ops[n]! && ops[n].in === PIC.slave && v !== 0).length;
      expect(high).toBeGreaterThan(100);
      compare(ops, theirs, ours, (n, qemu, own) => {
        const op = ops[n]!;
        if (!('in' in op)) return true;
        // QEMU keeps reserved bits, which read as zero (section 4.8.3).
        if (op.in === EVENT + P.PM1_EN) return (qemu & EVENTS) === own;
        if (op.in === PIC.slave) return (qemu & (1 << 1)) === own;
        const control = P.SCI_EN | P.BM_RLD | P.SLP_TYP;
        if (op.in === CONTROL) return (qemu & control & (256 ** op.size - 1)) === own;
        return qemu === own;
      });
    });
  });

  it('i8042: tests, command byte, output port', () => {
    // Without what resets, what closes A20 (QEMU's CPU would run into the void), and what tells of a keyboard or a mouse.
    const step = fc.oneof(
      fc
        .constantFrom(
          K.READ_COMMAND_BYTE,
          K.SELF_TEST,
          K.TEST_KEYBOARD,
          K.DISABLE_KEYBOARD,
          K.ENABLE_KEYBOARD,
          K.READ_OUTPUT_PORT,
          K.ENABLE_A20,
          0xff,
        )
        .map(c => [write(0x64, c)]),
      fc.nat(0xff).map(v => [write(0x64, K.WRITE_COMMAND_BYTE), write(0x60, v)]),
      // Without the bits that tell of the output buffer: QEMU shows what was written until the buffer changes.
      fc
        .nat(0xff)
        .map(v => [
          write(0x64, K.WRITE_OUTPUT_PORT),
          write(0x60, (v & ~K.OUTPUT_BUFFER_FULL) | K.OUTPUT_RESET | K.OUTPUT_A20),
        ]),
      fc.nat(0xff).map(v => [write(0x64, K.WRITE_KEYBOARD_BUFFER), write(0x60, v)]),
    );
    const ops = fc
      .sample(step, { seed: 8042, numRuns: 1000 })
      .flatMap(s => [...s, read(0x64), read(0x60), read(0x64), read(0x60)]);
    const theirs = runOnQemu(ops, []);
    const bus = createAddressBus();
    const i8042 = new I8042({ reset: () => expect.fail('reset') });
    bus.map(0x60, 1, i8042.data);
    bus.map(0x64, 1, i8042.command);
    const ours = onOurs(bus, createVirtualClock({ startWall: 0n }), ops, theirs);
    compare(ops, theirs, ours, (n, qemu, own) => {
      const op = ops[n]!;
      // QEMU's status does not tell which port was written last.
      return 'in' in op && op.in === 0x64 ? (qemu | K.STATUS_COMMAND) === (own | K.STATUS_COMMAND) : qemu === own;
    });
  });

  it('CONFIG_ADDRESS and the reset control register at its second byte', () => {
    const dword = fc.nat(0xffff_ffff);
    const step = fc.oneof(
      dword.map(v => write(0xcf8, v, 4)),
      fc.nat(0xff).map(v => write(0xcf9, v & ~0x04)),
      fc.constant(read(0xcf8, 4)),
      fc.constant(read(0xcf9)),
    );
    const ops = fc.sample(step, { seed: 0xcf9, numRuns: 1000 });
    const theirs = runOnQemu(ops, []);
    const bus = createAddressBus();
    const portCf9 = new PcReset({ reset: () => expect.fail('reset') });
    bus.map(0xcf8, 8, new ConfigMechanism1({ configRead: () => 0, configWrite: () => {} }, { portCf9 }));
    const ours = onOurs(bus, createVirtualClock({ startWall: 0n }), ops, theirs);
    compare(ops, theirs, ours, (n, qemu, own) => {
      const op = ops[n]!;
      // QEMU keeps the reserved bits 30:24 and the two low ones, which are zero (PCI 3.0 figure 3-2).
      return ('in' in op && op.size === 4 ? (qemu & 0x80ff_fffc) >>> 0 : qemu) === own;
    });
  });
});
