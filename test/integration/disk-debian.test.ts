import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { debian } from '../e2e/debian.ts';
import { boot, install, MIB, md5, program, randomFile, testFolder } from '../support/debian-test.ts';
import type { Guest } from '../support/guest.ts';

// virtio-blk under Debian's own driver: three runs of a guest with the same disks, the second of which is killed.

const folder = testFolder('disk-debian');
const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

/** Makes a range of /dev/vdc zeroes, with the request that virtio has for it; exits with the errno. */
const zeroOut = (offset: number, length: number) =>
  program(`
    mov x0, #-100
    adr x1, path
    mov x2, #2          // O_RDWR
    mov x3, #0
    mov x8, #56         // openat
    svc #0
    mov x1, #0x127f     // BLKZEROOUT
    adr x2, range
    mov x8, #29         // ioctl
    svc #0
    neg x0, x0
    mov x8, #93         // exit
    svc #0
    .balign 8
range:
    .quad ${offset}, ${length}
path:
    .asciz "/dev/vdc"
  `);

/** Prints the MD5 of a range of a disk, in MiB, as the device gives it. */
const sum = (disk: string, from: number, count: number) =>
  `echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/${disk} bs=1M skip=${from} count=${count} 2>/dev/null | md5sum`;
const SUM_END = '  -';

let base = '';
let guest: Guest | undefined;
afterAll(async () => {
  await guest?.[Symbol.asyncDispose]();
});

describe('the first run', () => {
  let scratch: Buffer;

  it('a disk has its size, its serial and a queue for each CPU', async ({ skip }) => {
    writeFileSync(folder.at('data.img'), Buffer.alloc(48 * MIB));
    randomFile(folder.at('base.img'), 24 * MIB);
    scratch = randomFile(folder.at('scratch.img'), 16 * MIB + 512);
    base = sha256(folder.at('base.img'));
    guest = await boot(skip, {
      disk: [folder.at('data.img'), `${folder.at('base.img')},cow=${folder.at('over.img')}`, folder.at('scratch.img')],
      cpus: 4,
    });
    expect(await guest.run('ls /sys/block/vda/mq | xargs')).toBe('0 1 2 3');
    expect(await guest.run('cat /sys/block/vd?/size | xargs')).toBe(`${96 * 1024} ${48 * 1024} ${32 * 1024 + 1}`);
    for (const n of [0, 1, 2]) {
      expect(await guest.run(`cat /sys/block/vd${'abc'[n]}/serial`)).toBe(`disk${n}`);
    }
    expect(await guest.run('cat /sys/block/vd?/queue/write_cache | xargs')).toBe('write back write back write back');
    expect(await guest.run('cat /sys/block/vd?/ro | xargs')).toBe('0 0 0');
  });

  it('reads what the file has, to the last sector, from all CPUs at once', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    expect(await guest.run('md5sum </dev/vdc')).toBe(md5(scratch) + SUM_END);
    const parts = await guest.run(
      'echo 3 >/proc/sys/vm/drop_caches; for c in 0 1 2 3; do ' +
        'taskset -c $c dd if=/dev/vdc bs=64k skip=$((c * 64)) count=64 2>/dev/null | md5sum >/tmp/part$c & done; wait; ' +
        'cat /tmp/part?',
    );
    expect(parts.split('\n')).toEqual(
      [0, 1, 2, 3].map(c => md5(scratch.subarray(c * 4 * MIB, (c + 1) * 4 * MIB)) + SUM_END),
    );
    // Each queue has its own interrupt, and all of them have come.
    const interrupts = (await guest.run("grep 'virtio2-req' /proc/interrupts")).split('\n');
    expect(interrupts).toHaveLength(4);
    for (const line of interrupts) expect(line).toMatch(/:.*[1-9]\d*.* ITS-MSI/);
  });

  it('makes a file system on each, and what was synced is there after unmounting', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('mkdir -p /data /over');
    for (const [disk, at] of [
      ['vda', '/data'],
      ['vdb', '/over'],
    ]) {
      await guest.run(`mke2fs -F /dev/${disk} >/dev/null && mount -t ext4 /dev/${disk} ${at}`);
      await guest.run(
        `cd ${at} && dd if=/dev/urandom of=big bs=64k count=64 2>/dev/null && mkdir many && ` +
          'for i in $(seq 100); do echo "file $i" >many/$i; done && sync && md5sum big many/* >sums && cd / ' +
          `&& umount ${at} && mount -t ext4 /dev/${disk} ${at} && cd ${at} && md5sum -c sums >/dev/null && cd /`,
      );
    }
  });

  it('direct I/O, and a write that has to be durable before it returns', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('dd if=/data/big of=/over/copy bs=64k oflag=direct conv=fsync 2>/dev/null');
    const [of, copy] = (
      await guest.run('dd if=/over/copy bs=64k iflag=direct 2>/dev/null | md5sum; md5sum </data/big')
    ).split('\n');
    expect(copy).toBe(of);
    await guest.run('rm /over/copy');
  });

  it('trims what a file system does not use', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    for (const at of ['/data', '/over']) {
      const trimmed = /(\d+) bytes trimmed/.exec(await guest.run(`fstrim -v ${at}`));
      expect(Number(trimmed?.[1])).toBeGreaterThan(10 * MIB);
      await guest.run(`echo 3 >/proc/sys/vm/drop_caches; (cd ${at} && md5sum -c sums >/dev/null)`);
    }
  });

  it('discards and zeroes exactly what it is told', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run(`blkdiscard -o ${2 * MIB} -l ${3 * MIB} /dev/vdc`);
    // The request for zeroes takes 64 MiB, and a driver that had to write them would need more than one.
    await guest.run(install('/tmp/zeroout', zeroOut(8 * MIB + 512, 6 * MIB - 512)));
    const writes = async () => Number((await guest!.run('cat /sys/block/vdc/stat')).trim().split(/\s+/)[4]);
    const before = await writes();
    await guest.run('/tmp/zeroout');
    expect((await writes()) - before).toBe(1);
    await guest.run('sync');
    scratch.fill(0, 8 * MIB + 512, 14 * MIB);
    // A discarded sector may keep what it had or be zeroes: nothing is said about it.
    expect(await guest.run(sum('vdc', 0, 2))).toBe(md5(scratch.subarray(0, 2 * MIB)) + SUM_END);
    expect(await guest.run(sum('vdc', 5, 11))).toBe(md5(scratch.subarray(5 * MIB, 16 * MIB)) + SUM_END);
    const file = readFileSync(folder.at('scratch.img'));
    expect(file.length).toBe(scratch.length);
    expect(md5(file.subarray(5 * MIB))).toBe(md5(scratch.subarray(5 * MIB)));
  });

  it('refuses what lies behind the end', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('dd if=/dev/zero of=/dev/vdc bs=512 seek=32769 count=1 2>/dev/null', { status: 1 });
    expect(await guest.run('dd if=/dev/vdc bs=512 skip=32768 2>/dev/null | wc -c')).toBe('512');
    await guest.run('umount /data /over');
    expect(await guest.poweroff()).toBe('shutdown');
    expect(statSync(folder.at('scratch.img')).size).toBe(16 * MIB + 512);
    guest = undefined;
  });

  it('an overlay leaves its base alone', ({ skip }) => {
    if (base === '') return skip('no guest');
    expect(sha256(folder.at('base.img'))).toBe(base);
    expect(statSync(folder.at('over.img')).size).toBeGreaterThan(4 * MIB);
  });
});

