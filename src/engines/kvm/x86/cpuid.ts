import { type CpuidLeaf, HYPERVISOR_PRESENT, withTscPolicy } from '../../x86/cpuid.ts';
import {
  kvm_cpuid_entry2 as E,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
  KVM_GET_SUPPORTED_CPUID,
  kvm_cpuid2,
} from '../abi/x86_64.generated.ts';
import { Struct } from '../structs.ts';
import { errnoOf, type KvmSystem } from '../system.ts';

export type { CpuidLeaf };

/** What of the guest's CPUID is the machine's choice. */
export interface CpuidPolicy {
  /** vCPUs: one package with as many cores, one thread each. */
  readonly cpus: number;
  /** APIC id of the vCPU that it is for. */
  readonly apicId: number;
  /** CPUID.80000007H:EDX[8]. Hidden by default, so that Linux takes kvmclock and not the TSC (specification of ptp, X86-1). */
  readonly invariantTsc: boolean;
  /** Whether the local APIC in the kernel has the TSC-deadline timer. */
  readonly tscDeadline: boolean;
}

/** 4.46, KVM_GET_SUPPORTED_CPUID: everything that KVM and the host's processor could give. */
export function supportedCpuid(system: KvmSystem): CpuidLeaf[] {
  // E2BIG: more leaves than there was room for.
  for (let room = 128; ; room *= 2) {
    const s = new Struct(kvm_cpuid2.sizeof + room * E.sizeof).u32(kvm_cpuid2.nent, room);
    try {
      system.host.ioctl(system.fd, KVM_GET_SUPPORTED_CPUID, s.bytes);
    } catch (e) {
      if (errnoOf(e) === 'E2BIG' && room < 4096) continue;
      throw e;
    }
    return Array.from({ length: s.getU32(kvm_cpuid2.nent) }, (_, i) => {
      const at = kvm_cpuid2.entries + i * E.sizeof;
      const indexed = (s.getU32(at + E.flags) & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) !== 0;
      return {
        leaf: s.getU32(at + E.function),
        index: indexed ? s.getU32(at + E.index) : undefined,
        eax: s.getU32(at + E.eax),
        ebx: s.getU32(at + E.ebx),
        ecx: s.getU32(at + E.ecx),
        edx: s.getU32(at + E.edx),
      };
    });
  }
}

