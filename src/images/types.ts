/** Where an image's packages came from, and how far that was checked. */
export interface Provenance {
  /** 'apt' with the archives it took the packages from, or the mirror's address. */
  readonly source: string;
  /** What was checked, as sentences for the user. */
  readonly verified: readonly string[];
  /** What could not be checked, and why. */
  readonly notVerified: readonly string[];
}

/** A package that an image is made from. */
export interface PackageId {
  readonly name: string;
  readonly version: string;
  /** Bytes of the .deb file. */
  readonly size: number;
  /** SHA-256 of the .deb file, in hexadecimal. */
  readonly sha256: string;
}

/** The guest's architecture, as the engines call it. */
export type ImageArchitecture = 'aarch64' | 'x86_64';

/** A guest image in the cache. */
export interface Image {
  /** E.g. 'debian-arm64'. */
  readonly name: string;
  readonly architecture: ImageArchitecture;
  /** The kernel's release, as `uname -r` says it. */
  readonly release: string;
  /** Path of the kernel file. */
  readonly kernel: string;
  /** Path of the initramfs. */
  readonly initrd: string;
  readonly packages: readonly PackageId[];
  readonly provenance: Provenance;
}

/** What a pull tells while it works. */
export type PullEvent =
  | { readonly type: 'step'; readonly message: string }
  | { readonly type: 'warning'; readonly message: string }
  /** Bytes of one file that have arrived; `done === total` once at its end. */
  | { readonly type: 'progress'; readonly file: string; readonly done: number; readonly total: number };

/** Receives {@link PullEvent}s. */
export type OnPullEvent = (event: PullEvent) => void;

/** Somewhere to get packages from. */
export interface PackageSource {
  /**
   * Finds the current kernel and busybox, kernel first.
   *
   * @throws VmError ERR_DOWNLOAD when the source cannot be read or lacks a package, ERR_VERIFY when it cannot be trusted.
   */
  resolve(): Promise<readonly PackageId[]>;
  /** The .deb file of a package that resolve() named, checked against its digest. */
  fetch(id: PackageId): Promise<Uint8Array>;
  /** Known after resolve(). */
  provenance(): Provenance;
  /** Removes temporary files. */
  close(): Promise<void>;
}
