import { type HostProbe, probeHost } from '../machine/host.ts';
import type { MachineName } from '../machine/machine.ts';
import { VmError } from '../util/errors.ts';

/** The engine a VM runs on and, where the choice was ours, why not a faster one. */
export interface EngineChoice {
  readonly kind: 'emu' | 'kvm';
  readonly reason: string;
}

/** The processors that run a machine's guests natively: Node's name for them, and people's. */
const NATIVE: Readonly<Record<MachineName, { readonly arch: string; readonly guests: string }>> = {
  'arm-virt': { arch: 'arm64', guests: 'arm64' },
  'x86-pc': { arch: 'x64', guests: 'x86-64' },
};

/** What KVM says here, and on what host. */
export interface KvmHostFacts {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** Looks at /dev/kvm and the addon; not called where the first two rule KVM out. */
  probe(): Pick<HostProbe, 'addon' | 'kvm'>;
}

const thisHost: KvmHostFacts = { platform: process.platform, arch: process.arch, probe: probeHost };

/** Why KVM cannot run guests of `machine` here, in words for the user, and what helps; undefined: it can. */
export function whyNotKvm(
  machine: MachineName,
  { platform, arch, probe }: KvmHostFacts = thisHost,
): { readonly reason: string; readonly fix: string | undefined } | undefined {
  const native = NATIVE[machine];
  if (platform !== 'linux') return { reason: `KVM exists on Linux only, this is ${platform}`, fix: undefined };
  if (arch !== native.arch) {
    const reason = `KVM runs ${native.guests} guests on an ${native.guests} host only, this is ${arch}`;
    return { reason, fix: undefined };
  }
  const { addon, kvm } = probe();
  if (!addon.loaded) return { reason: addon.reason ?? 'the addon does not load', fix: addon.fix };
  if (!kvm.opens || kvm.reason !== undefined) {
    return { reason: kvm.reason ?? '/dev/kvm does not open', fix: kvm.fix };
  }
  const missing = kvm.capabilities?.filter(c => c.needed && c.value <= 0) ?? [];
  if (missing.length === 0) return undefined;
  return { reason: `this host's KVM lacks ${missing.map(c => c.name).join(', ')}`, fix: missing[0]?.fix };
}

/**
 * Resolves `engine: 'auto' | 'kvm' | 'emu'`.
 * @throws VmError ERR_ENGINE_UNAVAILABLE when KVM was asked for and cannot be had: an explicit wish is never replaced silently;
 *   and for guests that no engine runs here.
 */
export function chooseEngine(
  wish: 'auto' | 'kvm' | 'emu',
  clock: 'host' | 'virtual',
  machine: MachineName,
  facts: KvmHostFacts = thisHost,
): EngineChoice {
  if (wish === 'kvm' && clock === 'virtual') {
    throw unavailable('engine kvm has no virtual clock: processors count their own time', {
      hint: 'use --engine emu for runs that are bit-identical, or --clock host',
      details: { engine: 'kvm', clock },
    });
  }
  const emulated = machine === 'arm-virt';
  const { guests } = NATIVE[machine];
  if (wish === 'emu') {
    if (emulated) return { kind: 'emu', reason: 'as asked for' };
    throw unavailable(`engine emu does not run ${guests} guests`, {
      hint: `use --engine kvm on an ${guests} host with Linux, or an arm64 guest`,
      details: { engine: 'emu', machine },
    });
  }
  if (wish === 'auto' && clock === 'virtual' && emulated)
    return { kind: 'emu', reason: 'the virtual clock is its own' };
  const why =
    clock === 'virtual' ? { reason: 'KVM has no virtual clock', fix: 'use --clock host' } : whyNotKvm(machine, facts);
  if (why === undefined) return { kind: 'kvm', reason: wish === 'kvm' ? 'as asked for' : "this host's own processor" };
  if (wish === 'auto' && emulated) return { kind: 'emu', reason: why.reason };
  const message =
    wish === 'kvm' ? `engine kvm is not available: ${why.reason}` : `${guests} guests need KVM: ${why.reason}`;
  const other = emulated ? 'use --engine auto or --engine emu' : 'use an arm64 guest, which runs everywhere';
  throw unavailable(message, {
    hint: `${why.fix ?? other}; \`tsvisor doctor\` shows what this host can do`,
    details: { engine: 'kvm', machine, reason: why.reason },
  });
}

function unavailable(
  message: string,
  more: { readonly hint: string; readonly details: Record<string, unknown> },
): VmError {
  return new VmError('ERR_ENGINE_UNAVAILABLE', message, more);
}
