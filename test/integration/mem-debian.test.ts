// Memory hot-plug with Debian's own driver: its memory grows and shrinks, and what a device has pinned stays.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { definePciDevice, type PciDevice, type Vm } from 'tsvisor';
import { describe, expect, it } from 'vitest';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { boot, MIB, md5 } from '../support/debian-test.ts';
import type { Guest } from '../support/guest.ts';

const MEMORY = 256 * MIB;
/** Behind RAM, which ends at a multiple of 128 MiB. */
const HOTPLUG = 0x4000_0000 + MEMORY;
/** A memory block of Linux for arm64. */
const LINUX_BLOCK = 128 * MIB;

/** Boots with room for 512 MiB more, or skips: also with an image from before there was memory hot-plug. */
async function bootWithMem(skip: (why: string) => void, options: Parameters<typeof boot>[1] = {}): Promise<Guest> {
  const guest = await boot(skip, { memory: MEMORY, hotplug: '512M', ...options });
  const driver = await guest.run('[ -e /lib/modules/virtio_mem.ko ] && echo there; true');
  if (driver === 'there') return guest;
  await guest[Symbol.asyncDispose]();
  skip('the image in the cache has no virtio_mem; `tsvisor pull debian-arm64` updates it');
  throw new Error('skipped');
}

/** Waits until the guest has plugged so many bytes. */
async function plugged(vm: Vm, bytes: number): Promise<void> {
  const end = Date.now() + 60_000;
  for (let now = -1; now !== bytes; ) {
    if (Date.now() > end) throw new Error(`${now / MIB} MiB are plugged, not ${bytes / MIB}`);
    await sleep(50);
    now = await vm.memory.hotplugged();
  }
}

const total = async ({ run }: Guest) => Number(await run("awk '/^MemTotal/ { print $2 }' /proc/meminfo")) * 1024;

/** How much more memory the guest has than `before`, bytes, when that does not change any more. */
async function grown(guest: Guest, before: number, by: number): Promise<number> {
  let now = 0;
  // A block is plugged some moments before it is online, or after it is offline.
  for (let n = 0; n < 100; n++) {
    now = (await total(guest)) - before;
    if (now === by) break;
    await sleep(100);
  }
  return now;
}

/** A device that does nothing by itself; what it pins is the test's to say. */
function bystander() {
  let dev: PciDevice | undefined;
  const definition = definePciDevice({ name: 'holder', vendor: 0x1234, device: 0x5678, bars: [] }, d => {
    dev = d;
  });
  return { definition, dma: () => dev!.dma };
}

/** Close to all that is free with 256 MiB more, and to what there is without. */
const FILE_MIB = 240;

