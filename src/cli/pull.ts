import cliProgress from 'cli-progress';
import {
  DEBIAN_ARM64,
  IMAGE_NAMES,
  type Image,
  type PullEvent,
  type PullResult,
  pullImage,
  type SignatureCheck,
} from '../images/index.ts';
import { VmError } from '../util/errors.ts';
import { nearest } from '../vmm/nearest.ts';

/** Options of `tsvisor pull`. */
export interface PullCommandOptions {
  /** The image to get; default 'debian-arm64'. */
  readonly name?: string | undefined;
  readonly mirror?: string | undefined;
  readonly suite?: string | undefined;
  readonly signature?: SignatureCheck | undefined;
  readonly offline?: boolean | undefined;
  readonly cacheDir?: string | undefined;
  /** One JSON object per line on the standard output, nothing else. */
  readonly json?: boolean | undefined;
  /** Only errors. */
  readonly quiet?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Default: the process's own. */
  readonly stdout?: NodeJS.WritableStream | undefined;
  readonly stderr?: (NodeJS.WritableStream & { readonly isTTY?: boolean }) | undefined;
}

/**
 * Verb `pull`: gets a guest image into the cache. Progress goes to the standard error (a bar on a terminal, otherwise a line
 * per 10 %), the result to the standard output.
 *
 * @throws VmError as {@link pullImage} does, ERR_USAGE for an unknown image.
 */
export async function pull(options: PullCommandOptions = {}): Promise<void> {
  const { name = DEBIAN_ARM64, json, quiet, stdout = process.stdout, stderr = process.stderr } = options;
  if (!IMAGE_NAMES.includes(name)) {
    const meant = nearest(name, IMAGE_NAMES);
    throw new VmError('ERR_USAGE', `there is no image called '${name}'`, {
      hint: meant === undefined ? `images are ${IMAGE_NAMES.join(' and ')}` : `did you mean '${meant}'?`,
    });
  }
  const line = (event: object) => stdout.write(`${JSON.stringify(event)}\n`);
  const progress = json ? undefined : quiet ? undefined : new PullProgress(stderr);
  try {
    const { mirror, suite, signature, offline, cacheDir, signal } = options;
    const onEvent = json ? line : (e: PullEvent) => progress?.show(e);
    const result = await pullImage(name, { mirror, suite, signature, offline, cacheDir, signal, onEvent });
    progress?.close();
    if (json) line({ type: 'result', changed: result.changed, image: result.image });
    else if (!quiet) stdout.write(describe(result));
  } finally {
    progress?.close();
  }
}

function describe({ image, changed }: PullResult): string {
  return [
    `${image.name}: Linux ${image.release}${changed ? '' : ' (was in the cache already)'}`,
    `  kernel  ${image.kernel}`,
    `  initrd  ${image.initrd}`,
    `  source  ${image.provenance.source}`,
    ...describeTrust(image),
    '',
  ].join('\n');
}

/** What was checked of an image and what not, as indented lines. */
export function describeTrust({ provenance }: Image): string[] {
  return [...provenance.verified.map(v => `  checked ${v}`), ...provenance.notVerified.map(v => `  NOT CHECKED: ${v}`)];
}

/** Shows a pull's events to a human. */
class PullProgress {
  readonly #out: NodeJS.WritableStream & { readonly isTTY?: boolean };
  #bar: cliProgress.SingleBar | undefined;
  #file = '';
  #nextTenth = 0;

  constructor(out: NodeJS.WritableStream & { readonly isTTY?: boolean }) {
    this.#out = out;
  }

  show(event: PullEvent): void {
    if (event.type === 'progress') this.#progress(event);
    else {
      this.close();
      this.#out.write(event.type === 'warning' ? `warning: ${event.message}\n` : `${event.message}\n`);
    }
  }

  close(): void {
    this.#bar?.stop();
    this.#bar = undefined;
    this.#file = '';
  }

  #progress({ file, done, total }: PullEvent & { type: 'progress' }): void {
    if (file !== this.#file) {
      this.close();
      this.#file = file;
      this.#nextTenth = 0;
      if (this.#out.isTTY) this.#bar = this.#startBar(total);
    }
    if (this.#bar) this.#bar.update(done, { mb: mb(done), of: mb(total), file });
    else if (!this.#out.isTTY) {
      const tenth = Math.floor((done * 10) / Math.max(total, 1));
      if (tenth < this.#nextTenth) return;
      this.#nextTenth = tenth + 1;
      this.#out.write(`${file}: ${tenth * 10} % of ${mb(total)} MB\n`);
    }
  }

  #startBar(total: number): cliProgress.SingleBar {
    const format = '{file} {bar} {percentage} % | {mb} of {of} MB | {eta_formatted} left';
    const bar = new cliProgress.SingleBar(
      { format, stream: this.#out, hideCursor: true, clearOnComplete: false, barsize: 24, etaBuffer: 50 },
      cliProgress.Presets.shades_classic,
    );
    bar.start(total, 0, { mb: '0.0', of: mb(total), file: this.#file });
    return bar;
  }
}

function mb(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
