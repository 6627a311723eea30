/**
 * A bare guest for what user mode cannot see: its registers and memory are set from here, its code is assembled into its
 * RAM, and every exception ends at a vector that holds `HVC #STOP`, so that one run() is one experiment.
 */
import { readFileSync } from 'node:fs';
import { type Assembled, assemble } from '../../scripts/asm/assemble.ts';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import type { CoreExports } from '../../src/engines/emu/a64/core-instance.ts';

interface Exports extends CoreExports {
  writeSysreg(key: number, value: bigint): number;
  debugUpdate(): number;
}

const wasm = new WebAssembly.Module(readFileSync(new URL('../../dist/a64.wasm', import.meta.url)));

export const RAM_BASE = 0x4000_0000;
export const RAM_SIZE = 0x80_0000;
/** Where the vectors are, and where code() puts code unless told otherwise. */
export const VECTORS = RAM_BASE;
export const CODE = RAM_BASE + 0x1000;

/** With identity(): code of EL0, data of both, translation tables. */
export const USER_CODE = RAM_BASE + 0x20_0000;
export const DATA = RAM_BASE + 0x40_0000;
const TABLES = RAM_BASE + 0x70_0000;

/** Attributes of pages: AP, UXN, PXN, AttrIndx. */
export const PAGE = {
  el1Code: 1n << 54n,
  el0Code: (3n << 6n) | (1n << 53n),
  data: (1n << 6n) | (3n << 53n),
  readOnly: (3n << 6n) | (3n << 53n),
  el1Data: 3n << 53n,
  device: (1n << 6n) | (3n << 53n) | (1n << 2n),
} as const;

/** The host call that ends run(). WFI would not do: it does not wait while an interrupt is pending. */
export const STOP = 0x7e57;

/** An exception that the guest took to EL1. */
export interface Taken {
  /** Offset of the vector from VBAR_EL1: 0x200 is synchronous, from EL1 with SP_EL1. */
  readonly vector: number;
  readonly ec: number;
  readonly iss: number;
  readonly far: bigint;
  readonly elr: bigint;
  readonly spsr: bigint;
}

export interface MmioAccess {
  readonly pa: bigint;
  readonly size: number;
  /** undefined: a read. */
  readonly value?: bigint;
}

export class Guest {
  readonly memory: WebAssembly.Memory;
  readonly view: DataView;
  readonly exports: Exports;
  readonly ram: DataView;
  /** Accesses outside RAM since the last reset of this list; reads give 0x5a in each byte. */
  mmio: MmioAccess[] = [];
  /** Host calls HVC #imm. */
  calls: number[] = [];
  timerLines: number[] = [];
  pmuLines: number[] = [];
  /** The core's call before the first store to a page that is protected. */
  onFirstWrite: (page: number) => void = () => undefined;
  /** Called by setTimerLines and setPmuLine, for those who wire them to an interrupt. */
  onLine: () => void = () => undefined;

