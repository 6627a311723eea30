import { gather, skipBytes } from '../pieces.ts';
import * as R from './regs.ts';

/** What commands of the control queue change. */
export interface ControlTarget {
  /** Whether the driver accepted a feature. */
  has(feature: number): boolean;
  /** The guest has another address now; 6 bytes. */
  setMac(mac: Uint8Array): void;
  /** The driver takes these offloads only, by the numbers of the features; false when it had not accepted one of them. */
  setGuestOffloads(offloads: bigint): boolean;
}

const MAC_SIZE = 6;

/**
 * Carries out a command of the control queue (virtio 1.2 section 5.1.6.5): class, command and data lie in `request`, cut
 * anyhow. False for what was not agreed upon or has a wrong length.
 */
export function control(request: readonly Uint8Array[], length: number, target: ControlTarget): boolean {
  const head = new Uint8Array(2);
  if (gather(request, head) < head.length) return false;
  const data = skipBytes(request, head.length);
  const size = length - head.length;
  const [group, command] = head;
  switch (group) {
    case R.VIRTIO_NET_CTRL_RX:
      // Everything is received always: a device may be less strict than it is asked to be (section 5.1.6.5.1.1).
      return (
        target.has(R.VIRTIO_NET_F_CTRL_RX) &&
        (command === R.VIRTIO_NET_CTRL_RX_PROMISC || command === R.VIRTIO_NET_CTRL_RX_ALLMULTI) &&
        size === 1
      );
    case R.VIRTIO_NET_CTRL_MAC:
      if (command === R.VIRTIO_NET_CTRL_MAC_TABLE_SET) {
        return target.has(R.VIRTIO_NET_F_CTRL_RX) && areTables(data, size);
      }
      return command === R.VIRTIO_NET_CTRL_MAC_ADDR_SET && setMac(data, size, target);
    case R.VIRTIO_NET_CTRL_GUEST_OFFLOADS:
      return command === R.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET && setGuestOffloads(data, size, target);
    default:
      return false;
  }
}

/** Two tables, of unicast and multicast addresses, each with a le32 in front that counts its entries. */
function areTables(data: readonly Uint8Array[], size: number): boolean {
  const count = new Uint8Array(4);
  let rest = data;
  for (let table = 0; table < 2; table++) {
    if (gather(rest, count) < count.length) return false;
    const bytes = count.length + MAC_SIZE * new DataView(count.buffer).getUint32(0, true);
    if (bytes > size) return false;
    rest = skipBytes(rest, bytes);
    size -= bytes;
  }
  return size === 0;
}

function setMac(data: readonly Uint8Array[], size: number, target: ControlTarget): boolean {
  if (!target.has(R.VIRTIO_NET_F_CTRL_MAC_ADDR) || size !== MAC_SIZE) return false;
  const mac = new Uint8Array(MAC_SIZE);
  gather(data, mac);
  target.setMac(mac);
  return true;
}

function setGuestOffloads(data: readonly Uint8Array[], size: number, target: ControlTarget): boolean {
  if (!target.has(R.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) || size !== 8) return false;
  const offloads = new Uint8Array(8);
  gather(data, offloads);
  return target.setGuestOffloads(new DataView(offloads.buffer).getBigUint64(0, true));
}
