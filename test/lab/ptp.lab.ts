import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { hostClocksource, whyKvmCannotPair } from '../../src/engines/host/clocksource.ts';
import { FOLLOW_PTP0, preciseOffsets, spread, startChrony, waitForChrony } from '../support/chrony.ts';
import { bootImage, type Guest, type GuestOptions } from '../support/guest.ts';
import { installPtpReads, readPtp } from '../support/ptp-reads.ts';
import { type LabContext, type LabNeeds, labCase } from './lab-case.ts';

// ptp_kvm of unmodified Debian kernels on genuine KVM, which answers by itself; test/integration/ptp-debian.test.ts has the same on the
// emulated engine.

const NEEDS: LabNeeds = { memory: 1536, image: true, seconds: 300 };
const READS = 10_000;
/** errno's of Linux, include/uapi/asm-generic/errno*.h. */
const ENODEV = 19;
const EOPNOTSUPP = 95;

/** Debian at its shell on KVM, with the reader in it, and the driver that x86-64 has as a module. */
async function boot(ctx: LabContext, options: GuestOptions = {}): Promise<Guest> {
  const image = ctx.image();
  if (image.ptpReads === undefined) return ctx.skip('no C compiler for a program in the guest');
  const guest = await bootImage(image, { memory: '256M', engine: 'kvm', slots: 0, ...options });
  await installPtpReads(guest, readFileSync(image.ptpReads));
  return guest;
}

/** Loads the module; its dependencies are built in. */
const loadDriver = (guest: Guest) => guest.run('insmod /lib/modules/ptp_kvm.ko');

const clockOf = async (guest: Guest) => (await guest.vm.info()).clock;

for (const cpus of [1, 2]) {
  labCase(
    `ARM-1, ARM-7, X86-2: ${READS} precise reads by ${cpus} vCPU${cpus > 1 ? 's' : ''}: none fails, and time does not go back`,
    { ...NEEDS, cpus, smoke: cpus === 1 },
    async ctx => {
      await using guest = await boot(ctx, { cpus });
      const x86 = ctx.architecture === 'x86';
      const why = whyKvmCannotPair(x86 ? 'x86_64' : 'aarch64', hostClocksource());
      const { ptp } = await clockOf(guest);
      if (why !== undefined) {
        // What is said of it is what the guest finds.
        assert.equal(ptp.answeredBy, 'nobody');
        if (x86) await guest.run('insmod /lib/modules/ptp_kvm.ko', { status: 1 });
        else assert.equal((await readPtp(guest, 1)).errno, EOPNOTSUPP);
        ctx.skip(why);
      }
      assert.deepEqual(ptp, { answeredBy: 'kernel' });
      if (x86) await loadDriver(guest);
      else assert.match(await guest.run('dmesg'), /KVM: hypervisor services detected \(0x0+ 0x0+ 0x0+ 0x00000003\)/);
      assert.equal(await guest.run('cat /sys/class/ptp/ptp0/clock_name'), 'KVM virtual PTP');
      const source = await guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource');
      assert.equal(source, x86 ? 'kvm-clock' : 'arch_sys_counter');
      const reads = await readPtp(guest, READS);
      ctx.note(JSON.stringify(reads));
      const { einval, other, monotonic } = reads;
      assert.deepEqual(
        { reads: reads.reads, einval, other, monotonic },
        { reads: READS, einval: 0, other: 0, monotonic: true },
      );
      assert.equal(await guest.poweroff(), 'shutdown');
    },
  );
}

