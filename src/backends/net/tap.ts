import { closeSync, constants, openSync, readFileSync, readSync, writevSync } from 'node:fs';
import type { FrameInfo, FrameReceiver, NetBackend, ReceiveOffloads } from '../../devices/virtio/net/backend.ts';
import { formatHeader, LONGEST_FRAME, parseHeader, SHORT_HEADER_SIZE } from '../../devices/virtio/net/header.ts';
import { gather } from '../../devices/virtio/pieces.ts';
import { VmError, type VmErrorOptions } from '../../util/errors.ts';

/** What of the host's system calls a TAP device needs and Node does not have; the addon has it. */
export interface TapHost<Watch> {
  ioctl(fd: number, request: number, argument: number | ArrayBufferView): number;
  /** Calls back with 0 whenever `fd` is readable, and once with an errno when it can no longer be waited for. */
  watch(fd: number, callback: (errno: number) => void): Watch;
  setWatching(watch: Watch, wanted: boolean): void;
  unwatch(watch: Watch): void;
}

/** How {@link openTap} finds its interface. */
export interface TapOptions<Watch> {
  /** Name of an existing TAP interface of the host. */
  readonly name: string;
  /** Gives the addon, or throws a VmError that says why there is none. */
  host(): TapHost<Watch>;
  /** The interface was deleted while the machine ran; nothing is sent or received any more. */
  onLost?(error: VmError): void;
}

// linux/if_tun.h.
const TUNSETIFF = 0x4004_54ca;
const TUNSETOFFLOAD = 0x4004_54d0;
const TUNSETVNETHDRSZ = 0x4004_54d8;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;

/** struct ifreq: a name of IFNAMSIZ bytes, then a union with the flags in front. */
const IFREQ_SIZE = 40;
const IFNAMSIZ = 16;

const DEVICE = '/dev/net/tun';
const DEFAULT_MTU = 1500;
/** Frames that are read before other things get their turn; epoll reports the rest at once. */
const FRAMES_PER_TURN = 64;
/** More pieces than this are joined: writev() takes 1024, and Node would send the others as another frame. */
const MOST_PIECES = 1000;

/**
 * Connects to a TAP interface of the Linux host (`ip tuntap add NAME mode tap user USER`).
 *
 * @throws VmError ERR_NETWORK, with a hint, when there is no such interface, it is not ours to use or in use already, or when
 * the host is no Linux or lacks the addon or /dev/net/tun.
 */
export function openTap<Watch>(options: TapOptions<Watch>): NetBackend {
  const { name } = options;
  if (process.platform !== 'linux') {
    throw new VmError('ERR_NETWORK', `TAP interfaces are Linux's, this is ${process.platform}`, {
      hint: 'Use the user network instead: -n user.',
    });
  }
  const host = addonOf(options);
  requireInterface(name);
  const fd = openDevice();
  try {
    attach(host, fd, name);
    // The interface may remember another size from its last user. The header of a TAP device has no number of buffers.
    host.ioctl(fd, TUNSETVNETHDRSZ, Int32Array.of(SHORT_HEADER_SIZE));
    host.ioctl(fd, TUNSETOFFLOAD, 0);
  } catch (e) {
    closeSync(fd);
    throw e instanceof VmError && e.code === 'ERR_NETWORK' ? e : failed(`${DEVICE} cannot be set up`, { cause: e });
  }
  return new Tap(host, fd, options);
}

class Tap<Watch> implements NetBackend {
  // The headers of frames go to the kernel and come from it as they are.
  readonly offloads = { checksum: true, tso: true, largeReceive: true };
  readonly mtu: number;
  readonly #host: TapHost<Watch>;
  readonly #options: TapOptions<Watch>;
  #fd: number | undefined;
  #watch: Watch | undefined;
  #receive: FrameReceiver | undefined;

  readonly #header = new Uint8Array(SHORT_HEADER_SIZE);
  readonly #buffer = new Uint8Array(SHORT_HEADER_SIZE + LONGEST_FRAME);
  /** A frame in #buffer that the guest had no room for. */
  #held: { readonly frame: Uint8Array; readonly info: FrameInfo } | undefined;

  constructor(host: TapHost<Watch>, fd: number, options: TapOptions<Watch>) {
    this.#host = host;
    this.#fd = fd;
    this.#options = options;
    this.mtu = mtuOf(options.name);
  }

  get active(): boolean {
    return this.#watch !== undefined;
  }

