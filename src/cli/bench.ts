import { benchPins, type PinBenchOptions, type PinBenchRow } from '../bench/pin-bench.ts';
import { PIN_BENCH_MODES, type PinBenchMode } from '../bench/pin-passes.ts';
import { VmError } from '../vmm/index.ts';

/** Flags of `tsvisor bench pin` as commander gives them; numbers are text still. */
export interface BenchPinFlags {
  readonly getFast?: boolean;
  readonly pinFast?: boolean;
  readonly pinLongterm?: boolean;
  readonly getBasic?: boolean;
  readonly pinBasic?: boolean;
  readonly memory?: string;
  readonly pages?: string;
  readonly repeats?: string;
  readonly threads?: string;
  readonly write?: boolean;
  readonly huge?: boolean;
  readonly json?: boolean;
}

/** Without a mode flag: what can be compared. */
const DEFAULT_MODES: readonly PinBenchMode[] = ['GET_FAST', 'PIN_FAST', 'PIN_LONGTERM'];
/** Node 20 has no typed array of 4 GiB. */
const MAX_MIB = 4095;
/** The table has 64 threads, of which the main one is one. */
const MAX_THREADS = 63;
const MAX_REPEATS = 10_000;
/** Pages of a huge one, 2 MiB. */
const HUGE_PAGES = 512;
const PAGES_IN_MIB = 256;

/** `tsvisor bench pin`: what pinning costs on this host; the counterpart of the kernel's gup_test. */
export async function benchPin(flags: BenchPinFlags): Promise<void> {
  const options = benchPinOptions(flags);
  const rows = await benchPins(options);
  const text = flags.json
    ? rows.map(r => `${JSON.stringify(jsonRow(r, options))}\n`).join('')
    : formatBench(rows, options);
  process.stdout.write(text);
}

/**
 * The flags as options of the benchmark.
 * @throws VmError ERR_USAGE for a number that is none or out of range, and for huge pages that do not fit.
 */
export function benchPinOptions(flags: BenchPinFlags): PinBenchOptions {
  const given: Readonly<Record<PinBenchMode, boolean | undefined>> = {
    GET_FAST: flags.getFast,
    PIN_FAST: flags.pinFast,
    PIN_LONGTERM: flags.pinLongterm,
    GET_BASIC: flags.getBasic,
    PIN_BASIC: flags.pinBasic,
  };
  const asked = PIN_BENCH_MODES.filter(m => given[m]);
  const memoryMiB = whole('-m', flags.memory ?? '128', 1, MAX_MIB);
  const huge = flags.huge ?? false;
  const pages = memoryMiB * PAGES_IN_MIB;
  const pagesPerCall = whole('-n', flags.pages ?? (huge ? `${HUGE_PAGES}` : '1'), 1, Math.max(pages, HUGE_PAGES));
  if (huge && (pagesPerCall % HUGE_PAGES !== 0 || pages % HUGE_PAGES !== 0)) {
    throw new VmError('ERR_USAGE', 'bench pin: -H needs whole blocks of 2 MiB', {
      hint: `with -H, -n is a multiple of ${HUGE_PAGES} pages and -m of 2 MiB`,
    });
  }
  return {
    modes: asked.length === 0 ? DEFAULT_MODES : asked,
    memoryMiB,
    pagesPerCall,
    repeats: whole('-r', flags.repeats ?? '1', 1, MAX_REPEATS),
    write: flags.write ?? false,
    threads: whole('-j', flags.threads ?? '1', 1, MAX_THREADS),
  };
}

/** The rows as a table below a line that says what was done. */
export function formatBench(rows: readonly PinBenchRow[], o: PinBenchOptions): string {
  const what =
    `${o.memoryMiB} MiB, ${count(o.pagesPerCall, 'page')} a call, ${o.write ? 'with' : 'without'} FOLL_WRITE, ` +
    `${count(o.threads, 'thread')}, ${count(o.repeats, 'repeat')}`;
  const cells = rows.map(r => {
    const { getUs, putUs, getNsPerPage, putNsPerPage } = jsonRow(r, o);
    return [r.mode, `${r.thread}`, `${r.repeat}`, `${getUs}`, `${putUs}`, `${getNsPerPage}`, `${putNsPerPage}`];
  });
  const table = [['MODE', 'THREAD', 'REPEAT', 'GET us', 'PUT us', 'GET ns/page', 'PUT ns/page'], ...cells];
  const widths = table[0]!.map((_, c) => Math.max(...table.map(r => r[c]!.length)));
  const lines = table.map(r => r.map((t, c) => (c === 0 ? t.padEnd(widths[c]!) : t.padStart(widths[c]!))).join('  '));
  return [what, ...lines].map(l => `${l}\n`).join('');
}

/** A row as it is printed: microseconds of the whole pass, and nanoseconds of a page. */
export function jsonRow(r: PinBenchRow, o: PinBenchOptions) {
  return {
    mode: r.mode,
    thread: r.thread,
    repeat: r.repeat,
    pages: r.pages,
    pagesPerCall: o.pagesPerCall,
    write: o.write,
    threads: o.threads,
    getUs: Math.round(r.getNs / 1000),
    putUs: Math.round(r.putNs / 1000),
    getNsPerPage: Number((r.getNs / r.pages).toFixed(2)),
    putNsPerPage: Number((r.putNs / r.pages).toFixed(2)),
  };
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}

function whole(flag: string, text: string, low: number, high: number): number {
  const n = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (n >= low && n <= high) return n;
  throw new VmError('ERR_USAGE', `bench pin: ${flag} '${text}' must be a whole number from ${low} to ${high}`, {
    hint: 'see `tsvisor bench --help`',
  });
}
