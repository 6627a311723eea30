/**
 * Runs blocks of instructions on the A64 core at EL0, as scripts/vectors/runner.c does in qemu-user, and compares.
 *
 * The guest is bare: identity-mapped stage 1 tables for the pages of scripts/vectors/README.md, and a vector page for
 * EL1 that holds `WFI; ERET`. A block is entered by that ERET and ends with the exception that reaches the WFI.
 */

import {
  BLOCK,
  BRK_FILL,
  CODE,
  CODE_SIZE,
  DATA,
  DATA_SIZE,
  dataImage,
  type Input,
  MAX_WORDS,
  type Result,
  SIGALRM,
  SIGBUS,
  SIGILL,
  SIGSEGV,
  SIGTRAP,
} from '../../scripts/vectors/record.ts';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { type Core, type CoreExports, createCore } from '../../src/engines/emu/a64/core-instance.ts';

/** What a block left behind, with the exception that ended it. */
export interface CoreResult extends Result {
  readonly esr: bigint;
}

/** `run` lets the core run freely, `slices` with a budget of one, `step` executes one instruction at a time. */
export type Mode = 'run' | 'slices' | 'step';

/** Something that executes a block: the core, or a stand-in. */
export interface Executor {
  execute(input: Input, mode: Mode): CoreResult;
}

const RAM_BASE = 0x4000_0000;
const RAM_SIZE = 0x40_0000;
const VECTORS = 0x4018_0000;
const TABLES = 0x4020_0000;
const WFI = 0xd503_207f;
const ERET = 0xd69f_03e0;

// Descriptors, DDI 0487 D8.3: table or page, AttrIndx 0, AP, SH inner shareable, AF.
const TABLE = 3n;
const PAGE = 3n | (3n << 8n) | (1n << 10n);
const AP_EL0 = 1n << 6n;
const PXN = 1n << 53n;
const UXN = 1n << 54n;

// SCTLR_EL1: M, C, I; DZE, UCT, nTWI, nTWE, UCI let EL0 do what Linux lets it do; SA0 stays 0, as in qemu-user; RES1.
const SCTLR =
  1n | (1n << 2n) | (1n << 12n) | (1n << 14n) | (1n << 15n) | (1n << 16n) | (1n << 18n) | (1n << 26n) | 0x30d0_0800n;
// TCR_EL1: T0SZ = 16, EPD1, IPS = 44 bits, TBI0 (as Linux and qemu-user have it).
const TCR = 16n | (1n << 23n) | (4n << 32n) | (1n << 37n);

/** Exception class of an ESR value. */
export const exceptionClass = (esr: bigint) => Number((esr >> 26n) & 63n);

/** The core with a bare guest. */
export class CoreHarness implements Executor {
  readonly core: Core;
  readonly view: DataView;
  private readonly exports: CoreExports;
  private readonly ram: Uint8Array;
  private readonly ramView: DataView;
  private readonly images = new Map<number, Uint8Array>();

