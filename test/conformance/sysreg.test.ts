// The A64 core's system registers, timer, performance monitors and debug logic, in the Wasm build.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import * as K from '../../src/engines/emu/a64/core/regs.ts';

const OK = 0;
const UNDEFINED = 1;
const TRAP = 2;
const TRAP_FP = 3;
const CONTEXT = 0x100;
const POLL = 0x200;
const keys: Record<string, number> = { ...K };
const NEVER = (1n << 64n) - 1n;

interface Core {
  readSysreg(key: number, rt: number): number;
  writeSysreg(key: number, value: bigint): number;
  msrImmediate(op1: number, crm: number, op2: number): number;
  resetSysregs(): void;
  getNZCV(): number;
  readCounter(): bigint;
  timerUpdate(): number;
  timerDeadline(): bigint;
  pmuSync(): void;
  pmuDeadline(): bigint;
  checkBreakpoint(pc: bigint): number;
  checkWatchpoint(va: bigint, size: number, isWrite: number, user: number): number;
  stepActive(): number;
  stepPending(): number;
  stepAdvance(): void;
  exceptionReturnSS(spsr: bigint): number;
}

const wasm = new WebAssembly.Module(readFileSync(new URL('../../dist/a64.wasm', import.meta.url)));

let core: Core;
let view: DataView;
let ticks: number;
let timerLines: number[];
let pmuLevels: number[];
let icc: { key: number; value?: bigint }[];
let traced: number[];

beforeEach(() => {
  const memory = new WebAssembly.Memory({ initial: 2048, maximum: 65536, shared: true });
  view = new DataView(memory.buffer);
  ticks = 0;
  timerLines = [];
  pmuLevels = [];
  icc = [];
  traced = [];
  const host: Record<string, WebAssembly.ImportValue> = {
    memory,
    counter: () => ticks,
    setTimerLines: (_cpu: number, bits: number) => timerLines.push(bits),
    setPmuLine: (_cpu: number, level: number) => pmuLevels.push(level),
    iccRead: (_cpu: number, key: number) => {
      icc.push({ key });
      view.setBigUint64(L.MAILBOX, 1023n, true);
      return key === K.ICC_IAR1_EL1 ? 1 : 0;
    },
    iccWrite: (_cpu: number, key: number) => {
      icc.push({ key, value: view.getBigUint64(L.MAILBOX, true) });
      return key === K.ICC_EOIR1_EL1 ? 1 : 0;
    },
    trace: (_cpu: number, _kind: number, key: number) => traced.push(key),
  };
  for (const i of WebAssembly.Module.imports(wasm)) host[i.name] ??= () => 0;
  core = new WebAssembly.Instance(wasm, { env: host }).exports as unknown as Core;
  setU32(L.CPU_COUNT, 1);
  setU32(L.CNTFRQ, 62_500_000);
  core.resetSysregs();
});

/** Wasm's i64 arrives signed. */
const u = (v: bigint) => BigInt.asUintN(64, v);
const u32 = (at: number) => view.getUint32(at, true);
const setU32 = (at: number, v: number) => view.setUint32(at, v, true);
const u64 = (at: number) => view.getBigUint64(at, true);
const setU64 = (at: number, v: bigint) => view.setBigUint64(at, v, true);

/** MRS X5, key: the value, or the status when it is not SYS_OK. */
function mrs(key: number): bigint | number {
  setU64(L.XREGS + 5 * 8, 0xdead_beefn);
  const status = core.readSysreg(key, 5);
  if (status === OK) return u64(L.XREGS + 5 * 8);
  expect(u64(L.XREGS + 5 * 8)).toBe(0xdead_beefn);
  return status;
}
const msr = (key: number, value: bigint | number) => core.writeSysreg(key, BigInt(value));
const inEl0 = <T>(f: () => T): T => {
  setU32(L.EL, 0);
  try {
    return f();
  } finally {
    setU32(L.EL, 1);
  }
};

