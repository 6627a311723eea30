/** Constants of the traditional memory balloon device (virtio 1.2 section 5.5), as the specification spells them. */

/** Device ID (section 5.5.1). */
export const VIRTIO_ID_BALLOON = 5;

// Feature bits (section 5.5.3). Free page hinting (3) serves migration and is not offered.
export const VIRTIO_BALLOON_F_MUST_TELL_HOST = 0;
export const VIRTIO_BALLOON_F_STATS_VQ = 1;
export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 2;
export const VIRTIO_BALLOON_F_PAGE_POISON = 4;
export const VIRTIO_BALLOON_F_PAGE_REPORTING = 5;

// Offsets in struct virtio_balloon_config (section 5.5.4), le32 each.
export const NUM_PAGES = 0;
export const ACTUAL = 4;
export const FREE_PAGE_HINT_CMD_ID = 8;
export const POISON_VAL = 12;
export const CONFIG_SIZE = 16;

/** Page numbers are guest-physical addresses divided by 4096, whatever the guest's page size is (section 5.5.6). */
export const VIRTIO_BALLOON_PFN_SHIFT = 12;
/** Bytes of one page of the balloon. */
export const BALLOON_PAGE = 1 << VIRTIO_BALLOON_PFN_SHIFT;

// Tags of memory statistics (section 5.5.6.4).
export const VIRTIO_BALLOON_S_SWAP_IN = 0;
export const VIRTIO_BALLOON_S_SWAP_OUT = 1;
export const VIRTIO_BALLOON_S_MAJFLT = 2;
export const VIRTIO_BALLOON_S_MINFLT = 3;
export const VIRTIO_BALLOON_S_MEMFREE = 4;
export const VIRTIO_BALLOON_S_MEMTOT = 5;
export const VIRTIO_BALLOON_S_AVAIL = 6;
export const VIRTIO_BALLOON_S_CACHES = 7;
export const VIRTIO_BALLOON_S_HTLB_PGALLOC = 8;
export const VIRTIO_BALLOON_S_HTLB_PGFAIL = 9;

/** Bytes of struct virtio_balloon_stat: le16 tag, le64 val (section 5.5.6.3). */
export const STAT_SIZE = 10;
