/** Bytes of struct virtio_vsock_hdr (virtio 1.2 section 5.10.6). */
export const HEADER_SIZE = 44;

/** struct virtio_vsock_hdr with the specification's own field names. */
export interface PacketHeader {
  /** 64 bits, of which the upper 32 are reserved and zero. */
  readonly src_cid: bigint;
  readonly dst_cid: bigint;
  readonly src_port: number;
  readonly dst_port: number;
  /** Bytes of payload behind the header. */
  readonly len: number;
  readonly type: number;
  readonly op: number;
  readonly flags: number;
  /** Bytes of the sender's receive buffer for this connection. */
  readonly buf_alloc: number;
  /** Bytes that the sender has taken out of that buffer so far, modulo 2^32. */
  readonly fwd_cnt: number;
}

/** Reads a header from the {@link HEADER_SIZE} bytes of `view`. */
export function decodeHeader(view: DataView): PacketHeader {
  return {
    src_cid: view.getBigUint64(0, true),
    dst_cid: view.getBigUint64(8, true),
    src_port: view.getUint32(16, true),
    dst_port: view.getUint32(20, true),
    len: view.getUint32(24, true),
    type: view.getUint16(28, true),
    op: view.getUint16(30, true),
    flags: view.getUint32(32, true),
    buf_alloc: view.getUint32(36, true),
    fwd_cnt: view.getUint32(40, true),
  };
}

/** Writes `header` into the {@link HEADER_SIZE} bytes of `view`. */
export function encodeHeader(view: DataView, header: PacketHeader): void {
  view.setBigUint64(0, header.src_cid, true);
  view.setBigUint64(8, header.dst_cid, true);
  view.setUint32(16, header.src_port, true);
  view.setUint32(20, header.dst_port, true);
  view.setUint32(24, header.len, true);
  view.setUint16(28, header.type, true);
  view.setUint16(30, header.op, true);
  view.setUint32(32, header.flags, true);
  view.setUint32(36, header.buf_alloc, true);
  view.setUint32(40, header.fwd_cnt, true);
}
