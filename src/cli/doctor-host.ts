import { type Capability, formatSize, type HostProbe } from '../vmm/index.ts';
import type { Finding, Table } from './findings.ts';

/** What `tsvisor doctor` says of the addon, KVM and locked memory. `verbose`: also what is as it should be. */
export function hostFindings(host: HostProbe, verbose: boolean): Finding[] {
  return [kvm(host, verbose), addon(host, verbose), ...clock(host, verbose), ...memlock(host, verbose)];
}

const NO_KVM = 'guests run on the emulator';

function kvm({ kvm: { opens, reason, fix, apiVersion, capabilities } }: HostProbe, verbose: boolean): Finding {
  const check = 'kvm';
  if (!opens || reason !== undefined) {
    return { check, status: 'note', text: `${reason ?? '/dev/kvm cannot be used'}: ${NO_KVM}`, fix };
  }
  const version = apiVersion === undefined ? '' : `, API version ${apiVersion}`;
  const opened = `/dev/kvm opens${version}`;
  if (capabilities === undefined) {
    return { check, status: 'ok', text: `${opened} (what it can do is not known without the addon)` };
  }
  const missing = capabilities.filter(c => c.value <= 0);
  const needed = missing.filter(c => c.needed);
  const said = `${capabilities.length - missing.length} of ${capabilities.length} capabilities`;
  const lack = needed.length > 0 ? `, without ${needed.map(c => c.name).join(', ')}: ${NO_KVM}` : '';
  return {
    check,
    status: needed.length > 0 ? 'note' : 'ok',
    text: `${opened}, ${said}${lack}`,
    fix: needed[0]?.fix,
    table: verbose ? all(capabilities) : missing.length > 0 ? lacks(missing) : undefined,
    data: capabilities,
  };
}

const title = (c: Capability) => (c.needed ? `${c.name} (needed)` : c.name);

function lacks(missing: readonly Capability[]): Table {
  return [['missing', 'so', 'fix'], ...missing.map(c => [title(c), c.consequence, c.fix])];
}

function all(capabilities: readonly Capability[]): Table {
  return [
    ['capability', 'value', 'so', 'fix'],
    ...capabilities.map(c => [title(c), ...(c.value > 0 ? [String(c.value)] : ['missing', c.consequence, c.fix])]),
  ];
}

function addon({ addon }: HostProbe, verbose: boolean): Finding {
  const check = 'addon';
  const { attempts, version, napi, reason, fix } = addon;
  // A local build that is not there is how it should be where a prebuild is.
  const skipped = attempts.filter(a => a.problem !== undefined && (verbose || (a.found && !addon.fatal)));
  const tried = skipped.map(a => [a.path, a.problem ?? '']);
  const table = tried.length > 0 ? [['looked at', 'not it, because'], ...tried] : undefined;
  if (addon.loaded) {
    const { source, path } = attempts.at(-1) ?? { source: '', path: '' };
    const text = `version ${version}, Node-API ${napi}, from ${path} (${source})`;
    return { check, status: 'ok', text, table, data: addon };
  }
  const without = 'no KVM, no TAP networks, and memory that guests give up stays taken';
  return {
    check,
    status: addon.fatal ? 'bad' : 'note',
    text: addon.fatal ? (reason ?? '') : `${reason}: ${without}`,
    fix,
    table,
    data: addon,
  };
}

/** Whether KVM answers the guests' ptp_kvm. */
function clock({ kvm, clocksource, unpaired }: HostProbe, verbose: boolean): Finding[] {
  const check = 'clock';
  if (!kvm.opens || clocksource === undefined) return [];
  if (unpaired === undefined) {
    return verbose ? [{ check, status: 'ok', text: `this host runs on ${clocksource}: KVM answers ptp_kvm` }] : [];
  }
  return [
    {
      check,
      status: 'note',
      text: `ptp_kvm may fail in guests on KVM: ${unpaired}`,
      fix: 'see available_clocksource beside current_clocksource in /sys/devices/system/clocksource/clocksource0, and dmesg for why',
    },
  ];
}

function memlock({ memlock }: HostProbe, verbose: boolean): Finding[] {
  const check = 'memlock';
  if (memlock === undefined) return [];
  if (memlock === Number.POSITIVE_INFINITY) {
    return verbose ? [{ check, status: 'ok', text: 'this process may lock any amount of memory' }] : [];
  }
  return [
    {
      check,
      status: 'note',
      text: `${formatSize(memlock)} of memory may be locked (RLIMIT_MEMLOCK): devices of the host cannot pin more of a guest's`,
      fix: 'ulimit -l unlimited as root, memlock in /etc/security/limits.conf, or LimitMEMLOCK=infinity in a systemd unit',
    },
  ];
}
