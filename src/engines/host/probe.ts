import { closeSync, openSync, statSync } from 'node:fs';
import { loadAddon } from './addon.ts';

/** What this host offers to the KVM engine; every field is a finding, none a failure. */
export interface HostProbe {
  readonly addon: { readonly loaded: boolean; readonly reason: string | undefined; readonly fix: string | undefined };
  readonly kvm: {
    readonly exists: boolean;
    readonly opens: boolean;
    /** Why it does not open. */
    readonly reason: string | undefined;
    readonly fix: string | undefined;
    /** KVM_GET_API_VERSION; 12 on every Linux of the last fifteen years. Known only with the addon. */
    readonly apiVersion: number | undefined;
  };
}

const KVM = '/dev/kvm';
/** _IO(KVMIO, 0x00), Documentation/virt/kvm/api.rst section 4.1. */
const KVM_GET_API_VERSION = 0xae00;

/** Looks at the host. Never throws. */
export function probeHost(): HostProbe {
  const { addon, reason, fix } = loadAddon();
  return { addon: { loaded: addon !== undefined, reason, fix }, kvm: probeKvm() };
}

function probeKvm(): HostProbe['kvm'] {
  const no = { opens: false, apiVersion: undefined };
  if (process.platform !== 'linux') {
    return { ...no, exists: false, reason: `KVM exists on Linux only, this is ${process.platform}`, fix: undefined };
  }
  if (statSync(KVM, { throwIfNoEntry: false }) === undefined) {
    return {
      ...no,
      exists: false,
      reason: `there is no ${KVM}`,
      fix: 'enable virtualization in the firmware (or nested virtualization in the hypervisor) and load the kvm module',
    };
  }
  let fd: number;
  try {
    fd = openSync(KVM, 'r+');
  } catch (e) {
    const code = (e as NodeJS.ErrnoException).code ?? String(e);
    const denied = code === 'EACCES' || code === 'EPERM';
    return {
      ...no,
      exists: true,
      reason: `${KVM} does not open: ${code}`,
      fix: denied
        ? 'add yourself to its group: sudo usermod -aG kvm $USER, then log in again'
        : 'see dmesg | grep -i kvm',
    };
  }
  try {
    const version = loadAddon().addon?.ioctl(fd, KVM_GET_API_VERSION, 0);
    return { exists: true, opens: true, reason: undefined, fix: undefined, apiVersion: version };
  } catch (e) {
    return { ...no, exists: true, reason: `${KVM} opens but does not answer: ${(e as Error).message}`, fix: undefined };
  } finally {
    closeSync(fd);
  }
}
