import { resolve } from 'node:path';
import type {
  ConsoleConfig,
  DeviceConfig,
  DiskConfig,
  ForwardConfig,
  NetConfig,
  ShareConfig,
} from '../machine/machine.ts';
import { VmError } from '../util/errors.ts';
import { type DefinitionConfig, type PciDeviceOption, resolvePciDevice } from './pci-devices.ts';

/** A disk: a raw image file or a block device. */
export interface DiskOptions {
  /** The image; its size is a multiple of 512 bytes. */
  path: string;
  /** Refuse writes. Default false. */
  readOnly?: boolean | undefined;
  /** Copy-on-write: all changes go to this file, which is made if it is not there; `path` stays as it is. */
  cow?: string | undefined;
}

/** A network interface. */
export interface NetOptions {
  /** `'user'`: a network of the guest's own behind the host's sockets; `{ tap }`: a TAP interface of Linux. */
  backend: 'user' | { tap: string };
  /** Ports of the host that lead into the guest; `'user'` only. */
  forward?: readonly ForwardOptions[] | undefined;
  /** Default: 52:54:00:12:34:56 and counting. */
  mac?: string | undefined;
}

/** A port of the host that leads into the guest. */
export interface ForwardOptions {
  protocol?: 'tcp' | 'udp' | undefined;
  /** Default 127.0.0.1. */
  hostAddress?: string | undefined;
  /** 0: any free one, which the event `forward` tells. */
  hostPort: number;
  guestPort: number;
}

/** A folder of the host that the guest mounts by its tag: `mount -t virtiofs TAG /mnt`. */
export interface ShareOptions {
  directory: string;
  tag: string;
  readOnly?: boolean | undefined;
}

/** The parts of {@link VmOptions} that become PCI devices. */
export interface DeviceOptions {
  /** Disks: `'FILE[,ro|,cow=FILE]'` or an object, one or several; the guest sees them in this order. */
  disk?: string | DiskOptions | readonly (string | DiskOptions)[] | undefined;
  /** Network interfaces: `'user[,forward=...]'`, `'tap=NAME'`, or an object. Default: none. */
  net?: string | NetOptions | readonly (string | NetOptions)[] | undefined;
  /** A source of randomness. Default false. */
  rng?: boolean | undefined;
  /** A memory balloon. Default false. */
  balloon?: boolean | undefined;
  /** A socket device; the guest's context id, 3 or more. */
  vsock?: number | undefined;
  /** Named streams into the guest, see {@link Vm.channel}: ports of one virtio-console, at most 30. */
  channel?: string | readonly string[] | undefined;
  /** Folders of the host: `'DIR,TAG[,ro]'` or an object. */
  share?: string | ShareOptions | readonly (string | ShareOptions)[] | undefined;
  /** PCI devices: paths of modules that export one, `'edu'`, `'pci-testdev'`, or definitions. */
  pci?: PciDeviceOption | readonly PciDeviceOption[] | undefined;
}

/** A list of one, or the list. */
function many<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

/**
 * The devices of a machine in the order of the bus: disks, networks, the rest.
 * @throws VmError ERR_USAGE for a text that is none of the forms in docs/cli.md.
 */
export function resolveDevices(o: DeviceOptions): (DeviceConfig | DefinitionConfig)[] {
  return [
    ...many(o.disk).map((d, n) => resolveDisk(d, `disk${n}`)),
    ...many(o.net)
      .filter(n => n !== 'none')
      .map((d, n) => resolveNet(d, n)),
    ...(o.rng ? [{ kind: 'rng', name: 'rng' } as const] : []),
    ...(o.balloon ? [{ kind: 'balloon', name: 'balloon' } as const] : []),
    ...(o.vsock === undefined ? [] : [{ kind: 'vsock', name: 'vsock', cid: o.vsock } as const]),
    ...resolveChannels(many(o.channel)),
    ...many(o.share).map((s, n) => resolveShare(s, `share${n}`)),
    ...many(o.pci).map(resolvePciDevice),
  ];
}

