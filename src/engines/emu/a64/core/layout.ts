/**
 * The A64 core's linear memory, shared word for word by the AssemblyScript core and its TypeScript host.
 * This file is in the subset that both languages compile: plain integer constants, no imports.
 *
 *   0x0000_0000  guard page
 *   0x0000_1000  state of the vCPU that runs now, at constant addresses (a load needs no base register)
 *   0x0000_2000  states of the others, MAX_CPUS x CPU_SIZE, swapped in and out by switchCpu()
 *   0x0000_a000  what all vCPUs share: interrupt lines, mailbox to the host, RAM regions
 *   0x0001_0000  AssemblyScript's static data
 *   0x0010_0000  TLBs, CPU_TLB_SIZE for each vCPU
 *   0x0110_0000  page map: guest RAM page -> decoded page
 *   0x0150_0000  pool of decoded pages
 *   0x0558_0000  WRITTEN and PROTECTED, a bit for each page from RAM on
 *   0x0560_0000  guest RAM (2 MiB aligned), then the memory of devices
 */
export const MAX_CPUS = 8;
export const CPU = 0x1000;
export const CPU_SIZE = 0x1000;
export const SAVED_CPUS = 0x2000;

// --- General registers: X0..X30, then SP of the current level, a zero and a place for discarded results. ---
export const XREGS = 0x1000;
export const SP_SLOT = 31;
export const ZERO_SLOT = 32;
export const TRASH_SLOT = 33;
/** V0..V31, 16 bytes each, little-endian lanes. */
export const VREGS = 0x1200;

export const PC = 0x1400; // u64, valid while the core is not running
/** Lazy NZCV: see flags.ts. u64, u64, u32. */
export const FLAG_A = 0x1408;
export const FLAG_B = 0x1410;
export const FLAG_KIND = 0x1418;
// PSTATE, one u32 each; DAIF holds bits 9..6 as SPSR does.
export const EL = 0x141c;
export const DAIF = 0x1420;
export const SPSEL = 0x1424;
export const PAN = 0x1428;
export const PSTATE_SS = 0x142c;
export const PSTATE_IL = 0x1430;
export const FPCR = 0x1434; // u32
export const FPSR = 0x1438; // u32
/** u32: 1 while FP/SIMD is enabled at this level, FPCR is all zero and FPSR.IXC is already set. See fpstate.ts. */
export const FP_FAST = 0x143c;
/** u32: 1 while FP/SIMD instructions do not trap (CPACR_EL1.FPEN). */
export const FP_ENABLED = 0x1440;
export const SP_EL0 = 0x1448; // u64, the bank that is not in SP_SLOT is valid
export const SP_EL1 = 0x1450;
/** Exclusive monitor: physical address (u64) and size in bytes (u32, 0 = open). */
export const EXCLUSIVE_ADDRESS = 0x1458;
export const EXCLUSIVE_SIZE = 0x1460;
/** A data or instruction abort or other synchronous exception that the current instruction raised. */
export const FAULT = 0x1464; // u32: 0 none, 1 take the exception described here
export const FAULT_ESR = 0x1468; // u64
export const FAULT_FAR = 0x1470; // u64
export const EVENT = 0x1478; // u32: the event register of WFE
export const CPU_ID = 0x147c; // u32
// TLB tables of the current translation context (linear addresses, u32).
export const TLB_DATA = 0x1480; // loads and stores of the current level
export const TLB_USER = 0x1484; // LDTR/STTR and EL0
export const TLB_BANK = 0x1488; // index of the current bank
/** u32: non-zero asks the run loop to look at interrupts, stops and the debug state before the next instruction. */
export const POLL = 0x148c;
/** u32: non-zero while breakpoints, watchpoints or single-step are active at this level: the slow loop runs. */
export const DEBUG_ACTIVE = 0x1490;
/** u32: the vCPU's power state, see POWER_*. */
export const POWER = 0x1494;
export const ICOUNT = 0x1498; // u64, instructions this vCPU has retired
export const WATCH_ACTIVE = 0x14a0; // u32: watchpoints force every access to the slow path

export const POWER_ON = 0;
export const POWER_OFF = 1;
export const POWER_WFI = 2;
export const POWER_WFE = 3;

