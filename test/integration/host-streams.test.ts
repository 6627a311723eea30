// vm.vsock, vm.channel() and vm.balloon against the drivers of Debian's kernel.
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { StreamError, type Vm } from 'tsvisor';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { concatBytes, createCpio, S_IFREG } from '../../src/firmware/cpio.ts';
import { debian } from '../e2e/debian.ts';
import { bootDebian, type Guest } from '../support/guest.ts';

const MIB = 2 ** 20;
const COMPILER = 'aarch64-linux-gnu-gcc';
const DATA = randomBytes(4 * MIB);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** The guest that all tests but the last ones use; or why there is none. */
let guest: Guest | string = 'not booted';
/** Why nothing in the guest can use sockets. */
let noProgram: string | undefined;
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tsvisor-streams-'));
  guest = await boot();
});
afterAll(async () => {
  if (typeof guest !== 'string') await guest[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Boots Debian with the program of test/guests/vsock.c as /bin/vsock, if it can be built. */
async function boot(): Promise<Guest | string> {
  const image = await debian();
  if (typeof image === 'string') return image;
  const initrd: Uint8Array[] = [await readFile(image.initrd)];
  const out = join(folder, 'vsock');
  const source = fileURLToPath(new URL('../guests/vsock.c', import.meta.url));
  const built = spawnSync(COMPILER, ['-static', '-O2', '-Wall', '-o', out, source], { encoding: 'utf8' });
  if (built.error !== undefined) {
    noProgram = `${COMPILER} is not installed`;
    console.log(`skipped: sockets of the guest: ${noProgram}`);
  } else {
    expect(built.stderr).toBe('');
    initrd.push(createCpio([{ path: 'bin/vsock', mode: S_IFREG | 0o755, data: await readFile(out) }]));
  }
  return await bootDebian({
    initrd: concatBytes(initrd),
    vsock: 5,
    channel: ['agent', 'bulk'],
    balloon: true,
    memory: '256M',
  });
}

/** The guest, or a skipped test. */
function running({ skip }: TestContext, sockets = false): Guest {
  const why = typeof guest === 'string' ? guest : sockets ? noProgram : undefined;
  if (why !== undefined) skip(why);
  return guest as Guest;
}

async function readAll(from: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of from) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** The next `length` bytes of a stream that does not end. */
async function take(from: Readable, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let left = length; left > 0; ) {
    const chunk = from.read(Math.min(left, from.readableLength || 1)) as Buffer | null;
    if (chunk === null) await once(from, 'readable');
    else {
      chunks.push(chunk);
      left -= chunk.length;
    }
  }
  return Buffer.concat(chunks);
}

/** Calls `look` until it says yes. */
async function until(what: string, look: () => Promise<boolean> | boolean): Promise<void> {
  for (let n = 0; !(await look()); n++) {
    if (n === 600) throw new Error(`waited in vain for ${what}`);
    await sleep(50);
  }
}

/** How much can be written to a stream before it takes no more for a while. */
async function fill(stream: NodeJS.WritableStream): Promise<{ written: number; taken: number }> {
  const amount = { written: 0, taken: 0 };
  const chunk = Buffer.alloc(16384);
  for (let quiet = 0; quiet < 10 && amount.written < 64 * MIB; ) {
    const before = amount.taken;
    while (amount.written - amount.taken < 4 * chunk.length) {
      stream.write(chunk, () => {
        amount.taken += chunk.length;
      });
      amount.written += chunk.length;
    }
    await sleep(50);
    quiet = amount.taken === before ? quiet + 1 : 0;
  }
  return amount;
}

/** Keeps this thread from doing anything for a while. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('vm.vsock', () => {
  it('connects to a program of the guest: 4 MiB there and back, and an end in order', async ctx => {
    const { vm, run } = running(ctx, true);
    await run('vsock echo 7 >/dev/null 2>&1 &');
    let stream = await connectSoon(vm, 7);
    expect([stream.remotePort, stream.localPort > 0]).toEqual([7, true]);
    stream.end(DATA);
    expect(sha256(await readAll(stream))).toBe(sha256(DATA));
    if (!stream.closed) await once(stream, 'close');
    // Many chunks, one after the other.
    stream = await vm.vsock.connect(7);
    const back = readAll(stream);
    for (let at = 0; at < DATA.length; at += 100_000) stream.write(DATA.subarray(at, at + 100_000));
    stream.end();
    expect(sha256(await back)).toBe(sha256(DATA));
  });

  it("takes the guest's connections: 4 MiB here and back", async ctx => {
    const { vm, run } = running(ctx, true);
    await run(`dd if=/dev/urandom of=/tmp/data bs=64k count=64 2>/dev/null`);
    const sum = (await run('sha256sum </tmp/data')).split(' ')[0];
    const listener = vm.vsock.listen(1024);
    const served = (async () => {
      const { value } = await listener.next();
      const hash = createHash('sha256');
      for await (const chunk of value!.iterator({ destroyOnReturn: false })) {
        hash.update(chunk);
        if (!value!.write(chunk)) await once(value!, 'drain');
      }
      value!.end();
      return { hash: hash.digest('hex'), port: value!.localPort };
    })();
    expect(await run('vsock connect 1024 </tmp/data | sha256sum')).toBe(`${sum}  -`);
    expect(await served).toEqual({ hash: sum, port: 1024 });
    await expect(vm.vsock.listen(1024).next()).rejects.toMatchObject({ code: 'ERR_NETWORK' });
    listener.close();
    expect(await listener.next()).toEqual({ value: undefined, done: true });
    expect(await run('vsock connect 1024 </dev/null', { status: 1 })).toContain('connect: Connection reset by peer');
  });

  it('accepts for a thread that is blocked, and the guest runs on meanwhile', async ctx => {
    const { vm, run } = running(ctx, true);
    using listener = vm.vsock.listen(1025);
    await run(
      '(for i in 1 2 3; do echo hello $i; sleep 1; done | vsock connect 1025; date +%s >/tmp/done) >/dev/null &',
    );
    block(5000);
    const began = Date.now();
    for await (const stream of listener) {
      stream.end();
      expect((await readAll(stream)).toString()).toBe('hello 1\nhello 2\nhello 3\n');
      break;
    }
    // All of it had been sent before anybody here could look.
    expect(Date.now() - began).toBeLessThan(2500);
    await run('while [ ! -e /tmp/done ]; do sleep 0.1; done');
  });

  it('stops the writer when the guest does not read, and the guest when nobody reads here', async ctx => {
    const { vm, run } = running(ctx, true);
    await run(
      'mkfifo /tmp/in && (vsock listen 8 </dev/zero >/tmp/in & echo $! >/tmp/pid; sleep 10000 </tmp/in) >/dev/null 2>&1 &',
    );
    const stream = await connectSoon(vm, 8);
    const { taken } = await fill(stream);
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThan(2 * MIB);
    // The other direction has been as full for long, and no more of it is here than a stream's window.
    expect(stream.readableLength).toBeGreaterThan(0);
    expect(stream.readableLength).toBeLessThanOrEqual(256 * 1024 + 65536);
    expect((await take(stream, 8 * MIB)).equals(Buffer.alloc(8 * MIB))).toBe(true);
    const failed = once(stream, 'error');
    await run('kill $(cat /tmp/pid); killall sleep; rm /tmp/in');
    expect((await failed)[0]).toBeInstanceOf(StreamError);
    expect((await failed)[0]).toMatchObject({ code: expect.stringMatching(/^(ECONNRESET|EPIPE)$/) });
  });

  it('fails as sockets do', async ctx => {
    const { vm, run } = running(ctx, true);
    await expect(vm.vsock.connect(99)).rejects.toMatchObject({ name: 'StreamError', code: 'ECONNREFUSED' });
    await expect(vm.vsock.connect(-1)).rejects.toMatchObject({ code: 'ERR_USAGE' });
    await expect(vm.vsock.connect(7, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
    const abort = new AbortController();
    const waiting = vm.vsock.connect(7, { signal: abort.signal });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    // destroy() breaks it off, and the guest's program learns of it.
    await run(
      'vsock listen 9 >/tmp/out 2>&1 </dev/null; echo ended >>/tmp/out &'
        .replace('vsock', '{ vsock')
        .replace(' &', '; } &'),
    );
    const stream = await connectSoon(vm, 9);
    stream.write('abc');
    await run('while [ "$(cat /tmp/out)" != abc ]; do sleep 0.1; done');
    stream.destroy();
    await run('while ! grep -q ended /tmp/out; do sleep 0.1; done');
  });
});

/** Connects as soon as the guest's program listens. */
async function connectSoon(vm: Vm, port: number) {
  for (let n = 0; ; n++) {
    try {
      return await vm.vsock.connect(port);
    } catch (e) {
      if ((e as StreamError).code !== 'ECONNREFUSED' || n === 100) throw e;
      await sleep(100);
    }
  }
}

describe('vm.channel()', () => {
  /** Shell function: the device of a channel. */
  const FIND = `port() { for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name 2>/dev/null)" = $1 ] && echo /dev/$(basename $p); done; }`;

  it('echoes through a named port while a program has it open', async ctx => {
    const { vm, run } = running(ctx);
    await run(FIND);
    expect(await run('port agent; port bulk')).toMatch(/^\/dev\/vport\dp1\n\/dev\/vport\dp2$/);
    const agent = vm.channel('agent');
    expect(vm.channel('agent')).toBe(agent);
    expect(agent.open).toBe(false);
    let taken = false;
    agent.write('hello\n', () => {
      taken = true;
    });
    await sleep(200);
    // Nobody in the guest has opened it: the bytes are on their way, not in the guest.
    const opened = once(agent, 'open');
    await run('p=$(port agent); (read line <$p; echo "got $line" >/tmp/agent) >/dev/null 2>&1 &');
    await opened;
    await run('while [ ! -e /tmp/agent ]; do sleep 0.1; done');
    expect(await run('cat /tmp/agent')).toBe('got hello');
    expect(taken).toBe(true);
    await until('the port to be closed', () => !agent.open);
    await run('(exec 3<>$p; cat <&3 >&3) >/dev/null 2>&1 &');
    for (let at = 0; at < DATA.length; at += 65536) agent.write(DATA.subarray(at, at + 65536));
    expect(sha256(await take(agent, DATA.length))).toBe(sha256(DATA));
    await run('killall cat');
  });

  it('holds the writers of both sides back', async ctx => {
    const { vm, run } = running(ctx);
    await run(`${FIND}\np=$(port bulk)`);
    const before = vm.channel('bulk');
    // Nobody reads in the guest.
    const { taken } = await fill(before);
    expect(taken).toBeLessThan(MIB);
    before.destroy();
    // Nobody reads here: a program that writes 8 MiB waits, and has not lost a byte when somebody does.
    await run(`(head -c 6000000 /dev/urandom | tee $p | sha256sum >/tmp/sum) >/dev/null 2>&1 &`);
    await sleep(1500);
    expect(await run('cat /tmp/sum')).toBe('');
    const bulk = vm.channel('bulk');
    expect(bulk).not.toBe(before);
    const got = await take(bulk, 6_000_000);
    await run('while [ ! -s /tmp/sum ]; do sleep 0.1; done');
    expect(await run('cat /tmp/sum')).toBe(`${sha256(got)}  -`);
  });

  it('is the terminal hvc0, too, whose output is thrown away while nobody reads', async ctx => {
    const { vm, run } = running(ctx);
    await run('dd if=/dev/zero of=/dev/hvc0 bs=4k count=64 2>/dev/null', { timeout: '30s' });
    const hvc0 = vm.channel('hvc0');
    // Kept open, since the last close of a terminal undoes what stty has set.
    await run('exec 3<>/dev/hvc0; stty raw -echo <&3; echo to the host >&3');
    expect((await take(hvc0, 12)).toString()).toBe('to the host\n');
    await run('(read x </dev/hvc0; echo "$x" >/tmp/hvc) >/dev/null 2>&1 &');
    hvc0.write('to the guest\n');
    await run('while [ ! -s /tmp/hvc ]; do sleep 0.1; done');
    expect(await run('cat /tmp/hvc; exec 3>&-')).toBe('to the guest');
    hvc0.destroy();
    await run('dd if=/dev/zero of=/dev/hvc0 bs=4k count=64 2>/dev/null', { timeout: '30s' });
  });

  it('says which ones there are', async ctx => {
    const { vm } = running(ctx);
    const [e] = await once(vm.channel('agnet'), 'error');
    expect(e).toMatchObject({ code: 'ERR_STATE', hint: 'its channels are hvc0, agent, bulk' });
  });
});

describe('vm.balloon', () => {
  const kib = async (run: Guest['run'], what: string) =>
    Number(await run(`sed -n 's/^${what}: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo`));

  it('takes 64 MiB of the guest and gives them back', async ctx => {
    const { vm, run } = running(ctx);
    expect(await vm.balloon.actual()).toBe(0);
    const free = await kib(run, 'MemFree');
    await vm.balloon.set('64M');
    await until('the balloon to be full', async () => (await vm.balloon.actual()) === 64 * MIB);
    const less = await kib(run, 'MemFree');
    expect(free - less).toBeGreaterThan(60 * 1024);
    expect(free - less).toBeLessThan(70 * 1024);
    expect(Math.abs(((await vm.balloon.statistics()).freeMemory ?? 0) / 1024 - less)).toBeLessThan(4096);
    await vm.balloon.set(0);
    await until('the balloon to be empty', async () => (await vm.balloon.actual()) === 0);
    expect(Math.abs((await kib(run, 'MemFree')) - free)).toBeLessThan(6 * 1024);
    await expect(vm.balloon.set('1G')).rejects.toMatchObject({ code: 'ERR_BAD_SIZE' });
    await expect(vm.balloon.set('a lot')).rejects.toMatchObject({ code: 'ERR_BAD_SIZE' });
  });

  it("has the guest's own numbers as statistics", async ctx => {
    const { vm, run } = running(ctx);
    const s = await vm.balloon.statistics({ timeout: '30s' });
    expect(s.totalMemory).toBe((await kib(run, 'MemTotal')) * 1024);
    expect(s.availableMemory).toBeGreaterThan(16 * MIB);
    expect(s.availableMemory).toBeLessThan(s.totalMemory!);
    expect(s.minorFaults).toBeGreaterThan(1000);
    await expect(vm.balloon.statistics({ signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('the end', () => {
  it('of the guest ends all streams, after what it has sent; of the VM, everything', async ctx => {
    const { vm, run } = running(ctx);
    const sockets = noProgram === undefined ? await openSockets(vm) : undefined;
    const agent = vm.channel('agent');
    await run('port=$(ls /dev/vport*p1); echo last words >$port');
    vm.console.write('poweroff\n');
    expect((await readAll(agent)).toString()).toBe('last words\n');
    const { reason } = await vm.exited;
    expect(reason).toBe('shutdown');
    if (sockets !== undefined) {
      expect(await sockets.failure).toMatchObject({ name: 'StreamError', code: 'ECONNRESET' });
      expect(await sockets.next).toEqual({ value: undefined, done: true });
    }
    await expect(vm.vsock.connect(7)).rejects.toMatchObject({ code: 'ERR_STATE' });
    expect(() => vm.channel('bulk2')).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
    await expect(vm.balloon.actual()).rejects.toMatchObject({ code: 'ERR_STATE' });
  });

  async function openSockets(vm: Vm) {
    const stream = await vm.vsock.connect(7);
    return { failure: once(stream, 'error').then(([e]) => e as Error), next: vm.vsock.listen(2000).next() };
  }
});
