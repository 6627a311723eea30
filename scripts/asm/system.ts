// System instructions: hints, barriers, MSR, MRS, SYS and its aliases. Arm ARM C4.1.88.
import { type Encoders, type Instruction, word } from './context.ts';
import { PSTATE_FIELDS, SYSTEM_OPERATIONS, systemRegister } from './sysregs.ts';

const BARRIERS: Readonly<Record<string, number>> = {
  oshld: 1,
  oshst: 2,
  osh: 3,
  nshld: 5,
  nshst: 6,
  nsh: 7,
  ishld: 9,
  ishst: 10,
  ish: 11,
  ld: 13,
  st: 14,
  sy: 15,
};
const HINTS = ['nop', 'yield', 'wfe', 'wfi', 'sev', 'sevl'];

function barrier(op2: number, optional: boolean): (c: Instruction) => number {
  return c => {
    const option = c.count(optional ? 0 : 1, 1) === 0 ? 15 : (BARRIERS[c.name(0)] ?? c.number(0, 0, 15));
    return word(0xd503301f, [option, 8], [op2, 5]);
  };
}

export const system: Encoders = {
  clrex: barrier(2, true),
  dsb: barrier(4, false),
  dmb: barrier(5, false),
  isb: barrier(6, true),
  hint: c => {
    c.count(1);
    return word(0xd503201f, [c.number(0, 0, 127), 5]);
  },
  msr: c => {
    c.count(2);
    if (c.kind(1) === 'immediate') {
      const field = PSTATE_FIELDS[c.name(0)];
      if (field === undefined) throw c.error(`'${c.immediate(0).text}' takes no number`);
      return word(0xd500401f, [field[0], 16], [c.number(1, 0, 15), 8], [field[1], 5]);
    }
    return word(0xd5000000, [registerField(c, 0), 5], [c.general(1, 'x').n, 0]);
  },
  mrs: c => {
    c.count(2);
    return word(0xd5200000, [registerField(c, 1), 5], [c.general(0, 'x').n, 0]);
  },
  sys: c => {
    c.count(4, 5);
    return word(0xd5080000, [fields(c, 0), 5], [c.has(4) ? c.general(4, 'x').n : 31, 0]);
  },
  sysl: c => {
    c.count(5);
    return word(0xd5280000, [fields(c, 1), 5], [c.general(0, 'x').n, 0]);
  },
};

for (const [n, name] of HINTS.entries()) {
  system[name] = c => {
    c.count(0);
    return word(0xd503201f, [n, 5]);
  };
}

/** op1, CRn, CRm, op2 as written for SYS: `#3, c7, c5, #1`. */
function fields(c: Instruction, first: number): number {
  const control = (i: number) => {
    const n = /^c(\d{1,2})$/.exec(c.name(i));
    if (n === null || Number(n[1]) > 15) throw c.error(`operand ${i + 1} must be c0 to c15`);
    return Number(n[1]);
  };
  const [op1, op2] = [c.number(first, 0, 7), c.number(first + 3, 0, 7)];
  return (op1 << 11) | (control(first + 1) << 7) | (control(first + 2) << 3) | op2;
}

function registerField(c: Instruction, i: number): number {
  const text = c.immediate(i).text;
  const r = systemRegister(text);
  if (r === undefined) throw c.error(`'${text}' is no system register that is known here; S3_0_c1_c0_0 names any`);
  const [op0, op1, crn, crm, op2] = r as [number, number, number, number, number];
  return (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
}

for (const mnemonic of ['ic', 'dc', 'at', 'tlbi']) {
  system[mnemonic] = c => {
    c.count(1, 2);
    const operation = SYSTEM_OPERATIONS[`${mnemonic} ${c.name(0)}`];
    if (operation === undefined) throw c.error(`'${c.immediate(0).text}' is no operation of ${mnemonic}`);
    const [op1, crn, crm, op2, register] = operation;
    c.count(register ? 2 : 1);
    const rt = register ? c.general(1, 'x').n : 31;
    return word(0xd5080000, [op1, 16], [crn, 12], [crm, 8], [op2, 5], [rt, 0]);
  };
}
