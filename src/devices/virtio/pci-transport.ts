import type { AccessSize, BusDevice } from '../../bus/types.ts';
import type { BarSpec, Doorbell } from '../../pci/bar.ts';
import type { Capability } from '../../pci/capability.ts';
import { msixLayout } from '../../pci/caps/msix.ts';
import { PciFunction } from '../../pci/function.ts';
import { VmError } from '../../util/errors.ts';
import type { VirtioDevice } from './device.ts';
import { ConfigAccessCapability, VirtioCapability } from './pci-capabilities.ts';
import { CommonConfig } from './pci-common.ts';
import { VirtioInterrupts, type VirtioInterruptsState } from './pci-interrupts.ts';
import { LegacyConfig } from './pci-legacy.ts';
import * as R from './pci-regs.ts';
import { VirtioTransport, type VirtioTransportState } from './transport.ts';

/** Largest I/O BAR, bytes (BAR-21); smallest that we make, so that the device id says all about the BAR's size. */
const MAX_IO_BAR = 256;
const MIN_IO_BAR = 64;

/** What {@link createVirtioPci} makes a function of. */
export interface VirtioPciOptions {
  readonly device: VirtioDevice;
  /** For people: messages, traces. */
  readonly name: string;
  /** Offer the legacy interface, too, for drivers that know no other. Not every type of device has one. Default false. */
  readonly transitional?: boolean;
  /** Offer packed virtqueues. Default true. */
  readonly packed?: boolean;
  /** Capabilities behind those of virtio: power management, PCI Express. */
  readonly capabilities?: readonly Capability[];
  /** What goes wrong with the device; a bounded number of lines. */
  log(line: string): void;
}

/** The device's part of a virtio function's state. */
interface VirtioPciState {
  readonly interrupts: VirtioInterruptsState;
  readonly common: readonly number[];
  readonly legacy: number;
  readonly transport: VirtioTransportState;
}

/** Whether a device may be transitional: the types that virtio 1.0 found in use (section 4.1.2.1). */
export function hasLegacyInterface(device: VirtioDevice): boolean {
  return R.TRANSITIONAL_DEVICE_IDS[device.type] !== undefined;
}

/**
 * A virtio device as a PCI function (virtio 1.2 section 4.1).
 * @throws VmError ERR_DEVICE for a device that cannot be transitional, or that has too many queues.
 */
