import { setTimeout as sleep } from 'node:timers/promises';
import { askVm, onlyVm, parseDuration, VmError } from '../vmm/index.ts';
import { CLOCK_HEAD, clockRow, describeClock, formatClockScreen, plottedSamples } from './clock-format.ts';
import { clockSvg, PICTURED_PARTS } from './clock-svg.ts';
import { type ClockAnswer, summarize, thin } from './clock-window.ts';
import { writePicture } from './picture.ts';
import { openScreen } from './screen.ts';

/** Options of the verb. */
export interface ClockCommandOptions {
  readonly json?: boolean;
  readonly once?: boolean;
  /** Time between two samples, as the library's durations. */
  readonly interval?: string;
  /** How many samples; without it there is no end. */
  readonly count?: string;
  /** File of the picture. */
  readonly svg?: string;
}

/** Samples that the figures of a line are about; those of a screen are about what its plots show. */
const WINDOW = 120;
/** Samples that are kept; of the older half of more than that only what shows in a picture. */
const MOST_SAMPLES = 20_000;

/**
 * `tsvisor clock [NAME]`: what a running VM's time is made of, again and again until it ends, there are `count` samples, `signal` aborts
 * or, on a terminal, q is typed.
 * @throws VmError ERR_STATE when there is no such VM, ERR_USAGE for a flag that is none, ERR_FILE_UNREADABLE for the picture.
 */
export async function clock(
  name: string | undefined,
  options: ClockCommandOptions,
  signal: AbortSignal,
): Promise<void> {
  const { json = false, once = false, svg } = options;
  const ms = parseDuration(options.interval ?? '1s', 'interval');
  const count = once ? 1 : parseCount(options.count);
  const vm = name ?? (await onlyVm());
  const samples: ClockAnswer[] = [];
  const quit = new AbortController();
  const stop = AbortSignal.any([signal, quit.signal]);
  const draw = () => {
    if (samples.length > 0) screen?.show(screenOf(vm, samples));
  };
  using screen =
    process.stdout.isTTY && !json && !once ? openScreen({ quit: () => quit.abort(), resized: draw }) : undefined;
  let described = '';
  for (let n = 0; n < count && !stop.aborted; n++) {
    if (n > 0) await sleep(ms, undefined, { signal: stop }).catch(() => undefined);
    if (stop.aborted) break;
    let sample: ClockAnswer;
    try {
      sample = (await askVm(vm, { verb: 'clock' })) as ClockAnswer;
    } catch (e) {
      // A VM that ends is no mistake of who watched it.
      if (n > 0 && e instanceof VmError && e.code === 'ERR_STATE') break;
      throw e;
    }
    samples.push(sample);
    if (samples.length > MOST_SAMPLES) {
      const older = samples.splice(0, MOST_SAMPLES / 2);
      if (svg !== undefined) samples.unshift(...thin(older, PICTURED_PARTS));
    }
    // A picture that cannot be written is no news for the end.
    if (n === 0 && svg !== undefined) await writePicture('clock', svg, clockSvg(vm, samples));
    const summary = summarize(samples.slice(-WINDOW));
    if (json) process.stdout.write(`${JSON.stringify({ ...sample, name: vm, ...summary })}\n`);
    else if (screen !== undefined) draw();
    else {
      const description = describeClock(vm, sample).join('\n');
      if (description !== described) process.stdout.write(`${description}\n${CLOCK_HEAD}\n`);
      described = description;
      process.stdout.write(`${clockRow(sample, summary)}\n`);
    }
  }
  if (svg !== undefined && samples.length > 1) await writePicture('clock', svg, clockSvg(vm, samples));
}

function screenOf(vm: string, samples: readonly ClockAnswer[]): string {
  const { rows, columns } = process.stdout;
  return formatClockScreen(vm, samples.slice(-plottedSamples(columns)), { rows: rows - 1, columns });
}

/** @throws VmError ERR_USAGE when it is no count. */
function parseCount(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new VmError('ERR_USAGE', `count: '${text}' is not a number of samples`, {
    hint: 'write a whole number from 1 on',
    details: { option: 'count', value: text },
  });
}
