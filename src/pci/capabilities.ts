import { VmError } from '../util/errors.ts';
import type { Capability, CapabilityHost } from './capability.ts';
import { CONFIG_SIZE } from './config-space.ts';
import { CAPABILITIES_POINTER, EXTENDED_BASE } from './regs.ts';

/** First byte behind the header that a capability may have. */
const FIRST = 0x40;

/**
 * Lays capabilities out, dword-aligned and in order, and links them: the list at 0x34 (PCI Local Bus 3.0 section 6.7) and the
 * extended one, which begins at 0x100 and is a zero dword when there is none (PCI Express Base 4.0 section 7.6.3; ECAM-2).
 * @throws VmError ERR_INTERNAL when they do not fit.
 */
export function installCapabilities(host: CapabilityHost, capabilities: readonly Capability[]): void {
  const { config } = host;
  let next = FIRST;
  let link = CAPABILITIES_POINTER;
  for (const c of capabilities) {
    if (c.extendedVersion !== undefined) continue;
    if (next + c.size > EXTENDED_BASE) throw tooMany(host);
    config.define(next, 1, c.id);
    config.define(next + 1, 1, 0);
    config.define(link, 1, next);
    c.install(host, next);
    link = next + 1;
    next = (next + c.size + 3) & ~3;
  }
  next = EXTENDED_BASE;
  let last: number | undefined;
  for (const c of capabilities) {
    if (c.extendedVersion === undefined) continue;
    if (next + c.size > CONFIG_SIZE) throw tooMany(host);
    config.define(next, 4, c.id | (c.extendedVersion << 16));
    if (last !== undefined) config.define(last + 2, 2, (config.view.getUint16(last + 2, true) & 0xf) | (next << 4));
    c.install(host, next);
    last = next;
    next = (next + c.size + 3) & ~3;
  }
}

function tooMany(host: CapabilityHost): VmError {
  return new VmError('ERR_INTERNAL', `${host.name}: the capabilities do not fit into its configuration space`);
}
