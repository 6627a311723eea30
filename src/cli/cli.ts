import { constants } from 'node:os';
import { Argument, Command, CommanderError, Option } from 'commander';
import { type CreateOptions, OPTION_NAMES, VmError } from '../vmm/index.ts';
import type { BenchPinFlags } from './bench.ts';
import type { ClockCommandOptions } from './clock.ts';
import { EXIT } from './exit-codes.ts';
import { addVmFlags } from './flags.ts';
import type { ImagesCommandOptions } from './images.ts';
import { Output } from './output.ts';
import type { PinsCommandOptions } from './pins.ts';
import { PLUG_OPTIONS } from './plug.ts';
import type { PullCommandOptions } from './pull.ts';
import type { TopCommandOptions } from './top.ts';

/** What tests put in place of the real thing. */
export interface CliOptions {
  readonly create?: CreateOptions;
  readonly version?: string;
}

const EXAMPLES = `
Examples:
  tsvisor start                                Debian's arm64 kernel, to a shell
  tsvisor pull debian-arm64                    fetch or update that kernel
  tsvisor run -k Image -i initrd.gz -m 1G -c 2
  echo 'uname -a; poweroff' | tsvisor start    no terminal: input and output are the guest's
  tsvisor doctor                               what this host can do

Exit codes: 0 guest power-off, 1 guest crash, 2 usage, 3 host cannot, 4 fault of tsvisor.
On a terminal Ctrl-a x quits, Ctrl-a h helps.`;

