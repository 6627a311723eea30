import { expect, test } from 'vitest';
import { explainKvm, type KvmFacts } from './probe.ts';

const LINUX: KvmFacts = { platform: 'linux', arch: 'x64', exists: false, cpuinfo: '', container: false };
const THERE: KvmFacts = { ...LINUX, exists: true, group: { name: 'kvm', mayOpen: true } };

test('a /dev/kvm that answers 12', () => {
  expect(explainKvm({ ...THERE, apiVersion: 12 })).toEqual({
    exists: true,
    opens: true,
    apiVersion: 12,
    reason: undefined,
    fix: undefined,
  });
});

test('without the addon its version is not known, and that is no fault of it', () => {
  expect(explainKvm(THERE)).toMatchObject({ opens: true, apiVersion: undefined, reason: undefined });
});

test.each<[string, Partial<KvmFacts>, string, string | undefined]>([
  ['another system', { platform: 'darwin' }, 'KVM exists on Linux only, this is darwin', undefined],
  ['no device, Intel', { cpuinfo: 'flags : fpu vmx sse' }, 'there is no /dev/kvm', 'sudo modprobe kvm_intel'],
  ['no device, AMD', { cpuinfo: 'flags : fpu svm sse' }, 'there is no /dev/kvm', 'sudo modprobe kvm_amd'],
  [
    'no device, no virtualization',
    { cpuinfo: 'flags : fpu svm_lock sse' },
    'there is no /dev/kvm',
    'turn virtualization on in the firmware (in a VM: nested virtualization), then load the kvm module',
  ],
  [
    'no device, arm64',
    { arch: 'arm64' },
    'there is no /dev/kvm',
    'boot a kernel with KVM at EL2 (in a VM: turn nested virtualization on)',
  ],
  [
    'no device in a container',
    { container: true, cpuinfo: 'flags : vmx' },
    'there is no /dev/kvm',
    'start the container with --device /dev/kvm; if the host has none: sudo modprobe kvm_intel',
  ],
  [
    'not permitted',
    { ...THERE, openError: 'EACCES' },
    'you may not open /dev/kvm (EACCES)',
    'add yourself to its group: sudo usermod -aG kvm $USER, then log in again',
  ],
  [
    'not permitted, and its group is not either',
    { ...THERE, openError: 'EACCES', group: { name: 'root', mayOpen: false } },
    'you may not open /dev/kvm (EACCES)',
    'give its group access: sudo chmod g+rw /dev/kvm; then: sudo usermod -aG root $USER, then log in again',
  ],
  ['no driver', { ...THERE, openError: 'ENODEV' }, '/dev/kvm does not open: ENODEV', 'see sudo dmesg | grep -i kvm'],
])('%s', (_what, facts, reason, fix) => {
  expect(explainKvm({ ...LINUX, ...facts })).toMatchObject({ opens: false, reason, fix });
});

test('the API of another time, and a device that is not KVM', () => {
  expect(explainKvm({ ...THERE, apiVersion: 13 })).toMatchObject({
    opens: true,
    apiVersion: 13,
    reason: 'KVM has API version 13, not 12',
    fix: 'boot a current Linux kernel',
  });
  expect(explainKvm({ ...THERE, apiVersion: 'ENOTTY' })).toMatchObject({
    apiVersion: undefined,
    reason: '/dev/kvm opens but does not answer: ENOTTY',
  });
});
