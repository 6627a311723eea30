import { VmError } from '../../../util/errors.ts';
import { ARM64_REGISTERS, type Arm64SystemRegister } from '../../arm64-registers.ts';
import * as L from './core/layout.ts';
import type { Core } from './core-instance.ts';

/** PSTATE as SPSR_EL1 has it (DDI 0487, C5.2.18). */
const MODE = 0x1f;
const EL0T = 0;
const EL1T = 4;
const EL1H = 5;
const DAIF = 0x3c0;
const IL = 20;
const SS = 21;
const PAN = 22;
const NZCV = 28;
/** CNTV_CTL_EL0.ENABLE and ISTATUS. */
const CTL_ENABLE = 1n;
const CTL_ISTATUS = 4n;

/** How the core has a system register. */
interface Place {
  readonly at: number;
  /** Bits that stay as they are written, as core/sysreg.ts has it for the guest; left out: all. */
  readonly mask?: bigint;
  /** Bits that read as 1 whatever is written. */
  readonly res1?: bigint;
}

const SYSTEM: Readonly<Record<Arm64SystemRegister, Place>> = {
  sctlr_el1: { at: L.SCTLR_EL1, mask: 0x48d_d21fn, res1: 0x3050_0980n },
  cpacr_el1: { at: L.CPACR_EL1, mask: 3n << 20n },
  ttbr0_el1: { at: L.TTBR0_EL1 },
  ttbr1_el1: { at: L.TTBR1_EL1 },
  tcr_el1: { at: L.TCR_EL1, mask: 0x77_ffff_ffbfn },
  esr_el1: { at: L.ESR_EL1, mask: 0xffff_ffffn },
  far_el1: { at: L.FAR_EL1 },
  par_el1: { at: L.PAR_EL1 },
  mair_el1: { at: L.MAIR_EL1 },
  vbar_el1: { at: L.VBAR_EL1, mask: 0xffff_ffff_ffff_f800n },
  contextidr_el1: { at: L.CONTEXTIDR_EL1, mask: 0xffff_ffffn },
  tpidr_el1: { at: L.TPIDR_EL1 },
  tpidr_el0: { at: L.TPIDR_EL0 },
  tpidrro_el0: { at: L.TPIDRRO_EL0 },
  csselr_el1: { at: L.CSSELR_EL1, mask: 0xfn },
  cntkctl_el1: { at: L.CNTKCTL_EL1, mask: 0x3ffn },
  cntv_ctl_el0: { at: L.CNTV_CTL_EL0, mask: 3n },
  cntv_cval_el0: { at: L.CNTV_CVAL_EL0 },
};

/** Registers of the core's current vCPU, see Vcpu.registers(). */
export function readRegisters({ view, exports }: Core): Record<string, bigint> {
  const u64 = (at: number) => view.getBigUint64(at, true);
  const u32 = (at: number) => view.getUint32(at, true);
  const out: Record<string, bigint> = {};
  for (let n = 0; n < 31; n++) out[`x${n}`] = u64(L.XREGS + 8 * n);
  const el1h = u32(L.SPSEL) !== 0;
  const sp = u64(L.XREGS + 8 * L.SP_SLOT);
  out.sp_el0 = el1h ? u64(L.SP_EL0) : sp;
  out.sp_el1 = el1h ? sp : u64(L.SP_EL1);
  out.pc = u64(L.PC);
  out.pstate = BigInt(
    ((exports.getNZCV() << NZCV) |
      (u32(L.PAN) << PAN) |
      (u32(L.PSTATE_SS) << SS) |
      (u32(L.PSTATE_IL) << IL) |
      u32(L.DAIF) |
      (u32(L.EL) << 2) |
      u32(L.SPSEL)) >>>
      0,
  );
  out.elr_el1 = u64(L.ELR_EL1);
  out.spsr_el1 = u64(L.SPSR_EL1);
  for (const [name, { at }] of Object.entries(SYSTEM)) out[name] = u64(at);
  const now = BigInt.asUintN(64, exports.readCounter()) - u64(L.CNTVOFF);
  const fired = (out.cntv_ctl_el0! & CTL_ENABLE) !== 0n && now >= out.cntv_cval_el0!;
  if (fired) out.cntv_ctl_el0! |= CTL_ISTATUS;
  return out;
}

/**
 * Sets registers of the core's current vCPU. What the core derives from them is the caller's to make anew.
 * @throws VmError as Vcpu.setRegisters(); nothing is set then.
 */
export function writeRegisters({ view, exports }: Core, values: Readonly<Record<string, bigint>>): void {
  checkRegisters(values);
  const u64 = (at: number, v: bigint) => view.setBigUint64(at, v, true);
  const u32 = (at: number, v: number) => view.setUint32(at, v, true);
  // Both stack pointers in their banks, while it is not clear yet which one is in use.
  const spSlot = L.XREGS + 8 * L.SP_SLOT;
  const bank = () => (view.getUint32(L.SPSEL, true) !== 0 ? L.SP_EL1 : L.SP_EL0);
  u64(bank(), view.getBigUint64(spSlot, true));
  for (const [name, value] of Object.entries(values)) {
    if (name === 'pstate') {
      const p = Number(value);
      exports.setNZCV(p >>> NZCV);
      u32(L.PAN, (p >>> PAN) & 1);
      u32(L.PSTATE_SS, (p >>> SS) & 1);
      u32(L.PSTATE_IL, (p >>> IL) & 1);
      u32(L.DAIF, p & DAIF);
      u32(L.EL, (p >>> 2) & 3);
      u32(L.SPSEL, p & 1);
    } else if (name === 'sp_el0') u64(L.SP_EL0, value);
    else if (name === 'sp_el1') u64(L.SP_EL1, value);
    else if (name === 'pc') u64(L.PC, value);
    else if (name === 'elr_el1') u64(L.ELR_EL1, value);
    else if (name === 'spsr_el1') u64(L.SPSR_EL1, value & 0xffff_ffffn);
    else if (name.startsWith('x')) u64(L.XREGS + 8 * Number(name.slice(1)), value);
    else {
      const { at, mask, res1 = 0n } = SYSTEM[name as Arm64SystemRegister];
      u64(at, (mask === undefined ? value : value & mask) | res1);
    }
  }
  u64(spSlot, view.getBigUint64(bank(), true));
}

function checkRegisters(values: Readonly<Record<string, bigint>>): void {
  for (const [name, value] of Object.entries(values)) {
    const details = { register: name };
    if (!ARM64_REGISTERS.includes(name)) {
      throw new VmError('ERR_USAGE', `an arm64 vCPU has no register '${name}'`, {
        hint: 'registers() has all names',
        details,
      });
    }
    if (name !== 'pstate') continue;
    const mode = Number(value & BigInt(MODE));
    if (value > 0xffff_ffffn || (mode !== EL0T && mode !== EL1T && mode !== EL1H)) {
      throw new VmError('ERR_USAGE', `pstate cannot be 0x${value.toString(16)}: its mode is none that a guest has`, {
        hint: 'M[4:0] is 0 (EL0t), 4 (EL1t) or 5 (EL1h)',
        details,
      });
    }
  }
}
