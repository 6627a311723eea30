import { formatIpv4, GATEWAY, isOutside } from './addresses.ts';
import type { Endpoint, HostSockets } from './host-sockets.ts';
import type { Link } from './link.ts';
import type { Deadlines, Scheduler } from './timers.ts';

/** What the protocols of the network share. */
export interface Context {
  readonly link: Link;
  readonly deadlines: Deadlines;
  readonly scheduler: Scheduler;
  readonly sockets: HostSockets;
  /** 32 unpredictable bits. */
  readonly random: () => number;
  /** 10.0.2.2 is the host's 127.0.0.1. */
  readonly hostLoopback: boolean;
}

/** Where the host connects to for a destination of the guest's; undefined: the guest may not go there. */
export function hostEndpoint(context: Context, destination: number, port: number): Endpoint | undefined {
  if (destination === GATEWAY) return context.hostLoopback ? { address: '127.0.0.1', port } : undefined;
  return isOutside(destination) ? { address: formatIpv4(destination), port } : undefined;
}

/** A port of the host that leads to the guest. */
export interface PortForward {
  readonly proto: 'tcp' | 'udp';
  /** Numeric address of the host to listen on; 127.0.0.1 if absent, so that only the host itself gets in. */
  readonly hostAddress?: string;
  /** 0: any that is free. */
  readonly hostPort: number;
  readonly guestPort: number;
}
