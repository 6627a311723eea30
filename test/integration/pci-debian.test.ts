import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootDebian, type Guest } from '../support/guest.ts';
import { moveBar4, PCI_SHELL } from '../support/pci-shell.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tsvisor-pci-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const MIB = 2 ** 20;

/** A disk image of random bytes. */
async function image(name: string, bytes: number): Promise<{ path: string; md5: string }> {
  const path = join(folder, name);
  const content = randomBytes(bytes);
  await writeFile(path, content);
  return { path, md5: createHash('md5').update(content).digest('hex') };
}

/** Boots, or skips the test with the reason. */
async function boot(skip: (why: string) => void, options: Parameters<typeof bootDebian>[0]): Promise<Guest> {
  const guest = await bootDebian(options);
  if (typeof guest === 'string') {
    skip(guest);
    throw new Error('skipped');
  }
  return guest;
}

const DISK = '0000:00:01.0';
const NET = '0000:00:02.0';

describe("Debian's kernel moves every function", () => {
  let guest: Guest | undefined;
  const moves: { function: string; bar: unknown; from: number | undefined; to: number | undefined }[] = [];
  let disk: { path: string; md5: string };

  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
  });

  it('DT-1: no pci-probe-only, and the kernel assigns every BAR itself', async ({ skip }) => {
    disk = await image('moves.img', 16 * MIB);
    guest = await boot(skip, { disk: disk.path, net: 'user', rng: true, balloon: true });
    guest.vm.on('bar-moved', m => moves.push(m));
    await guest.run(PCI_SHELL);
    await guest.run('[ ! -e /proc/device-tree/chosen/linux,pci-probe-only ]');
    // ECAM-1: Linux believes in the 4 KiB of each function.
    expect(await guest.run(`wc -c </sys/bus/pci/devices/${DISK}/config`)).toBe('4096');
    const functions = (await guest.vm.pci.list()).filter(f => f.vendorId === 0x1af4);
    expect(functions.map(f => f.name)).toEqual(['disk0', 'net0', 'rng', 'balloon']);
    for (const f of functions) {
      expect(f.bars.map(b => [b.index, b.live])).toEqual([
        [1, true],
        [4, true],
      ]);
      expect(f.msix?.enabled).toBe(true);
      // What the kernel believes is what decodes.
      for (const b of f.bars) {
        expect(Number(await guest.run(`bar 0000:${f.place} ${b.index}`))).toBe(b.address);
      }
    }
  });

  it('reads the disk, makes a file system on it, and pings', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    expect(await guest.run('md5sum </dev/vda')).toBe(`${disk.md5}  -`);
    await guest.run('mke2fs -F /dev/vda >/dev/null && mkdir -p /mnt && mount -t ext4 /dev/vda /mnt');
    await guest.run('dd if=/dev/urandom of=/mnt/file bs=64k count=64 2>/dev/null; sync; md5sum /mnt/file >/tmp/sum');
    expect(await guest.run('net')).toBe('pong');
  });

  it('BAR-8, BAR-10: decode off, another address, decode on, in bytes; and back, under a mounted disk', async ({
    skip,
  }) => {
    if (guest === undefined) return skip('no guest');
    const before = Number(await guest.run(`bar ${DISK} 4`));
    const there = 0x80_4000_0000;
    const moveTo = (n: number) => guest!.run(moveBar4(DISK, n));
    await guest.run('sync');
    moves.length = 0;
    expect(await moveTo(there)).toBe('0604');
    // num_queues of the common configuration answers at the new address, and nothing at the old one.
    expect(await guest.run(`devmem ${there + 0x12} 16`)).toBe('0x0001');
    expect((await guest.vm.pci.list()).find(f => f.name === 'disk0')?.bars[1]).toMatchObject({
      address: there,
      live: true,
    });
    expect(await moveTo(before)).toBe('0604');
    expect(moves.filter(m => m.function === 'disk0' && m.bar === 4).map(m => m.to)).toEqual([
      undefined,
      there,
      undefined,
      before,
    ]);
    await guest.run('echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/sum');
  });

  it("BAR-23: the kernel's own reassignment by resource_alignment moves both BARs of each function", async ({
    skip,
  }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('umount /mnt');
    const names = ['disk0', 'net0', 'rng', 'balloon'];
    const addresses = async () =>
      (await guest!.vm.pci.list()).filter(f => names.includes(f.name)).flatMap(f => f.bars.map(b => b.address));
    const before = await addresses();
    await guest.run(
      "echo '20@pci:1af4:1042;20@pci:1af4:1041;20@pci:1af4:1044;20@pci:1af4:1045' >/sys/bus/pci/resource_alignment",
    );
    for (const d of ['1', '2', '3', '4']) await guest.run(`rescan 0000:00:0${d}.0`);
    const after = await addresses();
    expect(after.filter((a, i) => a === before[i])).toEqual([]);
    expect(after.every(a => a % MIB === 0)).toBe(true);
    await guest.run('mount -t ext4 /dev/vda /mnt && md5sum -c /tmp/sum');
    expect(await guest.run('net')).toBe('pong');
  });

  it('remove and rescan, ten times, disk and network in use in between', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    for (let n = 0; n < 10; n++) {
      await guest.run(`umount /mnt && rescan ${DISK} && mount -t ext4 /dev/vda /mnt && md5sum -c /tmp/sum`);
      await guest.run(`rescan ${NET}`);
      expect(await guest.run('net')).toBe('pong');
    }
  });

  it('unbinds and binds drivers, with a function-level reset in between (EXP-5)', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('umount /mnt');
    for (const d of [DISK, NET]) {
      await guest.run(`echo ${d} >/sys/bus/pci/drivers/virtio-pci/unbind`);
      expect(await guest.run(`cat /sys/bus/pci/devices/${d}/reset_method`)).toMatch(/flr/);
      await guest.run(`echo 1 >/sys/bus/pci/devices/${d}/reset`);
      await guest.run(`echo ${d} >/sys/bus/pci/drivers/virtio-pci/bind`);
    }
    await guest.run('mount -t ext4 /dev/vda /mnt && md5sum -c /tmp/sum');
    expect(await guest.run('net')).toBe('pong');
  });

  it('MSIX-8: interrupts have come as messages through the ITS all the while', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    const lines = (await guest.run('cat /proc/interrupts'))
      .split('\n')
      .filter(l => /virtio\d-(req|input|output)/.test(l));
    expect(lines.length).toBeGreaterThanOrEqual(3);
    for (const l of lines) expect(l).toMatch(/ITS-MSI/);
    const count = async () => Number(/:\s+(\d+)/.exec(await guest!.run("grep 'virtio.-req' /proc/interrupts"))?.[1]);
    const before = await count();
    await guest.run('echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/sum');
    expect(await count()).toBeGreaterThan(before);
    expect(await guest.poweroff()).toBe('shutdown');
    // The guest's file is on the host's disk.
    expect((await readFile(disk.path)).length).toBe(16 * MIB);
  });
});

