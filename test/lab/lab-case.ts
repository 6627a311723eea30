// What test/lab/*.lab.ts are written with: cases that run inside of the lab, a virtual machine with a genuine /dev/kvm. See
// docs/testing.md. This file and runner.ts are bundled with the cases; there is no vitest inside.

/** The architectures that there is a lab for, as the command `lab` calls them. */
export type LabArchitecture = 'x86' | 'arm64';

/** What a case needs of the machine that it runs in. Cases that need the same share one start of the lab. */
export interface LabNeeds {
  /** Default: both. */
  readonly on?: readonly LabArchitecture[];
  /** MiB of memory; default 1024. */
  readonly memory?: number;
  /** Default 1. */
  readonly cpus?: number;
  /** An IOMMU, with devices bound to vfio-pci: {@link LabContext.vfio}. */
  readonly vfio?: boolean;
  /** The files of Debian's image for the lab's architecture: {@link LabContext.image}. */
  readonly image?: boolean;
  /** chrony for guests of arm64: {@link LabImage.chrony}. */
  readonly chrony?: boolean;
  /** Time limit in seconds; default 60. A case that takes longer fails, and its process is ended. */
  readonly seconds?: number;
  /** Part of what continuous integration runs. */
  readonly smoke?: boolean;
}

/** A guest's files. */
export interface LabImage {
  readonly kernel: string;
  readonly initrd: string;
  /** The device of its console. */
  readonly uart: 'ttyAMA0' | 'ttyS0';
  /** The program of ptp-reads.c for it; undefined where there is no compiler. */
  readonly ptpReads: string | undefined;
  /** The folder of chronyRoot() for it, with {@link LabNeeds.chrony}; or why there is none. */
  readonly chrony: { readonly root: string } | string;
}

/** What a case is given. */
export interface LabContext {
  readonly architecture: LabArchitecture;
  /** Aborts at the time limit; {@link GRACE_SECONDS} later the process is killed, whatever it hangs in. */
  readonly signal: AbortSignal;
  /** PCI addresses (`0000:00:10.0`) of the functions that are bound to vfio-pci; empty without {@link LabNeeds.vfio}. */
  readonly vfio: readonly string[];
  /** The files of a guest that boots Linux, with {@link LabNeeds.image}; skips the case where they cannot be had. */
  image(): LabImage;
  /** Ends the case as skipped. */
  skip(reason: string): never;
  /** A line for the report, such as a number that was measured. */
  note(text: string): void;
}

/** A case and its needs, without what it does. */
export interface LabCaseInfo {
  /** `FILE: TITLE`, unique. */
  readonly id: string;
  readonly needs: Required<LabNeeds>;
}

/** A registered case. */
export interface LabCase extends LabCaseInfo {
  readonly body: (context: LabContext) => void | Promise<void>;
}

/** Seconds between the end of a case's time and the end of its process. */
export const GRACE_SECONDS = 3;

/** What {@link LabContext.skip} throws. */
export class LabSkip extends Error {}

const cases: LabCase[] = [];
let currentFile = '';

/** Registers a case. It fails when `body` throws or rejects; `node:assert/strict` is made for that. */
export function labCase(title: string, needs: LabNeeds, body: LabCase['body']): void {
  const {
    on = ['x86', 'arm64'],
    memory = 1024,
    cpus = 1,
    vfio = false,
    image = false,
    chrony = false,
    seconds = 60,
    smoke = false,
  } = needs;
  const id = `${currentFile}: ${title}`;
  if (cases.some(c => c.id === id)) throw new Error(`two cases are called '${id}'`);
  cases.push({ id, needs: { on, memory, cpus, vfio, image, chrony, seconds, smoke }, body });
}

/** All cases of some files, each an import that has not happened yet, by name. */
export async function loadCases(files: Readonly<Record<string, () => Promise<unknown>>>): Promise<readonly LabCase[]> {
  for (const [name, load] of Object.entries(files)) {
    currentFile = name;
    await load();
  }
  return cases;
}
