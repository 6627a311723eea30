import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Vm, type VmError, type VmExit, type VmOptions } from 'tsvisor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { probeHost } from '../../src/machine/host.ts';
import { ROOT } from '../support/lab.ts';
import { missingGcc, NativeKit } from '../support/native.ts';
import { assembleX86, x86Binutils } from '../support/x86-assembler.ts';

// The x86-pc machine as a Vm, with programs of a few instructions in 32-bit protected mode, on this machine's /dev/kvm. Debian's
// kernel on it is test/lab/boot.lab.ts.

const BASE = 0x10_0000;
/** Milliseconds after which a VM that has not ended by itself is killed. */
const LIMIT = 20_000;

/** Prints a text on COM1. */
const print = (text: string) =>
  `mov dx, 0x3f8; ${[...text].map(c => `mov al, ${c.charCodeAt(0)}; out dx, al; `).join('')}`;
/** SLP_TYP 5 and SLP_EN in PM1_CNT: \_S5. */
const POWER_OFF = 'mov dx, 0x604; mov ax, 0x3400; out dx, ax; hlt';
const HARD_RESET = 'mov dx, 0xcf9; mov al, 6; out dx, al; hlt';
const TRIPLE_FAULT = 'push 0; push 0; lidt [esp]; ud2';
/** Reads LSR for ever: exits without end. */
const BUSY = '3: mov dx, 0x3fd; in al, dx; jmp 3b';
const SPIN = '3: jmp 3b';

/** An ELF file of one segment for 32-bit x86. */
function elf32(code: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(84 + code.length);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  const d = new DataView(bytes.buffer);
  const words = [
    [16, 2 | (3 << 16)], // ET_EXEC, EM_386
    [20, 1],
    [24, BASE],
    [28, 52], // e_phoff
    [52, 1], // PT_LOAD
    [56, 84],
    [60, BASE],
    [64, BASE],
    [68, code.length],
    [72, code.length],
    [76, 7],
    [80, 4],
  ] as const;
  for (const [at, value] of words) d.setUint32(at, value, true);
  d.setUint16(40, 52, true);
  d.setUint16(42, 32, true);
  d.setUint16(44, 1, true);
  bytes.set(code, 84);
  return bytes;
}

const probe = process.arch === 'x64' ? probeHost() : undefined;
const reason = whyNot();
if (reason !== undefined) console.log(`skipped: x86-pc on this machine's KVM: ${reason}`);

function whyNot(): string | undefined {
  if (probe === undefined) return `an x86-64 host is needed, this is ${process.arch}`;
  if (!probe.addon.loaded) return probe.addon.reason;
  if (!probe.kvm.opens || probe.kvm.reason !== undefined) return probe.kvm.reason ?? '/dev/kvm does not open';
  return x86Binutils() === undefined ? 'GNU as for x86-64 is missing (Debian: binutils)' : undefined;
}

const program = (source: string) => elf32(assembleX86([{ bits: 32, source }])[0]!);

interface Ran {
  readonly text: string;
  readonly exit: VmExit;
}

async function run(
  source: string,
  options: Partial<VmOptions> = {},
  during?: (vm: Vm) => Promise<unknown>,
): Promise<Ran> {
  await using vm = await Vm.create({ kernel: program(source), memory: '16M', ...options });
  let text = '';
  vm.console.on('data', (piece: Buffer) => {
    text += piece;
  });
  await vm.start({ signal: AbortSignal.timeout(LIMIT) });
  await during?.(vm);
  const exit = await vm.exited;
  return { text, exit };
}

