// Registers of the PrimeCell UART PL011 r1p5 (DDI 0183G chapter 3), as offsets and bits.

export const UARTDR = 0x000;
/** UARTRSR when read, UARTECR when written. */
export const UARTRSR = 0x004;
export const UARTFR = 0x018;
export const UARTILPR = 0x020;
export const UARTIBRD = 0x024;
export const UARTFBRD = 0x028;
export const UARTLCR_H = 0x02c;
export const UARTCR = 0x030;
export const UARTIFLS = 0x034;
export const UARTIMSC = 0x038;
export const UARTRIS = 0x03c;
export const UARTMIS = 0x040;
export const UARTICR = 0x044;
export const UARTDMACR = 0x048;

// UARTDR: what comes with a received character; UARTRSR has the same four flags in bits 3..0.
export const DR_BE = 1 << 10;
export const DR_OE = 1 << 11;
export const RSR_OE = 1 << 3;

export const FR_CTS = 1 << 0;
export const FR_DSR = 1 << 1;
export const FR_DCD = 1 << 2;
export const FR_RXFE = 1 << 4;
export const FR_RXFF = 1 << 6;
export const FR_TXFE = 1 << 7;
export const FR_RI = 1 << 8;

export const LCR_H_BRK = 1 << 0;
export const LCR_H_FEN = 1 << 4;

export const CR_UARTEN = 1 << 0;
export const CR_LBE = 1 << 7;
export const CR_TXE = 1 << 8;
export const CR_RXE = 1 << 9;
export const CR_DTR = 1 << 10;
export const CR_RTS = 1 << 11;
export const CR_Out1 = 1 << 12;
export const CR_Out2 = 1 << 13;
/** Bits 6..3 are reserved. */
export const CR_WRITABLE = 0xff87;

// UARTIMSC, UARTRIS, UARTMIS, UARTICR.
export const INT_RI = 1 << 0;
export const INT_CTS = 1 << 1;
export const INT_DCD = 1 << 2;
export const INT_DSR = 1 << 3;
export const INT_RX = 1 << 4;
export const INT_TX = 1 << 5;
export const INT_RT = 1 << 6;
export const INT_BE = 1 << 9;
export const INT_OE = 1 << 10;
export const INT_ALL = 0x7ff;

/** Both FIFOs became 32 deep with r1p5, which drivers learn from the revision in UARTPeriphID2. */
export const FIFO_DEPTH = 32;
/** UARTPeriphID0..3: part 011, designer 41 (Arm), revision 3 = r1p5. */
export const PERIPH_ID = [0x11, 0x10, 0x34, 0x00];
/** UARTIFLS.RXIFLSEL: 1/8, 1/4, 1/2, 3/4 and 7/8 of the FIFO; the reserved values are taken for the last. */
export const RX_TRIGGER = [4, 8, 16, 24, 28, 28, 28, 28];
