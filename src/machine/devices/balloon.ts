import { VirtioBalloon } from '../../devices/virtio/balloon/device.ts';
import type { BalloonStatistics } from '../../devices/virtio/balloon/statistics.ts';
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

/**
 * A memory balloon. Without native code there is no way to give a page back to the host, so what the guest gives up stays where
 * it is: the contents of ballooned pages mean nothing to anybody (virtio 1.2 section 5.5.6).
 */
export const build: Builder<'balloon'> = async ({ name }, env) => {
  const device = new VirtioBalloon({
    ram: env.memory.regions.filter(r => r.kind === 'ram').map(r => ({ base: r.base, size: r.size })),
    discarder: { discard: () => undefined, discardView: () => undefined },
    clock: env.clock,
  });
  return { name, function: virtioFunction(device, name, env), balloon: new BalloonControl(device) };
};
