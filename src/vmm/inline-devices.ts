import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { DeviceFailure } from '../machine/device-kit.ts';
import { InlineProgram } from '../machine/inline-program.ts';
import { type InlineConfig, Mailbox } from '../machine/inline-protocol.ts';
import type { DeviceConfig } from '../machine/machine.ts';
import type { DefinitionConfig } from './pci-devices.ts';

/** What a {@link Vm} does for the devices on its own thread. */
export interface InlineHost {
  /** The programs that there are now. */
  readonly programs: Set<InlineProgram>;
  /** Ends a short sleep of the Worker: a message is waiting for it. */
  wake(): void;
  log(line: string): void;
  /** A device's closures have thrown; it is dead, the VM lives. */
  failed(failure: DeviceFailure): void;
}

/**
 * Starts the programs of those `devices` that are closures on this thread, and gives all of them as the Worker gets them, with
 * what has to be transferred. Each access of the guest to such a device costs a message and two wake-ups, see
 * docs/write-a-device.md. The programs end with the Worker.
 */
export function placeDevices(
  devices: readonly (DeviceConfig | DefinitionConfig)[],
  host: InlineHost,
): { readonly devices: (DeviceConfig | InlineConfig)[]; readonly transfer: MessagePort[] } {
  const transfer: MessagePort[] = [];
  const placed = devices.map(d => {
    if (d.kind !== 'definition') return d;
    const config = startProgram(d, host);
    transfer.push(config.port);
    return config;
  });
  return { devices: placed, transfer };
}

function startProgram({ name, definition, options }: DefinitionConfig, host: InlineHost): InlineConfig {
  const { port1, port2 } = new MessageChannel();
  const mailbox = new SharedArrayBuffer(Mailbox.bytes);
  const program = new InlineProgram({
    name,
    definition,
    options,
    port: port1,
    mailbox,
    wake: () => host.wake(),
    log: line => host.log(line),
    failed: failure => host.failed(failure),
  });
  host.programs.add(program);
  port1.on('close', () => host.programs.delete(program));
  return { kind: 'inline', name, spec: definition.spec, port: port2, mailbox };
}
