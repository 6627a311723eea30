import { definePciDevice } from 'tsvisor';
import { expect, test } from 'vitest';
import { bootDebian } from '../support/guest.ts';

// A BAR of memory that the guest reaches without an exit, and that follows the BAR.

const PLACE = '0000:00:01.0';
const CONFIG = `/sys/bus/pci/devices/${PLACE}/config`;
const bytes = (n: number, size: number) =>
  Array.from(
    { length: size },
    (_, i) => `\\x${(Math.floor(n / 2 ** (8 * i)) & 0xff).toString(16).padStart(2, '0')}`,
  ).join('');
const write = (offset: number, value: number, size: number) =>
  `printf '${bytes(value, size)}' | dd of=${CONFIG} bs=${size} seek=${offset / size} conv=notrunc 2>/dev/null`;

test('BAR-17, BAR-18: memory behind a BAR moves with it, keeps its contents, and is dead without decoding', async ({
  skip,
}) => {
  let memory: Uint8Array = new Uint8Array();
  const device = definePciDevice(
    {
      name: 'framebuffer',
      vendor: 0x1234,
      device: 0x11,
      bars: [{ index: 0, kind: 'mem64', size: 65536, prefetch: true, memory: true }],
    },
    dev => {
      memory = dev.bar(0).memory;
      memory.set([0x78, 0x56, 0x34, 0x12], 0x40);
    },
  );
  const trace: string[] = [];
  const guest = await bootDebian({ pci: device, trace: ['pci'], slots: 0 }, line => trace.push(line));
  if (typeof guest === 'string') return skip(guest);
  await using _ = guest;
  const { vm, run } = guest;
  const [, f] = await vm.pci.list();
  const { address, live } = f!.bars[0]!;
  // No driver has enabled it yet.
  expect(live).toBe(false);
  await run(write(4, 2, 2));
  expect(await run(`devmem ${address + 0x40} 32`)).toBe('0x12345678');
  await run(`devmem ${address + 0xfffc} 32 0xcafebabe`);
  expect([...memory.subarray(0xfffc)]).toEqual([0xbe, 0xba, 0xfe, 0xca]);

  const there = 0x80_5000_0000;
  await run([write(4, 0, 2), write(0x10, there % 2 ** 32, 4), write(0x14, 0x80, 4), write(4, 2, 2)].join(';'));
  expect(await run(`devmem ${there + 0xfffc} 32`)).toBe('0xCAFEBABE');
  expect(await run(`devmem ${address + 0x40} 32`)).toBe('0xFFFFFFFF');

  // Not on a page boundary it cannot be: the low bits of the register are zeros. Outside of the aperture nothing answers.
  await run([write(0x10, 0xffff_ffff, 4), write(4, 2, 2)].join(';'));
  expect((await vm.pci.list())[1]!.bars[0]).toMatchObject({ live: true, address: 0x80_ffff_0000 });
  await run([write(0x14, 0xffff_ffff, 4)].join(';'));
  expect((await vm.pci.list())[1]!.bars[0]).toMatchObject({ live: false });
  await run([write(0x10, there % 2 ** 32, 4), write(0x14, 0x80, 4)].join(';'));
  expect(await run(`devmem ${there + 0x40} 32`)).toBe('0x12345678');
  await run(write(4, 0, 2));
  expect(await run(`devmem ${there + 0x40} 32`)).toBe('0xFFFFFFFF');

  // --trace pci has shown the kernel's sizing, our moves, and decoding.
  const all = trace.join('\n');
  expect(all).toMatch(/pci 00:01\.0 framebuffer0: BAR 0 sizing \(65536 bytes\)/);
  expect(all).toContain(`framebuffer0: BAR 0 = 0x8050000000`);
  expect(all).toMatch(/framebuffer0: I\/O- Mem\+ /);
  expect(await guest.poweroff()).toBe('shutdown');
});

test('CONC-1: four vCPUs toggle decoding and move the BAR while four access it', async ({ skip }) => {
  const device = definePciDevice(
    { name: 'busy', vendor: 0x1234, device: 0x12, bars: [{ index: 0, kind: 'mem32', size: 4096 }] },
    dev => dev.bar(0).on({ read: () => 0x600d_600d, write: () => undefined }),
  );
  const guest = await bootDebian({ pci: device, cpus: 8, slots: 0 });
  if (typeof guest === 'string') return skip(guest);
  await using _ = guest;
  const { vm, run } = guest;
  const { address } = (await vm.pci.list())[1]!.bars[0]!;
  const other = address + 0x10_0000;
  const toggle = `(n=0; while [ $n -lt 60 ]; do ${write(4, 0, 2)}; ${write(4, 2, 2)}; n=$((n+1)); done) &`;
  const move = `(n=0; while [ $n -lt 60 ]; do ${write(0x10, other, 4)}; ${write(0x10, address, 4)}; n=$((n+1)); done) &`;
  const read = (a: number) => `(n=0; while [ $n -lt 120 ]; do devmem ${a} 32; n=$((n+1)); done) >>/tmp/reads &`;
  await run([toggle, toggle, move, move, read(address), read(address), read(other), read(other), 'wait'].join('\n'), {
    timeout: '300s',
  });
  // An access sees the device, or nothing at all.
  const values = (await run('sort /tmp/reads | uniq')).split('\n');
  expect(values.filter(v => v !== '0x600D600D' && v !== '0xFFFFFFFF')).toEqual([]);
  expect(await run('wc -l </tmp/reads')).toBe('480');
  // And it works afterwards.
  await run([write(0x10, address, 4), write(4, 2, 2)].join(';'));
  expect(await run(`devmem ${address} 32`)).toBe('0x600D600D');
  expect(await guest.poweroff()).toBe('shutdown');
});
