import { askVm, type BarInfo, type PciFunctionInfo } from '../vmm/index.ts';

/** Options of the verb. */
export interface LspciCommandOptions {
  readonly json?: boolean;
}

/** `tsvisor lspci [NAME]`: the PCI bus of a running VM as its guest has set it up. */
export async function lspci(name: string | undefined, { json = false }: LspciCommandOptions): Promise<void> {
  const functions = (await askVm(name, { verb: 'lspci' })) as readonly PciFunctionInfo[];
  process.stdout.write(json ? functions.map(f => `${JSON.stringify(f)}\n`).join('') : formatFunctions(functions));
}

const CAPABILITIES: Readonly<Record<number, string>> = {
  1: 'PM',
  5: 'MSI',
  9: 'Vendor',
  16: 'PCIe',
  17: 'MSI-X',
};
const EXTENDED: Readonly<Record<number, string>> = { 1: 'AER', 3: 'DSN', 13: 'ACS' };

/** The tree as text: a paragraph for each function, indented below its bridge. */
export function formatFunctions(functions: readonly PciFunctionInfo[]): string {
  return functions
    .flatMap(f => formatFunction(f).map((line, n) => `${'   '.repeat(f.depth)}${n === 0 ? '' : '        '}${line}`))
    .map(line => `${line}\n`)
    .join('');
}

function formatFunction(f: PciFunctionInfo): string[] {
  const flag = (name: string, bit: number) => `${name}${(f.command >> bit) & 1 ? '+' : '-'}`;
  const lines = [
    `${f.place} ${f.name} [${id(f.vendorId)}:${id(f.deviceId)}] class ${f.classCode.toString(16).padStart(6, '0')}`,
    `decode: ${flag('I/O', 0)} ${flag('Mem', 1)} ${flag('BusMaster', 2)} ${flag('DisINTx', 10)}`,
    ...f.bars.map(formatBar),
  ];
  if (f.bridge !== undefined) {
    const windows = f.bridge.windows.map(w => `${w.space} ${hex(w.base)}-${hex(w.end - 1)}`);
    lines.push(
      `buses ${f.bridge.secondary.toString(16)}-${f.bridge.subordinate.toString(16)}: ${windows.join(', ') || 'no window'}`,
    );
  }
  if (f.capabilities.length > 0) {
    const names = f.capabilities.map(c => {
      const known = (c.extended ? EXTENDED : CAPABILITIES)[c.id];
      return `${known ?? id(c.id)}@${c.offset.toString(16)}`;
    });
    lines.push(`capabilities: ${names.join(' ')}`);
  }
  if (f.msix !== undefined) {
    const { enabled, masked, vectors } = f.msix;
    const unmasked = vectors.filter(v => !v.masked).length;
    const pending = vectors.filter(v => v.pending).length;
    const state = enabled ? (masked ? 'masked' : 'enabled') : 'off';
    lines.push(`MSI-X ${state}: ${vectors.length} vectors, ${unmasked} unmasked, ${pending} pending`);
  }
  if (f.msi !== undefined) {
    lines.push(`MSI ${f.msi.enabled ? 'enabled' : 'off'}: ${f.msi.enabledVectors} of ${f.msi.vectors} vectors`);
  }
  if (f.interruptPin !== 0) lines.push(`INT${'ABCD'[f.interruptPin - 1]}${(f.status >> 3) & 1 ? ' asserted' : ''}`);
  return lines;
}

function formatBar(b: BarInfo): string {
  const what = b.index === 'rom' ? 'ROM' : `BAR ${b.index}`;
  const where = b.address === 0 ? 'not assigned' : `${hex(b.address)}${b.live ? '' : ' (dead)'}`;
  return `${what}: ${b.kind}${b.prefetch ? ' prefetchable' : ''}, ${size(b.size)} at ${where}`;
}

function size(bytes: number): string {
  if (bytes >= 2 ** 20) return `${bytes / 2 ** 20} MiB`;
  return bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} bytes`;
}

function id(n: number): string {
  return n.toString(16).padStart(4, '0');
}

function hex(n: number): string {
  return `0x${n.toString(16)}`;
}
