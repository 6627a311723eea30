import { DEBIAN_ARM64, findImage, type Image, pullImage } from '../../src/images/index.ts';

const found = new Map<string, Promise<Image | string>>();

/** Debian's kernel from the cache, fetched if it is not there; or why there is none, for the line of a skipped test. */
export function debian(name: string = DEBIAN_ARM64): Promise<Image | string> {
  const image = found.get(name) ?? find(name);
  found.set(name, image);
  return image;
}

async function find(name: string): Promise<Image | string> {
  try {
    const image = await findImage(name);
    if (image !== undefined) return image;
  } catch {
    // A damaged cache: fetched again below.
  }
  try {
    return (await pullImage(name, { signal: AbortSignal.timeout(300_000) })).image;
  } catch (e) {
    const reason = `no Debian kernel could be had: ${e instanceof Error ? e.message : e}`;
    console.log(`skipped: ${reason}`);
    return reason;
  }
}
