/** Little-endian integers by a format of H (16 bits), I (32) and Q (64): what a driver writes in front of its data. */
export function pack(format: string, ...values: readonly number[]): Uint8Array {
  let size = 0;
  for (const f of format) size += f === 'H' ? 2 : f === 'I' ? 4 : 8;
  const view = new DataView(new ArrayBuffer(size));
  let at = 0;
  for (let i = 0; i < format.length; i++) {
    const value = values[i]!;
    if (format[i] === 'H') {
      view.setUint16(at, value, true);
      at += 2;
      continue;
    }
    view.setUint32(at, value, true);
    at += 4;
    if (format[i] === 'I') continue;
    view.setUint32(at, Math.floor(value / 2 ** 32), true);
    at += 4;
  }
  return new Uint8Array(view.buffer);
}

export function joined(...parts: readonly ArrayLike<number>[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const p of parts) {
    bytes.set(p, at);
    at += p.length;
  }
  return bytes;
}

/** A name of bytes with its zero. */
export function zero(name: string): Uint8Array {
  return Uint8Array.from(`${name}\0`, c => c.charCodeAt(0));
}

/** A request of the FUSE protocol. */
export function fuseRequest(opcode: number, node: number, ...args: readonly Uint8Array[]): Uint8Array {
  const length = args.reduce((sum, a) => sum + a.length, 40);
  return joined(pack('IIQQIIIHH', length, opcode, 7, node, 1000, 1000, 42, 0, 0), ...args);
}