/** `FILE[,ro][,cow=FILE]` */
export function resolveDisk(d: string | DiskOptions, name: string): DiskConfig {
  const { path, readOnly = false, cow } = typeof d === 'string' ? diskFromText(d) : d;
  if (!isText(path)) throw usage('disk', d, 'names no file', 'FILE[,ro|,cow=FILE]');
  if (typeof readOnly !== 'boolean' || (cow !== undefined && !isText(cow))) {
    throw usage('disk', d, 'has a bad field', '{ path: string, readOnly?: boolean, cow?: string }');
  }
  if (readOnly && cow !== undefined) throw usage('disk', d, 'cannot be both ro and cow', 'FILE[,ro|,cow=FILE]');
  return {
    kind: 'disk',
    name,
    path: resolve(path),
    readOnly,
    cow: cow === undefined ? undefined : resolve(cow),
  };
}

function diskFromText(text: string): DiskOptions {
  const [path = '', ...flags] = text.split(',');
  const d: DiskOptions = { path };
  for (const flag of flags) {
    if (flag === 'ro') d.readOnly = true;
    else if (flag.startsWith('cow=') && flag.length > 4) d.cow = flag.slice(4);
    else throw usage('disk', text, `has no flag '${flag}'`, 'FILE[,ro|,cow=FILE]; a file name cannot have a comma');
  }
  return d;
}

const NET_FORM = 'user[,forward=[tcp|udp:][ADDRESS:]HOSTPORT:GUESTPORT]..., tap=NAME or none';

function resolveNet(d: string | NetOptions, n: number): NetConfig {
  const { backend, forward = [], mac } = typeof d === 'string' ? netFromText(d) : d;
  const fields = '{ backend: "user" or { tap: string }, forward?: [{ hostPort, guestPort }], mac?: string }';
  const tap = typeof backend === 'object' && backend !== null ? backend.tap : undefined;
  if ((backend !== 'user' && !isText(tap)) || !Array.isArray(forward)) throw usage('net', d, 'has a bad field', fields);
  const address = mac ?? `52:54:00:12:34:${(0x56 + n).toString(16)}`;
  if (typeof address !== 'string' || !/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(address)) {
    throw usage(
      'net',
      d,
      `has a bad MAC address ${address}`,
      'six bytes such as 52:54:00:12:34:56, the first one even',
    );
  }
  const common = { kind: 'net', name: `net${n}`, mac: address } as const;
  if (tap !== undefined) {
    if (forward.length > 0) throw usage('net', d, 'cannot forward ports to a TAP interface', NET_FORM);
    if (!/^[^\s/]{1,15}$/.test(tap)) throw usage('net', d, 'has a bad interface name', NET_FORM);
    return { ...common, backend: 'tap', interface: tap };
  }
  const forwards = forward.map((f: ForwardOptions): ForwardConfig => {
    if (typeof f !== 'object' || f === null) throw usage('net', d, 'has a bad forward', fields);
    const { protocol = 'tcp', hostAddress = '127.0.0.1', hostPort, guestPort } = f;
    const port = (p: number, low: number) => Number.isInteger(p) && p >= low && p < 65536;
    if ((protocol !== 'tcp' && protocol !== 'udp') || !isText(hostAddress)) {
      throw usage('net', d, 'has a bad forward', fields);
    }
    if (!port(hostPort, 0) || !port(guestPort, 1)) throw usage('net', d, 'has a bad port', NET_FORM);
    return { protocol, hostAddress, hostPort, guestPort };
  });
  return { ...common, backend: 'user', forwards };
}

function netFromText(text: string): NetOptions {
  const [backend = '', ...flags] = text.split(',');
  const net: NetOptions = { backend: backend.startsWith('tap=') ? { tap: backend.slice(4) } : 'user' };
  if (net.backend === 'user' && backend !== 'user') throw usage('net', text, 'is no network', NET_FORM);
  const forward: ForwardOptions[] = [];
  for (const flag of flags) {
    const m = /^forward=(?:(tcp|udp):)?(?:([^:]+|\[[0-9a-f:]+\]):)?(\d{1,5}):(\d{1,5})$/i.exec(flag);
    if (flag.startsWith('mac=')) net.mac = flag.slice(4);
    else if (m === null) throw usage('net', text, `has no flag '${flag}'`, NET_FORM);
    else {
      const [, protocol = 'tcp', hostAddress, hostPort, guestPort] = m;
      forward.push({
        protocol: protocol.toLowerCase() as 'tcp' | 'udp',
        ...(hostAddress === undefined ? {} : { hostAddress: hostAddress.replace(/^\[|\]$/g, '') }),
        hostPort: Number(hostPort),
        guestPort: Number(guestPort),
      });
    }
  }
  return { ...net, forward };
}

