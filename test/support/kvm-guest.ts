import type { Addon, VcpuRunner } from '../../src/engines/host/addon.ts';
import {
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_IOEVENTFD,
  KVM_SET_USER_MEMORY_REGION,
  kvm_run,
} from '../../src/engines/kvm/abi/common.generated.ts';
import {
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  kvm_regs,
  kvm_sregs,
} from '../../src/engines/kvm/abi/x86_64.generated.ts';

// A VM with programs of a few bytes in x86 real mode, made by plain ioctls: no code of the KVM engine is used.

const O_RDWR = 2;
const [PROT_READ_WRITE, MAP_SHARED_ANONYMOUS] = [3, 0x21];
/** Bytes of guest memory. */
const MEMORY = 0x20000;
/** Each vCPU's program begins at its own multiple of this. */
const PROGRAM = 0x1000;

/** The port that the programs write to. */
export const PORT = 0x3f8;
/** An address without memory. */
export const MMIO = 0xb_8000;

const hex = (text: string) => Uint8Array.from(text.split(/\s+/), byte => Number.parseInt(byte, 16));

/** Real-mode programs. Registers at the start: dx = {@link PORT}, ds = 0xb800, all others 0. */
export const PROGRAMS = {
  /** Counts in eax and writes it to the port, for ever. */
  // inc eax; out dx, eax; jmp to the inc
  count: hex('66 40 66 ef eb fa'),
  /** Writes al = 0 ... 4 to the port and halts. */
  // out dx, al; inc al; cmp al, 5; jb to the out; hlt
  five: hex('ee fe c0 3c 05 72 f9 f4'),
  /** Never leaves by itself. */
  // jmp to itself
  spin: hex('eb fe'),
  /** Reads a byte of the port and adds it to ebx, for ever. */
  // in al, dx; movzx eax, al; add ebx, eax; jmp to the in
  sum: hex('ec 66 0f b6 c0 66 01 c3 eb f6'),
  /** Writes a counter to {@link MMIO}, 4 bytes, for ever. */
  // inc eax; mov [0], eax; jmp to the inc
  mmio: hex('66 40 66 a3 00 00 eb f8'),
  /** Reads 4 bytes of {@link MMIO}, for ever. */
  // mov eax, [0]; jmp to it
  load: hex('66 a1 00 00 eb fa'),
  /** Rings a doorbell (a write to the port) after 65536 rounds of a loop, for ever. */
  // xor cx, cx; loop to itself; out dx, al; jmp to the xor
  ring: hex('31 c9 e2 fe ee eb f9'),
  /** Halts, for ever. */
  // hlt; jmp to the hlt
  halt: hex('f4 eb fd'),
} as const;

/** An exit as the tests look at it. */
export type GuestExit =
  | { readonly reason: 'out'; readonly port: number; readonly value: number }
  | { readonly reason: 'in'; readonly port: number }
  | { readonly reason: 'mmio write'; readonly address: number; readonly value: number }
  | { readonly reason: 'hlt' }
  | { readonly reason: number };

const KVM_EXIT_IO = 2;
const KVM_EXIT_HLT = 5;
const KVM_EXIT_MMIO = 6;

/** A VM with a vCPU for each program, and the runner of its vCPUs. */
export class KvmGuest implements Disposable {
  readonly addon: Addon;
  readonly programs: readonly Uint8Array[];
  readonly runner: VcpuRunner;
  /** Rows of 8; see runnerCounters(). */
  readonly counters: Float64Array;
  /** kvm_run of each vCPU. */
  readonly states: readonly DataView[];
  readonly vcpus: readonly number[];
  readonly vm: number;
  readonly #address;
  #open = true;