  constructor(options: { readonly cpus?: number } = {}) {
    this.memory = new WebAssembly.Memory({ initial: (L.RAM + RAM_SIZE) / 65536, maximum: 65536, shared: true });
    const { memory } = this;
    this.view = new DataView(memory.buffer);
    this.ram = new DataView(memory.buffer, L.RAM, RAM_SIZE);
    const at = (hi: number, lo: number) => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
    const host: Record<string, WebAssembly.ImportValue> = {
      memory,
      mmioRead: (_cpu: number, hi: number, lo: number, size: number) => {
        this.mmio.push({ pa: at(hi, lo), size });
        this.set(L.MAILBOX, 0x5a5a_5a5a_5a5a_5a5an);
        return 1;
      },
      mmioWrite: (_cpu: number, hi: number, lo: number, size: number) => {
        const value = BigInt.asUintN(8 * size, this.get(L.MAILBOX));
        this.mmio.push({ pa: at(hi, lo), size, value });
        return 1;
      },
      firstWrite: (page: number) => this.onFirstWrite(page),
      hypercall: (_cpu: number, imm: number) => {
        if (imm === STOP) this.setU32(L.POWER, L.POWER_OFF);
        else this.calls.push(imm);
      },
      setTimerLines: (_cpu: number, bits: number) => {
        this.timerLines.push(bits);
        this.onLine();
      },
      setPmuLine: (_cpu: number, level: number) => {
        this.pmuLines.push(level);
        this.onLine();
      },
    };
    for (const i of WebAssembly.Module.imports(wasm)) host[i.name] ??= () => 0;
    this.exports = new WebAssembly.Instance(wasm, { env: host }).exports as unknown as Exports;
    this.setU32(L.REGION_COUNT, 1);
    this.set(L.REGIONS, BigInt(RAM_BASE));
    this.set(L.REGIONS + 8, BigInt(RAM_SIZE));
    this.setU32(L.REGIONS + 16, L.RAM);
    this.setU32(L.REGIONS + 20, 0);
    this.setU32(L.CNTFRQ, 62_500_000);
    const cpus = options.cpus ?? 1;
    this.exports.initialize(cpus);
    for (let cpu = cpus - 1; cpu >= 0; cpu--) {
      this.exports.switchTo(cpu);
      this.exports.powerOn(BigInt(CODE), 0n);
      this.sysreg('VBAR_EL1', BigInt(VECTORS));
    }
    for (let i = 0; i < 0x800; i += 0x80) this.store32(VECTORS + i, wordOf(`hvc #${STOP}`));
  }

  u32 = (at: number) => this.view.getUint32(at, true);
  setU32 = (at: number, v: number) => this.view.setUint32(at, v, true);
  get = (at: number) => this.view.getBigUint64(at, true);
  set = (at: number, v: bigint) => this.view.setBigUint64(at, BigInt.asUintN(64, v), true);

  x = (n: number) => this.get(L.XREGS + 8 * n);
  setX = (n: number, v: bigint | number) => this.set(L.XREGS + 8 * n, BigInt(v));

  load64 = (pa: number | bigint) => this.ram.getBigUint64(Number(pa) - RAM_BASE, true);
  store64 = (pa: number | bigint, v: bigint) =>
    this.ram.setBigUint64(Number(pa) - RAM_BASE, BigInt.asUintN(64, v), true);
  load32 = (pa: number | bigint) => this.ram.getUint32(Number(pa) - RAM_BASE, true);
  store32 = (pa: number | bigint, v: number) => this.ram.setUint32(Number(pa) - RAM_BASE, v, true);

  /** Writes a system register as MSR from EL1 does, with its effect on what is cached. */
  sysreg(name: string, value: bigint): void {
    const word = wordOf(`msr ${name}, x0`);
    const el = this.u32(L.EL);
    this.setU32(L.EL, 1);
    this.exports.writeSysreg((word >>> 5) & 0xffff, BigInt.asIntN(64, value));
    this.setU32(L.EL, el);
    this.exports.debugUpdate();
    this.exports.selectTables();
  }

  /** Reads one as MRS from EL1 leaves it in the state area. */
  field = (at: number) => this.get(at);

  /**
   * Turns the MMU on with 4 KiB pages, 39 bits and TTBR0 alone, each page at its own address: EL1's code in the first
   * 2 MiB, EL0's in the second, data for both above. AttrIndx 1 is Device memory. `sctlr`: bits to set beside M.
   */
  identity(sctlr = 0n): void {
    const entry = (at: number, v: bigint) => this.store64(at, v);
    entry(TABLES + 8, BigInt(TABLES + 0x1000) | 3n);
    for (let i = 0; i < 4; i++) entry(TABLES + 0x1000 + 8 * i, BigInt(TABLES + 0x2000 + 0x1000 * i) | 3n);
    for (let va = RAM_BASE; va < RAM_BASE + RAM_SIZE; va += 0x1000) {
      this.page(va, va < USER_CODE ? PAGE.el1Code : va < DATA ? PAGE.el0Code : PAGE.data);
    }
    this.sysreg('MAIR_EL1', 0x00ffn);
    this.sysreg('TTBR0_EL1', BigInt(TABLES));
    this.sysreg('TCR_EL1', 25n | (1n << 23n) | (5n << 32n));
    this.sysreg('SCTLR_EL1', sctlr | 1n | (1n << 23n));
  }

