/**
 * How a connection ended.
 * - `ended`: both sides had said that they send no more, or the guest closed its socket.
 * - `destroyed`: by {@link VsockConnection.destroy}.
 * - `refused`: nobody listens on the guest's port.
 * - `reset`: the guest, its driver or the transport broke it off; data may be lost.
 * - `timeout`: the guest did not answer.
 * - `protocol`: the guest broke the rules of the device, e.g. it sent more than it had credit for.
 */
export type VsockCloseReason = 'ended' | 'destroyed' | 'refused' | 'reset' | 'timeout' | 'protocol';

/** What the owner of a connection gets to know. Called on the machine's thread; must not throw. */
export interface VsockHandlers {
  /** The guest has accepted the connection; not called for one that the guest began. */
  connected?(): void;
  /**
   * Bytes from the guest, never none; the array is the callee's to keep. False: no more until
   * {@link VsockConnection.resume}, as after {@link VsockConnection.pause}.
   */
  data(bytes: Uint8Array): boolean | undefined;
  /** There is room again after write() returned false. */
  drain?(): void;
  /** The guest sends no more; it may still receive. */
  ended?(): void;
  /** The last call, exactly once. */
  closed(reason: VsockCloseReason): void;
}

/** A stream between the host and a port of the guest (virtio 1.2 section 5.10.6.5). */
export interface VsockConnection {
  /** The host's port. */
  readonly localPort: number;
  /** The guest's port. */
  readonly peerPort: number;
  /**
   * Sends bytes, after the connection is made when it is not yet. All are taken, and the array is the connection's
   * until they have gone; false asks to write no more until drain(). Dropped after end(), and when the guest receives
   * no more.
   */
  write(bytes: Uint8Array): boolean;
  /** False once the guest receives no more, or the connection is over: what is written is dropped. */
  readonly writable: boolean;
  /** No more writes: when all has gone, the guest is told. The connection is closed once the guest has ended, too. */
  end(): void;
  /** Breaks the connection off; what was not sent is lost. Handlers are told ('destroyed'). */
  destroy(): void;
  /** No data() until resume(); the guest may fill the connection's buffer and then has to wait. */
  pause(): void;
  resume(): void;
}

/**
 * Decides about a connection that the guest asks for: handlers accept it, undefined refuses. The guest waits until a
 * promise resolves; its connection may have been closed by then, and handlers.closed() follows at once. A rejection
 * refuses.
 */
export type VsockAcceptor = (
  connection: VsockConnection,
) => VsockHandlers | undefined | Promise<VsockHandlers | undefined>;
