import { constants } from 'node:os';
import {
  type ControlServer,
  type CreateOptions,
  serveControl,
  Vm,
  VmError,
  type VmEvents,
  type VmExit,
  type VmOptions,
} from '../vmm/index.ts';
import { exitCodeOfVm } from './exit-codes.ts';
import type { Output } from './output.ts';
import { Terminal } from './terminal.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Runs a VM on this process's terminal until it ends; gives the exit code. Used by `run` and `start`. */
export async function runVm(options: VmOptions, out: Output, create: CreateOptions = {}): Promise<number> {
  const vm = await Vm.create(options, create);
  let signalled: (typeof SIGNALS)[number] | undefined;
  const handlers = SIGNALS.map(name => {
    const handler = () => {
      signalled ??= name;
      void vm.stop();
    };
    process.on(name, handler);
    return { name, handler };
  });
  if ((options.engine ?? 'auto') === 'auto') {
    vm.on('engine', e => out.event('engine', { ...e }, `engine: ${e.kind} (${e.reason})`));
  }
  vm.on('log', line => out.event('log', { line }, `tsvisor: ${line}`));
  vm.on('trace', line => out.event('trace', { line }, `trace: ${line}`));
  vm.on('device-failed', f =>
    out.event('device-failed', { ...f }, `tsvisor: ${f.name} failed: ${f.stack ?? f.message}`),
  );
  // People have read it in the log.
  vm.on('pins-leaked', l => out.event('pins-leaked', { ...l }, undefined));
  vm.on('forward', f => out.event('forward', { ...f }, forwardLine(f)));
  const terminal = (options.console ?? 'stream') === 'stream' ? new Terminal(vm, out) : undefined;
  try {
    await using control = await openControl(vm, out);
    await vm.start();
    out.event('start', { name: control?.name ?? vm.name }, undefined);
    const exit = await vm.exited;
    await terminal?.drained;
    terminal?.detach();
    return signalled === undefined ? report(exit, out) : 128 + constants.signals[signalled];
  } finally {
    terminal?.detach();
    for (const { name, handler } of handlers) process.off(name, handler);
    await vm.kill();
  }
}

/** The control socket; a VM runs without one, too, after a line that says so. */
async function openControl(vm: Vm, out: Output): Promise<ControlServer | undefined> {
  try {
    return await serveControl(vm, vm.name ?? `vm-${process.pid}`);
  } catch (e) {
    if (!(e instanceof VmError)) throw e;
    const { code, message, hint } = e;
    const lines = [`tsvisor: other commands cannot reach this VM: ${message}`, ...(hint ? [`  hint: ${hint}`] : [])];
    out.event('no-control', { code, message, hint }, lines.join('\n'));
    return undefined;
  }
}

function forwardLine({ forward: f }: VmEvents['forward'][0]): string {
  return `tsvisor: ${f.protocol} ${f.hostAddress}:${f.hostPort} leads to the guest's port ${f.guestPort}`;
}

function report(exit: VmExit, out: Output): number {
  const { reason, detail, memoryHash, info } = exit;
  const code = exitCodeOfVm(exit);
  const fields = { reason, detail, memoryHash, exitCode: code, instructions: info?.instructions, timeNs: info?.timeNs };
  const because = detail === undefined ? '' : `: ${detail}`;
  out.event('exit', fields, reason === 'crash' && !exit.error ? `tsvisor: the guest crashed${because}` : undefined);
  if (memoryHash !== undefined) out.event('memory', { sha256: memoryHash }, `memory: sha256 ${memoryHash}`);
  return exit.error === undefined ? code : out.error(exit.error);
}
