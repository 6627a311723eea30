import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { concatBytes, createCpio, S_IFREG } from '../../src/firmware/cpio.ts';
import { loadKernel } from '../../src/firmware/kernel.ts';
import { median, QEMU_MACHINE, round } from './measure.ts';
import { BUILD, GCC } from './programs.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SOURCE = fileURLToPath(new URL('./guest/io.c', import.meta.url));
const DISK_BYTES = 256 * 2 ** 20;
const MEMORY_MIB = 512;
const LIMIT_MS = 180_000;

/** What the guest measures (guest/io.c), and the least that issue 3 asks for: a part of QEMU's figure, or a figure. */
export const IO_MEASURES = [
  { name: 'read-128k', group: 'disk', unit: 'MB/s', askedRatio: 0.5 },
  { name: 'read-1m', group: 'disk', unit: 'MB/s', askedRatio: 0.5 },
  { name: 'random-4k', group: 'disk', unit: 'IOPS', askedRatio: 1 },
  { name: 'random-4k-by-4', group: 'disk', unit: 'IOPS', askedRatio: 1 },
  { name: 'send', group: 'net', unit: 'Mbit/s', asked: 200 },
  { name: 'receive', group: 'net', unit: 'Mbit/s' },
] as const satisfies readonly {
  readonly name: string;
  readonly group: IoGroup;
  readonly unit: string;
  readonly askedRatio?: number;
  readonly asked?: number;
}[];

/** A part of the benchmark that `--only` names. */
export type IoGroup = 'disk' | 'net';

/** One figure of both; medians. `ratio` is ours in parts of QEMU's: the median over pairs of runs. */
export interface IoResult {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly qemu?: number;
  readonly ratio?: number;
  readonly askedRatio: number | undefined;
  readonly asked: number | undefined;
}

/** What the guest printed in one run, by name. */
type Figures = ReadonlyMap<string, number>;

/**
 * Boots Debian's kernel with a disk and a user-mode network `pairs` times on each engine, in turn, and lets guest/io.c
 * measure for `seconds` each.
 */
export async function compareIo(
  files: { readonly kernel: string; readonly initrd: string },
  groups: readonly IoGroup[],
  options: { readonly pairs: number; readonly qemu: boolean; readonly seconds: number },
): Promise<IoResult[]> {
  const guest = prepare(files);
  const host = await startHost();
  const { port } = host.address() as { port: number };
  const disk = groups.includes('disk');
  const net = groups.includes('net');
  const measures = IO_MEASURES.filter(m => groups.includes(m.group));
  const program = `/io ${options.seconds} ${port} ${measures.map(m => m.name).join(' ')}`;
  const params = `console=ttyAMA0 panic=-1 quiet tsvisor.exec="${program}"`;
  const ours = () => {
    const vm = ['--engine', 'emu', '-m', `${MEMORY_MIB}M`, '-k', files.kernel, '-i', guest.initrd, '-p', params];
    const devices = [...(disk ? ['-d', guest.disk] : []), ...(net ? ['-n', 'user'] : [])];
    return run(process.execPath, [CLI, 'run', ...vm, ...devices]);
  };
  const theirs = () => {
    const vm = ['-serial', 'stdio', '-m', `${MEMORY_MIB}`, '-kernel', guest.image, '-initrd', guest.initrd];
    const drive = ['-drive', `if=none,format=raw,file=${guest.disk},id=d`, '-device', 'virtio-blk-pci,drive=d'];
    const card = ['-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n'];
    const devices = [...(disk ? drive : []), ...(net ? card : [])];
    return run('qemu-system-aarch64', [...QEMU_MACHINE, ...vm, ...devices, '-append', params]);
  };
  try {
    const pairs: { ours: Figures; qemu: Figures | undefined }[] = [];
    for (let n = 0; n < options.pairs; n++) {
      pairs.push({ ours: await ours(), qemu: options.qemu ? await theirs() : undefined });
    }
    return measures.map(m => summary(m, pairs));
  } finally {
    host.close();
  }
}

