import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { InterruptLine } from '../../irq/types.ts';
import { primeCellId } from '../primecell.ts';
import * as R from './regs.ts';

/** What a {@link Pl011} is connected to. */
export interface Pl011Options {
  /** UARTINTR, the combined interrupt. */
  readonly irq: InterruptLine;
  /** Takes what the guest sent, in pieces; the array is the callee's to keep. */
  transmit(bytes: Uint8Array): void;
  /** Called after `receive` took less than it was given, as soon as there is room again. */
  onRoom?(): void;
  /**
   * The host's terminal sends only while the guest asserts nUARTDTR. Drivers empty the receive FIFO when they start, so
   * what is typed before would be lost; Linux asserts DTR after that, when somebody opens the port.
   */
  readonly waitForDtr?: boolean;
}

/** A UART's state. */
export interface Pl011State {
  /** RSR, ILPR, IBRD, FBRD, LCR_H, CR, IFLS, IMSC, RIS, DMACR, and the modem lines. */
  readonly registers: readonly [number, number, number, number, number, number, number, number, number, number, number];
  readonly received: readonly number[];
  readonly overrun: boolean;
}

/** Bytes that the guest may send before they go to the host without waiting for flush(). */
const TRANSMIT_BUFFER = 4096;

/** The lines of a terminal that is there and ready: carrier, data set ready, clear to send. */
const CONNECTED = R.FR_CTS | R.FR_DSR | R.FR_DCD;

/**
 * PrimeCell UART PL011 r1p5 (DDI 0183G). The line has no speed: what is sent has left at once, what is received arrives in
 * one piece and the 32 bit times of the receive timeout are over at its end. Characters are always 8 bits, whatever
 * UARTLCR_H says. Transmission does not wait for UARTCR.UARTEN and TXE: there is no firmware that would have set them
 * for the first lines of a kernel's early console.
 */
export class Pl011 implements BusDevice {
  readonly name = 'pl011';
  readonly #options: Pl011Options;

  readonly #out = new Uint8Array(TRANSMIT_BUFFER);
  #outLength = 0;
  /** Receive FIFO: a ring of characters with their error flags, as UARTDR shows them. */
  readonly #fifo = new Uint16Array(R.FIFO_DEPTH);
  #head = 0;
  #count = 0;
  /** A character was lost since the last one that was stored (UARTDR.OE). */
  #overrun = false;
  /** receive() left bytes behind. */
  #waiting = false;
  #level = false;

  #rsr = 0;
  #ilpr = 0;
  #ibrd = 0;
  #fbrd = 0;
  #lcrH = 0;
  #cr = 0;
  #ifls = 0;
  #imsc = 0;
  #ris = 0;
  #dmacr = 0;
  #modem = CONNECTED;

  constructor(options: Pl011Options) {
    this.#options = options;
    this.reset();
  }

  /** nUARTRST: all registers as after power-on, the receive FIFO empty. What the guest sent before is not lost. */
  reset(): void {
    this.flush();
    this.#rsr = this.#ilpr = this.#ibrd = this.#fbrd = this.#lcrH = this.#imsc = this.#ris = this.#dmacr = 0;
    this.#cr = R.CR_RXE | R.CR_TXE;
    this.#ifls = 0x12; // both FIFOs: half full
    this.#modem = CONNECTED;
    this.#clearFifo();
    this.#update();
  }

