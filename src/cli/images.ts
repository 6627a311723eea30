import { stat } from 'node:fs/promises';
import { IMAGE_NAMES, ImageCache } from '../images/index.ts';
import { VmError } from '../util/errors.ts';
import { describeTrust } from './pull.ts';

/** Options of `tsvisor images`. */
export interface ImagesCommandOptions {
  readonly cacheDir?: string | undefined;
  /** One JSON object per line. */
  readonly json?: boolean | undefined;
  /** Default: the process's own. */
  readonly stdout?: NodeJS.WritableStream | undefined;
}

/** Verb `images`: lists the images in the cache, each checked against its digests. A damaged one is listed as such. */
export async function images(options: ImagesCommandOptions = {}): Promise<void> {
  const { json, stdout = process.stdout } = options;
  const cache = new ImageCache(options.cacheDir);
  const names = await cache.list();
  if (names.length === 0 && !json)
    stdout.write(`no images in ${cache.folder}; get one with \`tsvisor pull NAME\`: ${IMAGE_NAMES.join(', ')}\n`);
  for (const name of names) {
    try {
      const image = await cache.find(name);
      if (!image) continue;
      const bytes = (await stat(image.kernel)).size + (await stat(image.initrd)).size;
      if (json) stdout.write(`${JSON.stringify({ ...image, bytes })}\n`);
      else {
        const trust = describeTrust(image).map(l => `${l}\n`);
        stdout.write(`${name}: Linux ${image.release}, ${(bytes / 1e6).toFixed(1)} MB, ${image.provenance.source}\n`);
        stdout.write(trust.join(''));
      }
    } catch (e) {
      if (!(e instanceof VmError)) throw e;
      if (json)
        stdout.write(`${JSON.stringify({ name, error: { code: e.code, message: e.message, hint: e.hint } })}\n`);
      else stdout.write(`${name}: DAMAGED: ${e.message}\n  ${e.hint ?? ''}\n`);
    }
  }
}
