// Registers of the PrimeCell Real Time Clock PL031 (DDI 0224C chapter 3), as offsets.

export const RTCDR = 0x000;
export const RTCMR = 0x004;
export const RTCLR = 0x008;
export const RTCCR = 0x00c;
export const RTCIMSC = 0x010;
export const RTCRIS = 0x014;
export const RTCMIS = 0x018;
export const RTCICR = 0x01c;

/** RTCPeriphID0..3: part 031, designer 41 (Arm). */
export const PERIPH_ID = [0x31, 0x10, 0x04, 0x00];
