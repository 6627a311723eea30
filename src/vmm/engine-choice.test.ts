import { expect, test } from 'vitest';
import { VmError } from '../util/errors.ts';
import { chooseEngine, type KvmHostFacts, whyNotKvm } from './engine-choice.ts';

type Probe = ReturnType<KvmHostFacts['probe']>;

const kvm: Probe['kvm'] = { exists: true, opens: true, apiVersion: 12, reason: undefined, fix: undefined };
const addon: Probe['addon'] = {
  loaded: true,
  reason: undefined,
  fix: undefined,
  fatal: false,
  version: '1',
  napi: 9,
  attempts: [],
};
const lacking = { name: 'KVM_CAP_IRQCHIP', value: 0, needed: true, consequence: 'it cannot run', fix: 'boot another' };

function host(arch: string, probe: Partial<Probe> = {}, platform: NodeJS.Platform = 'linux'): KvmHostFacts {
  return { platform, arch, probe: () => ({ kvm, addon, ...probe }) };
}
const arm64 = host('arm64');
const x64 = host('x64');

function refused(...args: Parameters<typeof chooseEngine>): VmError {
  try {
    chooseEngine(...args);
  } catch (e) {
    expect(e).toBeInstanceOf(VmError);
    expect((e as VmError).code).toBe('ERR_ENGINE_UNAVAILABLE');
    return e as VmError;
  }
  throw new Error('accepted');
}

test('auto takes KVM where guest and host are alike and it works, and says so', () => {
  expect(chooseEngine('auto', 'host', 'arm-virt', arm64)).toEqual({ kind: 'kvm', reason: "this host's own processor" });
  expect(chooseEngine('auto', 'host', 'x86-pc', x64)).toEqual({ kind: 'kvm', reason: "this host's own processor" });
});

test('auto takes the emulator for an arm64 guest everywhere else, and says why', () => {
  const reason = (facts: KvmHostFacts) => {
    const choice = chooseEngine('auto', 'host', 'arm-virt', facts);
    expect(choice.kind).toBe('emu');
    return choice.reason;
  };
  expect(reason(x64)).toBe('KVM runs arm64 guests on an arm64 host only, this is x64');
  expect(reason(host('arm64', {}, 'darwin'))).toBe('KVM exists on Linux only, this is darwin');
  expect(reason(host('arm64', { kvm: { ...kvm, opens: false, reason: 'there is no /dev/kvm' } }))).toContain(
    'there is no',
  );
  expect(reason(host('arm64', { addon: { ...addon, loaded: false, reason: 'there is no addon' } }))).toContain(
    'no addon',
  );
  expect(reason(host('arm64', { kvm: { ...kvm, capabilities: [lacking] } }))).toContain('lacks KVM_CAP_IRQCHIP');
});

test('a virtual clock is the emulator, whatever the host has', () => {
  expect(chooseEngine('auto', 'virtual', 'arm-virt', arm64).kind).toBe('emu');
  expect(refused('kvm', 'virtual', 'arm-virt', arm64).message).toContain('no virtual clock');
  expect(refused('auto', 'virtual', 'x86-pc', x64).message).toContain('no virtual clock');
});

test('a wish for KVM is never replaced: the error has reason and fix', () => {
  expect(chooseEngine('kvm', 'host', 'arm-virt', arm64).kind).toBe('kvm');
  expect(refused('kvm', 'host', 'arm-virt', x64).message).toContain('on an arm64 host only');
  const e = refused(
    'kvm',
    'host',
    'x86-pc',
    host('x64', { kvm: { ...kvm, reason: 'no', opens: false, fix: 'mend it' } }),
  );
  expect(e.message).toBe('engine kvm is not available: no');
  expect(e.hint).toBe('mend it; `tsvisor doctor` shows what this host can do');
});

test('x86-64 guests have no emulator', () => {
  expect(refused('emu', 'host', 'x86-pc', x64).message).toBe('engine emu does not run x86-64 guests');
  expect(refused('auto', 'host', 'x86-pc', arm64).message).toContain('x86-64 guests need KVM');
  expect(chooseEngine('emu', 'host', 'arm-virt', x64)).toEqual({ kind: 'emu', reason: 'as asked for' });
});

test('KVM is not looked at where it cannot be the right one', () => {
  const facts: KvmHostFacts = {
    platform: 'linux',
    arch: 'x64',
    probe: () => {
      throw new Error('looked');
    },
  };
  expect(whyNotKvm('arm-virt', facts)?.reason).toContain('arm64 host only');
});
