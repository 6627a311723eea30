import { elfSection } from './elf.ts';

/** What a Linux kernel module says about itself in its section .modinfo. */
export interface KernelModuleInfo {
  /** Modules that must be loaded before it, by normalized name. */
  readonly depends: readonly string[];
  /** Modules that it asks for softly (`softdep=pre:`), by normalized name. */
  readonly softPre: readonly string[];
}

/** A module's name as the kernel compares it: the file's base name without suffixes, with `_` for `-`. */
export function moduleName(path: string): string {
  return path
    .replace(/^.*\//, '')
    .replace(/\.ko(\.(xz|gz|zst))?$/, '')
    .replaceAll('-', '_');
}

/**
 * Reads the section .modinfo of an uncompressed module: NUL-terminated `key=value` strings.
 *
 * @throws VmError ERR_KERNEL_CORRUPT or ERR_NOT_A_KERNEL when the bytes are no ELF64 file.
 */
export function readModuleInfo(bytes: Uint8Array): KernelModuleInfo {
  const section = elfSection(bytes, '.modinfo') ?? new Uint8Array(0);
  const depends: string[] = [];
  const softPre: string[] = [];
  for (const line of new TextDecoder().decode(section).split('\0')) {
    if (line.startsWith('depends=')) depends.push(...words(line.slice(8), ','));
    // "softdep=pre: a b post: c": only what comes before matters for the order.
    const soft = /^softdep=.*\bpre:([^:]*?)(?:\s\w+:|$)/.exec(line);
    if (soft) softPre.push(...words(soft[1] ?? '', ' '));
  }
  return { depends, softPre };
}

function words(text: string, separator: string): string[] {
  return text
    .split(separator)
    .map(s => moduleName(s.trim()))
    .filter(s => s !== '');
}
