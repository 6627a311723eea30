/**
 * Generates src/engines/emu/a64/core/{ops,exec-hot,exec-cold}.ts: the numbers of the decoded operations and the two
 * halves of the interpreter loop. Each half is one dense switch (a Wasm br_table); written out by hand its cases would
 * be one idea in 400 copies. Run: npx tsx scripts/gen-exec.ts (--check compares)
 *
 * hot() does what needs no call at all, so that nothing makes V8 save its few variables: its WebAssembly code has no
 * callee-saved registers. What is inside of COLD(...) runs in cold(), which does one operation and may call whatever it
 * needs.
 *
 * A body is AssemblyScript with these abbreviations:
 *   RN RM RA  64-bit source registers      RNW RMW RAW  their low 32 bits (u32)
 *   SETX(e)   rd = e (64 bits)             SETW(e)      rd = zero-extended 32 bits
 *   IMM       the 64-bit immediate         LO HI        its halves as i32
 *   NEXT      the next instruction         TAKE(d)      branch by d bytes of decoded operations, within the page
 *   JUMP(e)   branch to virtual address e  NZCV         the flags now; BIT(m) whether bit NZCV of mask m is set
 *   COLD(...) the part that hot() leaves to cold()
 */
import { readFileSync, writeFileSync } from 'node:fs';

/**
 * The operations that hot() does: those that take 0.02 percent or more of the instructions of Linux's boot or of a
 * benchmark, and a few of their relatives; the others do their work in cold(). V8 gives a function of more than 8192 virtual registers a simpler
 * register allocator, with which a boot takes a quarter longer: hot() stays below that.
 */
const HOT = new Set(
  `
  MOV_W SUBS_X_B_NE ADD_IMM_X ADD_W SUBS_W_B_LS STRB_UXTW LDRB_PRE STR_D_LSL ADD_IMM_W FMADD_D MOV_X CBNZ_W MOV_IMM
  SUBS_IMM_W_B_LS BR BL STP_X_PRE_SP LDP_X_POST_SP LDR_X_IMM_SP STR_X_IMM_SP B LDRB_UXTW ADR LDRB_POST UBFX
  LDR_X_IMM LDRB_IMM STRB_POST LDRSH_W_POST SUBS_X_B_EQ SUBS_W_B_EQ MADD_W LDRSH_W_IMM EOR_W STR_X_IMM MADD_X
  STR_W_POST NOP CBZ_W BCOND AND_IMM LDRB_LSL SUBS_IMM_X_B_NE STRB_LSL SBFM_X LDR_W_LSL SUBS_IMM_W_B_HI STR_W_LSL
  LDP_W_IMM SUBS_X ADD_X STR_W_IMM CBNZ_X LDR_X_LSL STRB_IMM SUBS_IMM_W_B_NE CBZ_X SUBS_IMM_W SUBS_W_B_NE CSEL_W
  ANDS_IMM_X LDR_W_IMM CSINC_X SUB_X CCMP_IMM_X STP_X_IMM_SP LDP_X_IMM_SP UBFIZ SUB_W BLR SUBS_IMM_W_B_GT STR_X_LSL
  ADDS_IMM_W CSEL_X ADD_LSL_X BL_FAR LDRH_LSL SUBS_W_B_HI LDRB_SXTW SUBS_IMM_X ADD_UXTW ADD_LSR_X ADRP SUBS_W_B_HS
  EOR_LSL_W LDR_D_IMM STR_D_POST CCMP_W FMUL_D ADDS_X EXTR_W EOR_ROR_W STR_W_IMM_SP LDR_W_IMM_SP CCMP_IMM_W FNEG_D
  FADD_D FSUB_D EOR_LSR_W FCMP_ZERO_D SCVTF_D_W FMSUB_D TBNZ SUBS_IMM_W_B_EQ AND_W MRS_SP_EL0 TBZ CSINC_W
  ANDS_IMM_X_B_NE SUBS_W_B_GT LDP_X_IMM LDRH_IMM STRH_LSL SUBS_W STP_W_IMM LSRV_W DC_ZVA STR_D_IMM STP_X_IMM FCMP_D
  SUBS_IMM_X_B_EQ MOVK_X STRH_IMM SUBS_X_B_GE EOR_X SUBS_IMM_X_B_HI ORR_IMM_X ORR_W SUBS_X_B_LS B_FAR STRH_POST
  MRS_FIELD AND_X SUBS_X_B_HS CCMP_X ADD_SXTW SUBS_X_B_HI ANDS_IMM_W_B_EQ REV_X ORR_X SUBS_IMM_X_B_LS CLZ_X BIC_W
  LSRV_X LSLV_X LSLV_W SUBS_IMM_W_B_LE ADDS_IMM_X BIC_X ORR_LSL_W SUBS_X_B_LO SUBS_IMM_X_B_LE ANDS_IMM_W_B_NE
  PAGE_END STR_Q_IMM_SP MRS_TPIDR_EL0 ORR_LSL_X STR_X_POST ORR_IMM_W MSUB_X SUBS_SXTW UDIV_X ANDS_IMM_X_B_EQ BFI_X
  STP_Q_IMM CSINV_W LDR_X_POST EXTR_X LDP_X_POST MOVK_W SUB_LSL_X STP_W_IMM_SP FMOV_X_D ANDS_W_B_NE ANDS_W_B_EQ
  SUBS_IMM_X_B_LO SBFM_W LDP_Q_IMM STP_X_POST ANDS_IMM_W SUBS_IMM_X_B_GE EOR_IMM_W CMEQ_16B SUB_LSR_X SUBS_W_B_GE
  REV_W LDRH_SXTW LDP_W_IMM_SP ANDS_W STP_X_PRE LDRSW_IMM SUBS_W_B_LO ORN_W MSR_DAIF UMULH SUBS_IMM_X_B_LT
  SUBS_IMM_X_B_GT DECODE STEP_END MSR_DAIFCLR MSR_DAIFSET MRS_DAIF LDAR_X STLR_X LDAR_W STLR_W FDIV_D LDR_Q_IMM
  STR_Q_IMM ADD_SXTB ADD_SXTH CSNEG_W SUBS_X_B_LT SUBS_X_B_GT SUBS_W_B_LT SUBS_W_B_LE
`
    .trim()
    .split(/\s+/),
);

/**
 * Pairs of neighbours that hot() does in one go, without a second dispatch: the most frequent ones of the same runs.
 * The first one's decoded operation gets the pair's number; the second keeps its own, for those who jump to it.
 */