  /** Maps one page of identity() with other attributes, or not at all, and forgets what was cached. */
  page(va: number, attributes: bigint | undefined, pa: number | bigint = va & ~0xfff): void {
    const at = TABLES + 0x2000 + 8 * ((va - RAM_BASE) >> 12);
    this.store64(at, attributes === undefined ? 0n : BigInt(pa) | 3n | (1n << 10n) | (3n << 8n) | attributes);
    this.exports.tlbiAll(true);
    this.exports.selectTables();
  }

  /** Assembles to guest-physical `at` and forgets what was decoded there before. */
  code(source: string, at: number = CODE, base: bigint = BigInt(at)): Assembled {
    const a = assemble(source, { base });
    new Uint8Array(this.ram.buffer, L.RAM + at - RAM_BASE).set(a.bytes);
    this.exports.flushDecoded();
    return a;
  }

  /** PSTATE by SPSR's layout, without an exception return. */
  pstate(spsr: number): void {
    const park = this.u32(L.SPSEL) !== 0 ? L.SP_EL1 : L.SP_EL0;
    this.set(park, this.get(L.XREGS + 8 * 31));
    this.setU32(L.EL, (spsr >> 2) & 3);
    this.setU32(L.SPSEL, spsr & 1);
    this.set(L.XREGS + 8 * 31, this.get((spsr & 1) !== 0 ? L.SP_EL1 : L.SP_EL0));
    this.setU32(L.DAIF, spsr & 0x3c0);
    this.setU32(L.PAN, (spsr >> 22) & 1);
    this.setU32(L.PSTATE_SS, (spsr >> 21) & 1);
    this.setU32(L.PSTATE_IL, (spsr >> 20) & 1);
    this.exports.setNZCV((spsr >>> 28) & 15);
    this.exports.selectTables();
    this.exports.updateFp();
    this.exports.debugUpdate();
  }

  /** Runs from `pc` until a vector, or a WFI, and says where that was. */
  run(pc: bigint | number, budget = 10_000): bigint {
    this.set(L.PC, BigInt(pc));
    this.setU32(L.POWER, L.POWER_ON);
    for (let i = 0; i < 20; i++) {
      const exit = this.exports.run(budget);
      if (exit === L.EXIT_WFI || exit === L.EXIT_OFF) return this.get(L.PC) - 4n;
    }
    throw new Error(`the guest does not stop, at 0x${this.get(L.PC).toString(16)}`);
  }

  /** run() that must end at a vector. */
  take(pc: bigint | number, budget?: number): Taken {
    const where = this.run(pc, budget);
    const vector = Number(where - this.get(L.VBAR_EL1));
    if (vector < 0 || vector >= 0x800 || vector % 0x80 !== 0) {
      throw new Error(`no exception: the guest stopped at 0x${where.toString(16)}`);
    }
    return this.taken(vector);
  }

  private taken(vector: number): Taken {
    const esr = this.get(L.ESR_EL1);
    return {
      vector,
      ec: Number(esr >> 26n),
      iss: Number(esr & 0x1ff_ffffn),
      far: this.get(L.FAR_EL1),
      elr: this.get(L.ELR_EL1),
      spsr: this.get(L.SPSR_EL1),
    };
  }
}

const words = new Map<string, number>();
/** The encoding of one instruction. */
export function wordOf(source: string): number {
  let word = words.get(source);
  if (word === undefined) {
    word = new DataView(assemble(source).bytes.buffer).getUint32(0, true);
    words.set(source, word);
  }
  return word;
}
