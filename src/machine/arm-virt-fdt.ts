import { FdtNode } from '../firmware/fdt/node.ts';
import { encodeFdt } from '../firmware/fdt/writer.ts';
import { type AddressRange, ARM_VIRT, ARM_VIRT_SPI } from './address-map.ts';

/** What the device tree describes beyond the fixed address map. */
export interface ArmVirtTree {
  readonly cpus: number;
  readonly ramBytes: number;
  readonly gic: 3 | 2;
  /** Whether the CPUs have performance counters; default true. */
  readonly pmu?: boolean | undefined;
  /** The kernel's command line. */
  readonly params: string;
  readonly initrd?: { readonly start: number; readonly end: number } | undefined;
  /** For /chosen/rng-seed; 64 bytes or none. */
  readonly seed?: Uint8Array | undefined;
  /** Pins on the root bus, and the highest bus number that the guest may assign. */
  readonly pci: {
    readonly pins: readonly PciPin[];
    readonly lastBus: number;
    /** How configuration space is reached; default 'ecam'. */
    readonly access?: 'ecam' | 'cam';
  };
  /** Banks of flash, if there are any. */
  readonly flash?: readonly AddressRange[] | undefined;
}

/** An interrupt pin of a device on the root bus and the interrupt that it comes out at. */
export interface PciPin {
  /** Device number, 0 to 31. */
  readonly device: number;
  /** 1 to 4 for INTA to INTD. */
  readonly pin: number;
  /** Shared peripheral interrupt, counted from 0. */
  readonly spi: number;
}

// Interrupt specifiers of arm,gic-v3 (devicetree binding interrupt-controller/arm,gic-v3.yaml).
const SPI = 0;
const PPI = 1;
const LEVEL_HIGH = 4;
// As on QEMU's virt board: PPIs 13, 14, 11, 10 are secure physical, physical, virtual, hypervisor timer.
const TIMER_PPIS = [13, 14, 11, 10];
const PMU_PPI = 7;

/**
 * The flattened device tree of an arm-virt machine: everything a guest may know of it.
 */
export function armVirtTree(tree: ArmVirtTree): Uint8Array {
  const root = new FdtNode();
  root.string('compatible', 'linux,dummy-virt').string('model', 'tsvisor arm-virt');
  root.u32('#address-cells', 2).u32('#size-cells', 2);
  const { gic, msi } = interruptController(root, tree);
  root.u32('interrupt-parent', gic);
  pciHost(root, tree, gic, msi);

  // GICv2 has the CPUs that a private interrupt goes to in bits 15:8 of the flags.
  const ppiFlags = LEVEL_HIGH | (tree.gic === 2 ? ((1 << tree.cpus) - 1) << 8 : 0);

  root.child('psci').string('compatible', 'arm,psci-1.0', 'arm,psci-0.2').string('method', 'hvc');

  const cpus = root.child('cpus').u32('#address-cells', 1).u32('#size-cells', 0);
  for (let n = 0; n < tree.cpus; n++) {
    cpus
      .child(`cpu@${n}`)
      .string('device_type', 'cpu')
      .string('compatible', 'arm,armv8')
      .u32('reg', n)
      .string('enable-method', 'psci');
  }

  root
    .child(`memory@${ARM_VIRT.ram.base.toString(16)}`)
    .string('device_type', 'memory')
    .u64('reg', ARM_VIRT.ram.base, tree.ramBytes);

  root
    .child('timer')
    .string('compatible', 'arm,armv8-timer')
    .empty('always-on')
    .u32('interrupts', ...TIMER_PPIS.flatMap(ppi => [PPI, ppi, ppiFlags]));
  if (tree.pmu !== false)
    root.child('pmu').string('compatible', 'arm,armv8-pmuv3').u32('interrupts', PPI, PMU_PPI, ppiFlags);

  const clock = root
    .child('apb-pclk')
    .string('compatible', 'fixed-clock')
    .u32('#clock-cells', 0)
    .u32('clock-frequency', 24_000_000)
    .string('clock-output-names', 'clk24mhz');

  const { pl011, pl031, vmclock } = ARM_VIRT;
  const uart = `pl011@${pl011.base.toString(16)}`;
  root
    .child(uart)
    .string('compatible', 'arm,pl011', 'arm,primecell')
    .u64('reg', pl011.base, pl011.size)
    .u32('interrupts', SPI, ARM_VIRT_SPI.pl011, LEVEL_HIGH)
    .u32('clocks', clock, clock)
    .string('clock-names', 'uartclk', 'apb_pclk');
  root
    .child(`pl031@${pl031.base.toString(16)}`)
    .string('compatible', 'arm,pl031', 'arm,primecell')
    .u64('reg', pl031.base, pl031.size)
    .u32('interrupts', SPI, ARM_VIRT_SPI.pl031, LEVEL_HIGH)
    .u32('clocks', clock)
    .string('clock-names', 'apb_pclk');
  // Devicetree binding ptp/amazon,vmclock.yaml.
  root
    .child(`ptp@${vmclock.base.toString(16)}`)
    .string('compatible', 'amazon,vmclock')
    .u64('reg', vmclock.base, vmclock.size);

  const [bank] = tree.flash ?? [];
  if (bank !== undefined) {
    // Devicetree binding mtd/mtd-physmap.yaml: two chips of 16 bits side by side.
    root
      .child(`flash@${bank.base.toString(16)}`)
      .string('compatible', 'cfi-flash')
      .u64('reg', ...tree.flash!.flatMap(({ base, size }) => [base, size]))
      .u32('bank-width', 4);
  }

  const chosen = root.child('chosen').string('stdout-path', `/${uart}`).string('bootargs', tree.params);
  if (tree.initrd !== undefined) {
    chosen.u64('linux,initrd-start', tree.initrd.start).u64('linux,initrd-end', tree.initrd.end);
  }
  if (tree.seed !== undefined) chosen.bytes('rng-seed', tree.seed);
  return encodeFdt(root);
}

