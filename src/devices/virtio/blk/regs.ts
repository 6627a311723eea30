/** Names of the block device: Virtual I/O Device 1.2, section 5.2. */

/** Device ID (section 5.2.1). */
export const VIRTIO_ID_BLOCK = 2;

/** The unit of every position and capacity, in bytes, whatever blk_size says (section 5.2.4). */
export const SECTOR_SIZE = 512;

// Feature bits (section 5.2.3).
export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

// Offsets in struct virtio_blk_config (section 5.2.4).
export const CONFIG_CAPACITY = 0;
export const CONFIG_SEG_MAX = 12;
export const CONFIG_BLK_SIZE = 20;
export const CONFIG_PHYSICAL_BLOCK_EXP = 24;
export const CONFIG_MIN_IO_SIZE = 26;
export const CONFIG_OPT_IO_SIZE = 28;
export const CONFIG_WRITEBACK = 32;
export const CONFIG_NUM_QUEUES = 34;
export const CONFIG_MAX_DISCARD_SECTORS = 36;
export const CONFIG_MAX_DISCARD_SEG = 40;
export const CONFIG_DISCARD_SECTOR_ALIGNMENT = 44;
export const CONFIG_MAX_WRITE_ZEROES_SECTORS = 48;
export const CONFIG_MAX_WRITE_ZEROES_SEG = 52;
export const CONFIG_WRITE_ZEROES_MAY_UNMAP = 56;
/** Bytes of the configuration up to the fields of secure erase, which is not offered. */
export const CONFIG_SIZE = 60;

/**
 * Bytes of the part of struct virtio_blk_req in front of the data: le32 type, le32 reserved, le64 sector (section
 * 5.2.6).
 */
export const REQUEST_HEADER_SIZE = 16;

// Request types (section 5.2.6).
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

/**
 * Bytes of the answer to VIRTIO_BLK_T_GET_ID: ASCII, padded with zeroes, without one at the end when all 20 are used.
 */
export const ID_SIZE = 20;

/** Bytes of struct virtio_blk_discard_write_zeroes: le64 sector, le32 num_sectors, le32 flags. */
export const SEGMENT_SIZE = 16;
/** Flag of a segment: the sectors may be deallocated. */
export const SEGMENT_UNMAP = 1;

// Status, the last byte that the device writes.
export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;
