import type { Architecture } from '../../../src/engines/engine.ts';
import type { FdWatch, HostAddress, MemoryAdvice, VcpuRunner } from '../../../src/engines/host/addon.ts';
import * as arm from '../../../src/engines/kvm/abi/aarch64.generated.ts';
import * as kvm from '../../../src/engines/kvm/abi/common.generated.ts';
import * as x86 from '../../../src/engines/kvm/abi/x86_64.generated.ts';
import { DEV_KVM, type KvmHost } from '../../../src/engines/kvm/system.ts';
import { type CpuidLeaf, encodeCpuid } from '../../../src/engines/kvm/x86/cpuid.ts';
import { FakeAddresses } from './addresses.ts';
import { capabilities } from './capabilities.ts';
import { type Errno, fail, refuse } from './errno.ts';
import { FakeRunner } from './fake-runner.ts';
import { FakeVcpu } from './fake-vcpu.ts';
import { FakeVm } from './fake-vm.ts';
import { Argument, FakeEventFd, type FakeFile, FakeFiles, type Ioctls } from './files.ts';

/** A call as it came. */
export interface FakeCall {
  /** The ioctl's name, e.g. 'KVM_CREATE_VM', or the call's: 'open', 'close', 'eventfd', 'runnerCreate'. */
  readonly name: string;
  /** What it was made on: '/dev/kvm', 'vm', 'vcpu 0', 'GICv3'. */
  readonly on: string;
  /** A number, or the structure's bytes before the call. */
  readonly argument: number | Uint8Array;
  /** Why it failed. */
  errno?: string;
}

interface Fault {
  readonly name: string;
  readonly errno: Errno;
  /** Calls of that name until it fails. */
  left: number;
}

/**
 * /dev/kvm of a Linux 6.1 without a kernel, and the addon's functions that lead there: file descriptors, VMs, vCPUs that do what their
 * scripts say, devices, eventfds. It runs on every system, needs no addon, and refuses what the kernel refuses.
 */
export class FakeHost implements KvmHost {
  readonly version = 'fake';
  readonly napi = 8;
  readonly arch: Architecture;
  /** KVM_CHECK_EXTENSION's answers, of the system and of VMs; what is not in it is 0. */
  readonly capabilities: Map<number, number>;
  /** Types that KVM_CREATE_DEVICE knows. */
  readonly devices = new Set<number>([
    arm.KVM_DEV_TYPE_ARM_VGIC_V2,
    arm.KVM_DEV_TYPE_ARM_VGIC_V3,
    arm.KVM_DEV_TYPE_ARM_VGIC_ITS,
  ]);
  /** KVM_GET_SUPPORTED_CPUID's answer. */
  cpuid: readonly CpuidLeaf[] = [];
  apiVersion: number = kvm.KVM_API_VERSION;
  vcpuMapSize: number;
  /** loopTimeoutNs()'s answer. */
  loopTimeout = Number.POSITIVE_INFINITY;
  /** Every ioctl, and open, close, eventfd and runnerCreate, oldest first. */
  readonly calls: FakeCall[] = [];
  /** Every VM and runner that there was. */
  readonly vms: FakeVm[] = [];
  readonly runners: FakeRunner[] = [];
  readonly files = new FakeFiles();
  readonly addresses = new FakeAddresses();
  #faults: Fault[] = [];

  constructor(arch: Architecture = 'x86_64') {
    this.arch = arch;
    this.capabilities = capabilities(arch);
    // kvm_run, on x86 the page of port data, and the ring of coalesced writes.
    this.vcpuMapSize = arch === 'x86_64' ? 3 * 4096 : 2 * 4096;
  }

  /** The newest VM. */
  get vm(): FakeVm {
    return this.vms.at(-1) ?? refuse('there is no VM');
  }

  get runner(): FakeRunner {
    return this.runners.at(-1) ?? refuse('there is no runner');
  }

  /** What is open, by name, in the order of their numbers. */
  get openFiles(): string[] {
    return this.files.names();
  }

