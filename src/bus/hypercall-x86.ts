import type { Hypercall } from './hypercall.ts';

/** Errors of KVM's x86 convention that the dispatch itself gives (Linux, include/uapi/linux/kvm_para.h). */
const KVM_EPERM = -1n;
export const KVM_ENOSYS = -1000n;

/** Registers of a KVM hypercall, in their order: number, and arguments 0 to 3 (Documentation/virt/kvm/x86/hypercalls.rst). */
export type KvmX86Register = 'rax' | 'rbx' | 'rcx' | 'rdx' | 'rsi';

const ARGUMENTS: readonly KvmX86Register[] = ['rbx', 'rcx', 'rdx', 'rsi'];

/** A vCPU at a VMCALL or VMMCALL; both are this call (specification of ptp, EMU-X3). */
export interface KvmX86Caller {
  readonly cpu: number;
  /** 0 to 3. */
  readonly cpl: number;
  /** Whether it is in 64-bit mode: long mode, with a code segment whose L is set. */
  readonly mode64: boolean;
  /** 64 bits, whatever the mode. */
  get(register: KvmX86Register): bigint;
  setRax(value: bigint): void;
}

/**
 * Makes a hypercall of an instruction, and its result RAX, as Linux's kvm_emulate_hypercall() does: outside of 64-bit mode all
 * registers have 32 bits, and the upper half of the result is 0. Only CPL 0 may call, which is looked at before the number is.
 * @param handle answers the call: HypercallBus.handle().
 */
export function kvmX86Hypercall(caller: KvmX86Caller, handle: (call: Hypercall) => void): void {
  const bits = caller.mode64 ? 64 : 32;
  const get = (r: KvmX86Register) => BigInt.asUintN(bits, caller.get(r));
  const result = (value: bigint) => caller.setRax(BigInt.asUintN(bits, value));
  const id = get('rax');
  if (caller.cpl !== 0) result(KVM_EPERM);
  // A number is 64 bits wide, and the bus routes 32 of them; nothing has a larger one.
  else if (id > 0xffff_ffffn) result(KVM_ENOSYS);
  else {
    const arg = (n: number) => (n < ARGUMENTS.length ? get(ARGUMENTS[n]!) : 0n);
    handle({ abi: 'kvm-x86', cpu: caller.cpu, id: Number(id), arg, result: (_, value) => result(value) });
  }
}
