import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import type { NetBackend } from '../../devices/virtio/net/backend.ts';
import { VmError } from '../../util/errors.ts';
import type { PortForward } from './user/context.ts';
import { type HostSockets, type Listener, nodeSockets } from './user/host-sockets.ts';
import { UserNetwork, type UserNetworkUsage } from './user/network.ts';
import { hostScheduler, type Scheduler } from './user/timers.ts';

export type { PortForward } from './user/context.ts';
export type { UserNetworkUsage } from './user/network.ts';

/** Options of {@link createUserNetwork}. */
export interface UserNetworkOptions {
  /** Largest IP packet on the guest's cable in bytes, 576 to 65521; 1500 if absent. DHCP tells the guest. */
  readonly mtu?: number;
  /**
   * The guest reaches the host's 127.0.0.1 as 10.0.2.2; true if absent. False does not hide services that listen on other
   * addresses of the host.
   */
  readonly hostLoopback?: boolean;
  /** Name that DHCP gives the guest; none if absent. */
  readonly hostname?: string;
  /** Ports of the host that lead to ports of the guest at 10.0.2.15. */
  readonly forward?: readonly PortForward[];
  /** In place of the host's sockets, time and random numbers. */
  readonly sockets?: HostSockets;
  readonly scheduler?: Scheduler;
  readonly random?: () => number;
}

/** A {@link PortForward} that is in effect: `hostAddress` and `hostPort` are those that were chosen. */
export type ActiveForward = Required<PortForward>;

/** The user-mode network: the guest at 10.0.2.15, gateway 10.0.2.2, name server 10.0.2.3. */
export interface UserNetworkBackend extends NetBackend {
  readonly forwards: readonly ActiveForward[];
  /** How much its tables hold at the moment. */
  readonly usage: UserNetworkUsage;
}

/**
 * Makes a user-mode network (see {@link UserNetwork}), which needs no privilege. Resolves when all forwarded ports listen. Throws
 * ERR_USAGE for options out of range, ERR_NETWORK for a port that cannot be listened on.
 */
export async function createUserNetwork(options: UserNetworkOptions = {}): Promise<UserNetworkBackend> {
  const mtu = options.mtu ?? 1500;
  if (!Number.isInteger(mtu) || mtu < 576 || mtu > 65_521) {
    throw new VmError('ERR_USAGE', `an MTU of ${mtu} is not possible`, { hint: 'Choose 576 to 65521 bytes.' });
  }
  const network = new UserNetwork({
    mtu,
    hostLoopback: options.hostLoopback ?? true,
    hostname: options.hostname,
    sockets: options.sockets ?? nodeSockets,
    scheduler: options.scheduler ?? hostScheduler,
    random: options.random ?? (() => randomBytes(4).readUInt32LE()),
  });
  const forwards: ActiveForward[] = [];
  try {
    for (const rule of options.forward ?? []) {
      checkForward(rule);
      const listener = await listen(network, rule);
      network.listeners.push(listener);
      forwards.push({ ...rule, hostAddress: rule.hostAddress ?? '127.0.0.1', hostPort: listener.port });
    }
  } catch (e) {
    await network.close();
    throw e;
  }
  return Object.assign(network, { forwards });
}

function checkForward({ hostAddress, hostPort, guestPort }: PortForward): void {
  const isPort = (port: number, from: number): boolean => Number.isInteger(port) && port >= from && port <= 65_535;
  if (isPort(hostPort, 0) && isPort(guestPort, 1) && (hostAddress === undefined || isIP(hostAddress))) return;
  throw new VmError(
    'ERR_USAGE',
    `port ${hostAddress ?? ''}:${hostPort} cannot lead to port ${guestPort} of the guest`,
    {
      hint: 'Ports are 1 to 65535, 0 for any of the host; the address of the host is a number such as 127.0.0.1.',
    },
  );
}

async function listen(network: UserNetwork, rule: PortForward): Promise<Listener> {
  try {
    return await (rule.proto === 'tcp' ? network.tcp.forward(rule) : network.udp.forward(rule));
  } catch (e) {
    const { code } = e as NodeJS.ErrnoException;
    const where = `${rule.proto} ${rule.hostAddress ?? '127.0.0.1'}:${rule.hostPort}`;
    const hints: Record<string, string> = {
      EADDRINUSE: 'Another program, or another VM, uses it: choose another port, or 0 for any that is free.',
      EACCES: 'Ports below 1024 are for the system: choose a higher one.',
      EADDRNOTAVAIL: 'The host has no such address: choose 127.0.0.1, or 0.0.0.0 for all.',
    };
    throw new VmError('ERR_NETWORK', `cannot listen on ${where} (${code ?? e})`, {
      cause: e,
      details: { ...rule, code },
      ...(hints[code ?? ''] === undefined ? {} : { hint: hints[code ?? ''] }),
    });
  }
}
