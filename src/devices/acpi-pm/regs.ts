// Fixed hardware registers of ACPI 6.5 section 4.8.3, as offsets in their blocks and bits.

/** PM1 event block: PM1_STS, and PM1_EN behind it. */
export const PM1_STS = 0;
export const PM1_EN = 2;

// PM1_STS (section 4.8.3.1.1); PM1_EN (4.8.3.1.2) has the enables in the same places.
export const TMR = 1 << 0;
export const GBL = 1 << 5;
export const PWRBTN = 1 << 8;
export const RTC = 1 << 10;

// PM1_CNT (section 4.8.3.2.1).
export const SCI_EN = 1 << 0;
export const BM_RLD = 1 << 1;
export const GBL_RLS = 1 << 2;
export const SLP_TYP_SHIFT = 10;
export const SLP_TYP = 7 << SLP_TYP_SHIFT;
export const SLP_EN = 1 << 13;

/** The PM timer's clock, Hz (section 4.8.3.3). */
export const PM_TIMER_HZ = 3_579_545;
