import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { InterruptLine } from '../../irq/types.ts';
import * as R from './regs.ts';

/** What a {@link Uart16550} is connected to. */
export interface Uart16550Options {
  /** The wire behind the buffer that OUT2 opens: IRQ 4 for a PC's COM1. */
  readonly irq: InterruptLine;
  /** Takes what the guest sent, in pieces; the array is the callee's to keep. */
  transmit(bytes: Uint8Array): void;
  /** Called after `receive` took less than it was given, as soon as there is room again. */
  onRoom?(): void;
  /**
   * The host's terminal sends only while the guest asserts DTR. Drivers empty the receive FIFO when they start, so what
   * is typed before would be lost; Linux asserts DTR after that, when somebody opens the port.
   */
  readonly waitForDtr?: boolean;
}

/** A UART's state. */
export interface Uart16550State {
  /** IER, FCR, LCR, MCR, MSR, SCR, DLL, DLM. */
  readonly registers: readonly [number, number, number, number, number, number, number, number];
  readonly received: readonly number[];
  readonly overrun: boolean;
  /** The transmitter holding register has become empty, and no read of IIR has told the guest. */
  readonly thrEmptied: boolean;
}

/** Bytes that the guest may send before they go to the host without waiting for flush(). */
const TRANSMIT_BUFFER = 4096;

/** The lines of a terminal that is there and ready: carrier, data set ready, clear to send. */
const CONNECTED = R.MSR_CTS | R.MSR_DSR | R.MSR_DCD;

/** 9600 baud of a clock of 1.8432 MHz, what a PC's firmware leaves. Linux divides by it when no baud rate is given. */
const DIVISOR = 12;

/**
 * Universal asynchronous receiver and transmitter with FIFOs: the PC16550D, wired as in a PC. The line has no speed: what
 * is sent has left at once, so THRE and TEMT are always set. What is received arrives in one piece, and the four
 * character times of the receive time-out are over at its end: whatever stays below the trigger level is a time-out.
 * Characters are always 8 bits, whatever LCR says; breaks are neither sent nor received.
 */
export class Uart16550 implements BusDevice {
  readonly name = 'uart16550';
  readonly #options: Uart16550Options;

  readonly #out = new Uint8Array(TRANSMIT_BUFFER);
  #outLength = 0;
  /** Receive FIFO, or in character mode RBR: a ring. */
  readonly #fifo = new Uint8Array(R.FIFO_DEPTH);
  #head = 0;
  #count = 0;
  #overrun = false;
  #thrEmptied = false;
  /** receive() left bytes behind. */
  #waiting = false;
  #level = false;

  #ier = 0;
  #fcr = 0;
  #lcr = 0;
  #mcr = 0;
  #msr = CONNECTED;
  #scr = 0;
  #dll = DIVISOR;
  #dlm = 0;

  constructor(options: Uart16550Options) {
    this.#options = options;
    this.reset();
  }

  /**
   * Master reset (table I), and the divisor, which that leaves alone, as after power-on. What the guest sent before is not
   * lost.
   */
  reset(): void {
    this.flush();
    this.#ier = this.#fcr = this.#lcr = this.#mcr = this.#scr = this.#dlm = 0;
    this.#dll = DIVISOR;
    this.#msr = CONNECTED;
    this.#count = 0;
    this.#overrun = this.#thrEmptied = false;
    this.#update();
  }