  /** @param options - fpEnabled: CPACR_EL1.FPEN, true if left out */
  constructor(options: { readonly fpEnabled?: boolean } = {}) {
    const nothing = () => 0;
    const core = createCore({
      ramBytes: RAM_SIZE,
      ramBase: RAM_BASE,
      imports: {
        counter: nothing,
        iccRead: nothing,
        iccWrite: nothing,
        setTimerLines: nothing,
        setPmuLine: nothing,
        mmioRead: nothing,
        mmioWrite: nothing,
        hypercall: nothing,
        firstWrite: nothing,
        trace: nothing,
      },
    });
    this.core = core;
    this.view = core.view;
    this.exports = core.exports;
    this.ram = core.ram;
    this.ramView = new DataView(core.ram.buffer, core.ram.byteOffset, core.ram.byteLength);
    core.exports.initialize(1);
    core.exports.powerOn(BigInt(VECTORS), 0n);
    this.mapPages();
    for (let i = 0; i < CODE_SIZE; i += 4) this.ramView.setUint32(CODE - RAM_BASE + i, BRK_FILL, true);
    for (let i = 0; i < 0x800; i += 0x80) {
      this.ramView.setUint32(VECTORS - RAM_BASE + i, WFI, true);
      this.ramView.setUint32(VECTORS - RAM_BASE + i + 4, ERET, true);
    }
    this.set(L.TCR_EL1, TCR);
    this.set(L.MAIR_EL1, 0xffn);
    this.set(L.TTBR0_EL1, BigInt(TABLES));
    this.set(L.VBAR_EL1, BigInt(VECTORS));
    this.set(L.CPACR_EL1, options.fpEnabled === false ? 0n : 3n << 20n);
    this.set(L.SCTLR_EL1, SCTLR);
    core.exports.tlbiAll(true);
    core.exports.selectTables();
    core.exports.updateFp();
  }

  execute(input: Input, mode: Mode): CoreResult {
    if (this.view.getUint32(L.EL, true) === 0) this.enterKernel();
    const image = this.image(input.seed);
    this.ram.set(image, DATA - RAM_BASE);
    for (let i = 0; i < MAX_WORDS; i++) {
      this.ramView.setUint32(BLOCK - RAM_BASE + 4 * i, input.words[i] ?? BRK_FILL, true);
    }
    this.forgetBlock();
    for (let i = 0; i < 31; i++) this.set(L.XREGS + 8 * i, input.x[i]!);
    this.set(L.SP_EL0, input.x[31]!);
    for (let i = 0; i < 64; i++) this.set(L.VREGS + 8 * i, input.v[i]!);
    this.view.setUint32(L.FPCR, input.fpcr, true);
    this.view.setUint32(L.FPSR, input.fpsr, true);
    this.exports.updateFp();
    this.set(L.TPIDR_EL0, input.tpidr);
    this.set(L.SPSR_EL1, BigInt(input.nzcv) << 28n);
    this.set(L.ELR_EL1, BigInt(BLOCK));
    this.set(L.ESR_EL1, 0n);
    this.set(L.FAR_EL1, 0n);
    this.set(L.PC, BigInt(VECTORS + 4));
    this.view.setUint32(L.POWER, L.POWER_ON, true);
    const finished = mode === 'step' ? this.step() : this.run(mode === 'run' ? 1000 : 1);
    return this.result(input, image, finished);
  }

  /** Back to EL1 after a block that never ended. */
  private enterKernel(): void {
    this.view.setUint32(L.EL, 1, true);
    this.view.setUint32(L.SPSEL, 1, true);
    this.view.setUint32(L.DAIF, 0x3c0, true);
    this.exports.selectTables();
    this.exports.updateFp();
  }

  private run(budget: number): boolean {
    for (let done = 0; done < 200; done += budget) {
      if (this.exports.run(budget) === L.EXIT_WFI) return true;
    }
    return false;
  }

  private step(): boolean {
    this.exports.stepInstruction();
    for (let i = 0; i < 200; i++) {
      if (this.view.getUint32(L.EL, true) !== 0) return true;
      this.exports.stepInstruction();
    }
    return false;
  }

