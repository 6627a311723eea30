/** Messages between a Vm (the user's thread) and its machine Worker. */

import type { MessagePort } from 'node:worker_threads';
import type { PciFunctionInfo } from '../pci/report.ts';
import { type ErrorCode, VmError } from '../util/errors.ts';
import type {
  BalloonStatistics,
  ClockSample,
  DeviceConfig,
  ExitReason,
  ForkAnswer,
  ForkCall,
  ForkedMachine,
  MachineConfig,
  MachineInfo,
  MachineReport,
  MachineState,
  MachineStats,
  MemoryMap,
  PinReport,
  RamRegion,
} from './machine.ts';

/** What the Worker is started with (`workerData`). */
export interface WorkerStart {
  /** Shared; the Vm adds 1 to element 0 and notifies after every message, which ends a short sleep of the Worker. */
  readonly wake: Int32Array;
  /** URL of the module that exports createMachine(); undefined: the real one. */
  readonly createModule?: string;
  /** KVM was asked for: getting the emulator ready would be for nothing. */
  readonly onKvm?: true;
}

/** Vm to Worker. */
export type ToWorker =
  /** Comes first, once: the Worker starts up while the files are still being read. */
  | { readonly type: 'create'; readonly config: MachineConfig }
  | { readonly type: 'start' }
  | { readonly type: 'input'; readonly bytes: Uint8Array }
  /** Console output that has been consumed; see {@link CONSOLE_WINDOW}. */
  | { readonly type: 'consumed'; readonly bytes: number }
  | { readonly type: 'stop' }
  | { readonly type: 'reset' }
  | { readonly type: 'ask'; readonly id: number; readonly question: Question };

/** What a Vm may ask of its machine; the answers are {@link Answers}. */
export type Question =
  | { readonly what: 'info' | 'clock' | 'memoryHash' | 'pci' | 'pins' | 'memoryMap' | 'balloon' | 'hotplugged' }
  | { readonly what: 'pause' | 'resume' | 'stats' }
  | { readonly what: 'registers'; readonly vcpu: number }
  | { readonly what: 'setRegisters'; readonly vcpu: number; readonly values: Readonly<Record<string, bigint>> }
  | { readonly what: 'plug'; readonly device: DeviceConfig }
  | { readonly what: 'forkMemory'; readonly limitMs: number }
  | { readonly what: 'forkMachine'; readonly copies: ReadonlyMap<string, string>; readonly limitMs: number }
  | { readonly what: 'ram' }
  | { readonly what: 'restore'; readonly state: MachineState }
  | { readonly what: 'writeBackMemory'; readonly path: string }
  | { readonly what: 'flushMemory'; readonly file: number; readonly limitMs: number }
  | { readonly what: 'closeMemory'; readonly file: number }
  | { readonly what: 'forked'; readonly fork: number; readonly call: ForkCall }
  | { readonly what: 'unplug'; readonly name: string }
  // The ports of these are to be transferred.
  | { readonly what: 'vsockConnect'; readonly port: number; readonly stream: MessagePort }
  | { readonly what: 'vsockListen'; readonly port: number; readonly control: MessagePort }
  | { readonly what: 'channel'; readonly name: string; readonly stream: MessagePort }
  | { readonly what: 'setBalloon' | 'requestHotplug'; readonly bytes: number }
  | { readonly what: 'balloonStatistics'; readonly limitMs: number };

/** The answer to each {@link Question}. */
export interface Answers {
  readonly info: MachineInfo;
  readonly clock: ClockSample;
  readonly memoryHash: string;
  readonly pause: undefined;
  readonly resume: undefined;
  readonly stats: MachineStats;
  readonly registers: Record<string, bigint>;
  readonly setRegisters: undefined;
  readonly pci: readonly PciFunctionInfo[];
  readonly pins: PinReport;
  readonly memoryMap: MemoryMap;
  readonly forkMemory: number;
  readonly forkMachine: ForkedMachine;
  readonly ram: readonly RamRegion[];
  readonly restore: undefined;
  readonly writeBackMemory: number;
  readonly flushMemory: number;
  readonly closeMemory: undefined;
  readonly forked: ForkAnswer;
  readonly plug: undefined;
  readonly unplug: undefined;
  readonly vsockConnect: undefined;
  readonly vsockListen: undefined;
  readonly channel: undefined;
  readonly balloon: number;
  readonly setBalloon: undefined;
  readonly hotplugged: number;
  readonly requestHotplug: undefined;
  readonly balloonStatistics: BalloonStatistics;
}

/** Asks the machine; rejects with its VmError, and with ERR_STATE when the VM ends. @throws VmError ERR_STATE after that. */
export type Ask = <Q extends Question>(question: Q, transfer?: readonly MessagePort[]) => Promise<Answers[Q['what']]>;

/** Worker to Vm. */
export type FromWorker =
  | { readonly type: 'ready'; readonly info: MachineInfo; readonly kickWord: Int32Array | undefined }
  /** An eventfd that says that this Worker hangs; the Vm's from here on. The one before, if any, says nothing any more. */
  | { readonly type: 'watchdog'; readonly fd: number }
  | { readonly type: 'failed'; readonly error: PlainError }
  | { readonly type: 'console'; readonly bytes: Uint8Array }
  /** All bytes of one 'input' message have gone into the guest. */
  | { readonly type: 'inputTaken' }
  | { readonly type: 'log'; readonly line: string }
  | { readonly type: 'trace'; readonly lines: readonly string[] }
  | { readonly type: 'report'; readonly event: MachineReport }
  | { readonly type: 'answer'; readonly id: number; readonly value: Answers[keyof Answers] }
  | { readonly type: 'refused'; readonly id: number; readonly error: PlainError }
  | {
      readonly type: 'exit';
      readonly reason: ExitReason;
      readonly detail: string | undefined;
      readonly error: PlainError | undefined;
      readonly info: MachineInfo | undefined;
      /** Only of a deterministic run (`clock: 'virtual'`). */
      readonly memoryHash: string | undefined;
    };

/** Bytes of console output that may be on their way to a reader before the guest is held back. */
export const CONSOLE_WINDOW = 256 * 1024;

/** An error as data: structured cloning would lose the class and our fields. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  readonly stack: string | undefined;
}

/** Any thrown value as a {@link PlainError}; what is no VmError is a fault of ours. */
export function toPlainError(e: unknown): PlainError {
  if (e instanceof VmError) {
    return { code: e.code, message: e.message, hint: e.hint, details: e.details, stack: e.stack };
  }
  const message = e instanceof Error ? e.message : String(e);
  return {
    code: 'ERR_INTERNAL',
    message: `the machine failed: ${message}`,
    hint: 'this is a defect of tsvisor: please report it with the stack and the command that led to it',
    details: {},
    stack: e instanceof Error ? e.stack : undefined,
  };
}

/** The VmError that {@link toPlainError} flattened, with the stack of the thread that threw it. */
export function fromPlainError(p: PlainError): VmError {
  const e = new VmError(p.code, p.message, {
    ...(p.hint === undefined ? {} : { hint: p.hint }),
    details: p.details,
  });
  if (p.stack !== undefined) e.stack = p.stack;
  return e;
}
