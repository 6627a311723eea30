import { beforeEach, describe, expect, it } from 'vitest';
import { ARM64_OPTIONS } from '../../../../test/support/fake-kvm/arm64-options.ts';
import { FakeHost } from '../../../../test/support/fake-kvm/fake-host.ts';
import * as arm from '../abi/aarch64.generated.ts';
import { KVM_CAP_IRQ_ROUTING, KVM_CAP_MSI_DEVID } from '../abi/common.generated.ts';
import { KvmSystem } from '../system.ts';
import { KvmVm } from '../vm.ts';
import { Arm64Architecture, type Arm64Options } from './architecture.ts';

const TRANSLATER = ARM64_OPTIONS.its + 0x1_0040;
const SETSPI = ARM64_OPTIONS.gicv2m.address + 0x40;
/** KVM_IRQ_LINE's number of a shared interrupt: type 1 in bits 31 to 24. */
const spi = (intid: number) => 0x0100_0000 + intid;

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

/** Group and attribute of each KVM_SET_DEVICE_ATTR, with what it was set on. */
const attributes = () =>
  host.callsOf('KVM_SET_DEVICE_ATTR').map(c => {
    const v = new DataView((c.argument as Uint8Array).buffer);
    return [c.on, v.getUint32(4, true), Number(v.getBigUint64(8, true))];
  });
const gic = (name: string) => host.vm.gics.find(g => g.name === name);

describe('an arm64 VM', () => {
  it('makes its vCPUs before the interrupt controller is initialized, which wants them all', () => {
    build();
    const names = host.calls.map(c => c.name).filter(n => !/CHECK_EXTENSION|HAS_DEVICE_ATTR/.test(n));
    const order = ['KVM_ARM_PREFERRED_TARGET', 'KVM_CREATE_VCPU', 'KVM_ARM_VCPU_INIT', 'KVM_CREATE_VCPU'];
    expect(names.slice(3, 7)).toEqual(order);
    expect(names.indexOf('KVM_CREATE_DEVICE')).toBeGreaterThan(names.lastIndexOf('KVM_ARM_VCPU_INIT'));
    expect(names.lastIndexOf('KVM_SET_GSI_ROUTING')).toBe(names.length - 1);
    expect(host.calls.every(c => c.errno === undefined)).toBe(true);
  });

  it('starts with its first vCPU alone', () => {
    const architecture = build({ cpus: 3 });
    expect([0, 1, 2].map(id => host.vm.arm64Vcpu(id).mpState)).toEqual([0, 5, 5]);
    architecture.bootCpu.start({ pc: 0x4000_0000, x0: 0n });
    expect(host.vm.arm64Vcpu(0).core('regs.pc')).toBe(0x4000_0000n);
  });

  it('has no boot vCPU before it is built', () => {
    expect(() => new Arm64Architecture(ARM64_OPTIONS).bootCpu).toThrow(
      expect.objectContaining({ code: 'ERR_INTERNAL' }),
    );
  });

  it('authenticates pointers where the host can in both ways', () => {
    const has = () => host.vm.arm64Vcpu(0).has(arm.KVM_ARM_VCPU_PTRAUTH_ADDRESS);
    host.capabilities.set(arm.KVM_CAP_ARM_PTRAUTH_ADDRESS, 1);
    build();
    expect(has()).toBe(false);
    host.capabilities.set(arm.KVM_CAP_ARM_PTRAUTH_GENERIC, 1);
    vm.renew();
    build();
    expect(has()).toBe(true);
  });
});

