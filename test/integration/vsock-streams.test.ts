import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectVsock, VsockListener, VsockStream } from '../../src/backends/vsock/streams.ts';
import { bridgeUnixSocket, type VsockBridge } from '../../src/backends/vsock/unix-bridge.ts';
import { VirtioVsock } from '../../src/devices/virtio/vsock/device.ts';
import { createVirtualClock } from '../../src/time/virtual-clock.ts';
import { VsockGuest } from '../support/vsock-guest.ts';

const ECHO = 7;
const PATTERN = Buffer.from(Uint8Array.from({ length: 3_000_000 }, (_, i) => i % 251));

let device: VirtioVsock;
let guest: VsockGuest;

beforeEach(() => {
  device = new VirtioVsock({ guestCid: 3, clock: createVirtualClock({ startWall: 0n }) });
  guest = new VsockGuest(device);
  guest.listen(ECHO);
  guest.onData = (socket, bytes) => socket.send(bytes);
  guest.onEnd = socket => socket.end();
});

afterEach(() => guest.stop());

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; !what(); i++) {
    if (i > 5000) throw new Error('waited in vain');
    await new Promise(resolve => setTimeout(resolve, 1));
  }
}

async function read(from: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of from) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('vsock streams', () => {
  it('carry megabytes both ways, with back pressure, and end in order', async () => {
    const stream = await connectVsock(device, ECHO);
    expect(stream.remotePort).toBe(ECHO);
    stream.end(PATTERN);
    expect((await read(stream)).equals(PATTERN)).toBe(true);
    await until(() => device.connectionCount === 0);
  });

  it('stop the writer while the guest does not read, and the guest while nobody reads', async () => {
    const stream = await connectVsock(device, ECHO);
    guest.asleep = true;
    let accepted = 0;
    for (let i = 0; i < 100; i++) stream.write(Buffer.alloc(10_000), () => accepted++);
    await new Promise(resolve => setTimeout(resolve, 20));
    expect(accepted).toBeLessThan(50);
    guest.asleep = false;
    await until(() => accepted === 100);
    // Echoed, but not read: what has come is what the buffers of stream and connection hold.
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(stream.readableLength).toBeLessThan(128 * 1024);
    stream.end();
    expect((await read(stream)).length).toBe(1_000_000);
  });

  it('fail with the codes of sockets', async () => {
    await expect(connectVsock(device, 99)).rejects.toMatchObject({ name: 'VsockError', code: 'ECONNREFUSED' });
    const stream = await connectVsock(device, ECHO);
    const failed = once(stream, 'error');
    device.reset();
    expect((await failed)[0]).toMatchObject({ code: 'ECONNRESET' });
    expect(() => VsockStream.connect(device, ECHO)).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
  });

  it('are given up by a signal before the guest answers, and by destroy()', async () => {
    guest.asleep = true;
    const abort = new AbortController();
    const waiting = connectVsock(device, ECHO, { signal: abort.signal });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    expect(device.connectionCount).toBe(0);
    guest.asleep = false;
    const stream = await connectVsock(device, ECHO);
    stream.destroy();
    expect(device.connectionCount).toBe(0);
  });

  it('end when the guest closes its socket, after all that it has sent', async () => {
    guest.onData = socket => {
      socket.send(Buffer.from('bye'));
      socket.close();
    };
    const stream = await connectVsock(device, ECHO);
    stream.write('hello');
    expect((await read(stream)).toString()).toBe('bye');
    await until(() => stream.closed);
    expect(device.connectionCount).toBe(0);
  });

  it('come from a listener in the order in which the guest connects; beyond the backlog it refuses', async () => {
    const listener = new VsockListener(device, 52, { backlog: 2 });
    const sockets = [1, 2, 3].map(port => guest.connect(port, 52));
    await until(() => sockets[0]!.connected && sockets[1]!.connected && sockets[2]!.closed);
    const ports: number[] = [];
    for await (const stream of listener) {
      ports.push(stream.remotePort);
      stream.end('welcome');
      if (ports.length === 2) {
        guest.connect(4, 52);
        void listener.next().then(({ value }) => {
          ports.push(value!.remotePort);
          listener.close();
        });
        await until(() => ports.length === 3);
      }
    }
    expect(ports).toEqual([1, 2, 4]);
    await until(() => sockets[1]!.hostEnded);
    expect(Buffer.concat(sockets[0]!.received).toString()).toBe('welcome');
    const late = guest.connect(5, 52);
    await until(() => late.closed);
  });
});

