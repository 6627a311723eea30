// The FUSE protocol and the shared directory against a client that we did not write: the FUSE file system of this host's
// Linux, which is what virtio-fs is in a guest. It mounts the share through /dev/fuse, and programs use it.
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const missing = !fs.existsSync('/dev/fuse')
  ? 'no /dev/fuse'
  : process.getuid?.() !== 0
    ? 'mount(8) needs root'
    : undefined;
if (missing !== undefined) console.log(`skipped: share-linux: ${missing}`);

/** Runs a shell script in a directory. */
function run(script: string, cwd: string): Promise<{ status: number | null; output: string }> {
  return new Promise(resolve => {
    const env = { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' };
    const child = spawn('bash', ['-c', script], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', data => {
        output += data;
      });
    }
    child.on('close', status => resolve({ status, output }));
  });
}

describe.skipIf(missing !== undefined)('Linux as the guest', () => {
  let top: string;
  let server: ChildProcess;
  const at = (name: string) => join(top, name);

  beforeAll(async () => {
    top = fs.mkdtempSync(join(tmpdir(), 'share-linux-'));
    for (const name of ['host', 'guest', 'plain']) fs.mkdirSync(at(name));
    const program = join(import.meta.dirname, '../support/fuse-mount.ts');
    server = fork(program, [at('host'), at('guest')], { execArgv: ['--import', 'tsx'] });
    const [message] = await Promise.race([once(server, 'message'), once(server, 'exit')]);
    expect(message).toBe('mounted');
  });

  afterAll(async () => {
    const ended = once(server, 'exit');
    await run(`umount '${at('guest')}' || umount -l '${at('guest')}'`, '/');
    server.kill(); // without effect when it has ended by itself
    await ended;
    fs.rmSync(top, { recursive: true, force: true });
  });

  // Each prints the same in the mounted share as in a plain directory, and leaves the same behind.
  it.each([
    ['writes and reads', 'echo hello > a; cat a; echo more >> a; wc -c < a; cp a b; cmp a b && echo same'],
    ['a megabyte and an odd number of bytes', 'head -c 3333333 /dev/zero | tr "\\0" x > big; cksum big; tail -c 5 big'],
    ['the middle of a file', 'printf 0123456789 > m; printf AB | dd of=m bs=1 seek=4 conv=notrunc 2>/dev/null; cat m'],
    ['truncate and holes', 'truncate -s 100000 t; echo end >> t; stat -c %s t; truncate -s 5 t; od -c t'],
    ['directories', 'mkdir -p d/e/f; touch d/e/f/g; find d | sort; rmdir d 2>&1; mv d/e/f d/x; ls -R d'],
    ['many files', 'mkdir n; cd n; seq 1 1200 | xargs touch; ls | wc -l; ls -l | wc -l; rm *1; ls | cksum'],
    [
      'names',
      'mkdir o; cd o; touch "with space" "$(printf "\\303\\244\\377")" .hidden "$(printf %0255d 1)"; ls -a | cksum',
    ],
    ['too long a name', 'touch "$(printf %0256d 1)" 2>&1'],
    ['links', 'echo x > l1; ln l1 l2; stat -c %h l1; rm l1; cat l2; ln -s l2 l3; cat l3; readlink l3; ls -F'],
    [
      'links that lead nowhere and in circles',
      'ln -s none dangling; cat dangling 2>&1; ln -s loop loop; cat loop 2>&1',
    ],
    ['moves', 'echo 1 > r1; echo 2 > r2; mv r1 r2; cat r2; mkdir r3; mv r2 r3/; ls r3; mv -T r3 r4; cat r4/r2'],
    ['not over what is there', 'echo 1 > q1; echo 2 > q2; mv -n q1 q2; cat q2; mkdir q3; mv -T q1 q3 2>&1'],
    [
      'permissions',
      'touch p; chmod 640 p; stat -c %a p; (umask 0; touch p0; mkdir d0); stat -c %a p0 d0; chmod 1777 d0; stat -c %a d0',
    ],
    [
      'times',
      'touch -d "2001-02-03 04:05:06.123456" s; stat -c "%y %x" s; touch -m -d @1000000000 s; stat -c "%Y %x" s',
    ],
    ['times before 1970', 'touch -d "1950-01-01 00:00:01.5" s; stat -c "%Y %y" s'],
    ['deleted while open', 'exec 3<>k; echo alive >&3; rm k; cat /proc/self/fd/3; stat -Lc "%h %s" /proc/self/fd/3'],
    [
      'a tar and back',
      'mkdir src; seq 1 5000 > src/a; ln -s a src/b; mkdir src/c; tar cf - src | (mkdir dst; tar xf - -C dst); diff -r src dst/src && echo same',
    ],
    ['mapped memory', 'seq 1 9999 > z; sort -o z z; grep -c 5 z; sed -i s/1/one/ z; cksum z'],
    [
      'locks and flushing',
      'echo 1 > y; sync y; flock y cat y; dd if=/dev/zero of=y2 bs=4k count=3 conv=fsync 2>/dev/null; stat -c %s y2',
    ],
    ['removing a tree', 'mkdir -p w/{1,2,3}/x; mkdir -p w/v/u; rm -r w; ls -d w 2>&1'],
  ])('%s', async (_title, script) => {
    const got = await run(script, at('guest'));
    const wanted = await run(script, at('plain'));
    expect(got).toEqual(wanted);
    const tree =
      'find . -printf "%p %y %m %s %l\\n" | sed "/ d /s/ [0-9]* $//" | LC_ALL=C sort; find . -type f | sort | xargs -d "\\n" cat | cksum';
    expect(await run(tree, at('guest'))).toEqual(await run(tree, at('plain')));
    expect(await run(tree, at('host'))).toEqual(await run(tree, at('plain')));
    for (const name of ['guest', 'plain']) await run('find . -mindepth 1 -delete', at(name));
    expect(fs.readdirSync(at('host'))).toEqual([]);
  });

  it('sees what the host changes within a second, and the host what it changes', async () => {
    fs.writeFileSync(at('host/f'), 'one');
    expect((await run('cat f; ls', at('guest'))).output).toBe('onef\n');
    fs.writeFileSync(at('host/f'), 'two!');
    fs.writeFileSync(at('host/g'), '');
    expect((await run('sleep 1.1; cat f; ls', at('guest'))).output).toBe('two!f\ng\n');
    expect((await run('rm f; echo 3 > h', at('guest'))).output).toBe('');
    expect(fs.readdirSync(at('host')).sort()).toEqual(['g', 'h']);
    expect(fs.readFileSync(at('host/h'), 'latin1')).toBe('3\n');
    await run('rm g h', at('guest'));
  });

  it('links out of the share are followed by whoever has mounted it', async () => {
    fs.symlinkSync(join(top, 'beside'), at('host/abs'));
    fs.symlinkSync('../beside', at('host/rel'));
    fs.writeFileSync(at('beside'), 'of whoever follows the link');
    // The relative one is resolved where the share is mounted, by the kernel that mounted it.
    expect((await run('readlink abs rel; cat rel', at('guest'))).output).toBe(
      `${join(top, 'beside')}\n../beside\nof whoever follows the link`,
    );
    expect((await run('mkfifo f 2>&1; mknod n c 1 3 2>&1', at('guest'))).output).toMatch(
      /not permitted[\s\S]*not permitted/,
    );
    await run('rm abs rel', at('guest'));
  });

  it('four programs at once', async () => {
    const job = 'for i in $(seq 1 40); do seq $i 3000 > $0.$i; mv $0.$i $0-$i; cksum < $0-$i; done | cksum; rm $0-*';
    const all = await Promise.all(['a', 'b', 'c', 'd'].map(name => run(job.replaceAll('$0', name), at('guest'))));
    const plain = await run(job.replaceAll('$0', 'a'), at('plain'));
    expect(all.map(r => r.output)).toEqual(all.map(() => plain.output));
    expect(fs.readdirSync(at('host'))).toEqual([]);
  });

  it('the guest gives back what it no longer needs', async () => {
    await run('seq 1 500 | xargs touch; ls -l > /dev/null; rm *', at('guest'));
    server.send('holds?');
    const [holds] = await once(server, 'message');
    expect(holds.handles).toBe(0);
    expect(holds.nodes).toBeLessThan(50);
  });
});
