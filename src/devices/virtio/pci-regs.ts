// Virtio over PCI (virtio 1.2 section 4.1), as offsets and numbers.

export const VIRTIO_VENDOR_ID = 0x1af4;
/** Device id of a device that is not transitional: this and the device type (section 4.1.2). */
export const VIRTIO_DEVICE_ID_BASE = 0x1040;
/** Device ids of transitional devices by device type (section 4.1.2.1). */
export const TRANSITIONAL_DEVICE_IDS: Readonly<Record<number, number>> = {
  1: 0x1000,
  2: 0x1001,
  3: 0x1003,
  4: 0x1005,
  5: 0x1002,
  8: 0x1004,
  9: 0x1009,
};
/** Section 4.1.2.1: at least 0x40, so that no legacy driver takes a device that is not transitional for its own. */
export const SUBSYSTEM_ID = 0x1100;

/** Class codes by device type (PCI Code and ID Assignment): what guests show, and what firmware picks boot devices by. */
export const CLASS_CODES: Readonly<Record<number, number>> = {
  1: 0x02_0000, // network: Ethernet controller
  2: 0x01_8000, // block: other mass storage controller
  3: 0x07_8000, // console: other communication controller
  8: 0x01_0000, // SCSI storage controller
  9: 0x01_8000, // 9P
  16: 0x03_8000, // GPU: other display controller
  19: 0x02_8000, // socket: other network controller
  26: 0x01_8000, // file system
};
/** All others: not one of the defined classes. */
export const CLASS_OTHER = 0x00_ff00;

// --- Structures (section 4.1.4). ---
export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
export const VIRTIO_PCI_CAP_PCI_CFG = 5;

/** Where ours are: each in a page of its own, so that a guest can map one to its user space without the others. */
export const LEGACY_BAR = 0;
export const MSIX_BAR = 1;
export const VIRTIO_BAR = 4;
export const VIRTIO_BAR_SIZE = 0x4000;
export const COMMON_OFFSET = 0x0000;
export const ISR_OFFSET = 0x1000;
export const DEVICE_OFFSET = 0x2000;
export const NOTIFY_OFFSET = 0x3000;
/** Bytes between the notification registers of two queues: 4, as VIRTIO_F_NOTIFICATION_DATA has 32-bit notifications. */
export const NOTIFY_OFF_MULTIPLIER = 4;
/** Queues whose notification registers fit into their page. */
export const MAX_QUEUES = 0x1000 / NOTIFY_OFF_MULTIPLIER;

// --- Common configuration (section 4.1.4.3). ---
export const DEVICE_FEATURE_SELECT = 0;
export const DEVICE_FEATURE = 4;
export const DRIVER_FEATURE_SELECT = 8;
export const DRIVER_FEATURE = 12;
export const CONFIG_MSIX_VECTOR = 16;
export const NUM_QUEUES = 18;
export const DEVICE_STATUS = 20;
export const CONFIG_GENERATION = 21;
export const QUEUE_SELECT = 22;
export const QUEUE_SIZE = 24;
export const QUEUE_MSIX_VECTOR = 26;
export const QUEUE_ENABLE = 28;
export const QUEUE_NOTIFY_OFF = 30;
/** The low half of the first of three 64-bit addresses: descriptor, driver and device area. */
export const QUEUE_DESC = 32;
export const QUEUE_NOTIFY_DATA = 56;
export const QUEUE_RESET = 58;
/** Bytes of the structure. */
export const COMMON_SIZE = 60;

/** "No vector": the event sends no message (section 4.1.5.1.2). */
export const VIRTIO_MSI_NO_VECTOR = 0xffff;

/** ISR status (section 4.1.4.5). */
export const ISR_QUEUE = 1;
export const ISR_CONFIG = 2;

// --- Legacy interface (section 4.1.4.10). ---
export const LEGACY_DEVICE_FEATURES = 0;
export const LEGACY_DRIVER_FEATURES = 4;
export const LEGACY_QUEUE_ADDRESS = 8;
export const LEGACY_QUEUE_SIZE = 12;
export const LEGACY_QUEUE_SELECT = 14;
export const LEGACY_QUEUE_NOTIFY = 16;
export const LEGACY_DEVICE_STATUS = 18;
export const LEGACY_ISR_STATUS = 19;
/** Bytes of the header; with MSI-X enabled the two vectors follow. */
export const LEGACY_SIZE = 20;
export const LEGACY_CONFIG_VECTOR = 20;
export const LEGACY_QUEUE_VECTOR = 22;
export const LEGACY_SIZE_MSIX = 24;
/** Unit of the queue address, and alignment of the used ring (section 2.7.2). */
export const LEGACY_PAGE = 4096;