describe.skipIf(process.platform === 'win32')('vsock bridge to Unix sockets', () => {
  let folder: string;
  let path: string;
  let bridge: VsockBridge;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vsock-'));
    path = join(folder, 'v.sock');
    bridge = await bridgeUnixSocket(device, path);
  });

  afterEach(async () => {
    await bridge.close();
    rmSync(folder, { recursive: true });
  });

  async function say(text: string): Promise<Socket> {
    const client = connect({ path, allowHalfOpen: true });
    client.on('error', () => {});
    await once(client, 'connect');
    client.write(text);
    return client;
  }

  it('connects a client that says CONNECT with the port of the guest', async () => {
    const client = await say(`CONNECT ${ECHO}\nfirst words `);
    client.end(PATTERN);
    const answer = await read(client);
    const line = /^OK \d+\n/.exec(answer.toString('latin1', 0, 20))![0];
    expect(answer.toString('latin1', line.length, line.length + 12)).toBe('first words ');
    expect(answer.subarray(line.length + 12).equals(PATTERN)).toBe(true);
    await until(() => device.connectionCount === 0);
  });

  it('takes a first line in pieces', async () => {
    const client = await say('CONN');
    for (const part of ['ECT', ` ${ECHO}`, '\r\nx']) {
      await new Promise(resolve => setTimeout(resolve, 5));
      client.write(part);
    }
    client.end();
    expect((await read(client)).toString()).toMatch(/^OK \d+\nx$/);
  });

  it('closes clients whose first line is none, or whose port nobody serves', async () => {
    for (const bad of [
      'GET / HTTP/1.1\r\n\r\n',
      'CONNECT 4294967295\n',
      'CONNECT 99\n',
      'CONNECT -1\n',
      'x'.repeat(99),
    ]) {
      expect((await read(await say(bad))).toString()).toBe('');
    }
    const silent = await say('CONNECT 7');
    silent.end();
    expect((await read(silent)).toString()).toBe('');
    device.reset();
    expect((await read(await say(`CONNECT ${ECHO}\n`))).toString()).toBe('');
    expect(device.connectionCount).toBe(0);
  });

  it('gives up what a client has left', async () => {
    guest.asleep = true;
    const client = await say(`CONNECT ${ECHO}\n`);
    await until(() => device.connectionCount === 1);
    client.destroy();
    guest.asleep = false;
    await until(() => device.connectionCount === 0);
  });

  it('takes connections of the guest to the socket of their port, and refuses others', async () => {
    const server = createServer({ allowHalfOpen: true }, socket => socket.pipe(socket));
    server.listen(`${path}_52`);
    await once(server, 'listening');
    guest.onData = () => {};
    const socket = guest.connect(1000, 52);
    const refused = guest.connect(1001, 53);
    await until(() => socket.connected && refused.closed);
    socket.send(PATTERN);
    socket.end();
    await until(() => socket.hostEnded);
    expect(Buffer.concat(socket.received).equals(PATTERN)).toBe(true);
    await until(() => device.connectionCount === 0);
    server.close();
  });

  it('replaces a socket that nobody serves, but neither a used one nor a file', async () => {
    await expect(bridgeUnixSocket(device, path)).rejects.toMatchObject({ code: 'ERR_NETWORK' });
    const left = join(folder, 'left');
    const script = 'require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))';
    spawnSync(process.execPath, ['-e', script, left]);
    expect(existsSync(left)).toBe(true);
    await (
      await bridgeUnixSocket(new VirtioVsock({ guestCid: 4, clock: createVirtualClock({ startWall: 0n }) }), left)
    ).close();
    const file = join(folder, 'file');
    writeFileSync(file, 'precious');
    await expect(bridgeUnixSocket(device, file)).rejects.toMatchObject({ code: 'ERR_NETWORK' });
    expect(existsSync(file)).toBe(true);
    await expect(bridgeUnixSocket(device, join(folder, 'no/folder'))).rejects.toMatchObject({ code: 'ERR_NETWORK' });
  });

  it('removes its socket and its connections when it is closed', async () => {
    const client = await say(`CONNECT ${ECHO}\n`);
    await once(client, 'data');
    await bridge.close();
    expect(existsSync(path)).toBe(false);
    await until(() => device.connectionCount === 0);
    const again = await bridgeUnixSocket(device, path);
    await again.close();
  });
});
