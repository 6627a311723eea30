import { beforeEach, describe, expect, it } from 'vitest';
import { ARM64_OPTIONS } from '../../../../test/support/fake-kvm/arm64-options.ts';
import { VENDOR_HYP_BMAP } from '../../../../test/support/fake-kvm/arm64-vcpu.ts';
import { FakeHost } from '../../../../test/support/fake-kvm/fake-host.ts';
import { KVM_CAP_PTP_KVM } from '../abi/common.generated.ts';
import { KvmSystem } from '../system.ts';
import { KvmVm } from '../vm.ts';
import { Arm64Architecture, type Arm64Options } from './architecture.ts';

let host: FakeHost;
let vm: KvmVm;

beforeEach(() => {
  host = new FakeHost('aarch64');
  vm = new KvmVm(new KvmSystem(host), 0);
});

function build(o: Partial<Arm64Options> = {}): Arm64Architecture {
  const architecture = new Arm64Architecture({ ...ARM64_OPTIONS, ...o });
  architecture.build(vm);
  return architecture;
}

const services = () => host.vm.arm64Vcpu(0).registers.get(VENDOR_HYP_BMAP);

describe('who answers ptp_kvm on arm64', () => {
  it('is the kernel where it can', () => {
    expect(build().ptp).toEqual({ answeredBy: 'kernel' });
    expect([services(), host.vm.smcccFilters]).toEqual([0b11n, []]);
  });

  it('EMU-X7: is nobody where it is switched off, and guests are not told of it', () => {
    expect(build({ ptp: false }).ptp).toMatchObject({ answeredBy: 'nobody', reason: /switched off/ });
    // UID and FEATURES stay.
    expect(services()).toBe(0b01n);
  });

  it('EMU-X7: a kernel that has it and cannot hide it is an error with a way out', () => {
    const { createVcpu } = vm;
    vm.createVcpu = id => {
      const fd = createVcpu.call(vm, id);
      host.vm.arm64Vcpu(id).registers.delete(VENDOR_HYP_BMAP);
      return fd;
    };
    expect(() => build({ ptp: false })).toThrow(
      expect.objectContaining({ code: 'ERR_ENGINE_UNAVAILABLE', hint: expect.stringContaining('--no-ptp') }),
    );
    // One that does not have it has nothing to hide.
    host.capabilities.delete(KVM_CAP_PTP_KVM);
    vm.renew();
    expect(build({ ptp: false }).ptp.answeredBy).toBe('nobody');
  });

  it.each([
    ['ARM-3: the host runs on another clock', 'jiffies', true, /clocksource is jiffies/],
    ['KVM has none', 'arch_sys_counter', false, /KVM_CAP_PTP_KVM/],
  ])('is nobody where %s', (_, clocksource, capable, reason) => {
    if (!capable) host.capabilities.delete(KVM_CAP_PTP_KVM);
    expect(build({ clocksource }).ptp).toEqual({ answeredBy: 'nobody', reason: expect.stringMatching(reason) });
  });

  it.each([
    ['the host runs on another clock', 'jiffies', true],
    ['KVM has none', 'arch_sys_counter', false],
  ])('ARM-6: is this process where %s and calls can be filtered', (_, clocksource, capable) => {
    host.vm.hasSmcccFilter = true;
    if (!capable) host.capabilities.delete(KVM_CAP_PTP_KVM);
    expect(build({ clocksource }).ptp.answeredBy).toBe('tsvisor');
    expect(host.vm.smcccFilters).toEqual([{ base: 0x8600_0000, count: 2, action: 2 }]);
  });

  it('ARM-6: calls that come have arguments and results in the registers of their vCPU', () => {
    const architecture = build();
    architecture.cpu(1).setX(1, 1n);
    const call = architecture.hypercall(1, 0x8600_0001);
    expect(call).toMatchObject({ abi: 'smccc', cpu: 1, id: 0x8600_0001 });
    expect(call.arg(1)).toBe(1n);
    call.result(0, 0xffff_ffff_ffff_ffffn);
    expect([host.vm.arm64Vcpu(1).core('regs.regs', 0), host.vm.arm64Vcpu(0).core('regs.regs', 0)]).toEqual([
      0xffff_ffff_ffff_ffffn,
      0n,
    ]);
  });
});
