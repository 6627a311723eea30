import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  chronyc,
  chronyRoot,
  FOLLOW_PTP0,
  preciseOffsets,
  refclockOffsets,
  spread,
  startChrony,
  waitForChrony,
} from '../support/chrony.ts';
import { boot } from '../support/debian-test.ts';
import type { Guest } from '../support/guest.ts';

// chrony of Debian's own package in a guest follows the host's clock by /dev/ptp0. What it is compared with in the end is the
// host's Date.now(), not anything that the guest was told. How exact it is depends on the host: test/bench/ptp.ts measures
// that; here it is printed, and only what every host can do is asserted.

const root = await chronyRoot();
if (typeof root === 'string') console.log(`skipped: chrony in a guest: ${root}`);

/** ns; far more than any host needs, far less than what is wrong at first. */
const LOCKED_NS = 1e6;

/** Fails unless the guest's CLOCK_REALTIME lies between two readings of the host's that enclose it. */
async function expectHostsTime(guest: Guest, offsetMs = 0): Promise<void> {
  const before = Date.now();
  // clock_gettime is system call 113 of arm64.
  const text = await guest.run(
    `chroot /chrony /usr/bin/perl -e 'my $t = "\\0" x 16; syscall(113, 0, $t); my ($s, $n) = unpack "qq", $t; printf "%d%03d", $s, $n / 1e6'`,
  );
  const after = Date.now();
  const ms = Number(text) + offsetMs;
  expect(ms, text).toBeGreaterThanOrEqual(before - 2);
  expect(ms, text).toBeLessThanOrEqual(after + 2);
}

const figures = (name: string, offsets: readonly number[]) => {
  const { median, p99 } = spread(offsets);
  return `${name}: |offset| median ${Math.round(median)} ns, p99 ${Math.round(p99)} ns of ${offsets.length}`;
};

describe('ACC-2, ACC-3: chrony in a guest locks to the clock of the host', () => {
  for (const cpus of [1, 4]) {
    test(`with ${cpus} vCPU${cpus > 1 ? 's' : ''}`, async ({ skip }) => {
      if (typeof root === 'string') return skip(root);
      const share = { directory: root.root, tag: 'chrony', readOnly: true };
      await using guest = await boot(skip, { cpus, share, net: 'none' });
      expect(await guest.run('cat /sys/class/ptp/ptp0/clock_name')).toBe('KVM virtual PTP');

      const messages = () => guest.run('cat /chrony/run/chronyd');
      // It starts an hour fast.
      await guest.run('date -s @$(($(date +%s) + 3600)) >/dev/null');
      await startChrony(guest, FOLLOW_PTP0);
      expect(await messages()).not.toMatch(/Fatal|Could not/);
      await waitForChrony(guest, LOCKED_NS / 1e9);
      const sources = await chronyc(guest, 'sources');
      expect(sources).toMatch(/^#\* PHC0 /m);
      expect(await chronyc(guest, 'tracking')).toMatch(/^Reference ID +: 50484330 \(PHC0\)$/m);
      await expectHostsTime(guest);

      const first = await refclockOffsets(guest);
      // It was an hour fast; `date` sets whole seconds.
      expect(Math.abs(first[0]! / 1e9 + 3600)).toBeLessThan(1.5);
      const precise = await preciseOffsets(guest, 1000, 5);
      expect(precise.errors).toBe(0);
      expect(spread(precise.offsets).median).toBeLessThan(LOCKED_NS);
      // What chrony measured in the meantime.
      const own = (await refclockOffsets(guest)).slice(first.length);
      expect(own.length).toBeGreaterThan(0);
      expect(spread(own).median).toBeLessThan(LOCKED_NS);

      const { clock } = await guest.vm.info();
      console.log(
        `${cpus} vCPUs, clock ${clock.source}, ${figures('precise', precise.offsets)}, ${figures('chrony', own)}`,
      );
      // A pause makes it late, which chrony sees and corrects.
      await guest.vm.pause();
      await sleep(2500);
      await guest.vm.resume();
      const late = async () => spread((await preciseOffsets(guest, 11)).offsets).median;
      const stepped = /clock was stepped by [12]\.\d+ seconds/;
      for (let n = 0; n < 120 && !((await late()) < LOCKED_NS && stepped.test(await messages())); n++) await sleep(500);
      expect(await messages()).toMatch(stepped);
      await expectHostsTime(guest);

      // Now slow by a day: what the device says makes up for it, to the host's time again.
      await guest.run('kill $(pidof chronyd); date -s @$(($(date +%s) - 86400)) >/dev/null');
      const { offsets, errors } = await preciseOffsets(guest, 11);
      expect(errors).toBe(0);
      const ahead = offsets.toSorted((a, b) => a - b)[5]!;
      expect(Math.abs(ahead / 1e9 - 86_400)).toBeLessThan(1.5);
      await expectHostsTime(guest, ahead / 1e6);
      expect(await guest.poweroff()).toBe('shutdown');
    });
  }
});
