// Registers of the MC146818A (Motorola's data sheet), as what the index port selects, and their bits.

export const SECONDS = 0x00;
export const SECONDS_ALARM = 0x01;
export const MINUTES = 0x02;
export const MINUTES_ALARM = 0x03;
export const HOURS = 0x04;
export const HOURS_ALARM = 0x05;
/** 1 is Sunday. */
export const DAY_OF_WEEK = 0x06;
export const DATE_OF_MONTH = 0x07;
export const MONTH = 0x08;
/** The last two digits. */
export const YEAR = 0x09;
export const REGISTER_A = 0x0a;
export const REGISTER_B = 0x0b;
export const REGISTER_C = 0x0c;
export const REGISTER_D = 0x0d;
/** The first two digits of the year: not of the chip, but of a PC's firmware, which keeps them in the RAM. */
export const CENTURY = 0x32;
/** 14 bytes of clock and 114 of RAM. The chip has 50; later ones of PCs have 114. */
export const SIZE = 0x80;

export const A_UIP = 1 << 7;
export const A_DV = 7 << 4;
/** Both set: the divider chain is held in reset, whatever DV0 is. */
export const A_DV_RESET = 6 << 4;
/** Time base 32.768 kHz. */
export const A_DV_32768_HZ = 2 << 4;
export const A_RS = 0xf;

export const B_SET = 1 << 7;
export const B_PIE = 1 << 6;
export const B_AIE = 1 << 5;
export const B_UIE = 1 << 4;
export const B_SQWE = 1 << 3;
/** Binary, not BCD. */
export const B_DM = 1 << 2;
export const B_24_HOURS = 1 << 1;

export const C_IRQF = 1 << 7;
/** PF, AF and UF have the places of PIE, AIE and UIE. */
export const C_PF = 1 << 6;
export const C_AF = 1 << 5;
export const C_UF = 1 << 4;

/** Valid RAM and time: the battery is good. */
export const D_VRT = 1 << 7;

/** In the hours of the 12-hour format. */
export const PM = 1 << 7;
/** Alarm registers from here on match any value. */
export const DONT_CARE = 0xc0;
