import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GRACE_SECONDS, type LabArchitecture, type LabCaseInfo } from '../../test/lab/lab-case.ts';
import type { LabEvent, LabPlan, LabResult } from '../../test/lab/runner.ts';
import { findLab, ROOT } from '../../test/support/lab.ts';
import { labAddon } from './addon.ts';
import { bundleCases, listCases } from './bundle.ts';
import { labImage } from './image.ts';

/** Seconds that a lab may take to start and to end on a machine that is busy. */
const START_SECONDS = 120;

/** Exit code of a lab that was ended at its time limit, which no supervisor lets its cases reach. */
const TIME_LIMIT = 124;
/** That of a lab whose machine has ended while the command inside had not; also of one that did not come to it. */
const NO_RESULT = 125;

/** Where cases run: in a lab, or on this machine with its own /dev/kvm. */
export type LabPlace = LabArchitecture | 'here';

/** Cases that share one start of the lab. */
export interface LabGroup {
  readonly place: LabPlace;
  readonly needs: Pick<LabCaseInfo['needs'], 'memory' | 'cpus' | 'vfio'>;
  readonly cases: readonly LabCaseInfo[];
}

/** What a group came to. */
export interface LabReport {
  /** One for each case of the group, in their order. */
  readonly results: readonly LabResult[];
  /** Milliseconds from the start of the lab until the runner was at work inside, and of these those of Node's own start. */
  readonly enter: number;
  readonly node: number;
  /** Milliseconds from the runner's first line to its last one. */
  readonly work: number;
  /** Milliseconds after that. */
  readonly leave: number;
}

/** All cases, bundled in a folder of their own below build/. */
export interface LabBundle {
  readonly folder: string;
  readonly file: string;
  readonly cases: readonly LabCaseInfo[];
}

/**
 * Bundles the cases of a folder; the caller removes the bundle's.
 *
 * @throws Error when a file of cases cannot be compiled or loaded.
 */
export async function makeBundle(source = join(ROOT, 'test/lab')): Promise<LabBundle> {
  const parent = join(ROOT, 'build/lab');
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, 'run-'));
  const file = join(folder, 'bundle.mjs');
  try {
    await bundleCases(source, file);
    return { folder, file, cases: listCases(file) };
  } catch (e) {
    rmSync(folder, { recursive: true, force: true });
    throw e;
  }
}

function architectureOf(place: LabPlace): LabArchitecture {
  return place === 'here' ? (process.arch === 'arm64' ? 'arm64' : 'x86') : place;
}

/** The cases for a place, in groups that need the same machine. */
export function groupCases(place: LabPlace, cases: readonly LabCaseInfo[]): LabGroup[] {
  const architecture = architectureOf(place);
  const groups = new Map<string, LabCaseInfo[]>();
  for (const c of cases) {
    if (!c.needs.on.includes(architecture)) continue;
    const { memory, cpus, vfio } = c.needs;
    const key = place === 'here' ? '' : [memory, cpus, vfio].join();
    groups.set(key, [...(groups.get(key) ?? []), c]);
  }
  return [...groups.values()].map(group => {
    const { memory, cpus, vfio } = group[0]!.needs;
    return { place, needs: { memory, cpus, vfio }, cases: group };
  });
}

/**
 * Runs a group. A lab that fails is a failure of every case that it did not come to. One that stands still, or ends before its command
 * does, is started once more for the rest: a case is a process inside, and one that hangs is ended by its supervisor long before, so it
 * was the emulated machine that failed (docs/testing.md says how QEMU's emulation of nested virtualization does).
 *
 * @param onOutput gets what the lab prints, as it comes.
 * @param options keepAddon: use the addon that was built last, whatever has changed in native/ since.
 * @throws Error when there is no lab or no addon for it.
 */
