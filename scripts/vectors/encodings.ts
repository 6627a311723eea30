/**
 * The A64 instructions that run at EL0 on an Armv8.0-A core with CRC32, the cryptographic extension and LSE atomics,
 * one row for each mnemonic, form and operand size (DDI 0487, chapter C4).
 *
 * A row is written as the encoding diagram of the manual: literal bits, free fields (`imm:12`; a register field is five
 * bits) and alternatives that make rows of their own (`[0=W,1=X]`).
 */

/** How inputs are chosen for a row, see inputs.ts. */
export type Kind = 'int' | 'branch' | 'system' | 'mem' | 'fp' | 'simd' | 'undefined';

/** One encoding. A word belongs to it if `(word & mask) === value`. */
export interface Row {
  readonly name: string;
  readonly kind: Kind;
  readonly mask: number;
  readonly value: number;
  /** Not in Armv8.0: needs FEAT_LSE. */
  readonly lse: boolean;
}

/** All rows. No two of them overlap. */
export const ROWS: readonly Row[] = buildRows();

const byTop = new Map<number, Row[]>();
for (let top = 0; top < 256; top++) {
  byTop.set(
    top,
    ROWS.filter(r => (((top << 24) ^ r.value) & r.mask & 0xff00_0000) === 0),
  );
}

/** The row of an instruction word, if there is one. */
export function findRow(word: number): Row | undefined {
  return byTop.get(word >>> 24)!.find(r => (word & r.mask) >>> 0 === r.value);
}

