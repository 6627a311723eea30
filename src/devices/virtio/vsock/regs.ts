/** Constants of the socket device (virtio 1.2 section 5.10), as the specification spells them. */

/** Device ID (section 5.10.1). */
export const VIRTIO_ID_VSOCK = 19;

// Virtqueues (section 5.10.2).
export const RX = 0;
export const TX = 1;
export const EVENT = 2;

/** Feature bit: stream sockets (section 5.10.3); implied when no bit is negotiated. */
export const VIRTIO_VSOCK_F_STREAM = 0;

/** Bytes of struct virtio_vsock_config: le64 guest_cid. */
export const CONFIG_SIZE = 8;

/** The host's context ID (section 5.10.4). */
export const HOST_CID = 2;
/** Smallest and largest context ID that a guest may have; those around are reserved (section 5.10.4). */
export const MIN_GUEST_CID = 3;
export const MAX_GUEST_CID = 0xffff_fffe;

/** The port that stands for all ports that nobody else listens on, as VMADDR_PORT_ANY of Linux's socket interface. */
export const VMADDR_PORT_ANY = 0xffff_ffff;

// Values of `type` in a packet (section 5.10.6.2).
export const VIRTIO_VSOCK_TYPE_STREAM = 1;

// Values of `op` in a packet (section 5.10.6).
export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

// `flags` of VIRTIO_VSOCK_OP_SHUTDOWN as masks; the specification gives bit numbers 0 and 1 (section 5.10.6.5).
export const VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE = 1;
export const VIRTIO_VSOCK_SHUTDOWN_F_SEND = 2;
export const SHUTDOWN_BOTH = VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE | VIRTIO_VSOCK_SHUTDOWN_F_SEND;

/** `id` of struct virtio_vsock_event (section 5.10.6.7). */
export const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0;
/** Bytes of struct virtio_vsock_event: le32 id. */
export const EVENT_SIZE = 4;
