import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Vm } from 'tsvisor';
import { describe, expect, it } from 'vitest';
import { debian } from '../e2e/debian.ts';
import { boot, MIB, md5, md5Of, randomFile, testFolder } from '../support/debian-test.ts';

// Virtio devices under Debian's own drivers: randomness, runs that are bit-identical, and the interface of before virtio 1.0.

const folder = testFolder('virtio-debian');

describe('randomness, and runs with the virtual clock', () => {
  /** Everything that a guest can use a disk and randomness for. */
  const command = `
    cat /sys/class/misc/hw_random/rng_current
    dd if=/dev/hwrng bs=32 count=1 2>/dev/null | xxd -p -c 32
    dd if=/dev/hwrng bs=64k count=4 2>/dev/null | wc -c
    mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt && cd /mnt
    dd if=/dev/hwrng of=big bs=16k count=32 2>/dev/null
    for i in $(seq 50); do date +%s.$i >$i; done
    (md5sum big & sync & md5sum /dev/vdb & wait) | sort
    rm [0-9]*; sync; fstrim /mnt; cd /; umount /mnt; blkdiscard /dev/vdb; md5sum /dev/vdb`;
  let runs = 0;

  async function run(image: { readonly kernel: string; readonly initrd: string }, seed: number) {
    const overlays = [0, 1].map(n => folder.at(`${runs}-${n}.over`));
    runs++;
    await using vm = await Vm.create({
      ...image,
      clock: 'virtual',
      cpus: 2,
      seed,
      memory: '128M',
      slots: 0,
      disk: overlays.map((overlay, n) => `${folder.at(`base${n}.img`)},cow=${overlay}`),
      rng: true,
      params: `console=ttyAMA0 panic=-1 quiet tsvisor.exec64=${Buffer.from(command).toString('base64')}`,
    });
    await vm.start();
    const { reason, memoryHash, info } = await vm.exited;
    expect(reason).toBe('shutdown');
    const changes = overlays.map(o => createHash('sha256').update(readFileSync(o)).digest('hex'));
    return { text: vm.console.text, memoryHash, instructions: info?.instructions, changes };
  }

  it('comes from virtio; the same seed gives the same bytes, files and memory, another seed others', async ({
    skip,
  }) => {
    const image = await debian();
    if (typeof image === 'string') return skip(image);
    const { kernel, initrd } = image;
    const sums = [8, 2].map((size, n) => md5(randomFile(folder.at(`base${n}.img`), size * MIB)));
    const first = await run({ kernel, initrd }, 1);
    const [current, random, length, ...rest] = first.text.trim().split(/\r\n/);
    expect(current).toMatch(/^virtio_rng/);
    expect(random).toMatch(/^[0-9a-f]{64}$/);
    expect(new Set(random!.match(/../g)).size).toBeGreaterThan(16);
    expect(length).toBe(String(256 * 1024));
    expect(rest.join('\n')).toContain(`${sums[1]}  /dev/vdb`);
    // The discarded disk is zeroes.
    expect(rest.join('\n')).toContain(`${md5(Buffer.alloc(2 * MIB))}  /dev/vdb`);
    expect(await run({ kernel, initrd }, 1)).toEqual(first);
    const other = await run({ kernel, initrd }, 2);
    expect(other.memoryHash).not.toBe(first.memoryHash);
    expect(other.text).not.toContain(random);
    expect([0, 1].map(n => md5Of(folder.at(`base${n}.img`)))).toEqual(sums);
  });
});

