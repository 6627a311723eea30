import type { Architecture } from '../../../src/engines/engine.ts';
import * as arm from '../../../src/engines/kvm/abi/aarch64.generated.ts';
import * as kvm from '../../../src/engines/kvm/abi/common.generated.ts';
import * as x86 from '../../../src/engines/kvm/abi/x86_64.generated.ts';
import type { FakeAddresses } from './addresses.ts';
import { FakeArm64Vcpu } from './arm64-vcpu.ts';
import { FakeDirtyRing, RESERVED } from './dirty-ring.ts';
import { fail } from './errno.ts';
import { FakeEvents } from './fake-events.ts';
import { FakeMemory } from './fake-memory.ts';
import type { FakeVcpu } from './fake-vcpu.ts';
import type { Argument, FakeFile, FakeFiles, Ioctls } from './files.ts';
import { FakeGicDevice } from './gic-device.ts';
import { FakeX86Vcpu } from './x86-vcpu.ts';

const PAGE = 4096;

/** What a VM has of its host. */
export interface FakeVmHost {
  readonly arch: Architecture;
  readonly capabilities: ReadonlyMap<number, number>;
  /** KVM_CREATE_DEVICE's types that it has. */
  readonly devices: ReadonlySet<number>;
  readonly files: FakeFiles;
  readonly addresses: FakeAddresses;
}

/** A message of KVM_SIGNAL_MSI. */
export interface FakeMsi {
  readonly address: number;
  readonly data: number;
  readonly deviceId: number | undefined;
}

type Call = readonly [string, (a: Argument) => number | undefined];

/** A VM's file descriptor, with the checks of Linux 6.1 in their order. */
export class FakeVm implements FakeFile {
  readonly name = 'vm';
  readonly ioctls: Ioctls;
  readonly memory: FakeMemory;
  readonly events: FakeEvents;
  /** By the id of KVM_CREATE_VCPU. */
  readonly vcpus = new Map<number, FakeVcpu>();
  readonly gics: FakeGicDevice[] = [];
  /** Capabilities that KVM_ENABLE_CAP enabled, and the first argument. */
  readonly enabled = new Map<number, bigint>();
  /** Levels of KVM_IRQ_LINE, by its number. */
  readonly lines = new Map<number, boolean>();
  readonly messages: FakeMsi[] = [];
  /** Where Intel's processors have their pages; x86. */
  identityMap: number | undefined;
  tss: number | undefined;
  irqchip = false;
  /** kvmclock, ns; x86. It stands still. */
  clock = 0n;
  pit: number | undefined;
  /** Bytes of each vCPU's dirty ring; 0: the VM has none. */
  ringSize = 0;
  /** arm64: whether calls can be filtered, and the filters. */
  hasSmcccFilter = false;
  readonly smcccFilters: { readonly base: number; readonly count: number; readonly action: number }[] = [];
  isClosed = false;
  readonly #host: FakeVmHost;

