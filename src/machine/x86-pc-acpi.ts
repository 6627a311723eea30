import * as aml from '../firmware/acpi/aml.ts';
import { type AcpiImage, buildAcpi } from '../firmware/acpi/build.ts';
import {
  busNumbers,
  interrupt,
  ioPorts,
  ioWindow,
  memory32Fixed,
  memoryWindow,
  type Resource,
  resourceTemplate,
} from '../firmware/acpi/resources.ts';
import {
  type AcpiTable,
  dsdt,
  FADT_FLAG,
  type Fadt,
  IAPC_BOOT_ARCH,
  interruptSourceOverride,
  ioApic,
  localApicNmi,
  localX2ApicNmi,
  MPS_INTI,
  madt,
  mcfg,
  processorApic,
} from '../firmware/acpi/tables.ts';
import { VmError } from '../util/errors.ts';
import { type AddressRange, X86_PC, X86_PC_GSI, X86_PC_PORT } from './address-map.ts';

/** What the ACPI tables describe beyond the fixed address map. */
export interface X86PcAcpi {
  /** Processors, with the local APIC ids 0 to cpus-1. */
  readonly cpus: number;
  /** 64-bit window of PCI memory. */
  readonly pciMem64: AddressRange;
  /** Highest bus number that the guest may assign. */
  readonly lastBus: number;
  /** The two 8259 are there beside the I/O APIC (MADT's PCAT_COMPAT); default yes. KVM's split irqchip has none. */
  readonly pic?: boolean;
  /** PM1 has a fixed power button (PWRBTN_STS and PWRBTN_EN); default no. */
  readonly powerButton?: boolean;
  /** Configuration space is memory-mapped (MCFG), too, and not by mechanism #1 alone; default yes. */
  readonly ecam?: boolean;
}

/** SLP_TYP of PM1_CNT that together with SLP_EN powers the machine off: what \_S5 says. */
export const X86_PC_SLP_TYP_S5 = 5;

/** What resets the machine when it is written to the port {@link X86_PC_PORT}.reset: RST_CPU with SYS_RST, a hard reset. */
export const X86_PC_RESET_VALUE = 0x06;

/** Index of the byte in the RTC's RAM that has the century, as BCD. */
export const X86_PC_RTC_CENTURY = 0x32;

/** Names of processor devices have three hexadecimal digits. */
const MAX_CPUS = 0x1000;

/**
 * The ACPI tables of an x86-pc machine: everything a guest may know of it beside its memory map. The bytes go to guest
 * memory at {@link X86_PC}.acpi.base.
 *
 * @throws VmError ERR_DOES_NOT_FIT when there are more processors than the tables have room for.
 */
export function x86PcAcpi(d: X86PcAcpi): AcpiImage {
  if (d.cpus > MAX_CPUS) {
    throw new VmError('ERR_DOES_NOT_FIT', `the ACPI tables have names for ${MAX_CPUS} CPUs, not for ${d.cpus}`, {
      hint: 'give the machine fewer CPUs',
    });
  }
  return buildAcpi({
    ...X86_PC.acpi,
    fadt: fixedFeatures(d),
    dsdt: devices(d),
    tables: [interrupts(d), ...(hasEcam(d) ? [mcfg(X86_PC.pciEcam.base, d.lastBus)] : [])],
  });
}

function fixedFeatures(d: X86PcAcpi): Fadt {
  return {
    sciInt: X86_PC_GSI.sci,
    pm1aEvtBlk: X86_PC_PORT.pm1aEvt,
    pm1aCntBlk: X86_PC_PORT.pm1aCnt,
    pmTmrBlk: X86_PC_PORT.pmTmr,
    resetReg: X86_PC_PORT.reset.base,
    resetValue: X86_PC_RESET_VALUE,
    century: X86_PC_RTC_CENTURY,
    // No sleep button and no wake by the RTC: there is no state to sleep in. The PM timer has all 32 bits.
    flags:
      FADT_FLAG.wbinvd |
      FADT_FLAG.procC1 |
      (d.powerButton ? 0 : FADT_FLAG.pwrButton) |
      FADT_FLAG.slpButton |
      FADT_FLAG.fixRtc |
      FADT_FLAG.tmrValExt |
      FADT_FLAG.resetRegSup,
    // No i8042: its ports are there, but for a reset only. The RTC is there.
    iapcBootArch: IAPC_BOOT_ARCH.vgaNotPresent,
  };
}

function interrupts(d: X86PcAcpi): AcpiTable {
  const processors = cpuNumbers(d).map(n => processorApic(n, n));
  return madt(X86_PC.lapic.base, d.pic ?? true, [
    ...processors,
    ioApic(0, X86_PC.ioapic.base, 0),
    // Where the 8254's output is wired to on every PC with an I/O APIC.
    interruptSourceOverride(0, 2, MPS_INTI.conforms),
    interruptSourceOverride(X86_PC_GSI.sci, X86_PC_GSI.sci, MPS_INTI.activeHighLevel),
    localApicNmi(MPS_INTI.activeHighEdge),
    ...(d.cpus > 255 ? [localX2ApicNmi(MPS_INTI.activeHighEdge)] : []),
  ]);
}

