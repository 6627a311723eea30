import type { ExitSink } from '../engine.ts';
import { KVM_EXIT_IO_OUT, kvm_coalesced_mmio, kvm_coalesced_mmio_ring, kvm_run } from './abi/common.generated.ts';

const PAGE = 4096;

/** The kvm_run structure of one vCPU: why it is out of the guest, and where the answer goes (api.rst, section 5). */
export class ExitState {
  readonly #cpu: number;
  readonly #view: DataView;

  /** @param run the mapping of the vCPU. */
  constructor(cpu: number, run: ArrayBuffer) {
    this.#cpu = cpu;
    this.#view = new DataView(run);
  }

  /** KVM_EXIT_*. */
  get reason(): number {
    return this.#view.getUint32(kvm_run.exit_reason, true);
  }

  /** Answers KVM_EXIT_MMIO. */
  mmio(sink: ExitSink): void {
    const v = this.#view;
    const address = this.#address(kvm_run['mmio.phys_addr']);
    const length = v.getUint32(kvm_run['mmio.len'], true);
    const data = kvm_run['mmio.data'];
    if (v.getUint8(kvm_run['mmio.is_write']) !== 0) writeMmio(sink, this.#cpu, v, data, address, length);
    else this.#readMmio(sink, address, length, data);
  }

  /** Answers KVM_EXIT_IO: `count` times `size` bytes at one port, as an INS or OUTS with a prefix makes them. */
  io(sink: ExitSink): void {
    const v = this.#view;
    const out = v.getUint8(kvm_run['io.direction']) === KVM_EXIT_IO_OUT;
    const size = v.getUint8(kvm_run['io.size']);
    const port = v.getUint16(kvm_run['io.port'], true);
    const count = v.getUint32(kvm_run['io.count'], true);
    let at = v.getUint32(kvm_run['io.data_offset'], true);
    for (let i = 0; i < count; i++, at += size) {
      if (out) sink.portOut(this.#cpu, port, size, get(v, at, size));
      else set(v, at, size, sink.portIn(this.#cpu, port, size));
    }
  }

  /** KVM_EXIT_SYSTEM_EVENT's type. */
  get systemEvent(): number {
    return this.#view.getUint32(kvm_run['system_event.type'], true);
  }

  /** KVM_EXIT_FAIL_ENTRY's and KVM_EXIT_UNKNOWN's reason of the hardware. */
  get hardwareReason(): bigint {
    return this.#view.getBigUint64(kvm_run['hw.hardware_exit_reason'], true);
  }

  /** KVM_EXIT_INTERNAL_ERROR: the suberror and the data that come with it. */
  get internalError(): { readonly suberror: number; readonly data: readonly bigint[] } {
    const v = this.#view;
    const count = Math.min(16, v.getUint32(kvm_run['internal.ndata'], true));
    const data = Array.from({ length: count }, (_, i) => v.getBigUint64(kvm_run['internal.data'] + 8 * i, true));
    return { suberror: v.getUint32(kvm_run['internal.suberror'], true), data };
  }

  /** KVM_EXIT_ARM_NISV: ISS of the abort, and the address. */
  get nisv(): { readonly iss: bigint; readonly address: number } {
    const v = this.#view;
    return {
      iss: v.getBigUint64(kvm_run['arm_nisv.esr_iss'], true),
      address: this.#address(kvm_run['arm_nisv.fault_ipa']),
    };
  }

  /** KVM_EXIT_HYPERCALL: number, arguments, and where the result goes. */
  get hypercall(): { readonly nr: number; arg(n: number): bigint; result(v: bigint): void } {
    const v = this.#view;
    return {
      nr: Number(v.getBigUint64(kvm_run['hypercall.nr'], true)),
      arg: n => (n < 6 ? v.getBigUint64(kvm_run['hypercall.args'] + 8 * n, true) : 0n),
      result: value => v.setBigUint64(kvm_run['hypercall.ret'], BigInt.asUintN(64, value), true),
    };
  }

  #readMmio(sink: ExitSink, address: number, length: number, data: number): void {
    const v = this.#view;
    if (length === 8) {
      v.setBigUint64(data, BigInt(sink.mmioRead(this.#cpu, address, 8)), true);
    } else if (length === 4 || length === 2 || length === 1) {
      set(v, data, length, Number(sink.mmioRead(this.#cpu, address, length)));
    } else {
      // An access that crosses a page comes in its two parts.
      for (let i = 0; i < length; i++) v.setUint8(data + i, Number(sink.mmioRead(this.#cpu, address + i, 1)));
    }
  }

  #address(at: number): number {
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }
}

/** The writes that KVM has kept back (api.rst 4.116), in a page of any vCPU's mapping; all vCPUs' are in it. */
export class CoalescedRing {
  readonly #view: DataView;
  readonly #entries: number;

  /** @param page KVM_CHECK_EXTENSION's answer: which page of the mapping. */
  constructor(run: ArrayBuffer, page: number) {
    this.#view = new DataView(run, page * PAGE, PAGE);
    this.#entries = Math.floor((PAGE - kvm_coalesced_mmio_ring.coalesced_mmio) / kvm_coalesced_mmio.sizeof);
  }

  /** Makes the writes in the guest's order; before any later access is answered. Whether there were any. */
  drain(sink: ExitSink): boolean {
    const v = this.#view;
    let first = v.getUint32(kvm_coalesced_mmio_ring.first, true);
    if (first === v.getUint32(kvm_coalesced_mmio_ring.last, true)) return false;
    while (first !== v.getUint32(kvm_coalesced_mmio_ring.last, true)) {
      const at = kvm_coalesced_mmio_ring.coalesced_mmio + first * kvm_coalesced_mmio.sizeof;
      const low = v.getUint32(at + kvm_coalesced_mmio.phys_addr, true);
      const address = low + v.getUint32(at + kvm_coalesced_mmio.phys_addr + 4, true) * 2 ** 32;
      const length = v.getUint32(at + kvm_coalesced_mmio.len, true);
      const data = at + kvm_coalesced_mmio.data;
      if (v.getUint32(at + kvm_coalesced_mmio.pio, true) === 0) writeMmio(sink, 0, v, data, address, length);
      else sink.portOut(0, address, length, get(v, data, length));
      first = (first + 1) % this.#entries;
      v.setUint32(kvm_coalesced_mmio_ring.first, first, true);
    }
    return true;
  }
}

function writeMmio(sink: ExitSink, cpu: number, v: DataView, data: number, address: number, length: number): void {
  if (length === 8) sink.mmioWrite(cpu, address, 8, v.getBigUint64(data, true));
  else if (length === 4 || length === 2 || length === 1) sink.mmioWrite(cpu, address, length, get(v, data, length));
  else for (let i = 0; i < length; i++) sink.mmioWrite(cpu, address + i, 1, v.getUint8(data + i));
}

function get(v: DataView, at: number, size: number): number {
  return size === 4 ? v.getUint32(at, true) : size === 2 ? v.getUint16(at, true) : v.getUint8(at);
}

function set(v: DataView, at: number, size: number, value: number): void {
  if (size === 4) v.setUint32(at, value >>> 0, true);
  else if (size === 2) v.setUint16(at, value & 0xffff, true);
  else v.setUint8(at, value & 0xff);
}
