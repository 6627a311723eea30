import { VmError } from '../util/errors.ts';

/**
 * The 64-byte header of an arm64 kernel image, Documentation/arch/arm64/booting.rst section 4:
 *
 *     u32 code0, code1; u64 text_offset, image_size, flags, res2, res3, res4; u32 magic ("ARM\x64"), res5
 */
export const ARM64_IMAGE_HEADER = 64;
const MAGIC = 0x644d5241;
/** Where kernels go whose header does not say so: those before 3.17, with an image_size of zero. */
const OLD_TEXT_OFFSET = 0x80000;
/** No kernel is larger than this in memory; a header that says so is broken. */
const IMAGE_SIZE_LIMIT = 1 << 30;

/** What an arm64 image's header says. */
export interface Arm64ImageHeader {
  /** Offset in bytes from a 2 MiB aligned base at which the image must start. */
  readonly textOffset: number;
  /** Bytes from the image's start that must be free for it, BSS included. */
  readonly imageSize: number;
  readonly flags: Arm64ImageFlags;
}

/** The field `flags` of the header, taken apart. */
export interface Arm64ImageFlags {
  readonly raw: bigint;
  /** Bit 0. */
  readonly bigEndian: boolean;
  /** Bits 1-2: the granule in KiB, or undefined when the kernel does not say. */
  readonly pageKib: 4 | 16 | 64 | undefined;
  /** Bit 3: the base may be anywhere; otherwise it should be as close as possible to the start of RAM. */
  readonly anywhere: boolean;
}

/** True when the bytes start an arm64 kernel image. */
export function isArm64Image(bytes: Uint8Array): boolean {
  return bytes.length >= ARM64_IMAGE_HEADER && view(bytes).getUint32(56, true) === MAGIC;
}

/**
 * Reads and checks the header.
 *
 * @throws VmError ERR_NOT_A_KERNEL without the magic number, ERR_WRONG_ARCHITECTURE for a big-endian kernel,
 *   ERR_KERNEL_CORRUPT when the sizes make no sense.
 */
export function readArm64ImageHeader(bytes: Uint8Array): Arm64ImageHeader {
  if (!isArm64Image(bytes)) throw new VmError('ERR_NOT_A_KERNEL', 'there is no arm64 image header');
  const d = view(bytes);
  const [textOffset, imageSize, raw] = [d.getBigUint64(8, true), d.getBigUint64(16, true), d.getBigUint64(24, true)];
  const flags: Arm64ImageFlags = {
    raw,
    bigEndian: (raw & 1n) !== 0n,
    pageKib: ([undefined, 4, 16, 64] as const)[Number((raw >> 1n) & 3n)],
    anywhere: (raw & 8n) !== 0n,
  };
  if (flags.bigEndian) {
    throw new VmError('ERR_WRONG_ARCHITECTURE', 'the kernel is a big-endian arm64 kernel', {
      hint: 'Use a little-endian kernel; every common distribution builds those.',
    });
  }
  // Before 3.17 there was no image_size, and text_offset had no fixed endianness.
  if (imageSize === 0n) return { textOffset: OLD_TEXT_OFFSET, imageSize: bytes.length, flags };
  if (imageSize > IMAGE_SIZE_LIMIT || textOffset > IMAGE_SIZE_LIMIT) {
    throw new VmError(
      'ERR_KERNEL_CORRUPT',
      `the kernel's header is broken: text_offset ${textOffset}, image_size ${imageSize}`,
      {
        hint: 'Download or copy the kernel again.',
      },
    );
  }
  // image_size counts the BSS too, so the file is never longer, save for a signature appended to it.
  return { textOffset: Number(textOffset), imageSize: Math.max(Number(imageSize), bytes.length), flags };
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
