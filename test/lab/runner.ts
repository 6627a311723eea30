// Runs cases inside of the lab: node bundle.mjs list | supervise PLAN | work PLAN FROM. One process supervises another that
// does the work, so that a case that hangs in the kernel or ends its process is a failed case, and the next one has its turn.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync } from 'node:fs';
import { machine, release } from 'node:os';
import { startHeartbeat } from './heartbeat.ts';
import {
  GRACE_SECONDS,
  type LabArchitecture,
  type LabCase,
  type LabCaseInfo,
  type LabContext,
  type LabImage,
  LabSkip,
  loadCases,
} from './lab-case.ts';

/** What to run, in a file for the supervisor. */
export interface LabPlan {
  /** The cases in their order; one may come several times. */
  readonly ids: readonly string[];
  /** The guest's files for the cases that need them, or why there are none. */
  readonly image?: LabImage | string | undefined;
  /** Whether the emulated machine needs {@link startHeartbeat}. */
  readonly heartbeat: boolean;
  /** Where to append {@link LabEvent}s, one JSON text a line. */
  readonly results: string;
}

/** How a case went. */
export interface LabResult {
  readonly id: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Milliseconds. */
  readonly ms: number;
  /** Why it failed or was skipped. */
  readonly why?: string | undefined;
  readonly notes: readonly string[];
}

/** A line of the results file. */
export type LabEvent =
  /** `nodeMs`: milliseconds that Node took to come to the runner. */
  { readonly type: 'start'; readonly nodeMs: number } | { readonly type: 'result'; readonly result: LabResult };

/** What the worker tells its supervisor. */
type WorkerMessage = { readonly begin: number; readonly seconds: number } | { readonly result: LabResult };

/** The program; `files` are the files with cases, see {@link loadCases}. */
export async function main(files: Readonly<Record<string, () => Promise<unknown>>>): Promise<void> {
  const [mode, planFile, from] = process.argv.slice(2);
  if (mode === 'list') {
    const infos: LabCaseInfo[] = (await loadCases(files)).map(({ id, needs }) => ({ id, needs }));
    process.stdout.write(JSON.stringify(infos));
    return;
  }
  const plan = JSON.parse(readFileSync(planFile ?? '', 'utf8')) as LabPlan;
  if (mode === 'supervise') process.exitCode = (await supervise(plan, planFile ?? '')) ? 0 : 1;
  else await work(files, plan, Number(from));
}

/** Runs the whole plan and prints how each case went; true when none failed. */
async function supervise(plan: LabPlan, planFile: string): Promise<boolean> {
  const tell = (event: LabEvent) => appendFileSync(plan.results, `${JSON.stringify(event)}\n`);
  tell({ type: 'start', nodeMs: performance.now() });
  process.stdout.write(`Linux ${release()} ${machine()}, Node ${process.version}\n`);
  if (plan.heartbeat) startHeartbeat();
  let good = true;
  const report = (result: LabResult) => {
    tell({ type: 'result', result });
    process.stdout.write(describe(result));
    good &&= result.outcome !== 'failed';
  };
  for (let next = 0; next < plan.ids.length; ) next = await superviseWorker(plan, planFile, next, report);
  return good;
}