// Space codes of a PCI address's first cell (IEEE 1275 PCI binding section 2.1.4).
const PCI_IO = 0x0100_0000;
const PCI_MEM32 = 0x0200_0000;
const PCI_MEM64 = 0x0300_0000;

/** The host bridge (devicetree binding pci/host-generic-pci.yaml; DT-1 to DT-7). Guests assign buses and addresses. */
function pciHost(root: FdtNode, { gic: version, pci }: ArmVirtTree, gic: FdtNode, msi: FdtNode): void {
  const { pciEcam, pciIo, pciMem32, pciMem64 } = ARM_VIRT;
  const pair = (n: number) => [Math.floor(n / 2 ** 32), n % 2 ** 32];
  const range = (space: number, bus: number, { base, size }: { base: number; size: number }) => [
    space,
    ...pair(bus),
    ...pair(base),
    ...pair(size),
  ];
  const node = root
    .child(`pcie@${pciEcam.base.toString(16)}`)
    .string('compatible', `pci-host-${pci.access ?? 'ecam'}-generic`)
    .string('device_type', 'pci')
    .u32('#address-cells', 3)
    .u32('#size-cells', 2)
    .u32('#interrupt-cells', 1)
    .u32('linux,pci-domain', 0)
    .u32('bus-range', 0, pci.lastBus)
    // CAM has 256 bytes for each function, a sixteenth of ECAM's.
    .u64('reg', pciEcam.base, pci.access === 'cam' ? pciEcam.size / 16 : pciEcam.size)
    .u32(
      'ranges',
      ...range(PCI_IO, 0, pciIo),
      ...range(PCI_MEM32, pciMem32.base, pciMem32),
      ...range(PCI_MEM64, pciMem64.base, pciMem64),
    )
    .empty('dma-coherent');
  // The ITS tells devices apart by their requester ids (DT-7); a GICv2m frame does not.
  if (version === 3) node.u32('msi-map', 0, msi, 0, 0x1_0000);
  else node.u32('msi-parent', msi);
  if (pci.pins.length === 0) return;
  node.u32('interrupt-map-mask', 0xf800, 0, 0, 7);
  node.u32(
    'interrupt-map',
    ...pci.pins.flatMap(({ device, pin, spi }) => [device << 11, 0, 0, pin, gic, 0, 0, SPI, spi, LEVEL_HIGH]),
  );
}

function interruptController(root: FdtNode, tree: ArmVirtTree): { gic: FdtNode; msi: FdtNode } {
  const { gicd, gicc, gicr, gicv2m, its } = ARM_VIRT;
  const node = root.child(`intc@${gicd.base.toString(16)}`);
  node.u32('#interrupt-cells', 3).empty('interrupt-controller');
  node.u32('#address-cells', 2).u32('#size-cells', 2).empty('ranges');
  if (tree.gic === 3) {
    node.string('compatible', 'arm,gic-v3').u64('reg', gicd.base, gicd.size, gicr.base, tree.cpus * 0x2_0000);
    node.u32('#redistributor-regions', 1);
    const msi = node
      .child(`its@${its.base.toString(16)}`)
      .string('compatible', 'arm,gic-v3-its')
      .empty('msi-controller')
      .u32('#msi-cells', 1)
      .u64('reg', its.base, its.size);
    return { gic: node, msi };
  }
  node.string('compatible', 'arm,cortex-a15-gic').u64('reg', gicd.base, gicd.size, gicc.base, gicc.size);
  const msi = node
    .child(`v2m@${gicv2m.base.toString(16)}`)
    .string('compatible', 'arm,gic-v2m-frame')
    .empty('msi-controller')
    .u64('reg', gicv2m.base, gicv2m.size)
    .u32('arm,msi-base-spi', ARM_VIRT_SPI.v2m + 32)
    .u32('arm,msi-num-spis', ARM_VIRT_SPI.v2mCount);
  return { gic: node, msi };
}
