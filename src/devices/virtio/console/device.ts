import type { AccessSize } from '../../../bus/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { VirtioDevice, VirtioHost, VirtQueue } from '../device.ts';
import { gather, readBytes, Scatter } from '../pieces.ts';
import { ConsolePort, type ConsolePortOptions } from './port.ts';
import * as R from './regs.ts';

/** What a {@link VirtioConsole} is connected to. */
export interface VirtioConsoleOptions {
  /** Port 0, the console: /dev/hvc0 in Linux. */
  readonly console: ConsolePortOptions;
  /** Further ports, each with a name: /dev/virtio-ports/NAME in Linux with udev. */
  readonly ports?: readonly ConsolePortOptions[];
  /** The terminal's size in characters; 0, the default, where it is not known. */
  readonly cols?: number;
  readonly rows?: number;
}

const QUEUE_SIZE = 128;
const CONTROL_QUEUE_SIZE = 64;
/** Ports beside the console; two queues each. */
const MOST_PORTS = 30;
/** Bytes of a port's name in UTF-8; a message to the driver has to fit into its control buffers. */
const LONGEST_NAME = 255;

/**
 * The console device of virtio 1.2 section 5.3. It offers VIRTIO_CONSOLE_F_MULTIPORT only when it has more than its console:
 * drivers learn of a console's size by the configuration without it, by a message with it.
 */
export class VirtioConsole implements VirtioDevice {
  readonly name = 'virtio-console';
  readonly type = 3;
  readonly queueSizes: readonly number[];
  readonly features: bigint;
  readonly configSize = R.CONFIG_SIZE;
  /** All ports; the console is the first one. */
  readonly ports: readonly ConsolePort[];
  readonly #config = new Uint8Array(R.CONFIG_SIZE);
  #host: VirtioHost | undefined;
  /**
   * Messages that wait for buffers of the driver, by what they are about. A newer one replaces an older one about the same,
   * so that a driver which asks without end and takes no answers cannot fill the host's memory.
   */
  readonly #messages = new Map<string, Uint8Array>();
  /** The driver handles the console port, so a message about its size has a meaning to it. */
  #consoleReady = false;

  /** @throws VmError ERR_DEVICE for more than 30 ports beside the console, or a name that is empty, too long or taken. */
  constructor(options: VirtioConsoleOptions) {
    const extra = options.ports ?? [];
    checkPorts(extra);
    this.ports = [options.console, ...extra].map(p => new ConsolePort(p));
    const multiport = extra.length > 0;
    this.queueSizes = [
      QUEUE_SIZE,
      QUEUE_SIZE,
      ...(multiport ? [CONTROL_QUEUE_SIZE, CONTROL_QUEUE_SIZE] : []),
      ...extra.flatMap(() => [QUEUE_SIZE, QUEUE_SIZE]),
    ];
    this.features =
      (1n << BigInt(R.VIRTIO_CONSOLE_F_SIZE)) |
      (1n << BigInt(R.VIRTIO_CONSOLE_F_EMERG_WRITE)) |
      (multiport ? 1n << BigInt(R.VIRTIO_CONSOLE_F_MULTIPORT) : 0n);
    const config = new DataView(this.#config.buffer);
    config.setUint32(R.CONFIG_MAX_NR_PORTS, this.ports.length, true);
    this.#setSize(options.cols ?? 0, options.rows ?? 0);
  }

  /** The terminal has another size now, in characters. */
  resize(cols: number, rows: number): void {
    this.#setSize(cols, rows);
    const host = this.#host;
    if (host === undefined || !host.has(R.VIRTIO_CONSOLE_F_SIZE)) return;
    host.configChanged();
    if (this.#consoleReady) {
      this.#sendSize();
      this.#deliver();
    }
  }

  readConfig(offset: number, size: AccessSize): number {
    return readBytes(this.#config, offset, size);
  }

  /** Only emerg_wr can be written, and that even before the driver is ready (section 5.3.4). */
  writeConfig(offset: number, _size: AccessSize, value: number): void {
    if (offset === R.CONFIG_EMERG_WR) this.ports[0]!.emergency(value & 0xff);
  }

  activate(host: VirtioHost): void {
    this.#host = host;
    const multiport = host.has(R.VIRTIO_CONSOLE_F_MULTIPORT);
    for (const [id, port] of (multiport ? this.ports : this.ports.slice(0, 1)).entries()) {
      const first = id === 0 ? 0 : 2 + 2 * id;
      port.connect(host.queues[first]!, host.queues[first + 1]!);
    }
    // Without control messages there is no opening: the console is open while there is a driver.
    if (!multiport) this.ports[0]!.setOpen(true);
  }

  reset(): void {
    this.#host = undefined;
    this.#messages.clear();
    this.#consoleReady = false;
    for (const port of this.ports) port.disconnect();
  }

  notify(index: number): void {
    const host = this.#host;
    if (host === undefined) return;
    if (host.has(R.VIRTIO_CONSOLE_F_MULTIPORT) && index === R.CONTROL_RECEIVEQ) this.#deliver();
    else if (host.has(R.VIRTIO_CONSOLE_F_MULTIPORT) && index === R.CONTROL_TRANSMITQ) {
      this.#receive(host.queues[index]!);
      this.#deliver();
    } else {
      const port = this.ports[index < 2 ? 0 : (index - 2) >> 1];
      if (index % 2 === 0) port?.room();
      else port?.transmit();
    }
  }

  #setSize(cols: number, rows: number): void {
    const config = new DataView(this.#config.buffer);
    config.setUint16(R.CONFIG_COLS, Math.min(cols, 0xffff), true);
    config.setUint16(R.CONFIG_ROWS, Math.min(rows, 0xffff), true);
  }

  /** Takes the driver's control messages; one that is too short or about nothing we have is returned like any other. */
  #receive(queue: VirtQueue): void {
    let taken = 0;
    const message = new Uint8Array(R.CONTROL_SIZE);
    const view = new DataView(message.buffer);
    for (; taken < queue.size; taken++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      const whole = gather(chain.readable, message) === R.CONTROL_SIZE;
      queue.push(chain, 0);
      if (whole) this.#control(view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true));
    }
    if (taken > 0) queue.notifyDriver();
  }

  /** Section 5.3.6.2. */
  #control(id: number, event: number, value: number): void {
    if (event === R.VIRTIO_CONSOLE_DEVICE_READY) {
      if (value === 1) for (const i of this.ports.keys()) this.#send(i, R.VIRTIO_CONSOLE_DEVICE_ADD, 1);
      return;
    }
    const port = this.ports[id];
    if (port === undefined) return;
    if (event === R.VIRTIO_CONSOLE_PORT_OPEN) port.setOpen(value === 1);
    else if (event === R.VIRTIO_CONSOLE_PORT_READY) {
      if (value === 1) this.#introduce(id, port);
      else port.setOpen(false);
    }
  }

