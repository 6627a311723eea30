import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { DeviceFailure, PciDeviceDefinition } from '../machine/device-kit.ts';
import { InlineProgram } from '../machine/inline-program.ts';
import { type InlineConfig, Mailbox } from '../machine/inline-protocol.ts';

/** What a {@link Vm} does for the devices on its own thread. */
export interface InlineHost {
  /** Ends a short sleep of the Worker: a message is waiting for it. */
  wake(): void;
  log(line: string): void;
  /** A device's closures have thrown; it is dead, the VM lives. */
  failed(failure: DeviceFailure): void;
}

/** A device on this thread, and its end for the Worker. */
export interface InlineDevice {
  /** Goes to the Worker, with `port` of it in the list of what is transferred. */
  readonly config: InlineConfig;
  readonly transfer: MessagePort;
}

/**
 * Makes a device of closures: its program runs on this thread, its function in the Worker that gets `config`. Each access of
 * the guest costs a message and two wake-ups, see docs/write-a-device.md. Both ends close when the Worker does.
 */
export function createInlineDevice(
  definition: PciDeviceDefinition,
  name: string,
  options: Readonly<Record<string, unknown>>,
  host: InlineHost,
): InlineDevice {
  const { port1, port2 } = new MessageChannel();
  const mailbox = new SharedArrayBuffer(Mailbox.bytes);
  new InlineProgram({
    definition,
    options,
    port: port1,
    mailbox,
    wake: () => host.wake(),
    log: line => host.log(line),
    failed: failure => host.failed({ ...failure, name }),
  });
  return { config: { kind: 'inline', name, spec: definition.spec, port: port2, mailbox }, transfer: port2 };
}
