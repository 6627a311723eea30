import {
  KVM_EXIT_ARM_NISV,
  KVM_EXIT_FAIL_ENTRY,
  KVM_EXIT_HYPERCALL,
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_IO,
  KVM_EXIT_IO_OUT,
  KVM_EXIT_MMIO,
  KVM_EXIT_SYSTEM_EVENT,
  kvm_run,
} from '../../../src/engines/kvm/abi/common.generated.ts';
import type { FakeVcpu } from './fake-vcpu.ts';
import type { FakeVm } from './fake-vm.ts';

/**
 * What a vCPU does next. 'exit': it left the guest, and its kvm_run says why. 'on': the kernel dealt with it. 'stuck': it never
 * comes out. An errno: KVM_RUN fails.
 */
export type Step = (cpu: FakeVcpu, vm: FakeVm) => 'exit' | 'on' | 'stuck' | { readonly errno: number };

/** Data of a port lies in the second page of the mapping: KVM_PIO_PAGE_OFFSET. */
const PIO_DATA = 4096;

/** The guest writes `size` bytes: to memory, to a doorbell, to what may wait, or by an exit. */
export function store(address: number, size: number, value: number | bigint): Step {
  return (cpu, vm) => {
    const data = bytesOf(value, size);
    if (vm.memory.write(address, data, cpu.ring)) return 'on';
    const wide = BigInt.asUintN(8 * size, BigInt(value));
    if (vm.events.signals('memory', address, size, wide) || vm.wait('memory', address, data)) return 'on';
    return mmio(cpu, address, data, true);
  };
}

/** The guest reads `size` bytes; the vCPU's `answers` have what it got. */
export function load(address: number, size: number): Step {
  return (cpu, vm) => {
    const bytes = vm.memory.read(address, size);
    if (bytes === undefined) return mmio(cpu, address, new Uint8Array(size), false);
    cpu.answers.push(numberOf(bytes));
    return 'on';
  };
}

/** OUT, or OUTS with REP for several values. */
export function out(port: number, size: number, ...values: readonly number[]): Step {
  return (cpu, vm) => {
    const [first] = values;
    if (values.length === 1 && vm.events.signals('io', port, size, BigInt(first!))) return 'on';
    if (values.length === 1 && vm.wait('io', port, bytesOf(first!, size))) return 'on';
    const run = io(cpu, KVM_EXIT_IO_OUT, port, size, values.length);
    for (const [i, v] of values.entries()) put(run, PIO_DATA + i * size, bytesOf(v, size));
    return 'exit';
  };
}

/** IN, or INS with REP: `count` values, which `answers` has then. */
export function input(port: number, size: number, count = 1): Step {
  return cpu => {
    io(cpu, 0, port, size, count, run => {
      for (let i = 0; i < count; i++) cpu.answers.push(numberOf(taken(run, PIO_DATA + i * size, size)));
    });
    return 'exit';
  };
}

/** Any exit; `fill` writes what comes with it. */
export function exit(reason: number, fill: (run: DataView) => void = () => undefined): Step {
  return cpu => {
    fill(cpu.exit(reason));
    return 'exit';
  };
}

/** @param type KVM_SYSTEM_EVENT_*. */
export function systemEvent(type: number): Step {
  return exit(KVM_EXIT_SYSTEM_EVENT, run => run.setUint32(kvm_run['system_event.type'], type, true));
}

/** The result is in `answers` then. */
export function hypercall(nr: number, ...args: readonly bigint[]): Step {
  return cpu => {
    const run = cpu.exit(KVM_EXIT_HYPERCALL, r => cpu.answers.push(r.getBigUint64(kvm_run['hypercall.ret'], true)));
    run.setBigUint64(kvm_run['hypercall.nr'], BigInt(nr), true);
    for (const [i, a] of args.entries()) run.setBigUint64(kvm_run['hypercall.args'] + 8 * i, a, true);
    return 'exit';
  };
}

export function failEntry(reason: bigint): Step {
  return exit(KVM_EXIT_FAIL_ENTRY, run =>
    run.setBigUint64(kvm_run['fail_entry.hardware_entry_failure_reason'], reason, true),
  );
}

export function internalError(suberror: number, ...data: readonly bigint[]): Step {
  return exit(KVM_EXIT_INTERNAL_ERROR, run => {
    run.setUint32(kvm_run['internal.suberror'], suberror, true);
    run.setUint32(kvm_run['internal.ndata'], data.length, true);
    for (const [i, d] of data.entries()) run.setBigUint64(kvm_run['internal.data'] + 8 * i, d, true);
  });
}

export function nisv(iss: bigint, address: number): Step {
  return exit(KVM_EXIT_ARM_NISV, run => {
    run.setBigUint64(kvm_run['arm_nisv.esr_iss'], iss, true);
    run.setBigUint64(kvm_run['arm_nisv.fault_ipa'], BigInt(address), true);
  });
}

/** KVM_RUN fails with this errno's number. */
export function runFails(errno: number): Step {
  return () => ({ errno });
}

/** The vCPU does not come out any more. */
export function hang(): Step {
  return () => 'stuck';
}

function mmio(cpu: FakeVcpu, address: number, data: Uint8Array, write: boolean): 'exit' {
  const at = kvm_run['mmio.data'];
  const answered = (r: DataView) => void cpu.answers.push(numberOf(taken(r, at, data.length)));
  const run = cpu.exit(KVM_EXIT_MMIO, write ? undefined : answered);
  run.setBigUint64(kvm_run['mmio.phys_addr'], BigInt(address), true);
  run.setUint32(kvm_run['mmio.len'], data.length, true);
  run.setUint8(kvm_run['mmio.is_write'], write ? 1 : 0);
  put(run, at, data);
  return 'exit';
}

function io(
  cpu: FakeVcpu,
  direction: number,
  port: number,
  size: number,
  count: number,
  completion?: (run: DataView) => void,
): DataView {
  const run = cpu.exit(KVM_EXIT_IO, completion);
  run.setUint8(kvm_run['io.direction'], direction);
  run.setUint8(kvm_run['io.size'], size);
  run.setUint16(kvm_run['io.port'], port, true);
  run.setUint32(kvm_run['io.count'], count, true);
  run.setBigUint64(kvm_run['io.data_offset'], BigInt(PIO_DATA), true);
  return run;
}

function put(run: DataView, at: number, bytes: Uint8Array): void {
  new Uint8Array(run.buffer, at).set(bytes);
}

function taken(run: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(run.buffer, at, length);
}

/** `size` bytes, little-endian. */
function bytesOf(value: number | bigint, size: number): Uint8Array {
  const wide = BigInt(value);
  return Uint8Array.from({ length: size }, (_, i) => Number((wide >> BigInt(8 * i)) & 0xffn));
}

function numberOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, b) => (sum << 8n) | BigInt(b), 0n);
}