labCase(
  'X86-1: a guest that runs on its TSC cannot read precisely (ENODEV), and the rest works',
  { ...NEEDS, on: ['x86'] },
  async ctx => {
    // Linux takes an invariant TSC by itself. The processors that QEMU emulates have none, so that it has to be told here.
    await using guest = await boot(ctx, { invariantTsc: true, append: 'clocksource=tsc tsc=reliable' });
    assert.equal(await guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource'), 'tsc');
    ctx.note(`flags:${await guest.run('grep -m1 ^flags /proc/cpuinfo | grep -o "[a-z]*_tsc" | tr "\\n" " "')}`);
    const { ptp } = await clockOf(guest);
    if (ptp.answeredBy === 'nobody') ctx.skip(ptp.reason ?? '');
    assert.match(ptp.reason ?? '', /ENODEV/);
    await loadDriver(guest);
    const { other, errno } = await readPtp(guest, 10);
    assert.deepEqual([other, errno], [10, ENODEV]);
    assert.equal(await guest.poweroff(), 'shutdown');
  },
);

labCase(
  'EMU-X7: with `ptp: false` arm64 has no such clock, and the guest lives',
  { ...NEEDS, on: ['arm64'] },
  async ctx => {
    await using guest = await boot(ctx, { ptp: false });
    assert.match(await guest.run('dmesg'), /KVM: hypervisor services detected \(0x0+ 0x0+ 0x0+ 0x00000001\)/);
    assert.equal(await guest.run('ls /dev/ptp* 2>/dev/null', { status: 1 }), '');
    assert.equal((await clockOf(guest)).ptp.answeredBy, 'nobody');
    assert.equal(await guest.poweroff(), 'shutdown');
  },
);

labCase(
  'EMU-X6: a pause of two seconds is one that PTP shows, and that the clock of the guest does not',
  NEEDS,
  async ctx => {
    const PAUSE_MS = 2000;
    await using guest = await boot(ctx);
    const x86 = ctx.architecture === 'x86';
    const answered = (await clockOf(guest)).ptp.answeredBy === 'kernel';
    if (answered && x86) await loadDriver(guest);
    // |device - CLOCK_REALTIME|, ns: how far the guest is off, which its own start decides.
    const offset = async () => (answered ? (await readPtp(guest, 100)).median : 0);
    const seconds = async () => Number((await guest.run('cut -d " " -f 1 /proc/uptime')).trim());
    await guest.run(`date -u -s "$(date -u +%F' '%T -d @${Math.floor(Date.now() / 1000) + 60})" >/dev/null`);
    const [before, up] = [await offset(), await seconds()];
    const started = performance.now();
    await guest.vm.pause();
    await new Promise(resolve => setTimeout(resolve, PAUSE_MS));
    await guest.vm.resume();
    const [uptime, hostSeconds] = [(await seconds()) - up, (performance.now() - started) / 1000];
    ctx.note(JSON.stringify({ uptime, hostSeconds }));
    assert.ok(uptime < hostSeconds - 0.9 * (PAUSE_MS / 1000));
    if (!answered) ctx.skip('the offset: nobody answers ptp_kvm here');
    // The guest is a minute ahead, two seconds less after the pause.
    const change = before - (await offset());
    ctx.note(`offset changed by ${change} ns`);
    assert.ok(Math.abs(change - PAUSE_MS * 1e6) < 0.2 * PAUSE_MS * 1e6);
    assert.equal(await guest.poweroff(), 'shutdown');
  },
);

labCase(
  'ACC-1: chrony on KVM for five minutes, then 1000 precise reads',
  { ...NEEDS, on: ['arm64'], chrony: true, seconds: 900 },
  async ctx => {
    const image = ctx.image();
    if (typeof image.chrony === 'string') return ctx.skip(image.chrony);
    const share = { directory: image.chrony.root, tag: 'chrony', readOnly: true };
    await using guest = await boot(ctx, { share });
    assert.equal((await clockOf(guest)).ptp.answeredBy, 'kernel');
    // Without chrony the guest is off by what its start decides, so that the numbers below are chrony's doing.
    const before = (await readPtp(guest, 100)).median;
    assert.ok(Math.abs(before) > 1000);
    ctx.note(`before: ${before} ns`);
    await startChrony(guest, FOLLOW_PTP0);
    await waitForChrony(guest, 0.001);
    await new Promise(resolve => setTimeout(resolve, 300_000));
    const { offsets, errors } = await preciseOffsets(guest, 1000, 20);
    assert.equal(errors, 0);
    const { median, p99 } = spread(offsets);
    ctx.note(`|device - sys_realtime|, ns: median ${median}, p99 ${p99}`);
    assert.ok(median < 100 && p99 < 1000);
    assert.equal(await guest.poweroff(), 'shutdown');
  },
);