describe("virtio: 'transitional'", () => {
  /** Gives the devices to the driver again, which is told to use the legacy interface where there is one. */
  const legacy = `
    rmmod virtio_pci
    insmod /lib/modules/virtio_pci.ko force_legacy=1
    for i in $(seq 300); do [ -b /dev/vda ] && [ -d /sys/class/net/eth0 ] && break; usleep 100000; done`;
  const network = `
    ip link set eth0 up && udhcpc -i eth0 -n -q -t 20 -T 3 -s /bin/dhcp-lease >/dev/null 2>&1 &&
    ping -c 2 -s 3000 -W 20 10.0.2.2 | grep -c '^3008 bytes'`;

  // Where MSI-X is enabled, the device's configuration is at another offset (section 4.1.4.10).
  it.for([
    { append: '', interrupts: 'messages' },
    { append: 'pci=nomsi', interrupts: 'INTx' },
  ])('works by the modern and by the legacy interface, with $interrupts', async ({ append, interrupts }, { skip }) => {
    const path = folder.at(`legacy-${interrupts}.img`);
    const plugged = folder.at(`plugged-${interrupts}.img`);
    randomFile(path, 8 * MIB);
    const sum = md5(randomFile(plugged, MIB));
    await using guest = await boot(skip, {
      virtio: 'transitional',
      disk: path,
      net: 'user',
      rng: true,
      balloon: true,
      vsock: 5,
      slots: 1,
      cpus: 2,
      append,
    });
    const ids = (await guest.vm.pci.list()).filter(f => f.vendorId === 0x1af4).map(f => [f.name, f.deviceId]);
    expect(ids).toEqual([
      ['disk0', 0x1001],
      ['net0', 0x1000],
      ['rng', 0x1005],
      ['balloon', 0x1002],
      // Younger than virtio 1.0.
      ['vsock', 0x1053],
    ]);
    // VIRTIO_F_VERSION_1 is bit 32: Linux takes the modern interface where there is one.
    const features = () => guest.run('for d in /sys/bus/pci/devices/*/virtio*; do cut -c 33 $d/features; done | xargs');
    expect(await features()).toBe('1 1 1 1 1');
    await guest.run('mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt');
    await guest.run(
      'dd if=/dev/urandom of=/mnt/file bs=64k count=32 2>/dev/null; md5sum /mnt/file >/mnt/sum; umount /mnt',
    );

    await guest.run(legacy);
    expect(await features()).toBe('0 0 0 0 1');
    expect(await guest.run('grep -c virtio-pci-legacy /proc/ioports')).toBe('4');
    expect(await guest.run('cat /sys/block/vda/serial; cat /sys/class/net/eth0/address')).toBe(
      'disk052:54:00:12:34:56',
    );
    expect(await guest.run('cat /sys/block/vda/size')).toBe(String(16 * 1024));
    await guest.run('mount -t ext4 /dev/vda /mnt && md5sum -c /mnt/sum');
    await guest.run(
      'dd if=/dev/urandom of=/mnt/more bs=64k count=32 2>/dev/null; md5sum /mnt/more >/mnt/sum2; umount /mnt',
    );
    await guest.run(
      'mount -t ext4 /dev/vda /mnt && md5sum -c /mnt/sum && md5sum -c /mnt/sum2 && fstrim /mnt && umount /mnt',
    );
    expect(await guest.run(network)).toBe('2');
    const lines = await guest.run('grep virtio0 /proc/interrupts');
    expect(lines).toMatch(interrupts === 'INTx' ? /Level +virtio0\b/ : /ITS-MSI .*virtio0-req/);
    expect(await guest.run('cat /sys/class/misc/hw_random/rng_current')).toMatch(/^virtio_rng/);
    expect(await guest.run('dd if=/dev/hwrng bs=512 count=1 2>/dev/null | wc -c')).toBe('512');

    // Behind a root port, in its window of I/O addresses.
    await guest.vm.pci.plug({ disk: plugged });
    await guest.run('for i in $(seq 300); do [ -b /dev/vdb ] && break; usleep 100000; done');
    expect(await guest.run('grep -c virtio-pci-legacy /proc/ioports; md5sum </dev/vdb')).toBe(`5\n${sum}  -`);

    // And back to the modern interface.
    await guest.run('rmmod virtio_pci; insmod /lib/modules/virtio_pci.ko');
    await guest.run('for i in $(seq 300); do [ -b /dev/vdb ] && [ -b /dev/vda ] && break; usleep 100000; done');
    expect(await features()).toBe('1 1 1 1 1 1');
    await guest.run('mount -t ext4 /dev/vda /mnt && md5sum -c /mnt/sum && md5sum -c /mnt/sum2 && umount /mnt');
    expect(await guest.poweroff()).toBe('shutdown');
  });
});
