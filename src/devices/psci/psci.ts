import { type Hypercall, type HypercallService, NOT_SUPPORTED, smcccArg, smcccReturn } from '../../bus/hypercall.ts';
import type { Gpa } from '../../memory/types.ts';
import * as F from './functions.ts';

/** What PSCI asks of the machine. vCPUs are named by their index in `cpus`. */
export interface PowerController {
  /** MPIDR_EL1's affinity fields of each vCPU: Aff3 in bits 39:32, Aff2..Aff0 in bits 23:0. */
  readonly cpus: readonly { readonly mpidr: bigint }[];
  state(cpu: number): 'on' | 'off';
  /** Powers a vCPU on at `pc` with X0 = `x0`, MMU off, interrupts masked (DEN0022 section 6.4). */
  start(cpu: number, pc: Gpa, x0: bigint): 'ok' | 'already-on';
  /** Powers the calling vCPU off: its hypercall never returns. */
  stop(cpu: number): void;
  /** Lets the calling vCPU wait for an interrupt as WFI does; its hypercall then returns. */
  suspend(cpu: number): void;
  /** Ends or restarts the machine. `cause` is for people. */
  system(event: 'shutdown' | 'reset', cause: string): void;
}

/**
 * The Power State Coordination Interface 1.1 (DEN0022D) for 64-bit guests, with the set of functions and the answers of
 * KVM. There is no trusted OS, no SYSTEM_SUSPEND, and every power state of CPU_SUSPEND is a standby state.
 */
export function createPsci(power: PowerController): HypercallService {
  return {
    name: 'psci',
    // The blocks of function numbers that DEN0028 reserves for PSCI.
    ids: [
      { first: 0x8400_0000, last: 0x8400_001f },
      { first: 0xc400_0000, last: 0xc400_001f },
    ],
    handle(call) {
      // Results first: what follows may stop the vCPU or reset the machine, and with it these registers.
      const x0 = answer(power, call);
      smcccReturn(call, x0);
      act(power, call, x0);
    },
  };
}

/** X0 of a call. Calls that do not return get the error that a guest sees which runs on all the same. */
function answer(power: PowerController, call: Hypercall): bigint {
  switch (call.id >>> 0) {
    case F.PSCI_VERSION:
      return 0x1_0001n;
    case F.CPU_SUSPEND:
    case F.CPU_SUSPEND_64:
      return F.SUCCESS;
    case F.CPU_OFF:
      return F.DENIED;
    case F.CPU_ON:
    case F.CPU_ON_64:
      return cpuOn(power, smcccArg(call, 1), smcccArg(call, 2), smcccArg(call, 3));
    case F.AFFINITY_INFO:
    case F.AFFINITY_INFO_64:
      return affinityInfo(power, smcccArg(call, 1), smcccArg(call, 2));
    case F.MIGRATE_INFO_TYPE:
      return 2n; // no trusted OS that would have to migrate
    case F.SYSTEM_OFF:
    case F.SYSTEM_RESET:
      return F.INTERNAL_FAILURE;
    case F.SYSTEM_RESET2:
    case F.SYSTEM_RESET2_64: {
      // Architectural types end at SYSTEM_WARM_RESET (0), vendor types have bit 31; the latter reset like the former.
      const type = BigInt.asUintN(32, call.arg(1));
      return type === 0n || type >= 0x8000_0000n ? F.INTERNAL_FAILURE : F.INVALID_PARAMETERS;
    }
    case F.PSCI_FEATURES:
      // No flags: CPU_SUSPEND takes the original power_state format, and only platform-coordinated mode.
      return IMPLEMENTED.has(Number(BigInt.asUintN(32, call.arg(1)))) ? F.SUCCESS : NOT_SUPPORTED;
    default:
      return NOT_SUPPORTED;
  }
}

/** What a call does to its caller or the machine, after its results are in place. */
function act(power: PowerController, call: Hypercall, x0: bigint): void {
  switch (call.id >>> 0) {
    case F.CPU_SUSPEND:
    case F.CPU_SUSPEND_64:
      power.suspend(call.cpu);
      break;
    case F.CPU_OFF:
      power.stop(call.cpu);
      break;
    case F.SYSTEM_OFF:
      power.system('shutdown', 'PSCI SYSTEM_OFF');
      break;
    case F.SYSTEM_RESET:
      power.system('reset', 'PSCI SYSTEM_RESET');
      break;
    case F.SYSTEM_RESET2:
    case F.SYSTEM_RESET2_64:
      if (x0 === F.INTERNAL_FAILURE) power.system('reset', 'PSCI SYSTEM_RESET2');
      break;
  }
}

/** What PSCI_FEATURES knows; SMCCC_VERSION is there so that guests find SMCCC 1.1 (DEN0028 appendix B). */
const IMPLEMENTED: ReadonlySet<number> = new Set([
  F.PSCI_VERSION,
  F.CPU_SUSPEND,
  F.CPU_SUSPEND_64,
  F.CPU_OFF,
  F.CPU_ON,
  F.CPU_ON_64,
  F.AFFINITY_INFO,
  F.AFFINITY_INFO_64,
  F.MIGRATE_INFO_TYPE,
  F.SYSTEM_OFF,
  F.SYSTEM_RESET,
  F.SYSTEM_RESET2,
  F.SYSTEM_RESET2_64,
  F.PSCI_FEATURES,
  F.SMCCC_VERSION,
]);

function cpuOn(power: PowerController, target: bigint, entry: bigint, context: bigint): bigint {
  const cpu = power.cpus.findIndex(c => c.mpidr === target);
  if (cpu < 0) return F.INVALID_PARAMETERS;
  if (power.state(cpu) === 'on') return F.ALREADY_ON;
  // 52 bits are all that a physical address can have.
  if (entry >> 52n) return F.INVALID_ADDRESS;
  return power.start(cpu, Number(entry), context) === 'ok' ? F.SUCCESS : F.ALREADY_ON;
}

/** The affinity fields that name a node of each level: a node of level 1 is all vCPUs with its Aff3, Aff2 and Aff1. */
const AFFINITY_MASK = [0xff_00ff_ffffn, 0xff_00ff_ff00n, 0xff_00ff_0000n, 0xff_0000_0000n];

function affinityInfo(power: PowerController, target: bigint, level: bigint): bigint {
  const mask = level < 4n ? AFFINITY_MASK[Number(level)]! : 0n;
  if (mask === 0n) return F.INVALID_PARAMETERS;
  const states = power.cpus.flatMap((c, i) => ((c.mpidr & mask) === (target & mask) ? [power.state(i)] : []));
  if (states.length === 0) return F.INVALID_PARAMETERS;
  return states.includes('on') ? F.AFFINITY_ON : F.AFFINITY_OFF;
}
