import { spawn, spawnSync } from 'node:child_process';
import type { Image } from '../../src/images/index.ts';

/** QEMU's program, machine and console for the guests of each architecture. TCG everywhere: KVM is not what is tested. */
const MACHINES = {
  aarch64: { machine: ['-M', 'virt,gic-version=3', '-cpu', 'cortex-a53'], console: 'ttyAMA0' },
  x86_64: { machine: ['-M', 'q35', '-accel', 'tcg', '-no-reboot'], console: 'ttyS0' },
};

/** The program that {@link bootInQemu} starts for an architecture. */
export function qemuProgram(architecture: Image['architecture']): string {
  return `qemu-system-${architecture}`;
}

function qemuArgs(image: Image, params: string, devices: readonly string[]): string[] {
  const { machine, console } = MACHINES[image.architecture];
  const guest = ['-kernel', image.kernel, '-initrd', image.initrd, '-append', `console=${console} panic=-1 ${params}`];
  return [...machine, '-m', '512', '-nographic', '-nic', 'none', ...devices, ...guest];
}

/** Boots until the guest powers off; its console with plain newlines. `devices` are arguments of QEMU. */
export function bootInQemu(image: Image, params: string, devices: readonly string[] = []): string {
  const program = qemuProgram(image.architecture);
  const options = { timeout: 120_000, encoding: 'utf8' } as const;
  const { status, signal, stdout, stderr } = spawnSync(program, qemuArgs(image, params, devices), options);
  if (status !== 0) throw new Error(`${program} ended with ${status ?? signal}:\n${stdout}${stderr}`);
  return stdout.replaceAll('\r', '');
}

/**
 * Boots and types: each step is what must have been printed before its line is typed. Gives the console and QEMU's exit
 * code, null when it had to be killed.
 */
export async function typeInQemu(
  image: Image,
  params: string,
  steps: readonly (readonly [RegExp, string])[],
): Promise<{ out: string; code: number | null }> {
  const child = spawn(qemuProgram(image.architecture), qemuArgs(image, params, []));
  const script = [...steps];
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
    const [step] = script;
    if (!step?.[0].test(out)) return;
    script.shift();
    setTimeout(() => child.stdin.write(step[1]), 300);
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), 120_000);
  const code = await new Promise<number | null>(resolve => child.on('exit', resolve));
  clearTimeout(timer);
  return { out, code };
}

/**
 * A root shell with job control that powers the machine off: the steps for {@link typeInQemu}. The echo `^C` is not waited
 * for: the terminal drops what it has not printed yet when a signal comes (termios(3), NOFLSH).
 */
export const SHELL_STEPS: readonly (readonly [RegExp, string])[] = [
  [/~ # /, 'id -u; sleep 1000\n'],
  [/\n0\r?\n/, '\x03'],
  [/\n0\r?\n[\s\S]*~ # /, 'echo back; poweroff\n'],
];
