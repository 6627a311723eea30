import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Vm } from 'tsvisor';
import { type LabContext, type LabImage, labCase } from './lab-case.ts';

// How long a kernel takes to its shell, beside QEMU on the same KVM: a measurement, which fails only when a guest does not boot.
// Both begin with nothing: a Vm with its thread, QEMU with its process.

const PAIRS = 3;
const PROMPT = '~ # ';

/** QEMU's program and machine for the guests of a lab. */
const QEMU = {
  x64: { program: '/usr/bin/qemu-system-x86_64', machine: ['-M', 'q35'] },
  arm64: { program: '/usr/bin/qemu-system-aarch64', machine: ['-M', 'virt,gic-version=host'] },
}[process.arch as 'x64' | 'arm64'];

async function ours({ kernel, initrd }: LabImage, params: string, cpus: number): Promise<number> {
  const started = performance.now();
  await using vm = await Vm.create({ kernel, initrd, params, cpus, memory: '256M', slots: 0, engine: 'kvm' });
  await vm.start();
  await vm.console.waitFor(PROMPT, { timeout: '180s' });
  return performance.now() - started;
}

async function qemu({ kernel, initrd }: LabImage, params: string, cpus: number): Promise<number> {
  const started = performance.now();
  const machine = [...QEMU.machine, '-accel', 'kvm', '-cpu', 'host', '-m', '256', '-smp', String(cpus), '-nodefaults'];
  const guest = ['-kernel', kernel, '-initrd', initrd, '-append', params, '-display', 'none', '-serial', 'stdio'];
  const child = spawn(QEMU.program, [...machine, ...guest], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    let text = '';
    for await (const piece of child.stdout.setEncoding('latin1')) {
      text += piece;
      if (text.includes(PROMPT)) return performance.now() - started;
    }
    throw new Error(`QEMU ended with ${child.exitCode}: ${text.slice(-500)}`);
  } finally {
    child.kill('SIGKILL');
  }
}

async function compare(ctx: LabContext, cpus: number): Promise<void> {
  // The arm64 lab has a userland of its own: see docs/testing.md for how QEMU comes into it.
  if (!existsSync(QEMU.program)) ctx.skip(`no ${QEMU.program}`);
  const image = ctx.image();
  const params = `console=${image.uart} panic=-1 quiet`;
  const times: { ours: number; qemu: number }[] = [];
  for (let n = 0; n < PAIRS; n++) {
    times.push({ ours: await ours(image, params, cpus), qemu: await qemu(image, params, cpus) });
  }
  const ratios = times.map(t => t.ours / t.qemu).sort((a, b) => a - b);
  const rounded = times.map(t => ({ ours: Math.round(t.ours), qemu: Math.round(t.qemu) }));
  ctx.note(JSON.stringify({ cpus, ms: rounded, ratio: Number(ratios[Math.floor(PAIRS / 2)]?.toFixed(2)) }));
}

for (const cpus of [1, 2]) {
  labCase(
    `time to the shell beside QEMU, ${cpus} vCPU${cpus > 1 ? 's' : ''}`,
    { on: ['x86', 'arm64'], memory: 1536, cpus, image: true, seconds: 500 },
    ctx => compare(ctx, cpus),
  );
}
