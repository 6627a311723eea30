import { describe, expect, it } from 'vitest';
import { VmError } from '../util/errors.ts';
import { type Hypercall, smcccArg, smcccReturn } from './hypercall.ts';
import { createHypercallBus } from './hypercall-bus.ts';

/** A call with X1.. = args and the results that it got. */
function call(abi: Hypercall['abi'], id: number, ...args: bigint[]) {
  const results = new Map<number, bigint>();
  return { abi, cpu: 0, id, arg: (n: number) => args[n - 1] ?? 0n, result: results.set.bind(results), results };
}

describe('createHypercallBus', () => {
  it('ARM-4: an unknown SMCCC id gets X0 = 2^64 - 1, X1..X3 = 0', () => {
    const c = call('smccc', 0xc600_0001);
    createHypercallBus().handle(c);
    expect([...c.results]).toEqual([
      [0, 0xffff_ffff_ffff_ffffn],
      [1, 0n],
      [2, 0n],
      [3, 0n],
    ]);
  });

  it('an unknown x86 call number gets RAX = -KVM_ENOSYS and nothing else', () => {
    const c = call('kvm-x86', 77);
    createHypercallBus().handle(c);
    expect([...c.results]).toEqual([[0, 0xffff_ffff_ffff_fc18n]]);
  });

  it('routes by id, both ends of a range included, until the service is taken off', () => {
    const bus = createHypercallBus();
    const seen: string[] = [];
    const service = (name: string, first: number, last: number) => ({
      name,
      ids: [{ first, last }],
      handle: (c: Hypercall) => {
        seen.push(`${name} ${c.id.toString(16)}`);
        smcccReturn(c, 5n);
      },
    });
    const psci = bus.add(service('psci', 0x8400_0000, 0x8400_001f));
    bus.add(service('trng', 0x8400_0050, 0x8400_005f));
    // An engine may hand the id over as a signed number.
    for (const id of [0x8400_0000, 0x8400_001f, 0x8400_0020, 0x8400_0050 | 0]) bus.handle(call('smccc', id));
    expect(seen).toEqual(['psci 84000000', 'psci 8400001f', 'trng -7bffffb0']);
    psci[Symbol.dispose]();
    psci[Symbol.dispose]();
    bus.handle(call('smccc', 0x8400_0000));
    bus.handle(call('smccc', 0x8400_0051));
    expect(seen.slice(3)).toEqual(['trng 84000051']);
  });

  it('refuses ids that are taken, naming both', () => {
    const bus = createHypercallBus();
    bus.add({ name: 'psci', ids: [{ first: 10, last: 20 }], handle: () => {} });
    const add = () => bus.add({ name: 'other', ids: [{ first: 20, last: 30 }], handle: () => {} });
    expect(add).toThrow(VmError);
    expect(add).toThrow(/other .*psci/);
  });

  it('narrows arguments of 32-bit ids only', () => {
    expect(smcccArg(call('smccc', 0x8400_0003, 0xffff_ffff_0000_0001n), 1)).toBe(1n);
    expect(smcccArg(call('smccc', 0xc400_0003, 0xffff_ffff_0000_0001n), 1)).toBe(0xffff_ffff_0000_0001n);
  });
});
