import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import type { TaskResult } from './vcpu-tasks.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));

/** Why guests of kvm-guest.ts cannot run here, or undefined. */
export function missingKvm(): string | undefined {
  if (process.arch !== 'x64') return `the guests are x86 programs, this is ${process.arch}`;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (e) {
    return `/dev/kvm: ${(e as NodeJS.ErrnoException).code}`;
  }
}

/** Why C programs cannot be compiled here, or undefined. */
export function missingGcc(): string | undefined {
  return spawnSync('gcc', ['--version']).status === 0 ? undefined : 'gcc is not installed';
}

/** How a child process runs a task. */
export interface TaskOptions {
  readonly options?: object;
  readonly env?: Readonly<Record<string, string>>;
  readonly node?: readonly string[];
  /** Is told when the child has printed a line 'ready'. */
  readonly ready?: (child: ChildProcess) => void;
  /** ms, then the child is killed. */
  readonly limit?: number;
}

/** A temporary folder with what the vCPU tests compile: C programs, and vcpu-tasks.ts for plain Node. */
export class NativeKit implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsvisor-native-'));
  readonly tasks = join(this.folder, 'vcpu-tasks.mjs');

  constructor() {
    buildSync({
      entryPoints: [join(HERE, 'vcpu-tasks.ts')],
      outfile: this.tasks,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      logLevel: 'error',
    });
  }

  /** The shared library of kvm-shim.c, for LD_PRELOAD. */
  shim(): string {
    return this.#compile('kvm-shim.c', 'kvm-shim.so', ['-shared', '-fPIC']);
  }

  /** The program of throw-signals.c. */
  thrower(): string {
    return this.#compile('throw-signals.c', 'throw-signals', []);
  }

  #compile(source: string, name: string, flags: readonly string[]): string {
    const output = join(this.folder, name);
    execFileSync('gcc', ['-O1', '-Wall', '-Wextra', ...flags, '-o', output, join(HERE, source)]);
    return output;
  }

  /** Runs a task of vcpu-tasks.ts in a process. @returns its result, with `status` of its exit. @throws Error when it printed none. */
  async run(addon: string, task: string, o: TaskOptions = {}): Promise<TaskResult> {
    const args = [...(o.node ?? []), this.tasks, addon, task, JSON.stringify(o.options ?? {})];
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...o.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), o.limit ?? 120_000);
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const before = output;
      output += text;
      if (!before.includes('ready\n') && output.includes('ready\n')) o.ready?.(child);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    const [status, signal] = await new Promise<[number | null, string | null]>(resolve => {
      child.once('close', (...end) => resolve(end));
    });
    clearTimeout(timer);
    const line = output.split('\n').findLast(l => l.startsWith('{'));
    if (line === undefined) throw new Error(`${task} ended with ${status ?? signal}:\n${errors.slice(-8000)}`);
    if (errors.includes('Sanitizer')) throw new Error(`${task}:\n${errors.slice(-8000)}`);
    return { ...(JSON.parse(line) as TaskResult), status };
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
