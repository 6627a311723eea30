// Virtio 1.2 section 5.3: the console device's numbers, in the specification's spelling.

// Feature bits (section 5.3.3).
export const VIRTIO_CONSOLE_F_SIZE = 0;
export const VIRTIO_CONSOLE_F_MULTIPORT = 1;
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 2;

// struct virtio_console_config (section 5.3.4).
export const CONFIG_COLS = 0;
export const CONFIG_ROWS = 2;
export const CONFIG_MAX_NR_PORTS = 4;
export const CONFIG_EMERG_WR = 8;
export const CONFIG_SIZE = 12;

// Queues (section 5.3.2); those of port n > 0 begin at 2 + 2 n.
export const CONTROL_RECEIVEQ = 2;
export const CONTROL_TRANSMITQ = 3;

// struct virtio_console_control: le32 id, le16 event, le16 value (section 5.3.6.2).
export const CONTROL_SIZE = 8;
export const VIRTIO_CONSOLE_DEVICE_READY = 0;
export const VIRTIO_CONSOLE_DEVICE_ADD = 1;
export const VIRTIO_CONSOLE_PORT_READY = 3;
export const VIRTIO_CONSOLE_CONSOLE_PORT = 4;
export const VIRTIO_CONSOLE_RESIZE = 5;
export const VIRTIO_CONSOLE_PORT_OPEN = 6;
export const VIRTIO_CONSOLE_PORT_NAME = 7;