  /** @param programs one for each vCPU. @throws what an ioctl throws. */
  constructor(addon: Addon, programs: readonly Uint8Array[], threads: boolean) {
    this.addon = addon;
    this.programs = programs;
    const kvm = addon.open('/dev/kvm', O_RDWR);
    this.vm = addon.ioctl(kvm, KVM_CREATE_VM, 0);
    const memory = new Uint8Array(addon.mmap(MEMORY, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, -1, 0));
    this.#address = addon.addressOf(memory);
    // struct kvm_userspace_memory_region: slot, flags, guest_phys_addr, memory_size, userspace_addr.
    const region = new BigUint64Array([0n, 0n, BigInt(MEMORY), 0n]);
    addon.storeAddress(region, 24, this.#address);
    addon.ioctl(this.vm, KVM_SET_USER_MEMORY_REGION, region);
    this.vcpus = programs.map((program, n) => {
      const vcpu = addon.ioctl(this.vm, KVM_CREATE_VCPU, n);
      const at = this.entry(n);
      memory.set(program, at);
      const sregs = new DataView(new ArrayBuffer(kvm_sregs.sizeof));
      addon.ioctl(vcpu, KVM_GET_SREGS, sregs);
      setSegment(sregs, kvm_sregs.cs, 0);
      setSegment(sregs, kvm_sregs.ds, MMIO >> 4);
      addon.ioctl(vcpu, KVM_SET_SREGS, sregs);
      const regs = new DataView(new ArrayBuffer(kvm_regs.sizeof));
      regs.setUint32(kvm_regs.rip, at, true);
      regs.setUint32(kvm_regs.rdx, PORT, true);
      regs.setUint32(kvm_regs.rflags, 2, true);
      addon.ioctl(vcpu, KVM_SET_REGS, regs);
      return vcpu;
    });
    const mapSize = addon.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    addon.close(kvm);
    this.runner = addon.runnerCreate(this.vcpus, mapSize, threads);
    this.counters = addon.runnerCounters(this.runner);
    this.states = programs.map((_, n) => new DataView(addon.runnerState(this.runner, n)));
  }

  /** Where a vCPU's program begins. */
  entry(vcpu: number): number {
    return PROGRAM * (vcpu + 1);
  }

  run(limitNs: number): number {
    return this.addon.run(this.runner, limitNs);
  }

  /** The exit that the last run() returned for a vCPU. */
  exit(vcpu: number): GuestExit {
    const state = this.states[vcpu]!;
    const reason = state.getUint32(kvm_run.exit_reason, true);
    switch (reason) {
      case KVM_EXIT_IO: {
        const port = state.getUint16(kvm_run['io.port'], true);
        if (state.getUint8(kvm_run['io.direction']) === 0) return { reason: 'in', port };
        const data = Number(state.getBigUint64(kvm_run['io.data_offset'], true));
        const bytes = state.getUint8(kvm_run['io.size']);
        return { reason: 'out', port, value: bytes === 1 ? state.getUint8(data) : state.getUint32(data, true) };
      }
      case KVM_EXIT_MMIO:
        return {
          reason: 'mmio write',
          address: Number(state.getBigUint64(kvm_run['mmio.phys_addr'], true)),
          value: state.getUint32(kvm_run['mmio.data'], true),
        };
      case KVM_EXIT_HLT:
        return { reason: 'hlt' };
      default:
        return { reason };
    }
  }

  /** Answers a read of a port. */
  answerIn(vcpu: number, value: number): void {
    const state = this.states[vcpu]!;
    state.setUint8(Number(state.getBigUint64(kvm_run['io.data_offset'], true)), value);
  }

  /** The low 32 bits of a register. Only while the vCPU is not running. */
  register(vcpu: number, name: 'rax' | 'rbx' | 'rip'): number {
    const regs = new DataView(new ArrayBuffer(kvm_regs.sizeof));
    this.addon.ioctl(this.vcpus[vcpu]!, KVM_GET_REGS, regs);
    return regs.getUint32(kvm_regs[name], true);
  }

  /** Turns writes of one byte to the port into signals of an eventfd, which is made here. The caller closes it. */
  doorbell(): number {
    const fd = this.addon.eventfd(0, 0);
    // struct kvm_ioeventfd: datamatch, addr, len, fd, flags (KVM_IOEVENTFD_FLAG_PIO is bit 1).
    const bell = new DataView(new ArrayBuffer(64));
    bell.setUint32(8, PORT, true);
    bell.setUint32(16, 1, true);
    bell.setInt32(20, fd, true);
    bell.setUint32(24, 2, true);
    this.addon.ioctl(this.vm, KVM_IOEVENTFD, bell);
    return fd;
  }

  /** Destroys the runner and closes everything. false: a vCPU is stuck. */
  close(limitMs = 2000): boolean {
    if (!this.#open) return true;
    this.#open = false;
    const all = this.addon.runnerDestroy(this.runner, limitMs);
    for (const vcpu of this.vcpus) this.addon.close(vcpu);
    this.addon.close(this.vm);
    this.addon.releaseAddress(this.#address);
    return all;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function setSegment(sregs: DataView, at: number, selector: number): void {
  sregs.setBigUint64(at, BigInt(selector) << 4n, true);
  // struct kvm_segment: base, limit, selector.
  sregs.setUint16(at + 12, selector, true);
}