  send(frame: readonly Uint8Array[], info: FrameInfo): void {
    if (this.#fd === undefined) return;
    const length = frame.reduce((n, p) => n + p.length, 0);
    formatHeader(this.#header, info, length);
    let pieces = frame;
    if (frame.length > MOST_PIECES) {
      const whole = new Uint8Array(length);
      gather(frame, whole);
      pieces = [whole];
    }
    try {
      writevSync(this.#fd, [this.#header, ...pieces]);
    } catch {
      // EIO: the interface is down. EAGAIN: it is behind. EINVAL: the frame makes no sense. A wire loses frames as well.
    }
  }

  start(receive: FrameReceiver, accepts: ReceiveOffloads): void {
    if (this.#fd === undefined) return;
    this.stop();
    this.#receive = receive;
    this.#setOffloads(this.#fd, (accepts.checksum ? TUN_F_CSUM : 0) | (accepts.tso4 ? TUN_F_TSO4 : 0));
    this.#watch = this.#host.watch(this.#fd, errno => {
      if (errno === 0) this.#read();
      else this.#lose();
    });
  }

  stop(): void {
    if (this.#watch !== undefined) this.#host.unwatch(this.#watch);
    this.#watch = this.#receive = this.#held = undefined;
  }

  roomAvailable(): void {
    const held = this.#held;
    if (held === undefined || !this.#receive?.(held.frame, held.info)) return;
    this.#held = undefined;
    if (this.#watch !== undefined) this.#host.setWatching(this.#watch, true);
  }

  async close(): Promise<void> {
    this.stop();
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #read(): void {
    for (let i = 0; i < FRAMES_PER_TURN; i++) {
      // The receiver may stop us, and a frame that waits has the buffer.
      if (this.#fd === undefined || this.#receive === undefined || this.#held !== undefined) return;
      const n = readFrame(this.#fd, this.#buffer);
      if (n === undefined) return;
      if (n === 'gone') {
        this.#lose();
        return;
      }
      const info = parseHeader(this.#buffer);
      if (info === undefined) continue;
      const frame = this.#buffer.subarray(SHORT_HEADER_SIZE, n);
      if (this.#receive(frame, info)) continue;
      // The rest stays in the kernel's queue, which has a limit and drops what is beyond it.
      this.#held = { frame, info };
      if (this.#watch !== undefined) this.#host.setWatching(this.#watch, false);
    }
  }

  #setOffloads(fd: number, flags: number): void {
    try {
      this.#host.ioctl(fd, TUNSETOFFLOAD, flags);
    } catch {
      // Without an interface (EBADFD) there are no frames either; the watch reports it.
    }
  }

  #lose(): void {
    this.stop();
    this.#options.onLost?.(
      failed(`the TAP interface ${this.#options.name} is gone`, { hint: 'Create it again and restart the machine.' }),
    );
  }
}

function failed(message: string, options: VmErrorOptions = {}): VmError {
  return new VmError('ERR_NETWORK', message, options);
}

function addonOf<Watch>(options: TapOptions<Watch>): TapHost<Watch> {
  try {
    return options.host();
  } catch (e) {
    const { message, hint } = e as VmError;
    throw failed(`a TAP interface needs tsvisor's addon: ${message}`, { cause: e, ...(hint ? { hint } : {}) });
  }
}

/** TUNSETIFF would make an interface that is not there, without an address and only for as long as we run. */
function requireInterface(name: string): void {
  if (!/^[^\s/:%]+$/.test(name) || Buffer.byteLength(name) >= IFNAMSIZ) {
    throw failed(`'${name}' cannot be the name of a network interface`, {
      hint: 'A name has up to 15 bytes, without spaces, colons, slashes and percent signs.',
    });
  }
  // Unlike /sys/class/net it shows the interfaces of the network namespace that the process is in.
  const interfaces = readFileSync('/proc/net/dev', 'utf8').split('\n');
  if (!interfaces.some(line => line.trimStart().startsWith(`${name}:`))) {
    throw failed(`there is no network interface ${name}`, { hint: creation(name), details: { name } });
  }
}

function creation(name: string): string {
  return `As root: ip tuntap add ${name} mode tap user USER && ip link set ${name} up.`;
}

function openDevice(): number {
  try {
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (e) {
    const { code } = e as NodeJS.ErrnoException;
    const hint = code === 'ENOENT' || code === 'ENODEV' ? 'As root: modprobe tun.' : `As root: chmod 666 ${DEVICE}.`;
    throw failed(`${DEVICE} cannot be opened: ${code}`, { cause: e, hint, details: { errno: code } });
  }
}

function attach<Watch>(host: TapHost<Watch>, fd: number, name: string): void {
  const request = new DataView(new ArrayBuffer(IFREQ_SIZE));
  new Uint8Array(request.buffer).set(Buffer.from(name));
  // In the byte order of the host, which is little-endian wherever Node's typed arrays are.
  request.setUint16(IFNAMSIZ, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
  try {
    host.ioctl(fd, TUNSETIFF, request);
  } catch (e) {
    const errno = e instanceof VmError ? e.details.errno : undefined;
    const why: Record<string, [string, string]> = {
      EPERM: ['is not yours to use', creation(name)],
      EBUSY: ['is in use by another program', 'Each machine needs an interface of its own.'],
      EINVAL: ['is no TAP interface with one queue', 'See what there is: ip tuntap show.'],
    };
    const [what, hint] = why[String(errno)] ?? ['cannot be used', creation(name)];
    throw failed(`the network interface ${name} ${what}`, { cause: e, hint, details: { name, errno } });
  }
}

/** The interface's MTU in bytes. */
function mtuOf(name: string): number {
  try {
    return Number(readFileSync(`/sys/class/net/${name}/mtu`, 'utf8')) || DEFAULT_MTU;
  } catch {
    return DEFAULT_MTU; // no sysfs, or that of another network namespace
  }
}

/** Reads a frame with its header into `buffer`: bytes of both, undefined when there is none, 'gone' without an interface. */
function readFrame(fd: number, buffer: Uint8Array): number | undefined | 'gone' {
  try {
    return readSync(fd, buffer);
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EAGAIN' ? undefined : 'gone';
  }
}
