import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { images } from '../../src/cli/images.ts';
import { pull } from '../../src/cli/pull.ts';
import { readCpio } from '../../src/firmware/cpio.ts';
import type { PullOptions } from '../../src/images/index.ts';
import {
  cacheFolder,
  findImage,
  ImageCache,
  isCurrent,
  type PullEvent,
  pullImage,
  readInputFile,
} from '../../src/images/index.ts';
import { installed, makeDeb, xzStored } from '../support/debs.ts';
import { makeArm64Image } from '../support/kernels.ts';
import { moduleWith } from '../support/modules.ts';

const sha256 = (b: Uint8Array | string) => createHash('sha256').update(b).digest('hex');
const text = (s: string) => new TextEncoder().encode(s);
const RELEASE = '6.1.0-1-cloud-arm64';
const KERNEL_DEB = `pool/main/l/linux-image-${RELEASE}_1_arm64.deb`;
const BUSYBOX_DEB = 'pool/main/b/busybox-static_1+b1_arm64.deb';

/** A Debian archive with two packages, by path below the mirror's address. */
async function makeArchive(
  options: { kernel?: Uint8Array; compression?: 'gz' | 'xz'; architecture?: 'amd64' | 'arm64' } = {},
): Promise<Map<string, Uint8Array>> {
  const { architecture = 'arm64' } = options;
  const modules = `./lib/modules/${RELEASE}/kernel/drivers`;
  const files = new Map<string, Uint8Array>();
  const kernelDeb = await makeDeb(
    {
      [`./boot/vmlinuz-${RELEASE}`]: options.kernel ?? makeArm64Image(300_000),
      [`${modules}/virtio/virtio_pci.ko`]: moduleWith('depends=virtio_ring,virtio\0'),
      [`${modules}/virtio/virtio.ko`]: moduleWith('depends=\0'),
      [`${modules}/virtio/virtio_ring.ko`]: moduleWith('depends=virtio\0'),
      [`${modules}/net/other.ko`]: moduleWith('depends=\0'),
      [`${modules}/ptp/ptp_kvm.ko`]: moduleWith('depends=\0'),
    },
    options.compression ?? 'xz', // which is stored here: as large as the kernel
  );
  const busyboxDeb = await makeDeb(
    { './bin/busybox': text('\x7fELF...[\0[[\0ash\0cttyhack\0insmod\0mount\0poweroff\0sh\0\0') },
    'gz',
  );
  const stanza = (name: string, path: string, deb: Uint8Array) =>
    `Package: ${name}\nVersion: 1\nFilename: ${path}\nSize: ${deb.length}\nSHA256: ${sha256(deb)}\nDescription: made up\n  with a second line\n`;
  const list = [
    `Package: linux-image-cloud-${architecture}\nVersion: 1\nDepends: linux-image-${RELEASE} (= 1)\n`,
    stanza(`linux-image-${RELEASE}`, KERNEL_DEB, kernelDeb),
    stanza('busybox-static', BUSYBOX_DEB, busyboxDeb),
  ].join('\n');
  const packages = xzStored(text(list));
  const packagesPath = `main/binary-${architecture}/Packages.xz`;
  const release = [
    'Origin: made up',
    'Suite: oldstable',
    'Codename: bookworm',
    'Date: Sat, 01 Jan 2022 00:00:00 UTC',
    'MD5Sum:',
    ` ${'0'.repeat(32)} ${packages.length} ${packagesPath}`,
    'SHA256:',
    ` ${sha256(packages)} ${packages.length} ${packagesPath}`,
    '',
  ].join('\n');
  files.set('dists/bookworm/Release', text(release));
  files.set(`dists/bookworm/${packagesPath}`, packages);
  files.set(KERNEL_DEB, kernelDeb);
  files.set(BUSYBOX_DEB, busyboxDeb);
  return files;
}

/** What the server does beyond serving files. */
interface Behaviour {
  /** Break the connection after so many bytes of a body of this path, once per entry. */
  breaks: { path: string; after: number }[];
  /** Answer ranges with the whole file. */
  noRanges?: boolean;
  /** Accept requests for this path and never answer. */
  hang?: string;
}

let server: Server;
let mirror: string;
let archive: Map<string, Uint8Array>;
let behaviour: Behaviour;
let requests: { path: string; range: string | undefined }[];
let folder: string;

