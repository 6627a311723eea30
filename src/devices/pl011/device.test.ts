import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Pl011, type Pl011Options } from './device.ts';
import * as R from './regs.ts';

/** UARTEN, TXE and RXE: what every driver sets. */
const ON = R.CR_UARTEN | R.CR_TXE | R.CR_RXE;
const ascii = (s: string) => Uint8Array.from(s, c => c.charCodeAt(0));

function connect(options: Partial<Pl011Options> = {}) {
  const sent: string[] = [];
  const levels: boolean[] = [];
  const uart = new Pl011({
    irq: { set: level => levels.push(level) },
    transmit: bytes => sent.push(String.fromCharCode(...bytes)),
    ...options,
  });
  const get = (offset: number) => uart.read(offset, 4);
  const set = (offset: number, value: number) => uart.write(offset, 4, value);
  /** Reads until the FIFO is empty. */
  const drain = () => {
    let s = '';
    while (!(get(R.UARTFR) & R.FR_RXFE)) s += String.fromCharCode(get(R.UARTDR) & 0xff);
    return s;
  };
  return { uart, sent, levels, get, set, drain };
}

describe('Pl011', () => {
  it('has the reset values of DDI 0183 table 3-1 and its identification', () => {
    const { get } = connect();
    const values = [0x00, 0x04, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x3c, 0x40, 0x48].map(get);
    expect(values).toEqual([0, 0, 0, 0, 0, 0, 0x300, 0x12, 0, 0, 0, 0]);
    // FR 0b-10010---, and a terminal that is connected: CTS, DSR, DCD.
    expect(get(R.UARTFR)).toBe(0x97);
    const id = [0xfe0, 0xfe4, 0xfe8, 0xfec, 0xff0, 0xff4, 0xff8, 0xffc].map(get);
    expect(id).toEqual([0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
  });

  it('keeps only the bits that exist', () => {
    const { get, set } = connect();
    for (const [offset, mask] of [
      [R.UARTILPR, 0xff],
      [R.UARTIBRD, 0xffff],
      [R.UARTFBRD, 0x3f],
      [R.UARTLCR_H, 0xff],
      [R.UARTCR, 0xff87],
      [R.UARTIFLS, 0x3f],
      [R.UARTIMSC, 0x7ff],
      [R.UARTDMACR, 7],
    ] as const) {
      set(offset, 0xffff_ffff);
      expect(get(offset)).toBe(mask);
      set(offset, 0);
      expect(get(offset)).toBe(0);
    }
    set(R.UARTFR, 0xffff); // read-only
    set(0x800, 0xffff); // nothing there
    expect([get(R.UARTFR) & R.FR_RXFE, get(0x800), get(0x04c)]).toEqual([R.FR_RXFE, 0, 0]);
  });

  it('takes narrow accesses at a word and ignores what lies beside it', () => {
    const { uart, sent } = connect();
    uart.write(R.UARTDR, 1, 0x41);
    uart.write(R.UARTDR + 1, 1, 0x42);
    uart.write(R.UARTIBRD, 2, 0x1234);
    uart.flush();
    expect(sent).toEqual(['A']);
    expect([uart.read(R.UARTIBRD, 2), uart.read(R.UARTIBRD, 1), uart.read(R.UARTIBRD + 1, 1)]).toEqual([
      0x1234, 0x34, 0,
    ]);
  });

  it('collects what is sent until flush, or until the buffer is full', () => {
    const { uart, sent, set } = connect();
    for (const c of ascii('hello')) set(R.UARTDR, c);
    expect(sent).toEqual([]);
    uart.flush();
    uart.flush();
    expect(sent).toEqual(['hello']);
    for (let i = 0; i < 5000; i++) set(R.UARTDR, 0x2e);
    expect(sent[1]?.length).toBe(4096);
    uart.reset();
    expect(sent[2]?.length).toBe(5000 - 4096);
  });

  it('raises the transmit interrupt when something was sent, until ICR', () => {
    const { levels, get, set } = connect();
    set(R.UARTIMSC, R.INT_TX);
    expect(levels).toEqual([]);
    set(R.UARTDR, 0x41);
    expect([get(R.UARTRIS), get(R.UARTMIS), levels]).toEqual([R.INT_TX, R.INT_TX, [true]]);
    set(R.UARTDR, 0x42);
    set(R.UARTICR, R.INT_TX);
    expect([get(R.UARTRIS), levels]).toEqual([0, [true, false]]);
  });

  it('receives one character at a time without FIFOs', () => {
    let rooms = 0;
    const { uart, levels, get, set } = connect({ onRoom: () => rooms++ });
    set(R.UARTIMSC, R.INT_RX);
    expect(uart.receive(ascii('xy'))).toBe(0); // UARTEN = 0
    set(R.UARTCR, ON);
    expect(rooms).toBe(1);
    expect(uart.receive(ascii('xy'))).toBe(1);
    expect(get(R.UARTFR) & (R.FR_RXFE | R.FR_RXFF)).toBe(R.FR_RXFF);
    expect([get(R.UARTRIS), levels]).toEqual([R.INT_RX, [true]]);
    expect(get(R.UARTDR)).toBe(0x78);
    expect([get(R.UARTRIS), levels, rooms]).toEqual([0, [true, false], 2]);
    expect(get(R.UARTDR)).toBe(0); // empty
  });

  it('raises RX at each trigger level exactly, and RT for what stays below', () => {
    for (const [select, trigger] of [4, 8, 16, 24, 28].entries()) {
      const { uart, get, set } = connect();
      set(R.UARTLCR_H, R.LCR_H_FEN);
      set(R.UARTIFLS, select << 3);
      set(R.UARTCR, ON);
      uart.receive(new Uint8Array(trigger - 1));
      expect(get(R.UARTRIS)).toBe(R.INT_RT);
      uart.receive(new Uint8Array(1));
      expect(get(R.UARTRIS)).toBe(R.INT_RT | R.INT_RX);
      get(R.UARTDR);
      expect(get(R.UARTRIS)).toBe(R.INT_RT);
      for (let i = 1; i < trigger; i++) get(R.UARTDR);
      expect(get(R.UARTRIS)).toBe(0);
    }
  });

  it('does not raise a cleared RX again until the level is reached anew', () => {
    const { uart, get, set } = connect();
    set(R.UARTLCR_H, R.LCR_H_FEN);
    set(R.UARTIFLS, 0);
    set(R.UARTCR, ON);
    uart.receive(new Uint8Array(6));
    set(R.UARTICR, R.INT_RX | R.INT_RT);
    uart.receive(new Uint8Array(1));
    expect(get(R.UARTRIS)).toBe(R.INT_RT);
    for (let i = 0; i < 4; i++) get(R.UARTDR);
    uart.receive(new Uint8Array(1));
    expect(get(R.UARTRIS)).toBe(R.INT_RT | R.INT_RX);
    // Another trigger level above and below what is there.
    set(R.UARTIFLS, 1 << 3);
    expect(get(R.UARTRIS)).toBe(R.INT_RT);
    set(R.UARTIFLS, 0);
    expect(get(R.UARTRIS)).toBe(R.INT_RT | R.INT_RX);
  });

  it('holds the host back when the FIFO is full and loses nothing', () => {
    const input = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) & 0xff);
    let at = 0;
    const offer = () => {
      at += port.uart.receive(input.subarray(at));
    };
    const port = connect({ onRoom: offer });
    port.set(R.UARTLCR_H, R.LCR_H_FEN);
    port.set(R.UARTCR, ON);
    offer();
    expect([at, port.get(R.UARTFR) & R.FR_RXFF]).toEqual([32, R.FR_RXFF]);
    expect(port.drain()).toBe(String.fromCharCode(...input));
    expect([at, port.get(R.UARTRIS)]).toEqual([1000, 0]);
  });

  it('waits for DTR where it is told to', () => {
    let rooms = 0;
    const { uart, set, drain } = connect({ waitForDtr: true, onRoom: () => rooms++ });
    set(R.UARTCR, ON);
    expect([uart.receive(ascii('ls\r')), rooms]).toEqual([0, 0]);
    set(R.UARTLCR_H, R.LCR_H_FEN);
    set(R.UARTCR, ON | R.CR_DTR);
    expect(rooms).toBe(1);
    expect(uart.receive(ascii('ls\r'))).toBe(3);
    expect(drain()).toBe('ls\r');
  });

  it('marks a break in DR, RSR and RIS', () => {
    const { uart, get, set } = connect();
    expect(uart.receiveBreak()).toBe(false);
    set(R.UARTLCR_H, R.LCR_H_FEN);
    set(R.UARTCR, ON);
    expect(uart.receiveBreak()).toBe(true);
    uart.receive(ascii('h'));
    expect(get(R.UARTRIS)).toBe(R.INT_BE | R.INT_RT);
    expect([get(R.UARTDR), get(R.UARTRSR)]).toEqual([R.DR_BE, 4]);
    expect([get(R.UARTDR), get(R.UARTRSR)]).toEqual([0x68, 0]);
    expect(get(R.UARTRIS)).toBe(R.INT_BE);
    set(R.UARTICR, R.INT_BE);
    expect(get(R.UARTRIS)).toBe(0);
  });

  it('loops back data, break, overrun and modem signals', () => {
    const { uart, sent, get, set } = connect();
    set(R.UARTLCR_H, R.LCR_H_FEN);
    set(R.UARTCR, ON | R.CR_LBE | R.CR_RTS | R.CR_Out2);
    expect(get(R.UARTFR) & 0x10f).toBe(R.FR_CTS | R.FR_RI);
    expect(get(R.UARTRIS)).toBe(R.INT_DSR | R.INT_DCD | R.INT_RI);
    expect(uart.receive(ascii('a'))).toBe(0);
    for (let i = 0; i < 33; i++) set(R.UARTDR, i);
    expect([get(R.UARTRIS) & R.INT_OE, get(R.UARTRSR)]).toEqual([R.INT_OE, R.RSR_OE]);
    expect(get(R.UARTDR)).toBe(R.DR_OE | 0);
    set(R.UARTDR, 0x55); // stored again: the overrun is over, but RSR keeps it until it is cleared
    expect([get(R.UARTDR), get(R.UARTRSR)]).toEqual([1, R.RSR_OE]);
    set(R.UARTRSR, 0);
    expect(get(R.UARTRSR)).toBe(0);
    set(R.UARTLCR_H, 0);
    set(R.UARTLCR_H, R.LCR_H_BRK);
    expect(get(R.UARTDR)).toBe(R.DR_BE);
    set(R.UARTCR, ON);
    expect(get(R.UARTFR) & 0x10f).toBe(R.FR_CTS | R.FR_DSR | R.FR_DCD);
    uart.flush();
    expect(sent).toEqual([]);
  });

  it('flushes the receive FIFO when FEN changes, and all state on reset', () => {
    const { uart, levels, get, set } = connect();
    set(R.UARTLCR_H, R.LCR_H_FEN);
    set(R.UARTCR, ON);
    set(R.UARTIMSC, R.INT_RT);
    uart.receive(ascii('abc'));
    set(R.UARTLCR_H, 0);
    expect([get(R.UARTFR) & R.FR_RXFE, levels]).toEqual([R.FR_RXFE, [true, false]]);
    uart.receive(ascii('d'));
    uart.reset();
    expect([get(R.UARTFR), get(R.UARTCR), get(R.UARTIMSC), get(R.UARTRIS)]).toEqual([0x97, 0x300, 0, 0]);
  });

  it('under any accesses: the line is RIS and IMSC, flags tell the truth, and nothing is lost on the way out', () => {
    const access = fc.record({
      offset: fc.oneof(
        fc.constantFrom(R.UARTDR, R.UARTLCR_H, R.UARTCR, R.UARTIFLS, R.UARTIMSC, R.UARTICR, R.UARTFR),
        fc.nat(0xfff),
      ),
      size: fc.constantFrom(1 as const, 2 as const, 4 as const),
      value: fc.option(fc.oneof(fc.nat(0xffff), fc.constant(ON), fc.constant(R.LCR_H_FEN)), { nil: undefined }),
      input: fc.nat(40),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 80 }), accesses => {
        const { uart, levels, sent, get, set } = connect();
        const expected: number[] = [];
        for (const { offset, size, value, input } of accesses) {
          const out = offset === R.UARTDR && !(get(R.UARTCR) & R.CR_LBE);
          if (value === undefined) expect(uart.read(offset, size)).toBeLessThan(2 ** (8 * size));
          else uart.write(offset, size, value % 2 ** (8 * size));
          if (value !== undefined && out) expected.push(value & 0xff);
          const taken = uart.receive(new Uint8Array(input));
          expect(levels.at(-1) ?? false).toBe((get(R.UARTRIS) & get(R.UARTIMSC)) !== 0);
          expect(get(R.UARTMIS)).toBe(get(R.UARTRIS) & get(R.UARTIMSC));
          if (taken > 0) expect(get(R.UARTFR) & R.FR_RXFE).toBe(0);
        }
        uart.flush();
        expect(sent.join('')).toBe(String.fromCharCode(...expected));
        // However it was left: the FIFO holds no more than its depth.
        set(R.UARTCR, 0);
        let left = 0;
        for (; !(get(R.UARTFR) & R.FR_RXFE); left++) get(R.UARTDR);
        expect(left).toBeLessThanOrEqual(R.FIFO_DEPTH);
        expect(get(R.UARTRIS) & (R.INT_RX | R.INT_RT)).toBe(0);
      }),
    );
  });

  it('goes on in another one: registers, what was received, its interrupt', () => {
    const a = connect();
    a.set(R.UARTCR, ON);
    a.set(R.UARTLCR_H, R.LCR_H_FEN);
    a.set(R.UARTIMSC, R.INT_RX | R.INT_RT);
    a.set(R.UARTIBRD, 26);
    a.uart.receive(ascii('xyz'));
    a.get(R.UARTDR);
    const b = connect();
    b.uart.restore(structuredClone(a.uart.save()));
    for (const offset of [R.UARTFR, R.UARTCR, R.UARTLCR_H, R.UARTIMSC, R.UARTRIS, R.UARTMIS, R.UARTIBRD, R.UARTIFLS]) {
      expect(b.get(offset)).toBe(a.get(offset));
    }
    expect(b.levels.at(-1)).toBe(a.levels.at(-1));
    expect(b.drain()).toBe('yz');
    expect(a.drain()).toBe('yz');
  });
});