  /** Tells the driver what a port is that it is ready for. */
  #introduce(id: number, port: ConsolePort): void {
    if (id === 0) {
      this.#send(id, R.VIRTIO_CONSOLE_CONSOLE_PORT, 1);
      this.#consoleReady = true;
      if (this.#host?.has(R.VIRTIO_CONSOLE_F_SIZE)) this.#sendSize();
    }
    // The name goes without a terminating zero, the driver counts the bytes.
    if (port.name !== undefined) this.#send(id, R.VIRTIO_CONSOLE_PORT_NAME, 1, new TextEncoder().encode(port.name));
    this.#send(id, R.VIRTIO_CONSOLE_PORT_OPEN, 1);
  }

  /** struct virtio_console_resize: cols, then rows. Linux took them the other way round until 2025. */
  #sendSize(): void {
    this.#send(0, R.VIRTIO_CONSOLE_RESIZE, 0, this.#config.slice(R.CONFIG_COLS, R.CONFIG_ROWS + 2));
  }

  #send(id: number, event: number, value: number, data = new Uint8Array(0)): void {
    const message = new Uint8Array(R.CONTROL_SIZE + data.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, id, true);
    view.setUint16(4, event, true);
    view.setUint16(6, value, true);
    message.set(data, R.CONTROL_SIZE);
    this.#messages.set(`${event} ${id}`, message);
  }

  /** Puts as many waiting messages into the driver's buffers as there are; one message a buffer. */
  #deliver(): void {
    const queue = this.#host?.queues[R.CONTROL_RECEIVEQ];
    if (queue === undefined) return;
    let pushed = 0;
    for (const [about, message] of this.#messages) {
      const chain = queue.pop();
      if (chain === undefined) break;
      // A buffer that is too short gets what fits: the driver sees by its length that it has lost something.
      queue.push(chain, new Scatter(chain.writable).write(message));
      this.#messages.delete(about);
      pushed++;
    }
    if (pushed > 0) queue.notifyDriver();
  }
}

function checkPorts(ports: readonly ConsolePortOptions[]): void {
  const fail = (message: string, hint: string) => {
    throw new VmError('ERR_DEVICE', message, { hint });
  };
  if (ports.length > MOST_PORTS) {
    fail(`a console has at most ${MOST_PORTS} named ports, not ${ports.length}`, 'Add a second virtio-console.');
  }
  const names = new Set<string>();
  for (const { name = '' } of ports) {
    const length = new TextEncoder().encode(name).length;
    if (length === 0 || length > LONGEST_NAME || names.has(name)) {
      fail(`'${name}' cannot be the name of a console's port`, `A name has 1 to ${LONGEST_NAME} bytes and is unique.`);
    }
    names.add(name);
  }
}