describe('a GICv3', () => {
  it('gets frames, number of interrupts and initialization in this order, then its ITS', () => {
    host.capabilities.delete(arm.KVM_CAP_ARM_PMU_V3);
    build();
    expect(attributes()).toEqual([
      ['GICv3', arm.KVM_DEV_ARM_VGIC_GRP_ADDR, arm.KVM_VGIC_V3_ADDR_TYPE_DIST],
      ['GICv3', arm.KVM_DEV_ARM_VGIC_GRP_ADDR, arm.KVM_VGIC_V3_ADDR_TYPE_REDIST],
      ['GICv3', arm.KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0],
      ['GICv3', arm.KVM_DEV_ARM_VGIC_GRP_CTRL, arm.KVM_DEV_ARM_VGIC_CTRL_INIT],
      ['ITS', arm.KVM_DEV_ARM_VGIC_GRP_ADDR, arm.KVM_VGIC_ITS_ADDR_TYPE],
      ['ITS', arm.KVM_DEV_ARM_VGIC_GRP_CTRL, arm.KVM_DEV_ARM_VGIC_CTRL_INIT],
    ]);
  });

  it('is where the machine has it, with all interrupts', () => {
    build();
    expect([...gic('GICv3')!.frames.values()]).toEqual([ARM64_OPTIONS.gicd, ARM64_OPTIONS.gicr]);
    expect([...gic('ITS')!.frames.values()]).toEqual([ARM64_OPTIONS.its]);
    expect(gic('GICv3')!.interrupts).toBe(32 + 256);
    expect([gic('GICv3')!.initialized, gic('ITS')!.initialized]).toEqual([true, true]);
    expect(host.addresses.kept).toBe(0);
  });

  it('on a host with another controller names what to use instead', () => {
    host.devices.delete(arm.KVM_DEV_TYPE_ARM_VGIC_V3);
    expect(() => build()).toThrow(
      expect.objectContaining({
        code: 'ERR_ENGINE_UNAVAILABLE',
        message: expect.stringContaining('GICv3'),
        hint: expect.stringContaining('--gic 2'),
      }),
    );
  });

  it('takes messages by its ITS, with the device', () => {
    const architecture = build();
    expect(architecture.signalMsi({ address: TRANSLATER, data: 3, deviceId: 0x10 })).toBe(true);
    expect(architecture.signalMsi({ address: TRANSLATER, data: 4 })).toBe(true);
    expect(architecture.signalMsi({ address: TRANSLATER + 4, data: 3 })).toBe(false);
    expect(architecture.signalMsi({ address: SETSPI, data: 80 })).toBe(false);
    expect(host.vm.messages).toEqual([
      { address: TRANSLATER, data: 3, deviceId: 0x10 },
      { address: TRANSLATER, data: 4, deviceId: 0 },
    ]);
  });
});

describe('a GICv2', () => {
  it('gets distributor, CPU interface, number of interrupts and initialization', () => {
    host.capabilities.delete(arm.KVM_CAP_ARM_PMU_V3);
    build({ gic: 2 });
    expect(attributes()).toEqual([
      ['GICv2', arm.KVM_DEV_ARM_VGIC_GRP_ADDR, arm.KVM_VGIC_V2_ADDR_TYPE_DIST],
      ['GICv2', arm.KVM_DEV_ARM_VGIC_GRP_ADDR, arm.KVM_VGIC_V2_ADDR_TYPE_CPU],
      ['GICv2', arm.KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0],
      ['GICv2', arm.KVM_DEV_ARM_VGIC_GRP_CTRL, arm.KVM_DEV_ARM_VGIC_CTRL_INIT],
    ]);
    expect([...gic('GICv2')!.frames.values()]).toEqual([ARM64_OPTIONS.gicd, ARM64_OPTIONS.gicc]);
    expect(gic('ITS')).toBeUndefined();
  });

  it('on a host with another controller names what to use instead', () => {
    host.devices.delete(arm.KVM_DEV_TYPE_ARM_VGIC_V2);
    expect(() => build({ gic: 2 })).toThrow(expect.objectContaining({ hint: expect.stringContaining('--gic 3') }));
  });

  it('takes messages by the frame of the machine: a pulse of the interrupt', () => {
    const architecture = build({ gic: 2 });
    host.calls.length = 0;
    expect(architecture.signalMsi({ address: SETSPI, data: 0xf050, deviceId: 1 })).toBe(true);
    const lines = host.callsOf('KVM_IRQ_LINE').map(c => [...new Uint32Array((c.argument as Uint8Array).buffer)]);
    expect(lines).toEqual([
      [spi(80), 1],
      [spi(80), 0],
    ]);
    expect(architecture.signalMsi({ address: TRANSLATER, data: 80 })).toBe(false);
  });

  it('ignores a message for an interrupt that the frame does not have', () => {
    const architecture = build({ gic: 2 });
    for (const data of [79, 144, 0, 1023]) expect(architecture.signalMsi({ address: SETSPI, data })).toBe(true);
    expect(host.callsOf('KVM_IRQ_LINE')).toEqual([]);
    architecture.signalMsi({ address: SETSPI, data: 143 });
    expect(host.callsOf('KVM_IRQ_LINE')).toHaveLength(2);
  });
});