/** A console with the ports of these names; its terminal is there in any case, and can be named to have nothing else. */
function resolveChannels(names: readonly string[]): ConsoleConfig[] {
  if (names.length === 0) return [];
  const form = 'names of 1 to 255 bytes without / and control characters';
  for (const [i, name] of names.entries()) {
    // Linux shows a name in sysfs, and udev makes a file of that name.
    if (!isText(name) || /[/\p{Cc}]/u.test(name) || new TextEncoder().encode(name).length > 255) {
      throw usage('channel', name, 'cannot be the name of a channel', form);
    }
    if (names.indexOf(name) !== i) throw usage('channel', name, 'is given twice', form);
  }
  const channels = names.filter(n => n !== 'hvc0');
  if (channels.length > 30) throw usage('channel', names, 'are too many names', 'give 30 at most');
  return [{ kind: 'console', name: 'console', channels }];
}

function resolveShare(s: string | ShareOptions, name: string): ShareConfig {
  const form = 'DIR,TAG[,ro]';
  let options = s;
  if (typeof options === 'string') {
    const m = /^(.+?),([^,]+)(,ro)?$/.exec(options);
    if (m === null) throw usage('share', s, 'is incomplete', form);
    options = { directory: m[1]!, tag: m[2]!, readOnly: m[3] !== undefined };
  }
  const { directory, tag, readOnly = false } = options;
  if (!isText(directory) || typeof tag !== 'string' || typeof readOnly !== 'boolean') {
    throw usage('share', s, 'has a bad field', '{ directory: string, tag: string, readOnly?: boolean }');
  }
  // Virtio 1.2 section 5.11.4: 36 bytes of UTF-8.
  if (new TextEncoder().encode(tag).length > 36 || tag === '')
    throw usage('share', s, 'has a bad tag', '1 to 36 bytes');
  return { kind: 'share', name, directory: resolve(directory), tag, readOnly };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0');
}

/**
 * The options of a configuration file with every path made absolute by `beside`, which knows the file's folder. What is no path
 * or of a wrong type stays as it is, for the checks to refuse.
 */
export function relocateDevices(options: Record<string, unknown>, beside: (path: string) => string): void {
  const each = (key: string, f: (spec: unknown) => unknown) => {
    const value = options[key];
    if (value !== undefined) options[key] = Array.isArray(value) ? value.map(f) : f(value);
  };
  const field = (spec: unknown, ...names: string[]) => {
    if (typeof spec !== 'object' || spec === null) return spec;
    const copy: Record<string, unknown> = { ...spec };
    for (const name of names) if (isText(copy[name])) copy[name] = beside(copy[name]);
    return copy;
  };
  const first = (text: string) => text.replace(/^[^,]+/, beside);
  each('disk', d =>
    typeof d === 'string'
      ? first(d).replace(/,cow=([^,]+)/, (_, cow) => `,cow=${beside(cow)}`)
      : field(d, 'path', 'cow'),
  );
  each('share', s => (typeof s === 'string' ? s.replace(/^.+?(?=,)/, beside) : field(s, 'directory')));
  // A word is the name of a device that comes with tsvisor.
  const module = (text: string) => (/^[\w-]+(,|$)/.test(text) ? text : first(text));
  each('pci', m => (typeof m === 'string' ? module(m) : m));
}

function usage(option: string, value: unknown, why: string, hint: string): VmError {
  return new VmError('ERR_USAGE', `${option}: ${JSON.stringify(value)} ${why}`, { hint, details: { option, value } });
}