const PAIRS = `
  LDRB_PRE+CBNZ_W LDRB_IMM+CBNZ_W LDRB_IMM+CBZ_W LDRB_PRE+CBZ_W LDRB_POST+SUBS_IMM_W_B_LS LDRB_LSL+STRB_LSL
  LDRB_UXTW+ADR ADR+ADD_SXTB ADD_SXTB+BR LDR_X_IMM+CBZ_X LDR_X_IMM+CBNZ_X LDR_W_IMM+CBZ_W LDR_X_IMM+STR_X_IMM
  ADD_IMM_X+SUBS_X_B_NE ADD_IMM_X+SUBS_IMM_X_B_NE ADD_IMM_W+SUBS_W_B_EQ ADD_IMM_W+SUBS_X_B_EQ ADD_W+SUBS_W_B_LS
  ADD_IMM_X+ADD_IMM_X ADD_IMM_X+ADD_IMM_W ADD_IMM_W+ADD_IMM_W ADD_IMM_X+SUBS_W_B_EQ STRB_UXTW+ADD_W STRB_LSL+ADD_IMM_X
  STRB_POST+SUBS_X_B_NE STR_X_POST+SUBS_X_B_NE STR_D_LSL+ADD_IMM_X LDR_D_LSL+LDR_D_LSL LDR_D_LSL+FMADD_D FMADD_D+STR_D_LSL
  LDR_X_IMM_SP+LDP_X_POST_SP LDP_X_POST_SP+BR STP_X_PRE_SP+ADD_IMM_X ADD_IMM_X+STR_X_IMM_SP ADD_IMM_X+STP_X_IMM_SP
  MOV_X+MOV_X MOV_X+LDR_X_IMM MOV_W+BL ADD_IMM_W+BL MOV_X+BL MOV_X+BL_FAR MADD_X+MADD_X MADD_W+SUBS_X_B_NE
  LDRSH_W_POST+MADD_W STR_X_IMM+MOV_X EOR_W+UBFX MOV_IMM+B MOV_IMM+MOV_IMM LDR_X_LSL+LDR_X_LSL ADDS_IMM_W+BCOND
  CCMP_IMM_X+BCOND CCMP_W+BCOND ADRP+ADD_IMM_X ADRP+LDR_X_IMM LDP_X_IMM_SP+LDP_X_IMM_SP UBFX+UBFX
`
  .trim()
  .split(/\s+/);

const ops: [name: string, body: string][] = [];
const op = (name: string, body: string) => ops.push([name, body]);
/**
 * A load or store. It is followed by its twin for SP as the base, which checks the stack
 * pointer's alignment. The operations of one name lie together, so that decode.ts adds the mode to the first one's number.
 */