/** The DSDT: power-off, the PCI host bridge, what is on the motherboard, the processors. */
function devices(d: X86PcAcpi): AcpiTable {
  const { name } = aml;
  const s5 = aml.packageOf(X86_PC_SLP_TYP_S5, X86_PC_SLP_TYP_S5, 0, 0);
  return dsdt(
    name('_S5', s5),
    aml.scope(
      '_SB',
      pciHost(d),
      motherboard(d),
      aml.device(
        'COM1',
        name('_HID', aml.eisaId('PNP0501')), // 16550A
        name('_UID', 1),
        resources(ioPorts(X86_PC_PORT.com1), interrupt(X86_PC_GSI.com1, 'edge')),
      ),
      aml.device(
        'RTC',
        name('_HID', aml.eisaId('PNP0B00')),
        resources(ioPorts(X86_PC_PORT.rtc), interrupt(X86_PC_GSI.rtc, 'edge')),
      ),
      // UAPI.13 VMClock, "Discovery via ACPI".
      aml.device(
        'VCLK',
        name('_HID', 'AMZNC10C'),
        name('_CID', 'VMCLOCK'),
        name('_DDN', 'VMCLOCK'),
        resources(memory32Fixed(X86_PC.vmclock, 'read-only')),
      ),
      ...cpuNumbers(d).map(n =>
        aml.device(
          `C${n.toString(16).toUpperCase().padStart(3, '0')}`,
          name('_HID', 'ACPI0007'),
          name('_UID', n), // the MADT's
        ),
      ),
    ),
  );
}

/** The host bridge of PCI Express, whose configuration space the MCFG has (PCI Firmware Specification 3.3, section 4). */
function pciHost(d: X86PcAcpi): aml.Aml {
  const { name } = aml;
  return aml.device(
    'PCI0',
    name('_HID', aml.eisaId('PNP0A08')),
    name('_CID', aml.eisaId('PNP0A03')),
    name('_UID', 0),
    name('_SEG', 0),
    name('_BBN', 0),
    resources(
      busNumbers({ base: 0, size: d.lastBus + 1 }),
      // What the bridge keeps for itself: mechanism #1 and the reset register inside. No window has it.
      ioPorts(X86_PC_PORT.pciConfig),
      ioWindow(X86_PC_PORT.pciIo),
      memoryWindow(X86_PC.pciMem32),
      memoryWindow(d.pciMem64),
    ),
    name('_PRT', routing()),
    operatingSystemCapabilities(),
  );
}

/**
 * _PRT (ACPI 6.5, section 6.2.13): the pins of the 32 devices of bus 0, each straight to an input of the I/O APIC, with
 * no link device in between. Pins rotate by the device number, so that those of neighbours are spread.
 */
function routing(): aml.Aml {
  const pins = Array.from({ length: 32 * 4 }, (_, n) => {
    const [dev, pin] = [n >> 2, n & 3]; // 0 for INTA
    const anyFunction = 0xffff;
    return aml.packageOf(dev * 0x1_0000 + anyFunction, pin, 0, X86_PC_GSI.pciIntx + ((dev + pin) & 3));
  });
  return aml.packageOf(...pins);
}

/** _OSC of a PCI host bridge (PCI Firmware Specification 3.3, section 4.5): its UUID. */
const PCI_OSC_UUID = '33db4d5b-1ff7-401c-9657-7441c03dd766';

/** Bits of the first capabilities DWORD that _OSC returns (ACPI 6.5, section 6.2.11, table 6.11). */
const OSC_UNRECOGNIZED_UUID = 1 << 2;
const OSC_UNRECOGNIZED_REVISION = 1 << 3;
const OSC_CAPABILITIES_MASKED = 1 << 4;

/** The control field: native hot-plug, PME, AER, and the PCI Express capability structure. Not SHPC, LTR, DPC. */
const OSC_GRANTED = (1 << 0) | (1 << 2) | (1 << 3) | (1 << 4);

/**
 * _OSC: the guest asks for control of features of PCI Express in the third DWORD and gets the ones that work here, all of
 * them whether it queries or means it.
 */
function operatingSystemCapabilities(): aml.Aml {
  const { arg, local, nameString } = aml;
  const [uuid, revision, capabilities] = [arg(0), arg(1), arg(3)];
  const [status, control] = [nameString('CDW1'), nameString('CDW3')];
  const granted = local(0);
  const fail = (bit: number) => aml.or(status, bit, status);
  return aml.method(
    '_OSC',
    4,
    aml.createDWordField(capabilities, 0, 'CDW1'),
    aml.ifThen(
      aml.lEqual(uuid, aml.buffer(aml.uuid(PCI_OSC_UUID))),
      aml.createDWordField(capabilities, 8, 'CDW3'),
      aml.and(control, OSC_GRANTED, granted),
      aml.ifThen(aml.lNot(aml.lEqual(revision, 1)), fail(OSC_UNRECOGNIZED_REVISION)),
      aml.ifThen(aml.lNot(aml.lEqual(control, granted)), fail(OSC_CAPABILITIES_MASKED)),
      aml.store(granted, control),
    ),
    aml.otherwise(fail(OSC_UNRECOGNIZED_UUID)),
    aml.returns(capabilities),
  );
}

/**
 * What belongs to no other device (PNP0C02). ECAM has to be here for the guest to trust the MCFG (PCI Firmware
 * Specification 3.3, section 4.1.2).
 */
function motherboard(d: X86PcAcpi): aml.Aml {
  const { i8042, pm1aEvt, pm1aCnt, pmTmr } = X86_PC_PORT;
  const ecam = hasEcam(d) ? [memory32Fixed(X86_PC.pciEcam)] : [];
  return aml.device(
    'MBRD',
    aml.name('_HID', aml.eisaId('PNP0C02')),
    aml.name('_UID', 0),
    resources(...ecam, ...[i8042, pm1aEvt, pm1aCnt, pmTmr].map(ioPorts)),
  );
}

function resources(...list: readonly Resource[]): aml.Aml {
  return aml.name('_CRS', aml.buffer(resourceTemplate(...list)));
}

function cpuNumbers(d: X86PcAcpi): number[] {
  return Array.from({ length: d.cpus }, (_, n) => n);
}

function hasEcam(d: X86PcAcpi): boolean {
  return d.ecam ?? true;
}
