import type { Ask } from '../machine/protocol.ts';
import { VmError } from '../util/errors.ts';

/** A vCPU of a {@link Vm}. */
export class VmVcpu {
  readonly id: number;
  readonly #ask: Ask;

  /** @internal */
  constructor(id: number, ask: Ask) {
    this.id = id;
    this.#ask = ask;
  }

  /**
   * Its registers by the architecture's names in lower case, between two instructions; a VM that runs goes on afterwards. arm64: `x0` to
   * `x30`, `sp_el0`, `sp_el1`, `pc`, `pstate` (as SPSR_EL1 has it), `elr_el1`, `spsr_el1`, and the system registers of EL1 that the
   * translation, exceptions and the virtual timer need, such as `sctlr_el1`, `ttbr0_el1` and `vbar_el1`. KVM has further ones, by their
   * encoding (`S3_0_C0_C0_5`), and on x86-64 the names `rax` to `r15`, `rip`, `rflags`, `cr0` ..., `cs`, `cs.base`, `gdt.limit`.
   * Vector registers are not among them.
   * @throws VmError ERR_STATE when the VM has ended.
   */
  async registers(): Promise<Record<string, bigint>> {
    return await this.#ask({ what: 'registers', vcpu: this.id });
  }

  /**
   * Sets registers by the same names, all of them or none, while the VM is paused or has not been started. A vCPU that waited for an
   * interrupt goes on where it was put. KVM takes one register after the other: of values that it refuses, those before are set.
   * @param values 0 to 2^64 - 1. Bits that a register does not have are ignored, as the guest's own are.
   * @throws VmError ERR_STATE while the VM runs; ERR_USAGE for a name that is none, and a value that the register cannot have.
   */
  async setRegisters(values: Readonly<Record<string, bigint>>): Promise<void> {
    for (const [name, value] of Object.entries(values)) {
      if (typeof value === 'bigint' && value >= 0n && value < 1n << 64n) continue;
      throw new VmError('ERR_USAGE', `register ${name} cannot be ${String(value)}`, {
        hint: 'a value is a bigint from 0 to 2^64 - 1, for example 0x4000_0000n',
        details: { register: name },
      });
    }
    await this.#ask({ what: 'setRegisters', vcpu: this.id, values });
  }
}
