import { inspect } from 'node:util';
import { z } from 'zod';
import { VmError } from '../util/errors.ts';
import { nearest } from './nearest.ts';
import { formatSize, parseSize } from './units.ts';

/** What a virtual machine is made of. The same names are the keys of a configuration file and the CLI's long flags. */
export interface VmOptions {
  /** Path or bytes of a kernel: arm64 Image, Image.gz, EFI zboot, or an ELF of a bare-metal guest. */
  kernel: string | Uint8Array;
  /** Path or bytes of an initial RAM disk. */
  initrd?: string | Uint8Array | undefined;
  /** Kernel command line. Default: {@link DEFAULT_PARAMS}. */
  params?: string | undefined;
  /** Guest RAM: `'512M'`, `'2G'` or bytes. Default 512M. */
  memory?: string | number | undefined;
  /** vCPUs, 1 to 8. Default 1. */
  cpus?: number | undefined;
  /** How to run the guest; `'auto'` takes the fastest that works here and says why. Default `'auto'`. */
  engine?: 'auto' | 'kvm' | 'emu' | undefined;
  /** Which board to build. Default `'auto'`. */
  machine?: 'auto' | 'arm-virt' | undefined;
  /** `'host'` follows the host's clocks; `'virtual'` counts instructions and makes runs bit-identical. Default `'host'`. */
  clock?: 'host' | 'virtual' | undefined;
  /** Version of the interrupt controller. Default 3. */
  gic?: 2 | 3 | undefined;
  /** `'stream'`: {@link Vm.console}; `'file:PATH'`: appended to a file as well; `'off'`: thrown away. Default `'stream'`. */
  console?: 'stream' | 'off' | `file:${string}` | undefined;
  /** A name for people. */
  name?: string | undefined;
  /** Topics to trace, see {@link TRACE_TOPICS}. */
  trace?: readonly TraceTopic[] | undefined;
  /** Seed of all randomness the guest sees, 0 to 2^53-1. Default: the host's entropy, or 0 with the virtual clock. */
  seed?: number | undefined;
}

/** {@link VmOptions} checked, with every default filled in. */
export interface ResolvedOptions {
  readonly kernel: string | Uint8Array;
  readonly initrd: string | Uint8Array | undefined;
  readonly params: string;
  readonly memory: number;
  readonly cpus: number;
  readonly engine: 'auto' | 'kvm' | 'emu';
  readonly machine: 'auto' | 'arm-virt';
  readonly clock: 'host' | 'virtual';
  readonly gic: 2 | 3;
  readonly console: 'stream' | 'off' | `file:${string}`;
  readonly name: string | undefined;
  readonly trace: readonly TraceTopic[];
  readonly seed: number | undefined;
}

/** What can be traced. */
export const TRACE_TOPICS = ['mmio', 'exit', 'hypercall', 'irq', 'exception'] as const;
export type TraceTopic = (typeof TRACE_TOPICS)[number];

/** Console on the PL011, from the first message on; a panic restarts, which ends the machine, instead of spinning. */
export const DEFAULT_PARAMS = 'earlycon console=ttyAMA0 panic=-1';
/** One WebAssembly memory of 4 GiB holds the guest's RAM and the engine's own state; this much is left for RAM. */
export const MAX_EMULATED_RAM = 4010 * 2 ** 20;
/** No guest that we load runs in less. */
export const MIN_RAM = 2 ** 20;

const bytes = z.instanceof(Uint8Array);
const oneOf = <const T extends readonly string[]>(...values: T) =>
  z.enum(values, { error: `must be one of ${values.join(', ')}` });
const path = (what: string) => z.string({ error: `must be ${what}` }).min(1, { error: `must be ${what}` });

/** How an option looks on the command line; `meta` of the schema below. */
export interface FlagMeta {
  readonly description: string;
  readonly short?: string;
  /** Placeholder of the value in the help. */
  readonly value: string;
  readonly number?: true;
  readonly list?: true;
}

function flag<T extends z.ZodType>(schema: T, meta: FlagMeta): T {
  return schema.meta({ ...meta });
}

