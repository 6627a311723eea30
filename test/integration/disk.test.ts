import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type DiskOptions, openDisk } from '../../src/backends/disk/open.ts';
import { VirtioBlk } from '../../src/devices/virtio/blk/device.ts';
import type { Disk } from '../../src/devices/virtio/blk/disk.ts';
import * as R from '../../src/devices/virtio/blk/regs.ts';
import { type FakeHost, fakeHost } from '../support/fake-virtio.ts';

const KIB = 1024;
const MIB = KIB * KIB;
const CLUSTER = 64 * KIB;
const folder = fs.mkdtempSync(join(tmpdir(), 'tsvisor-disk-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

let count = 0;
/** A path of its own for each use. */
const fresh = (name: string) => join(folder, `${++count}-${name}`);
const sha256 = (path: string) => createHash('sha256').update(fs.readFileSync(path)).digest('hex');

/** Guest RAM as the emulated engine has it. */
const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
const ram = (offset: number, length: number) => new Uint8Array(memory.buffer, offset, length);

function image(size: number, path = fresh('disk.img')): string {
  const content = Buffer.alloc(size);
  for (let i = 0; i < size; i += 512) content.fill(1 + ((i / 512) % 250), i, Math.min(i + 512, size));
  fs.writeFileSync(path, content);
  return path;
}

async function readAll(disk: Disk): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, [bytes]);
  return bytes;
}

async function withDisk<T>(options: DiskOptions, use: (disk: Disk) => T | Promise<T>): Promise<T> {
  const disk = await openDisk(options);
  try {
    return await use(disk);
  } finally {
    await disk.close();
  }
}

const rejects = (options: DiskOptions, code: string, message?: RegExp) =>
  expect(openDisk(options)).rejects.toThrow(
    expect.objectContaining({
      code,
      hint: expect.any(String),
      ...(message && { message: expect.stringMatching(message) }),
    }),
  );

describe('shared memory of WebAssembly', () => {
  // 4 KiB: in place; 192 KiB: by the thread pool. One view: read(), several: readv().
  test.each([
    [4 * KIB, 1],
    [4 * KIB, 3],
    [192 * KIB, 1],
    [192 * KIB, 2000],
  ])('%i bytes in %i parts go in and out', async (length, parts) => {
    const path = image(MIB);
    await withDisk({ path }, async disk => {
      const step = Math.ceil(length / parts);
      const views = (at: number) =>
        Array.from({ length: parts }, (_, i) =>
          ram(at + i * (step + 8), Math.max(0, Math.min(step, length - i * step))),
        );
      const out = views(MIB);
      for (const [i, v] of out.entries()) v.fill(i + 3);
      await disk.write(512, out);
      const into = views(0);
      await disk.read(512, into);
      for (const [i, v] of into.entries()) expect(v.every(b => b === ((i + 3) & 0xff))).toBe(true);
      await disk.flush();
    });
    const file = fs.readFileSync(path);
    expect([file.length, file[512], file[511], file[512 + length]]).toEqual([
      MIB,
      3,
      1,
      1 + ((1 + length / 512) % 250),
    ]);
  });
});

