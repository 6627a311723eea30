// A shared directory from the guest's requests to files of this host, and what a hostile guest or host makes of it.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AnchoredAccess } from '../../src/backends/share/anchored-access.ts';
import { CheckedAccess } from '../../src/backends/share/checked-access.ts';
import { openShare } from '../../src/backends/share/open-share.ts';
import { Share } from '../../src/backends/share/share.ts';
import { VirtioFs } from '../../src/devices/virtio/fs/device.ts';
import { FuseSession } from '../../src/devices/virtio/fs/session.ts';
import { fakeHost } from '../support/fake-virtio.ts';
import { FuseClient, pack, request, zero } from '../support/fuse.ts';

const SECRET = 'what the guest must never see';
const S_IFMT = 0o170000;

// Numbers of Linux.
const EPERM = 1;
const ENOENT = 2;
const ENXIO = 6;
const EBADF = 9;
const EEXIST = 17;
const ENOTDIR = 20;
const EISDIR = 21;
const EINVAL = 22;
const ENFILE = 23;
const EFBIG = 27;
const EROFS = 30;
const ENOTEMPTY = 39;
const ELOOP = 40;
const ESTALE = 116;

const KINDS = ['anchored', 'checked'] as const;
const usable = KINDS.filter(kind => kind === 'checked' || AnchoredAccess.available());
if (usable.length < KINDS.length) console.log('skipped: share, anchored: this host has no /proc/self/fd');
const windows = process.platform === 'win32';

let top: string;
/** What is shared, and a directory beside it. */
let inside: string;
let outside: string;

beforeEach(() => {
  top = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'share-')));
  inside = join(top, 'inside');
  outside = join(top, 'outside');
  fs.mkdirSync(inside);
  fs.mkdirSync(outside);
  fs.writeFileSync(join(outside, 'f'), SECRET);
});

afterEach(() => {
  fs.rmSync(top, { recursive: true, force: true });
});

interface Rig extends Disposable {
  readonly share: Share;
  readonly guest: FuseClient;
}

async function rig(
  kind: (typeof KINDS)[number],
  options: { readOnly?: boolean; maxNodes?: number } = {},
): Promise<Rig> {
  const access = kind === 'anchored' ? new AnchoredAccess(inside, 16) : new CheckedAccess(inside);
  const share = new Share({ access, readOnly: false, maxNodes: 10_000, maxHandles: 64, ...options });
  const guest = new FuseClient(new FuseSession(share));
  await guest.init();
  return { share, guest, [Symbol.dispose]: () => share.close() };
}

/** Descriptors of this process. */
const descriptors = () => fs.readdirSync('/proc/self/fd').length;

