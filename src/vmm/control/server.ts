import { chmod, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { VmError } from '../../util/errors.ts';
import type { DeviceOptions } from '../device-options.ts';
import type { Vm } from '../vm.ts';
import { answers } from './client.ts';
import { controlFolder, controlPath, makeControlFolder } from './folder.ts';
import { type ControlRequest, type ControlResponse, MAX_REQUEST, parseRequest, toControlError } from './protocol.ts';

/** An open control socket. */
export interface ControlServer extends AsyncDisposable {
  /** The name that clients use; the wanted one, or that with the process id behind it when another VM has it. */
  readonly name: string;
}

/**
 * Lets other processes of the same user ask a VM, until the result is disposed. The socket has mode 0600 in a folder of mode 0700.
 * @throws VmError ERR_HOST_CALL when the socket cannot be made.
 */
export async function serveControl(vm: Vm, wanted: string, folder = controlFolder()): Promise<ControlServer> {
  const name = (await answers(controlPath(wanted, folder))) ? `${wanted}-${process.pid}` : wanted;
  const path = controlPath(name, folder);
  const windows = process.platform === 'win32';
  if (!windows) {
    await makeControlFolder(dirname(path));
    // Nobody answers there: what a killed process left.
    await rm(path, { force: true });
  }
  const clients = new Map<Socket, () => Promise<void>>();
  const server = createServer(client => {
    client.on('close', () => clients.delete(client));
    client.on('error', () => client.destroy());
    clients.set(client, serve(vm, client));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', e => {
      reject(
        new VmError('ERR_HOST_CALL', `the control socket ${path} cannot be made: ${e.message}`, {
          hint: 'set XDG_RUNTIME_DIR to a folder of your own with a short path',
          cause: e,
        }),
      );
    });
    server.listen(path, resolve);
  });
  if (!windows) await chmod(path, 0o600);
  // The socket alone does not keep the process alive.
  server.unref();
  return {
    name,
    [Symbol.asyncDispose]: async () => {
      // Nothing is asked of a VM that has ended, so that every answer is on its way now.
      for (const [client, answered] of clients) void answered().finally(() => client.end());
      await new Promise(resolve => server.close(resolve));
    },
  };
}

/** Answers a client's requests in order; gives a function that tells when all of them have been. */
function serve(vm: Vm, client: Socket): () => Promise<void> {
  let text = '';
  let queue = Promise.resolve();
  client.setEncoding('utf8');
  client.on('data', (part: string) => {
    text += part;
    if (text.length > MAX_REQUEST) {
      client.destroy();
      return;
    }
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      queue = queue.then(async () => {
        const response = await respond(vm, line);
        if (client.writable) client.write(`${JSON.stringify(response)}\n`);
      });
    }
  });
  return () => queue;
}

async function respond(vm: Vm, line: string): Promise<ControlResponse> {
  try {
    return { value: (await act(vm, parseRequest(line))) ?? null };
  } catch (e) {
    return { error: toControlError(e) };
  }
}

async function act(vm: Vm, r: ControlRequest): Promise<unknown> {
  switch (r.verb) {
    case 'info':
      return { pid: process.pid, ...(await vm.info()) };
    case 'lspci':
      return await vm.pci.list();
    case 'pins':
      return {
        ...(await vm.memory.report()),
        name: vm.name,
        ...(r.map ? { map: await vm.memory.map() } : {}),
      };
    case 'stats':
      return await vm.stats();
    case 'clock': {
      const sample = await vm.clock();
      // JSON has no 64-bit integers.
      return { ...sample, wallNs: String(sample.wallNs) };
    }
    case 'pause':
      await vm.pause();
      return undefined;
    case 'resume':
      await vm.resume();
      return undefined;
    case 'stop':
      return { reason: (await vm.stop()).reason };
    case 'plug':
      return await vm.pci.plug(r.device as DeviceOptions);
    case 'unplug':
      await vm.pci.unplug(r.name);
      return undefined;
  }
}
