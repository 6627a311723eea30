import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A VM that the command runs, in a process of its own. */
export interface RunningCommand {
  readonly child: ChildProcessWithoutNullStreams;
  /** Its exit code. */
  readonly exit: Promise<number | null>;
  /** Resolves when its console has printed this, since it started; rejects when it ends without. */
  said(text: string): Promise<void>;
}

/** The command in processes of its own, with a folder for a kernel and for its control sockets. */
export class CommandRig implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsvisor-command-'));
  readonly kernel = join(this.folder, 'kernel');
  readonly cli: string;
  readonly #ends: (() => Promise<unknown>)[] = [];

  /** @param kernel its contents. */
  constructor(cli: URL, kernel: string | Uint8Array) {
    this.cli = fileURLToPath(cli);
    writeFileSync(this.kernel, kernel);
  }

  /** For processes that shall find the VMs of this rig, and no others. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, XDG_RUNTIME_DIR: this.folder };
  }

  /** Starts a VM and waits for its prompt. */
  async start(prompt: string, ...args: string[]): Promise<RunningCommand> {
    const child = spawn(process.execPath, [this.cli, 'run', '-k', this.kernel, ...args], { env: this.env });
    const exit = new Promise<number | null>(resolve => child.on('close', resolve));
    this.#ends.push(() => {
      child.kill('SIGKILL');
      return exit;
    });
    let out = '';
    child.stdout.on('data', (b: Buffer) => {
      out += b;
    });
    const said = (text: string) =>
      new Promise<void>((resolve, reject) => {
        const look = () => {
          if (!out.includes(text)) return;
          child.stdout.off('data', look);
          resolve();
        };
        child.stdout.on('data', look);
        child.on('close', () => reject(new Error(`ended: ${out}`)));
        look();
      });
    await said(prompt);
    return { child, exit, said };
  }

  /** Runs a verb to its end. */
  verb(...args: string[]): { readonly code: number | null; readonly out: string; readonly err: string } {
    const r = spawnSync(process.execPath, [this.cli, ...args], { env: this.env, encoding: 'utf8', timeout: 60_000 });
    return { code: r.status, out: r.stdout, err: r.stderr };
  }

  /** Something to do when all ends. */
  onEnd(f: () => unknown): void {
    this.#ends.push(async () => f());
  }

  /** Ends all VMs. */
  async endAll(): Promise<void> {
    for (const end of this.#ends.splice(0)) await end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endAll();
    rmSync(this.folder, { recursive: true });
  }
}