describe('openDisk', () => {
  test('names what is wrong with an image', async () => {
    await rejects({ path: fresh('none') }, 'ERR_FILE_NOT_FOUND');
    await rejects({ path: folder }, 'ERR_FILE_IS_DIRECTORY');
    await rejects({ path: image(1000) }, 'ERR_DISK', /1000 bytes/);
    await rejects({ path: image(0) }, 'ERR_DISK');
    if (process.platform !== 'win32') await rejects({ path: '/dev/null', readOnly: true }, 'ERR_DISK', /neither/);
  });

  test('a pipe is refused and not waited for', async context => {
    if (process.platform === 'win32') return context.skip('no named pipes');
    const path = fresh('pipe');
    execFileSync('mkfifo', [path]);
    await rejects({ path }, 'ERR_DISK', /neither/);
  });

  test('names what is wrong with an overlay', async () => {
    const path = image(MIB);
    await rejects({ path, cow: image(5000) }, 'ERR_DISK', /not an overlay/);
    await rejects({ path, cow: path }, 'ERR_DISK', /image itself/);
    await rejects({ path, cow: join(folder, 'none', 'o.cow') }, 'ERR_FILE_NOT_FOUND');
    await rejects({ path, cow: fresh('none'), readOnly: true }, 'ERR_FILE_NOT_FOUND');
    const cow = fresh('o.cow');
    await withDisk({ path, cow }, () => undefined);
    await rejects({ path: image(2 * MIB), cow }, 'ERR_DISK', /base/);
    // Another version.
    const fd = fs.openSync(cow, 'r+');
    fs.writeSync(fd, Uint8Array.of(9), 0, 1, 8);
    fs.closeSync(fd);
    await rejects({ path, cow }, 'ERR_DISK', /version 9/);
  });

  test('a base that has changed is refused', async () => {
    const path = image(MIB);
    const cow = fresh('o.cow');
    await withDisk({ path, cow }, disk => disk.write(0, [new Uint8Array(512)]));
    const { atime, mtime } = fs.statSync(path);
    fs.utimesSync(path, atime, new Date(mtime.getTime() + 1));
    await rejects({ path, cow }, 'ERR_DISK', /base/);
  });

  test('what a crash left of a new overlay is made one', async () => {
    const path = image(MIB);
    for (const size of [0, 4096]) {
      const cow = fresh('o.cow');
      fs.writeFileSync(cow, new Uint8Array(size));
      await withDisk({ path, cow }, disk => disk.write(0, [new Uint8Array(512).fill(7)]));
      await withDisk({ path, cow }, async disk => expect((await readAll(disk))[0]).toBe(7));
    }
  });

  test('read-only disks write nothing and need no lock', async () => {
    const path = image(MIB);
    fs.chmodSync(path, 0o444);
    const files = fs.readdirSync(folder).length;
    const one = await openDisk({ path, readOnly: true });
    const two = await openDisk({ path, readOnly: true });
    expect([one.readOnly, one.size, fs.readdirSync(folder).length]).toEqual([true, MIB, files]);
    await one.flush();
    await one.close();
    await two.close();
  });
});

describe('locks', () => {
  test('an image, an overlay and a second name of either are writable once', async () => {
    const path = image(MIB);
    const cow = fresh('o.cow');
    const first = await openDisk({ path });
    await rejects({ path }, 'ERR_DISK', /this process/);
    const link = fresh('link');
    fs.linkSync(path, link);
    await rejects({ path: link }, 'ERR_DISK', /this process/);
    await first.close();
    const overlay = await openDisk({ path, cow });
    await rejects({ path, cow }, 'ERR_DISK', /in use/);
    await overlay.close();
    // Nothing is left of it.
    expect(fs.readdirSync(folder).filter(f => f.includes('lock'))).toEqual([]);
    await withDisk({ path: link }, () => undefined);
  });

  test('another process is kept out until it dies', async () => {
    const path = image(MIB);
    const child = run(`
      await openDisk({ path: ${JSON.stringify(path)} });
      console.log('open');
      setInterval(() => {}, 1000);`);
    await child.line();
    await rejects({ path }, 'ERR_DISK', new RegExp(`process ${child.process.pid}`));
    await child.kill();
    expect(fs.existsSync(`${path}.tsvisor-lock`)).toBe(true);
    await withDisk({ path }, () => undefined);
  });

  test('a Worker that was terminated leaves none', async context => {
    if (process.platform !== 'linux') return context.skip('only Linux tells which files are open');
    const path = image(MIB);
    const child = run(`
      import { Worker } from 'node:worker_threads';
      const code = ${JSON.stringify(`
        import { parentPort } from 'node:worker_threads';
        import { register } from 'tsx/esm/api';
        register();
        import(${JSON.stringify(OPEN)}).then(async ({ openDisk }) => {
          await openDisk({ path: ${JSON.stringify(path)} });
          parentPort.postMessage('open');
          setInterval(() => {}, 1000);
        });`)};
      const worker = new Worker(code, { eval: true });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      const attempt = () => openDisk({ path: ${JSON.stringify(path)} }).then(() => 'opened', e => e.message);
      console.log(await attempt());
      await worker.terminate();
      console.log(await attempt());
      process.exit();`);
    expect(await child.line()).toMatch(/in use by this process/);
    expect(await child.line()).toBe('opened');
    await child.kill();
  });

  test('what other owners left', async () => {
    const path = image(MIB);
    const lockFile = `${path}.tsvisor-lock`;
    // No such process; one that lives but never had it; not readable and old.
    const host = hostname();
    const stale = [JSON.stringify({ pid: 2 ** 22 + 5, host }), '{"pid":'];
    if (process.platform === 'linux') stale.push(JSON.stringify({ pid: process.pid, host }));
    for (const content of stale) {
      fs.writeFileSync(lockFile, content);
      fs.utimesSync(lockFile, 1, 1);
      await withDisk({ path }, () => undefined);
    }
    // Still being written; on another host.
    for (const content of ['', JSON.stringify({ pid: 2 ** 22 + 5, host: 'elsewhere.example' })]) {
      fs.writeFileSync(lockFile, content);
      await rejects({ path }, 'ERR_DISK', content ? /elsewhere.example/ : /another process/);
      fs.rmSync(lockFile);
    }
  });
});

