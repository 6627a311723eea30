import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadKernel } from '../../src/firmware/kernel.ts';
import { hasApt } from '../../src/images/apt.ts';
import { type Image, type PullEvent, pullImage } from '../../src/images/index.ts';
import { VmError } from '../../src/util/errors.ts';
import { installed } from '../support/debs.ts';
import { bootInQemu, SHELL_STEPS, typeInQemu } from '../support/qemu-guest.ts';

/**
 * The real thing: Debian's packages through the host's apt. Skipped without apt, or when its sources cannot be reached or
 * have no arm64 kernel. The guest is then started in QEMU, which says whether kernel, initramfs and /init are right.
 */
const qemu = installed('qemu-system-aarch64');
if (!qemu) console.log('skipped: booting the pulled image in QEMU: qemu-system-aarch64 is not installed');
const apt = await hasApt();
if (!apt) console.log('skipped: pull through apt: there is no apt here');

/** What must not change on the host. */
const HOST_STATE = ['/var/lib/dpkg/status', '/var/lib/dpkg/arch', '/var/lib/apt/lists', '/var/cache/apt/archives'];
const mtimes = () =>
  Promise.all(
    HOST_STATE.map(async path => {
      const s = await stat(path).catch(() => undefined);
      return [path, s?.mtimeMs];
    }),
  );

describe.skipIf(!apt)('pull through apt', () => {
  let folder: string;
  let image: Image | undefined;
  let unreachable: string | undefined;
  let before: unknown;
  const events: PullEvent[] = [];
  const stopped = new Error('stopped');
  let partSize: number | undefined;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tsvisor-apt-'));
    before = await mtimes();
    try {
      const env = { ...process.env, TSVISOR_MIRROR: '' };
      // The first attempt is interrupted, the second must go on where that stopped.
      const stop = new AbortController();
      const onEvent = (e: PullEvent) => e.type === 'progress' && e.done > 4e6 && stop.abort(stopped);
      await pullImage('debian-arm64', { cacheDir: folder, env, signal: stop.signal, onEvent }).catch((e: unknown) => {
        if (e !== stopped) throw e;
      });
      for (const part of await readdir(join(folder, 'downloads'))) {
        partSize = (await stat(join(folder, 'downloads', part))).size;
      }
      image = (await pullImage('debian-arm64', { cacheDir: folder, env, onEvent: e => events.push(e) })).image;
    } catch (e) {
      if (!(e instanceof VmError) || e.code !== 'ERR_DOWNLOAD') throw e;
      unreachable = e.message;
    }
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('gets a kernel and reports progress in whole files', async context => {
    if (!image) return context.skip(`apt's sources are of no use here: ${unreachable}`);
    expect(image.release).toMatch(/^\d+\.\d+.*cloud-arm64$/);
    expect(image.provenance.source).toMatch(/^apt \(\w+:\/\//);
    expect(loadKernel(await readFile(image.kernel)).format).toBe('image');
    for (const { name, size } of image.packages) {
      const last = events.filter(e => e.type === 'progress' && e.file === name).at(-1);
      expect(last).toMatchObject({ done: size, total: size });
    }
    expect(await readdir(join(folder, 'downloads'))).toEqual([]);
  });

  it('goes on with a download that was interrupted', context => {
    if (!image) return context.skip(`apt's sources are of no use here: ${unreachable}`);
    if (partSize === undefined)
      return context.skip('apt has a proxy or a method of its own: it does the download alone');
    expect(partSize).toBeGreaterThan(4e6);
    expect(events.find(e => e.type === 'progress')).toMatchObject({ done: partSize });
  });

  it("touches nothing of the host's apt and dpkg", async context => {
    if (!image) return context.skip(`apt's sources are of no use here: ${unreachable}`);
    expect(await mtimes()).toEqual(before);
  });

  it.skipIf(!qemu)('boots in QEMU and runs the command of tsvisor.exec', async context => {
    if (!image) return context.skip(`apt's sources are of no use here: ${unreachable}`);
    const devices = ['-device', 'virtio-rng-pci'];
    const out = bootInQemu(image, 'quiet tsvisor.exec="uname -r; lsmod; cat /proc/1/comm; exit 7"', devices);
    expect(out).toContain(`${image.release}\n`);
    for (const name of ['virtio_pci', 'virtio_net', 'virtio_blk', 'virtio_rng', 'virtiofs'])
      expect(out).toContain(`${name} `);
    expect(out).toContain('tsvisor.exec: exit status 7\n');
    expect(out).toContain('reboot: Power down');
  });

  it.skipIf(!qemu)('loads no module on a machine without virtio, and takes a command in base64', async context => {
    if (!image) return context.skip(`apt's sources are of no use here: ${unreachable}`);
    const command = Buffer.from('echo "a  b" $(wc -l </proc/modules)').toString('base64');
    expect(bootInQemu(image, `quiet tsvisor.exec64=${command}`)).toContain('a  b 0\n');
  });

  it.skipIf(!qemu)('has a root shell with job control that powers off', async context => {
    if (!image) return context.skip(`apt's sources are of no use here: ${unreachable}`);
    const { out, code } = await typeInQemu(image, 'quiet', SHELL_STEPS);
    expect(out).toMatch(/\nback\r?\n/);
    expect(out).not.toContain("can't access tty");
    expect(code).toBe(0);
  });
});
