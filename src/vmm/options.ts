import { inspect } from 'node:util';
import { HOTPLUG_ALIGNMENT } from '../machine/address-map.ts';
import type { DeviceConfig, MachineName, MemConfig } from '../machine/machine.ts';
import { VmError } from '../util/errors.ts';
import { type DeviceOptions, resolveDevices } from './device-options.ts';
import { DEFAULT_PARAMS, MAX_RAM } from './machine-choice.ts';
import { nearest } from './nearest.ts';
import type { DefinitionConfig } from './pci-devices.ts';
import { formatSize, parseSize } from './units.ts';

/** What a virtual machine is made of. The same names are the keys of a configuration file and the CLI's long flags. */
export interface VmOptions extends DeviceOptions {
  /**
   * Path or bytes of a kernel: arm64 Image, Image.gz, EFI zboot; x86-64 bzImage, vmlinux; or an ELF of a bare-metal guest for
   * either. Or else `firmware`.
   */
  kernel?: string | Uint8Array | undefined;
  /** Path or bytes of a firmware that is built for QEMU's virt board, such as EDK2. It looks for what to boot itself. */
  firmware?: string | Uint8Array | undefined;
  /** File in which the firmware keeps its variables. Without it they are lost with the VM. */
  flash?: string | undefined;
  /** Path or bytes of an initial RAM disk. */
  initrd?: string | Uint8Array | undefined;
  /** Kernel command line. Default: the machine's in {@link DEFAULT_PARAMS}. */
  params?: string | undefined;
  /** Guest RAM: `'512M'`, `'2G'` or bytes. Default 512M. */
  memory?: string | number | undefined;
  /** Memory that can be plugged while the guest runs, see {@link VmMemory.requestHotplug}: a multiple of 128M. Default none. */
  hotplug?: string | number | undefined;
  /** vCPUs, 1 to 8. Default 1. */
  cpus?: number | undefined;
  /** How to run the guest; `'auto'` takes the fastest that works here and says why. Default `'auto'`. */
  engine?: 'auto' | 'kvm' | 'emu' | undefined;
  /** Which board to build; `'auto'` looks at the kernel. Default `'auto'`. */
  machine?: 'auto' | MachineName | undefined;
  /** `'host'` follows the host's clocks; `'virtual'` counts instructions and makes runs bit-identical. Default `'host'`. */
  clock?: 'host' | 'virtual' | undefined;
  /** arm-virt: version of the interrupt controller. Default 3. */
  gic?: 2 | 3 | undefined;
  /**
   * x86-pc: guests see that their time stamp counter is invariant. Linux takes it as its clock then, and not kvmclock, by which
   * it knows the host's time. Default false.
   */
  invariantTsc?: boolean | undefined;
  /** Whether the guest finds the clock of ptp_kvm, by which it reads the host's time precisely. Default true. */
  ptp?: boolean | undefined;
  /** `'stream'`: {@link Vm.console}; `'file:PATH'`: appended to a file as well; `'off'`: thrown away. Default `'stream'`. */
  console?: 'stream' | 'off' | `file:${string}` | undefined;
  /** A name for people. */
  name?: string | undefined;
  /** Topics to trace, see {@link TRACE_TOPICS}. */
  trace?: readonly TraceTopic[] | undefined;
  /** Seed of all randomness the guest sees, 0 to 2^53-1. Default: the host's entropy, or 0 with the virtual clock. */
  seed?: number | undefined;
  /** How the guest reaches PCI configuration space: 4 KiB of each function, or the 256 bytes of old. Default `'ecam'`. */
  pciHost?: 'ecam' | 'cam' | undefined;
  /** PCI Express slots for devices that are plugged into a running guest, 0 to 16. Default {@link DEFAULT_SLOTS}. */
  slots?: number | undefined;
  /** `'transitional'`: disks, networks, rng and balloon have the interface of before virtio 1.0, too. Default `'modern'`. */
  virtio?: 'modern' | 'transitional' | undefined;
  /** How much of the guest's memory devices may pin long-term: `'256M'` or bytes. Default: all of it, any number of times. */
  pinLimit?: string | number | undefined;
}

/** {@link VmOptions} checked, with every default filled in. */
export interface ResolvedOptions {
  readonly kernel: string | Uint8Array | undefined;
  readonly firmware: string | Uint8Array | undefined;
  readonly flash: string | undefined;
  readonly initrd: string | Uint8Array | undefined;
  /** undefined: the machine's default. */
  readonly params: string | undefined;
  readonly memory: number;
  readonly cpus: number;
  readonly engine: 'auto' | 'kvm' | 'emu';
  readonly machine: 'auto' | MachineName;
  readonly clock: 'host' | 'virtual';
  readonly gic: 2 | 3 | undefined;
  readonly invariantTsc: true | undefined;
  readonly ptp: boolean;
  readonly console: 'stream' | 'off' | `file:${string}`;
  readonly name: string | undefined;
  readonly trace: readonly TraceTopic[];
  readonly seed: number | undefined;
  readonly devices: readonly (DeviceConfig | DefinitionConfig)[];
  readonly slots: number;
  readonly virtio: 'modern' | 'transitional';
  readonly pciHost: 'ecam' | 'cam';
  /** Bytes; undefined: no limit. */
  readonly pinLimit: number | undefined;
}

