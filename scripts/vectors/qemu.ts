/** Builds the runner with the cross compiler and talks to it inside qemu-user. */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { decodeOutput, encodeInput, INPUT_SIZE, type Input, outputLength, type Result } from './record.ts';

let built: string | undefined;

/** Compiles runner.c into a temporary folder (once) and returns the program's path. */
function build(): string {
  if (built !== undefined) return built;
  const folder = mkdtempSync(join(tmpdir(), 'a64-runner-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, 'runner');
  const source = fileURLToPath(new URL('runner.c', import.meta.url));
  // Linked far from every address that small or round register values can form.
  const flags = ['-O1', '-static', '-no-pie', '-Wall', '-Wl,-Ttext-segment=0x5a5a5a0000'];
  const r = spawnSync('aarch64-linux-gnu-gcc', [...flags, source, '-o', program], { stdio: 'inherit' });
  if (r.status !== 0) throw new Error('aarch64-linux-gnu-gcc could not build runner.c');
  built = program;
  return program;
}

/** Whether the cross compiler and qemu-user are installed. */
export function qemuAvailable(): boolean {
  return ['aarch64-linux-gnu-gcc', 'qemu-aarch64'].every(p => spawnSync(p, ['--version']).status === 0);
}

/** A runner process. Records may be queued at any time; answers come in order. */
export class QemuRunner {
  readonly cpu: string;
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly waiting: { count: number; results: Result[]; resolve(r: Result[]): void; reject(e: Error): void }[] =
    [];
  private chunks: Buffer[] = [];
  private size = 0;
  private wanted = 1;
  private failure: Error | undefined;

  /** @param cpu - QEMU's name of the CPU model, such as `cortex-a57` */
  constructor(cpu: string) {
    this.cpu = cpu;
    this.child = spawn('qemu-aarch64', ['-cpu', cpu, build()], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdout.on('data', (chunk: Buffer) => this.receive(chunk));
    this.child.stdin.on('error', () => {});
    this.child.on('close', (code, signal) => this.fail(new Error(`qemu-aarch64 ended (${code ?? signal})`)));
    this.child.on('error', e => this.fail(e));
  }

  /** Runs the inputs one after the other. Throws if QEMU ends early. */
  async run(inputs: readonly Input[]): Promise<Result[]> {
    const all: Result[] = [];
    // Small enough for the answers to be collected while QEMU works on the next batch.
    for (let i = 0; i < inputs.length; i += 256) all.push(...(await this.batch(inputs.slice(i, i + 256))));
    return all;
  }

  /** Ends the process. */
  stop(): void {
    this.child.stdin.end();
  }

  private batch(inputs: readonly Input[]): Promise<Result[]> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const buffer = new ArrayBuffer(inputs.length * INPUT_SIZE);
    const view = new DataView(buffer);
    for (const [i, input] of inputs.entries()) encodeInput(input, view, i * INPUT_SIZE);
    return new Promise((resolve, reject) => {
      this.waiting.push({ count: inputs.length, results: [], resolve, reject });
      this.child.stdin.write(new Uint8Array(buffer));
    });
  }

  private receive(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.size += chunk.length;
    if (this.size < this.wanted) return;
    const all = this.chunks.length === 1 ? chunk : Buffer.concat(this.chunks);
    const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
    let at = 0;
    for (;;) {
      const length = outputLength(view, at);
      if (length === 0 || at + length > all.length) {
        this.wanted = Math.max(1, length);
        break;
      }
      const first = this.waiting[0]!;
      first.results.push(decodeOutput(view, at));
      at += length;
      if (first.results.length === first.count) {
        this.waiting.shift();
        first.resolve(first.results);
      }
    }
    const rest = Buffer.from(all.subarray(at));
    this.chunks = rest.length > 0 ? [rest] : [];
    this.size = rest.length;
  }

  private fail(error: Error): void {
    this.failure ??= error;
    for (const w of this.waiting.splice(0)) w.reject(this.failure);
  }
}
