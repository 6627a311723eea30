import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { probeHost } from '../../src/engines/host/probe.ts';
import { labCase } from './lab-case.ts';

// What everything else in the lab stands on.

/** _IO(KVMIO, 0x00), Documentation/virt/kvm/api.rst section 4.1. */
const KVM_GET_API_VERSION = 0xae00;

labCase('the addon loads', { smoke: true }, () => {
  const { addon, reason } = loadAddon();
  assert.equal(reason, undefined);
  assert.equal(typeof addon?.ioctl, 'function');
});

labCase('/dev/kvm opens and has API version 12', { smoke: true }, () => {
  const fd = openSync('/dev/kvm', 'r+');
  try {
    assert.equal(loadAddon().addon?.ioctl(fd, KVM_GET_API_VERSION, 0), 12);
  } finally {
    closeSync(fd);
  }
});

labCase('the probe of `tsvisor doctor` finds that KVM works', { smoke: true }, () => {
  const { addon, kvm } = probeHost();
  assert.deepEqual({ loaded: addon.loaded, reason: addon.reason }, { loaded: true, reason: undefined });
  assert.deepEqual({ ...kvm }, { exists: true, opens: true, reason: undefined, fix: undefined, apiVersion: 12 });
});

labCase('functions are bound to vfio-pci, each with a group', { vfio: true }, ({ vfio, note }) => {
  assert.ok(vfio.length >= 2);
  for (const address of vfio) {
    assert.match(address, /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/);
    note(address);
  }
  closeSync(openSync('/dev/vfio/vfio', 'r+'));
});
