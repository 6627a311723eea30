import { readFileSync } from 'node:fs';
import { VmError } from '../../../util/errors.ts';
import { PAGE_MAP_SIZE, RAM, REGION_COUNT, REGION_SIZE, REGIONS } from './core/layout.ts';

/**
 * Memory of devices that guests may reach directly, behind RAM: two banks of flash, and as much again for one of them. Costs
 * nothing until it is touched.
 */
const DEVICE_MEMORY = 192 * 2 ** 20;

/**
 * Largest guest RAM of the emulated engine in bytes: what a Wasm memory leaves beside the engine's own state. One Wasm page
 * less than 4 GiB: Node 20 cannot hand a SharedArrayBuffer of exactly 2^32 bytes to another thread.
 */
export const MAX_RAM = Math.min(2 ** 32 - 65536 - RAM, (PAGE_MAP_SIZE / 4) * 4096);

/** What the core asks of its host; core/host.ts says what each call means. */
export interface CoreImports {
  counter(): number;
  iccRead(cpu: number, key: number): number;
  iccWrite(cpu: number, key: number): number;
  setTimerLines(cpu: number, bits: number): void;
  setPmuLine(cpu: number, level: number): void;
  mmioRead(cpu: number, paHi: number, paLo: number, size: number): number;
  mmioWrite(cpu: number, paHi: number, paLo: number, size: number): number;
  hypercall(cpu: number, imm: number): void;
  firstWrite(page: number): void;
  trace(cpu: number, kind: number, a: number, b: number): void;
}

/** What the core exports; see core/cpu.ts. */
export interface CoreExports {
  initialize(cpus: number): void;
  switchTo(cpu: number): void;
  powerOn(pc: bigint, x0: bigint): void;
  restored(): void;
  run(budget: number): number;
  stepInstruction(): void;
  timerUpdate(): number;
  timerDeadline(): bigint;
  readCounter(): bigint;
  getNZCV(): number;
  setNZCV(nzcv: number): void;
  updateFp(): void;
  selectTables(): void;
  asidChanged(): void;
  tlbiAll(all: boolean): void;
  regionsChanged(): void;
  withholdWrites(): void;
  flushDecoded(): void;
}

/** An instance of the A64 core with its memory: the engine's state below RAM, guest RAM from there. */
export interface Core {
  readonly memory: WebAssembly.Memory;
  /** The state area; offsets are those of core/layout.ts. */
  readonly view: DataView;
  /** From the first byte of RAM to the last. */
  readonly ram: Uint8Array;
  /** For the memory of devices; less than DEVICE_MEMORY, or nothing, where RAM takes the room. */
  readonly deviceMemory: Uint8Array;
  readonly exports: CoreExports;
}

let compiled: WebAssembly.Module | undefined;

/** The core's module, compiled once in each thread. */
function coreModule(): WebAssembly.Module {
  if (compiled === undefined) {
    const file = new URL('../../../../dist/a64.wasm', import.meta.url);
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(file);
    } catch (cause) {
      throw new VmError('ERR_ENGINE_UNAVAILABLE', 'the emulator core dist/a64.wasm is missing', {
        hint: 'Run `npm run build` in the package.',
        cause,
      });
    }
    compiled = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  }
  return compiled;
}

/**
 * Makes a core with `ramBytes` of guest RAM (a multiple of 64 KiB) at guest-physical `ramBase`. `hotplug` is more of it, behind
 * that; what is between the two takes up room in the core's memory, but is no memory to guests.
 * @throws VmError ERR_MEMORY_TOO_LARGE beyond {@link MAX_RAM} or when the host cannot reserve it.
 */
export function createCore(options: {
  readonly ramBytes: number;
  readonly ramBase: number;
  readonly hotplug?: { readonly base: number; readonly size: number } | undefined;
  readonly imports: CoreImports;
}): Core {
  const { ramBytes, ramBase, hotplug, imports } = options;
  const regions = [{ base: ramBase, size: ramBytes }, ...(hotplug === undefined ? [] : [hotplug])];
  const all = regions.at(-1)!.base + regions.at(-1)!.size - ramBase;
  const hint = `Use at most ${Math.floor(MAX_RAM / 2 ** 20)}M with the emulated engine.`;
  if (all > MAX_RAM) throw new VmError('ERR_MEMORY_TOO_LARGE', `${all} bytes of RAM are too many`, { hint });
  const end = RAM + all;
  // The page map reaches as far as RAM may, and decodes code in the memory of devices, too.
  const deviceBytes = Math.min(DEVICE_MEMORY, RAM + MAX_RAM - end) & ~0xffff;
  const pages = Math.ceil((end + deviceBytes) / 65536);
  let memory: WebAssembly.Memory;
  try {
    memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new VmError('ERR_MEMORY_TOO_LARGE', `the host cannot reserve ${all} bytes for the guest`, {
      hint,
      cause,
    });
  }
  const abort = () => {
    throw new VmError('ERR_INTERNAL', 'the A64 core aborted');
  };
  const instance = new WebAssembly.Instance(coreModule(), { env: { memory, abort, ...imports } });
  const view = new DataView(memory.buffer, 0, RAM);
  view.setUint32(REGION_COUNT, regions.length, true);
  for (const [i, { base, size }] of regions.entries()) {
    const at = REGIONS + i * REGION_SIZE;
    view.setBigUint64(at, BigInt(base), true);
    view.setBigUint64(at + 8, BigInt(size), true);
    view.setUint32(at + 16, RAM + base - ramBase, true);
    view.setUint32(at + 20, 0, true);
  }
  return {
    memory,
    view,
    ram: new Uint8Array(memory.buffer, RAM, all),
    deviceMemory: new Uint8Array(memory.buffer, Math.ceil(end / 65536) * 65536, deviceBytes),
    exports: instance.exports as unknown as CoreExports,
  };
}

/**
 * Runs an empty loop for a moment, so that V8 starts to optimise the interpreter in the background while the guest's files
 * are still being read.
 */
export function warmUpCore(): void {
  const nothing = () => 0;
  const { exports, ram } = createCore({
    ramBytes: 65536,
    ramBase: 0,
    imports: {
      counter: nothing,
      iccRead: nothing,
      iccWrite: nothing,
      setTimerLines: nothing,
      setPmuLine: nothing,
      mmioRead: nothing,
      mmioWrite: nothing,
      hypercall: nothing,
      firstWrite: nothing,
      trace: nothing,
    },
  });
  // A64 "b .", fetched from address 0 with the MMU off.
  ram.set([0, 0, 0, 0x14]);
  exports.initialize(1);
  exports.powerOn(0n, 0n);
  exports.run(20_000);
}
