import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { VmError } from '../../util/errors.ts';
import { type Addon, loadAddon } from './addon.ts';
import type { AddonAttempt } from './find-addon.ts';

/** What a host has of one capability of KVM, and what follows where it is missing. */
export interface Capability {
  /** The kernel's name, e.g. 'KVM_CAP_IRQFD'. */
  readonly name: string;
  /** KVM_CHECK_EXTENSION's answer: 0 when it is missing. */
  readonly value: number;
  /** The KVM engine does not run without it. */
  readonly needed: boolean;
  readonly consequence: string;
  readonly fix: string;
}

/** What this host offers to the KVM engine; every field is a finding, none a failure. */
export interface HostProbe {
  readonly addon: AddonProbe;
  readonly kvm: KvmProbe;
}

export interface AddonProbe {
  readonly loaded: boolean;
  /** Why not. */
  readonly reason: string | undefined;
  readonly fix: string | undefined;
  /** $TSVISOR_ADDON names a file that is not the addon: nothing runs before that is mended. */
  readonly fatal: boolean;
  /** The addon's version of tsvisor and of Node-API. */
  readonly version: string | undefined;
  readonly napi: number | undefined;
  /** What was looked at, in order; the last is the one that was loaded, if one was. */
  readonly attempts: readonly AddonAttempt[];
}

export interface KvmProbe {
  readonly exists: boolean;
  readonly opens: boolean;
  /** Why it cannot be used. */
  readonly reason: string | undefined;
  readonly fix: string | undefined;
  /** KVM_GET_API_VERSION; 12 on every Linux of the last fifteen years. Known only with the addon. */
  readonly apiVersion: number | undefined;
  /** Of this host's architecture; absent where they could not be asked for. */
  readonly capabilities?: readonly Capability[];
}

const KVM = '/dev/kvm';
/** _IO(KVMIO, 0x00) and its one answer, Documentation/virt/kvm/api.rst section 4.1. */
const KVM_GET_API_VERSION = 0xae00;
const API_VERSION = 12;

/** Looks at the host. Never throws. */
export function probeHost(): HostProbe {
  const { probe, addon } = probeAddon();
  return { addon: probe, kvm: explainKvm(lookAtKvm(addon)) };
}

function probeAddon(): { probe: AddonProbe; addon: Addon | undefined } {
  try {
    const { addon, reason, fix, attempts } = loadAddon();
    const { version, napi } = addon ?? {};
    return { addon, probe: { loaded: addon !== undefined, reason, fix, fatal: false, version, napi, attempts } };
  } catch (e) {
    const { message, hint, details } = e instanceof VmError ? e : new VmError('ERR_INTERNAL', String(e));
    const attempts = (details.attempts ?? []) as readonly AddonAttempt[];
    const none = { loaded: false, version: undefined, napi: undefined };
    return { addon: undefined, probe: { ...none, reason: message, fix: hint, fatal: true, attempts } };
  }
}

/** What was seen of /dev/kvm. */
export interface KvmFacts {
  readonly platform: string;
  readonly arch: string;
  readonly exists: boolean;
  /** errno's name when it does not open. */
  readonly openError?: string | undefined;
  /** The name of its group, or its number, and whether the group may open it. */
  readonly group?: { readonly name: string; readonly mayOpen: boolean } | undefined;
  /** KVM_GET_API_VERSION's answer, or the error instead of it. */
  readonly apiVersion?: number | string | undefined;
  /** /proc/cpuinfo. */
  readonly cpuinfo: string;
  /** Whether this is a container of Docker or Podman. */
  readonly container: boolean;
}

function lookAtKvm(addon: Addon | undefined): KvmFacts {
  const facts = { platform: process.platform, arch: process.arch, cpuinfo: '', container: false };
  if (process.platform !== 'linux') return { ...facts, exists: false };
  const about = {
    ...facts,
    cpuinfo: readText('/proc/cpuinfo'),
    container: existsSync('/.dockerenv') || existsSync('/run/.containerenv'),
  };
  const stat = statSync(KVM, { throwIfNoEntry: false });
  if (stat === undefined) return { ...about, exists: false };
  const name = RegExp(`^([^:]+):[^:]*:${stat.gid}:`, 'm').exec(readText('/etc/group'))?.[1] ?? String(stat.gid);
  const there = { ...about, exists: true, group: { name, mayOpen: (stat.mode & 0o060) === 0o060 } };
  let fd: number;
  try {
    fd = openSync(KVM, 'r+');
  } catch (e) {
    return { ...there, openError: (e as NodeJS.ErrnoException).code ?? String(e) };
  }
  try {
    return { ...there, apiVersion: addon?.ioctl(fd, KVM_GET_API_VERSION, 0) };
  } catch (e) {
    return { ...there, apiVersion: (e as Error).message };
  } finally {
    closeSync(fd);
  }
}

/** Says of what was seen why KVM cannot be used, and what helps. */
export function explainKvm(f: KvmFacts): KvmProbe {
  const no = { exists: f.exists, opens: false, apiVersion: undefined };
  if (f.platform !== 'linux') {
    return { ...no, reason: `KVM exists on Linux only, this is ${f.platform}`, fix: undefined };
  }
  if (!f.exists) return { ...no, reason: `there is no ${KVM}`, fix: fixOfMissing(f) };
  if (f.openError === 'EACCES' || f.openError === 'EPERM') {
    const { name, mayOpen } = f.group ?? { name: 'kvm', mayOpen: true };
    const join = `sudo usermod -aG ${name} $USER, then log in again`;
    return {
      ...no,
      reason: `you may not open ${KVM} (${f.openError})`,
      fix: mayOpen
        ? `add yourself to its group: ${join}`
        : `give its group access: sudo chmod g+rw ${KVM}; then: ${join}`,
    };
  }
  if (f.openError !== undefined) {
    return { ...no, reason: `${KVM} does not open: ${f.openError}`, fix: 'see sudo dmesg | grep -i kvm' };
  }
  if (typeof f.apiVersion === 'string') {
    return { ...no, opens: true, reason: `${KVM} opens but does not answer: ${f.apiVersion}`, fix: undefined };
  }
  const wrong = f.apiVersion !== undefined && f.apiVersion !== API_VERSION;
  return {
    exists: true,
    opens: true,
    apiVersion: f.apiVersion,
    reason: wrong ? `KVM has API version ${f.apiVersion}, not ${API_VERSION}` : undefined,
    fix: wrong ? 'boot a current Linux kernel' : undefined,
  };
}

function fixOfMissing({ container, arch, cpuinfo }: KvmFacts): string {
  const inside = container ? 'start the container with --device /dev/kvm; if the host has none: ' : '';
  if (arch === 'arm64') return `${inside}boot a kernel with KVM at EL2 (in a VM: turn nested virtualization on)`;
  const module = /\bvmx\b/.test(cpuinfo) ? 'kvm_intel' : /\bsvm\b/.test(cpuinfo) ? 'kvm_amd' : undefined;
  if (module !== undefined) return `${inside}sudo modprobe ${module}`;
  return `${inside}turn virtualization on in the firmware (in a VM: nested virtualization), then load the kvm module`;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
