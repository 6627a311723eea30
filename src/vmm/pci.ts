import type { MessagePort } from 'node:worker_threads';
import type { Answers, Question } from '../machine/protocol.ts';
import type { PciFunctionInfo } from '../pci/report.ts';
import { VmError } from '../util/errors.ts';
import { type DeviceOptions, resolveDevices } from './device-options.ts';
import { type InlineHost, placeDevices } from './inline-devices.ts';

/** The PCI bus of a {@link Vm}. */
export class VmPci {
  readonly #ask: <Q extends Question>(question: Q, transfer?: readonly MessagePort[]) => Promise<Answers[Q['what']]>;
  readonly #host: InlineHost;
  /** Names are given out once, so that an unplugged device's name does not come back for another. */
  readonly #names: Set<string>;

  /** @internal */
  constructor(
    ask: <Q extends Question>(question: Q, transfer?: readonly MessagePort[]) => Promise<Answers[Q['what']]>,
    devices: readonly { readonly name: string }[],
    host: InlineHost,
  ) {
    this.#ask = ask;
    this.#host = host;
    this.#names = new Set(devices.map(d => d.name));
  }

  /** Every function with its BARs, decode state, capabilities and vectors as they are now, bridges before what is behind them. */
  async list(): Promise<readonly PciFunctionInfo[]> {
    return await this.#ask({ what: 'pci' });
  }

  /**
   * Plugs a device into a free slot of the running guest, e.g. `plug({ disk: 'data.img' })`. Resolves with its name when it is in
   * the slot; the guest finds it in its own time.
   * @throws VmError ERR_PCI_SLOT without a free slot, ERR_USAGE for anything but one device, and what the device's own side says.
   */
  async plug(device: DeviceOptions): Promise<string> {
    const configs = resolveDevices(device);
    const [config] = configs;
    if (config === undefined || configs.length > 1) {
      throw new VmError('ERR_USAGE', `plug: ${configs.length} devices given`, {
        hint: "give one, e.g. { disk: 'data.img' }",
      });
    }
    const name = this.#freshName(config.name);
    const { devices, transfer } = placeDevices([{ ...config, name }], this.#host);
    await this.#ask({ what: 'plug', device: devices[0]! }, transfer);
    return name;
  }

  /**
   * Presses the attention button of the device's slot and resolves when the guest has let go of it.
   * @throws VmError ERR_PCI_SLOT when no slot has that device, or the guest did not let go within a minute.
   */
  async unplug(name: string): Promise<void> {
    await this.#ask({ what: 'unplug', name });
  }

  #freshName(wanted: string): string {
    let name = wanted;
    for (let n = 0; this.#names.has(name); n++) name = `${wanted.replace(/\d+$/, '')}${n}`;
    this.#names.add(name);
    return name;
  }
}