  /** The registers and what has been received, for {@link restore}. What the guest has sent is not part of it. */
  save(): Pl011State {
    return {
      registers: [
        this.#rsr,
        this.#ilpr,
        this.#ibrd,
        this.#fbrd,
        this.#lcrH,
        this.#cr,
        this.#ifls,
        this.#imsc,
        this.#ris,
        this.#dmacr,
        this.#modem,
      ],
      received: Array.from({ length: this.#count }, (_, i) => this.#fifo[(this.#head + i) % R.FIFO_DEPTH]!),
      overrun: this.#overrun,
    };
  }

  restore(s: Pl011State): void {
    this.reset();
    [
      this.#rsr,
      this.#ilpr,
      this.#ibrd,
      this.#fbrd,
      this.#lcrH,
      this.#cr,
      this.#ifls,
      this.#imsc,
      this.#ris,
      this.#dmacr,
      this.#modem,
    ] = s.registers;
    this.#fifo.set(s.received);
    this.#head = 0;
    this.#count = s.received.length;
    this.#overrun = s.overrun;
    this.#update();
  }

  /** Hands what the guest sent to the host; the machine calls it after each step. */
  flush(): void {
    if (this.#outLength === 0) return;
    const bytes = this.#out.slice(0, this.#outLength);
    this.#outLength = 0;
    this.#options.transmit(bytes);
  }

  /**
   * Puts characters from the host into the receive FIFO and returns how many it took. When that is less than all, onRoom
   * says when to offer the rest. It takes none while the receiver is off or looped back.
   */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.#room());
    for (let i = 0; i < taken; i++) this.#push(bytes[i]!);
    this.#waiting = taken < bytes.length;
    this.#update();
    return taken;
  }

  /** Puts a break into the receive FIFO: one zero character with BE (DDI 0183 section 3.3.1). False when there is no room; onRoom follows. */
  receiveBreak(): boolean {
    const room = this.#room() > 0;
    if (room) this.#push(R.DR_BE);
    this.#waiting = !room;
    this.#update();
    return room;
  }

  read(offset: number, size: AccessSize): number {
    // Registers are words; a narrow access sees the low bits, one beside a word's start sees nothing.
    if (offset & 3) return 0;
    const value = this.#read(offset);
    return size === 4 ? value : value & (2 ** (8 * size) - 1);
  }

  write(offset: number, _size: AccessSize, value: number): void {
    switch (offset) {
      case R.UARTDR:
        this.#transmit(value & 0xff);
        break;
      case R.UARTRSR: // UARTECR: any value clears all errors
        this.#rsr = 0;
        break;
      case R.UARTILPR:
        this.#ilpr = value & 0xff;
        break;
      case R.UARTIBRD:
        this.#ibrd = value & 0xffff;
        break;
      case R.UARTFBRD:
        this.#fbrd = value & 0x3f;
        break;
      case R.UARTLCR_H:
        this.#writeLcrH(value & 0xff);
        break;
      case R.UARTCR:
        this.#cr = value & R.CR_WRITABLE;
        this.#updateModem();
        break;
      case R.UARTIFLS:
        this.#ifls = value & 0x3f;
        if (this.#count >= this.#trigger()) this.#ris |= R.INT_RX;
        else this.#ris &= ~R.INT_RX;
        break;
      case R.UARTIMSC:
        this.#imsc = value & R.INT_ALL;
        break;
      case R.UARTICR:
        this.#ris &= ~value;
        break;
      case R.UARTDMACR:
        this.#dmacr = value & 7;
        break;
    }
    this.#update();
  }

  #read(offset: number): number {
    switch (offset) {
      case R.UARTDR:
        return this.#readData();
      case R.UARTRSR:
        return this.#rsr;
      case R.UARTFR:
        return this.#flags();
      case R.UARTILPR:
        return this.#ilpr;
      case R.UARTIBRD:
        return this.#ibrd;
      case R.UARTFBRD:
        return this.#fbrd;
      case R.UARTLCR_H:
        return this.#lcrH;
      case R.UARTCR:
        return this.#cr;
      case R.UARTIFLS:
        return this.#ifls;
      case R.UARTIMSC:
        return this.#imsc;
      case R.UARTRIS:
        return this.#ris;
      case R.UARTMIS:
        return this.#ris & this.#imsc;
      case R.UARTDMACR:
        return this.#dmacr;
      default:
        return primeCellId(offset, R.PERIPH_ID) ?? 0;
    }
  }

  #readData(): number {
    if (this.#count === 0) return 0;
    const c = this.#fifo[this.#head]! | (this.#overrun ? R.DR_OE : 0);
    this.#head = (this.#head + 1) % R.FIFO_DEPTH;
    this.#count--;
    // Section 3.3.2: framing, parity and break status are those of the character read last; overrun stays until cleared.
    this.#rsr = (this.#rsr & R.RSR_OE) | (c >> 8);
    if (this.#count < this.#trigger()) this.#ris &= ~R.INT_RX;
    if (this.#count === 0) this.#ris &= ~R.INT_RT;
    this.#update();
    return c;
  }

  #flags(): number {
    // The transmit FIFO is always empty and never busy.
    let fr = this.#modem | R.FR_TXFE;
    if (this.#count === 0) fr |= R.FR_RXFE;
    if (this.#count >= this.#capacity()) fr |= R.FR_RXFF;
    return fr;
  }

  #transmit(c: number): void {
    if (this.#cr & R.CR_LBE) this.#loop(c);
    else {
      this.#out[this.#outLength++] = c;
      if (this.#outLength === TRANSMIT_BUFFER) this.flush();
    }
    // The FIFO (or holding register) has just run empty through its trigger level.
    this.#ris |= R.INT_TX;
  }

  /** Loopback: the transmitter's output is the receiver's input, where a full FIFO overruns. */
  #loop(c: number): void {
    if ((this.#cr & (R.CR_UARTEN | R.CR_RXE)) !== (R.CR_UARTEN | R.CR_RXE)) return;
    if (this.#count < this.#capacity()) this.#push(c);
    else {
      this.#overrun = true;
      this.#rsr |= R.RSR_OE;
      this.#ris |= R.INT_OE;
    }
  }

  #writeLcrH(value: number): void {
    const changed = this.#lcrH ^ value;
    this.#lcrH = value;
    // Clearing FEN is how drivers flush the FIFOs (section 3.3.8, programming the control register).
    if (changed & R.LCR_H_FEN) this.#clearFifo();
    if (changed & value & R.LCR_H_BRK && this.#cr & R.CR_LBE) this.#loop(R.DR_BE);
  }

  /** Modem inputs: the host's terminal, or in loopback the UART's own outputs (UARTCR.LBE in section 3.3.8). */
  #updateModem(): void {
    const cr = this.#cr;
    let modem = CONNECTED;
    if (cr & R.CR_LBE) {
      modem = 0;
      if (cr & R.CR_RTS) modem |= R.FR_CTS;
      if (cr & R.CR_DTR) modem |= R.FR_DSR;
      if (cr & R.CR_Out1) modem |= R.FR_DCD;
      if (cr & R.CR_Out2) modem |= R.FR_RI;
    }
    const changed = modem ^ this.#modem;
    this.#modem = modem;
    if (changed & R.FR_CTS) this.#ris |= R.INT_CTS;
    if (changed & R.FR_DSR) this.#ris |= R.INT_DSR;
    if (changed & R.FR_DCD) this.#ris |= R.INT_DCD;
    if (changed & R.FR_RI) this.#ris |= R.INT_RI;
  }

  #push(c: number): void {
    this.#fifo[(this.#head + this.#count) % R.FIFO_DEPTH] = c;
    this.#count++;
    this.#overrun = false;
    // Section 2.8: asserted when the level is reached, not while it is above; in FIFO mode nothing more follows soon.
    if (this.#count === this.#trigger()) this.#ris |= R.INT_RX;
    if (this.#lcrH & R.LCR_H_FEN) this.#ris |= R.INT_RT;
    if (c & R.DR_BE) this.#ris |= R.INT_BE;
  }

  #clearFifo(): void {
    this.#count = 0;
    this.#overrun = false;
    this.#ris &= ~(R.INT_RX | R.INT_RT);
  }

  #capacity(): number {
    return this.#lcrH & R.LCR_H_FEN ? R.FIFO_DEPTH : 1;
  }

  #trigger(): number {
    return this.#lcrH & R.LCR_H_FEN ? R.RX_TRIGGER[this.#ifls >> 3]! : 1;
  }

  /** How many characters the host may send now. */
  #room(): number {
    const needed = R.CR_UARTEN | R.CR_RXE | (this.#options.waitForDtr ? R.CR_DTR : 0);
    if ((this.#cr & (needed | R.CR_LBE)) !== needed) return 0;
    return this.#capacity() - this.#count;
  }

  /** Drives the interrupt line and wakes a host that waits for room. */
  #update(): void {
    const level = (this.#ris & this.#imsc) !== 0;
    if (level !== this.#level) {
      this.#level = level;
      this.#options.irq.set(level);
    }
    if (this.#waiting && this.#room() > 0) {
      this.#waiting = false;
      this.#options.onRoom?.();
    }
  }
}
