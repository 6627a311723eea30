import { VmError } from '../util/errors.ts';

/** The engine a VM runs on and, where the choice was ours, why not a faster one. */
export interface EngineChoice {
  readonly kind: 'emu' | 'kvm';
  readonly reason: string;
}

/** Why KVM cannot run an arm64 guest here, in words for the user. */
export function whyNotKvm(platform: NodeJS.Platform = process.platform, arch: string = process.arch): string {
  if (platform !== 'linux') return `KVM exists on Linux only, this is ${platform}`;
  if (arch !== 'arm64') return `KVM runs an arm64 guest on an arm64 host only, this is ${arch}`;
  return 'KVM on arm64 is new in this version and taken only when it is asked for';
}

/**
 * Resolves `engine: 'auto' | 'kvm' | 'emu'`.
 * @throws VmError ERR_ENGINE_UNAVAILABLE when KVM was asked for: an explicit wish is never replaced silently.
 */
export function chooseEngine(wish: 'auto' | 'kvm' | 'emu', clock: 'host' | 'virtual'): EngineChoice {
  if (wish === 'kvm' && clock === 'virtual') {
    throw new VmError('ERR_ENGINE_UNAVAILABLE', 'engine kvm has no virtual clock: processors count their own time', {
      hint: 'use --engine emu for runs that are bit-identical, or --clock host',
      details: { engine: 'kvm', clock },
    });
  }
  const can = process.platform === 'linux' && process.arch === 'arm64';
  if (wish === 'kvm' && can) return { kind: 'kvm', reason: 'as asked for' };
  if (wish === 'emu') return { kind: 'emu', reason: 'as asked for' };
  const why = whyNotKvm();
  if (wish === 'auto') return { kind: 'emu', reason: why };
  throw new VmError('ERR_ENGINE_UNAVAILABLE', `engine kvm is not available: ${why}`, {
    hint: 'use --engine auto or --engine emu; `tsvisor doctor` shows what this host can do',
    details: { engine: 'kvm', reason: why },
  });
}