/** What can be traced. */
export const TRACE_TOPICS = ['mmio', 'hypercall', 'pci'] as const;
export type TraceTopic = (typeof TRACE_TOPICS)[number];

/** No guest that we load runs in less. */
export const MIN_RAM = 2 ** 20;

/** Slots that are there unless asked otherwise; each costs the guest some milliseconds when it boots. */
export const DEFAULT_SLOTS = 2;

/** How an option is checked, and how it looks on the command line. */
export interface OptionSpec {
  readonly description: string;
  /** One-letter flag. */
  readonly short?: string;
  /** Placeholder of the value in the help. */
  readonly value: string;
  /** What a flag's text stands for; default: itself. 'off': the flag is --no-NAME, and switches off what is on by default. */
  readonly kind?: 'number' | 'list' | 'flag' | 'repeat' | 'off';
  /** What is wrong with a value that is not undefined, to follow the value in a message; undefined: nothing. */
  check(value: unknown): string | undefined;
}

/** A rule that one of `values` obeys. */
function oneOf(...values: readonly unknown[]): (value: unknown) => string | undefined {
  const list = values.length === 2 ? values.join(' or ') : `one of ${values.join(', ')}`;
  return v => (values.includes(v) ? undefined : `must be ${list}`);
}

/** A rule that whole numbers from `low` to `high` obey. */
function whole(low: number, high: number): (value: unknown) => string | undefined {
  const range = high === Number.MAX_SAFE_INTEGER ? 'not negative' : `from ${low} to ${high}`;
  return v =>
    Number.isSafeInteger(v) && (v as number) >= low && (v as number) <= high
      ? undefined
      : `must be a whole number, ${range}`;
}

/** Texts and objects that device-options.ts takes apart, one or several. */
const specs = (v: unknown) => {
  const one = (s: unknown) => (typeof s === 'string' && s !== '') || (typeof s === 'object' && s !== null);
  return (Array.isArray(v) ? v.every(one) : one(v)) ? undefined : 'must be a text or an object, or a list of them';
};
const flag = (v: unknown) => (typeof v === 'boolean' ? undefined : 'must be true or false');
const size = (v: unknown) =>
  typeof v === 'string' || typeof v === 'number' ? undefined : 'must be a size such as 512M';
const string = (v: unknown) => (typeof v === 'string' ? undefined : 'must be a string');
const file = (v: unknown) =>
  (typeof v === 'string' && v !== '') || v instanceof Uint8Array ? undefined : 'must be a path or a Uint8Array';

/**
 * The one source of option names: the library, configuration files and the CLI's flags are all made from it.
 * A plain table: loading a schema library would cost every start of the command a fifth of its time.
 */
