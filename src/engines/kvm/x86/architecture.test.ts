import { beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../../test/support/fake-kvm/fake-host.ts';
import { KVM_CAP_IRQ_ROUTING, KVM_CAP_SIGNAL_MSI } from '../abi/common.generated.ts';
import {
  KVM_CAP_GET_TSC_KHZ,
  KVM_CAP_PIT2,
  KVM_CAP_SET_IDENTITY_MAP_ADDR,
  KVM_CAP_SET_TSS_ADDR,
  KVM_CAP_TSC_DEADLINE_TIMER,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
} from '../abi/x86_64.generated.ts';
import { KvmSystem } from '../system.ts';
import { KvmVm } from '../vm.ts';
import { X86Architecture } from './architecture.ts';

const RESERVED = 0xfeff_c000;

let host: FakeHost;
let vm: KvmVm;

beforeEach(() => {
  host = new FakeHost();
  const none = { index: undefined, eax: 0, ebx: 0, ecx: 0, edx: 0 };
  host.cpuid = [
    { ...none, leaf: 0, eax: 0xb },
    { ...none, leaf: 1 },
    { ...none, leaf: 0x8000_0008, eax: 0x2e },
  ];
  vm = new KvmVm(new KvmSystem(host), 0);
});

const make = (cpus: number) => new X86Architecture({ cpus, invariantTsc: false, reserved: RESERVED });
const names = () => host.calls.map(c => c.name).filter(n => n !== 'KVM_CHECK_EXTENSION');

describe('an x86-64 VM', () => {
  it('is made in the order that KVM wants: places, controllers, then vCPUs', () => {
    make(2).build(vm);
    expect(names().slice(3)).toEqual([
      'KVM_GET_SUPPORTED_CPUID',
      'KVM_SET_IDENTITY_MAP_ADDR',
      'KVM_SET_TSS_ADDR',
      'KVM_CREATE_IRQCHIP',
      'KVM_SET_GSI_ROUTING',
      'KVM_CREATE_PIT2',
      ...[0, 1].flatMap(() => [
        'KVM_CREATE_VCPU',
        'KVM_SET_CPUID2',
        'KVM_SET_MSRS',
        'KVM_SET_MSRS',
        'KVM_GET_LAPIC',
        'KVM_SET_LAPIC',
      ]),
      'KVM_GET_TSC_KHZ',
    ]);
    expect(host.calls.every(c => c.errno === undefined)).toBe(true);
  });

  it('has its four reserved pages, and a timer with a speaker that says nothing', () => {
    make(1).build(vm);
    const { identityMap, tss, pit } = host.vm;
    expect([identityMap, tss, pit]).toEqual([RESERVED, RESERVED + 4096, 1]);
  });

  it('says how fast its counter is, where KVM tells', () => {
    const architecture = make(1);
    architecture.build(vm);
    expect(architecture.counterHz).toBe(2_400_000_000);
    host.capabilities.delete(KVM_CAP_GET_TSC_KHZ);
    const other = make(1);
    vm.renew();
    other.build(vm);
    expect(other.counterHz).toBe(0);
  });

  it('goes without what a host does not have', () => {
    const lacking = [KVM_CAP_PIT2, KVM_CAP_SET_IDENTITY_MAP_ADDR, KVM_CAP_SET_TSS_ADDR, KVM_CAP_IRQ_ROUTING];
    for (const cap of lacking) host.capabilities.delete(cap);
    make(1).build(vm);
    expect(names()).not.toEqual(expect.arrayContaining([expect.stringMatching(/PIT2|TSS|IDENTITY|ROUTING/)]));
    expect(host.vm.vcpus.size).toBe(1);
  });

  it('numbers its vCPUs by their APIC ids, in CPUID too', () => {
    const architecture = make(3);
    const cpus = architecture.build(vm);
    expect(cpus.map(c => c.state)).toEqual(['on', 'off', 'off']);
    for (const id of [0, 1, 2]) {
      expect(host.vm.x86Vcpu(id).cpuid.find(l => l.leaf === 1)!.ebx >>> 24).toBe(id);
    }
    expect(architecture.bootCpu).toBe(cpus[0]);
    expect(architecture.physicalAddressBits).toBe(46);
  });

  it('shows the TSC-deadline timer if KVM has it', () => {
    make(1).build(vm);
    const ecx = () => host.vm.x86Vcpu(0).cpuid.find(l => l.leaf === 1)!.ecx;
    expect(ecx() & (1 << 24)).not.toBe(0);
    host.capabilities.delete(KVM_CAP_TSC_DEADLINE_TIMER);
    vm.renew();
    make(1).build(vm);
    expect(ecx() & (1 << 24)).toBe(0);
  });

  it('has no boot vCPU before it is built', () => {
    expect(() => make(1).bootCpu).toThrow(expect.objectContaining({ code: 'ERR_INTERNAL' }));
  });

  it.each(['KVM_CREATE_VCPU', 'KVM_SET_CPUID2', 'KVM_SET_LAPIC'])(
    'whose %s fails half-way leaves no vCPU open',
    name => {
      host.failOn(name, 'ENOMEM', 2);
      const architecture = make(3);
      expect(() => architecture.build(vm)).toThrow(/ENOMEM/);
      architecture.close();
      vm.closeVcpus();
      expect(host.openFiles).toEqual(['/dev/kvm', 'vm']);
    },
  );
});

describe('interrupts of a PC', () => {
  it('are routed to the I/O APIC, and below 16 to the PICs, too', () => {
    make(1).build(vm);
    const { routes } = host.vm.events;
    const to = (irqchip: number) =>
      routes.flatMap(r => ('pin' in r && r.irqchip === irqchip ? [[r.gsi, r.pin] as const] : []));
    // The timer arrives at pin 2 of the I/O APIC; ISA has no IRQ 2.
    const pins = Array.from({ length: 24 }, (_, gsi) => [gsi, gsi === 0 ? 2 : gsi]).filter(([gsi]) => gsi !== 2);
    expect(to(KVM_IRQCHIP_IOAPIC)).toEqual(pins);
    expect(to(KVM_IRQCHIP_PIC_MASTER).map(([gsi]) => gsi)).toEqual([0, 1, 3, 4, 5, 6, 7]);
    expect(to(KVM_IRQCHIP_PIC_SLAVE)).toEqual([8, 9, 10, 11, 12, 13, 14, 15].map(gsi => [gsi, gsi - 8]));
  });

  it('by a wire are told when it changes', () => {
    const architecture = make(1);
    architecture.build(vm);
    const line = architecture.line(4);
    line.set(false);
    line.set(true);
    line.set(true);
    expect(host.vm.lines.get(4)).toBe(true);
    line.set(false);
    expect(host.vm.lines.get(4)).toBe(false);
    expect(host.callsOf('KVM_IRQ_LINE')).toHaveLength(2);
  });

  it('by a message go to the local APICs alone', () => {
    const architecture = make(1);
    architecture.build(vm);
    expect(architecture.signalMsi({ address: 0xfee0_1004, data: 0x4041, deviceId: 8 })).toBe(true);
    for (const address of [0xfed0_0000, 0xfef0_0000, 0x1_fee0_0000, 0]) {
      expect(architecture.signalMsi({ address, data: 1 })).toBe(false);
    }
    expect(host.vm.messages).toEqual([{ address: 0xfee0_1004, data: 0x4041, deviceId: undefined }]);
  });

  it('by a message go nowhere where KVM cannot signal it', () => {
    host.capabilities.delete(KVM_CAP_SIGNAL_MSI);
    const architecture = make(1);
    architecture.build(vm);
    expect(architecture.signalMsi({ address: 0xfee0_0000, data: 1 })).toBe(false);
    expect(host.vm.messages).toEqual([]);
  });

  it('by an event keep the pins in the table', () => {
    const architecture = make(1);
    architecture.build(vm);
    const before = host.vm.events.routes;
    architecture.routes(vm).event()?.route({ address: 0xfee0_0000, data: 0x41, deviceId: 8 });
    const message = { gsi: 1024, address: 0xfee0_0000, data: 0x41, deviceId: undefined };
    expect(host.vm.events.routes).toEqual([...before, message]);
  });
});

describe('held time', () => {
  it('goes on where it was, and guests with a kvmclock are told', () => {
    const architecture = make(2);
    architecture.build(vm);
    host.vm.clock = 1_000_000_000n;
    host.vm.x86Vcpu(0).kvmclock = true;
    const release = architecture.holdTime();
    host.vm.clock = 9_000_000_000n;
    release();
    expect(host.vm.clock).toBe(1_000_000_000n);
    expect([0, 1].map(id => host.vm.x86Vcpu(id).toldOfStop)).toEqual([true, false]);
  });
});
