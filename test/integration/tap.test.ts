import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { openTap } from '../../src/backends/net/tap.ts';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { host } from '../../src/engines/host/host.ts';
import { VmError } from '../../src/util/errors.ts';

// A TAP interface against Linux's own network stack, in a network namespace that only this test sees.

function reasonToSkip(): string | undefined {
  if (process.platform !== 'linux') return 'TAP interfaces are for Linux';
  const { addon, reason } = loadAddon();
  if (addon === undefined) return reason;
  if (process.getuid?.() !== 0) return 'a network namespace needs root';
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun';
  const script = 'ip tuntap add tap0 mode tap && ip link del tap0';
  const r = spawnSync('unshare', ['-n', 'sh', '-c', script], { encoding: 'utf8' });
  if (r.error) return `unshare does not run: ${r.error.message}`;
  return r.status === 0 ? undefined : `no TAP interface in a namespace: ${r.stderr.trim()}`;
}

const skip = reasonToSkip();
if (skip !== undefined) console.log(`skipped: ${skip}`);

test.skipIf(skip !== undefined)('a guest talks to the kernel through a TAP interface', () => {
  const fixture = fileURLToPath(new URL('fixtures/tap-namespace.ts', import.meta.url));
  const args = ['-n', process.execPath, '--import', 'tsx', fixture];
  const r = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 });
  expect([r.stderr, r.status]).toEqual(['', 0]);
  expect(JSON.parse(r.stdout)).toEqual({
    mtu: 1500,
    errors: {
      busy: expect.objectContaining({ code: 'ERR_NETWORK', message: expect.stringContaining('in use') }),
      missing: {
        code: 'ERR_NETWORK',
        message: 'there is no network interface tap1',
        hint: 'As root: ip tuntap add tap1 mode tap user USER && ip link set tap1 up.',
      },
      noTap: expect.objectContaining({
        code: 'ERR_NETWORK',
        message: expect.stringContaining('lo is no TAP interface'),
      }),
    },
    arp: true,
    echo: { type: 0, same: true, valid: true },
    tcp: { received: 20_000, same: true },
    // The kernel leaves checksums to a driver that takes such frames, and to no other.
    udpWithOffload: { flags: 1, valid: false },
    activeAfterReset: false,
    udpWithout: { flags: 0, valid: true },
    lost: 'the TAP interface tap0 is gone',
    activeAfterLoss: false,
  });
});

test.skipIf(loadAddon().addon === undefined)('TUNSETIFF takes a whole struct ifreq, whatever its number says', () => {
  const h = host();
  const fd = h.eventfd(0, 0);
  const TUNSETIFF = 0x4004_54ca;
  expect(() => h.ioctl(fd, TUNSETIFF, new Uint8Array(4))).toThrow(/needs (32|40) bytes, the buffer has 4/);
  expect(() => h.ioctl(fd, TUNSETIFF, 0)).toThrow('takes a buffer, not a number');
  h.close(fd);
});

const onLinux = test.skipIf(process.platform !== 'linux');

onLinux('without the addon the error says what it is needed for', () => {
  const cause = new VmError('ERR_ENGINE_UNAVAILABLE', 'it was never built', { hint: 'npm rebuild' });
  const none = () => {
    throw cause;
  };
  expect(() => openTap({ name: 'tap0', host: none })).toThrow(
    expect.objectContaining({
      code: 'ERR_NETWORK',
      message: "a TAP interface needs tsvisor's addon: it was never built",
      hint: 'npm rebuild',
      cause,
    }),
  );
});

onLinux('names that no interface can have are refused before the kernel sees them', () => {
  const untouched = () => ({
    ioctl: () => expect.unreachable(),
    watch: () => expect.unreachable(),
    setWatching: () => {},
    unwatch: () => {},
  });
  for (const name of ['', 'tap%d', '../tun', 'a b', 'sixteen-letters-']) {
    expect(() => openTap({ name, host: untouched })).toThrow(`'${name}' cannot be the name of a network interface`);
  }
});
