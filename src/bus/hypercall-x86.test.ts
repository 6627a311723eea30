import { describe, expect, it } from 'vitest';
import type { Hypercall } from './hypercall.ts';
import { createHypercallBus } from './hypercall-bus.ts';
import { type KvmX86Register, kvmX86Hypercall } from './hypercall-x86.ts';

const REGISTERS: Readonly<Record<KvmX86Register, bigint>> = {
  rax: 0x1111_1111_0000_0055n,
  rbx: 0x2222_2222_8000_0002n,
  rcx: 0x3333_3333_0000_0003n,
  rdx: 0x4444_4444_0000_0004n,
  rsi: 0x5555_5555_0000_0005n,
};

function call(mode64: boolean, cpl: number, rax = REGISTERS.rax) {
  const bus = createHypercallBus();
  const calls: Hypercall[] = [];
  const handle = (c: Hypercall) => {
    calls.push(c);
    c.result(0, -5n);
  };
  bus.add({ name: 'test', ids: [{ first: 0x55, last: 0x55 }], handle });
  const results: bigint[] = [];
  const get = (r: KvmX86Register) => (r === 'rax' ? rax : REGISTERS[r]);
  kvmX86Hypercall({ cpu: 3, cpl, mode64, get, setRax: v => results.push(v) }, c => bus.handle(c));
  return { results, call: calls[0] };
}

describe('kvmX86Hypercall', () => {
  it('EMU-X3: in 64-bit mode a service sees whole registers, and its result is RAX', () => {
    const { results, call: c } = call(true, 0, 0x55n);
    expect(c).toMatchObject({ abi: 'kvm-x86', cpu: 3, id: 0x55 });
    expect([0, 1, 2, 3, 4].map(n => c?.arg(n))).toEqual([
      REGISTERS.rbx,
      REGISTERS.rcx,
      REGISTERS.rdx,
      REGISTERS.rsi,
      0n,
    ]);
    expect(results).toEqual([0xffff_ffff_ffff_fffbn]);
  });

  it('EMU-X3: outside of it, lower halves, and the upper half of RAX is cleared', () => {
    const { results, call: c } = call(false, 0);
    expect(c?.id).toBe(0x55);
    expect([0, 1, 2, 3].map(n => c?.arg(n))).toEqual([0x8000_0002n, 3n, 4n, 5n]);
    expect(results).toEqual([0xffff_fffbn]);
  });

  it('EMU-X3: numbers are compared in 64 bits', () => {
    const { results, call: c } = call(true, 0);
    expect([c, results]).toEqual([undefined, [0xffff_ffff_ffff_fc18n]]);
  });

  it.each([1, 2, 3])('EMU-X3: CPL %i is refused before the number is looked at', cpl => {
    expect(call(true, cpl, 0x55n)).toEqual({ results: [0xffff_ffff_ffff_ffffn], call: undefined });
    expect(call(true, cpl)).toEqual({ results: [0xffff_ffff_ffff_ffffn], call: undefined });
    expect(call(false, cpl).results).toEqual([0xffff_ffffn]);
  });

  it('EMU-X3: an unknown number gets ENOSYS, in either width', () => {
    expect(call(true, 0, 1n).results).toEqual([0xffff_ffff_ffff_fc18n]);
    expect(call(false, 0, 1n).results).toEqual([0xffff_fc18n]);
  });
});
