// Branches and exception generation: Arm ARM C4.1.88.
import { type Encoders, sf, word } from './context.ts';

export const branch: Encoders = {
  b: c => {
    c.count(1);
    return word(0x14000000, [c.target(c.value(0), 26, 2), 0]);
  },
  bl: c => {
    c.count(1);
    return word(0x94000000, [c.target(c.value(0), 26, 2), 0]);
  },
  br: c => {
    c.count(1);
    return word(0xd61f0000, [c.general(0, 'x').n, 5]);
  },
  blr: c => {
    c.count(1);
    return word(0xd63f0000, [c.general(0, 'x').n, 5]);
  },
  ret: c => word(0xd65f0000, [c.count(0, 1) === 0 ? 30 : c.general(0, 'x').n, 5]),
  eret: c => word(0xd69f03e0, [c.count(0), 0]),
  udf: c => {
    c.count(1);
    return c.number(0, 0, 0xffff);
  },
};

for (const name of [
  'eq',
  'ne',
  'cs',
  'hs',
  'cc',
  'lo',
  'mi',
  'pl',
  'vs',
  'vc',
  'hi',
  'ls',
  'ge',
  'lt',
  'gt',
  'le',
  'al',
]) {
  // GNU as takes both spellings.
  for (const mnemonic of [`b.${name}`, `b${name}`]) {
    branch[mnemonic] = c => {
      c.count(1);
      return word(0x54000000, [c.target(c.value(0), 19, 2), 5], [c.conditionOf(name), 0]);
    };
  }
}

for (const [mnemonic, base] of [
  ['cbz', 0x34000000],
  ['cbnz', 0x35000000],
] as const) {
  branch[mnemonic] = c => {
    c.count(2);
    const rt = c.general(0);
    return word(base, [sf(rt), 31], [c.target(c.value(1), 19, 2), 5], [rt.n, 0]);
  };
}
for (const [mnemonic, base] of [
  ['tbz', 0x36000000],
  ['tbnz', 0x37000000],
] as const) {
  branch[mnemonic] = c => {
    c.count(3);
    const rt = c.general(0);
    const bit = c.number(1, 0, sf(rt) === 1 ? 63 : 31);
    return word(base, [bit >> 5, 31], [bit & 31, 19], [c.target(c.value(2), 14, 2), 5], [rt.n, 0]);
  };
}
for (const [mnemonic, base] of [
  ['svc', 0xd4000001],
  ['hvc', 0xd4000002],
  ['smc', 0xd4000003],
  ['brk', 0xd4200000],
  ['hlt', 0xd4400000],
] as const) {
  branch[mnemonic] = c => {
    c.count(1);
    return word(base, [c.number(0, 0, 0xffff), 5]);
  };
}
