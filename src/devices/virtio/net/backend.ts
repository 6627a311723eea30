/** What a network device is to the host: the consumer's side of anything that carries Ethernet frames. */

/** Offload information that travels with a frame; the fields of virtio_net_hdr (virtio 1.2 section 5.1.6). */
export interface FrameInfo {
  /**
   * VIRTIO_NET_HDR_F_NEEDS_CSUM: the frame's checksum field holds only the sum of the pseudo header. The complement of the
   * sum from {@link checksumStart} to the frame's end belongs {@link checksumOffset} bytes behind {@link checksumStart}.
   */
  readonly needsChecksum: boolean;
  /** Bytes from the frame's start; csum_start. */
  readonly checksumStart: number;
  /** Bytes from {@link checksumStart}; csum_offset. */
  readonly checksumOffset: number;
  /** What the frame has to be cut into, if it is larger than a packet may be; gso_type. */
  readonly gso: 'none' | 'tcp4' | 'tcp6' | 'udp';
  /** Payload bytes of each packet of a large frame, 0 for `gso: 'none'`; gso_size. */
  readonly segmentSize: number;
}

/** A complete frame of at most an MTU with all of its checksums. */
export const PLAIN_FRAME: FrameInfo = {
  needsChecksum: false,
  checksumStart: 0,
  checksumOffset: 0,
  gso: 'none',
  segmentSize: 0,
};

/** What a backend can take from the guest and give to it. */
export interface BackendOffloads {
  /** Takes frames with `needsChecksum` (VIRTIO_NET_F_CSUM may be offered). */
  readonly checksum: boolean;
  /** Takes TCP over IPv4 up to 64 KiB in one frame (VIRTIO_NET_F_HOST_TSO4); implies {@link checksum}. */
  readonly tso: boolean;
  /** Gives `needsChecksum` and `gso: 'tcp4'` frames up to 64 KiB (VIRTIO_NET_F_GUEST_CSUM and GUEST_TSO4 may be offered). */
  readonly largeReceive: boolean;
}

/** What the driver agreed to receive; a backend gives nothing beyond it. */
export interface ReceiveOffloads {
  /** VIRTIO_NET_F_GUEST_CSUM: frames with `needsChecksum`. */
  readonly checksum: boolean;
  /** VIRTIO_NET_F_GUEST_TSO4: frames with `gso: 'tcp4'`, up to 65550 bytes; implies {@link checksum}. */
  readonly tso4: boolean;
}

/**
 * Takes a frame for the guest, whole or in pieces, which are the callee's during the call only. False when there is no room:
 * the frame counts as not sent, and the backend hears of room by {@link NetBackend.roomAvailable}. It must not call
 * {@link NetBackend.send} itself.
 */
export type FrameReceiver = (frame: Uint8Array | readonly Uint8Array[], info: FrameInfo) => boolean;

/** Where the frames of a network device go to and come from. Everything is called on the machine's thread. */
export interface NetBackend {
  readonly offloads: BackendOffloads;
  /** Largest IP packet in bytes, without the Ethernet header; VIRTIO_NET_F_MTU's value. */
  readonly mtu: number;
  /**
   * A frame from the guest, without a virtio header: guest RAM in pieces, valid during the call only. A frame that makes no
   * sense is dropped; send() never throws for what is in it. Frames for the guest may be given before it returns.
   */
  send(frame: readonly Uint8Array[], info: FrameInfo): void;
  /** The driver is ready: frames for the guest go to `receive`. Called again after each {@link stop}. */
  start(receive: FrameReceiver, accepts: ReceiveOffloads): void;
  /** The device was reset: no frame is given until the next start(). Connections stay. */
  stop(): void;
  /** The guest has provided receive buffers after `receive` had returned false. */
  roomAvailable(): void;
  /** Frees the sockets. Nothing may be called after it. */
  close(): Promise<void>;
  /** True while frames may arrive at any moment (open sockets): the machine keeps turning its event loop meanwhile. */
  readonly active: boolean;
}