/** 4.20, kvm_cpuid2 for KVM_SET_CPUID2. */
export function encodeCpuid(leaves: readonly CpuidLeaf[]): Uint8Array {
  const s = new Struct(kvm_cpuid2.sizeof + leaves.length * E.sizeof).u32(kvm_cpuid2.nent, leaves.length);
  for (const [i, l] of leaves.entries()) {
    const at = kvm_cpuid2.entries + i * E.sizeof;
    s.u32(at + E.function, l.leaf)
      .u32(at + E.eax, l.eax)
      .u32(at + E.ebx, l.ebx)
      .u32(at + E.ecx, l.ecx);
    s.u32(at + E.edx, l.edx);
    if (l.index !== undefined) s.u32(at + E.index, l.index).u32(at + E.flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
  }
  return s.bytes;
}

/** Bits of guest-physical addresses that the processor has (CPUID.80000008H:EAX[7:0]); 36 where it does not say. */
export function physicalAddressBits(leaves: readonly CpuidLeaf[]): number {
  const leaf = leaves.find(l => l.leaf === 0x8000_0008);
  return leaf === undefined ? 36 : leaf.eax & 0xff;
}

const bit = (n: number): number => 2 ** n;
const set = (word: number, mask: number): number => (word | mask) >>> 0;
const clear = (word: number, mask: number): number => (word & ~mask) >>> 0;
const setIf = (on: boolean, word: number, mask: number): number => (on ? set(word, mask) : clear(word, mask));

/**
 * The CPUID of one vCPU out of what is supported: the same features, our topology, and the clocks by policy. Leaves by
 * Intel SDM volume 2A (CPUID) and AMD APM volume 3 appendix E.
 */
export function guestCpuid(supported: readonly CpuidLeaf[], p: CpuidPolicy): CpuidLeaf[] {
  // Topology leaves are ours alone: however many the host has, the guest has two.
  const leaves = supported.filter(l => l.leaf !== 0xb && l.leaf !== 0x1f).map(l => adjust(l, p));
  const highest = supported.find(l => l.leaf === 0)?.eax ?? 0;
  if (highest >= 0xb) leaves.push(...topology(p));
  return leaves;
}

/** Bits of an APIC id that number the cores of a package. */
const coreBits = (cpus: number): number => Math.ceil(Math.log2(cpus));

/** Leaf 0BH: level 0 are threads, level 1 cores. EDX is the x2APIC id in every level. */
function topology({ cpus, apicId }: CpuidPolicy): CpuidLeaf[] {
  const level = (index: number, shift: number, count: number, type: number): CpuidLeaf => {
    return { leaf: 0xb, index, eax: shift, ebx: count, ecx: index | (type << 8), edx: apicId };
  };
  return [level(0, 0, 1, 1), level(1, coreBits(cpus), cpus, 2), level(2, 0, 0, 0)];
}

function adjust(l: CpuidLeaf, p: CpuidPolicy): CpuidLeaf {
  switch (l.leaf) {
    case 1: {
      // EBX: initial APIC id, addressable ids in the package, CLFLUSH size (kept).
      const ids = Math.min(255, 2 ** coreBits(p.cpus));
      const ebx = ((l.ebx & 0xff00) | (ids << 16) | (p.apicId << 24)) >>> 0;
      // ECX[31]: a hypervisor is present; ECX[24]: TSC-deadline; ECX[27] OSXSAVE follows CR4 and is KVM's to set.
      const ecx = setIf(p.tscDeadline, set(l.ecx, HYPERVISOR_PRESENT), bit(24));
      return { ...l, ebx, ecx, edx: setIf(p.cpus > 1, l.edx, bit(28)) };
    }
    case 4: {
      // Deterministic cache parameters: levels 1 and 2 are a core's own, level 3 is shared by all.
      if ((l.eax & 0x1f) === 0) return l;
      const level = (l.eax >>> 5) & 7;
      const sharing = level >= 3 ? 2 ** coreBits(p.cpus) : 1;
      const eax = (l.eax & 0x3fff) | ((sharing - 1) << 14) | ((2 ** coreBits(p.cpus) - 1) << 26);
      return { ...l, eax: eax >>> 0 };
    }
    case 6:
      // Thermal and power management, of which KVM virtualizes the always-running APIC timer alone.
      return { ...l, eax: l.eax & bit(2), ebx: 0, ecx: 0, edx: 0 };
    case 0x8000_0001:
      // ECX[1] CmpLegacy and ECX[22] TopologyExtensions: AMD's way to tell cores from threads.
      return { ...l, ecx: setIf(p.cpus > 1 && isAmdLike(l), l.ecx, bit(1)) };
    case 0x8000_0007:
      return withTscPolicy(l, p.invariantTsc);
    case 0x8000_0008:
      // ECX: number of cores - 1, and how many bits of the APIC id number them.
      return { ...l, ecx: (p.cpus - 1) | (coreBits(p.cpus) << 12) };
    case 0x8000_001d: {
      if ((l.eax & 0x1f) === 0) return l;
      const sharing = ((l.eax >>> 5) & 7) >= 3 ? p.cpus : 1;
      return { ...l, eax: ((l.eax & 0x3fff) | ((sharing - 1) << 14)) >>> 0 };
    }
    case 0x8000_001e:
      // Extended APIC id; compute unit (core) id, one thread each; one node.
      return { ...l, eax: p.apicId, ebx: p.apicId & 0xff, ecx: 0 };
    default:
      return l;
  }
}

/** Extended feature bits that only AMD's processors and their kin report: SVM, or topology extensions. */
const isAmdLike = (l: CpuidLeaf): boolean => (l.ecx & (bit(2) | bit(22))) !== 0;