describe.each(usable)('%s: files', kind => {
  it('creates, writes, reads and truncates, as the host sees it', async () => {
    using r = await rig(kind);
    const made = await r.guest.create(1, 'n\xe9w', 0o202, 0o666);
    expect(made.error).toBe(0);
    const { node, mode } = made.entry;
    const handle = made.u64(128);
    expect(mode).toBe(0o100666); // this process's umask has no say
    expect((await r.guest.write(node, handle, 3, 'data')).u32(0)).toBe(4);
    const path = Buffer.from(join(inside, 'n\xe9w'), 'latin1');
    expect(fs.readFileSync(path, 'latin1')).toBe('\0\0\0data');
    expect((await r.guest.read(node, handle, 2, 100)).text).toBe('\0data');
    expect((await r.guest.read(node, handle, 7, 100)).text).toBe('');
    expect((await r.guest.call(20, node, [pack('QII', handle, 1, 0)])).error).toBe(0);
    const size = (n: number, valid: number) =>
      r.guest.call(4, node, [pack('IIQQQQQQIIIIIIII', valid, 0, handle, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]);
    expect((await size(5, 0x48)).u64(16 + 8)).toBe(5);
    expect((await size(100, 0x08)).u64(16 + 8)).toBe(100);
    expect((await size(2 ** 60, 0x08)).error).toBe(EFBIG);
    expect(fs.statSync(path).size).toBe(100);
    await r.guest.call(18, node, [pack('QIIQ', handle, 0, 0, 0)]);
    expect((await r.guest.read(node, handle, 0, 1)).error).toBe(EBADF);
    const again = await r.guest.open(node, 0o1002); // O_TRUNC
    expect([again.error, fs.statSync(path).size]).toEqual([0, 0]);
  });

  it('appends, reads into many buffers, and refuses offsets beyond a number', async () => {
    using r = await rig(kind);
    const contents = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i * 7) ^ (i >> 9)));
    fs.writeFileSync(join(inside, 'f'), contents);
    const { node } = (await r.guest.lookup(1, 'f')).entry;
    const handle = (await r.guest.open(node, 0o2002)).u64(0);
    expect(Buffer.from((await r.guest.read(node, handle, 1, 1 << 20)).bytes).equals(contents.subarray(1))).toBe(true);
    expect((await r.guest.write(node, handle, 0, 'end')).error).toBe(0);
    expect(fs.readFileSync(join(inside, 'f'), 'latin1').slice(-3)).toBe('end');
    const pieces = Array.from({ length: 3000 }, () => new Uint8Array(new SharedArrayBuffer(10)));
    expect(await r.share.read(handle, 5, pieces)).toBe(30_000);
    expect(Buffer.concat(pieces).equals(contents.subarray(5, 30_005))).toBe(true);
    expect((await r.guest.read(node, handle, 1n << 63n, 8)).error).toBe(EINVAL);
    expect((await r.guest.write(node, handle, 1n << 60n, 'x')).error).toBe(EFBIG);
  });

  it('CREATE opens what is there already, unless O_EXCL', async () => {
    using r = await rig(kind);
    fs.writeFileSync(join(inside, 'f'), 'old');
    const opened = await r.guest.create(1, 'f', 0o2);
    expect((await r.guest.read(opened.entry.node, opened.u64(128), 0, 9)).text).toBe('old');
    expect((await r.guest.create(1, 'f', 0o202)).error).toBe(EEXIST);
    expect((await r.guest.create(1, 'f', 0o1002)).entry.size).toBe(3); // as it was looked up; then O_TRUNC
    expect(fs.statSync(join(inside, 'f')).size).toBe(0);
  });

  it('makes directories, links and symbolic links; lists, moves and removes them', async () => {
    using r = await rig(kind);
    const { guest } = r;
    const d = (await guest.call(9, 1, [pack('II', 0o1777, 0), zero('d')])).entry;
    expect(d.mode).toBe(0o041777);
    const f = (await guest.call(8, d.node, [pack('IIII', 0o100622, 0, 0, 0), zero('f')])).entry;
    expect(f.mode).toBe(0o100622);
    const l = await guest.call(6, d.node, [zero('l'), zero('../../t\xe4rget')]);
    expect(l.entry.mode & S_IFMT).toBe(0o120000);
    expect((await guest.call(5, l.entry.node, [])).text).toBe('../../t\xe4rget');
    expect((await guest.call(5, f.node, [])).error).toBe(EINVAL);
    const g = await guest.call(13, 1, [pack('Q', f.node), zero('g')]);
    expect([g.entry.node, g.u32(40 + 64)]).toEqual([f.node, 2]);
    const plain = await guest.list(d.node, false);
    expect(plain.map(e => [e.name, e.type]).sort()).toEqual([
      ['.', 4],
      ['..', 4],
      ['f', 8],
      ['l', 10],
    ]);
    const plus = await guest.list(d.node, true);
    expect(plus.find(e => e.name === 'f')!.node).toBe(f.node);
    // The place of a node follows the move: its attributes are found without another lookup.
    expect((await guest.call(12, d.node, [pack('Q', 1), zero('f'), zero('h')])).error).toBe(0);
    fs.unlinkSync(join(inside, 'g'));
    expect((await guest.call(3, f.node, [pack('IIQ', 0, 0, 0)])).u32(16 + 64)).toBe(1);
    expect((await guest.call(45, 1, [pack('QII', 1, 1, 0), zero('h'), zero('d')])).error).toBe(EEXIST);
    expect((await guest.call(11, 1, [zero('d')])).error).toBe(ENOTEMPTY);
    expect((await guest.call(10, d.node, [zero('l')])).error).toBe(0);
    expect((await guest.call(11, 1, [zero('d')])).error).toBe(0);
    expect((await guest.call(10, 1, [zero('h')])).error).toBe(0);
    expect(fs.readdirSync(inside)).toEqual([]);
    expect((await guest.call(3, f.node, [pack('IIQ', 0, 0, 0)])).error).toBe(ENOENT);
  });

  it('lists a large directory, and what was open before it was removed still has attributes', async () => {
    using r = await rig(kind);
    const names = Array.from({ length: 3000 }, (_, i) => `file-${i}`).sort();
    for (const name of names) fs.writeFileSync(join(inside, name), '');
    for (const plus of [false, true]) {
      const list = await r.guest.list(1, plus);
      expect(list.map(e => e.name).sort()).toEqual(['.', '..', ...names]);
    }
    expect(r.share.holds.nodes).toBe(3001);
    const { node } = (await r.guest.lookup(1, 'file-7')).entry;
    const handle = (await r.guest.open(node, 0)).u64(0);
    await r.guest.call(10, 1, [zero('file-7')]);
    expect((await r.guest.call(3, node, [pack('IIQ', 0, 0, 0)])).u32(16 + 64)).toBe(0); // nlink
    await r.guest.call(18, node, [pack('QIIQ', handle, 0, 0, 0)]);
  });

  it('changes permissions and times, but sets no set-user-ID', async () => {
    using r = await rig(kind);
    fs.writeFileSync(join(inside, 'f'), '');
    const { node } = (await r.guest.lookup(1, 'f')).entry;
    const set = (valid: number, mode: number, sec = 0n, nsec = 0) =>
      r.guest.call(4, node, [
        pack('IIQQQQQQIIIIIIII', valid, 0, 0, 0, 0, sec, sec, 0, nsec, nsec, 0, mode, 0, 0, 0, 0),
      ]);
    expect((await set(1, 0o640)).u32(16 + 60)).toBe(0o100640);
    expect((await set(1, 0o4755)).error).toBe(EPERM);
    expect((await set(1, 0o2755)).error).toBe(EPERM);
    const times = await set(0x30, 0, 1_700_000_000n, 123_456_789);
    expect([times.u64(16 + 24), times.u64(16 + 32)]).toEqual([1_700_000_000, 1_700_000_000]);
    for (const at of [48, 52]) expect(Math.abs(times.u32(16 + at) - 123_456_789)).toBeLessThan(1000);
    // One of the two only: the other one stays.
    const only = await set(0x20, 0, 1_600_000_000n);
    expect([only.u64(16 + 24), only.u64(16 + 32)]).toEqual([1_700_000_000, 1_600_000_000]);
    expect(Math.abs((await set(0x80, 0)).u64(16 + 24) - Date.now() / 1000)).toBeLessThan(100);
    const made = await r.guest.create(1, 'suid', 0o202, 0o6755);
    expect(made.entry.mode).toBe(0o100755);
  });

  it('of a symbolic link it changes the link', async () => {
    using r = await rig(kind);
    fs.symlinkSync(join(outside, 'f'), join(inside, 'l'));
    const before = fs.statSync(join(outside, 'f'), { bigint: true });
    const { node } = (await r.guest.lookup(1, 'l')).entry;
    const set = (valid: number) =>
      r.guest.call(4, node, [
        pack(
          'IIQQQQQQIIIIIIII',
          valid,
          0,
          0,
          0,
          0,
          1000,
          1000,
          0,
          0,
          0,
          0,
          0o600,
          0,
          process.getuid!(),
          process.getgid!(),
          0,
        ),
      ]);
    expect((await set(0x30)).u64(16 + 32)).toBe(1000);
    expect((await set(6)).error).toBe(0);
    expect((await set(1)).error).not.toBe(0);
    expect((await set(8)).error).toBe(ELOOP); // truncate
    const after = fs.statSync(join(outside, 'f'), { bigint: true });
    expect([after.mtimeNs, after.ctimeNs, after.mode]).toEqual([before.mtimeNs, before.ctimeNs, before.mode]);
    expect(fs.readFileSync(join(outside, 'f'), 'latin1')).toBe(SECRET);
  });

  it('read-only: every change is EROFS, and reading goes on', async () => {
    using r = await rig(kind, { readOnly: true });
    const { guest } = r;
    fs.writeFileSync(join(inside, 'f'), 'data');
    const { node } = (await guest.lookup(1, 'f')).entry;
    const set = pack('IIQQQQQQIIIIIIII', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o600, 0, 0, 0, 0);
    const handle = (await guest.open(node, 0)).u64(0);
    const answers = [
      guest.call(4, node, [set]),
      guest.call(6, 1, [zero('l'), zero('x')]),
      guest.call(8, 1, [pack('IIII', 0o100600, 0, 0, 0), zero('m')]),
      guest.call(9, 1, [pack('II', 0o755, 0), zero('d')]),
      guest.call(10, 1, [zero('f')]),
      guest.call(11, 1, [zero('f')]),
      guest.call(12, 1, [pack('Q', 1), zero('f'), zero('g')]),
      guest.call(13, 1, [pack('Q', node), zero('g')]),
      guest.open(node, 1),
      guest.open(node, 0o1000),
      guest.create(1, 'new'),
      guest.create(1, 'f', 0),
      guest.write(node, handle, 0, 'x'),
      guest.call(34, node, [pack('II', 2, 0)]),
    ];
    expect((await Promise.all(answers)).map(a => a.error)).toEqual(answers.map(() => EROFS));
    expect((await guest.read(node, handle, 0, 9)).text).toBe('data');
    expect(fs.readdirSync(inside)).toEqual(['f']);
  });
});