export const OPTIONS: { readonly [K in keyof Required<VmOptions>]: OptionSpec } = {
  kernel: {
    description: 'kernel: Image, Image.gz, EFI zboot (arm64); bzImage, vmlinux (x86-64); or a bare-metal ELF',
    short: 'k',
    value: 'file',
    check: file,
  },
  initrd: { description: 'initial RAM disk', short: 'i', value: 'file', check: file },
  firmware: { description: "firmware for QEMU's virt board, in place of a kernel", value: 'file', check: file },
  flash: {
    description: 'file in which the firmware keeps its variables (default: they are lost)',
    value: 'file',
    check: v => (typeof v === 'string' && v !== '' ? undefined : 'must be a path'),
  },
  params: {
    description: `kernel command line (default: ${Object.entries(DEFAULT_PARAMS)
      .map(([machine, params]) => `"${params}" on ${machine}`)
      .join(', ')})`,
    short: 'p',
    value: 'text',
    check: v => string(v) ?? ((v as string).length < 2048 ? undefined : 'must be shorter than 2048 characters'),
  },
  memory: {
    description: 'guest RAM (default: 512M)',
    short: 'm',
    value: 'size',
    check: size,
  },
  hotplug: {
    description: 'memory that can be plugged later, a multiple of 128M (default: none)',
    value: 'size',
    check: size,
  },
  cpus: { description: 'vCPUs, 1 to 8 (default: 1)', short: 'c', value: 'count', kind: 'number', check: whole(1, 8) },
  engine: { description: 'auto, kvm or emu (default: auto)', value: 'kind', check: oneOf('auto', 'kvm', 'emu') },
  machine: {
    description: 'auto, arm-virt or x86-pc (default: auto, by the kernel)',
    value: 'board',
    check: oneOf('auto', 'arm-virt', 'x86-pc'),
  },
  clock: {
    description: 'host, or virtual: time from the instruction count, runs are bit-identical (default: host)',
    value: 'source',
    check: oneOf('host', 'virtual'),
  },
  gic: {
    description: 'arm-virt: version of the interrupt controller, 2 or 3 (default: 3)',
    value: 'version',
    kind: 'number',
    check: oneOf(2, 3),
  },
  invariantTsc: {
    description: 'x86-pc: guests take the time stamp counter as their clock, and not kvmclock',
    value: '',
    kind: 'flag',
    check: flag,
  },
  ptp: {
    description: "no clock of ptp_kvm, by which guests read the host's time",
    value: '',
    kind: 'off',
    check: flag,
  },
  console: {
    description: 'tty, off or file:PATH (default: tty)',
    value: 'where',
    check: v =>
      typeof v === 'string' && /^(stream|off|file:.+)$/s.test(v) ? undefined : 'must be stream, off or file:PATH',
  },
  name: { description: 'a name for people', value: 'name', check: string },
  trace: {
    description: `lines on stderr about ${TRACE_TOPICS.join(' and ')} (comma-separated)`,
    value: 'topics',
    kind: 'list',
    check: v => {
      if (!Array.isArray(v)) return 'must be a list';
      const bad: unknown = v.find(t => !TRACE_TOPICS.includes(t));
      if (bad === undefined) return undefined;
      const meant = nearest(String(bad), TRACE_TOPICS);
      return `has no topic '${bad}'${meant === undefined ? '' : `: did you mean '${meant}'?`}`;
    },
  },
  seed: {
    description: 'seed of the randomness that the guest sees',
    value: 'number',
    kind: 'number',
    check: whole(0, Number.MAX_SAFE_INTEGER),
  },
  disk: {
    description: 'disk: FILE[,ro|,cow=FILE]; repeat for more',
    short: 'd',
    value: 'spec',
    kind: 'repeat',
    check: specs,
  },
  net: {
    description: 'network: user[,forward=[tcp|udp:][ADDRESS:]PORT:GUESTPORT], tap=NAME or none (default: none)',
    short: 'n',
    value: 'spec',
    kind: 'repeat',
    check: specs,
  },
  rng: { description: 'a source of randomness', value: '', kind: 'flag', check: flag },
  balloon: { description: 'a memory balloon', value: '', kind: 'flag', check: flag },
  vsock: {
    description: 'a socket device with this context id',
    value: 'cid',
    kind: 'number',
    check: whole(3, 0xffff_fffe),
  },
  channel: {
    description: 'named stream into the guest, a port of a virtio-console; repeat for more',
    value: 'name',
    kind: 'repeat',
    check: specs,
  },
  share: { description: 'folder for the guest: DIR,TAG[,ro]', value: 'spec', kind: 'repeat', check: specs },
  pci: {
    description: 'PCI device: a module of yours, edu or pci-testdev',
    value: 'module',
    kind: 'repeat',
    check: specs,
  },
  pciHost: {
    description: 'ecam or cam: 4 KiB or 256 bytes of configuration space for each function (default: ecam)',
    value: 'access',
    check: oneOf('ecam', 'cam'),
  },
  slots: {
    description: `slots for devices that are plugged in later, 0 to 16 (default: ${DEFAULT_SLOTS})`,
    value: 'count',
    kind: 'number',
    check: whole(0, 16),
  },
  virtio: {
    description: 'modern, or transitional: for drivers from before virtio 1.0, too (default: modern)',
    value: 'interface',
    check: oneOf('modern', 'transitional'),
  },
  pinLimit: {
    description: 'guest memory that devices may pin long-term (default: no limit)',
    value: 'size',
    check: size,
  },
};

/** Names of all options, in the order of the help. */
export const OPTION_NAMES = Object.keys(OPTIONS) as readonly (keyof VmOptions)[];

/**
 * Checks options and fills in the defaults.
 * What depends on the machine and the engine is checked later: checkMachine().
 * @throws VmError ERR_USAGE (unknown or bad option), ERR_BAD_SIZE, ERR_MEMORY_TOO_SMALL, ERR_MEMORY_TOO_LARGE.
 */
