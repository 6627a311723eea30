import { VirtioBalloon } from '../../devices/virtio/balloon/device.ts';
import { pinAwareDiscarder } from '../../devices/virtio/balloon/discarder.ts';
import type { BalloonStatistics } from '../../devices/virtio/balloon/statistics.ts';
import type { DiscardResult } from '../../memory/pin-types.ts';
import { VmError } from '../../util/errors.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** The host's side of a balloon, for the user's thread. */
export class BalloonControl {
  readonly #device: VirtioBalloon;

  constructor(device: VirtioBalloon) {
    this.#device = device;
  }

  /** Bytes in the balloon, as the guest says. */
  get actual(): number {
    return this.#device.actual;
  }

  /** What has become of pages that the guest gave up or reported, in 4 KiB pages; see {@link VirtioBalloon.discards}. */
  get discards(): DiscardResult {
    return this.#device.discards;
  }

  /** Asks for so many bytes in the balloon. @throws VmError ERR_BAD_SIZE, see {@link VirtioBalloon.target}. */
  set(bytes: number): void {
    this.#device.target = bytes;
  }

  /**
   * Asks the guest for new statistics and waits for at most `limitMs` of the host's time.
   * @throws VmError ERR_STATE without a driver that has any, ERR_TIMEOUT.
   */
  async statistics(limitMs: number): Promise<BalloonStatistics> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      // Longer than a timer can be is no limit.
      if (limitMs <= 0x7fff_ffff) timer = setTimeout(() => reject(noAnswer(limitMs)), limitMs);
    });
    try {
      return await Promise.race([this.#device.requestStatistics(), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function noAnswer(limitMs: number): VmError {
  return new VmError('ERR_TIMEOUT', `balloon: the guest sent no statistics within ${limitMs} ms`, {
    hint: 'it may be busy, or be held back by a reader of its console that does not read',
    details: { limitMs },
  });
}

/** A memory balloon: what the guest gives up goes back to the host, as far as the host can take it and nobody has pinned it. */
export const build: Builder<'balloon'> = async ({ name }, env) => {
  const device = new VirtioBalloon({
    ram: env.memory.regions.filter(r => r.kind === 'ram').map(r => ({ base: r.base, size: r.size })),
    discarder: pinAwareDiscarder(env.pins),
    clock: env.clock,
  });
  return { name, function: virtioFunction(device, name, env), balloon: new BalloonControl(device) };
};
