import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { VmError } from '../util/errors.ts';
import { relocateDevices, resolveDevices } from './device-options.ts';

test('disks in text and as objects, one or several', () => {
  expect(resolveDevices({ disk: 'a.img' })).toEqual([
    { kind: 'disk', name: 'disk0', path: resolve('a.img'), readOnly: false, cow: undefined },
  ]);
  expect(resolveDevices({ disk: ['/a,ro', '/b,cow=/c', { path: '/d', readOnly: true }] })).toEqual([
    { kind: 'disk', name: 'disk0', path: resolve('/a'), readOnly: true, cow: undefined },
    { kind: 'disk', name: 'disk1', path: resolve('/b'), readOnly: false, cow: resolve('/c') },
    { kind: 'disk', name: 'disk2', path: resolve('/d'), readOnly: true, cow: undefined },
  ]);
});

test('networks: user with forwards, TAP, none', () => {
  const common = { kind: 'net', name: 'net0', mac: '52:54:00:12:34:56' };
  expect(resolveDevices({ net: 'none' })).toEqual([]);
  expect(resolveDevices({ net: 'user' })).toEqual([{ ...common, backend: 'user', forwards: [] }]);
  expect(resolveDevices({ net: 'tap=tap0' })).toEqual([{ ...common, backend: 'tap', interface: 'tap0' }]);
  expect(resolveDevices({ net: 'user,forward=8080:80,forward=udp:0.0.0.0:53:5353,mac=02:00:00:00:00:01' })).toEqual([
    {
      ...common,
      mac: '02:00:00:00:00:01',
      backend: 'user',
      forwards: [
        { protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 8080, guestPort: 80 },
        { protocol: 'udp', hostAddress: '0.0.0.0', hostPort: 53, guestPort: 5353 },
      ],
    },
  ]);
  // Two interfaces have different addresses.
  expect(resolveDevices({ net: ['user', 'user'] }).map(d => 'mac' in d && d.mac)).toEqual([
    '52:54:00:12:34:56',
    '52:54:00:12:34:57',
  ]);
});

test('the order on the bus: disks, networks, the rest', () => {
  const devices = resolveDevices({
    pci: 'edu',
    share: '/tmp,tag,ro',
    vsock: 3,
    balloon: true,
    rng: true,
    net: 'user',
    disk: '/a',
  });
  expect(devices.map(d => d.name)).toEqual(['disk0', 'net0', 'rng', 'balloon', 'vsock', 'share0', 'edu0']);
});

test.each([
  [{ disk: '' }, 'names no file'],
  [{ disk: 'a,rw' }, "has no flag 'rw'"],
  [{ disk: 'a,ro,cow=b' }, 'cannot be both'],
  [{ disk: { path: 5 } }, 'names no file'],
  [{ disk: { path: 'a', cow: 1 } }, 'has a bad field'],
  [{ net: 'bridge' }, 'is no network'],
  [{ net: 'user,forward=99999:80' }, 'has a bad port'],
  [{ net: 'user,forward=80' }, "has no flag 'forward=80'"],
  [{ net: 'tap=tap0,forward=1:2' }, 'cannot forward'],
  [{ net: 'tap=a/b' }, 'bad interface name'],
  [{ net: 'user,mac=01:00:00:00:00:00' }, 'bad MAC'],
  [{ net: { backend: 7 } }, 'has a bad field'],
  [{ net: { backend: 'user', forward: [null] } }, 'has a bad forward'],
  [{ share: '/tmp' }, 'is incomplete'],
  [{ share: `/tmp,${'x'.repeat(37)}` }, 'has a bad tag'],
  [{ share: { directory: '/tmp' } }, 'has a bad field'],
  [{ pci: '' }, 'names no device'],
  [{ channel: 'a/b' }, 'cannot be the name'],
  [{ channel: ['agent', 'agent'] }, 'is given twice'],
  [{ channel: Array.from({ length: 31 }, (_, n) => `c${n}`) }, 'too many names'],
])('%j is refused', (options, message) => {
  try {
    resolveDevices(options as never);
  } catch (e) {
    expect(e).toBeInstanceOf(VmError);
    expect((e as VmError).code).toBe('ERR_USAGE');
    expect((e as VmError).message).toContain(message);
    expect((e as VmError).hint).toBeTruthy();
    return;
  }
  throw new Error('accepted');
});

test('paths of a configuration file are relative to the file', () => {
  const options: Record<string, unknown> = {
    disk: ['a.img,cow=b.img', { path: 'c.img', readOnly: true }],
    share: 'folder,tag,ro',
    pci: ['edu', './my-device.ts,n=1', 7],
    net: 'user',
  };
  relocateDevices(options, p => `/conf/${p}`);
  expect(options).toEqual({
    disk: ['/conf/a.img,cow=/conf/b.img', { path: '/conf/c.img', readOnly: true }],
    share: '/conf/folder,tag,ro',
    pci: ['edu', '/conf/./my-device.ts,n=1', 7],
    net: 'user',
  });
});
