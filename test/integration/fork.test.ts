// vm.fork(): two VMs that were one.
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vm } from 'tsvisor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { debian } from '../e2e/debian.ts';
import { keyGuest } from '../support/bare-guest.ts';
import { atShell, bootDebian } from '../support/guest.ts';

const MIB = 2 ** 20;
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvisor-fork-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// Echoes what is typed, each character with the number of those before it, which is in a register.
const COUNTER = keyGuest('mov w3, #0x30', 'str w2, [x1]\nstr w3, [x1]\nadd w3, w3, #1');

describe('vm.fork()', () => {
  it('makes a VM that goes on by itself where the first one was; also of one that has not started', async () => {
    await using vm = await Vm.create({ kernel: COUNTER, memory: '64M' });
    await using unborn = await vm.fork();
    await vm.start();
    await vm.console.waitFor('>', { timeout: '30s' });
    vm.console.write('ab');
    await vm.console.waitFor('a0b1', { timeout: '30s' });
    await using fork = await vm.fork({ name: 'second' });
    expect([fork.name, fork.state, fork.console.text]).toEqual(['second', 'created', '']);
    await fork.start();
    fork.console.write('x');
    vm.console.write('yz');
    await vm.console.waitFor('y2z3', { timeout: '30s' });
    await fork.console.waitFor('x2', { timeout: '30s' });
    // A fork of a fork, and the clock of each goes on.
    await using third = await fork.fork();
    await third.start();
    third.console.write('t');
    await third.console.waitFor('t3', { timeout: '30s' });
    expect((await third.info()).timeNs).toBeGreaterThan((await vm.info()).timeNs / 2);
    await unborn.start();
    await unborn.console.waitFor('>', { timeout: '30s' });
    unborn.console.write('u');
    await unborn.console.waitFor('u0', { timeout: '30s' });
    // The button of one resets one.
    await fork.reset();
    await fork.console.waitFor('>', { timeout: '30s' });
    vm.console.write('v');
    await vm.console.waitFor('v4', { timeout: '30s' });
  });

  it('is bit-identical with the virtual clock: whenever it was made, a fork ends as its parent does', async ({
    skip,
  }) => {
    const image = await debian();
    if (typeof image === 'string') return skip(image);
    const params =
      'earlycon console=ttyAMA0 panic=-1 tsvisor.exec="md5sum /init /dev/vda; head -c 99 /dev/hwrng | md5sum"';
    const disk = join(folder, 'fixed.img');
    writeFileSync(disk, new Uint8Array(MIB).fill(0x42));
    await using vm = await Vm.create({
      ...{ kernel: image.kernel, initrd: image.initrd, params, memory: '256M', cpus: 2 },
      ...{ clock: 'virtual', rng: true, balloon: true, disk: `${disk},ro` },
    });
    await vm.start();
    const forks: Vm[] = [];
    for (const moment of ['Booting Linux', 'devtmpfs: initialized', 'Run /init']) {
      await vm.console.waitFor(moment, { timeout: '120s' });
      forks.push(await vm.fork());
    }
    const ends = [];
    for (const v of [vm, ...forks]) {
      if (v !== vm) await v.start();
      const { reason, memoryHash, info } = await v.exited;
      ends.push({
        reason,
        memoryHash,
        instructions: info?.instructions,
        sums: v.console.text.match(/[0-9a-f]{32} {2}/g)?.slice(-3),
      });
    }
    expect(ends[0]).toMatchObject({ reason: 'shutdown', memoryHash: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(ends[0]!.sums).toHaveLength(3);
    for (const end of ends) expect(end).toEqual(ends[0]);
  });

  it('says what stands in the way, and leaves nothing behind', async () => {
    const kernel = COUNTER;
    const disk = join(folder, 'd.img');
    const copy = join(folder, 'copy.img');
    writeFileSync(disk, new Uint8Array(MIB));
    await using net = await Vm.create({ kernel, memory: '64M', net: 'user' });
    await expect(net.fork()).rejects.toMatchObject({ code: 'ERR_STATE', details: { device: 'net0' } });
    await using vm = await Vm.create({ kernel, memory: '64M', disk });
    await expect(vm.fork()).rejects.toMatchObject({ code: 'ERR_USAGE', details: { device: 'disk0' } });
    await expect(vm.fork({ disks: { disk0: copy, disk7: copy } })).rejects.toMatchObject({ code: 'ERR_USAGE' });
    await expect(vm.fork({ disks: { disk0: disk } })).rejects.toMatchObject({ code: 'ERR_DISK' });
    await expect(vm.fork({ disks: { disk0: copy }, signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
    expect([existsSync(disk), existsSync(copy)]).toEqual([true, false]);
    // One at a time; a reset waits for it. The one that is refused leaves the other one's copy alone.
    const forking = vm.fork({ disks: { disk0: copy } });
    const second = vm.fork({ disks: { disk0: join(folder, 'other.img') } });
    await vm.reset();
    await expect(second).rejects.toMatchObject({ code: 'ERR_STATE' });
    await using fork = await forking;
    expect([existsSync(copy), existsSync(join(folder, 'other.img'))]).toEqual([true, false]);
    await vm.kill();
    await expect(vm.fork()).rejects.toMatchObject({ code: 'ERR_STATE' });
    await fork.kill();
  });

  it.for(['modern', 'transitional'] as const)(
    '4.3 CoW fork of a VM: Debian with its disk at full load, and both of them go on (%s)',
    { timeout: 600_000 },
    async (virtio, { skip }) => {
      const content = randomBytes(16 * MIB);
      const checksum = `${createHash('md5').update(content).digest('hex')}  -`;
      const [base, cow, copy] = ['base.img', 'mine.cow', 'fork.cow'].map(name => join(folder, `${virtio}-${name}`));
      writeFileSync(base!, content);
      const [scratch, scratch2] = ['s.img', 's2.img'].map(name => join(folder, `${virtio}-${name}`));
      writeFileSync(scratch!, new Uint8Array(8 * MIB));
      const options = {
        memory: '256M',
        cpus: 2,
        balloon: true,
        rng: true,
        virtio,
        disk: [`${base},cow=${cow}`, scratch!],
      };
      const guest = await bootDebian(options);
      if (typeof guest === 'string') return skip(guest);
      await using _ = guest;
      const { vm, run } = guest;
      await run('mount -t tmpfs -o size=64m tmpfs /tmp && cat /dev/vda > /tmp/kept');
      expect(await run('md5sum < /tmp/kept')).toBe(checksum);
      await run('mke2fs -q /dev/vdb 2>/dev/null; mkdir -p /s && mount /dev/vdb /s && echo parent > /s/who && sync');
      await run(
        '(while [ ! -e /stop ]; do dd if=/dev/vda bs=128k iflag=direct 2>/dev/null | md5sum >> /sums; done; echo ended >> /sums) &',
      );
      await vm.balloon.set('32M');
      await run('sleep 2');

      const child = await vm.fork({ disks: { disk0: copy!, disk1: scratch2! }, timeout: '30s' });
      await using second = atShell(child);
      await child.start();
      // What each does from here on the other one does not see.
      await Promise.all([
        run('echo parent alone > /s/who && sync && head -c 4096 /dev/zero | dd of=/dev/vda conv=fsync 2>/dev/null'),
        second.run('grep -q parent /s/who && echo child > /s/who && sync && umount /s && mount /dev/vdb /s'),
      ]);
      expect(await second.run('cat /s/who')).toBe('child');
      expect(await run('cat /s/who')).toBe('parent alone');
      for (const g of [guest, second]) {
        await g.run('touch /stop; while ! grep -q ended /sums; do sleep 1; done', { timeout: '240s' });
        expect(await g.run('md5sum < /tmp/kept')).toBe(checksum);
        // Interrupts, timers and both CPUs go on.
        await g.run('head -c 64 /dev/hwrng > /dev/null; taskset 2 true; sleep 1');
      }
      // The child read the disk as it was; the parent has changed its first block.
      expect(new Set((await second.run('grep -v ended /sums')).split('\n'))).toEqual(new Set([checksum]));
      expect(await second.run('dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | md5sum')).toBe(checksum);
      expect(await run('dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | md5sum')).not.toBe(checksum);
      expect(createHash('md5').update(readFileSync(base!)).digest('hex')).toBe(checksum.slice(0, 32));
      await child.balloon.set(0);
      for (const g of [second, guest]) {
        const stats = await g.vm.memory.stats();
        expect(stats.current).toBe(stats.currentLong);
        expect(await g.poweroff()).toBe('shutdown');
      }
    },
  );
});
