// Stage 1 translation: the core's loads, stores, fetches, DC and AT on random tables against a walker made from the
// pseudocode, and what each TLBI makes it forget.
import { describe, expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { Guest, RAM_BASE, RAM_SIZE, wordOf } from './system-guest.ts';
import { type Access, granuleOf, isDevice, type Regime, shape, translate } from './system-walker.ts';

/** xorshift32: the same cases in every run. */
class Random {
  constructor(private state: number) {}
  next(): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    this.state >>>= 0;
    return this.state;
  }
  below = (n: number) => this.next() % n;
  chance = (percent: number) => this.below(100) < percent;
  pick = <T>(list: readonly T[]): T => list[this.below(list.length)]!;
  bits = (n: number) => BigInt.asUintN(n, (BigInt(this.next()) << 32n) | BigInt(this.next()));
}

// RAM: 0..2M vectors and code of EL1, 2M..4M code of EL0, 4M..6M tables, 6M..8M data.
const USER_CODE = RAM_BASE + 0x20_0000;
const TABLES = RAM_BASE + 0x40_0000;
const DATA = RAM_BASE + 0x60_0000;
const MIB2 = 0x20_0000;
/** The table of the half that holds the code, at the end of the EL0 code's block. */
const CODE_TABLE = RAM_BASE + 0x3f_f000;

const TABLE = 3n;
const AF = 1n << 10n;
const PXN = 1n << 53n;
const UXN = 1n << 54n;
const RO = 1n << 7n;
const EL0 = 1n << 6n;
const NG = 1n << 11n;
const AS = 1n << 36n;

const SCTLR = 0x30d0_0800n | 1n | (1n << 12n) | (1n << 2n) | (1n << 14n) | (1n << 16n) | (1n << 18n) | (1n << 26n);
const MAIR = 0x00_44_04_ff_00_44_ff_ffn;

/** The half that holds the code: 25 bits, 4 KiB, two blocks. AttrIndx 0 is Normal memory. */
const CODE_HALF = { high: 0xffff_ffff_fe00_0000n, low: 0n };

interface Op {
  readonly name: string;
  readonly source: string;
  readonly access: Access['kind'];
  readonly unprivileged?: true;
  readonly size: number;
  readonly el1?: true;
}
const OPS: readonly Op[] = [
  { name: 'LDR', source: 'ldr x0, [x1]', access: 'read', size: 8 },
  { name: 'LDRB', source: 'ldrb w0, [x1]', access: 'read', size: 1 },
  { name: 'LDR W', source: 'ldr w0, [x1]', access: 'read', size: 4 },
  { name: 'STR', source: 'str x0, [x1]', access: 'write', size: 8 },
  { name: 'STRH', source: 'strh w0, [x1]', access: 'write', size: 2 },
  { name: 'LDTR', source: 'ldtr x0, [x1]', access: 'read', size: 8, unprivileged: true },
  { name: 'STTR', source: 'sttr x0, [x1]', access: 'write', size: 8, unprivileged: true },
  { name: 'BR', source: 'br x1', access: 'fetch', size: 4 },
  { name: 'DC CVAC', source: 'dc cvac, x1', access: 'cache', size: 0 },
  { name: 'AT S1E1R', source: 'at s1e1r, x1', access: 'at-read', size: 0, el1: true },
  { name: 'AT S1E1W', source: 'at s1e1w, x1', access: 'at-write', size: 0, el1: true },
  { name: 'AT S1E0R', source: 'at s1e0r, x1', access: 'at-read', size: 0, el1: true, unprivileged: true },
  { name: 'AT S1E0W', source: 'at s1e0w, x1', access: 'at-write', size: 0, el1: true, unprivileged: true },
];

class Walks {
  readonly guest: Guest;
  regime: Regime = { sctlr: 0n, tcr: 0n, ttbr0: 0n, ttbr1: 0n, mair: MAIR };
  /** Whether the half under test is the one of TTBR1. */
  high = false;
  readonly seen = new Map<string, number>();