  private result(input: Input, image: Uint8Array, finished: boolean): CoreResult {
    const esr = this.get(L.ESR_EL1);
    const pc = this.get(L.ELR_EL1);
    const inside = pc >= BigInt(BLOCK) && pc < BigInt(BLOCK + 4 * input.words.length);
    const after = this.ram.slice(DATA - RAM_BASE, DATA - RAM_BASE + DATA_SIZE);
    const same = Buffer.compare(after, image) === 0;
    let first = same ? DATA_SIZE : 0;
    let last = DATA_SIZE;
    while (first < last && after[first] === image[first]) first++;
    while (last > first && after[last - 1] === image[last - 1]) last--;
    first &= ~7;
    last = (last + 7) & ~7;
    return {
      signal: !finished ? SIGALRM : inside ? signalOf(esr) : 0,
      code: 0,
      fpcr: this.view.getUint32(L.FPCR, true),
      fpsr: this.view.getUint32(L.FPSR, true),
      nzcv: Number(this.get(L.SPSR_EL1) >> 28n) & 15,
      tpidr: this.get(L.TPIDR_EL0),
      pc,
      address: this.get(L.FAR_EL1),
      x: BigUint64Array.from({ length: 32 }, (_, i) => this.get(i < 31 ? L.XREGS + 8 * i : L.SP_EL0)),
      v: BigUint64Array.from({ length: 64 }, (_, i) => this.get(L.VREGS + 8 * i)),
      changed: first,
      bytes: after.slice(first, last),
      esr,
    };
  }

  /** What IC IVAU over the block would do, without the guest's help. */
  private forgetBlock(): void {
    for (let va = BLOCK; va < BLOCK + 4 * MAX_WORDS; va += 4) {
      const page = this.view.getUint32(L.PAGE_MAP + (((va - RAM_BASE) >> 12) << 2), true);
      if (page === 0) continue;
      const at = page + ((va & 0xfff) << 2);
      this.view.setBigUint64(at, 0n, true);
      this.view.setBigUint64(at + 8, 0n, true);
    }
  }

  private mapPages(): void {
    const entry = (level: number, index: number, value: bigint) =>
      this.ramView.setBigUint64(TABLES - RAM_BASE + 0x1000 * level + 8 * index, value, true);
    entry(0, 0, BigInt(TABLES + 0x1000) | TABLE);
    entry(1, 1, BigInt(TABLES + 0x2000) | TABLE);
    entry(2, 0, BigInt(TABLES + 0x3000) | TABLE);
    const page = (va: number, attributes: bigint) =>
      entry(3, (va >> 12) & 511, BigInt(va & ~0xfff) | PAGE | attributes);
    for (let i = 0; i < DATA_SIZE; i += 0x1000) page(DATA + i, AP_EL0 | PXN | UXN);
    for (let i = 0; i < CODE_SIZE; i += 0x1000) page(CODE + i, AP_EL0 | PXN);
    page(VECTORS, UXN);
  }

  private image(seed: number): Uint8Array {
    let image = this.images.get(seed);
    if (image === undefined) {
      image = dataImage(seed);
      this.images.set(seed, image);
    }
    return image;
  }

  private get(offset: number): bigint {
    return this.view.getBigUint64(offset, true);
  }

  private set(offset: number, value: bigint): void {
    this.view.setBigUint64(offset, value, true);
  }
}

/** The signal that Linux makes of an exception from EL0; 1000 + EC if user mode could not see it. */
function signalOf(esr: bigint): number {
  const ec = exceptionClass(esr);
  switch (ec) {
    case 0x00:
      return SIGILL;
    case 0x24:
      return (esr & 63n) === 0x21n ? SIGBUS : SIGSEGV;
    case 0x22:
    case 0x26:
      return SIGBUS;
    case 0x20:
      return SIGSEGV;
    case 0x3c:
      return SIGTRAP;
    default:
      return 1000 + ec;
  }
}

const hex = (v: bigint | number, width = 0) => `0x${v.toString(16).padStart(width, '0')}`;

