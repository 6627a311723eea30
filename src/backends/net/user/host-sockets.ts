import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import dns from 'node:dns';
import { connect, createServer, isIP, type Server, type Socket } from 'node:net';

/** A numeric IP address and a port of the host's side; names are never resolved here. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** What a stream socket tells. Nothing is called before the call that made the socket returns, nor after closed(). */
export interface StreamHandler {
  connected(): void;
  /** The bytes are the handler's to keep, unchanged. */
  data(bytes: Uint8Array): void;
  /** The other side has sent its last byte. */
  end(): void;
  /** Everything that was written has left. */
  drained(): void;
  /** The socket is gone: after both sides have ended, or by an error, whose code (`ECONNREFUSED`) is given. */
  closed(error: string | undefined): void;
}

/** A TCP connection of the host. */
export interface StreamSocket {
  /**
   * Sends bytes, which must stay unchanged until they have left: true when they have, as nearly always, so that their memory
   * can be used again at once.
   */
  write(bytes: Uint8Array): boolean;
  /** Bytes written that have not left. */
  readonly buffered: number;
  /** No more bytes follow (FIN). */
  end(): void;
  pause(): void;
  resume(): void;
  /** Ends the connection at once with RST; closed() is not called. */
  reset(): void;
}

/** What a datagram socket tells. */
export interface DatagramHandler {
  /** The bytes are the handler's during the call only. */
  message(bytes: Uint8Array, from: Endpoint): void;
  /** A datagram could not be delivered, e.g. `ECONNREFUSED`; the socket stays. */
  error(code: string): void;
}

/** A UDP socket of the host. */
export interface DatagramSocketLike {
  /** Sends a copy-free datagram: `bytes` must stay unchanged. `to` only for sockets that are not connected. */
  send(bytes: Uint8Array, to?: Endpoint): void;
  /** No handler is called from here on. */
  close(): void;
}

/** A port of the host on which connections or datagrams for the guest arrive. */
export interface Listener {
  /** The port in use; chosen by the host if 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

/** All that the user-mode network does with the host's network. */
export interface HostSockets {
  connectStream(to: Endpoint, handler: StreamHandler): StreamSocket;
  /** Rejects with the system's error. `accept` returns the handler of a new, paused connection; undefined refuses it. */
  listenStream(
    at: Endpoint,
    accept: (socket: StreamSocket, from: Endpoint) => StreamHandler | undefined,
  ): Promise<Listener>;
  /** A socket that exchanges datagrams with one endpoint only. */
  connectDatagram(to: Endpoint, handler: DatagramHandler): DatagramSocketLike;
  /** Rejects with the system's error. */
  bindDatagram(at: Endpoint, handler: DatagramHandler): Promise<DatagramSocketLike & Listener>;
  /** Name servers that the host uses, the preferred one first. */
  resolvers(): readonly Endpoint[];
}

/** Bytes of datagrams that wait in one socket, on top of the system's own buffer. More are dropped, as UDP may be. */
const DATAGRAM_QUEUE = 256 * 1024;

/** The host's sockets through Node. */
export const nodeSockets: HostSockets = {
  connectStream(to, handler) {
    const socket = connect({ host: to.address, port: to.port, allowHalfOpen: true, noDelay: true });
    return new NodeStream(socket, handler);
  },

  async listenStream(at, accept) {
    const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true });
    server.on('connection', socket => {
      const stream = new NodeStream(socket);
      const handler = accept(stream, { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 });
      if (handler) stream.handler = handler;
      else stream.reset();
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: at.address, port: at.port }, resolve);
    });
    // Such as EMFILE while accepting: this connection is lost, the port goes on.
    server.on('error', () => undefined);
    return { port: portOf(server), close: () => new Promise(resolve => server.close(() => resolve())) };
  },

  connectDatagram(to, handler) {
    return new NodeDatagrams(isIP(to.address) === 6 ? 'udp6' : 'udp4', handler, to);
  },

  async bindDatagram(at, handler) {
    const datagrams = new NodeDatagrams(isIP(at.address) === 6 ? 'udp6' : 'udp4', handler);
    const port = await datagrams.bind(at);
    return {
      port,
      send: (bytes, to) => datagrams.send(bytes, to),
      close: () => Promise.resolve(datagrams.close()),
    };
  },

  resolvers() {
    const found: Endpoint[] = [];
    // Not an import by name: dns.setServers() replaces the function.
    for (const server of dns.getServers()) {
      const endpoint = parseServer(server);
      if (endpoint) found.push(endpoint);
    }
    return found;
  },
};

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address ? address.port : 0;
}

