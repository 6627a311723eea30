import { definePciDevice } from '../kit/definition.ts';
import type { DmaPin } from '../kit/device.ts';

/** Registers by offset in BAR 0, in the order of the interface's description (QEMU, docs/specs/edu). */
const IDENTIFICATION = 0x00;
const LIVENESS = 0x04;
const FACTORIAL = 0x08;
const STATUS = 0x20;
const INTERRUPT_STATUS = 0x24;
const INTERRUPT_RAISE = 0x60;
const INTERRUPT_ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;
/** Where the device's own 4 KiB are in DMA addresses; the guest reaches them by DMA only. */
const BUFFER = 0x4_0000n;
const BUFFER_BYTES = 4096;

/** Version 1.0 of "edu". */
const ID = 0x0100_00ed;
const STATUS_COMPUTING = 0x01;
const STATUS_INTERRUPT = 0x80;
const COMMAND_START = 1n;
const COMMAND_FROM_DEVICE = 2n;
const COMMAND_INTERRUPT = 4n;
const FACTORIAL_DONE = 0x001;
const DMA_DONE = 0x100;
/** The device drives 28 address lines unless its option dma_mask says otherwise. */
const DMA_MASK = 0x0fff_ffffn;

/** How long things take, ns of the machine's clock: long enough for a driver to see that they do. */
const FACTORIAL_NS = 10_000;
const DMA_NS = 100_000;

/**
 * The educational device of QEMU, 1234:11e8: a register that inverts, one that computes factorials, interrupts by wire or
 * message, and a DMA engine. Many courses on drivers use it. Option `dma_mask`: addresses that its DMA can drive.
 */
export const edu = definePciDevice(
  {
    name: 'edu',
    vendor: 0x1234,
    device: 0x11e8,
    revision: 0x10,
    class: 0x00_ff00,
    bars: [{ index: 0, kind: 'mem32', size: 0x10_0000 }],
    msi: 1,
    intx: true,
  },
  dev => {
    const mask = BigInt((dev.options.dma_mask as string | number | undefined) ?? DMA_MASK);
    const buffer = new Uint8Array(BUFFER_BYTES);
    let liveness = 0;
    let factorial = 0;
    let status = 0;
    let interrupts = 0;
    let dma = { source: 0n, destination: 0n, count: 0n, command: 0n };
    let computing: Disposable | undefined;
    let transferring: Disposable | undefined;
    let pinned: DmaPin | undefined;

    const raise = (causes: number) => {
      interrupts = (interrupts | causes) >>> 0;
      if (interrupts === 0) return;
      dev.intx.set(true);
      dev.msi(0).trigger();
    };

    const compute = () => {
      let product = 1;
      // From 34 on, 2 to the 32nd divides the factorial.
      for (let n = 2; n <= Math.min(factorial, 34); n++) product = Math.imul(product, n);
      factorial = product >>> 0;
      status &= ~STATUS_COMPUTING;
      if ((status & STATUS_INTERRUPT) !== 0) raise(FACTORIAL_DONE);
    };

    const fromDevice = () => (dma.command & COMMAND_FROM_DEVICE) !== 0n;

    /** The engine holds on to the guest's memory from here until it is done. A range that is not in the buffer moves nothing. */
    const start = () => {
      const offset = bufferOffset();
      const address = (fromDevice() ? dma.destination : dma.source) & mask;
      if (offset >= 0n && offset + dma.count <= BigInt(BUFFER_BYTES))
        pinned = dev.dma.pin(address, Number(dma.count), fromDevice() ? 'w' : 'r');
      transferring = dev.after(DMA_NS, finish);
    };

    const finish = () => {
      if (pinned !== undefined && dev.dma.allowed) {
        const at = Number(bufferOffset());
        const own = buffer.subarray(at, at + pinned.bytes.length);
        if (fromDevice()) pinned.bytes.set(own);
        else own.set(pinned.bytes);
      }
      letGo();
      dma.command &= ~COMMAND_START;
      if ((dma.command & COMMAND_INTERRUPT) !== 0n) raise(DMA_DONE);
    };

    const bufferOffset = () => (fromDevice() ? dma.source : dma.destination) - BUFFER;

    const letGo = () => {
      pinned?.unpin();
      pinned = undefined;
    };

    const dmaRegister = (offset: number): keyof typeof dma | undefined => {
      if (offset === DMA_SOURCE) return 'source';
      if (offset === DMA_DESTINATION) return 'destination';
      if (offset === DMA_COUNT) return 'count';
      return offset === DMA_COMMAND ? 'command' : undefined;
    };

    const writeDma = (offset: number, value: bigint) => {
      const register = dmaRegister(offset);
      if (register === undefined || (dma.command & COMMAND_START) !== 0n) return;
      if (register === 'command' && (value & COMMAND_START) === 0n) return;
      dma[register] = value;
      if (register === 'command') start();
    };

    dev.bar(0).on({
      // 4 bytes below 0x80, 4 or 8 from there on; everything else answers nothing.
      read: (offset, size) => {
        if (size !== 4) return undefined;
        if (offset === IDENTIFICATION) return ID;
        if (offset === LIVENESS) return liveness;
        if (offset === FACTORIAL) return factorial;
        if (offset === STATUS) return status;
        if (offset === INTERRUPT_STATUS) return interrupts;
        const register = dmaRegister(offset);
        return register && Number(BigInt.asUintN(32, dma[register]));
      },
      write: (offset, value, size) => {
        if (size !== 4) return;
        if (offset === LIVENESS) liveness = ~value;
        else if (offset === FACTORIAL && (status & STATUS_COMPUTING) === 0) {
          factorial = value;
          status |= STATUS_COMPUTING;
          computing = dev.after(FACTORIAL_NS, compute);
        } else if (offset === STATUS) status = (status & ~STATUS_INTERRUPT) | (value & STATUS_INTERRUPT);
        else if (offset === INTERRUPT_RAISE) raise(value);
        else if (offset === INTERRUPT_ACKNOWLEDGE) {
          interrupts = (interrupts & ~value) >>> 0;
          if (interrupts === 0) dev.intx.set(false);
        } else writeDma(offset, BigInt(value));
      },
      read64: offset => {
        const register = dmaRegister(offset);
        return register && dma[register];
      },
      write64: writeDma,
    });

    dev.onUnplug(letGo);
    dev.onReset(() => {
      computing?.[Symbol.dispose]();
      transferring?.[Symbol.dispose]();
      letGo();
      liveness = factorial = status = interrupts = 0;
      dma = { source: 0n, destination: 0n, count: 0n, command: 0n };
      buffer.fill(0);
    });
  },
);