describe('encodings', () => {
  const as = 'aarch64-linux-gnu-as';
  const found = spawnSync(as, ['--version']).status === 0;
  it.skipIf(!found)(`are those of ${as}${found ? '' : ' (skipped: not installed)'}`, () => {
    const names = Object.keys(K);
    expect(names.length).toBeGreaterThan(100);
    const writeOnly = /^(OSLAR|PMSWINC|ICC_(EOIR|DIR|A?SGI))/;
    const source = names.map(n => (writeOnly.test(n) ? `msr ${n}, x0` : `mrs x0, ${n}`)).join('\n');
    const dir = mkdtempSync(join(tmpdir(), 'sysreg-'));
    try {
      writeFileSync(join(dir, 'a.s'), `${source}\n`);
      const r = spawnSync(as, ['-march=armv8.1-a', '-o', join(dir, 'a.o'), join(dir, 'a.s')], { encoding: 'utf8' });
      expect(r.stderr).toBe('');
      const copy = spawnSync('aarch64-linux-gnu-objcopy', ['-O', 'binary', '-j', '.text', 'a.o', 'a.bin'], {
        cwd: dir,
      });
      expect(copy.status).toBe(0);
      const code = readFileSync(join(dir, 'a.bin'));
      const encoded = names.map((n, i) => [n, (code.readUInt32LE(i * 4) >>> 5) & 0xffff]);
      expect(encoded).toEqual(Object.entries(K));
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe('identification', () => {
  const field = (key: number, low: number) => Number(((mrs(key) as bigint) >> BigInt(low)) & 15n);

  it('advertises what the core has', () => {
    expect([0, 4, 8, 12, 16, 20, 24, 28].map(b => field(K.ID_AA64PFR0_EL1, b))).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
    setU32(L.GIC_SYSREGS, 1);
    expect(field(K.ID_AA64PFR0_EL1, 24)).toBe(1);
    expect([0, 4, 8, 12, 20, 28, 32].map(b => field(K.ID_AA64DFR0_EL1, b))).toEqual([6, 0, 1, 5, 3, 1, 0]);
    expect([4, 8, 12, 16, 20, 24, 28].map(b => field(K.ID_AA64ISAR0_EL1, b))).toEqual([2, 1, 1, 1, 2, 0, 0]);
    expect([0, 4, 8, 16, 20, 24, 28].map(b => field(K.ID_AA64MMFR0_EL1, b))).toEqual([5, 2, 0, 0, 1, 0, 0]);
    expect(mrs(K.ID_AA64MMFR1_EL1)).toBe(1n << 20n);
    expect(mrs(K.ID_AA64MMFR2_EL1)).toBe(0n);
  });

  it('reads zero in the rest of the space, is UNDEFINED at EL0 and read-only', () => {
    const known = [K.ID_AA64PFR0_EL1, K.ID_AA64DFR0_EL1, K.ID_AA64ISAR0_EL1, K.ID_AA64MMFR0_EL1, K.ID_AA64MMFR1_EL1];
    for (let key = K.MIDR_EL1 + 8; key < K.MIDR_EL1 + 64; key++) {
      if (!known.includes(key)) expect(mrs(key)).toBe(0n);
      expect(inEl0(() => mrs(key))).toBe(UNDEFINED);
      expect(msr(key, 0)).toBe(UNDEFINED);
    }
    expect(mrs(K.MIDR_EL1 + 1)).toBe(UNDEFINED);
    expect(traced).toContain(K.MIDR_EL1 + 1);
  });

  it('numbers CPUs in Aff0 and describes 64-byte lines', () => {
    setU32(L.CPU_ID, 3);
    expect(mrs(K.MPIDR_EL1)).toBe(0x8000_0003n);
    expect(((mrs(K.MIDR_EL1) as bigint) >> 24n) & 0xffn).toBe(0n);
    expect(mrs(K.CTR_EL0)).toBe(0x9444_c004n);
    expect(mrs(K.DCZID_EL0)).toBe(4n);
    expect(inEl0(() => mrs(K.DCZID_EL0))).toBe(0x14n);
    msr(K.SCTLR_EL1, 1 << 14);
    expect(inEl0(() => mrs(K.DCZID_EL0))).toBe(4n);
    msr(K.CSSELR_EL1, 1);
    expect(mrs(K.CCSIDR_EL1)).toBe(BigInt((127 << 13) | (3 << 3) | 2));
    msr(K.CSSELR_EL1, 2);
    expect(mrs(K.CCSIDR_EL1)).toBe(0n);
  });
});

describe('access from EL0', () => {
  // [key, register that enables it, its bit]; SCTLR_EL1, CNTKCTL_EL1, PMUSERENR_EL0 in DDI 0487.
  const rows: [string, number, number, 'r' | 'w' | 'rw'][] = [
    ['CTR_EL0', K.SCTLR_EL1, 15, 'r'],
    ['DAIF', K.SCTLR_EL1, 9, 'rw'],
    ['CNTPCT_EL0', K.CNTKCTL_EL1, 0, 'r'],
    ['CNTVCT_EL0', K.CNTKCTL_EL1, 1, 'r'],
    ['CNTFRQ_EL0', K.CNTKCTL_EL1, 0, 'r'],
    ['CNTFRQ_EL0', K.CNTKCTL_EL1, 1, 'r'],
    ['CNTV_CTL_EL0', K.CNTKCTL_EL1, 8, 'rw'],
    ['CNTV_TVAL_EL0', K.CNTKCTL_EL1, 8, 'rw'],
    ['CNTV_CVAL_EL0', K.CNTKCTL_EL1, 8, 'rw'],
    ['CNTP_CTL_EL0', K.CNTKCTL_EL1, 9, 'rw'],
    ['CNTP_TVAL_EL0', K.CNTKCTL_EL1, 9, 'rw'],
    ['CNTP_CVAL_EL0', K.CNTKCTL_EL1, 9, 'rw'],
    ['PMCR_EL0', K.PMUSERENR_EL0, 0, 'rw'],
    ['PMCNTENSET_EL0', K.PMUSERENR_EL0, 0, 'rw'],
    ['PMOVSCLR_EL0', K.PMUSERENR_EL0, 0, 'rw'],
    ['PMCEID0_EL0', K.PMUSERENR_EL0, 0, 'r'],
    ['PMSWINC_EL0', K.PMUSERENR_EL0, 0, 'w'],
    ['PMSWINC_EL0', K.PMUSERENR_EL0, 1, 'w'],
    ['PMCCNTR_EL0', K.PMUSERENR_EL0, 0, 'rw'],
    ['PMCCNTR_EL0', K.PMUSERENR_EL0, 2, 'r'],
    ['PMSELR_EL0', K.PMUSERENR_EL0, 3, 'rw'],
    ['PMXEVCNTR_EL0', K.PMUSERENR_EL0, 3, 'r'],
    ['PMEVCNTR0_EL0', K.PMUSERENR_EL0, 3, 'r'],
    ['PMEVTYPER0_EL0', K.PMUSERENR_EL0, 0, 'rw'],
    ['PMCCFILTR_EL0', K.PMUSERENR_EL0, 0, 'rw'],
  ];
  it.each(rows)('%s: register %i opens it with bit %i (%s)', (name, control, bit, how) => {
    const key = keys[name] as number;
    const reads = how.includes('r');
    const writes = how.includes('w');
    msr(control, 0);
    if (reads) expect(inEl0(() => mrs(key))).toBe(TRAP);
    if (writes) expect(inEl0(() => msr(key, 0))).toBe(TRAP);
    msr(control, 1n << BigInt(bit));
    if (reads) expect(typeof inEl0(() => mrs(key))).toBe('bigint');
    if (writes) expect(inEl0(() => msr(key, 0)) & 0xff).toBe(OK);
    // What the bit does not grant is a trap still, what does not exist stays UNDEFINED.
    if (!reads) expect(inEl0(() => mrs(key))).toBe(UNDEFINED);
    if (!writes) expect([UNDEFINED, TRAP]).toContain(inEl0(() => msr(key, 0)));
  });

  it('a bit for reading does not let EL0 write', () => {
    msr(K.PMUSERENR_EL0, 4 | 8);
    expect(inEl0(() => msr(K.PMCCNTR_EL0, 0))).toBe(TRAP);
    expect(inEl0(() => msr(K.PMXEVCNTR_EL0, 0))).toBe(TRAP);
    expect(inEl0(() => msr(K.PMEVCNTR0_EL0, 0))).toBe(TRAP);
    expect(inEl0(() => mrs(K.PMCR_EL0))).toBe(TRAP);
  });

  it('registers of EL1 are UNDEFINED, thread registers are not', () => {
    for (const [name, key] of Object.entries(K)) {
      if (!/_EL1$|^(SP_EL0|SPSel|CurrentEL|PAN)$/.test(name)) continue;
      expect([name, inEl0(() => mrs(key))]).toEqual([name, UNDEFINED]);
      expect([name, inEl0(() => msr(key, 0))]).toEqual([name, UNDEFINED]);
    }
    expect(traced).toEqual([]);
    expect(inEl0(() => msr(K.TPIDR_EL0, 77))).toBe(OK);
    expect(inEl0(() => mrs(K.TPIDR_EL0))).toBe(77n);
    msr(K.TPIDRRO_EL0, 78);
    expect(inEl0(() => mrs(K.TPIDRRO_EL0))).toBe(78n);
    expect(inEl0(() => msr(K.TPIDRRO_EL0, 0))).toBe(UNDEFINED);
    expect(inEl0(() => mrs(K.PMUSERENR_EL0))).toBe(0n);
    expect(inEl0(() => msr(K.PMUSERENR_EL0, 1))).toBe(UNDEFINED);
    msr(K.MDSCR_EL1, 1 << 12);
    expect(inEl0(() => mrs(K.MDCCSR_EL0))).toBe(TRAP);
  });

  it('MSR (immediate)', () => {
    expect(inEl0(() => core.msrImmediate(3, 2, 6))).toBe(TRAP);
    expect(inEl0(() => core.msrImmediate(3, 2, 7))).toBe(TRAP);
    expect(inEl0(() => core.msrImmediate(0, 1, 5))).toBe(UNDEFINED);
    expect(inEl0(() => core.msrImmediate(0, 1, 4))).toBe(UNDEFINED);
    msr(K.SCTLR_EL1, 1 << 9);
    expect(inEl0(() => core.msrImmediate(3, 15, 7))).toBe(OK);
    expect(inEl0(() => mrs(K.DAIF))).toBe(0n);
  });
});

describe('PSTATE', () => {
  it('SPSel swaps the stack pointers', () => {
    const sp = L.XREGS + 8 * L.SP_SLOT;
    setU64(sp, 0x1000n);
    expect(msr(K.SP_EL0, 0x2000)).toBe(OK);
    expect(mrs(K.SP_EL0)).toBe(0x2000n);
    expect(core.msrImmediate(0, 0, 5)).toBe(OK);
    expect(u64(sp)).toBe(0x2000n);
    expect(mrs(K.SPSel)).toBe(0n);
    expect(mrs(K.SP_EL0)).toBe(UNDEFINED);
    expect(msr(K.SP_EL0, 1)).toBe(UNDEFINED);
    setU64(sp, 0x2008n);
    expect(msr(K.SPSel, 1)).toBe(OK);
    expect(u64(sp)).toBe(0x1000n);
    expect(mrs(K.SP_EL0)).toBe(0x2008n);
  });

  it('DAIF polls when it lets a pending interrupt in', () => {
    expect(mrs(K.DAIF)).toBe(0x3c0n);
    expect(core.msrImmediate(3, 2, 7)).toBe(OK);
    expect(mrs(K.DAIF)).toBe(0x340n);
    expect(core.msrImmediate(3, 2, 6)).toBe(OK);
    setU32(L.IRQ_LINES, 1);
    expect(mrs(K.ISR_EL1)).toBe(0x80n);
    expect(core.msrImmediate(3, 2, 7)).toBe(POLL);
    expect(msr(K.DAIF, ~0x80n & 0xffff_ffffn)).toBe(OK);
    expect(mrs(K.DAIF)).toBe(0x340n);
    setU32(L.IRQ_LINES, 2);
    expect(mrs(K.ISR_EL1)).toBe(0x40n);
  });

  it('NZCV, CurrentEL, PAN', () => {
    msr(K.NZCV, 0xffff_ffffn);
    expect(mrs(K.NZCV)).toBe(0xf000_0000n);
    msr(K.NZCV, 0xa000_0000n);
    expect(core.getNZCV()).toBe(10);
    expect(mrs(K.CurrentEL)).toBe(4n);
    expect(msr(K.CurrentEL, 0)).toBe(UNDEFINED);
    expect(core.msrImmediate(0, 1, 4)).toBe(CONTEXT);
    expect(mrs(K.PAN)).toBe(1n << 22n);
    expect(core.msrImmediate(0, 1, 4)).toBe(OK);
    expect(msr(K.PAN, 0)).toBe(CONTEXT);
    expect(core.msrImmediate(0, 0, 3)).toBe(UNDEFINED);
    expect(core.msrImmediate(3, 0, 5)).toBe(UNDEFINED);
  });

  it('FPCR and FPSR trap with floating point', () => {
    expect(mrs(K.FPCR)).toBe(TRAP_FP);
    expect(msr(K.FPSR, 0)).toBe(TRAP_FP);
    expect(msr(K.CPACR_EL1, 1 << 20)).toBe(OK);
    expect(msr(K.FPCR, 0xffff_ffffn)).toBe(OK);
    expect(msr(K.FPSR, 0xffff_ffffn)).toBe(OK);
    expect(mrs(K.FPCR)).toBe(0x07c0_0000n);
    expect(mrs(K.FPSR)).toBe(0x0800_009fn);
    expect(u32(L.FP_FAST)).toBe(0);
    msr(K.FPCR, 0);
    expect(u32(L.FP_FAST)).toBe(1);
  });
});

describe('registers of EL1', () => {
  const ones = NEVER;
  const masks: [string, bigint][] = [
    ['SCTLR_EL1', 0x34dd_db9fn],
    ['ACTLR_EL1', 0n],
    ['CPACR_EL1', 3n << 20n],
    ['TTBR0_EL1', ones],
    ['TTBR1_EL1', ones],
    ['TCR_EL1', 0x77_ffff_ffbfn],
    ['ESR_EL1', 0xffff_ffffn],
    ['FAR_EL1', ones],
    ['MAIR_EL1', ones],
    ['VBAR_EL1', ones ^ 0x7ffn],
    ['ELR_EL1', ones],
    ['SPSR_EL1', 0xffff_ffffn],
    ['PAR_EL1', ones],
    ['CONTEXTIDR_EL1', 0xffff_ffffn],
    ['TPIDR_EL1', ones],
    ['CNTKCTL_EL1', 0x3ffn],
    ['MDCCINT_EL1', 3n << 29n],
    ['DBGBVR0_EL1', ones],
    ['DBGBCR0_EL1', 0x00ff_e1e7n],
    ['DBGWVR0_EL1', ones ^ 3n],
    ['DBGWCR0_EL1', 0x1f1f_ffffn & ~0x00e0_0000n],
    ['PMUSERENR_EL0', 15n],
    ['PMSELR_EL0', 31n],
    ['PMEVTYPER0_EL0', 0xc000_03ffn],
    ['PMCCFILTR_EL0', 0xc000_0000n],
  ];
  it.each(masks)('%s keeps the bits that exist', (name, mask) => {
    expect(msr(keys[name] as number, ones) & 0xff).toBe(OK);
    expect((mrs(keys[name] as number) as bigint).toString(16)).toBe(mask.toString(16));
  });

  it('tells the caller when translation changes', () => {
    expect(msr(K.TTBR0_EL1, 0x4000_0000)).toBe(CONTEXT);
    expect(msr(K.TTBR0_EL1, 0x4000_0000)).toBe(OK);
    expect(msr(K.TCR_EL1, 16)).toBe(CONTEXT);
    expect(msr(K.SCTLR_EL1, 1)).toBe(CONTEXT);
    expect(msr(K.CONTEXTIDR_EL1, 1)).toBe(OK);
  });

  it('does not have those of other levels, of later extensions and of no one', () => {
    const key = (op0: number, op1: number, n: number, m: number, op2: number) =>
      (op0 << 14) | (op1 << 11) | (n << 7) | (m << 3) | op2;
    for (const k of [
      key(3, 4, 1, 1, 0), // HCR_EL2
      key(3, 6, 1, 1, 0), // SCR_EL3
      key(3, 4, 4, 1, 0), // SP_EL1
      key(3, 5, 1, 0, 0), // SCTLR_EL12
      key(3, 0, 12, 0, 1), // RVBAR_EL1
      key(3, 3, 2, 4, 0), // RNDR
      key(3, 0, 1, 2, 0), // ZCR_EL1
      key(3, 3, 4, 2, 5), // DIT
      key(3, 0, 4, 2, 4), // UAO
      key(2, 0, 0, 6, 4), // DBGBVR6_EL1
      key(2, 0, 0, 4, 6), // DBGWVR4_EL1
      key(3, 3, 14, 8, 6), // PMEVCNTR6_EL0
      K.ICC_PMR_EL1, // without a GICv3
    ]) {
      expect(mrs(k)).toBe(UNDEFINED);
      expect(msr(k, 0)).toBe(UNDEFINED);
    }
    for (const k of [K.CNTVCT_EL0, K.CNTFRQ_EL0, K.CTR_EL0, K.MIDR_EL1, K.OSLSR_EL1, K.MDRAR_EL1, K.ISR_EL1]) {
      expect(msr(k, 0)).toBe(UNDEFINED);
    }
    expect(mrs(K.OSLAR_EL1)).toBe(UNDEFINED);
  });

  it('hands the GIC CPU interface to the host', () => {
    setU32(L.GIC_SYSREGS, 1);
    expect(mrs(K.ICC_IAR1_EL1)).toBe(1023n);
    expect(msr(K.ICC_EOIR1_EL1, 27)).toBe(POLL);
    expect(icc).toEqual([{ key: K.ICC_IAR1_EL1 }, { key: K.ICC_EOIR1_EL1, value: 27n }]);
    expect(mrs(K.ICC_DIR_EL1)).toBe(UNDEFINED);
    expect(inEl0(() => mrs(K.ICC_IAR1_EL1))).toBe(UNDEFINED);
    expect(icc).toHaveLength(3);
  });
});

describe('generic timer', () => {
  it('derives exact time from the instruction count', () => {
    setU32(L.CLOCK_VIRTUAL, 1);
    let previous = 0n;
    let n = 0n;
    for (let i = 0; i < 2000; i++) {
      n += (BigInt(i) * 0x9e37_79b9_7f4an) % (i % 3 === 0 ? 1_000_000_007n : 97n);
      setU64(L.GLOBAL_ICOUNT, n);
      const expected = (n * 62_500_000n) / 1_000_000_000n;
      expect(core.readCounter()).toBe(expected);
      expect(expected).toBeGreaterThanOrEqual(previous);
      previous = expected;
    }
    expect(n).toBeGreaterThan(1n << 34n);
    setU32(L.CNTFRQ, 0xffff_ffff);
    setU64(L.GLOBAL_ICOUNT, 0xffff_ffff_ffn);
    setU64(L.CLOCK_SKEW, 5n);
    expect(core.readCounter()).toBe((0xffff_ffff_ffn * 0xffff_ffffn) / 1_000_000_000n + 5n);
  });

  it('offsets the virtual counter', () => {
    ticks = 1000;
    setU64(L.CNTVOFF, 400n);
    expect(mrs(K.CNTPCT_EL0)).toBe(1000n);
    expect(mrs(K.CNTVCT_EL0)).toBe(600n);
  });

  it.each([
    ['virtual', K.CNTV_CTL_EL0, K.CNTV_CVAL_EL0, K.CNTV_TVAL_EL0, 1, 400n],
    ['physical', K.CNTP_CTL_EL0, K.CNTP_CVAL_EL0, K.CNTP_TVAL_EL0, 2, 0n],
  ] as const)('the %s timer fires at CVAL', (_name, ctl, cval, tval, line, offset) => {
    setU64(L.CNTVOFF, 400n);
    ticks = 1000;
    expect(u(core.timerDeadline())).toBe(NEVER);
    expect(msr(tval, 50)).toBe(POLL);
    expect(mrs(cval)).toBe(1050n - offset);
    expect(mrs(tval)).toBe(50n);
    expect(msr(ctl, 7)).toBe(POLL); // ISTATUS is read-only
    expect(mrs(ctl)).toBe(3n);
    expect(u(core.timerDeadline())).toBe(NEVER);
    msr(ctl, 1);
    expect(u(core.timerDeadline())).toBe(1050n);
    ticks = 1049;
    expect(core.timerUpdate()).toBe(0);
    expect(mrs(ctl)).toBe(1n);
    ticks = 1050;
    expect(u(core.timerDeadline())).toBe(1050n);
    expect(mrs(ctl)).toBe(5n);
    expect(core.timerUpdate()).toBe(line);
    expect(core.timerUpdate()).toBe(line);
    expect(u(core.timerDeadline())).toBe(NEVER);
    ticks = 1051;
    expect(mrs(tval)).toBe(0xffff_ffffn);
    msr(ctl, 3);
    expect(mrs(ctl)).toBe(7n);
    msr(ctl, 1);
    msr(tval, 0xffff_fff0n); // negative: in the past
    expect(mrs(cval)).toBe(1035n - offset);
    msr(cval, NEVER);
    expect(timerLines).toEqual([line, 0, line, 0]);
    expect(u(core.timerDeadline())).toBe(NEVER);
  });

  it('an earlier virtual deadline wins over a physical one', () => {
    msr(K.CNTP_CVAL_EL0, 500);
    msr(K.CNTP_CTL_EL0, 1);
    msr(K.CNTV_CVAL_EL0, 300);
    msr(K.CNTV_CTL_EL0, 1);
    expect(u(core.timerDeadline())).toBe(300n);
    setU64(L.CNTVOFF, 300n);
    expect(u(core.timerDeadline())).toBe(500n);
  });
});

describe('performance monitors', () => {
  const INST = 0x08;
  const CYCLES = 0x11;
  const CHAIN = 0x1e;
  const retire = (n: number) => setU64(L.ICOUNT, u64(L.ICOUNT) + BigInt(n));

  it('has six counters and the events that it counts', () => {
    expect(mrs(K.PMCR_EL0)).toBe(6n << 11n);
    expect(mrs(K.PMCEID0_EL0)).toBe((1n << 0n) | (1n << 8n) | (1n << 17n) | (1n << 30n));
    expect(mrs(K.PMCEID1_EL0)).toBe(0n);
  });

  it('counts only what is enabled', () => {
    msr(K.PMEVTYPER0_EL0, INST);
    msr(K.PMSELR_EL0, 1);
    msr(K.PMXEVTYPER_EL0, CYCLES);
    msr(K.PMCNTENSET_EL0, 0x8000_0003n);
    retire(10);
    expect(mrs(K.PMCCNTR_EL0)).toBe(0n);
    msr(K.PMCR_EL0, 1);
    retire(100);
    expect(mrs(K.PMCCNTR_EL0)).toBe(100n);
    expect(mrs(K.PMEVCNTR0_EL0)).toBe(100n);
    expect(mrs(K.PMXEVCNTR_EL0)).toBe(100n);
    msr(K.PMCNTENCLR_EL0, 1);
    retire(5);
    expect(mrs(K.PMEVCNTR0_EL0)).toBe(100n);
    expect(mrs(K.PMEVCNTR0_EL0 + 1)).toBe(105n);
    msr(K.PMCR_EL0, 1 | 2);
    expect(mrs(K.PMEVCNTR0_EL0 + 1)).toBe(0n);
    expect(mrs(K.PMCCNTR_EL0)).toBe(105n);
    msr(K.PMCR_EL0, 1 | 4);
    expect(mrs(K.PMCCNTR_EL0)).toBe(0n);
    msr(K.PMSELR_EL0, 31);
    msr(K.PMXEVTYPER_EL0, 0x8000_0000n);
    expect(mrs(K.PMCCFILTR_EL0)).toBe(0x8000_0000n);
  });

  it('filters by level', () => {
    msr(K.PMEVTYPER0_EL0, 0x8000_0000n | BigInt(INST)); // not EL1
    msr(K.PMEVTYPER0_EL0 + 1, 0x4000_0000n | BigInt(INST)); // not EL0
    msr(K.PMCNTENSET_EL0, 3);
    expect(u32(L.PMU_ACTIVE)).toBe(0);
    msr(K.PMCR_EL0, 1);
    expect(u32(L.PMU_ACTIVE)).toBe(1);
    retire(7);
    core.pmuSync();
    setU32(L.EL, 0);
    retire(9);
    core.pmuSync();
    setU32(L.EL, 1);
    expect(mrs(K.PMEVCNTR0_EL0)).toBe(9n);
    expect(mrs(K.PMEVCNTR0_EL0 + 1)).toBe(7n);
  });

  it('interrupts on overflow', () => {
    msr(K.PMEVTYPER0_EL0, INST);
    msr(K.PMEVCNTR0_EL0, 0xffff_fff0n);
    msr(K.PMCNTENSET_EL0, 1);
    msr(K.PMINTENSET_EL1, 1);
    expect(u(core.pmuDeadline())).toBe(NEVER);
    msr(K.PMCR_EL0, 1);
    expect(u(core.pmuDeadline())).toBe(16n);
    retire(15);
    core.pmuSync();
    expect(pmuLevels).toEqual([]);
    expect(u(core.pmuDeadline())).toBe(1n);
    retire(1);
    core.pmuSync();
    expect(pmuLevels).toEqual([1]);
    expect(mrs(K.PMOVSSET_EL0)).toBe(1n);
    expect(u(core.pmuDeadline())).toBe(NEVER);
    expect(msr(K.PMOVSCLR_EL0, 1)).toBe(POLL);
    expect(pmuLevels).toEqual([1, 0]);
    msr(K.PMOVSSET_EL0, 1);
    msr(K.PMINTENCLR_EL1, 1);
    expect(pmuLevels).toEqual([1, 0, 1, 0]);
  });

  it('the cycle counter overflows at 32 or 64 bits and can divide by 64', () => {
    msr(K.PMCNTENSET_EL0, 0x8000_0000n);
    msr(K.PMCR_EL0, 1);
    msr(K.PMCCNTR_EL0, 0xffff_ffffn);
    retire(1);
    expect(mrs(K.PMCCNTR_EL0)).toBe(0x1_0000_0000n);
    expect(mrs(K.PMOVSCLR_EL0)).toBe(0x8000_0000n);
    msr(K.PMOVSCLR_EL0, 0x8000_0000n);
    msr(K.PMCR_EL0, 1 | 64);
    msr(K.PMCCNTR_EL0, 0xffff_ffffn);
    retire(1);
    expect(mrs(K.PMOVSCLR_EL0)).toBe(0n);
    msr(K.PMCCNTR_EL0, NEVER);
    retire(1);
    expect(mrs(K.PMOVSCLR_EL0)).toBe(0x8000_0000n);
    msr(K.PMCR_EL0, 1 | 8 | 4);
    retire(63);
    expect(mrs(K.PMCCNTR_EL0)).toBe(0n);
    retire(65);
    expect(mrs(K.PMCCNTR_EL0)).toBe(2n);
  });

  it('counts software increments and chains', () => {
    msr(K.PMEVTYPER0_EL0, 0);
    msr(K.PMEVTYPER0_EL0 + 1, CHAIN);
    msr(K.PMCNTENSET_EL0, 3);
    msr(K.PMSWINC_EL0, 1);
    expect(mrs(K.PMEVCNTR0_EL0)).toBe(0n);
    msr(K.PMCR_EL0, 1);
    msr(K.PMEVCNTR0_EL0, 0xffff_ffffn);
    msr(K.PMSWINC_EL0, 3);
    expect(mrs(K.PMEVCNTR0_EL0)).toBe(0n);
    expect(mrs(K.PMEVCNTR0_EL0 + 1)).toBe(1n);
    expect(mrs(K.PMOVSSET_EL0)).toBe(1n);
  });
});

describe('self-hosted debug', () => {
  const MDE = 1 << 15;
  const KDE = 1 << 13;
  const SS = 1;
  const unlock = () => msr(K.OSLAR_EL1, 0);

  it('the OS Lock resets to locked', () => {
    expect(mrs(K.OSLSR_EL1)).toBe(0xan);
    unlock();
    expect(mrs(K.OSLSR_EL1)).toBe(8n);
    msr(K.MDSCR_EL1, 0xffff_ffffn);
    expect(mrs(K.MDSCR_EL1)).toBe(BigInt(MDE | KDE | (1 << 12) | SS));
    msr(K.DBGCLAIMSET_EL1, 0x1ff);
    msr(K.DBGCLAIMCLR_EL1, 0x0f);
    expect(mrs(K.DBGCLAIMCLR_EL1)).toBe(0xf0n);
    expect(mrs(K.DBGCLAIMSET_EL1)).toBe(0xffn);
  });

  /** DBGBCR: E, PMC, BT, LBN. */
  const bcr = (pmc: number, bt = 0, lbn = 0) => 1 | (pmc << 1) | (15 << 5) | (lbn << 16) | (bt << 20);
  const key = (base: number, n: number) => base + (n << 3);

  it('breakpoints match address, level, lock and mask', () => {
    msr(key(K.DBGBVR0_EL1, 2), 0xffff_8000_0000_1000n);
    msr(key(K.DBGBCR0_EL1, 2), bcr(1));
    msr(K.MDSCR_EL1, MDE | KDE);
    setU32(L.DAIF, 0);
    expect(u32(L.DEBUG_ACTIVE)).toBe(0);
    expect(core.checkBreakpoint(0xffff_8000_0000_1000n)).toBe(0); // OS Lock
    expect(unlock()).toBe(POLL);
    expect(u32(L.DEBUG_ACTIVE)).toBe(1);
    expect(core.checkBreakpoint(0xffff_8000_0000_1000n)).toBe(1);
    expect(core.checkBreakpoint(0xffff_8000_0000_1004n)).toBe(0);
    expect(core.checkBreakpoint(0xffff_8001_0000_1000n)).toBe(0);
    expect(inEl0(() => core.checkBreakpoint(0xffff_8000_0000_1000n))).toBe(0);
    core.msrImmediate(3, 8, 6); // PSTATE.D
    expect(u32(L.DEBUG_ACTIVE)).toBe(0);
    expect(core.checkBreakpoint(0xffff_8000_0000_1000n)).toBe(0);
    expect(core.msrImmediate(3, 8, 7)).toBe(POLL);
    expect(u32(L.DEBUG_ACTIVE)).toBe(1);
    msr(K.OSDLR_EL1, 1);
    expect(core.checkBreakpoint(0xffff_8000_0000_1000n)).toBe(0);
    msr(K.DBGPRCR_EL1, 1);
    expect(core.checkBreakpoint(0xffff_8000_0000_1000n)).toBe(1);
    msr(K.MDSCR_EL1, MDE);
    expect(core.checkBreakpoint(0xffff_8000_0000_1000n)).toBe(0);
    msr(key(K.DBGBCR0_EL1, 2), bcr(2));
    setU32(L.DAIF, 0x3c0);
    expect(inEl0(() => core.checkBreakpoint(0xffff_8000_0000_1000n))).toBe(1); // neither KDE nor D concern EL0
  });

  it('breakpoints match and link to the context ID', () => {
    unlock();
    msr(K.MDSCR_EL1, MDE);
    setU32(L.EL, 0);
    const set = (n: number, bvr: number, value: number) => {
      setU64(L.DBGBVR + 8 * n, BigInt(bvr));
      setU64(L.DBGBCR + 8 * n, BigInt(value));
    };
    set(0, 0x4000, bcr(2, 1, 5));
    expect(core.checkBreakpoint(0x4000n)).toBe(0);
    set(5, 42, bcr(2, 3));
    expect(core.checkBreakpoint(0x4000n)).toBe(0);
    setU64(L.CONTEXTIDR_EL1, 42n);
    expect(core.checkBreakpoint(0x4000n)).toBe(1);
    expect(core.checkBreakpoint(0x8000n)).toBe(0); // linked ones do nothing alone
    set(5, 42, bcr(2, 2));
    expect(core.checkBreakpoint(0x8000n)).toBe(1); // unlinked ones do
    set(5, 42, 0);
    set(3, 42, bcr(2, 2)); // not context-aware
    expect(core.checkBreakpoint(0x8000n)).toBe(0);
    set(0, 0x4000, bcr(2, 1, 3));
    set(3, 42, bcr(2, 3));
    expect(core.checkBreakpoint(0x4000n)).toBe(0);
  });

  it('watchpoints agree with WatchpointByteMatch() for every BAS, mask and access', () => {
    unlock();
    msr(K.MDSCR_EL1, MDE | KDE);
    setU32(L.DAIF, 0);
    // One byte, as in the Arm ARM: which BAS bit or mask covers it.
    const byteMatches = (wvr: bigint, bas: number, mask: number, byte: bigint) => {
      if (mask > 0) return byte >> BigInt(mask) === wvr >> BigInt(mask);
      const bottom = wvr & 4n ? 2n : 3n;
      return byte >> bottom === wvr >> bottom && ((bas >> Number(byte & ((1n << bottom) - 1n))) & 1) !== 0;
    };
    const base = 0xffff_ffc0_0000_2000n;
    let hits = 0;
    let seed = 1;
    const random = (n: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % n;
    };
    for (let i = 0; i < 20_000; i++) {
      const mask = random(4) === 0 ? 3 + random(8) : 0;
      const wvr = (base + BigInt(random(16) * 4)) & (mask ? ~((1n << BigInt(mask)) - 1n) : -1n);
      const bas = mask ? 0xff : (((1 << (1 + random(8))) - 1) << random(8)) & 0xff;
      const lsc = 1 + random(3);
      setU64(L.DBGWVR + 8, wvr & NEVER);
      setU64(L.DBGWCR + 8, BigInt(1 | (1 << 1) | (lsc << 3) | (bas << 5) | (mask << 24)));
      const va = base + BigInt(random(80)) - 8n;
      const size = 1 << random(7);
      const write = random(2);
      let expected = 0;
      for (let b = 0; b < size; b++) if (byteMatches(wvr, bas, mask, va + BigInt(b))) expected = 1;
      if ((lsc & (write ? 2 : 1)) === 0) expected = 0;
      hits += expected;
      const got = core.checkWatchpoint(va, size, write, 0);
      if (got !== expected) expect([i, wvr, bas, mask, lsc, va, size, write, got]).toEqual(expected);
    }
    expect(hits).toBeGreaterThan(2000);
    expect(hits).toBeLessThan(18_000);
  });

  it('watchpoints know LDTR, links and when they make the slow path necessary', () => {
    unlock();
    setU32(L.DAIF, 0);
    msr(K.DBGWVR0_EL1, 0x1000);
    msr(K.DBGWCR0_EL1, 1 | (2 << 1) | (3 << 3) | (0xff << 5)); // EL0
    expect(u32(L.WATCH_ACTIVE)).toBe(0);
    expect(msr(K.MDSCR_EL1, MDE | KDE)).toBe(POLL | CONTEXT);
    expect(u32(L.WATCH_ACTIVE)).toBe(1);
    expect(core.checkWatchpoint(0x1000n, 4, 0, 0)).toBe(0);
    expect(core.checkWatchpoint(0x1000n, 4, 0, 1)).toBe(1);
    expect(inEl0(() => core.checkWatchpoint(0x1000n, 4, 1, 0))).toBe(1);
    msr(K.DBGWCR0_EL1, 1 | (2 << 1) | (3 << 3) | (0xff << 5) | (1 << 20) | (4 << 16));
    expect(core.checkWatchpoint(0x1000n, 4, 0, 1)).toBe(0);
    msr(key(K.DBGBVR0_EL1, 4), 7);
    msr(key(K.DBGBCR0_EL1, 4), bcr(3, 3));
    msr(K.CONTEXTIDR_EL1, 7);
    expect(core.checkWatchpoint(0x1000n, 4, 0, 1)).toBe(1);
    msr(K.DBGWCR0_EL1, 0);
    expect(u32(L.WATCH_ACTIVE)).toBe(0);
  });

  it('software step goes through its states', () => {
    unlock();
    const SPSR_SS = 1n << 21n;
    expect(core.exceptionReturnSS(SPSR_SS)).toBe(0);
    msr(K.MDSCR_EL1, SS);
    // From EL1 without KDE (disabled) to EL0 (enabled): active-not-pending.
    expect(core.exceptionReturnSS(SPSR_SS)).toBe(1);
    expect(core.exceptionReturnSS(0n)).toBe(0);
    expect(core.exceptionReturnSS(SPSR_SS | 5n)).toBe(0); // EL1 is not enabled
    expect(core.stepActive()).toBe(0);
    setU32(L.EL, 0);
    setU32(L.PSTATE_SS, 1);
    expect(core.stepActive()).toBe(1);
    expect(core.stepPending()).toBe(0);
    core.stepAdvance();
    expect(u32(L.PSTATE_SS)).toBe(0);
    expect(core.stepPending()).toBe(1);
    // EL1 stepping itself: enabled at the source, unless it masks with D and returns to D clear.
    setU32(L.EL, 1);
    msr(K.MDSCR_EL1, SS | KDE);
    setU32(L.DAIF, 0);
    expect(core.exceptionReturnSS(SPSR_SS | 5n)).toBe(0);
    setU32(L.DAIF, 0x200);
    expect(core.exceptionReturnSS(SPSR_SS | 5n)).toBe(1);
    expect(core.exceptionReturnSS(SPSR_SS | 0x205n)).toBe(0);
    msr(K.MDSCR_EL1, 0);
    setU32(L.PSTATE_SS, 1);
    core.stepAdvance();
    expect(u32(L.PSTATE_SS)).toBe(1);
  });
});

describe('reset', () => {
  it('drops the interrupt outputs and what was written', () => {
    msr(K.CNTV_CTL_EL0, 1);
    msr(K.PMOVSSET_EL0, 1);
    msr(K.PMINTENSET_EL1, 1);
    msr(K.PMCR_EL0, 1);
    msr(K.TPIDR_EL1, 5);
    msr(K.SCTLR_EL1, 1);
    core.msrImmediate(3, 15, 7);
    expect(timerLines).toEqual([1]);
    expect(pmuLevels).toEqual([1]);
    setU32(L.EL, 0);
    core.resetSysregs();
    expect(timerLines).toEqual([1, 0]);
    expect(pmuLevels).toEqual([1, 0]);
    expect(mrs(K.CurrentEL)).toBe(4n);
    expect(mrs(K.DAIF)).toBe(0x3c0n);
    expect(mrs(K.SCTLR_EL1)).toBe(0x30d0_0980n & ~0x0080_0000n & ~0n);
    expect(mrs(K.TPIDR_EL1)).toBe(0n);
    expect(mrs(K.PMCR_EL0)).toBe(6n << 11n);
  });
});