function serve(req: IncomingMessage, res: ServerResponse): void {
  // A proxy gets the whole address.
  const path = decodeURIComponent(new URL(req.url ?? '', 'http://host').pathname).replace(/^\/debian\//, '');
  requests.push({ path, range: req.headers.range });
  const file = archive.get(path);
  if (!file) {
    res.writeHead(404).end();
    return;
  }
  if (behaviour.hang === path) return;
  const from = behaviour.noRanges ? 0 : Number(/^bytes=(\d+)-$/.exec(req.headers.range ?? '')?.[1] ?? 0);
  const body = file.subarray(from);
  const headers = { 'content-length': body.length };
  if (from > 0) res.writeHead(206, { ...headers, 'content-range': `bytes ${from}-${file.length - 1}/${file.length}` });
  else res.writeHead(200, headers);
  const broken = behaviour.breaks.findIndex(b => b.path === path);
  if (broken < 0) {
    res.end(body);
    return;
  }
  const [{ after } = { after: 0 }] = behaviour.breaks.splice(broken, 1);
  res.write(body.subarray(0, after), () => setTimeout(() => res.destroy(), 20));
}

beforeAll(async () => {
  server = createServer(serve);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}/debian`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(async () => {
  archive = await makeArchive();
  behaviour = { breaks: [] };
  requests = [];
  folder = await mkdtemp(join(tmpdir(), 'tsvisor-pull-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const pullHere = (options: PullOptions = {}) =>
  pullImage('debian-arm64', { cacheDir: folder, mirror, signature: 'skip', env: {}, ...options });
const failure = (p: Promise<unknown>) =>
  p.then(
    () => ({ code: 'no error', message: '', hint: '' }),
    (e: { code: string; message: string; hint: string }) => e,
  );
const kernelRequests = () => requests.filter(r => r.path === KERNEL_DEB).map(r => r.range);

/** A stream that keeps what is written to it. */
class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

describe('pull from a mirror', () => {
  it('goes down the chain of hashes and makes an image', async () => {
    const events: PullEvent[] = [];
    const { image, changed } = await pullHere({ onEvent: e => events.push(e) });
    expect(changed).toBe(true);
    expect(image.release).toBe(RELEASE);
    expect(image.provenance.verified.join()).toMatch(/package list.*Release file.*each package/);
    expect(image.provenance.notVerified).toEqual(['signature not checked: it was not asked for']);
    expect(new Uint8Array(await readFile(image.kernel))).toEqual(makeArm64Image(300_000));
    const files = new Map(readCpio(await readFile(image.initrd)).map(e => [e.path, new TextDecoder().decode(e.data)]));
    expect(files.get('lib/modules/order')).toBe('virtio.ko\nvirtio_ring.ko\nvirtio_pci.ko\n');
    expect(files.get('bin/sh')).toBe('busybox');
    expect(files.has('lib/modules/other.ko')).toBe(false);
    expect(files.get('init')?.startsWith('#!/bin/busybox sh\n')).toBe(true);
    const last = events.filter(e => e.type === 'progress').at(-1);
    expect(last).toMatchObject({ file: 'busybox-static', done: archive.get(BUSYBOX_DEB)?.length });
    expect(await readdir(join(folder, 'downloads'))).toEqual([]);
    expect(await findImage('debian-arm64', { cacheDir: folder })).toMatchObject({ kernel: image.kernel });
  });

  it('makes the same bytes every time, and downloads nothing twice', async () => {
    const first = (await pullHere()).image;
    requests = [];
    expect(await pullHere()).toMatchObject({ changed: false, image: { initrd: first.initrd } });
    expect(requests.map(r => r.path)).not.toContain(KERNEL_DEB);
    const other = join(folder, 'other');
    const again = (await pullHere({ cacheDir: other })).image;
    expect(again.initrd.slice(other.length)).toBe(first.initrd.slice(folder.length)); // named by digest
  });

  it('replaces an image whose package has changed and deletes the old files', async () => {
    const old = (await pullHere()).image;
    archive = await makeArchive({ kernel: makeArm64Image(400_000) });
    const { image, changed } = await pullHere();
    expect(changed).toBe(true);
    expect((await stat(image.kernel)).size).toBe(400_000);
    await expect(stat(old.kernel)).rejects.toThrow('ENOENT');
  });

  it('knows an image that another version of this program has made, and makes it anew out of the same packages', async () => {
    const { image } = await pullHere();
    expect(isCurrent((await findImage('debian-arm64', { cacheDir: folder }))!)).toBe(true);
    const manifest = join(folder, 'images/debian-arm64/image.json');
    await writeFile(manifest, (await readFile(manifest, 'utf8')).replace(/"recipe": "\w+"/, '"recipe": "old"'));
    expect(isCurrent((await findImage('debian-arm64', { cacheDir: folder }))!)).toBe(false);
    expect(await pullHere()).toMatchObject({ changed: true, image: { initrd: image.initrd } });
    expect(isCurrent((await findImage('debian-arm64', { cacheDir: folder }))!)).toBe(true);
  });

  it('keeps an image for each architecture, with the packages and the recipe of its own', async () => {
    const arm64 = (await pullHere()).image;
    expect(arm64.architecture).toBe('aarch64');
    const named = await failure(pullImage('debian-amd64', { cacheDir: folder, mirror, signature: 'skip', env: {} }));
    expect(named).toMatchObject({ code: 'ERR_DOWNLOAD', message: expect.stringContaining('amd64 in bookworm') });

    archive = await makeArchive({ architecture: 'amd64', kernel: text('another kernel') });
    const { image } = await pullImage('debian-amd64', { cacheDir: folder, mirror, signature: 'skip', env: {} });
    expect(image).toMatchObject({ name: 'debian-amd64', architecture: 'x86_64', release: RELEASE });
    const files = new Map(readCpio(await readFile(image.initrd)).map(e => [e.path, new TextDecoder().decode(e.data)]));
    // What only this architecture has as a module is carried and not loaded.
    expect(files.has('lib/modules/ptp_kvm.ko')).toBe(true);
    expect(files.get('lib/modules/order')).toBe('virtio.ko\nvirtio_ring.ko\nvirtio_pci.ko\n');
    expect(readCpio(await readFile(arm64.initrd)).map(e => e.path)).not.toContain('lib/modules/ptp_kvm.ko');

    const found = await Promise.all(
      ['debian-arm64', 'debian-amd64'].map(name => findImage(name, { cacheDir: folder })),
    );
    expect(found.map(i => i?.kernel)).toEqual([arm64.kernel, image.kernel]);
    expect(found.map(i => i && isCurrent(i))).toEqual([true, true]);
    expect(found[0]?.recipe).not.toBe(found[1]?.recipe);
    expect(isCurrent({ name: 'debian-arm64', recipe: found[1]?.recipe ?? '' })).toBe(false);
  });

  it('takes the image of a manifest without an architecture for an arm64 one', async () => {
    await pullHere();
    const manifest = join(folder, 'images/debian-arm64/image.json');
    await writeFile(manifest, (await readFile(manifest, 'utf8')).replace(/ *"architecture": "\w+",\n/, ''));
    expect(await findImage('debian-arm64', { cacheDir: folder })).toMatchObject({ architecture: 'aarch64' });
  });

  it('takes by-hash addresses where the archive has them', async () => {
    const path = 'dists/bookworm/main/binary-arm64/Packages.xz';
    const packages = archive.get(path) ?? new Uint8Array(0);
    archive.delete(path);
    archive.set(`dists/bookworm/main/binary-arm64/by-hash/SHA256/${sha256(packages)}`, packages);
    const release = new TextDecoder().decode(archive.get('dists/bookworm/Release'));
    archive.set('dists/bookworm/Release', text(`Acquire-By-Hash: yes\n${release}`));
    expect((await pullHere()).changed).toBe(true);
  });

  it('goes through a proxy, except for hosts in no_proxy', async () => {
    const proxy = new URL(mirror).origin;
    const env = { HTTP_PROXY: proxy, no_proxy: 'exempt.invalid' };
    expect((await pullHere({ mirror: 'http://archive.invalid/debian', env })).changed).toBe(true);
    const direct = await failure(pullHere({ mirror: 'http://a.exempt.invalid/debian', env }));
    expect(direct).toMatchObject({ code: 'ERR_DOWNLOAD', message: expect.stringContaining('a.exempt.invalid') });
  });
});

describe('pull: what goes wrong on the way', () => {
  it.each([
    ['the kernel', KERNEL_DEB],
    ['the package list', 'dists/bookworm/main/binary-arm64/Packages.xz'],
  ])('finds a changed byte in %s', async (_, path) => {
    const bytes = Uint8Array.from(archive.get(path) ?? []);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    archive.set(path, bytes);
    expect(await failure(pullHere())).toMatchObject({ code: 'ERR_VERIFY', message: expect.stringContaining(path) });
    expect(await readdir(join(folder, 'downloads'))).toEqual([]);
    expect(await findImage('debian-arm64', { cacheDir: folder })).toBeUndefined();
  });

  it('finds a file that is longer than the list says', async () => {
    archive.set(KERNEL_DEB, Buffer.concat([archive.get(KERNEL_DEB) ?? new Uint8Array(0), text('more')]));
    expect(await failure(pullHere())).toMatchObject({ code: 'ERR_VERIFY' });
  });

  it('goes on after a broken connection, with a range', async () => {
    behaviour.breaks = [
      { path: KERNEL_DEB, after: 100_000 },
      { path: KERNEL_DEB, after: 50_000 },
    ];
    expect((await pullHere()).changed).toBe(true);
    expect(kernelRequests()).toEqual([undefined, 'bytes=100000-', 'bytes=150000-']);
  });

  it('goes on in the next pull after one that was aborted', async () => {
    const abort = new AbortController();
    const onEvent = (e: PullEvent) => {
      if (e.type === 'progress' && e.file.startsWith('linux') && e.done > 0) abort.abort(new Error('stopped'));
    };
    await expect(pullHere({ signal: abort.signal, onEvent })).rejects.toThrow('stopped');
    const [part] = await readdir(join(folder, 'downloads'));
    const { size } = await stat(join(folder, 'downloads', part ?? ''));
    expect(size).toBeGreaterThan(0);
    requests = [];
    expect((await pullHere()).changed).toBe(true);
    expect(kernelRequests()).toEqual([`bytes=${size}-`]);
  });

  it('starts again when the server knows no ranges, or when the beginning was of another file', async () => {
    behaviour = { breaks: [{ path: KERNEL_DEB, after: 100_000 }], noRanges: true };
    expect((await pullHere()).changed).toBe(true);
    await rm(folder, { recursive: true });
    behaviour = { breaks: [] };
    const deb = archive.get(KERNEL_DEB) ?? new Uint8Array(0);
    await mkdir(join(folder, 'downloads'), { recursive: true });
    await writeFile(join(folder, 'downloads', `${sha256(deb)}.part`), new Uint8Array(1000));
    requests = [];
    expect((await pullHere()).changed).toBe(true);
    expect(kernelRequests()).toEqual(['bytes=1000-', undefined]);
  });

  it('tells a wrong suite, a wrong address, an unreachable host and a Release of another suite apart', async () => {
    expect(await failure(pullHere({ suite: 'nosuch' }))).toMatchObject({
      code: 'ERR_DOWNLOAD',
      message: expect.stringContaining('no suite nosuch'),
    });
    expect(await failure(pullHere({ mirror: 'ftp://host/debian' }))).toMatchObject({ code: 'ERR_USAGE' });
    expect(await failure(pullHere({ mirror: 'http://127.0.0.1:1/debian' }))).toMatchObject({
      code: 'ERR_DOWNLOAD',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    archive.set('dists/trixie/Release', archive.get('dists/bookworm/Release') ?? text(''));
    expect(await failure(pullHere({ suite: 'trixie' }))).toMatchObject({ code: 'ERR_VERIFY' });
  });

  it('refuses a Release file that has expired', async () => {
    const release = new TextDecoder().decode(archive.get('dists/bookworm/Release'));
    archive.set('dists/bookworm/Release', text(`Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\n${release}`));
    expect(await failure(pullHere())).toMatchObject({
      code: 'ERR_VERIFY',
      message: expect.stringContaining('expired'),
    });
  });

  it('stops at once when aborted while the server hangs', async () => {
    behaviour.hang = KERNEL_DEB;
    const abort = new AbortController();
    const pulling = failure(pullHere({ signal: abort.signal }));
    while (kernelRequests().length === 0) await new Promise(resolve => setTimeout(resolve, 5));
    abort.abort(new Error('stopped'));
    expect((await pulling).message).toBe('stopped');
    expect(await readdir(folder)).not.toContain('pull.lock');
  });

  it('says when the kernel package has no kernel', async () => {
    const deb = await makeDeb({ './usr/share/doc/x': text('x') }, 'gz');
    const list = new TextDecoder().decode(archive.get('dists/bookworm/main/binary-arm64/Packages.xz'));
    expect(list).toContain('linux-image'); // stored, not compressed: the digests below can be put in place
    const old = archive.get(KERNEL_DEB) ?? new Uint8Array(0);
    const from = (s: string) => s.slice(s.indexOf('Package: linux-image-cloud'), s.lastIndexOf('second line\n') + 12);
    const changed = from(list).replace(sha256(old), sha256(deb)).replace(`Size: ${old.length}`, `Size: ${deb.length}`);
    const packages = gzipSync(changed);
    const digest = `${sha256(packages)} ${packages.length} main/binary-arm64/Packages.gz`;
    archive.set('dists/bookworm/Release', text(`Codename: bookworm\nSHA256:\n ${digest}\n`));
    archive.set('dists/bookworm/main/binary-arm64/Packages.gz', packages);
    archive.set(KERNEL_DEB, deb);
    expect(await failure(pullHere())).toMatchObject({
      code: 'ERR_DOWNLOAD',
      message: expect.stringContaining('boot/vmlinuz'),
    });
  });
});

describe('pull: signatures', () => {
  const missing = ['gpg', 'gpgv'].filter(p => !installed(p));
  if (missing.length > 0) console.log(`skipped: signatures of a mirror: ${missing.join(' and ')} not installed`);
  it.skipIf(missing.length > 0)('accepts a good one, refuses a bad, a foreign and a missing one', async () => {
    const home = join(folder, 'gnupg');
    const gpg = (args: string[], input?: Uint8Array | string) => {
      const r = spawnSync('gpg', ['--homedir', home, '--batch', '--quiet', ...args], { input });
      if (r.status !== 0) throw new Error(`gpg ${args.join(' ')}: ${r.stderr}`);
      return r.stdout;
    };
    await mkdir(home, { mode: 0o700 });
    for (const name of ['ours', 'theirs']) {
      gpg(['--passphrase', '', '--quick-generate-key', name, 'rsa2048', 'sign']);
      gpg(['--output', join(folder, `${name}.gpg`), '--export', name]);
    }
    spawnSync('gpgconf', ['--homedir', home, '--kill', 'gpg-agent']);
    const release = archive.get('dists/bookworm/Release') ?? text('');
    const env = { PATH: process.env.PATH, TSVISOR_KEYRING: join(folder, 'ours.gpg') };
    const attempt = () => failure(pullHere({ signature: 'auto', env }));

    expect(await attempt()).toMatchObject({
      code: 'ERR_VERIFY',
      message: expect.stringContaining('without a signature'),
    });
    archive.set('dists/bookworm/Release.gpg', gpg(['-u', 'ours', '--detach-sign'], release));
    expect(await attempt()).toMatchObject({ code: 'no error' });
    archive.set('dists/bookworm/Release.gpg', gpg(['-u', 'theirs', '--detach-sign'], release));
    expect(await attempt()).toMatchObject({ code: 'ERR_VERIFY', message: expect.stringContaining('not valid') });

    const inline = gpg(['-u', 'ours', '--clearsign'], release);
    archive.set('dists/bookworm/InRelease', inline);
    const { image } = await pullHere({ signature: 'require', env, cacheDir: join(folder, 'second') });
    expect(image.provenance.verified[0]).toContain('signature of the Release file');
    expect(image.provenance.notVerified).toEqual([]);
    archive.set('dists/bookworm/InRelease', Buffer.from(inline.toString().replace('made up', 'made UP')));
    expect(await attempt()).toMatchObject({ code: 'ERR_VERIFY', message: expect.stringContaining('not valid') });
    spawnSync('gpgconf', ['--homedir', home, '--kill', 'gpg-agent']);
  });

  it('says that it was not checked where that is impossible', async () => {
    const env = { PATH: folder }; // where there is no gpgv
    const { image } = await pullHere({ signature: 'auto', env });
    expect(image.provenance.notVerified.join()).toMatch(/^signature not checked: no gpgv/);
    expect(await failure(pullHere({ signature: 'require', env }))).toMatchObject({ code: 'ERR_VERIFY' });
  });
});

describe('the cache', () => {
  it('is in the place that the platform has for it', () => {
    expect(cacheFolder({ TSVISOR_CACHE: '/x' }, 'linux', '/home/u')).toBe('/x');
    expect(cacheFolder({ XDG_CACHE_HOME: '/xdg' }, 'linux', '/home/u')).toBe('/xdg/tsvisor');
    expect(cacheFolder({ XDG_CACHE_HOME: 'relative' }, 'linux', '/home/u')).toBe('/home/u/.cache/tsvisor');
    expect(cacheFolder({}, 'darwin', '/Users/u')).toBe('/Users/u/Library/Caches/tsvisor');
    expect(cacheFolder({ LOCALAPPDATA: '/L' }, 'win32', '/u')).toBe(join('/L', 'tsvisor', 'cache'));
  });

  it('is enough offline, and says what is missing', async () => {
    expect(await failure(pullHere({ offline: true }))).toMatchObject({ code: 'ERR_OFFLINE' });
    await pullHere();
    requests = [];
    expect(await pullHere({ offline: true })).toMatchObject({ changed: false });
    expect(requests).toEqual([]);
  });

  it.each([
    ['a changed kernel', async (kernel: string) => writeFile(kernel, makeArm64Image(300_000, { textOffset: 1n }))],
    ['a cut-off kernel', async (kernel: string) => truncate(kernel, 100)],
    ['a missing kernel', async (kernel: string) => rm(kernel)],
    ['a broken manifest', async () => writeFile(join(folder, 'images/debian-arm64/image.json'), '{"version":1')],
    [
      'a manifest of another version',
      async () => writeFile(join(folder, 'images/debian-arm64/image.json'), '{"version":2}'),
    ],
  ])('notices %s, and a pull repairs it', async (_, damage) => {
    const { image } = await pullHere();
    await damage(image.kernel);
    expect(await failure(findImage('debian-arm64', { cacheDir: folder }))).toMatchObject({
      code: 'ERR_CACHE_CORRUPT',
      hint: expect.stringContaining('tsvisor pull debian-arm64'),
    });
    expect(await failure(pullHere({ offline: true }))).toMatchObject({ code: 'ERR_CACHE_CORRUPT' });
    const out = new Sink();
    await images({ cacheDir: folder, stdout: out });
    expect(out.text).toContain('debian-arm64: DAMAGED');
    const events: PullEvent[] = [];
    expect((await pullHere({ onEvent: e => events.push(e) })).changed).toBe(true);
    expect(events[0]).toMatchObject({ type: 'warning', message: expect.stringContaining('damaged') });
    expect(await findImage('debian-arm64', { cacheDir: folder })).toBeDefined();
  });

  it('lets one pull work at a time, and takes over from one that died', async () => {
    const both = await Promise.all([pullHere(), pullHere()]);
    expect(both.map(r => r.changed).sort()).toEqual([false, true]);
    expect(kernelRequests()).toHaveLength(1);
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    await writeFile(join(folder, 'pull.lock'), String(dead));
    expect((await pullHere()).changed).toBe(false);
  });

  const canMount = process.platform === 'linux' && process.getuid?.() === 0 && tryMount();
  if (!canMount) console.log('skipped: disk full during a pull: needs root and permission to mount a tmpfs');
  it.skipIf(!canMount)('keeps the old image and leaves nothing behind when the disk is full', async () => {
    const disk = join(folder, 'disk');
    await mkdir(disk);
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=900k', 'tmpfs', disk]);
    try {
      const { image } = await pullHere({ cacheDir: disk });
      // Stored, the package does not fit; compressed it does, but the kernel in it does not.
      for (const compression of ['xz', 'gz'] as const) {
        archive = await makeArchive({ kernel: new Uint8Array(1_000_000), compression });
        const e = await failure(pullHere({ cacheDir: disk }));
        expect(e).toMatchObject({ code: 'ERR_DISK_FULL', hint: expect.stringContaining('TSVISOR_CACHE') });
        expect(await readdir(join(disk, 'downloads'))).toEqual([]);
        expect((await readdir(join(disk, 'blobs/sha256'))).sort()).toEqual(
          [image.kernel, image.initrd].map(p => p.slice(-64)).sort(),
        );
        expect(await findImage('debian-arm64', { cacheDir: disk })).toMatchObject({ kernel: image.kernel });
      }
    } finally {
      spawnSync('umount', [disk]);
    }
  });

  it('says when the folder cannot be written', async () => {
    await writeFile(join(folder, 'file'), '');
    const e = await failure(pullHere({ cacheDir: join(folder, 'file', 'cache') }));
    expect(e).toMatchObject({ code: 'ERR_FILE_UNREADABLE', hint: expect.stringContaining('TSVISOR_CACHE') });
  });
});

function tryMount(): boolean {
  const probe = spawnSync('sh', [
    '-c',
    'd=$(mktemp -d) && mount -t tmpfs tmpfs "$d" && umount "$d"; s=$?; rmdir "$d"; exit $s',
  ]);
  return probe.status === 0;
}

describe('the verbs', () => {
  it('pull: a line per 10 % without a terminal, the result on the standard output', async () => {
    const [stdout, stderr] = [new Sink(), new Sink()];
    await pull({ cacheDir: folder, mirror, signature: 'skip', stdout, stderr });
    expect(stdout.text).toContain(`debian-arm64: Linux ${RELEASE}\n`);
    expect(stdout.text).toContain('NOT CHECKED: signature not checked');
    const lines = stderr.text.split('\n').filter(l => l.startsWith('linux-image'));
    expect(lines.at(0)).toMatch(/: 0 % of 0\.3 MB$/);
    expect(lines.at(-1)).toMatch(/: 100 % of 0\.3 MB$/);
    expect(lines.length).toBeLessThanOrEqual(11);
  });

  it('pull: a bar on a terminal', async () => {
    const stderr = Object.assign(new Sink(), { isTTY: true, columns: 80 });
    await pull({ cacheDir: folder, mirror, signature: 'skip', stdout: new Sink(), stderr });
    expect(stderr.text).toMatch(/busybox-static .* 100 %/);
  });

  it('pull --json: nothing but JSON lines', async () => {
    const stdout = new Sink();
    await pull({ cacheDir: folder, mirror, signature: 'skip', json: true, stdout });
    const events = stdout.text
      .trim()
      .split('\n')
      .map(l => JSON.parse(l) as { type: string });
    expect(new Set(events.map(e => e.type))).toEqual(new Set(['step', 'warning', 'progress', 'result']));
    expect(events.at(-1)).toMatchObject({ type: 'result', changed: true, image: { release: RELEASE } });
  });

  it('pull: refuses an unknown image, and says which one was meant', async () => {
    expect(await failure(pull({ name: 'banana' }))).toMatchObject({
      code: 'ERR_USAGE',
      hint: 'images are debian-arm64 and debian-amd64',
    });
    expect(await failure(pull({ name: 'debian-amd' }))).toMatchObject({ hint: "did you mean 'debian-amd64'?" });
    expect(await failure(pullImage('banana', { cacheDir: folder }))).toMatchObject({ code: 'ERR_USAGE' });
  });

  it('pull: gets the image that is named', async () => {
    archive = await makeArchive({ architecture: 'amd64' });
    const stdout = new Sink();
    const name = 'debian-amd64';
    await pull({ name, cacheDir: folder, mirror, signature: 'skip', quiet: true, json: true, stdout });
    expect(JSON.parse(stdout.text.trim().split('\n').at(-1) ?? '')).toMatchObject({
      image: { architecture: 'x86_64' },
    });
  });

  it('images: lists what is there', async () => {
    const out = new Sink();
    await images({ cacheDir: folder, stdout: out });
    expect(out.text).toContain('no images');
    await pullHere();
    const json = new Sink();
    await images({ cacheDir: folder, json: true, stdout: json });
    expect(JSON.parse(json.text)).toMatchObject({ name: 'debian-arm64', release: RELEASE });
    expect(new ImageCache(folder).folder).toBe(folder);
  });
});

describe('readInputFile', () => {
  it('reads a file, and says what is wrong with others', async () => {
    const file = join(folder, 'a');
    await writeFile(file, 'abc');
    expect(new TextDecoder().decode(await readInputFile(file, 'the kernel'))).toBe('abc');
    expect(await failure(readInputFile(join(folder, 'b'), 'the kernel'))).toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
      message: expect.stringMatching(/^the kernel .*b does not exist$/),
    });
    expect(await failure(readInputFile(join(file, 'c'), 'the kernel'))).toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    expect(await failure(readInputFile(folder, 'the initrd'))).toMatchObject({ code: 'ERR_FILE_IS_DIRECTORY' });
  });
});