/** An entry of dns.getServers(): `1.1.1.1`, `1.1.1.1:53`, `::1`, `[::1]:53`, `fe80::1%eth0`. */
export function parseServer(text: string): Endpoint | undefined {
  const [, bracketed, port] = /^\[([^\]]+)\](?::(\d+))?$/.exec(text) ?? /^([\d.]+):(\d+)$/.exec(text) ?? [];
  const address = bracketed ?? text;
  return isIP(address) ? { address, port: Number(port ?? 53) } : undefined;
}

class NodeStream implements StreamSocket {
  readonly #socket: Socket;
  /** Undefined before an accepted connection has one, and after reset(). */
  handler: StreamHandler | undefined;

  constructor(socket: Socket, handler?: StreamHandler) {
    this.#socket = socket;
    this.handler = handler;
    let error: string | undefined;
    // Paused before it has a listener for 'data': the handler resumes when it can take something.
    socket.pause();
    socket.on('connect', () => this.handler?.connected());
    socket.on('data', bytes => this.handler?.data(bytes));
    socket.on('end', () => this.handler?.end());
    socket.on('drain', () => this.handler?.drained());
    socket.on('error', (e: NodeJS.ErrnoException) => {
      error = e.code ?? 'EIO';
    });
    socket.on('close', () => {
      const told = this.handler;
      this.handler = undefined;
      told?.closed(error);
    });
  }

  write(bytes: Uint8Array): boolean {
    this.#socket.write(bytes);
    // A socket that could hand everything to the system has done so within write().
    return this.#socket.writableLength === 0;
  }

  get buffered(): number {
    return this.#socket.writableLength;
  }

  end(): void {
    this.#socket.end();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  reset(): void {
    this.handler = undefined;
    // While it connects there is nobody to tell, and resetAndDestroy() would wait for the connection.
    if (this.#socket.connecting) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }
}

class NodeDatagrams implements DatagramSocketLike {
  readonly #socket: DatagramSocket;
  readonly #connectTo: Endpoint | undefined;
  #handler: DatagramHandler | undefined;
  /** Datagrams from before the socket was connected. */
  #early: Uint8Array[] | undefined;
  #earlyBytes = 0;

  constructor(type: 'udp4' | 'udp6', handler: DatagramHandler, connectTo?: Endpoint) {
    this.#handler = handler;
    this.#connectTo = connectTo;
    this.#socket = createSocket(type);
    this.#socket.on('message', (bytes, from) => this.#handler?.message(bytes, from));
    this.#socket.on('error', (e: NodeJS.ErrnoException) => this.#handler?.error(e.code ?? 'EIO'));
    if (connectTo) {
      this.#early = [];
      this.#socket.connect(connectTo.port, connectTo.address, (e?: NodeJS.ErrnoException) => {
        const early = this.#early ?? [];
        this.#early = undefined;
        if (e) this.#handler?.error(e.code ?? 'EIO');
        else for (const bytes of early) this.send(bytes);
      });
    }
  }

  /** Resolves to the port. */
  async bind(at: Endpoint): Promise<number> {
    try {
      await new Promise<void>((resolve, reject) => {
        this.#socket.once('error', reject);
        this.#socket.bind({ address: at.address, port: at.port, exclusive: true }, () => {
          this.#socket.off('error', reject);
          resolve();
        });
      });
    } catch (e) {
      this.close();
      throw e;
    }
    return this.#socket.address().port;
  }

  send(bytes: Uint8Array, to?: Endpoint): void {
    if (!this.#handler) return;
    if (this.#early) {
      if (this.#earlyBytes + bytes.length > DATAGRAM_QUEUE) return;
      this.#earlyBytes += bytes.length;
      this.#early.push(bytes);
      return;
    }
    if (this.#socket.getSendQueueSize() > DATAGRAM_QUEUE) return;
    try {
      if (this.#connectTo) this.#socket.send(bytes, this.#sent);
      else if (to) this.#socket.send(bytes, to.port, to.address, this.#sent);
    } catch (e) {
      // Thrown by a socket whose connect() failed; the guest hears of it as of a failed send.
      this.#handler.error((e as NodeJS.ErrnoException).code ?? 'EIO');
    }
  }

  readonly #sent = (e: Error | null): void => {
    if (e) this.#handler?.error((e as NodeJS.ErrnoException).code ?? 'EIO');
  };

  close(): void {
    if (!this.#handler) return;
    this.#handler = undefined;
    this.#early = undefined;
    this.#socket.close();
  }
}