function summary(
  measure: (typeof IO_MEASURES)[number],
  pairs: readonly { readonly ours: Figures; readonly qemu: Figures | undefined }[],
): IoResult {
  const { name, unit } = measure;
  const figures = (side: 'ours' | 'qemu') =>
    pairs.flatMap(p => {
      const figure = p[side]?.get(name);
      return figure === undefined ? [] : [figure];
    });
  const ours = figures('ours');
  const qemu = figures('qemu');
  const result: IoResult = {
    name,
    unit,
    ours: round(median(ours), 0),
    askedRatio: 'askedRatio' in measure ? measure.askedRatio : undefined,
    asked: 'asked' in measure ? measure.asked : undefined,
  };
  if (qemu.length === 0) return result;
  return { ...result, qemu: round(median(qemu), 0), ratio: round(median(ours.map((o, n) => o / qemu[n]!)), 2) };
}

/** Builds the guest's program into an initrd, the kernel for QEMU and the disk image, all in build/bench. */
function prepare(files: { readonly kernel: string; readonly initrd: string }): {
  readonly image: string;
  readonly initrd: string;
  readonly disk: string;
} {
  mkdirSync(BUILD, { recursive: true });
  const path = (name: string) => join(BUILD, name);
  const compiled = spawnSync(GCC, ['-O2', '-static', '-Wall', '-o', path('io'), SOURCE], { encoding: 'utf8' });
  if (compiled.status !== 0) throw new Error(`${GCC} failed:\n${compiled.stderr}`);
  const program = createCpio([{ path: 'io', mode: S_IFREG | 0o755, data: readFileSync(path('io')) }]);
  const initrd = readFileSync(files.initrd);
  // The kernel looks for the next archive at a multiple of 4 bytes.
  const padding = new Uint8Array(-initrd.length & 3);
  writeFileSync(path('io.initrd'), concatBytes([initrd, padding, program]));
  writeFileSync(path('Image'), loadKernel(readFileSync(files.kernel)).image);
  if (statSync(path('io.img'), { throwIfNoEntry: false })?.size !== DISK_BYTES) writeDisk(path('io.img'));
  // Both emulators find it in the host's page cache.
  readFileSync(path('io.img'));
  return { image: path('Image'), initrd: path('io.initrd'), disk: path('io.img') };
}

/** A disk without holes, so that every read costs the host what a read of data costs. */
function writeDisk(path: string): void {
  const bytes = new Uint32Array(DISK_BYTES / 4);
  let x = 2463534242;
  for (let n = 0; n < bytes.length; n++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes[n] = x;
  }
  writeFileSync(path, bytes);
}

/** The host's end of the streams: counts what comes and says how much it was, or sends for as long as somebody reads. */
async function startHost(): Promise<Server> {
  const chunk = Buffer.alloc(64 * 1024, 0x5a);
  const flood = (socket: Socket) => {
    while (!socket.destroyed && socket.write(chunk)) {
      // Until the socket is full; 'drain' goes on.
    }
  };
  const server = createServer({ allowHalfOpen: true }, socket => {
    let bytes = 0;
    socket.on('data', data => {
      if (bytes === 0 && data[0] === 'r'.charCodeAt(0)) {
        socket.on('drain', () => flood(socket));
        flood(socket);
      }
      bytes += data.length;
    });
    socket.on('end', () => socket.end(String(bytes)));
    // The guest ends a stream that it has enough of.
    socket.on('error', () => undefined);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** Runs a machine to its end and reads what guest/io.c printed. */
async function run(command: string, args: readonly string[]): Promise<Figures> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  let text = '';
  let errors = '';
  child.stdout.on('data', (b: Buffer) => {
    text += b.toString('latin1');
  });
  child.stderr.on('data', (b: Buffer) => {
    errors += b.toString('latin1');
  });
  await new Promise<void>((resolve, reject) => child.on('error', reject).on('close', () => resolve()));
  clearTimeout(timer);
  if (!/^io done\r?$/m.test(text))
    throw new Error(`${command}: the guest did not finish\n${errors}${text.slice(-2000)}`);
  return new Map([...text.matchAll(/^io (\S+) ([\d.]+)\r?$/gm)].map(m => [m[1]!, Number(m[2])]));
}
