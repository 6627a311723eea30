import { access, constants, mkdir, statfs } from 'node:fs/promises';
import { freemem } from 'node:os';
import { dirname } from 'node:path';
import { cacheFolder, DEBIAN_ARM64, findImage, isCurrent } from '../images/index.ts';
import { formatSize, type MachineName, probeHost, VmError, whyNotKvm } from '../vmm/index.ts';
import { hostFindings } from './doctor-host.ts';
import { EXIT } from './exit-codes.ts';
import { type Finding, jsonFinding, printFinding } from './findings.ts';
import type { Output } from './output.ts';

/** Free memory below which a default guest (512 MiB) will not be happy. */
const ENOUGH_MEMORY = 768 * 2 ** 20;
/** Free disk for an image: packages on their way, kernel, initramfs. */
const ENOUGH_DISK = 300 * 2 ** 20;

/**
 * `tsvisor doctor`: says what this host can do and how to mend the rest. Never throws; 3 when no guest can run.
 * @param verbose Also what is as it should be.
 */
export async function doctor(out: Output, verbose = false): Promise<number> {
  const checks: Readonly<Record<string, () => Finding[] | Promise<Finding[]>>> = {
    node: checkNode,
    engine: checkEngine,
    kvm: () => hostFindings(probeHost(), verbose),
    memory: checkMemory,
    cache: checkCache,
    image: checkImage,
  };
  const findings: Finding[] = [];
  for (const [check, f] of Object.entries(checks)) {
    try {
      findings.push(...(await f()));
    } catch (e) {
      findings.push({ check, status: 'note', text: `could not be examined: ${e instanceof Error ? e.message : e}` });
    }
  }
  const usable = findings.every(f => f.status !== 'bad');
  if (out.json) {
    process.stdout.write(`${JSON.stringify({ usable, findings: findings.map(jsonFinding) }, null, 2)}\n`);
  } else {
    for (const f of findings) process.stdout.write(printFinding(f));
    process.stdout.write(usable ? 'Guests can run here.\n' : 'Guests cannot run here before what is bad is mended.\n');
  }
  return usable ? EXIT.ok : EXIT.host;
}

function checkNode(): Finding[] {
  const check = 'node';
  const text = `Node ${process.versions.node} on ${process.platform} ${process.arch}`;
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) return [{ check, status: 'bad', text, fix: 'install Node 20 or newer' }];
  // A shared WebAssembly memory is guest RAM; without address space for one nothing runs.
  try {
    new WebAssembly.Memory({ initial: 1, maximum: 65_536, shared: true });
  } catch (e) {
    const fix = 'raise the limit of virtual memory (ulimit -v unlimited)';
    return [{ check, status: 'bad', text: `${text}: no 4 GiB of address space (${(e as Error).message})`, fix }];
  }
  return [{ check, status: 'ok', text }];
}

/** Which engine runs the guests of which machine. */
function checkEngine(): Finding[] {
  const check = 'engine';
  const engine = (machine: MachineName) => {
    const why = whyNotKvm(machine);
    return { why, kvm: why === undefined };
  };
  const arm = engine('arm-virt');
  const pc = engine('x86-pc');
  const emu = arm.kvm ? 'kvm' : `emu, which works everywhere; not kvm, because ${arm.why?.reason}`;
  const none = `x86-64 guests: none, because ${pc.why?.reason}`;
  return [
    { check, status: 'ok', text: `arm64 guests: ${emu}` },
    pc.kvm
      ? { check, status: 'ok', text: 'x86-64 guests: kvm' }
      : { check, status: 'note', text: none, fix: pc.why?.fix },
  ];
}

function checkMemory(): Finding[] {
  // Not the machine's free memory: what is left in this process's container, where there is one.
  const available = typeof process.availableMemory === 'function' ? process.availableMemory() : freemem();
  const text = `${formatSize(available)} available`;
  if (available >= ENOUGH_MEMORY) return [{ check: 'memory', status: 'ok', text }];
  return [{ check: 'memory', status: 'note', text, fix: 'end other programs, or give guests less (-m 128M)' }];
}

async function checkCache(): Promise<Finding[]> {
  const check = 'cache';
  const folder = cacheFolder();
  const fix = 'set TSVISOR_CACHE to a folder that you may write to';
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    return [{ check, status: 'note', text: `${folder} cannot be written (${code ?? message})`, fix }];
  }
  const { bavail, bsize } = await statfs(dirname(folder));
  const free = bavail * bsize;
  const text = `${folder}, ${formatSize(free)} free`;
  if (free < ENOUGH_DISK) return [{ check, status: 'note', text, fix: `free some space, or ${fix}` }];
  return [{ check, status: 'ok', text }];
}

async function checkImage(): Promise<Finding[]> {
  const check = 'image';
  try {
    const image = await findImage(DEBIAN_ARM64);
    if (image !== undefined) {
      const text = `${DEBIAN_ARM64}: Linux ${image.release}`;
      if (isCurrent(image)) return [{ check, status: 'ok', text }];
      return [
        {
          check,
          status: 'note',
          text: `${text}, made by another version of tsvisor`,
          fix: `tsvisor pull ${DEBIAN_ARM64}`,
        },
      ];
    }
    const text = `${DEBIAN_ARM64} is not in the cache; \`tsvisor start\` will fetch it`;
    return [{ check, status: 'note', text, fix: `tsvisor pull ${DEBIAN_ARM64}` }];
  } catch (e) {
    if (!(e instanceof VmError)) throw e;
    return [{ check, status: 'note', text: e.message, fix: e.hint }];
  }
}
