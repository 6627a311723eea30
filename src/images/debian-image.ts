import { gunzip, unzstd } from '../firmware/decompress.ts';
import { VmError } from '../util/errors.ts';
import { readDeb, unxz } from './deb.ts';
import { createInitramfs, type Initramfs } from './initramfs.ts';

/** Enough for the largest module there is, in bytes. */
const MODULE_LIMIT = 64 << 20;

/** A kernel and an initramfs made from Debian's packages. */
export interface DebianGuest {
  /** The file boot/vmlinuz-* as Debian built it. */
  readonly kernel: Uint8Array;
  readonly initramfs: Initramfs;
  /** What `uname -r` will say, e.g. 6.1.0-9-cloud-amd64. */
  readonly release: string;
}

/**
 * Makes a guest out of a linux-image package and a busybox-static package of one architecture.
 *
 * @throws VmError ERR_DOWNLOAD when a package is damaged or lacks a file that is needed.
 */
export async function buildDebianGuest(
  kernelDeb: Uint8Array,
  busyboxDeb: Uint8Array,
  options: { readonly spareModules?: readonly string[]; readonly signal?: AbortSignal | undefined } = {},
): Promise<DebianGuest> {
  const { spareModules = [], signal } = options;
  // Debian moved both folders below /usr in 2024.
  const busyboxFiles = await readDeb(busyboxDeb, path => /^(usr\/)?bin\/busybox$/.test(path), signal);
  const [busybox] = busyboxFiles.values();
  if (!busybox) throw lacks('busybox-static', 'bin/busybox');
  const files = await readDeb(
    kernelDeb,
    path => path.startsWith('boot/vmlinuz-') || /^(usr\/)?lib\/modules\/.*\.ko(\.\w+)?$/.test(path),
    signal,
  );
  const [kernelPath, kernel] = [...files].find(([path]) => path.startsWith('boot/vmlinuz-')) ?? [];
  if (!kernelPath || !kernel) throw lacks('linux-image', 'boot/vmlinuz-*');
  files.delete(kernelPath);
  const modules = new Map<string, Uint8Array>();
  for (const [path, bytes] of files) modules.set(path, await uncompressed(path, bytes));
  return {
    kernel,
    initramfs: createInitramfs({ busybox, modules, spare: spareModules }),
    release: kernelPath.replace(/^boot\/vmlinuz-/, ''),
  };
}

async function uncompressed(path: string, bytes: Uint8Array): Promise<Uint8Array> {
  if (path.endsWith('.xz')) return unxz(bytes, MODULE_LIMIT);
  if (path.endsWith('.gz')) return gunzip(bytes, MODULE_LIMIT, path);
  if (path.endsWith('.zst')) return unzstd(bytes, MODULE_LIMIT, path);
  return bytes;
}

function lacks(what: string, file: string): VmError {
  return new VmError('ERR_DOWNLOAD', `the package ${what} has no ${file}`, { hint: 'Try another suite or mirror.' });
}
