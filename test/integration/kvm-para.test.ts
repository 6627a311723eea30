// What our x86-64 services call by numbers, held to the kernel's UAPI header asm/kvm_para.h. The pages of kvmclock are in none:
// test/lab/pvclock.lab.ts compares those to KVM's own.
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import {
  KVM_HC_CLOCK_PAIRING,
  KVM_CLOCK_PAIRING as PAIRING,
} from '../../src/devices/kvm-hypervisor/x86/clock-pairing.ts';
import { MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW } from '../../src/devices/kvm-hypervisor/x86/kvmclock.ts';
import { KVM_CPUID_FEATURES, KVM_CPUID_SIGNATURE, KVM_LEAVES } from '../../src/engines/x86/cpuid.ts';

const offset = (field: string) => `__builtin_offsetof(struct kvm_clock_pairing, ${field})`;
const [signature, features] = KVM_LEAVES as [(typeof KVM_LEAVES)[0], (typeof KVM_LEAVES)[0]];

/** What must hold, as C has it. */
const CLAIMS: Readonly<Record<string, number>> = {
  KVM_HC_CLOCK_PAIRING,
  KVM_CLOCK_PAIRING_WALLCLOCK: 0,
  KVM_EPERM: 1,
  KVM_EFAULT: 14,
  KVM_EOPNOTSUPP: 95,
  KVM_ENOSYS: 1000,
  'sizeof(struct kvm_clock_pairing)': PAIRING.sizeof,
  [offset('sec')]: PAIRING.sec,
  [offset('nsec')]: PAIRING.nsec,
  [offset('tsc')]: PAIRING.tsc,
  [offset('flags')]: PAIRING.flags,
  [offset('pad')]: PAIRING.pad,
  MSR_KVM_WALL_CLOCK_NEW,
  MSR_KVM_SYSTEM_TIME_NEW,
  KVM_CPUID_SIGNATURE,
  KVM_CPUID_FEATURES,
  'sizeof(KVM_SIGNATURE) - 1': 12,
  '(1 << KVM_FEATURE_CLOCKSOURCE2) | (1 << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT)': features.eax,
  "'K' | 'V' << 8 | 'M' << 16 | 'K' << 24": signature.ebx,
};

const compilers = ['x86_64-linux-gnu-gcc', ...(process.arch === 'x64' ? ['gcc'] : [])];
const compiler = compilers.find(c => spawnSync(c, ['--version']).status === 0);

it('2.1, 2.2: numbers and layouts are those of asm/kvm_para.h', ctx => {
  if (compiler === undefined) return ctx.skip('no compiler with headers of x86-64 (Debian: gcc libc6-dev)');
  const source = (claims: Readonly<Record<string, number>>) =>
    `#include <errno.h>\n#include <linux/kvm_para.h>\n${Object.entries(claims)
      .map(([c, v]) => `_Static_assert((${c}) == ${v}, "it is not ${v}");`)
      .join('\n')}\n`;
  const compile = (claims: Readonly<Record<string, number>>) =>
    spawnSync(compiler, ['-x', 'c', '-fsyntax-only', '-'], { input: source(claims), encoding: 'utf8' }).stderr;
  expect(compile(CLAIMS)).toBe('');
  // And one that does not hold.
  expect(compile({ ...CLAIMS, KVM_ENOSYS: 38 })).toContain('it is not 38');
});