  /** The `nth` call of that name from now on (an ioctl's, 'open', 'eventfd', 'runnerCreate') fails. */
  failOn(name: string, errno: Errno, nth = 1): void {
    this.#faults.push({ name, errno, left: nth });
  }

  /** Calls of that name. */
  callsOf(name: string): FakeCall[] {
    return this.calls.filter(c => c.name === name);
  }

  open(path: string, _flags: number, _mode?: number): number {
    return this.#record('open', path, 0, () => {
      if (path !== DEV_KVM) fail('ENOENT', 'open');
      return this.files.open({ name: DEV_KVM, ioctls: this.#system() });
    });
  }

  close(fd: number): void {
    this.#record('close', this.files.get(fd, 'close').name, fd, () => this.files.close(fd));
  }

  ioctl(fd: number, request: number, argument?: number | ArrayBufferView): number {
    const file: FakeFile = this.files.get(fd);
    const a = new Argument(request, argument);
    // kvm_arch_dev_ioctl() and kvm_arch_vcpu_ioctl() have another errno for what they do not know than VMs and other files.
    const unknown = file.name === DEV_KVM || file instanceof FakeVcpu ? 'EINVAL' : 'ENOTTY';
    const [name, call] = file.ioctls.get(request) ?? [`0x${request.toString(16)}`, () => fail(unknown)];
    return this.#record(name, file.name, a.copy(), () => call(a) ?? 0);
  }

  eventfd(initial: number, _flags: number): number {
    return this.#record('eventfd', 'eventfd', initial, () => this.files.open(new FakeEventFd(initial)));
  }

  eventfdRead(fd: number): bigint | undefined {
    return this.files.eventfd(fd, 'read').take() || undefined;
  }

  eventfdWrite(fd: number, value: bigint): void {
    this.files.eventfd(fd, 'write').value += value;
  }

  mmap(length: number): ArrayBuffer {
    return new ArrayBuffer(length);
  }

  madvise(view: ArrayBufferView, offset: number, length: number, advice: MemoryAdvice): void {
    if (advice === 'MADV_DONTNEED') new Uint8Array(view.buffer, view.byteOffset + offset, length).fill(0);
  }

  pageSize(): number {
    return 4096;
  }

  counterHz(): number {
    return this.arch === 'aarch64' ? 62_500_000 : 0;
  }

  /** Both clocks stand at 1 s. */
  clockPair(into: BigInt64Array): void {
    into.set([1_000_000_000n, 1_000_000_000n, 0n]);
  }

  addressOf(view: ArrayBufferView): HostAddress {
    return this.addresses.of(view);
  }

  storeAddress(into: ArrayBufferView, offset: number, address: HostAddress): void {
    this.addresses.store(into, offset, address);
  }

  releaseAddress(address: HostAddress): void {
    this.addresses.release(address);
  }

  prlimit(): [soft: bigint, hard: bigint] {
    return [2n ** 64n - 1n, 2n ** 64n - 1n];
  }

  watch(): FdWatch {
    return refuse('the fake has no event loop');
  }

  setWatching(): void {
    refuse('the fake has no event loop');
  }

  unwatch(): void {
    refuse('the fake has no event loop');
  }