describe('hot-plug under load', () => {
  it('plugs a disk into a running guest and takes it out while it is read', async ({ skip }) => {
    const first = await image('first.img', 8 * MIB);
    const second = await image('second.img', 8 * MIB);
    await using guest = await boot(skip, { disk: first.path, cpus: 2, slots: 2 });
    await guest.run(
      '(while :; do md5sum </dev/vda >/tmp/first.new; mv /tmp/first.new /tmp/first; done) & echo $! >/tmp/pid',
    );
    for (let n = 0; n < 2; n++) {
      const name = await guest.vm.pci.plug({ disk: second.path });
      await guest.run('for i in $(seq 100); do [ -b /dev/vdb ] && break; usleep 100000; done; [ -b /dev/vdb ]');
      expect(await guest.run('cat /sys/block/vdb/serial')).toBe(name);
      expect(await guest.run('md5sum </dev/vdb')).toBe(`${second.md5}  -`);
      await guest.run('(while dd if=/dev/vdb of=/dev/null bs=64k 2>/dev/null; do :; done) &');
      await guest.vm.pci.unplug(name);
      await guest.run('for i in $(seq 100); do [ -b /dev/vdb ] || break; usleep 100000; done; [ ! -b /dev/vdb ]');
    }
    await guest.run('rm -f /tmp/first; for i in $(seq 200); do [ -e /tmp/first ] && break; usleep 100000; done');
    expect(await guest.run('cat /tmp/first')).toBe(`${first.md5}  -`);
    expect(await guest.poweroff()).toBe('shutdown');
  });

  it('says when there is no free slot, no such device, or more than one device', async ({ skip }) => {
    const disk = await image('third.img', MIB);
    await using guest = await boot(skip, { slots: 1 });
    await guest.vm.pci.plug({ rng: true });
    await expect(guest.vm.pci.plug({ disk: disk.path })).rejects.toMatchObject({ code: 'ERR_PCI_SLOT' });
    await expect(guest.vm.pci.unplug('nothing')).rejects.toMatchObject({ code: 'ERR_PCI_SLOT' });
    await expect(guest.vm.pci.plug({ rng: true, balloon: true })).rejects.toMatchObject({ code: 'ERR_USAGE' });
    await expect(guest.vm.pci.plug({ disk: join(folder, 'nothing') })).rejects.toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
    });
    // The image of a refused disk is not locked.
    await guest.vm.pci.unplug('rng');
    await guest.vm.pci.plug({ disk: disk.path });
    expect(await guest.poweroff()).toBe('shutdown');
  });
});

describe('other machines', () => {
  it('MSIs through GICv2m, and INTx where the guest has no MSI', async ({ skip }) => {
    const disk = await image('gic2.img', 4 * MIB);
    for (const append of ['', 'pci=nomsi']) {
      await using guest = await boot(skip, { disk: disk.path, gic: 2, append });
      expect(await guest.run('md5sum </dev/vda')).toBe(`${disk.md5}  -`);
      const interrupts = await guest.run('grep virtio /proc/interrupts');
      expect(interrupts).toMatch(append === '' ? /MSI.*virtio0-req/ : /GIC-0\s+\d+ Level\s+virtio0/);
      expect(await guest.poweroff()).toBe('shutdown');
    }
  });

  it('ECAM-3: a CAM host bridge shows 256 bytes of each function; disk and network work', async ({ skip }) => {
    const disk = await image('cam.img', 4 * MIB);
    await using guest = await boot(skip, { disk: disk.path, pciHost: 'cam' });
    expect(await guest.run('md5sum </dev/vda')).toBe(`${disk.md5}  -`);
    expect(await guest.run(`wc -c </sys/bus/pci/devices/${DISK}/config`)).toBe('256');
    expect(await guest.poweroff()).toBe('shutdown');
  });
});
