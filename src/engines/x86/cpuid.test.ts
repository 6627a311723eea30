import { describe, expect, it } from 'vitest';
import { type CpuidLeaf, withKvmLeaves } from './cpuid.ts';

const leaf = (n: number, r: Partial<CpuidLeaf> = {}): CpuidLeaf => {
  return { leaf: n, index: undefined, eax: 0, ebx: 0, ecx: 0, edx: 0, ...r };
};
const PROCESSOR = [leaf(0, { eax: 1 }), leaf(1, { ecx: 5 }), leaf(0x8000_0007, { edx: 0x1ff, ebx: 3 })];

describe('withKvmLeaves', () => {
  const find = (leaves: readonly CpuidLeaf[], n: number) => leaves.find(l => l.leaf === n);

  it('EMU-X1: a guest finds KVM’s signature where it looks for it', () => {
    const leaves = withKvmLeaves(PROCESSOR);
    const { eax, ebx, ecx, edx } = find(leaves, 0x4000_0000)!;
    expect(eax).toBe(0x4000_0001);
    expect(Buffer.from(new Uint32Array([ebx, ecx, edx]).buffer).toString('latin1')).toBe('KVMKVMKVM\0\0\0');
    expect(find(leaves, 1)).toEqual(leaf(1, { ecx: 0x8000_0005 }));
  });

  it('EMU-X1: of the features, only kvmclock and that it is stable', () => {
    expect(find(withKvmLeaves(PROCESSOR), 0x4000_0001)).toEqual(leaf(0x4000_0001, { eax: 0x0100_0008 }));
  });

  it('EMU-X1, X86-1: invariant TSC is hidden unless it is asked for; the rest of the processor stays', () => {
    expect(find(withKvmLeaves(PROCESSOR), 0x8000_0007)).toEqual(leaf(0x8000_0007, { edx: 0xff, ebx: 3 }));
    expect(find(withKvmLeaves(PROCESSOR, true), 0x8000_0007)).toEqual(PROCESSOR[2]);
    expect(find(withKvmLeaves(PROCESSOR), 0)).toEqual(PROCESSOR[0]);
  });
});