/** Lets one worker go on from case `from`; gives the first case that it did not come to. */
function superviseWorker(
  plan: LabPlan,
  planFile: string,
  from: number,
  report: (result: LabResult) => void,
): Promise<number> {
  const worker = fork(process.argv[1] ?? '', ['work', planFile, String(from)], { execArgv: ['--enable-source-maps'] });
  let next = from;
  let started = performance.now();
  let late: string | undefined;
  let timer: NodeJS.Timeout | undefined;
  worker.on('message', (message: WorkerMessage) => {
    clearTimeout(timer);
    // The worker may be gone by now, which its exit tells.
    const seen = () => worker.send('seen', () => undefined);
    if ('result' in message) {
      report(message.result);
      next++;
      seen();
      return;
    }
    started = performance.now();
    seen();
    timer = setTimeout(
      () => {
        late = `it did not end within ${message.seconds} s and was killed`;
        worker.kill('SIGKILL');
      },
      (message.seconds + GRACE_SECONDS) * 1000,
    );
  });
  return new Promise(resolve => {
    worker.on('exit', (code, signal) => {
      clearTimeout(timer);
      const id = plan.ids[next];
      // A worker ends early by itself only after it has reported a case that ran out of time.
      if (id !== undefined && code !== EARLY) {
        const why = late ?? `its process ended with ${signal ?? `exit code ${code}`}`;
        report({ id, outcome: 'failed', ms: performance.now() - started, why, notes: [] });
        next++;
      }
      resolve(next);
    });
  });
}

/** Exit code of a worker that leaves the rest to another one. */
const EARLY = 75;

/** Runs the cases from `from` on, in this process. */
async function work(
  files: Readonly<Record<string, () => Promise<unknown>>>,
  plan: LabPlan,
  from: number,
): Promise<void> {
  // A case may end this process, or the other one: what came before it has been written down by then.
  const send = async (message: WorkerMessage) => {
    const seen = once(process, 'message');
    process.send?.(message);
    await seen;
  };
  const cases = new Map((await loadCases(files)).map(c => [c.id, c]));
  for (const [i, id] of plan.ids.entries()) {
    const found = cases.get(id);
    if (i < from) continue;
    if (found === undefined) throw new Error(`there is no case '${id}'`);
    await send({ begin: i, seconds: found.needs.seconds });
    const { result, late } = await runCase(found, plan.image);
    await send({ result });
    // What it left running must not disturb the others.
    if (late) process.exit(EARLY);
  }
  process.exit(0);
}

/** Runs one case; `late` when it was still at work at the end of its time. */
async function runCase(
  { id, needs, body }: LabCase,
  image: LabPlan['image'],
): Promise<{ result: LabResult; late: boolean }> {
  const architecture: LabArchitecture = process.arch === 'arm64' ? 'arm64' : 'x86';
  const vfio = (process.env.LAB_VFIO ?? '').split(' ').filter(Boolean);
  const notes: string[] = [];
  const limit = new AbortController();
  const context: LabContext = {
    architecture,
    signal: limit.signal,
    vfio,
    image: () => {
      if (!needs.image || image === undefined) throw new Error('the case does not say that it needs an image');
      return typeof image === 'object' ? image : context.skip(image);
    },
    skip: reason => {
      throw new LabSkip(reason);
    },
    note: text => notes.push(text),
  };
  const started = performance.now();
  const end = (outcome: LabResult['outcome'], why?: string): LabResult => {
    return { id, outcome, ms: performance.now() - started, why, notes };
  };
  let late = false;
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      late = true;
      const error = new Error(`it did not end within ${needs.seconds} s`);
      limit.abort(error);
      reject(error);
    }, needs.seconds * 1000);
  });
  try {
    if (needs.vfio && vfio.length === 0) context.skip('no device is bound to vfio-pci here');
    await Promise.race([body(context), tooLate]);
    return { result: end('passed'), late };
  } catch (e) {
    if (e instanceof LabSkip) return { result: end('skipped', e.message), late };
    return { result: end('failed', e instanceof Error ? (e.stack ?? e.message) : String(e)), late };
  } finally {
    clearTimeout(timer);
  }
}

/** A result as lines for people. */
function describe({ id, outcome, ms, why, notes }: LabResult): string {
  const word = { passed: 'ok  ', failed: 'FAIL', skipped: 'skip' }[outcome];
  const reason = outcome === 'skipped' ? `: ${why}` : ` (${Math.round(ms)} ms)`;
  const details = [...notes, ...(outcome === 'failed' ? (why ?? '').split('\n') : [])];
  return [`${word}  ${id}${reason}`, ...details.map(l => `      ${l}`), ''].join('\n');
}
