import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { placeArm64 } from '../../src/firmware/boot-arm64.ts';
import { placeX86 } from '../../src/firmware/boot-x86.ts';
import { createCpio, readCpio, S_IFREG } from '../../src/firmware/cpio.ts';
import { unzstd } from '../../src/firmware/decompress.ts';
import { readElfNotes, readElfSegments } from '../../src/firmware/elf.ts';
import { loadKernel } from '../../src/firmware/kernel.ts';
import { readModuleInfo } from '../../src/firmware/kernel-module.ts';
import { isX86Kernel, loadX86Kernel } from '../../src/firmware/x86-kernel.ts';
import { readAr, readDeb, unxz } from '../../src/images/deb.ts';
import { findStanza, parseStanza, releaseFiles } from '../../src/images/deb822.ts';
import { stripClearsign } from '../../src/images/mirror.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { VmError } from '../../src/util/errors.ts';
import { makeDeb } from '../support/debs.ts';
import { IMAGE_ZST, LINUX_NOTE, makeArm64Image, makeBzImage, makeElf, makeZboot, pvhNote } from '../support/kernels.ts';
import { moduleWith } from '../support/modules.ts';

/**
 * Random and mutated bytes must give a VmError or a result, never another exception, a hang or a huge allocation.
 * FUZZ_SEED repeats a run, FUZZ_SECONDS makes it longer (per loader).
 */
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fffffff);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 1.5);
/** One input may take this long; the loaders need a few milliseconds. */
const SLOW_MS = 2000;
/** The inputs are small and the limits below 4 MiB, so the process may not grow much. */
const GROWTH_LIMIT = 512 << 20;
const LIMIT = 2 << 20;

/** xorshift32: numbers in [0, n). */
function random(seed: number): (n: number) => number {
  let x = (seed ^ 0x9e3779b9) >>> 0 || 1;
  return n => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x % n;
  };
}

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff];

/** A changed copy: bytes flipped or set, words set to extremes, parts cut out, repeated or swapped with another sample. */
function mutate(sample: Uint8Array, other: Uint8Array, rnd: (n: number) => number): Uint8Array {
  let bytes = Uint8Array.from(sample);
  // Most of what a loader believes stands in the first bytes.
  const place = () => rnd(rnd(2) === 0 ? Math.min(bytes.length, 128) : bytes.length);
  for (let n = 1 + rnd(6); n > 0 && bytes.length > 8; n--) {
    const at = place();
    switch (rnd(6)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << rnd(8));
        break;
      case 1:
        bytes[at] = INTERESTING[rnd(INTERESTING.length)] ?? 0;
        break;
      case 2:
        bytes.fill(rnd(2) * 0xff, at, at + (1 << rnd(4)));
        break;
      case 3:
        bytes = bytes.subarray(0, at);
        break;
      case 4:
        bytes.copyWithin(at, place(), place());
        break;
      default:
        bytes.set(other.subarray(0, Math.max(0, bytes.length - at)).subarray(0, 1 + rnd(64)), at);
    }
  }
  return bytes;
}

function* inputs(samples: readonly Uint8Array[], seed: number): Generator<Uint8Array> {
  const rnd = random(seed);
  const pick = () => samples[rnd(samples.length)] ?? new Uint8Array(0);
  yield* samples;
  for (let i = 0; ; i++) {
    if (i % 8 === 0) yield Uint8Array.from({ length: rnd(300) }, () => rnd(256));
    else yield mutate(pick(), pick(), rnd);
  }
}

/** Runs `load` on mutated samples for the time given; the message of a failure has what is needed to repeat it. */
async function fuzz(samples: readonly Uint8Array[], load: (bytes: Uint8Array) => unknown): Promise<void> {
  const end = performance.now() + SECONDS * 1000;
  const before = process.memoryUsage.rss();
  let [good, bad, n] = [0, 0, 0];
  for (const bytes of inputs(samples, SEED)) {
    const start = performance.now();
    try {
      await load(bytes);
      good++;
    } catch (e) {
      if (!(e instanceof VmError)) {
        const base64 = Buffer.from(bytes).toString('base64').slice(0, 4000);
        throw new Error(`FUZZ_SEED=${SEED}, input ${n} (${bytes.length} bytes, ${base64}): ${e}`, { cause: e });
      }
      bad++;
    }
    const took = performance.now() - start;
    if (took > SLOW_MS) throw new Error(`FUZZ_SEED=${SEED}, input ${n} took ${took} ms`);
    n++;
    if (performance.now() > end) break;
  }
  expect(process.memoryUsage.rss() - before).toBeLessThan(GROWTH_LIMIT);
  // The samples are valid and most changes are not: both ways must have been taken.
  expect(good).toBeGreaterThanOrEqual(samples.length);
  expect(bad).toBeGreaterThan(0);
}

const image = makeArm64Image(4096, { imageSize: 8192n });
const text = (s: string) => new TextEncoder().encode(s);

