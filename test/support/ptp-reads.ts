import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Guest } from './guest.ts';

const SOURCE = fileURLToPath(new URL('./ptp-reads.c', import.meta.url));
/** Without a C library, and without what makes a small program a page longer. */
const FLAGS =
  '-O2 -Wall -Wextra -Werror -static -nostdlib -ffreestanding -fno-pie -no-pie -fno-stack-protector -fno-asynchronous-unwind-tables ' +
  '-fno-tree-loop-distribute-patterns -s -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,max-page-size=4096';

/** What ptp-reads.c says about many reads of a PTP clock. */
export interface PtpReads {
  readonly reads: number;
  /** Calls that failed with EINVAL: the pair's cycle was not between two moments of the guest (specification of ptp, ARM-7, X86-2). */
  readonly einval: number;
  /** Calls that failed with something else, and the last such error's number. */
  readonly other: number;
  readonly errno: number;
  /** The device's time never went back. */
  readonly monotonic: boolean;
  /** Of |device - guest's CLOCK_REALTIME|, ns; -1 when no call succeeded. */
  readonly median: number;
  readonly p99: number;
  /** 99th percentile of that difference's distance from its median, ns: it does not depend on how the guest's clock is set. */
  readonly jitter: number;
}

/** The program of ptp-reads.c, a static ELF file of about 2 KiB; or why there is no compiler for it. */
export function ptpReadsProgram(arch: 'aarch64' | 'x86_64'): Uint8Array | string {
  const host = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  const gcc = arch === host ? 'gcc' : `${arch}-linux-gnu-gcc`.replace('_', '-');
  if (spawnSync(gcc, ['--version']).status !== 0) return `${gcc} is not installed`;
  const folder = mkdtempSync(join(tmpdir(), 'tsvisor-ptp-'));
  try {
    const output = join(folder, 'ptp-reads');
    execFileSync(gcc, [...FLAGS.split(' '), '-o', output, SOURCE]);
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Puts the program into a guest, as `/tmp/ptp-reads`: through its shell, in lines that its terminal takes. */
export async function installPtpReads(guest: Pick<Guest, 'run'>, program: Uint8Array): Promise<void> {
  const lines = Buffer.from(program).toString('base64').replace(/.{76}/g, '$&\n');
  await guest.run(`mkdir -p /tmp && base64 -d >/tmp/ptp-reads <<'end' && chmod +x /tmp/ptp-reads\n${lines}\nend`);
}

/** Runs it, see {@link installPtpReads}. @throws Error when the guest has no such device. */
export async function readPtp(guest: Pick<Guest, 'run'>, count = 10_000, device = '/dev/ptp0'): Promise<PtpReads> {
  return parsePtpReads(await guest.run(`/tmp/ptp-reads ${count} ${device}`, { timeout: '300s' }));
}

/** What the line that the program prints says. */
export function parsePtpReads(text: string): PtpReads {
  const m =
    /reads (\d+) einval (\d+) other (\d+) errno (\d+) monotonic (yes|no) median (-?\d+) p99 (-?\d+) jitter (-?\d+)/.exec(
      text,
    );
  if (m === null) throw new Error(`not a line of ptp-reads: ${text}`);
  const n = (i: number) => Number(m[i]);
  return {
    reads: n(1),
    einval: n(2),
    other: n(3),
    errno: n(4),
    monotonic: m[5] === 'yes',
    median: n(6),
    p99: n(7),
    jitter: n(8),
  };
}