  constructor(cpus = 1) {
    this.guest = new Guest({ cpus });
    const block = (i: number, attributes: bigint) =>
      this.guest.store64(CODE_TABLE + 8 * i, BigInt(RAM_BASE + i * MIB2) | 1n | AF | (3n << 8n) | attributes);
    block(0, UXN | RO); // vectors and code of EL1
    block(1, PXN | RO | EL0);
    for (let i = 0; i < 2 * MIB2; i += 8) this.guest.store64(TABLES + i, BigInt(TABLES + i) * 0x1_0000_0001n);
  }

  get codeBase(): bigint {
    return this.high ? CODE_HALF.low : CODE_HALF.high;
  }

  /** `half`: TG, TxSZ, EPD and TBI of the half under test. */
  configure(
    high: boolean,
    half: { granule: number; tsz: number; epd: boolean; tbi: boolean; ttbr: bigint },
    rest: { sctlr: bigint; ips: number; tcr?: bigint; codeTtbr?: bigint },
  ): void {
    this.high = high;
    const tg = BigInt((high ? { 12: 2, 14: 1, 16: 3 } : { 12: 0, 14: 2, 16: 1 })[half.granule as 12 | 14 | 16]);
    const side = (h: boolean, tsz: bigint, g: bigint, epd: boolean, tbi: boolean) =>
      h
        ? (tsz << 16n) | (g << 30n) | (epd ? 1n << 23n : 0n) | (tbi ? 1n << 38n : 0n)
        : tsz | (g << 14n) | (epd ? 1n << 7n : 0n) | (tbi ? 1n << 37n : 0n);
    const tcr =
      side(high, BigInt(half.tsz), tg, half.epd, half.tbi) |
      side(!high, 39n, high ? 0n : 2n, false, false) |
      (BigInt(rest.ips) << 32n) |
      (rest.tcr ?? 0n);
    const code = BigInt(CODE_TABLE) | (rest.codeTtbr ?? 0n);
    this.regime = {
      sctlr: rest.sctlr,
      tcr,
      ttbr0: high ? code : half.ttbr,
      ttbr1: high ? half.ttbr : code,
      mair: MAIR,
    };
    this.apply();
  }

  apply(): void {
    const g = this.guest;
    g.sysreg('MAIR_EL1', this.regime.mair);
    g.sysreg('TTBR0_EL1', this.regime.ttbr0);
    g.sysreg('TTBR1_EL1', this.regime.ttbr1);
    g.sysreg('TCR_EL1', this.regime.tcr);
    g.sysreg('VBAR_EL1', this.codeBase);
    g.sysreg('SCTLR_EL1', this.regime.sctlr);
    g.exports.tlbiAll(true);
    g.exports.selectTables();
  }

  readonly descriptor = (pa: bigint): bigint | undefined => (this.inRam(pa, 8) ? this.guest.load64(pa) : undefined);

  inRam(pa: bigint, size: number): boolean {
    return pa >= BigInt(RAM_BASE) && pa + BigInt(size) <= BigInt(RAM_BASE + RAM_SIZE);
  }

