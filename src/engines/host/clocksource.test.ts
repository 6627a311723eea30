import { expect, it } from 'vitest';
import { whyKvmCannotPair } from './clocksource.ts';

it.each([
  ['aarch64', 'arch_sys_counter', undefined],
  ['aarch64', 'jiffies', /jiffies, not arch_sys_counter/],
  ['x86_64', 'tsc', undefined],
  ['x86_64', 'hyperv_clocksource_tsc_page', undefined],
  ['x86_64', 'hpet', /hpet, not tsc/],
  ['x86_64', 'kvm-clock', /kvm-clock, not tsc/],
  ['x86_64', undefined, undefined],
] as const)('ARM-3: on %s with the clocksource %s KVM pairs: %s', (arch, clocksource, why) => {
  const said = whyKvmCannotPair(arch, clocksource);
  if (why === undefined) expect(said).toBeUndefined();
  else expect(said).toMatch(why);
});