describe('raw images', () => {
  test('write-zeroes reaches exactly its range, in any size', async () => {
    const path = image(5 * MIB);
    const expected = fs.readFileSync(path);
    await withDisk({ path }, async disk => {
      for (const [offset, length] of [
        [512, 512],
        [MIB - 512, 3 * MIB + 1024],
        [0, 0],
      ] as const) {
        await disk.writeZeroes(offset, length, true);
        expected.fill(0, offset, offset + length);
      }
      await disk.discard(0, MIB);
      expect((await readAll(disk)).equals(expected)).toBe(true);
    });
    expect(fs.readFileSync(path).equals(expected)).toBe(true);
  });

  test('synchronous disks need no promise for anything', async () => {
    for (const cow of [undefined, fresh('o.cow')]) {
      const disk = await openDisk({ path: image(3 * MIB), synchronous: true, ...(cow && { cow }) });
      const data = new Uint8Array(MIB);
      const results = [
        disk.write(0, [data]),
        disk.read(1, [data]),
        disk.writeZeroes(0, 2 * MIB + 512, false),
        disk.flush(),
      ];
      expect([results.every(r => r === undefined), disk.inFlight]).toEqual([true, 0]);
      await disk.close();
    }
  });

  test('a block device has its size', async context => {
    const loop = spawnSync('losetup', ['--find', '--show', image(3 * MIB + 512)], { encoding: 'utf8' });
    if (loop.status !== 0) return context.skip('needs root and a loop device');
    try {
      await withDisk({ path: loop.stdout.trim(), readOnly: true }, disk => expect(disk.size).toBe(3 * MIB + 512));
    } finally {
      spawnSync('losetup', ['--detach', loop.stdout.trim()]);
    }
  });
});

describe('overlays', () => {
  const SIZE = 40 * CLUSTER + 512 * 3;
  const operation = fc.record({
    kind: fc.constantFrom('write', 'write', 'write', 'zeroes', 'flush', 'reopen', 'read'),
    sector: fc.nat(SIZE / 512 - 1),
    count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 700 })),
    fill: fc.nat(255),
    /** Not waited for before the next one, unless that needs the result. */
    overlapped: fc.boolean(),
  });

  test.each([false, true])('are as an array, and the base stays as it was (synchronous: %s)', async synchronous => {
    const path = image(SIZE);
    const base = sha256(path);
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async operations => {
        const options = { path, cow: fresh('o.cow'), synchronous };
        let disk = await openDisk(options);
        const model = fs.readFileSync(path);
        let busy: { from: number; to: number; done: Promise<void> }[] = [];
        for (const { kind, sector, count, fill, overlapped } of operations) {
          const from = sector * 512;
          const to = Math.min(from + count * 512, SIZE);
          // Requests that touch each other have no order.
          await Promise.all(busy.filter(b => b.from < to && from < b.to).map(b => b.done));
          let done: Promise<void> | undefined;
          if (kind === 'write') {
            done = disk.write(from, [Buffer.alloc(to - from, fill)]);
            model.fill(fill, from, to);
          } else if (kind === 'zeroes') {
            done = disk.writeZeroes(from, to - from, true);
            model.fill(0, from, to);
          } else if (kind === 'flush') done = disk.flush();
          else if (kind === 'reopen') {
            // Finishes what is in flight.
            await disk.close();
            disk = await openDisk(options);
          } else {
            const bytes = Buffer.alloc(to - from);
            await disk.read(from, [bytes.subarray(0, 7), bytes.subarray(7)]);
            expect(bytes.equals(model.subarray(from, to))).toBe(true);
          }
          if (done === undefined) continue;
          if (overlapped) busy = [...busy, { from, to, done }];
          else await done;
        }
        await Promise.all(busy.map(b => b.done));
        expect((await readAll(disk)).equals(model)).toBe(true);
        await disk.close();
        await withDisk({ ...options, readOnly: true }, async d => expect((await readAll(d)).equals(model)).toBe(true));
        // No more than each cluster once.
        expect(fs.statSync(options.cow).size).toBeLessThanOrEqual((1 + 41) * CLUSTER);
        fs.rmSync(options.cow);
      }),
      { numRuns: 25 },
    );
    expect(sha256(path)).toBe(base);
  });

  test('of a large sparse base are small and quick to open', async () => {
    const path = fresh('large.img');
    fs.writeFileSync(path, '');
    fs.truncateSync(path, 2 ** 40);
    const cow = fresh('o.cow');
    const at = 2 ** 40 - 512;
    await withDisk({ path, cow }, disk => disk.write(at, [Buffer.alloc(512, 7)]));
    expect(fs.statSync(cow).blocks * 512).toBeLessThan(MIB);
    await withDisk({ path, cow }, async disk => {
      const bytes = Buffer.alloc(1024);
      await disk.read(at - 512, [bytes]);
      expect([bytes[511], bytes[512]]).toEqual([0, 7]);
      // A whole discard at the device's limit, with more pages of the table than may be dirty.
      await disk.discard(0, 16 * 2 ** 30);
      expect(disk.inFlight).toBe(0);
    });
  });

  test('cut short by somebody are I/O errors, not zeroes', async () => {
    const path = image(MIB);
    const cow = fresh('o.cow');
    await withDisk({ path, cow }, disk => disk.write(0, [Buffer.alloc(2 * CLUSTER, 7)]));
    fs.truncateSync(cow, 2 * CLUSTER);
    await withDisk({ path, cow }, disk => {
      expect(disk.read(0, [Buffer.alloc(512)])).toBeUndefined();
      expect(() => disk.read(CLUSTER, [Buffer.alloc(512)])).toThrow('shorter');
    });
  });
});