export function resolveOptions(options: unknown): ResolvedOptions {
  const o = checkOptions(options);
  const memory = parseSize(o.memory ?? '512M', 'memory');
  if (memory < MIN_RAM) {
    throw new VmError('ERR_MEMORY_TOO_SMALL', `memory: ${formatSize(memory)} is too small for any guest`, {
      hint: 'a Linux guest wants 128M or more (was a unit forgotten? 512 is 512 bytes, 512M is 512 MiB)',
      details: { memory, minimum: MIN_RAM },
    });
  }
  if (memory > MAX_RAM) {
    throw new VmError('ERR_MEMORY_TOO_LARGE', `memory: ${formatSize(memory)} is more than any machine has room for`, {
      hint: `use at most ${formatSize(MAX_RAM)}`,
      details: { memory, maximum: MAX_RAM },
    });
  }
  if (memory % 4096 !== 0) {
    throw new VmError('ERR_BAD_SIZE', `memory: ${memory} bytes is no multiple of 4096`, {
      hint: 'give whole pages, for example 512M',
      details: { memory },
    });
  }
  const hotplug = resolveHotplug(o.hotplug);
  const clock = o.clock ?? 'host';
  return {
    kernel: o.kernel,
    firmware: o.firmware,
    flash: o.flash,
    initrd: o.initrd,
    params: o.params,
    memory,
    cpus: o.cpus ?? 1,
    engine: o.engine ?? 'auto',
    machine: o.machine ?? 'auto',
    clock,
    gic: o.gic,
    invariantTsc: o.invariantTsc || undefined,
    ptp: o.ptp ?? true,
    console: o.console ?? 'stream',
    name: o.name,
    trace: o.trace ?? [],
    // A deterministic run must not take its seed from the host.
    seed: o.seed ?? (clock === 'virtual' ? 0 : undefined),
    devices: [...resolveDevices(o), ...hotplug],
    slots: o.slots ?? DEFAULT_SLOTS,
    pciHost: o.pciHost ?? 'ecam',
    virtio: o.virtio ?? 'modern',
    pinLimit: o.pinLimit === undefined ? undefined : parseSize(o.pinLimit, 'pinLimit'),
  };
}

/** The device that plugs memory, if there is to be any. */
function resolveHotplug(option: string | number | undefined): MemConfig[] {
  const size = option === undefined ? 0 : parseSize(option, 'hotplug');
  if (size === 0) return [];
  if (size % HOTPLUG_ALIGNMENT !== 0) {
    throw new VmError('ERR_BAD_SIZE', `hotplug: ${size} bytes is no multiple of ${formatSize(HOTPLUG_ALIGNMENT)}`, {
      hint: 'Linux takes memory in such blocks: give, for example, 512M',
      details: { hotplug: size },
    });
  }
  if (size > MAX_RAM) {
    throw new VmError('ERR_MEMORY_TOO_LARGE', `hotplug: ${formatSize(size)} is more than any machine has room for`, {
      hint: `use at most ${formatSize(MAX_RAM)}`,
      details: { hotplug: size, maximum: MAX_RAM },
    });
  }
  return [{ kind: 'mem', name: 'mem', size }];
}

/** The options, each of its proper type. An unknown name comes first: it explains most of what else is wrong. */
function checkOptions(options: unknown): VmOptions {
  if (typeof options !== 'object' || options === null) throw new VmError('ERR_USAGE', 'options must be an object');
  const given = options as Record<string, unknown>;
  for (const key of Object.keys(given)) {
    if (Object.hasOwn(OPTIONS, key)) continue;
    const meant = nearest(key, OPTION_NAMES);
    throw new VmError('ERR_USAGE', `unknown option '${key}'`, {
      hint: meant === undefined ? `options are ${OPTION_NAMES.join(', ')}` : `did you mean '${meant}'?`,
      details: { option: key },
    });
  }
  for (const option of OPTION_NAMES) {
    const value = given[option];
    const { check, description } = OPTIONS[option];
    const wrong = value === undefined ? undefined : check(value);
    if (wrong === undefined) continue;
    throw new VmError('ERR_USAGE', `${option}: ${inspect(value, { depth: 1 })} ${wrong}`, {
      hint: description,
      details: { option, value },
    });
  }
  checkBoot(given);
  return given as unknown as VmOptions;
}

/** A guest begins with a kernel or with a firmware. */
function checkBoot({ kernel, firmware, initrd }: Readonly<Record<string, unknown>>): void {
  if (kernel === undefined && firmware === undefined) {
    throw new VmError('ERR_USAGE', 'no kernel given', {
      hint: "name one with 'kernel' (-k FILE), or a 'firmware' that finds one; `tsvisor start` brings its own",
      details: { option: 'kernel' },
    });
  }
  if (firmware === undefined) return;
  for (const [option, value] of Object.entries({ kernel, initrd })) {
    if (value === undefined) continue;
    throw new VmError('ERR_USAGE', `${option}: cannot be given together with firmware`, {
      hint: 'a firmware finds what to boot on a disk: leave one of the two out',
      details: { option },
    });
  }
}
