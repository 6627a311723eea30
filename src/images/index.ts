export { cacheFolder, findImage, ImageCache } from './cache.ts';
export {
  DEBIAN_ARM64,
  DEFAULT_SUITE,
  isCurrent,
  type PullOptions,
  type PullResult,
  pullDebianArm64,
} from './debian-arm64.ts';
export { readInputFile } from './input-file.ts';
export type { SignatureCheck } from './mirror.ts';
export type { Image, OnPullEvent, PackageId, Provenance, PullEvent } from './types.ts';
