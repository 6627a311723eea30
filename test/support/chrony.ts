import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { S_IFDIR, S_IFREG } from '../../src/firmware/cpio.ts';
import { hasApt } from '../../src/images/apt.ts';
import { cacheFolder } from '../../src/images/cache.ts';
import { sha256 } from '../../src/images/files.ts';
import type { Guest } from './guest.ts';
import { debianFiles, entryOf, writeTree } from './userland.ts';

/** Neither chronyd nor perl reads any of it. */
const UNWANTED = /^(usr\/share\/|usr\/lib\/aarch64-linux-gnu\/gconv|var\/|etc\/)/;
/** Must change with anything here that changes the files. */
const RECIPE = sha256(`2 ${UNWANTED}`).slice(0, 12);

/** Lines of chrony's configuration for a guest that has nothing but the host's clock (chrony.conf(5)). */
export const FOLLOW_PTP0 = 'refclock PHC /dev/ptp0 poll 0 dpoll -2';

/**
 * A folder with Debian's chrony for arm64, and perl, which can call ioctl(); from the user's cache, fetched by apt if it is not
 * there. Or why there is none. Share it read-only, as `chrony`.
 */
export async function chronyRoot(): Promise<{ readonly root: string } | string> {
  const root = join(cacheFolder(), 'test-chrony', RECIPE);
  if (await stat(root).catch(() => undefined)) return { root };
  if (!(await hasApt())) return 'there is no apt to get chrony with';
  await mkdir(dirname(root), { recursive: true });
  const work = await mkdtemp(join(dirname(root), 'new-'));
  try {
    const files = await debianFiles('chrony perl-base', UNWANTED, join(work, 'apt')).catch((e: Error) => e);
    if (files instanceof Error) return `apt's sources are of no use here: ${files.message}`;
    for (const name of ['dev', 'proc', 'run', 'etc']) files.set(name, entryOf(name, S_IFDIR | 0o755));
    // chronyd looks for its user before it starts.
    files.set('etc/passwd', entryOf('etc/passwd', S_IFREG | 0o644, 'root:x:0:0::/:/bin/sh\n'));
    await writeTree(join(work, 'root'), files);
    await rename(join(work, 'root'), root);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return { root };
}

/**
 * Starts chronyd in a guest that has the folder of {@link chronyRoot} as the share `chrony`. Its messages go to /run/chronyd and
 * its logs to /run/log, both below /chrony.
 */
export async function startChrony(guest: Guest, configuration: string): Promise<void> {
  // Without privileges to give up and without a filter of system calls: Debian's kernel has both, an init daemon sets them up.
  await guest.run(`mkdir /chrony && mount -t virtiofs chrony /chrony && cd /chrony
mount -t tmpfs run run && mount -o bind /dev dev && mount -t proc proc proc
mkdir -p run/log && mkdir -m 750 run/chrony
cat >run/chrony.conf <<'end'
${configuration}
makestep 0.1 -1
logdir /run/log
log refclocks tracking
cmdport 0
end
chroot . /usr/sbin/chronyd -d -u root -F 0 -f /run/chrony.conf >run/chronyd 2>&1 &`);
}

/** What `chronyc` prints. */
export function chronyc(guest: Guest, command: string): Promise<string> {
  return guest.run(`chroot /chrony /usr/bin/chronyc -n ${command}`);
}

/** Waits until chronyd follows a source and has less than `seconds` left to correct; at most two minutes of the guest's. */
export async function waitForChrony(guest: Guest, seconds: number): Promise<void> {
  // waitsync max-tries max-correction max-skew interval (chronyc(1)); its status is 1 when it gave up.
  await guest.run(`chroot /chrony /usr/bin/chronyc -n waitsync 120 ${seconds} 0 1`, { timeout: '600s' });
}

/** What PTP_SYS_OFFSET_PRECISE told: device's clock - guest's CLOCK_REALTIME, ns, in the order of the calls; and failed calls. */
export interface PreciseOffsets {
  readonly offsets: readonly number[];
  readonly errors: number;
}

// struct ptp_sys_offset_precise: device, sys_realtime, sys_monoraw, each {s64 sec, u32 nsec, u32 reserved}; 64 bytes in all
// (include/uapi/linux/ptp_clock.h).
const READER = `open(my $clock, "+<", "/dev/ptp0") or die "/dev/ptp0: $!";
for (1..$ARGV[0]) {
  my $precise = "\\0" x 64;
  if (ioctl($clock, 0xc0403d08, $precise)) {
    my ($sec, $nsec, undef, $realSec, $realNsec) = unpack "qLLqLL", $precise;
    print +($sec - $realSec) * 1000000000 + $nsec - $realNsec, "\\n";
  } else { print "failed\\n" }
  select undef, undef, undef, $ARGV[1] / 1000;
}`;

/** Reads /dev/ptp0 `count` times, a pause of `pauseMs` after each, by the ioctl that chronyd uses. */
export async function preciseOffsets(guest: Guest, count: number, pauseMs = 0): Promise<PreciseOffsets> {
  await guest.run(`cat >/chrony/run/reader <<'end'\n${READER}\nend`);
  const lines = (
    await guest.run(`chroot /chrony /usr/bin/perl /run/reader ${count} ${pauseMs}`, {
      timeout: `${120 + Math.ceil((count * pauseMs) / 50)}s`,
    })
  ).split('\n');
  const offsets = lines.filter(l => l !== 'failed').map(Number);
  if (lines.length !== count || offsets.some(Number.isNaN))
    throw new Error(`not ${count} readings:\n${lines.slice(0, 20)}`);
  return { offsets, errors: lines.length - offsets.length };
}

/** Offsets that chronyd itself measured, ns, oldest first: "Raw offset" of refclocks.log (chrony.conf(5)); less than 0 if the guest is fast. */
export async function refclockOffsets(guest: Guest): Promise<number[]> {
  // Filtered samples have a `-` in place of their number.
  const log = await guest.run('cat /chrony/run/log/refclocks.log');
  return [...log.matchAll(/ PHC0 +\d+ \S+ \S+ +([-+]\S+|\d\S+) /g)].map(m => Number(m[1]) * 1e9);
}

/** Median and 99th percentile of the distance from 0. */
export function spread(offsets: readonly number[]): { readonly median: number; readonly p99: number } {
  const sorted = offsets.map(Math.abs).sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
  return { median: at(0.5), p99: at(0.99) };
}
