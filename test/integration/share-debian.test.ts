import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { boot, MIB, md5, md5Of, randomFile, testFolder } from '../support/debian-test.ts';
import type { Guest } from '../support/guest.ts';

// virtio-fs under Debian's own driver: folders of the host, and that nothing beside them can be reached.

const folder = testFolder('share-debian');
const host = (path: string) => folder.at(`host/${path}`);
/** 36 bytes, the most that a tag may have. */
const LONG_TAG = 'read-only-und-größer-als-sonst-was';
const SECRET = 'what only the host may read';

describe('folders of the host', () => {
  let guest: Guest | undefined;
  let small: string | undefined;
  let noSmall: string | undefined;

  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    if (small !== undefined && noSmall === undefined) spawnSync('umount', ['-l', small]);
  });

  it('are mounted by their tags', async ({ skip }) => {
    for (const name of ['host', 'fixed', 'small']) fs.mkdirSync(folder.at(name));
    fs.writeFileSync(folder.at('secret'), SECRET);
    fs.writeFileSync(folder.at('fixed/file'), 'fixed\n');
    small = folder.at('small');
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'small', small], { encoding: 'utf8' });
    if (mount.status !== 0) noSmall = `a full folder needs root to mount a small one: ${mount.stderr.trim()}`;
    expect(Buffer.byteLength(LONG_TAG)).toBe(36);
    guest = await boot(skip, {
      share: [
        `${folder.at('host')},data`,
        { directory: folder.at('fixed'), tag: LONG_TAG, readOnly: true },
        `${small},small`,
      ],
      net: 'none',
      cpus: 2,
    });
    await guest.run('mkdir -p /share /fixed /small');
    await guest.run(
      `mount -t virtiofs data /share && mount -t virtiofs '${LONG_TAG}' /fixed && mount -t virtiofs small /small`,
    );
    await guest.run('mount -t virtiofs nothing /mnt', { status: 255 });
    // No network was asked for.
    expect(await guest.run('ls /sys/class/net')).toBe('lo');
  });

  it('a thousand files: written, listed, renamed, removed', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run(
      'mkdir -p /share/many/deep && cd /share/many && for i in $(seq 1000); do echo "file $i" >$i; done; cd /',
    );
    const names = Array.from({ length: 1000 }, (_, n) => String(n + 1));
    expect(fs.readdirSync(host('many')).sort()).toEqual([...names, 'deep'].sort());
    for (const n of names) expect(fs.readFileSync(host(`many/${n}`), 'latin1')).toBe(`file ${n}\n`);
    expect(await guest.run('ls /share/many | wc -l; cat /share/many/[0-9]* | wc -l')).toBe('1001\n1000');
    await guest.run('cd /share/many && mv $(seq 1 2 1000) deep && mv deep/501 deep/moved && rm *[05]0; cd /');
    const left = names.filter(n => Number(n) % 2 === 0 && !/[05]0$/.test(n));
    expect(fs.readdirSync(host('many')).sort()).toEqual([...left, 'deep'].sort());
    expect(fs.readdirSync(host('many/deep'))).toHaveLength(500);
    expect(fs.readFileSync(host('many/deep/moved'), 'latin1')).toBe('file 501\n');
    await guest.run('rmdir /share/many/deep', { status: 1 });
    await guest.run('rm -r /share/many && mkdir /share/empty && rmdir /share/empty');
    expect(fs.readdirSync(folder.at('host'))).toEqual([]);
  });

  it('32 MiB in both directions, with their checksum', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    const sum = md5(randomFile(host('big'), 32 * MIB));
    expect(await guest.run('md5sum </share/big')).toBe(`${sum}  -`);
    await guest.run('cp /share/big /share/copy && sync');
    expect(md5Of(host('copy'))).toBe(sum);
    // With a pattern of access that is not from the front to the end.
    await guest.run(
      'dd if=/dev/zero of=/share/copy bs=4096 seek=5000 count=3 conv=notrunc 2>/dev/null; echo end >>/share/copy',
    );
    const wanted = fs.readFileSync(host('big'));
    wanted.fill(0, 5000 * 4096, 5003 * 4096);
    expect(md5Of(host('copy'))).toBe(md5(Buffer.concat([wanted, Buffer.from('end\n')])));
    await guest.run('echo 3 >/proc/sys/vm/drop_caches; rm /share/copy /share/big');
  });

  it('what the host changes is seen', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    const until = (test: string) =>
      guest!.run(`i=0; until ${test}; do i=$((i + 1)); [ $i -lt 300 ] && usleep 100000 || break; done; ${test}`);
    fs.writeFileSync(host('note'), 'one');
    await until('[ "$(cat /share/note)" = one ]');
    fs.writeFileSync(host('note'), 'two and more');
    await until('[ "$(cat /share/note)" = "two and more" ]');
    fs.rmSync(host('note'));
    await until('[ ! -e /share/note ]');
  });

  it('a read-only one refuses every change', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    expect(await guest.run('cat /fixed/file')).toBe('fixed');
    for (const change of [
      'echo x >/fixed/new',
      'echo x >>/fixed/file',
      'truncate -s 0 /fixed/file',
      'rm -f /fixed/file',
      'mv /fixed/file /fixed/other',
      'mkdir /fixed/folder',
      'ln -s file /fixed/link',
      'ln /fixed/file /fixed/link',
      'chmod 777 /fixed/file',
      'touch -d @0 /fixed/file',
    ]) {
      expect(await guest.run(`(${change}); [ $? != 0 ]`), change).toMatch(/Read-only file system/);
    }
    expect(fs.readdirSync(folder.at('fixed'))).toEqual(['file']);
    expect(fs.readFileSync(folder.at('fixed/file'), 'latin1')).toBe('fixed\n');
  });

  it("links that lead out of it lead to the guest's own files", async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('echo "the hostname of the guest" >/etc/hostname');
    fs.symlinkSync('/etc/hostname', host('absolute'));
    fs.symlinkSync('../../../../../../../../etc/hostname', host('relative'));
    fs.symlinkSync('../secret', host('beside'));
    fs.symlinkSync(folder.at('secret'), host('secret'));
    fs.symlinkSync('/', host('root'));
    fs.symlinkSync('..', host('parent'));
    for (const name of ['absolute', 'relative']) {
      expect(await guest.run(`cat /share/${name}`)).toBe('the hostname of the guest');
    }
    for (const name of [
      'beside',
      'secret',
      'parent/secret',
      `root/${folder.at('secret')}`,
      '../secret',
      'x/../../secret',
    ]) {
      expect(await guest.run(`cat /share/${name}`, { status: 1 }), name).toMatch(/No such file or directory/);
    }
    expect(await guest.run('ls /share/root/bin/busybox; ls -d /share/parent/share; ls -d /share/../share')).toBe(
      '/share/root/bin/busybox\n/share/parent/share\n/share/../share',
    );
    // Made by the guest, the same.
    await guest.run(`ln -s ${folder.at('secret')} /share/made; ln -s ../secret /share/made2`);
    for (const name of ['made', 'made2']) await guest.run(`cat /share/${name}`, { status: 1 });
    expect(fs.readlinkSync(host('made2'))).toBe('../secret');
    await guest.run('rm /share/*');
    expect(fs.readFileSync(folder.at('secret'), 'latin1')).toBe(SECRET);
  });

  it('a folder that becomes a link under the feet of the guest does not lead out', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    fs.mkdirSync(host('sub'));
    fs.writeFileSync(host('sub/secret'), 'harmless');
    expect(await guest.run('cd /share/sub && cat secret')).toBe('harmless');
    fs.renameSync(host('sub'), host('old'));
    fs.symlinkSync('..', host('sub'));
    // The guest is in the folder that it has opened, wherever that is now; or it is told that there is none any more.
    for (const command of [
      'cat secret',
      'cat /share/sub/secret',
      'cat ./secret',
      'ls -l',
      'cat <secret',
      'echo x >>secret',
    ]) {
      expect(await guest.run(`(${command}); true`), command).not.toContain(SECRET);
    }
    expect(fs.readFileSync(folder.at('secret'), 'latin1')).toBe(SECRET);
    await guest.run('cd /; rm -rf /share/*');
    expect(fs.readdirSync(folder.at('host'))).toEqual([]);
  });

  it('a full folder is an error of the file, and then there is room again', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    if (noSmall !== undefined) return skip(noSmall);
    expect(await guest.run('dd if=/dev/zero of=/small/fill bs=64k count=100', { status: 1 })).toMatch(
      /No space left on device/,
    );
    await guest.run(
      'rm /small/fill; dd if=/dev/zero of=/small/fits bs=64k count=32 2>/dev/null && df /small >/dev/null',
    );
    expect(fs.statSync(`${small}/fits`).size).toBe(2 * MIB);
  });

  it('are let go of and taken again, and the machine ends well', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    for (let n = 0; n < 3; n++) {
      await guest.run(`umount /share && mount -t virtiofs data /share && echo ${n} >/share/round`);
      expect(fs.readFileSync(host('round'), 'latin1')).toBe(`${n}\n`);
    }
    expect(await guest.poweroff()).toBe('shutdown');
    guest = undefined;
  });
});
