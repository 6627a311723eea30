import { KVM_GET_MP_STATE, KVM_SET_MP_STATE, kvm_run } from '../../../src/engines/kvm/abi/common.generated.ts';
import type { FakeDirtyRing } from './dirty-ring.ts';
import type { Argument, FakeFile, Ioctls } from './files.ts';
import type { Step } from './steps.ts';

/** What the vCPUs of both architectures have. */
export abstract class FakeVcpu implements FakeFile {
  readonly id: number;
  readonly name: string;
  abstract readonly ioctls: Ioctls;
  /** KVM_MP_STATE_*. */
  mpState = 0;
  /** What KVM_RUN meets, one step after the other; with none left it runs on and has no exit. */
  readonly script: Step[] = [];
  /** What came back for the reads of MMIO and ports, oldest first. */
  readonly answers: bigint[] = [];
  /** kvm_run, once a runner has it. */
  run: DataView | undefined;
  /** Where the VM has them. */
  ring: FakeDirtyRing | undefined;
  /** What the kernel does with the answer to the last exit, when it comes in. */
  completion: ((run: DataView) => void) | undefined;
  /** It does not come out of KVM_RUN any more. */
  stuck = false;

  constructor(id: number) {
    this.id = id;
    this.name = `vcpu ${id}`;
  }

  /** Takes the answer to the last exit in. */
  complete(): void {
    const { completion } = this;
    this.completion = undefined;
    completion?.(this.run!);
  }

  /** Leaves the guest with an exit; `completion` looks at the answer. */
  exit(reason: number, completion?: (run: DataView) => void): DataView {
    const run = this.run!;
    // The union holds nothing that the last exit left.
    new Uint8Array(run.buffer, 32, 256).fill(0);
    run.setUint32(kvm_run.exit_reason, reason, true);
    this.completion = completion;
    return run;
  }

  protected mpStateIoctls(): [number, readonly [string, (a: Argument) => undefined]][] {
    return [
      [KVM_GET_MP_STATE, ['KVM_GET_MP_STATE', a => void a.view.setUint32(0, this.mpState, true)]],
      [
        KVM_SET_MP_STATE,
        [
          'KVM_SET_MP_STATE',
          a => {
            this.mpState = a.view.getUint32(0, true);
            return undefined;
          },
        ],
      ],
    ];
  }
}
