/**
 * Flows by their four numbers: the guest's address and port, the remote address and port. Looked up for each packet, so the
 * keys are two numbers, not a string. The guest's side is unique nearly always, and so the inner maps have one entry.
 */
export class FlowTable<T> {
  readonly #byGuest = new Map<number, Map<number, T>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(guestAddress: number, guestPort: number, remoteAddress: number, remotePort: number): T | undefined {
    return this.#byGuest.get(endpointKey(guestAddress, guestPort))?.get(endpointKey(remoteAddress, remotePort));
  }

  set(guestAddress: number, guestPort: number, remoteAddress: number, remotePort: number, flow: T): void {
    const guest = endpointKey(guestAddress, guestPort);
    const remote = endpointKey(remoteAddress, remotePort);
    let inner = this.#byGuest.get(guest);
    if (!inner) {
      inner = new Map();
      this.#byGuest.set(guest, inner);
    }
    if (!inner.has(remote)) this.#size++;
    inner.set(remote, flow);
  }

  delete(guestAddress: number, guestPort: number, remoteAddress: number, remotePort: number): void {
    const guest = endpointKey(guestAddress, guestPort);
    const inner = this.#byGuest.get(guest);
    if (!inner?.delete(endpointKey(remoteAddress, remotePort))) return;
    this.#size--;
    if (inner.size === 0) this.#byGuest.delete(guest);
  }

  *[Symbol.iterator](): Generator<T> {
    for (const inner of this.#byGuest.values()) yield* inner.values();
  }
}

/** 48 bits: exact in a double. */
function endpointKey(address: number, port: number): number {
  return address * 0x1_0000 + port;
}
