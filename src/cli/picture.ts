import { writeFile } from 'node:fs/promises';
import { VmError } from '../vmm/index.ts';

/** Writes the picture of a verb. @throws VmError ERR_FILE_UNREADABLE when that cannot be. */
export async function writePicture(verb: string, path: string, svg: string): Promise<void> {
  try {
    await writeFile(path, svg);
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    throw new VmError('ERR_FILE_UNREADABLE', `${verb}: cannot write ${path} (${code ?? message})`, {
      hint: 'check the path and its permissions',
      cause: e,
      details: { path, errno: code },
    });
  }
}

/** Text for an XML document: characters that it may not have at all become question marks. */
export function escapeXml(s: string): string {
  return s
    .replace(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '?')
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;');
}