  /** Does `op` at `va` and throws where the core and the reference differ. */
  check(op: Op, va: bigint, el: 0 | 1, pan: boolean): void {
    const g = this.guest;
    const access: Access = { kind: op.access, el, pan, ...(op.unprivileged && { unprivileged: true }) };
    const expected = translate(this.regime, va, access, this.descriptor);
    const at = el === 1 ? RAM_BASE + 0x1000 : USER_CODE + 0x1000;
    g.store32(at, wordOf(op.source));
    g.store32(at + 4, wordOf('wfi'));
    g.exports.flushDecoded();
    const pc = this.codeBase + BigInt(at - RAM_BASE);
    const value = 0x0123_4567_89ab_cdefn;
    const target = 'pa' in expected ? expected.pa : 0n;
    const ram = 'pa' in expected && this.inRam(target, Math.max(op.size, 1));
    const unaligned = op.size > 1 && (va & BigInt(op.size - 1)) !== 0n;
    const bytes = (n: number) => {
      let v = 0n;
      for (let i = n - 1; i >= 0; i--) v = (v << 8n) | BigInt(g.ram.getUint8(Number(target) - RAM_BASE + i));
      return v;
    };
    const before = ram ? bytes(op.size) : 0n;
    if (op.access === 'fetch' && ram) g.store32(target, wordOf('wfi'));
    g.mmio = [];
    g.set(L.ESR_EL1, 0n);
    g.set(L.FAR_EL1, 0n);
    g.set(L.PAR_EL1, 0n);
    g.pstate((el === 1 ? 0x3c5 : 0x3c0) | (pan ? 1 << 22 : 0));
    g.setX(0, value);
    g.setX(1, va);
    const stopped = g.run(pc);

    const got: Record<string, unknown> = {};
    const want: Record<string, unknown> = {};
    const note = (name: string, e: unknown, a: unknown) => {
      want[name] = e;
      got[name] = a;
    };
    const count = (name: string) => this.seen.set(name, (this.seen.get(name) ?? 0) + 1);
    const at1 = op.access.startsWith('at');
    let code = 'fault' in expected ? expected.fault : undefined;
    // AT reports in PAR_EL1, but for tables that are not there.
    if (at1 && (code === undefined || (code & 0x3c) !== 0x14)) {
      count(code === undefined ? 'PAR' : 'PAR.F');
      const par =
        'pa' in expected
          ? (expected.pa & 0xffff_ffff_f000n) | 0xa00n | (BigInt(expected.sh) << 7n) | (BigInt(expected.attr) << 56n)
          : 0x801n | (BigInt(code!) << 1n);
      note('PAR', par.toString(16), g.get(L.PAR_EL1).toString(16));
      code = undefined;
    } else {
      if ('pa' in expected && op.access === 'fetch') {
        if ((va & 3n) !== 0n) code = -1;
        else if (!ram) code = 0x10;
      }
      if ('pa' in expected && unaligned && isDevice(expected.attr) && op.access !== 'fetch') code = 0x21;
    }
    if (op.access === 'fetch' && (va & 3n) !== 0n) code = -1;
    if (code !== undefined) {
      const iss =
        code === -1
          ? 0
          : code |
            (op.access === 'write' || op.access === 'cache' || at1 ? 0x40 : 0) |
            (op.access === 'cache' || at1 ? 0x100 : 0);
      const ec = code === -1 ? 0x22 : (op.access === 'fetch' ? 0x20 : 0x24) + el;
      count(code === -1 ? 'PC alignment' : `${op.access} ${code.toString(16)}`);
      // BR gives the PC the address without its tag.
      const tbi = ((this.regime.tcr >> (this.high ? 38n : 37n)) & 1n) !== 0n;
      const sign = ((va >> 55n) & 1n) !== 0n ? BigInt.asUintN(64, BigInt.asIntN(56, va)) : BigInt.asUintN(56, va);
      const far = op.access === 'fetch' && tbi ? sign : va;
      note('ESR', (ec * 2 ** 26 + 2 ** 25 + iss).toString(16), Number(g.get(L.ESR_EL1)).toString(16));
      note('FAR', far.toString(16), g.get(L.FAR_EL1).toString(16));
      note('ELR', (op.access === 'fetch' ? far : pc).toString(16), g.get(L.ELR_EL1).toString(16));
      note('vector', (this.codeBase + (el === 1 ? 0x200n : 0x400n)).toString(16), stopped.toString(16));
      note('X0', value, g.x(0));
      note('mmio', 0, g.mmio.length);
      if (ram && op.access !== 'fetch') note('memory', before, bytes(op.size));
    } else {
      count(op.access);
      const untagged = ((va >> 55n) & 1n) !== 0n ? va | (0xffn << 56n) : BigInt.asUintN(56, va);
      note('end', (op.access === 'fetch' ? untagged : pc + 4n).toString(16), stopped.toString(16));
      const mask = (v: bigint) => BigInt.asUintN(8 * op.size, v);
      if (op.size !== 0 && op.access !== 'fetch') {
        if (ram) {
          if (op.access === 'read') note('X0', before.toString(16), g.x(0).toString(16));
          else note('memory', mask(value).toString(16), bytes(op.size).toString(16));
        } else {
          const first = g.mmio[0];
          note('pa', target.toString(16), first?.pa.toString(16));
          note('value', op.access === 'read' ? undefined : mask(value), first?.value);
        }
      }
    }
    const about = `${op.name} EL${el}${pan ? ' PAN' : ''} va ${va.toString(16)} TCR ${this.regime.tcr.toString(16)} SCTLR ${this.regime.sctlr.toString(16)}`;
    for (const k of Object.keys(want)) if (want[k] !== got[k]) expect({ about, ...got }).toEqual({ about, ...want });
    if (ram && (op.access === 'write' || op.access === 'fetch')) {
      for (let i = 0; i < op.size; i++) {
        g.ram.setUint8(Number(target) - RAM_BASE + i, Number((before >> BigInt(8 * i)) & 255n));
      }
    }
  }
}

