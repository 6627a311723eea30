/**
 * Stage 1 of the EL1&0 translation regime as AArch64.S1Translate() and AArch64.S1Walk() of DDI 0487 say it, for a PE with
 * 48-bit addresses and without hardware management of flags, written without a look at the core's own walker.
 */

export interface Regime {
  readonly sctlr: bigint;
  readonly tcr: bigint;
  readonly ttbr0: bigint;
  readonly ttbr1: bigint;
  readonly mair: bigint;
}

/** `cache`: DC by address; it and `at` are exempt from PAN. `unprivileged`: LDTR, STTR. */
export interface Access {
  readonly kind: 'read' | 'write' | 'fetch' | 'cache' | 'at-read' | 'at-write';
  readonly el: 0 | 1;
  readonly unprivileged?: boolean;
  readonly pan: boolean;
}

export interface Fault {
  /** DFSC or IFSC. */
  readonly fault: number;
}

export interface Output {
  readonly pa: bigint;
  /** MAIR attribute; 0 with the MMU off. */
  readonly attr: number;
  readonly sh: number;
  readonly global: boolean;
  readonly level: number;
}

const ADDRESS_SIZE = 0x00;
const TRANSLATION = 0x04;
const ACCESS_FLAG = 0x08;
const PERMISSION = 0x0c;
const EXTERNAL_ON_WALK = 0x14;

const slice = (v: bigint, high: number, low: number) => (v >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
const bit = (v: bigint, n: number) => slice(v, n, n) === 1n;

export const isDevice = (attr: number) => (attr & 0xf0) === 0;

/** Start level and the number of address bits that it resolves. */
export function shape(granule: number, inputSize: number) {
  const stride = granule - 3;
  const start = 3 - Math.floor((inputSize - 1 - granule) / stride);
  return { stride, start, firstBits: inputSize - granule - (3 - start) * stride };
}

/** log2 of the granule of a half. */
export function granuleOf(tcr: bigint, high: boolean): number {
  const tg = Number(high ? slice(tcr, 31, 30) : slice(tcr, 15, 14));
  return (high ? [12, 14, 12, 16] : [12, 16, 14, 12])[tg]!;
}

/** @param table - reads a descriptor; undefined: nothing answers there */
export function translate(
  r: Regime,
  va: bigint,
  access: Access,
  table: (pa: bigint) => bigint | undefined,
): Output | Fault {
  const high = bit(va, 55);
  const tbi = bit(r.tcr, high ? 38 : 37);
  const top = tbi ? 55 : 63;
  if (!bit(r.sctlr, 0)) {
    if (slice(va, top, 48) !== 0n) return { fault: ADDRESS_SIZE };
    return { pa: slice(va, 47, 0), attr: 0, sh: 2, global: true, level: 0 };
  }
  const inputSize = 64 - Number(high ? slice(r.tcr, 21, 16) : slice(r.tcr, 5, 0));
  const above = slice(va, top, inputSize);
  if (above !== (high ? (1n << BigInt(top - inputSize + 1)) - 1n : 0n)) return { fault: TRANSLATION };
  if (bit(r.tcr, high ? 23 : 7)) return { fault: TRANSLATION };
  const outputSize = [32, 36, 40, 42, 44, 48][Number(slice(r.tcr, 34, 32))]!;
  const outOfRange = (pa: bigint) => pa >> BigInt(outputSize) !== 0n;
  const granule = granuleOf(r.tcr, high);
  const { stride, start, firstBits } = shape(granule, inputSize);
  const ttbr = slice(high ? r.ttbr1 : r.ttbr0, 47, 1) << 1n;
  let base = (ttbr >> BigInt(firstBits + 3)) << BigInt(firstBits + 3);
  if (outOfRange(base)) return { fault: ADDRESS_SIZE };
  let high1 = inputSize - 1;
  let uxn = false;
  let pxn = false;
  let noEl0 = false;
  let readOnly = false;
  for (let level = start; ; level++) {
    const low = granule + (3 - level) * stride;
    const d = table(base + 8n * slice(va, high1, low));
    if (d === undefined) return { fault: EXTERNAL_ON_WALK + level };
    const type = Number(d & 3n);
    if (type === 3 && level < 3) {
      base = slice(d, 47, granule) << BigInt(granule);
      if (outOfRange(base)) return { fault: ADDRESS_SIZE + level };
      pxn ||= bit(d, 59);
      uxn ||= bit(d, 60);
      noEl0 ||= bit(d, 61);
      readOnly ||= bit(d, 62);
      high1 = low - 1;
      continue;
    }
    const block = type === 1 && (level === 2 || (level === 1 && granule === 12));
    if (!block && !(type === 3 && level === 3)) return { fault: TRANSLATION + level };
    const page = slice(d, 47, low) << BigInt(low);
    if (outOfRange(page)) return { fault: ADDRESS_SIZE + level };
    if (!bit(d, 10)) return { fault: ACCESS_FLAG + level };
    const el0 = bit(d, 6) && !noEl0;
    const writable = !bit(d, 7) && !readOnly;
    const wxn = bit(r.sctlr, 19);
    const userX = !(uxn || bit(d, 54)) && !(wxn && el0 && writable);
    const privX = !(pxn || bit(d, 53)) && !(el0 && writable) && !(wxn && writable);
    const asUser = access.el === 0 || access.unprivileged === true;
    let allowed: boolean;
    if (access.kind === 'fetch') allowed = asUser ? userX : privX;
    else {
      allowed = asUser ? el0 : true;
      if (access.kind === 'write' || access.kind === 'at-write') allowed &&= writable;
      const panApplies = !asUser && (access.kind === 'read' || access.kind === 'write');
      if (panApplies && access.pan && el0) allowed = false;
    }
    if (!allowed) return { fault: PERMISSION + level };
    const attr = Number(slice(r.mair, 8 * Number(slice(d, 4, 2)) + 7, 8 * Number(slice(d, 4, 2))));
    const sh = isDevice(attr) || attr === 0x44 ? 2 : Number(slice(d, 9, 8));
    return { pa: page | slice(va, low - 1, 0), attr, sh, global: !bit(d, 11), level };
  }
}