  runnerCreate(fds: readonly number[], mapSize: number, threads: boolean, ringSize = 0): VcpuRunner {
    const runner = this.#record('runnerCreate', 'runner', fds.length, () => {
      const cpus = fds.map(fd => {
        const file = this.files.get(fd, 'mmap');
        return file instanceof FakeVcpu ? file : fail('ENODEV', 'mmap');
      });
      if (mapSize > this.vcpuMapSize) fail('EINVAL', 'mmap');
      // The kernel maps what is asked for, and kills who touches what is beyond a ring.
      if (cpus.some(c => ringSize > (c.ring?.buffer.byteLength ?? 0))) refuse('more than there is of the dirty rings');
      const vm = this.vms.find(v => [...v.vcpus.values()].includes(cpus[0]!)) ?? this.vm;
      return new FakeRunner(vm, cpus, mapSize, threads);
    });
    this.runners.push(runner);
    return runner as unknown as VcpuRunner;
  }

  runnerState(runner: VcpuRunner, vcpu: number): ArrayBuffer {
    return fake(runner).state(vcpu);
  }

  runnerRing(runner: VcpuRunner, vcpu: number): ArrayBuffer {
    return fake(runner).ring(vcpu);
  }

  runnerCounters(runner: VcpuRunner): Float64Array {
    return fake(runner).counters;
  }

  run(runner: VcpuRunner, limitNs?: number): number {
    return fake(runner).run(limitNs);
  }

  loopTimeoutNs(): number {
    return this.loopTimeout;
  }

  kick(runner: VcpuRunner): void {
    fake(runner).kick();
  }

  pause(runner: VcpuRunner, _limitMs: number): boolean {
    return fake(runner).pause();
  }

  completeExit(runner: VcpuRunner, vcpu: number): number {
    return fake(runner).completeExit(vcpu);
  }

  runnerWatch(runner: VcpuRunner, fd: number, tag: number): void {
    fake(runner).watch(fd, this.files.eventfd(fd, 'runnerWatch'), tag);
  }

  runnerUnwatch(runner: VcpuRunner, fd: number): void {
    fake(runner).unwatch(fd);
  }

  runnerDestroy(runner: VcpuRunner, _limitMs: number): boolean {
    return fake(runner).destroy();
  }

  runnerWatchdog(_runner: VcpuRunner, _ms: number): number {
    return this.eventfd(0, 0);
  }

  exitNow(): never {
    return refuse('the fake does not end the process');
  }

  #system(): Ioctls {
    return new Map<number, readonly [string, (a: Argument) => number | undefined]>([
      [kvm.KVM_GET_API_VERSION, ['KVM_GET_API_VERSION', () => this.apiVersion]],
      [kvm.KVM_CHECK_EXTENSION, ['KVM_CHECK_EXTENSION', a => this.capabilities.get(a.number) ?? 0]],
      [kvm.KVM_GET_VCPU_MMAP_SIZE, ['KVM_GET_VCPU_MMAP_SIZE', () => this.vcpuMapSize]],
      [kvm.KVM_CREATE_VM, ['KVM_CREATE_VM', a => this.#createVm(a.number)]],
      [x86.KVM_GET_SUPPORTED_CPUID, ['KVM_GET_SUPPORTED_CPUID', a => this.#supportedCpuid(a)]],
    ]);
  }

  /** kvm_arch_init_vm(): x86 has one type; arm64's is the size of addresses, and 0 means 40 bits. */
  #createVm(type: number): number {
    const limit = this.capabilities.get(arm.KVM_CAP_ARM_VM_IPA_SIZE) ?? 40;
    if (this.arch === 'x86_64' ? type !== 0 : type !== 0 && (type < 32 || type > limit)) fail('EINVAL');
    const vm = new FakeVm(this);
    this.vms.push(vm);
    return this.files.open(vm);
  }

  #supportedCpuid(a: Argument): undefined {
    if (this.arch !== 'x86_64') fail('ENOTTY');
    if (a.view.getUint32(x86.kvm_cpuid2.nent, true) < this.cpuid.length) fail('E2BIG');
    a.bytes.set(encodeCpuid(this.cpuid));
  }

  #record<T>(name: string, on: string, argument: number | Uint8Array, f: () => T): T {
    const call: FakeCall = { name, on, argument };
    this.calls.push(call);
    try {
      this.#checkFaults(name);
      return f();
    } catch (e) {
      call.errno = String((e as { details?: { errno?: string } }).details?.errno);
      throw e;
    }
  }

  #checkFaults(name: string): void {
    for (const f of this.#faults) if (f.name === name) f.left--;
    const hit = this.#faults.find(f => f.left === 0);
    if (hit === undefined) return;
    this.#faults = this.#faults.filter(f => f !== hit);
    fail(hit.errno, name.startsWith('KVM_') ? 'ioctl' : name);
  }
}

const fake = (runner: VcpuRunner): FakeRunner => runner as unknown as FakeRunner;