/** A descriptor's attributes, mostly harmless. */
function attributes(r: Random): bigint {
  let d = r.chance(95) ? AF : 0n;
  d |= BigInt(r.below(8)) << 2n;
  d |= BigInt(r.below(4)) << 8n;
  if (r.chance(60)) d |= EL0;
  if (r.chance(30)) d |= RO;
  if (r.chance(25)) d |= PXN;
  if (r.chance(25)) d |= UXN;
  if (r.chance(50)) d |= NG;
  return d;
}

/** Writes a random path for `va` into the table pool. */
function path(r: Random, w: Walks, va: bigint, ttbr: bigint, granule: number, inputSize: number): void {
  const { stride, start, firstBits } = shape(granule, inputSize);
  let base = ((ttbr & 0xffff_ffff_fffen) >> BigInt(firstBits + 3)) << BigInt(firstBits + 3);
  let bits = firstBits;
  for (let level = start; level <= 3; level++) {
    const low = BigInt(granule + (3 - level) * stride);
    const at = base + 8n * ((va >> low) & ((1n << BigInt(bits)) - 1n));
    if (!w.inRam(at, 8) || at < BigInt(TABLES)) return;
    const leaf = level === 3 || (level >= 1 && r.chance(level === 1 ? 15 : 25));
    if (r.chance(3)) {
      w.guest.store64(at, r.bits(64) & ~3n); // invalid
      return;
    }
    if (leaf) {
      // Mostly data; else anywhere, also beyond the output size.
      const pa = r.chance(70)
        ? BigInt(DATA) + r.bits(21)
        : r.chance(60)
          ? r.bits(r.pick([31, 34, 38, 41, 43, 47]))
          : r.bits(48);
      const reserved = r.chance(4);
      const type = (level === 3) !== reserved ? 3n : 1n;
      w.guest.store64(at, ((pa >> low) << low) | attributes(r) | (level < 3 && type === 3n ? 1n : type));
      return;
    }
    const next = r.chance(96)
      ? BigInt(TABLES + r.below(MIB2 >> granule) * (1 << granule))
      : (r.bits(48) >> BigInt(granule)) << BigInt(granule);
    let table = next | TABLE;
    for (const n of [59n, 60n, 61n, 62n]) if (r.chance(8)) table |= 1n << n;
    w.guest.store64(at, table);
    base = next;
    bits = stride;
  }
}