const families = new Map<string, [name: string, body: string][]>();
const access = (name: string, mode: string, body: string) => {
  const family = families.get(name) ?? [];
  families.set(name, family);
  family.push([`${name}_${mode}`, body]);
  const onSp = body.replace(/\bRN\b/g, 'SP').replace(/\bSETN\(/g, 'SETSP(');
  family.push([`${name}_${mode}_SP`, `if ((SP & 15) != 0) { COLD(if (!stackAligned()) break;) } ${onSp}`]);
};

// --- Immediate and register arithmetic -------------------------------------------------------------------------
op('DECODE', 'COLD(decodeAt(ip); return AGAIN;)');
op('PAGE_END', 'acc -= 16; JUMP(load<u64>(0, PAGE_VA) + 4096)');
op('STEP_END', 'acc -= 16; target = pcOf(ip); why = LEAVE_AT; break;');
op('UNDEFINED', 'COLD(raiseUndefined(); break;)');
op('NOP', 'NEXT');
op('ADD_SXTB', 'SETX(RN + (<u64><i64><i8>RMW << IMM)) NEXT');
op('ADD_SXTH', 'SETX(RN + (<u64><i64><i16>RMW << IMM)) NEXT');
op('ADR', 'SETX(pcOf(ip) + IMM) NEXT');
op('ADRP', 'SETX((pcOf(ip) & ~(<u64>0xfff)) + IMM) NEXT');
op('MOV_IMM', 'SETX(IMM) NEXT');
op('MOVK_X', 'store<u16>(<u32>load<u16>(ip, 2) + <u32>load<u16>(ip, 6), <u16>LO, XREGS); NEXT');
op('MOVK_W', 'const v = (RDW & ~(<u32>0xffff << <u32>load<u16>(ip, 6))) | <u32>LO; SETW(v) NEXT');
op('MOV_X', 'SETX(RM) NEXT');
op('MOV_W', 'SETW(RMW) NEXT');
op('ADD_IMM_X', 'SETX(RN + IMM) NEXT');
op('ADD_IMM_W', 'SETW(RNW + <u32>LO) NEXT');
op('ADD_X', 'SETX(RN + RM) NEXT');
op('ADD_W', 'SETW(RNW + RMW) NEXT');
op('SUB_X', 'SETX(RN - RM) NEXT');
op('SUB_W', 'SETW(RNW - RMW) NEXT');
op('ADD_LSL_X', 'SETX(RN + (RM << IMM)) NEXT');
op('ADD_LSL_W', 'SETW(RNW + (RMW << <u32>LO)) NEXT');
op('SUB_LSL_X', 'SETX(RN - (RM << IMM)) NEXT');
op('ADD_UXTW', 'SETX(RN + (<u64>RMW << IMM)) NEXT');
op('ADD_SXTW', 'SETX(RN + (<u64><i64><i32>RMW << IMM)) NEXT');
// Flag-setting forms leave their operands for flags.ts; 32-bit ones in the upper half.
const flagOps: [string, string, string][] = [
  ['SUBS_IMM_X', 'SUB', 'const a = RN; const b = <u64><u32>LO; SETX(a - b)'],
  ['SUBS_IMM_W', 'SUB', 'const a = <u64>RNW << 32; const b = <u64><u32>LO << 32; SETX((a - b) >> 32)'],
  ['SUBS_X', 'SUB', 'const a = RN; const b = RM; SETX(a - b)'],
  ['SUBS_W', 'SUB', 'const a = <u64>RNW << 32; const b = <u64>RMW << 32; SETX((a - b) >> 32)'],
];
for (const [name, kind, body] of flagOps) op(name, `${body} setFlags(FLAGS_${kind}, a, b); NEXT`);
op('ADDS_IMM_X', 'const a = RN; const b = IMM; SETX(a + b) setFlags(FLAGS_ADD, a, b); NEXT');
op('ADDS_IMM_W', 'const a = <u64>RNW << 32; const b = IMM << 32; SETX((a + b) >> 32) setFlags(FLAGS_ADD, a, b); NEXT');
op('ADDS_X', 'const a = RN; const b = RM; SETX(a + b) setFlags(FLAGS_ADD, a, b); NEXT');
op('ADDS_W', 'const a = <u64>RNW << 32; const b = <u64>RMW << 32; SETX((a + b) >> 32) setFlags(FLAGS_ADD, a, b); NEXT');
op('AND_IMM', 'SETX(RN & IMM) NEXT');
op('ORR_IMM_X', 'SETX(RN | IMM) NEXT');
op('ORR_IMM_W', 'SETW(RNW | <u32>LO) NEXT');
op('EOR_IMM_X', 'SETX(RN ^ IMM) NEXT');
op('EOR_IMM_W', 'SETW(RNW ^ <u32>LO) NEXT');
op('ANDS_IMM_X', 'const r = RN & IMM; SETX(r) setFlags(FLAGS_ADD, r, 0); NEXT');
op('ANDS_IMM_W', 'const r = <u64>(RNW & <u32>LO); SETX(r) setFlags(FLAGS_ADD, r << 32, 0); NEXT');
op('AND_X', 'SETX(RN & RM) NEXT');
op('AND_W', 'SETW(RNW & RMW) NEXT');
op('ORR_X', 'SETX(RN | RM) NEXT');
op('ORR_W', 'SETW(RNW | RMW) NEXT');
op('ORR_LSL_X', 'SETX(RN | (RM << IMM)) NEXT');
op('ORR_LSL_W', 'SETW(RNW | (RMW << <u32>LO)) NEXT');
op('EOR_X', 'SETX(RN ^ RM) NEXT');
op('EOR_W', 'SETW(RNW ^ RMW) NEXT');
op('EOR_LSR_X', 'SETX(RN ^ (RM >> IMM)) NEXT');
op('EOR_LSR_W', 'SETW(RNW ^ (RMW >> <u32>LO)) NEXT');
op('EOR_LSL_X', 'SETX(RN ^ (RM << IMM)) NEXT');
op('EOR_LSL_W', 'SETW(RNW ^ (RMW << <u32>LO)) NEXT');
op('BIC_X', 'SETX(RN & ~RM) NEXT');
op('BIC_W', 'SETW(RNW & ~RMW) NEXT');
op('ORN_X', 'SETX(RN | ~RM) NEXT');
op('ORN_W', 'SETW(RNW | ~RMW) NEXT');
op('ANDS_X', 'const r = RN & RM; SETX(r) setFlags(FLAGS_ADD, r, 0); NEXT');
op('ANDS_W', 'const r = <u64>(RNW & RMW); SETX(r) setFlags(FLAGS_ADD, r << 32, 0); NEXT');
// Bitfield moves, reduced by decode.ts to a shift and a mask.
op('UBFX', 'SETX((RN >> <u64>load<u16>(ip, 6)) & IMM) NEXT');
op('UBFIZ', 'SETX((RN & IMM) << <u64>load<u16>(ip, 6)) NEXT');
op('SBFM_X', 'SETX(<u64>(<i64>(RN << <u64><u32>LO) >> <i64>HI)) NEXT');
op('SBFM_W', 'SETW(<u32>(<i32>(RNW << <u32>LO) >> HI)) NEXT');
op('BFXIL_X', 'SETX((RD & ~IMM) | ((RN >> <u64>load<u16>(ip, 6)) & IMM)) NEXT');
op('BFXIL_W', 'SETW((RDW & ~<u32>LO) | ((RNW >> <u32>load<u16>(ip, 6)) & <u32>LO)) NEXT');
op('BFI_X', 'SETX((RD & ~IMM) | ((RN << <u64>load<u16>(ip, 6)) & IMM)) NEXT');
op('BFI_W', 'SETW((RDW & ~<u32>LO) | ((RNW << <u32>load<u16>(ip, 6)) & <u32>LO)) NEXT');
op('EXTR_X', 'SETX((RM >> IMM) | ((RN << 1) << (63 - IMM))) NEXT');
op('EXTR_W', 'SETW(<u32>(((<u64>RNW << 32) | <u64>RMW) >> IMM)) NEXT');
// Two and three sources. RA sits in the immediate.
op('MADD_X', 'SETX(RA + RN * RM) NEXT');
op('MADD_W', 'SETW(RAW + RNW * RMW) NEXT');
op('MSUB_X', 'SETX(RA - RN * RM) NEXT');
op('MSUB_W', 'SETW(RAW - RNW * RMW) NEXT');
op('UMADDL', 'SETX(RA + <u64>RNW * <u64>RMW) NEXT');
op('SMADDL', 'SETX(RA + <u64>(<i64><i32>RNW * <i64><i32>RMW)) NEXT');
op('UDIV_X', 'const b = RM; SETX(b == 0 ? 0 : RN / b) NEXT');
op('UDIV_W', 'const b = RMW; SETW(b == 0 ? 0 : RNW / b) NEXT');
op('LSLV_X', 'SETX(RN << (RM & 63)) NEXT');
op('LSLV_W', 'SETW(RNW << (RMW & 31)) NEXT');
op('LSRV_X', 'SETX(RN >> (RM & 63)) NEXT');
op('LSRV_W', 'SETW(RNW >> (RMW & 31)) NEXT');
op('ASRV_X', 'SETX(<u64>(<i64>RN >> <i64>(RM & 63))) NEXT');
op('ASRV_W', 'SETW(<u32>(<i32>RNW >> <i32>(RMW & 31))) NEXT');
op('CLZ_X', 'SETX(clz<u64>(RN)) NEXT');
op('CLZ_W', 'SETW(clz<u32>(RNW)) NEXT');
op('REV_X', 'SETX(bswap<u64>(RN)) NEXT');
op('REV_W', 'SETW(bswap<u32>(RNW)) NEXT');
for (const [w, t] of [
  ['X', 'u64'],
  ['W', 'u32'],
] as const) {
  const [n, m, set] = w === 'X' ? ['RN', 'RM', 'SETX'] : ['RNW', 'RMW', 'SETW'];
  op(`CSEL_${w}`, `${set}(BIT(<u32>LO) ? ${n} : ${m}) NEXT`);
  op(`CSINC_${w}`, `${set}(BIT(<u32>LO) ? ${n} : ${m} + 1) NEXT`);
  op(`CSINV_${w}`, `${set}(BIT(<u32>LO) ? ${n} : ~${m}) NEXT`);
  op(`CSNEG_${w}`, `${set}(BIT(<u32>LO) ? ${n} : <${t}>0 - ${m}) NEXT`);
}
for (const [w, n, m, shift] of [
  ['X', 'RN', 'RM', ''],
  ['W', '<u64>RNW', '<u64>RMW', ' << 32'],
] as const)
  for (const [kind, sub] of [
    ['CCMP', 'SUB'],
    ['CCMN', 'ADD'],
  ] as const) {
    // HI is the mask of the condition, LO the flags if it fails; the immediate form has its operand in rm.
    op(
      `${kind}_${w}`,
      `if (BIT(<u32>HI)) setFlags(FLAGS_${sub}, ${n}${shift}, ${m}${shift}); else setNZCV(<u32>LO); NEXT`,
    );
    op(
      `${kind}_IMM_${w}`,
      `if (BIT(<u32>HI)) setFlags(FLAGS_${sub}, ${n}${shift}, <u64>load<u16>(ip, 6)${shift}); else setNZCV(<u32>LO); NEXT`,
    );
  }
op('SUBS_LSL_X', 'const a = RN; const b = RM << IMM; SETX(a - b) setFlags(FLAGS_SUB, a, b); NEXT');
op('SUBS_UXTW', 'const a = RN; const b = <u64>RMW << IMM; SETX(a - b) setFlags(FLAGS_SUB, a, b); NEXT');
op('SUBS_SXTW', 'const a = RN; const b = <u64><i64><i32>RMW << IMM; SETX(a - b) setFlags(FLAGS_SUB, a, b); NEXT');
op('SUB_UXTW', 'SETX(RN - (<u64>RMW << IMM)) NEXT');
op('SUB_SXTW', 'SETX(RN - (<u64><i64><i32>RMW << IMM)) NEXT');
op('ADD_UXTX', 'SETX(RN + (RM << IMM)) NEXT'); // the form with SP
op('SUB_UXTX', 'SETX(RN - (RM << IMM)) NEXT');
op('ADD_LSR_X', 'SETX(RN + (RM >> IMM)) NEXT');
op('SUB_LSR_X', 'SETX(RN - (RM >> IMM)) NEXT');
op('ADD_ASR_X', 'SETX(RN + <u64>(<i64>RM >> <i64>IMM)) NEXT');
op('SUB_LSL_W', 'SETW(RNW - (RMW << <u32>LO)) NEXT');
op('ADD_LSR_W', 'SETW(RNW + (RMW >> <u32>LO)) NEXT');
op('ORR_LSR_X', 'SETX(RN | (RM >> IMM)) NEXT');
op('ORR_LSR_W', 'SETW(RNW | (RMW >> <u32>LO)) NEXT');
op('AND_LSR_X', 'SETX(RN & (RM >> IMM)) NEXT');
op('AND_LSL_X', 'SETX(RN & (RM << IMM)) NEXT');
op('EOR_ROR_X', 'SETX(RN ^ rotr<u64>(RM, IMM)) NEXT');
op('EOR_ROR_W', 'SETW(RNW ^ rotr<u32>(RMW, <u32>LO)) NEXT');
op('EOR_ASR_X', 'SETX(RN ^ <u64>(<i64>RM >> <i64>IMM)) NEXT');
op('BIC_LSL_X', 'SETX(RN & ~(RM << IMM)) NEXT');
op('RORV_X', 'SETX(rotr<u64>(RN, RM)) NEXT');
op('RORV_W', 'SETW(rotr<u32>(RNW, RMW)) NEXT');
op('SDIV_X', 'const b = RM; SETX(b == 0 ? 0 : <i64>b == -1 ? <u64>0 - RN : <u64>(<i64>RN / <i64>b)) NEXT');
op('SDIV_W', 'const b = RMW; SETW(b == 0 ? <u32>0 : <i32>b == -1 ? <u32>0 - RNW : <u32>(<i32>RNW / <i32>b)) NEXT');
op(
  'UMULH',
  'const a = RN; const b = RM; const m = (a >> 32) * (b & 0xffff_ffff) + (((a & 0xffff_ffff) * (b & 0xffff_ffff)) >> 32); const k = (a & 0xffff_ffff) * (b >> 32) + (m & 0xffff_ffff); SETX((a >> 32) * (b >> 32) + (m >> 32) + (k >> 32)) NEXT',
);
op('DP', 'COLD(execDp(<u32>LO); NEXT)'); // every other data-processing instruction, from its encoding

// --- Branches ---------------------------------------------------------------------------------------------------
op('B', 'TAKE(LO)');
op('B_FAR', 'JUMP(pcOf(ip) + IMM)');
op('BL', 'store<u64>(30 << 3, pcOf(ip) + 4, XREGS); TAKE(LO)');
op('BL_FAR', 'const pc = pcOf(ip); store<u64>(30 << 3, pc + 4, XREGS); JUMP(pc + IMM)');
op('BR', 'JUMP(RN)');
op('BLR', 'const to = RN; store<u64>(30 << 3, pcOf(ip) + 4, XREGS); JUMP(to)');
op('CBZ_X', 'if (RN == 0) { TAKE(LO) } NEXT');
op('CBNZ_X', 'if (RN != 0) { TAKE(LO) } NEXT');
op('CBZ_W', 'if (RNW == 0) { TAKE(LO) } NEXT');
op('CBNZ_W', 'if (RNW != 0) { TAKE(LO) } NEXT');
op('TBZ', 'if (((RN >> <u64>load<u16>(ip, 6)) & 1) == 0) { TAKE(LO) } NEXT');
op('TBNZ', 'if (((RN >> <u64>load<u16>(ip, 6)) & 1) != 0) { TAKE(LO) } NEXT');
op('BCOND', 'if (BIT(<u32>HI)) { TAKE(LO) } NEXT');
op('BCOND_FAR', 'COLD(if (branchTaken(<u32>HI)) { JUMP(pcOf(ip) + <u64><i64>LO) } NEXT)');
// A compare and the conditional branch behind it in one operation; LO is the immediate, HI the branch.
const CONDITIONS: Record<string, string> = {
  EQ: 'a == b',
  NE: 'a != b',
  HS: 'a >= b',
  LO: 'a < b',
  HI: 'a > b',
  LS: 'a <= b',
  GE: '<i64>a >= <i64>b',
  LT: '<i64>a < <i64>b',
  GT: '<i64>a > <i64>b',
  LE: '<i64>a <= <i64>b',
};
const SKIP = 'NEXT2';
const TAKE2 = '{ TAKE2(HI) }';
for (const [name, , body] of flagOps)
  for (const [c, test] of Object.entries(CONDITIONS))
    op(`${name}_B_${c}`, `${body} setFlags(FLAGS_SUB, a, b); if (${test}) ${TAKE2} ${SKIP}`);
for (const [name, value, shift] of [
  ['ANDS_IMM_X', 'RN & <u64><i64>LO', ''],
  ['ANDS_IMM_W', '<u64>(RNW & <u32>LO)', ' << 32'],
  ['ANDS_X', 'RN & RM', ''],
  ['ANDS_W', '<u64>(RNW & RMW)', ' << 32'],
] as const)
  for (const [c, test] of [
    ['EQ', 'r == 0'],
    ['NE', 'r != 0'],
  ] as const)
    op(
      `${name}_B_${c}`,
      `const r = ${value}; SETX(r) setFlags(FLAGS_ADD, r${shift}, 0); if (${test}) ${TAKE2} ${SKIP}`,
    );

// --- Loads and stores -------------------------------------------------------------------------------------------
const ADDRESSES: Record<string, [va: string, after: string]> = {
  IMM: ['RN + IMM', ''],
  POST: ['RN', 'SETN(va + IMM)'],
  PRE: ['RN + IMM', 'SETN(va)'],
  LSL: ['RN + (RM << IMM)', ''],
  UXTW: ['RN + (<u64>RMW << IMM)', ''],
  SXTW: ['RN + (<u64><i64><i32>RMW << IMM)', ''],
};
const LOADS: Record<string, [size: number, host: string, slow: string]> = {
  LDR_X: [8, 'load<u64>(h)', 'v'],
  LDR_W: [4, '<u64>load<u32>(h)', 'v'],
  LDRH: [2, '<u64>load<u16>(h)', 'v'],
  LDRB: [1, '<u64>load<u8>(h)', 'v'],
  LDRSW: [4, '<u64><i64>load<i32>(h)', '<u64><i64><i32>v'],
  LDRSH_X: [2, '<u64><i64>load<i16>(h)', '<u64><i64><i16>v'],
  LDRSH_W: [2, '<u64><u32><i32>load<i16>(h)', '<u64><u32><i32><i16>v'],
  LDRSB_X: [1, '<u64><i64>load<i8>(h)', '<u64><i64><i8>v'],
  LDRSB_W: [1, '<u64><u32><i32>load<i8>(h)', '<u64><u32><i32><i8>v'],
};
const STORES: Record<string, [size: number, type: string]> = {
  STR_X: [8, 'u64'],
  STR_W: [4, 'u32'],
  STRH: [2, 'u16'],
  STRB: [1, 'u8'],
};
const LOOKUP = (size: number, write: boolean) =>
  `const e = tlbEntry(tlb, va); if (${write ? 'writeHit' : 'readHit'}(e, va, ${size}))`;
const FAULTED = 'if (load<u32>(0, FAULT) != 0) break;';
for (const [name, [size, host, slow]] of Object.entries(LOADS))
  for (const [mode, [va, after]] of Object.entries(ADDRESSES)) {
    // A writeback to the register that is loaded is CONSTRAINED UNPREDICTABLE: the loaded value stays, as with QEMU.
    const write = after === '' ? '' : after;
    access(
      name,
      mode,
      `const va = ${va}; ${LOOKUP(size, false)} { const h = hostAddress(e, va); ${write} SETX(${host}) NEXT } ` +
        `COLD(const v = slowLoad(va, ${size}, tlb); ${FAULTED} ${write} SETX(${slow}) NEXT)`,
    );
  }
for (const [name, [size, type]] of Object.entries(STORES))
  for (const [mode, [va, after]] of Object.entries(ADDRESSES))
    access(
      name,
      mode,
      `const va = ${va}; ${LOOKUP(size, true)} { store<${type}>(hostAddress(e, va), <${type}>RD); ${after} NEXT } ` +
        `COLD(slowStore(va, ${size}, RD, tlb); ${FAULTED} ${after} NEXT)`,
    );
// Pairs: RM holds the second register.
for (const mode of ['IMM', 'POST', 'PRE'] as const) {
  const [va, after] = ADDRESSES[mode]!;
  access(
    'LDP_X',
    mode,
    `const va = ${va}; ${LOOKUP(16, false)} { const h = hostAddress(e, va); const a = load<u64>(h); const b = load<u64>(h, 8); ${after} SETX(a) SETM(b) NEXT } ` +
      `COLD(const a = slowRead(va, 8, tlb); ${FAULTED} const b = slowRead(va + 8, 8, tlb); ${FAULTED} ${after} SETX(a) SETM(b) NEXT)`,
  );
  access(
    'STP_X',
    mode,
    `const va = ${va}; ${LOOKUP(16, true)} { const h = hostAddress(e, va); store<u64>(h, RD); store<u64>(h, RM, 8); ${after} NEXT } ` +
      `COLD(storePair(va, 8, RD, RM, tlb); ${FAULTED} ${after} NEXT)`,
  );
  access(
    'LDP_W',
    mode,
    `const va = ${va}; ${LOOKUP(8, false)} { const h = hostAddress(e, va); const a = <u64>load<u32>(h); const b = <u64>load<u32>(h, 4); ${after} SETX(a) SETM(b) NEXT } ` +
      `COLD(const a = slowRead(va, 4, tlb); ${FAULTED} const b = slowRead(va + 4, 4, tlb); ${FAULTED} ${after} SETX(a) SETM(b) NEXT)`,
  );
  access(
    'STP_W',
    mode,
    `const va = ${va}; ${LOOKUP(8, true)} { const h = hostAddress(e, va); store<u32>(h, RDW); store<u32>(h, RMW, 4); ${after} NEXT } ` +
      `COLD(storePair(va, 4, <u64>RDW, <u64>RMW, tlb); ${FAULTED} ${after} NEXT)`,
  );
}
op(
  'LDR_LIT_X',
  `const va = pcOf(ip) + IMM; ${LOOKUP(8, false)} { const h = hostAddress(e, va); SETX(load<u64>(h)) NEXT } COLD(const v = slowLoad(va, 8, tlb); ${FAULTED} SETX(v) NEXT)`,
);
op(
  'LDR_LIT_W',
  `const va = pcOf(ip) + IMM; ${LOOKUP(4, false)} { const h = hostAddress(e, va); SETX(<u64>load<u32>(h)) NEXT } COLD(const v = slowLoad(va, 4, tlb); ${FAULTED} SETX(v) NEXT)`,
);
op(
  'LDR_LIT_SW',
  `const va = pcOf(ip) + IMM; ${LOOKUP(4, false)} { const h = hostAddress(e, va); SETX(<u64><i64>load<i32>(h)) NEXT } COLD(const v = slowLoad(va, 4, tlb); ${FAULTED} SETX(<u64><i64><i32>v) NEXT)`,
);
op('MEM', `COLD(execMemory(<u32>LO, pcOf(ip)); ${FAULTED} NEXT)`); // every other load or store, from its encoding

// --- Floating point and SIMD: RD, RN, RM are byte offsets of V registers ------------------------------------------
const FP = 'if (load<u32>(0, FP_ENABLED) == 0) { COLD(raiseFpAccess(); break;) }';
op('FP', `COLD(${FP} execFp(<u32>load<u16>(ip, 2), <u32>LO); NEXT)`);
op('SIMD', `COLD(${FP} execSimd(<u32>load<u16>(ip, 2), <u32>LO); NEXT)`);
op('SIMD_MEM', `COLD(${FP} if (!execSimdMemory(<u32>load<u16>(ip, 2), <u32>LO)) break; NEXT)`);
op('FP_MEM', `COLD(${FP} execFpMemory(<u32>LO, pcOf(ip)); ${FAULTED} NEXT)`);
const VD = '<u32>load<u16>(ip, 2)';
const VN = '<u32>load<u16>(ip, 4)';
const VM = '<u32>load<u16>(ip, 6)';
/** Writes a scalar result and clears the rest of the register. */
const setV = (value: string) => `store<u64>(${VD}, <u64>${value}, VREGS); store<u64>(${VD}, 0, VREGS + 8);`;
for (const [s, f, t] of [
  ['D', 'f64', 'u64'],
  ['S', 'f32', 'u32'],
] as const) {
  const sign = s === 'D' ? '0x8000000000000000' : '0x80000000';
  const a = `const a = load<${t}>(${VN}, VREGS);`;
  const ab = `${a} const b = load<${t}>(${VM}, VREGS);`;
  // The host's operation while FP_FAST is set and its result can have raised nothing but Inexact (fp-fast.ts).
  const fast = (r: string, check: string) =>
    `if (load<u32>(0, FP_FAST) != 0) { const r = ${r}; if (${check}<${t}>(r)) { ${setV('r')} NEXT } }`;
  const native = (e: string) => `reinterpret<${t}>(${e})`;
  const A = `reinterpret<${f}>(a)`;
  const B = `reinterpret<${f}>(b)`;
  for (const [name, e, check] of [
    ['Add', `${A} + ${B}`, 'isOrdinary'],
    ['Sub', `${A} - ${B}`, 'isOrdinary'],
    ['Mul', `${A} * ${B}`, 'isSafe'],
    ['Div', `${A} / ${B}`, 'isSafe'],
  ] as const)
    op(
      `F${name.toUpperCase()}_${s}`,
      `${FP} ${ab} ${fast(native(e), check)} COLD(const r = ${f}${name}(a, b); ${setV('r')} NEXT)`,
    );
  op(
    `FSQRT_${s}`,
    `${FP} ${a} ${fast(native(`sqrt<${f}>(${A})`), 'isOrdinary')} COLD(const r = ${f}Sqrt(a); ${setV('r')} NEXT)`,
  );
  for (const [name, n] of [
    ['FMADD', 'a'],
    ['FMSUB', `a ^ ${sign}`],
  ] as const)
    op(
      `${name}_${s}`,
      `${FP} ${ab} const n = ${n}; const c = load<${t}>(<u32>HI, VREGS); ` +
        `if (load<u32>(0, FP_FAST) != 0 && ${f}MulAddIsFast(c, n, b)) { ${setV(`${f}MulAddExact(c, n, b)`)} NEXT } COLD(const r = ${f}MulAdd(c, n, b); ${setV('r')} NEXT)`,
    );
  op(
    `FCMP_${s}`,
    `${FP} ${ab} const x = ${A}; const y = ${B}; if (load<u32>(0, FP_FAST) != 0) { if (x < y) { setNZCV(8); NEXT } if (x > y) { setNZCV(2); NEXT } if (x == y) { setNZCV(6); NEXT } } COLD(setNZCV(<u32>fpCompare<${t}>(a, b, LO != 0)); NEXT)`,
  );
  op(
    `FCMP_ZERO_${s}`,
    `${FP} ${a} const x = ${A}; if (load<u32>(0, FP_FAST) != 0) { if (x < 0) { setNZCV(8); NEXT } if (x > 0) { setNZCV(2); NEXT } if (x == 0) { setNZCV(6); NEXT } } COLD(setNZCV(<u32>fpCompare<${t}>(a, 0, LO != 0)); NEXT)`,
  );
  op(`FCSEL_${s}`, `${FP} ${ab} ${setV('(BIT(<u32>LO) ? a : b)')} NEXT`);
  op(`FNEG_${s}`, `${FP} ${a} ${setV(`(a ^ ${sign})`)} NEXT`);
  op(`FABS_${s}`, `${FP} ${a} ${setV(`(a & ~<${t}>${sign})`)} NEXT`);
  op(
    `SCVTF_${s}_X`,
    `${FP} if (load<u32>(0, FP_FAST) != 0) { ${setV(native(`<${f}><i64>RN`))} NEXT } COLD(execFp(<u32>load<u16>(ip, 6), <u32>LO); NEXT)`,
  );
  op(
    `SCVTF_${s}_W`,
    `${FP} if (load<u32>(0, FP_FAST) != 0) { ${setV(native(`<${f}><i32>RNW`))} NEXT } COLD(execFp(<u32>load<u16>(ip, 6), <u32>LO); NEXT)`,
  );
}
op(
  'FCVTZS_X_D',
  `${FP} const x = load<f64>(${VN}, VREGS); if (load<u32>(0, FP_FAST) != 0 && abs(x) < 9223372036854775808.0) { SETX(<u64>i64(x)) NEXT } COLD(execFp(<u32>load<u16>(ip, 6), <u32>LO); NEXT)`,
);
op(
  'FCVTZS_W_D',
  `${FP} const x = load<f64>(${VN}, VREGS); if (load<u32>(0, FP_FAST) != 0 && abs(x) < 2147483648.0) { SETW(<u32>i32(x)) NEXT } COLD(execFp(<u32>load<u16>(ip, 6), <u32>LO); NEXT)`,
);
op('FMOV_X_D', `${FP} SETX(load<u64>(${VN}, VREGS)) NEXT`);
op('FMOV_D_X', `${FP} store<u64>(${VD}, RN, VREGS); store<u64>(${VD}, 0, VREGS + 8); NEXT`);
op('FMOV_W_S', `${FP} SETX(<u64>load<u32>(${VN}, VREGS)) NEXT`);
op('FMOV_S_W', `${FP} store<u64>(${VD}, <u64>RNW, VREGS); store<u64>(${VD}, 0, VREGS + 8); NEXT`);
// Both lanes or neither: a lane that needs care sends the operation to execFp().
for (const [name, e, check] of [
  ['FADD_2D', 'f64x2.add(a, b)', 'isOrdinary'],
  ['FMUL_2D', 'f64x2.mul(a, b)', 'isSafe'],
  ['FSUB_2D', 'f64x2.sub(a, b)', 'isOrdinary'],
] as const)
  op(
    name,
    `${FP} const a = v128.load(${VN}, VREGS); const b = v128.load(${VM}, VREGS); const r = ${e}; ` +
      `if (load<u32>(0, FP_FAST) != 0 && ${check}<u64>(i64x2.extract_lane(r, 0)) && ${check}<u64>(i64x2.extract_lane(r, 1))) { v128.store(${VD}, r, VREGS); NEXT } COLD(execFp(<u32>HI, <u32>LO); NEXT)`,
  );
for (const [name, sign] of [
  ['FMLA_2D', ''],
  ['FMLS_2D', ' ^ 0x8000000000000000'],
] as const)
  op(
    name,
    `${FP} const c0 = load<u64>(${VD}, VREGS); const c1 = load<u64>(${VD}, VREGS + 8); const a0 = load<u64>(${VN}, VREGS)${sign}; const a1 = load<u64>(${VN}, VREGS + 8)${sign}; ` +
      `const b0 = load<u64>(${VM}, VREGS); const b1 = load<u64>(${VM}, VREGS + 8); ` +
      `if (load<u32>(0, FP_FAST) != 0 && f64MulAddIsFast(c0, a0, b0) && f64MulAddIsFast(c1, a1, b1)) { store<u64>(${VD}, f64MulAddExact(c0, a0, b0), VREGS); store<u64>(${VD}, f64MulAddExact(c1, a1, b1), VREGS + 8); NEXT } COLD(execFp(<u32>HI, <u32>LO); NEXT)`,
  );
op('DUP_2D_X', `${FP} const v = RN; store<u64>(${VD}, v, VREGS); store<u64>(${VD}, v, VREGS + 8); NEXT`);
op('UMOV_X', `${FP} SETX(load<u64>(${VN} + <u32>LO, VREGS)) NEXT`);
op('UMOV_W', `${FP} SETX(<u64>load<u32>(${VN} + <u32>LO, VREGS)) NEXT`);
op('MOVI_V', `${FP} store<u64>(${VD}, IMM, VREGS); store<u64>(${VD}, IMM, VREGS + 8); NEXT`);
op('FMOV_D', `${FP} store<u64>(${VD}, load<u64>(${VN}, VREGS), VREGS); store<u64>(${VD}, 0, VREGS + 8); NEXT`);
op('FMOV_S', `${FP} store<u64>(${VD}, <u64>load<u32>(${VN}, VREGS), VREGS); store<u64>(${VD}, 0, VREGS + 8); NEXT`);
const LANES = `const a = v128.load(${VN}, VREGS); const b = v128.load(${VM}, VREGS);`;
for (const [name, f] of [
  ['AND_V', 'v128.and(a, b)'],
  ['ORR_V', 'v128.or(a, b)'],
  ['EOR_V', 'v128.xor(a, b)'],
  ['ADD_16B', 'i8x16.add(a, b)'],
  ['ADD_4S', 'i32x4.add(a, b)'],
  ['ADD_2D', 'i64x2.add(a, b)'],
  ['CMEQ_16B', 'i8x16.eq(a, b)'],
] as const)
  op(name, `${FP} ${LANES} v128.store(${VD}, ${f}, VREGS); NEXT`);
for (const [mode, [va, after]] of Object.entries(ADDRESSES)) {
  access(
    'LDR_Q',
    mode,
    `${FP} const va = ${va}; ${LOOKUP(16, false)} { v128.store(${VD}, v128.load(hostAddress(e, va)), VREGS); ${after} NEXT } ` +
      `COLD(if (!quadAllowed(va, ACCESS_READ)) break; const a = slowRead(va, 8, tlb); ${FAULTED} const b = slowRead(va + 8, 8, tlb); ${FAULTED} store<u64>(${VD}, a, VREGS); store<u64>(${VD}, b, VREGS + 8); ${after} NEXT)`,
  );
  access(
    'STR_Q',
    mode,
    `${FP} const va = ${va}; ${LOOKUP(16, true)} { v128.store(hostAddress(e, va), v128.load(${VD}, VREGS)); ${after} NEXT } ` +
      `COLD(if (!quadAllowed(va, ACCESS_WRITE)) break; storePair(va, 8, load<u64>(${VD}, VREGS), load<u64>(${VD}, VREGS + 8), tlb); ${FAULTED} ${after} NEXT)`,
  );
  for (const [s, size, t] of [
    ['D', 8, 'u64'],
    ['S', 4, 'u32'],
  ] as const) {
    access(
      `LDR_${s}`,
      mode,
      `${FP} const va = ${va}; ${LOOKUP(size, false)} { store<u64>(${VD}, <u64>load<${t}>(hostAddress(e, va)), VREGS); store<u64>(${VD}, 0, VREGS + 8); ${after} NEXT } ` +
        `COLD(const a = slowLoad(va, ${size}, tlb); ${FAULTED} store<u64>(${VD}, a, VREGS); store<u64>(${VD}, 0, VREGS + 8); ${after} NEXT)`,
    );
    access(
      `STR_${s}`,
      mode,
      `${FP} const va = ${va}; ${LOOKUP(size, true)} { store<${t}>(hostAddress(e, va), load<${t}>(${VD}, VREGS)); ${after} NEXT } ` +
        `COLD(slowStore(va, ${size}, <u64>load<${t}>(${VD}, VREGS), tlb); ${FAULTED} ${after} NEXT)`,
    );
  }
}
for (const mode of ['IMM', 'POST', 'PRE'] as const) {
  const [va, after] = ADDRESSES[mode]!;
  access(
    'LDP_Q',
    mode,
    `${FP} const va = ${va}; ${LOOKUP(32, false)} { const h = hostAddress(e, va); v128.store(${VD}, v128.load(h), VREGS); v128.store(${VM}, v128.load(h, 16), VREGS); ${after} NEXT } ` +
      `COLD(if (!quadAllowed(va, ACCESS_READ)) break; if (!slowLoadPairQ(va, ${VD}, ${VM}, tlb)) break; ${after} NEXT)`,
  );
  access(
    'STP_Q',
    mode,
    `${FP} const va = ${va}; ${LOOKUP(32, true)} { const h = hostAddress(e, va); v128.store(h, v128.load(${VD}, VREGS)); v128.store(h, v128.load(${VM}, VREGS), 16); ${after} NEXT } ` +
      `COLD(if (!quadAllowed(va, ACCESS_WRITE)) break; slowStorePairQ(va, ${VD}, ${VM}, tlb); ${FAULTED} ${after} NEXT)`,
  );
}

// --- What may change the context --------------------------------------------------------------------------------
op('ATOMIC', `COLD(execAtomic(<u32>LO); ${FAULTED} NEXT)`);
op(
  'LDAR_X',
  `const va = RN; ${LOOKUP(8, false)} { if ((va & 7) == 0) { SETX(load<u64>(hostAddress(e, va))) NEXT } } COLD(execAtomic(<u32>LO); ${FAULTED} NEXT)`,
);
op(
  'LDAR_W',
  `const va = RN; ${LOOKUP(4, false)} { if ((va & 3) == 0) { SETX(<u64>load<u32>(hostAddress(e, va))) NEXT } } COLD(execAtomic(<u32>LO); ${FAULTED} NEXT)`,
);
op(
  'STLR_X',
  `const va = RN; ${LOOKUP(8, true)} { if ((va & 7) == 0) { store<u64>(hostAddress(e, va), RD); NEXT } } COLD(execAtomic(<u32>LO); ${FAULTED} NEXT)`,
);
op(
  'STLR_W',
  `const va = RN; ${LOOKUP(4, true)} { if ((va & 3) == 0) { store<u32>(hostAddress(e, va), RDW); NEXT } } COLD(execAtomic(<u32>LO); ${FAULTED} NEXT)`,
);
op(
  'SYSTEM',
  'COLD(target = pcOf(ip) + 4; why = execSystem(<u32>LO, target - 4); if (why == CONTINUE) { NEXT } break;)',
);
const SYSTEM =
  'COLD(target = pcOf(ip) + 4; why = execSystem(<u32>LO, target - 4); if (why == CONTINUE) { NEXT } break;)';
// The state field of a register that reads without side effects at EL1 is in rn; TPIDR_EL0 also at EL0.
op('MRS_FIELD', `if (load<u32>(0, EL) != 0) { SETX(load<u64>(<u32>load<u16>(ip, 4))) NEXT } ${SYSTEM}`);
op('MRS_TPIDR_EL0', 'SETX(load<u64>(0, TPIDR_EL0)) NEXT');
op('MRS_SP_EL0', `if (load<u32>(0, SPSEL) != 0) { SETX(load<u64>(0, SP_EL0)) NEXT } ${SYSTEM}`);
op('MRS_DAIF', `if (load<u32>(0, EL) != 0) { SETX(<u64>load<u32>(0, DAIF)) NEXT } ${SYSTEM}`);
// Masking interrupts takes effect at once; unmasking may have one to take. PSTATE.D concerns the debug state.
op(
  'MSR_DAIFSET',
  `if (load<u32>(0, EL) != 0) { store<u32>(0, load<u32>(0, DAIF) | <u32>load<u16>(ip, 6), DAIF); NEXT } ${SYSTEM}`,
);
op(
  'MSR_DAIFCLR',
  `if (load<u32>(0, EL) != 0 && load<u32>(load<u32>(0, CPU_ID) << 2, IRQ_LINES) == 0) { store<u32>(0, load<u32>(0, DAIF) & ~<u32>load<u16>(ip, 6), DAIF); NEXT } ${SYSTEM}`,
);
op(
  'MSR_DAIF',
  `const v = RDW; if (load<u32>(0, EL) != 0 && load<u32>(load<u32>(0, CPU_ID) << 2, IRQ_LINES) == 0 && ((v ^ load<u32>(0, DAIF)) & 0x200) == 0) { store<u32>(0, v & 0x3c0, DAIF); NEXT } ${SYSTEM}`,
);
op(
  'DC_ZVA',
  `const va = RN & ~(<u64>63); if (load<u32>(0, EL) != 0 || (load<u64>(0, SCTLR_EL1) & 0x4000) != 0) { ${LOOKUP(64, true)} { const h = hostAddress(e, va); const z = i64x2.splat(0); v128.store(h, z); v128.store(h, z, 16); v128.store(h, z, 32); v128.store(h, z, 48); NEXT } } COLD(if (load<u32>(0, EL) == 0 && !zeroAllowed(<u32>LO)) break; slowZero(RN, tlb); ${FAULTED} NEXT)`,
);

for (const family of families.values()) ops.push(...family);

const numberOf = (name: string) => ops.findIndex(([n]) => n === name);
const singles = ops.length;
const pairs = PAIRS.map(pair => {
  const [a = '', b = ''] = pair.split('+');
  const [first, second] = [numberOf(a), numberOf(b)];
  const body = ops[first]![1];
  // The ways out of the first operation that hot() has: there must be one.
  const exits = [
    ...replaceMacro(body, 'COLD', cold => ' '.repeat('COLD()'.length + cold.length)).matchAll(/\bNEXT\b/g),
  ];
  if (first < 0 || second < 0 || exits.length !== 1) throw new Error(`no pair ${pair}`);
  const before = body.slice(0, exits[0]!.index);
  const rest = body.slice(exits[0]!.index + 'NEXT'.length);
  ops.push([`${a}__${b}`, `${before}{ ip += 16; ${ops[second]![1]} }${rest}`]);
  HOT.add(`${a}__${b}`);
  return { number: ops.length - 1, first, second };
});

/** Replaces each NAME(argument) of `s`, the argument being whatever the parentheses enclose. */
function replaceMacro(s: string, name: string, make: (argument: string) => string): string {
  const pattern = new RegExp(`\\b${name}\\(`);
  for (let at = s.search(pattern); at >= 0; at = s.search(pattern)) {
    let depth = 0;
    let end = at + name.length;
    do {
      if (s[end] === '(') depth++;
      if (s[end] === ')') depth--;
      end++;
    } while (depth > 0);
    s = s.slice(0, at) + make(s.slice(at + name.length + 1, end - 1)) + s.slice(end);
  }
  return s;
}

/** A body as it stands in hot() or in cold(). */
function expand(body: string, hot: boolean): string {
  // The cast is no ornament: inside <u64>(...) a bare load<u32> would widen at once and the sum be a 64-bit one.
  const reg = (at: number, type: string) => `<${type}>load<${type}>(<u32>load<u16>(ip, ${at}), XREGS)`;
  const set = (at: number, e: string) => `store<u64>(<u32>load<u16>(ip, ${at}), ${e}, XREGS);`;
  const take = (d: string, size: number) =>
    hot
      ? `{ const t = ip + ${d}; acc += ip + ${size} - t; ip = t; if (acc + ip >= load<i32>(0, LIMIT)) { why = LEAVE_HERE; break; } continue; }`
      : `{ takenFrom = ip + ${size}; takenTo = ip + ${d}; return TOOK; }`;
  let s = body;
  const macros: Record<string, (argument: string) => string> = {
    COLD: a => (hot ? '{ why = COLD_OP; break; }' : a),
    SETX: e => set(2, e),
    SETW: e => set(2, `<u64>(${e})`),
    SETN: e => set(4, e),
    SETM: e => set(6, e),
    SETSP: e => `store<u64>(31 << 3, ${e}, XREGS);`,
    BIT: m => `((${m} >> nzcvNow()) & 1) != 0`,
    TAKE: d => take(d, 16),
    TAKE2: d => take(d, 32), // for a fused pair
    // Within the page, or to a page that the TLB and the decode cache know; enterPage() finds the others.
    JUMP: e =>
      hot
        ? `{ target = ${e}; const d = target - load<u64>(0, PAGE_VA); let t: u32 = 0; ` +
          'if (d < 4096 && (d & 3) == 0) t = load<u32>(0, PAGE_OPS) + (<u32>d << 2); ' +
          'else { const e = tlbEntry(tlb, target); if ((target ^ load<u64>(e, 16)) < 4096 && (target & 3) == 0) { ' +
          'const page = load<u32>(PAGE_MAP + ((((u32(target) + load<u32>(e, 24)) - RAM) >> 12) << 2)); ' +
          'if (page != 0) { store<u32>(0, page, PAGE_OPS); store<u64>(0, target & ~(<u64>0xfff), PAGE_VA); t = page + ((u32(target) & 0xfff) << 2); } } } ' +
          'if (t == 0) { why = JUMP_TO; break; } acc += ip + 16 - t; ip = t; if (acc + ip >= load<i32>(0, LIMIT)) { why = LEAVE_HERE; break; } continue; }'
        : `target = ${e}; return JUMP_TO;`,
  };
  for (const [name, make] of Object.entries(macros)) s = replaceMacro(s, name, make);
  if (!hot) s = s.replace(/\bbreak;/g, 'return why;');
  return s
    .replace(/\bRNW\b/g, reg(4, 'u32'))
    .replace(/\bRMW\b/g, reg(6, 'u32'))
    .replace(/\bRDW\b/g, reg(2, 'u32'))
    .replace(/\bSP\b/g, 'load<u64>(31 << 3, XREGS)')
    .replace(/\bRN\b/g, reg(4, 'u64'))
    .replace(/\bRM\b/g, reg(6, 'u64'))
    .replace(/\bRD\b/g, reg(2, 'u64'))
    .replace(/\bRAW\b/g, '<u32>load<u32>(<u32>LO, XREGS)')
    .replace(/\bRA\b/g, 'load<u64>(<u32>LO, XREGS)')
    .replace(/\bNEXT2\b/g, hot ? '{ ip += 32; continue; }' : 'return CONTINUE_FUSED;')
    .replace(/\bNEXT\b/g, hot ? '{ ip += 16; continue; }' : 'return CONTINUE;')
    .replace(/\bIMM\b/g, 'load<u64>(ip, 8)')
    .replace(/\bLO\b/g, 'load<i32>(ip, 8)')
    .replace(/\bHI\b/g, 'load<i32>(ip, 12)');
}

const core = new URL('../src/engines/emu/a64/core/', import.meta.url);
const checking = process.argv.includes('--check');

/** Writes a generated file; with --check compares it instead. */
function emit(file: URL, text: string): void {
  if (!checking) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) {
    console.error(
      `${file.pathname.split('/').at(-1)} is not what scripts/gen-exec.ts makes: run npx tsx scripts/gen-exec.ts`,
    );
    process.exitCode = 1;
  }
}

