import type { BarIndex } from './bar.ts';
import { barAddress } from './bar.ts';
import type { BarMapper } from './bar-mapper.ts';
import { PciBridge } from './bridge.ts';
import { placeOf } from './describe.ts';
import type { PciFunction } from './function.ts';
import type { PciHost } from './host.ts';
import * as R from './regs.ts';

/** A BAR as it is now. */
export interface BarInfo {
  readonly index: BarIndex;
  readonly kind: 'io' | 'mem32' | 'mem64';
  readonly prefetch: boolean;
  /** Bytes. */
  readonly size: number;
  /** What the register says; 0 when nothing was assigned. */
  readonly address: number;
  /** Whether accesses to the address reach the device. */
  readonly live: boolean;
}

/** A message-signalled interrupt vector. */
export interface VectorInfo {
  readonly vector: number;
  readonly masked: boolean;
  readonly pending: boolean;
}

/** One function of the bus, as `tsvisor lspci` shows it. Plain data. */
export interface PciFunctionInfo {
  /** bus:device.function, as the guest has numbered the buses. */
  readonly place: string;
  /** Bridges above. */
  readonly depth: number;
  readonly name: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId: number;
  readonly classCode: number;
  readonly subsystemVendorId: number | undefined;
  readonly subsystemId: number | undefined;
  readonly command: number;
  readonly status: number;
  readonly interruptPin: number;
  readonly bars: readonly BarInfo[];
  readonly capabilities: readonly { readonly id: number; readonly offset: number; readonly extended: boolean }[];
  readonly msi: { readonly enabled: boolean; readonly vectors: number; readonly enabledVectors: number } | undefined;
  readonly msix:
    | { readonly enabled: boolean; readonly masked: boolean; readonly vectors: readonly VectorInfo[] }
    | undefined;
  /** Of a bridge: bus numbers, and the windows that are open. */
  readonly bridge:
    | {
        readonly secondary: number;
        readonly subordinate: number;
        readonly windows: readonly { readonly space: 'memory' | 'io'; readonly base: number; readonly end: number }[];
      }
    | undefined;
}

/** Every function of a host, bridges before what is behind them. */
export function reportFunctions(host: PciHost, mapper: BarMapper): PciFunctionInfo[] {
  return host.functions().map(f => reportFunction(f, mapper));
}

function reportFunction(f: PciFunction, mapper: BarMapper): PciFunctionInfo {
  const { view, bytes } = f.config;
  const { msi, msix } = f;
  const live = mapper.windows(f);
  const bridge = f instanceof PciBridge;
  let depth = 0;
  for (let b = f.bus?.bridge; b !== undefined; b = b.bus?.bridge) depth++;
  return {
    place: placeOf(f),
    depth,
    name: f.name,
    vendorId: view.getUint16(R.VENDOR_ID, true),
    deviceId: view.getUint16(R.DEVICE_ID, true),
    revisionId: bytes[R.REVISION_ID]!,
    classCode: view.getUint32(R.REVISION_ID, true) >>> 8,
    subsystemVendorId: bridge ? undefined : view.getUint16(R.SUBSYSTEM_VENDOR_ID, true),
    subsystemId: bridge ? undefined : view.getUint16(R.SUBSYSTEM_ID, true),
    command: f.command,
    status: view.getUint16(R.STATUS, true),
    interruptPin: f.interruptPin,
    bars: f.bars.map(spec => ({
      index: spec.index,
      kind: spec.kind,
      prefetch: spec.prefetch ?? false,
      size: spec.size,
      address: barAddress(f.config, spec),
      live: live.has(spec.index),
    })),
    capabilities: capabilitiesOf(f),
    msi: msi && { enabled: msi.enabled, vectors: msi.vectors, enabledVectors: msi.enabledVectors },
    msix: msix && {
      enabled: msix.enabled,
      masked: msix.masked,
      vectors: Array.from({ length: msix.vectors }, (_, vector) => {
        const { masked, pending } = msix.vector(vector);
        return { vector, masked, pending };
      }),
    },
    bridge: bridge
      ? { secondary: bytes[R.SECONDARY_BUS]!, subordinate: bytes[R.SUBORDINATE_BUS]!, windows: f.windows() }
      : undefined,
  };
}

/** The two lists as a guest walks them. The bytes are ours, so that the lists end. */
function capabilitiesOf(f: PciFunction): PciFunctionInfo['capabilities'] {
  const { view, bytes } = f.config;
  const list: { id: number; offset: number; extended: boolean }[] = [];
  for (let at = bytes[R.CAPABILITIES_POINTER]!; at !== 0; at = bytes[at + 1]!) {
    list.push({ id: bytes[at]!, offset: at, extended: false });
  }
  for (let at = R.EXTENDED_BASE; at !== 0 && view.getUint32(at, true) !== 0; at = view.getUint16(at + 2, true) >> 4) {
    list.push({ id: view.getUint16(at, true), offset: at, extended: true });
  }
  return list;
}
