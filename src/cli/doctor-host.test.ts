import { describe, expect, test } from 'vitest';
import type { Capability, HostProbe } from '../vmm/index.ts';
import { hostFindings } from './doctor-host.ts';
import { jsonFinding, printFinding } from './findings.ts';

const cap = (name: string, value: number, needed = false): Capability => ({
  name,
  value,
  needed,
  consequence: `no ${name}`,
  fix: `get ${name}`,
});
const CAPABILITIES = [cap('KVM_CAP_A', 1, true), cap('KVM_CAP_BCD', 0), cap('KVM_CAP_E', 4096)];
const GOOD: HostProbe = {
  addon: {
    loaded: true,
    reason: undefined,
    fix: undefined,
    fatal: false,
    version: '1.2.3',
    napi: 8,
    attempts: [
      { source: 'local build', path: '/p/build/Release/tsvisor.node', found: false, problem: 'there is no such file' },
      { source: 'prebuild', path: '/p/prebuilds/x.node', found: true, problem: undefined },
    ],
  },
  kvm: { exists: true, opens: true, reason: undefined, fix: undefined, apiVersion: 12, capabilities: CAPABILITIES },
  memlock: Number.POSITIVE_INFINITY,
  clocksource: 'tsc',
  unpaired: undefined,
};

/** What people read of one check; '' when it says nothing. */
function words(host: HostProbe, check: string, verbose = false): string {
  const findings = hostFindings(host, verbose).filter(f => f.check === check);
  return findings.map(printFinding).join('');
}

describe('the clock', () => {
  test('is told of where KVM cannot pair it', () => {
    expect([words(GOOD, 'clock'), words(GOOD, 'clock', true)]).toEqual([
      '',
      'ok    clock   this host runs on tsc: KVM answers ptp_kvm\n',
    ]);
    const hpet = { ...GOOD, clocksource: 'hpet', unpaired: 'its clocksource is hpet' };
    expect(words(hpet, 'clock')).toMatch(/^note {2}clock .*fail.*hpet[\s\S]*available_clocksource/);
    expect(words({ ...hpet, kvm: { ...GOOD.kvm, opens: false } }, 'clock', true)).toBe('');
  });
});

describe('KVM', () => {
  test('a table of what is missing', () => {
    expect(words(GOOD, 'kvm')).toBe(
      [
        'ok    kvm     /dev/kvm opens, API version 12, 2 of 3 capabilities\n',
        '              missing      so              fix\n',
        '              KVM_CAP_BCD  no KVM_CAP_BCD  get KVM_CAP_BCD\n',
      ].join(''),
    );
  });

  test('no table when nothing is', () => {
    const all = { ...GOOD, kvm: { ...GOOD.kvm, capabilities: [cap('KVM_CAP_A', 1, true)] } };
    expect(words(all, 'kvm')).toBe('ok    kvm     /dev/kvm opens, API version 12, 1 of 1 capabilities\n');
  });

  test('all of them with --verbose, and for programs', () => {
    const text = words(GOOD, 'kvm', true);
    expect(text).toMatch(/^ +KVM_CAP_A \(needed\) +1$/m);
    expect(text).toMatch(/^ +KVM_CAP_BCD +missing +no KVM_CAP_BCD +get KVM_CAP_BCD$/m);
    expect(text).toMatch(/^ +KVM_CAP_E +4096$/m);
    const [finding] = hostFindings(GOOD, false).filter(f => f.check === 'kvm');
    expect(JSON.parse(JSON.stringify(jsonFinding(finding!)))).toEqual({
      check: 'kvm',
      status: 'ok',
      text: '/dev/kvm opens, API version 12, 2 of 3 capabilities',
      data: CAPABILITIES,
    });
  });

  test('one that is needed is a finding with its fix', () => {
    const lacking = { ...GOOD, kvm: { ...GOOD.kvm, capabilities: [cap('KVM_CAP_A', 0, true), cap('KVM_CAP_E', 1)] } };
    expect(words(lacking, 'kvm')).toMatch(
      /^note .*1 of 2 capabilities, without KVM_CAP_A: guests run on the emulator\n +fix: get KVM_CAP_A\n/,
    );
  });

  test('capabilities that could not be asked for are no reason for a fix', () => {
    const { capabilities: _, ...unasked } = GOOD.kvm;
    expect(words({ ...GOOD, kvm: unasked }, 'kvm')).toMatch(/^ok .*not known without the addon\)\n$/);
  });

  test('where it cannot be used: reason, consequence and fix', () => {
    const reason = 'you may not open /dev/kvm (EACCES)';
    const kvm = { exists: true, opens: false, reason, fix: 'usermod', apiVersion: undefined };
    expect(words({ ...GOOD, kvm }, 'kvm')).toBe(
      `note  kvm     ${reason}: guests run on the emulator\n              fix: usermod\n`,
    );
  });
});

describe('the addon', () => {
  test('where it comes from, its version and its Node-API', () => {
    expect(words(GOOD, 'addon')).toBe('ok    addon   version 1.2.3, Node-API 8, from /p/prebuilds/x.node (prebuild)\n');
    expect(words(GOOD, 'addon', true)).toMatch(/\/p\/build\/Release\/tsvisor.node +there is no such file/);
  });

  test('a stale file that was passed over is shown', () => {
    const stale = { source: 'local build', path: '/p/b.node', found: true, problem: 'it is for arm64' } as const;
    const host = { ...GOOD, addon: { ...GOOD.addon, attempts: [stale, ...GOOD.addon.attempts.slice(1)] } };
    expect(words(host, 'addon')).toMatch(
      /^ok .*prebuild\)\n +looked at +not it, because\n +\/p\/b.node +it is for arm64\n$/,
    );
  });

  const gone = { loaded: false, version: undefined, napi: undefined, reason: 'it is not there', fix: 'build it' };

  test('none: a note with what follows', () => {
    const host = { ...GOOD, addon: { ...GOOD.addon, ...gone, attempts: [] } };
    expect(words(host, 'addon')).toBe(
      'note  addon   it is not there: no KVM, no TAP networks, and memory that guests give up stays taken\n' +
        '              fix: build it\n',
    );
  });

  test('$TSVISOR_ADDON that does not load is bad: no guest runs', () => {
    const host = { ...GOOD, addon: { ...GOOD.addon, ...gone, fatal: true, attempts: [] } };
    expect(words(host, 'addon')).toBe('bad   addon   it is not there\n              fix: build it\n');
  });
});

test('locked memory: a limit is a note; none is worth a word only with --verbose', () => {
  expect(words({ ...GOOD, memlock: 8 * 2 ** 20 }, 'memlock')).toMatch(/^note +memlock 8 MiB .*\n +fix: ulimit -l/);
  expect(words(GOOD, 'memlock')).toBe('');
  expect(words(GOOD, 'memlock', true)).toMatch(/^ok/);
  expect(words({ ...GOOD, memlock: undefined }, 'memlock', true)).toBe('');
});
