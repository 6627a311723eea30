/** Shifts that round, that insert, and those by the amounts in a register. */
import { VREGS } from './layout';
import {
  activeLanes, isU, offD, offM, offN, putLanes, putNarrow, shiftLeftBy, shiftRightBy, vAdd, vd, vn, vShiftRight, vShl,
  vTruncate,
} from './simd-lanes';
import { Shift } from './simd-ops';

/** Performs row and size `op` of Shift. */
export function execShift(op: u32, insn: u32): void {
  const size = op & 3;
  const unsigned = isU(insn);
  const a = vn(insn);
  switch (op >> 2) {
    case Shift.SHL_REG: shiftByRegister(insn, size, unsigned, false, false); return;
    case Shift.RSHL_REG: shiftByRegister(insn, size, unsigned, true, false); return;
    case Shift.RSHR: return putLanes(insn, vShiftRight(size, a, shiftRightBy(insn, size), unsigned, true));
    case Shift.RSRA:
      return putLanes(insn, vAdd(size, vd(insn), vShiftRight(size, a, shiftRightBy(insn, size), unsigned, true)));
    case Shift.SRI: {
      const s = shiftRightBy(insn, size);
      const mask = vShiftRight(size, i64x2.splat(-1), s, true, false);
      return putLanes(insn, v128.bitselect(vShiftRight(size, a, s, true, false), vd(insn), mask));
    }
    case Shift.SLI: {
      const s = shiftLeftBy(insn, size);
      return putLanes(insn, v128.bitselect(vShl(size, a, s), vd(insn), vShl(size, i64x2.splat(-1), s)));
    }
    default: {
      // RSHRN. Rounding bits above the narrow lane do not matter.
      const r = vShiftRight(size + 1, a, shiftRightBy(insn, size), true, true);
      return putNarrow(insn, vTruncate(size, r));
    }
  }
}

/** Set by shiftLane() when a value did not fit. */
let saturated: bool = false;

/**
 * SSHL, USHL and their rounding and saturating forms: a signed amount from the low byte of each lane of Vm, negative
 * to the right. Returns whether a lane was saturated.
 */
export function shiftByRegister(insn: u32, size: u32, unsigned: bool, round: bool, saturate: bool): bool {
  const active = activeLanes(insn, size);
  const step: u32 = 1 << size;
  // Bytes of the register that take part: 16, 8, or one element.
  const end: u32 = i64x2.extract_lane(active, 1) != 0 ? 16 : (64 - <u32>clz<u64>(i64x2.extract_lane(active, 0))) >> 3;
  const n = offN(insn);
  const m = offM(insn);
  const d = offD(insn);
  saturated = false;
  for (let i: u32 = 0; i < end; i += step) {
    const amount = <i32>load<i8>(m + i, VREGS);
    switch (size) {
      case 0: {
        const x: i64 = unsigned ? <i64>load<u8>(n + i, VREGS) : <i64>load<i8>(n + i, VREGS);
        store<u8>(d + i, <u8>shiftLane(x, amount, 8, unsigned, round, saturate), VREGS);
        break;
      }
      case 1: {
        const x: i64 = unsigned ? <i64>load<u16>(n + i, VREGS) : <i64>load<i16>(n + i, VREGS);
        store<u16>(d + i, <u16>shiftLane(x, amount, 16, unsigned, round, saturate), VREGS);
        break;
      }
      case 2: {
        const x: i64 = unsigned ? <i64>load<u32>(n + i, VREGS) : <i64>load<i32>(n + i, VREGS);
        store<u32>(d + i, <u32>shiftLane(x, amount, 32, unsigned, round, saturate), VREGS);
        break;
      }
      default:
        store<u64>(d + i, shiftLane(load<i64>(n + i, VREGS), amount, 64, unsigned, round, saturate), VREGS);
    }
  }
  v128.store(d, v128.and(v128.load(d, VREGS), active), VREGS);
  return saturated;
}

/** `x` is one lane of `bits` bits, extended to 64 by its sign or zeros. */
function shiftLane(x: i64, amount: i32, bits: i32, unsigned: bool, round: bool, saturate: bool): i64 {
  if (amount >= 0) {
    const spare = 64 - bits;
    let r: i64 = 0;
    let back: i64 = 0;
    if (amount < bits) {
      // Cut to the lane, then shifted back: differs from `x` if bits were lost.
      r = (x << amount) << spare;
      r = unsigned ? <i64>(<u64>r >> spare) : r >> spare;
      back = unsigned ? <i64>(<u64>r >> amount) : r >> amount;
    }
    if (!saturate || back == x) return r;
    saturated = true;
    if (unsigned) return -1;
    const max: i64 = <i64>(<u64>-1 >> (spare + 1));
    return x < 0 ? ~max : max;
  }
  const s = -amount - 1;
  let t: i64;
  if (unsigned) t = s > 63 ? 0 : <i64>(<u64>x >> s);
  else t = x >> (s > 63 ? 63 : s);
  const r = unsigned ? <i64>(<u64>t >> 1) : t >> 1;
  return round ? r + (t & 1) : r;
}
