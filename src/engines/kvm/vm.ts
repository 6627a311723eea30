import type { MsiMessage } from '../../irq/types.ts';
import { VmError } from '../../util/errors.ts';
import { hex } from '../../util/hex.ts';
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_DEVICE,
  KVM_CREATE_DEVICE_TEST,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_DEVICE_ATTR,
  KVM_GET_DIRTY_LOG,
  KVM_HAS_DEVICE_ATTR,
  KVM_IOEVENTFD,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IRQ_LINE,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQFD,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_IRQFD_FLAG_RESAMPLE,
  KVM_MSI_VALID_DEVID,
  KVM_REGISTER_COALESCED_MMIO,
  KVM_RESET_DIRTY_RINGS,
  KVM_SET_DEVICE_ATTR,
  KVM_SET_GSI_ROUTING,
  KVM_SET_USER_MEMORY_REGION,
  KVM_SIGNAL_MSI,
  KVM_UNREGISTER_COALESCED_MMIO,
  kvm_coalesced_mmio_zone,
  kvm_create_device,
  kvm_device_attr,
  kvm_dirty_log,
  kvm_enable_cap,
  kvm_ioeventfd,
  kvm_irq_level,
  kvm_irq_routing,
  kvm_irq_routing_entry,
  kvm_irqfd,
  kvm_msi,
  kvm_userspace_memory_region,
} from './abi/common.generated.ts';
import { Struct } from './structs.ts';
import { errnoOf, type KvmHost, type KvmSystem } from './system.ts';

/** A memory slot as KVM is told of it. */
export interface SlotRegion {
  readonly slot: number;
  readonly base: number;
  /** Bytes; 0 deletes the slot. */
  readonly size: number;
  /** KVM_MEM_*. */
  readonly flags: number;
  /** `size` bytes of the host's memory; not looked at for a deletion. */
  readonly bytes: Uint8Array;
}

/** Where writes are turned into an event, see {@link KvmVm.ioeventfd}. */
export interface IoEvent {
  readonly space: 'memory' | 'io';
  readonly address: number;
  /** Bytes: 1, 2, 4, 8; 0: any. */
  readonly length: number;
  /** Only writes of this value. */
  readonly value: number | undefined;
}

/** An entry of the interrupt routing table. */
export type IrqRoute =
  | { readonly gsi: number; readonly irqchip: number; readonly pin: number }
  | { readonly gsi: number; readonly msi: MsiMessage };

/**
 * A VM's file descriptor. The methods are ioctls and no more; each names its section of Documentation/virt/kvm/api.rst.
 * They throw VmError ERR_HOST_CALL with the errno's name.
 */
export class KvmVm implements Disposable {
  readonly system: KvmSystem;
  readonly host: KvmHost;
  readonly #type: number;
  #fd: number;
  readonly #vcpus: number[] = [];
  /** Filled anew for each message: to allocate it would cost as much as to send it. */
  readonly #msi = new Struct(kvm_msi.sizeof);
  #closed = false;

  /**
   * @param system is closed when there is no VM for it; else it outlives the VM.
   * @param type see {@link KvmSystem.createVm}.
   * @throws VmError ERR_ENGINE_UNAVAILABLE.
   */
  constructor(system: KvmSystem, type: number) {
    this.system = system;
    this.host = system.host;
    this.#type = type;
    try {
      this.#fd = system.createVm(type);
    } catch (e) {
      system[Symbol.dispose]();
      throw e;
    }
  }

  get fd(): number {
    return this.#fd;
  }

  /** Another, empty VM in place of this one, whose devices are closed already. @throws VmError ERR_ENGINE_UNAVAILABLE. */
  renew(): void {
    this[Symbol.dispose]();
    this.#fd = this.system.createVm(this.#type);
    this.#closed = false;
  }

  /** Whether it is there no more, and with it all slots, events and routes. Its number may be another file's by now. */
  get closed(): boolean {
    return this.#closed;
  }

