// How exactly a guest's clock follows the host's through ptp_kvm: |device - CLOCK_REALTIME| of Debian's arm64 kernel with chrony on
// the emulated engine, by PTP_SYS_OFFSET_PRECISE. Table on stderr, JSON on stdout; about two minutes for each line.
//
//   npx tsx test/bench/ptp.ts [--only addon,typescript] [--cpus 1,4] [--speed full,slowed] [--reads 1000] [--settle 30]
//
// `typescript` is a process without native code. `slowed` is a process that the host lets run for a tenth of the time: the guest
// gets a tenth of its speed, and is stopped at any place, also between the readings of two clocks.
//
// Asked: a median below 1 us with the addon, below 20 us without; slowed, the same.
import { spawn } from 'node:child_process';
import { cpus as hostCpus } from 'node:os';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { PtpRun } from './ptp-guest.ts';

/** Median asked for, ns. */
const ASKED = { addon: 1000, typescript: 20_000 } as const;
/** How long the slowed process runs before it stands nine times as long, ms. */
const RUN_MS = 2;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'addon,typescript' },
    cpus: { type: 'string', default: '1,4' },
    speed: { type: 'string', default: 'full,slowed' },
    reads: { type: 'string', default: '1000' },
    settle: { type: 'string', default: '30' },
  },
});

/** A line of the result. */
interface PtpResult extends PtpRun {
  readonly kind: keyof typeof ASKED;
  readonly cpus: number;
  readonly asked: number;
  /** The part of the time that the process was let run; 1 unless it was slowed. */
  readonly speed: number;
}

async function measure(kind: keyof typeof ASKED, cpus: number, slowed: boolean): Promise<PtpResult> {
  const node = ['--import', 'tsx', fileURLToPath(new URL('./ptp-guest.ts', import.meta.url))];
  if (kind === 'typescript') node.unshift('--no-addons');
  const child = spawn(process.execPath, [...node, String(cpus), values.reads, values.settle], {
    cwd: fileURLToPath(new URL('../../', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = new Promise<void>((resolve, reject) => child.on('close', () => resolve()).on('error', reject));
  let slowing: Promise<number> | undefined;
  let last = '';
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'ready' && slowed) slowing = slow();
    else last = line;
  }
  await closed;
  if (!last.startsWith('{')) throw new Error(`${kind}, ${cpus} vCPUs: the guest did not finish`);
  return { ...(JSON.parse(last) as PtpRun), kind, cpus, asked: ASKED[kind], speed: (await slowing) ?? 1 };

  /** Stops and continues the child until it ends, and gives the part of the time that it ran. */
  async function slow(): Promise<number> {
    const start = performance.now();
    let ran = 0;
    while (child.exitCode === null && child.signalCode === null) {
      const from = performance.now();
      await sleep(RUN_MS);
      child.kill('SIGSTOP');
      const time = performance.now() - from;
      ran += time;
      await sleep(9 * time);
      child.kill('SIGCONT');
    }
    return Math.round((100 * ran) / (performance.now() - start)) / 100;
  }
}

const results: PtpResult[] = [];
const say = (line: string) => process.stderr.write(`${line}\n`);
say('             vCPUs   speed   median ns      p99 ns   chrony: median       p99   asked median');
for (const kind of ['addon', 'typescript'] as const) {
  if (!values.only.split(',').includes(kind)) continue;
  for (const speed of values.speed.split(',')) {
    for (const cpus of values.cpus.split(',').map(Number)) {
      const result = await measure(kind, cpus, speed === 'slowed');
      results.push(result);
      const { median, p99, chrony, asked } = result;
      const figures = [median, p99, chrony.median, chrony.p99].map(n => String(Math.round(n)).padStart(11));
      say(
        `${kind.padEnd(12)} ${String(cpus).padStart(5)} ${result.speed.toFixed(2).padStart(7)} ${figures.join(' ')} ${asked}`,
      );
    }
  }
}
const host = { cpu: hostCpus()[0]?.model ?? 'unknown', cores: hostCpus().length, node: process.version };
process.stdout.write(`${JSON.stringify({ date: new Date().toISOString(), host, results }, null, 2)}\n`);