/** The differences between what QEMU and the core made of `input`, one line each; empty if they agree. */
export function compare(input: Input, expected: Result, actual: CoreResult): string[] {
  const lines: string[] = [];
  const check = (name: string, e: bigint | number, a: bigint | number, width = 0) => {
    if (e !== a) lines.push(`${name}: expected ${hex(e, width)}, got ${hex(a, width)}`);
  };
  if (expected.signal !== actual.signal) {
    lines.push(
      `signal: expected ${expected.signal}, got ${actual.signal} (ESR ${hex(actual.esr)}, FAR ${hex(actual.address)})`,
    );
  }
  check('PC', expected.pc, actual.pc);
  check('NZCV', expected.nzcv, actual.nzcv);
  // QEMU's Cortex-A57 has AArch32, and with it FPSR.NZCV and FPCR.{Stride,Len}; without AArch32 they are RES0.
  check('FPSR', (expected.fpsr & 0x0800_009f) >>> 0, actual.fpsr);
  check('FPCR', (expected.fpcr & 0x07c0_0000) >>> 0, actual.fpcr);
  check('TPIDR_EL0', expected.tpidr, actual.tpidr);
  for (let i = 0; i < 32; i++) check(i === 31 ? 'SP' : `X${i}`, expected.x[i]!, actual.x[i]!, 16);
  if (expected.signal === SIGSEGV || expected.signal === SIGBUS) {
    // Where an access of several elements stopped is IMPLEMENTATION DEFINED. FAR is the lowest address that faults, its
    // tag is not; QEMU reports no address far from the data, for what the host itself refuses.
    const untagged = (a: bigint) => BigInt.asUintN(56, a);
    // DC ZVA reports the address in its register (DDI 0487, FAR_EL1); QEMU the start of the block.
    const word = input.words[Number(actual.pc - BigInt(BLOCK)) / 4] ?? 0;
    const zva = (word & 0xffff_ffe0) >>> 0 === 0xd50b_7420;
    const address = zva && (word & 31) !== 31 ? actual.x[word & 31]! : expected.address;
    const near = expected.address >= BigInt(DATA - 0x1000) && expected.address < BigInt(DATA + DATA_SIZE + 0x1000);
    if (near && actual.signal === expected.signal && untagged(address) !== untagged(actual.address)) {
      lines.push(`FAR: expected ${hex(address)}, got ${hex(actual.address)}`);
    }
    return lines;
  }
  for (let i = 0; i < 32; i++) {
    const e = (expected.v[2 * i + 1]! << 64n) | expected.v[2 * i]!;
    const a = (actual.v[2 * i + 1]! << 64n) | actual.v[2 * i]!;
    check(`V${i}`, e, a, 32);
  }
  const image = dataImageOf(input.seed);
  const e = image.slice();
  e.set(expected.bytes, expected.changed);
  const a = image.slice();
  a.set(actual.bytes, actual.changed);
  if (Buffer.compare(e, a) !== 0) {
    const at = e.findIndex((b, i) => b !== a[i]) & ~7;
    const dump = (m: Uint8Array) => Buffer.from(m.subarray(at, at + 16)).toString('hex');
    lines.push(`memory at ${hex(DATA + at)}: was ${dump(image)}, expected ${dump(e)}, got ${dump(a)}`);
  }
  return lines;
}

const images = new Map<number, Uint8Array>();
function dataImageOf(seed: number): Uint8Array {
  if (!images.has(seed)) images.set(seed, dataImage(seed));
  return images.get(seed)!;
}

/** What a failure report says about an input: the words, flags, and the registers that the words can name. */
export function describeInput(input: Input): string {
  const words = input.words.map(w => hex(w, 8)).join(' ');
  const named = new Set<number>([31]);
  for (const w of input.words) for (const low of [0, 5, 10, 16]) named.add((w >>> low) & 31);
  const list = [...named].sort((a, b) => a - b);
  const xs = list.map(i => `${i === 31 ? 'SP' : `X${i}`}=${hex(input.x[i]!)}`).join(' ');
  const vs = list.map(i => `V${i}=${hex((input.v[2 * i + 1]! << 64n) | input.v[2 * i]!)}`).join(' ');
  return `${words}\n  NZCV=${hex(input.nzcv)} FPCR=${hex(input.fpcr)} FPSR=${hex(input.fpsr)} seed=${input.seed}\n  ${xs}\n  ${vs}`;
}