  /** 4.4, KVM_CHECK_EXTENSION of the VM: what is there may depend on its type. */
  check(capability: number): number {
    return this.ioctl(KVM_CHECK_EXTENSION, capability);
  }

  /** An ioctl of the VM that only one architecture has. */
  ioctl(request: number, argument?: number | ArrayBufferView): number {
    // What the kernel says of a number that is no file's; this one may be another's.
    if (this.#closed) throw new VmError('ERR_HOST_CALL', 'the VM is closed', { details: { errno: 'EBADF' } });
    return this.host.ioctl(this.#fd, request, argument);
  }

  /** 4.7, KVM_CREATE_VCPU: the vCPU's file descriptor, which {@link closeVcpus} closes. @param id on x86 the APIC id. */
  createVcpu(id: number): number {
    const fd = this.ioctl(KVM_CREATE_VCPU, id);
    this.#vcpus.push(fd);
    return fd;
  }

  /** Closes the vCPUs that there are; when nobody runs them any more. */
  closeVcpus(): void {
    for (const fd of this.#vcpus.splice(0)) this.host.close(fd);
  }

  /** 4.35, KVM_SET_USER_MEMORY_REGION. The memory must stay as long as the slot. */
  setMemoryRegion({ slot, base, size, flags, bytes }: SlotRegion): void {
    const f = kvm_userspace_memory_region;
    const s = new Struct(f.sizeof).u32(f.slot, slot).u32(f.flags, flags).u64(f.guest_phys_addr, base);
    s.u64(f.memory_size, size);
    if (size === 0) {
      this.ioctl(KVM_SET_USER_MEMORY_REGION, s.bytes);
      return;
    }
    if (bytes.length !== size) throw new VmError('ERR_INTERNAL', `slot of ${size} bytes, memory of ${bytes.length}`);
    this.#withAddress(s, f.userspace_addr, bytes, () => this.ioctl(KVM_SET_USER_MEMORY_REGION, s.bytes));
  }

  /** 4.8, KVM_GET_DIRTY_LOG: a bit for each page of the slot that was written since the last call, which it forgets. */
  getDirtyLog(slot: number, bitmap: Uint8Array): void {
    const s = new Struct(kvm_dirty_log.sizeof).u32(kvm_dirty_log.slot, slot);
    this.#withAddress(s, kvm_dirty_log.dirty_bitmap, bitmap, () => this.ioctl(KVM_GET_DIRTY_LOG, s.bytes));
  }

  /** 8.29, KVM_RESET_DIRTY_RINGS: entries that were taken are free again, and writes to their pages noticed. How many there were. */
  resetDirtyRings(): number {
    return this.ioctl(KVM_RESET_DIRTY_RINGS);
  }

  /** 4.37, KVM_ENABLE_CAP. */
  enableCap(cap: number, ...args: readonly number[]): void {
    const s = new Struct(kvm_enable_cap.sizeof).u32(kvm_enable_cap.cap, cap);
    for (const [i, a] of args.entries()) s.u64(kvm_enable_cap.args + 8 * i, a);
    this.ioctl(KVM_ENABLE_CAP, s.bytes);
  }

  /** 4.24, KVM_CREATE_IRQCHIP. */
  createIrqchip(): void {
    this.ioctl(KVM_CREATE_IRQCHIP, 0);
  }

  /** 4.25, KVM_IRQ_LINE. @param irq on x86 the GSI, on arm64 type, vCPU and number packed. */
  irqLine(irq: number, level: boolean): void {
    const s = new Struct(kvm_irq_level.sizeof).u32(kvm_irq_level.irq, irq).u32(kvm_irq_level.level, level ? 1 : 0);
    this.ioctl(KVM_IRQ_LINE, s.bytes);
  }

  /** 4.70, KVM_SIGNAL_MSI: false when the guest has blocked it. `deviceId` is given only where KVM takes it. */
  signalMsi(m: MsiMessage, withDevice: boolean): boolean {
    const s = this.#msi.u32(kvm_msi.address_lo, m.address % 2 ** 32).u32(kvm_msi.data, m.data);
    s.u32(kvm_msi.address_hi, Math.floor(m.address / 2 ** 32));
    s.u32(kvm_msi.flags, withDevice ? KVM_MSI_VALID_DEVID : 0).u32(kvm_msi.devid, withDevice ? (m.deviceId ?? 0) : 0);
    return this.ioctl(KVM_SIGNAL_MSI, s.bytes) > 0;
  }

  /** 4.52, KVM_SET_GSI_ROUTING: the whole table. */
  setRouting(routes: readonly IrqRoute[], withDevice: boolean): void {
    const e = kvm_irq_routing_entry;
    const s = new Struct(kvm_irq_routing.sizeof + routes.length * e.sizeof).u32(kvm_irq_routing.nr, routes.length);
    for (const [i, r] of routes.entries()) {
      const at = kvm_irq_routing.entries + i * e.sizeof;
      s.u32(at + e.gsi, r.gsi);
      if ('msi' in r) {
        s.u32(at + e.type, KVM_IRQ_ROUTING_MSI).u32(at + e['u.msi.data'], r.msi.data);
        s.u32(at + e['u.msi.address_lo'], r.msi.address % 2 ** 32);
        s.u32(at + e['u.msi.address_hi'], Math.floor(r.msi.address / 2 ** 32));
        if (withDevice) s.u32(at + e.flags, KVM_MSI_VALID_DEVID).u32(at + e['u.msi.devid'], r.msi.deviceId ?? 0);
      } else {
        s.u32(at + e.type, KVM_IRQ_ROUTING_IRQCHIP);
        s.u32(at + e['u.irqchip.irqchip'], r.irqchip).u32(at + e['u.irqchip.pin'], r.pin);
      }
    }
    this.ioctl(KVM_SET_GSI_ROUTING, s.bytes);
  }

  /** 4.75, KVM_IRQFD: writes of the eventfd raise `gsi`. @param resample an eventfd that tells of its end of interrupt. */
  irqfd(eventfd: number, gsi: number, on: boolean, resample?: number): void {
    const f = kvm_irqfd;
    const flags = (on ? 0 : KVM_IRQFD_FLAG_DEASSIGN) | (resample === undefined ? 0 : KVM_IRQFD_FLAG_RESAMPLE);
    const s = new Struct(f.sizeof).u32(f.fd, eventfd).u32(f.gsi, gsi).u32(f.flags, flags);
    if (resample !== undefined) s.u32(f.resamplefd, resample);
    this.ioctl(KVM_IRQFD, s.bytes);
  }

  /** 4.59, KVM_IOEVENTFD: writes there signal the eventfd and do not leave the kernel. */
  ioeventfd(eventfd: number, e: IoEvent, on: boolean): void {
    const f = kvm_ioeventfd;
    let flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN;
    if (e.space === 'io') flags |= KVM_IOEVENTFD_FLAG_PIO;
    if (e.value !== undefined) flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    const s = new Struct(f.sizeof).u64(f.addr, e.address).u32(f.len, e.length).u32(f.fd, eventfd).u32(f.flags, flags);
    if (e.value !== undefined) s.u64(f.datamatch, e.value);
    this.ioctl(KVM_IOEVENTFD, s.bytes);
  }

  /** 4.116, KVM_REGISTER_COALESCED_MMIO: writes there wait in a ring until the next exit. */
  coalesce(space: 'memory' | 'io', address: number, size: number, on: boolean): void {
    const f = kvm_coalesced_mmio_zone;
    const s = new Struct(f.sizeof)
      .u64(f.addr, address)
      .u32(f.size, size)
      .u32(f.pio, space === 'io' ? 1 : 0);
    this.ioctl(on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, s.bytes);
  }

  /** 4.79, KVM_CREATE_DEVICE. undefined: the host has no such device. */
  createDevice(type: number): KvmDevice | undefined {
    if (!this.hasDevice(type)) return undefined;
    const s = new Struct(kvm_create_device.sizeof).u32(kvm_create_device.type, type);
    this.ioctl(KVM_CREATE_DEVICE, s.bytes);
    return new KvmDevice(this.host, s.getU32(kvm_create_device.fd));
  }

  /** Whether {@link createDevice} would make one. */
  hasDevice(type: number): boolean {
    const f = kvm_create_device;
    const s = new Struct(f.sizeof).u32(f.type, type).u32(f.flags, KVM_CREATE_DEVICE_TEST);
    try {
      this.ioctl(KVM_CREATE_DEVICE, s.bytes);
      return true;
    } catch (e) {
      if (errnoOf(e) === undefined) throw e;
      return false;
    }
  }

  #withAddress(s: Struct, at: number, view: ArrayBufferView, call: () => void): void {
    const address = this.host.addressOf(view);
    try {
      this.host.storeAddress(s.bytes, at, address);
      call();
    } finally {
      this.host.releaseAddress(address);
    }
  }

  /** Closes the vCPUs and the VM; after its devices. Once is enough. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.closeVcpus();
    this.#closed = true;
    this.host.close(this.#fd);
  }
}

/** A device in the kernel, and its attributes (Documentation/virt/kvm/devices). */
export class KvmDevice implements Disposable {
  readonly fd: number;
  readonly #host: KvmHost;

  constructor(host: KvmHost, fd: number) {
    this.#host = host;
    this.fd = fd;
  }

  /** 4.80, KVM_SET_DEVICE_ATTR with a value of 64 or 32 bits, or bytes. */
  set(group: number, attr: number | bigint, value?: Uint8Array | BigUint64Array | Uint32Array): void {
    setDeviceAttr(this.#host, this.fd, group, attr, value);
  }

  /** 4.80, KVM_GET_DEVICE_ATTR into `into`. */
  get(group: number, attr: number | bigint, into: Uint8Array | BigUint64Array | Uint32Array): void {
    deviceAttr(this.#host, this.fd, KVM_GET_DEVICE_ATTR, group, attr, into);
  }

  /** 4.81, KVM_HAS_DEVICE_ATTR. */
  has(group: number, attr: number | bigint): boolean {
    return hasDeviceAttr(this.#host, this.fd, group, attr);
  }

  [Symbol.dispose](): void {
    this.#host.close(this.fd);
  }
}

type AttrValue = Uint8Array | BigUint64Array | Uint32Array;

/** KVM_SET_DEVICE_ATTR; vCPUs and VMs have attributes, too. */
export function setDeviceAttr(
  host: KvmHost,
  fd: number,
  group: number,
  attr: number | bigint,
  value?: AttrValue,
): void {
  deviceAttr(host, fd, KVM_SET_DEVICE_ATTR, group, attr, value);
}

/** KVM_HAS_DEVICE_ATTR. */
export function hasDeviceAttr(host: KvmHost, fd: number, group: number, attr: number | bigint): boolean {
  try {
    deviceAttr(host, fd, KVM_HAS_DEVICE_ATTR, group, attr);
    return true;
  } catch (e) {
    if (errnoOf(e) === undefined) throw e;
    return false;
  }
}

function deviceAttr(
  host: KvmHost,
  fd: number,
  request: number,
  group: number,
  attr: number | bigint,
  value?: AttrValue,
): void {
  const f = kvm_device_attr;
  const s = new Struct(f.sizeof).u32(f.group, group).u64(f.attr, attr);
  if (value === undefined) {
    host.ioctl(fd, request, s.bytes);
    return;
  }
  const address = host.addressOf(value);
  try {
    host.storeAddress(s.bytes, f.addr, address);
    host.ioctl(fd, request, s.bytes);
  } catch (e) {
    const what = `attribute ${hex(Number(attr))} of group ${group}`;
    throw e instanceof VmError && e.code === 'ERR_HOST_CALL'
      ? new VmError('ERR_HOST_CALL', `${e.message} (${what})`, { cause: e, details: e.details })
      : e;
  } finally {
    host.releaseAddress(address);
  }
}