/** The one source of option names: the library, configuration files and the CLI's flags are all made from it. */
export const vmOptionsSchema = z.strictObject({
  kernel: flag(z.union([path('a path'), bytes], { error: 'must be a path or a Uint8Array' }), {
    description: 'kernel: arm64 Image, Image.gz, EFI zboot, or a bare-metal ELF',
    short: 'k',
    value: 'file',
  }),
  initrd: flag(z.union([path('a path'), bytes], { error: 'must be a path or a Uint8Array' }).optional(), {
    description: 'initial RAM disk',
    short: 'i',
    value: 'file',
  }),
  params: flag(z.string({ error: 'must be a string' }).max(2047, { error: 'must be shorter than 2048' }).optional(), {
    description: `kernel command line (default: "${DEFAULT_PARAMS}")`,
    short: 'p',
    value: 'text',
  }),
  memory: flag(z.union([z.string(), z.number()], { error: 'must be a size such as 512M' }).default('512M'), {
    description: 'guest RAM (default: 512M)',
    short: 'm',
    value: 'size',
  }),
  cpus: flag(
    z
      .int({ error: 'must be a whole number from 1 to 8' })
      .min(1, { error: 'must be at least 1' })
      .max(8, { error: 'must be at most 8' })
      .default(1),
    { description: 'vCPUs, 1 to 8 (default: 1)', short: 'c', value: 'count', number: true },
  ),
  engine: flag(oneOf('auto', 'kvm', 'emu').default('auto'), {
    description: 'auto, kvm or emu (default: auto)',
    value: 'kind',
  }),
  machine: flag(oneOf('auto', 'arm-virt').default('auto'), {
    description: 'auto or arm-virt (default: auto)',
    value: 'board',
  }),
  clock: flag(oneOf('host', 'virtual').default('host'), {
    description: 'host, or virtual: time from the instruction count, runs are bit-identical (default: host)',
    value: 'source',
  }),
  gic: flag(z.union([z.literal(2), z.literal(3)], { error: 'must be 2 or 3' }).default(3), {
    description: 'version of the interrupt controller, 2 or 3 (default: 3)',
    value: 'version',
    number: true,
  }),
  console: flag(
    z
      .templateLiteral([z.enum(['stream', 'off', 'file:']), z.string()], {
        error: 'must be stream, off or file:PATH',
      })
      .refine(v => v === 'stream' || v === 'off' || /^file:./.test(v), { error: 'must be stream, off or file:PATH' })
      .default('stream'),
    { description: 'tty, off or file:PATH (default: tty)', value: 'where' },
  ),
  name: flag(z.string({ error: 'must be a string' }).optional(), { description: 'a name for people', value: 'name' }),
  trace: flag(
    z
      .array(z.enum(TRACE_TOPICS, { error: `topics are ${TRACE_TOPICS.join(', ')}` }), { error: 'must be a list' })
      .default([]),
    { description: `lines on stderr about ${TRACE_TOPICS.join(', ')} (comma-separated)`, value: 'topics', list: true },
  ),
  seed: flag(z.int({ error: 'must be a whole number' }).min(0, { error: 'must not be negative' }).optional(), {
    description: 'seed of the randomness that the guest sees',
    value: 'number',
    number: true,
  }),
});

/** Names of all options, in the order of the help. */
export const OPTION_NAMES = Object.keys(vmOptionsSchema.shape) as readonly (keyof VmOptions)[];

/** The command-line look of an option. */
export function flagMeta(name: keyof VmOptions): FlagMeta {
  return vmOptionsSchema.shape[name].meta() as unknown as FlagMeta;
}

/**
 * Checks options and fills in the defaults.
 * @throws VmError ERR_USAGE (unknown or bad option), ERR_BAD_SIZE, ERR_MEMORY_TOO_SMALL, ERR_MEMORY_TOO_LARGE.
 */
export function resolveOptions(options: unknown): ResolvedOptions {
  const result = vmOptionsSchema.safeParse(options);
  if (!result.success) {
    const { issues } = result.error;
    // A name that does not exist explains most of what else is wrong.
    throw usageError(issues.find(i => i.code === 'unrecognized_keys') ?? issues[0]!, options);
  }
  const o = result.data;
  const memory = parseSize(o.memory, 'memory');
  if (memory < MIN_RAM) {
    throw new VmError('ERR_MEMORY_TOO_SMALL', `memory: ${formatSize(memory)} is too small for any guest`, {
      hint: 'a Linux guest wants 128M or more (was a unit forgotten? 512 is 512 bytes, 512M is 512 MiB)',
      details: { memory, minimum: MIN_RAM },
    });
  }
  if (memory > MAX_EMULATED_RAM) {
    throw new VmError('ERR_MEMORY_TOO_LARGE', `memory: ${formatSize(memory)} is more than the emulator can give`, {
      hint: `use at most ${MAX_EMULATED_RAM / 2 ** 20}M: a WebAssembly memory ends at 4 GiB`,
      details: { memory, maximum: MAX_EMULATED_RAM },
    });
  }
  if (memory % 4096 !== 0) {
    throw new VmError('ERR_BAD_SIZE', `memory: ${memory} bytes is no multiple of 4096`, {
      hint: 'give whole pages, for example 512M',
      details: { memory },
    });
  }
  return {
    kernel: o.kernel,
    initrd: o.initrd,
    params: o.params ?? DEFAULT_PARAMS,
    memory,
    cpus: o.cpus,
    engine: o.engine,
    machine: o.machine,
    clock: o.clock,
    gic: o.gic,
    console: o.console as ResolvedOptions['console'],
    name: o.name,
    trace: o.trace,
    // A deterministic run must not take its seed from the host.
    seed: o.seed ?? (o.clock === 'virtual' ? 0 : undefined),
  };
}

function usageError(issue: z.core.$ZodIssue, options: unknown): VmError {
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!;
    const meant = nearest(key, OPTION_NAMES);
    return new VmError('ERR_USAGE', `unknown option '${key}'`, {
      hint: meant === undefined ? `options are ${OPTION_NAMES.join(', ')}` : `did you mean '${meant}'?`,
      details: { option: key },
    });
  }
  const option = String(issue.path[0] ?? '');
  if (option === '') return new VmError('ERR_USAGE', 'options must be an object', { details: {} });
  const value = (options as Record<string, unknown>)[option];
  if (value === undefined && option === 'kernel') {
    return new VmError('ERR_USAGE', 'no kernel given', {
      hint: "name one with 'kernel' (-k FILE); `tsvisor start` brings its own",
      details: { option },
    });
  }
  const at = issue.path.slice(1).reduce<unknown>((v, k) => (v as Record<PropertyKey, unknown> | undefined)?.[k], value);
  return new VmError('ERR_USAGE', `${option}: ${inspect(at, { depth: 0 })} ${issue.message}`, {
    ...(typeof at === 'string' && at !== value && nearest(at, TRACE_TOPICS) !== undefined
      ? { hint: `did you mean '${nearest(at, TRACE_TOPICS)}'?` }
      : { hint: flagMeta(option as keyof VmOptions).description }),
    details: { option, value: at },
  });
}
