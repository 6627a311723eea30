import { describe, expect, it } from 'vitest';
import type { Errno } from '../../../test/support/fake-kvm/errno.ts';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import { VmError } from '../../util/errors.ts';
import { KvmSystem } from './system.ts';

/** What `f` throws. */
function errorOf(f: () => unknown): VmError {
  try {
    f();
  } catch (e) {
    if (e instanceof VmError) return e;
    throw e;
  }
  throw new Error('nothing was thrown');
}

describe('/dev/kvm', () => {
  it.each<[errno: Errno, why: RegExp, hint: RegExp]>([
    ['ENOENT', /does not exist/, /load the kvm module/],
    ['ENODEV', /has no driver/, /virtualization on in the firmware/],
    ['ENXIO', /has no driver/, /--engine emu/],
    ['EACCES', /may not be opened by this user/, /usermod -aG kvm/],
    ['EPERM', /may not be opened by this user/, /--engine emu/],
    ['EMFILE', /does not open: EMFILE/, /dmesg/],
  ])('that does not open for %s is told with its cause and what helps', (errno, why, hint) => {
    const host = new FakeHost();
    host.failOn('open', errno);
    const e = errorOf(() => new KvmSystem(host));
    expect(e).toMatchObject({ code: 'ERR_ENGINE_UNAVAILABLE', details: { errno }, cause: { code: 'ERR_HOST_CALL' } });
    expect(e.message).toMatch(why);
    expect(e.hint).toMatch(hint);
  });

  it('of another API version is refused, and closed', () => {
    const host = new FakeHost();
    host.apiVersion = 11;
    const e = errorOf(() => new KvmSystem(host));
    expect(e).toMatchObject({ code: 'ERR_ENGINE_UNAVAILABLE', details: { version: 11 } });
    expect(e.message).toContain('API version 11, not 12');
    expect(e.hint).toContain('current Linux kernel');
    expect(host.openFiles).toEqual([]);
  });

  it('that is no KVM at all is refused, and closed', () => {
    const host = new FakeHost();
    host.failOn('KVM_GET_API_VERSION', 'ENOTTY');
    const e = errorOf(() => new KvmSystem(host));
    expect(e).toMatchObject({ code: 'ERR_ENGINE_UNAVAILABLE', details: { errno: 'ENOTTY' } });
    expect(e.message).toContain('is not the device of KVM');
    expect(e.hint).toContain('load the kvm module');
    expect(host.openFiles).toEqual([]);
  });

  it('is closed with its owner', () => {
    const host = new FakeHost();
    {
      using system = new KvmSystem(host);
      expect(host.openFiles).toEqual(['/dev/kvm']);
      expect(system.vcpuMapSize).toBe(3 * 4096);
    }
    expect(host.openFiles).toEqual([]);
  });

  it('whose vCPUs have too small a mapping is refused', () => {
    const host = new FakeHost();
    const system = new KvmSystem(host);
    host.vcpuMapSize = 1024;
    const e = errorOf(() => system.vcpuMapSize);
    expect(e).toMatchObject({ code: 'ERR_ENGINE_UNAVAILABLE', details: { size: 1024 } });
    expect(e.hint).toBeTruthy();
  });

  it('answers 0 for a capability that it does not have', () => {
    const host = new FakeHost();
    host.capabilities.set(7, 3);
    const system = new KvmSystem(host);
    expect([system.check(7), system.check(0xffff)]).toEqual([3, 0]);
  });
});

describe('a VM', () => {
  it('is asked for again when a signal came', () => {
    const host = new FakeHost();
    for (let i = 1; i <= 3; i++) host.failOn('KVM_CREATE_VM', 'EINTR', i);
    const system = new KvmSystem(host);
    system.createVm(0);
    expect(host.callsOf('KVM_CREATE_VM').map(c => c.errno)).toEqual(['EINTR', 'EINTR', 'EINTR', undefined]);
    expect(host.openFiles).toEqual(['/dev/kvm', 'vm']);
  });

  it('is not asked for for ever', () => {
    const host = new FakeHost();
    for (let i = 1; i <= 200; i++) host.failOn('KVM_CREATE_VM', 'EINTR', i);
    expect(errorOf(() => new KvmSystem(host).createVm(0)).code).toBe('ERR_ENGINE_UNAVAILABLE');
    expect(host.callsOf('KVM_CREATE_VM')).toHaveLength(100);
  });

  it.each<[errno: Errno, hint: RegExp]>([
    ['EBUSY', /another hypervisor/],
    ['ENOMEM', /no memory/],
    ['EMFILE', /ulimit -n/],
    ['EINVAL', /bits of physical address/],
    ['EPERM', /dmesg/],
  ])('that cannot be made for %s is told with what helps', (errno, hint) => {
    const host = new FakeHost();
    host.failOn('KVM_CREATE_VM', errno);
    const e = errorOf(() => new KvmSystem(host).createVm(0));
    expect(e).toMatchObject({ code: 'ERR_ENGINE_UNAVAILABLE', details: { errno }, cause: { code: 'ERR_HOST_CALL' } });
    expect(e.hint).toMatch(hint);
  });

  it('of arm64 cannot have more bits of address than the host', () => {
    const host = new FakeHost('aarch64');
    const system = new KvmSystem(host);
    expect(errorOf(() => system.createVm(52)).hint).toContain('bits of physical address');
    expect(system.createVm(48)).toBeGreaterThan(0);
  });
});
