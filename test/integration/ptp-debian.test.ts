import { describe, expect, it } from 'vitest';
import { boot } from '../support/debian-test.ts';
import { installPtpReads, ptpReadsProgram, readPtp } from '../support/ptp-reads.ts';

// ptp_kvm of an unmodified Debian kernel, built in on arm64, against the services of src/devices/kvm-hypervisor.

const program = ptpReadsProgram('aarch64');
if (typeof program === 'string') console.log(`skipped: reads of /dev/ptp0: ${program}`);

/** What smccc/kvm_guest.c says, with the bitmap of FEATURES. */
const detected = (bitmap: string) =>
  `smccc: KVM: hypervisor services detected (0x00000000 0x00000000 0x00000000 ${bitmap})`;

describe("Debian's kernel finds the host's clock", () => {
  for (const cpus of [1, 4]) {
    it(`ARM-1, ARM-7: 10000 precise reads with ${cpus} vCPU${cpus > 1 ? 's' : ''}: none fails, and time does not go back`, async ({
      skip,
    }) => {
      if (typeof program === 'string') return skip(program);
      await using guest = await boot(skip, { cpus, net: 'none' });
      expect(await guest.run('dmesg')).toContain(detected('0x00000003'));
      expect(await guest.run('cat /sys/class/ptp/ptp0/clock_name')).toBe('KVM virtual PTP');
      const { ptp } = (await guest.vm.info()).clock;
      expect(ptp).toEqual({ answeredBy: 'tsvisor', calls: expect.any(Number) });
      expect(await guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource')).toBe(
        'arch_sys_counter',
      );
      await installPtpReads(guest, program);
      const reads = await readPtp(guest);
      console.log(`${cpus} vCPUs, ${(await guest.vm.info()).clock.source}: ${JSON.stringify(reads)}`);
      expect(reads).toMatchObject({ reads: 10_000, einval: 0, other: 0, monotonic: true });
      expect((await guest.vm.clock()).ptp.calls! - ptp.calls!).toBeGreaterThanOrEqual(10_000);
      if (cpus > 1) {
        // One reader on each vCPU at the same time, while all of them are busy.
        const lines = (
          await guest.run(
            `for c in $(seq 0 ${cpus - 1}); do taskset -c $c /tmp/ptp-reads 2500 >/tmp/reads.$c & done; wait; cat /tmp/reads.*`,
          )
        ).split('\n');
        expect(lines.length).toBe(cpus);
        for (const line of lines) expect(line).toMatch(/^reads 2500 einval 0 other 0 errno 0 monotonic yes /);
      }
      expect(await guest.poweroff()).toBe('shutdown');
    });
  }

  it('EMU-X7: with `ptp: false` there is no such clock, and the guest lives', async ({ skip }) => {
    await using guest = await boot(skip, { ptp: false, net: 'none' });
    // KVM's services are there all the same, and the driver stays away from what they do not offer.
    expect(await guest.run('dmesg')).toContain(detected('0x00000001'));
    expect(await guest.run('ls /dev/ptp* /sys/class/ptp/* 2>/dev/null', { status: 1 })).toBe('');
    expect((await guest.vm.info()).clock.ptp).toEqual({ answeredBy: 'nobody', reason: 'switched off (ptp: false)' });
    expect(await guest.poweroff()).toBe('shutdown');
  });
});
