import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { RAM } from '../../src/engines/emu/a64/core/layout.ts';
import { loadKernel } from '../../src/firmware/kernel.ts';
import { findImage } from '../../src/images/cache.ts';
import { median, QEMU_MACHINE, round } from './measure.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const QEMU_KERNEL = fileURLToPath(new URL('../../build/bench/Image', import.meta.url));
const PARAMS = 'console=ttyAMA0 panic=-1';
const MEMORY_MIB = 512;
const PROMPT = '~ # ';
const LIMIT_MS = 180_000;

/** One boot, from the start of the process. */
interface Boot {
  readonly firstLineMs: number;
  readonly promptMs: number;
  /** Peak resident memory of the process, MiB, and what of it is guest RAM (ours only). */
  readonly peakMib: number;
  readonly guestMib?: number;
}

/** The Linux boot on both engines; medians. `slower` is our time to the prompt in parts of QEMU's. */
export interface LinuxResult {
  readonly kernel: string;
  readonly ours: {
    readonly promptMs: number;
    /** With the kernel's early console, which is there before its drivers. */
    readonly firstLineMs: number;
    readonly firstLineDefaultMs: number;
    readonly peakMib: number;
    readonly guestMib: number | undefined;
    readonly overheadMib: number | undefined;
  };
  readonly qemu?: { readonly promptMs: number; readonly firstLineMs: number; readonly peakMib: number };
  readonly slower?: number;
}

/** Paths of the Debian kernel and initrd: $TSVISOR_KERNEL and $TSVISOR_INITRD, or what `tsvisor pull` has fetched. */
export async function findLinux(): Promise<{ kernel: string; initrd: string } | undefined> {
  const { TSVISOR_KERNEL: kernel, TSVISOR_INITRD: initrd } = process.env;
  if (kernel && initrd) return { kernel, initrd };
  return await findImage('debian-arm64');
}

/** Boots to the shell prompt `pairs` times on each engine, in turn. */
export async function compareLinux(
  files: { readonly kernel: string; readonly initrd: string },
  options: { readonly pairs: number; readonly qemu: boolean },
): Promise<LinuxResult> {
  const { image } = loadKernel(readFileSync(files.kernel));
  writeFileSync(QEMU_KERNEL, image);
  const cli = (params: string) => {
    const vm = ['--engine', 'emu', '-m', `${MEMORY_MIB}M`, '-k', files.kernel, '-i', files.initrd, '-p', params];
    return boot(process.execPath, [CLI, 'run', ...vm]);
  };
  const tcg = () => {
    const vm = ['-serial', 'stdio', '-m', `${MEMORY_MIB}`, '-kernel', QEMU_KERNEL, '-initrd', files.initrd];
    return boot('qemu-system-aarch64', [...QEMU_MACHINE, ...vm, '-append', PARAMS]);
  };
  const ours: Boot[] = [];
  const theirs: Boot[] = [];
  for (let n = 0; n < options.pairs; n++) {
    ours.push(await cli(PARAMS));
    if (options.qemu) theirs.push(await tcg());
  }
  const early = await cli(`${PARAMS} earlycon`);
  const of = (boots: readonly Boot[], what: keyof Boot) => round(median(boots.map(b => b[what] ?? Number.NaN)), 1);
  const guest = of(ours, 'guestMib');
  const result: LinuxResult = {
    kernel: /Linux version \S+/.exec(Buffer.from(image).toString('latin1'))?.[0] ?? 'unknown',
    ours: {
      promptMs: of(ours, 'promptMs'),
      firstLineMs: round(early.firstLineMs, 1),
      firstLineDefaultMs: of(ours, 'firstLineMs'),
      peakMib: of(ours, 'peakMib'),
      guestMib: Number.isNaN(guest) ? undefined : guest,
      overheadMib: Number.isNaN(guest) ? undefined : round(of(ours, 'peakMib') - guest, 1),
    },
  };
  if (!options.qemu) return result;
  return {
    ...result,
    qemu: {
      promptMs: of(theirs, 'promptMs'),
      firstLineMs: of(theirs, 'firstLineMs'),
      peakMib: of(theirs, 'peakMib'),
    },
    slower: round(median(ours.map((b, n) => b.promptMs / theirs[n]!.promptMs)), 2),
  };
}

/** Starts a machine, waits for the shell's prompt and ends the process. */
async function boot(command: string, args: readonly string[]): Promise<Boot> {
  const start = performance.now();
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let text = '';
  let errors = '';
  let firstLineMs: number | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${why}\n${errors}${text.slice(-2000)}`));
      const timer = setTimeout(() => fail(`no prompt in ${LIMIT_MS} ms`), LIMIT_MS);
      child.on('error', reject);
      child.on('exit', code => fail(`${command} ended with ${code}`));
      child.stderr.on('data', (b: Buffer) => {
        errors += b.toString('latin1');
      });
      child.stdout.on('data', (b: Buffer) => {
        text += b.toString('latin1');
        if (text.includes('\n')) firstLineMs ??= performance.now() - start;
        if (!text.includes(PROMPT)) return;
        clearTimeout(timer);
        resolve();
      });
    });
    const promptMs = performance.now() - start;
    return { firstLineMs: firstLineMs ?? promptMs, promptMs, ...memoryOf(child) };
  } finally {
    child.removeAllListeners('exit');
    const ended = new Promise(resolve => child.once('close', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}

/** Peak resident memory, and the guest's part of it: the pages that are present where guest RAM is mapped (Linux only). */
function memoryOf(child: ChildProcess): { peakMib: number; guestMib?: number } {
  let status: string;
  try {
    status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  } catch {
    return { peakMib: Number.NaN };
  }
  const peakMib = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  // Behind RAM lies the memory of devices (core-instance.ts).
  const wanted = RAM + (MEMORY_MIB + 192) * 2 ** 20;
  for (const line of readFileSync(`/proc/${child.pid}/maps`, 'utf8').split('\n')) {
    const m = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
    if (m === null) continue;
    const [from, to] = [Number.parseInt(m[1]!, 16), Number.parseInt(m[2]!, 16)];
    // The Wasm memory lies between guard regions, so that the kernel does not merge it with others.
    if (to - from === wanted) return { peakMib, guestMib: presentMib(child.pid!, from + RAM, to) };
  }
  return { peakMib };
}

/** Pages present between two addresses of a process, in MiB: bit 63 of /proc/PID/pagemap. */
function presentMib(pid: number, from: number, to: number): number {
  const pages = (to - from) / 4096;
  const entries = Buffer.alloc(pages * 8);
  const file = openSync(`/proc/${pid}/pagemap`, 'r');
  try {
    readSync(file, entries, 0, entries.length, (from / 4096) * 8);
  } finally {
    closeSync(file);
  }
  let present = 0;
  for (let at = 7; at < entries.length; at += 8) present += entries[at]! >> 7;
  return (present * 4096) / 2 ** 20;
}
