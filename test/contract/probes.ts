import { guest as arm64 } from './arm64-source.ts';
import type { ContractCase, Need } from './contract.ts';
import { ARM } from './places.ts';
import { guest as x86 } from './x86-source.ts';

/** For each need a guest that shows whether a host can do it, and why one may not. */
export const PROBES: Readonly<Record<Need, ContractCase & { readonly reason: string }>> = {
  'long mode': {
    title: 'probe of long mode',
    reason: 'its KVM runs no guest in long mode',
    arch: 'x86_64',
    mode: 'long',
    code: x86('mov r9, rsi'),
    trace: [],
  },
  // A KVM that interprets guests may have no more of protected mode than what a boot loader takes.
  'IRET in protected mode': {
    title: 'probe of IRET',
    reason: 'its KVM cannot execute IRET in protected mode',
    arch: 'x86_64',
    mode: 'protected',
    code: x86(`
        pushfd
        push    cs
        call    1f
        jmp     2f
1:      iretd
2:`),
    trace: [],
  },
  // An engine gives KVM the bytes. The kernel extends them by ESR_EL2.ISS.SSE (Arm ARM D17.2.37), and Linux 6.1, for one, cuts off
  // again what it has added: kvm_handle_mmio_return() of arch/arm64/kvm/mmio.c and vcpu_data_host_to_guest().
  'sign-extending loads of devices': {
    title: 'probe of sign extension',
    reason: 'its kernel loses the sign of what a device gives (vcpu_data_host_to_guest)',
    arch: 'aarch64',
    reads: { [ARM.device]: 0x80 },
    code: arm64('ldrsb x0, [x28]'),
    trace: ['cpu 0: read1 0xa000000 -> 0x80'],
    registers: { x0: 0xffff_ffff_ffff_ff80n },
  },
};