describe('kill -9', () => {
  // Sectors get the number of the round that wrote them; after a flush its number is reported.
  const writer = (options: DiskOptions, firstRound: number) => `
    const disk = await openDisk(${JSON.stringify(options)});
    let seed = ${firstRound};
    const random = n => (seed = (seed * 48271) % 0x7fffffff) % n;
    for (let round = ${firstRound}; ; round++) {
      const data = new Uint32Array(128 * ${SECTORS_A_WRITE}).fill(round);
      const bytes = new Uint8Array(data.buffer);
      // A fixed place for each round, which survives; and noise elsewhere.
      await disk.write((round % ${SLOTS}) * ${SLOT}, [bytes]);
      for (let i = 0; i < 4; i++) await disk.write(${SLOTS * SLOT} + random(${SLOTS}) * 4096, [bytes.subarray(0, 4096)]);
      await disk.flush();
      console.log(round);
    }`;

  test.each([undefined, 'o.cow'])('loses nothing that was flushed (overlay: %s)', async name => {
    const size = 2 * SLOTS * SLOT;
    const path = fresh('disk.img');
    fs.writeFileSync(path, new Uint8Array(size));
    const cow = name && fresh(name);
    const options: DiskOptions = { path, ...(cow && { cow }) };
    let round = 1;
    const flushed: number[] = [];
    for (const after of [5, 23, 60]) {
      const child = run(writer(options, round));
      for (let i = 0; i < after; i++) {
        round = Number(await child.line());
        flushed.push(round);
      }
      await child.kill();
      // What was printed and not read yet was flushed too.
      for (const line of child.rest()) flushed.push(Number(line));
      round = flushed.at(-1)! + 1;
      const content = await withDisk(options, readAll);
      const words = new Uint32Array(content.buffer, content.byteOffset, content.length / 4);
      const latest = new Map(flushed.map(r => [r % SLOTS, r]));
      for (const [slot, expected] of latest) {
        for (let s = 0; s < SECTORS_A_WRITE; s++) {
          const found = words[(slot * SLOT) / 4 + s * 128]!;
          // The round after the last flushed one may have got there, too.
          expect([expected, round].includes(found)).toBe(true);
        }
      }
      round++;
    }
    expect(flushed.length).toBeGreaterThanOrEqual(88);
    if (cow) expect(fs.readFileSync(path).every(b => b === 0)).toBe(true);
  });
});

