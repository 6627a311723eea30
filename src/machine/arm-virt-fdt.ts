import { FdtNode } from '../firmware/fdt/node.ts';
import { encodeFdt } from '../firmware/fdt/writer.ts';
import { ARM_VIRT, ARM_VIRT_SPI } from './address-map.ts';

/** What the device tree describes beyond the fixed address map. */
export interface ArmVirtTree {
  readonly cpus: number;
  readonly ramBytes: number;
  readonly gic: 3 | 2;
  /** The kernel's command line. */
  readonly params: string;
  readonly initrd?: { readonly start: number; readonly end: number } | undefined;
  /** For /chosen/rng-seed; 64 bytes or none. */
  readonly seed?: Uint8Array | undefined;
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
  const gic = interruptController(root, tree);
  root.u32('interrupt-parent', gic);

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
  root.child('pmu').string('compatible', 'arm,armv8-pmuv3').u32('interrupts', PPI, PMU_PPI, ppiFlags);

  const clock = root
    .child('apb-pclk')
    .string('compatible', 'fixed-clock')
    .u32('#clock-cells', 0)
    .u32('clock-frequency', 24_000_000)
    .string('clock-output-names', 'clk24mhz');

  const { pl011, pl031 } = ARM_VIRT;
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

  const chosen = root.child('chosen').string('stdout-path', `/${uart}`).string('bootargs', tree.params);
  if (tree.initrd !== undefined) {
    chosen.u64('linux,initrd-start', tree.initrd.start).u64('linux,initrd-end', tree.initrd.end);
  }
  if (tree.seed !== undefined) chosen.bytes('rng-seed', tree.seed);
  return encodeFdt(root);
}

function interruptController(root: FdtNode, tree: ArmVirtTree): FdtNode {
  const { gicd, gicc, gicr, gicv2m, its } = ARM_VIRT;
  const node = root.child(`intc@${gicd.base.toString(16)}`);
  node.u32('#interrupt-cells', 3).empty('interrupt-controller');
  node.u32('#address-cells', 2).u32('#size-cells', 2).empty('ranges');
  if (tree.gic === 3) {
    node.string('compatible', 'arm,gic-v3').u64('reg', gicd.base, gicd.size, gicr.base, tree.cpus * 0x2_0000);
    node.u32('#redistributor-regions', 1);
    node
      .child(`its@${its.base.toString(16)}`)
      .string('compatible', 'arm,gic-v3-its')
      .empty('msi-controller')
      .u32('#msi-cells', 1)
      .u64('reg', its.base, its.size);
  } else {
    node.string('compatible', 'arm,cortex-a15-gic').u64('reg', gicd.base, gicd.size, gicc.base, gicc.size);
    node
      .child(`v2m@${gicv2m.base.toString(16)}`)
      .string('compatible', 'arm,gic-v2m-frame')
      .empty('msi-controller')
      .u64('reg', gicv2m.base, gicv2m.size)
      .u32('arm,msi-base-spi', ARM_VIRT_SPI.v2m + 32)
      .u32('arm,msi-num-spis', ARM_VIRT_SPI.v2mCount);
  }
  return node;
}
