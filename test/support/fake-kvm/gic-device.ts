import * as arm from '../../../src/engines/kvm/abi/aarch64.generated.ts';
import {
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
  kvm_device_attr,
} from '../../../src/engines/kvm/abi/common.generated.ts';
import type { FakeAddresses } from './addresses.ts';
import { fail } from './errno.ts';
import type { Argument, FakeFile, Ioctls } from './files.ts';

const NAMES: Readonly<Record<number, string>> = {
  [arm.KVM_DEV_TYPE_ARM_VGIC_V2]: 'GICv2',
  [arm.KVM_DEV_TYPE_ARM_VGIC_V3]: 'GICv3',
  [arm.KVM_DEV_TYPE_ARM_VGIC_ITS]: 'ITS',
};
/** Addresses that each type needs before it is initialized, and how they are aligned. */
const FRAMES: Readonly<Record<string, { readonly types: readonly number[]; readonly align: number }>> = {
  GICv2: { types: [arm.KVM_VGIC_V2_ADDR_TYPE_DIST, arm.KVM_VGIC_V2_ADDR_TYPE_CPU], align: 0x1000 },
  GICv3: { types: [arm.KVM_VGIC_V3_ADDR_TYPE_DIST, arm.KVM_VGIC_V3_ADDR_TYPE_REDIST], align: 0x1_0000 },
  ITS: { types: [arm.KVM_VGIC_ITS_ADDR_TYPE], align: 0x1_0000 },
};

/** An interrupt controller of arm64: devices/arm-vgic.rst, arm-vgic-v3.rst, arm-vgic-its.rst. */
export class FakeGicDevice implements FakeFile {
  readonly name: string;
  readonly ioctls: Ioctls;
  /** By KVM_VGIC_*_ADDR_TYPE_*. */
  readonly frames = new Map<number, number>();
  /** All interrupts, the 32 private ones among them; 0: not set. */
  interrupts = 0;
  initialized = false;
  readonly #addresses: FakeAddresses;
  readonly #ipaBits: number;

  /** @param type KVM_DEV_TYPE_*. */
  constructor(type: number, addresses: FakeAddresses, ipaBits: number) {
    this.name = NAMES[type]!;
    this.#addresses = addresses;
    this.#ipaBits = ipaBits;
    this.ioctls = new Map<number, readonly [string, (a: Argument) => number | undefined]>([
      [KVM_SET_DEVICE_ATTR, ['KVM_SET_DEVICE_ATTR', a => this.#set(a)]],
      [KVM_HAS_DEVICE_ATTR, ['KVM_HAS_DEVICE_ATTR', a => this.#has(a)]],
    ]);
  }

  #set(a: Argument): undefined {
    const attr = this.#attr(a);
    switch (a.view.getUint32(kvm_device_attr.group, true)) {
      case arm.KVM_DEV_ARM_VGIC_GRP_ADDR: {
        const { types, align } = FRAMES[this.name]!;
        if (!types.includes(attr)) fail('ENODEV');
        const address = Number(this.#value(a, 8).getBigUint64(0, true));
        if (this.frames.has(attr)) fail('EEXIST');
        if (address % align !== 0) fail('EINVAL');
        if (address >= 2 ** this.#ipaBits) fail('E2BIG');
        this.frames.set(attr, address);
        return;
      }
      case arm.KVM_DEV_ARM_VGIC_GRP_NR_IRQS: {
        if (this.name === 'ITS') fail('ENXIO');
        const count = this.#value(a, 4).getUint32(0, true);
        if (count < 64 || count > 1024 || count % 32 !== 0) fail('EINVAL');
        if (this.interrupts !== 0 || this.initialized) fail('EBUSY');
        this.interrupts = count;
        return;
      }
      case arm.KVM_DEV_ARM_VGIC_GRP_CTRL: {
        if (attr !== arm.KVM_DEV_ARM_VGIC_CTRL_INIT) fail('ENXIO');
        // The ITS's address at once; the others' only when a vCPU runs, but then it is too late to say so.
        if (FRAMES[this.name]!.types.some(t => !this.frames.has(t))) fail('ENXIO');
        this.initialized = true;
        return;
      }
      default:
        fail('ENXIO');
    }
  }

  #has(a: Argument): undefined {
    const group = a.view.getUint32(kvm_device_attr.group, true);
    if (group === arm.KVM_DEV_ARM_VGIC_GRP_ADDR && FRAMES[this.name]!.types.includes(this.#attr(a))) return;
    if (group !== arm.KVM_DEV_ARM_VGIC_GRP_NR_IRQS && group !== arm.KVM_DEV_ARM_VGIC_GRP_CTRL) fail('ENXIO');
  }

  #attr(a: Argument): number {
    return Number(a.view.getBigUint64(kvm_device_attr.attr, true));
  }

  #value(a: Argument, length: number): DataView {
    const bytes = this.#addresses.at(a.view.getBigUint64(kvm_device_attr.addr, true), length);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
}