describe('memory hot-plug under Debian', () => {
  it('memory hot-plug, hot-unplug: 256 MiB more hold a file of 240 MiB, and go back when they are asked for', async ({
    skip,
  }) => {
    await using guest = await bootWithMem(skip);
    const { vm, run } = guest;
    expect(await vm.memory.hotplugged()).toBe(0);
    const before = await total(guest);

    await vm.memory.requestHotplug('256M');
    await plugged(vm, 256 * MIB);
    expect(await grown(guest, before, 256 * MIB)).toBe(256 * MIB);
    // More than what the guest has without it: 512 bytes of the host's, again and again.
    const key = randomBytes(512);
    await run(`mount -t tmpfs -o size=${FILE_MIB}m tmpfs /mnt && echo ${key.toString('base64')} | base64 -d >/tmp/0`);
    await run(
      'for n in 0 1 2 3 4; do for i in 1 2 3 4; do cat /tmp/$n; done >/tmp/$((n+1)); done; cat /tmp/5 /tmp/5 >/tmp/mib',
    );
    await run(`for i in $(seq ${FILE_MIB}); do cat /tmp/mib; done >/mnt/file`);

    // A smaller size moves what is in the way elsewhere; nothing is lost.
    await vm.memory.requestHotplug('192M');
    await plugged(vm, 192 * MIB);
    expect(await run('md5sum </mnt/file')).toBe(`${md5(Buffer.alloc(FILE_MIB * MIB, key))}  -`);
    await run('rm /mnt/file; umount /mnt');

    const full = process.memoryUsage.rss();
    await vm.memory.requestHotplug(0);
    await plugged(vm, 0);
    expect(await grown(guest, before, 0)).toBe(0);
    if (loadAddon().addon !== undefined) expect(full - process.memoryUsage.rss()).toBeGreaterThan(100 * MIB);

    await expect(vm.memory.requestHotplug('513M')).rejects.toMatchObject({ code: 'ERR_BAD_SIZE' });
    await expect(vm.memory.requestHotplug('3M')).rejects.toMatchObject({ code: 'ERR_BAD_SIZE' });
    expect(await guest.poweroff()).toBe('shutdown');
  });

  it('memory hot-unplug, long pin: BUSY keeps its memory block, the guest lives, and lets go after the unpin', async ({
    skip,
  }) => {
    const { definition, dma } = bystander();
    const logged: string[] = [];
    await using guest = await bootWithMem(skip, { pci: definition });
    const { vm, run } = guest;
    vm.on('log', line => logged.push(line));
    const before = await total(guest);
    await run(`for d in /sys/bus/pci/devices/*; do
      [ "$(cat $d/device)" = 0x5678 ] && printf '\\006' | dd of=$d/config bs=1 seek=4 conv=notrunc 2>/dev/null; done; true`);

    // PIN-8: what is not plugged is not there.
    expect(dma().allowed).toBe(true);
    expect(dma().pin(HOTPLUG + 4096, 4096, 'w', { longterm: true })).toBeUndefined();
    await vm.memory.requestHotplug('256M');
    await plugged(vm, 256 * MIB);
    expect(await grown(guest, before, 256 * MIB)).toBe(256 * MIB);

    // In the last block that Linux comes to, so that the other one shows that it has tried.
    const pin = dma().pin(HOTPLUG + 5 * 2 * MIB + 4096, 4096, 'r', { longterm: true })!;
    expect(pin.bytes).toHaveLength(4096);
    await vm.memory.requestHotplug(0);
    await plugged(vm, LINUX_BLOCK);
    await sleep(1000);
    expect(await vm.memory.hotplugged()).toBe(LINUX_BLOCK);
    expect(await grown(guest, before, LINUX_BLOCK)).toBe(LINUX_BLOCK);
    expect(await run('dd if=/dev/zero bs=1M count=20 2>/dev/null | md5sum')).toBe(`${md5(Buffer.alloc(20 * MIB))}  -`);

    pin.unpin();
    await vm.memory.requestHotplug(0);
    await plugged(vm, 0);
    expect(await grown(guest, before, 0)).toBe(0);
    expect(await run('dmesg | grep -iE "oops|BUG|warning|unable" || echo none')).toBe('none');
    expect(logged).toEqual([]);
    expect(await guest.poweroff()).toBe('shutdown');
  });

  it('guest reset: everything is unplugged, and plugged again by the driver that comes after', async ({ skip }) => {
    await using guest = await bootWithMem(skip);
    const { vm } = guest;
    await vm.memory.requestHotplug('128M');
    await plugged(vm, 128 * MIB);
    await vm.reset();
    expect(await vm.memory.hotplugged()).toBe(0);
    await vm.console.waitFor('~ # ', { timeout: '180s' });
    await plugged(vm, 128 * MIB);
    vm.console.write('PS1= PS2=\n');
    expect(await guest.poweroff()).toBe('shutdown');
  });

  it('there is nothing to plug without the option', async ({ skip }) => {
    await using guest = await boot(skip, {});
    const refused = { code: 'ERR_STATE', message: expect.stringContaining('hotplug') };
    await expect(guest.vm.memory.requestHotplug('128M')).rejects.toMatchObject(refused);
    await expect(guest.vm.memory.hotplugged()).rejects.toMatchObject(refused);
  });
});
