import { describe, expect, it } from 'vitest';
import { FakeHost } from '../../../../test/support/fake-kvm/fake-host.ts';
import { KvmSystem } from '../system.ts';
import {
  type CpuidLeaf,
  type CpuidPolicy,
  encodeCpuid,
  guestCpuid,
  physicalAddressBits,
  supportedCpuid,
} from './cpuid.ts';

const POLICY: CpuidPolicy = { cpus: 1, apicId: 0, invariantTsc: false, tscDeadline: true };

function leaf(n: number, regs: Partial<CpuidLeaf> = {}): CpuidLeaf {
  return { leaf: n, index: undefined, eax: 0, ebx: 0, ecx: 0, edx: 0, ...regs };
}

/** Deterministic cache parameters: type and level of SDM volume 2A, CPUID leaf 4. */
const cache = (n: number, index: number, type: number, level: number) => {
  return leaf(n, { index, eax: (type | (level << 5) | (63 << 14) | (63 << 26)) >>> 0, ebx: 0x1c0_003f, ecx: 63 });
};

/** A processor with 64 cores, of whichever make: all leaves that the policy looks at. */
const SUPPORTED: CpuidLeaf[] = [
  leaf(0, { eax: 0x1f, ebx: 0x756e_6547 }),
  leaf(1, { eax: 0x306f2, ebx: 0x2a40_0800, ecx: 0x8120_2001, edx: 0x0f8b_fbff }),
  cache(4, 0, 1, 1),
  cache(4, 1, 2, 1),
  cache(4, 2, 3, 2),
  cache(4, 3, 3, 3),
  leaf(4, { index: 4 }),
  leaf(6, { eax: 0xff, ebx: 2, ecx: 9, edx: 1 }),
  leaf(7, { index: 0, ebx: 0x1234 }),
  leaf(0xb, { index: 0, eax: 1, ebx: 2, ecx: 0x100, edx: 0x2a }),
  leaf(0xb, { index: 1, eax: 6, ebx: 64, ecx: 0x201, edx: 0x2a }),
  leaf(0x1f, { index: 0, eax: 1, ebx: 2, ecx: 0x100, edx: 0x2a }),
  leaf(0x4000_0000, { eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d }),
  leaf(0x4000_0001, { eax: 0x0100_00fb }),
  leaf(0x8000_0000, { eax: 0x8000_001e }),
  leaf(0x8000_0001, { ecx: 0x21, edx: 0x2c10_0800 }),
  leaf(0x8000_0007, { edx: 0x1ff }),
  leaf(0x8000_0008, { eax: 0x3028, ecx: 0x703f }),
];

const AMD: CpuidLeaf[] = [
  ...SUPPORTED.filter(l => l.leaf !== 4 && l.leaf !== 0x8000_0001),
  leaf(0x8000_0001, { ecx: 0x40_0005 }),
  cache(0x8000_001d, 0, 1, 1),
  cache(0x8000_001d, 3, 3, 3),
  leaf(0x8000_001e, { eax: 0x2a, ebx: 0x115, ecx: 3 }),
];

const find = (leaves: readonly CpuidLeaf[], n: number, index?: number): CpuidLeaf => {
  const found = leaves.filter(l => l.leaf === n && (index === undefined || l.index === index));
  expect(found).toHaveLength(1);
  return found[0]!;
};
/** Bits [high:low]. */
const bits = (word: number, high: number, low: number) => Math.floor((word >>> 0) / 2 ** low) % 2 ** (high - low + 1);

