/** Constants of the memory device (virtio 1.2 section 5.15), as the specification spells them. */

/** Device ID (section 5.15.1). */
export const VIRTIO_ID_MEM = 24;

/** The guest-request queue (section 5.15.2). */
export const GUEST_REQUEST = 0;

// Feature bits (section 5.15.3). VIRTIO_MEM_F_ACPI_PXM (0) is not offered: there is one NUMA node, and no ACPI.
export const VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE = 1;

// Offsets in struct virtio_mem_config (section 5.15.4): le64, but for the le16 node_id and its padding.
export const BLOCK_SIZE = 0;
export const NODE_ID = 8;
export const ADDR = 16;
export const REGION_SIZE = 24;
export const USABLE_REGION_SIZE = 32;
export const PLUGGED_SIZE = 40;
export const REQUESTED_SIZE = 48;
export const CONFIG_SIZE = 56;

// Requests (section 5.15.6): le16 type at 0; of all but UNPLUG_ALL le64 addr at 8 and le16 nb_blocks at 16.
export const VIRTIO_MEM_REQ_PLUG = 0;
export const VIRTIO_MEM_REQ_UNPLUG = 1;
export const VIRTIO_MEM_REQ_UNPLUG_ALL = 2;
export const VIRTIO_MEM_REQ_STATE = 3;
export const REQ_ADDR = 8;
export const REQ_NB_BLOCKS = 16;
export const REQ_SIZE = 24;

// Responses: le16 type at 0; of STATE the le16 state at 8.
export const VIRTIO_MEM_RESP_ACK = 0;
export const VIRTIO_MEM_RESP_NACK = 1;
export const VIRTIO_MEM_RESP_BUSY = 2;
export const VIRTIO_MEM_RESP_ERROR = 3;
export const RESP_STATE = 8;
export const RESP_SIZE = 10;

// States (section 5.15.6.4).
export const VIRTIO_MEM_STATE_PLUGGED = 0;
export const VIRTIO_MEM_STATE_UNPLUGGED = 1;
export const VIRTIO_MEM_STATE_MIXED = 2;
