import type { InterruptLine, MsiMessage } from '../../irq/types.ts';
import type { IrqRoute, KvmVm } from './vm.ts';

const EFD_NONBLOCK = 0o4000;
/** Routes of messages that are kept; the kernel's table has 4096 entries. */
const MAX_ROUTES = 1024;
/** GSIs of messages start above those of any interrupt controller's pins here. */
const FIRST_GSI = 1024;

/** An event that raises an interrupt without this process: given to VFIO, or written by any thread. */
export interface IrqEvent extends Disposable {
  /** The eventfd. */
  readonly fd: number;
  /** Where its message goes from now on. @throws VmError ERR_HOST_CALL. */
  route(m: MsiMessage): void;
}

/**
 * The interrupt routing table of a VM: the pins of its interrupt controller, and a GSI for each message that comes by an
 * irqfd. KVM takes the table as a whole, and each change waits for all vCPUs to have left the old one, so routes that did not
 * change are not told again.
 */
export class IrqRoutes {
  readonly #vm: KvmVm;
  readonly #pins: readonly IrqRoute[];
  readonly #withDevice: boolean;
  readonly #messages = new Map<number, MsiMessage>();
  /** Eventfds of the messages that are routed, by GSI. */
  readonly #connected = new Map<number, number>();

  /** @param pins the interrupt controller's. @param withDevice whether messages carry a device's id (KVM_CAP_MSI_DEVID). */
  constructor(vm: KvmVm, pins: readonly IrqRoute[], withDevice: boolean) {
    this.#vm = vm;
    this.#pins = pins;
    this.#withDevice = withDevice;
  }

  /** An event for messages, which goes nowhere until it is routed. undefined: there are too many. */
  event(): IrqEvent | undefined {
    let gsi = FIRST_GSI;
    while (this.#messages.has(gsi)) gsi++;
    if (gsi >= FIRST_GSI + MAX_ROUTES) return undefined;
    const { host } = this.#vm;
    const fd = host.eventfd(0, EFD_NONBLOCK);
    // Keeps the number until it is routed.
    this.#messages.set(gsi, NOWHERE);
    return {
      fd,
      route: m => {
        const now = this.#messages.get(gsi)!;
        if (now.address === m.address && now.data === m.data && now.deviceId === m.deviceId) return;
        this.#messages.set(gsi, m);
        try {
          this.#tell();
          if (!this.#connected.has(gsi)) this.#vm.irqfd(fd, gsi, true);
        } catch (e) {
          this.#messages.set(gsi, now);
          throw e;
        }
        this.#connected.set(gsi, fd);
      },
      [Symbol.dispose]: () => {
        if (!this.#messages.delete(gsi)) return;
        if (this.#connected.delete(gsi) && !this.#vm.closed) this.#vm.irqfd(fd, gsi, false);
        host.close(fd);
      },
    };
  }

  /** Tells a new VM of all routes and events. */
  renew(): void {
    if (this.#connected.size === 0) return;
    this.#tell();
    for (const [gsi, fd] of this.#connected) this.#vm.irqfd(fd, gsi, true);
  }

  #tell(): void {
    const messages = [...this.#messages].filter(([, m]) => m !== NOWHERE).map(([gsi, msi]) => ({ gsi, msi }));
    this.#vm.setRouting([...this.#pins, ...messages], this.#withDevice);
  }
}

const NOWHERE: MsiMessage = { address: 0, data: 0 };

/** The wires into a VM's interrupt controller. A reset makes a new VM, and a wire that a device holds high is high there, too. */
export class Wires {
  readonly #tell: (irq: number, level: boolean) => void;
  readonly #high = new Set<number>();

  /** @param tell KVM_IRQ_LINE, of the VM that there is. */
  constructor(tell: (irq: number, level: boolean) => void) {
    this.#tell = tell;
  }

  /** @param irq as KVM_IRQ_LINE numbers it. The wire is low at first; only changes are told. */
  line(irq: number): InterruptLine {
    let now = false;
    return {
      set: level => {
        if (level === now) return;
        now = level;
        if (level) this.#high.add(irq);
        else this.#high.delete(irq);
        this.#tell(irq, level);
      },
    };
  }

  /** Tells a new VM, whose wires are all low, of those that are high. */
  renew(): void {
    for (const irq of this.#high) this.#tell(irq, true);
  }
}