const header = '// Generated by scripts/gen-exec.ts: change that.\n';
emit(
  new URL('ops.ts', core),
  `${header}\n/** What a decoded operation is; the first u16 of its 16 bytes. 0 asks for decoding. */\n` +
    ops.map(([name], i) => `export const ${name}: u32 = ${i};`).join('\n') +
    '\n',
);
emit(
  new URL('pairs.ts', core),
  `${header}\n/** The number of the first operation of each pair, from operation ${singles} on. */\n` +
    `const FIRST = memory.data<u16>([${pairs.map(p => p.first).join(', ')}]);\n\n` +
    '/** An operation, or the first one of a pair. */\n' +
    `export function first(operation: u32): u32 {\n  return operation < ${singles} ? operation : <u32>load<u16>(FIRST + ((operation - ${singles}) << 1));\n}\n\n` +
    '/** The pair of operation `a` and the one behind it, `b`; or `a`. */\n' +
    'export function pairOf(a: u32, b: u32): u32 {\n  switch ((a << 16) | b) {\n' +
    pairs.map(p => `    case ${(p.first << 16) | p.second}: return ${p.number};`).join('\n') +
    '\n    default: return a;\n  }\n}\n',
);
for (const half of ['hot', 'cold']) {
  const cases = ops.flatMap(([name, body], i) => {
    if (half === 'cold' && i >= singles) return [];
    if (half === 'hot' && !HOT.has(name)) return [];
    if (half === 'cold' && HOT.has(name) && !body.includes('COLD(')) return [];
    return [`      // ${name}\n      case ${i}: {\n        ${expand(body, half === 'hot')}\n      }`];
  });
  const template = readFileSync(new URL(`exec-${half}.template.ts`, core), 'utf8');
  emit(
    new URL(`exec-${half}.ts`, core),
    `${header}// long: one case for each decoded operation.\n${template.replace(/^.*@cases.*$/m, () => cases.join('\n'))}`,
  );
}