describe('stage 1 translation', () => {
  it('agrees with a walker made from the pseudocode on random tables', () => {
    const r = new Random(0x1234_5678);
    const w = new Walks();
    let cases = 0;
    for (let n = 0; n < 3000; n++) {
      const high = r.chance(50);
      const granule = r.pick([12, 12, 14, 16]);
      const tsz = 16 + r.below(24);
      const inputSize = 64 - tsz;
      const tbi = r.chance(50);
      const { firstBits } = shape(granule, inputSize);
      const size = 8 << firstBits;
      const pool = BigInt(TABLES + r.below(Math.max(1, Math.floor(MIB2 / size))) * size);
      const ttbr = (r.chance(97) ? pool : r.bits(48)) | (r.bits(16) << 48n);
      const sctlr = r.chance(25) ? SCTLR | (1n << 19n) : SCTLR;
      w.configure(
        high,
        { granule, tsz, epd: r.chance(3), tbi, ttbr },
        { sctlr, ips: r.below(6), tcr: r.chance(50) ? AS : 0n },
      );
      expect(granuleOf(w.regime.tcr, high)).toBe(granule);
      const vas: bigint[] = [];
      for (let i = 0; i < 3; i++) {
        let va = r.bits(inputSize);
        if (r.chance(20)) va &= ~0xfffn;
        if (r.chance(10)) va = r.pick([0n, (1n << BigInt(inputSize)) - 8n]);
        va &= r.chance(80) ? ~7n : ~0n;
        // Not across a page: that is tested by hand.
        if ((va & 0xfffn) > 0xff8n) va &= ~7n;
        if (high) va |= (~0n << BigInt(inputSize)) & ((1n << 64n) - 1n);
        if (tbi || r.chance(5))
          va = (va & ((1n << 56n) - 1n)) | (r.chance(70) ? r.bits(8) << 56n : va & (0xffn << 56n));
        if (r.chance(4)) va ^= 1n << BigInt(inputSize + r.below(Math.max(1, 55 - inputSize)));
        if (((va >> 55n) & 1n) !== (high ? 1n : 0n)) va ^= 1n << 55n;
        if (r.chance(90)) path(r, w, va, ttbr, granule, inputSize);
        vas.push(va);
      }
      for (let i = 0; i < 9; i++) {
        const el = r.chance(50) ? 1 : 0;
        const op = r.pick(OPS);
        if (op.el1 && el === 0) continue;
        w.check(op, r.pick(vas), el, el === 1 && r.chance(30));
        cases++;
      }
    }
    expect(cases).toBeGreaterThan(15_000);
    // Every kind of end was reached, in numbers that mean something.
    const kinds = [
      'read',
      'write',
      'fetch',
      'cache',
      'PAR',
      'PAR.F',
      'PC alignment',
      'fetch 10',
      'read 21',
      'write 21',
    ];
    for (const k of kinds) expect([k, (w.seen.get(k) ?? 0) > 3]).toEqual([k, true]);
    const reached = (c: string) => ['read', 'write', 'fetch', 'cache'].filter(a => w.seen.has(`${a} ${c}`)).length;
    for (const c of ['4', '5', '6', '7', '9', 'a', 'b', 'd', 'e', 'f', '0', '1', '2', '3', '14', '15', '16', '17']) {
      expect([c, reached(c) > 1]).toEqual([c, true]);
    }
  });

  it('is flat with the MMU off, where data is Device memory', () => {
    const r = new Random(77);
    const w = new Walks();
    const g = w.guest;
    for (let n = 0; n < 400; n++) {
      const tbi = r.chance(50);
      w.configure(false, { granule: 12, tsz: 16, epd: false, tbi, ttbr: 0n }, { sctlr: SCTLR & ~1n, ips: 5 });
      // Code runs at its physical address.
      Object.defineProperty(w, 'codeBase', { value: BigInt(RAM_BASE) });
      g.sysreg('VBAR_EL1', BigInt(RAM_BASE));
      let va = r.chance(80) ? BigInt(DATA) + r.bits(20) : r.bits(r.pick([40, 48, 50]));
      va &= r.chance(70) ? ~7n : ~0n;
      if ((va & 0xfffn) > 0xff8n) va &= ~7n;
      if (r.chance(40)) va |= r.bits(8) << 56n;
      if (((va >> 55n) & 1n) !== 0n) va ^= 1n << 55n;
      w.check(r.pick(OPS.filter(o => o.el1 === undefined)), va, r.chance(50) ? 1 : 0, r.chance(50));
    }
    for (const k of ['read', 'write', 'fetch', 'cache', 'read 0', 'write 0', 'fetch 0', 'read 21', 'write 21']) {
      expect([k, w.seen.has(k)]).toEqual([k, true]);
    }
  });
});