describe(`loaders under FUZZ_SEED=${SEED}`, () => {
  const base = 0x4000_0000;
  const bytes = new Uint8Array(8 << 20);
  const memory = createGuestMemory([{ base, size: bytes.length, kind: 'ram', bytes }]);
  const boot = (file: Uint8Array) => {
    const kernel = loadKernel(file, { limit: LIMIT });
    const p = placeArm64({ memory, ramBase: base, ramSize: bytes.length, kernel, initrd: image, dtbSize: 4096 });
    expect(memory.contains(p.entry, 4) && memory.contains(p.dtbAddress, 4096)).toBe(true);
  };

  it('Image', () => fuzz([image, makeArm64Image(64), makeArm64Image(4096, { flags: 6n, textOffset: 0x80000n })], boot));

  it('ELF', async () => {
    const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const elf = makeElf([
      { paddr: base, data, memsz: 4096 },
      { paddr: base + 65536, vaddr: 0x8000_0000, data },
    ]);
    await fuzz([elf, makeElf([{ paddr: base, data }])], file => {
      boot(file);
      readElfSegments(file);
    });
  });

  describe('x86', () => {
    const lowBytes = new Uint8Array(8 << 20);
    const ram = [{ base: 0, size: lowBytes.length }];
    const low = createGuestMemory([{ base: 0, size: lowBytes.length, kind: 'ram', bytes: lowBytes }]);
    const reserved = [{ base: 0xa_0000, size: 0x6_0000, type: 2 }];
    const bootX86 = (file: Uint8Array) => {
      const looks = isX86Kernel(file);
      const kernel = loadX86Kernel(file, { limit: LIMIT });
      expect(looks).toBe(true);
      const boot = {
        memory: low,
        ram,
        reserved,
        kernel,
        initrd: image,
        params: 'quiet',
        acpiRsdp: 0,
        seed: text('seed'),
      };
      expect(low.contains(placeX86(boot).rip, 1)).toBe(true);
    };
    const fields = { pref_address: 0x20_0000n, init_size: 1 << 20 };
    const small = { ...fields, setup_sects: 1, relocatable_kernel: 0 };
    const bzImages = [makeBzImage(4096, fields), makeBzImage(16, small)];
    const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const segments = [
      { paddr: 0x10_0000, data, memsz: 4096 },
      { paddr: 0x20_0000, vaddr: 0xffff_ffff_8020_0000n, data },
    ];

    it('bzImage', () => fuzz(bzImages, bootX86));
    it('bzImage, gzip', () =>
      fuzz(
        bzImages.map(b => gzipSync(b)),
        bootX86,
      ));
    it('ELF', async () => {
      const notes = [LINUX_NOTE, pvhNote(0x10_0004)];
      const samples = [
        makeElf(segments, { machine: 62 }),
        makeElf(segments, { machine: 62, notes }),
        makeElf(segments, { machine: 62, notes: notes.slice(1) }),
        makeElf(segments.slice(0, 1), { machine: 3, bits: 32 }),
        makeElf(segments.slice(0, 1), { machine: 3, bits: 32, notes: notes.slice(1) }),
      ];
      await fuzz(samples, file => {
        bootX86(file);
        readElfNotes(file);
      });
    });
  });

  it('gzip', () => fuzz([gzipSync(image), gzipSync(makeArm64Image(100_000))], boot));

  it('zboot', () => fuzz([makeZboot(gzipSync(image), 'gzip'), makeZboot(IMAGE_ZST, 'zstd')], boot));

  it('zstd', () => fuzz([IMAGE_ZST], file => unzstd(file, LIMIT, 'the test', 200_000)));

  it('kernel modules', () =>
    fuzz([moduleWith('depends=a,b\0softdep=pre: c\0'), moduleWith('x', '.y')], readModuleInfo));

  it('cpio', async () => {
    const entry = (path: string, n: number) => ({ path, mode: S_IFREG | 0o644, data: image.subarray(0, n) });
    await fuzz([createCpio([entry('a', 3), entry('b/c', 40)]), createCpio([])], readCpio);
  });

  it('ar and Debian packages', async () => {
    const files = { './bin/busybox': text('busybox'), './boot/vmlinuz-1': image };
    const samples = [await makeDeb(files, 'gz'), await makeDeb(files, 'none'), await makeDeb(files, 'xz')];
    await fuzz(samples, readAr);
    await fuzz(samples, file => readDeb(file, () => true));
  });

  it('xz', async () => {
    const sample = Buffer.from(
      '/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4AAXAAxdADQZSe6N6VYKwSGwAABsFO0bO2i7kQABKBjXg7duH7bzfQEAAAAABFla',
      'base64',
    );
    await fuzz([sample], file => unxz(file, LIMIT));
  });

  it('package lists and Release files', async () => {
    const list = `Package: a\nDepends: x\n\nPackage: b\nSHA256:\n ${'0'.repeat(64)} 12 main/x\n`;
    const signed = `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n${list}\n-----BEGIN PGP SIGNATURE-----\n`;
    const read = (file: Uint8Array) => {
      const s = stripClearsign(new TextDecoder().decode(file));
      const stanza = findStanza(s, 'b');
      if (!stanza) throw new VmError('ERR_DOWNLOAD', 'no stanza');
      return [releaseFiles(stanza), parseStanza(s)];
    };
    await fuzz([text(list), text(signed)], read);
  });
});