/** What the second run has flushed: the number of a file and the MD5s of it on each disk. */
const flushed: [number: string, onData: string, onOver: string][] = [];

describe('the second run', () => {
  const command = `
    mkdir -p /data /over
    mount -t ext4 /dev/vda /data && mount -t ext4 /dev/vdb /over || exit 1
    for at in /data /over; do cd $at && md5sum -c sums >/dev/null && echo "SAME $at"; done
    i=0
    while [ $i -lt 100 ]; do
      i=$((i + 1))
      for at in /data /over; do
        dd if=/dev/urandom bs=16k count=4 2>/dev/null | tee /tmp/$i | dd of=$at/k$i bs=16k conv=fsync 2>/dev/null
        md5sum </tmp/$i >/tmp/sum$at
      done
      sync
      echo "FLUSHED $i $(cat /tmp/sum/data /tmp/sum/over | xargs)"
    done`;

  it('sees what the first has written, and is killed while it writes', async ({ skip }) => {
    if (base === '') return skip('no guest');
    const image = await debian();
    if (typeof image === 'string') return skip(image);
    const script = Buffer.from(`mkdir -p /tmp/sum; ${command}`).toString('base64');
    writeFileSync(
      folder.at('killed.json'),
      JSON.stringify({
        kernel: image.kernel,
        initrd: image.initrd,
        params: `console=ttyAMA0 panic=-1 quiet tsvisor.exec64=${script}`,
        memory: '256M',
        disk: [folder.at('data.img'), `${folder.at('base.img')},cow=${folder.at('over.img')}`],
      }),
    );
    const child = spawn(process.execPath, [main, 'run', folder.at('killed.json')], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output: string[] = [];
    child.stderr.on('data', text => output.push(String(text)));
    for await (const line of createInterface({ input: child.stdout })) {
      output.push(line);
      const m = /^FLUSHED (\d+) (\w{32}) - (\w{32}) -/.exec(line);
      if (m === null) continue;
      flushed.push([m[1]!, m[2]!, m[3]!]);
      if (flushed.length === 5) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await new Promise(done => child.once('close', done));
    expect(output.join('\n')).toMatch(/SAME \/data[\s\S]*SAME \/over/);
    expect(flushed.length).toBeGreaterThanOrEqual(5);
    expect(child.signalCode).toBe('SIGKILL');
  });
});

describe('the third run', () => {
  const log: string[] = [];
  /** Why there is no small file system to fill. */
  let noSmall: string | undefined;
  let small = '';
  let before = '';

  afterAll(() => {
    if (small !== '' && noSmall === undefined) spawnSync('umount', ['-l', small]);
  });

  it('finds everything that was flushed before the VMM was killed', async ({ skip }) => {
    if (flushed.length === 0) return skip('no guest');
    small = folder.at('small');
    mkdirSync(small);
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'small', small], { encoding: 'utf8' });
    if (mount.status !== 0) noSmall = `a full host disk needs root to mount a small one: ${mount.stderr.trim()}`;
    const disk = [`${folder.at('data.img')},ro`, `${folder.at('base.img')},cow=${folder.at('over.img')}`];
    if (noSmall === undefined) {
      writeFileSync(`${small}/sparse.img`, '');
      truncateSync(`${small}/sparse.img`, 32 * MIB);
      disk.push(`${small}/sparse.img`, `${folder.at('base.img')},cow=${small}/over.img`);
    }
    before = sha256(folder.at('data.img'));
    guest = await boot(skip, { disk, cpus: 2 }, line => log.push(line));
    await guest.run('mkdir -p /data /over');
    await guest.run('mount -t ext4 -o ro /dev/vda /data; mount -t ext4 /dev/vdb /over');
    for (const at of ['/data', '/over']) await guest.run(`(cd ${at} && md5sum -c sums >/dev/null)`);
    for (const [number, onData, onOver] of flushed) {
      expect(await guest.run(`md5sum </data/k${number}; md5sum </over/k${number}`), `file ${number}`).toBe(
        `${onData}${SUM_END}\n${onOver}${SUM_END}`,
      );
    }
  });

  it('a read-only disk refuses every kind of write, and its file stays as it is', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    expect(await guest.run('cat /sys/block/vda/ro')).toBe('1');
    expect(await guest.run('touch /data/new', { status: 1 })).toMatch(/Read-only file system/);
    expect(await guest.run('mount -o remount,rw /data', { status: 255 })).toMatch(/read-only|denied|not permitted/i);
    await guest.run('umount /data');
    // The kernel knows, and does not even ask the device.
    await guest.run('dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync', { status: 1 });
    await guest.run('blkdiscard /dev/vda', { status: 1 });
    await guest.run('blockdev --setrw /dev/vda; dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync', { status: 1 });
    expect(sha256(folder.at('data.img'))).toBe(before);
  });

  it('a full host disk is an I/O error, and after it the disk goes on', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    if (noSmall !== undefined) return skip(noSmall);
    for (const disk of ['vdc', 'vdd']) {
      const fill = `dd if=/dev/urandom of=/dev/${disk} bs=64k count=192 conv=fsync`;
      expect(await guest.run(fill, { status: 1 }), disk).toMatch(/I\/O error/);
      expect(log.join('\n')).toMatch(disk === 'vdc' ? /^disk2: .*ENOSPC/m : /^disk3: .*ENOSPC/m);
      // What has found room can be read, and written again.
      await guest.run(`dd if=/dev/urandom of=/tmp/piece bs=64k count=4 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches`);
      await guest.run(`dd if=/dev/${disk} of=/dev/null bs=64k count=16 2>/dev/null`);
      if (disk === 'vdc') {
        await guest.run(`dd if=/tmp/piece of=/dev/${disk} bs=64k conv=fsync 2>/dev/null`);
        // Room for the overlay's turn.
        truncateSync(`${small}/sparse.img`, 0);
        truncateSync(`${small}/sparse.img`, 32 * MIB);
      }
    }
    const spawned = spawnSync('mount', ['-o', 'remount,size=64m', small], { encoding: 'utf8' });
    expect(spawned.stderr).toBe('');
    for (const disk of ['vdc', 'vdd']) {
      await guest.run(`dd if=/tmp/piece of=/dev/${disk} bs=64k seek=100 conv=fsync 2>/dev/null`);
      await guest.run(`${sum(disk, 0, 12)} >/dev/null`);
      const piece = `dd if=/dev/${disk} bs=64k skip=100 count=4 2>/dev/null | md5sum; md5sum </tmp/piece`;
      const [there, here] = (await guest.run(piece)).split('\n');
      expect(there, disk).toBe(here);
    }
    // One line for each of many errors would drown everything else.
    expect(log.length).toBeLessThan(40);
  });

  it('ends well, with the base as it was', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('umount /over');
    expect(await guest.poweroff()).toBe('shutdown');
    guest = undefined;
    expect(sha256(folder.at('base.img'))).toBe(base);
    expect(sha256(folder.at('data.img'))).toBe(before);
  });
});
