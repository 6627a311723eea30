import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineReport } from '../../src/machine/machine.ts';
import { bootImage, type Guest } from '../support/guest.ts';
import { moveBar4, PCI_SHELL } from '../support/pci-shell.ts';
import { type LabContext, type LabNeeds, labCase } from './lab-case.ts';

// Unmodified Debian kernels on the KVM engine: they boot, use disk and network, move BARs, and power off.

const DISK = '0000:00:01.0';
const NET = '0000:00:02.0';
const MIB = 2 ** 20;

type Move = Extract<MachineReport, { type: 'bar-moved' }>;

const md5 = (content: Uint8Array) => createHash('md5').update(content).digest('hex');

/** Everything that is asked of a guest; throws at what is not right. */
async function useGuest(
  guest: Guest,
  cpus: number,
  disk: { readonly path: string; readonly md5: string },
  moves: Move[],
) {
  const { vm, run } = guest;
  await run(PCI_SHELL);
  assert.equal(await run('nproc'), String(cpus));
  // The disk: what the host wrote, and what the guest writes.
  assert.equal(await run('md5sum </dev/vda'), `${disk.md5}  -`);
  await run('mke2fs -F /dev/vda >/dev/null && mkdir -p /mnt && mount -t ext4 /dev/vda /mnt');
  await run('dd if=/dev/urandom of=/mnt/file bs=64k count=16 2>/dev/null; sync; md5sum /mnt/file >/tmp/sum');
  assert.equal(await run('net'), 'pong');

  // BAR-8, BAR-10: the guest moves the disk's registers, and its driver goes on at the old place when they are back.
  const { address } = (await vm.pci.list()).find(f => f.name === 'disk0')?.bars.find(b => b.index === 4) ?? {};
  assert.ok(address !== undefined);
  const there = address + 0x4000_0000;
  moves.length = 0;
  assert.equal(await run(moveBar4(DISK, there)), '0604');
  // num_queues of the common configuration answers at the new address.
  assert.match(await run(`devmem ${there + 0x12} 16`), /^0x000[1-9]$/);
  assert.equal(await run(moveBar4(DISK, address)), '0604');
  const to = moves.filter(m => m.function === 'disk0' && m.bar === 4).map(m => m.to);
  assert.deepEqual(to, [undefined, there, undefined, address]);
  await run('echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/sum');

  // BAR-23: the kernel's own reassignment moves both.
  await run('umount /mnt');
  const places = async () =>
    (await vm.pci.list()).filter(f => /^(disk|net)0$/.test(f.name)).flatMap(f => f.bars.map(b => b.address));
  const before = await places();
  await run("echo '20@pci:1af4:1042;20@pci:1af4:1041' >/sys/bus/pci/resource_alignment");
  for (const device of [DISK, NET]) await run(`rescan ${device}`);
  const after = await places();
  assert.deepEqual(
    after.filter((a, i) => a === before[i]),
    [],
  );
  await run('mount -t ext4 /dev/vda /mnt && md5sum -c /tmp/sum && umount /mnt');
  assert.equal(await run('net'), 'pong');
  const interrupts = await run("grep -E 'virtio.-(req|input|output)' /proc/interrupts");
  for (const line of interrupts.split('\n')) assert.match(line, /MSI/);
}

function bootCase(cpus: number, needs: LabNeeds): void {
  const title = `Debian boots to a shell with ${cpus} vCPU${cpus > 1 ? 's' : ''}, uses disk and network, moves BARs, powers off`;
  labCase(title, { memory: 1536, image: true, seconds: 400, ...needs }, ctx => boot(ctx, cpus));
}

async function boot(ctx: LabContext, cpus: number): Promise<void> {
  const image = ctx.image();
  const folder = mkdtempSync(join(tmpdir(), 'boot-'));
  try {
    const path = join(folder, 'disk.img');
    writeFileSync(path, randomBytes(8 * MIB));
    const disk = { path, md5: md5(readFileSync(path)) };
    const moves: Move[] = [];
    const started = performance.now();
    const options = { memory: '256M', engine: 'kvm', cpus, disk: path, net: 'user', slots: 0 } as const;
    await using guest = await bootImage(image, options, undefined, vm => vm.on('bar-moved', m => moves.push(m)));
    assert.equal(guest.vm.engine.kind, 'kvm');
    ctx.note(`at the shell after ${((performance.now() - started) / 1000).toFixed(1)} s`);
    await useGuest(guest, cpus, disk, moves);
    assert.equal(await guest.poweroff(), 'shutdown');
    const exit = await guest.vm.exited;
    assert.equal(exit.error, undefined);
    ctx.note(`powered off after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

bootCase(1, { smoke: true });
bootCase(2, { cpus: 2 });