describe('the policy of CPUID', () => {
  it('shows that there is a hypervisor, and leaves what KVM says of itself', () => {
    const guest = guestCpuid(SUPPORTED, POLICY);
    expect(bits(find(guest, 1).ecx, 31, 31)).toBe(1);
    const bare = SUPPORTED.map(l => (l.leaf === 1 ? { ...l, ecx: 1 } : l));
    expect(bits(find(guestCpuid(bare, POLICY), 1).ecx, 31, 31)).toBe(1);
    // kvmclock is in 0x40000001.
    for (const n of [0x4000_0000, 0x4000_0001, 7]) expect(find(guest, n)).toEqual(find(SUPPORTED, n));
  });

  it('hides the invariant TSC unless it is asked for, and invents none', () => {
    const tsc = (supported: readonly CpuidLeaf[], invariantTsc: boolean) =>
      bits(find(guestCpuid(supported, { ...POLICY, invariantTsc }), 0x8000_0007).edx, 8, 8);
    const without = SUPPORTED.map(l => (l.leaf === 0x8000_0007 ? { ...l, edx: 0 } : l));
    expect([tsc(SUPPORTED, false), tsc(SUPPORTED, true), tsc(without, true)]).toEqual([0, 1, 0]);
  });

  it('shows the TSC-deadline timer where the local APIC has one', () => {
    const has = (tscDeadline: boolean) => bits(find(guestCpuid(SUPPORTED, { ...POLICY, tscDeadline }), 1).ecx, 24, 24);
    expect([has(true), has(false)]).toEqual([1, 0]);
  });

  it('shows no power management of the host but a timer that never stops', () => {
    expect(find(guestCpuid(SUPPORTED, POLICY), 6)).toMatchObject({ eax: 4, ebx: 0, ecx: 0, edx: 0 });
  });

  it('gives registers of 32 bits without sign', () => {
    for (const cpus of [1, 3, 255]) {
      for (const l of guestCpuid([...SUPPORTED, ...AMD], { ...POLICY, cpus, apicId: cpus - 1 })) {
        for (const r of [l.eax, l.ebx, l.ecx, l.edx]) expect(r >>> 0).toBe(r);
      }
    }
  });

  it('changes nothing that it was given', () => {
    const before = structuredClone(SUPPORTED);
    guestCpuid(SUPPORTED, { ...POLICY, cpus: 4 });
    expect(SUPPORTED).toEqual(before);
  });
});

describe.each([
  [1, 0],
  [2, 1],
  [3, 2],
  [4, 2],
  [8, 3],
])('the topology of %d vCPUs', (cpus, width) => {
  const ids = Array.from({ length: cpus }, (_, apicId) => apicId);
  const of = (apicId: number, supported = SUPPORTED) => guestCpuid(supported, { ...POLICY, cpus, apicId });

  it('numbers them by their APIC ids in every leaf', () => {
    for (const id of ids) {
      const guest = of(id);
      expect(bits(find(guest, 1).ebx, 31, 24)).toBe(id);
      for (const index of [0, 1, 2]) expect(find(guest, 0xb, index).edx).toBe(id);
      expect(find(of(id, AMD), 0x8000_001e)).toMatchObject({ eax: id, ebx: id, ecx: 0 });
    }
  });

  it('is one package of cores with one thread each, as leaf 0BH tells', () => {
    const guest = of(0);
    expect(find(guest, 0xb, 0)).toMatchObject({ eax: 0, ebx: 1, ecx: 0x100 });
    expect(find(guest, 0xb, 1)).toMatchObject({ eax: width, ebx: cpus, ecx: 0x201 });
    // Level type 0 ends the list.
    expect(find(guest, 0xb, 2)).toMatchObject({ eax: 0, ebx: 0, ecx: 2 });
    expect(guest.filter(l => l.leaf === 0x1f)).toEqual([]);
    // Every id shifted by the width is the package's, 0.
    for (const id of ids) expect(id >> width).toBe(0);
  });

  it('is the same by the older leaves', () => {
    const guest = of(0);
    const one = find(guest, 1);
    expect(bits(one.edx, 28, 28)).toBe(cpus > 1 ? 1 : 0);
    expect(bits(one.ebx, 23, 16)).toBe(2 ** width);
    expect(bits(one.ebx, 15, 8)).toBe(8); // CLFLUSH, kept
    for (const index of [0, 1, 2, 3]) expect(bits(find(guest, 4, index).eax, 31, 26)).toBe(2 ** width - 1);
    expect(bits(find(guest, 0x8000_0008).ecx, 7, 0)).toBe(cpus - 1);
    expect(bits(find(guest, 0x8000_0008).ecx, 15, 12)).toBe(width);
  });

  it('shares the third level of caches and no other', () => {
    const guest = of(0);
    const sharing = (l: CpuidLeaf) => bits(l.eax, 25, 14) + 1;
    expect([0, 1, 2, 3].map(i => sharing(find(guest, 4, i)))).toEqual([1, 1, 1, 2 ** width]);
    expect(find(guest, 4, 4)).toEqual(find(SUPPORTED, 4, 4));
    expect(bits(find(guest, 4, 3).eax, 13, 0)).toBe(bits(find(SUPPORTED, 4, 3).eax, 13, 0));
    const amd = of(0, AMD);
    expect([0, 3].map(i => sharing(find(amd, 0x8000_001d, i)))).toEqual([1, cpus]);
  });

  it('tells cores from threads on AMD alone', () => {
    expect(bits(find(of(0, AMD), 0x8000_0001).ecx, 1, 1)).toBe(cpus > 1 ? 1 : 0);
    expect(bits(find(of(0), 0x8000_0001).ecx, 1, 1)).toBe(0);
  });
});

