import { execFile } from 'node:child_process';
import { link, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import tar from 'tar-stream';
import { type CpioEntry, createCpio, S_IFDIR, S_IFLNK, S_IFREG } from '../../src/firmware/cpio.ts';
import { hasApt } from '../../src/images/apt.ts';
import { cacheFolder } from '../../src/images/cache.ts';
import { readAr, unxz } from '../../src/images/deb.ts';
import { sha256 } from '../../src/images/files.ts';

const run = promisify(execFile);

/** Debian's packages that the guest runs; apt adds what they need. */
const PACKAGES =
  'libc6 libgcc-s1 libstdc++6 perl-base python3-minimal libpython3-stdlib openssl coreutils gzip xz-utils zstd bc gawk dash sed grep findutils diffutils';
/** What no test needs: half of the bytes. */
const UNWANTED = /^(usr\/share\/(?!awk)|usr\/lib\/aarch64-linux-gnu\/gconv|var\/|etc\/(?!alternatives))/;
/** Debian 12's packages hold files below / and below /usr; on an installed system the first are links to the second. */
const MERGED = ['bin', 'sbin', 'lib'];
/** Must change with anything here that changes the files. */
const RECIPE = sha256(`1 ${PACKAGES} ${UNWANTED}`).slice(0, 12);

/** A root file system of Debian's arm64 packages. */
export interface Userland {
  /** The unpacked folder, for QEMU's user mode. */
  readonly root: string;
  /** The same as a cpio archive with everything below `debian/`, to append to an initramfs. */
  readonly cpio: Uint8Array;
}

/** Debian's userland from the user's cache, fetched by apt if it is not there; or why there is none. */
export async function userland(): Promise<Userland | string> {
  const folder = join(cacheFolder(), 'test-userland', RECIPE);
  const open = async () => ({ root: join(folder, 'root'), cpio: new Uint8Array(await readFile(join(folder, 'cpio'))) });
  const cached = await open().catch(() => undefined);
  if (cached) return cached;
  if (!(await hasApt())) return 'there is no apt to get Debian packages with';
  await mkdir(dirname(folder), { recursive: true });
  const work = await mkdtemp(join(dirname(folder), 'new-'));
  try {
    const files = await debianFiles(PACKAGES, UNWANTED, join(work, 'apt')).catch((e: Error) => e);
    if (files instanceof Error) return `apt's sources are of no use here: ${files.message}`;
    files.set('usr/bin/sh', entryOf('usr/bin/sh', S_IFLNK | 0o777, 'dash'));
    files.set('usr/bin/awk', entryOf('usr/bin/awk', S_IFLNK | 0o777, 'gawk'));
    for (const name of ['dev', 'proc', 'sys', 'tmp', 't']) files.set(name, entryOf(name, S_IFDIR | 0o1777));
    addFolders(files);
    await writeTree(join(work, 'new', 'root'), files);
    const moved = [...files.values()].map(e => ({ ...e, path: `debian/${e.path}` }));
    await writeFile(join(work, 'new', 'cpio'), createCpio([entryOf('debian', S_IFDIR | 0o755), ...moved]));
    await rename(join(work, 'new'), folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return open();
}

/**
 * What Debian's arm64 packages of these names (with spaces between them), and all that they depend on, would install in a system
 * with a merged /usr, but for what `unwanted` matches. No program of the packages is run. `folder` is for apt.
 */
export async function debianFiles(packages: string, unwanted: RegExp, folder: string): Promise<Map<string, CpioEntry>> {
  const files = new Map<string, CpioEntry>();
  for (const deb of await fetchPackages(packages, folder)) {
    await unpack(new Uint8Array(await readFile(deb)), unwanted, files);
  }
  for (const name of MERGED) files.set(name, entryOf(name, S_IFLNK | 0o777, `usr/${name}`));
  return files;
}

/** Paths of the .deb files of these packages and of all that they depend on, by an apt with a state of its own. */
async function fetchPackages(packages: string, folder: string): Promise<string[]> {
  await mkdir(join(folder, 'state/lists/partial'), { recursive: true });
  await mkdir(join(folder, 'cache/archives/partial'), { recursive: true });
  await writeFile(join(folder, 'status'), ''); // nothing is installed, so that apt names every dependency
  const options = {
    'Dir::State': join(folder, 'state'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': join(folder, 'cache'),
    'APT::Architecture': 'arm64',
    'APT::Architectures::': 'arm64',
    'APT::Sandbox::User': userInfo().username,
    'Debug::NoLocking': '1',
    'Acquire::Retries': '2',
  };
  const apt = (...args: string[]) =>
    run('apt-get', ['-qq', ...Object.entries(options).flatMap(([k, v]) => ['-o', `${k}=${v}`]), ...args], {
      env: { ...process.env, LC_ALL: 'C' },
      timeout: 300_000,
    });
  await apt('update');
  await apt('install', '-y', '--no-install-recommends', '--download-only', ...packages.split(' '));
  const archives = join(folder, 'cache/archives');
  return (await readdir(archives)).filter(n => n.endsWith('.deb')).map(n => join(archives, n));
}

/** Adds the files, folders and links of a package. */
async function unpack(deb: Uint8Array, unwanted: RegExp, files: Map<string, CpioEntry>): Promise<void> {
  const data = readAr(deb).find(m => m.name === 'data.tar.xz');
  if (!data) throw new Error('a package without data.tar.xz');
  const extract = tar.extract();
  extract.on('entry', (header, stream, next) => {
    const path = merged(header.name);
    const chunks: Buffer[] = [];
    stream.on('data', chunk => chunks.push(chunk as Buffer));
    stream.on('end', () => {
      const mode = (header.mode ?? 0o644) & 0o777;
      if (path !== '' && !unwanted.test(path)) {
        if (header.type === 'file') files.set(path, entryOf(path, S_IFREG | mode, Buffer.concat(chunks)));
        else if (header.type === 'directory') files.set(path, entryOf(path, S_IFDIR | mode));
        else if (header.type === 'symlink') files.set(path, entryOf(path, S_IFLNK | 0o777, header.linkname ?? ''));
        else if (header.type === 'link') {
          const target = files.get(merged(header.linkname ?? ''));
          if (target) files.set(path, { ...target, path });
        }
      }
      next();
    });
  });
  await pipeline(Readable.from([Buffer.from(await unxz(data.data, 1 << 28))]), extract);
}

/** A path of a package without `./`, at its place in a system with a merged /usr. */
function merged(name: string): string {
  const path = posix.normalize(name).replace(/^\.?\/+|\/$/g, '');
  if (path === '.') return '';
  return MERGED.includes(path.split('/')[0]!) ? `usr/${path}` : path;
}

/** An entry of a cpio archive; text is UTF-8. */
export function entryOf(path: string, mode: number, data: Uint8Array | string = ''): CpioEntry {
  return { path, mode, data: typeof data === 'string' ? new TextEncoder().encode(data) : data };
}

/** Adds folders that something lies in and that nothing names. */
function addFolders(files: Map<string, CpioEntry>): void {
  for (const path of [...files.keys()]) {
    for (let up = posix.dirname(path); up !== '.' && !files.has(up); up = posix.dirname(up)) {
      files.set(up, entryOf(up, S_IFDIR | 0o755));
    }
  }
}

/** Writes the entries below a folder that need not be there. */
export async function writeTree(root: string, files: ReadonlyMap<string, CpioEntry>): Promise<void> {
  const written = new Map<Uint8Array, string>();
  await mkdir(root, { recursive: true });
  for (const [path, { mode, data = new Uint8Array() }] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const to = join(root, path);
    const type = mode & 0o170000;
    if (type === S_IFDIR) await mkdir(to, { recursive: true });
    else if (type === S_IFLNK) await symlink(Buffer.from(data).toString(), to);
    else if (written.has(data)) await link(written.get(data)!, to);
    else {
      await writeFile(to, data, { mode: mode & 0o777 });
      written.set(data, to);
    }
  }
}

/** One job of the guest: a shell script that runs in a folder of its own. */
export interface Job {
  readonly name: string;
  /** For /bin/sh. */
  readonly script: string;
  /** Other files of its folder. */
  readonly files?: Readonly<Record<string, string>>;
  /** What it must print; without it, what it prints below QEMU. */
  readonly expected?: string;
}

/** What a job printed, and its exit status in a last line. */
export type JobOutput = string;

/** Environment of all jobs, in the guest and below QEMU. */
const ENVIRONMENT = {
  LC_ALL: 'C',
  TZ: 'UTC',
  PYTHONDONTWRITEBYTECODE: '1',
  PYTHONHASHSEED: '0',
  OPENSSL_CONF: '/dev/null',
};

/**
 * A cpio archive with the jobs below `debian/t/` and the program `debian/t/start`, which runs them one after the other or,
 * with the argument `parallel`, all at the same time, and prints what they printed and the kernel's log.
 */
export function jobArchive(jobs: readonly Job[], shared: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const environment = Object.entries(ENVIRONMENT).map(([k, v]) => `${k}=${v}`);
  const start = `#!/bin/busybox sh
# Console output of the kernel and of the jobs must not mix: the log is printed at the end.
dmesg -n 1
echo 1 >/proc/sys/debug/exception-trace
mount -o bind /dev /debian/dev
mount -o bind /dev/shm /debian/dev/shm
mount -t proc proc /debian/proc
exec 3>&1
job() {
	chroot /debian /usr/bin/env -i PATH=/usr/bin HOME=/t/$1 ${environment.join(' ')} sh -c "cd /t/$1; exec sh ./run.sh" >/t.$1 2>&1 </dev/null
	echo "exit $?" >>/t.$1
}
show() { echo "@@begin $1"; cat /t.$1; echo "@@end $1"; }
for j in ${jobs.map(j => j.name).join(' ')}; do
	if [ "$1" = parallel ]; then job $j & else job $j; show $j; fi
done
wait
if [ "$1" = parallel ]; then for j in ${jobs.map(j => j.name).join(' ')}; do show $j; done; fi
echo "@@begin dmesg"; dmesg; echo "@@end dmesg"
`;
  const entries = [entryOf('debian/t/start', S_IFREG | 0o755, start)];
  for (const [name, data] of Object.entries(shared)) entries.push(entryOf(`debian/t/${name}`, S_IFREG | 0o644, data));
  for (const job of jobs) {
    entries.push(entryOf(`debian/t/${job.name}`, S_IFDIR | 0o755));
    for (const [name, text] of Object.entries({ ...job.files, 'run.sh': job.script })) {
      entries.push(entryOf(`debian/t/${job.name}/${name}`, S_IFREG | 0o755, text));
    }
  }
  return createCpio(entries);
}

/** What was printed between the marks of {@link jobArchive}'s program, by job. */
export function jobOutputs(console: string): Map<string, JobOutput> {
  const text = console.replaceAll('\r\n', '\n');
  return new Map([...text.matchAll(/^@@begin (\S+)\n([\s\S]*?)^@@end \1\n/gm)].map(m => [m[1]!, m[2]!]));
}

/**
 * Runs jobs with the host's shell and every program of the userland below QEMU's user mode. `folder` is for their files.
 */
export async function runBelowQemu(
  { root }: Userland,
  jobs: readonly Job[],
  shared: Readonly<Record<string, Uint8Array>>,
  folder: string,
): Promise<Map<string, JobOutput>> {
  const bin = join(folder, 'bin');
  await mkdir(bin, { recursive: true });
  for (const name of await readdir(join(root, 'usr/bin'))) {
    if (name === 'sh' || name === 'dash') continue; // a script may only find programs through the PATH
    const program = join(root, 'usr/bin', name);
    await writeFile(join(bin, name), `#!/bin/sh\nexec qemu-aarch64 -L '${root}' '${program}' "$@"\n`, { mode: 0o755 });
  }
  for (const name of ['sh', 'dash']) await symlink('/bin/sh', join(bin, name));
  for (const [name, data] of Object.entries(shared)) await writeFile(join(folder, name), data);
  const outputs = new Map<string, JobOutput>();
  for (const job of jobs) {
    const cwd = join(folder, job.name);
    await mkdir(cwd);
    for (const [name, text] of Object.entries({ ...job.files, 'run.sh': job.script })) {
      await writeFile(join(cwd, name), text, { mode: 0o755 });
    }
    const env = { ...ENVIRONMENT, PATH: `${bin}:/usr/bin:/bin`, HOME: cwd };
    const { stdout } = await run('/bin/sh', ['-c', 'exec 2>&1 </dev/null; sh ./run.sh; echo "exit $?"'], {
      cwd,
      env,
      timeout: 120_000,
      maxBuffer: 1 << 24,
    });
    outputs.set(job.name, stdout);
  }
  return outputs;
}
