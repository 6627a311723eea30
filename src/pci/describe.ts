import type { AccessSize } from '../bus/types.ts';
import { hex } from '../util/hex.ts';
import { type BarSpec, barAddress } from './bar.ts';
import type { PciFunction } from './function.ts';
import * as R from './regs.ts';

/** A function's place as lspci writes it: bus:device.function. */
export function placeOf(f: PciFunction): string {
  const two = (n: number) => n.toString(16).padStart(2, '0');
  return `${two(f.bus?.number ?? 0)}:${two(f.devfn >> 3)}.${f.devfn & 7}`;
}

/** COMMAND's bits as lspci writes them. */
export function describeCommand(command: number): string {
  const bit = (name: string, mask: number) => `${name}${(command & mask) === 0 ? '-' : '+'}`;
  return [
    bit('I/O', R.COMMAND_IO),
    bit('Mem', R.COMMAND_MEMORY),
    bit('BusMaster', R.COMMAND_MASTER),
    bit('DisINTx', R.COMMAND_INTX_DISABLE),
  ].join(' ');
}

/** What a guest's configuration write means for decoding, a line each: sizing, moves, COMMAND. Nothing for other registers. */
export function describeWrite(f: PciFunction, offset: number, size: AccessSize, value: number): string[] {
  const who = `pci ${placeOf(f)} ${f.name}:`;
  const end = offset + size;
  if (offset < R.COMMAND + 2 && end > R.COMMAND) return [`${who} ${describeCommand(f.command)}`];
  const lines: string[] = [];
  for (const spec of f.bars) {
    const { first, length } = registersOf(f, spec);
    if (offset >= first + length || end <= first) continue;
    // Linux ORs the probe with the old value; a ROM's probe leaves the enable bit alone.
    const probe = size === 4 && (value | 0x7ff) >>> 0 === 0xffff_ffff;
    lines.push(
      `${who} BAR ${spec.index} ${probe ? `sizing (${spec.size} bytes)` : `= ${hex(barAddress(f.config, spec))}`}`,
    );
  }
  return lines;
}

function registersOf(f: PciFunction, spec: BarSpec): { first: number; length: number } {
  if (spec.index !== 'rom') return { first: R.BASE_ADDRESS_0 + 4 * spec.index, length: spec.kind === 'mem64' ? 8 : 4 };
  const bridge = (f.config.bytes[R.HEADER_TYPE]! & 0x7f) === 1;
  return { first: bridge ? R.BRIDGE_ROM_ADDRESS : R.ROM_ADDRESS, length: 4 };
}