// --- System registers, u64 each. ---
export const SCTLR_EL1 = 0x1500;
export const ACTLR_EL1 = 0x1508;
export const CPACR_EL1 = 0x1510;
export const TTBR0_EL1 = 0x1518;
export const TTBR1_EL1 = 0x1520;
export const TCR_EL1 = 0x1528;
export const ESR_EL1 = 0x1530;
export const FAR_EL1 = 0x1538;
export const AFSR0_EL1 = 0x1540;
export const AFSR1_EL1 = 0x1548;
export const MAIR_EL1 = 0x1550;
export const AMAIR_EL1 = 0x1558;
export const VBAR_EL1 = 0x1560;
export const ELR_EL1 = 0x1568;
export const SPSR_EL1 = 0x1570;
export const PAR_EL1 = 0x1578;
export const CONTEXTIDR_EL1 = 0x1580;
export const TPIDR_EL0 = 0x1588;
export const TPIDRRO_EL0 = 0x1590;
export const TPIDR_EL1 = 0x1598;
export const CNTKCTL_EL1 = 0x15a0;
export const CNTV_CTL_EL0 = 0x15a8;
export const CNTV_CVAL_EL0 = 0x15b0;
export const CNTP_CTL_EL0 = 0x15b8;
export const CNTP_CVAL_EL0 = 0x15c0;
export const CSSELR_EL1 = 0x15c8;
export const MDSCR_EL1 = 0x15d0;
export const MDCCINT_EL1 = 0x15d8;
export const OSLSR_EL1 = 0x15e0;
export const OSDLR_EL1 = 0x15e8;
export const OSDTRRX_EL1 = 0x15f0;
export const OSECCR_EL1 = 0x15f8;
export const DBGBVR = 0x1600; // 16 x u64
export const DBGBCR = 0x1680;
export const DBGWVR = 0x1700;
export const DBGWCR = 0x1780;
export const DBGCLAIM = 0x1800;
export const PMCR_EL0 = 0x1808;
export const PMCNTENSET_EL0 = 0x1810;
export const PMOVSSET_EL0 = 0x1818;
export const PMSELR_EL0 = 0x1820;
export const PMCCNTR_EL0 = 0x1828; // value when last written or (re)enabled, see pmu.ts
export const PMCCNTR_BASE = 0x1830; // cycle count at that moment
export const PMUSERENR_EL0 = 0x1838;
export const PMINTENSET_EL1 = 0x1840;
export const PMCCFILTR_EL0 = 0x1848;
export const PMEVCNTR = 0x1850; // 6 x u64
export const PMEVTYPER = 0x1880; // 6 x u64
export const MPIDR_EL1 = 0x18b0;
export const TIMER_LINES = 0x18b8; // u32: what the timers last told the interrupt controller; bit 0 virtual, bit 1 physical
export const PMU_LINE = 0x18bc; // u32
/** The page that executes: its decoded operations (linear address, u32; 0 = none) and its virtual address (u64). */
export const PAGE_OPS = 0x18c0;
export const PAGE_VA = 0x18c8;
/** i32: the run loop leaves at a taken branch once 16 x the instructions run reach this; requestPoll() lowers it. */
export const LIMIT = 0x18d0;
/** u64: GLOBAL_ICOUNT and ICOUNT when the running slice began. */
export const SLICE_GLOBAL = 0x18d8;
export const SLICE_ICOUNT = 0x18e0;
/** Result of translate(): physical address (u64), rights (u32, see mmu.ts), 1 when the memory is Device (u32). */
export const WALK_PA = 0x18e8;
export const WALK_RIGHTS = 0x18f0;
export const WALK_DEVICE = 0x18f4;
export const WALK_BLOCK = 0x18f8; // u64: bytes of the block mapping, 0 for a page
/** Two decoded operations for single instructions under debug. */
export const STEP_OPS = 0x1900;
/** u32: non-zero while a counter counts at one level only: pmuSync() must be called before the level changes. */
export const PMU_ACTIVE = 0x1940;
export const PMU_PRESCALE = 0x1944; // u32: cycles since the last tick of a cycle counter that counts every 64th
export const OSDTRTX_EL1 = 0x1948;
export const DBGPRCR_EL1 = 0x1950;
/** u32: what the last instruction was to software step: 0 not stepped, 1 stepped, 2 a stepped load-exclusive. */
export const STEPPED = 0x1958;
/** Free for further per-vCPU state up to 0x2000. */
export const CPU_END = 0x1960;

// --- Shared by all vCPUs. ---
export const IRQ_LINES = 0xa000; // u32 per vCPU: bit 0 IRQ, bit 1 FIQ; written by the interrupt controller
export const MAILBOX = 0xa040; // u64, arguments and results of host calls
export const GLOBAL_ICOUNT = 0xa048; // u64, instructions of all vCPUs: the virtual clock
export const CLOCK_VIRTUAL = 0xa050; // u32: 1 = counter from GLOBAL_ICOUNT + CLOCK_SKEW
export const CLOCK_SKEW = 0xa058; // u64, counter ticks skipped while all vCPUs were idle
export const CNTVOFF = 0xa060; // u64
export const CNTFRQ = 0xa068; // u32, Hz
export const CPU_COUNT = 0xa06c; // u32
export const STOP = 0xa070; // u32: non-zero makes run() return EXIT_STOP
export const KICK = 0xa074; // u32: any thread sets it (atomically) to end the running slice early
export const GIC_SYSREGS = 0xa078; // u32: 1 = the machine has a GICv3 CPU interface
/** u32: non-zero = stores are tracked: no TLB has a write tag before the first store to a page. */
export const TRACKING = 0xa07c;
export const REGION_COUNT = 0xa080; // u32
export const REGIONS = 0xa090; // MAX_REGIONS x { base u64, size u64, host u32, flags u32 (bit 0: read-only) }
export const REGION_SIZE = 24;
/** Guest RAM and the memory of devices that guests reach directly; walked one by one when a TLB misses. */
export const MAX_REGIONS = 64;
/** Bit n: the n-th 2 MiB from RAM on are unplugged, and no memory to vCPUs, though a region has them. */
export const UNPLUGGED = 0xa700; // 2048 bits, enough for 4 GiB

export const CORE_TLBS = 0x0010_0000;
export const CPU_TLB_SIZE = 0x0020_0000;
export const PAGE_MAP = 0x0110_0000;
export const PAGE_MAP_SIZE = 0x0040_0000;
export const DECODED = 0x0150_0000;
export const DECODED_END = 0x0558_0000;
/** Bit n: while tracking, page n from RAM on has been written; the host clears it. 128 KiB are enough for 4 GiB. */
export const WRITTEN = 0x0558_0000;
/** Bit n: the host wants firstWrite(n) before page n from RAM on is written. */
export const PROTECTED = 0x055a_0000;
export const PAGE_BITS_SIZE = 0x0002_0000;
export const RAM = 0x0560_0000;

// --- Why run() returned. ---
export const EXIT_BUDGET = 0;
export const EXIT_WFI = 1;
export const EXIT_WFE = 2;
export const EXIT_STOP = 3;
export const EXIT_OFF = 4;

// --- GIC CPU interface registers as passed to iccRead()/iccWrite(): the encoding op0:op1:CRn:CRm:op2, see sysreg.ts. ---
