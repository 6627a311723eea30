import { type CpioEntry, createCpio, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from '../firmware/cpio.ts';
import { moduleName, readModuleInfo } from '../firmware/kernel-module.ts';
import { VmError } from '../util/errors.ts';
import { DHCP_LEASE, HOTPLUG, INIT_SCRIPT, LOAD_VIRTIO, SHELL_RC } from './init-script.ts';

/**
 * Modules that a guest on virtio over PCI may use, by normalized name. Those that a kernel does not ship (built in, or not
 * configured: Debian's cloud kernel has no 9P) are left out.
 */
export const VIRTIO_MODULES: readonly string[] = [
  'virtio_pci',
  'virtio_blk',
  'virtio_net',
  'virtio_console',
  'virtio_rng',
  'virtio_balloon',
  'virtio_mem',
  'vmw_vsock_virtio_transport',
  'virtiofs',
  '9pnet_virtio',
  '9p',
];

/** What {@link createInitramfs} is made from. */
export interface InitramfsParts {
  /** A statically linked busybox for the guest's architecture. */
  readonly busybox: Uint8Array;
  /** The kernel's modules, uncompressed, by path. */
  readonly modules: ReadonlyMap<string, Uint8Array>;
  /** Modules to take along with all that they need; default {@link VIRTIO_MODULES}. */
  readonly wanted?: readonly string[];
  /** Modules to take along, with all that they need, which /init does not load. */
  readonly spare?: readonly string[];
}

/** An initramfs and what became of the wanted modules. */
export interface Initramfs {
  /** An uncompressed cpio archive. */
  readonly bytes: Uint8Array;
  /** File names in the order of loading. */
  readonly order: readonly string[];
  /** Wanted modules that the kernel does not ship. */
  readonly absent: readonly string[];
}

/**
 * A small initramfs: busybox with a link per applet, /init, and the modules for virtio. The same parts give the same bytes.
 *
 * @throws VmError ERR_DOWNLOAD when a module needs another one that is not among `modules`.
 */
export function createInitramfs(parts: InitramfsParts): Initramfs {
  const wanted = parts.wanted ?? VIRTIO_MODULES;
  const { order, absent } = resolveModules(parts.modules, wanted);
  // Those of `order` come first again.
  const all = resolveModules(parts.modules, [...wanted, ...(parts.spare ?? [])]).order;
  const text = (s: string) => new TextEncoder().encode(s);
  const entries: CpioEntry[] = [
    ...['bin', 'dev', 'etc', 'lib', 'lib/modules', 'mnt', 'proc', 'root', 'run', 'sys', 'tmp'].map(path => ({
      path,
      mode: S_IFDIR | (path === 'tmp' ? 0o1777 : path === 'root' ? 0o700 : 0o755),
    })),
    // The kernel opens /dev/console for init before anything is mounted.
    { path: 'dev/console', mode: S_IFCHR | 0o600, major: 5, minor: 1 },
    { path: 'init', mode: S_IFREG | 0o755, data: text(INIT_SCRIPT) },
    { path: 'etc/shrc', mode: S_IFREG | 0o644, data: text(SHELL_RC) },
    { path: 'etc/passwd', mode: S_IFREG | 0o644, data: text('root:x:0:0:root:/root:/bin/sh\n') },
    { path: 'etc/group', mode: S_IFREG | 0o644, data: text('root:x:0:\n') },
    { path: 'bin/load-virtio', mode: S_IFREG | 0o755, data: text(LOAD_VIRTIO) },
    { path: 'bin/hotplug', mode: S_IFREG | 0o755, data: text(HOTPLUG) },
    { path: 'bin/dhcp-lease', mode: S_IFREG | 0o755, data: text(DHCP_LEASE) },
    { path: 'bin/busybox', mode: S_IFREG | 0o755, data: parts.busybox },
    ...busyboxApplets(parts.busybox).map(applet => ({
      path: `bin/${applet}`,
      mode: S_IFLNK | 0o777,
      data: text('busybox'),
    })),
    { path: 'lib/modules/order', mode: S_IFREG | 0o644, data: text(order.map(p => `${baseName(p)}\n`).join('')) },
    ...all.map(path => ({
      path: `lib/modules/${baseName(path)}`,
      mode: S_IFREG | 0o644,
      data: parts.modules.get(path) ?? new Uint8Array(0),
    })),
  ];
  return { bytes: createCpio(entries), order: order.map(baseName), absent };
}

/**
 * The paths of the wanted modules and of all that they depend on, dependencies first. What depmod would write is not in a
 * package, so the modules are asked themselves.
 *
 * @throws VmError ERR_DOWNLOAD when a dependency is missing.
 */
export function resolveModules(
  modules: ReadonlyMap<string, Uint8Array>,
  wanted: readonly string[],
): { order: string[]; absent: string[] } {
  const byName = new Map([...modules.keys()].sort().map(path => [moduleName(path), path]));
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return; // before the descent: the kernel allows no cycles, a broken package must not hang us
    seen.add(path);
    const info = readModuleInfo(modules.get(path) ?? new Uint8Array(0));
    for (const name of info.softPre) {
      const needed = byName.get(name);
      if (needed) visit(needed);
    }
    for (const name of info.depends) {
      const needed = byName.get(name);
      if (!needed) throw new VmError('ERR_DOWNLOAD', `the kernel package lacks module ${name}, which ${path} needs`);
      visit(needed);
    }
    order.push(path);
  };
  const absent = wanted.filter(name => !byName.has(name));
  for (const name of wanted) {
    const path = byName.get(name);
    if (path) visit(path);
  }
  return { order, absent };
}

/** Applets to link when a busybox does not show its own list. */
const COMMON_APPLETS =
  'ash base64 cat chmod chown chroot cp cttyhack cut date dd df dmesg du echo env false find free grep head hexdump id ifconfig insmod ip kill less ln ls lsmod md5sum mkdir mknod mount mv nc ping poweroff printf ps pwd reboot rm rmdir rmmod sed seq setsid sh sha256sum sleep sort stty sync tail tar tee test time top touch tr true udhcpc uevent umount uname uptime vi wc which xargs';

/**
 * The names of the applets in a busybox binary. It keeps them as one sorted table of NUL-terminated names, which starts
 * with `[` and `[[`; the binary cannot be run on the host to ask it.
 */
export function busyboxApplets(busybox: Uint8Array): string[] {
  const text = Buffer.from(busybox.buffer, busybox.byteOffset, busybox.byteLength);
  const start = text.indexOf('[\0[[\0', 0, 'latin1');
  if (start >= 0) {
    const names = text
      .subarray(start, start + 8192)
      .toString('latin1')
      .split('\0');
    const end = names.findIndex(n => !/^[a-z0-9_.[-]+$/i.test(n));
    const applets = names.slice(0, Math.max(end, 0)).filter(n => n !== 'busybox');
    if (['sh', 'mount', 'insmod', 'poweroff', 'cttyhack'].every(n => applets.includes(n))) return [...new Set(applets)];
  }
  return COMMON_APPLETS.split(' ');
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1).replace(/\.ko\.\w+$/, '.ko');
}
