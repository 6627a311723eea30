import { VmError } from '../util/errors.ts';
import { sha256 } from './files.ts';
import * as scripts from './init-script.ts';
import { VIRTIO_MODULES } from './initramfs.ts';
import type { ImageArchitecture } from './types.ts';

/** The names of images, for `tsvisor pull` and {@link findImage}. */
export const DEBIAN_ARM64 = 'debian-arm64';
export const DEBIAN_AMD64 = 'debian-amd64';

/** What an image is made from. */
export interface ImageRecipe {
  readonly name: string;
  readonly architecture: ImageArchitecture;
  /** The architecture as Debian's archive calls it. */
  readonly debianArchitecture: string;
  /** The package that always depends on the current kernel. */
  readonly kernelPackage: string;
  /**
   * Modules that are put into /lib/modules for the user to load, on top of those for virtio: what one architecture's kernel
   * has built in and another's has not.
   */
  readonly spareModules: readonly string[];
}

/**
 * The images that can be pulled. Debian's two cloud kernels are configured alike but for a few options: virtio is modules in
 * both, PCI, ACPI, NVMe and the serial console are built in. Of what a guest of ours may use, amd64 has as modules what arm64
 * has built in: the ACPI power button and the clock that KVM offers, which loads on KVM only.
 */
export const IMAGES: readonly ImageRecipe[] = [
  {
    name: DEBIAN_ARM64,
    architecture: 'aarch64',
    debianArchitecture: 'arm64',
    kernelPackage: 'linux-image-cloud-arm64',
    spareModules: [],
  },
  {
    name: DEBIAN_AMD64,
    architecture: 'x86_64',
    debianArchitecture: 'amd64',
    kernelPackage: 'linux-image-cloud-amd64',
    spareModules: ['button', 'ptp_kvm'],
  },
];

/** The names of the images that can be pulled. */
export const IMAGE_NAMES: readonly string[] = IMAGES.map(i => i.name);

/**
 * The recipe of the image called `name`.
 *
 * @throws VmError ERR_USAGE when there is none.
 */
export function recipeOf(name: string): ImageRecipe {
  const recipe = IMAGES.find(i => i.name === name);
  if (recipe) return recipe;
  throw new VmError('ERR_USAGE', `there is no image called '${name}'`, {
    hint: `images are ${IMAGE_NAMES.join(' and ')}`,
  });
}

/** Changes whenever this program would make another initramfs out of the same packages of an image. */
export function recipeDigest(recipe: ImageRecipe): string {
  // A bundler may give a module's exports in another order than the language does.
  const texts = Object.fromEntries(Object.entries(scripts).sort());
  return sha256(JSON.stringify(['2', texts, VIRTIO_MODULES, ...recipe.spareModules])).slice(0, 16);
}

/**
 * Whether an image is what this program would make of its packages; if not, it may lack what a pull would bring, drivers for
 * one.
 */
export function isCurrent(image: { readonly name: string; readonly recipe: string }): boolean {
  const recipe = IMAGES.find(i => i.name === image.name);
  return recipe !== undefined && recipeDigest(recipe) === image.recipe;
}
