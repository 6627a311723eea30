/** One stanza of Debian's control-file format (deb822(5)): fields by name, continuation lines joined with newlines. */
export type Stanza = ReadonlyMap<string, string>;

/** Reads one stanza; it ends at the first empty line. */
export function parseStanza(text: string): Stanza {
  const fields = new Map<string, string>();
  let last = '';
  for (const line of text.split('\n')) {
    if (line.trim() === '') {
      if (fields.size > 0) break;
      continue;
    }
    const colon = line.indexOf(':');
    if (/^[ \t]/.test(line)) fields.set(last, `${fields.get(last) ?? ''}\n${line.slice(1)}`);
    else if (colon > 0) {
      last = line.slice(0, colon);
      fields.set(last, line.slice(colon + 1).trim());
    }
  }
  return fields;
}

/** The first stanza of package `name` in a package list. The list has tens of megabytes, so only that stanza is parsed. */
export function findStanza(list: string, name: string): Stanza | undefined {
  const line = `Package: ${name}\n`;
  let at = list.startsWith(line) ? 0 : list.indexOf(`\n${line}`);
  if (at < 0) return undefined;
  // Package comes first by custom, not by rule.
  at = Math.max(0, list.lastIndexOf('\n\n', at) + 1);
  const end = list.indexOf('\n\n', at + 2);
  return parseStanza(list.slice(at, end < 0 ? undefined : end));
}

/** A file that a Release file lists. */
export interface ReleaseFile {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

/** The files of a Release file's field SHA256, by path. */
export function releaseFiles(release: Stanza): Map<string, ReleaseFile> {
  const files = new Map<string, ReleaseFile>();
  for (const line of (release.get('SHA256') ?? '').split('\n')) {
    const [, sha256, size, path] = /^\s*([0-9a-f]{64})\s+(\d+)\s+(\S+)\s*$/.exec(line) ?? [];
    if (sha256 && path) files.set(path, { path, size: Number(size), sha256 });
  }
  return files;
}