describe('the topology of many vCPUs', () => {
  it.each([129, 255])('%d keeps each id in its field', cpus => {
    const one = find(guestCpuid(SUPPORTED, { ...POLICY, cpus, apicId: 2 }), 1);
    expect(bits(one.ebx, 31, 24)).toBe(2);
    expect(bits(one.ebx, 23, 16)).toBe(255);
    const eight = find(guestCpuid(SUPPORTED, { ...POLICY, cpus, apicId: 2 }), 0x8000_0008);
    expect(bits(eight.ecx, 7, 0)).toBe(cpus - 1);
    expect(bits(find(guestCpuid(SUPPORTED, { ...POLICY, cpus, apicId: 2 }), 4, 3).eax, 31, 26)).toBe(63);
  });

  it('is not told by leaf 0BH where the processor has none', () => {
    const old = [leaf(0, { eax: 7 }), leaf(1)];
    expect(guestCpuid(old, { ...POLICY, cpus: 2 }).map(l => l.leaf)).toEqual([0, 1]);
  });
});

describe('CPUID of the host', () => {
  it('is read whole, however many leaves it has', () => {
    const host = new FakeHost();
    host.cpuid = Array.from({ length: 300 }, (_, i) => leaf(i, { index: i % 2 === 0 ? i : undefined, edx: i }));
    expect(supportedCpuid(new KvmSystem(host))).toEqual(host.cpuid);
    const asked = host.callsOf('KVM_GET_SUPPORTED_CPUID');
    expect(asked.map(c => c.errno)).toEqual(['E2BIG', 'E2BIG', undefined]);
  });

  it('that cannot be read is an error, not a loop', () => {
    const host = new FakeHost();
    host.cpuid = Array.from({ length: 5000 }, (_, i) => leaf(i));
    expect(() => supportedCpuid(new KvmSystem(host))).toThrow(/E2BIG/);
    host.failOn('KVM_GET_SUPPORTED_CPUID', 'ENOMEM');
    expect(() => supportedCpuid(new KvmSystem(host))).toThrow(/ENOMEM/);
  });

  it('is given as it was read', () => {
    const host = new FakeHost();
    host.cpuid = SUPPORTED;
    const bytes = encodeCpuid(supportedCpuid(new KvmSystem(host)));
    expect(bytes).toEqual(encodeCpuid(SUPPORTED));
    expect(bytes).toHaveLength(8 + 40 * SUPPORTED.length);
  });

  it('tells how many bits addresses have', () => {
    expect(physicalAddressBits(SUPPORTED)).toBe(40);
    expect(physicalAddressBits([])).toBe(36);
  });
});
