import { lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { VMADDR_PORT_ANY } from '../../devices/virtio/vsock/regs.ts';
import type { VsockConnection, VsockHandlers } from '../../devices/virtio/vsock/types.ts';
import { VmError } from '../../util/errors.ts';
import { type VsockDevice, VsockStream, wrap } from './streams.ts';

/** A running bridge between the guest's sockets and the host's Unix sockets. */
export interface VsockBridge extends AsyncDisposable {
  /** Removes the socket and breaks all connections of the bridge off. */
  close(): Promise<void>;
}

/** ms that a client has to send its first line. */
const HANDSHAKE_TIMEOUT = 10_000;
/** Bytes of the longest first line, with its end: "CONNECT 4294967294\r\n". */
const MAX_LINE = 20;
const MAX_CLIENTS = 1024;

/**
 * Connects the guest's sockets with Unix sockets of the host, in the way that Firecracker introduced and its clients
 * know:
 * - A client of the socket `path` sends `CONNECT port\n` and gets `OK hostport\n` when the guest has accepted; from
 *   there on it talks with the guest's port. When the guest has no driver or does not accept, the client's connection
 *   is closed.
 * - The guest's connections to port P of the host go to the Unix socket `path_P`, and are refused when there is none.
 *
 * It listens on all ports of the host that have no listener of their own.
 * @throws VmError ERR_NETWORK when the socket cannot be made, or another listener has all ports. A socket file that a
 * process left behind is replaced.
 */
export async function bridgeUnixSocket(device: VsockDevice, path: string): Promise<VsockBridge> {
  const sockets = new Set<Socket>();
  const track = (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  };

  const server = createServer({ allowHalfOpen: true }, client => {
    track(client);
    serveClient(device, client);
  });
  server.maxConnections = MAX_CLIENTS;
  await listenAt(server, path);

  let registration: Disposable;
  try {
    registration = device.listen(VMADDR_PORT_ANY, connection => forward(connection, path, track));
  } catch (error) {
    server.close();
    throw error;
  }

  const close = async () => {
    registration[Symbol.dispose]();
    for (const socket of sockets) socket.destroy();
    if (!server.listening) return;
    await new Promise<void>(resolve => void server.close(() => resolve()));
  };
  return { close, [Symbol.asyncDispose]: close };
}

/** Takes the first line of a client of the host and connects it with the guest. */
function serveClient(device: VsockDevice, client: Socket): void {
  let head = Buffer.alloc(0);
  client.on('error', () => client.destroy());
  client.setTimeout(HANDSHAKE_TIMEOUT, () => client.destroy());
  client.once('end', refuse);
  client.on('data', receive);

  function refuse(): void {
    client.destroy();
  }

  function receive(chunk: Buffer): void {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\n');
    if (end < 0 && head.length < MAX_LINE) return;
    const port = end < 0 ? undefined : /^CONNECT (\d{1,10})\r?$/i.exec(head.toString('latin1', 0, end))?.[1];
    if (port === undefined || Number(port) >= VMADDR_PORT_ANY) {
      refuse();
      return;
    }
    client.pause();
    client.off('data', receive);
    client.off('end', refuse);
    client.setTimeout(0);
    if (end + 1 < head.length) client.unshift(head.subarray(end + 1));
    connectClient(device, client, Number(port));
  }
}

function connectClient(device: VsockDevice, client: Socket, port: number): void {
  let stream: VsockStream;
  try {
    stream = VsockStream.connect(device, port);
  } catch {
    // No driver yet, or too many connections: clients try again, as they do when the guest's program is not there yet.
    client.destroy();
    return;
  }
  const gone = () => stream.destroy();
  client.once('close', gone);
  stream.once('error', () => client.destroy());
  stream.once('connect', () => {
    client.off('close', gone);
    client.write(`OK ${stream.localPort}\n`);
    join(client, stream);
  });
}

/** Offers a connection of the guest to the program that listens on the host's socket for that port. */
function forward(
  connection: VsockConnection,
  path: string,
  track: (socket: Socket) => void,
): Promise<VsockHandlers | undefined> {
  return new Promise(resolve => {
    const socket = connect({ path: `${path}_${connection.localPort}`, allowHalfOpen: true });
    track(socket);
    socket.once('error', () => resolve(undefined));
    // A close without an error: the bridge is closed.
    socket.once('close', () => resolve(undefined));
    socket.once('connect', () => {
      const { stream, handlers } = wrap(connection);
      join(socket, stream);
      resolve(handlers);
    });
  });
}

/** Connects two streams in both directions; each may end before the other, and a failure of one breaks both. */
function join(a: Duplex, b: Duplex): void {
  pipeline(a, b, ignore);
  pipeline(b, a, ignore);
}

/** A failure has closed both streams, which is all that their ends can be told. */
function ignore(): void {}

/** Listens at `path`, and replaces a socket there that no process serves any more. */
async function listenAt(server: Server, path: string): Promise<void> {
  try {
    await listening(server, path);
  } catch (error) {
    if (errorCode(error) !== 'EADDRINUSE' || !(await isStale(path))) throw cannotListen(path, error);
    try {
      await unlink(path);
      await listening(server, path);
    } catch (again) {
      throw cannotListen(path, again);
    }
  }
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** True when `path` is a socket that refuses connections: its process has ended without removing it. */
async function isStale(path: string): Promise<boolean> {
  // Linux refuses connections to files of any kind; only a socket may be removed.
  const stat = await lstat(path).catch(() => undefined);
  if (!stat?.isSocket()) return false;
  return new Promise(resolve => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', error => resolve(errorCode(error) === 'ECONNREFUSED'));
  });
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

function cannotListen(path: string, cause: unknown): VmError {
  return new VmError('ERR_NETWORK', `Cannot make the vsock socket ${path}: ${errorCode(cause) ?? 'unknown error'}.`, {
    hint: 'Choose a path in a folder that exists and is writable, and that no other process or file uses.',
    cause,
    details: { path },
  });
}