/** Bytes of the place of a round: half of it crosses from one cluster into the next. */
const SLOT = 96 * KIB;
const SLOTS = 16;
const SECTORS_A_WRITE = 136;

describe('a full host disk', () => {
  const isRoot = process.getuid?.() === 0 && process.platform === 'linux';
  if (!isRoot) console.log('skipped: a full host disk: needs root on Linux, to mount a small tmpfs');
  const mount = fresh('full');
  let mounted = false;
  beforeAll(() => {
    fs.mkdirSync(mount);
    mounted = isRoot && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', mount]).status === 0;
  });
  afterAll(() => {
    if (mounted) spawnSync('umount', [mount]);
  });
  beforeEach(() => {
    for (const f of fs.readdirSync(mount)) fs.rmSync(join(mount, f));
  });

  async function request(device: VirtioBlk, host: FakeHost, type: number, sector: number, data: Uint8Array) {
    const header = new Uint8Array(16);
    new DataView(header.buffer).setUint32(0, type, true);
    new DataView(header.buffer).setUint32(8, sector, true);
    const queue = host.queues[0]!;
    const chain = queue.offer([header, data], [1]);
    const before = queue.pushed.length;
    device.notify(0);
    for (let i = 0; queue.pushed.length === before && i < 1000; i++)
      await new Promise(resolve => setTimeout(resolve, 5));
    return chain.writable[0]![0]!;
  }

  test.skipIf(!isRoot).for(['raw', 'overlay'])(
    'is an I/O error to the guest, and is over when there is space (%s)',
    async (kind, context) => {
      if (!mounted) return context.skip('root may not mount here');
      const filler = join(mount, 'filler');
      fs.writeFileSync(filler, new Uint8Array(MIB));
      const sparse = join(kind === 'raw' ? mount : folder, 'sparse.img');
      fs.writeFileSync(sparse, '');
      fs.truncateSync(sparse, 8 * MIB);
      const disk = await openDisk({ path: sparse, ...(kind === 'overlay' && { cow: join(mount, 'o.cow') }) });
      const errors: unknown[] = [];
      const device = new VirtioBlk({ disk, onError: e => errors.push(e) });
      const host = fakeHost(device);
      const write = (cluster: number, fill: number) =>
        request(device, host, R.VIRTIO_BLK_T_OUT, cluster * 128, Buffer.alloc(CLUSTER, fill));
      const statuses: number[] = [];
      for (let i = 0; i < 20; i++) statuses.push(await write(i, i + 1));
      const full = statuses.indexOf(R.VIRTIO_BLK_S_IOERR);
      expect(full).toBeGreaterThan(5);
      expect(statuses.slice(full).every(s => s === R.VIRTIO_BLK_S_IOERR)).toBe(true);
      expect(errors[0]).toMatchObject({ code: 'ENOSPC' });
      fs.rmSync(filler);
      for (let i = full; i < 20; i++) expect(await write(i, i + 1)).toBe(R.VIRTIO_BLK_S_OK);
      expect(await request(device, host, R.VIRTIO_BLK_T_FLUSH, 0, new Uint8Array())).toBe(R.VIRTIO_BLK_S_OK);
      const content = await readAll(disk);
      for (let i = 0; i < 20; i++)
        expect(content.subarray(i * CLUSTER, (i + 1) * CLUSTER).every(b => b === i + 1)).toBe(true);
      await disk.close();
      fs.rmSync(sparse);
    },
  );
});

const OPEN = pathToFileURL(join(import.meta.dirname, '../../src/backends/disk/open.ts')).href;

/** A process of its own that runs some code with openDisk. */
function run(code: string) {
  const source = `import { openDisk } from ${JSON.stringify(OPEN)};\n${code}`;
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  let wake = () => {};
  let ended = false;
  const closed = new Promise<void>(resolve => {
    createInterface({ input: child.stdout! })
      .on('line', l => {
        lines.push(l);
        wake();
      })
      .on('close', () => {
        ended = true;
        wake();
        resolve();
      });
  });
  return {
    process: child,
    async line(): Promise<string> {
      while (lines.length === 0) {
        if (ended) throw new Error('the process has ended');
        await new Promise<void>(resolve => {
          wake = resolve;
        });
      }
      return lines.shift()!;
    },
    rest: () => lines.splice(0),
    async kill(): Promise<void> {
      child.kill('SIGKILL');
      await closed;
    },
  };
}