export async function runGroup(
  bundle: LabBundle,
  group: LabGroup,
  onOutput: (text: string) => void,
  options: { readonly keepAddon?: boolean | undefined } = {},
): Promise<LabReport> {
  const { broken, ...first } = await runOnce(bundle, group, onOutput, options);
  if (broken === undefined) return first;
  const { how, at } = broken;
  onOutput(`the lab ${how}, its supervisor too: once more, from the case that it was at\n`);
  const rest = await runOnce(bundle, { ...group, cases: group.cases.slice(at) }, onOutput, options);
  return { ...rest, results: [...first.results.slice(0, at), ...rest.results] };
}

/** @returns also, for a lab whose machine failed, how it did and the index of the case that it was at. */
async function runOnce(
  bundle: LabBundle,
  group: LabGroup,
  onOutput: (text: string) => void,
  options: { readonly keepAddon?: boolean | undefined },
): Promise<LabReport & { readonly broken: { readonly how: string; readonly at: number } | undefined }> {
  const { place, needs, cases } = group;
  const name = `${place}-${needs.memory}-${needs.cpus}${needs.vfio ? '-vfio' : ''}`;
  const planFile = join(bundle.folder, `${name}.plan.json`);
  const chrony = cases.some(c => c.needs.chrony);
  const image = cases.some(c => c.needs.image) ? await labImage(architectureOf(place), chrony) : undefined;
  const heartbeat = place === 'x86';
  const plan: LabPlan = {
    ids: cases.map(c => c.id),
    image,
    heartbeat,
    results: join(bundle.folder, `${name}.results`),
  };
  writeFileSync(planFile, JSON.stringify(plan));
  writeFileSync(plan.results, '');
  const node = place === 'arm64' ? 'node' : process.execPath;
  const [command, ...args] = [
    ...(await enter(group, options.keepAddon ? undefined : onOutput)),
    node,
    bundle.file,
    'supervise',
    planFile,
  ];

  const started = performance.now();
  let [first, last] = [started, started];
  const child = spawn(command ?? '', args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    last = performance.now();
    if (first === started) first = last;
    onOutput(text);
  });
  child.stderr.setEncoding('utf8').on('data', onOutput);
  const status = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.on('error', reject).on('close', (code, signal) => resolve(code ?? signal));
  });
  const ended = performance.now();

  const events = readFileSync(plan.results, 'utf8').trim().split('\n').filter(Boolean);
  const results: LabResult[] = [];
  let nodeMs: number | undefined;
  for (const event of events.map(line => JSON.parse(line) as LabEvent)) {
    if (event.type === 'start') nodeMs = event.nodeMs;
    else results.push(event.result);
  }
  // One that did not come to its command says itself what it lacks.
  const died = status === NO_RESULT && nodeMs !== undefined;
  const how = status === TIME_LIMIT ? 'stood still' : died ? 'died' : undefined;
  const broken = how !== undefined && results.length < cases.length ? { how, at: results.length } : undefined;
  for (const { id } of cases.slice(results.length)) {
    const why = `the lab ended with ${status}${status === TIME_LIMIT ? ' (its time limit)' : ''} in or before this case`;
    results.push({ id, outcome: 'failed', ms: 0, why, notes: [] });
  }
  const times = { enter: first - started, node: nodeMs ?? 0, work: last - first, leave: ended - last };
  return { results, ...times, broken };
}

/** The command that runs another one in the group's place, its addon built if there is somewhere to tell about it. */
async function enter(
  { place, needs, cases }: LabGroup,
  buildOutput: ((text: string) => void) | undefined,
): Promise<string[]> {
  if (place === 'here') return [];
  const found = findLab();
  if ('reason' in found) throw new Error(found.reason);
  const addon = await labAddon(place === 'arm64' ? 'arm64' : 'x64', buildOutput);
  const seconds = cases.reduce((sum, c) => sum + c.needs.seconds + GRACE_SECONDS, START_SECONDS);
  const machine = ['-m', String(needs.memory), '-c', String(needs.cpus), ...(needs.vfio ? ['--vfio'] : [])];
  return [found.lab, place, ...machine, '-t', String(seconds), '-e', `TSVISOR_ADDON=${addon}`, '--'];
}
