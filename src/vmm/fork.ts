import { rm } from 'node:fs/promises';
import type { DeviceConfig, DiskConfig } from '../machine/machine.ts';
import type { Ask } from '../machine/protocol.ts';
import { abortable } from './abortable.ts';
import type { WaitOptions } from './console.ts';
import type { ResolvedOptions } from './options.ts';
import type { DefinitionConfig } from './pci-devices.ts';
import { parseDuration } from './units.ts';

/** Options of `vm.fork()`. */
export interface ForkOptions extends WaitOptions {
  /** Where the copy of each writable disk is made, by the disk's name: `{ disk0: 'copy.img' }`; of an overlay, that of the overlay. */
  readonly disks?: Readonly<Record<string, string>>;
  /** Of the new VM; none unless told. */
  readonly name?: string;
}

/** What a fork is made with. */
export interface ForkHost<T extends AsyncDisposable> {
  /** Asks the machine that is forked. */
  readonly ask: Ask;
  readonly options: ResolvedOptions;
  /** Makes a VM that has nothing loaded and whose clock shows `startNs`. */
  make(options: ResolvedOptions, startNs: number): Promise<T>;
  /** Asks the machine of that VM. */
  askOf(vm: T): Ask;
}

/**
 * Makes a second VM that is what the first one is at one moment.
 * @throws VmError as `vm.fork()` says; nothing is left of what was begun then.
 */
export async function forkVm<T extends AsyncDisposable>(host: ForkHost<T>, o: ForkOptions): Promise<T> {
  const { signal, timeout = '10s', disks = {}, name } = o;
  signal?.throwIfAborted();
  const limitMs = parseDuration(timeout);
  const copies = new Map(Object.entries(disks));
  const asked = host.ask({ what: 'forkMachine', copies, limitMs });
  const undo = async (fork: number | undefined) => {
    if (fork !== undefined) await host.ask({ what: 'forked', fork, call: { act: 'close' } }).catch(() => undefined);
  };
  const remove = () => Promise.all([...copies.values()].map(path => rm(path, { force: true })));
  const { fork, state } = await abortable(asked, signal).catch(async e => {
    // It may come when nobody waits for it any more.
    if (signal?.aborted) void asked.then(late => Promise.all([undo(late.fork), remove()])).catch(() => undefined);
    throw e;
  });
  let vm: T | undefined;
  try {
    vm = await host.make(childOptions(host.options, copies, name), state.nowNs);
    const ask = host.askOf(vm);
    const to = await ask({ what: 'ram' });
    await host.ask({ what: 'forked', fork, call: { act: 'copy', to } });
    await ask({ what: 'restore', state });
    signal?.throwIfAborted();
    return vm;
  } catch (e) {
    await vm?.[Symbol.asyncDispose]();
    await remove();
    throw e;
  } finally {
    await undo(fork);
  }
}

/** The options of a fork: those of its parent, with the copies of disks. */
function childOptions(
  o: ResolvedOptions,
  copies: ReadonlyMap<string, string>,
  name: string | undefined,
): ResolvedOptions {
  const copied = (d: DeviceConfig | DefinitionConfig) => {
    const to = d.kind === 'disk' ? copies.get(d.name) : undefined;
    return to === undefined ? d : withCopy(d as DiskConfig, to);
  };
  return { ...o, name, console: 'stream', devices: o.devices.map(copied) };
}

function withCopy(d: DiskConfig, to: string): DiskConfig {
  return d.cow === undefined ? { ...d, path: to } : { ...d, cow: to };
}
