// Which system registers exist, and who may touch them: the core against QEMU's Cortex-A57.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import * as K from '../../src/engines/emu/a64/core/regs.ts';

const tools = ['aarch64-linux-gnu-as', 'aarch64-linux-gnu-ld', 'aarch64-linux-gnu-objcopy', 'qemu-system-aarch64'];
const missing = tools.filter(t => spawnSync(t, ['--version']).status !== 0);

const PHASES = ['EL0, all disabled', 'EL0, all enabled', 'EL1'];
/** What QEMU does not have, or has and we do not mean to. */
const EXCEPTIONS: Record<string, string> = {
  PAN: 'the Cortex-A57 has no FEAT_PAN',
  CNTFRQ_EL0: 'QEMU lets EL1 write it where it is the highest level; here EL2 is the hypervisor',
};
/** Debug registers that QEMU 7 leaves out, or that ignore MDSCR_EL1.TDCC there. */
const DEBUG = /^(OSDTR.X|OSECCR|DBGPRCR|DBGCLAIM(SET|CLR)|DBGAUTHSTATUS)_EL1$|^(DBGDTR|DBGDTRRX|MDCCSR)_EL0$/;

const registers = Object.entries(K).filter(([name]) => !(name in EXCEPTIONS) && !DEBUG.test(name));

function askQemu(): string[] {
  const dir = mkdtempSync(join(tmpdir(), 'sysreg-oracle-'));
  try {
    const probes = registers.map(([, key]) => {
      const msr = 0xd500_0000 + (key << 5);
      return `.inst ${msr + 0x20_0000}\nsvc #0\n.inst ${msr}\nsvc #0\n`;
    });
    writeFileSync(join(dir, 'probes.inc'), probes.join(''));
    const source = fileURLToPath(new URL('sysreg-probe.s', import.meta.url));
    const base = 0x4020_0000;
    const commands = [
      ['aarch64-linux-gnu-as', '-I', dir, '-o', 'a.o', source],
      ['aarch64-linux-gnu-ld', `-Ttext=0x${base.toString(16)}`, '-o', 'a.elf', 'a.o'],
      ['aarch64-linux-gnu-objcopy', '-O', 'binary', '-j', '.text', 'a.elf', 'a.bin'],
      'qemu-system-aarch64 -M virt,gic-version=3 -cpu cortex-a57 -net none -display none -monitor none'
        .split(' ')
        .concat('-serial', 'file:out.txt', '-device', `loader,file=a.bin,addr=${base}`)
        .concat('-device', `loader,addr=${base},cpu-num=0`),
    ];
    for (const [command, ...args] of commands) {
      const r = spawnSync(command as string, args, { cwd: dir, timeout: 20_000, encoding: 'utf8' });
      expect(r.status, `${command}: ${r.stderr}`).toBe(0);
    }
    return readFileSync(join(dir, 'out.txt'), 'latin1').trim().split(/\r?\n/);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function askCore(): string[] {
  const wasm = new WebAssembly.Module(readFileSync(new URL('../../dist/a64.wasm', import.meta.url)));
  const memory = new WebAssembly.Memory({ initial: 2048, maximum: 65536, shared: true });
  const state = new DataView(memory.buffer);
  // The interrupt controller is not under test: it has what the architecture has.
  const readable = (key: number) => ![K.ICC_DIR_EL1, K.ICC_EOIR0_EL1, K.ICC_EOIR1_EL1].includes(key) && !sgi(key);
  const writable = (key: number) =>
    ![K.ICC_IAR0_EL1, K.ICC_IAR1_EL1, K.ICC_HPPIR0_EL1, K.ICC_HPPIR1_EL1, K.ICC_RPR_EL1].includes(key);
  const sgi = (key: number) => key >= K.ICC_SGI1R_EL1 && key <= K.ICC_SGI0R_EL1;
  const host: Record<string, WebAssembly.ImportValue> = {
    memory,
    iccRead: (_cpu: number, key: number) => Number(readable(key)),
    iccWrite: (_cpu: number, key: number) => Number(writable(key)),
  };
  for (const i of WebAssembly.Module.imports(wasm)) host[i.name] ??= () => 0;
  const core = new WebAssembly.Instance(wasm, { env: host }).exports as {
    resetSysregs(): void;
    readSysreg(key: number, rt: number): number;
    writeSysreg(key: number, value: bigint): number;
  };
  state.setUint32(L.CPU_COUNT, 1, true);
  state.setUint32(L.GIC_SYSREGS, 1, true);
  core.resetSysregs();
  core.writeSysreg(K.CPACR_EL1, 3n << 20n);
  core.writeSysreg(K.OSLAR_EL1, 0n);
  const exceptionClass = (status: number) => ['15', '00', '18', '07'][status & 0xff];
  return PHASES.map((_, phase) => {
    state.setUint32(L.EL, 1, true);
    core.writeSysreg(K.SCTLR_EL1, phase === 0 ? 0n : 0x8200n);
    core.writeSysreg(K.CNTKCTL_EL1, phase === 0 ? 0n : 0x303n);
    core.writeSysreg(K.PMUSERENR_EL0, phase === 0 ? 0n : 15n);
    let line = '';
    for (const [, key] of registers) {
      state.setUint32(L.EL, phase === 2 ? 1 : 0, true);
      state.setBigUint64(L.XREGS, 0n, true);
      line += exceptionClass(core.readSysreg(key, 0));
      line += exceptionClass(core.writeSysreg(key, state.getBigUint64(L.XREGS, true)));
    }
    return line;
  });
}

const why = missing.length > 0 ? ` (skipped: ${missing.join(', ')} not installed)` : '';
it.skipIf(missing.length > 0)(`accesses end as they do on QEMU's Cortex-A57${why}`, () => {
  const name = (line: string) =>
    registers.map(([n], i) => `${n} MRS ${line.slice(4 * i, 4 * i + 2)} MSR ${line.slice(4 * i + 2, 4 * i + 4)}`);
  const qemu = askQemu();
  const ours = askCore();
  expect(qemu).toHaveLength(PHASES.length);
  for (const [phase, title] of PHASES.entries()) {
    expect({ [title]: name(ours[phase] as string) }).toEqual({ [title]: name(qemu[phase] as string) });
  }
});
