// Debian's chrony in a guest follows the clock of this host through /dev/ptp0. Run it with: npx tsx examples/chrony.ts
// It needs a Debian host, whose apt and dpkg get chrony for arm64, and the kernel of `tsvisor pull debian-arm64`.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Vm } from 'tsvisor';

/** A folder with chrony and all that it depends on, unpacked and not installed. */
function chronyRoot(work: string): string {
  for (const folder of ['lists/partial', 'archives/partial', 'root'])
    mkdirSync(join(work, folder), { recursive: true });
  writeFileSync(join(work, 'status'), ''); // an apt of our own, for which nothing is installed yet
  const settings = ['Dir::State', 'Dir::Cache'].map(name => `${name}=${work}`);
  settings.push(`Dir::State::status=${join(work, 'status')}`, `APT::Sandbox::User=${userInfo().username}`);
  settings.push('APT::Architecture=arm64', 'APT::Architectures::=arm64', 'Debug::NoLocking=1');
  const apt = (...args: string[]) => execFileSync('apt-get', ['-qq', ...settings.flatMap(s => ['-o', s]), ...args]);
  apt('update');
  apt('install', '--yes', '--no-install-recommends', '--download-only', 'chrony', 'perl-base');
  const root = join(work, 'root');
  const packages = readdirSync(join(work, 'archives')).filter(name => name.endsWith('.deb'));
  for (const name of packages) execFileSync('dpkg-deb', ['--extract', join(work, 'archives', name), root]);
  for (const folder of ['dev', 'proc', 'run', 'etc']) mkdirSync(join(root, folder), { recursive: true });
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\n'); // chronyd looks for its user
  return root;
}

/** Kernel and initrd of `tsvisor pull debian-arm64`. */
function debian(): { kernel: string; initrd: string } {
  const cli = fileURLToPath(new URL('./dist/cli/main.js', import.meta.resolve('tsvisor/package.json')));
  const lines = execFileSync(process.execPath, [cli, 'images', '--json'], { encoding: 'utf8' }).trim().split('\n');
  const { kernel, initrd } = lines.map(line => JSON.parse(line)).find(image => image.name === 'debian-arm64');
  return { kernel, initrd };
}

const START = `mkdir /chrony && mount -t virtiofs chrony /chrony && cd /chrony
mount -t tmpfs run run && mount -o bind /dev dev && mount -t proc proc proc && mkdir -m 750 run/chrony
echo 'refclock PHC /dev/ptp0 poll 0 dpoll -2' >run/chrony.conf
echo 'makestep 0.1 3' >>run/chrony.conf
chroot . /usr/sbin/chronyd -u root -F 0 -f /run/chrony.conf
chroot . /usr/bin/chronyc -n waitsync 60 0.000001 0 1
chroot . /usr/bin/chronyc -n sources
chroot . /usr/bin/chronyc -n tracking
`;
// What testptp -x does: PTP_SYS_OFFSET_PRECISE has the host's time, then the guest's, each in seconds and nanoseconds.
const READ = `open(P, "+<", "/dev/ptp0") or die $!;
for (1..5) {
  my $pair = "\\0" x 64;
  ioctl(P, 0xc0403d08, $pair) or die $!;
  my ($s, $ns, undef, $gs, $gns) = unpack "qLLqL", $pair;
  printf "host %d.%09d  guest %d.%09d  host ahead by %d ns\\n", $s, $ns, $gs, $gns, ($s - $gs) * 1e9 + $ns - $gns;
}`;

const work = mkdtempSync(join(tmpdir(), 'chrony-'));
try {
  const share = { directory: chronyRoot(work), tag: 'chrony', readOnly: true };
  const vm = await Vm.create({ ...debian(), share, params: 'console=ttyAMA0 panic=-1 quiet' });
  await vm.start();
  await vm.console.waitFor('~ # ', { timeout: '180s' });
  // Without the echo, what comes is what the commands print.
  vm.console.write('stty -echo; PS1=; PS2=; echo quiet\n');
  await vm.console.waitFor('\nquiet\r\n', { timeout: '30s' });
  vm.console.pipe(process.stdout);
  vm.console.write(`${START}chroot . /usr/bin/perl -e '${READ}'\npoweroff\n`);
  await vm.exited;
} finally {
  rmSync(work, { recursive: true, force: true });
}