export function createVirtioPci(options: VirtioPciOptions): PciFunction {
  const { device, name, transitional = false } = options;
  const queues = device.queueSizes.length;
  if (queues > R.MAX_QUEUES) {
    throw new VmError('ERR_DEVICE', `${name}: ${device.name} has ${queues} queues, PCI allows ${R.MAX_QUEUES}`, {
      hint: 'configure the device with fewer queues',
      details: { queues },
    });
  }
  const legacyId = R.TRANSITIONAL_DEVICE_IDS[device.type];
  if (transitional && legacyId === undefined) {
    throw new VmError('ERR_DEVICE', `${name}: ${device.name} has no legacy interface`, {
      hint: 'leave out the option for legacy drivers: only newer drivers know this device',
      details: { type: device.type },
    });
  }
  const interrupts = new VirtioInterrupts(queues);
  const transport = new VirtioTransport({
    device,
    name,
    packed: options.packed ?? true,
    // The function needs the transport to be there first.
    ram: {
      get allowed() {
        return f.dma.allowed;
      },
      get refused() {
        return f.dma.refused;
      },
      borrow: (address, length, access) => f.dma.borrow(address, length, access),
      pin: (address, length, access, owner, longterm) => f.dma.pin(address, length, access, owner, longterm),
      pinned: handle => f.dma.pinned(handle),
      unpin: handle => f.dma.unpin(handle),
      wait: again => f.dma.wait(again),
      released: () => f.dma.released(),
    },
    pinOwner: owner => f.dma.owner(owner),
    interruptQueue: index => interrupts.interruptQueue(index),
    interruptConfig: () => interrupts.interruptConfig(),
    registersReset: () => {
      interrupts.reset();
      common.reset();
      legacy?.reset();
    },
    log: options.log,
  });
  const common = new CommonConfig(transport, interrupts);
  const legacy = transitional ? new LegacyConfig(transport, interrupts) : undefined;
  const bars: BarSpec[] = [
    { index: R.MSIX_BAR, kind: 'mem32', size: msixLayout(queues + 1).size, device: interrupts.msix },
    {
      index: R.VIRTIO_BAR,
      kind: 'mem64',
      size: R.VIRTIO_BAR_SIZE,
      // Reading ISR status has a side effect, but nobody reads it ahead: a bridge may prefetch where a driver reads only, and
      // 64-bit windows of bridges are prefetchable ones.
      prefetch: true,
      device: structures(name, transport, common, interrupts),
      doorbells: doorbells(transport),
    },
  ];
  if (legacy !== undefined) {
    const rings = transport.registers.map(({ index }) => ({
      offset: R.LEGACY_QUEUE_NOTIFY,
      size: 2 as const,
      value: index,
      ring: () => transport.notify(index),
    }));
    bars.unshift({ index: R.LEGACY_BAR, kind: 'io', size: ioSize(device), device: legacy, doorbells: rings });
  }
  const f = new PciFunction({
    name,
    vendorId: R.VIRTIO_VENDOR_ID,
    deviceId: transitional ? legacyId! : R.VIRTIO_DEVICE_ID_BASE + device.type,
    revisionId: transitional ? 0 : 1,
    classCode: R.CLASS_CODES[device.type] ?? R.CLASS_OTHER,
    subsystemVendorId: R.VIRTIO_VENDOR_ID,
    // Legacy drivers know the type of a device by this (section 4.1.2.3).
    subsystemId: transitional ? device.type : R.SUBSYSTEM_ID,
    interruptPin: 1,
    bars,
    capabilities: [
      new VirtioCapability(R.VIRTIO_PCI_CAP_COMMON_CFG, R.COMMON_OFFSET, R.COMMON_SIZE),
      new VirtioCapability(R.VIRTIO_PCI_CAP_ISR_CFG, R.ISR_OFFSET, 4),
      // Also for a device without configuration: some drivers want to see the structure (UEFI's).
      new VirtioCapability(R.VIRTIO_PCI_CAP_DEVICE_CFG, R.DEVICE_OFFSET, Math.max(4, device.configSize)),
      new VirtioCapability(
        R.VIRTIO_PCI_CAP_NOTIFY_CFG,
        R.NOTIFY_OFFSET,
        Math.max(1, queues) * R.NOTIFY_OFF_MULTIPLIER,
        R.NOTIFY_OFF_MULTIPLIER,
      ),
      new ConfigAccessCapability(bars),
      interrupts.msix,
      ...(options.capabilities ?? []),
    ],
    reset: () => transport.reset(),
    masterChanged: allowed => {
      if (allowed) transport.resume();
    },
    // A driver cannot reach it any more; nor may it reach the driver's memory.
    detached: () => void transport.reset(),
    save: (): VirtioPciState => ({
      interrupts: interrupts.save(),
      common: common.save(),
      legacy: legacy?.save() ?? 0,
      transport: transport.save(),
    }),
    restore: state => {
      const s = state as VirtioPciState;
      interrupts.restore(s.interrupts);
      common.restore(s.common);
      legacy?.restore(s.legacy);
      transport.restore(s.transport);
    },
  });
  interrupts.connect(f);
  return f;
}

/** The device behind {@link R.VIRTIO_BAR}: a structure in each page. */
function structures(
  name: string,
  transport: VirtioTransport,
  common: CommonConfig,
  interrupts: VirtioInterrupts,
): BusDevice {
  const page = (offset: number) => offset & ~0xfff;
  return {
    name,
    read: (offset: number, size: AccessSize) => {
      switch (page(offset)) {
        case R.COMMON_OFFSET:
          return common.read(offset, size);
        case R.DEVICE_OFFSET:
          return transport.readConfig(offset - R.DEVICE_OFFSET, size);
        default:
          // Section 4.1.4.5: ISR status is one byte, and reading it in a wider access is reading it.
          return offset === R.ISR_OFFSET ? interrupts.readIsr() : 0;
      }
    },
    write: (offset: number, size: AccessSize, value: number) => {
      switch (page(offset)) {
        case R.COMMON_OFFSET:
          common.write(offset, size, value);
          break;
        case R.DEVICE_OFFSET:
          transport.writeConfig(offset - R.DEVICE_OFFSET, size, value);
          break;
        case R.NOTIFY_OFFSET:
          // The address says which queue; the value, with or without VIRTIO_F_NOTIFICATION_DATA, says nothing that we need.
          if (offset % R.NOTIFY_OFF_MULTIPLIER === 0) {
            transport.notify((offset - R.NOTIFY_OFFSET) / R.NOTIFY_OFF_MULTIPLIER);
          }
      }
    },
  };
}

/** Notifications of 16 bits, and of 32 bits with VIRTIO_F_NOTIFICATION_DATA. */
function doorbells(transport: VirtioTransport): Doorbell[] {
  return transport.registers.flatMap(({ index }) =>
    ([2, 4] as const).map(size => ({
      offset: R.NOTIFY_OFFSET + index * R.NOTIFY_OFF_MULTIPLIER,
      size,
      ring: () => transport.notify(index),
    })),
  );
}

/** Bytes of the legacy BAR: header, vectors and as much of the configuration as fits. */
function ioSize({ configSize }: VirtioDevice): number {
  const size = 2 ** Math.ceil(Math.log2(R.LEGACY_SIZE_MSIX + configSize));
  return Math.min(MAX_IO_BAR, Math.max(MIN_IO_BAR, size));
}
