/**
 * A bare guest for what user mode cannot see: its registers and memory are set from here, its code is assembled into its
 * RAM, and every exception ends at a vector that holds `WFI`, so that one run() is one experiment.
 */
import { readFileSync } from 'node:fs';
import { type Assembled, assemble } from '../../scripts/asm/assemble.ts';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import type { CoreExports } from '../../src/engines/emu/a64/core-instance.ts';

interface Exports extends CoreExports {
  writeSysreg(key: number, value: bigint): number;
}

const wasm = new WebAssembly.Module(readFileSync(new URL('../../dist/a64.wasm', import.meta.url)));

export const RAM_BASE = 0x4000_0000;
export const RAM_SIZE = 0x80_0000;
/** Where the vectors are, and where code() puts code unless told otherwise. */
export const VECTORS = RAM_BASE;
export const CODE = RAM_BASE + 0x1000;

const WFI = 0xd503_207f;

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
  readonly view: DataView;
  readonly exports: Exports;
  readonly ram: DataView;
  /** Accesses outside RAM since the last reset of this list; reads give 0x5a in each byte. */
  mmio: MmioAccess[] = [];
  /** Host calls HVC #imm. */
  calls: number[] = [];
  timerLines: number[] = [];
  pmuLines: number[] = [];
  /** Called by setTimerLines and setPmuLine, for those who wire them to an interrupt. */
  onLine: () => void = () => undefined;

  constructor(options: { readonly cpus?: number } = {}) {
    const memory = new WebAssembly.Memory({ initial: (L.RAM + RAM_SIZE) / 65536, maximum: 65536, shared: true });
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
      hypercall: (_cpu: number, imm: number) => this.calls.push(imm),
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
    for (let i = 0; i < 0x800; i += 0x80) this.store32(VECTORS + i, WFI);
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
    this.exports.selectTables();
  }

  /** Reads one as MRS from EL1 leaves it in the state area. */
  field = (at: number) => this.get(at);

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
    // MDSCR_EL1 as it is: recomputes what debug exceptions are on.
    this.sysreg('MDSCR_EL1', this.get(L.MDSCR_EL1));
  }

  /** Runs from `pc` until the WFI of a vector, or any other, and says where that was. */
  run(pc: bigint | number, budget = 10_000): bigint {
    this.set(L.PC, BigInt(pc));
    this.setU32(L.POWER, L.POWER_ON);
    for (let i = 0; i < 20; i++) {
      if (this.exports.run(budget) === L.EXIT_WFI) return this.get(L.PC) - 4n;
    }
    throw new Error(`the guest does not stop, at 0x${this.get(L.PC).toString(16)}`);
  }

  /** run() that must end at a vector. */
  take(pc: bigint | number, budget?: number): Taken {
    const where = this.run(pc, budget);
    const vector = Number(where - this.get(L.VBAR_EL1));
    if (vector < 0 || vector >= 0x800 || vector % 0x80 !== 0) {
      throw new Error(`no exception: WFI at 0x${where.toString(16)}`);
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
