import { describe, expect, it } from 'vitest';
import { check, importsOf } from '../../scripts/check-layers.ts';

describe('importsOf', () => {
  it('finds every form of an import, with its line', () => {
    const source = `import { a } from './a.ts';
import type { B } from "./b.ts";
import {
  c,
} from './c.ts';
import './d.ts';
export * from './e.ts';
export type { F } from './f.ts';
const g = await import('./g.ts');
type H = import('./h.ts').H;
import i = require('./i.ts');
`;
    expect(importsOf(source).map(i => `${i.line} ${i.from}`)).toEqual([
      '1 ./a.ts',
      '2 ./b.ts',
      '5 ./c.ts',
      '6 ./d.ts',
      '7 ./e.ts',
      '8 ./f.ts',
      '9 ./g.ts',
      '10 ./h.ts',
      '11 ./i.ts',
    ]);
  });

  it('sees none in comments, strings, templates and regular expressions', () => {
    const source = [
      "// import './a.ts';",
      "/* export * from './b.ts'; */",
      'const c = \'import "./c.ts"\';',
      "const d = `import './d.ts' \\` import './d.ts'`;",
      'const e = /[`/]`/; const f = "`";',
      "import './real.ts';",
      "Array.from('./g.ts');",
    ].join('\n');
    expect(importsOf(source)).toEqual([{ line: 6, from: './real.ts' }]);
  });
});

describe('check', () => {
  it.each([
    ['bus/a.ts', "import '../util/hex.ts';"],
    ['bus/a.ts', "import './b.ts';"],
    ['devices/pl011/device.ts', "import type { T } from '../../irq/types.ts';"],
    ['devices/psci/entropy.ts', "import { x } from 'node:crypto';"],
    ['engines/engine.ts', "import '../bus/types.ts';"],
    ['engines/emu/engine.ts', "import '../engine.ts';\nimport './a64/core/layout.ts';\nimport 'node:fs';"],
    ['engines/emu/a64/core/exec.ts', "import { PC } from './layout';"],
    ['machine/machine.ts', "import '../engines/emu/x.ts';\nimport '../devices/pl011/device.ts';"],
    ['index.ts', "export * from './vmm/vm.ts';"],
    ['util/hex.test.ts', "import { readFileSync } from 'node:fs';"],
    ['engines/emu/gic/a.test.ts', "import '../../../../test/support/rig.ts';"],
    ['vmm/long.ts', `// long: a table\n${'\n'.repeat(800)}`],
    ['vmm/long.ts', '\n'.repeat(700)],
    ['bus/a.ts', '// BigInt.asUintN(32, a >> 32n)\nNumber(BigInt.asUintN(32, a)) + Number(b >> 32n);'],
    ['bus/a.ts', 'BigInt.asUintN(64, a << 32n);'],
    ['bus/a.test.ts', 'BigInt.asUintN(64, a >> 32n);'],
  ])('%s may: %s', (path, source) => {
    expect(check(path, source)).toEqual([]);
  });

  it.each([
    ['util/a.ts', "\nimport type { B } from '../bus/types.ts';", 'src/util/a.ts:2: util may not import bus'],
    ['memory/a.test.ts', "import '../bus/types.ts';", 'memory may not import bus'],
    ['bus/a.ts', "import '../engines/engine.ts';", 'bus may not import engines/engine.ts'],
    ['devices/a.ts', "import '../machine/machine.ts';", 'devices may not import machine'],
    ['engines/engine.ts', "import './emu/engine.ts';", 'engines/engine.ts may not import engines/emu'],
    ['engines/emu/a.ts', "import '../host/addon.ts';", 'engines/emu may not import engines/host'],
    ['engines/emu/a64/core/a.ts', "import '../host.ts';", 'core may not import engines/emu'],
    ['engines/emu/a64/core/a.ts', "import 'x';", 'nothing but itself'],
    ['cli/run.ts', "import '../machine/machine.ts';", 'cli may not import machine'],
    ['index.ts', "import './util/hex.ts';", 'index.ts may not import util'],
    ['vmm/a.ts', "import '../../scripts/x.ts';", 'outside of src/'],
    ['bus/a.ts', '\nBigInt.asUintN(64, (c ? a : b) >> 3n);', 'src/bus/a.ts:2: a guest can make Node 20 abort'],
    ['bus/a.ts', 'const x = Number(BigInt.asIntN(32, value >> 32n));', 'a shift that is cut'],
    ['vmm/a.ts', "import '../../test/support/rig.ts';", 'outside of src/'],
    ['vmm/a.ts', "import '../package.ts';", 'vmm may not import package.ts'],
    ['devices/pl031/a.ts', "import 'node:crypto';", 'may not import Node builtins'],
    ['devices/psci/a.ts', "import 'fs';", 'may not import Node builtins'],
    ['firmware/a.ts', "import 'node:zlib';", 'may not import Node builtins'],
    ['elsewhere/a.ts', '', 'belongs to no layer'],
    ['vmm/long.ts', '\n'.repeat(701), 'src/vmm/long.ts:701: 701 lines'],
  ])('%s may not: %s', (path, source, why) => {
    const broken = check(path, source);
    expect(broken.length).toBe(1);
    expect(broken[0]).toContain(why);
  });
});
