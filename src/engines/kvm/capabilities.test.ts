import { describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import type { Architecture } from '../engine.ts';
import * as kvm from './abi/common.generated.ts';
import { needCapabilities, reportCapabilities } from './capabilities.ts';
import { KvmSystem } from './system.ts';

const ARCHITECTURES: Architecture[] = ['x86_64', 'aarch64'];

/** KVM_CHECK_EXTENSION of a host that lacks some. */
function checkOf(arch: Architecture, ...lacking: readonly number[]): (capability: number) => number {
  const host = new FakeHost(arch);
  for (const cap of lacking) host.capabilities.delete(cap);
  const system = new KvmSystem(host);
  return c => system.check(c);
}

describe.each(ARCHITECTURES)('capabilities of %s', arch => {
  it('suffice on a current host', () => {
    expect(() => needCapabilities(arch, checkOf(arch))).not.toThrow();
  });

  it('are all reported, each with what follows from its lack and what helps', () => {
    const report = reportCapabilities(arch, () => 0);
    expect(new Set(report.map(c => c.name)).size).toBe(report.length);
    for (const c of report) {
      expect(c.name).toMatch(/^KVM_CAP_[A-Z0-9_]+$/);
      expect(c.value, c.name).toBe(0);
      expect(c.consequence, c.name).not.toBe('');
      expect(c.fix, c.name).not.toBe('');
    }
    expect(report.some(c => c.needed)).toBe(true);
    expect(report.some(c => !c.needed)).toBe(true);
  });

  it('are reported with the values that the host gives', () => {
    const report = reportCapabilities(arch, checkOf(arch));
    expect(report.find(c => c.name === 'KVM_CAP_IRQ_ROUTING')?.value).toBe(4096);
  });

  it('that are wanted only may all be missing', () => {
    const check = checkOf(arch);
    // The names tell which numbers the report asked for.
    const asked: number[] = [];
    const report = reportCapabilities(arch, c => asked.push(c));
    const wanted = new Set(report.flatMap((c, i) => (c.needed ? [] : [asked[i]])));
    expect(() => needCapabilities(arch, c => (wanted.has(c) ? 0 : check(c)))).not.toThrow();
  });

  it('that are needed and missing are named all in one error', () => {
    const asked: number[] = [];
    const report = reportCapabilities(arch, c => asked.push(c));
    for (const [i, { name, needed, fix }] of report.entries()) {
      if (!needed) continue;
      const both = checkOf(arch, asked[i]!, kvm.KVM_CAP_USER_MEMORY);
      const one = checkOf(arch, asked[i]!);
      expect(() => needCapabilities(arch, one)).toThrow(
        expect.objectContaining({
          code: 'ERR_ENGINE_UNAVAILABLE',
          message: `this host's KVM lacks ${name}`,
          hint: `${fix}, or use --engine emu`,
          details: { missing: [name] },
        }),
      );
      expect(() => needCapabilities(arch, both)).toThrow(/KVM_CAP_USER_MEMORY/);
      expect(() => needCapabilities(arch, both)).toThrow(name);
    }
  });

  it('of a host that answers with an error number are missing', () => {
    const check = checkOf(arch);
    expect(() => needCapabilities(arch, c => (c === kvm.KVM_CAP_IRQCHIP ? -1 : check(c)))).toThrow(/KVM_CAP_IRQCHIP/);
  });
});