describe('TLBI', () => {
  const GLOBAL = 0;
  /** Three of them share a bank of the core's TLB. */
  const ASIDS = [1, 17, 33, 2];

  for (const high of [false, true]) {
    for (const a1 of [false, true]) {
      for (const wide of [false, true]) {
        it(`forgets what it names: ${high ? 'TTBR1' : 'TTBR0'}, ASID of ${a1 ? 'TTBR1' : 'TTBR0'}, ${wide ? 16 : 8} bits`, () => {
          const r = new Random(1 + (high ? 8 : 0) + (a1 ? 64 : 0) + (wide ? 512 : 0) * 977);
          const w = new Walks(2);
          const g = w.guest;
          // 39 bits, 4 KiB: a root for each ASID. Root entry 0 leads to tables that all share, entry 1 to private ones.
          let free = TABLES;
          const page = () => {
            free += 0x1000;
            for (let i = 0; i < 0x1000; i += 8) g.store64(free - 0x1000 + i, 0n);
            return free - 0x1000;
          };
          const spaces = [GLOBAL, ...ASIDS].map(() => ({ l2: page(), l3: [page(), page()] as [number, number] }));
          const roots = ASIDS.map((_, i) => {
            const root = page();
            g.store64(root, BigInt(spaces[0]!.l2) | TABLE);
            g.store64(root + 8, BigInt(spaces[i + 1]!.l2) | TABLE);
            return root;
          });
          const leaf = (space: number, block: boolean) => {
            const pa = block
              ? r.chance(50)
                ? BigInt(DATA)
                : BigInt(0x1000_0000 + r.below(64) * MIB2)
              : BigInt(DATA + r.below(512) * 4096);
            let d = pa | (block ? 1n : 3n) | (r.chance(90) ? AF : 0n) | UXN | PXN;
            if (r.chance(50)) d |= EL0;
            if (r.chance(40)) d |= RO;
            return r.chance(8) ? 0n : d | (space === GLOBAL ? 0n : NG);
          };
          // L2 entry 0 leads to pages, entry 1 is a block or leads to pages.
          for (const [n, s] of spaces.entries()) {
            g.store64(s.l2, BigInt(s.l3[0]) | TABLE);
            g.store64(s.l2 + 8, leaf(n, true));
            for (let i = 0; i < 512; i++) for (const t of s.l3) g.store64(t + 8 * i, leaf(n, false));
          }
          const garbage = () => (wide ? 0 : r.below(256) << 8);
          const tag = (asid: number) => BigInt(asid | garbage()) << 48n;
          const top = high ? 0xffff_ff80_0000_0000n : 0n;
          const enter = (i: number) => {
            const root = BigInt(roots[i]!) | (a1 === high ? tag(ASIDS[i]!) : 0n);
            const code = BigInt(CODE_TABLE) | (a1 === high ? 0n : tag(ASIDS[i]!));
            w.regime = { ...w.regime, ttbr0: high ? code : root, ttbr1: high ? root : code };
            g.sysreg('TTBR0_EL1', w.regime.ttbr0);
            g.sysreg('TTBR1_EL1', w.regime.ttbr1);
          };
          for (const cpu of [1, 0]) {
            g.exports.switchTo(cpu);
            w.configure(
              high,
              { granule: 12, tsz: 25, epd: false, tbi: false, ttbr: BigInt(roots[0]!) },
              { sctlr: SCTLR, ips: 5, tcr: (a1 ? 1n << 22n : 0n) | (wide ? AS : 0n) },
            );
          }
          const data = OPS.filter(o => o.el1 === undefined && o.access !== 'fetch');
          /** A few accesses around a page or block, from ASIDs that see it. */
          const look = (space: number, second: boolean, index: number) => {
            const l1 = space === GLOBAL ? 0n : 1n;
            const va =
              top | (l1 << 30n) | (second ? 1n << 21n : 0n) | (BigInt(index) << 12n) | (BigInt(r.below(510)) << 3n);
            enter(space === GLOBAL ? r.below(ASIDS.length) : space - 1);
            w.check(r.pick(data), va, r.chance(50) ? 1 : 0, false);
            return va;
          };
          const tlbi = (name: string, operand: bigint) => {
            g.store32(RAM_BASE + 0x1000, wordOf(`tlbi ${name}`));
            g.store32(RAM_BASE + 0x1004, wordOf('wfi'));
            g.exports.flushDecoded();
            g.pstate(0x3c5);
            g.setX(1, operand);
            expect(g.run(w.codeBase + 0x1000n)).toBe(w.codeBase + 0x1004n);
          };
          const kinds = new Map<string, number>();
          for (let n = 0; n < 400; n++) {
            const space = r.below(spaces.length);
            const s = spaces[space]!;
            const second = r.chance(50);
            const index = r.below(8) * 64 + r.below(2);
            // Into the TLBs of both vCPUs, with what is around it.
            for (const cpu of [0, 1]) {
              g.exports.switchTo(cpu);
              for (let i = 0; i < 4; i++) look(space, second, r.chance(50) ? index : r.below(512));
              look(r.below(spaces.length), r.chance(50), r.below(512));
            }
            const l2 = g.load64(s.l2 + 8);
            const wasTable = (l2 & 3n) === 3n;
            let lastLevel = true;
            let block = false;
            if (!second) g.store64(s.l3[0] + 8 * index, leaf(space, false));
            else if (wasTable && r.chance(60)) g.store64(s.l3[1] + 8 * index, leaf(space, false));
            else {
              block = true;
              lastLevel = !wasTable;
              g.store64(s.l2 + 8, r.chance(50) ? BigInt(s.l3[1]) | TABLE : leaf(space, true));
            }
            // A block goes by any address in it; a table that became another thing goes with all that lies below it
            // only by ASID or as a whole.
            const forms = ['vmalle1'];
            if (lastLevel) forms.push('vae1', 'vaae1', 'vale1', 'vaale1');
            if (space !== GLOBAL) forms.push('aside1');
            const form = r.pick(forms);
            const is = r.chance(50);
            kinds.set(form, (kinds.get(form) ?? 0) + 1);
            const where = block ? r.below(512) : index;
            const va = (space === GLOBAL ? 0n : 1n << 30n) | (second ? 1n << 21n : 0n) | (BigInt(where) << 12n) | top;
            const asid = space === GLOBAL ? r.pick(ASIDS) : ASIDS[space - 1]!;
            const operand = ((va >> 12n) & ((1n << 44n) - 1n)) | tag(asid);
            const source = `${form}${is ? 'is' : ''}${form === 'vmalle1' ? '' : ', x1'}`;
            for (const cpu of is ? [r.below(2)] : [0, 1]) {
              g.exports.switchTo(cpu);
              enter(r.below(ASIDS.length));
              tlbi(source, operand);
            }
            for (const cpu of [1, 0]) {
              g.exports.switchTo(cpu);
              for (let i = 0; i < 3; i++) look(space, second, index);
              if (block) for (let i = 0; i < 4; i++) look(space, second, r.below(512));
            }
          }
          for (const k of ['vmalle1', 'vae1', 'vaae1', 'vale1', 'vaale1', 'aside1']) {
            expect([k, (kinds.get(k) ?? 0) > 12]).toEqual([k, true]);
          }
        });
      }
    }
  }
});