function buildRows(): Row[] {
  const rows: Row[] = [];
  let lse = false;

  function add(kind: Kind, name: string, pattern: string): void {
    expand(kind, name, pattern.split(/\s+/), 0, 0, 0, 0);
  }

  function expand(kind: Kind, name: string, tokens: string[], i: number, mask: number, value: number, width: number) {
    const token = tokens[i];
    if (token === undefined) {
      if (width !== 32) throw new Error(`${name}: ${width} bits in ${tokens.join(' ')}`);
      rows.push({ name, kind, mask, value, lse });
      return;
    }
    const literal = (bits: string, suffix: string) => {
      const n = bits.length;
      const shift = 32 - width - n;
      let m = mask;
      let v = value;
      for (let b = 0; b < n; b++) {
        const bit = shift + n - 1 - b;
        if (bits[b] !== 'x') m = (m | (1 << bit)) >>> 0;
        if (bits[b] === '1') v = (v | (1 << bit)) >>> 0;
      }
      expand(kind, suffix === '' ? name : `${name} ${suffix}`.trim(), tokens, i + 1, m, v, width + n);
    };
    if (token.startsWith('[')) {
      for (const choice of token.slice(1, -1).split(',')) {
        const [bits, suffix] = choice.split('=');
        literal(bits!, suffix ?? bits!);
      }
    } else if (/^[01x]+$/.test(token)) {
      literal(token, '');
    } else {
      const n = token.startsWith('R') ? 5 : Number(token.split(':')[1]);
      expand(kind, name, tokens, i + 1, mask, value, width + n);
    }
  }

  const CONDITIONS =
    '[0000=EQ,0001=NE,0010=CS,0011=CC,0100=MI,0101=PL,0110=VS,0111=VC,1000=HI,1001=LS,1010=GE,1011=LT,1100=GT,1101=LE,1110=AL,1111=NV]';
  const SF = '[0=W,1=X]';

  // --- Data processing, immediate (C4.1.65) ---
  add('int', '', '[0=ADR,1=ADRP] lo:2 10000 hi:19 Rd');
  add('int', 'imm', `${SF} [00=ADD,01=ADDS,10=SUB,11=SUBS] 100010 sh:1 imm:12 Rn Rd`);
  add('int', 'imm', `${SF} [00=AND,01=ORR,10=EOR,11=ANDS] 100100 N:1 immr:6 imms:6 Rn Rd`);
  add('int', '', `${SF} [00=MOVN,10=MOVZ,11=MOVK] 100101 hw:2 imm:16 Rd`);
  add('int', 'W', '0 [00=SBFM,01=BFM,10=UBFM] 100110 0 0 immr:5 0 imms:5 Rn Rd');
  add('int', 'X', '1 [00=SBFM,01=BFM,10=UBFM] 100110 1 immr:6 imms:6 Rn Rd');
  add('int', 'EXTR W', '0 00 100111 0 0 Rm 0 imms:5 Rn Rd');
  add('int', 'EXTR X', '1 00 100111 1 0 Rm imms:6 Rn Rd');

  // --- Branches, exceptions (C4.1.66) ---
  add('branch', '', '[0=B,1=BL] 00101 imm:26');
  add('branch', 'B.cond', `0101010 0 imm:19 0 ${CONDITIONS}`);
  add('branch', '', `${SF} 011010 [0=CBZ,1=CBNZ] imm:19 Rt`);
  add('branch', '', '[0=W,1=X] 011011 [0=TBZ,1=TBNZ] b40:5 imm:14 Rt');
  add('branch', '', '1101011 [0000=BR,0001=BLR,0010=RET] 11111 000000 Rn 00000');
  add('system', 'BRK', '11010100 001 imm:16 000 00');
  add('undefined', 'EL0', '11010100 000 imm:16 000 [10=HVC,11=SMC]');
  add('undefined', 'EL0', '11010100 101 imm:16 000 [01=DCPS1,10=DCPS2,11=DCPS3]');
  add('undefined', 'EL0 ERET', '1101011 0100 11111 000000 11111 00000');
  add('undefined', 'UDF', '0000000000000000 imm:16');

  // --- System ---
  add('system', 'HINT', '11010101 00000011 0010 CRm:4 op2:3 11111');
  add('system', '', '11010101 00000011 0011 CRm:4 [010=CLREX,100=DSB,101=DMB,110=ISB] 11111');
  add('system', '', '11010101 00 [1=MRS,0=MSR] 1 1011 0100 [0010000=NZCV,0100000=FPCR,0100001=FPSR] Rt');
  add('system', 'TPIDR_EL0', '11010101 00 [1=MRS,0=MSR] 1 1011 1101 0000 010 Rt');
  add('mem', 'DC', '11010101 00001 011 0111 [0100=ZVA,1010=CVAC,1011=CVAU,1110=CIVAC] 001 Rt');
  add('mem', 'IC IVAU', '11010101 00001 011 0111 0101 001 Rt');

  loads();
  registers();
  scalarFp();
  simd();
  return rows;

  // --- Loads and stores (C4.1.93) ---
  function loads(): void {
    const SIZE = '[00=B,01=H,10=W,11=X]';
    add('mem', 'literal', '[00=LDR.W,01=LDR.X,10=LDRSW,11=PRFM] 011 0 00 imm:19 Rt');
    add('mem', 'LDR literal', '[00=S,01=D,10=Q] 011 1 00 imm:19 Rt');
    add('mem', '', `${SIZE} 001000 000 Rs [0=STXR,1=STLXR] 11111 Rn Rt`);
    add('mem', '', `${SIZE} 001000 010 11111 [0=LDXR,1=LDAXR] 11111 Rn Rt`);
    add('mem', '', '1 [0=W,1=X] 001000 001 Rs [0=STXP,1=STLXP] Rt2 Rn Rt');
    add('mem', '', '1 [0=W,1=X] 001000 011 11111 [0=LDXP,1=LDAXP] Rt2 Rn Rt');
    add('mem', '', `${SIZE} 001000 1 [0=STLR,1=LDAR] 0 11111 1 11111 Rn Rt`);

    const PAIR = '[00=noalloc,01=post,10=offset,11=pre]';
    add('mem', '', `[00=W,10=X] 101 0 0 ${PAIR} [0=STP,1=LDP] imm:7 Rt2 Rn Rt`);
    add('mem', 'LDPSW', '01 101 0 0 [01=post,10=offset,11=pre] 1 imm:7 Rt2 Rn Rt');
    add('mem', '', `[00=S,01=D,10=Q] 101 1 0 ${PAIR} [0=STP,1=LDP] imm:7 Rt2 Rn Rt`);

    const narrow: [string, string][] = [
      ['00', '[00=STRB,01=LDRB,10=LDRSB.X,11=LDRSB.W]'],
      ['01', '[00=STRH,01=LDRH,10=LDRSH.X,11=LDRSH.W]'],
      ['10', '[00=STR.W,01=LDR.W,10=LDRSW]'],
      ['11', '[00=STR.X,01=LDR.X]'],
    ];
    for (const [size, opc] of narrow) {
      add('mem', '', `${size} 111 0 00 ${opc} 0 imm:9 [00=unscaled,01=post,10=unprivileged,11=pre] Rn Rt`);
      add('mem', '', `${size} 111 0 01 ${opc} imm:12 Rn Rt`);
      add('mem', '', `${size} 111 0 00 ${opc} 1 Rm [010=UXTW,011=LSL,110=SXTW,111=SXTX] S:1 10 Rn Rt`);
    }
    add('mem', 'PRFUM', '11 111 0 00 10 0 imm:9 00 Rn Rt');
    add('mem', 'PRFM imm', '11 111 0 01 10 imm:12 Rn Rt');
    add('mem', 'PRFM', '11 111 0 00 10 1 Rm [010=UXTW,011=LSL,110=SXTW,111=SXTX] S:1 10 Rn Rt');
    for (const [size, opc] of [
      ['[00=B,01=H,10=S,11=D]', '[00=STR,01=LDR]'],
      ['00', '[10=STR.Q,11=LDR.Q]'],
    ]) {
      add('mem', '', `${size} 111 1 00 ${opc} 0 imm:9 [00=unscaled,01=post,11=pre] Rn Rt`);
      add('mem', '', `${size} 111 1 01 ${opc} imm:12 Rn Rt`);
      add('mem', '', `${size} 111 1 00 ${opc} 1 Rm [010=UXTW,011=LSL,110=SXTW,111=SXTX] S:1 10 Rn Rt`);
    }

    lse = true;
    add('mem', 'CAS', `${SIZE} 0010001 [0=-,1=A] 1 Rs [0=-,1=L] 11111 Rn Rt`);
    add('mem', 'CASP', '0 [0=W,1=X] 001000 0 [0=-,1=A] 1 Rs [0=-,1=L] 11111 Rn Rt');
    const ops = '[000=LDADD,001=LDCLR,010=LDEOR,011=LDSET,100=LDSMAX,101=LDSMIN,110=LDUMAX,111=LDUMIN]';
    add('mem', '', `${SIZE} 111 0 00 [00=-,01=L,10=A,11=AL] 1 Rs 0 ${ops} 00 Rn Rt`);
    add('mem', 'SWP', `${SIZE} 111 0 00 [00=-,01=L,10=A,11=AL] 1 Rs 1 000 00 Rn Rt`);
    lse = false;

    const many = '[0000=4,0010=1x4,0100=3,0110=1x3,0111=1x1,1000=2,1010=1x2]';
    const arrangements: [string, string][] = [
      ['[0=64,1=128]', '[00=B,01=H,10=S]'],
      ['1', '[11=2D]'],
    ];
    for (const [q, size] of arrangements) {
      add('mem', '', `0 ${q} 001100 0 [0=ST,1=LD] 000000 ${many} ${size} Rn Rt`);
      add('mem', 'post', `0 ${q} 001100 1 [0=ST,1=LD] 0 Rm ${many} ${size} Rn Rt`);
    }
    add('mem', '1D', '0 0 001100 0 [0=ST,1=LD] 000000 [0010=1x4,0110=1x3,0111=1x1,1010=1x2] 11 Rn Rt');
    add('mem', 'post 1D', '0 0 001100 1 [0=ST,1=LD] 0 Rm [0010=1x4,0110=1x3,0111=1x1,1010=1x2] 11 Rn Rt');
    for (const [form, head] of [
      ['lane', '0 x 001101 0 [0=ST,1=LD]'],
      ['lane post', '0 x 001101 1 [0=ST,1=LD]'],
    ] as const) {
      const rm = form === 'lane' ? '00000' : 'Rm';
      add('mem', `${form} B`, `${head} [0=1/3,1=2/4] ${rm} [000=1/2,001=3/4] x xx Rn Rt`);
      add('mem', `${form} H`, `${head} [0=1/3,1=2/4] ${rm} [010=1/2,011=3/4] x x0 Rn Rt`);
      add('mem', `${form} S`, `${head} [0=1/3,1=2/4] ${rm} [100=1/2,101=3/4] x 00 Rn Rt`);
      add('mem', `${form} D`, `${head} [0=1/3,1=2/4] ${rm} [100=1/2,101=3/4] 0 01 Rn Rt`);
      const all = head.replace('[0=ST,1=LD]', '1').replace('0 x', '0 [0=64,1=128]');
      add('mem', `LDR ${form}`, `${all} [0=1/3,1=2/4] ${rm} [110=1/2,111=3/4] 0 [00=B,01=H,10=S,11=D] Rn Rt`);
    }
  }

  // --- Data processing, register (C4.1.94) ---
  function registers(): void {
    add(
      'int',
      '',
      `${SF} 00 11010110 Rm [000010=UDIV,000011=SDIV,001000=LSLV,001001=LSRV,001010=ASRV,001011=RORV] Rn Rd`,
    );
    add('int', '', '000 11010110 Rm 010 [000=CRC32B,001=CRC32H,010=CRC32W,100=CRC32CB,101=CRC32CH,110=CRC32CW] Rn Rd');
    add('int', '', '100 11010110 Rm 010 [011=CRC32X,111=CRC32CX] Rn Rd');
    add('int', '', '010 11010110 00000 000 [000=RBIT.W,001=REV16.W,010=REV.W,100=CLZ.W,101=CLS.W] Rn Rd');
    add('int', '', '110 11010110 00000 000 [000=RBIT.X,001=REV16.X,010=REV32.X,011=REV.X,100=CLZ.X,101=CLS.X] Rn Rd');
    const SHIFT = '[00=LSL,01=LSR,10=ASR';
    for (const [sf, imm] of [
      ['0', '0 imm:5'],
      ['1', 'imm:6'],
    ]) {
      const w = sf === '0' ? 'W' : 'X';
      add('int', w, `${sf} [00=AND,01=ORR,10=EOR,11=ANDS] 01010 ${SHIFT},11=ROR] 0 Rm ${imm} Rn Rd`);
      add('int', w, `${sf} [00=BIC,01=ORN,10=EON,11=BICS] 01010 ${SHIFT},11=ROR] 1 Rm ${imm} Rn Rd`);
      add('int', w, `${sf} [00=ADD,01=ADDS,10=SUB,11=SUBS] 01011 ${SHIFT}] 0 Rm ${imm} Rn Rd`);
    }
    const EXTEND = '[000=UXTB,001=UXTH,010=UXTW,011=UXTX,100=SXTB,101=SXTH,110=SXTW,111=SXTX]';
    add('int', '', `${SF} [00=ADD,01=ADDS,10=SUB,11=SUBS] 01011 00 1 Rm ${EXTEND} imm:3 Rn Rd`);
    add('int', '', `${SF} [00=ADC,01=ADCS,10=SBC,11=SBCS] 11010000 Rm 000000 Rn Rd`);
    add('int', '', `${SF} [0=CCMN,1=CCMP] 1 11010010 Rm cond:4 [0=reg,1=imm] 0 Rn 0 nzcv:4`);
    add('int', '', `${SF} 0 0 11010100 Rm cond:4 [00=CSEL,01=CSINC] Rn Rd`);
    add('int', '', `${SF} 1 0 11010100 Rm cond:4 [00=CSINV,01=CSNEG] Rn Rd`);
    add('int', '', `${SF} 00 11011 000 Rm [0=MADD,1=MSUB] Ra Rn Rd`);
    add('int', '', '1 00 11011 001 Rm [0=SMADDL,1=SMSUBL] Ra Rn Rd');
    add('int', '', '1 00 11011 101 Rm [0=UMADDL,1=UMSUBL] Ra Rn Rd');
    add('int', '', '1 00 11011 [010=SMULH,110=UMULH] Rm 0 11111 Rn Rd');
  }

  // --- Scalar floating point (C4.1.95) ---
  function scalarFp(): void {
    const TYPE = '[00=S,01=D]';
    for (const [sf, scale] of [
      ['0', '1 scale:5'],
      ['1', 'scale:6'],
    ]) {
      const w = sf === '0' ? 'fixed W' : 'fixed X';
      add('fp', w, `${sf} 00 11110 ${TYPE} 0 [00010=SCVTF,00011=UCVTF,11000=FCVTZS,11001=FCVTZU] ${scale} Rn Rd`);
    }
    const round = '[00=N,01=P,10=M,11=Z]';
    add('fp', 'FCVT', `${SF} 00 11110 ${TYPE} 1 ${round} [000=S,001=U] 000000 Rn Rd`);
    add('fp', '', `${SF} 00 11110 ${TYPE} 1 00 [010=SCVTF,011=UCVTF,100=FCVTAS,101=FCVTAU] 000000 Rn Rd`);
    add('fp', 'FMOV W', '0 00 11110 00 1 00 [110=fromS,111=toS] 000000 Rn Rd');
    add('fp', 'FMOV X', '1 00 11110 01 1 00 [110=fromD,111=toD] 000000 Rn Rd');
    add('fp', 'FMOV X', '1 00 11110 10 1 01 [110=fromD1,111=toD1] 000000 Rn Rd');
    const ops =
      '[000000=FMOV,000001=FABS,000010=FNEG,000011=FSQRT,001000=FRINTN,001001=FRINTP,001010=FRINTM,001011=FRINTZ,001100=FRINTA,001110=FRINTX,001111=FRINTI]';
    add('fp', '', `000 11110 ${TYPE} 1 ${ops} 10000 Rn Rd`);
    add('fp', 'FCVT S', '000 11110 00 1 [000101=toD,000111=toH] 10000 Rn Rd');
    add('fp', 'FCVT D', '000 11110 01 1 [000100=toS,000111=toH] 10000 Rn Rd');
    add('fp', 'FCVT H', '000 11110 11 1 [000100=toS,000101=toD] 10000 Rn Rd');
    add('fp', '', `000 11110 ${TYPE} 1 Rm 00 1000 Rn [00000=FCMP,10000=FCMPE]`);
    add('fp', 'zero', `000 11110 ${TYPE} 1 00000 00 1000 Rn [01000=FCMP,11000=FCMPE]`);
    add('fp', 'FMOV imm', `000 11110 ${TYPE} 1 imm:8 100 00000 Rd`);
    add('fp', '', `000 11110 ${TYPE} 1 Rm cond:4 01 Rn [0=FCCMP,1=FCCMPE] nzcv:4`);
    const two = '[0000=FMUL,0001=FDIV,0010=FADD,0011=FSUB,0100=FMAX,0101=FMIN,0110=FMAXNM,0111=FMINNM,1000=FNMUL]';
    add('fp', '', `000 11110 ${TYPE} 1 Rm ${two} 10 Rn Rd`);
    add('fp', 'FCSEL', `000 11110 ${TYPE} 1 Rm cond:4 11 Rn Rd`);
    add('fp', '', `000 11111 ${TYPE} 0 Rm [0=FMADD,1=FMSUB] Ra Rn Rd`);
    add('fp', '', `000 11111 ${TYPE} 1 Rm [0=FNMADD,1=FNMSUB] Ra Rn Rd`);
  }

  // --- Advanced SIMD (C4.1.95) ---
  function simd(): void {
    const Q = '[0=64,1=128]';
    const bin = (n: number, bits: number) => n.toString(2).padStart(bits, '0');
    // Lists below: name, U, opcode, sizes as digits (vector; a size of 3 exists with Q=1 only), then as a scalar.
    const lane = ['B', 'H', 'S', 'D'];
    const each = (sizes: string, f: (size: string, q: string, name: string) => void) => {
      for (const s of sizes) f(bin(Number(s), 2), s === '3' ? '1' : Q, lane[Number(s)]!);
    };
    const both = (
      name: string,
      u: number,
      opcode: number,
      vector: string,
      scalar: string,
      mid: string,
      tail: string,
      kind: Kind = 'simd',
    ) => {
      each(vector, (s, q, l) =>
        add(kind, `${name} V.${l}`, `0 ${q} ${u} 01110 ${s} ${mid} ${bin(opcode, 5)} ${tail} Rn Rd`),
      );
      each(scalar, (s, _q, l) =>
        add(kind, `${name} ${l}`, `01 ${u} 11110 ${s} ${mid} ${bin(opcode, 5)} ${tail} Rn Rd`),
      );
    };

    const same = (name: string, u: number, opcode: number, vector: string, scalar = '') =>
      both(name, u, opcode, vector, scalar, '1 Rm', '1');
    for (const [u, p] of [
      [0, 'S'],
      [1, 'U'],
    ] as const) {
      same(`${p}HADD`, u, 0x00, '012');
      same(`${p}QADD`, u, 0x01, '0123', '0123');
      same(`${p}RHADD`, u, 0x02, '012');
      same(`${p}HSUB`, u, 0x04, '012');
      same(`${p}QSUB`, u, 0x05, '0123', '0123');
      same(u ? 'CMHI' : 'CMGT', u, 0x06, '0123', '3');
      same(u ? 'CMHS' : 'CMGE', u, 0x07, '0123', '3');
      same(`${p}SHL`, u, 0x08, '0123', '3');
      same(`${p}QSHL`, u, 0x09, '0123', '0123');
      same(`${p}RSHL`, u, 0x0a, '0123', '3');
      same(`${p}QRSHL`, u, 0x0b, '0123', '0123');
      same(`${p}MAX`, u, 0x0c, '012');
      same(`${p}MIN`, u, 0x0d, '012');
      same(`${p}ABD`, u, 0x0e, '012');
      same(`${p}ABA`, u, 0x0f, '012');
      same(`${p}MAXP`, u, 0x14, '012');
      same(`${p}MINP`, u, 0x15, '012');
    }
    same('ADD', 0, 0x10, '0123', '3');
    same('SUB', 1, 0x10, '0123', '3');
    same('CMTST', 0, 0x11, '0123', '3');
    same('CMEQ', 1, 0x11, '0123', '3');
    same('MLA', 0, 0x12, '012');
    same('MLS', 1, 0x12, '012');
    same('MUL', 0, 0x13, '012');
    same('PMUL', 1, 0x13, '0');
    same('SQDMULH', 0, 0x16, '12', '12');
    same('SQRDMULH', 1, 0x16, '12', '12');
    same('ADDP', 0, 0x17, '0123');
    add('simd', '', `0 ${Q} 0 01110 [00=AND,01=BIC,10=ORR,11=ORN] 1 Rm 00011 1 Rn Rd`);
    add('simd', '', `0 ${Q} 1 01110 [00=EOR,01=BSL,10=BIT,11=BIF] 1 Rm 00011 1 Rn Rd`);

    /** Floating point: size<1> is part of the opcode, size<0> selects the double. */
    const fp = (
      name: string,
      u: number,
      high: number,
      opcode: number,
      mid: string,
      tail: string,
      scalar: boolean,
      vector = true,
    ) => {
      for (const sz of [0, 1]) {
        const l = sz ? 'D' : 'S';
        const size = `${high}${sz}`;
        const op = bin(opcode, 5);
        if (vector) add('fp', `${name} V.${l}`, `0 ${sz ? '1' : Q} ${u} 01110 ${size} ${mid} ${op} ${tail} Rn Rd`);
        if (scalar) add('fp', `${name} ${l}`, `01 ${u} 11110 ${size} ${mid} ${op} ${tail} Rn Rd`);
      }
    };
    const same3 = (name: string, u: number, high: number, opcode: number, scalar = false) =>
      fp(name, u, high, opcode, '1 Rm', '1', scalar);
    same3('FMAXNM', 0, 0, 0x18);
    same3('FMLA', 0, 0, 0x19);
    same3('FADD', 0, 0, 0x1a);
    same3('FMULX', 0, 0, 0x1b, true);
    same3('FCMEQ', 0, 0, 0x1c, true);
    same3('FMAX', 0, 0, 0x1e);
    same3('FRECPS', 0, 0, 0x1f, true);
    same3('FMINNM', 0, 1, 0x18);
    same3('FMLS', 0, 1, 0x19);
    same3('FSUB', 0, 1, 0x1a);
    same3('FMIN', 0, 1, 0x1e);
    same3('FRSQRTS', 0, 1, 0x1f, true);
    same3('FMAXNMP', 1, 0, 0x18);
    same3('FADDP', 1, 0, 0x1a);
    same3('FMUL', 1, 0, 0x1b);
    same3('FCMGE', 1, 0, 0x1c, true);
    same3('FACGE', 1, 0, 0x1d, true);
    same3('FMAXP', 1, 0, 0x1e);
    same3('FDIV', 1, 0, 0x1f);
    same3('FMINNMP', 1, 1, 0x18);
    same3('FABD', 1, 1, 0x1a, true);
    same3('FCMGT', 1, 1, 0x1c, true);
    same3('FACGT', 1, 1, 0x1d, true);
    same3('FMINP', 1, 1, 0x1e);

    const misc = (name: string, u: number, opcode: number, vector: string, scalar = '') =>
      both(name, u, opcode, vector, scalar, '10000', '10');
    misc('REV64', 0, 0x00, '012');
    misc('REV16', 0, 0x01, '0');
    misc('SADDLP', 0, 0x02, '012');
    misc('SUQADD', 0, 0x03, '0123', '0123');
    misc('CLS', 0, 0x04, '012');
    misc('CNT', 0, 0x05, '0');
    misc('SADALP', 0, 0x06, '012');
    misc('SQABS', 0, 0x07, '0123', '0123');
    misc('CMGT zero', 0, 0x08, '0123', '3');
    misc('CMEQ zero', 0, 0x09, '0123', '3');
    misc('CMLT zero', 0, 0x0a, '0123', '3');
    misc('ABS', 0, 0x0b, '0123', '3');
    misc('REV32', 1, 0x00, '01');
    misc('UADDLP', 1, 0x02, '012');
    misc('USQADD', 1, 0x03, '0123', '0123');
    misc('CLZ', 1, 0x04, '012');
    misc('NOT/RBIT', 1, 0x05, '01');
    misc('UADALP', 1, 0x06, '012');
    misc('SQNEG', 1, 0x07, '0123', '0123');
    misc('CMGE zero', 1, 0x08, '0123', '3');
    misc('CMLE zero', 1, 0x09, '0123', '3');
    misc('NEG', 1, 0x0b, '0123', '3');
    misc('XTN', 0, 0x12, '012');
    misc('SQXTUN', 1, 0x12, '012', '012');
    misc('SHLL', 1, 0x13, '012');
    misc('SQXTN', 0, 0x14, '012', '012');
    misc('UQXTN', 1, 0x14, '012', '012');
    add('fp', 'FCVTN', `0 ${Q} 0 01110 0 [0=H,1=S] 10000 10110 10 Rn Rd`);
    add('fp', 'FCVTL', `0 ${Q} 0 01110 0 [0=H,1=S] 10000 10111 10 Rn Rd`);
    add('fp', 'FCVTXN', `0 ${Q} 1 01110 01 10000 10110 10 Rn Rd`);
    add('fp', 'FCVTXN scalar', '01 1 11110 01 10000 10110 10 Rn Rd');
    add('fp', '', `0 ${Q} [0=URECPE,1=URSQRTE] 01110 10 10000 11100 10 Rn Rd`);
    const misc2 = (name: string, u: number, high: number, opcode: number, scalar = false, vector = true) =>
      fp(name, u, high, opcode, '10000', '10', scalar, vector);
    misc2('FCMGT zero', 0, 1, 0x0c, true);
    misc2('FCMEQ zero', 0, 1, 0x0d, true);
    misc2('FCMLT zero', 0, 1, 0x0e, true);
    misc2('FCMGE zero', 1, 1, 0x0c, true);
    misc2('FCMLE zero', 1, 1, 0x0d, true);
    misc2('FABS', 0, 1, 0x0f);
    misc2('FNEG', 1, 1, 0x0f);
    misc2('FRINTN', 0, 0, 0x18);
    misc2('FRINTM', 0, 0, 0x19);
    misc2('FRINTP', 0, 1, 0x18);
    misc2('FRINTZ', 0, 1, 0x19);
    misc2('FRINTA', 1, 0, 0x18);
    misc2('FRINTX', 1, 0, 0x19);
    misc2('FRINTI', 1, 1, 0x19);
    for (const [u, p] of [
      [0, 'S'],
      [1, 'U'],
    ] as const) {
      misc2(`FCVTN${p}`, u, 0, 0x1a, true);
      misc2(`FCVTM${p}`, u, 0, 0x1b, true);
      misc2(`FCVTA${p}`, u, 0, 0x1c, true);
      misc2(`${p}CVTF`, u, 0, 0x1d, true);
      misc2(`FCVTP${p}`, u, 1, 0x1a, true);
      misc2(`FCVTZ${p}`, u, 1, 0x1b, true);
    }
    misc2('FRECPE', 0, 1, 0x1d, true);
    misc2('FRSQRTE', 1, 1, 0x1d, true);
    misc2('FRECPX', 0, 1, 0x1f, true, false);
    misc2('FSQRT', 1, 1, 0x1f);

    const different = (name: string, u: number, opcode: number, sizes: string) => {
      for (const s of sizes) {
        const size = bin(Number(s), 2);
        add('simd', `${name} V.${lane[Number(s)]}`, `0 ${Q} ${u} 01110 ${size} 1 Rm ${bin(opcode, 4)} 00 Rn Rd`);
      }
    };
    for (const [u, p] of [
      [0, 'S'],
      [1, 'U'],
    ] as const) {
      different(`${p}ADDL`, u, 0x0, '012');
      different(`${p}ADDW`, u, 0x1, '012');
      different(`${p}SUBL`, u, 0x2, '012');
      different(`${p}SUBW`, u, 0x3, '012');
      different(u ? 'RADDHN' : 'ADDHN', u, 0x4, '012');
      different(`${p}ABAL`, u, 0x5, '012');
      different(u ? 'RSUBHN' : 'SUBHN', u, 0x6, '012');
      different(`${p}ABDL`, u, 0x7, '012');
      different(`${p}MLAL`, u, 0x8, '012');
      different(`${p}MLSL`, u, 0xa, '012');
      different(`${p}MULL`, u, 0xc, '012');
    }
    different('SQDMLAL', 0, 0x9, '12');
    different('SQDMLSL', 0, 0xb, '12');
    different('SQDMULL', 0, 0xd, '12');
    different('PMULL', 0, 0xe, '03');
    add('simd', 'scalar', '01 0 11110 [01=H,10=S] 1 Rm [1001=SQDMLAL,1011=SQDMLSL,1101=SQDMULL] 00 Rn Rd');

    for (const [u, p] of [
      [0, 'S'],
      [1, 'U'],
    ] as const) {
      const v = `[00011=${p}ADDLV,01010=${p}MAXV,11010=${p}MINV]`;
      add('simd', '', `0 ${Q} ${u} 01110 [00=B,01=H] 11000 ${v} 10 Rn Rd`);
      add('simd', '', `0 1 ${u} 01110 [10=S] 11000 ${v} 10 Rn Rd`);
    }
    add('simd', 'ADDV', `0 ${Q} 0 01110 [00=B,01=H] 11000 11011 10 Rn Rd`);
    add('simd', 'ADDV', '0 1 0 01110 [10=S] 11000 11011 10 Rn Rd');
    add('fp', '', '0 1 1 01110 00 11000 [01100=FMAXNMV,01111=FMAXV] 10 Rn Rd');
    add('fp', '', '0 1 1 01110 10 11000 [01100=FMINNMV,01111=FMINV] 10 Rn Rd');
    add('simd', 'ADDP scalar', '01 0 11110 11 11000 11011 10 Rn Rd');
    add('fp', 'scalar', '01 1 11110 0 [0=S,1=D] 11000 [01100=FMAXNMP,01101=FADDP,01111=FMAXP] 10 Rn Rd');
    add('fp', 'scalar', '01 1 11110 1 [0=S,1=D] 11000 [01100=FMINNMP,01111=FMINP] 10 Rn Rd');

    const NARROW = '[xxxx1=B,xxx10=H,xx100=S]';
    add('simd', 'DUP element', `0 ${Q} 0 01110000 ${NARROW} 0 0000 1 Rn Rd`);
    add('simd', 'DUP element', '0 1 0 01110000 [x1000=D] 0 0000 1 Rn Rd');
    add('simd', 'DUP general', `0 ${Q} 0 01110000 ${NARROW} 0 0001 1 Rn Rd`);
    add('simd', 'DUP general', '0 1 0 01110000 [x1000=D] 0 0001 1 Rn Rd');
    add('simd', 'SMOV', '0 [0=W] 0 01110000 [xxxx1=B,xxx10=H] 0 0101 1 Rn Rd');
    add('simd', 'SMOV', `0 [1=X] 0 01110000 ${NARROW} 0 0101 1 Rn Rd`);
    add('simd', 'UMOV', `0 [0=W] 0 01110000 ${NARROW} 0 0111 1 Rn Rd`);
    add('simd', 'UMOV', '0 [1=X] 0 01110000 [x1000=D] 0 0111 1 Rn Rd');
    const LANE = '[xxxx1=B,xxx10=H,xx100=S,x1000=D]';
    add('simd', 'INS general', `0 1 0 01110000 ${LANE} 0 0011 1 Rn Rd`);
    add('simd', 'INS element', `0 1 1 01110000 ${LANE} 0 imm:4 1 Rn Rd`);
    add('simd', 'DUP scalar', `01 0 11110000 ${LANE} 0 0000 1 Rn Rd`);

    const permute = '[001=UZP1,010=TRN1,011=ZIP1,101=UZP2,110=TRN2,111=ZIP2]';
    add('simd', '', `0 ${Q} 001110 [00=B,01=H,10=S] 0 Rm 0 ${permute} 10 Rn Rd`);
    add('simd', '', `0 1 001110 [11=D] 0 Rm 0 ${permute} 10 Rn Rd`);
    add('simd', 'EXT', '0 [0=64] 101110 00 0 Rm 0 0 imm:3 0 Rn Rd');
    add('simd', 'EXT', '0 [1=128] 101110 00 0 Rm 0 imm:4 0 Rn Rd');
    add('simd', '', `0 ${Q} 001110 00 0 Rm 0 [00=1,01=2,10=3,11=4] [0=TBL,1=TBX] 00 Rn Rd`);

    for (let cmode = 0; cmode < 16; cmode++) {
      for (const op of [0, 1]) {
        const q = cmode === 15 && op === 1 ? '1' : Q;
        add(
          'simd',
          `MOVI/MVNI/ORR/BIC imm ${cmode}.${op}`,
          `0 ${q} ${op} 0111100000 abc:3 ${bin(cmode, 4)} 01 defgh:5 Rd`,
        );
      }
    }

    const immh = ['0001', '001x', '01xx', '1xxx'];
    const shift = (name: string, u: number, opcode: number, vector: string, scalar = '', kind: Kind = 'simd') => {
      each(vector, (s, q, l) => {
        const h = immh[['00', '01', '10', '11'].indexOf(s)];
        add(kind, `${name} imm V.${l}`, `0 ${q} ${u} 011110 ${h} immb:3 ${bin(opcode, 5)} 1 Rn Rd`);
      });
      each(scalar, (s, _q, l) => {
        const h = immh[['00', '01', '10', '11'].indexOf(s)];
        add(kind, `${name} imm ${l}`, `01 ${u} 111110 ${h} immb:3 ${bin(opcode, 5)} 1 Rn Rd`);
      });
    };
    for (const [u, p] of [
      [0, 'S'],
      [1, 'U'],
    ] as const) {
      shift(`${p}SHR`, u, 0x00, '0123', '3');
      shift(`${p}SRA`, u, 0x02, '0123', '3');
      shift(`${p}RSHR`, u, 0x04, '0123', '3');
      shift(`${p}RSRA`, u, 0x06, '0123', '3');
      shift(`${p}QSHL`, u, 0x0e, '0123', '0123');
      shift(`${p}QSHRN`, u, 0x12, '012', '012');
      shift(`${p}QRSHRN`, u, 0x13, '012', '012');
      shift(`${p}SHLL`, u, 0x14, '012');
      shift(`${p}CVTF`, u, 0x1c, '23', '23', 'fp');
      shift(`FCVTZ${p}`, u, 0x1f, '23', '23', 'fp');
    }
    shift('SRI', 1, 0x08, '0123', '3');
    shift('SHL', 0, 0x0a, '0123', '3');
    shift('SLI', 1, 0x0a, '0123', '3');
    shift('SQSHLU', 1, 0x0c, '0123', '0123');
    shift('SHRN', 0, 0x10, '012');
    shift('RSHRN', 0, 0x11, '012');
    shift('SQSHRUN', 1, 0x10, '012', '012');
    shift('SQRSHRUN', 1, 0x11, '012', '012');

    const element = (name: string, u: number, opcode: number, scalar: boolean) => {
      add('simd', `${name} element`, `0 ${Q} ${u} 01111 [01=H,10=S] LM:2 m:4 ${bin(opcode, 4)} H:1 0 Rn Rd`);
      if (scalar)
        add('simd', `${name} element scalar`, `01 ${u} 11111 [01=H,10=S] LM:2 m:4 ${bin(opcode, 4)} H:1 0 Rn Rd`);
    };
    element('MLA', 1, 0x0, false);
    element('MLS', 1, 0x4, false);
    element('MUL', 0, 0x8, false);
    for (const u of [0, 1]) {
      element(`${u ? 'U' : 'S'}MLAL`, u, 0x2, false);
      element(`${u ? 'U' : 'S'}MLSL`, u, 0x6, false);
      element(`${u ? 'U' : 'S'}MULL`, u, 0xa, false);
    }
    element('SQDMLAL', 0, 0x3, true);
    element('SQDMLSL', 0, 0x7, true);
    element('SQDMULL', 0, 0xb, true);
    element('SQDMULH', 0, 0xc, true);
    element('SQRDMULH', 0, 0xd, true);
    for (const [name, u, opcode] of [
      ['FMLA', 0, '0001'],
      ['FMLS', 0, '0101'],
      ['FMUL', 0, '1001'],
      ['FMULX', 1, '1001'],
    ] as const) {
      add('fp', `${name} element S`, `0 ${Q} ${u} 01111 10 LM:2 m:4 ${opcode} H:1 0 Rn Rd`);
      add('fp', `${name} element D`, `0 1 ${u} 01111 11 0 M:1 m:4 ${opcode} H:1 0 Rn Rd`);
      add('fp', `${name} element scalar S`, `01 ${u} 11111 10 LM:2 m:4 ${opcode} H:1 0 Rn Rd`);
      add('fp', `${name} element scalar D`, `01 ${u} 11111 11 0 M:1 m:4 ${opcode} H:1 0 Rn Rd`);
    }

    add('simd', '', '0100 1110 00 10100 [00100=AESE,00101=AESD,00110=AESMC,00111=AESIMC] 10 Rn Rd');
    const sha = '[000=SHA1C,001=SHA1P,010=SHA1M,011=SHA1SU0,100=SHA256H,101=SHA256H2,110=SHA256SU1]';
    add('simd', '', `0101 1110 000 Rm 0 ${sha} 00 Rn Rd`);
    add('simd', '', '0101 1110 00 10100 [00000=SHA1H,00001=SHA1SU1,00010=SHA256SU0] 10 Rn Rd');
  }
}