describe.skipIf(reason !== undefined)('x86-pc on KVM', () => {
  it('is chosen by the kernel, KVM by the machine; prints and powers off through ACPI', async () => {
    await using vm = await Vm.create({ kernel: program(POWER_OFF), memory: '16M' });
    expect(vm.engine).toEqual({ kind: 'kvm', reason: "this host's own processor" });
    expect((await vm.info()).machine).toBe('x86-pc');
    const { text, exit } = await run(print('hello') + POWER_OFF);
    expect(text).toBe('hello');
    expect(exit).toMatchObject({ reason: 'shutdown', error: undefined });
  });

  it.each([
    ['the reset control register', HARD_RESET],
    ['a triple fault', TRIPLE_FAULT],
    ['the i8042', 'mov al, 0xfe; out 0x64, al; hlt'],
  ])('%s resets it', async (_name, source) => {
    expect((await run(source)).exit).toMatchObject({ reason: 'reset', error: undefined });
  });

  it('vm.reset() begins anew, with two vCPUs as well', async () => {
    for (const cpus of [1, 2]) {
      const { text, exit } = await run(print('*') + BUSY, { cpus }, async vm => {
        await vm.console.waitFor('*', { timeout: '20s' });
        await vm.reset();
        await vm.console.waitFor('*', { timeout: '20s' });
        await vm.stop();
      });
      expect(text).toBe('**');
      expect(exit).toMatchObject({ reason: 'killed', error: undefined });
    }
  });

  it.each([
    ['makes exits', BUSY],
    ['makes none', SPIN],
    ['waits', '3: hlt; jmp 3b'],
  ])('a guest that %s is stopped, paused and resumed', async (_name, source) => {
    const { exit } = await run(print('*') + source, {}, async vm => {
      await vm.console.waitFor('*', { timeout: '20s' });
      await vm.pause();
      const [{ rip }, again] = [await vm.vcpus[0]!.registers(), await vm.vcpus[0]!.registers()];
      expect(again.rip).toBe(rip);
      await vm.resume();
      await vm.stop();
    });
    expect(exit).toMatchObject({ reason: 'killed', error: undefined });
  });

  it('has its PCI bus by mechanism #1, where a guest places a BAR', async () => {
    // The device's BAR 0 by CONFIG_ADDRESS and CONFIG_DATA; then a read of edu's identification at the new address.
    const config = (register: number) =>
      `mov dx, 0xcf8; mov eax, ${0x8000_0800 + register}; out dx, eax; mov dx, 0xcfc;`;
    const write = (register: number, value: number) => `${config(register)} mov eax, ${value}; out dx, eax;`;
    const { exit } = await run(
      `${write(0x10, 0xc000_0000)} ${write(4, 2)} mov ecx, [0xc0000000]; 3: jmp 3b`,
      { pci: 'edu' },
      async vm => {
        const until = Date.now() + LIMIT;
        let rcx = 0n;
        while (rcx === 0n && Date.now() < until) rcx = (await vm.vcpus[0]!.registers()).rcx ?? 0n;
        expect(rcx).toBe(0x0100_00edn);
        await vm.stop();
      },
    );
    expect(exit.error).toBeUndefined();
  });

  it('has the page of the VM clock, which a guest cannot write: a pause changes its marker', async () => {
    // Reads magic, then version, counter_id and time_type, then half of disruption_marker, and writes where that is.
    const page = 'mov ebx, [0xfeff0000]; mov ecx, [0xfeff0008]; mov esi, [0xfeff0010]';
    const { exit } = await run(`3: ${page}; mov dword ptr [0xfeff0010], 0; jmp 3b`, {}, async vm => {
      const low = async () => (await vm.vcpus[0]!.registers()).rsi ?? 0n;
      const changed = async (from: bigint) => {
        const until = Date.now() + LIMIT;
        while ((await low()) === from && Date.now() < until);
        return await low();
      };
      const before = await changed(0n);
      await vm.pause();
      await vm.resume();
      expect(await changed(before)).toBe(BigInt.asUintN(32, before + 1n));
      // 'VCLK'; version 1 and no counter: the guest's TSC is KVM's.
      expect(await vm.vcpus[0]!.registers()).toMatchObject({ rbx: 0x4b4c_4356n, rcx: 0x00ff_0001n });
      await vm.stop();
    });
    expect(exit.error).toBeUndefined();
  });

  it('memory that has no place is refused, and leaves no file open', async () => {
    const before = readdirSync('/proc/self/fd').length;
    const refused = (options: Partial<VmOptions>) =>
      Vm.create({ kernel: program(POWER_OFF), ...options }).then(
        () => undefined,
        (e: VmError) => e.code,
      );
    expect(await refused({ memory: '16M', hotplug: '3G' })).toBe('ERR_MEMORY_TOO_LARGE');
    expect(await refused({ memory: '256G' })).toBe('ERR_MEMORY_TOO_LARGE');
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('leaves no file and no thread behind', async () => {
    const count = (what: string) => readdirSync(`/proc/self/${what}`).length;
    await run(POWER_OFF);
    const before = [count('fd'), count('task')];
    for (let n = 0; n < 20; n++) await run(POWER_OFF, { cpus: 1 + (n & 1) });
    expect([count('fd'), count('task')]).toEqual(before);
  });
});

describe.skipIf(reason !== undefined || missingGcc() !== undefined)('faults of the host', () => {
  let kit: NativeKit;
  beforeAll(() => {
    kit = new NativeKit();
  });
  afterAll(() => kit[Symbol.dispose]());

  /** The command in a process whose KVM has a fault. */
  function tsvisor(env: Readonly<Record<string, string>>, source: string, ...flags: string[]) {
    const kernel = join(kit.folder, 'guest.elf');
    writeFileSync(kernel, program(source));
    const main = join(ROOT, 'dist/cli/main.js');
    const { status, stderr } = spawnSync(process.execPath, [main, 'run', '-k', kernel, '-m', '16M', ...flags], {
      env: { ...process.env, LD_PRELOAD: kit.shim(), ...env },
      encoding: 'utf8',
      input: '',
      timeout: 60_000,
    });
    return { status, stderr };
  }

  it.each([
    ['another API version', { KVM_SHIM_API_VERSION: '11' }, 'API version 11, not 12', 'current Linux kernel'],
    ['no interrupt controller', { KVM_SHIM_WITHOUT: '0' }, 'lacks KVM_CAP_IRQCHIP', 'built with it'],
    ['no memory for a VM', { KVM_SHIM_CREATE_VM_ERRNO: '12' }, 'KVM makes no VM: ENOMEM', 'control group'],
    ['no file for a VM', { KVM_SHIM_CREATE_VM_ERRNO: '24' }, 'KVM makes no VM: EMFILE', 'ulimit -n'],
    ['a KVM_RUN that fails', { KVM_SHIM_RUN_ERRNO: '14', KVM_SHIM_AFTER: '3' }, 'errno 14', 'memory is gone'],
  ] as const)('%s: cause and fix, exit code 3', (_name, env, cause, fix) => {
    const { status, stderr } = tsvisor(env, BUSY);
    expect(stderr).toContain(cause);
    expect(stderr).toContain(fix);
    expect(status).toBe(3);
  });

  it('a vCPU that hangs in the kernel ends its VM, and the process ends', () => {
    const { status, stderr } = tsvisor({ KVM_SHIM_STUCK_VCPU: '0', KVM_SHIM_AFTER: '3' }, BUSY);
    expect(stderr).toContain('vCPU 0 did not come out of KVM within 5000 ms');
    expect(status).toBe(3);
  });

  it('a process that is killed leaves a host on which the next one runs', async () => {
    const kernel = join(kit.folder, 'guest.elf');
    writeFileSync(kernel, program(print('*') + BUSY));
    const args = [join(ROOT, 'dist/cli/main.js'), 'run', '-k', kernel, '-m', '16M', '--name', 'killed'];
    for (const cpus of ['1', '2']) {
      const child = spawn(process.execPath, [...args, '-c', cpus], { stdio: ['pipe', 'pipe', 'ignore'] });
      const ended = once(child, 'exit');
      await once(child.stdout, 'data', { signal: AbortSignal.timeout(LIMIT) });
      child.kill('SIGKILL');
      expect((await ended)[1]).toBe('SIGKILL');
      expect(existsSync(`/proc/${child.pid}`)).toBe(false);
    }
    const ps = spawnSync(process.execPath, [args[0]!, 'ps', '--json'], { encoding: 'utf8' });
    expect(ps.stdout).not.toContain('killed');
    expect((await run(print('*') + POWER_OFF)).text).toBe('*');
  });
});