describe('the PMU', () => {
  it('of a host that has one is every vCPU’s, with its interrupt, once the controller is there', () => {
    const architecture = build();
    expect(architecture.pmu).toBe(true);
    for (const id of [0, 1]) expect(host.vm.arm64Vcpu(id).pmu).toEqual({ irq: 23, initialized: true });
  });

  it('of a host that has none is nobody’s', () => {
    host.capabilities.delete(arm.KVM_CAP_ARM_PMU_V3);
    const architecture = build();
    expect(architecture.pmu).toBe(false);
    expect(host.vm.arm64Vcpu(0).has(arm.KVM_ARM_VCPU_PMU_V3)).toBe(false);
    expect(attributes().map(([on]) => on)).not.toContain('vcpu 0');
  });
});

describe('wires', () => {
  it('are shared interrupts, told when they change', () => {
    const architecture = build();
    const [first, last] = [architecture.line(0), architecture.line(255)];
    first.set(false);
    first.set(true);
    first.set(true);
    last.set(true);
    expect([...host.vm.lines]).toEqual([
      [spi(32), true],
      [spi(287), true],
    ]);
    first.set(false);
    expect(host.vm.lines.get(spi(32))).toBe(false);
    expect(host.callsOf('KVM_IRQ_LINE')).toHaveLength(3);
  });

  it('are routed by their numbers, beside messages with their devices', () => {
    const architecture = build();
    expect(host.vm.events.routes).toHaveLength(256);
    architecture.routes(vm).event()?.route({ address: TRANSLATER, data: 5, deviceId: 0x20 });
    const { routes } = host.vm.events;
    expect(routes[7]).toEqual({ gsi: 7, irqchip: 0, pin: 7 });
    expect(routes.at(-1)).toEqual({ gsi: 1024, address: TRANSLATER, data: 5, deviceId: 0x20 });
    host.capabilities.delete(KVM_CAP_MSI_DEVID);
    architecture.routes(vm).event()?.route({ address: TRANSLATER, data: 5, deviceId: 0x20 });
    expect(host.vm.events.routes.at(-1)).toMatchObject({ deviceId: undefined });
  });

  it('are not routed on a host that has no routes', () => {
    host.capabilities.delete(KVM_CAP_IRQ_ROUTING);
    build();
    expect(host.callsOf('KVM_SET_GSI_ROUTING')).toEqual([]);
  });
});

describe('the end of an arm64 VM', () => {
  it('closes its devices, the ITS before its GIC; the VM closes the vCPUs', () => {
    const architecture = build();
    host.calls.length = 0;
    architecture.close();
    architecture.close();
    expect(host.callsOf('close').map(c => c.on)).toEqual(['ITS', 'GICv3']);
    vm[Symbol.dispose]();
    expect(host.openFiles).toEqual(['/dev/kvm']);
  });

  it.each([
    ['KVM_CREATE_VCPU', 2],
    ['KVM_ARM_VCPU_INIT', 2],
    ['KVM_CREATE_DEVICE', 2],
    ['KVM_CREATE_DEVICE', 4],
    ['KVM_SET_DEVICE_ATTR', 1],
    ['KVM_SET_DEVICE_ATTR', 5],
    ['KVM_SET_DEVICE_ATTR', 7],
    ['KVM_SET_GSI_ROUTING', 1],
  ])('after %s (call %d) failed leaves nothing open', (name, nth) => {
    const architecture = new Arm64Architecture(ARM64_OPTIONS);
    host.failOn(name, 'ENOMEM', nth);
    expect(() => architecture.build(vm)).toThrow(/ENOMEM/);
    architecture.close();
    vm[Symbol.dispose]();
    expect(host.openFiles).toEqual(['/dev/kvm']);
    expect(host.addresses.kept).toBe(0);
  });

  it('can be followed by another one', () => {
    const architecture = build();
    architecture.close();
    vm.renew();
    architecture.build(vm);
    expect(host.vm.gics.every(g => g.initialized)).toBe(true);
    architecture.line(1).set(true);
    expect(host.vm.lines.get(spi(33))).toBe(true);
    expect(host.vms[0]!.lines.size).toBe(0);
  });

  it('an attribute that is refused is named in the error', () => {
    host.failOn('KVM_SET_DEVICE_ATTR', 'EINVAL', 2);
    expect(() => build()).toThrow(/EINVAL \(attribute 0x0*3 of group 0\)/);
  });
});

describe('held time', () => {
  it('puts the counter of the guest back', () => {
    const architecture = build();
    architecture.bootCpu.counter = 1000n;
    const release = architecture.holdTime();
    architecture.bootCpu.counter = 9000n;
    release();
    expect(architecture.bootCpu.counter).toBe(1000n);
  });
});