  /** The registers and what has been received, for {@link restore}. What the guest has sent is not part of it. */
  save(): Uart16550State {
    return {
      registers: [this.#ier, this.#fcr, this.#lcr, this.#mcr, this.#msr, this.#scr, this.#dll, this.#dlm],
      received: Array.from({ length: this.#count }, (_, i) => this.#fifo[(this.#head + i) % R.FIFO_DEPTH]!),
      overrun: this.#overrun,
      thrEmptied: this.#thrEmptied,
    };
  }

  restore(s: Uart16550State): void {
    this.reset();
    [this.#ier, this.#fcr, this.#lcr, this.#mcr, this.#msr, this.#scr, this.#dll, this.#dlm] = s.registers;
    this.#fifo.set(s.received);
    this.#head = 0;
    this.#count = s.received.length;
    this.#overrun = s.overrun;
    this.#thrEmptied = s.thrEmptied;
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
   * says when to offer the rest. It takes none in loopback mode, where the line is cut off.
   */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.#room());
    for (let i = 0; i < taken; i++) this.#push(bytes[i]!);
    this.#waiting = taken < bytes.length;
    this.#update();
    return taken;
  }

  /** An access of 2 or 4 bytes is as many accesses of one, as the ISA bus does them for an 8-bit device. */
  read(offset: number, size: AccessSize): number {
    let value = 0;
    for (let i = 0; i < size; i++) value |= this.#read((offset + i) & 7) << (8 * i);
    return value >>> 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    for (let i = 0; i < size; i++) this.#write((offset + i) & 7, (value >>> (8 * i)) & 0xff);
  }

  #read(offset: number): number {
    switch (offset) {
      case R.RBR:
        return this.#lcr & R.LCR_DLAB ? this.#dll : this.#readData();
      case R.IER:
        return this.#lcr & R.LCR_DLAB ? this.#dlm : this.#ier;
      case R.IIR:
        return this.#readIir();
      case R.LCR:
        return this.#lcr;
      case R.MCR:
        return this.#mcr;
      case R.LSR:
        return this.#readLsr();
      case R.MSR:
        return this.#readMsr();
      default:
        return this.#scr;
    }
  }

  #write(offset: number, value: number): void {
    switch (offset) {
      case R.THR:
        if (this.#lcr & R.LCR_DLAB) this.#dll = value;
        else this.#transmit(value);
        break;
      case R.IER:
        if (this.#lcr & R.LCR_DLAB) this.#dlm = value;
        else this.#writeIer(value & 0xf);
        break;
      case R.FCR:
        this.#writeFcr(value);
        break;
      case R.LCR:
        this.#lcr = value;
        break;
      case R.MCR:
        this.#mcr = value & 0x1f;
        this.#updateModem();
        break;
      case R.SCR:
        this.#scr = value;
        break;
      // LSR and MSR are for reading; writes are a factory test (section 8.4).
    }
    this.#update();
  }

  #readData(): number {
    if (this.#count === 0) return 0;
    const c = this.#fifo[this.#head]!;
    this.#head = (this.#head + 1) % R.FIFO_DEPTH;
    this.#count--;
    this.#update();
    return c;
  }

  #readIir(): number {
    const source = this.#source();
    // Table IV: reading IIR resets the interrupt of the transmitter only if it is what IIR shows.
    if (source === R.IIR_THR_EMPTY) {
      this.#thrEmptied = false;
      this.#update();
    }
    return this.#fcr & R.FCR_ENABLE ? source | R.IIR_FIFOS_ENABLED : source;
  }

  #readLsr(): number {
    const lsr = R.LSR_THRE | R.LSR_TEMT | (this.#count > 0 ? R.LSR_DR : 0) | (this.#overrun ? R.LSR_OE : 0);
    this.#overrun = false;
    this.#update();
    return lsr;
  }

  #readMsr(): number {
    const msr = this.#msr;
    this.#msr &= 0xf0;
    this.#update();
    return msr;
  }

  #transmit(c: number): void {
    // Table IV: writing THR takes its interrupt back. A controller that waits for an edge must see that it comes anew.
    this.#thrEmptied = false;
    this.#update();
    if (this.#mcr & R.MCR_LOOP) this.#loop(c);
    else {
      this.#out[this.#outLength++] = c;
      if (this.#outLength === TRANSMIT_BUFFER) this.flush();
    }
    this.#thrEmptied = true;
  }

  /** Loopback: what is transmitted is received (section 8.8, bit 4), where a character may be one too many. */
  #loop(c: number): void {
    if (this.#count === this.#capacity()) {
      this.#overrun = true;
      // Section 8.4, bit 1: a full FIFO keeps what it has, the buffer of character mode gets the new character.
      if (this.#fcr & R.FCR_ENABLE) return;
      this.#count = 0;
    }
    this.#push(c);
  }

  #writeIer(value: number): void {
    // Enabling the interrupt while THR is empty raises it; drivers start to send that way, and Linux probes for it.
    if (~this.#ier & value & R.IER_ETBEI) this.#thrEmptied = true;
    this.#ier = value;
  }

  #writeFcr(value: number): void {
    const changed = (this.#fcr ^ value) & R.FCR_ENABLE;
    // Section 8.5: the other bits count only together with bit 0; changing it clears both FIFOs.
    this.#fcr = value & R.FCR_ENABLE ? value & (0xc0 | R.FCR_ENABLE) : 0;
    if (changed || (this.#fcr && value & R.FCR_RCVR_RESET)) this.#count = 0;
    // A reset empties the transmit FIFO, and empty is when its interrupt occurs (section 8.11, transmitter, A).
    if (changed || (this.#fcr && value & R.FCR_XMIT_RESET)) this.#thrEmptied = true;
  }

  /** Modem inputs: the host's terminal, or in loopback the UART's own outputs (section 8.8, bit 4). */
  #updateModem(): void {
    const mcr = this.#mcr;
    let lines = CONNECTED;
    if (mcr & R.MCR_LOOP) {
      lines = 0;
      if (mcr & R.MCR_RTS) lines |= R.MSR_CTS;
      if (mcr & R.MCR_DTR) lines |= R.MSR_DSR;
      if (mcr & R.MCR_OUT1) lines |= R.MSR_RI;
      if (mcr & R.MCR_OUT2) lines |= R.MSR_DCD;
    }
    const changed = lines ^ this.#msr;
    let deltas = this.#msr & 0xf;
    if (changed & R.MSR_CTS) deltas |= R.MSR_DCTS;
    if (changed & R.MSR_DSR) deltas |= R.MSR_DDSR;
    if (changed & R.MSR_DCD) deltas |= R.MSR_DDCD;
    // Of the ring indicator only the trailing edge counts.
    if (changed & ~lines & R.MSR_RI) deltas |= R.MSR_TERI;
    this.#msr = lines | deltas;
  }

  #push(c: number): void {
    this.#fifo[(this.#head + this.#count) % R.FIFO_DEPTH] = c;
    this.#count++;
  }

  #capacity(): number {
    return this.#fcr & R.FCR_ENABLE ? R.FIFO_DEPTH : 1;
  }

  /** How many characters the host may send now. */
  #room(): number {
    if (this.#mcr & R.MCR_LOOP) return 0;
    if (this.#options.waitForDtr && !(this.#mcr & R.MCR_DTR)) return 0;
    return this.#capacity() - this.#count;
  }

  /** The enabled interrupt of the highest priority, as IIR bits 3..0 (table IV). */
  #source(): number {
    const ier = this.#ier;
    if (ier & R.IER_ELSI && this.#overrun) return R.IIR_LINE_STATUS;
    if (ier & R.IER_ERBFI && this.#count > 0) {
      const trigger = this.#fcr & R.FCR_ENABLE ? R.RCVR_TRIGGER[this.#fcr >> 6]! : 1;
      return this.#count < trigger ? R.IIR_CHARACTER_TIMEOUT : R.IIR_RECEIVED_DATA;
    }
    if (ier & R.IER_ETBEI && this.#thrEmptied) return R.IIR_THR_EMPTY;
    if (ier & R.IER_EDSSI && this.#msr & 0xf) return R.IIR_MODEM_STATUS;
    return R.IIR_NONE;
  }

  /** Drives the interrupt line and wakes a host that waits for room. */
  #update(): void {
    // In a PC, OUT2 opens the buffer between the UART and the interrupt controller; loopback holds the pin inactive.
    const connected = (this.#mcr & (R.MCR_OUT2 | R.MCR_LOOP)) === R.MCR_OUT2;
    const level = connected && this.#source() !== R.IIR_NONE;
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
