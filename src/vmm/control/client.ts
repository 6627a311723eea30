import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { VmError } from '../../util/errors.ts';
import { controlFolder, controlPath } from './folder.ts';
import type { ControlRequest, ControlResponse } from './protocol.ts';

/** Names of the VMs that answer. */
export async function runningVms(folder = controlFolder()): Promise<string[]> {
  const pattern = process.platform === 'win32' ? /^tsvisor-(.+)$/ : /^(.+)\.sock$/;
  const files = await readdir(folder).catch(() => []);
  const names = files.flatMap(f => pattern.exec(f)?.[1] ?? []);
  const alive = await Promise.all(names.map(n => answers(controlPath(n, folder))));
  return names.filter((_, i) => alive[i]).sort();
}

/** Whether somebody listens at a control socket. */
export function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/**
 * Asks the running VM `name`; without a name the only one there is.
 * @throws VmError ERR_STATE when there is no such VM, or what the VM says.
 */
export async function askVm(
  name: string | undefined,
  request: ControlRequest,
  folder = controlFolder(),
): Promise<unknown> {
  const path = controlPath(name ?? (await onlyVm(folder)), folder);
  const line = await new Promise<string>((resolve, reject) => {
    const socket = connect(path, () => socket.write(`${JSON.stringify(request)}\n`));
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (part: string) => {
      text += part;
      if (!text.includes('\n')) return;
      resolve(text.slice(0, text.indexOf('\n')));
      socket.destroy();
    });
    socket.on('error', e => reject(noVm(`there is no running VM '${name ?? ''}'`, e)));
    socket.on('close', () => reject(noVm('the VM ended before it answered')));
  });
  const response = JSON.parse(line) as ControlResponse;
  if ('value' in response) return response.value;
  const { code, message, hint } = response.error;
  throw new VmError(code, message, hint === undefined ? {} : { hint });
}

/** The name of the VM that runs, where there is one. @throws VmError ERR_STATE when there is none, or several. */
export async function onlyVm(folder = controlFolder()): Promise<string> {
  const names = await runningVms(folder);
  if (names.length === 1) return names[0]!;
  throw noVm(names.length === 0 ? 'there is no running VM' : `there are several running VMs: ${names.join(', ')}`);
}

function noVm(message: string, cause?: unknown): VmError {
  return new VmError('ERR_STATE', message, { hint: '`tsvisor ps` lists the VMs that run', cause });
}
