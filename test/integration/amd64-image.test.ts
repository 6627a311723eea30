import { closeSync, openSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { debian } from '../e2e/debian.ts';
import { testFolder } from '../support/debian-test.ts';
import { installed } from '../support/debs.ts';
import { bootInQemu, qemuProgram, SHELL_STEPS, typeInQemu } from '../support/qemu-guest.ts';

// The image debian-amd64 in a machine that is not ours: QEMU says whether kernel, initramfs and /init are right.
const program = qemuProgram('x86_64');
const qemu = installed(program);
if (!qemu) console.log(`skipped: booting debian-amd64 in QEMU: ${program} is not installed`);
const image = qemu ? await debian('debian-amd64') : `no ${program}`;

describe.skipIf(typeof image === 'string')('the image debian-amd64', () => {
  if (typeof image === 'string') return;
  const folder = testFolder('amd64-image');

  it('is an x86 kernel (magic of Documentation/arch/x86/boot.rst) and says so', async () => {
    expect(image).toMatchObject({ name: 'debian-amd64', architecture: 'x86_64' });
    expect(image.release).toMatch(/^\d+\.\d+.*cloud-amd64$/);
    expect((await readFile(image.kernel)).toString('latin1', 0x202, 0x206)).toBe('HdrS');
  });

  it('boots with virtio devices, which work, runs a command and powers off', () => {
    const disk = folder.at('disk');
    writeFileSync(disk, 'from the host\n');
    truncateSync(disk, 1 << 20);
    const commands = [
      'uname -r -m; tty; cat /proc/1/comm',
      'head -n 1 /dev/vda; echo from the guest | dd of=/dev/vda bs=512 seek=1 conv=sync 2>/dev/null; sync',
      'ip -4 addr show eth0; cat /sys/class/misc/hw_random/rng_current; lsmod',
      'exit 7',
    ];
    const out = bootInQemu(
      image,
      `quiet tsvisor.exec64=${Buffer.from(commands.join('\n')).toString('base64')}`,
      [
        ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='],
        ['-drive', `if=none,id=disk,format=raw,file=${disk}`, '-device', 'virtio-blk-pci,drive=disk'],
        ['-device', 'virtio-rng-pci'],
      ].flat(),
    );
    expect(out).toContain(`${image.release} x86_64\n/dev/ttyS0\ninit\nfrom the host\n`);
    expect(out).toContain('inet 10.0.2.15/24');
    expect(out).toContain('virtio_rng.0\n');
    for (const name of ['virtio_pci', 'virtio_net', 'virtio_blk', 'virtio_rng', 'virtio_mem', 'virtiofs'])
      expect(out).toMatch(new RegExp(`^${name} `, 'm'));
    expect(out).toContain('tsvisor.exec: exit status 7\n');
    expect(out).toContain('reboot: Power down');
    const written = Buffer.alloc(15);
    const file = openSync(disk, 'r');
    readSync(file, written, 0, written.length, 512);
    closeSync(file);
    expect(written.toString()).toBe('from the guest\n');
  });

  it('loads no module on a machine without virtio, and carries those that arm64 has built in', () => {
    const command =
      'echo "modules: $(wc -l </proc/modules)"; cd /lib/modules; insmod button.ko; lsmod; ls ptp_kvm.ko; grep -c -e button -e ptp_kvm order';
    const out = bootInQemu(image, `quiet tsvisor.exec64=${Buffer.from(command).toString('base64')}`);
    expect(out).toContain('modules: 0\n');
    expect(out).toMatch(/^button /m);
    expect(out).toContain('\nptp_kvm.ko\n0\n');
  });

  it('has a root shell with job control that powers off', async () => {
    const { out, code } = await typeInQemu(image, 'quiet', SHELL_STEPS);
    expect(out).toMatch(/\nback\r?\n/);
    expect(out).not.toContain("can't access tty");
    expect(code).toBe(0);
  });
});
