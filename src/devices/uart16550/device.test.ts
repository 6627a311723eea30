import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Uart16550, type Uart16550Options } from './device.ts';
import * as R from './regs.ts';

const ascii = (s: string) => Uint8Array.from(s, c => c.charCodeAt(0));

function connect(options: Partial<Uart16550Options> = {}) {
  const sent: string[] = [];
  const levels: boolean[] = [];
  const uart = new Uart16550({
    irq: { set: level => levels.push(level) },
    transmit: bytes => sent.push(String.fromCharCode(...bytes)),
    ...options,
  });
  const get = (offset: number) => uart.read(offset, 1);
  const set = (offset: number, value: number) => uart.write(offset, 1, value);
  /** Reads until there is no data. */
  const drain = () => {
    let s = '';
    while (get(R.LSR) & R.LSR_DR) s += String.fromCharCode(get(R.RBR));
    return s;
  };
  return { uart, sent, levels, get, set, drain };
}

describe('Uart16550', () => {
  it('has the reset values of table I, and the divisor of 9600 baud', () => {
    const { uart, get, set, levels } = connect();
    const registers = () => [R.RBR, R.IER, R.IIR, R.LCR, R.MCR, R.LSR, R.MSR, R.SCR].map(get);
    const fresh = [0, 0, 1, 0, 0, 0x60, 0xb0, 0];
    expect(registers()).toEqual(fresh);
    set(R.LCR, R.LCR_DLAB);
    expect([get(R.DLL), get(R.DLM)]).toEqual([12, 0]);
    for (let offset = 0; offset < 8; offset++) set(offset, 0xff);
    uart.reset();
    expect([registers(), levels.at(-1) ?? false]).toEqual([fresh, false]);
  });

  it('keeps only the bits that exist', () => {
    const { get, set } = connect();
    const written = [
      [R.IER, 0x0f],
      [R.LCR, 0xff],
      [R.MCR, 0x1f],
      [R.SCR, 0xff],
    ] as const;
    for (const [offset, mask] of written) {
      set(offset, 0xff);
      expect(get(offset)).toBe(mask);
      if (offset !== R.LCR) set(offset, 0);
    }
    // DLAB is set now.
    set(R.DLL, 0x34);
    set(R.DLM, 0x12);
    expect([get(R.DLL), get(R.DLM)]).toEqual([0x34, 0x12]);
    set(R.LCR, 0x03);
    expect([get(R.RBR), get(R.IER)]).toEqual([0, 0]);
    set(R.LSR, 0xff);
    set(R.MSR, 0xff);
    expect([get(R.LSR), get(R.IIR)]).toEqual([0x60, 1]);
  });

  it('takes a wide access as bytes in order, and wraps at its eight ports', () => {
    const { uart, get, sent } = connect();
    uart.write(R.LCR, 2, 0x0b03);
    expect([get(R.LCR), get(R.MCR), uart.read(R.LCR, 4)]).toEqual([0x03, 0x0b, 0xb060_0b03]);
    uart.write(R.SCR, 2, 0x41_5a);
    uart.flush();
    expect([get(R.SCR), sent]).toEqual([0x5a, ['A']]);
  });

  it('collects what is sent until flush, or until the buffer is full', () => {
    const { uart, sent, set } = connect();
    for (const c of ascii('hello')) set(R.THR, c);
    expect(sent).toEqual([]);
    uart.flush();
    uart.flush();
    expect(sent).toEqual(['hello']);
    for (let i = 0; i < 5000; i++) set(R.THR, 0x2e);
    expect(sent[1]?.length).toBe(4096);
    uart.reset();
    expect(sent[2]?.length).toBe(5000 - 4096);
  });

  it('raises the transmit interrupt when it is enabled and when THR runs empty, until IIR shows it', () => {
    const { levels, get, set } = connect();
    set(R.MCR, R.MCR_OUT2);
    // What Linux probes for: enabled twice, raised twice.
    for (let i = 0; i < 2; i++) {
      set(R.IER, R.IER_ETBEI);
      expect([get(R.IIR), get(R.IIR)]).toEqual([R.IIR_THR_EMPTY, R.IIR_NONE]);
      set(R.IER, 0);
    }
    expect(levels).toEqual([true, false, true, false]);
    levels.length = 0;
    set(R.IER, R.IER_ETBEI);
    get(R.IIR);
    set(R.THR, 0x41);
    // A second character takes the interrupt back and raises it again, for a controller that waits for an edge.
    set(R.THR, 0x42);
    expect([[...levels], get(R.IIR)]).toEqual([[true, false, true, false, true], R.IIR_THR_EMPTY]);
    expect(levels.at(-1)).toBe(false);
    // Setting what is set is no change.
    set(R.IER, R.IER_ETBEI | R.IER_ERBFI);
    expect(get(R.IIR)).toBe(R.IIR_NONE);
  });

  it('does not take back the transmit interrupt when IIR shows another one', () => {
    const { uart, get, set } = connect();
    set(R.IER, R.IER_ETBEI | R.IER_ERBFI);
    uart.receive(ascii('x'));
    expect([get(R.IIR), get(R.IIR)]).toEqual([R.IIR_RECEIVED_DATA, R.IIR_RECEIVED_DATA]);
    get(R.RBR);
    expect([get(R.IIR), get(R.IIR)]).toEqual([R.IIR_THR_EMPTY, R.IIR_NONE]);
  });

  it('receives one character at a time without FIFOs', () => {
    let rooms = 0;
    const { uart, levels, get, set } = connect({ onRoom: () => rooms++ });
    set(R.MCR, R.MCR_OUT2);
    set(R.IER, R.IER_ERBFI);
    expect(uart.receive(ascii('xy'))).toBe(1);
    expect([get(R.LSR), get(R.IIR), levels]).toEqual([0x61, R.IIR_RECEIVED_DATA, [true]]);
    expect([get(R.RBR), rooms]).toEqual([0x78, 1]);
    expect([get(R.LSR), get(R.IIR), levels]).toEqual([0x60, R.IIR_NONE, [true, false]]);
    expect(uart.receive(ascii('y'))).toBe(1);
    expect([get(R.RBR), rooms]).toEqual([0x79, 1]);
  });

  it('tells of received data at each trigger level exactly, and of a time-out below', () => {
    for (const [select, trigger] of [1, 4, 8, 14].entries()) {
      const { uart, levels, get, set } = connect();
      set(R.FCR, R.FCR_ENABLE | (select << 6));
      set(R.MCR, R.MCR_OUT2);
      set(R.IER, R.IER_ERBFI);
      uart.receive(new Uint8Array(trigger - 1));
      expect(get(R.IIR)).toBe(trigger > 1 ? 0xcc : 0xc1);
      uart.receive(new Uint8Array(1));
      expect(get(R.IIR)).toBe(0xc4);
      get(R.RBR);
      expect(get(R.IIR)).toBe(trigger > 1 ? 0xcc : 0xc1);
      for (let i = 1; i < trigger; i++) get(R.RBR);
      expect([get(R.IIR), levels]).toEqual([0xc1, [true, false]]);
    }
  });

  it('holds the host back when the FIFO is full and loses nothing', () => {
    const input = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) & 0xff);
    let at = 0;
    const offer = () => {
      at += port.uart.receive(input.subarray(at));
    };
    const port = connect({ onRoom: offer });
    port.set(R.FCR, R.FCR_ENABLE);
    offer();
    expect(at).toBe(16);
    expect(port.drain()).toBe(String.fromCharCode(...input));
    expect([at, port.get(R.LSR)]).toEqual([1000, 0x60]);
  });

  it('waits for DTR where it is told to', () => {
    let rooms = 0;
    const { uart, set, drain } = connect({ waitForDtr: true, onRoom: () => rooms++ });
    set(R.FCR, R.FCR_ENABLE);
    expect([uart.receive(ascii('ls\r')), rooms]).toEqual([0, 0]);
    set(R.MCR, R.MCR_DTR);
    expect(rooms).toBe(1);
    expect(uart.receive(ascii('ls\r'))).toBe(3);
    expect(drain()).toBe('ls\r');
  });

  it('empties the receive FIFO when FCR says so, and when FCR0 changes', () => {
    const { uart, get, set, drain } = connect();
    uart.receive(ascii('a'));
    set(R.FCR, R.FCR_RCVR_RESET | R.FCR_XMIT_RESET); // not programmed without FCR0
    expect(get(R.LSR) & R.LSR_DR).toBe(1);
    set(R.FCR, R.FCR_ENABLE);
    expect(get(R.LSR) & R.LSR_DR).toBe(0);
    uart.receive(ascii('bcd'));
    set(R.FCR, R.FCR_ENABLE | 0xc0);
    expect([get(R.IIR), drain()]).toEqual([0xc1, 'bcd']);
    uart.receive(ascii('efg'));
    set(R.FCR, R.FCR_ENABLE | R.FCR_RCVR_RESET);
    expect(drain()).toBe('');
    uart.receive(ascii('hij'));
    set(R.FCR, 0);
    expect([get(R.IIR), drain()]).toEqual([R.IIR_NONE, '']);
  });

  it('loops back data, overrun and modem signals, and is cut off from the line and the interrupt', () => {
    const { uart, sent, levels, get, set } = connect();
    // What Linux's autoconfiguration expects of a UART.
    set(R.MCR, R.MCR_LOOP | R.MCR_OUT2 | R.MCR_RTS);
    expect(get(R.MSR) & 0xf0).toBe(0x90);
    for (const [output, input] of [
      [R.MCR_DTR, R.MSR_DSR],
      [R.MCR_RTS, R.MSR_CTS],
      [R.MCR_OUT1, R.MSR_RI],
      [R.MCR_OUT2, R.MSR_DCD],
    ] as const) {
      set(R.MCR, R.MCR_LOOP | output);
      expect(get(R.MSR) & 0xf0).toBe(input);
    }
    set(R.MCR, R.MCR_LOOP | R.MCR_OUT2);
    set(R.FCR, R.FCR_ENABLE);
    set(R.IER, 0x0f);
    expect(uart.receive(ascii('a'))).toBe(0);
    for (let i = 0; i < 17; i++) set(R.THR, i);
    expect([get(R.IIR), get(R.LSR), get(R.LSR)]).toEqual([0xc6, 0x63, 0x61]);
    expect([get(R.IIR), levels]).toEqual([0xc4, []]);
    for (let i = 0; i < 16; i++) expect(get(R.RBR)).toBe(i);
    // In character mode the new character replaces the old one.
    set(R.FCR, 0);
    set(R.THR, 1);
    set(R.THR, 2);
    expect([get(R.LSR), get(R.RBR), get(R.LSR)]).toEqual([0x63, 2, 0x60]);
    set(R.MCR, 0);
    uart.flush();
    expect([get(R.MSR) & 0xf0, sent]).toEqual([0xb0, []]);
  });

  it('tells of changes of the modem lines, of the ring indicator only its end', () => {
    const { get, set } = connect();
    set(R.IER, R.IER_EDSSI);
    set(R.MCR, R.MCR_LOOP);
    expect([get(R.IIR), get(R.MSR), get(R.IIR), get(R.MSR)]).toEqual([R.IIR_MODEM_STATUS, 0x0b, R.IIR_NONE, 0]);
    set(R.MCR, R.MCR_LOOP | R.MCR_OUT1);
    expect([get(R.IIR), get(R.MSR)]).toEqual([R.IIR_NONE, R.MSR_RI]);
    set(R.MCR, R.MCR_LOOP);
    expect([get(R.IIR), get(R.MSR), get(R.IIR)]).toEqual([R.IIR_MODEM_STATUS, R.MSR_TERI, R.IIR_NONE]);
    // Two changes back and forth are a change.
    set(R.MCR, R.MCR_LOOP | R.MCR_DTR);
    set(R.MCR, R.MCR_LOOP);
    expect(get(R.MSR)).toBe(R.MSR_DDSR);
  });

  it('drives the interrupt only through OUT2', () => {
    const { uart, levels, get, set } = connect();
    set(R.IER, R.IER_ERBFI);
    uart.receive(ascii('x'));
    expect([get(R.IIR), levels]).toEqual([R.IIR_RECEIVED_DATA, []]);
    set(R.MCR, R.MCR_OUT2);
    set(R.MCR, R.MCR_DTR);
    expect(levels).toEqual([true, false]);
  });

  it('under any accesses: IIR and the line agree, nothing throws, and nothing is lost on the way out', () => {
    const access = fc.record({
      offset: fc.nat(9),
      size: fc.constantFrom(1 as const, 2 as const, 4 as const),
      value: fc.option(fc.nat(0xffff_ffff), { nil: undefined }),
      input: fc.nat(20),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 80 }), accesses => {
        const { uart, levels, sent } = connect();
        const expected: number[] = [];
        for (const { offset, size, value, input } of accesses) {
          if (value === undefined) expect(uart.read(offset, size)).toBeLessThan(2 ** (8 * size));
          else {
            // Byte by byte is the same, and shows which of them go out.
            for (let i = 0; i < size; i++) {
              const byte = Math.floor(value / 256 ** i) & 0xff;
              const [, , lcr, mcr] = uart.save().registers;
              if (((offset + i) & 7) === R.THR && !(lcr & R.LCR_DLAB) && !(mcr & R.MCR_LOOP)) expected.push(byte);
              uart.write(offset + i, 1, byte);
            }
          }
          uart.receive(new Uint8Array(input));
          const { registers, received } = uart.save();
          const probe = connect();
          probe.uart.restore(uart.save());
          const iir = probe.get(R.IIR);
          expect((iir & 1) === 0 && (registers[3] & 0x18) === R.MCR_OUT2).toBe(levels.at(-1) ?? false);
          expect(iir & 0xf0).toBe(registers[1] & R.FCR_ENABLE ? 0xc0 : 0);
          expect(received.length).toBeLessThanOrEqual(registers[1] & R.FCR_ENABLE ? R.FIFO_DEPTH : 1);
          probe.set(R.LCR, 0);
          expect(probe.drain().length).toBe(received.length);
        }
        uart.flush();
        expect(sent.join('')).toBe(String.fromCharCode(...expected));
      }),
    );
  });

  it('goes on in another one: registers, what was received, its interrupts', () => {
    const a = connect();
    a.set(R.FCR, R.FCR_ENABLE | 0x40);
    a.set(R.LCR, 0x03);
    a.set(R.MCR, R.MCR_OUT2 | R.MCR_DTR | R.MCR_RTS);
    a.set(R.IER, R.IER_ERBFI | R.IER_ETBEI);
    a.set(R.SCR, 0x77);
    a.uart.receive(ascii('xyz'));
    a.get(R.RBR);
    const b = connect();
    b.uart.restore(structuredClone(a.uart.save()));
    for (let offset = 1; offset < 8; offset++) expect(b.get(offset)).toBe(a.get(offset));
    expect(b.levels.at(-1)).toBe(true);
    expect([b.drain(), b.get(R.IIR)]).toEqual(['yz', 0xc2]);
    expect([a.drain(), a.get(R.IIR)]).toEqual(['yz', 0xc2]);
  });
});