/** Runs the command line `args` (without node and script) and gives the exit code. Errors are printed, never thrown. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<number> {
  const out = new Output(args.includes('--json'));
  let code: number = EXIT.ok;
  const program = buildProgram(out, options, c => {
    code = c;
  });
  try {
    if (args.length === 0) {
      program.outputHelp({ error: true });
      return EXIT.usage;
    }
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (e) {
    if (e instanceof CommanderError) {
      // Help and version have been printed, on stdout, as asked for.
      return e.exitCode === 0 ? EXIT.ok : out.error(usageError(e));
    }
    return out.error(e);
  }
}

function buildProgram(out: Output, options: CliOptions, exit: (code: number) => void): Command {
  const program = new Command('tsvisor')
    .description("Virtual machines for Node.js: runs unmodified arm64 guests on any host's Node")
    .version(options.version ?? 'unknown')
    .addHelpText('after', EXAMPLES)
    .exitOverride()
    // Ours to print, see runCli().
    .configureOutput({ outputError: () => undefined });

  const run = program
    .command('run')
    .argument('[config]', 'JSON file with the same option names')
    .description('run a guest')
    .option('--print-config', 'print the options that result, and run nothing');
  addVmFlags(run).action(async (config: string | undefined, flags: Record<string, unknown>) => {
    exit(await (await import('./run.ts')).run(config, flags, out, options.create));
  });

  const start = program
    .command('start')
    .argument('[image]', 'debian-arm64 or debian-amd64 (default: debian-arm64)')
    .description("boot Debian's kernel to a shell; fetches it if it is not there")
    .option('--offline', 'use what the cache has')
    .option('--mirror <url>', "Debian mirror to fetch from (default: $TSVISOR_MIRROR, or the host's apt)");
  addVmFlags(start, ['kernel', 'initrd', 'firmware']).action(
    async (image: string | undefined, flags: Record<string, unknown>) => {
      exit(await (await import('./start.ts')).start(image, flags, out, options.create));
    },
  );

  program
    .command('ps')
    .description('list the VMs that run')
    .option('--json', 'JSON lines on stdout')
    .action(async (flags: { readonly json?: boolean }) => {
      await (await import('./ps.ts')).ps(flags);
    });

  program
    .command('lspci')
    .argument('[name]', 'name of the VM, if several run')
    .description("show a running VM's PCI bus: BARs, decoding, capabilities, vectors")
    .option('--json', 'JSON lines on stdout')
    .action(async (name: string | undefined, flags: { readonly json?: boolean }) => {
      await (await import('./lspci.ts')).lspci(name, flags);
    });

  program
    .command('pins')
    .argument('[name]', 'name of the VM, if several run')
    .description("show who holds which part of a running VM's memory, for how long")
    .option('--svg <file>', 'write a picture of the memory to a file')
    .option('--json', 'as one line of JSON')
    .action(async (name: string | undefined, flags: PinsCommandOptions) => {
      await (await import('./pins.ts')).pins(name, flags);
    });

  program
    .command('top')
    .argument('[name]', 'name of the VM, if several run')
    .description('show what a running VM does: exits by device and register, their latency, where time goes')
    .option('--once', 'one table, then end')
    .option('--interval <time>', 'time between two tables (default: 1s)')
    .option('--json', 'JSON lines on stdout')
    .action(async (name: string | undefined, flags: TopCommandOptions) => {
      const { top } = await import('./top.ts');
      exit(await untilSignal(signal => top(name, flags, signal)));
    });

  program
    .command('clock')
    .argument('[name]', 'name of the VM, if several run')
    .description(
      "show a running VM's time: how far it has moved from the host's, how exact that is, who answers ptp_kvm",
    )
    .option('--once', 'one sample, then end')
    .option('--interval <time>', 'time between two samples (default: 1s)')
    .option('--count <number>', 'end after so many samples')
    .option('--svg <file>', 'at the end, write a picture of the samples to a file')
    .option('--json', 'JSON lines on stdout')
    .action(async (name: string | undefined, flags: ClockCommandOptions) => {
      const { clock } = await import('./clock.ts');
      exit(await untilSignal(signal => clock(name, flags, signal)));
    });

  const plug = program
    .command('plug')
    .argument('[name]', 'name of the VM, if several run')
    .description('plug a device into a running VM; prints its name');
  const unplugged = OPTION_NAMES.filter(o => !(PLUG_OPTIONS as readonly string[]).includes(o));
  addVmFlags(plug, unplugged).action(async (name: string | undefined, flags: Record<string, unknown>) => {
    await (await import('./plug.ts')).plug(name, flags);
  });

  program
    .command('unplug')
    .argument('<device>', 'name of the device, e.g. disk0')
    .argument('[name]', 'name of the VM, if several run')
    .description('take a device out of a running VM, when its guest lets go of it')
    .action(async (device: string, name: string | undefined) => {
      await (await import('./plug.ts')).unplug(device, name);
    });

  program
    .command('pause')
    .argument('[name]', 'name of the VM, if several run')
    .description('hold a running VM: its vCPUs and its time stand')
    .action(async (name: string | undefined) => {
      await (await import('./pause.ts')).pause(name);
    });

  program
    .command('resume')
    .argument('[name]', 'name of the VM, if several run')
    .description('let a VM go on that was paused')
    .action(async (name: string | undefined) => {
      await (await import('./pause.ts')).resume(name);
    });

  program
    .command('stop')
    .argument('[name]', 'name of the VM, if several run')
    .description('end a running VM; its guest is not asked')
    .action(async (name: string | undefined) => {
      await (await import('./stop.ts')).stop(name);
    });

  program
    .command('pull')
    .argument('[image]', 'debian-arm64 or debian-amd64', 'debian-arm64')
    .description('fetch an image into the cache, or update it')
    .option('--mirror <url>', "Debian mirror to fetch from (default: $TSVISOR_MIRROR, or the host's apt)")
    .option('--suite <name>', 'suite to take from a mirror')
    .addOption(
      new Option('--signature <check>', "what to do about a mirror's signature").choices(['auto', 'require', 'skip']),
    )
    .option('--offline', 'use no network')
    .option('--quiet', 'print errors only')
    .option('--json', 'JSON lines on stdout')
    .action(async (name: string, flags: PullCommandOptions) => {
      const { pull } = await import('./pull.ts');
      exit(await untilSignal(signal => pull({ ...flags, name, signal })));
    });

  program
    .command('images')
    .description('list the images in the cache')
    .option('--json', 'JSON lines on stdout')
    .action(async (flags: ImagesCommandOptions) => {
      await (await import('./images.ts')).images(flags);
    });

  program
    .command('bench')
    .addArgument(new Argument('<what>', 'what to measure').choices(['pin']))
    .description('measure what pins of guest memory cost on this host, as the gup_test of Linux does')
    .option('-u, --get-fast', 'GET_FAST: borrows')
    .option('-a, --pin-fast', 'PIN_FAST: short pins')
    .option('-L, --pin-longterm', 'PIN_LONGTERM: long-term pins')
    .option('-U, --get-basic', 'GET_BASIC: borrows, and a check that no page is pinned')
    .option('-b, --pin-basic', 'PIN_BASIC: short pins, and a check that every page is pinned')
    .option('-m, --memory <mib>', 'memory, MiB (default: 128)')
    .option('-n, --pages <count>', 'pages of each call (default: 1)')
    .option('-r, --repeats <count>', 'passes over the memory (default: 1)')
    .option('-w, --write', 'with FOLL_WRITE')
    .option('-H, --huge', 'whole blocks of 2 MiB: 512 pages a call, or a multiple with -n')
    .option('-j, --threads <count>', 'threads on the same memory (default: 1)')
    .option('--json', 'JSON lines on stdout')
    .action(async (_what: string, flags: BenchPinFlags) => {
      await (await import('./bench.ts')).benchPin(flags);
    });

  program
    .command('doctor')
    .description('what this host can do, and what to do about the rest')
    .option('--build-addon', 'build the Linux addon here, then say what came of it')
    .option('--verbose', 'also what is as it should be')
    .option('--json', 'as JSON')
    .action(async ({ buildAddon, verbose }: { readonly buildAddon?: boolean; readonly verbose?: boolean }) => {
      if (buildAddon) exit(await (await import('./build-addon.ts')).buildAddon(out));
      else exit(await (await import('./doctor.ts')).doctor(out, verbose));
    });
  return program;
}

/** Runs a verb that Ctrl-c may end: it gets the chance to clean up behind itself. */
async function untilSignal(verb: (signal: AbortSignal) => Promise<void>): Promise<number> {
  const abort = new AbortController();
  let code: number = EXIT.ok;
  const handlers = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map(name => {
    const handler = () => {
      code = 128 + constants.signals[name];
      abort.abort();
    };
    process.once(name, handler);
    return () => process.off(name, handler);
  });
  try {
    await verb(abort.signal);
  } catch (e) {
    if (!abort.signal.aborted) throw e;
  } finally {
    for (const off of handlers) off();
  }
  return code;
}

/** A commander error in our form: its message has the hint in brackets on a second line. */
function usageError(e: CommanderError): VmError {
  const [first = '', ...rest] = e.message.replace(/^error: /, '').split('\n');
  const hint = rest.join(' ').replace(/^\((.*)\)$/, '$1');
  return new VmError('ERR_USAGE', first, { hint: hint === '' ? 'see `tsvisor --help`' : hint });
}