  constructor(host: FakeVmHost) {
    this.#host = host;
    this.memory = new FakeMemory(host.addresses, {
      slots: () => this.check(kvm.KVM_CAP_NR_MEMSLOTS),
      readOnly: () => this.check(kvm.KVM_CAP_READONLY_MEM) > 0,
      rings: () => this.ringSize > 0,
    });
    this.events = new FakeEvents(host.files);
    const own = host.arch === 'x86_64' ? this.#x86() : this.#arm64();
    this.ioctls = new Map<number, Call>([...this.#common(), ...own]);
  }

  check(capability: number): number {
    return this.#host.capabilities.get(capability) ?? 0;
  }

  vcpu(id: number): FakeVcpu {
    const cpu = this.vcpus.get(id);
    if (cpu === undefined) throw new Error(`there is no vCPU ${id}`);
    return cpu;
  }

  x86Vcpu(id: number): FakeX86Vcpu {
    return this.vcpu(id) as FakeX86Vcpu;
  }

  arm64Vcpu(id: number): FakeArm64Vcpu {
    return this.vcpu(id) as FakeArm64Vcpu;
  }

  gicInitialized(): boolean {
    return this.gics.some(g => g.name !== 'ITS' && g.initialized);
  }

  closed(): void {
    this.isClosed = true;
  }

  /** A vCPU writes a byte. */
  write(address: number, cpu = 0): boolean {
    return this.memory.write(address, Uint8Array.of(1), this.vcpus.get(cpu)?.ring);
  }

  /**
   * A write goes into the ring of coalesced writes, if one of the zones has it and there is room (coalesced_mmio_write()). The fake
   * keeps the ring in the mapping of vCPU 0 alone.
   */
  wait(space: 'memory' | 'io', address: number, data: Uint8Array): boolean {
    const run = this.vcpus.get(0)?.run;
    const page = this.check(kvm.KVM_CAP_COALESCED_MMIO);
    if (run === undefined || page === 0 || !this.events.mayWait(space, address, data.length)) return false;
    const ring = new DataView(run.buffer, page * PAGE, PAGE);
    const { first, last, coalesced_mmio: entries } = kvm.kvm_coalesced_mmio_ring;
    const f = kvm.kvm_coalesced_mmio;
    const size = Math.floor((PAGE - entries) / f.sizeof);
    const at = ring.getUint32(last, true);
    if ((at + 1) % size === ring.getUint32(first, true)) return false;
    const entry = entries + at * f.sizeof;
    ring.setBigUint64(entry + f.phys_addr, BigInt(address), true);
    ring.setUint32(entry + f.len, data.length, true);
    ring.setUint32(entry + f.pio, space === 'io' ? 1 : 0, true);
    new Uint8Array(run.buffer, page * PAGE + entry + f.data).set(data);
    ring.setUint32(last, (at + 1) % size, true);
    return true;
  }

  #common(): [number, Call][] {
    return [
      [kvm.KVM_CHECK_EXTENSION, ['KVM_CHECK_EXTENSION', a => this.check(a.number)]],
      [kvm.KVM_CREATE_VCPU, ['KVM_CREATE_VCPU', a => this.#createVcpu(a.number)]],
      [kvm.KVM_SET_USER_MEMORY_REGION, ['KVM_SET_USER_MEMORY_REGION', a => void this.memory.set(a)]],
      [kvm.KVM_GET_DIRTY_LOG, ['KVM_GET_DIRTY_LOG', a => void this.memory.log(a)]],
      [kvm.KVM_RESET_DIRTY_RINGS, ['KVM_RESET_DIRTY_RINGS', () => this.#resetRings()]],
      [kvm.KVM_ENABLE_CAP, ['KVM_ENABLE_CAP', a => this.#enable(a)]],
      [kvm.KVM_IRQ_LINE, ['KVM_IRQ_LINE', a => this.#irqLine(a)]],
      [kvm.KVM_SIGNAL_MSI, ['KVM_SIGNAL_MSI', a => this.#signalMsi(a)]],
      [kvm.KVM_SET_GSI_ROUTING, ['KVM_SET_GSI_ROUTING', a => void this.events.setRouting(a, this.#pins())]],
      [kvm.KVM_IRQFD, ['KVM_IRQFD', a => void this.events.irqfd(a, this.#hasIrqchip())]],
      [kvm.KVM_IOEVENTFD, ['KVM_IOEVENTFD', a => void this.events.ioeventfd(a)]],
      [kvm.KVM_REGISTER_COALESCED_MMIO, ['KVM_REGISTER_COALESCED_MMIO', a => void this.events.coalesce(a)]],
      [kvm.KVM_UNREGISTER_COALESCED_MMIO, ['KVM_UNREGISTER_COALESCED_MMIO', a => void this.events.uncoalesce(a)]],
      [kvm.KVM_CREATE_DEVICE, ['KVM_CREATE_DEVICE', a => this.#createDevice(a)]],
    ];
  }

  #x86(): [number, Call][] {
    return [
      [x86.KVM_SET_IDENTITY_MAP_ADDR, ['KVM_SET_IDENTITY_MAP_ADDR', a => this.#setIdentityMap(a)]],
      [x86.KVM_SET_TSS_ADDR, ['KVM_SET_TSS_ADDR', a => this.#setTss(a.number)]],
      [kvm.KVM_CREATE_IRQCHIP, ['KVM_CREATE_IRQCHIP', () => this.#createIrqchip()]],
      [x86.KVM_GET_CLOCK, ['KVM_GET_CLOCK', a => this.#getClock(a)]],
      [x86.KVM_SET_CLOCK, ['KVM_SET_CLOCK', a => this.#setClock(a)]],
      [x86.KVM_CREATE_PIT2, ['KVM_CREATE_PIT2', a => this.#createPit(a)]],
    ];
  }

  #arm64(): [number, Call][] {
    const target = (a: Argument) => void a.view.setUint32(arm.kvm_vcpu_init.target, 5, true);
    return [
      [arm.KVM_ARM_PREFERRED_TARGET, ['KVM_ARM_PREFERRED_TARGET', target]],
      [kvm.KVM_HAS_DEVICE_ATTR, ['KVM_HAS_DEVICE_ATTR', a => this.#hasSmcccFilter(a)]],
      [kvm.KVM_SET_DEVICE_ATTR, ['KVM_SET_DEVICE_ATTR', a => this.#filterSmccc(a)]],
    ];
  }

  /** The VM's only attribute here, which Linux 6.1 does not have: KVM_ARM_VM_SMCCC_FILTER (devices/vm.rst, section 5). */
  #hasSmcccFilter(a: Argument): undefined {
    const f = kvm.kvm_device_attr;
    const known = a.view.getUint32(f.group, true) === 0 && a.view.getBigUint64(f.attr, true) === 0n;
    if (!known || !this.hasSmcccFilter) fail('ENXIO');
  }

  /** kvm_smccc_set_filter() */
  #filterSmccc(a: Argument): undefined {
    this.#hasSmcccFilter(a);
    const bytes = this.#host.addresses.at(a.view.getBigUint64(kvm.kvm_device_attr.addr, true), 24);
    const v = new DataView(bytes.buffer, bytes.byteOffset, 24);
    if (bytes.subarray(9).some(b => b !== 0) || v.getUint8(8) > 2) fail('EINVAL');
    this.smcccFilters.push({ base: v.getUint32(0, true), count: v.getUint32(4, true), action: v.getUint8(8) });
  }

  #createVcpu(id: number): number {
    if (id >= this.check(kvm.KVM_CAP_MAX_VCPUS)) fail('EINVAL');
    // kvm_arch_vcpu_precreate() of arm64
    if (this.gicInitialized()) fail('EBUSY');
    if (this.vcpus.has(id)) fail('EEXIST');
    const { arch, addresses, files } = this.#host;
    const of = { addresses, check: (c: number) => this.check(c), gicInitialized: () => this.gicInitialized() };
    const cpu = arch === 'x86_64' ? new FakeX86Vcpu(id, this.irqchip) : new FakeArm64Vcpu(id, of);
    if (this.ringSize > 0) cpu.ring = new FakeDirtyRing(this.ringSize);
    this.vcpus.set(id, cpu);
    return files.open(cpu);
  }

  #enable(a: Argument): undefined {
    const cap = a.view.getUint32(kvm.kvm_enable_cap.cap, true);
    if (a.view.getUint32(kvm.kvm_enable_cap.flags, true) !== 0 || this.check(cap) === 0) fail('EINVAL');
    const argument = a.view.getBigUint64(kvm.kvm_enable_cap.args, true);
    if (cap === kvm.KVM_CAP_DIRTY_LOG_RING || cap === kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL) {
      this.#enableRings(Number(argument), this.check(cap));
    }
    this.enabled.set(cap, argument);
  }

  /** kvm_vm_ioctl_enable_dirty_log_ring() */
  #enableRings(size: number, limit: number): void {
    const least = Math.max(RESERVED * kvm.kvm_dirty_gfn.sizeof, PAGE);
    if (size < least || !Number.isInteger(Math.log2(size))) fail('EINVAL');
    if (size > limit) fail('E2BIG');
    if (this.ringSize > 0 || this.vcpus.size > 0) fail('EINVAL');
    this.ringSize = size;
  }

  #resetRings(): number {
    if (this.ringSize === 0) fail('EINVAL');
    let freed = 0;
    for (const { ring } of this.vcpus.values())
      freed += ring?.reset((slot, page) => this.memory.clean(slot, page)) ?? 0;
    return freed;
  }

  #irqLine(a: Argument): undefined {
    if (!this.#hasIrqchip()) fail('ENXIO');
    const irq = a.view.getUint32(kvm.kvm_irq_level.irq, true);
    if (this.#host.arch === 'aarch64') {
      // Type 1, shared: a number from 32 on that the GIC has.
      const intid = irq & 0xffff;
      const gic = this.gics.find(g => g.name !== 'ITS');
      if (irq >>> 24 !== arm.KVM_ARM_IRQ_TYPE_SPI || intid < 32 || intid >= (gic?.interrupts ?? 0)) fail('EINVAL');
    }
    this.lines.set(irq, a.view.getUint32(kvm.kvm_irq_level.level, true) !== 0);
  }

  /** 1: delivered. */
  #signalMsi(a: Argument): number {
    const f = kvm.kvm_msi;
    const v = a.view;
    const flags = v.getUint32(f.flags, true);
    if (!this.#hasIrqchip() || (flags & ~kvm.KVM_MSI_VALID_DEVID) !== 0) fail('EINVAL');
    const withDevice = (flags & kvm.KVM_MSI_VALID_DEVID) !== 0;
    // vgic_its_inject_msi(): without a device's id there is no way through an ITS.
    if (this.#host.arch === 'aarch64' && !(withDevice && this.gics.some(g => g.name === 'ITS' && g.initialized))) {
      fail('EINVAL');
    }
    this.messages.push({
      address: v.getUint32(f.address_lo, true) + v.getUint32(f.address_hi, true) * 2 ** 32,
      data: v.getUint32(f.data, true),
      deviceId: withDevice ? v.getUint32(f.devid, true) : undefined,
    });
    return 1;
  }

  #createDevice(a: Argument): undefined {
    const f = kvm.kvm_create_device;
    const type = a.view.getUint32(f.type, true);
    if (!this.#host.devices.has(type)) fail('ENODEV');
    if ((a.view.getUint32(f.flags, true) & kvm.KVM_CREATE_DEVICE_TEST) !== 0) return;
    // kvm_vgic_create(): one controller for a VM.
    if (type !== arm.KVM_DEV_TYPE_ARM_VGIC_ITS && this.gics.length > 0) fail('EEXIST');
    const gic = new FakeGicDevice(type, this.#host.addresses, 40);
    this.gics.push(gic);
    a.view.setUint32(f.fd, this.#host.files.open(gic), true);
  }

  #setIdentityMap(a: Argument): undefined {
    if (this.vcpus.size > 0) fail('EINVAL');
    this.identityMap = Number(a.view.getBigUint64(0, true));
  }

  #setTss(address: number): undefined {
    if (address > 2 ** 32 - 3 * PAGE) fail('EINVAL');
    this.tss = address;
  }

  #createIrqchip(): undefined {
    if (this.irqchip) fail('EEXIST');
    if (this.vcpus.size > 0) fail('EINVAL');
    this.irqchip = true;
  }

  #getClock(a: Argument): undefined {
    a.view.setBigUint64(x86.kvm_clock_data.clock, this.clock, true);
  }

  #setClock(a: Argument): undefined {
    this.clock = a.view.getBigUint64(x86.kvm_clock_data.clock, true);
  }

  #createPit(a: Argument): undefined {
    if (this.pit !== undefined) fail('EEXIST');
    // Of later kernels; 6.1 makes one that reaches nobody.
    if (!this.irqchip) fail('ENOENT');
    this.pit = a.view.getUint32(x86.kvm_pit_config.flags, true);
  }

  #hasIrqchip(): boolean {
    return this.irqchip || this.gicInitialized();
  }

  /** Of the PICs and the I/O APIC; of the GIC's shared interrupts. */
  #pins(): readonly number[] {
    return this.#host.arch === 'x86_64' ? [8, 8, 24] : [988];
  }
}