describe.each(usable)('%s: ways out', kind => {
  it('names with a slash, a zero or dots', async () => {
    using r = await rig(kind);
    const { share, guest } = r;
    fs.mkdirSync(join(inside, 'd'));
    fs.writeFileSync(join(inside, 'f'), '');
    const { node } = (await guest.lookup(1, 'd')).entry;
    const file = (await guest.lookup(1, 'f')).entry.node;
    const names = ['..', '.', '', '/', '../outside', '/etc', 'd/..', '../outside/f', `${outside}/f`];
    for (const name of names) {
      const results = await Promise.all([
        guest.lookup(node, name),
        guest.create(node, name),
        guest.call(6, node, [zero(name), zero('x')]),
        guest.call(8, node, [pack('IIII', 0o100600, 0, 0, 0), zero(name)]),
        guest.call(9, node, [pack('II', 0o755, 0), zero(name)]),
        guest.call(10, node, [zero(name)]),
        guest.call(11, node, [zero(name)]),
        guest.call(12, node, [pack('Q', 1), zero(name), zero('x')]),
        guest.call(12, 1, [pack('Q', node), zero('f'), zero(name)]),
        guest.call(13, node, [pack('Q', file), zero(name)]),
      ]);
      expect(
        results.map(a => a.error),
        JSON.stringify(name),
      ).toEqual(results.map(() => EINVAL));
    }
    // What the protocol itself cannot carry.
    for (const name of ['a\0', '..\0', '\u012e\u012e', '..\u012foutside\u012ff']) {
      expect(() => share.lookup(node, name)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
    expect(() => share.makeLink(1, 'l', 'x\0y')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(fs.readdirSync(inside).sort()).toEqual(['d', 'f']);
    expect(fs.readdirSync(top).sort()).toEqual(['inside', 'outside']);
  });

  it('symbolic links are shown, and neither opened nor walked through', async () => {
    using r = await rig(kind);
    const { guest } = r;
    fs.symlinkSync('/etc/passwd', join(inside, 'file'));
    fs.symlinkSync(outside, join(inside, 'dir'));
    fs.symlinkSync(join(outside, 'new'), join(inside, 'dangling'));
    for (const name of ['file', 'dir', 'dangling']) {
      const { node, mode } = (await guest.lookup(1, name)).entry;
      expect(mode & S_IFMT).toBe(0o120000);
      for (const flags of [0, 1, 2, 0o1001]) expect((await guest.open(node, flags)).error).toBe(ELOOP);
      expect((await guest.create(1, name)).error).toBe(ELOOP);
      expect((await guest.create(1, name, 0o202)).error).toBe(EEXIST);
      expect((await guest.call(27, node, [pack('II', 0, 0)])).error).toBe(ENOTDIR);
      expect((await guest.lookup(node, 'f')).error).toBe(ENOTDIR);
      expect((await guest.call(10, node, [zero('f')])).error).toBe(ENOTDIR);
      expect((await guest.create(node, 'x')).error).toBe(ENOTDIR);
      expect((await guest.call(9, 1, [pack('II', 0o755, 0), zero(name)])).error).toBe(EEXIST);
    }
    expect(fs.readdirSync(outside)).toEqual(['f']);
  });

  it('a directory that becomes a symbolic link after it was found', async () => {
    using r = await rig(kind);
    const { guest } = r;
    fs.mkdirSync(join(inside, 'd'));
    fs.writeFileSync(join(inside, 'd', 'f'), 'mine');
    const { node } = (await guest.lookup(1, 'd')).entry;
    const file = (await guest.lookup(node, 'f')).entry.node;
    fs.renameSync(join(inside, 'd'), join(inside, 'aside'));
    fs.symlinkSync(outside, join(inside, 'd'));
    // Either the directory is still known by its descriptor, or it is not found: never what the link leads to.
    const opened = await guest.open(file, 2);
    if (opened.error === 0) expect((await guest.read(file, opened.u64(0), 0, 99)).text).toBe('mine');
    else expect(opened.error).toBe(ESTALE);
    for (const a of [await guest.create(node, 'new'), await guest.call(10, node, [zero('f')])]) {
      expect([0, ESTALE]).toContain(a.error);
    }
    expect(fs.readdirSync(outside)).toEqual(['f']);
    expect(fs.readFileSync(join(outside, 'f'), 'latin1')).toBe(SECRET);
  });

  it.skipIf(windows)('fifos and devices can be seen, and opening does not wait for them', async () => {
    using r = await rig(kind);
    const made = await new Promise<number | null>(resolve => {
      spawn('mkfifo', [join(inside, 'fifo')]).on('exit', resolve);
    });
    expect(made).toBe(0);
    const { node, mode } = (await r.guest.lookup(1, 'fifo')).entry;
    expect(mode & S_IFMT).toBe(0o010000);
    for (const flags of [0, 1, 2]) expect((await r.guest.open(node, flags)).error).toBe(ENXIO);
    expect((await r.guest.create(1, 'fifo')).error).toBe(ENXIO);
    for (const type of [0o010000, 0o020000, 0o060000, 0o140000]) {
      expect((await r.guest.call(8, 1, [pack('IIII', type | 0o600, 0x103, 0, 0), zero('n')])).error).toBe(EPERM);
    }
  });

  it('handles are of their kind only', async () => {
    using r = await rig(kind);
    fs.writeFileSync(join(inside, 'f'), 'data');
    const { node } = (await r.guest.lookup(1, 'f')).entry;
    const file = (await r.guest.open(node, 0)).u64(0);
    const directory = (await r.guest.call(27, 1, [pack('II', 0, 0)])).u64(0);
    expect((await r.guest.open(1, 0)).error).toBe(EISDIR);
    expect((await r.guest.call(27, node, [pack('II', 0, 0)])).error).toBe(ENOTDIR);
    expect((await r.guest.read(1, directory, 0, 9)).error).toBe(EISDIR);
    expect((await r.guest.write(node, file, 0, 'x')).error).toBe(EBADF);
    expect((await r.guest.call(28, node, [pack('QQIIQII', file, 2, 999, 0, 0, 0, 0)])).error).toBe(ENOTDIR);
    expect((await r.guest.call(28, 1, [pack('QQIIQII', 999, 2, 999, 0, 0, 0, 0)])).error).toBe(EBADF);
  });

  it('nodes and handles are bounded, and all is given back', async () => {
    const before = windows ? 0 : descriptors();
    const r = await rig(kind, { maxNodes: 50 });
    const deep = join(inside, ...Array(40).fill('d'));
    fs.mkdirSync(deep, { recursive: true });
    for (let i = 0; i < 60; i++) fs.writeFileSync(join(inside, `f${i}`), '');
    let parent = 1;
    for (let i = 0; i < 40; i++) parent = (await r.guest.lookup(parent, 'd')).entry.node;
    // Descriptors of the directories above have been closed, and are found again from the root.
    expect((await r.guest.create(parent, 'deep')).error).toBe(0);
    expect(fs.readdirSync(deep)).toEqual(['deep']);
    const errors: number[] = [];
    for (let i = 0; i < 60; i++) errors.push((await r.guest.lookup(1, `f${i}`)).error);
    expect(errors).toEqual(errors.map((_, i) => (i < 9 ? 0 : ENFILE)));
    expect((await r.guest.create(1, 'more')).error).toBe(ENFILE);
    expect(fs.existsSync(join(inside, 'more'))).toBe(false);
    const opens: number[] = [];
    for (let i = 0; i < 80; i++) opens.push((await r.guest.call(27, 1, [pack('II', 0, 0)])).error);
    expect(opens).toEqual(opens.map((_, i) => (i < 63 ? 0 : ENFILE)));
    if (!windows) expect(descriptors()).toBeLessThanOrEqual(before + 64 + 16 + 1);
    await r.guest.call(38, 0, []);
    expect(r.share.holds).toEqual({ nodes: 1, handles: 0 });
    r.share.close();
    if (!windows) expect(descriptors()).toBe(before);
  });

  it('a handle that is released while it is read is closed only afterwards', async () => {
    using r = await rig(kind);
    fs.writeFileSync(join(inside, 'f'), 'x'.repeat(1000));
    const { node } = (await r.guest.lookup(1, 'f')).entry;
    for (let i = 0; i < 200; i++) {
      const handle = (await r.guest.open(node, 0)).u64(0);
      const reads = [0, 1, 2, 3].map(() => r.share.read(handle, 0, [new Uint8Array(1000)]));
      r.share.release(handle);
      // Its number must not become that of a file of the VMM while it is read.
      const fd = fs.openSync(join(outside, 'f'), 'r');
      expect(await Promise.all(reads)).toEqual([1000, 1000, 1000, 1000]);
      fs.closeSync(fd);
    }
    expect(r.share.holds.handles).toBe(0);
  });
});

describe.each(usable)('%s: a hostile guest', kind => {
  it('100,000 requests of any kind stay inside, and leave nothing behind', async () => {
    const before = windows ? 0 : descriptors();
    fs.symlinkSync(outside, join(inside, 'out'));
    fs.symlinkSync('..', join(inside, 'up'));
    fs.mkdirSync(join(inside, 'd', 'e'), { recursive: true });
    fs.writeFileSync(join(inside, 'f'), 'mine');
    const shape = (path: string) => {
      const { mode, mtimeNs, ctimeNs, nlink } = fs.statSync(path, { bigint: true });
      return [mode, mtimeNs, ctimeNs, nlink].join();
    };
    const untouched = () => [outside, join(outside, 'f')].map(shape);
    const was = untouched();
    const { share } = await rig(kind, { maxNodes: 100 });
    const host = fakeHost(new VirtioFs({ tag: 'x', server: share }));
    const device = new VirtioFs({ tag: 'x', server: share });
    device.activate(host);
    const queue = host.queues[1]!;
    let seed = 12345;
    const pick = (n: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % n;
    };
    const NAMES = ['a', 'b', 'd', 'e', 'f', 'out', 'up', '..', '.', '', 'a/b', '../outside/f', '/etc/passwd', 'out/f'];
    const name = () => zero(NAMES[pick(NAMES.length)]!);
    const flags = () => [0, 1, 2, 0o1001, 0o2002, 0o202][pick(6)]!;
    // Nodes and handles that the guest has, and some that it had or never gets.
    const known = [1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 2 ** 40, 2 ** 64];
    const number = () => BigInt(known[pick(known.length)]!);
    const args: Record<number, () => Uint8Array[]> = {
      1: () => [name()],
      4: () => [pack('IIQQQQQQIIIIIIII', pick(512), 0, number(), pick(9999), 0, 1, 2, 3, 4, 5, 6, 0o700, 0, 0, 0, 0)],
      6: () => [name(), zero(['/etc/passwd', '../outside/f', outside][pick(3)]!)],
      8: () => [pack('IIII', 0o100700, 0, 0, 0), name()],
      9: () => [pack('II', 0o755, 0), name()],
      10: () => [name()],
      11: () => [name()],
      12: () => [pack('Q', number()), name(), name()],
      13: () => [pack('Q', number()), name()],
      14: () => [pack('II', flags(), 0)],
      16: () => [pack('QQIIQII', number(), pick(9999), 3, 0, 0, 0, 0), Uint8Array.of(1, 2, 3)],
      35: () => [pack('IIII', flags(), 0o700, 0, 0), name()],
      45: () => [pack('QII', number(), pick(3), 0), name(), name()],
    };
    const OPCODES = [
      1, 1, 1, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 14, 15, 15, 16, 16, 18, 27, 28, 29, 35, 44, 45,
    ];
    const init = request(26, 0, pack('IIII', 7, 37, 0, 0));
    let sent = 0;
    let succeeded = 0;
    for (let i = 0; i < 100_000; i++) {
      // Now and then any opcode, FUSE_FSYNC and those that are not there among them.
      const opcode = pick(500) === 0 ? pick(64) : OPCODES[pick(OPCODES.length)]!;
      const rest = args[opcode]?.() ?? [pack('QQIIQII', number(), pick(4), pick(5000), 0, 0, 0, 0)];
      queue.offer([request(opcode, number(), ...rest)], [16, pick(20) === 0 ? pick(100) : 600]);
      sent++;
      if (i % 50 !== 0) continue;
      if (i % 1000 === 0) {
        queue.offer([init], [16, 64]); // a new mount, also since FUSE_DESTROY may have come by
        sent++;
      }
      device.notify(1);
      while (queue.pushed.length < sent) await new Promise(setImmediate);
      for (const { chain, written } of queue.pushed) {
        if (written === 0) continue;
        const bytes = Buffer.concat(chain.writable);
        if (bytes.readInt32LE(4) === 0) {
          succeeded++;
          if (written >= 32) known[pick(8)] = Number(bytes.readBigUInt64LE(16) & 0xffff_ffffn);
        }
        expect(bytes.includes(SECRET)).toBe(false);
      }
      queue.pushed.length = sent = 0;
    }
    await device.reset();
    share.close();
    expect(succeeded).toBeGreaterThan(3000);
    expect(untouched()).toEqual(was);
    expect(fs.readdirSync(top).sort()).toEqual(['inside', 'outside']);
    expect(share.holds).toEqual({ nodes: 1, handles: 0 });
    if (!windows) expect(descriptors()).toBe(before);
  });
});

describe.skipIf(!AnchoredAccess.available())('races with another program of the host', () => {
  let child: ChildProcess;

  /** Exchanges `a` and `b`, through `aside`, as fast as it can. */
  async function exchange(a: string, b: string, aside: string): Promise<void> {
    const program = `const { renameSync } = require('node:fs');
      const [a, b, aside] = process.argv.slice(1);
      process.stdout.write('ready');
      for (;;) { renameSync(a, aside); renameSync(b, a); renameSync(aside, b); }`;
    child = spawn(process.execPath, ['-e', program, a, b, aside], { stdio: ['ignore', 'pipe', 'ignore'] });
    await new Promise(resolve => {
      child.stdout!.once('data', resolve);
    });
  }

  async function stop(): Promise<void> {
    await new Promise(resolve => {
      child.once('exit', resolve);
      child.kill('SIGKILL');
    });
  }

  it('a directory that is swapped for a symbolic link leads nowhere', async () => {
    fs.mkdirSync(join(inside, 'd'));
    fs.writeFileSync(join(inside, 'd', 'f'), 'mine');
    fs.symlinkSync(outside, join(inside, 'l'));
    const mode = fs.statSync(join(outside, 'f')).mode;
    using r = await rig('anchored');
    const { guest } = r;
    await exchange(join(inside, 'd'), join(inside, 'l'), join(inside, 'aside'));
    const seen = { links: 0, directories: 0, read: 0, created: 0 };
    try {
      for (let i = 0; i < 2000; i++) {
        const d = await guest.lookup(1, 'd');
        if (d.error !== 0) continue;
        const { node } = d.entry;
        if ((d.entry.mode & S_IFMT) === 0o120000) seen.links++;
        else seen.directories++;
        const f = await guest.lookup(node, 'f');
        if (f.error === 0) {
          const file = f.entry.node;
          expect(f.entry.size).toBe(4);
          const opened = await guest.open(file, 2);
          if (opened.error === 0) {
            const handle = opened.u64(0);
            expect((await guest.read(file, handle, 0, 100)).text).toBe('mine');
            await guest.write(file, handle, 0, 'mine');
            await guest.call(18, file, [pack('QIIQ', handle, 0, 0, 0)]);
            seen.read++;
          }
          const set = pack('IIQQQQQQIIIIIIII', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, i & 1 ? 0o700 : 0o600, 0, 0, 0, 0);
          await guest.call(4, file, [set]);
          guest.forget(file, 1);
        }
        const made = await guest.create(node, 'new');
        if (made.error === 0) {
          seen.created++;
          await guest.call(18, node, [pack('QIIQ', made.u64(128), 0, 0, 0)]);
          guest.forget(made.entry.node, 1);
        }
        await guest.call(9, node, [pack('II', 0o755, 0), zero('sub')]);
        await guest.call(11, node, [zero('sub')]);
        await guest.call(12, node, [pack('Q', node), zero('new'), zero('other')]);
        await guest.call(10, node, [zero('other')]);
        guest.forget(node, 1);
      }
    } finally {
      await stop();
    }
    // The race has been run, and all of it stayed inside.
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(10);
    expect(fs.readdirSync(outside)).toEqual(['f']);
    expect(fs.readFileSync(join(outside, 'f'), 'latin1')).toBe(SECRET);
    expect(fs.statSync(join(outside, 'f')).mode).toBe(mode);
  });

  it('neither does a file', async () => {
    fs.writeFileSync(join(inside, 'f'), 'mine');
    fs.symlinkSync(join(outside, 'f'), join(inside, 'l'));
    const was = fs.statSync(join(outside, 'f'), { bigint: true });
    using r = await rig('anchored');
    const { guest } = r;
    await exchange(join(inside, 'f'), join(inside, 'l'), join(inside, 'aside'));
    let read = 0;
    let links = 0;
    const set = pack('IIQQQQQQIIIIIIII', 0x31, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0, 0o640, 0, 0, 0, 0);
    try {
      for (let i = 0; i < 2000; i++) {
        for (const opened of [await guest.create(1, 'f', 2), await guest.lookup(1, 'f')]) {
          if (opened.error !== 0) continue;
          const { node } = opened.entry;
          const made = opened.bytes.length > 128;
          const file = made ? opened : await guest.open(node, 0o1002);
          if (file.error === ELOOP) links++;
          if (file.error !== 0) {
            guest.forget(node, 1);
            continue;
          }
          const handle = file.u64(made ? 128 : 0);
          const a = await guest.read(node, handle, 0, 100);
          if (a.error === 0) {
            expect(['mine', '']).toContain(a.text);
            read++;
          }
          await guest.call(4, node, [set]);
          await guest.call(18, node, [pack('QIIQ', handle, 0, 0, 0)]);
          guest.forget(node, 1);
        }
      }
    } finally {
      await stop();
    }
    expect(read).toBeGreaterThan(10);
    expect(links).toBeGreaterThan(10);
    const is = fs.statSync(join(outside, 'f'), { bigint: true });
    expect([is.mode, is.mtimeNs, is.ctimeNs, is.size]).toEqual([was.mode, was.mtimeNs, was.ctimeNs, was.size]);
  });
});

describe('openShare', () => {
  it('shares what is there, through a symbolic link too', async () => {
    fs.writeFileSync(join(inside, 'f'), 'data');
    fs.symlinkSync(inside, join(top, 'link'));
    const share = await openShare({ directory: join(top, 'link'), readOnly: true });
    expect(share.lookup(1, 'f').attributes.size).toBe(4n);
    expect(share.statistics(1).blocks).toBeGreaterThan(0n);
    share.close();
  });

  it('says what is wrong', async () => {
    const open = (directory: string) => openShare({ directory, readOnly: false });
    await expect(open(join(top, 'none'))).rejects.toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
      hint: expect.any(String),
    });
    await expect(open(join(outside, 'f'))).rejects.toMatchObject({ code: 'ERR_USAGE', hint: expect.any(String) });
    await expect(open(join(outside, 'f', 'x'))).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
  });
});
