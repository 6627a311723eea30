/** One leaf (and index) of CPUID, 32 bits a register. */
export interface CpuidLeaf {
  readonly leaf: number;
  /** Sub-leaf; undefined where the leaf has none. */
  readonly index: number | undefined;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** CPUID.1:ECX[31]: a hypervisor is present (Linux, X86_FEATURE_HYPERVISOR; reserved for this use by Intel and AMD). */
export const HYPERVISOR_PRESENT = 0x8000_0000;
/** CPUID.80000007H:EDX[8], invariant TSC (Intel SDM volume 2A, CPUID). */
export const INVARIANT_TSC = 1 << 8;

/** Linux, Documentation/virt/kvm/x86/cpuid.rst, and the bits of KVM_CPUID_FEATURES' EAX. */
export const KVM_CPUID_SIGNATURE = 0x4000_0000;
export const KVM_CPUID_FEATURES = 0x4000_0001;
const KVM_FEATURE_CLOCKSOURCE2 = 1 << 3;
const KVM_FEATURE_CLOCKSOURCE_STABLE = 1 << 24;

/**
 * The leaves by which guests find an emulated machine's kvmclock and hypercalls (specification of ptp, EMU-X1): KVM's signature, and
 * that alone of KVM's features which we have.
 */
export const KVM_LEAVES: readonly CpuidLeaf[] = [
  // EBX, ECX, EDX: "KVMKVMKVM\0\0\0".
  {
    leaf: KVM_CPUID_SIGNATURE,
    index: undefined,
    eax: KVM_CPUID_FEATURES,
    ebx: 0x4b4d_564b,
    ecx: 0x564b_4d56,
    edx: 0x4d,
  },
  {
    leaf: KVM_CPUID_FEATURES,
    index: undefined,
    eax: KVM_FEATURE_CLOCKSOURCE2 | KVM_FEATURE_CLOCKSOURCE_STABLE,
    ebx: 0,
    ecx: 0,
    edx: 0,
  },
];

/** The CPUID of an emulated machine's vCPU with {@link KVM_LEAVES}, out of its processor's own leaves. */
export function withKvmLeaves(processor: readonly CpuidLeaf[], invariantTsc = false): CpuidLeaf[] {
  const own = processor.map(l => {
    if (l.leaf === 1) return { ...l, ecx: (l.ecx | HYPERVISOR_PRESENT) >>> 0 };
    return l.leaf === 0x8000_0007 ? withTscPolicy(l, invariantTsc) : l;
  });
  return [...own, ...KVM_LEAVES];
}

/** Leaf 80000007H as guests see it. Without an invariant TSC Linux takes kvmclock, which ptp_kvm needs (X86-1). */
export function withTscPolicy(leaf: CpuidLeaf, invariantTsc: boolean): CpuidLeaf {
  return invariantTsc ? leaf : { ...leaf, edx: (leaf.edx & ~INVARIANT_TSC) >>> 0 };
}
