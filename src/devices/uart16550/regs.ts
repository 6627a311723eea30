// Registers of the PC16550D (National Semiconductor, June 1995, table II), as offsets and bits.

/** Receiver buffer when read, transmitter holding register when written; with LCR.DLAB the divisor's low byte. */
export const RBR = 0;
export const THR = 0;
/** With LCR.DLAB the divisor's high byte. */
export const IER = 1;
/** FCR when written. */
export const IIR = 2;
export const FCR = 2;
export const LCR = 3;
export const MCR = 4;
export const LSR = 5;
export const MSR = 6;
export const SCR = 7;
export const DLL = 0;
export const DLM = 1;

export const IER_ERBFI = 1 << 0;
export const IER_ETBEI = 1 << 1;
export const IER_ELSI = 1 << 2;
export const IER_EDSSI = 1 << 3;

// IIR bits 3..0 (table IV), highest priority first.
export const IIR_LINE_STATUS = 0x6;
export const IIR_RECEIVED_DATA = 0x4;
export const IIR_CHARACTER_TIMEOUT = 0xc;
export const IIR_THR_EMPTY = 0x2;
export const IIR_MODEM_STATUS = 0x0;
export const IIR_NONE = 0x1;
export const IIR_FIFOS_ENABLED = 0xc0;

export const FCR_ENABLE = 1 << 0;
export const FCR_RCVR_RESET = 1 << 1;
export const FCR_XMIT_RESET = 1 << 2;

export const LCR_DLAB = 1 << 7;

export const MCR_DTR = 1 << 0;
export const MCR_RTS = 1 << 1;
export const MCR_OUT1 = 1 << 2;
export const MCR_OUT2 = 1 << 3;
export const MCR_LOOP = 1 << 4;

export const LSR_DR = 1 << 0;
export const LSR_OE = 1 << 1;
export const LSR_THRE = 1 << 5;
export const LSR_TEMT = 1 << 6;

export const MSR_DCTS = 1 << 0;
export const MSR_DDSR = 1 << 1;
export const MSR_TERI = 1 << 2;
export const MSR_DDCD = 1 << 3;
export const MSR_CTS = 1 << 4;
export const MSR_DSR = 1 << 5;
export const MSR_RI = 1 << 6;
export const MSR_DCD = 1 << 7;

export const FIFO_DEPTH = 16;
/** FCR bits 7:6: bytes in the receive FIFO that raise the received data interrupt. */
export const RCVR_TRIGGER = [1, 4, 8, 14];
