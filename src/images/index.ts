export { cacheFolder, findImage, ImageCache } from './cache.ts';
export { DEBIAN_AMD64, DEBIAN_ARM64, IMAGE_NAMES, isCurrent } from './catalog.ts';
export { readInputFile } from './input-file.ts';
export type { SignatureCheck } from './mirror.ts';
export { DEFAULT_SUITE, type PullOptions, type PullResult, pullImage } from './pull.ts';
export type { Image, ImageArchitecture, OnPullEvent, PackageId, Provenance, PullEvent } from './types.ts';
