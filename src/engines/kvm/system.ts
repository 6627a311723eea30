import { VmError } from '../../util/errors.ts';
import type { Addon } from '../host/addon.ts';
import {
  KVM_API_VERSION,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_VCPU_MMAP_SIZE,
  kvm_run,
} from './abi/common.generated.ts';

/** What a host is asked by the KVM engine: the addon, or a test's stand-in for it (test/support/fake-kvm). */
export type KvmHost = Addon;

export const DEV_KVM = '/dev/kvm';
const O_RDWR = 2;

/** An errno name of a failed call of the host, e.g. 'EACCES'; undefined for any other error. */
export function errnoOf(e: unknown): string | undefined {
  if (!(e instanceof VmError) || e.code !== 'ERR_HOST_CALL') return undefined;
  return typeof e.details.errno === 'string' ? e.details.errno : undefined;
}

/** /dev/kvm, opened (Documentation/virt/kvm/api.rst, section 4, "system ioctl"). */
export class KvmSystem implements Disposable {
  readonly host: KvmHost;
  readonly fd: number;

  /** @throws VmError ERR_ENGINE_UNAVAILABLE saying why KVM cannot be used here, and what to do about it. */
  constructor(host: KvmHost) {
    this.host = host;
    try {
      this.fd = host.open(DEV_KVM, O_RDWR);
    } catch (e) {
      throw cannotOpen(e);
    }
    let version: number;
    try {
      version = host.ioctl(this.fd, KVM_GET_API_VERSION, 0);
    } catch (e) {
      host.close(this.fd);
      throw cannotOpen(e);
    }
    if (version === KVM_API_VERSION) return;
    host.close(this.fd);
    // 4.1: "applications should refuse to run if KVM_GET_API_VERSION returns a value other than 12".
    throw new VmError('ERR_ENGINE_UNAVAILABLE', `KVM has API version ${version}, not ${KVM_API_VERSION}`, {
      hint: 'boot a current Linux kernel, or use --engine emu',
      details: { version },
    });
  }

  /** 4.4, KVM_CHECK_EXTENSION of the system: 0 when a capability is missing, else 1 or its value. */
  check(capability: number): number {
    return this.host.ioctl(this.fd, KVM_CHECK_EXTENSION, capability);
  }

  /**
   * 4.2, KVM_CREATE_VM. @param type the machine type; on arm64 the size of the guest's physical addresses in bits.
   * @returns the VM's file descriptor. @throws VmError ERR_ENGINE_UNAVAILABLE.
   */
  createVm(type: number): number {
    for (let attempt = 1; ; attempt++) {
      try {
        return this.host.ioctl(this.fd, KVM_CREATE_VM, type);
      } catch (e) {
        // A signal may come while the kernel waits for other CPUs.
        if (errnoOf(e) === 'EINTR' && attempt < 100) continue;
        throw cannotCreate(e);
      }
    }
  }

  /** 4.5, KVM_GET_VCPU_MMAP_SIZE: bytes of a vCPU's kvm_run mapping. @throws VmError ERR_ENGINE_UNAVAILABLE. */
  get vcpuMapSize(): number {
    const size = this.host.ioctl(this.fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size >= kvm_run.sizeof) return size;
    throw new VmError('ERR_ENGINE_UNAVAILABLE', `KVM's state of a vCPU has ${size} bytes, not ${kvm_run.sizeof}`, {
      hint: 'boot a newer kernel, or use --engine emu',
      details: { size },
    });
  }

  [Symbol.dispose](): void {
    this.host.close(this.fd);
  }
}

/** Why /dev/kvm does not open, or is none, with what helps. */
function cannotOpen(e: unknown): VmError {
  const errno = errnoOf(e);
  const because = (why: string, hint: string) =>
    new VmError('ERR_ENGINE_UNAVAILABLE', why, { hint, cause: e, details: { errno } });
  if (errno === 'ENOENT' || errno === 'ENODEV' || errno === 'ENXIO') {
    return because(
      `there is no KVM here: ${DEV_KVM} ${errno === 'ENOENT' ? 'does not exist' : 'has no driver'}`,
      'turn virtualization on in the firmware (or nested virtualization in the hypervisor) and load the kvm module, or use --engine emu',
    );
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    return because(
      `${DEV_KVM} may not be opened by this user`,
      'join its group: sudo usermod -aG kvm $USER, then log in again; or use --engine emu',
    );
  }
  if (errno === 'ENOTTY')
    return because(`${DEV_KVM} is not the device of KVM`, 'load the kvm module, or use --engine emu');
  return because(`${DEV_KVM} does not open: ${errno ?? (e as Error).message}`, 'see dmesg | grep -i kvm');
}

function cannotCreate(e: unknown): VmError {
  const errno = errnoOf(e);
  const hints: Record<string, string> = {
    EBUSY: 'another hypervisor holds the processor: end it, or use --engine emu',
    ENOMEM: 'the host has no memory for another VM: end some, or raise the limit of the control group',
    EMFILE: 'raise the limit of open files: ulimit -n 4096',
    EINVAL: 'the host has not as many bits of physical address as the machine needs; use --engine emu',
  };
  return new VmError('ERR_ENGINE_UNAVAILABLE', `KVM makes no VM: ${errno ?? (e as Error).message}`, {
    hint: hints[errno ?? ''] ?? 'see dmesg | grep -i kvm, or use --engine emu',
    cause: e,
    details: { errno },
  });
}
