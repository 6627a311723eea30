import { VmError } from '../../util/errors.ts';

/** A vCPU that does not come out of the guest this long after it was asked to is not going to, ms. */
export const STUCK_MS = 5000;

/** The error for such a vCPU. */
export function vcpuStuck(cpu: number): VmError {
  return new VmError('ERR_VCPU_STUCK', `vCPU ${cpu} did not come out of KVM within ${STUCK_MS} ms`, {
    hint: "the host's KVM does not answer: see its kernel log, and use --engine emu here",
    details: { cpu, limitMs: STUCK_MS },
  });
}
