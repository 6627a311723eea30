import { DEBIAN_ARM64, findImage, type Image, pullDebianArm64 } from '../../src/images/index.ts';

let found: Promise<Image | string> | undefined;

/** Debian's kernel from the cache, fetched if it is not there; or why there is none, for the line of a skipped test. */
export function debian(): Promise<Image | string> {
  found ??= find();
  return found;
}

async function find(): Promise<Image | string> {
  try {
    const image = await findImage(DEBIAN_ARM64);
    if (image !== undefined) return image;
  } catch {
    // A damaged cache: fetched again below.
  }
  try {
    return (await pullDebianArm64({ signal: AbortSignal.timeout(300_000) })).image;
  } catch (e) {
    const reason = `no Debian kernel could be had: ${e instanceof Error ? e.message : e}`;
    console.log(`skipped: ${reason}`);
    return reason;
  }
}
